//! What a revocation takes with it and gives back, before or after it is published.
//!
//! In: what is held, and a signed statement. Out: by name what the mesh would be with it, against what it is without.
//! Invariant: the difference of two folds, so that it says what will be and not what somebody thinks.
//! Absent: the target itself, which whoever signed knows.

use super::log::Statements;
use super::payload::{Payload, Target, read};
use super::record::{Refusal, Statement};
use super::state::State;
use crate::id::{NodeId, StatementId};

/// What else a statement changes than what it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fallout {
    /// Members that are none any more, because what let them in counts no more: id and name.
    pub members: Vec<(NodeId, String)>,
    /// Who is a member again, because its eviction counts no more.
    pub back: Vec<(NodeId, String)>,
    /// Who waits for approval no more.
    pub pending: Vec<(NodeId, String)>,
    /// Tokens that would have let somebody in and do no more.
    pub tokens: Vec<StatementId>,
    /// Admins that decide no more, because who granted it does not: public key and label.
    pub admins: Vec<([u8; 32], String)>,
    /// Admins that decide again, because their revocation counts no more.
    pub admins_back: Vec<([u8; 32], String)>,
    /// Settings that change.
    pub settings: Vec<Changed>,
    /// Members that are called otherwise: id, name before, name after.
    pub renamed: Vec<(NodeId, String, String)>,
}

/// A setting that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Of which member; `None`: of all.
    pub node: Option<NodeId>,
    /// Which.
    pub key: String,
    /// What it was; `None`: not set.
    pub before: Option<String>,
    /// What it is then; `None`: not set.
    pub after: Option<String>,
}

impl Fallout {
    /// Whether nothing falls.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes otherwise by `said`, besides what it is about. A statement that is held already changes nothing.
pub fn fallout(held: &Statements, said: &Statement) -> Result<Fallout, Refusal> {
    let target = match read(said)?.1 {
        Payload::Revoke(revoke) => Some(revoke.target),
        _ => None,
    };
    let mut with = held.clone();
    with.insert(said.clone())?;
    Ok(difference(&held.state(), &with.state(), target))
}

fn difference(before: &State, after: &State, target: Option<Target>) -> Fallout {
    let is_node = |id: &NodeId| target == Some(Target::Node(*id));
    let members = before.members.values();
    let lost = members.filter(|one| !after.members.contains_key(&one.id) && !is_node(&one.id));
    let members = after.members.values();
    let back = members.filter(|one| !before.members.contains_key(&one.id));
    let pending = before.pending.iter().filter(|(id, _)| {
        !after.pending.contains_key(*id) && !after.members.contains_key(*id) && !is_node(id)
    });
    let renamed = after.members.values().filter_map(|one| {
        let old = &before.members.get(&one.id)?.name;
        (*old != one.name).then(|| (one.id, old.clone(), one.name.clone()))
    });
    let name = |member: &super::Member| (member.id, member.name.clone());
    Fallout {
        members: lost.map(name).collect(),
        back: back.map(name).collect(),
        pending: pending.map(|(id, one)| (*id, one.name.clone())).collect(),
        tokens: tokens(before, after, target),
        admins: deciding(before, after, target),
        admins_back: deciding(after, before, target),
        settings: settings(before, after),
        renamed: renamed.collect(),
    }
}

/// Tokens that somebody could come in by before and not after.
fn tokens(before: &State, after: &State, target: Option<Target>) -> Vec<StatementId> {
    let is_good = |state: &State, id: &StatementId| {
        let invite = state.invites.get(id);
        invite.is_some_and(|one| !one.doubtful && one.is_open(one.invite.not_before_ms))
    };
    let ids = before.invites.keys().copied();
    let lost = ids.filter(|id| is_good(before, id) && !is_good(after, id));
    lost.filter(|id| target != Some(Target::Invite(*id)))
        .collect()
}

/// Admins that decide in one state and not in the other.
fn deciding(one: &State, other: &State, target: Option<Target>) -> Vec<([u8; 32], String)> {
    let only = one.admins.iter().filter(|(key, _)| {
        one.rank(key).is_some() && other.rank(key).is_none() && target != Some(Target::Admin(**key))
    });
    only.map(|(key, admin)| (*key, admin.label.clone()))
        .collect()
}

fn settings(before: &State, after: &State) -> Vec<Changed> {
    let value = |state: &State, node, key: &str| {
        let mut all = state.settings.iter();
        let found = all.find(|(of, name, _)| *of == node && *name == key);
        found.map(|(.., value)| value.to_owned())
    };
    let keys = before.settings.iter().chain(after.settings.iter());
    let keys: std::collections::BTreeSet<_> = keys.map(|(node, key, _)| (node, key)).collect();
    let changed = keys.into_iter().map(|(node, key)| Changed {
        node,
        key: key.to_owned(),
        before: value(before, node, key),
        after: value(after, node, key),
    });
    changed.filter(|one| one.before != one.after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::scene::{START, Scene, id, terms, words};
    use crate::trust::{
        Cut, Manner, Revocation, Setting, Token, issue_grant, issue_invite, issue_policy,
        issue_rename, issue_revoke,
    };
    use crate::tunnel::keys::AdminKey;

    fn revoke(scene: &Scene, by: &AdminKey, target: Target, cut: Option<Cut>) -> Statement {
        let revocation = Revocation {
            target,
            manner: Manner::Evicted,
            cut,
            reason: "",
        };
        issue_revoke(by, &scene.held, &revocation, START + 9).unwrap()
    }

    #[test]
    fn what_falls_with_a_stolen_admin_key_is_told_by_name() {
        let mut scene = Scene::founded();
        scene.admit(1, START);
        scene.admit(2, START);
        let (second, third) = (scene.nth_admin(2), scene.nth_admin(3));
        for (key, label) in [(&second, "a2"), (&third, "a3")] {
            let by = if label == "a2" { &scene.admin } else { &second };
            let said = issue_grant(by, &scene.held, key.public(), None, label, START).unwrap();
            scene.held.insert(said).unwrap();
        }
        let [used, open] = [1, 2].map(|_| {
            let (seed, invite) = issue_invite(&second, &scene.held, terms(), START).unwrap();
            scene.held.insert(invite.clone()).unwrap();
            Token::new(seed, invite, &scene.held, Vec::new()).unwrap()
        });
        scene.join(&used, 3, 0, START + 1).unwrap();
        let (setting, value) = (Setting::Site, Some("theirs"));
        let site = issue_policy(&second, &scene.held, None, setting, value, START).unwrap();
        scene.held.insert(site).unwrap();
        let out = revoke(&scene, &second, Target::Node(id(1)), None);
        scene.held.insert(out).unwrap();
        let name = issue_rename(&second, &scene.held, id(2), "theirs", START).unwrap();
        scene.held.insert(name).unwrap();

        let target = Target::Admin(second.public());
        let said = revoke(&scene, &words(), target, Some(Cut::NOTHING));
        let fallout = fallout(&scene.held, &said).unwrap();
        let expected = Fallout {
            members: vec![(id(3), "n3".to_owned())],
            back: vec![(id(1), "n1".to_owned())],
            pending: Vec::new(),
            tokens: vec![open.invite_id()],
            admins: vec![(third.public(), "a3".to_owned())],
            admins_back: Vec::new(),
            settings: vec![Changed {
                node: None,
                key: "site".to_owned(),
                before: Some("theirs".to_owned()),
                after: None,
            }],
            renamed: vec![(id(2), "theirs".to_owned(), "n2".to_owned())],
        };
        assert_eq!(fallout, expected);
    }

    #[test]
    fn nothing_falls_with_an_eviction_that_accepts_the_whole_log() {
        let mut scene = Scene::founded();
        scene.admit(1, START);
        let token = scene.token(terms(), START);
        scene.join(&token, 2, 1, START + 1).unwrap();
        let said = revoke(&scene, &scene.admin, Target::Node(id(1)), None);
        assert!(fallout(&scene.held, &said).unwrap().is_empty());
        let none = Some(Cut::NOTHING);
        let said = revoke(&scene, &scene.admin, Target::Node(id(1)), none);
        let fallen = fallout(&scene.held, &said).unwrap();
        assert_eq!(fallen.members, [(id(2), "n2".to_owned())]);
    }
}
