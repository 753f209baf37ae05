//! From rows to blocks: this node's own at the end of each window, those of others when their seal arrives.
//!
//! A block takes the place of the tail rows it covers, at once in memory, on disk when sled has synced it. Of two blocks
//! that overlap and agree the one whose rows include the other's stays (an origin may have sealed a short run before it
//! got the rest back from its keepers); two that share some rows only are both held. Of two that disagree on a row they
//! share the one with more rows stays, so that nobody shortens what is sealed, of as many the one with the lower content
//! hash: the same one wherever both come. The other's seal is kept as evidence, as is a tail row that differs from what
//! its origin sealed.
//! Bounds: blocks that wait for the disk and seals that wait for rows, see `state`.
//! Absent: asking for seals and blocks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, MutexGuard};
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
use crate::state::{FLUSH_BYTES, Meta, PENDING_BYTES, State, WAITING_SEALS, brief, last};

/// Who brings a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// This node seals its own rows: nobody else may have them.
    Sealing,
    /// Somebody has it.
    Peer,
}

/// What a block here says to a new one that shares rows with it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// The shared rows are the same.
    Agrees,
    /// They are not.
    Differs(Seal),
    /// It cannot be read.
    Unread,
}

/// Where a block lies, and its word.
type Heard = ((Seq, Meta), Word);

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
            Ok(block) => self.place(&block, Source::Peer).map(|_| Sealed::Done),
            Err(_) => {
                self.shared.state().wait(key, seal);
                Ok(Sealed::Waiting)
            }
        }
    }

    /// The seal's rows are sealed here; if with another content, that is evidence. A block is read for its content at most
    /// once, or where the one the seal names must stay.
    fn known_seal(&self, seal: &Seal) -> Sealed {
        let brief = brief(&seal.content);
        let there = {
            let state = self.shared.state();
            let log = state.logs.get(&seal.log);
            let meta = log.and_then(|log| log.blocks.get(&seal.first));
            meta.filter(|meta| meta.count == seal.count).copied()
        };
        let Some(known) = there.map(|meta| meta.content) else {
            return Sealed::Known;
        };
        if known == Some(brief) {
            return Sealed::Known;
        }
        if known.is_some_and(|known| known < brief) {
            self.shared.state().conflict(seal.encode());
            return Sealed::Contradicted { wins: false };
        }
        let held = self.seal_of(&seal.log, seal.first);
        let Some(held) = held.filter(|held| held.count == seal.count) else {
            return Sealed::Known;
        };
        let mut state = self.shared.state();
        state.note_content(&held);
        if held.content == seal.content {
            return Sealed::Known;
        }
        // Only the whole block brings the other content.
        let wins = seal.content < held.content;
        let loser = if wins { &held } else { seal };
        state.conflict(loser.encode());
        Sealed::Contradicted { wins }
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
        let appended = self.place(&block, Source::Peer)?;
        if let Some(row) = block.rows().pop() {
            let latest = SignedRow {
                row,
                signature: [0; 64],
            };
            self.shared
                .state()
                .offer_latest(&Arc::new(latest), self.shared.disk.wall_ms());
        }
        Ok(appended)
    }

    /// Puts a block where its rows are, unless a better one is there.
    fn place(&self, block: &Block, from: Source) -> Result<Appended, StoreError> {
        let head = block.head();
        let (bytes, seal): (Arc<[u8]>, Seal) = (block.encode().into(), block.seal());
        let (mut state, there) = self.heard(block);
        let covers =
            |meta: &(Seq, Meta)| meta.0 <= head.first && last(meta.0, &meta.1) >= head.last();
        let is_same = |meta: &(Seq, Meta)| (meta.0, meta.1.count) == (head.first, head.count);
        let has_it = there.iter().any(|(there, word)| {
            covers(there) && (*word == Word::Agrees || *word == Word::Unread && !is_same(there))
        });
        if has_it {
            return Ok(Appended::Known);
        }
        let rank = |seal: &Seal| (Reverse(seal.count), seal.content);
        let rivals = there.iter().filter_map(|(_, word)| match word {
            Word::Differs(seal) => Some(seal),
            Word::Agrees | Word::Unread => None,
        });
        let rivals: Vec<&Seal> = rivals.collect();
        if rivals.iter().any(|rival| rank(rival) < rank(&seal)) {
            state.conflict(seal.encode());
            return Ok(Appended::Conflict);
        }
        self.make_place(&mut state, bytes.len(), from)?;
        for rival in &rivals {
            state.conflict(rival.encode());
        }
        let differs = self.compare_tail(&mut state, block);
        let inside =
            |(first, meta): &(Seq, Meta)| *first >= head.first && last(*first, meta) <= head.last();
        let leaving = there
            .iter()
            .filter(|(there, word)| inside(there) || matches!(word, Word::Differs(_)));
        let leaving: Vec<Seq> = leaving.map(|((first, _), _)| *first).collect();
        state.install(&seal, head, bytes, &leaving, self.shared.now());
        if from == Source::Peer && self.shared.keys.is_own(&head.log.origin) {
            state.brought.insert(BlockKey {
                log: head.log,
                first: head.first,
            });
        }
        let hurry = state.pending_bytes > FLUSH_BYTES;
        drop(state);
        if hurry {
            locked(&self.shared.orders).flush_wanted = true;
            self.shared.ordered.notify_all();
        }
        Ok(if differs || !rivals.is_empty() {
            Appended::Conflict
        } else {
            Appended::New
        })
    }

    /// What the blocks that share rows with a new one say to it. They are read while nothing is locked, again where others
    /// came meanwhile.
    fn heard(&self, block: &Block) -> (MutexGuard<'_, State>, Vec<Heard>) {
        let head = block.head();
        let mut state = self.shared.state();
        loop {
            let there = state.overlapping(head);
            if there.is_empty() {
                return (state, Vec::new());
            }
            drop(state);
            let words = there.iter().map(|(first, _)| self.word_of(*first, block));
            let words: Vec<Word> = words.collect();
            state = self.shared.state();
            if state.overlapping(head) == there {
                return (state, there.into_iter().zip(words).collect());
            }
        }
    }

    fn word_of(&self, first: Seq, block: &Block) -> Word {
        let log = block.head().log;
        let bytes = self.fetch(&[BlockKey { log, first }]).pop().flatten();
        let Some(held) = bytes.and_then(|bytes| Block::read(&bytes).ok()) else {
            return Word::Unread;
        };
        let rows = held.rows().into_iter().map(|row| (row.seq, row));
        let rows: BTreeMap<Seq, Row> = rows.collect();
        let mut shared = block.rows().into_iter();
        if shared.all(|row| rows.get(&row.seq).is_none_or(|other| *other == row)) {
            Word::Agrees
        } else {
            Word::Differs(held.seal())
        }
    }

    /// Room among the blocks that wait for the disk: for what this node seals its oldest is given up, what a peer has is
    /// refused, or each block of ours that a peer gives back would cost another one.
    fn make_place(&self, state: &mut State, bytes: usize, from: Source) -> Result<(), StoreError> {
        while state.pending_bytes + bytes > PENDING_BYTES {
            let ours = |key: &&BlockKey| self.shared.keys.is_own(&key.log.origin);
            // Those that peers gave back go first: they have them.
            let given_back = state.brought.first().copied();
            let oldest = given_back.or_else(|| state.pending.keys().find(ours).copied());
            let Some(oldest) = oldest.filter(|_| from == Source::Sealing) else {
                state.refused += 1;
                return Err(StoreError::Busy {
                    held: state.pending_bytes as u64,
                    limit: PENDING_BYTES as u64,
                });
            };
            let given_up = state.logs.get(&oldest.log);
            let meta = given_up.and_then(|log| log.blocks.get(&oldest.first));
            if let Some(end) = meta.map(|meta| last(oldest.first, meta)) {
                if given_back.is_none() {
                    state.lost += u64::from(end - oldest.first + 1);
                }
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
    /// damage was found in this run they may have been.
    fn give_up_holes(&self, id: &LogId) {
        let mut state = self.shared.state();
        let reason = if state.own_damaged {
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
                    self.place(&block, Source::Sealing).map(|_| block.seal())
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
    /// The blocks that share a row with a new one.
    fn overlapping(&self, head: &Head) -> Vec<(Seq, Meta)> {
        let log = self.logs.get(&head.log);
        log.map(|log| log.blocks_in(&(head.first..=head.last())))
            .unwrap_or_default()
    }

    /// Remembers what a block that is held has for content.
    fn note_content(&mut self, seal: &Seal) {
        let log = self.logs.get_mut(&seal.log);
        let meta = log.and_then(|log| log.blocks.get_mut(&seal.first));
        if let Some(meta) = meta.filter(|meta| meta.count == seal.count) {
            meta.content = Some(brief(&seal.content));
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
