//! What is not signed because it would have no effect, and the sentence for each.

use super::*;
use crate::trust::InviteTerms;
use crate::trust::scene::{HOUR, START, Scene, id, node, terms, words};

fn revoke(
    scene: &Scene,
    by: &AdminKey,
    target: Target,
    reason: &str,
) -> Result<Statement, IssueError> {
    let revocation = Revocation {
        target,
        manner: Manner::Evicted,
        cut: None,
        reason,
    };
    issue_revoke(by, &scene.held, &revocation, START + 1)
}

fn grant(scene: &mut Scene, number: u8) -> AdminKey {
    let key = scene.nth_admin(number);
    let (label, public) = (format!("a{number}"), key.public());
    let said = issue_grant(&scene.admin, &scene.held, public, None, &label, START).unwrap();
    scene.held.insert(said).unwrap();
    key
}

fn says(outcome: Result<Statement, IssueError>, expected: &str) {
    assert_eq!(outcome.unwrap_err().to_string(), expected);
}

#[test]
fn who_is_no_admin_signs_nothing() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let stranger = scene.nth_admin(4);
    let (held, key) = (&scene.held, stranger.public());
    let outcomes = [
        revoke(&scene, &stranger, Target::Node(id(1)), ""),
        issue_grant(&stranger, held, key, None, "me", START),
        issue_approve(&stranger, held, id(1), START),
        issue_rename(&stranger, held, id(1), "mine", START),
    ];
    for outcome in outcomes {
        let refusal = outcome.unwrap_err().to_string();
        assert!(
            refusal.starts_with("this admin key does not administer mesh"),
            "{refusal}"
        );
    }
}

#[test]
fn grants_without_effect_are_refused() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2);
    let third = scene.nth_admin(3).public();
    let try_grant = |by, key, rank, label| issue_grant(by, &scene.held, key, rank, label, START);
    says(
        try_grant(&second, third, Some(2), "a3"),
        "an admin of rank 2 makes admins of rank 3 and more, not 2",
    );
    says(
        try_grant(&scene.admin, third, None, "A 3"),
        "\"A 3\" is not a name: 1 to 63 letters of a-z, 0-9 and - are needed",
    );
    says(
        try_grant(&scene.admin, third, None, "a2"),
        "an admin called a2 exists already",
    );
    says(
        try_grant(&scene.admin, second.public(), Some(3), "a2"),
        "a2 has this key and rank 2 already",
    );
    says(
        try_grant(&scene.admin, node(0).public(), None, "me"),
        "this is the key of the node founder; an admin has one of its own, made by `outlast admin add`",
    );
    assert!(
        try_grant(&words(), second.public(), Some(1), "a2").is_ok(),
        "a better rank"
    );
    let said = revoke(&scene, &scene.admin, Target::Admin(second.public()), "").unwrap();
    scene.held.insert(said).unwrap();
    says(
        issue_grant(
            &scene.admin,
            &scene.held,
            second.public(),
            None,
            "a2",
            START,
        ),
        "it was revoked already, by admin at 2027-01-15 08:00 UTC",
    );
}

#[test]
fn revocations_without_effect_are_refused() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let second = grant(&mut scene, 2);
    let equal = grant(&mut scene, 3);
    let first = scene.admin.clone();
    let try_revoke = |by, target| revoke(&scene, by, target, "");
    says(
        try_revoke(&second, Target::Admin(equal.public())),
        "a3 has rank 2 and you have 2: an admin revokes only those of a higher number, and itself",
    );
    says(
        try_revoke(&first, Target::Admin(words().public())),
        "recovery has rank 0 and you have 1: an admin revokes only those of a higher number, and itself",
    );
    says(
        try_revoke(&first, Target::Admin([7; 32])),
        "this is no admin key of the mesh; see `outlast admin list`",
    );
    let stranger = format!(
        "no member and nobody who waits has the id {}",
        id(9).short()
    );
    says(try_revoke(&first, Target::Node(id(9))), &stranger);
    assert!(try_revoke(&first, Target::Invite(StatementId([1; 32]))).is_err());
    for reason in ["two\nlines", &"x".repeat(MAX_REASON + 1)] {
        let refusal = revoke(&scene, &first, Target::Node(id(1)), reason).unwrap_err();
        assert_eq!(refusal, IssueError::Reason { len: reason.len() });
    }
    let said = revoke(&scene, &first, Target::Node(id(1)), "stolen").unwrap();
    scene.held.insert(said).unwrap();
    says(
        revoke(&scene, &first, Target::Node(id(1)), ""),
        "n1 is gone, evicted by admin at 2027-01-15 08:00 UTC: stolen; its id never comes back",
    );
    says(
        issue_rename(&first, &scene.held, id(1), "back", START),
        "n1 is gone, evicted by admin at 2027-01-15 08:00 UTC: stolen; its id never comes back",
    );
}

#[test]
fn a_token_that_admits_nobody_any_more_is_not_revoked() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let target = Target::Invite(token.invite_id());
    assert!(revoke(&scene, &scene.admin, target, "").is_ok());
    scene.join(&token, 1, 0, START).unwrap();
    says(
        revoke(&scene, &scene.admin, target, ""),
        "the token closed at 2027-01-15 08:00 UTC; evict who came in by it and should not have",
    );
    let token = scene.token(terms(), START);
    let target = Target::Invite(token.invite_id());
    let said = revoke(&scene, &scene.admin, target, "").unwrap();
    scene.held.insert(said).unwrap();
    says(
        revoke(&scene, &scene.admin, target, ""),
        "it was revoked already, by admin at 2027-01-15 08:00 UTC",
    );
}

#[test]
fn the_last_admin_of_a_mesh_without_recovery_words_does_not_resign() {
    let mut scene = Scene::without_words();
    let own = Target::Admin(scene.admin.public());
    says(
        revoke(&scene, &scene.admin, own, ""),
        "it is the last admin of the mesh, and there are no recovery words: make another one first",
    );
    grant(&mut scene, 2);
    assert!(revoke(&scene, &scene.admin, own, "").is_ok());
}

#[test]
fn approvals_and_names_without_effect_are_refused() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    scene.admit(2, START);
    says(
        issue_approve(&scene.admin, &scene.held, id(1), START),
        "n1 is a member already",
    );
    let stranger = format!(
        "no member and nobody who waits has the id {}",
        id(9).short()
    );
    says(
        issue_approve(&scene.admin, &scene.held, id(9), START),
        &stranger,
    );
    let rename = |name| issue_rename(&scene.admin, &scene.held, id(1), name, START);
    says(rename("n1"), "n1 is called so already");
    let taken = format!(
        "n2 is the name of {} already; rename that one first",
        id(2).short()
    );
    says(rename("n2"), &taken);
    says(
        rename("Web"),
        "\"Web\" is not a name: 1 to 63 letters of a-z, 0-9 and - are needed",
    );
}

#[test]
fn who_is_no_member_cannot_leave_and_who_left_did() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let stranger = format!(
        "no member and nobody who waits has the id {}",
        id(9).short()
    );
    says(issue_leave(&node(9), &scene.held, "", START), &stranger);
    let said = issue_leave(&node(1), &scene.held, "sold", START + HOUR).unwrap();
    scene.held.insert(said).unwrap();
    says(
        issue_leave(&node(1), &scene.held, "", START + HOUR),
        "n1 is gone, left at 2027-01-15 09:00 UTC: sold; its id never comes back",
    );
}

#[test]
fn a_member_whose_key_was_copied_is_retired_by_an_admin() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    for name in ["a", "b"] {
        let header = crate::trust::LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc: START << 16,
        };
        let said = scene.placed(&node(1), kind::POLICY, header, &name);
        scene.held.insert(said).unwrap();
    }
    says(
        issue_leave(&node(1), &scene.held, "", START),
        "this node's key is in use on a second machine; an admin has to retire it",
    );
    assert!(revoke(&scene, &scene.admin, Target::Node(id(1)), "").is_ok());
}

#[test]
fn who_waits_for_approval_can_be_refused() {
    let mut scene = Scene::founded();
    let terms = InviteTerms {
        needs_approval: true,
        ..terms()
    };
    let token = scene.token(terms, START);
    scene.join(&token, 1, 0, START).unwrap();
    let said = revoke(&scene, &scene.admin, Target::Node(id(1)), "unknown machine").unwrap();
    scene.held.insert(said).unwrap();
    says(
        issue_approve(&scene.admin, &scene.held, id(1), START),
        "n1 is gone, evicted by admin at 2027-01-15 08:00 UTC: unknown machine; its id never comes back",
    );
}
