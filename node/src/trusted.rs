//! Who belongs to the mesh, who did, who may come in and who decides that, as `members --json`, `approve --json`,
//! `invite --list --json` and `admin list --json` say it.
//!
//! In: the folded statements. Out: JSON; keys in their public text, times in milliseconds since the Unix epoch.
//! Absent: what anybody may do by it; the fold decides that.

use outlast_mesh::trust::{Admin, InviteState, Manner, Member, Pending, Revoked, State};
use outlast_mesh::{NodeId, StatementId};
use serde_json::{Value, json};

use crate::membership::public;
use crate::when;

/// Every invite, the newest first.
fn invites(state: &State, now_ms: u64) -> Value {
    let mut invites: Vec<_> = state.invites.iter().collect();
    invites.sort_by_key(|(id, one)| (std::cmp::Reverse(one.invite.not_before_ms), **id));
    let name = |id: &NodeId| {
        let member = state.ever(id);
        member.map_or_else(|| id.to_string(), |member| member.name.clone())
    };
    let line = |(id, one): (&StatementId, &InviteState)| {
        json!({
            "id": id.to_string(),
            "open": one.is_open(now_ms) && !one.doubtful,
            "doubtful": one.doubtful,
            "expired": one.invite.not_after_ms <= now_ms,
            "name": one.invite.name,
            "uses": one.invite.uses,
            "used_by": one.used.iter().map(|used| name(&used.by)).collect::<Vec<_>>(),
            "made_ms": one.invite.not_before_ms,
            "expires_ms": one.invite.not_after_ms,
            "approve": one.invite.needs_approval,
            "replaces": one.replaces.as_ref().map(name),
            "revoked": one.revoked.as_ref().map(revoked),
        })
    };
    invites.into_iter().map(line).collect()
}

fn revoked(revoked: &Revoked) -> Value {
    json!({
        "by": revoked.by_label,
        "at_ms": revoked.at_ms,
        "reason": revoked.reason,
    })
}

/// Everybody who belongs to the mesh or did, those that are gone last. `heard` says how a member is.
pub(crate) fn members<'a>(state: &State, heard: impl Fn(&NodeId) -> &'a str) -> Value {
    let name = |id: Option<NodeId>| Some(&state.ever(&id?)?.name);
    let line = |member: &Member, standing: &str| {
        json!({
            "id": member.id.to_string(),
            "name": member.name,
            "address": member.address,
            "joined_ms": member.joined_ms,
            "state": standing,
            "final": false,
            "replaces": name(member.replaces),
            "replaced_by": name(member.replaced_by),
        })
    };
    let current = state.members.values();
    let current = current.map(|member| match member.replaced_by {
        Some(_) => {
            let mut shown = line(member, "retired");
            shown["final"] = json!(true);
            shown
        }
        // One that never said where it is has never run as a member, which is no outage.
        None if member.info.is_none() && heard(&member.id) == "down" => line(member, "unknown"),
        None => line(member, heard(&member.id)),
    });
    let gone = state.gone.values().map(|gone| {
        let mut shown = line(&gone.member, word(gone.manner));
        shown["final"] = json!(true);
        shown["gone_ms"] = json!(gone.at_ms);
        shown["by"] = gone.by.map_or(Value::Null, |_key| json!(gone.by_label));
        shown["reason"] = json!(gone.reason);
        shown
    });
    current.chain(gone).collect()
}

fn word(manner: Manner) -> &'static str {
    match manner {
        Manner::Evicted => "evicted",
        Manner::Retired => "retired",
        Manner::Left => "left",
    }
}

/// Every key that is or was an admin's, highest rank first, every node that waits, longest first, and every invite.
pub(crate) fn shown(state: &State) -> Value {
    let now_ms = u64::try_from(when::now_ms()).unwrap_or_default();
    let mut admins: Vec<_> = state.admins.iter().collect();
    admins.sort_by(|a, b| (a.1.rank, &a.1.label, a.0).cmp(&(b.1.rank, &b.1.label, b.0)));
    let mut waiting: Vec<_> = state.pending.iter().collect();
    waiting.sort_by_key(|(id, pending)| (pending.at_ms, **id));
    json!({
        "invites": invites(state, now_ms),
        "admins": admins.into_iter().map(|(key, one)| admin(state, key, one)).collect::<Vec<_>>(),
        "waiting": waiting.into_iter().map(|(id, one)| pending(state, id, one)).collect::<Vec<_>>(),
    })
}

fn admin(state: &State, key: &[u8; 32], admin: &Admin) -> Value {
    let label = |key: &[u8; 32]| {
        let known = state.admins.get(key);
        known.map_or_else(|| public::short(key), |admin| admin.label.clone())
    };
    json!({
        "label": admin.label,
        "key": public::show(key),
        "rank": admin.rank,
        "granted_by": admin.granted_by.as_ref().map(label),
        "at_ms": admin.at_ms,
        "revoked": admin.revoked.as_ref().map(revoked),
        "in_two_places": state.frozen.contains_key(key),
    })
}

fn pending(state: &State, id: &NodeId, pending: &Pending) -> Value {
    let sponsor = state.members.get(&pending.sponsor);
    json!({
        "id": id.to_string(),
        "name": pending.name,
        "sponsor": sponsor.map(|sponsor| &sponsor.name),
        "at_ms": pending.at_ms,
    })
}

#[cfg(test)]
mod tests {
    use outlast_mesh::AdminKey;
    use outlast_mesh::trust::{Gone, Statements, found};

    use super::*;

    #[test]
    fn who_never_ran_is_unknown_and_who_is_gone_is_so_for_good() {
        let founder = NodeId([7; 32]);
        let (mesh, genesis) = found(&AdminKey::generate(), founder, "attic", "home", None, 1);
        let mut held = Statements::new(mesh);
        held.insert(genesis).unwrap();
        let mut state = State::clone(&held.state());
        let gone = Gone {
            member: state.members[&founder].clone(),
            manner: Manner::Left,
            by: None,
            by_label: String::new(),
            at_ms: 2,
            reason: String::new(),
            may_return: false,
        };
        state.gone.insert(NodeId([8; 32]), gone);
        let shown = members(&state, |_id| "down");
        let of = |at: usize| (shown[at]["state"].clone(), shown[at]["final"].clone());
        assert_eq!(of(0), (json!("unknown"), json!(false)));
        assert_eq!(of(1), (json!("left"), json!(true)));
        let shown = members(&state, |_id| "alive");
        assert_eq!(shown[0]["state"], "alive");
    }
}
