//! What the node answers on its control socket, verb by verb.
//!
//! In: requests of this node's owner. Out: one value each, for some of them after any number of parts.
//! Invariant: a founder's admin key never comes here; statements arrive signed.
//! Absent: printing; commands do that.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::history::Names;
use super::tally::{log_name, tally};
use super::{Daemon, Running, status};
use crate::config::Bound;
use crate::control::Request;
use crate::control::server::Answers;
use crate::failure::Failure;
use crate::membership;
use crate::{nodes, settled};

/// How long a request waits for a node that is starting; after that it is told so.
const STARTING: Duration = Duration::from_secs(15);

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
            Request::Outages { node } => self.outages(&node, answers).await,
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
