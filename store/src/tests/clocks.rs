//! Clocks that are set: what was written stays, and the change is found by whoever holds the rows.

use super::world::*;
use super::*;

const DAY_MS: i64 = 86_400_000;
const ME: Origin = Origin([1; 32]);
const RIGHT: i64 = 1_767_300_000_000;

#[test]
fn a_step_of_thirty_days_rewrites_nothing_and_is_found_in_blocks_and_tail_on_every_holder() {
    for moved_ms in [30 * DAY_MS, -30 * DAY_MS] {
        for step_at in [2, 30, 60, 61, 121, 125] {
            let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (store, copy) = (open(dir.path(), ME), open(other.path(), Origin([2; 32])));
            copy.define(ME, delta()).unwrap();
            take(&store, 130, |seq| {
                let offset_ms = RIGHT + if seq >= step_at { moved_ms } else { 0 };
                (offset_ms, ClockSource::Ntp)
            });
            let log = *store.held().keys().next().unwrap();
            for parcel in store.export(&log, 1..=130, 1 << 20).unwrap() {
                match parcel {
                    Parcel::Row(bytes) => copy.append(SignedRow::decode(&bytes).unwrap()),
                    Parcel::Block(bytes) => copy.insert_block(&bytes),
                }
                .unwrap();
            }

            for held in [&store, &copy] {
                let changes = held.clock_changes(&ME);
                let found: Vec<_> = changes.iter().map(|c| (c.seq, c.moved_ms())).collect();
                assert_eq!(found, [(step_at, moved_ms)]);
                assert!(changes[0].was_synced);
                let at = RIGHT + moved_ms + i64::from(step_at) * 1_000;
                assert_eq!(changes[0].at_ms(), at);
            }
            let before = points(&store, RIGHT..=RIGHT + 131_000);
            assert_eq!(before.len(), step_at as usize - 1, "moved {moved_ms}");
            let after = RIGHT + moved_ms;
            let after = points(&store, after..=after + 131_000);
            assert_eq!(before.len() + after.len(), 130);
        }
    }
}

#[test]
fn one_fix_moves_the_whole_epoch_of_a_board_that_booted_in_the_past() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), ME);
    take(&store, 130, |seq| match seq {
        0..100 => (0, ClockSource::Unsynced),
        _ => (RIGHT, ClockSource::Ntp),
    });

    assert_eq!(points(&store, 0..=200_000), []);
    let found = points(&store, RIGHT..=RIGHT + 131_000);
    let wanted: Vec<_> = (1..=130).map(|seq| RIGHT + seq * 1_000).collect();
    assert_eq!(found, wanted);
    let changes = store.clock_changes(&ME);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].seq, changes[0].was_synced), (100, false));
}

#[test]
fn slow_drift_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), ME);
    take(&store, 200, |seq| {
        (RIGHT + i64::from(seq) * 51, ClockSource::Ntp)
    });
    assert_eq!(store.clock_changes(&ME), []);
    assert_eq!(store.clock_changes(&Origin([9; 32])), []);
}

/// A run of so many rows, a second each.
fn take(store: &Store, rows: Seq, clock: impl Fn(Seq) -> (i64, ClockSource)) {
    store.begin_epoch().unwrap();
    let schema = store.define(ME, delta()).unwrap();
    for seq in 1..=rows {
        let (offset_ms, source) = clock(seq);
        let clock = Clock {
            offset_ms,
            uncertainty_ms: 50,
            source,
        };
        let values = vec![Some(i64::from(seq)); 3];
        store
            .append_own(u64::from(seq) * 1_000, clock, schema, values)
            .unwrap();
    }
}

/// The times of one series' values.
fn points(store: &Store, range: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    let query = Query {
        origins: Some(vec![ME]),
        series: "b".to_owned(),
        from_ms: *range.start(),
        to_ms: *range.end(),
        step: Step::Raw,
        now_ms: None,
    };
    let found = store.query(&query).unwrap();
    let points = found.iter().flat_map(|series| &series.points);
    points
        .filter(|(_, value)| value.is_some())
        .map(|(at, _)| *at)
        .collect()
}
