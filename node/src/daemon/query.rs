//! The answer to `query`: from the store here, or from those who keep what isn't here.
//!
//! In: a request for history. Out: parts of one series each, one origin at a time.
//! Bound: `PARTS_AHEAD` parts wait for their reader.
//! Absent: what a part holds; `history.rs` has that.

use std::sync::Arc;

use anyhow::Context;
use outlast_mesh::NodeId;
use outlast_store::Origin;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Daemon;
use super::answer::names;
use super::history::{History, Names};
use crate::control;
use crate::control::server::Answers;
use crate::failure::Failure;
use crate::flow::node_of;
use crate::succession::Succession;
use crate::text;

/// Parts of a query's answer that may wait for their reader.
const PARTS_AHEAD: usize = 4;

impl Daemon {
    pub(super) async fn query(
        &self,
        asked: control::History,
        answers: &mut Answers,
    ) -> Result<Value, Failure> {
        let running = self.member()?;
        let (store, names) = (running.store.clone(), Arc::new(names(running)));
        let lines = Succession::shown(&running.mesh.snapshot().members);
        let lines = Arc::new(lines);
        let origins = History {
            store: &store,
            names: &names,
            lines: &lines,
        }
        .origins(&asked)?;
        // One origin at a time, and few parts ahead of the reader: what is in memory at once stays small.
        for origin in origins {
            if self
                .query_elsewhere(&asked, origin, &names, &lines, answers)
                .await?
            {
                continue;
            }
            let (store, names, asked) = (store.clone(), Arc::clone(&names), asked.clone());
            let lines = Arc::clone(&lines);
            let (parts, mut read) = mpsc::channel(PARTS_AHEAD);
            let reading = tokio::task::spawn_blocking(move || {
                let history = History {
                    store: &store,
                    names: &names,
                    lines: &lines,
                };
                history.parts(&asked, origin, |part| {
                    let sent = parts.blocking_send(part);
                    sent.map_err(|_closed| Failure::new("nobody reads the answer any more"))
                })
            });
            while let Some(part) = read.recv().await {
                answers.part(part).await?;
            }
            reading.await.context("read the store")??;
        }
        Ok(json!({}))
    }

    /// Answers for a node whose rows are kept elsewhere; false where they are kept here, or nobody who has them is there.
    async fn query_elsewhere(
        &self,
        asked: &control::History,
        origin: Origin,
        names: &Names,
        lines: &Succession,
        answers: &mut Answers,
    ) -> Result<bool, Failure> {
        let running = self.member()?;
        let node = node_of(origin);
        let place = running.flow.whereabouts(node).await;
        if place.kept || place.holders.is_empty() {
            return Ok(false);
        }
        let (store, query) = (running.store.clone(), asked.query(origin));
        let here = query.clone();
        let reading = tokio::task::spawn_blocking(move || store.query(&here));
        let local = reading.await.context("read the store")?;
        let local = local.map_err(anyhow::Error::from)?;
        let told = running
            .flow
            .ask_holders(node, &place.holders, &query, local);
        let told = told.await.map_err(|error| {
            let name = names
                .get(&node)
                .cloned()
                .unwrap_or_else(|| node.to_string());
            Failure::new(format!("{}: {error}", text::visible(&name)))
        })?;
        let name = |holder: &NodeId| names.get(holder).cloned();
        let holders: Vec<_> = told.holders.iter().filter_map(name).collect();
        let history = History {
            store: &running.store,
            names,
            lines,
        };
        for mut part in told
            .series
            .iter()
            .flat_map(|series| history.series_parts(series))
        {
            part["holders"] = json!(holders);
            answers.part(part).await?;
        }
        Ok(true)
    }
}
