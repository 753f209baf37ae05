//! skeleton
#![allow(missing_docs, unused)]
pub mod block;
pub mod gone;
pub mod schema;
