//! Going over the range of a query: slice by slice, each from the finest rows still held.
//!
//! What is in memory at once is a slice of the answer and one pack, however long the range is; of a pack only the columns
//! that are asked for are unpacked, and its blocks aren't built again. Slices begin where the next
//! rows do, so that a range of years with a day of rows costs a day. Blocks that lie about their times, or whose clock was set
//! in the middle, fall into many slices: once four times as many were read as there are, the rest is one slice.
//! Absent: which rows become which points (`query`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::block::{Block, MAX_PACK_BLOCKS, Pack};
use crate::error::StoreError;
use crate::key::block::BlockKey;
use crate::open::{Shared, Store};
use crate::packer::Piece;
use crate::query::{Evaluation, MAX_POINTS, Query, QueryError, SeriesPoints, Told};
use crate::read::{OPENING, Step};
use crate::rollup::Rollup;
use crate::row::{SignedRow, peek_times, wall_ms};
use crate::sample::{ClockSource, LogId, Origin, Seq};
use crate::series::Series;
use crate::state::Log;

/// Reads beyond four times what there is.
const SPARE_READS: usize = 4_096;
/// Pieces that may begin in a slice made longer because the one before was empty.
const AFTER_A_GAP: usize = 8;

/// The pieces of one log in one slice, in order of seq.
struct Plan {
    log: LogId,
    fix: Option<i64>,
    steps: Vec<Step>,
}

impl Store {
    /// Points of the series that match, gaps as gaps. `Err(Opening)`: generations are still being opened after half a
    /// minute, and an answer would show gaps that are none.
    pub fn query(&self, query: &Query) -> Result<Vec<SeriesPoints>, StoreError> {
        let mut answer: BTreeMap<(Origin, Series), SeriesPoints> = BTreeMap::new();
        let mut points = 0;
        self.query_parts(query, |part| {
            points += part.points.len();
            if points > MAX_POINTS {
                let limit = MAX_POINTS;
                return Err(StoreError::from(QueryError::TooLarge { limit }));
            }
            let name = (part.origin, part.series.clone());
            match answer.get_mut(&name) {
                Some(so_far) => so_far.append(part),
                None => drop(answer.insert(name, part)),
            }
            Ok(())
        })?;
        Ok(answer.into_values().collect())
    }

    /// As `query`, but the answer comes in parts as it is read: of each series one after the other in order of time. What is in
    /// memory at once is bounded; an error of `each` ends it.
    pub fn query_parts<E: From<StoreError>>(
        &self,
        query: &Query,
        mut each: impl FnMut(SeriesPoints) -> Result<(), E>,
    ) -> Result<Told, E> {
        let mut evaluation = Evaluation::new(query).map_err(StoreError::from)?;
        if !self.wait_opened(OPENING) {
            return Err(StoreError::Opening.into());
        }
        let reach = query.reach();
        if reach.is_empty() {
            return Ok(evaluation.told());
        }
        let mut reads = 4 * self.shared.pieces(query) + SPARE_READS;
        let (mut from_ms, mut wide) = (*reach.start(), 1);
        loop {
            let next = self.shared.next_piece(query, from_ms);
            from_ms = next.map_or_else(|| *reach.end(), |at| at.clamp(from_ms, *reach.end()));
            if reads == 0 {
                wide = i64::MAX;
            }
            let starts = self.shared.starts_after(query, from_ms, wide);
            let Some(slice) = evaluation.slice(from_ms, wide, starts) else {
                break;
            };
            let plans = self.shared.plans(query, &evaluation.sought());
            reads = reads.saturating_sub(plans.iter().map(|plan| plan.steps.len()).sum());
            for plan in plans {
                self.feed(&mut evaluation, &plan)?;
            }
            let parts = evaluation.part();
            wide = if parts.is_empty() {
                wide.saturating_mul(4)
            } else {
                1
            };
            parts.into_iter().try_for_each(&mut each)?;
            if *slice.end() >= *reach.end() {
                break;
            }
            from_ms = slice.end().saturating_add(1);
        }
        Ok(evaluation.told())
    }

    fn feed(&self, evaluation: &mut Evaluation<'_>, plan: &Plan) -> Result<(), StoreError> {
        let schema = |hash: &_| self.schema(hash);
        evaluation.log(plan.log, plan.fix);
        let mut steps = &plan.steps[..];
        while let Some(step) = steps.first() {
            let mut done = 1;
            match step {
                Step::Row(bytes) => {
                    if let Ok(row) = SignedRow::decode(bytes) {
                        evaluation.row(&row.row, &schema)?;
                    }
                }
                Step::Block(_) => done = self.feed_blocks(evaluation, steps)?,
                Step::Rolled(place) => {
                    let body = self.shared.rolled(place);
                    if let Some(rollup) = body.and_then(|body| Rollup::read(&body).ok()) {
                        evaluation.rollup(&rollup, &schema)?;
                    }
                }
            }
            steps = &steps[done..];
        }
        Ok(())
    }

    /// Feeds what has the first block of `steps`, as it lies on the disk: the block, or a pack with some of those after it.
    /// Says how many blocks that was.
    fn feed_blocks(
        &self,
        evaluation: &mut Evaluation<'_>,
        steps: &[Step],
    ) -> Result<usize, StoreError> {
        let schema = |hash: &_| self.schema(hash);
        let keys = steps.iter().map_while(|step| match step {
            Step::Block(key) => Some(*key),
            Step::Row(_) | Step::Rolled(_) => None,
        });
        let keys: Vec<BlockKey> = keys.take(MAX_PACK_BLOCKS).collect();
        let (piece, count) = self.shared.piece(&keys);
        let keys = &keys[..count];
        match piece {
            Some(Piece::Block(bytes)) => {
                if let Ok(block) = Block::read(&bytes) {
                    evaluation.block(&block, &schema)?;
                }
            }
            Some(Piece::Pack(bytes, _)) => match Pack::read(&bytes) {
                Ok(pack) => evaluation.pack(&pack, keys, &schema)?,
                Err(_) => keys.iter().for_each(|key| self.shared.forget_damaged(key)),
            },
            None => {}
        }
        Ok(count)
    }
}

impl Shared {
    /// How many blocks, roll-ups and rows of the tail the query may have to read.
    fn pieces(&self, query: &Query) -> usize {
        let mut count = 0;
        self.each_span(query, |_| count += 1);
        count
    }

    /// Where the first rows at or after a time begin.
    fn next_piece(&self, query: &Query, from_ms: i64) -> Option<i64> {
        let mut next: Option<i64> = None;
        self.each_span(query, |span| {
            if *span.end() >= from_ms {
                next = Some(next.map_or_else(|| *span.start(), |next| next.min(*span.start())));
            }
        });
        next
    }

    /// Where a slice that was made longer must end: a few pieces after its begin.
    fn starts_after(&self, query: &Query, from_ms: i64, wide: i64) -> i64 {
        if wide == 1 || wide == i64::MAX {
            return i64::MAX;
        }
        let mut starts = Vec::new();
        self.each_span(query, |span| {
            if *span.start() > from_ms {
                starts.push(*span.start());
            }
        });
        if starts.len() <= AFTER_A_GAP {
            return i64::MAX;
        }
        *starts.select_nth_unstable(AFTER_A_GAP).1
    }

    /// The wall times of everything the query's origins have.
    fn each_span(&self, query: &Query, mut each: impl FnMut(RangeInclusive<i64>)) {
        let state = self.state();
        for (_, log) in state.logs.iter().filter(|(id, _)| query.wants(&id.origin)) {
            let fix = log.fix();
            log.blocks.values().for_each(|meta| each(meta.wall_ms(fix)));
            log.rolled
                .iter()
                .for_each(|(_, entry)| each(entry.wall_ms(fix)));
            for bytes in log.tail.values() {
                if let Some(at_ms) = wall_of(bytes, fix) {
                    each(at_ms..=at_ms);
                }
            }
        }
    }

    /// What the query's origins have in a range of wall time.
    fn plans(&self, query: &Query, range: &RangeInclusive<i64>) -> Vec<Plan> {
        let state = self.state();
        let logs = state.logs.iter().filter(|(id, _)| query.wants(&id.origin));
        let plans = logs.map(|(id, log)| {
            let fix = log.fix();
            Plan {
                log: *id,
                fix,
                steps: steps(id, log, fix, range),
            }
        });
        plans.filter(|plan| !plan.steps.is_empty()).collect()
    }
}

fn steps(id: &LogId, log: &Log, fix: Option<i64>, range: &RangeInclusive<i64>) -> Vec<Step> {
    let meets =
        |span: RangeInclusive<i64>| span.start() <= range.end() && range.start() <= span.end();
    let blocks = log
        .blocks
        .iter()
        .filter(|(_, meta)| meets(meta.wall_ms(fix)));
    let blocks = blocks.map(|(first, _)| {
        let key = BlockKey {
            log: *id,
            first: *first,
        };
        (*first, Step::Block(key))
    });
    let rolled = log
        .rolled
        .iter()
        .filter(|(_, entry)| meets(entry.wall_ms(fix)));
    let rolled = rolled.map(|(first, entry)| (first, Step::Rolled(entry.place)));
    let rows = log
        .tail
        .iter()
        .filter(|(_, bytes)| wall_of(bytes, fix).is_some_and(|at_ms| range.contains(&at_ms)));
    let rows = rows.map(|(seq, bytes)| (*seq, Step::Row(bytes.clone())));
    let mut all: Vec<(Seq, Step)> = blocks.chain(rolled).chain(rows).collect();
    all.sort_by_key(|(seq, _)| *seq);
    all.into_iter().map(|(_, step)| step).collect()
}

/// When an encoded row of the tail was taken.
fn wall_of(bytes: &Arc<[u8]>, fix: Option<i64>) -> Option<i64> {
    let (boot_ms, clock) = peek_times(bytes)?;
    let offset_ms = match (clock.source, fix) {
        (ClockSource::Unsynced, Some(fix)) => fix,
        _ => clock.offset_ms,
    };
    Some(wall_ms(boot_ms, offset_ms))
}
