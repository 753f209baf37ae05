//! Both sides of a join, and the sentence for each refusal.

use std::time::Duration;

use super::*;
use crate::trust::{
    CRITICAL, InviteTerms,
    scene::{HOUR, START, Scene, id, node, terms},
};

fn refused(scene: &Scene, token: &Token, now_ms: u64) -> String {
    let join = author_join(&node(7), token, "late").unwrap();
    witness(&node(0), &scene.held, &join, now_ms)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_used_token_is_refused_saying_by_whom_and_when() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    scene.join(&token, 1, 0, START).unwrap();
    let expected = format!(
        "the token was used already, by n1 ({}) at 2027-01-15 08:00 UTC; ask for a new one",
        id(1).short()
    );
    assert_eq!(refused(&scene, &token, START + 1), expected);
}

#[test]
fn an_expired_token_is_refused_saying_when() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let join = author_join(&node(1), &token, "n1").unwrap();
    assert!(witness(&node(0), &scene.held, &join, START + HOUR).is_ok());
    let expected = "the token expired at 2027-01-15 09:00 UTC; ask for a new one";
    assert_eq!(refused(&scene, &token, START + HOUR + 1), expected);
}

#[test]
fn a_foreign_token_is_refused_saying_so() {
    let scene = Scene::founded();
    let token = Scene::founded().token(terms(), START);
    let expected = format!(
        "the token's invite is not known in mesh {}: it belongs to another mesh",
        &scene.mesh.to_string()[..8]
    );
    assert_eq!(refused(&scene, &token, START), expected);
}

#[test]
fn an_altered_join_is_refused() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let join = author_join(&node(1), &token, "n1").unwrap();
    for at in 0..join.body.len() {
        let mut altered = join.clone();
        altered.body[at] ^= 1;
        let refusal = witness(&node(0), &scene.held, &altered, START).unwrap_err();
        assert!(
            matches!(refusal, JoinRefusal::Altered | JoinRefusal::Foreign(_)),
            "byte {at}: {refusal}"
        );
    }
    let stolen = Statement {
        author: node(2).public(),
        ..join
    };
    assert_eq!(
        witness(&node(0), &scene.held, &stolen, START),
        Err(JoinRefusal::Altered)
    );
}

#[test]
fn a_join_without_the_token_s_seed_is_refused() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let bytes = Join::invite_bytes(&scene.mesh, &token.invite_id(), &node(1).public(), "n1");
    let join = Join {
        invite: token.invite_id(),
        name: "n1".into(),
        created_ms: START,
        invite_signature: node(1).sign(&bytes),
    };
    let header = LogHeader {
        seq: 0,
        prev: [0; 32],
        hlc: START << 16,
    };
    let join = scene.placed(&node(1), kind::JOIN, header, &join);
    assert_eq!(
        witness(&node(0), &scene.held, &join, START),
        Err(JoinRefusal::Altered)
    );
}

#[test]
fn a_join_for_another_name_than_the_token_s_is_refused_on_both_sides() {
    let mut scene = Scene::founded();
    let token = scene.token(
        InviteTerms {
            name: Some("web3".into()),
            ..terms()
        },
        START,
    );
    let refusal = author_join(&node(1), &token, "web4").unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the token admits only a node named web3; join with `--name web3`"
    );
    let join = author_join(&node(1), &token, "web3").unwrap();
    assert!(witness(&node(0), &scene.held, &join, START).is_ok());
}

#[test]
fn the_same_try_gives_the_same_join_and_a_member_needs_no_second_witness() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let join = author_join(&node(1), &token, "n1").unwrap();
    assert_eq!(author_join(&node(1), &token, "n1").unwrap(), join);
    scene.join(&token, 1, 0, START).unwrap();
    assert_eq!(
        witness(&node(0), &scene.held, &join, START + HOUR * 9),
        Ok(None)
    );
}

#[test]
fn a_try_with_another_token_is_no_sign_of_a_copied_key() {
    let mut scene = Scene::founded();
    let tokens = [scene.token(terms(), START), scene.token(terms(), START)];
    let lost = author_join(&node(1), &tokens[0], "n1").unwrap();
    scene.held.insert(lost).unwrap();
    scene.join(&tokens[1], 1, 0, START).unwrap();
    let state = scene.held.state();
    assert!(state.members.contains_key(&id(1)) && state.frozen.is_empty());
}

#[test]
fn who_is_no_member_vouches_for_nobody() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let join = author_join(&node(1), &token, "n1").unwrap();
    assert_eq!(
        witness(&node(5), &scene.held, &join, START),
        Err(JoinRefusal::NotMember(scene.mesh))
    );
}

#[test]
fn a_node_that_must_be_upgraded_admits_nobody() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let critical = scene.logged(&scene.admin, CRITICAL, &"new rules", START);
    scene.held.insert(critical).unwrap();
    let join = author_join(&node(1), &token, "n1").unwrap();
    assert_eq!(
        witness(&node(0), &scene.held, &join, START),
        Err(JoinRefusal::Upgrade)
    );
}

#[test]
fn a_sponsor_whose_clock_stands_before_what_it_saw_admits_nobody() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let join = author_join(&node(1), &token, "n1").unwrap();
    let refusal = witness(&node(0), &scene.held, &join, 60_000).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the clock of the node asked is wrong: it reads 1970-01-01 00:01 UTC, before things it has seen"
    );
}

#[test]
fn a_sponsor_whose_clock_is_a_little_slow_admits_after_its_own_admission() {
    let mut scene = Scene::founded();
    scene.admit(1, START + 240_000);
    let token = scene.token(terms(), START);
    scene.join(&token, 2, 1, START).unwrap();
    assert_eq!(
        scene.held.state().members[&id(2)].joined_ms,
        START + 240_001
    );
}

#[test]
fn a_joiner_that_needs_approval_waits_and_a_token_without_uses_is_none() {
    let mut scene = Scene::founded();
    let token = scene.token(
        InviteTerms {
            needs_approval: true,
            ..terms()
        },
        START,
    );
    scene.join(&token, 1, 0, START).unwrap();
    assert!(scene.held.state().pending.contains_key(&id(1)));
    let again = author_join(&node(1), &token, "n1").unwrap();
    let late = START + 2 * HOUR;
    let asked = witness(&node(0), &scene.held, &again, late);
    assert_eq!(asked, Ok(None), "nothing is left to say of who waits");
    let none = InviteTerms {
        uses: 0,
        lasts: Duration::ZERO,
        ..terms()
    };
    let refusal = crate::trust::issue_invite(&scene.admin, &scene.held, none, START).unwrap_err();
    assert_eq!(refusal.to_string(), "an invite with 0 uses admits nobody");
}

#[test]
fn another_admin_key_issues_nothing() {
    let scene = Scene::founded();
    let stranger = crate::tunnel::keys::AdminKey::generate();
    let refusal = crate::trust::issue_invite(&stranger, &scene.held, terms(), START).unwrap_err();
    assert!(
        refusal.to_string().contains("does not administer mesh"),
        "{refusal}"
    );
}

#[test]
fn refusals_survive_the_wire() {
    let mesh = MeshId([1; 32]);
    let refusals = [
        JoinRefusal::Used {
            by: id(1),
            name: "n1".into(),
            at_ms: START,
        },
        JoinRefusal::Expired { at_ms: START },
        JoinRefusal::Altered,
        JoinRefusal::Foreign(mesh),
        JoinRefusal::Pinned("web3".into()),
        JoinRefusal::Name("Web".into()),
        JoinRefusal::Revoked {
            by: "admin".into(),
            at_ms: START,
        },
        JoinRefusal::Gone("retired by admin at noon".into()),
        JoinRefusal::Upgrade,
        JoinRefusal::Clock { now_ms: 0 },
        JoinRefusal::Copied,
        JoinRefusal::NotMember(mesh),
        JoinRefusal::Waiting { waiting: 64 },
        JoinRefusal::Spent,
        JoinRefusal::Doubtful,
    ];
    for refusal in refusals {
        let bytes = postcard::to_stdvec(&refusal).unwrap();
        assert_eq!(postcard::from_bytes::<JoinRefusal>(&bytes), Ok(refusal));
    }
}
