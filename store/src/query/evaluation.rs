//! Rows, blocks, packs and roll-ups in, points out.
//!
//! Goes over the range slice by slice (`slice`, then `part`), so that what it holds is bounded however long the range is.
//! In a slice it is fed log after log in ascending order, within a log rows, blocks and rollups by ascending seq; a row that
//! was fed before is passed over, so a block and the rows it was made of may both come. Of a block, pack or rollup only the
//! times and the columns of matching series are decoded, and nothing if it lies outside the slice.
//! Bound: `MAX_POINTS` points (or steps) of a slice over all series; one more fails the query.
//! Absent: how samples of a series become points with gaps (`line`).

use super::line::{Cell, Line};
use super::{MAX_POINTS, Pattern, Query, QueryError, SeriesPoints, Step, Told};
use crate::block::{Block, Head, Pack, Sheet};
use crate::key::block::BlockKey;
use crate::rollup::{Rollup, Summary};
use crate::row::{Row, wall_ms};
use crate::sample::{Clock, ClockSource, LogId, Origin, Seq};
use crate::series::{Schema, SchemaHash, Series};
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
        let mut times = vec![None; block.boots().len()];
        self.times_of(head, block.sheet(), 0, &mut times);
        self.sheet(&head.log.origin, block.sheet(), &times, schema)
    }

    /// Takes some blocks of a pack of the log, ascending, without building them.
    pub(crate) fn pack(
        &mut self,
        pack: &Pack,
        blocks: &[BlockKey],
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        let Some(key) = blocks.first() else {
            return Ok(());
        };
        let mut times = vec![None; pack.sheet().boots().len()];
        let (mut row, mut blocks) = (0, blocks.iter().peekable());
        for head in pack.heads() {
            if blocks.next_if(|key| key.is_of(head)).is_some() {
                self.times_of(head, pack.sheet(), row, &mut times);
            }
            row += usize::from(head.count);
        }
        self.sheet(&key.log.origin, pack.sheet(), &times, schema)
    }

    /// Fills in when the rows of one block were taken that are in the slice and were not fed before. The first of them is row
    /// `at` of the sheet.
    fn times_of(&mut self, head: &Head, sheet: &Sheet, at: usize, times: &mut [Option<i64>]) {
        if !self.takes(&head.log) || head.last() <= self.done {
            return;
        }
        let fresh = self.done.saturating_add(1).saturating_sub(head.first) as usize;
        self.done = head.last();
        let span = head.wall_ms(self.synced_ms);
        let beyond = *span.start() > *self.slice.end() && self.ahead_from.is_none();
        if span.end() < self.slice.start() || beyond {
            return;
        }
        let rows = at + fresh..at + usize::from(head.count);
        let taken = sheet.boots().iter().zip(sheet.clocks());
        let taken = taken.zip(times).take(rows.end).skip(rows.start);
        for ((boot_ms, clock), time) in taken {
            let at_ms = self.wall_ms(*boot_ms, clock);
            *time = self.is_in(at_ms, 1).then_some(at_ms);
        }
    }

    /// Takes the rows of a sheet that have a time. Of its columns one at a time is unpacked.
    fn sheet(
        &mut self,
        origin: &Origin,
        sheet: &Sheet,
        times: &[Option<i64>],
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        let (mut from, mut uses) = (0, Vec::new());
        for run in sheet.runs() {
            let rows = from..from + run.rows;
            from = rows.end;
            if times[rows.clone()].iter().all(Option::is_none) {
                continue;
            }
            let wanted = self.wanted(origin, &run.schema, schema);
            let series = wanted.series.iter().zip(&wanted.places);
            uses.extend(series.map(|(&series, &place)| (series, rows.clone(), place)));
        }
        uses.sort_by_key(|(series, rows, _)| (*series, rows.start));
        let of_series: Vec<_> = uses.chunk_by(|a, b| a.0 == b.0).collect();
        let series: Vec<usize> = of_series.iter().map(|uses| uses[0].0).collect();
        let first = times.iter().position(Option::is_some).unwrap_or(0);
        let end = times
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |at| at + 1);
        let mut outcome = Ok(());
        sheet.visit(&series, first..end, |at, column| {
            for (_, rows, place) in of_series[at] {
                for row in rows.start.max(first)..rows.end.min(end) {
                    let sample = column[row - first].zip(times[row]);
                    if let Some((value, at_ms)) = sample.filter(|_| outcome.is_ok()) {
                        outcome = self.add(*place, at_ms, value);
                    }
                }
            }
        });
        outcome
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
            let part = line.part(query, (*origin, series), before_ms, last);
            self.points += line.open();
            parts.extend(part);
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
            line.push(at_ms, value);
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
