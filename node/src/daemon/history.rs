//! History for `query`: which nodes a glob means, and the store's answer in parts that fit a line.
//!
//! In: a request, who is called what, the store. Out: JSON of one series each, long ones in several parts, as they are read:
//! no more than a slice of the answer is in memory.
//! Rows of a machine that was replaced come under its successor's name, and say whose they were.
//! Invariant: a part never holds more than `MOST_POINTS` points; parts of one series follow each other.
//! Absent: gaps and steps; the store decides those.

use std::collections::BTreeMap;

use anyhow::Result;
use outlast_mesh::NodeId;
use outlast_store::{Extent, Origin, Query, SeriesPoints, Step, Store, StoreError, TierSpan};
use serde_json::{Value, json};

use crate::cli::StepArg;
use crate::control;
use crate::failure::Failure;
use crate::flow::{node_of, origin_of};
use crate::nodes;
use crate::succession::Succession;
use crate::when;

/// Points in one part: with 40 bytes each well below the longest line.
const MOST_POINTS: usize = 16_384;

/// How names and ids are found: names as the mesh shows them.
pub(crate) type Names = BTreeMap<NodeId, String>;

/// One request against one store.
#[derive(Debug)]
pub(crate) struct History<'a> {
    pub(crate) store: &'a Store,
    pub(crate) names: &'a Names,
    pub(crate) lines: &'a Succession,
}

impl History<'_> {
    /// The origins that the request's node means, each to be asked for itself: all that match a glob, or
    /// the one that a name or the beginning of an id names. Whoever took a place comes after whose it was.
    pub(crate) fn origins(&self, asked: &control::History) -> Result<Vec<Origin>, Failure> {
        let mut known = self.names.clone();
        for log in self.store.held().keys() {
            let node = node_of(log.origin);
            known.entry(node).or_insert_with(|| node.to_string());
        }
        let heirs = nodes::meant(&known, &asked.node)?;
        let mut nodes: Vec<NodeId> = Vec::new();
        for origin in heirs.into_iter().flat_map(|id| self.line(id)) {
            let node = node_of(origin);
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        nodes.sort_by_key(|node| (self.lines.heir(*node), self.lines.formers(*node).len()));
        Ok(nodes.into_iter().map(origin_of).collect())
    }

    /// A node after those whose history it carries on.
    fn line(&self, node: NodeId) -> Vec<Origin> {
        let formers = self.lines.formers(node).into_iter();
        formers
            .map(|former| origin_of(former.id))
            .chain([origin_of(node)])
            .collect()
    }

    fn name(&self, node: NodeId) -> String {
        let known = self.names.get(&node);
        known.cloned().unwrap_or_else(|| node.to_string())
    }

    /// The parts of one origin's answer, as they are read. Last what is to be said beside them, if anything is.
    pub(crate) fn parts(
        &self,
        asked: &control::History,
        origin: Origin,
        mut each: impl FnMut(Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let query = asked.query(origin);
        let told = self.store.query_parts(&query, |series| {
            self.series_parts(&series)
                .into_iter()
                .try_for_each(&mut each)
                .map_err(Stopped::Reader)
        });
        match told {
            Ok(told) if told.ahead > 0 => each(json!({ "ahead_rows": told.ahead })),
            Ok(_) => Ok(()),
            Err(Stopped::Store(error)) => Err(anyhow::Error::from(error).into()),
            Err(Stopped::Reader(failure)) => Err(failure),
        }
    }

    pub(crate) fn series_parts(&self, found: &SeriesPoints) -> Vec<Value> {
        let node = node_of(found.origin);
        let labels: BTreeMap<&str, &str> = found
            .series
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let mut head = json!({
            "node": self.name(self.lines.heir(node)),
            "node_id": node.to_string(),
            "name": found.series.name,
            "labels": labels,
            "unit": found.series.unit,
            "kind": found.series.kind,
            "step_ms": found.step_ms,
        });
        if let Some(until_ms) = self.lines.replaced_ms(&node) {
            head["former"] = json!({ "name": self.name(node), "until_ms": until_ms });
        }
        let chunks = found.points.chunks(MOST_POINTS).zip(0..);
        let part = |(points, number): (&[(i64, Option<f64>)], usize)| {
            let mut part = head.clone();
            part["points"] = json!(points);
            let from = number * MOST_POINTS;
            if let Some(extents) = found.extents.get(from..from + points.len()) {
                let three = |extent: Extent| json!([extent.min, extent.max, extent.count]);
                part["extents"] = extents.iter().map(|extent| extent.map(three)).collect();
            }
            if number == 0 {
                part["tiers"] = found.tiers.iter().map(tier).collect();
            }
            part
        };
        chunks.map(part).collect()
    }
}

fn tier(span: &TierSpan) -> Value {
    let tier = match span.tier {
        Step::Raw => "raw",
        Step::S10 => "10s",
        Step::M1 => "1m",
        Step::H1 => "1h",
    };
    json!({ "tier": tier, "from_ms": span.from_ms, "to_ms": span.to_ms })
}

/// Why an answer ended early.
enum Stopped {
    Store(StoreError),
    Reader(Failure),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Answers a whole request at once, where no node runs.
pub(crate) fn offline(
    store: &Store,
    names: &Names,
    lines: &Succession,
    asked: &control::History,
    mut each: impl FnMut(Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let history = History {
        store,
        names,
        lines,
    };
    for origin in history.origins(asked)? {
        history.parts(asked, origin, &mut each)?;
    }
    Ok(())
}

impl control::History {
    /// The same question to a store.
    pub(crate) fn query(&self, origin: Origin) -> Query {
        Query {
            origins: Some(vec![origin]),
            series: self.series.clone(),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            step: match self.step {
                StepArg::Raw => Step::Raw,
                StepArg::S10 => Step::S10,
                StepArg::M1 => Step::M1,
                StepArg::H1 => Step::H1,
            },
            now_ms: when::believed_now_ms(),
        }
    }
}
