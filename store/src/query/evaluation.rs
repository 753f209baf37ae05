//! Rows and blocks in, points out.
//!
//! Fed log after log in ascending order, within a log rows and blocks by ascending seq; a row that was fed before is
//! passed over, so a block and the rows it was made of may both come. Of a block only the times and the columns of
//! matching series are decoded, and nothing if it lies outside the range.
//! Bound: `MAX_POINTS` points (or steps) over all series; one more fails the query.

use super::{MAX_POINTS, Pattern, Query, QueryError, SeriesPoints, Step};
use crate::block::Block;
use crate::row::{Row, wall_ms};
use crate::sample::{Clock, ClockSource, LogId, Origin, Seq};
use crate::series::{Kind, Schema, SchemaHash, Series};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A query while its rows come in.
#[derive(Debug)]
pub struct Evaluation<'q> {
    query: &'q Query,
    pattern: Pattern,
    reach: RangeInclusive<i64>,
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
    points: usize,
}

#[derive(Debug, Default)]
struct Wanted {
    series: Vec<usize>,
    places: Vec<usize>,
}

/// What has come in for one series.
#[derive(Debug)]
enum Line {
    Raw(Vec<(i64, i64)>),
    Steps(Vec<Bucket>),
}

/// The rows of one series in one step.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    start_ms: i64,
    sum: i128,
    count: u64,
    last_ms: i64,
    last: i64,
}

impl<'q> Evaluation<'q> {
    /// Begins; refuses an empty range and a pattern that cannot be read.
    pub fn new(query: &'q Query) -> Result<Self, QueryError> {
        if query.from_ms > query.to_ms {
            return Err(QueryError::Range {
                from_ms: query.from_ms,
                to_ms: query.to_ms,
            });
        }
        Ok(Self {
            query,
            pattern: Pattern::parse(&query.series)?,
            reach: query.reach(),
            log: None,
            synced_ms: None,
            done: 0,
            wanted: BTreeMap::new(),
            places: BTreeMap::new(),
            lines: Vec::new(),
            points: 0,
        })
    }

    /// Turns to the next log. `synced_ms` is the clock offset of the first row held of it, inside the range or not,
    /// whose clock was synced; unsynced rows take it.
    pub fn log(&mut self, log: LogId, synced_ms: Option<i64>) {
        let asked = self.query.wants(&log.origin).then_some(log);
        (self.log, self.synced_ms, self.done) = (asked, synced_ms, 0);
    }

    /// Takes a row of the log. One whose schema isn't known says nothing.
    pub fn row(
        &mut self,
        row: &Row,
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        if !self.takes(&row.log) || row.seq <= self.done {
            return Ok(());
        }
        self.done = row.seq;
        let at_ms = self.wall_ms(row.boot_ms, &row.clock);
        if !self.reach.contains(&at_ms) {
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
    pub fn block(
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
        if span.end() < self.reach.start() || span.start() > self.reach.end() {
            return Ok(());
        }
        let times: Vec<i64> = block
            .boots()
            .iter()
            .zip(block.clocks())
            .map(|(&b, c)| self.wall_ms(b, c))
            .collect();
        let mut from = 0;
        for run in block.runs() {
            let rows = from..from + run.rows;
            from = rows.end;
            let wanted = self.wanted(&head.log.origin, &run.schema, schema);
            for (column, &place) in block.columns(&wanted.series).iter().zip(&wanted.places) {
                for at in rows.clone().skip_while(|&at| at < fresh) {
                    if let (Some(value), true) = (column[at], self.reach.contains(&times[at])) {
                        self.add(place, times[at], value)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The answer, sorted by origin and series.
    pub fn finish(self) -> Vec<SeriesPoints> {
        let (query, mut lines) = (self.query, self.lines);
        let mut answer = Vec::new();
        for ((origin, series), place) in self.places {
            let line = std::mem::replace(&mut lines[place], Line::Raw(Vec::new()));
            let present = line.points(&series);
            if !present.is_empty() {
                let points = with_gaps(query, present);
                answer.push(SeriesPoints {
                    origin,
                    series,
                    step_ms: query.step.ms(),
                    points,
                });
            }
        }
        answer
    }

    fn takes(&self, log: &LogId) -> bool {
        self.log.as_ref() == Some(log)
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
                    self.lines.push(Line::new(self.query.step));
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
        if self.lines[place].add(self.query.step, at_ms, value) {
            self.points += 1;
        }
        if self.points > MAX_POINTS {
            Err(QueryError::TooLarge { limit: MAX_POINTS })
        } else {
            Ok(())
        }
    }
}

impl Line {
    fn new(step: Step) -> Self {
        if step == Step::Raw {
            Self::Raw(Vec::new())
        } else {
            Self::Steps(Vec::new())
        }
    }

    /// Whether it has become longer.
    fn add(&mut self, step: Step, at_ms: i64, value: i64) -> bool {
        let buckets = match self {
            Self::Raw(points) => {
                points.push((at_ms, value));
                return true;
            }
            Self::Steps(buckets) => buckets,
        };
        let start_ms = step.start_of(at_ms);
        let one = Bucket {
            start_ms,
            sum: value.into(),
            count: 1,
            last_ms: at_ms,
            last: value,
        };
        match buckets.last_mut() {
            Some(bucket) if bucket.start_ms == start_ms => bucket.merge(&one),
            _ => {
                buckets.push(one);
                return true;
            }
        }
        false
    }

    /// Points in order of time, without gaps.
    fn points(self, series: &Series) -> Vec<(i64, f64)> {
        let mut buckets = match self {
            Self::Raw(mut points) => {
                points.sort_by_key(|&(at_ms, _)| at_ms);
                return points
                    .into_iter()
                    .map(|(at_ms, value)| (at_ms, series.value(value)))
                    .collect();
            }
            Self::Steps(buckets) => buckets,
        };
        // A stepped clock can come back to a step it had left.
        buckets.sort_by_key(|bucket| bucket.start_ms);
        buckets.dedup_by(|next, kept| {
            let same = next.start_ms == kept.start_ms;
            if same {
                kept.merge(next);
            }
            same
        });
        let value = |bucket: &Bucket| match series.kind {
            Kind::Gauge => series.scale(bucket.sum as f64 / bucket.count as f64),
            Kind::Counter => series.value(bucket.last),
        };
        buckets
            .iter()
            .map(|bucket| (bucket.start_ms, value(bucket)))
            .collect()
    }
}

impl Bucket {
    /// Takes in what was fed later.
    fn merge(&mut self, later: &Self) {
        self.sum += later.sum;
        self.count += later.count;
        if later.last_ms >= self.last_ms {
            (self.last_ms, self.last) = (later.last_ms, later.last);
        }
    }
}

fn with_gaps(query: &Query, present: Vec<(i64, f64)>) -> Vec<(i64, Option<f64>)> {
    let step_ms = query.step.span_ms();
    let apart = |earlier: i64, later: i64| later.saturating_sub(earlier) > step_ms + step_ms / 2;
    let (from_ms, to_ms) = (
        query.step.start_of(query.from_ms),
        query.step.start_of(query.to_ms),
    );
    let mut points = Vec::with_capacity(present.len() + 2);
    let mut last_ms = None;
    for (at_ms, value) in present {
        match last_ms {
            None if apart(from_ms, at_ms) => points.push((from_ms, None)),
            Some(last_ms) if apart(last_ms, at_ms) => points.push((last_ms + step_ms, None)),
            _ => {}
        }
        points.push((at_ms, Some(value)));
        last_ms = Some(at_ms);
    }
    if last_ms.is_some_and(|last_ms| apart(last_ms, to_ms)) {
        points.push((to_ms, None));
    }
    points
}
