//! Questions about the past and their answers.
//!
//! A `Query` names origins, series, a range of wall time and a step; an `Evaluation` turns rows and blocks into
//! `SeriesPoints`. All of it derives from what rows contain, so every node that holds the same rows gives the same answer.
//!
//! **Time.** A row's wall time is its boot time plus the offset of its own clock; one marked unsynced takes the first
//! synced offset of its log instead, if there is one. Points are ordered by wall time; where a stepped clock makes two
//! rows fall on one millisecond, both stay.
//! **Steps.** `Raw` gives every row. Coarser steps give one point at the start of each whole step since 1970 that overlaps
//! the range, computed from all rows of that step: of a gauge the mean, of a counter the last value.
//! **Gaps.** One `None`, a step after the point before, where two points are more than 1.5 steps apart; one at either end
//! of the range if data is missing there. Never a zero, never a value carried on. A series without any point is left out.
//!
//! Absent: finding the rows (the engine's part) and names of nodes.

mod evaluation;
mod pattern;

use crate::sample::Origin;
use crate::series::Series;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

pub use self::evaluation::Evaluation;
pub use self::pattern::Pattern;

/// How many points an answer may have; beyond it the query fails. Some 100 MB while it is computed.
pub const MAX_POINTS: usize = 2_000_000;

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
}

/// How far apart the points of an answer are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// The wall times of all rows the answer depends on: the range, widened to whole steps.
    pub fn reach(&self) -> RangeInclusive<i64> {
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
