//! One round trip to a member, and the way it took.
//!
//! In: a name or the beginning of an id. Out: the time, or why there is none; who was asked, and over which path.
//! Absent: asking again; the command counts and waits.

use std::time::Duration;

use outlast_mesh::{Path, PeerSnapshot, PingError, Snapshot};
use serde_json::{Value, json};

use super::Running;
use super::answer::names;
use crate::failure::Failure;
use crate::nodes;
use crate::text::visible;

/// How long an answer is waited for: longer than any way that can still be used.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pings once. A member out of reach is an answer too; a node that can't be meant is a failure.
pub(super) async fn ping(running: &Running, typed: &str) -> Result<Value, Failure> {
    let to = nodes::find(&names(running), typed)?;
    let folded = running.mesh.statements().await.state();
    if let Some(gone) = folded.gone.get(&to) {
        return Err(nodes::is_gone(&folded, &to, &gone.member.name));
    }
    let outcome = running.mesh.ping(to, PATIENCE).await;
    let snapshot = running.mesh.snapshot();
    let Some(peer) = snapshot.peers.iter().find(|peer| peer.id == to) else {
        return Err(Failure::usage(format!(
            "{} is this node itself; `outlast members` lists the others",
            visible(typed)
        )));
    };
    let why = match &outcome {
        Ok(_) => None,
        Err(PingError::Silence(_)) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        Err(PingError::NotConnected(_)) => Some("out of reach".to_owned()),
        Err(error) => return Err(Failure::new(error.to_string())),
    };
    Ok(json!({
        "node": peer.name,
        "id": peer.id.to_string(),
        "address": peer.address,
        "rtt_ms": outcome.ok().map(|took| took.as_secs_f64() * 1_000.0),
        "why": why,
        "state": peer.state.as_str(),
        "path": peer.path.as_str(),
        "via": via(peer, &snapshot),
        "endpoint": peer.endpoint.filter(|_| peer.path != Path::None),
        "last_heard_ms": peer.last_heard_ms,
    }))
}

/// The name of the member that relays to this one.
pub(super) fn via<'a>(peer: &PeerSnapshot, snapshot: &'a Snapshot) -> Option<&'a str> {
    let via = peer.via?;
    let relay = snapshot.members.iter().find(|member| member.id == via)?;
    Some(&relay.name)
}
