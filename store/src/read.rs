//! What the store answers about what it holds: sets, parcels for other nodes, points, counts.
//!
//! Sets come from memory. Whatever needs rows walks a plan made in one short look at the state: tail rows as they are in
//! memory, blocks fetched 32 at a time, so that a long answer holds neither the lock nor much memory. A query takes what it
//! needs as it lies on the disk instead (`piece`), packs as packs.
//! A block that is damaged is forgotten (and so asked for again); a generation that fails is verified and, if it is
//! damaged, set aside; neither fails the call. Points and counts wait for the generations that are still being opened.
//! Absent: what the points of a query are (`query`), and going over its range (`ask`).

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use crate::answer::{LogTally, Parcel, Quarantined, Stats, Tier};
use crate::attic::Place;
use crate::block::{Block, MAX_PACK_BLOCKS};
use crate::engine::{Engine, EngineError};
use crate::error::StoreError;
use crate::interval::IntervalSet;
use crate::key::block::BlockKey;
use crate::key::gone::Reason;
use crate::open::{Shared, Store};
use crate::packer::{self, Piece};
use crate::plan::Kept;
use crate::query;
use crate::retain::Room;
use crate::row::SignedRow;
use crate::sample::{LogId, Origin, Seq};
use crate::shelf::locked;
use crate::state::{Log, PENDING};

/// How long questions wait for the generations at start; a hundred of them open in a few seconds.
pub(crate) const OPENING: Duration = Duration::from_secs(30);
/// Blocks fetched at once.
const BATCH: usize = 32;

/// A row, block or roll-up to be walked.
pub(crate) enum Step {
    Row(Arc<[u8]>),
    Block(BlockKey),
    Rolled(Place),
}

impl Store {
    /// What is held, per log.
    pub fn held(&self) -> BTreeMap<LogId, IntervalSet> {
        self.sets(|log| &log.held)
    }

    /// Whether all of a run of rows is held.
    pub fn holds(&self, log: &LogId, rows: RangeInclusive<Seq>) -> bool {
        let state = self.shared.state();
        state.logs.get(log).is_some_and(|log| log.held.covers(rows))
    }

    /// What is held of one origin.
    pub fn held_of(&self, origin: &Origin) -> BTreeMap<LogId, IntervalSet> {
        let state = self.shared.state();
        let logs = state
            .logs_of(origin)
            .filter(|(_, log)| !log.held.is_empty());
        logs.map(|(id, log)| (*id, log.held.clone())).collect()
    }

    /// What was held and went by retention: not to be asked for again.
    pub fn gone(&self) -> BTreeMap<LogId, IntervalSet> {
        self.sets(|log| &log.gone)
    }

    /// What was lost here by mischance, and why: taken again from whoever has it.
    pub fn lost(&self) -> BTreeMap<LogId, BTreeMap<Reason, IntervalSet>> {
        let state = self.shared.state();
        let logs = state.logs.iter().filter(|(_, log)| !log.lost.is_empty());
        logs.map(|(id, log)| (*id, log.lost.clone())).collect()
    }

    /// Origins whose key had signed two contents under one identity before this start, and how often that is in evidence.
    pub fn accused(&self) -> BTreeMap<Origin, u64> {
        self.shared.state().accused.clone()
    }

    /// What the disk has room for; nothing else need be asked for.
    pub fn room(&self) -> Room {
        self.shared.state().room
    }

    fn sets(&self, set: fn(&Log) -> &IntervalSet) -> BTreeMap<LogId, IntervalSet> {
        let state = self.shared.state();
        let sets = state.logs.iter().map(|(id, log)| (*id, set(log)));
        sets.filter(|(_, set)| !set.is_empty())
            .map(|(id, set)| (id, set.clone()))
            .collect()
    }

    /// Rows and blocks of a range, in order, until `max_bytes` are reached; at least one if any is held.
    /// Blocks are whole even where the range covers only some of their rows.
    pub fn export(
        &self,
        log: &LogId,
        range: RangeInclusive<Seq>,
        max_bytes: usize,
    ) -> Result<Vec<Parcel>, StoreError> {
        let plan = self.plan(log, |held| {
            let blocks = held
                .blocks_in(&range)
                .into_iter()
                .map(|(first, _)| first)
                .collect();
            (blocks, range.clone())
        });
        let (mut parcels, mut size) = (Vec::new(), 0);
        self.walk(plan, |step, bytes| {
            if size + bytes.len() > max_bytes && !parcels.is_empty() {
                return ControlFlow::Break(());
            }
            size += bytes.len();
            parcels.push(match step {
                Step::Row(_) => Parcel::Row(bytes.to_vec()),
                Step::Block(_) | Step::Rolled(_) => Parcel::Block(bytes.to_vec()),
            });
            ControlFlow::Continue(())
        });
        Ok(parcels)
    }

    /// The newest row of an origin. Its signature is zero where only the sealed block is left.
    pub fn latest(&self, origin: &Origin) -> Option<Arc<SignedRow>> {
        let newest = {
            let state = self.shared.state();
            if let Some(row) = state.latest.get(origin) {
                return Some(row.clone());
            }
            let blocks = state.logs_of(origin).filter_map(|(id, log)| {
                let (first, meta) = log.blocks.last_key_value()?;
                let key = BlockKey {
                    log: *id,
                    first: *first,
                };
                Some((*meta.wall_ms(log.fix()).end(), key))
            });
            blocks.max()?.1
        };
        let bytes = self.fetch(&[newest]).pop().flatten()?;
        let row = Block::read(&bytes).ok()?.rows().pop()?;
        let row = Arc::new(SignedRow {
            row,
            signature: [0; 64],
        });
        self.shared
            .state()
            .offer_latest(&row, self.shared.disk.wall_ms());
        Some(row)
    }

    /// Reads everything and counts it, as soon as the generations are open. What cannot be read is not counted, and not
    /// held afterwards.
    pub fn tally(&self) -> Vec<LogTally> {
        self.wait_opened(OPENING);
        let logs: Vec<LogId> = self.held().into_keys().collect();
        logs.into_iter().map(|log| self.tally_of(log)).collect()
    }

    fn tally_of(&self, log: LogId) -> LogTally {
        let mut hasher = blake3::Hasher::new();
        let (mut rows, mut samples) = (0, 0);
        let plan = self.plan(&log, |held| {
            (held.blocks.keys().copied().collect(), 1..=Seq::MAX)
        });
        let mut done = 0;
        let mut count = |row: &crate::row::Row| {
            // Blocks may share rows.
            if row.seq <= done {
                return;
            }
            done = row.seq;
            rows += 1;
            samples += row.samples() as u64;
            hasher.update(&row.canonical());
        };
        self.walk(plan, |step, bytes| {
            match step {
                Step::Row(_) => SignedRow::decode(bytes)
                    .iter()
                    .for_each(|row| count(&row.row)),
                Step::Block(_) => {
                    Block::read(bytes)
                        .iter()
                        .for_each(|block| block.rows().iter().for_each(&mut count));
                }
                Step::Rolled(_) => {}
            }
            ControlFlow::Continue(())
        });
        LogTally {
            log,
            rows,
            samples,
            digest: *hasher.finalize().as_bytes(),
        }
    }

    /// The newest row of the running epoch that would survive a power cut. None: none yet.
    pub fn synced(&self) -> Option<(LogId, Seq)> {
        self.shared.state().synced
    }

    /// How the store is doing. Looks at the directory: for people and gauges, not for every tick.
    pub fn stats(&self) -> Stats {
        let bytes = self.shared.disk.bytes_below(&self.shared.dir);
        let quarantined = self.shared.shelf.quarantined().into_iter();
        let quarantined = quarantined
            .map(|(name, reason)| Quarantined { name, reason })
            .collect();
        let generations = self
            .shared
            .shelf
            .numbers()
            .map_or(0, |numbers| numbers.len() as u32);
        let rolled_bytes: Vec<(query::Step, u64)> = {
            let attic = locked(&self.shared.attic);
            let files = attic.files().map(|(_, file)| (file.tier, file.bytes));
            files.collect()
        };
        let state = self.shared.state();
        let spans: Vec<_> = state.logs.values().filter_map(Log::wall_ms).collect();
        let mut tiers: BTreeMap<query::Step, Tier> = BTreeMap::new();
        for (tier, rows) in state.logs.values().flat_map(|log| log.rolled.rows()) {
            tiers.entry(tier).or_default().rows += rows;
        }
        for (tier, bytes) in rolled_bytes {
            tiers.entry(tier).or_default().bytes += bytes;
        }
        let schemas = locked(&self.shared.schemas);
        let series = state
            .latest
            .values()
            .filter_map(|row| schemas.width(&row.row.schema));
        Stats {
            forgotten: state.forgotten,
            bytes,
            limit_bytes: self.shared.limit_bytes(),
            oldest_ms: spans.iter().map(|span| *span.start()).min(),
            newest_ms: spans.iter().map(|span| *span.end()).max(),
            series: series.sum::<usize>() as u64,
            rows: state.logs.values().map(|log| log.held.len()).sum(),
            generations,
            ready: state.ready,
            quarantined,
            conflicts: state.conflicts,
            damaged: state.damaged,
            lost: state.lost,
            refused: state.refused,
            unkept: state.unkept,
            gone_rows: state.gone_rows(),
            over_share: state.over_share.clone(),
            tiers,
            health: state
                .ailments
                .values()
                .cloned()
                .chain(state.hung(self.shared.now()))
                .collect::<Vec<_>>()
                .join("; "),
            synced: state.synced,
        }
    }

    /// The rows of a log to be walked: the named blocks, and the tail rows of a range, in order of seq.
    fn plan(
        &self,
        id: &LogId,
        choose: impl FnOnce(&Log) -> (Vec<Seq>, RangeInclusive<Seq>),
    ) -> Vec<Step> {
        let state = self.shared.state();
        let Some(log) = state.logs.get(id) else {
            return Vec::new();
        };
        let (blocks, range) = choose(log);
        if range.is_empty() {
            return Vec::new();
        }
        let key = |first| Step::Block(BlockKey { log: *id, first });
        let rows = log
            .tail
            .range(range)
            .map(|(seq, bytes)| (*seq, Step::Row(bytes.clone())));
        let mut steps: Vec<_> = blocks
            .into_iter()
            .map(|first| (first, key(first)))
            .chain(rows)
            .collect();
        steps.sort_by_key(|(seq, _)| *seq);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    fn walk(&self, plan: Vec<Step>, mut each: impl FnMut(&Step, &[u8]) -> ControlFlow<()>) {
        for batch in plan.chunks(BATCH) {
            let keys = batch.iter().filter_map(|step| match step {
                Step::Block(key) => Some(*key),
                Step::Row(_) | Step::Rolled(_) => None,
            });
            let mut blocks = self.fetch(&keys.collect::<Vec<_>>()).into_iter();
            for step in batch {
                let bytes = match step {
                    Step::Row(bytes) => Some(bytes.clone()),
                    Step::Block(_) => blocks.next().flatten(),
                    Step::Rolled(_) => None,
                };
                if bytes.is_some_and(|bytes| each(step, &bytes).is_break()) {
                    return;
                }
            }
        }
    }

    /// The encoded blocks under `keys`, in that order. None: not held, or not any more.
    pub(crate) fn fetch(&self, keys: &[BlockKey]) -> Vec<Option<Arc<[u8]>>> {
        self.shared.fetch(keys)
    }
}

impl Shared {
    /// The encoded blocks under `keys`, in that order. None: not held, or not any more.
    pub(crate) fn fetch(&self, keys: &[BlockKey]) -> Vec<Option<Arc<[u8]>>> {
        let mut found: Vec<Option<Arc<[u8]>>> = vec![None; keys.len()];
        let mut on_disk: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        {
            let state = self.state();
            for (at, key) in keys.iter().enumerate() {
                let meta = state
                    .logs
                    .get(&key.log)
                    .and_then(|log| log.blocks.get(&key.first));
                match meta.map(|meta| meta.generation) {
                    Some(PENDING) => found[at] = state.pending.get(key).cloned(),
                    Some(generation) => on_disk.entry(generation).or_default().push(at),
                    None => {}
                }
            }
        }
        for (generation, places) in on_disk {
            let wanted: Vec<BlockKey> = places.iter().map(|at| keys[*at]).collect();
            let look = |engine: &mut Engine, keys: &Vec<_>| packer::blocks(engine, keys);
            let Some(blocks) = self.read(generation, wanted, look) else {
                continue;
            };
            for (at, bytes) in places.into_iter().zip(blocks) {
                if bytes.is_none() {
                    self.forget_damaged(&keys[at]);
                }
                found[at] = bytes.map(Into::into);
            }
        }
        found
    }

    /// What has the first of some blocks of one log, as it lies on the disk, and how many of them it answers for. None: what
    /// that would be is not held, or not any more.
    pub(crate) fn piece(&self, keys: &[BlockKey]) -> (Option<Piece>, usize) {
        let (generation, keys) = {
            let state = self.state();
            let lies = |key: &BlockKey| {
                let meta = state.logs.get(&key.log)?.blocks.get(&key.first)?;
                Some(meta.generation)
            };
            let Some(generation) = keys.first().and_then(lies) else {
                return (None, 1);
            };
            if generation == PENDING {
                let bytes = state.pending.get(&keys[0]);
                return (bytes.map(|bytes| Piece::Block(bytes.to_vec())), 1);
            }
            let together = keys.iter().take(MAX_PACK_BLOCKS);
            let together = together.take_while(|key| lies(key) == Some(generation));
            (generation, together.copied().collect::<Vec<_>>())
        };
        let look = |engine: &mut Engine, keys: &Vec<_>| packer::piece(engine, keys);
        let first = keys[0];
        let Some(found) = self.read(generation, keys, look) else {
            return (None, 1);
        };
        let count = match &found {
            Some(Piece::Pack(_, count)) => *count,
            Some(Piece::Block(_)) => 1,
            None => {
                self.forget_damaged(&first);
                1
            }
        };
        (found, count)
    }

    /// Looks twice; between the two the generation is verified, and given up only if it fails that.
    pub(crate) fn read<K: Clone + Send + 'static, T: Send + 'static>(
        &self,
        generation: u32,
        keys: K,
        look: fn(&mut Engine, &K) -> Result<T, EngineError>,
    ) -> Option<T> {
        let once = |keys: K| {
            let look = move |engine: &mut Engine| look(engine, &keys);
            self.shelf.read(generation, look)
        };
        let why = match once(keys.clone()) {
            Ok(found) => return Some(found),
            Err(why) => why,
        };
        tracing::warn!(generation, why, "generation fails a read, verifying it");
        if let Err(damage) = self.shelf.examine(generation, self.check.as_ref()) {
            self.set_aside(generation, &format!("{why}; {damage}"));
            return None;
        }
        let again = once(keys);
        if let Err(why) = &again {
            tracing::warn!(generation, why, "generation verifies and cannot be read");
        }
        again.ok()
    }

    /// A roll-up's body. None: damaged, which costs these rows for good, or gone meanwhile.
    pub(crate) fn rolled(&self, place: &Place) -> Option<Arc<[u8]>> {
        let body = locked(&self.attic).read(place);
        body.map(Into::into)
    }

    pub(crate) fn forget_damaged(&self, key: &BlockKey) {
        let mut state = self.state();
        state.damaged += 1;
        state.own_damaged |= self.keys.is_own(&key.log.origin);
        state.forget_block(key, Reason::Damaged);
        tracing::warn!(origin = %key.log.origin, seq = key.first, "a sealed block is damaged, it is asked for again");
    }

    /// Gives a generation up: it moves to quarantine, and what it held is no longer held.
    pub(crate) fn set_aside(&self, generation: u32, why: &str) {
        self.shelf.set_aside(generation, why);
        let mut state = self.state();
        state.own_damaged |= self.shelf.kind(generation) == Kept::Own;
        for (log, rows) in state.forget_generation(generation) {
            state.lose(log, &rows, Reason::Damaged);
        }
    }
}

impl Log {
    /// The wall time of its oldest and newest row, as far as that is known without reading blocks.
    fn wall_ms(&self) -> Option<RangeInclusive<i64>> {
        let fix = self.fix();
        let ends = [self.tail.values().next(), self.tail.values().next_back()];
        let rows = ends
            .into_iter()
            .flatten()
            .filter_map(|bytes| SignedRow::decode(bytes).ok());
        let mut spans: Vec<(i64, i64)> = rows
            .map(|row| (row.row.wall_ms(), row.row.wall_ms()))
            .collect();
        let metas = [self.blocks.first_key_value(), self.blocks.last_key_value()];
        let metas = metas.into_iter().flatten();
        spans.extend(metas.map(|(_, meta)| meta.wall_ms(fix).into_inner()));
        spans.extend(
            self.rolled
                .iter()
                .map(|(_, entry)| entry.wall_ms(fix).into_inner()),
        );
        let low = spans.iter().map(|(low, _)| *low).min()?;
        let high = spans.iter().map(|(_, high)| *high).max()?;
        Some(low..=high)
    }
}
