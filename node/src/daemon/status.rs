//! What `status --json` and `members --json` say.
//!
//! In: the snapshots of mesh, store and flow. Out: JSON as the command line promises it; fields may be added.
//! Absent: the store's own part (`holdings.rs`); rates and judgements, which the reader makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use outlast_mesh::trust::State;
use outlast_mesh::{
    MemberSnapshot, Mesh, NodeId, Path, PeerSnapshot, PeerState, Refused, Snapshot,
};
use outlast_store::{ClockChange, Stats};

use super::{Daemon, Running, holdings, standing};
use crate::collect::SourceState;
use crate::flow::{TWO_CONTENTS, node_of, time};
use crate::{trusted, when};

/// How long the status waits for the disk.
const DISK_WITHIN: Duration = Duration::from_secs(1);

/// The whole status.
pub(super) async fn status(daemon: &Daemon) -> Value {
    let Some(running) = daemon.running() else {
        return json!({
            "mesh": null,
            "node": node(daemon, None),
            "peers": [],
            "store": null,
            "alarms": [],
            "refused": [],
            "notices": ["no mesh yet: run `outlast init` to found one, or `outlast join` with a token"],
        });
    };
    let snapshot = running.mesh.snapshot();
    let statements = running.mesh.statements().await;
    let state = statements.state();
    let now = u64::try_from(when::now_ms()).unwrap_or_default();
    let open_invites = state.invites.values();
    let open_invites = open_invites.filter(|one| one.is_open(now) && !one.doubtful);
    let mut notices = snapshot.notices.clone();
    notices.extend(standing::notices(&state, snapshot.me, when::now_ms()));
    notices.extend(rotation(&snapshot));
    let backlog = running.flow.backlog();
    let stats = stats(running, &mut notices).await;
    if !stats.health.is_empty() {
        notices.push(stats.health.clone());
    }
    notices.extend(running.flow.notices());
    let changes = clock_changes(running, &snapshot).await;
    let named = |change: &ClockChange| name_of(&snapshot, node_of(change.log.origin));
    let trusted_ms = running.flow.trusted_now_ms();
    notices.extend(time::sentences(&changes, trusted_ms, named));
    let lacks = |peer: &PeerSnapshot| backlog.get(&peer.id).copied().unwrap_or(0);
    let why = super::outages::why(running, Arc::clone(&state)).await;
    let peers = snapshot.peers.iter().map(|peer| {
        let mut shown = with_backlog(peer, &snapshot, lacks(peer));
        let silent = matches!(
            peer.state,
            PeerState::Suspect | PeerState::Down | PeerState::Left
        );
        shown["why"] = json!(why.get(&peer.id).filter(|_| silent));
        shown
    });
    let peers: Vec<Value> = peers.collect();
    let mut alarms = standing::alarms(&state);
    alarms.extend(copied_keys(&snapshot, &running.flow.refused()));
    json!({
        "mesh": {
            "id": snapshot.mesh.to_string(),
            "name": snapshot.mesh_name,
            "members": snapshot.members.len(),
            "open_invites": open_invites.count(),
            "waiting": state.pending.len(),
            "out": state.why_out(&snapshot.me),
        },
        "node": node(daemon, Some((running, &snapshot))),
        "peers": peers,
        "store": holdings::with_bound(holdings::store(&stats), daemon, &snapshot),
        "flow": running.flow.stats(),
        "sources": sources(running),
        "ledger": running.flow.ledger_stats(),
        "clock": running.flow.clock_state(),
        "clock_changes": changes.iter().map(|change| time::shown(change, &named(change))).collect::<Vec<_>>(),
        "summaries": summaries(running, &snapshot).await,
        "traffic": traffic(&snapshot),
        "alarms": alarms,
        "refused": refused(&snapshot, running.flow.refused()),
        "notices": notices,
    })
}

/// How each source of measurements fared a second ago.
fn sources(running: &Running) -> Vec<Value> {
    let sources = running.sources.list().into_iter();
    let line = |source: SourceState| {
        json!({
            "name": source.name,
            "ok": source.error.is_none(),
            "error": source.error,
            "took_ms": source.took.as_micros() as f64 / 1_000.0,
        })
    };
    sources.map(line).collect()
}

/// Read off the runtime: where a clock was set, blocks are looked into.
async fn clock_changes(running: &Running, snapshot: &Snapshot) -> Vec<ClockChange> {
    let flow = running.flow.clone();
    let nodes: Vec<NodeId> = snapshot.members.iter().map(|member| member.id).collect();
    let changes = look(running, move || flow.clock_changes(nodes.into_iter())).await;
    changes.unwrap_or_default()
}

/// What the store says of itself, which takes a walk through its directory; what it said last where its disk doesn't answer.
async fn stats(running: &Running, notices: &mut Vec<String>) -> Stats {
    let store = running.store.clone();
    let read = look(running, move || store.stats()).await;
    let mut last = running.stats.lock().unwrap_or_else(PoisonError::into_inner);
    match read {
        Some(stats) => *last = stats,
        None => {
            notices
                .push("the store's disk does not answer: what is said of it is older".to_owned());
        }
    }
    last.clone()
}

/// What the disk answers; `None`: it doesn't in `DISK_WITHIN`. One look at a time: however often the status is asked for, a
/// disk that hangs holds one thread.
async fn look<T: Send + 'static>(
    running: &Running,
    reading: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let turns = Arc::clone(&running.looks);
    let answer = async move {
        let turn = turns.acquire_owned().await.ok()?;
        let looking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            reading()
        });
        looking.await.ok()
    };
    tokio::time::timeout(DISK_WITHIN, answer)
        .await
        .ok()
        .flatten()
}

pub(super) fn name_of(snapshot: &Snapshot, node: NodeId) -> String {
    let member = snapshot.members.iter().find(|member| member.id == node);
    member.map_or_else(|| node.to_string(), |member| member.name.clone())
}

/// What is known of members by their summaries, and how old that is.
async fn summaries(running: &Running, snapshot: &Snapshot) -> Vec<Value> {
    let seen = running.flow.seen();
    let kept = running.flow.kept().await;
    let line = |member: &MemberSnapshot| {
        let seen = seen.get(&member.id)?;
        let via = snapshot.members.iter().find(|via| via.id == seen.from);
        Some(json!({
            "node": member.name,
            "id": member.id.to_string(),
            "age_ms": u64::try_from(seen.age.as_millis()).unwrap_or(u64::MAX),
            "via": via.filter(|via| via.id != member.id).map(|via| &via.name),
            "disputed": seen.disputed,
            "kept": kept.contains(&member.id),
        }))
    };
    snapshot.members.iter().filter_map(line).collect()
}

fn node(daemon: &Daemon, running: Option<(&Running, &Snapshot)>) -> Value {
    let mut node = json!({
        "id": null,
        "name": null,
        "address": null,
        "boot_id": daemon.boot_id,
        "run_id": daemon.run_id,
        "pid": std::process::id(),
        "udp_port": null,
        "dashboard": [],
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": u64::try_from(daemon.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "isolated": false,
        "rotation": null,
        "state_dir": daemon.state.path().to_string_lossy(),
    });
    if let Some((running, snapshot)) = running {
        node["id"] = json!(snapshot.me.to_string());
        // One that nobody counts a member any more has no name.
        node["name"] = match snapshot.my_name.as_str() {
            "" => json!(snapshot.me.short()),
            name => json!(name),
        };
        node["address"] = json!(snapshot.address);
        node["udp_port"] = json!(snapshot.udp_port);
        node["dashboard"] = json!([format!("http://{}/", running.dashboard)]);
        node["isolated"] = json!(snapshot.isolated);
        node["rotation"] = snapshot.rotation.as_ref().map_or(Value::Null, |one| {
            let unmoved = one.unmoved.iter().map(|id| name_of(snapshot, *id));
            json!({ "replaced_ms": one.replaced_ms, "unmoved": unmoved.collect::<Vec<_>>() })
        });
    }
    node
}

/// Who still uses the tunnel key before the last change.
fn rotation(snapshot: &Snapshot) -> Option<String> {
    let unmoved = &snapshot.rotation.as_ref()?.unmoved;
    let names: Vec<String> = unmoved.iter().map(|id| name_of(snapshot, *id)).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("the tunnel key was replaced; still on the one before: {names}")
    })
}

fn with_backlog(peer: &PeerSnapshot, snapshot: &Snapshot, backlog_samples: u64) -> Value {
    let member = snapshot.members.iter().find(|member| member.id == peer.id);
    let by = member.and_then(|member| member.replaced_by);
    json!({
        "id": peer.id.to_string(),
        "name": peer.name,
        "address": peer.address,
        "state": peer.state.as_str(),
        "may_be_off": member.is_some_and(|member| member.may_be_off),
        "replaced_by": by.map(|by| name_of(snapshot, by)),
        "path": peer.path.as_str(),
        "via": super::ping::via(peer, snapshot),
        "endpoint": peer.endpoint,
        // Of a way that is closed nobody knows the time.
        "rtt_ms": peer.rtt_ms.filter(|_| peer.path != Path::None),
        "last_heard_ms": peer.last_heard_ms,
        "last_handshake_ms": peer.last_handshake_ms,
        "tx_bytes": peer.tx_bytes,
        "rx_bytes": peer.rx_bytes,
        "backlog_samples": backlog_samples,
        "clock_offset_ms": peer.clock_offset_ms,
    })
}

/// An alarm for each node whose key signs two contents for one row.
fn copied_keys(snapshot: &Snapshot, by_flow: &[Refused]) -> Vec<Value> {
    let twice = by_flow
        .iter()
        .filter(|refused| refused.what == TWO_CONTENTS);
    let alarm = |refused: &Refused| {
        json!({
            "id": format!("two-contents/{}", refused.peer),
            "severity": "critical",
            "node": name_of(snapshot, refused.peer),
            "title": "its key signs two contents for one row: the machine was copied, or its key is in other hands",
            "since_ms": refused.last_ms,
        })
    };
    twice.map(alarm).collect()
}

/// Who did what it must not: what the mesh refused, and what the exchange of rows did.
fn refused(snapshot: &Snapshot, by_flow: Vec<Refused>) -> Vec<Value> {
    let all = snapshot.refused.iter().cloned().chain(by_flow);
    let line = |refused: Refused| {
        let mut members = snapshot.members.iter();
        let name = members.find(|member| member.id == refused.peer);
        json!({
            "peer": refused.peer.to_string(),
            "name": name.map(|member| &member.name),
            "what": refused.what,
            "count": refused.count,
            "last_ms": refused.last_ms,
        })
    };
    all.map(line).collect()
}

fn traffic(snapshot: &Snapshot) -> Value {
    let counters = &snapshot.counters;
    json!({
        "tx_bytes": counters.tx_bytes,
        "rx_bytes": counters.rx_bytes,
        "tx_datagrams": counters.tx_datagrams,
        "rx_datagrams": counters.rx_datagrams,
        "split_packets": counters.split_packets,
        "joined_packets": counters.joined_packets,
        "dropped": counters.dropped,
        "handshakes": counters.handshakes,
    })
}

/// `members --json`.
pub(super) async fn members(mesh: &Mesh) -> Value {
    let snapshot = mesh.snapshot();
    let state = mesh.statements().await.state();
    let heard: BTreeMap<NodeId, &MemberSnapshot> = snapshot
        .members
        .iter()
        .map(|member| (member.id, member))
        .collect();
    let unheard = snapshot.peers.iter();
    let unheard: BTreeSet<NodeId> = unheard
        .filter(|peer| peer.last_heard_ms.is_none())
        .map(|peer| peer.id)
        .collect();
    let now_ms = when::now_ms();
    trusted::members(&state, |id| match heard.get(id) {
        Some(member) if !(unheard.contains(id) && is_new(&state, id, now_ms)) => {
            member.state.as_str()
        }
        _ => "unknown",
    })
}

/// How long one that was just let in may take until it is first heard.
const ARRIVING_MS: i64 = 60_000;

/// Whether a member was let in a moment ago, so that silence is no outage yet.
fn is_new(state: &State, id: &NodeId, now_ms: i64) -> bool {
    let member = state.members.get(id);
    member.is_some_and(|member| {
        let joined_ms = i64::try_from(member.joined_ms).unwrap_or(i64::MAX);
        (0..ARRIVING_MS).contains(&now_ms.saturating_sub(joined_ms))
    })
}

#[cfg(test)]
mod tests {
    use outlast_mesh::AdminKey;
    use outlast_mesh::trust::{Statements, found};

    use super::*;

    #[test]
    fn silence_is_no_outage_until_a_minute_after_a_member_was_let_in() {
        let founder = NodeId([7; 32]);
        let (mesh, genesis) = found(&AdminKey::generate(), founder, "a", "home", None, 1_000);
        let mut held = Statements::new(mesh);
        held.insert(genesis).unwrap();
        let state = held.state();
        for (now_ms, new) in [(999, false), (1_000, true), (60_999, true), (61_000, false)] {
            assert_eq!(is_new(&state, &founder, now_ms), new, "{now_ms}");
        }
        assert!(!is_new(&state, &NodeId([8; 32]), 1_000));
    }
}
