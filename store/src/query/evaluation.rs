//! Rows, blocks and roll-ups in, points out.
//!
//! Goes over the range slice by slice (`slice`, then `part`), so that what it holds is bounded however long the range is.
//! In a slice it is fed log after log in ascending order, within a log rows, blocks and rollups by ascending seq; a row that
//! was fed before is passed over, so a block and the rows it was made of may both come. Of a block or rollup only the times and
//! the columns of matching series are decoded, and nothing if it lies outside the slice.
//! Bound: `MAX_POINTS` points (or steps) of a slice over all series; one more fails the query.

use super::{
    Extent, MAX_POINTS, Pattern, Query, QueryError, SeriesPoints, Step, TierSpan, Told, join_tier,
};
use crate::block::Block;
use crate::rollup::{Rollup, Summary};
use crate::row::{Row, wall_ms};
use crate::sample::{Clock, ClockSource, LogId, Origin, Seq};
use crate::series::{Kind, Schema, SchemaHash, Series};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Points a slice aims at, over all series.
const SLICE_POINTS: i64 = 100_000;
/// Points of one series in a slice: enough that few blocks are read for two slices.
const LEAST_OF_ONE: i64 = 120;
const MOST_OF_ONE: i64 = 20_000;

/// A query while its rows come in.
#[derive(Debug)]
pub(crate) struct Evaluation<'q> {
    query: &'q Query,
    pattern: Pattern,
    reach: RangeInclusive<i64>,
    /// The part of it that is being fed.
    slice: RangeInclusive<i64>,
    /// Where rows are stamped ahead of now; `None`: nowhere.
    ahead_from: Option<i64>,
    told: Told,
    /// The log being fed; `None` if it isn't asked for.
    log: Option<LogId>,
    synced_ms: Option<i64>,
    /// The highest seq fed of the log; 0 before the first.
    done: Seq,
    /// Per origin and schema: numbers of matching series, and their places in `lines`.
    wanted: BTreeMap<(Origin, SchemaHash), Arc<Wanted>>,
    /// In the order of the answer; a change of unit, kind or exponent starts another line.
    places: BTreeMap<(Origin, Series), usize>,
    lines: Vec<Line>,
    /// Points and steps of this slice.
    points: usize,
}

#[derive(Debug, Default)]
struct Wanted {
    series: Vec<usize>,
    places: Vec<usize>,
}

/// What has come in for one series and not gone out.
#[derive(Debug, Default)]
struct Line {
    samples: Vec<(i64, i64)>,
    cells: Vec<Cell>,
    /// The last point that went out, and how far the next may be.
    last: Option<(i64, i64)>,
}

/// The rows of one series in one step.
#[derive(Clone, Copy, Debug)]
struct Cell {
    start_ms: i64,
    /// How far apart such cells are: the query's step, or that of the tier if it is coarser.
    step: Step,
    /// What it was read from; the coarsest of several.
    tier: Step,
    values: Summary,
    last_ms: i64,
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

impl<'q> Evaluation<'q> {
    /// Begins; refuses an empty range and a pattern that cannot be read.
    pub(crate) fn new(query: &'q Query) -> Result<Self, QueryError> {
        if query.from_ms > query.to_ms {
            return Err(QueryError::Range {
                from_ms: query.from_ms,
                to_ms: query.to_ms,
            });
        }
        let (reach, whole) = (query.reach(), query.whole_reach());
        let ahead = reach.end() < whole.end();
        Ok(Self {
            query,
            pattern: Pattern::parse(&query.series)?,
            ahead_from: ahead.then(|| reach.end().saturating_add(1)),
            slice: reach.clone(),
            reach,
            told: Told::default(),
            log: None,
            synced_ms: None,
            done: 0,
            wanted: BTreeMap::new(),
            places: BTreeMap::new(),
            lines: Vec::new(),
            points: 0,
        })
    }

    /// Turns to the slice that begins at `from_ms` and ends before `until_ms`, `wide` times as long as it would be for its
    /// points; returns its times. `None`: the range ends before.
    pub(crate) fn slice(
        &mut self,
        from_ms: i64,
        wide: i64,
        until_ms: i64,
    ) -> Option<RangeInclusive<i64>> {
        if !self.reach.contains(&from_ms) {
            return None;
        }
        let lines = (self.lines.len() as i64).max(1);
        let points = (SLICE_POINTS / lines).clamp(LEAST_OF_ONE, MOST_OF_ONE);
        let span_ms = self.query.step.span_ms().saturating_mul(points);
        let long = from_ms.saturating_add(span_ms.saturating_mul(wide) - 1);
        let end_ms = long
            .min(until_ms.saturating_sub(1).max(from_ms))
            .min(*self.reach.end());
        self.slice = from_ms..=end_ms;
        Some(self.slice.clone())
    }

    /// Turns to the next log. `synced_ms` is the clock offset of the first row held of it, inside the range or not,
    /// whose clock was synced; unsynced rows take it.
    pub(crate) fn log(&mut self, log: LogId, synced_ms: Option<i64>) {
        let asked = self.query.wants(&log.origin).then_some(log);
        (self.log, self.synced_ms, self.done) = (asked, synced_ms, 0);
    }

    /// Takes a row of the log. One whose schema isn't known says nothing.
    pub(crate) fn row(
        &mut self,
        row: &Row,
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        if !self.takes(&row.log) || row.seq <= self.done {
            return Ok(());
        }
        self.done = row.seq;
        let at_ms = self.wall_ms(row.boot_ms, &row.clock);
        if !self.is_in(at_ms, 1) {
            return Ok(());
        }
        let wanted = self.wanted(&row.log.origin, &row.schema, schema);
        for (&series, &place) in wanted.series.iter().zip(&wanted.places) {
            if let Some(value) = row.values.get(series).copied().flatten() {
                self.add(place, at_ms, value)?;
            }
        }
        Ok(())
    }

    /// Takes a block of the log.
    pub(crate) fn block(
        &mut self,
        block: &Block,
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        let head = block.head();
        if !self.takes(&head.log) || head.last() <= self.done {
            return Ok(());
        }
        let fresh = self.done.saturating_add(1).saturating_sub(head.first) as usize;
        self.done = head.last();
        let span = head.wall_ms(self.synced_ms);
        let beyond = *span.start() > *self.slice.end() && self.ahead_from.is_none();
        if span.end() < self.slice.start() || beyond {
            return Ok(());
        }
        let times: Vec<i64> = block
            .boots()
            .iter()
            .zip(block.clocks())
            .map(|(&b, c)| self.wall_ms(b, c))
            .collect();
        let inside: Vec<bool> = times
            .iter()
            .enumerate()
            .map(|(at, &ms)| at >= fresh && self.is_in(ms, 1))
            .collect();
        let mut from = 0;
        for run in block.runs() {
            let rows = from..from + run.rows;
            from = rows.end;
            let wanted = self.wanted(&head.log.origin, &run.schema, schema);
            for (column, &place) in block.columns(&wanted.series).iter().zip(&wanted.places) {
                for at in rows.clone() {
                    if let (Some(value), true) = (column[at], inside[at]) {
                        self.add(place, times[at], value)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a rollup of roll-ups of the log. A bucket with a row that was fed before is passed over.
    pub(crate) fn rollup(
        &mut self,
        rollup: &Rollup,
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        let head = rollup.head();
        if !self.takes(&head.log) {
            return Ok(());
        }
        let step = self.query.step.max(head.tier);
        let mut places = Vec::with_capacity(rollup.spans().len());
        for span in rollup.spans() {
            let from_ms = self.wall_ms(span.boot_ms.0, &span.clock);
            let to_ms = self.wall_ms(span.boot_ms.1, &span.clock);
            let middle_ms = from_ms.saturating_add(to_ms.saturating_sub(from_ms) / 2);
            let fresh = span.first > self.done;
            if fresh {
                self.done = span.last();
            }
            let inside = fresh && self.is_in(middle_ms, span.rows);
            places.push(inside.then(|| (step.start_of(middle_ms), to_ms)));
        }
        let mut from = 0;
        for run in rollup.runs() {
            let buckets = from..from + run.buckets;
            from = buckets.end;
            if places[buckets.clone()].iter().all(Option::is_none) {
                continue;
            }
            let wanted = self.wanted(&head.log.origin, &run.schema, schema);
            for (&series, &place) in wanted.series.iter().zip(&wanted.places) {
                let values = rollup.values(series);
                for at in buckets.clone() {
                    if let (Some(values), Some((start_ms, last_ms))) = (values[at], places[at]) {
                        let tier = head.tier;
                        let cell = Cell {
                            start_ms,
                            step,
                            tier,
                            values,
                            last_ms,
                        };
                        let grown = self.lines[place].merge(cell);
                        self.count(grown)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the slice came to, sorted by origin and series. A step that the next slice may add to stays until then.
    pub(crate) fn part(&mut self) -> Vec<SeriesPoints> {
        let last = self.is_last();
        let before_ms = if last {
            i64::MAX
        } else {
            self.slice.end().saturating_add(1)
        };
        self.points = 0;
        let (query, lines) = (self.query, &mut self.lines);
        let mut parts = Vec::new();
        for ((origin, series), place) in &self.places {
            let line = &mut lines[*place];
            let points = line.take(series, before_ms);
            self.points += line.cells.len();
            let mut part = written(query, line, &points, (*origin, series));
            if last && let Some((at_ms, step_ms)) = line.last {
                let to_ms = query.step.start_of(query.to_ms);
                if apart(at_ms, to_ms, step_ms) {
                    part.points.push((to_ms, None));
                }
            }
            if !part.points.is_empty() {
                if !part.extents.is_empty() {
                    // They belong to all points or to none.
                    part.extents.resize(part.points.len(), None);
                }
                parts.push(part);
            }
        }
        parts
    }

    /// The whole answer, where all rows were fed as one slice.
    #[cfg(test)]
    pub(crate) fn finish(mut self) -> Vec<SeriesPoints> {
        self.part()
    }

    /// The wall times to read for this slice: with the last also what is stamped ahead of now, so that it is counted.
    pub(crate) fn sought(&self) -> RangeInclusive<i64> {
        let ahead = self.is_last() && self.ahead_from.is_some();
        let end_ms = if ahead {
            self.query.to_ms
        } else {
            *self.slice.end()
        };
        *self.slice.start()..=end_ms
    }

    /// Whether the slice is the end of the range.
    pub(crate) fn is_last(&self) -> bool {
        self.slice.end() == self.reach.end()
    }

    /// What is to be said beside the points.
    pub(crate) fn told(&self) -> Told {
        self.told
    }

    fn takes(&self, log: &LogId) -> bool {
        self.log.as_ref() == Some(log)
    }

    /// Whether a time is in the slice; what is stamped ahead of now is counted, with the last slice.
    fn is_in(&mut self, at_ms: i64, rows: u32) -> bool {
        let ahead = self.ahead_from.is_some_and(|from| at_ms >= from);
        if ahead && self.is_last() && at_ms <= self.query.to_ms {
            self.told.ahead += u64::from(rows);
        }
        self.slice.contains(&at_ms)
    }

    fn wall_ms(&self, boot_ms: u64, clock: &Clock) -> i64 {
        let own = clock.offset_ms;
        let offset = if clock.source == ClockSource::Unsynced {
            self.synced_ms.unwrap_or(own)
        } else {
            own
        };
        wall_ms(boot_ms, offset)
    }

    fn wanted(
        &mut self,
        origin: &Origin,
        hash: &SchemaHash,
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Arc<Wanted> {
        if let Some(known) = self.wanted.get(&(*origin, *hash)) {
            return known.clone();
        }
        let mut wanted = Wanted::default();
        for (number, series) in schema(hash)
            .iter()
            .flat_map(|schema| schema.series.iter())
            .enumerate()
        {
            if self.pattern.matches(series) {
                let place = *self
                    .places
                    .entry((*origin, series.clone()))
                    .or_insert(self.lines.len());
                if place == self.lines.len() {
                    self.lines.push(Line::default());
                }
                wanted.series.push(number);
                wanted.places.push(place);
            }
        }
        let wanted = Arc::new(wanted);
        self.wanted.insert((*origin, *hash), wanted.clone());
        wanted
    }

    fn add(&mut self, place: usize, at_ms: i64, value: i64) -> Result<(), QueryError> {
        let step = self.query.step;
        let line = &mut self.lines[place];
        let grown = if step == Step::Raw {
            line.samples.push((at_ms, value));
            true
        } else {
            line.merge(Cell {
                start_ms: step.start_of(at_ms),
                step,
                tier: Step::Raw,
                values: Summary::of(value),
                last_ms: at_ms,
            })
        };
        self.count(grown)
    }

    fn count(&mut self, grown: bool) -> Result<(), QueryError> {
        self.points += usize::from(grown);
        if self.points > MAX_POINTS {
            Err(QueryError::TooLarge { limit: MAX_POINTS })
        } else {
            Ok(())
        }
    }
}

impl Line {
    /// Adds to the newest cell if that is the same; whether there is one more otherwise.
    fn merge(&mut self, cell: Cell) -> bool {
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
