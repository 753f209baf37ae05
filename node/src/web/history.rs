//! The past of a node out of the store, as tables for charts.
//!
//! Blocking: reads and unpacks blocks, so it runs on threads of its own. Counters come out as rates.
//! Bound: `MAX_POINTS` times in a table, whatever was asked; a coarser step is read where the range is long.

use std::collections::BTreeSet;
use std::sync::Arc;

use outlast_mesh::NodeId;
use outlast_store::{Kind, Query, Series, SeriesPoints, Step, Store, StoreError, rates};

use super::table::Table;
use crate::flow::origin_of;
use crate::summary::columns::{COLUMNS, Plan};

/// The most values a column may be asked for.
const MAX_POINTS: u64 = 10_000;

/// Up to so many rows are read for each value that is shown; beyond it a coarser step is.
const ROWS_PER_POINT: u64 = 60;

/// The end of the year 9999: no row is younger.
const LAST_MS: i64 = 253_402_300_799_999;

/// What a page asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    max_points: u32,
}

/// A table and the time between two of its values where nothing is missing.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) step_ms: u64,
    pub(super) table: Table,
}

/// All that one node's rows say of some series.
pub(super) fn found_of(
    store: &Store,
    node: NodeId,
    series: &[Arc<Series>],
    range: Range,
) -> Result<Vec<SeriesPoints>, StoreError> {
    let (step, _) = range.steps();
    let wanted = series.iter().map(|series| &**series);
    query_all(store, node, wanted, range, step)
}

/// One column for each series, in the order given, out of what queries found: of a node, after that of those whose
/// history it carries on.
pub(super) fn out_of(found: &[SeriesPoints], series: &[Arc<Series>], range: Range) -> Past {
    let (step, bucket_ms) = range.steps();
    let columns: Vec<_> = series
        .iter()
        .map(|series| points_of(found, series))
        .collect();
    finish(&columns, range, step, bucket_ms)
}

/// The overview's columns.
pub(super) fn of_overview(
    store: &Store,
    line: &[NodeId],
    schema: &[Series],
    range: Range,
) -> Result<Past, StoreError> {
    let (step, bucket_ms) = range.steps();
    let plan = Plan::new(schema);
    let wanted: Vec<&Series> = plan.inputs().map(|at| &schema[at]).collect();
    let mut found = Vec::new();
    for node in line {
        found.extend(query_all(
            store,
            *node,
            wanted.iter().copied(),
            range,
            step,
        )?);
    }
    let inputs: Vec<_> = plan
        .inputs()
        .map(|at| points_of(&found, &schema[at]))
        .collect();
    let inputs = Table::align(&inputs, step.ms());
    let mut table = Table {
        times: inputs.times,
        columns: vec![Vec::new(); COLUMNS.len()],
    };
    let mut values = vec![f64::NAN; inputs.columns.len()];
    for at in 0..table.times.len() {
        values
            .iter_mut()
            .zip(&inputs.columns)
            .for_each(|(value, column)| *value = column[at]);
        let row = plan.columns(&values);
        table
            .columns
            .iter_mut()
            .zip(row)
            .for_each(|(column, value)| column.push(value));
    }
    let table = table.within(range.from_ms, range.to_ms);
    Ok(Past {
        step_ms: bucket_ms,
        table: thinned(table, step, bucket_ms),
    })
}

/// All series that have one of the wanted names.
fn query_all<'a>(
    store: &Store,
    node: NodeId,
    wanted: impl Iterator<Item = &'a Series>,
    range: Range,
    step: Step,
) -> Result<Vec<SeriesPoints>, StoreError> {
    let names: BTreeSet<&str> = wanted.map(|series| series.name.as_str()).collect();
    let mut found = Vec::new();
    for name in names {
        found.extend(store.query(&range.query(node, name, step))?);
    }
    Ok(found)
}

impl Range {
    /// A range as asked, cut to times that a clock may show; empty where it ends before it begins.
    pub(super) fn new(from_ms: i64, to_ms: i64, max_points: u32) -> Self {
        let from_ms = from_ms.clamp(0, LAST_MS);
        Self {
            from_ms,
            to_ms: to_ms.clamp(from_ms, LAST_MS),
            max_points,
        }
    }

    /// The query for all series of a name, in the step that suits.
    pub(super) fn query_of(&self, node: NodeId, name: &str) -> Query {
        self.query(node, name, self.steps().0)
    }

    fn query(&self, node: NodeId, series: &str, step: Step) -> Query {
        // Two steps earlier, so that the first value already has a rate.
        let lead_ms = i64::try_from(2 * step.ms()).unwrap_or(0);
        Query {
            origins: Some(vec![origin_of(node)]),
            series: series.to_owned(),
            from_ms: self.from_ms.saturating_sub(lead_ms),
            to_ms: self.to_ms,
            step,
            now_ms: crate::when::believed_now_ms(),
        }
    }

    /// What is read from the store, and how wide the buckets are that are shown.
    fn steps(&self) -> (Step, u64) {
        let span_ms = self.to_ms.abs_diff(self.from_ms);
        let points = u64::from(self.max_points).clamp(1, MAX_POINTS);
        let step = [Step::Raw, Step::S10, Step::M1]
            .into_iter()
            .find(|step| span_ms / step.ms() <= points * ROWS_PER_POINT)
            .unwrap_or(Step::H1);
        // Whole steps, so that no bucket has more of them than its neighbours.
        let bucket_ms = (span_ms / points)
            .next_multiple_of(step.ms())
            .max(step.ms());
        (step, bucket_ms)
    }
}

/// The points of one series over all runs of its node, counters as rates; between two machines is a gap.
fn points_of(found: &[SeriesPoints], wanted: &Series) -> Vec<(i64, Option<f64>)> {
    let same = |points: &&SeriesPoints| {
        points.series.name == wanted.name && points.series.labels == wanted.labels
    };
    let mut all = Vec::new();
    let mut of = None;
    for points in found.iter().filter(same) {
        let other = of
            .replace(points.origin)
            .is_some_and(|of| of != points.origin);
        let last_ms = all.last().map(|(at_ms, _): &(i64, Option<f64>)| *at_ms);
        if let Some(last_ms) = last_ms.filter(|_| other) {
            all.push((last_ms.saturating_add_unsigned(points.step_ms), None));
        }
        match points.series.kind {
            Kind::Counter => all.extend(rates(&points.points)),
            Kind::Gauge => all.extend_from_slice(&points.points),
        }
    }
    all
}

fn finish(columns: &[Vec<(i64, Option<f64>)>], range: Range, step: Step, bucket_ms: u64) -> Past {
    let table = Table::align(columns, step.ms()).within(range.from_ms, range.to_ms);
    Past {
        step_ms: bucket_ms,
        table: thinned(table, step, bucket_ms),
    }
}

fn thinned(table: Table, step: Step, bucket_ms: u64) -> Table {
    if bucket_ms > step.ms() {
        table.thin(bucket_ms)
    } else {
        table
    }
}

#[cfg(test)]
mod tests {
    use outlast_store::Origin;

    use super::*;

    #[test]
    fn long_ranges_are_read_in_coarser_steps() {
        let steps = |hours: i64, max_points| Range::new(0, hours * 3_600_000, max_points).steps();
        assert_eq!(steps(1, 3_600), (Step::Raw, 1_000));
        assert_eq!(steps(1, 1_000), (Step::Raw, 4_000));
        assert_eq!(steps(24, 1_000), (Step::S10, 90_000));
        assert_eq!(steps(24 * 30, 1_000), (Step::M1, 2_640_000));
        assert_eq!(steps(24 * 3_650, 1_000), (Step::H1, 316_800_000));
    }

    #[test]
    fn any_range_has_steps() {
        for (from_ms, to_ms) in [(0, 0), (5, 1), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            for max_points in [0, 1, u32::MAX] {
                let (step, bucket_ms) = Range::new(from_ms, to_ms, max_points).steps();
                assert_eq!(bucket_ms % step.ms(), 0);
                assert!(bucket_ms >= step.ms());
            }
        }
    }

    #[test]
    fn runs_of_one_series_are_one_line_and_counters_are_rates() {
        let wanted = series("a", Kind::Counter, 0);
        let points = |exponent, points: &[(i64, f64)]| SeriesPoints {
            origin: Origin([0; 32]),
            series: series("a", Kind::Counter, exponent),
            step_ms: 1_000,
            points: points
                .iter()
                .map(|(time, value)| (*time, Some(*value)))
                .collect(),
            extents: Vec::new(),
            tiers: Vec::new(),
        };
        let mut other = points(0, &[(7, 7.0)]);
        other.series.labels.push(("device".into(), "x".into()));
        let found = [
            points(0, &[(0, 1.0), (1_000, 4.0)]),
            other,
            points(-2, &[(5_000, 9.0), (6_000, 9.5)]),
        ];
        let line = [
            (0, None),
            (1_000, Some(3.0)),
            (5_000, None),
            (6_000, Some(0.5)),
        ];
        assert_eq!(points_of(&found, &wanted), line);
    }

    fn series(name: &str, kind: Kind, exponent: i8) -> Series {
        Series {
            name: name.into(),
            labels: vec![],
            unit: String::new(),
            kind,
            exponent,
        }
    }
}
