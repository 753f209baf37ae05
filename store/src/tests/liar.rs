//! What an origin signs itself and must not get by with: times no clock shows, the last seq there is,
//! extremes in every value, rows nobody else can complete.

use super::*;
use crate::state::MAX_RANGES;

/// A signed row of `PEER` with this seq, times and values.
fn odd(seq: Seq, boot_ms: u64, offset_ms: i64, values: Vec<Option<i64>>) -> SignedRow {
    let mut row = row(PEER, 1, 0).row;
    row.seq = seq;
    row.boot_ms = boot_ms;
    row.clock.offset_ms = offset_ms;
    row.values = values;
    row.sign(&sign(PEER))
}

fn everything(step: Step) -> Query {
    Query {
        origins: None,
        series: "*".into(),
        from_ms: i64::MIN,
        to_ms: i64::MAX,
        step,
        now_ms: None,
    }
}

#[test]
fn times_no_clock_shows_are_refused_in_rows_and_blocks() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    for (boot_ms, offset_ms) in [
        (u64::MAX, 0),
        (1 << 62, 0),
        (0, i64::MAX),
        (0, i64::MIN),
        (u64::MAX, i64::MIN),
    ] {
        let row = odd(1, boot_ms, offset_ms, values(1));
        let refused = store.append(row.clone());
        assert!(
            matches!(refused, Err(StoreError::Malformed { .. })),
            "{refused:?}"
        );
        if let Ok(draft) = Draft::build(&[row.row]) {
            let block = draft.seal(&sign(PEER)).encode();
            assert!(store.insert_block(&block).is_err());
        }
    }
    assert_eq!(store.held().len(), 0);
    store.close().unwrap();
}

#[test]
fn extreme_values_and_the_last_seqs_there_are_break_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    let extremes = [i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MIN];
    for (at, seq) in [1, 2, 3, u32::MAX - 1, u32::MAX].into_iter().enumerate() {
        let values = (0..3).map(|i| Some(extremes[(at + i) % 6])).collect();
        let row = odd(seq, u64::from(seq), CLOCK.offset_ms, values);
        assert_eq!(store.append(row).unwrap(), Appended::New);
    }
    let rows: Vec<Row> = (1..=60)
        .map(|at| {
            let values = (0..3).map(|i| Some(extremes[(at + i) % 6])).collect();
            odd(
                600 + at as Seq,
                600_000 + at as u64,
                CLOCK.offset_ms,
                values,
            )
            .row
        })
        .collect();
    let block = Draft::build(&rows).unwrap().seal(&sign(PEER)).encode();
    assert_eq!(store.insert_block(&block).unwrap(), Appended::New);

    for step in [Step::Raw, Step::S10, Step::M1, Step::H1] {
        let answer = store.query(&everything(step)).unwrap();
        assert_eq!(answer.len(), 3, "{step:?}");
        for series in &answer {
            check_rates(series);
        }
    }
    let tally = store.tally();
    assert_eq!(tally[0].rows, 65);
    let log = tally[0].log;
    assert!(store.holds(&log, u32::MAX..=u32::MAX));
    assert!(!store.holds(&log, 3..=4));
    assert_eq!(store.export(&log, u32::MAX..=u32::MAX, 1).unwrap().len(), 1);
    assert!(store.unsealed(Duration::ZERO).len() >= 2);
    let latest = store.latest(&PEER).unwrap();
    assert_eq!(latest.row.seq, u32::MAX);
    store.close().unwrap();
    let store = open(dir.path(), ME);
    assert_eq!(store.tally(), tally);
    store.close().unwrap();
}

fn check_rates(series: &SeriesPoints) {
    let rates = rates(&series.points);
    assert_eq!(rates.len(), series.points.len());
}

#[test]
fn the_thousand_and_first_epoch_of_an_origin_is_refused_and_the_others_go_on() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    let of_epoch = |origin, counter| {
        let mut row = row(origin, 1, 0).row;
        row.log.epoch.counter = counter;
        row.sign(&sign(origin))
    };
    for counter in 1..=1_000 {
        store.append(of_epoch(PEER, counter)).unwrap();
    }
    let refused = store.append(of_epoch(PEER, 1_001));
    assert!(matches!(
        refused,
        Err(StoreError::OverLimit { what: "epochs", .. })
    ));
    let mut more = of_epoch(PEER, 7).row;
    more.seq = 2;
    store.append(more.sign(&sign(PEER))).unwrap();
    let other = Origin([3; 32]);
    store.append(of_epoch(other, 1)).unwrap();
    assert_eq!(store.stats().refused, 1);
    store.close().unwrap();
}

#[test]
fn what_nobody_signed_asks_for_no_schema() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    let mut forged = row(PEER, 1, 0);
    forged.row.schema = SchemaHash([9; 32]);
    assert!(matches!(
        store.append(forged),
        Err(StoreError::BadSignature { .. })
    ));
    store.close().unwrap();
}

#[test]
fn an_origin_whose_logs_are_all_holes_is_refused_beyond_a_bound_over_all_of_them() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    let of_epoch = |counter, seq| {
        let mut row = row(PEER, seq, 0).row;
        row.log.epoch.counter = counter;
        row.sign(&sign(PEER))
    };
    {
        let mut state = store.shared.state();
        for counter in 0..4 {
            // One stretch is left.
            let stretches = MAX_RANGES as Seq - Seq::from(counter == 0);
            let stretches = (0..stretches).map(|at| 2 * at + 1);
            let log = state.logs.entry(of_epoch(counter, 1).row.log).or_default();
            stretches.for_each(|seq| log.held.insert(seq..=seq));
        }
    }
    for seq in [100_000, 100_002, 100_004] {
        let appended = store.append(of_epoch(9, seq));
        let room = seq == 100_000;
        assert_eq!(appended.is_ok(), room, "{appended:?}");
    }
    let refused = store.append(of_epoch(10, 1)).unwrap_err();
    assert!(
        matches!(refused, StoreError::OverLimit { what: "holes", .. }),
        "{refused}"
    );
    assert_eq!(store.append(of_epoch(9, 100_001)).unwrap(), Appended::New);
    assert_eq!(
        store.append(row(Origin([3; 32]), 1, 0)).unwrap(),
        Appended::New
    );
}
