//! Questions about the past and their answers.
//!
//! A `Query` names origins, series, a range of wall time and a step; an `Evaluation` turns rows and blocks into
//! `SeriesPoints`. All of it derives from what rows contain, so every node that holds the same rows gives the same answer.
//!
//! **Time.** A row's wall time is its boot time plus the offset of its own clock; one marked unsynced takes the first
//! synced offset of its log instead, if there is one. Points are ordered by wall time; where a stepped clock makes two
//! rows fall on one millisecond, both stay.
//! A row stamped more than `AHEAD_MS` beyond `Query::now_ms` is held and left out: a clock that runs ahead must not draw over
//! what is to come; it comes in by itself when that time has come, or its clock is set right.
//! **Steps.** `Raw` gives every row. Coarser steps give one point at the start of each whole step since 1970 that overlaps
//! the range, computed from all rows of that step: of a gauge the mean, of a counter the last value; beside it the lowest and
//! highest value and how many there were.
//! **Tiers.** Each part of the range is answered from the finest tier still held of it. Where that is coarser than the step,
//! points lie as far apart as the tier's. A bucket counts for the step that the middle of its rows falls in, so where buckets
//! do not begin when a step does, up to half a bucket's rows count for the neighbouring step; sums over all are exact.
//! **Gaps.** One `None`, a step after the point before, where two points are more than 1.5 steps apart; one at either end
//! of the range if data is missing there. Never a zero, never a value carried on. A series without any point is left out.
//!
//! Absent: finding the rows (the engine's part) and names of nodes.

mod evaluation;
mod line;
mod pattern;

use crate::sample::{Origin, Seq};
use crate::series::Series;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

pub(crate) use self::evaluation::Evaluation;
pub use self::pattern::Pattern;

/// How many points an answer may have that is given at once; beyond it the query fails. Given in parts there is no bound.
pub const MAX_POINTS: usize = 2_000_000;
/// How far ahead of now a row may be stamped and still be shown.
pub const AHEAD_MS: i64 = 10 * 60 * 1_000;

/// A question about the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Whose samples; `None` means everybody's.
    pub origins: Option<Vec<Origin>>,
    /// Which series: a glob over names, or `name{label="value",…}` with globs for name and values. Labels that aren't
    /// named may have any value.
    pub series: String,
    /// First wall time, milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// Last wall time, included.
    pub to_ms: i64,
    /// How far apart the points are.
    pub step: Step,
    /// The asker's time, by which rows stamped ahead of it are left out; `None` leaves out none.
    pub now_ms: Option<i64>,
}

/// How far apart the points of an answer are.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Step {
    /// As sampled, one second.
    #[default]
    Raw,
    /// Ten seconds.
    S10,
    /// A minute.
    M1,
    /// An hour.
    H1,
}

/// The points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPoints {
    /// Who took the samples.
    pub origin: Origin,
    /// What they measure.
    pub series: Series,
    /// How far apart points are where nothing is missing.
    pub step_ms: u64,
    /// Wall time in milliseconds and value; `None` is a gap.
    pub points: Vec<(i64, Option<f64>)>,
    /// What each point was computed from, `None` at a gap. Empty where every point is a sample itself.
    pub extents: Vec<Option<Extent>>,
    /// The tiers that answered, in order of time; none overlaps the next.
    pub tiers: Vec<TierSpan>,
}

/// What lies behind one point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    /// The lowest value.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// How many there were.
    pub count: u64,
}

/// A part of an answer, and what it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierSpan {
    /// `Raw`: rows; else roll-ups of so many seconds.
    pub tier: Step,
    /// The first point.
    pub from_ms: i64,
    /// The last point.
    pub to_ms: i64,
}

/// What a whole answer said beside its points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Rows in the range that were left out because they are stamped ahead of now.
    pub ahead: u64,
}

impl SeriesPoints {
    /// Takes in the next part of the same series.
    pub fn append(&mut self, part: Self) {
        if self.extents.is_empty() && !part.extents.is_empty() {
            // So far every point was a sample.
            let alone = |(_, value): &(i64, Option<f64>)| value.map(Extent::of);
            self.extents = self.points.iter().map(alone).collect();
        }
        if !self.extents.is_empty() && part.extents.is_empty() {
            let alone = |(_, value): &(i64, Option<f64>)| value.map(Extent::of);
            self.extents.extend(part.points.iter().map(alone));
        } else {
            self.extents.extend(part.extents);
        }
        self.points.extend(part.points);
        for span in part.tiers {
            join_tier(&mut self.tiers, span);
        }
    }
}

impl Extent {
    /// Of a sample by itself.
    fn of(value: f64) -> Self {
        Self {
            min: value,
            max: value,
            count: 1,
        }
    }
}

/// Adds a span that follows; one of the same tier grows instead.
fn join_tier(tiers: &mut Vec<TierSpan>, span: TierSpan) {
    match tiers.last_mut() {
        Some(last) if last.tier == span.tier => last.to_ms = last.to_ms.max(span.to_ms),
        _ => tiers.push(span),
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The series pattern cannot be read.
    #[error("series pattern {pattern:?}: {reason}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The range is empty.
    #[error("the range ends at {to_ms} ms, before it begins at {from_ms} ms")]
    Range {
        /// As given.
        from_ms: i64,
        /// As given.
        to_ms: i64,
    },
    /// The answer would be too large.
    #[error(
        "the answer has more than {limit} points: ask for fewer series, a shorter range or a coarser step"
    )]
    TooLarge {
        /// `MAX_POINTS`.
        limit: usize,
    },
}

impl Query {
    /// Whether rows of `origin` are asked for.
    pub fn wants(&self, origin: &Origin) -> bool {
        self.origins
            .as_ref()
            .is_none_or(|origins| origins.contains(origin))
    }

    /// The wall times of all rows the answer depends on: the range, widened to whole steps, and not ahead of now.
    pub fn reach(&self) -> RangeInclusive<i64> {
        let whole = self.whole_reach();
        let latest = self
            .now_ms
            .map_or(i64::MAX, |now| now.saturating_add(AHEAD_MS));
        *whole.start()..=latest.min(*whole.end())
    }

    fn whole_reach(&self) -> RangeInclusive<i64> {
        match self.step {
            Step::Raw => self.from_ms..=self.to_ms,
            step => {
                step.start_of(self.from_ms)
                    ..=step.start_of(self.to_ms).saturating_add(step.span_ms() - 1)
            }
        }
    }
}

impl Step {
    /// Milliseconds from point to point.
    pub fn ms(self) -> u64 {
        match self {
            Self::Raw => 1_000,
            Self::S10 => 10_000,
            Self::M1 => 60_000,
            Self::H1 => 3_600_000,
        }
    }

    /// How many rows a bucket of this tier sums up.
    pub fn rows(self) -> u32 {
        (self.ms() / 1_000) as u32
    }

    /// The rows that fall into one bucket with `seq`.
    pub(crate) fn span_of(self, seq: Seq) -> RangeInclusive<Seq> {
        let first = (seq.max(1) - 1) / self.rows() * self.rows() + 1;
        first..=first.saturating_add(self.rows() - 1)
    }

    fn span_ms(self) -> i64 {
        self.ms() as i64
    }

    /// The start of the step that `ms` falls in; raw points stand where they are.
    fn start_of(self, ms: i64) -> i64 {
        match self {
            Self::Raw => ms,
            _ => ms.saturating_sub(ms.rem_euclid(self.span_ms())),
        }
    }
}

/// A counter's points as rates per second, as many as there are points: `None` at the first, after a gap, where the
/// counter went down (its source started again) and where no time passed.
pub fn rates(points: &[(i64, Option<f64>)]) -> Vec<(i64, Option<f64>)> {
    let mut last = None;
    let rate = |&(ms, value): &(i64, Option<f64>)| {
        let point = value.map(|value| (ms, value));
        let rate = match (std::mem::replace(&mut last, point), point) {
            (Some((t0, v0)), Some((t1, v1))) if t1 > t0 && v1 >= v0 => {
                Some((v1 - v0) * 1e3 / t1.abs_diff(t0) as f64)
            }
            _ => None,
        };
        (ms, rate)
    };
    points.iter().map(rate).collect()
}

#[cfg(test)]
mod tests;
