//! When an origin's clock was set: steps, and the first fix of one that had nobody's word.
//!
//! Nothing is recorded beside the rows: each carries its clock, so whoever holds them finds the same changes. A block's
//! index entry says whether its offsets differ among themselves or from those before; only such blocks are read, at most
//! `MOST_READ` in an answer, the newest. What roll-ups replaced has no rows to find a change in.
//! Absent: why a clock was set.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::answer::Parcel;
use crate::block::Block;
use crate::open::Store;
use crate::row::{SignedRow, wall_ms};
use crate::sample::{Clock, ClockSource, LogId, Origin, Seq};
use crate::state::{Log, last};

/// Blocks read for one answer: two hours of a clock that is set in every minute.
const MOST_READ: usize = 128;
/// A clock that is moved by less was not set: rows follow slow drift in small pieces.
const STEP_MS: u64 = 1_000;
/// A block is read whole.
const BLOCK_BYTES: usize = 1;

/// A clock that was set between two rows of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockChange {
    /// Whose clock, and in which run.
    pub log: LogId,
    /// The first row after it.
    pub seq: Seq,
    /// That row's boot time, milliseconds.
    pub boot_ms: u64,
    /// Its clock.
    pub clock: Clock,
    /// The offset before, as `Clock::offset_ms`.
    pub before_ms: i64,
    /// Whether anybody stood for the clock before: else this is a fix, and the first of a run moved its earlier rows.
    pub was_synced: bool,
}

impl ClockChange {
    /// When it happened, by the clock after it.
    pub fn at_ms(&self) -> i64 {
        wall_ms(self.boot_ms, self.clock.offset_ms)
    }

    /// How far the clock was moved; negative: back.
    pub fn moved_ms(&self) -> i64 {
        self.clock.offset_ms.saturating_sub(self.before_ms)
    }
}

/// A part of a log: a block with one offset, or rows to be read.
enum Part {
    Even(RangeInclusive<Seq>, (i64, bool)),
    Block(RangeInclusive<Seq>),
    Row(Arc<[u8]>),
}

impl Store {
    /// When the clock of an origin was set, as far as its rows are held here, oldest first.
    pub fn clock_changes(&self, origin: &Origin) -> Vec<ClockChange> {
        let logs: Vec<(LogId, Vec<Part>)> = {
            let state = self.shared.state();
            let logs = state.logs_of(origin);
            logs.map(|(id, log)| (*id, parts(log))).collect()
        };
        let uneven = |part: &Part| matches!(part, Part::Block(_));
        let all = logs.iter().flat_map(|(_, parts)| parts);
        let mut skip = all
            .filter(|part| uneven(part))
            .count()
            .saturating_sub(MOST_READ);
        let mut changes = Vec::new();
        for (log, parts) in logs {
            let mut before = None;
            for part in parts {
                match part {
                    Part::Even(_, clock) if before.is_none_or(|before| before == clock) => {
                        before = Some(clock);
                    }
                    Part::Block(_) if skip > 0 => {
                        skip -= 1;
                        before = None;
                    }
                    Part::Block(rows) | Part::Even(rows, _) => {
                        for row in self.clocks_in(&log, rows) {
                            compare(&mut before, row, log, &mut changes);
                        }
                    }
                    Part::Row(bytes) => {
                        if let Ok(row) = SignedRow::decode(&bytes) {
                            let row = (row.row.seq, row.row.boot_ms, row.row.clock);
                            compare(&mut before, row, log, &mut changes);
                        }
                    }
                }
            }
        }
        changes
    }

    fn clocks_in(&self, log: &LogId, rows: RangeInclusive<Seq>) -> Vec<(Seq, u64, Clock)> {
        let parcels = self.export(log, rows, BLOCK_BYTES).unwrap_or_default();
        let blocks = parcels.iter().filter_map(|parcel| match parcel {
            Parcel::Block(bytes) => Block::read(bytes).ok(),
            Parcel::Row(_) => None,
        });
        let rows = blocks.flat_map(|block| block.rows());
        rows.map(|row| (row.seq, row.boot_ms, row.clock)).collect()
    }
}

/// A log in order; a block is taken apart only where its offset isn't that of what comes before.
fn parts(log: &Log) -> Vec<Part> {
    let mut parts = Vec::with_capacity(log.blocks.len() + log.tail.len());
    let mut before = None;
    for (first, meta) in &log.blocks {
        let (low, high) = meta.offsets_ms();
        let rows = *first..=last(*first, meta);
        parts.push(
            if low == high && before.is_none_or(|before| before == low) {
                Part::Even(rows, (low, meta.synced().is_some()))
            } else {
                Part::Block(rows)
            },
        );
        before = (low == high).then_some(low);
    }
    parts.extend(log.tail.values().cloned().map(Part::Row));
    parts
}

fn compare(
    before: &mut Option<(i64, bool)>,
    (seq, boot_ms, clock): (Seq, u64, Clock),
    log: LogId,
    changes: &mut Vec<ClockChange>,
) {
    let synced = clock.source != ClockSource::Unsynced;
    if let Some((before_ms, was_synced)) = before.replace((clock.offset_ms, synced)) {
        let change = ClockChange {
            log,
            seq,
            boot_ms,
            clock,
            before_ms,
            was_synced,
        };
        if change.moved_ms().unsigned_abs() >= STEP_MS {
            changes.push(change);
        }
    }
}
