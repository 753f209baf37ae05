//! The rows of the tail: into memory and on their way to the spool, and out of memory where there are too many.
//!
//! Absent: rows that a block covers (`blocks`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use super::log::{Log, last};
use super::{
    MAX_RANGES, MAX_RANGES_OF_ONE, PENDING, QUEUE_BYTES, Queued, State, TAIL_BYTES,
    TAIL_BYTES_SPARED,
};
use crate::block::window_of;
use crate::interval::IntervalSet;
use crate::key::gone::Reason;
use crate::row::{Row, SignedRow};
use crate::sample::{ClockSource, LogId, Origin, Seq};

/// A row this far ahead of this node's clock says nothing about what is newest.
const AHEAD_MS: i64 = 5 * 60_000;

impl State {
    /// Puts a row into the tail; the caller has made sure that nothing is held under its identity.
    pub(crate) fn insert_row(&mut self, row: &Row, bytes: Arc<[u8]>, at: Instant, spool: bool) {
        let log = self.logs.entry(row.log).or_default();
        log.hold(row.seq..=row.seq);
        log.touched.insert(*window_of(row.seq).start(), at);
        if row.clock.source != ClockSource::Unsynced {
            log.tail_synced.insert(row.seq, row.clock.offset_ms);
        }
        self.tail_bytes += bytes.len();
        log.tail_bytes += bytes.len();
        if let Some(old) = log.tail.insert(row.seq, bytes.clone()) {
            self.tail_bytes -= old.len();
            log.tail_bytes -= old.len();
        }
        if spool {
            self.enqueue(Queued {
                log: row.log,
                seq: row.seq,
                bytes,
            });
        }
    }

    /// Replaces a tail row by another content of the same identity.
    pub(crate) fn replace_row(&mut self, row: &Row, bytes: Arc<[u8]>, at: Instant) {
        if let Some(log) = self.logs.get_mut(&row.log) {
            self.tail_bytes -= log.take_row(row.seq).map_or(0, |old| old.len());
        }
        self.insert_row(row, bytes, at, true);
    }

    /// Remembers a row as its origin's newest unless a newer one is known. Of two stores of an origin, as when its disk was
    /// replaced, the clock says which is newer, unless it stood in the future by `now_ms`.
    pub(crate) fn offer_latest(&mut self, row: &Arc<SignedRow>, now_ms: i64) {
        let horizon = now_ms.saturating_add(AHEAD_MS);
        let rank = |row: &Row| (row.wall_ms() <= horizon, row.wall_ms());
        let new = &row.row;
        let newer = self.latest.get(&new.log.origin).is_none_or(|old| {
            let old = &old.row;
            if new.log.store == old.log.store {
                (new.log, new.seq) > (old.log, old.seq)
            } else {
                rank(new) > rank(old)
            }
        });
        if newer {
            self.latest.insert(new.log.origin, row.clone());
        }
    }

    /// The encoded rows of a run, if all are in the tail.
    pub(crate) fn run(&self, id: &LogId, first: Seq, count: u8) -> Option<Vec<Arc<[u8]>>> {
        let tail = &self.logs.get(id)?.tail;
        let end = first.checked_add(Seq::from(count).checked_sub(1)?)?;
        let rows: Vec<_> = tail
            .range(first..=end)
            .map(|(_, row)| row.clone())
            .collect();
        (rows.len() == usize::from(count)).then_some(rows)
    }

    fn enqueue(&mut self, row: Queued) {
        self.queue_bytes += row.bytes.len();
        self.queue.push_back(row);
        while self.queue_bytes > QUEUE_BYTES {
            let Some(oldest) = self.queue.pop_front() else {
                break;
            };
            self.queue_bytes -= oldest.bytes.len();
            let unspooled = self.unspooled.entry(oldest.log).or_default();
            unspooled.insert(oldest.seq..=oldest.seq);
        }
    }

    /// The spool has synced these. `running`: the epoch whose progress is told. Says whether rows that had left the queue
    /// are in it again.
    pub(crate) fn spooled(&mut self, rows: &[Queued], running: Option<LogId>) -> bool {
        let own = rows.iter().filter(|row| Some(row.log) == running);
        let newest = own.map(|row| (row.log, row.seq)).max();
        self.spooled = match (self.spooled, newest) {
            (Some(before), Some(newest)) if before.0 == newest.0 => Some(before.max(newest)),
            (before, newest) => newest.or(before),
        };
        for row in rows {
            if let Some(set) = self.unspooled.get_mut(&row.log) {
                set.remove(row.seq..=row.seq);
            }
        }
        let again = self.queue_again();
        if let Some((log, seq)) = self.spooled {
            let missing = self.unspooled.get(&log).and_then(IntervalSet::first);
            let seq = missing.map_or(seq, |missing| seq.min(missing - 1));
            if seq > 0 {
                self.synced = Some((log, seq));
            }
        }
        again
    }

    /// Takes rows that left a full queue into it again, as far as half of it goes; those that a block on disk covers, or
    /// that are held no longer, are settled.
    fn queue_again(&mut self) -> bool {
        let mut again = false;
        for (id, set) in std::mem::take(&mut self.unspooled) {
            let mut left = set.clone();
            let mut settled = 0;
            for seq in set.ranges().flatten() {
                if seq <= settled {
                    continue;
                }
                let log = self.logs.get(&id);
                let block = log.and_then(|log| log.block_at(seq));
                settled = block.map_or(seq, |(first, meta)| last(first, &meta));
                let row = log.and_then(|log| log.tail.get(&seq)).cloned();
                match (row, block) {
                    (Some(_), _) if self.queue_bytes > QUEUE_BYTES / 2 => break,
                    // It counts as missing until the spool has it, or it would be told as synced too early.
                    (Some(bytes), _) => {
                        again = true;
                        self.enqueue(Queued {
                            log: id,
                            seq,
                            bytes,
                        });
                    }
                    (None, Some((_, meta))) if meta.generation == PENDING => {}
                    (None, _) => left.remove(seq..=settled),
                }
            }
            if !left.is_empty() {
                self.unspooled.insert(id, left);
            }
        }
        again
    }

    /// Whether a block on disk covers a queued row already: it was released, and must not be spooled after that.
    pub(crate) fn is_safe(&self, row: &Queued) -> bool {
        let block = self
            .logs
            .get(&row.log)
            .and_then(|log| log.block_at(row.seq));
        block.is_some_and(|(_, meta)| meta.generation != PENDING)
    }

    /// What the spool may let go of. A row that came again since, because its block was lost, is still needed.
    pub(crate) fn take_released(&mut self) -> Vec<(LogId, RangeInclusive<Seq>)> {
        let mut released = Vec::new();
        for (id, range) in std::mem::take(&mut self.released) {
            let mut free: IntervalSet = [range.clone()].into_iter().collect();
            for seq in self
                .logs
                .get(&id)
                .into_iter()
                .flat_map(|log| log.tail.range(range.clone()))
            {
                free.remove(*seq.0..=*seq.0);
            }
            released.extend(free.ranges().map(|range| (id, range)));
        }
        released
    }

    /// The bytes of an origin's rows in the tail.
    pub(crate) fn tail_bytes_of(&self, origin: &Origin) -> usize {
        self.logs_of(origin).map(|(_, log)| log.tail_bytes).sum()
    }

    /// Whether these rows would be one more stretch than may be, of their log or of its origin.
    pub(crate) fn has_many_holes(&self, id: &LogId, rows: &RangeInclusive<Seq>) -> bool {
        let log = self.logs.get(id);
        if log.is_some_and(|log| !log.stands_alone(rows)) {
            return false;
        }
        let stretches = |log: &Log| log.held.ranges().len();
        log.map_or(0, stretches) >= MAX_RANGES
            || self
                .logs_of(&id.origin)
                .map(|(_, log)| stretches(log))
                .sum::<usize>()
                >= MAX_RANGES_OF_ONE
    }

    /// Makes room in the tail for so many bytes of `wanting`: rows of others that wait for a seal go, the oldest first, while
    /// nothing has joined their window since `before`. Nobody takes the place of one who has less here, or who has little, so
    /// that a flood costs no machine that died its last minute. Says whether there is room.
    pub(crate) fn drop_idle_rows(
        &mut self,
        wanting: &Origin,
        bytes: usize,
        before: Instant,
        is_own: impl Fn(&Origin) -> bool,
    ) -> bool {
        let mut tails: BTreeMap<Origin, usize> = BTreeMap::new();
        for (id, log) in &self.logs {
            *tails.entry(id.origin).or_default() += log.tail_bytes;
        }
        let least = tails
            .get(wanting)
            .copied()
            .unwrap_or(0)
            .max(TAIL_BYTES_SPARED);
        let others = self
            .logs
            .iter()
            .filter(|(id, _)| !is_own(&id.origin) && tails[&id.origin] >= least);
        let windows =
            others.flat_map(|(id, log)| log.touched.iter().map(|(seq, at)| (*at, *id, *seq)));
        let mut idle: Vec<_> = windows.filter(|(at, ..)| *at <= before).collect();
        idle.sort_unstable();
        for (_, id, first) in idle {
            if self.tail_bytes + bytes <= TAIL_BYTES {
                break;
            }
            self.drop_window(id, first);
        }
        self.tail_bytes + bytes <= TAIL_BYTES
    }

    fn drop_window(&mut self, id: LogId, first: Seq) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let seqs: Vec<Seq> = log
            .tail
            .range(window_of(first))
            .map(|(seq, _)| *seq)
            .collect();
        let mut rows = IntervalSet::new();
        for seq in seqs {
            self.tail_bytes -= log.take_row(seq).map_or(0, |bytes| bytes.len());
            rows.insert(seq..=seq);
        }
        log.held = log.held.subtract(&rows);
        let released = rows.ranges().map(|range| (id, range));
        self.released.extend(released);
        let unnoted = self.unnoted.entry((id, Reason::Budget)).or_default();
        rows.ranges().for_each(|range| unnoted.insert(range));
        self.went(&BTreeMap::from([(id, rows)]));
    }
}
