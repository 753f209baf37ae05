//! What the node answers about how it is reached, and which way goes to each peer.
//!
//! In: the snapshot, and what this node tells others of itself. Out: JSON.
//! Absent: judgements; the reader makes those.

use outlast_mesh::trust::EndpointKind;
use outlast_mesh::{NodeId, Path, PeerSnapshot, Snapshot};
use serde_json::{Value, json};

use super::status::name_of;
use super::{Daemon, ping};
use crate::failure::Failure;

impl Daemon {
    /// `netcheck --json`.
    pub(super) async fn netcheck(&self) -> Result<Value, Failure> {
        let mesh = &self.member()?.mesh;
        let snapshot = mesh.snapshot();
        let folded = mesh.statements().await.state();
        let info = folded.members.get(&snapshot.me);
        let info = info.and_then(|me| me.info.as_ref());
        let endpoints = info.map_or(&[][..], |info| info.endpoints.as_slice());
        let endpoints = endpoints.iter().map(|endpoint| {
            json!({
                "address": endpoint.addr,
                "from": match endpoint.kind {
                    EndpointKind::Advertised => "advertised",
                    EndpointKind::Local => "local",
                    EndpointKind::Observed => "observed",
                },
            })
        });
        Ok(json!({
            "udp_port": snapshot.udp_port,
            "isolated": snapshot.isolated,
            "out": folded.why_out(&snapshot.me),
            "endpoints": endpoints.collect::<Vec<_>>(),
            "nat": nat(&snapshot),
            "peers": snapshot.peers.iter().map(|one| peer(one, &snapshot)).collect::<Vec<_>>(),
            "dropped": snapshot.counters.dropped,
        }))
    }
}

fn nat(snapshot: &Snapshot) -> Value {
    let names =
        |ids: &[NodeId]| -> Vec<String> { ids.iter().map(|id| name_of(snapshot, *id)).collect() };
    let nat = &snapshot.nat;
    let reflexive = nat.reflexive.iter();
    let reflexive = reflexive.map(|seen| json!({ "address": seen.addr, "by": names(&seen.by) }));
    let came = |(id, from)| json!({ "name": name_of(snapshot, id), "address": from });
    json!({
        "mapping": nat.mapping.as_str(),
        "filtering": if nat.let_in.is_some() { "endpoint-independent" } else { "unknown" },
        "let_in": nat.let_in.map(came),
        "reflexive": reflexive.collect::<Vec<_>>(),
        "relays": names(&nat.relays),
        "relays_nothing": nat.relays_nothing,
    })
}

fn peer(peer: &PeerSnapshot, snapshot: &Snapshot) -> Value {
    json!({
        "id": peer.id.to_string(),
        "name": peer.name,
        "state": peer.state.as_str(),
        "path": peer.path.as_str(),
        "via": ping::via(peer, snapshot),
        "endpoint": peer.endpoint,
        "rtt_ms": peer.rtt_ms.filter(|_| peer.path != Path::None),
        "since_ms": peer.path_since_ms,
        "why_not_direct": peer.why_not_direct,
        "mtu_at_least": peer.mtu_at_least,
    })
}
