//! What one node answers for a stretch of time, to be held against another's answer.
//!
//! `Ledger::of` asks `query --json` at raw step for every series of every node, `differences`
//! names where two answers part, `holes` and `repeats` find what is missing or twice.
//! Absent: knowledge of values; equal is equal.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::Node;

/// Points by series: the node and the series as text, then value by time.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    series: BTreeMap<String, Vec<(i64, Value)>>,
}

impl Ledger {
    /// Everything `asked` holds about every origin between two instants in milliseconds.
    pub fn of(asked: &Node, from_ms: i64, to_ms: i64) -> Self {
        Self::about(asked, "*", "*", from_ms, to_ms)
    }

    /// What `asked` holds of the series matching `series`, of the nodes matching `node`.
    pub fn about(asked: &Node, node: &str, series: &str, from_ms: i64, to_ms: i64) -> Self {
        let (from, to) = (from_ms.to_string(), to_ms.to_string());
        let answer = asked.json(&[
            "query", "--series", series, "--node", node, "--from", &from, "--to", &to, "--step",
            "raw",
        ]);
        let mut ledger = Self::default();
        for series in answer["series"].as_array().into_iter().flatten() {
            let name = format!("{} {} {}", series["node"], series["name"], series["labels"]);
            let points = series["points"].as_array().into_iter().flatten();
            let points = points
                .map(|point| (point[0].as_i64().expect("a time in ms"), point[1].clone()))
                .collect();
            let twice = ledger.series.insert(name.clone(), points);
            assert!(twice.is_none(), "{name} was answered twice");
        }
        ledger
    }

    /// How many values there are, gaps not counted.
    pub fn samples(&self) -> usize {
        self.series
            .values()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .count()
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// The nodes spoken of.
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<_> = self
            .series
            .keys()
            .filter_map(|name| name.split(' ').next())
            .map(|quoted| quoted.trim_matches('"').to_owned())
            .collect();
        nodes.dedup();
        nodes
    }

    /// The values of the series whose text holds `part`, gaps as null.
    pub fn points(&self, part: &str) -> Vec<(i64, Value)> {
        let found = self.series.iter().find(|(name, _)| name.contains(part));
        found.map(|(_, points)| points.clone()).unwrap_or_default()
    }

    /// Where two answers part, at most ten places.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for name in self.series.keys().chain(other.series.keys()) {
            let (mine, theirs) = (self.series.get(name), other.series.get(name));
            if mine != theirs {
                let count = |points: Option<&Vec<_>>| points.map_or(0, Vec::len);
                found.push(format!(
                    "{name}: {} points against {}",
                    count(mine),
                    count(theirs)
                ));
            }
        }
        found.sort();
        found.dedup();
        found.truncate(10);
        found
    }

    /// Points that don't come after the one before: a sample twice, or out of order.
    pub fn repeats(&self) -> Vec<String> {
        let repeated = self
            .series
            .iter()
            .filter(|(_, points)| points.windows(2).any(|pair| pair[1].0 <= pair[0].0));
        repeated.map(|(name, _)| name.clone()).collect()
    }

    /// Gaps inside the series of `node` named `metric`, as times in ms.
    pub fn holes(&self, node: &str, metric: &str) -> Vec<i64> {
        self.points(&format!("\"{node}\" \"{metric}\""))
            .iter()
            .filter(|(_, value)| value.is_null())
            .map(|(at, _)| *at)
            .collect()
    }
}
