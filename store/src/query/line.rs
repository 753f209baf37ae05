//! What came in for one series in a slice, and the points it becomes.
//!
//! `push` takes samples that are points themselves, `merge` what falls into steps; `part` gives the points that are done, in
//! order of time, with their gaps. Absent: which rows these are, and the bound on how many (`evaluation`).

use super::{Extent, Query, SeriesPoints, Step, TierSpan, join_tier};
use crate::rollup::Summary;
use crate::sample::Origin;
use crate::series::{Kind, Series};

/// What has come in for one series and not gone out.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Wall time and value, where every row is a point.
    samples: Vec<(i64, i64)>,
    cells: Vec<Cell>,
    /// The last point that went out, and how far the next may be.
    last: Option<(i64, i64)>,
}

/// The rows of one series in one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) start_ms: i64,
    /// How far apart such cells are: the query's step, or that of the tier if it is coarser.
    pub(super) step: Step,
    /// What it was read from; the coarsest of several.
    pub(super) tier: Step,
    pub(super) values: Summary,
    pub(super) last_ms: i64,
}

/// A point on its way out.
#[derive(Clone, Copy, Debug)]
struct Point {
    at_ms: i64,
    value: f64,
    extent: Extent,
    step_ms: i64,
    tier: Step,
}

impl Line {
    /// Adds a sample.
    pub(super) fn push(&mut self, at_ms: i64, value: i64) {
        self.samples.push((at_ms, value));
    }

    /// Adds to the newest cell if that is the same; whether there is one more otherwise.
    pub(super) fn merge(&mut self, cell: Cell) -> bool {
        match self.cells.last_mut() {
            Some(last) if last.is(&cell) => {
                last.merge(&cell);
                false
            }
            _ => {
                self.cells.push(cell);
                true
            }
        }
    }

    /// How many steps have not gone out.
    pub(super) fn open(&self) -> usize {
        self.cells.len()
    }

    /// What ends before a time, with its gaps; `last`: nothing comes after it. None: no point is done.
    pub(super) fn part(
        &mut self,
        query: &Query,
        of: (Origin, &Series),
        before_ms: i64,
        last: bool,
    ) -> Option<SeriesPoints> {
        let points = self.take(of.1, before_ms);
        let mut part = written(query, self, &points, of);
        if last && let Some((at_ms, step_ms)) = self.last {
            let to_ms = query.step.start_of(query.to_ms);
            if apart(at_ms, to_ms, step_ms) {
                part.points.push((to_ms, None));
            }
        }
        if part.points.is_empty() {
            return None;
        }
        if !part.extents.is_empty() {
            // They belong to all points or to none.
            part.extents.resize(part.points.len(), None);
        }
        Some(part)
    }

    /// Takes out what ends before a time, in order of time.
    fn take(&mut self, series: &Series, before_ms: i64) -> Vec<Point> {
        // A stepped clock can come back to a step it had left.
        self.cells.sort_by_key(|cell| (cell.start_ms, cell.step));
        self.cells.dedup_by(|next, kept| {
            let same = kept.is(next);
            if same {
                kept.merge(next);
            }
            same
        });
        let ended = |cell: &Cell| cell.start_ms.saturating_add(cell.step.span_ms()) <= before_ms;
        let (done, open): (Vec<Cell>, Vec<Cell>) = self.cells.drain(..).partition(ended);
        self.cells = open;
        let samples = self.samples.drain(..).map(|(at_ms, value)| {
            let value = series.value(value);
            Point {
                at_ms,
                value,
                extent: Extent::of(value),
                step_ms: Step::Raw.span_ms(),
                tier: Step::Raw,
            }
        });
        let cells = done.iter().map(|cell| cell.point(series));
        let mut points: Vec<Point> = samples.chain(cells).collect();
        points.sort_by_key(|point| point.at_ms);
        points
    }
}

impl Cell {
    fn is(&self, other: &Self) -> bool {
        (self.start_ms, self.step) == (other.start_ms, other.step)
    }

    /// Takes in what was fed later.
    fn merge(&mut self, later: &Self) {
        let (last_ms, last) = (self.last_ms, self.values.last);
        self.values.add(&later.values);
        if later.last_ms >= last_ms {
            self.last_ms = later.last_ms;
        } else {
            self.values.last = last;
        }
        self.tier = self.tier.max(later.tier);
    }

    fn point(&self, series: &Series) -> Point {
        let values = &self.values;
        Point {
            at_ms: self.start_ms,
            value: match series.kind {
                Kind::Gauge => series.scale(values.sum as f64 / f64::from(values.count)),
                Kind::Counter => series.value(values.last),
            },
            extent: Extent {
                min: series.value(values.min),
                max: series.value(values.max),
                count: u64::from(values.count),
            },
            step_ms: self.step.span_ms(),
            tier: self.tier,
        }
    }
}

fn apart(earlier: i64, later: i64, step_ms: i64) -> bool {
    later.saturating_sub(earlier) > step_ms + step_ms / 2
}

/// Points with their gaps.
fn written(
    query: &Query,
    line: &mut Line,
    points: &[Point],
    of: (Origin, &Series),
) -> SeriesPoints {
    let from_ms = query.step.start_of(query.from_ms);
    let samples = points
        .iter()
        .all(|point| point.step_ms == Step::Raw.span_ms());
    let mut part = SeriesPoints {
        origin: of.0,
        series: of.1.clone(),
        step_ms: query.step.ms(),
        points: Vec::with_capacity(points.len() + 2),
        extents: Vec::new(),
        tiers: Vec::new(),
    };
    for point in points {
        let gap = match line.last {
            None => apart(from_ms, point.at_ms, point.step_ms).then_some(from_ms),
            Some((last_ms, step_ms)) => apart(last_ms, point.at_ms, step_ms.max(point.step_ms))
                .then(|| last_ms.saturating_add(step_ms)),
        };
        if let Some(at_ms) = gap {
            part.points.push((at_ms, None));
            if !samples {
                part.extents.push(None);
            }
        }
        part.points.push((point.at_ms, Some(point.value)));
        if !samples {
            part.extents.push(Some(point.extent));
        }
        let (from_ms, to_ms) = (point.at_ms, point.at_ms);
        join_tier(
            &mut part.tiers,
            TierSpan {
                tier: point.tier,
                from_ms,
                to_ms,
            },
        );
        line.last = Some((point.at_ms, point.step_ms));
    }
    part
}
