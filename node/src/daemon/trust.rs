//! What the node answers about who belongs to the mesh, who decides that, and who has heard of it.
//!
//! In: requests of this node's owner. Out: one value each.
//! Invariant: nothing is signed here but what this node says of itself; an admin's key never comes near.
//! Absent: taking statements in, which is `publish`.

use std::sync::atomic::Ordering;

use outlast_mesh::trust::{Manner, State, issue_leave};
use outlast_mesh::{NodeId, Path, PeerSnapshot, TunnelKey};
use serde_json::{Value, json};

use super::Daemon;
use crate::failure::Failure;
use crate::membership::{self, Keys, former};
use crate::trusted;
use crate::when;

impl Daemon {
    /// `admin list --json` and `approve --json`.
    pub(super) async fn trusted(&self) -> Result<Value, Failure> {
        Ok(trusted::shown(
            &self.member()?.mesh.statements().await.state(),
        ))
    }

    /// Which peers hold the same statements as this node.
    pub(super) fn agreement(&self) -> Result<Value, Failure> {
        let snapshot = self.member()?.mesh.snapshot();
        let line = |peer: &PeerSnapshot| {
            json!({
                "id": peer.id.to_string(),
                "name": peer.name,
                "state": peer.state.as_str(),
                "agrees": peer.agrees,
                "in_reach": peer.path != Path::None,
            })
        };
        Ok(snapshot.peers.iter().map(line).collect())
    }

    /// How far the log of an author went when this node had received no more of it than by then; `None`: now.
    pub(super) async fn cut(&self, author: &str, at_ms: Option<i64>) -> Result<Value, Failure> {
        let author = membership::key_from_hex(author)?;
        let statements = self.member()?.mesh.statements().await;
        let cut = membership::cut(&statements, &author, at_ms);
        Ok(json!({ "seq": cut.seq, "id": data_encoding::HEXLOWER.encode(&cut.id) }))
    }

    /// Says of itself that this node leaves; saying it twice is saying it once.
    pub(super) async fn say_goodbye(&self, reason: &str) -> Result<Value, Failure> {
        let running = self.member()?;
        let statements = running.mesh.statements().await;
        let me = running.mesh.me();
        let before = gone(&statements.state(), &me);
        if before.is_none() {
            let identity = Keys::load_or_make(&self.state)?.identity;
            let now_ms = u64::try_from(when::now_ms()).unwrap_or_default();
            let leave = issue_leave(&identity.node, &statements, reason, now_ms);
            let leave = leave.map_err(anyhow::Error::from)?;
            running
                .mesh
                .publish(leave)
                .await
                .map_err(anyhow::Error::from)?;
            tracing::warn!("this node leaves the mesh, as its owner asked");
        }
        Ok(json!({ "before": before }))
    }

    /// Takes a new tunnel key into use. The mesh decides whether it may; until it has, no file changes.
    pub(super) async fn rotate_key(&self) -> Result<Value, Failure> {
        let mesh = &self.member()?.mesh;
        let _one_at_a_time = self.entrance.lock().await;
        membership::still_member(&mesh.statements().await.state(), &mesh.me())?;
        mesh.may_rotate().await.map_err(anyhow::Error::from)?;
        let path = self.state.join("wg.key");
        // On disk before, so that a full one refuses here and not when the others know the new key.
        let key = TunnelKey::lay_by(&path).map_err(anyhow::Error::from)?;
        let public = key.public();
        if let Err(refused) = mesh.rotate(key).await {
            TunnelKey::drop_next(&path).map_err(anyhow::Error::from)?;
            return Err(anyhow::Error::from(refused).into());
        }
        // A power cut here leaves the key before, which the others accept too and go back to.
        TunnelKey::take_up(&path).map_err(anyhow::Error::from)?;
        tracing::warn!(tunnel = %public, "the tunnel key was replaced, as this node's owner asked");
        Ok(json!({ "tunnel": public.to_string() }))
    }

    /// Ends the node; what it was goes aside once everything is closed. Answers with where to.
    pub(super) fn depart(&self) -> Result<Value, Failure> {
        let mesh = self.member()?.mesh.snapshot().mesh;
        self.departs.store(true, Ordering::SeqCst);
        self.stop.cancel();
        Ok(json!({ "aside": former::place_for(&self.state, &mesh) }))
    }

    /// Puts aside what this node was, if its owner asked for that; everything is closed, and the lock still ours.
    pub(super) fn put_aside(&self) {
        let Some(running) = self
            .running()
            .filter(|_| self.departs.load(Ordering::SeqCst))
        else {
            return;
        };
        match former::put_aside(&self.state, &running.mesh.snapshot().mesh) {
            Ok(place) => {
                tracing::info!(place = %place.display(), "what this node was is put aside")
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "what this node was stays in place"
                );
            }
        }
    }
}

/// That a node belongs to the mesh no more, if so.
fn gone(state: &State, id: &NodeId) -> Option<Value> {
    let gone = state.gone.get(id);
    Some(json!({
        "why": state.why_out(id)?,
        "itself": gone.is_some_and(|gone| gone.manner == Manner::Left),
    }))
}
