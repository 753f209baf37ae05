//! Queries over rows written out by hand, and over the same rows in blocks.

use super::*;
use crate::block::{Block, Draft, Head, Pack, window_of};
use crate::given;
use crate::key::block::BlockKey;
use crate::rollup::{Fold, Rollup, rollups};
use crate::row::Row;
use crate::sample::{ClockSource, LogId};
use crate::series::{Kind, Schema, SchemaDelta, SchemaHash};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Wall time of second `n` of `given::a_row`.
const fn at(n: i64) -> i64 {
    1_000_000 + n * 1_000
}

#[test]
fn raw_points_are_the_rows_and_a_hole_is_one_gap() {
    let schema = given::a_schema(&["a", "b"]);
    let rows: Vec<Row> = [1, 2, 3, 8, 9]
        .map(|seq| given::a_row(seq, &schema, &[Some(i64::from(seq)), None]))
        .into();
    let answer = ask(&query("*", at(1), at(9), Step::Raw), &schema, &rows);
    assert_eq!(answer.len(), 1, "a series without a point is left out");
    assert_eq!(
        (answer[0].series.name.as_str(), answer[0].step_ms),
        ("a", 1_000)
    );
    let expected = [
        (at(1), Some(1.0)),
        (at(2), Some(2.0)),
        (at(3), Some(3.0)),
        (at(4), None),
        (at(8), Some(8.0)),
        (at(9), Some(9.0)),
    ];
    assert_eq!(answer[0].points, expected);
}

#[test]
fn missing_ends_of_the_range_are_gaps() {
    let schema = given::a_schema(&["a"]);
    let rows: Vec<Row> = (10..=11)
        .map(|seq| given::a_row(seq, &schema, &[Some(1)]))
        .collect();
    let points = |from, to| {
        ask(&query("a", from, to, Step::Raw), &schema, &rows)
            .remove(0)
            .points
    };
    let both = [(at(10), Some(1.0)), (at(11), Some(1.0))];
    assert_eq!(points(at(10) - 1_500, at(11) + 1_500), both);
    let edged = [
        (at(10) - 1_501, None),
        both[0],
        both[1],
        (at(11) + 1_501, None),
    ];
    assert_eq!(points(at(10) - 1_501, at(11) + 1_501), edged);
    assert_eq!(points(at(11), at(11)), both[1..]);
    assert_eq!(points(i64::MIN, i64::MAX).len(), 4);
}

#[test]
fn an_absent_value_is_a_gap_and_not_a_zero() {
    let schema = given::a_schema(&["a"]);
    let values = [Some(5), None, None, Some(0)];
    let rows: Vec<Row> = (1..)
        .zip(values)
        .map(|(seq, value)| given::a_row(seq, &schema, &[value]))
        .collect();
    let answer = ask(&query("a", at(1), at(4), Step::Raw), &schema, &rows);
    assert_eq!(
        answer[0].points,
        [(at(1), Some(5.0)), (at(2), None), (at(4), Some(0.0))]
    );
}

#[test]
fn steps_average_gauges_and_take_the_last_of_counters() {
    let labels = || std::iter::empty();
    let gauge = Series::new("g", labels(), "", Kind::Gauge, -1).unwrap();
    let counter = Series::new("c", labels(), "", Kind::Counter, 0).unwrap();
    let delta = SchemaDelta {
        parent: None,
        appended: vec![gauge, counter],
    };
    let schema = Arc::new(Schema::extend(None, &delta).unwrap());
    let seconds = (5..25).chain(48..52);
    let rows: Vec<Row> = seconds
        .map(|s| given::a_row(s, &schema, &[Some(s.into()), Some((s * 2).into())]))
        .collect();
    let answer = ask(&query("*", at(9), at(51), Step::S10), &schema, &rows);
    let points = |name: &str| {
        &answer
            .iter()
            .find(|line| line.series.name == name)
            .unwrap()
            .points
    };
    // Seconds 0-9 are in the answer whole, though the range begins at 9.
    let mean = [
        (at(0), Some(0.7)),
        (at(10), Some(1.45)),
        (at(20), Some(2.2)),
        (at(30), None),
        (at(40), Some(4.85)),
        (at(50), Some(5.05)),
    ];
    assert_eq!(points("g"), &mean);
    let last = [
        (at(0), Some(18.0)),
        (at(10), Some(38.0)),
        (at(20), Some(48.0)),
        (at(30), None),
        (at(40), Some(98.0)),
        (at(50), Some(102.0)),
    ];
    assert_eq!(points("c"), &last);
    assert_eq!(answer[0].step_ms, 10_000);
}

#[test]
fn unsynced_rows_take_the_first_synced_offset_of_their_log() {
    let schema = given::a_schema(&["a"]);
    let mut rows: Vec<Row> = (1..=4)
        .map(|seq| given::a_row(seq, &schema, &[Some(seq.into())]))
        .collect();
    for row in &mut rows[..2] {
        (row.clock.source, row.clock.offset_ms) = (ClockSource::Unsynced, -77);
    }
    rows[3].clock.offset_ms += 10_000;
    let query = query("a", i64::MIN / 2, i64::MAX / 2, Step::Raw);
    let times = |rows: &[Row]| -> Vec<i64> {
        let points = &ask(&query, &schema, rows)[0].points;
        points
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|&(ms, _)| ms)
            .collect()
    };
    assert_eq!(times(&rows), [at(1), at(2), at(3), at(14)]);
    assert_eq!(
        times(&rows[..2]),
        [923, 1_923],
        "as the machine had it, as long as nobody knew better"
    );
}

#[test]
fn logs_that_overlap_after_a_clock_step_are_put_in_order_of_time() {
    let schema = given::a_schema(&["a"]);
    let mut later: Vec<Row> = (1..=3)
        .map(|seq| given::a_row(seq, &schema, &[Some(10 * i64::from(seq))]))
        .collect();
    let earlier: Vec<Row> = (1..=3)
        .map(|seq| given::a_row(seq, &schema, &[Some(seq.into())]))
        .collect();
    for row in &mut later {
        row.log.epoch.counter += 1;
        row.clock.offset_ms += 2_000;
    }
    let rows = [earlier, later].concat();
    let answer = ask(&query("a", at(1), at(5), Step::Raw), &schema, &rows);
    let expected = [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (3, 10.0),
        (4, 20.0),
        (5, 30.0),
    ];
    assert_eq!(
        answer[0].points,
        expected.map(|(second, value)| (at(second), Some(value)))
    );
}

#[test]
fn only_the_origins_asked_for_answer() {
    let schema = given::a_schema(&["a"]);
    let mut rows = vec![
        given::a_row(1, &schema, &[Some(1)]),
        given::a_row(1, &schema, &[Some(2)]),
    ];
    rows[1].log.origin = Origin([8; 32]);
    let mut query = query("a", at(0), at(2), Step::Raw);
    assert_eq!(
        ask(&query, &schema, &rows)
            .iter()
            .map(|line| line.origin)
            .collect::<Vec<_>>(),
        [Origin([7; 32]), Origin([8; 32])]
    );
    query.origins = Some(vec![Origin([8; 32])]);
    assert_eq!(
        ask(&query, &schema, &rows)
            .iter()
            .map(|line| line.origin)
            .collect::<Vec<_>>(),
        [Origin([8; 32])]
    );
}

#[test]
fn a_query_too_large_or_empty_fails() {
    assert_eq!(
        Evaluation::new(&query("a", 2, 1, Step::Raw)).unwrap_err(),
        QueryError::Range {
            from_ms: 2,
            to_ms: 1
        }
    );
    let names: Vec<String> = (0..5_000).map(|i| format!("x{i}")).collect();
    let schema = given::a_schema(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let query = query("*", i64::MIN, i64::MAX, Step::Raw);
    let mut evaluation = Evaluation::new(&query).unwrap();
    evaluation.log(given::a_log(), None);
    let mut fed = 0;
    let error = loop {
        fed += 1;
        let row = given::a_row(fed, &schema, &vec![Some(1); 5_000]);
        if let Err(error) = evaluation.row(&row, &|_| Some(schema.clone())) {
            break error;
        }
    };
    assert_eq!(
        (fed, error),
        (401, QueryError::TooLarge { limit: MAX_POINTS })
    );
}

#[test]
fn rates_are_absent_where_a_counter_has_no_past() {
    let points = [
        (0, Some(5.0)),
        (1_000, Some(8.0)),
        (3_000, Some(9.0)),
        (4_000, Some(2.0)),
        (4_000, Some(3.0)),
        (5_000, None),
        (9_000, Some(7.0)),
        (10_000, Some(7.0)),
    ];
    let expected = [
        None,
        Some(3.0),
        Some(0.5),
        None,
        None,
        None,
        None,
        Some(0.0),
    ];
    let rates = rates(&points);
    assert_eq!(
        rates.iter().map(|&(_, rate)| rate).collect::<Vec<_>>(),
        expected
    );
    assert!(
        rates
            .iter()
            .zip(&points)
            .all(|(rate, point)| rate.0 == point.0)
    );
}

proptest! {
    /// Whether rows are sealed, and where the cuts lie, differs from node to node. Answers must not.
    #[test]
    fn blocks_and_rows_give_the_same_answer(mut rows in given::run(), cut in 0usize..60, step in 0usize..4, from in -1_000i64..1_000, span in 0i64..200_000) {
        let schemas = schemas(&mut rows);
        let schema = |hash: &SchemaHash| schemas.get(hash).cloned();
        let middle = rows[rows.len() / 2].wall_ms();
        let step = [Step::Raw, Step::S10, Step::M1, Step::H1][step];
        let query = query("*", middle.saturating_add(from).saturating_sub(span / 2), middle.saturating_add(from).saturating_add(span), step);
        let synced = first_synced(&rows, &rows[0].log);

        let mut by_row = Evaluation::new(&query).unwrap();
        by_row.log(rows[0].log, synced);
        for row in &rows {
            by_row.row(row, &schema).unwrap();
            by_row.row(row, &schema).unwrap();
        }
        let mut by_block = Evaluation::new(&query).unwrap();
        by_block.log(rows[0].log, synced);
        for row in &rows[..cut.min(rows.len())] {
            by_block.row(row, &schema).unwrap();
        }
        let block = Draft::build(&rows).unwrap().seal(&given::sign(rows[0].log.origin));
        by_block.block(&block, &schema).unwrap();
        by_block.row(&rows[0], &schema).unwrap();
        prop_assert_eq!(by_row.finish(), by_block.finish());
    }

    /// Nor must it show which blocks lie in a pack, whose columns are read without building them.
    #[test]
    fn a_pack_gives_the_answer_of_its_blocks(mut rows in given::long_run(), chosen: u8, fed in 0usize..200, step in 0usize..4, series in 0usize..3, from in -1_000i64..1_000, span in 0i64..200_000, ahead: bool) {
        let schemas = schemas(&mut rows);
        let schema = |hash: &SchemaHash| schemas.get(hash).cloned();
        let middle = rows[rows.len() / 2].wall_ms().saturating_add(from);
        let step = [Step::Raw, Step::S10, Step::M1, Step::H1][step];
        let mut query = query(["*", "s1", "s[0-3]"][series], middle.saturating_sub(span / 2), middle.saturating_add(span), step);
        query.now_ms = ahead.then(|| middle.saturating_sub(AHEAD_MS));
        prop_assume!(!query.reach().is_empty());
        let synced = first_synced(&rows, &rows[0].log);
        let blocks = rows.chunk_by(|a, b| window_of(a.seq) == window_of(b.seq)).map(|rows| {
            Draft::build(rows).unwrap().seal(&given::sign(rows[0].log.origin))
        });
        let blocks: Vec<Block> = blocks.collect();
        let pack = Pack::read(&Pack::encode(&blocks).unwrap()).unwrap();
        let chosen: Vec<&Block> = blocks.iter().zip(0..).filter(|(_, at)| chosen >> at & 1 == 1).map(|(block, _)| block).collect();
        let keys: Vec<BlockKey> = chosen.iter().map(|block| {
            let Head { log, first, .. } = *block.head();
            BlockKey { log, first }
        }).collect();

        let mut by_block = Evaluation::new(&query).unwrap();
        let mut by_column = Evaluation::new(&query).unwrap();
        for evaluation in [&mut by_block, &mut by_column] {
            evaluation.log(rows[0].log, synced);
            for row in &rows[..fed.min(rows.len() - 1)] {
                evaluation.row(row, &schema).unwrap();
            }
        }
        for block in chosen {
            by_block.block(block, &schema).unwrap();
        }
        by_column.pack(&pack, &keys, &schema).unwrap();
        prop_assert_eq!(by_block.told(), by_column.told());
        prop_assert_eq!(by_block.finish(), by_column.finish());
    }

    /// Where the slices of a range lie must not show.
    #[test]
    fn an_answer_in_slices_is_the_answer_at_once(starts in proptest::collection::vec((0u32..2_000, 1u32..40), 1..12), step in 0usize..4, from in -5_000i64..3_000_000, span in 1i64..8_000_000, wide in 1i64..2_000) {
        let schema = given::a_schema(&["a"]);
        let mut seqs: Vec<u32> = starts.iter().flat_map(|(first, count)| *first + 1..=*first + *count).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let rows: Vec<Row> = seqs.iter().map(|seq| given::a_row(*seq, &schema, &[Some(i64::from(*seq % 17))])).collect();
        let step = [Step::Raw, Step::S10, Step::M1, Step::H1][step];
        let query = query("*", from, from + span, step);
        let whole = ask(&query, &schema, &rows);
        let mut evaluation = Evaluation::new(&query).unwrap();
        let mut joined: Vec<SeriesPoints> = Vec::new();
        let mut at_ms = *query.reach().start();
        while let Some(slice) = evaluation.slice(at_ms, 1, at_ms + wide * 1_000) {
            evaluation.log(rows[0].log, first_synced(&rows, &rows[0].log));
            for row in &rows {
                evaluation.row(row, &|_| Some(schema.clone())).unwrap();
            }
            for part in evaluation.part() {
                match joined.last_mut() {
                    Some(so_far) => so_far.append(part),
                    None => joined.push(part),
                }
            }
            at_ms = slice.end() + 1;
        }
        prop_assert_eq!(joined, whole);
    }

    /// Wherever buckets begin, no value is lost, found or changed: the sums over all steps are those of the rows.
    #[test]
    fn roll_ups_add_up_to_the_rows(mut rows in given::run(), tier in 0usize..3, step in 0usize..4) {
        let schemas = schemas(&mut rows);
        let schema = |hash: &SchemaHash| schemas.get(hash).cloned();
        rows.iter_mut().for_each(|row| {
            row.boot_ms %= 1 << 40;
            row.clock.offset_ms %= 1 << 40;
        });
        let tier = [Step::S10, Step::M1, Step::H1][tier];
        let step = [Step::Raw, Step::S10, Step::M1, Step::H1][step];
        let query = query("*", -(1 << 50), 1 << 50, step);
        let synced = first_synced(&rows, &rows[0].log);
        let block = Draft::build(&rows).unwrap().seal(&given::sign(rows[0].log.origin));
        let mut fold = Fold::new(tier);
        fold.block(&block, &[1..=Seq::MAX].into_iter().collect());
        let mut of_rows = Evaluation::new(&query).unwrap();
        of_rows.log(rows[0].log, synced);
        of_rows.block(&block, &schema).unwrap();
        let mut of_tier = Evaluation::new(&query).unwrap();
        of_tier.log(rows[0].log, synced);
        for body in rollups(&rows[0].log, tier, &fold.finish()) {
            let rollup = Rollup::read(&body).unwrap();
            of_tier.rollup(&rollup, &schema).unwrap();
            of_tier.rollup(&rollup, &schema).unwrap();
        }
        let (of_rows, of_tier) = (of_rows.finish(), of_tier.finish());
        prop_assert_eq!(of_rows.len(), of_tier.len());
        for (rows, tier_line) in of_rows.iter().zip(&of_tier) {
            prop_assert_eq!(&rows.series, &tier_line.series);
            let (samples, buckets) = (extents(rows), extents(tier_line));
            prop_assert_eq!(samples.2, buckets.2);
            prop_assert_eq!((samples.0, samples.1), (buckets.0, buckets.1));
            prop_assert!(tier_line.tiers.iter().all(|span| span.tier == tier));
        }
    }

    #[test]
    fn an_answer_is_in_order_and_has_each_row_once(mut rows in given::run(), from: i64, to: i64) {
        let schemas = schemas(&mut rows);
        let (from, to) = (from.min(to), from.max(to));
        let query = query("s0", from, to, Step::Raw);
        let synced = first_synced(&rows, &rows[0].log);
        let mut evaluation = Evaluation::new(&query).unwrap();
        evaluation.log(rows[0].log, synced);
        for row in &rows {
            evaluation.row(row, &|hash| schemas.get(hash).cloned()).unwrap();
        }
        let answer = evaluation.finish();
        for line in &answer {
            prop_assert!(line.points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        }
        let points: Vec<_> = answer.iter().flat_map(|line| &line.points).copied().collect();
        prop_assert!(points.iter().all(|&(ms, _)| (from..=to).contains(&ms)));
        let wall = |row: &Row| match (row.clock.source, synced) {
            (ClockSource::Unsynced, Some(offset)) => crate::row::wall_ms(row.boot_ms, offset),
            _ => row.wall_ms(),
        };
        let inside = |row: &&Row| (from..=to).contains(&wall(row)) && row.values.first().is_some_and(Option::is_some);
        let present = points.iter().filter(|(_, value)| value.is_some()).count();
        prop_assert_eq!(present, rows.iter().filter(inside).count());
    }
}

/// The lowest and highest value of an answer, and how many.
fn extents(line: &SeriesPoints) -> (f64, f64, u64) {
    let alone = line.points.iter().map(|(_, value)| value.map(Extent::of));
    let alone: Vec<_> = alone.collect();
    let all = if line.extents.is_empty() {
        &alone
    } else {
        &line.extents
    };
    let all = || all.iter().flatten();
    let min = all().map(|extent| extent.min).fold(f64::INFINITY, f64::min);
    let max = all()
        .map(|extent| extent.max)
        .fold(f64::NEG_INFINITY, f64::max);
    (min, max, all().map(|extent| extent.count).sum())
}

fn query(series: &str, from_ms: i64, to_ms: i64, step: Step) -> Query {
    Query {
        origins: None,
        series: series.into(),
        from_ms,
        to_ms,
        step,
        now_ms: None,
    }
}

fn first_synced(rows: &[Row], log: &LogId) -> Option<i64> {
    let mut of_log = rows.iter().filter(|row| row.log == *log);
    of_log
        .find(|row| row.clock.source != ClockSource::Unsynced)
        .map(|row| row.clock.offset_ms)
}

fn ask(query: &Query, schema: &Arc<Schema>, rows: &[Row]) -> Vec<SeriesPoints> {
    let mut evaluation = Evaluation::new(query).unwrap();
    for of_log in rows.chunk_by(|a, b| a.log == b.log) {
        evaluation.log(of_log[0].log, first_synced(of_log, &of_log[0].log));
        for row in of_log {
            evaluation.row(row, &|_| Some(schema.clone())).unwrap();
        }
    }
    evaluation.finish()
}

/// Makes the rows' schemas real ones, with series `s0`, `s1`, … and the exponent at random.
fn schemas(rows: &mut [Row]) -> BTreeMap<SchemaHash, Arc<Schema>> {
    let mut made = BTreeMap::new();
    for row in rows {
        if row.values.is_empty() {
            row.values.push(None);
        }
        let exponent = (row.schema.0[0] % 3) as i8 - 1;
        let series = |i| {
            Series::new(
                format!("s{i}"),
                [],
                "",
                if i % 2 == 0 {
                    Kind::Gauge
                } else {
                    Kind::Counter
                },
                exponent,
            )
            .unwrap()
        };
        let appended: Vec<Series> = (0..row.values.len()).map(series).collect();
        let schema = Schema::extend(
            None,
            &SchemaDelta {
                parent: None,
                appended,
            },
        )
        .unwrap();
        row.schema = schema.hash;
        made.insert(schema.hash, Arc::new(schema));
    }
    made
}
