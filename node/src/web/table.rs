//! Series beside each other over one row of times, as a chart wants them.
//!
//! `align` brings points together, `thin` makes fewer of them. A hole in time is a row without any
//! value (not-a-number), so that a line breaks there; no hole is ever thinned away, except a second one
//! within the same bucket.

use crate::summary::columns::MAX_STEPS;

/// Times, and a column of as many values for each series. Not-a-number = no value.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// Milliseconds since the Unix epoch, ascending.
    pub(super) times: Vec<i64>,
    pub(super) columns: Vec<Vec<f64>>,
}

impl Table {
    /// One column for each list of points. `step_ms` is what lies between two points where nothing
    /// is missing.
    pub(super) fn align(series: &[Vec<(i64, Option<f64>)>], step_ms: u64) -> Self {
        let present = series.iter().flatten().filter(|(_, value)| value.is_some());
        let mut times: Vec<i64> = present.map(|(time, _)| *time).collect();
        times.sort_unstable();
        times.dedup();
        let times = with_holes(&times, step_ms);
        let mut columns = vec![vec![f64::NAN; times.len()]; series.len()];
        for (points, column) in series.iter().zip(&mut columns) {
            for (time, value) in points
                .iter()
                .filter_map(|(time, value)| Some((time, (*value)?)))
            {
                if let Ok(at) = times.binary_search(time) {
                    column[at] = value;
                }
            }
        }
        Self { times, columns }
    }

    /// Leaves out what is before `from_ms` or after `to_ms`.
    pub(super) fn within(mut self, from_ms: i64, to_ms: i64) -> Self {
        let first = self.times.partition_point(|time| *time < from_ms);
        let end = self.times.partition_point(|time| *time <= to_ms).max(first);
        self.times = self.times[first..end].to_vec();
        for column in &mut self.columns {
            *column = column[first..end].to_vec();
        }
        self
    }

    /// The mean of each bucket of `bucket_ms`, at the mean of its times. A hole ends a bucket early.
    pub(super) fn thin(&self, bucket_ms: u64) -> Self {
        let mut thin = Self {
            times: Vec::new(),
            columns: vec![Vec::new(); self.columns.len()],
        };
        let bucket_ms = i64::try_from(bucket_ms.max(1)).unwrap_or(i64::MAX);
        let mut bucket = Bucket::default();
        let (mut number, mut broken) = (None, false);
        for (at, time) in self.times.iter().enumerate() {
            let here = Some(time.div_euclid(bucket_ms));
            if here != number {
                bucket.empty_into(&mut thin);
                (number, broken) = (here, false);
            }
            if !self.is_hole(at) {
                bucket.add(*time, self.columns.iter().map(|column| column[at]));
            } else if !broken {
                bucket.empty_into(&mut thin);
                thin.push(*time, self.columns.iter().map(|_| f64::NAN));
                broken = true;
            }
        }
        bucket.empty_into(&mut thin);
        thin
    }

    fn is_hole(&self, at: usize) -> bool {
        self.columns.iter().all(|column| column[at].is_nan())
    }

    fn push(&mut self, time: i64, values: impl Iterator<Item = f64>) {
        self.times.push(time);
        self.columns
            .iter_mut()
            .zip(values)
            .for_each(|(column, value)| column.push(value));
    }
}

/// Sums towards means.
#[derive(Debug, Default)]
struct Bucket {
    first: i64,
    /// Of the times since `first`, which keeps it small.
    since: i64,
    count: i64,
    sums: Vec<(f64, u32)>,
}

impl Bucket {
    fn add(&mut self, time: i64, values: impl Iterator<Item = f64>) {
        if self.count == 0 {
            self.first = time;
        }
        self.since += time - self.first;
        self.count += 1;
        for (at, value) in values.enumerate() {
            if at == self.sums.len() {
                self.sums.push((0.0, 0));
            }
            if !value.is_nan() {
                self.sums[at].0 += value;
                self.sums[at].1 += 1;
            }
        }
    }

    fn empty_into(&mut self, table: &mut Table) {
        if self.count > 0 {
            // A column without a value in the bucket divides nothing by nothing: not-a-number.
            let means = self.sums.iter().map(|(sum, count)| sum / f64::from(*count));
            table.push(self.first + self.since / self.count, means);
        }
        *self = Self::default();
    }
}

/// The same times with one more in the middle of each hole.
fn with_holes(times: &[i64], step_ms: u64) -> Vec<i64> {
    let widest = (step_ms as f64 * MAX_STEPS) as i64;
    let mut all = Vec::with_capacity(times.len() + 8);
    for (at, time) in times.iter().enumerate() {
        all.push(*time);
        if let Some(next) = times.get(at + 1).filter(|next| *next - time > widest) {
            all.push(time + (next - time) / 2);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAN: f64 = f64::NAN;

    #[test]
    fn series_with_different_times_stand_beside_each_other() {
        let a = vec![(1_000, Some(1.0)), (2_000, Some(2.0)), (3_000, Some(3.0))];
        let b = vec![(500, None), (2_000, Some(20.0)), (3_000, None)];
        let table = Table::align(&[a, b], 1_000);
        assert_same(
            &table,
            &[1_000, 2_000, 3_000],
            &[&[1.0, 2.0, 3.0], &[NAN, 20.0, NAN]],
        );
    }

    #[test]
    fn a_hole_is_a_row_without_values() {
        let points = vec![
            (1_000, Some(1.0)),
            (2_500, Some(2.0)),
            (2_600, None),
            (6_500, Some(3.0)),
        ];
        let table = Table::align(&[points], 1_000);
        assert_same(
            &table,
            &[1_000, 2_500, 4_500, 6_500],
            &[&[1.0, 2.0, NAN, 3.0]],
        );
    }

    #[test]
    fn a_clock_that_went_back_leaves_times_ascending() {
        let points = vec![
            (3_000, Some(3.0)),
            (1_000, Some(1.0)),
            (2_000, Some(2.0)),
            (3_000, Some(9.0)),
        ];
        let table = Table::align(&[points], 1_000);
        assert_same(&table, &[1_000, 2_000, 3_000], &[&[1.0, 2.0, 9.0]]);
    }

    #[test]
    fn a_bucket_is_its_mean() {
        let table = Table {
            times: vec![0, 1_000, 2_000, 3_000],
            columns: vec![vec![1.0, 3.0, 5.0, NAN], vec![NAN, NAN, 4.0, 6.0]],
        };
        assert_same(
            &table.thin(2_000),
            &[500, 2_500],
            &[&[2.0, 5.0], &[NAN, 5.0]],
        );
    }

    #[test]
    fn a_hole_inside_a_bucket_stays() {
        let values = vec![1.0, 3.0, NAN, 5.0, 7.0, NAN, 9.0];
        let times = vec![0, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000];
        let thin = Table {
            times,
            columns: vec![values],
        }
        .thin(10_000);
        assert_same(&thin, &[500, 2_000, 4_333], &[&[2.0, NAN, 7.0]]);
    }

    #[test]
    fn what_is_outside_is_left_out() {
        let table = Table {
            times: vec![1, 2, 3, 4],
            columns: vec![vec![1.0, 2.0, 3.0, 4.0]],
        };
        assert_same(&table.clone().within(2, 3), &[2, 3], &[&[2.0, 3.0]]);
        assert_same(&table.clone().within(5, 9), &[], &[&[]]);
        assert_same(&table.within(3, 2), &[], &[&[]]);
    }

    proptest! {
        #[test]
        fn any_points_are_taken(
            series in prop::collection::vec(
                prop::collection::vec((-9_000_i64..9_000, prop::option::of(-5.0..5.0)), 0..40), 0..4),
            step in 0_u64..4_000,
            bucket in 0_u64..9_000,
        ) {
            let table = Table::align(&series, step).thin(bucket);
            prop_assert!(table.times.is_sorted());
            prop_assert!(table.columns.iter().all(|column| column.len() == table.times.len()));
            let lines = table.columns.iter().flatten().filter(|value| !value.is_nan());
            prop_assert!(lines.into_iter().all(|value| (-5.0..5.0).contains(value)));
        }
    }

    fn assert_same(table: &Table, times: &[i64], columns: &[&[f64]]) {
        assert_eq!(table.times, times);
        // Not-a-number equals nothing, but prints alike.
        assert_eq!(format!("{:?}", table.columns), format!("{columns:?}"));
    }
}
