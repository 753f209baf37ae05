//! WireGuard between members: keys, sessions, and whose a datagram is.
//!
//! Each finding about boringtun that this crate answers has one test in `tests`.

pub mod keys;
pub(crate) mod limiter;
pub(crate) mod session;
pub(crate) mod table;
