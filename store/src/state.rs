//! What is held, in memory: the index of sealed blocks, the rows of the tail, what waits for the disk.
//!
//! Rows come in through `insert_row`, blocks through `install` (new), `scanned` (read back at open). Per block the index
//! keeps where it lies and which time it covers (about 60 B), per tail row its encoded bytes; nothing is decoded.
//! Invariant: `held` is exactly the rows of `blocks` and of `tail`, and the two never overlap. Two blocks may share rows
//! where their origin sealed twice what it had lost between; neither has all rows of the other.
//! Absent: disks, clocks, signatures. The threads in `spooler` and `writer` take from here what they make durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attic::Place;
use crate::block::{Head, Seal, window_of};
use crate::interval::IntervalSet;
use crate::key::block::BlockKey;
use crate::key::gone::Reason;
use crate::retain::Room;
use crate::rolled::Rolled;
use crate::row::{Row, SignedRow};
use crate::sample::{ClockSource, Epoch, LogId, Origin, Seq, StoreId};

/// The generation of a block that only memory holds so far.
pub(crate) const PENDING: u32 = 0;
/// Rows in memory that no block covers. At the bound those of others that wait for a seal go where nothing joined their
/// window for an hour, as when their origin died; if that is not enough, rows of others are refused and asked for later.
pub(crate) const TAIL_BYTES: usize = 32 << 20;
/// The part of them that one other origin may have, three minutes of the largest rows: beyond it they are refused and the
/// origin named, so that one that never seals leaves room for the rest.
pub(crate) const TAIL_BYTES_OF_ONE: usize = TAIL_BYTES / 4;
/// What another origin may have there without ever making room: the last minute before it died of 3,000 series.
pub(crate) const TAIL_BYTES_SPARED: usize = TAIL_BYTES / 64;
/// Rows the spool has not taken. At the bound the oldest leave the queue and are remembered as `unspooled`: they come back
/// into it when the disk takes rows again, and nothing after them counts as synced before.
pub(crate) const QUEUE_BYTES: usize = 8 << 20;
/// Blocks sled has not taken. At the bound blocks of others are refused; of our own the oldest is given up and counted.
pub(crate) const PENDING_BYTES: usize = 8 << 20;
/// Blocks waiting in memory from which sled takes them without waiting for its next turn.
pub(crate) const FLUSH_BYTES: usize = 512 << 10;
/// Stretches of rows with a hole between them, in one log of another origin: two and a quarter hours of every second row.
/// Beyond it what joins none of them is refused, and the origin named.
pub(crate) const MAX_RANGES: usize = 4_096;
/// The same over all logs of an origin.
pub(crate) const MAX_RANGES_OF_ONE: usize = 4 * MAX_RANGES;
/// Logs of one origin of which nothing is held and no roll-up is left. Beyond it the first of them are forgotten, what went
/// of them too, and counted: they are taken again from whoever still has them.
pub(crate) const MAX_EMPTY_LOGS: usize = 4_000;
/// Seals whose rows are not all here. At the bound further ones are forgotten and asked for again later.
pub(crate) const WAITING_SEALS: usize = 1_024;

/// A sync of the spool that takes longer is named in the health: slow cards take a second or two.
const HUNG: Duration = Duration::from_secs(10);

/// A row this far ahead of this node's clock says nothing about what is newest.
const AHEAD_MS: i64 = 5 * 60_000;

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
        let low = self.offset_ms.0.min(fix.unwrap_or(i64::MAX));
        let high = self.offset_ms.1.max(fix.unwrap_or(i64::MIN));
        add(self.boot_ms.0, low)..=add(self.boot_ms.1, high)
    }
}

fn add(boot_ms: u64, offset_ms: i64) -> i64 {
    i64::try_from(boot_ms)
        .unwrap_or(i64::MAX)
        .saturating_add(offset_ms)
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
    tail_bytes: usize,
    /// When a row last came into each window of the tail, by the window's first seq.
    touched: BTreeMap<Seq, Instant>,
    /// The lowest row of the tail whose clock was synced, and its offset.
    tail_synced: BTreeMap<Seq, i64>,
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
    fn uncover(&mut self, first: Seq) -> Option<IntervalSet> {
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
    fn stands_alone(&self, rows: &RangeInclusive<Seq>) -> bool {
        let near = rows.start().saturating_sub(1)..=rows.end().saturating_add(1);
        let near: IntervalSet = [near].into_iter().collect();
        self.held.intersect(&near).is_empty()
    }

    /// These rows are held: again, if they were lost.
    fn hold(&mut self, rows: RangeInclusive<Seq>) {
        self.gone.remove(rows.clone());
        self.lost.retain(|_, lost| {
            lost.remove(rows.clone());
            !lost.is_empty()
        });
        self.held.insert(rows);
    }

    fn take_row(&mut self, seq: Seq) -> Option<Arc<[u8]>> {
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

/// A row on its way into the spool.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) log: LogId,
    pub(crate) seq: Seq,
    pub(crate) bytes: Arc<[u8]>,
}

/// Everything the store knows without asking a disk.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) tail_bytes: usize,
    /// Rows the spool has not synced, oldest first.
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: usize,
    /// Rows that left a full queue and are not on disk.
    pub(crate) unspooled: BTreeMap<LogId, IntervalSet>,
    /// The newest row of the running epoch that the spool has synced, whatever is missing before it.
    pub(crate) spooled: Option<(LogId, Seq)>,
    /// Blocks sled has not synced.
    pub(crate) pending: BTreeMap<BlockKey, Arc<[u8]>>,
    pub(crate) pending_bytes: usize,
    pub(crate) pending_since: Option<Instant>,
    /// Those of our own that a peer gave back.
    pub(crate) brought: BTreeSet<BlockKey>,
    /// Since when one waits that has rows which are in no spool.
    pub(crate) bare_since: Option<Instant>,
    /// Seals of others whose rows are not all here.
    pub(crate) waiting: BTreeMap<BlockKey, Seal>,
    /// Runs the spool need not keep any more.
    pub(crate) released: Vec<(LogId, RangeInclusive<Seq>)>,
    /// The losing content of identities seen with two; 64 at most wait for the spool's thread, more are only counted.
    pub(crate) evidence: Vec<Vec<u8>>,
    pub(crate) latest: BTreeMap<Origin, Arc<SignedRow>>,
    pub(crate) synced: Option<(LogId, Seq)>,
    pub(crate) ready: bool,
    pub(crate) conflicts: u64,
    /// Seals that lost against another content before the start, until the generations have been read.
    pub(crate) losers: Vec<Seal>,
    /// By whom, as far as evidence from before the start says.
    pub(crate) accused: BTreeMap<Origin, u64>,
    pub(crate) damaged: u64,
    /// Damage was found since the start where rows of this node may have been.
    pub(crate) own_damaged: bool,
    pub(crate) lost: u64,
    pub(crate) refused: u64,
    /// Rows that went by retention.
    pub(crate) went_rows: u64,
    /// What went or was lost and the file of it doesn't say yet.
    pub(crate) unnoted: BTreeMap<(LogId, Reason), IntervalSet>,
    /// Logs of which only what went of them was known, and that were forgotten.
    pub(crate) forgotten: u64,
    /// Other origins that have more than their part of the bound.
    pub(crate) over_share: Vec<Origin>,
    /// Rows and blocks not kept because little of the disk is free.
    pub(crate) unkept: u64,
    /// Whether the disk has room.
    pub(crate) room: Room,
    /// When the spool's write that is on its way began.
    pub(crate) spooling: Option<Instant>,
    /// What is wrong, one sentence a cause.
    pub(crate) ailments: BTreeMap<&'static str, String>,
}

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

    /// Remembers that rows went and why.
    pub(crate) fn went(&mut self, went: &BTreeMap<LogId, IntervalSet>) {
        for (log, rows) in went {
            let log = self.logs.entry(*log).or_default();
            // One that came again while its generation went is held.
            let rows = rows.subtract(&log.held);
            rows.ranges().for_each(|range| log.gone.insert(range));
            self.went_rows += rows.len();
        }
    }

    /// Remembers rows that were lost here, those of them that aren't held all the same; the writer's next turn notes them.
    pub(crate) fn lose(&mut self, id: LogId, rows: &IntervalSet, reason: Reason) {
        let log = self.logs.entry(id).or_default();
        let rows = rows.subtract(&log.held).subtract(&log.gone);
        let rows = log
            .lost
            .values()
            .fold(rows, |rows, lost| rows.subtract(lost));
        if rows.is_empty() {
            return;
        }
        let unnoted = self.unnoted.entry((id, reason)).or_default();
        let lost = log.lost.entry(reason).or_default();
        for range in rows.ranges() {
            unnoted.insert(range.clone());
            lost.insert(range);
        }
    }

    /// Rows that are gone, by reason.
    pub(crate) fn gone_rows(&self) -> BTreeMap<Reason, u64> {
        let mut rows = BTreeMap::new();
        for (reason, lost) in self.logs.values().flat_map(|log| &log.lost) {
            *rows.entry(*reason).or_default() += lost.len();
        }
        if self.went_rows > 0 {
            rows.insert(Reason::Budget, self.went_rows);
        }
        rows
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

    /// The roll-ups in a file, by log.
    pub(crate) fn rolled_in(&self, file: u32) -> BTreeMap<LogId, Vec<Place>> {
        let mut found: BTreeMap<LogId, Vec<Place>> = BTreeMap::new();
        for (id, log) in &self.logs {
            let places = log.rolled.iter().map(|(_, entry)| entry.place);
            let places: Vec<Place> = places.filter(|place| place.file == file).collect();
            if !places.is_empty() {
                found.insert(*id, places);
            }
        }
        found
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

    /// Forgets one block, so that it is asked for again: what is no longer held goes for this reason.
    pub(crate) fn forget_block(&mut self, key: &BlockKey, reason: Reason) {
        let log = self.logs.get_mut(&key.log);
        if let Some(rows) = log.and_then(|log| log.uncover(key.first)) {
            self.lose(key.log, &rows, reason);
        }
        self.unqueue(key);
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

    /// Says so when the disk has not answered a write of the spool for long: nothing after it is safe.
    pub(crate) fn hung(&self, now: Instant) -> Option<String> {
        let since = now.saturating_duration_since(self.spooling?);
        (since >= HUNG).then(|| {
            let seconds = since.as_secs();
            format!("fresh rows are in memory only: the disk has not answered for {seconds} s")
        })
    }

    /// Counts an identity with two signed contents and keeps the loser as evidence.
    pub(crate) fn conflict(&mut self, loser: Vec<u8>) {
        self.conflicts += 1;
        if self.evidence.len() < 64 {
            self.evidence.push(loser);
        }
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

    /// Forgets the first of too many logs of which nothing is left.
    pub(crate) fn forget_empty_logs(&mut self) {
        let mut empty: BTreeMap<Origin, Vec<LogId>> = BTreeMap::new();
        for (id, log) in &self.logs {
            if log.held.is_empty() && log.rolled.iter().next().is_none() {
                empty.entry(id.origin).or_default().push(*id);
            }
        }
        for (_, logs) in empty {
            let over = logs.len().saturating_sub(MAX_EMPTY_LOGS);
            for id in &logs[..over] {
                let log = self.logs.remove(id);
                let went = log.map_or(0, |log| log.gone.len());
                self.went_rows = self.went_rows.saturating_sub(went);
                self.unnoted.retain(|(log, _), _| log != id);
                self.forgotten += 1;
            }
        }
    }

    /// Rows that went or were lost, by log and reason.
    pub(crate) fn gone_by_log(&self) -> BTreeMap<(LogId, Reason), IntervalSet> {
        let mut all = BTreeMap::new();
        for (id, log) in &self.logs {
            let lost = log.lost.iter().map(|(reason, rows)| (*reason, rows));
            for (reason, rows) in lost.chain([(Reason::Budget, &log.gone)]) {
                if !rows.is_empty() {
                    all.insert((*id, reason), rows.clone());
                }
            }
        }
        all
    }

    /// How many epochs of an origin have rows here.
    pub(crate) fn epochs(&self, origin: &Origin) -> usize {
        self.logs_of(origin)
            .filter(|(_, log)| !log.held.is_empty())
            .count()
    }

    pub(crate) fn logs_of(&self, origin: &Origin) -> impl Iterator<Item = (&LogId, &Log)> {
        let log = |store, counter, nonce| LogId {
            origin: *origin,
            store: StoreId(store),
            epoch: Epoch { counter, nonce },
        };
        self.logs
            .range(log(0, 0, 0)..=log(u64::MAX, u32::MAX, u64::MAX))
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
}
