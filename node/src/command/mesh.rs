//! The mesh as a command sees it through the running node: which it is, who this node is in it, whom it hears, what is held.
//!
//! In: a connection to the node. Out: ids, names and statements.
//! Absent: changing any of it; `sign.rs` and each command do that.

use std::collections::BTreeMap;

use anyhow::anyhow;
use outlast_mesh::trust::{Statement, Statements};
use outlast_mesh::{MeshId, NodeId};
use serde_json::Value;

use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::membership;

pub(super) struct Mesh {
    pub(super) id: MeshId,
    pub(super) name: String,
    pub(super) me: NodeId,
    /// Peers, the most recently heard first.
    pub(super) heard: Vec<NodeId>,
    /// How each peer is heard.
    pub(super) states: BTreeMap<NodeId, String>,
}

/// Which mesh the node is in, and what that is called.
pub(super) fn mesh_named(client: &mut Client) -> Result<(MeshId, String), Failure> {
    named(&client.call(&Request::Status)?)
}

fn named(status: &Value) -> Result<(MeshId, String), Failure> {
    let id = status["mesh"]["id"].as_str().ok_or_else(|| {
        Failure::new(
            "this node belongs to no mesh yet: run `outlast init`, or `outlast join` with a token",
        )
    })?;
    let id: MeshId = id
        .parse()
        .map_err(|error| anyhow!("the node's mesh id: {error}"))?;
    let name = status["mesh"]["name"].as_str().unwrap_or_default();
    Ok((id, name.to_owned()))
}

pub(super) fn mesh_of(client: &mut Client) -> Result<Mesh, Failure> {
    let status = client.call(&Request::Status)?;
    let (id, name) = named(&status)?;
    let identity = client.call(&Request::Identity)?;
    let me = public_of(&identity)?;
    let peers = peers(client, &status)?;
    let state = |(_, id, state): &(u64, NodeId, String)| (*id, state.clone());
    Ok(Mesh {
        id,
        name,
        me,
        states: peers.iter().map(state).collect(),
        heard: peers.into_iter().map(|(_, id, _)| id).collect(),
    })
}

/// The key in an answer to `identity`.
pub(super) fn public_of(identity: &Value) -> Result<NodeId, Failure> {
    let key = membership::key_from_hex(identity["id"].as_str().unwrap_or_default());
    key.map(NodeId)
        .map_err(|_no_key| Failure::new("the node did not say who it is"))
}

/// When each peer was heard, and how it is; the most recently heard first.
fn peers(client: &mut Client, status: &Value) -> Result<Vec<(u64, NodeId, String)>, Failure> {
    let statements = statements_of(client)?;
    let by_text: BTreeMap<String, NodeId> = statements
        .state()
        .members
        .keys()
        .map(|id| (id.to_string(), *id))
        .collect();
    let mut peers: Vec<(u64, NodeId, String)> = status["peers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|peer| {
            let id = by_text.get(peer["id"].as_str()?)?;
            let state = peer["state"].as_str().unwrap_or_default().to_owned();
            Some((peer["last_heard_ms"].as_u64().unwrap_or(0), *id, state))
        })
        .collect();
    peers.sort_by(|a, b| b.cmp(a));
    Ok(peers)
}

pub(super) fn statements_of(client: &mut Client) -> Result<Statements, Failure> {
    let mut stored: Vec<Statement> = Vec::new();
    client.stream(&Request::Statements, |part| {
        let text = part.as_str().unwrap_or_default();
        stored.push(membership::from_text(text)?);
        Ok(())
    })?;
    Ok(membership::gather(stored)?)
}
