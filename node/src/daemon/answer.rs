//! What the node answers on its control socket, verb by verb.
//!
//! In: requests of this node's owner. Out: one value each, for some of them after any number of parts.
//! Invariant: a founder's admin key never comes here; statements arrive signed.
//! Absent: printing; commands do that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use outlast_mesh::NodeId;
use outlast_mesh::trust::Token;
use outlast_store::Origin;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::history::{History, Names};
use super::tally::{log_name, tally};
use super::{Daemon, Running, status};
use crate::config::Bound;
use crate::control::server::Answers;
use crate::control::{self, Request};
use crate::failure::Failure;
use crate::flow::{Arrival, node_of};
use crate::membership::{self, Joined, Keys};
use crate::succession::Succession;
use crate::when::now_ms;
use crate::{nodes, settled, text};

/// How long a request waits for a node that is starting; after that it is told so.
const STARTING: Duration = Duration::from_secs(15);

/// Parts of a query's answer that may wait for their reader.
const PARTS_AHEAD: usize = 4;

/// After so long without a row that was asked for, `tail` says that it waits: each node has one a second.
const NOTHING_YET: Duration = Duration::from_secs(3);

/// How often `tail` says whom it looks at, so that live rows come that aren't kept here.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often a silent `tail` looks whether its reader is still there.
const STILL_THERE: Duration = Duration::from_secs(5);

impl Daemon {
    /// Answers one request; parts go out on the way.
    pub(crate) async fn answer(
        &self,
        request: Request,
        answers: &mut Answers,
    ) -> Result<Value, Failure> {
        if request != Request::Shutdown {
            self.has_begun().await?;
        }
        match request {
            Request::Status => Ok(status::status(self).await),
            Request::Members => Ok(status::members(&self.member()?.mesh).await),
            Request::Settings { node } => self.settings(node).await,
            Request::Trusted => self.trusted().await,
            Request::Agreement => self.agreement(),
            Request::Netcheck => self.netcheck().await,
            Request::Cut { author, at_ms } => self.cut(&author, at_ms).await,
            Request::Goodbye { reason } => self.say_goodbye(&reason).await,
            Request::Depart => self.depart(),
            Request::RotateKey => self.rotate_key().await,
            Request::Statements => self.statements(answers).await,
            Request::Publish { statements } => self.publish(&statements).await,
            Request::Identity => self.identity().await,
            Request::Init { statements } => self.init(&statements).await,
            Request::Join { token, name } => self.join(&token, &name, answers).await,
            Request::Query(asked) => self.query(asked, answers).await,
            Request::Ticket => self.ticket(),
            Request::Ping { node } => super::ping::ping(self.member()?, &node).await,
            Request::Isolate { on } => self.isolate(on),
            Request::Tally { cuts } => self.tally(cuts).await,
            Request::Taken => self.taken(),
            Request::Tail { node, series } => self.tail(node, series, answers).await,
            Request::Shutdown => {
                self.stop.cancel();
                Ok(json!({}))
            }
        }
    }

    /// Waits while the node starts, so that a member is never told that it belongs to no mesh.
    async fn has_begun(&self) -> Result<(), Failure> {
        let begun = tokio::time::timeout(STARTING, self.begun.cancelled()).await;
        begun.map_err(|_elapsed| {
            let waited = STARTING.as_secs();
            Failure::new(format!(
                "the node is still starting after {waited} s: try again, or look at its log"
            ))
        })
    }

    pub(super) fn member(&self) -> Result<&Running, Failure> {
        self.running().ok_or_else(|| {
            Failure::new("this node belongs to no mesh yet: run `outlast init`, or `outlast join` with a token")
        })
    }

    async fn statements(&self, answers: &mut Answers) -> Result<Value, Failure> {
        let statements = self.member()?.mesh.statements().await;
        for statement in statements.iter() {
            answers.part(json!(membership::to_text(statement))).await?;
        }
        Ok(json!({}))
    }

    async fn settings(&self, node: Option<String>) -> Result<Value, Failure> {
        let running = self.member()?;
        let only = node
            .map(|typed| nodes::find(&names(running), &typed))
            .transpose()?;
        let folded = running.mesh.statements().await.state();
        let mut settled = settled::shown(&folded, only);
        let me = running.mesh.me();
        let retention = folded.settings.retention_bytes(&me);
        let bound = Bound {
            bytes: running.store.limit_bytes(),
            from: self.config.bound_from(retention),
        };
        settled["here"] = settled::here(me, bound, retention);
        Ok(settled)
    }

    async fn publish(&self, statements: &[String]) -> Result<Value, Failure> {
        let mesh = &self.member()?.mesh;
        for text in statements {
            let statement = membership::from_text(text)?;
            mesh.publish(statement).await.map_err(anyhow::Error::from)?;
        }
        Ok(json!({}))
    }

    async fn identity(&self) -> Result<Value, Failure> {
        let _entrance = self.entrance.lock().await;
        if self.running().is_none() {
            self.refuse_second_mesh()?;
        }
        let identity = Keys::load_or_make(&self.state)?.identity;
        Ok(json!({
            "id": data_encoding::HEXLOWER.encode(&identity.node.public()),
            "tunnel": identity.tunnel.public().to_string(),
            "running": self.running().is_some(),
        }))
    }

    async fn init(&self, statements: &[String]) -> Result<Value, Failure> {
        let _entrance = self.entrance.lock().await;
        self.refuse_second_mesh()?;
        let statements: Vec<_> = statements
            .iter()
            .map(|text| membership::from_text(text))
            .collect::<Result<_>>()?;
        let me = Keys::load_or_make(&self.state)?.identity.node.id();
        let gathered = membership::gather(statements.clone())?;
        if !gathered.state().members.contains_key(&me) {
            return Err(Failure::new(
                "these statements found a mesh without this node",
            ));
        }
        membership::establish(&self.state, &statements)?;
        self.enter().await?;
        Ok(json!({ "mesh": gathered.mesh().to_string() }))
    }

    async fn join(&self, token: &str, name: &str, answers: &mut Answers) -> Result<Value, Failure> {
        let _entrance = self.entrance.lock().await;
        let token = Token::parse(token).map_err(anyhow::Error::from)?;
        let joined = if let Some(running) = self.running() {
            // The journal is the mesh's while it runs.
            let statements = running.mesh.statements().await;
            membership::already_joined(&statements, &running.mesh.me(), &token)?
        } else {
            let joined = self.join_telling(&token, name, answers).await?;
            self.enter().await?;
            joined
        };
        Ok(json!({
            "mesh": joined.mesh_name,
            "name": joined.name,
            "members": joined.members,
            "replaces": joined.replaces,
            "before": joined.before,
        }))
    }

    /// Joins, and tells the asker while an admin has yet to approve. Ends when the asker goes, who may ask again.
    async fn join_telling(
        &self,
        token: &Token,
        name: &str,
        answers: &mut Answers,
    ) -> Result<Joined, Failure> {
        // A sentence that finds one waiting says the same.
        let (tell, mut told) = mpsc::channel(1);
        let mut waits = |sentence: &str| drop(tell.try_send(sentence.to_owned()));
        let mut joining = std::pin::pin!(membership::join(
            &self.state,
            &self.config,
            token,
            name,
            &mut waits
        ));
        loop {
            tokio::select! {
                joined = &mut joining => return joined,
                Some(sentence) = told.recv() => answers.part(json!({ "waits": sentence })).await?,
            }
        }
    }

    /// Starts what a member runs; when that fails the node ends, for a half-started one helps nobody.
    async fn enter(&self) -> Result<(), Failure> {
        let Err(error) = self.start().await else {
            return Ok(());
        };
        let said = format!("{error:#}");
        let _ = self.fatal.try_send(error);
        Err(Failure::new(format!(
            "this node is a member, but could not start: {said}"
        )))
    }

    fn refuse_second_mesh(&self) -> Result<(), Failure> {
        match self.running() {
            None if !self.state.is_member() => Ok(()),
            None => Err(Failure::new("this node is a member of a mesh already")),
            Some(running) => Err(Failure::new(format!(
                "this node is a member of mesh {} already; name an empty directory with --state-dir to found another",
                text::visible(&running.mesh.snapshot().mesh_name)
            ))),
        }
    }

    async fn query(
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

    fn ticket(&self) -> Result<Value, Failure> {
        let running = self.member()?;
        let ticket = running.tickets.issue();
        Ok(json!({ "url": format!("http://{}/login?ticket={ticket}", running.dashboard) }))
    }

    fn isolate(&self, on: bool) -> Result<Value, Failure> {
        self.member()?.mesh.isolate(on);
        tracing::warn!(on, "isolation switched");
        Ok(json!({ "isolated": on }))
    }

    async fn tally(&self, cuts: std::collections::BTreeMap<String, u32>) -> Result<Value, Failure> {
        let store = self.member()?.store.clone();
        let counting = tokio::task::spawn_blocking(move || tally(&store, &cuts));
        Ok(json!(counting.await.context("count the store")??))
    }

    fn taken(&self) -> Result<Value, Failure> {
        let taken = self.member()?.flow.taken();
        Ok(json!({ "log": log_name(&taken.log), "rows": taken.rows, "samples": taken.samples }))
    }

    async fn tail(
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

/// Who is called what, those that are gone included: their history stays.
pub(super) fn names(running: &Running) -> Names {
    let snapshot = running.mesh.snapshot();
    let gone = snapshot
        .gone
        .iter()
        .map(|gone| (gone.id, gone.name.clone()));
    let members = snapshot.members.iter();
    gone.chain(members.map(|member| (member.id, member.name.clone())))
        .collect()
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
