//! Which rows this node holds, awaits from its own disk, or has let go.
//!
//! The store's interval sets are the truth; between two readings of them what was stored since
//! is added here. `pending` rows are in hand and not yet stored: they are not missing.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use outlast_store::{Epoch, IntervalSet, LogId, Origin, Seq, StoreId};
use serde::{Deserialize, Serialize};

use super::digest;

/// The rows of one log that somebody holds, and those it held and let go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Rows that can be asked for.
    pub held: IntervalSet,
    /// Rows that were evicted there and aren't wanted back.
    pub gone: IntervalSet,
}

impl Coverage {
    /// How many ranges it has, of either kind.
    pub(super) fn ranges(&self) -> usize {
        self.held.ranges().len() + self.gone.ranges().len()
    }

    /// The same without all but so many of its newest ranges, of either kind.
    pub fn newest(self, ranges: usize) -> Self {
        let newest = |set: IntervalSet| {
            if set.ranges().len() <= ranges {
                return set;
            }
            set.ranges().rev().take(ranges).collect()
        };
        Self {
            held: newest(self.held),
            gone: newest(self.gone),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Holdings {
    held: BTreeMap<LogId, IntervalSet>,
    gone: BTreeMap<LogId, IntervalSet>,
    pending: BTreeMap<LogId, IntervalSet>,
}

impl Holdings {
    /// Takes the store's sets. The running log may be ahead of them: what lies above them is kept, what is missing below
    /// was lost with a damaged generation.
    pub(super) fn replace(
        &mut self,
        held: BTreeMap<LogId, IntervalSet>,
        gone: BTreeMap<LogId, IntervalSet>,
        running: Option<LogId>,
    ) {
        let ahead = running.and_then(|log| Some((log, self.held.remove(&log)?)));
        self.held = held;
        self.gone = gone;
        if let Some((log, rows)) = ahead {
            let gone = self.gone.get(&log).cloned().unwrap_or_default();
            let known = self.held.entry(log).or_default();
            let top = known.last().unwrap_or(0);
            let ahead = rows.ranges().rev().map_while(|range| {
                let first = (*range.start()).max(top.saturating_add(1));
                (first <= *range.end()).then(|| first..=*range.end())
            });
            *known = known.union(&ahead.collect()).subtract(&gone);
        }
    }

    pub(super) fn pending(&mut self, log: LogId, rows: RangeInclusive<Seq>) {
        self.pending.entry(log).or_default().insert(rows);
    }

    pub(super) fn stored(&mut self, log: LogId, rows: RangeInclusive<Seq>) {
        self.dropped(log, rows.clone());
        self.held.entry(log).or_default().insert(rows);
    }

    pub(super) fn dropped(&mut self, log: LogId, rows: RangeInclusive<Seq>) {
        if let Some(pending) = self.pending.get_mut(&log) {
            pending.remove(rows);
            if pending.is_empty() {
                self.pending.remove(&log);
            }
        }
    }

    pub(super) fn is_pending(&self, log: &LogId) -> bool {
        self.pending.contains_key(log)
    }

    pub(super) fn pending_logs(&self) -> impl Iterator<Item = &LogId> {
        self.pending.keys()
    }

    /// Those of `rows` that are neither held, pending nor gone.
    pub(super) fn lacking(&self, log: &LogId, rows: &IntervalSet) -> IntervalSet {
        let sets = [&self.held, &self.pending, &self.gone];
        let known = sets.into_iter().filter_map(|set| set.get(log));
        known.fold(rows.clone(), |rows, known| rows.subtract(known))
    }

    pub(super) fn held(&self) -> &BTreeMap<LogId, IntervalSet> {
        &self.held
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = Origin> + '_ {
        self.held.keys().map(|log| log.origin)
    }

    pub(super) fn held_of(&self, origin: &Origin) -> impl Iterator<Item = (&LogId, &IntervalSet)> {
        self.held.range(span(origin))
    }

    pub(super) fn newest(&self, origin: &Origin) -> Option<LogId> {
        self.held
            .range(span(origin))
            .next_back()
            .map(|(log, _)| *log)
    }

    /// Everything up to the newest row held of a log.
    pub(super) fn below_top(&self, log: &LogId) -> IntervalSet {
        let top = self.held.get(log).and_then(IntervalSet::last);
        top.map(|top| 1..=top).into_iter().collect()
    }

    pub(super) fn coverage(&self, log: &LogId) -> Coverage {
        let of = |sets: &BTreeMap<LogId, IntervalSet>| sets.get(log).cloned().unwrap_or_default();
        Coverage {
            held: of(&self.held),
            gone: of(&self.gone),
        }
    }

    pub(super) fn coverage_of(&self, origin: &Origin) -> BTreeMap<LogId, Coverage> {
        let logs = self
            .held
            .range(span(origin))
            .chain(self.gone.range(span(origin)));
        logs.map(|(log, _)| (*log, self.coverage(log))).collect()
    }

    /// Held and gone together, for every log of `origin` but one.
    pub(super) fn covered_of(
        &self,
        origin: &Origin,
        but: Option<&LogId>,
    ) -> BTreeMap<LogId, IntervalSet> {
        let coverage = self.coverage_of(origin).into_iter();
        coverage
            .filter(|(log, _)| Some(log) != but)
            .map(|(log, coverage)| (log, coverage.held.union(&coverage.gone)))
            .collect()
    }

    pub(super) fn closed_hash(&self, origin: &Origin, open: Option<&LogId>) -> [u8; 16] {
        digest::hash(&self.covered_of(origin, open))
    }
}

pub(super) fn span(origin: &Origin) -> RangeInclusive<LogId> {
    let log = |store, counter, nonce| LogId {
        origin: *origin,
        store: StoreId(store),
        epoch: Epoch { counter, nonce },
    };
    log(0, 0, 0)..=log(u64::MAX, u32::MAX, u64::MAX)
}
