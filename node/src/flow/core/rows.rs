//! Live rows of peers on their way to the store, and those that wait for their schema.
//!
//! Per peer at most `MAX_AWAITING_SCHEMA` rows wait; more are dropped and counted. What is
//! dropped is missing, and comes by repair.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outlast_mesh::NodeId;
use outlast_store::{ClockSource, SchemaHash, SignedRow};

use super::{Core, Offence};
use crate::flow::inward::Got;
use crate::flow::keep::{Job, Live};
use crate::flow::wire::{self, KEYROW, KeyRow, Part};
use crate::flow::{node_of, origin_of};

/// Rows of one peer that wait for their schema: a minute.
const MAX_AWAITING_SCHEMA: usize = 64;
/// Between two answers to requests for a key row.
const KEY_ANSWER_EVERY: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn handle_key_request(&mut self, from: NodeId, wanted: KeyRow, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer
            .key_answered
            .is_some_and(|at| now.duration_since(at) < KEY_ANSWER_EVERY)
        {
            return;
        }
        peer.key_answered = Some(now);
        self.send_key_again(from, &wanted);
    }

    pub(super) fn handle_part(&mut self, from: NodeId, part: Part, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        for got in peer.inward.handle_part(origin_of(from), part, now) {
            match got {
                Got::Row(row) => self.handle_live(from, *row, now),
                Got::Ask(key) => self.send(from, KEYROW, wire::small(&key)),
                Got::Unreadable => self.blame(from, Offence::Unreadable),
                Got::Refused(reason) => self.refuse(reason),
            }
        }
    }

    fn handle_live(&mut self, from: NodeId, row: SignedRow, now: Instant) {
        let peer = self.peers.get_mut(&from);
        if !peer.is_some_and(|peer| peer.budget.live(now)) {
            return self.blame(from, Offence::Live);
        }
        if row.row.clock.source == ClockSource::Ntp {
            self.synced.insert(from);
        } else {
            self.synced.remove(&from);
        }
        if !self.keeps(&from) {
            return self.show(row, from);
        }
        let (log, seq) = (row.row.log, row.row.seq);
        let samples = row.row.samples() as u64;
        let gap = self.replica.handle_row(log, seq, samples, now);
        self.store_live(Arc::new(row));
        if gap {
            self.settle(now);
        }
    }

    /// Hands a row over without waiting; a store that is far behind costs the row, and repair brings it back.
    fn store_live(&mut self, row: Arc<SignedRow>) {
        let (log, seq) = (row.row.log, row.row.seq);
        if !self.store(Job::Live(row)) {
            self.refused(log, seq);
        }
    }

    pub(super) fn handle_stored_live(
        &mut self,
        row: Arc<SignedRow>,
        from: NodeId,
        outcome: Live,
        now: Instant,
    ) {
        let (log, seq) = (row.row.log, row.row.seq);
        match outcome {
            Live::New | Live::Known => {
                if matches!(outcome, Live::New) {
                    self.hand_on(&row, from, now);
                }
                let samples = row.row.samples() as u64;
                let gap = from != node_of(log.origin)
                    && self
                        .replica
                        .handle_believed(origin_of(from), log, seq, samples, now);
                self.replica.handle_fresh(log, seq, now);
                if !gap {
                    return;
                }
            }
            Live::NotNow | Live::Unkept => self.refused(log, seq),
            Live::Refused => {
                let from = Some(origin_of(from));
                self.replica.handle_refused(from, log, seq, seq);
            }
            Live::Unknown { hash, known } => self.park(hash, known, row, from, now),
        }
        self.settle(now);
    }

    /// A row whose schema isn't here waits for it; the replica counts it as in hand.
    fn park(
        &mut self,
        hash: SchemaHash,
        known: Option<SchemaHash>,
        row: Arc<SignedRow>,
        from: NodeId,
        now: Instant,
    ) {
        let (log, seq) = (row.row.log, row.row.seq);
        let Some(peer) = self.peers.get_mut(&from) else {
            return self.refused(log, seq);
        };
        if peer.awaiting_schema.len() >= MAX_AWAITING_SCHEMA {
            self.refuse("row: its schema didn't come");
            return self.refused(log, seq);
        }
        let asked = peer.fetching.contains(&hash);
        if !asked && !peer.budget.schema(hash, now) {
            self.blame(from, Offence::Schemas);
            return self
                .replica
                .handle_refused(Some(origin_of(from)), log, seq, seq);
        }
        peer.awaiting_schema.push_back((hash, row));
        if peer.fetching.insert(hash) {
            self.fetch_schema_for_parked(from, log.origin, hash, known, now);
        }
    }

    pub(super) fn handle_schema(&mut self, hash: SchemaHash, defined: bool) {
        let mut freed = Vec::new();
        for (from, peer) in &mut self.peers {
            peer.fetching.remove(&hash);
            let (ready, waiting) = peer
                .awaiting_schema
                .drain(..)
                .partition(|(wanted, _)| *wanted == hash);
            peer.awaiting_schema = waiting;
            let ready: VecDeque<(SchemaHash, Arc<SignedRow>)> = ready;
            freed.extend(ready.into_iter().map(|(_, row)| (*from, row)));
        }
        for (from, row) in freed {
            if defined && from == node_of(row.row.log.origin) {
                self.store_live(row);
            } else if defined {
                self.store_handed_on(row, from);
            } else {
                self.refused(row.row.log, row.row.seq);
            }
        }
    }
}
