//! What the node answers of outages: the list, and why peers are silent.
//!
//! In: the ledger, the folded statements. Out: JSON.
//! Absent: the fold itself, and what is told (`outage`).

use std::collections::BTreeMap;
use std::sync::Arc;

use outlast_mesh::NodeId;
use outlast_mesh::trust::State;
use serde_json::{Value, json};

use super::{Daemon, Running};
use crate::control::server::Answers;
use crate::failure::Failure;
use crate::outage::Told;

impl Daemon {
    /// `outages`, in parts of one each.
    pub(super) async fn outages(
        &self,
        node: &str,
        answers: &mut Answers,
    ) -> Result<Value, Failure> {
        let running = self.member()?;
        let state = running.mesh.statements().await.state();
        let told = told(running, state).await.map_err(anyhow::Error::from)?;
        for outage in told.list(node)? {
            answers.part(outage).await?;
        }
        Ok(json!({}))
    }
}

/// Why each node that is silent is so, as far as anybody told.
pub(super) async fn why(running: &Running, state: Arc<State>) -> BTreeMap<NodeId, String> {
    let told = told(running, state).await;
    told.map(|told| told.why()).unwrap_or_default()
}

/// Folded off the runtime: a large mesh has some hundred thousand events.
async fn told(running: &Running, state: Arc<State>) -> Result<Told, tokio::task::JoinError> {
    let events = running.flow.ledger().snapshot();
    tokio::task::spawn_blocking(move || Told::of(&events, &state)).await
}
