//! Keeping the store within its bytes: what goes becomes a roll-up first, and is remembered as gone.
//!
//! The bound covers everything below the store's directory, and holds to within one generation. What was set aside goes
//! first, then whole units in the order of `plan`. A unit that goes: its roll-up is written and synced, the index in memory
//! turns to the roll-up, `gone` is written, then its files are deleted; a power cut in between leaves both, and the finer one
//! counts.
//! A roll-up that would not be smaller than what it stands for is not made.
//! Absent: what goes first (`plan`); looking at samples' wall time.

use std::collections::BTreeMap;
use std::io;

use crate::attic::Place;
use crate::block::Block;
use crate::interval::IntervalSet;
use crate::key::block::BlockKey;
use crate::key::gone::Reason;
use crate::open::Shared;
use crate::plan::{self, APART_FROM, Class, Kept, ORIGIN_SHARE, Unit};
use crate::query::Step;
use crate::rollup::{Fold, HALF_FULL, Rollup, RollupHead, rollups};
use crate::sample::{LogId, Origin};
use crate::shelf::{Loads, locked};

/// Blocks read at once.
const BATCH: usize = 32;
/// Units that go in one turn of the writer at most; the rest goes with the next.
const MOST: usize = 16;

/// Roll-ups just written.
type Made = Vec<(RollupHead, Place)>;

impl Shared {
    /// Where new blocks of an origin go.
    pub(crate) fn class_for(&self, origin: &Origin, loads: &Loads) -> Class {
        let load = loads.get(origin).copied().unwrap_or(0);
        if self.keys.is_own(origin) {
            Class::Own
        } else if load > self.limit_bytes() / APART_FROM {
            Class::Apart(*origin)
        } else {
            Class::Copies
        }
    }

    /// Brings the directory below its bound, each tier below its share and each other origin below its quarter.
    pub(crate) fn evict(&self) {
        for _ in 0..MOST {
            if locked(&self.orders).stop {
                return;
            }
            let loads = self.shelf.loads(None);
            let most = self.limit_bytes() / ORIGIN_SHARE;
            let over = loads
                .iter()
                .filter(|(origin, bytes)| **bytes > most && !self.keys.is_own(origin));
            let over: Vec<Origin> = over.map(|(origin, _)| *origin).collect();
            self.state().over_share.clone_from(&over);
            let mut total = self.disk.bytes_below(&self.dir);
            if total > self.limit_bytes() {
                total = total.saturating_sub(self.shelf.clear_quarantine());
            }
            if total <= self.limit_bytes() && over.is_empty() && self.tiers_fit() {
                return;
            }
            let units = self.units();
            let Some(unit) = plan::next(&units, total, self.limit_bytes(), &over) else {
                return;
            };
            let gone = if unit.tier == Step::Raw {
                self.evict_generation(unit)
            } else {
                self.evict_file(unit)
            };
            if let Err(e) = gone {
                tracing::warn!(number = unit.number, error = %e, "what should go could not be removed");
                return;
            }
        }
    }

    fn tiers_fit(&self) -> bool {
        let attic = locked(&self.attic);
        [Step::S10, Step::M1, Step::H1].into_iter().all(|tier| {
            let of_tier = attic.files().filter(|(_, file)| file.tier == tier);
            let bytes: u64 = of_tier.map(|(_, file)| file.bytes).sum();
            bytes <= plan::share(tier, self.limit_bytes())
        })
    }

    fn units(&self) -> Vec<Unit> {
        let writing = self.shelf.writing();
        let numbers = self.shelf.numbers().unwrap_or_default();
        let mut units: Vec<Unit> = numbers
            .into_iter()
            .map(|number| {
                let class = self.class_of(number);
                Unit {
                    number,
                    tier: Step::Raw,
                    class,
                    bytes: self.disk.bytes_below(&self.shelf.path(number)),
                    delivered: self.state().is_delivered(number),
                    writing: writing.contains_key(&number),
                }
            })
            .collect();
        let attic = locked(&self.attic);
        units.extend(attic.files().map(|(number, file)| Unit {
            number,
            tier: file.tier,
            class: match file.class {
                // Several origins' roll-ups lie together.
                Kept::Apart => Class::Apart(Origin([0; 32])),
                Kept::Copies => Class::Copies,
                Kept::Own => Class::Own,
            },
            bytes: file.bytes,
            delivered: true,
            writing: false,
        }));
        units
    }

    /// Whose rows a generation holds.
    pub(crate) fn class_of(&self, number: u32) -> Class {
        match self.shelf.kind(number) {
            Kept::Own => Class::Own,
            Kept::Copies => Class::Copies,
            Kept::Apart => {
                let loads = self.shelf.loads(Some(number));
                let origin = loads.into_keys().next();
                // One with nothing to read in it is nobody's, and must not become everybody's.
                Class::Apart(origin.unwrap_or(Origin([0; 32])))
            }
        }
    }

    fn evict_generation(&self, unit: &Unit) -> io::Result<()> {
        let went = self.state().only_in(unit.number);
        let made = self.roll_up(unit, &went).unwrap_or_else(|e| {
            tracing::warn!(generation = unit.number, error = %e, "no roll-up of what goes");
            Made::new()
        });
        {
            let mut state = self.state();
            state.forget_generation(unit.number);
            state.went(&went);
            for (head, place) in made {
                let log = state.logs.entry(head.log).or_default();
                log.rolled.insert(&head, place);
            }
        }
        let noted = locked(&self.gone).add(&went, Reason::Budget);
        if let Err(e) = noted {
            tracing::warn!(generation = unit.number, error = %e, "what retention took is only remembered until the next start");
        }
        self.shelf.remove(unit.number)
    }

    /// Writes the finest roll-up of rows that are about to go.
    fn roll_up(&self, unit: &Unit, went: &BTreeMap<LogId, IntervalSet>) -> io::Result<Made> {
        let keys: Vec<BlockKey> = self.state().blocks_of(unit.number);
        let mut made = Made::new();
        for of_log in keys.chunk_by(|a, b| a.log == b.log) {
            let log = of_log[0].log;
            let Some(rows) = went.get(&log) else {
                continue;
            };
            let mut shrink = Shrink::new(self, log, Step::S10, unit.class.kept());
            for batch in of_log.chunks(BATCH) {
                for bytes in self.fetch(batch).into_iter().flatten() {
                    if let Ok(block) = Block::read(&bytes) {
                        shrink.fold.block(&block, rows);
                        shrink.replaced += bytes.len();
                    }
                }
                shrink.write(HALF_FULL)?;
            }
            made.extend(shrink.finish()?);
        }
        Ok(made)
    }

    /// Replaces a file of roll-ups by coarser ones.
    fn evict_file(&self, unit: &Unit) -> io::Result<()> {
        let coarser = match unit.tier {
            Step::S10 => Some(Step::M1),
            Step::M1 => Some(Step::H1),
            Step::Raw | Step::H1 => None,
        };
        let mut made = Made::new();
        if let Some(tier) = coarser {
            for (log, places) in self.state().rolled_in(unit.number) {
                let mut shrink = Shrink::new(self, log, tier, unit.class.kept());
                for place in places {
                    let body = locked(&self.attic).read(&place);
                    if let Some(Ok(rollup)) = body.as_ref().map(|body| Rollup::read(body)) {
                        rollup
                            .buckets()
                            .into_iter()
                            .for_each(|bucket| shrink.fold.bucket(bucket));
                        shrink.replaced += body.map_or(0, |body| body.len());
                    }
                    shrink.write(HALF_FULL)?;
                }
                made.extend(shrink.finish()?);
            }
        }
        {
            let mut state = self.state();
            for log in state.logs.values_mut() {
                log.rolled.forget_file(unit.number);
            }
            for (head, place) in made {
                let log = state.logs.entry(head.log).or_default();
                log.rolled.insert(&head, place);
            }
        }
        locked(&self.attic).remove(unit.number)
    }

    /// Takes up the roll-ups found at open, once it is known which rows are held.
    pub(crate) fn find_rolled(&self) {
        let found = std::mem::take(&mut *locked(&self.found));
        let mut state = self.state();
        for (head, place) in found {
            let log = state.logs.entry(head.log).or_default();
            log.rolled.found(&head, place, &log.held);
            let rows: IntervalSet = [head.first..=head.last].into_iter().collect();
            for range in rows.subtract(&log.held).ranges() {
                log.gone.insert(range);
            }
        }
    }
}

/// One log's roll-ups on their way into the attic.
struct Shrink<'s> {
    shared: &'s Shared,
    log: LogId,
    tier: Step,
    class: Kept,
    fold: Fold,
    /// Bytes of what the buckets stand for that are not written yet.
    replaced: usize,
    made: Made,
}

impl<'s> Shrink<'s> {
    fn new(shared: &'s Shared, log: LogId, tier: Step, class: Kept) -> Self {
        Self {
            shared,
            log,
            tier,
            class,
            fold: Fold::new(tier),
            replaced: 0,
            made: Made::new(),
        }
    }

    /// Writes the buckets that are done, where they have so many values.
    fn write(&mut self, least: usize) -> io::Result<()> {
        let buckets = self.fold.take(least);
        if buckets.is_empty() {
            return Ok(());
        }
        let bodies = rollups(&self.log, self.tier, &buckets);
        let replaced = std::mem::take(&mut self.replaced);
        if bodies.iter().map(Vec::len).sum::<usize>() >= replaced {
            return Ok(());
        }
        let places = locked(&self.shared.attic).append(self.tier, self.class, &bodies)?;
        for (body, place) in bodies.iter().zip(places) {
            // Just written here, so it has a head.
            self.made
                .extend(RollupHead::peek(body).ok().map(|head| (head, place)));
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Made> {
        self.fold.close();
        self.write(0)?;
        Ok(self.made)
    }
}
