//! Roll-ups of rows: what of the rows they keep, their bytes, and what no decoder accepts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::block::Draft;
use crate::given;
use crate::row::Row;

#[test]
fn a_bucket_sums_up_its_rows_and_ends_where_its_span_does() {
    let schema = given::a_schema(&["a", "b"]);
    let rows: Vec<Row> = (58..=60)
        .map(|seq| {
            given::a_row(
                seq,
                &schema,
                &[Some(i64::from(seq) - 60), (seq == 59).then_some(7)],
            )
        })
        .collect();
    let buckets = folded(Step::S10, &[rows]);
    assert_eq!(buckets.len(), 1);
    let bucket = &buckets[0];
    assert_eq!((bucket.span.first, bucket.span.last()), (58, 60));
    assert_eq!(bucket.span.boot_ms, (58_000, 60_000));
    assert_eq!(
        bucket.values,
        [
            Some(Summary {
                count: 3,
                min: -2,
                max: 0,
                sum: -3,
                last: 0
            }),
            Some(Summary {
                count: 1,
                min: 7,
                max: 7,
                sum: 7,
                last: 7
            }),
        ]
    );
}

#[test]
fn a_hole_and_a_change_of_schema_end_a_bucket() {
    let (one, two) = (given::a_schema(&["a"]), given::a_schema(&["b"]));
    let row = |seq, schema| given::a_row(seq, schema, &[Some(1)]);
    let runs = [
        vec![row(1, &*one), row(2, &one)],
        vec![row(4, &one), row(5, &two), row(6, &two)],
    ];
    let buckets = folded(Step::H1, &runs);
    let spans: Vec<_> = buckets
        .iter()
        .map(|b| (b.span.first, b.span.last()))
        .collect();
    assert_eq!(spans, [(1, 2), (4, 4), (5, 6)]);
}

#[test]
fn the_most_series_there_can_be_fit_in_a_record() {
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29) as i64
    };
    let schema = given::a_schema(&["a"]);
    let rows: Vec<Row> = (1..=60)
        .map(|seq| {
            let values: Vec<_> = (0..crate::MAX_SERIES).map(|_| Some(random())).collect();
            given::a_row(seq, &schema, &values)
        })
        .collect();
    let buckets = folded(Step::S10, &[rows]);
    let bodies = rollups(&given::a_log(), Step::S10, &buckets);
    assert!(
        bodies
            .iter()
            .all(|body| body.len() <= crate::record::MAX_BODY)
    );
    assert_eq!(read(&bodies), buckets);
}

proptest! {
    #[test]
    fn buckets_are_those_of_a_plain_count_over_the_rows(rows in given::run(), cut in 1usize..60) {
        let (left, right) = rows.split_at(cut.min(rows.len() - 1));
        let runs: Vec<Vec<Row>> = [left, right].into_iter().filter(|run| !run.is_empty()).map(<[Row]>::to_vec).collect();
        for tier in [Step::S10, Step::M1, Step::H1] {
            let buckets = folded(tier, &runs);
            prop_assert_eq!(buckets.iter().map(|b| u64::from(b.span.rows)).sum::<u64>(), rows.len() as u64);
            for bucket in &buckets {
                let span = bucket.span.first..=bucket.span.last();
                let mine: Vec<&Row> = rows.iter().filter(|row| span.contains(&row.seq)).collect();
                prop_assert!(mine.iter().all(|row| row.schema == bucket.schema));
                prop_assert_eq!(bucket.span.boot_ms, (mine[0].boot_ms, mine[mine.len() - 1].boot_ms));
                for (series, summary) in bucket.values.iter().enumerate() {
                    let values: Vec<i64> = mine.iter().filter_map(|row| row.values[series]).collect();
                    let counted = values.last().map(|last| Summary {
                        count: values.len() as u32,
                        min: *values.iter().min().unwrap(),
                        max: *values.iter().max().unwrap(),
                        sum: values.iter().map(|value| i128::from(*value)).sum(),
                        last: *last,
                    });
                    prop_assert_eq!(*summary, counted);
                }
            }
        }
    }

    #[test]
    fn coarser_buckets_of_finer_ones_are_those_of_the_rows(rows in given::run()) {
        let runs = [rows];
        let tens = folded(Step::S10, &runs);
        let minutes = coarser(Step::M1, &tens);
        prop_assert_eq!(&minutes, &folded(Step::M1, &runs));
        prop_assert_eq!(coarser(Step::H1, &minutes), folded(Step::H1, &runs));
        prop_assert_eq!(coarser(Step::H1, &tens), folded(Step::H1, &runs));
    }

    #[test]
    fn every_sheet_comes_back(rows in given::run(), tier in 0usize..3) {
        let tier = [Step::S10, Step::M1, Step::H1][tier];
        let log = rows[0].log;
        let buckets = folded(tier, &[rows]);
        let bodies = rollups(&log, tier, &buckets);
        prop_assert_eq!(read(&bodies), buckets);
        for body in &bodies {
            let head = RollupHead::peek(body).unwrap();
            prop_assert_eq!(&head, &Rollup::read(body).unwrap().head().clone());
            prop_assert_eq!((head.log, head.tier), (log, tier));
            prop_assert_eq!(pack(&inside(body)), Some(body.clone()));
        }
    }

    #[test]
    fn columns_with_noise_in_them_are_read_or_refused(rows in given::run(), noise in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let log = rows[0].log;
        let body = rollups(&log, Step::S10, &folded(Step::S10, &[rows])).remove(0);
        let mut noisy = inside(&body);
        for (at, byte) in noise {
            let at = at % noisy.len();
            noisy[at] = byte;
        }
        if let Some(Ok(rollup)) = pack(&noisy).map(|body| Rollup::read(&body)) {
            let head = rollup.head().clone();
            let again = rollups(&head.log, head.tier, &rollup.buckets());
            prop_assert_eq!(read(&again), rollup.buckets());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut versioned = vec![1, 1];
        versioned.extend(&bytes);
        let _ = (RollupHead::peek(&bytes), Rollup::read(&bytes), Rollup::read(&versioned));
    }
}

/// The buckets of runs that each become a block.
fn folded(tier: Step, runs: &[Vec<Row>]) -> Vec<Bucket> {
    let mut fold = Fold::new(tier);
    for run in runs {
        let block = Draft::build(run).unwrap().seal(&|_| [7; 64]);
        fold.block(&block, &[1..=Seq::MAX].into_iter().collect());
    }
    fold.finish()
}

fn coarser(tier: Step, buckets: &[Bucket]) -> Vec<Bucket> {
    let mut fold = Fold::new(tier);
    buckets
        .iter()
        .cloned()
        .for_each(|bucket| fold.bucket(bucket));
    fold.finish()
}

fn read(bodies: &[Vec<u8>]) -> Vec<Bucket> {
    bodies
        .iter()
        .flat_map(|body| Rollup::read(body).unwrap().buckets())
        .collect()
}

/// What the recorded rows of `tests/bench` come to; `cargo test -p outlast-store sizes -- --ignored --nocapture` prints it.
#[test]
#[ignore = "measures, and needs the recording of the benches"]
fn sizes_of_recorded_rows() {
    #[derive(serde::Deserialize)]
    struct Tick {
        boot_ms: u64,
        appended: Vec<crate::Series>,
        values: Vec<Option<i64>>,
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bench/rows-45min.zst");
    let bytes = zstd::decode_all(&std::fs::read(file).unwrap()[..]).unwrap();
    let ticks: Vec<Tick> = postcard::from_bytes(&bytes).unwrap();
    let schema = given::a_schema(&["a"]);
    let mut number = 0u8;
    let rows: Vec<Row> = (1..)
        .zip(&ticks)
        .map(|(seq, tick)| {
            number = number.wrapping_add(u8::from(!tick.appended.is_empty()));
            let mut row = given::a_row(seq, &schema, &tick.values);
            row.boot_ms = tick.boot_ms;
            row.schema.0[0] = number;
            row
        })
        .collect();
    let samples: usize = rows.iter().map(Row::samples).sum();
    let runs: Vec<Vec<Row>> = rows.chunks(60).map(<[Row]>::to_vec).collect();
    let raw: usize = runs
        .iter()
        .map(|run| Draft::build(run).unwrap().seal(&|_| [7; 64]).encode().len())
        .sum();
    let mut said = BTreeMap::from([("raw", raw)]);
    for (name, tier) in [("10s", Step::S10), ("1m", Step::M1), ("1h", Step::H1)] {
        let buckets = folded(tier, &runs);
        let bytes = rollups(&given::a_log(), tier, &buckets)
            .iter()
            .map(Vec::len)
            .sum();
        said.insert(name, bytes);
    }
    for (name, bytes) in said {
        println!(
            "{name}: {bytes} B, {:.4} B/sample of {samples}",
            bytes as f64 / samples as f64
        );
    }
}
