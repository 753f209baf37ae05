//! The joining tunnel, both sides: how a holder of a token becomes a member.
//!
//! The joiner's first tunnel uses the key of the invite's seed, so a member answers only holders
//! of an invite it knows; everybody else hears nothing. In that tunnel nothing but the exchange
//! below is understood, between two fixed addresses:
//!
//! 1. JOIN, the joiner's signed Join and its NodeInfo, repeated until answered;
//! 2. REFUSED with one sentence, or ADMITTED, once the sponsor's Witness is durable, or WAITING
//!    where an admin has to approve first: the joiner lets go of its place and asks again;
//! 3. SUMMARY from the joiner and STATEMENTS from the sponsor until the joiner holds every one.
//!
//! In the same places former members are told why they are none any more; they use their own
//! tunnel keys and overlay addresses.
//!
//! `desk` is the sponsor's side, `joiner` the other; both are pure.

pub(crate) mod desk;
pub(crate) mod joiner;

use std::net::Ipv6Addr;

/// The sponsor's address in the joining tunnel.
pub(crate) const SPONSOR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The joiner's.
pub(crate) const JOINER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
