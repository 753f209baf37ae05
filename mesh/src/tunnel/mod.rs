//! WireGuard between members.

pub mod keys;
