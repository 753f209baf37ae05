//! Live rows of peers: parts become rows, deltas find their key row, rows find their schema.
//!
//! Per peer at most `MAX_AWAITING_KEY` deltas and `MAX_AWAITING_SCHEMA` rows wait; more are
//! dropped and counted. What is dropped is missing, and comes by repair.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{ClockSource, LogId, SchemaHash, Seq, SignedRow, delta_key};

use super::{Delta, Remote};
use crate::flow::keep::{Job, Live};
use crate::flow::parts::Put;
use crate::flow::wire::{self, KEYROW, KeyRow, Part, ROW};
use crate::flow::{node_of, origin_of};

/// Delta rows of one peer that wait for their key row.
const MAX_AWAITING_KEY: usize = 32;
/// Rows of one peer that wait for their schema: a minute.
const MAX_AWAITING_SCHEMA: usize = 64;
/// Key rows remembered per peer.
const KEYS: usize = 3;
/// Between two requests for a key row, and between two answers to such requests.
const KEY_REQUEST_EVERY: Duration = Duration::from_secs(1);

impl Remote {
    pub(super) fn handle_key_request(&mut self, from: NodeId, wanted: KeyRow, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer
            .key_answered
            .is_some_and(|at| now.duration_since(at) < KEY_REQUEST_EVERY)
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
        let (log, seq) = (part.log(origin_of(from)), part.seq);
        match peer.parts.put(part) {
            Put::Whole(bytes) => self.handle_whole(from, log, seq, bytes, now),
            Put::Again => self.shared.refuse("row part: twice"),
            Put::Odd => self.shared.refuse("row part: disagrees with the others"),
            Put::Pushed => self.shared.refuse("row: a part is missing"),
            Put::Open => {}
        }
    }

    fn handle_whole(&mut self, from: NodeId, log: LogId, seq: Seq, bytes: Bytes, now: Instant) {
        match delta_key(&bytes) {
            Ok(None) => self.handle_key_row(from, log, seq, &bytes, now),
            Ok(Some(key)) => self.handle_delta(from, (log, seq), key, bytes, now),
            Err(_) => self.shared.refuse("row: unreadable"),
        }
    }

    /// A whole row: any later delta may name it as its key row, and those that waited for it go on.
    fn handle_key_row(&mut self, from: NodeId, log: LogId, seq: Seq, bytes: &Bytes, now: Instant) {
        let row = SignedRow::decode(bytes).ok();
        let Some(row) = row.filter(|row| row.row.log == log && row.row.seq == seq) else {
            return self.shared.refuse("row: unreadable");
        };
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if !peer
            .keys
            .iter()
            .any(|key| key.row.log == log && key.row.seq == seq)
        {
            peer.keys.push_back(row.clone());
        }
        if peer.keys.len() > KEYS {
            peer.keys.pop_front();
        }
        let waiting = std::mem::take(&mut peer.awaiting_key);
        self.handle_live(from, row);
        for delta in waiting {
            self.handle_delta(from, delta.row, delta.key, delta.bytes, now);
        }
    }

    fn handle_delta(
        &mut self,
        from: NodeId,
        (log, seq): (LogId, Seq),
        key: Seq,
        bytes: Bytes,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let Some(key_row) = peer
            .keys
            .iter()
            .find(|row| row.row.log == log && row.row.seq == key)
        else {
            return self.await_key(
                from,
                Delta {
                    row: (log, seq),
                    key,
                    bytes,
                },
                now,
            );
        };
        match SignedRow::from_delta(&key_row.row, &bytes) {
            Ok(row) if row.row.log == log && row.row.seq == seq => self.handle_live(from, row),
            _ => self.shared.refuse("row: unreadable"),
        }
    }

    fn await_key(&mut self, from: NodeId, delta: Delta, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let (log, _) = delta.row;
        let wanted = KeyRow {
            store: log.store,
            epoch: log.epoch,
            seq: delta.key,
        };
        if peer.awaiting_key.len() >= MAX_AWAITING_KEY {
            peer.awaiting_key.pop_front();
            self.shared.refuse("row: its key row didn't come");
        }
        peer.awaiting_key.push_back(delta);
        if peer
            .key_requested
            .is_none_or(|at| now.duration_since(at) >= KEY_REQUEST_EVERY)
        {
            peer.key_requested = Some(now);
            self.send(from, KEYROW, wire::small(&wanted));
        }
    }

    fn handle_live(&mut self, from: NodeId, row: SignedRow) {
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
        peer.awaiting_schema.push_back((hash, row));
        if peer.fetching.insert(hash) {
            tokio::spawn(
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
