//! What every node should know of the others: signed events, spread to everyone, so that a node's story outlives the node.
//!
//! In: events of this node (`handle`), messages of peers. Out: every member's events, in each author's own order.
//! Each author's newest `MOST_EVENTS` are kept, of those who are gone too.
//! Absent: what events mean (`outage`, `alarm`, `guard`).

#![allow(dead_code, reason = "the flow's task is what uses it")]

mod event;
mod handle;

pub use event::{Draft, Event, MAX_BODY, Place, kind};
pub use handle::{Events, LedgerHandle, PublishError};

/// Events of one author that are kept, the newest.
pub const MOST_EVENTS: usize = 512;
