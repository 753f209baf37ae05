//! Round trips the owner asks for, through the tunnel a peer's data takes.
//!
//! In: whom to ask. Out: a number, and with the answer the time it took. Their numbers have the high
//! bit set, those that liveness asks with don't reach it, so neither takes the other's answer.
//! Invariant: an answer counts once, from the peer that was asked, within `FORGET`; at most `MOST` are out.
//! Absent: waiting; who asked gives up by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Node, NodeEvent};
use crate::error::PingError;
use crate::id::NodeId;
use crate::time::Now;
use crate::wire::message::{self, Ping, kind};

/// Questions out at once; the next one is refused.
const MOST: usize = 64;

/// An answer that comes later than this finds nobody.
const FORGET: Duration = Duration::from_secs(10);

/// Set in our numbers; liveness counts up from zero and would take 68 years to it.
const OURS: u32 = 1 << 31;

/// Questions without an answer yet.
#[derive(Debug, Default)]
pub(super) struct Asked {
    sent: BTreeMap<u32, (NodeId, Instant)>,
    next: u32,
}

impl Node {
    /// Asks a connected peer for a sign of life; `NodeEvent::Pong` comes with the number returned.
    pub(crate) fn handle_ping(&mut self, to: NodeId, now: Now) -> Result<u32, PingError> {
        if to == self.me {
            return Err(PingError::Ourselves);
        }
        let peer = self.peers.get(&to).ok_or(PingError::NotAMember(to))?;
        if !peer.connected {
            return Err(PingError::NotConnected(to));
        }
        let sent = &mut self.asked.sent;
        sent.retain(|_, (_, at)| now.mono < *at + FORGET);
        if sent.len() >= MOST {
            return Err(PingError::Busy);
        }
        let number = self.asked.next | OURS;
        self.asked.next = self.asked.next.wrapping_add(1);
        sent.insert(number, (to, now.mono));
        self.say(to, kind::PING, &message::encode(&Ping { number }), now);
        Ok(number)
    }

    /// Takes an answer if it is to a question of the owner's.
    pub(super) fn answered_ping(&mut self, from: NodeId, number: u32, now: Now) {
        let Some((asked, at)) = self.asked.sent.get(&number).copied() else {
            return;
        };
        if asked == from {
            self.asked.sent.remove(&number);
            let took = now.mono.saturating_duration_since(at);
            self.emit(NodeEvent::Pong { number, took });
        }
    }
}
