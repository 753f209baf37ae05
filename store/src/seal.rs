//! From rows to blocks: this node's own at the end of each window, those of others when their seal arrives.
//!
//! A block takes the place of the tail rows it covers, at once in memory, on disk when sled has synced it. Of two blocks
//! that overlap the one whose rows include the other's stays (an origin may have sealed a short run before it got the
//! rest back from its keepers); two that share some rows only, equal ones, are both held; of two contents for the same rows the lower content hash stays, the other's seal is kept
//! as evidence. A tail row that differs from what its origin sealed is evidence, too.
//! Bounds: blocks that wait for the disk and seals that wait for rows, see `state`.
//! Absent: asking for seals and blocks.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::answer::{Appended, Sealed};
use crate::append::check_time;
use crate::block::{Block, Draft, Head, Seal};
use crate::error::StoreError;
use crate::interval::IntervalSet;
use crate::key::block::BlockKey;
use crate::key::gone::Reason;
use crate::open::Store;
use crate::row::{Row, SignedRow};
use crate::sample::{LogId, Seq};
use crate::shelf::locked;
use crate::state::{FLUSH_BYTES, PENDING_BYTES, State, WAITING_SEALS, last};

/// What to do about the blocks a new one overlaps.
enum Place {
    /// It may come; these leave.
    Free(Vec<Seq>),
    /// A block with at least its rows is there.
    Taken,
    /// The same rows are sealed: compare contents.
    Same,
    /// Some share rows with it and have others: all that are there, by first seq.
    Across(Vec<Seq>),
}

impl Store {
    /// Seals rows that are held; keeps the seal when they are not all here or differ: fetch the block then.
    pub fn apply_seal(&self, seal: Seal) -> Result<Sealed, StoreError> {
        let bad = || StoreError::BadSignature {
            what: "seal",
            log: seal.log,
            seq: seal.first,
        };
        seal.verify(&*self.shared.keys.verify)
            .map_err(|_unsigned| bad())?;
        let key = BlockKey {
            log: seal.log,
            first: seal.first,
        };
        let rows = {
            let mut state = self.shared.state();
            if let Some(log) = state.logs.get(&seal.log)
                && (log.gone.contains(seal.first)
                    || log
                        .block_at(seal.first)
                        .is_some_and(|(first, meta)| last(first, &meta) >= seal.last()))
            {
                state.waiting.remove(&key);
                drop(state);
                return Ok(self.known_seal(&seal));
            }
            let rows = state.run(&seal.log, seal.first, seal.count);
            if rows.is_none() {
                state.wait(key, seal);
                return Ok(Sealed::Waiting);
            }
            rows.unwrap_or_default()
        };
        let rows = decode(&rows);
        match Draft::build(&rows).and_then(|draft| draft.attach(&seal)) {
            Ok(block) => self.place(&block).map(|_| Sealed::Done),
            Err(_) => {
                self.shared.state().wait(key, seal);
                Ok(Sealed::Waiting)
            }
        }
    }

    /// The seal's rows are sealed here; if with another content, that is evidence.
    fn known_seal(&self, seal: &Seal) -> Sealed {
        if let Some(held) = self.seal_of(&seal.log, seal.first)
            && (held.first, held.count) == (seal.first, seal.count)
            && held.content != seal.content
        {
            let (loser, wins) = if held.content < seal.content {
                (seal, false)
            } else {
                (&held, true)
            };
            self.shared.state().conflict(loser.encode());
            if wins {
                // Only the whole block brings the other content.
                return Sealed::Waiting;
            }
        }
        Sealed::Known
    }

    /// Takes a whole block. `Conflict`: it, or what it met, is evidence; the lower hash is held.
    pub fn insert_block(&self, bytes: &[u8]) -> Result<Appended, StoreError> {
        let block =
            Block::decode(bytes, &*self.shared.keys.verify).map_err(|e| StoreError::Malformed {
                what: "block",
                why: e.to_string(),
            })?;
        for (boot_ms, clock) in block.boots().iter().zip(block.clocks()) {
            check_time(*boot_ms, clock.offset_ms)?;
        }
        let mut schemas = locked(&self.shared.schemas);
        let now = self.shared.now();
        if let Some(run) = block
            .runs()
            .iter()
            .find(|run| schemas.touch(&run.schema, now).is_none())
        {
            return Err(StoreError::UnknownSchema(run.schema));
        }
        drop(schemas);
        let head = block.head();
        {
            let mut state = self.shared.state();
            let whole = head.first..=head.last();
            if state
                .logs
                .get(&head.log)
                .is_some_and(|log| log.gone.covers(whole))
            {
                return Ok(Appended::Known);
            }
            // A block takes no room in the tail, but its epoch counts.
            self.admit(&mut state, &head.log, &(head.first..=head.last()), 0)?;
            self.keep_free(&mut state, &head.log)?;
        }
        let appended = self.place(&block)?;
        if let Some(row) = block.rows().pop() {
            let latest = SignedRow {
                row,
                signature: [0; 64],
            };
            self.shared.state().offer_latest(&Arc::new(latest));
        }
        Ok(appended)
    }

    /// Puts a block where its rows are, unless a better one is there.
    fn place(&self, block: &Block) -> Result<Appended, StoreError> {
        let head = block.head();
        let key = BlockKey {
            log: head.log,
            first: head.first,
        };
        let bytes: Arc<[u8]> = block.encode().into();
        let mut state = self.shared.state();
        let mut conflict = false;
        let replaced = match state.place_for(head) {
            Place::Free(replaced) => replaced,
            Place::Taken => return Ok(Appended::Known),
            Place::Across(there) => {
                drop(state);
                let agree = there
                    .into_iter()
                    .all(|first| self.agrees(block, BlockKey { first, ..key }));
                state = self.shared.state();
                if !agree {
                    state.conflict(block.seal().encode());
                    return Ok(Appended::Conflict);
                }
                match state.beside(head) {
                    Some(replaced) => replaced,
                    None => return Ok(Appended::Known),
                }
            }
            Place::Same => {
                drop(state);
                let held = self.fetch(&[key]).pop().flatten();
                let held = held
                    .and_then(|held| Block::read(&held).ok())
                    .map(|held| held.seal());
                state = self.shared.state();
                match held {
                    Some(held) if held.content == block.seal().content => {
                        return Ok(Appended::Known);
                    }
                    Some(held) if held.content < block.seal().content => {
                        state.conflict(block.seal().encode());
                        return Ok(Appended::Conflict);
                    }
                    Some(held) => {
                        state.conflict(held.encode());
                        conflict = true;
                    }
                    // It could not be read and is forgotten; this one takes its place.
                    None => {}
                }
                vec![head.first]
            }
        };
        self.make_place(&mut state, head, bytes.len())?;
        conflict |= self.compare_tail(&mut state, block);
        state.install(head, bytes, &replaced, self.shared.now());
        let hurry = state.pending_bytes > FLUSH_BYTES;
        drop(state);
        if hurry {
            locked(&self.shared.orders).flush_wanted = true;
            self.shared.ordered.notify_all();
        }
        Ok(if conflict {
            Appended::Conflict
        } else {
            Appended::New
        })
    }

    /// Whether the rows that a block shares with one held here are the same. One that cannot be read does not disagree.
    fn agrees(&self, block: &Block, other: BlockKey) -> bool {
        let bytes = self.fetch(&[other]).pop().flatten();
        let Some(held) = bytes.and_then(|bytes| Block::read(&bytes).ok()) else {
            return true;
        };
        let held: BTreeMap<Seq, Row> = held.rows().into_iter().map(|row| (row.seq, row)).collect();
        block
            .rows()
            .iter()
            .all(|row| held.get(&row.seq).is_none_or(|other| other == row))
    }

    /// Room among the blocks that wait for the disk: others' are refused, of our own the oldest is given up.
    fn make_place(&self, state: &mut State, head: &Head, bytes: usize) -> Result<(), StoreError> {
        let own = self.shared.keys.is_own(&head.log.origin);
        while state.pending_bytes + bytes > PENDING_BYTES {
            let ours = |key: &&BlockKey| self.shared.keys.is_own(&key.log.origin);
            let oldest = state.pending.keys().find(ours).copied();
            let Some(oldest) = oldest.filter(|_| own) else {
                state.refused += 1;
                return Err(StoreError::Busy {
                    held: state.pending_bytes as u64,
                    limit: PENDING_BYTES as u64,
                });
            };
            let given_up = state.logs.get(&oldest.log);
            let meta = given_up.and_then(|log| log.blocks.get(&oldest.first));
            if let Some(end) = meta.map(|meta| last(oldest.first, meta)) {
                state.lost += u64::from(end - oldest.first + 1);
                // The spool would wait for a block that never comes, and carry nothing on meanwhile.
                state.released.push((oldest.log, oldest.first..=end));
            }
            state.forget_block(&oldest, Reason::Unwritten);
        }
        Ok(())
    }

    /// Whether a tail row differs from what its origin sealed; each that does is evidence.
    fn compare_tail(&self, state: &mut State, block: &Block) -> bool {
        let head = block.head();
        let Some(log) = state.logs.get(&head.log) else {
            return false;
        };
        let tail: Vec<_> = log
            .tail
            .range(head.first..=head.last())
            .map(|(_, row)| row.clone())
            .collect();
        if tail.is_empty() {
            return false;
        }
        let sealed = block.rows();
        let mut differs = false;
        for bytes in tail {
            let Ok(row) = SignedRow::decode(&bytes) else {
                continue;
            };
            let same = sealed
                .get((row.row.seq - head.first) as usize)
                .is_some_and(|sealed| *sealed == row.row);
            if !same && row.verify(&*self.shared.keys.verify).is_ok() {
                state.conflict(bytes.to_vec());
                differs = true;
            }
        }
        differs
    }

    /// Contiguous unsealed runs of others inside one window that nobody added to for `older_than`: log, first seq, rows.
    /// Nothing before the store is ready, since their blocks may be on disk.
    pub fn unsealed(&self, older_than: Duration) -> Vec<(LogId, Seq, u8)> {
        let state = self.shared.state();
        let Some(before) = self
            .shared
            .now()
            .checked_sub(older_than)
            .filter(|_| state.ready)
        else {
            return Vec::new();
        };
        let others = state
            .logs
            .iter()
            .filter(|(id, _)| !self.shared.keys.is_own(&id.origin));
        let runs = others.flat_map(|(id, log)| {
            log.runs(Some(before))
                .into_iter()
                .map(|(first, count)| (*id, first, count))
        });
        runs.collect()
    }

    /// The seal of the block that covers `seq`. None: not sealed here.
    pub fn seal_of(&self, log: &LogId, seq: Seq) -> Option<Seal> {
        let (first, _) = self.shared.state().logs.get(log)?.block_at(seq)?;
        let key = BlockKey { log: *log, first };
        let bytes = self.fetch(&[key]).pop().flatten()?;
        Block::read(&bytes).ok().map(|block| block.seal())
    }

    /// Seals what an earlier epoch of this node left unsealed, run by run inside each window.
    /// Nothing before the store is ready, for the running epoch, or for logs of others.
    pub fn seal_closed(&self, log: &LogId) -> Vec<Seal> {
        let running = locked(&self.shared.own).is_some_and(|own| own.log == *log);
        if running || !self.shared.keys.is_own(&log.origin) || !self.ready() {
            return Vec::new();
        }
        self.give_up_holes(log);
        self.seal_runs(log, &(1..=Seq::MAX))
    }

    /// Rows below its top that an earlier epoch of this node took and nobody gave back: they were never written, or where
    /// damage was found they may have been.
    fn give_up_holes(&self, id: &LogId) {
        let is_damaged = !self.shared.shelf.quarantined().is_empty();
        let mut state = self.shared.state();
        let reason = if is_damaged || state.damaged > 0 {
            Reason::Damaged
        } else {
            Reason::Unwritten
        };
        let top = state.logs.get(id).and_then(|log| log.held.last());
        let taken: IntervalSet = top.map(|top| 1..=top).into_iter().collect();
        state.lose(*id, &taken, reason);
    }

    /// Seals the contiguous runs of a range of the tail as their origin.
    pub(crate) fn seal_runs(&self, log: &LogId, range: &RangeInclusive<Seq>) -> Vec<Seal> {
        let runs: Vec<_> = {
            let state = self.shared.state();
            let Some(held) = state.logs.get(log) else {
                return Vec::new();
            };
            let runs = held
                .runs(None)
                .into_iter()
                .filter(|(first, _)| range.contains(first));
            runs.filter_map(|(first, count)| state.run(log, first, count))
                .collect()
        };
        let mut seals = Vec::new();
        for run in runs {
            let outcome = match Draft::build(&decode(&run)) {
                Ok(draft) => {
                    let block = draft.seal(&*self.shared.keys.sign);
                    self.place(&block).map(|_| block.seal())
                }
                Err(e) => Err(StoreError::Malformed {
                    what: "run of rows",
                    why: e.to_string(),
                }),
            };
            match outcome {
                Ok(seal) => seals.push(seal),
                Err(e) => tracing::warn!(error = %e, "rows stay unsealed"),
            }
        }
        seals
    }
}

impl State {
    fn place_for(&self, head: &Head) -> Place {
        let range = head.first..=head.last();
        let there = self
            .logs
            .get(&head.log)
            .map(|log| log.blocks_in(&range))
            .unwrap_or_default();
        if there
            .iter()
            .any(|(first, meta)| (*first, meta.count) == (head.first, head.count))
        {
            return Place::Same;
        }
        if there
            .iter()
            .any(|(first, meta)| *first <= head.first && last(*first, meta) >= head.last())
        {
            return Place::Taken;
        }
        let inside =
            |(first, meta): &(Seq, _)| *first >= head.first && last(*first, meta) <= head.last();
        if there.iter().all(inside) {
            Place::Free(there.into_iter().map(|(first, _)| first).collect())
        } else {
            Place::Across(there.into_iter().map(|(first, _)| first).collect())
        }
    }

    /// What leaves for a block that may share rows with others. None: one with all of its rows came meanwhile.
    fn beside(&self, head: &Head) -> Option<Vec<Seq>> {
        match self.place_for(head) {
            Place::Free(replaced) => Some(replaced),
            Place::Taken | Place::Same => None,
            Place::Across(there) => {
                let log = self.logs.get(&head.log)?;
                let inside = |first: &Seq| {
                    let end = log.blocks.get(first).map(|meta| last(*first, meta));
                    *first >= head.first && end.is_some_and(|end| end <= head.last())
                };
                Some(there.into_iter().filter(inside).collect())
            }
        }
    }

    fn wait(&mut self, key: BlockKey, seal: Seal) {
        if self.waiting.len() < WAITING_SEALS || self.waiting.contains_key(&key) {
            self.waiting.insert(key, seal);
        }
    }

    /// Whether no block has any of these rows.
    pub(crate) fn is_open(&self, log: &LogId, rows: &RangeInclusive<Seq>) -> bool {
        let log = self.logs.get(log);
        log.is_none_or(|log| log.blocks_in(rows).is_empty())
    }

    /// The waiting seal that covers `seq`, if all of its rows are here.
    pub(crate) fn waiting_at(&self, log: &LogId, seq: Seq) -> Option<Seal> {
        let key = BlockKey {
            log: *log,
            first: seq,
        };
        let (key, seal) = self.waiting.range(..=key).next_back()?;
        let covers = key.log == *log && seal.last() >= seq;
        (covers && self.run(log, seal.first, seal.count).is_some()).then(|| seal.clone())
    }
}

/// Rows this process encoded or read back from its spool.
fn decode(rows: &[Arc<[u8]>]) -> Vec<Row> {
    rows.iter()
        .filter_map(|bytes| SignedRow::decode(bytes).ok())
        .map(|row| row.row)
        .collect()
}
