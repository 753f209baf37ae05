//! The index of sealed blocks: new ones, those read back at open, those that left with their generation.
//!
//! Absent: their bytes, but for those that wait for the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::log::{Meta, brief, last};
use super::{PENDING, State};
use crate::block::{Head, Seal};
use crate::interval::IntervalSet;
use crate::key::block::BlockKey;
use crate::key::gone::Reason;
use crate::sample::{LogId, Seq};

impl State {
    /// Makes a new block the holder of its rows; the tail rows it covers leave.
    ///
    /// The caller has settled conflicts: the blocks that leave for it are named in `leaving`. Rows that only they had are
    /// lost, and asked for again.
    pub(crate) fn install(
        &mut self,
        seal: &Seal,
        head: &Head,
        bytes: Arc<[u8]>,
        leaving: &[Seq],
        at: Instant,
    ) {
        let log = head.log;
        let mut left = IntervalSet::new();
        for first in leaving {
            let of_log = self.logs.entry(log).or_default();
            let rows = of_log.uncover(*first).unwrap_or_default();
            rows.ranges().for_each(|range| left.insert(range));
            self.unqueue(&BlockKey { log, first: *first });
        }
        let rows = head.first..=head.last();
        let spooled = self.logs.get(&head.log);
        let spooled = spooled.map_or(0, |log| log.tail.range(rows).count());
        if spooled < usize::from(head.count) {
            self.bare_since.get_or_insert(at);
        }
        self.cover(head, PENDING);
        let of_log = self.logs.entry(log).or_default();
        if let Some(meta) = of_log.blocks.get_mut(&head.first) {
            meta.content = Some(brief(&seal.content));
        }
        self.lose(log, &left, Reason::Damaged);
        let key = BlockKey {
            log,
            first: head.first,
        };
        self.waiting.remove(&key);
        self.pending_bytes += bytes.len();
        self.pending.insert(key, bytes);
        self.pending_since.get_or_insert(at);
    }

    /// A block waits for the disk no longer.
    fn unqueue(&mut self, key: &BlockKey) {
        let bytes = self.pending.remove(key);
        self.pending_bytes -= bytes.map_or(0, |bytes| bytes.len());
        self.brought.remove(key);
    }

    /// Of the seals that lost against another content those whose block may lie in a generation beside the winner.
    pub(crate) fn crossed(&mut self) -> Vec<Seal> {
        let losers = std::mem::take(&mut self.losers);
        let crossed = losers.into_iter().filter(|seal| {
            self.logs.get(&seal.log).is_some_and(|log| {
                let meta = log.blocks.get(&seal.first);
                meta.is_some_and(|meta| meta.count == seal.count)
                    && log.blocks_in(&(seal.first..=seal.last())).len() > 1
            })
        });
        crossed.collect()
    }

    /// Takes over a block read back from a generation. Of two one of which has the other's rows the longer stays, then the
    /// younger.
    pub(crate) fn scanned(&mut self, head: &Head, generation: u32) {
        let range = head.first..=head.last();
        let log = self.logs.entry(head.log).or_default();
        let mut older = log.blocks_in(&range);
        // Two that share some rows only are both held.
        older.retain(|(first, meta)| {
            let end = last(*first, meta);
            (*first <= head.first && end >= head.last())
                || (*first >= head.first && end <= head.last())
        });
        let wins = older.iter().all(|(first, meta)| {
            let inside = *first >= head.first && last(*first, meta) <= head.last();
            let younger = meta.generation != PENDING && meta.generation < generation;
            inside && (meta.count < head.count || younger)
        });
        if !wins {
            return;
        }
        for (first, meta) in older {
            log.blocks.remove(&first);
            log.held.remove(first..=last(first, &meta));
        }
        self.cover(head, generation);
        self.released.push((head.log, range));
    }

    fn cover(&mut self, head: &Head, generation: u32) {
        let range = head.first..=head.last();
        let log = self.logs.entry(head.log).or_default();
        let rows: Vec<Seq> = log.tail.range(range.clone()).map(|(seq, _)| *seq).collect();
        for seq in rows {
            self.tail_bytes -= log.take_row(seq).map_or(0, |bytes| bytes.len());
        }
        log.blocks.insert(head.first, Meta::new(head, generation));
        log.hold(range);
    }

    /// sled has synced these blocks into `generation`.
    pub(crate) fn committed(&mut self, written: &[(BlockKey, Arc<[u8]>)], generation: u32) {
        for (key, bytes) in written {
            let same = |now: &Arc<[u8]>| Arc::ptr_eq(now, bytes);
            if !self.pending.get(key).is_some_and(same) {
                continue;
            }
            self.unqueue(key);
            let log = self.logs.entry(key.log).or_default();
            if let Some(meta) = log.blocks.get_mut(&key.first) {
                meta.generation = generation;
                let range = key.first..=last(key.first, meta);
                self.released.push((key.log, range));
            }
        }
        if self.pending.is_empty() {
            (self.pending_since, self.bare_since) = (None, None);
        }
    }

    /// Forgets what a generation held. What `forget` returns is no longer held anywhere here.
    pub(crate) fn forget_generation(&mut self, generation: u32) -> BTreeMap<LogId, IntervalSet> {
        let mut lost: BTreeMap<LogId, IntervalSet> = BTreeMap::new();
        for (id, log) in &mut self.logs {
            let there = log.blocks.iter();
            let gone = there.filter(|(_, meta)| meta.generation == generation);
            let gone: Vec<Seq> = gone.map(|(first, _)| *first).collect();
            for rows in gone.into_iter().filter_map(|first| log.uncover(first)) {
                let set = lost.entry(*id).or_default();
                rows.ranges().for_each(|range| set.insert(range));
            }
        }
        lost
    }

    /// Forgets one block, so that it is asked for again: what is no longer held goes for this reason.
    pub(crate) fn forget_block(&mut self, key: &BlockKey, reason: Reason) {
        let log = self.logs.get_mut(&key.log);
        if let Some(rows) = log.and_then(|log| log.uncover(key.first)) {
            self.lose(key.log, &rows, reason);
        }
        self.unqueue(key);
    }

    /// The blocks of a generation, by log and seq.
    pub(crate) fn blocks_of(&self, generation: u32) -> Vec<BlockKey> {
        let mut keys = Vec::new();
        for (log, of_log) in &self.logs {
            let there = of_log.blocks.iter();
            let there = there.filter(|(_, meta)| meta.generation == generation);
            keys.extend(there.map(|(first, _)| BlockKey {
                log: *log,
                first: *first,
            }));
        }
        keys
    }

    /// The rows that only a generation has.
    pub(crate) fn only_in(&self, generation: u32) -> BTreeMap<LogId, IntervalSet> {
        let mut rows = BTreeMap::new();
        for (id, log) in &self.logs {
            let (mut here, mut elsewhere) = (IntervalSet::new(), IntervalSet::new());
            for (first, meta) in &log.blocks {
                let set = if meta.generation == generation {
                    &mut here
                } else {
                    &mut elsewhere
                };
                set.insert(*first..=last(*first, meta));
            }
            let only = here.subtract(&elsewhere);
            if !only.is_empty() {
                rows.insert(*id, only);
            }
        }
        rows
    }

    /// Whether every keeper has all rows that lie in a generation.
    pub(crate) fn is_delivered(&self, generation: u32) -> bool {
        self.logs.values().all(|log| {
            let mut there = log.blocks.iter();
            there.all(|(first, meta)| {
                meta.generation != generation || log.delivered.covers(*first..=last(*first, meta))
            })
        })
    }
}
