//! Live rows that cross to another site once: one keeper there takes them and hands them on to its neighbours.
//!
//! The origin asks for it by the kind of message it sends; whoever it asks does so for `LEASE`, and only what its own
//! store has believed. A row that is handed on carries its origin's signature, and the store checks it. The same way rows
//! go to who looks at their origin and can't reach it (`views`).
//! Bounds: `MAX_ORIGINS` origins one peer hands on here, each at the pace of a live peer; what is over it is dropped,
//! counted and repaired.
//! Absent: choosing who hands on and to whom (`replica`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{Allowance, NodeId};
use outlast_store::{LogId, Origin, Seq, SignedRow};

use super::budget::LIVE;
use super::{Core, Offence};
use crate::flow::inward::{Got, Inward};
use crate::flow::keep::Job;
use crate::flow::local::OwnRow;
use crate::flow::wire::{self, HANDED_ON, HandedOn, KEYROW, KeyRow, Part, ROW};
use crate::flow::{node_of, origin_of};

/// How long after a row that asked for it rows of its origin are handed on: a key row may come in between otherwise.
const LEASE: Duration = Duration::from_secs(15);
/// Origins whose rows one peer hands on to this node.
const MAX_ORIGINS: usize = 64;

/// Rows of one origin that one peer hands on.
#[derive(Debug)]
pub(super) struct Handed {
    inward: Inward,
    live: Allowance,
}

impl Default for Handed {
    fn default() -> Self {
        let (per_second, at_once) = LIVE;
        Self {
            inward: Inward::default(),
            live: Allowance::new(per_second, at_once),
        }
    }
}

impl Core {
    /// Sends a row of this node to whoever gets it from here.
    pub(super) fn send_live(&mut self, own: &OwnRow, now: Instant) {
        let row = &own.row;
        let (log, seq) = (row.row.log, row.row.seq);
        let bytes = self.live.encode(Arc::clone(row));
        if !Part::fits(&bytes) {
            self.refuse("own row: too long to be sent live");
            self.replica.hasten(now);
            return self.settle(now);
        }
        for (peer, handing) in self.replica.live_to() {
            self.send_row(node_of(peer), handing, &log, seq, &bytes);
            self.stats.rows_out += 1;
        }
        for viewer in self.viewers() {
            self.send_row(viewer, false, &log, seq, &bytes);
            self.stats.rows_out += 1;
        }
    }

    /// The key row in use, for a peer that has just come.
    pub(super) fn send_key_row(&mut self, to: NodeId) {
        let mut to_all = self.replica.live_to().into_iter();
        let wanted = to_all.find(|(peer, _)| node_of(*peer) == to);
        if let Some((_, handing)) = wanted {
            self.send_own_key(to, handing);
        }
    }

    /// The key row in use, to be handed on or not.
    pub(super) fn send_own_key(&mut self, to: NodeId, handing: bool) {
        if let Some(key) = self.live.key() {
            let (log, seq, bytes) = (key.row.log, key.row.seq, key.encode());
            self.send_row(to, handing, &log, seq, &bytes);
        }
    }

    /// The key row in use of an origin whose rows are handed on.
    pub(super) fn send_handed_key(&mut self, to: NodeId, origin: &Origin) {
        if let Some(key) = self.handing.get(origin).and_then(|rows| rows.key()) {
            let (log, seq, bytes) = (key.row.log, key.row.seq, key.encode());
            self.send_row(to, true, &log, seq, &bytes);
        }
    }

    /// A row that barely fits has no room for its origin: it goes as it is, and its neighbours repair it.
    fn send_row(&mut self, to: NodeId, handing: bool, log: &LogId, seq: Seq, bytes: &[u8]) {
        let cut = |handing| {
            if handing {
                HandedOn::cut(log, seq, bytes).map(|parts| (HANDED_ON, parts))
            } else {
                Part::cut(log, seq, bytes).map(|parts| (ROW, parts))
            }
        };
        if let Some((kind, parts)) = cut(handing).or_else(|| cut(false)) {
            for part in parts {
                self.send(to, kind, part);
            }
        }
    }

    /// Sends a key row of this node, or one that it hands on, again.
    pub(super) fn send_key_again(&mut self, to: NodeId, wanted: &KeyRow) {
        if let Some(key) = self.live.key_of(wanted) {
            let (log, seq, bytes) = (key.row.log, key.row.seq, key.encode());
            return self.send_row(to, false, &log, seq, &bytes);
        }
        let mut handed = self.handing.values();
        if let Some(key) = handed.find_map(|rows| rows.key_of(wanted)) {
            let (log, seq, bytes) = (key.row.log, key.row.seq, key.encode());
            let neighbours = self.replica.hand_on_to(&log.origin);
            if neighbours.contains(&origin_of(to)) || self.viewers_of(&log.origin).contains(&to) {
                self.send_row(to, true, &log, seq, &bytes);
            }
        }
    }

    /// A part with its origin: to be handed on, or handed on.
    pub(super) fn handle_handed_on(&mut self, from: NodeId, bytes: &Bytes, now: Instant) {
        let Some(handed) = HandedOn::decode(bytes) else {
            return self.blame(from, Offence::Unreadable);
        };
        let watched = self.is_watched_through(from, &handed.origin);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if handed.origin == origin_of(from) {
            peer.hand_on_until = Some(now + LEASE);
            return self.handle_part(from, handed.part, now);
        }
        // The two may see other members, sites or keepers for a while.
        let by_neighbour = self
            .replica
            .is_handed_on_by(&origin_of(from), &handed.origin);
        if !by_neighbour && !watched {
            return self.refuse("row handed on: not by a neighbour");
        }
        let known = peer.handed.contains_key(&handed.origin);
        if !known && peer.handed.len() >= MAX_ORIGINS {
            return self.refuse("row handed on: too many origins");
        }
        let rows = peer.handed.entry(handed.origin).or_default();
        for got in rows.inward.handle_part(handed.origin, handed.part, now) {
            match got {
                Got::Row(row) => self.take_handed_on(from, *row, now),
                Got::Ask(key) => self.send(from, KEYROW, wire::small(&key)),
                Got::Unreadable => self.blame(from, Offence::Unreadable),
                Got::Refused(reason) => self.refuse(reason),
            }
        }
    }

    fn take_handed_on(&mut self, from: NodeId, row: SignedRow, now: Instant) {
        let (log, seq) = (row.row.log, row.row.seq);
        let handed = self
            .peers
            .get_mut(&from)
            .and_then(|peer| peer.handed.get_mut(&log.origin));
        if !handed.is_some_and(|handed| handed.live.take(1.0, now)) {
            return self.blame(from, Offence::Live);
        }
        if !self.keeps(&node_of(log.origin)) {
            return self.show(row, from);
        }
        self.replica.handle_handed_on(log, seq);
        self.store_handed_on(Arc::new(row), from);
    }

    /// Hands a row over that isn't its origin's own word, as `store_live` does.
    pub(super) fn store_handed_on(&mut self, row: Arc<SignedRow>, from: NodeId) {
        let (log, seq) = (row.row.log, row.row.seq);
        if !self.store(Job::HandedOn(row, from)) {
            self.refused(log, seq);
        }
    }

    /// A row that the store has just believed goes on to those its origin asked for, if it came from there, and to those
    /// who look at it through this node.
    pub(super) fn hand_on(&mut self, row: &Arc<SignedRow>, from: NodeId, now: Instant) {
        let (log, seq) = (row.row.log, row.row.seq);
        let origin = self
            .peers
            .get(&from)
            .filter(|_| from == node_of(log.origin));
        let until = origin.and_then(|origin| origin.hand_on_until);
        let mut to = self.viewers_of(&log.origin);
        if until.is_some_and(|until| now < until) {
            to.extend(
                self.replica
                    .hand_on_to(&log.origin)
                    .into_iter()
                    .map(node_of),
            );
        }
        if to.is_empty() {
            return;
        }
        let rows = self.handing.entry(log.origin).or_default();
        let bytes = rows.encode(Arc::clone(row));
        let Some(parts) = HandedOn::cut(&log, seq, &bytes) else {
            return self.refuse("row handed on: too long");
        };
        for peer in to {
            for part in &parts {
                self.send(peer, HANDED_ON, part.clone());
            }
            self.stats.handed_on += 1;
        }
    }
}
