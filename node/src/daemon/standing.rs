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

/// How long it is told that somebody was evicted.
const NEWS: i64 = 86_400_000;

/// How long that somebody went in peace: `members` lists who did for ever.
const PEACEFUL_NEWS: i64 = 3_600_000;

/// Why this node exchanges nothing any more. `None`: it is a member.
pub(super) fn out_of_mesh(state: &State, me: NodeId) -> Option<String> {
    let why = state.why_out(&me)?;
    Some(match state.gone.get(&me).map(|gone| gone.manner) {
        Some(Manner::Left) => {
            format!("this node left the mesh: {why}; `outlast leave` again puts aside what it kept")
        }
        _ => format!(
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
    // One that is out can't do anything about it.
    if state.members.contains_key(&me) {
        notices.extend(reminder(state));
    }
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

/// Who went lately, the last first.
fn news(state: &State, me: NodeId, now_ms: i64) -> Vec<String> {
    let mut gone: Vec<_> = state.gone.iter().filter(|(id, _)| **id != me).collect();
    gone.retain(|(_, gone)| {
        let within = match gone.manner {
            Manner::Evicted => NEWS,
            Manner::Retired | Manner::Left => PEACEFUL_NEWS,
        };
        now_ms.saturating_sub(millis(gone.at_ms)) < within
    });
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
    let in_force = state.admins.iter();
    let in_force = in_force
        .filter(|(key, admin)| admin.revoked.is_none() && !state.frozen.contains_key(*key))
        .count();
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
        alarms.push(match (state.ever(&NodeId(*key)), state.admins.get(key)) {
            (Some(member), _) => alarm(
                format!("copied-key/{}", member.id),
                &member.name,
                "its key says two things at once: the machine was copied, or its key is in other hands; whom it let in \
                 stays, and it lets in nobody new; evict it, or retire it if both are yours"
                    .to_owned(),
                at_ms,
            ),
            (None, Some(admin)) => alarm(
                format!("copied-key/{}", public::short(key)),
                &admin.label,
                format!(
                    "the admin key {} is in use in two places: its tokens are refused, and what it set or named since \
                     does not count; revoke it, by a key above it or with the recovery words",
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

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use outlast_mesh::trust::{Frozen, Gone, Member, Pending, Statements, found, issue_grant};
    use outlast_mesh::{AdminKey, NodeKey, StatementId};

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn statements(admin: &AdminKey, founder: NodeId, words: Option<[u8; 32]>) -> Statements {
        let (mesh, genesis) = found(admin, founder, "attic", "home", words, NOW_MS);
        let mut statements = Statements::new(mesh);
        statements.insert(genesis).unwrap();
        statements
    }

    /// A mesh of one, with recovery words, as it was folded.
    fn state() -> (NodeId, State) {
        let me = NodeKey::generate().id();
        let words = Some(AdminKey::generate().public());
        let held = statements(&AdminKey::generate(), me, words);
        (me, State::clone(&held.state()))
    }

    fn gone(name: &str, manner: Manner, at_ms: u64, reason: &str) -> Gone {
        Gone {
            member: Member {
                id: NodeId([9; 32]),
                name: name.to_owned(),
                joined_ms: 0,
                address: Ipv6Addr::LOCALHOST,
                sponsor: None,
                info: None,
                replaces: None,
                replaced_by: None,
            },
            manner,
            by: (manner != Manner::Left).then_some([7; 32]),
            by_label: if manner == Manner::Left { "" } else { "admin" }.to_owned(),
            at_ms,
            reason: reason.to_owned(),
            may_return: false,
        }
    }

    fn said(state: &State, me: NodeId) -> Vec<String> {
        notices(state, me, millis(NOW_MS))
    }

    #[test]
    fn one_key_and_no_words_are_told_until_there_is_a_second_way_in() {
        let (me, admin) = (NodeKey::generate().id(), AdminKey::generate());
        let mut held = statements(&admin, me, None);
        let told = said(&held.state(), me);
        assert!(
            told[0].starts_with("the mesh has one admin key and no recovery words"),
            "{told:?}"
        );
        let ann = AdminKey::generate().public();
        let grant = issue_grant(&admin, &held, ann, None, "ann", NOW_MS).unwrap();
        held.insert(grant).unwrap();
        assert_eq!(said(&held.state(), me), [""; 0]);
        let (founder, with_words) = state();
        assert_eq!(said(&with_words, founder), [""; 0]);
    }

    #[test]
    fn who_waits_and_who_went_lately_is_told_by_name() {
        let (me, mut state) = state();
        let waits = NodeId([3; 32]);
        state.pending.insert(
            waits,
            Pending {
                join: StatementId([1; 32]),
                name: "cellar".to_owned(),
                invite: StatementId([2; 32]),
                sponsor: me,
                at_ms: NOW_MS,
            },
        );
        let day = 86_400_000;
        state.gone.insert(
            NodeId([4; 32]),
            gone("roof", Manner::Evicted, NOW_MS - day + 1, "stolen"),
        );
        state
            .gone
            .insert(NodeId([5; 32]), gone("shed", Manner::Left, NOW_MS - 1, ""));
        state.gone.insert(
            NodeId([6; 32]),
            gone("old", Manner::Retired, NOW_MS - day / 24, ""),
        );
        let id = waits.short();
        let told = said(&state, me);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(
            told[0],
            format!("cellar ({id}) waits to be approved: outlast approve {id}")
        );
        assert!(told[1].starts_with("shed left at "), "{told:?}");
        assert!(
            told[2].starts_with("roof was evicted by admin at ") && told[2].ends_with(": stolen"),
            "{told:?}"
        );
        for number in 0..20 {
            state.gone.insert(
                NodeId([100 + number; 32]),
                gone("many", Manner::Left, NOW_MS, ""),
            );
        }
        let told = said(&state, me);
        assert_eq!(told.len(), 1 + MOST + 1);
        assert_eq!(told[1 + MOST], "14 more went: `outlast members` lists them");
    }

    #[test]
    fn a_node_that_is_out_is_told_why_and_what_to_do() {
        let (me, mut state) = state();
        state.members.remove(&me);
        state
            .gone
            .insert(me, gone("attic", Manner::Evicted, NOW_MS, "stolen"));
        let told = said(&state, me);
        assert!(
            told[0].contains(
                "`outlast leave` makes it ready for a new token; it was evicted by admin at "
            ),
            "{told:?}"
        );
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn the_second_by_a_token_for_one_is_told_that_it_is_out() {
        let (founder, mut state) = state();
        let me = NodeId([8; 32]);
        state.conflicts.push(Conflict {
            invite: StatementId([2; 32]),
            refused: me,
            refused_name: "cellar".to_owned(),
            sponsor: founder,
            at_ms: NOW_MS,
            admitted: vec![founder],
        });
        let told = said(&state, me);
        assert!(
            told[0].ends_with("it was refused, for its token had admitted another"),
            "{told:?}"
        );
    }

    #[test]
    fn a_token_used_twice_and_a_copied_key_are_alarms_that_name_both() {
        let (me, mut state) = state();
        let refused = NodeId([3; 32]);
        state.conflicts.push(Conflict {
            invite: StatementId([2; 32]),
            refused,
            refused_name: "cellar".to_owned(),
            sponsor: me,
            at_ms: NOW_MS,
            admitted: vec![me],
        });
        let frozen = Frozen {
            seq: 3,
            statements: [StatementId([1; 32]); 2],
            hlc: NOW_MS << 16,
        };
        state.frozen.insert(me.0, frozen.clone());
        let admin = *state.admins.keys().next_back().unwrap();
        state.frozen.insert(admin, frozen);
        let alarms = alarms(&state);
        assert_eq!(alarms.len(), 3, "{alarms:?}");
        let title = |at: usize| alarms[at]["title"].as_str().unwrap();
        assert!(
            title(0).contains(&format!(
                "cellar ({}), let in by attic, is refused",
                refused.short()
            )),
            "{alarms:?}"
        );
        assert!(title(0).ends_with("it had admitted attic"), "{alarms:?}");
        assert!(
            alarms
                .iter()
                .all(|alarm| alarm["since_ms"] == NOW_MS && alarm["severity"] == "critical")
        );
        let copied = alarms
            .iter()
            .filter(|alarm| alarm["id"].as_str().unwrap().starts_with("copied-key/"));
        assert_eq!(copied.count(), 2);
    }
}
