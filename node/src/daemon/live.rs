//! Live rows for `tail`, as they arrive, until their reader goes.
//!
//! In: a node, a pattern. Out: one part a row, and a word where none comes.
//! Bound: the feed's; a reader that is too slow is told how many rows it missed.
//! Absent: rows that were kept; `query` has those.

use std::time::{Duration, Instant};

use outlast_mesh::NodeId;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::answer::names;
use super::{Daemon, Running};
use crate::control::server::Answers;
use crate::failure::Failure;
use crate::flow::{Arrival, node_of};
use crate::nodes;
use crate::when::now_ms;

/// After so long without a row that was asked for, `tail` says that it waits: each node has one a second.
const NOTHING_YET: Duration = Duration::from_secs(3);

/// How often `tail` says whom it looks at, so that live rows come that aren't kept here.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often a silent `tail` looks whether its reader is still there.
const STILL_THERE: Duration = Duration::from_secs(5);

impl Daemon {
    pub(super) async fn tail(
        &self,
        node: Option<String>,
        series: Option<String>,
        answers: &mut Answers,
    ) -> Result<Value, Failure> {
        let running = self.member()?;
        let only = node
            .map(|typed| nodes::find(&names(running), &typed))
            .transpose()?;
        let pattern = outlast_store::Pattern::parse(series.as_deref().unwrap_or("*"))
            .map_err(|error| Failure::usage(error.to_string()))?;
        let mut feed = running.flow.feed();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut waiting = Some(Instant::now() + NOTHING_YET);
        loop {
            if waiting.is_some_and(|until| Instant::now() >= until) {
                waiting = None;
                answers.part(json!({ "waiting": true })).await?;
            }
            let arrival = tokio::select! {
                _ = look.tick() => {
                    if let Some(node) = only {
                        running.flow.look_at(node);
                    }
                    continue;
                }
                arrival = feed.recv() => arrival,
                () = tokio::time::sleep(NOTHING_YET), if waiting.is_some() => continue,
                () = tokio::time::sleep(STILL_THERE) => {
                    answers.part(Value::Null).await?;
                    continue;
                }
            };
            match arrival {
                Ok(arrival) => {
                    if let Some(part) = live_row(running, &arrival, only, &pattern) {
                        waiting = None;
                        answers.part(part).await?;
                    }
                }
                Err(RecvError::Lagged(rows)) => {
                    answers.part(json!({ "skipped_rows": rows })).await?
                }
                Err(RecvError::Closed) => return Ok(json!({})),
            }
        }
    }
}

/// One row as `tail` shows it. `None`: not live, not asked for, or of an unknown schema.
fn live_row(
    running: &Running,
    arrival: &Arrival,
    only: Option<NodeId>,
    pattern: &outlast_store::Pattern,
) -> Option<Value> {
    let row = &arrival.row.row;
    let node = node_of(row.log.origin);
    if !arrival.live || only.is_some_and(|only| only != node) {
        return None;
    }
    let schema = running.store.schema(&row.schema)?;
    let samples: Vec<Value> = schema
        .series
        .iter()
        .zip(&row.values)
        .filter(|(series, _)| pattern.matches(series))
        .filter_map(|(series, value)| {
            let labels: serde_json::Map<String, Value> = series
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
            Some(json!({
                "name": series.name,
                "labels": labels,
                "unit": series.unit,
                "value": series.value((*value)?),
            }))
        })
        .collect();
    if samples.is_empty() {
        return None;
    }
    let name = names(running)
        .remove(&node)
        .unwrap_or_else(|| node.to_string());
    Some(json!({
        "node": name,
        "at_ms": row.wall_ms(),
        "arrived_ms": now_ms(),
        "seq": row.seq,
        "samples": samples,
    }))
}
