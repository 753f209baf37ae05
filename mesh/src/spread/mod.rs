//! What everyone should know, and who is there.
//!
//! `sync` compares sets of statements and says what each side lacks; `liveness` says from the age
//! of the last authenticated data whether a peer is heard.

pub(crate) mod liveness;
pub(crate) mod sync;
