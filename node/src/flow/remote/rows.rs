//! Live rows of peers on their way to the store, and those that wait for their schema.
//!
//! Per peer at most `MAX_AWAITING_SCHEMA` rows wait; more are dropped and counted. What is
//! dropped is missing, and comes by repair.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use outlast_mesh::NodeId;
use outlast_store::{ClockSource, LogId, SchemaHash, Seq, SignedRow};

use super::Remote;
use crate::flow::inward::Got;
use crate::flow::keep::{Job, Live};
use crate::flow::offence::Offence;
use crate::flow::wire::{self, KEYROW, KeyRow, Part, ROW};
use crate::flow::{node_of, origin_of};

/// Rows of one peer that wait for their schema: a minute.
const MAX_AWAITING_SCHEMA: usize = 64;
/// Between two answers to requests for a key row.
const KEY_ANSWER_EVERY: Duration = Duration::from_secs(1);

impl Remote {
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
        let log = LogId {
            origin: self.running.origin,
            store: wanted.store,
            epoch: wanted.epoch,
        };
        let parts = self.live.parts_of_key(&log, wanted.seq);
        peer.key_answered = Some(now);
        for part in parts {
            self.send(from, ROW, part);
        }
    }

    pub(super) fn handle_part(&mut self, from: NodeId, part: Part, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        for got in peer.inward.handle_part(origin_of(from), part, now) {
            match got {
                Got::Row(row) => self.handle_live(from, *row),
                Got::Ask(key) => {
                    self.send(from, KEYROW, wire::small(&key));
                }
                Got::Unreadable => self.shared.blame(from, Offence::Unreadable),
                Got::Refused(reason) => self.shared.refuse(reason),
            }
        }
    }

    fn handle_live(&mut self, from: NodeId, row: SignedRow) {
        let peer = self.peers.get_mut(&from);
        if !peer.is_some_and(|peer| peer.budget.live(Instant::now())) {
            return self.shared.blame(from, Offence::Live);
        }
        self.shared
            .set_synced(from, row.row.clock.source == ClockSource::Ntp);
        let (log, seq) = (row.row.log, row.row.seq);
        self.replica
            .handle_row(log, seq, row.row.samples() as u64, Instant::now());
        if self.jobs.try_send(Job::Live(row)).is_err() {
            self.shared.refuse("store: its queue is full");
            self.replica.handle_refused(None, log, seq, seq);
        }
    }

    pub(super) fn handle_stored_live(&mut self, log: LogId, seq: Seq, outcome: Live, now: Instant) {
        match outcome {
            Live::New | Live::Known => self.replica.handle_fresh(log, seq, now),
            Live::NotNow => self.replica.handle_refused(None, log, seq, seq),
            Live::Refused => self.replica.handle_refused(Some(log.origin), log, seq, seq),
            Live::Unknown(hash, row) => self.park(hash, *row),
        }
    }

    /// A row whose schema isn't here waits for it; the replica counts it as in hand.
    fn park(&mut self, hash: SchemaHash, row: SignedRow) {
        let (log, seq) = (row.row.log, row.row.seq);
        let from = node_of(log.origin);
        let Some(peer) = self.peers.get_mut(&from) else {
            return self.replica.handle_refused(None, log, seq, seq);
        };
        if peer.awaiting_schema.len() >= MAX_AWAITING_SCHEMA {
            self.shared.refuse("row: its schema didn't come");
            return self.replica.handle_refused(None, log, seq, seq);
        }
        let asked = peer.fetching.contains(&hash);
        if !asked && !peer.budget.schema(hash, Instant::now()) {
            self.shared.blame(from, Offence::Schemas);
            return self.replica.handle_refused(Some(log.origin), log, seq, seq);
        }
        peer.awaiting_schema.push_back((hash, row));
        if peer.fetching.insert(hash) {
            self.tasks.spawn(
                self.fetcher
                    .clone()
                    .schema_for_parked(from, log.origin, hash),
            );
        }
    }

    pub(super) fn handle_schema(&mut self, hash: SchemaHash, defined: bool) {
        let mut freed = Vec::new();
        for peer in self.peers.values_mut() {
            peer.fetching.remove(&hash);
            let (ready, waiting) = peer
                .awaiting_schema
                .drain(..)
                .partition(|(wanted, _)| *wanted == hash);
            peer.awaiting_schema = waiting;
            freed.extend::<VecDeque<(SchemaHash, SignedRow)>>(ready);
        }
        for (_, row) in freed {
            let (log, seq) = (row.row.log, row.row.seq);
            if !defined || self.jobs.try_send(Job::Live(row)).is_err() {
                self.replica.handle_refused(None, log, seq, seq);
            }
        }
    }
}
