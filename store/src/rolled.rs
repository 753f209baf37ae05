//! Which roll-ups of a log there are: what each covers, when that was, where it lies.
//!
//! Invariant: no two cover the same row, and none covers a row that is held; of two found at open, after a power cut between
//! writing the coarser and removing the finer, the finer one counts.
//! Absent: their values (`attic`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::attic::Place;
use crate::interval::IntervalSet;
use crate::query::Step;
use crate::rollup::RollupHead;
use crate::row::wall_range;
use crate::sample::Seq;

/// A roll-up without its values, about 100 B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) tier: Step,
    pub(crate) last: Seq,
    pub(crate) place: Place,
    boot_ms: (u64, u64),
    offset_ms: (i64, i64),
    /// The offset of its first row whose clock was synced.
    synced_ms: Option<i64>,
}

/// The roll-ups of one log, by first seq.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rolled(BTreeMap<Seq, Entry>);

impl Entry {
    fn new(head: &RollupHead, place: Place) -> Self {
        Self {
            tier: head.tier,
            last: head.last,
            place,
            boot_ms: (*head.boot_ms.start(), *head.boot_ms.end()),
            offset_ms: (*head.offset_ms.start(), *head.offset_ms.end()),
            synced_ms: head.synced_ms,
        }
    }

    /// The wall times its rows can have, when unsynced ones take `fix`: never narrower than the truth.
    pub(crate) fn wall_ms(&self, fix: Option<i64>) -> RangeInclusive<i64> {
        wall_range(self.boot_ms, self.offset_ms, fix)
    }
}

impl Rolled {
    /// Adds one that was just made of rows or of finer roll-ups, which have left.
    pub(crate) fn insert(&mut self, head: &RollupHead, place: Place) {
        self.0.insert(head.first, Entry::new(head, place));
    }

    /// Adds one found at open unless finer ones, or rows that are held, are there instead; coarser ones leave for it.
    pub(crate) fn found(&mut self, head: &RollupHead, place: Place, held: &IntervalSet) {
        let range = head.first..=head.last;
        if meets(held, &range) {
            return;
        }
        let there = self.0.range(..=head.last).rev();
        let there = there.take_while(|(_, entry)| entry.last >= head.first);
        let there: Vec<(Seq, Step)> = there.map(|(first, entry)| (*first, entry.tier)).collect();
        if there.iter().any(|(_, tier)| *tier <= head.tier) {
            return;
        }
        for (first, _) in there {
            self.0.remove(&first);
        }
        self.insert(head, place);
    }

    /// Takes out what lies in a file.
    pub(crate) fn forget_file(&mut self, file: u32) {
        self.0.retain(|_, entry| entry.place.file != file);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        self.0.iter().map(|(first, entry)| (*first, entry))
    }

    /// The first row whose clock was synced lies at this seq or a little later; its offset.
    pub(crate) fn synced(&self) -> Option<(Seq, i64)> {
        self.iter()
            .find_map(|(first, entry)| Some((first, entry.synced_ms?)))
    }

    /// How many rows each tier stands for.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Step, u64)> + '_ {
        self.iter()
            .map(|(first, entry)| (entry.tier, u64::from(entry.last - first) + 1))
    }
}

fn meets(set: &IntervalSet, range: &RangeInclusive<Seq>) -> bool {
    let range: IntervalSet = [range.clone()].into_iter().collect();
    !set.intersect(&range).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;
    use crate::rollup::{Fold, rollups};

    #[test]
    fn of_two_for_the_same_rows_the_finer_counts_and_held_rows_before_both() {
        let head = |tier, rows: RangeInclusive<u32>| {
            let schema = given::a_schema(&["a"]);
            let rows: Vec<_> = rows
                .map(|seq| given::a_row(seq, &schema, &[Some(1)]))
                .collect();
            let block = crate::Draft::build(&rows).unwrap().seal(&|_| [7; 64]);
            let mut fold = Fold::new(tier);
            fold.block(&block, &[1..=Seq::MAX].into_iter().collect());
            let body = rollups(&given::a_log(), tier, &fold.finish()).remove(0);
            RollupHead::peek(&body).unwrap()
        };
        let place = Place::default();
        for order in [[Step::M1, Step::S10], [Step::S10, Step::M1]] {
            let mut rolled = Rolled::default();
            let held = [61..=120].into_iter().collect();
            for tier in order {
                rolled.found(&head(tier, 1..=60), place, &held);
                rolled.found(&head(tier, 61..=120), place, &held);
            }
            let there: Vec<_> = rolled
                .iter()
                .map(|(first, entry)| (first, entry.tier))
                .collect();
            assert_eq!(there, [(1, Step::S10)]);
        }
    }
}
