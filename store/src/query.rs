//! skeleton query
#![allow(missing_docs, unused)]
use crate::block::Block;
use crate::row::Row;
use crate::sample::{LogId, Origin};
use crate::series::{Schema, SchemaHash, Series};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Step {
    #[default]
    Raw,
    S10,
    M1,
    H1,
}
impl Step {
    /// Milliseconds between points; rows are one second apart.
    pub fn ms(self) -> u64 {
        unimplemented!()
    }
}
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Query {
    /// `None`: all.
    pub origins: Option<Vec<Origin>>,
    pub series: String,
    pub from_ms: i64,
    pub to_ms: i64,
    pub step: Step,
}
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPoints {
    pub origin: Origin,
    pub series: Series,
    pub step_ms: u64,
    pub points: Vec<(i64, Option<f64>)>,
}
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    #[error("series pattern {pattern:?}: {reason}")]
    Pattern { pattern: String, reason: String },
    #[error("the range ends before it begins")]
    Range,
    #[error("more than {limit} points: ask for fewer series, a shorter range or a coarser step")]
    TooLarge { limit: usize },
}
impl Query {
    pub fn wants(&self, origin: &Origin) -> bool {
        unimplemented!()
    }
    /// The wall range of rows that the answer depends on: the asked one, widened to whole steps.
    pub fn reach(&self) -> std::ops::RangeInclusive<i64> {
        unimplemented!()
    }
}
/// A parsed series glob.
#[derive(Clone, Debug)]
pub struct Pattern;
impl Pattern {
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        unimplemented!()
    }
    pub fn matches(&self, series: &Series) -> bool {
        unimplemented!()
    }
}
/// Evaluates a query over logs fed one after the other (ascending by LogId), within a log rows and blocks ascending by seq.
#[derive(Debug)]
pub struct Evaluation<'q> {
    query: &'q Query,
}
impl<'q> Evaluation<'q> {
    pub fn new(query: &'q Query) -> Result<Self, QueryError> {
        unimplemented!()
    }
    /// The next log. `synced_ms`: offset of the lowest-numbered row held of this log whose clock is not `Unsynced`
    /// (even outside the range), which unsynced rows take.
    pub fn log(&mut self, log: LogId, synced_ms: Option<i64>) {
        unimplemented!()
    }
    /// A row; one whose seq isn't above the last one fed of this log is ignored. `schema` resolves its schema.
    pub fn row(
        &mut self,
        row: &Row,
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        unimplemented!()
    }
    pub fn block(
        &mut self,
        block: &Block,
        schema: &dyn Fn(&SchemaHash) -> Option<Arc<Schema>>,
    ) -> Result<(), QueryError> {
        unimplemented!()
    }
    /// Sorted by origin, then series.
    pub fn finish(self) -> Vec<SeriesPoints> {
        unimplemented!()
    }
}
/// A counter's points as per-second rates: as many points, `None` at the first, at resets and beside gaps.
pub fn rates(points: &[(i64, Option<f64>)]) -> Vec<(i64, Option<f64>)> {
    unimplemented!()
}
