//! How the node that waits comes to a mesh: it founds one or joins one, as its owner asks, and starts what a member runs.
//!
//! In: requests of this node's owner. Out: one value each; while an admin has yet to approve, parts that say so.
//! Invariant: one at a time, and a member never founds or joins a second mesh.
//! Absent: what is written where; `membership` has that.

use outlast_mesh::trust::Token;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Daemon;
use crate::control::server::Answers;
use crate::failure::Failure;
use crate::membership::{self, Joined, Keys};
use crate::text;

impl Daemon {
    pub(super) async fn identity(&self) -> Result<Value, Failure> {
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

    pub(super) async fn init(&self, statements: &[String]) -> Result<Value, Failure> {
        let _entrance = self.entrance.lock().await;
        self.refuse_second_mesh()?;
        let statements: Vec<_> = statements
            .iter()
            .map(|text| membership::from_text(text))
            .collect::<anyhow::Result<_>>()?;
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

    pub(super) async fn join(
        &self,
        token: &str,
        name: &str,
        answers: &mut Answers,
    ) -> Result<Value, Failure> {
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
}
