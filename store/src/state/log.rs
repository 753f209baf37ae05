//! What is held of one log: where its sealed blocks lie and which time they cover, and the rows of its tail.
//!
//! Absent: bounds, and what waits for the disk (`state`).

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use crate::block::{Head, window_of};
use crate::interval::IntervalSet;
use crate::key::gone::Reason;
use crate::rolled::Rolled;
use crate::row::wall_range;
use crate::sample::Seq;

/// Where a block lies and which time it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) generation: u32,
    pub(crate) count: u8,
    boot_ms: (u64, u64),
    offset_ms: (i64, i64),
    /// `i64::MIN`: none of its rows had a synced clock.
    synced_ms: i64,
    /// Its content hash, in brief. None: not looked at since the start.
    pub(crate) content: Option<NonZeroU64>,
}

impl Meta {
    pub(crate) fn new(head: &Head, generation: u32) -> Self {
        Self {
            generation,
            count: head.count,
            boot_ms: (*head.boot_ms.start(), *head.boot_ms.end()),
            offset_ms: (*head.offset_ms.start(), *head.offset_ms.end()),
            synced_ms: head.synced_ms.unwrap_or(i64::MIN),
            content: None,
        }
    }

    /// Lowest and highest clock offset of its rows.
    pub(crate) fn offsets_ms(&self) -> (i64, i64) {
        self.offset_ms
    }

    pub(crate) fn synced(&self) -> Option<i64> {
        (self.synced_ms != i64::MIN).then_some(self.synced_ms)
    }

    /// The wall times its rows can have, when unsynced ones take `fix`: never narrower than the truth.
    pub(crate) fn wall_ms(&self, fix: Option<i64>) -> RangeInclusive<i64> {
        wall_range(self.boot_ms, self.offset_ms, fix)
    }
}

/// One log's rows.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Rows sealed or in the tail.
    pub(crate) held: IntervalSet,
    /// Rows that went by retention.
    pub(crate) gone: IntervalSet,
    /// Rows lost here by mischance: taken again from whoever has them.
    pub(crate) lost: BTreeMap<Reason, IntervalSet>,
    /// Sealed runs by first seq; none has all rows of another, so their ends ascend too.
    pub(crate) blocks: BTreeMap<Seq, Meta>,
    /// Encoded `SignedRow`s.
    pub(crate) tail: BTreeMap<Seq, Arc<[u8]>>,
    /// Their bytes.
    pub(super) tail_bytes: usize,
    /// When a row last came into each window of the tail, by the window's first seq.
    pub(super) touched: BTreeMap<Seq, Instant>,
    /// The lowest row of the tail whose clock was synced, and its offset.
    pub(super) tail_synced: BTreeMap<Seq, i64>,
    /// What is left of rows that went.
    pub(crate) rolled: Rolled,
    /// Rows that every keeper has.
    pub(crate) delivered: IntervalSet,
}

impl Log {
    /// The block that covers `seq`.
    pub(crate) fn block_at(&self, seq: Seq) -> Option<(Seq, Meta)> {
        let (first, meta) = self.blocks.range(..=seq).next_back()?;
        (last(*first, meta) >= seq).then_some((*first, *meta))
    }

    /// The blocks that share a row with `range`.
    pub(crate) fn blocks_in(&self, range: &RangeInclusive<Seq>) -> Vec<(Seq, Meta)> {
        let from = self
            .block_at(*range.start())
            .map_or_else(|| *range.start(), |(first, _)| first);
        self.blocks
            .range(from..=(*range.end()).max(from))
            .map(|(first, meta)| (*first, *meta))
            .filter(|(first, _)| first <= range.end())
            .collect()
    }

    /// The offset of the lowest row whose clock was synced, which unsynced rows take.
    pub(crate) fn fix(&self) -> Option<i64> {
        let block = self
            .blocks
            .iter()
            .find_map(|(first, meta)| Some((*first, meta.synced()?)));
        let row = self.tail_synced.iter().next().map(|(seq, at)| (*seq, *at));
        let rolled = self.rolled.synced();
        [block, row, rolled]
            .into_iter()
            .flatten()
            .min()
            .map(|(_, at)| at)
    }

    /// Takes a block out of the index; rows that a block overlapping it has too stay held.
    pub(super) fn uncover(&mut self, first: Seq) -> Option<IntervalSet> {
        let meta = self.blocks.remove(&first)?;
        let mut lost: IntervalSet = [first..=last(first, &meta)].into_iter().collect();
        let window = window_of(first);
        for (other, meta) in self.blocks.range(window) {
            lost.remove(*other..=last(*other, meta));
        }
        self.held = self.held.subtract(&lost);
        Some(lost)
    }

    /// Whether these rows join none that are held.
    pub(super) fn stands_alone(&self, rows: &RangeInclusive<Seq>) -> bool {
        let near = rows.start().saturating_sub(1)..=rows.end().saturating_add(1);
        let near: IntervalSet = [near].into_iter().collect();
        self.held.intersect(&near).is_empty()
    }

    /// These rows are held: again, if they were lost.
    pub(super) fn hold(&mut self, rows: RangeInclusive<Seq>) {
        self.gone.remove(rows.clone());
        self.lost.retain(|_, lost| {
            lost.remove(rows.clone());
            !lost.is_empty()
        });
        self.held.insert(rows);
    }

    pub(super) fn take_row(&mut self, seq: Seq) -> Option<Arc<[u8]>> {
        let bytes = self.tail.remove(&seq)?;
        self.tail_bytes -= bytes.len();
        self.tail_synced.remove(&seq);
        let window = window_of(seq);
        if self.tail.range(window.clone()).next().is_none() {
            self.touched.remove(window.start());
        }
        Some(bytes)
    }

    /// Contiguous runs of the tail that stay inside one window, no row of which came after `before`.
    pub(crate) fn runs(&self, before: Option<Instant>) -> Vec<(Seq, u8)> {
        let mut runs: Vec<(Seq, u8)> = Vec::new();
        for seq in self.tail.keys().copied() {
            let window = *window_of(seq).start();
            let fresh = self.touched.get(&window);
            if before.is_some_and(|before| fresh.is_some_and(|at| *at > before)) {
                continue;
            }
            match runs.last_mut() {
                Some((first, count)) if *first + Seq::from(*count) == seq && *first >= window => {
                    *count += 1;
                }
                _ => runs.push((seq, 1)),
            }
        }
        runs
    }
}

/// The front of a content hash: enough to know one again, and of two to know the lower.
pub(crate) fn brief(content: &[u8; 32]) -> NonZeroU64 {
    let front = content.first_chunk().copied().unwrap_or_default();
    NonZeroU64::new(u64::from_be_bytes(front)).unwrap_or(NonZeroU64::MIN)
}

/// The last seq of the block at `first`.
pub(crate) fn last(first: Seq, meta: &Meta) -> Seq {
    first + Seq::from(meta.count.max(1)) - 1
}
