//! What the statements say that an owner should know: who waits, who is gone, which token or key is in wrong hands, and
//! what is missing to get back in.
//!
//! In: the folded state, who this node is, the time. Out: alarms as JSON, and notices as sentences.
//! Bound: of what admins and thieves repeat, the newest `MOST` of a kind; the rest is counted.
//! Absent: printing; the reader makes names harmless.

use outlast_mesh::NodeId;
use outlast_mesh::trust::{Conflict, Manner, State};
use serde_json::{Value, json};

use crate::membership::public;

/// Lines of one kind at most.
const MOST: usize = 8;

/// How long it is told that somebody went.
const NEWS: i64 = 86_400_000;

/// Why this node exchanges nothing any more. `None`: it is a member.
pub(super) fn out_of_mesh(state: &State, me: NodeId) -> Option<String> {
    let why = state.why_gone(&me)?;
    Some(match state.gone[&me].manner {
        Manner::Left => {
            format!("this node left the mesh: {why}; `outlast leave` again puts aside what it kept")
        }
        Manner::Evicted | Manner::Retired => format!(
            "this node is no member any more, keeps its history and exchanges nothing; `outlast leave` makes it ready for a \
             new token; it was {why}"
        ),
    })
}

/// Sentences for whoever looks at the status.
pub(super) fn notices(state: &State, me: NodeId, now_ms: i64) -> Vec<String> {
    let mut notices: Vec<String> = out_of_mesh(state, me).into_iter().collect();
    notices.extend(bounded(
        waiting(state),
        "wait to be approved: `outlast approve` lists them",
    ));
    notices.extend(bounded(
        news(state, me, now_ms),
        "went: `outlast members` lists them",
    ));
    notices.extend(reminder(state));
    notices
}

fn waiting(state: &State) -> Vec<String> {
    let mut pending: Vec<_> = state.pending.iter().collect();
    pending.sort_by_key(|(id, pending)| (pending.at_ms, **id));
    let line = |(id, name): (&NodeId, &str)| {
        let id = id.short();
        format!("{name} ({id}) waits to be approved: outlast approve {id}")
    };
    let pending = pending.into_iter();
    pending
        .map(|(id, pending)| line((id, &pending.name)))
        .collect()
}

/// Who went within a day, the last first.
fn news(state: &State, me: NodeId, now_ms: i64) -> Vec<String> {
    let mut gone: Vec<_> = state.gone.iter().filter(|(id, _)| **id != me).collect();
    gone.retain(|(_, gone)| now_ms.saturating_sub(millis(gone.at_ms)) < NEWS);
    gone.sort_by_key(|(id, gone)| (std::cmp::Reverse(gone.at_ms), **id));
    let line = |(id, gone): (&NodeId, &outlast_mesh::trust::Gone)| {
        let why = state.why_gone(id).unwrap_or_default();
        let was = if gone.manner == Manner::Left {
            ""
        } else {
            "was "
        };
        format!("{} {was}{why}", gone.member.name)
    };
    gone.into_iter().map(line).collect()
}

/// What to do while one lost key would leave nobody to invite or evict.
fn reminder(state: &State) -> Option<String> {
    let has_words = state.genesis.as_ref()?.recovery.is_some();
    let in_force = state.admins.values();
    let in_force = in_force.filter(|admin| admin.revoked.is_none()).count();
    (!has_words && in_force < 2).then(|| {
        "the mesh has one admin key and no recovery words: if it is lost, nobody can invite or evict any more; make words \
         with `outlast recover --setup`, or another admin with `outlast admin add`"
            .to_owned()
    })
}

/// Tokens and keys that are in more hands than one.
pub(super) fn alarms(state: &State) -> Vec<Value> {
    let conflicts = state.conflicts.iter().rev().take(MOST);
    let mut alarms: Vec<Value> = conflicts.map(|one| conflict(state, one)).collect();
    for (key, frozen) in state.frozen.iter().take(MOST) {
        let at_ms = frozen.hlc >> 16;
        alarms.push(match (state.members.get(&NodeId(*key)), state.admins.get(key)) {
            (Some(member), _) => alarm(
                format!("copied-key/{}", member.id),
                &member.name,
                "its key says two things at once: the machine was copied, or its key is in other hands; whom it lets in \
                 from now on counts for nothing until it is evicted"
                    .to_owned(),
                at_ms,
            ),
            (None, Some(admin)) if admin.revoked.is_none() => alarm(
                format!("copied-key/{}", public::short(key)),
                &admin.label,
                format!(
                    "the admin key {} is in use in two places: nothing it signs counts any more; revoke it, by a key above \
                     it or with the recovery words",
                    admin.label
                ),
                at_ms,
            ),
            _ => continue,
        });
    }
    alarms
}

fn conflict(state: &State, conflict: &Conflict) -> Value {
    let name = |id: &NodeId| {
        let member = state.ever(id);
        member.map_or_else(|| id.short(), |member| member.name.clone())
    };
    let admitted: Vec<String> = conflict.admitted.iter().map(name).collect();
    let invite: String = conflict.invite.to_string().chars().take(8).collect();
    alarm(
        format!("token-twice/{invite}/{}", conflict.refused),
        &conflict.refused_name,
        format!(
            "the token of invite {invite} is in more hands than it was made for: {} ({}), let in by {}, is refused, because \
             it had admitted {}",
            conflict.refused_name,
            conflict.refused.short(),
            name(&conflict.sponsor),
            admitted.join(", ")
        ),
        conflict.at_ms,
    )
}

fn alarm(id: String, node: &str, title: String, since_ms: u64) -> Value {
    json!({
        "id": id,
        "severity": "critical",
        "node": node,
        "title": title,
        "since_ms": since_ms,
    })
}

fn bounded(mut lines: Vec<String>, more: &str) -> Vec<String> {
    if lines.len() > MOST {
        let left_out = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("{left_out} more {more}"));
    }
    lines
}

fn millis(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}
