//! What goes first when the store is over its bytes: a pure function of what there is.
//!
//! Each tier of roll-ups has a share of the bound, each other origin a quarter of it. In this order: roll-ups of a tier over
//! its share; what a single other origin has over its quarter; then, while the whole is over the bound, raw generations, and
//! last roll-ups. Within each: copies before own (first those of origins kept apart because they have much), delivered before
//! undelivered, old before new. Nothing that is being written goes.
//! Raw rows and roll-ups become the next coarser roll-up when they go, so what is called gone here is mostly smaller after.
//! Absent: doing it (`retain`); wall time.

use crate::query::Step;
use crate::sample::Origin;

/// The part of the bound that one other origin may take.
pub(crate) const ORIGIN_SHARE: u64 = 4;
/// An origin that has more than this part of the bound gets generations of its own, so that they can go by themselves.
pub(crate) const APART_FROM: u64 = 16;

/// Whose rows a generation or a file of roll-ups holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Of one other origin that has more than a sixteenth of the bound.
    Apart(Origin),
    /// Of other origins.
    Copies,
    /// This node's own; also what was written before there were classes.
    Own,
}

/// A class as directories and files name it: who it is that is kept apart, what is in them says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Apart,
    Copies,
    Own,
}

/// Something that goes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) number: u32,
    /// `Raw`: a generation of blocks; else a file of roll-ups.
    pub(crate) tier: Step,
    pub(crate) class: Class,
    pub(crate) bytes: u64,
    /// Every keeper has the rows in it.
    pub(crate) delivered: bool,
    pub(crate) writing: bool,
}

impl Class {
    pub(crate) fn kept(&self) -> Kept {
        match self {
            Self::Apart(_) => Kept::Apart,
            Self::Copies => Kept::Copies,
            Self::Own => Kept::Own,
        }
    }
}

/// What a tier may take of the bound. Of raw rows: all that is left.
pub(crate) fn share(tier: Step, limit_bytes: u64) -> u64 {
    match tier {
        Step::Raw => limit_bytes,
        Step::S10 => limit_bytes / 16,
        Step::M1 => limit_bytes / 8,
        Step::H1 => limit_bytes / 32,
    }
}

/// The next unit to go. `total`: everything the store takes; `over`: the origins that have more than their quarter. None:
/// all is within bounds, or nothing there may go.
pub(crate) fn next<'u>(
    units: &'u [Unit],
    total: u64,
    limit_bytes: u64,
    over: &[Origin],
) -> Option<&'u Unit> {
    let may_go = || units.iter().filter(|unit| !unit.writing);
    for tier in [Step::S10, Step::M1, Step::H1] {
        let bytes: u64 = units
            .iter()
            .filter(|unit| unit.tier == tier)
            .map(|unit| unit.bytes)
            .sum();
        if bytes > share(tier, limit_bytes)
            && let Some(unit) = may_go()
                .filter(|unit| unit.tier == tier)
                .min_by_key(|unit| turn(unit))
        {
            return Some(unit);
        }
    }
    let excess = |unit: &&Unit| {
        unit.tier == Step::Raw
            && matches!(unit.class, Class::Apart(origin) if over.contains(&origin))
    };
    let excess = may_go().filter(excess).min_by_key(|unit| turn(unit));
    if excess.is_some() || total <= limit_bytes {
        return excess;
    }
    may_go().min_by_key(|unit| (unit.tier, turn(unit)))
}

/// Who goes first within a tier.
fn turn(unit: &Unit) -> (u8, bool, u32) {
    let class = match unit.class {
        Class::Apart(_) => 0,
        Class::Copies => 1,
        Class::Own => 2,
    };
    (class, !unit.delivered, unit.number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GREEDY: Origin = Origin([9; 32]);

    fn unit(number: u32, tier: Step, class: Class, bytes: u64) -> Unit {
        Unit {
            number,
            tier,
            class,
            bytes,
            delivered: false,
            writing: false,
        }
    }

    /// The numbers of what goes until the rest is within its bound.
    fn all(mut units: Vec<Unit>, limit: u64, over: &[Origin]) -> Vec<u32> {
        let mut went = Vec::new();
        while let Some(next) = next(
            &units,
            units.iter().map(|unit| unit.bytes).sum(),
            limit,
            over,
        )
        .copied()
        {
            went.push(next.number);
            units.retain(|unit| unit.number != next.number);
        }
        went
    }

    #[test]
    fn copies_go_before_own_delivered_before_undelivered_old_before_new() {
        let raw = |number, class| unit(number, Step::Raw, class, 10);
        let delivered = Unit {
            delivered: true,
            ..raw(5, Class::Own)
        };
        let units = vec![
            raw(1, Class::Own),
            raw(2, Class::Copies),
            raw(4, Class::Own),
            delivered,
            raw(6, Class::Copies),
            raw(3, Class::Apart(GREEDY)),
        ];
        assert_eq!(all(units.clone(), 0, &[]), [3, 2, 6, 5, 1, 4]);
        assert_eq!(all(units.clone(), 45, &[]), [3, 2]);
        assert_eq!(all(units, 60, &[]), [0; 0]);
    }

    #[test]
    fn what_is_being_written_stays_and_raw_rows_go_before_what_is_left_of_them() {
        let writing = Unit {
            writing: true,
            ..unit(1, Step::Raw, Class::Copies, 10)
        };
        let units = vec![
            unit(2, Step::H1, Class::Copies, 0),
            unit(3, Step::Raw, Class::Own, 10),
            writing,
        ];
        assert_eq!(all(units, 5, &[]), [3, 2]);
    }

    #[test]
    fn a_tier_over_its_share_and_an_origin_over_its_quarter_go_though_there_is_room() {
        let units = vec![
            unit(1, Step::Raw, Class::Own, 10),
            unit(2, Step::S10, Class::Own, 60),
            unit(3, Step::S10, Class::Copies, 5),
            unit(4, Step::Raw, Class::Apart(GREEDY), 10),
        ];
        assert_eq!(all(units.clone(), 1_000, &[]), [3]);
        let first = next(&units[3..], 10, 1_000, &[GREEDY]);
        assert_eq!(first.map(|unit| unit.number), Some(4));
    }

    fn a_unit() -> impl Strategy<Value = Unit> {
        let tier = prop_oneof![6 => Just(Step::Raw), 1 => Just(Step::S10), 1 => Just(Step::M1), 1 => Just(Step::H1)];
        let class = prop_oneof![
            Just(Class::Own),
            Just(Class::Copies),
            Just(Class::Apart(GREEDY))
        ];
        (tier, class, 0u64..100, any::<bool>(), 0u8..8).prop_map(
            |(tier, class, bytes, delivered, writing)| Unit {
                number: 0,
                tier,
                class,
                bytes,
                delivered,
                writing: writing == 0,
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_there_is_ends_within_its_bounds_or_with_nothing_that_may_go(mut units in proptest::collection::vec(a_unit(), 0..30), limit in 0u64..2_000) {
            units.iter_mut().zip(1..).for_each(|(unit, number)| unit.number = number);
            let mut left = units.clone();
            let total = |left: &[Unit]| left.iter().map(|unit| unit.bytes).sum::<u64>();
            while let Some(gone) = next(&left, total(&left), limit, &[]).copied() {
                prop_assert!(!gone.writing);
                // Nothing that should have gone before it is still there.
                let before = |unit: &&Unit| !unit.writing && unit.tier == gone.tier && turn(unit) < turn(&gone);
                prop_assert_eq!(left.iter().find(before), None);
                left.retain(|unit| unit.number != gone.number);
            }
            let may_go: Vec<&Unit> = left.iter().filter(|unit| !unit.writing).collect();
            prop_assert!(total(&left) <= limit || may_go.is_empty());
            for tier in [Step::S10, Step::M1, Step::H1] {
                let bytes: u64 = left.iter().filter(|unit| unit.tier == tier).map(|unit| unit.bytes).sum();
                prop_assert!(bytes <= share(tier, limit) || may_go.iter().all(|unit| unit.tier != tier));
            }
        }
    }
}
