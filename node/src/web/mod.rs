//! The page: router, login, assets and the one `WebSocket`.

pub mod api;
mod auth;

pub use auth::{Tickets, WebKey};
