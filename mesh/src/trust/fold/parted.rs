//! Members that go, nodes that wait, invites taken back, and the names that change hands.

use super::admission::{MAX_PENDING, MAX_SURPLUS};
use crate::trust::history::forged_join;
use crate::trust::scene::{HOUR, START, Scene, exchange, id, node, terms};
use crate::trust::{
    Approve, Cut, InviteTerms, JoinRefusal, Leave, Manner, Revocation, Statement, Statements,
    Target, Token, Use, Witness, author_join, issue_approve, issue_leave, issue_rename,
    issue_replace, issue_revoke, kind, witness,
};

const MINUTE: u64 = 60_000;

fn part(scene: &mut Scene, number: u8, manner: Manner, cut: Option<Cut>, at_ms: u64) {
    let revocation = Revocation {
        target: Target::Node(id(number)),
        manner,
        cut,
        reason: "stolen",
    };
    let said = issue_revoke(&scene.admin, &scene.held, &revocation, at_ms).unwrap();
    scene.held.insert(said).unwrap();
}

/// Node `joiner` asks by `token` and may have to wait.
fn ask(scene: &mut Scene, token: &Token, joiner: u8, name: &str, at_ms: u64) {
    let join = author_join(&node(joiner), token, name).unwrap();
    let vouched = witness(&node(0), &scene.held, &join, at_ms)
        .unwrap()
        .unwrap();
    scene.held.insert(join).unwrap();
    scene.held.insert(vouched).unwrap();
}

fn approving(scene: &mut Scene, uses: u16) -> Token {
    let terms = InviteTerms {
        uses,
        needs_approval: true,
        ..terms()
    };
    scene.token(terms, START)
}

fn approve(scene: &mut Scene, number: u8, at_ms: u64) {
    let said = issue_approve(&scene.admin, &scene.held, id(number), at_ms).unwrap();
    scene.held.insert(said).unwrap();
}

fn same_in_any_order(scene: &Scene) {
    let all: Vec<Statement> = scene.held.all().cloned().collect();
    assert_eq!(scene.holder(all.iter().rev()).state(), scene.held.state());
}

#[test]
fn an_evicted_member_is_gone_with_a_sentence_and_its_history() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let info = scene.info(1, 1, 1);
    scene.held.insert(info).unwrap();
    let before = scene.held.state().members[&id(1)].clone();
    part(&mut scene, 1, Manner::Evicted, None, START + MINUTE);
    let state = scene.held.state();
    assert!(!state.members.contains_key(&id(1)));
    assert_eq!(state.gone[&id(1)].member, before);
    assert_eq!(state.gone[&id(1)].by, Some(scene.admin.public()));
    let why = "evicted by admin at 2027-01-15 08:01 UTC: stolen";
    assert_eq!(state.why_gone(&id(1)).as_deref(), Some(why));
    assert_eq!(state.why_gone(&id(0)), None);
    same_in_any_order(&scene);
}

#[test]
fn an_id_that_was_revoked_never_returns_and_is_told_so() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    part(&mut scene, 1, Manner::Evicted, None, START + 1);
    let token = scene.token(terms(), START + 2);
    let join = author_join(&node(1), &token, "n1").unwrap();
    let refusal = witness(&node(0), &scene.held, &join, START + 2).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "this node is gone, evicted by admin at 2027-01-15 08:00 UTC: stolen; its id never comes back, so it has to join \
         with a new one"
    );
    // A sponsor that does not look changes nothing.
    let vouch = Witness {
        join: scene.id_of(&join),
    };
    let vouched = scene.logged(&node(0), kind::WITNESS, &vouch, START + 3);
    scene.held.insert(join).unwrap();
    scene.held.insert(vouched).unwrap();
    assert!(!scene.held.state().members.contains_key(&id(1)));
}

#[test]
fn an_eviction_wins_over_a_retirement_and_both_over_a_farewell() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let leave = issue_leave(&node(1), &scene.held, "sold", START + 1).unwrap();
    scene.held.insert(leave).unwrap();
    let why = |scene: &Scene| scene.held.state().why_gone(&id(1)).unwrap();
    assert_eq!(why(&scene), "left at 2027-01-15 08:00 UTC: sold");
    let mut held = scene.held.clone();
    for (manner, word) in [
        (Manner::Retired, "retired by"),
        (Manner::Evicted, "evicted by"),
    ] {
        let revoke = crate::trust::Revoke {
            target: Target::Node(id(1)),
            cut: held.cut(&id(1).0),
            manner,
            reason: String::new(),
        };
        let header = held.next_header(&scene.admin.public(), START + 2);
        held.insert(scene.placed(&scene.admin, kind::REVOKE, header, &revoke))
            .unwrap();
        let why = held.state().why_gone(&id(1)).unwrap();
        assert!(why.starts_with(word), "{why}");
    }
}

#[test]
fn what_a_member_vouched_for_stands_up_to_its_cut() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let [early, late] = [1, 2].map(|_| scene.token(terms(), START));
    scene.join(&early, 2, 1, START + 1).unwrap();
    let cut = scene.held.cut(&id(1).0);
    scene.join(&late, 3, 1, START + 2).unwrap();
    part(&mut scene, 1, Manner::Evicted, Some(cut), START + 3);
    let state = scene.held.state();
    assert!(state.members.contains_key(&id(2)) && !state.members.contains_key(&id(3)));
    let why =
        "evicted by admin at 2027-01-15 08:00 UTC: who let it in was evicted or retired by then";
    assert_eq!(state.why_gone(&id(3)).as_deref(), Some(why));
    assert!(state.invites[&late.invite_id()].is_open(START + 3));
    // Whoever it let in after comes again by somebody else.
    scene.join(&late, 3, 0, START + 4).unwrap();
    let state = scene.held.state();
    assert!(state.members.contains_key(&id(3)) && !state.gone.contains_key(&id(3)));
    same_in_any_order(&scene);
}

#[test]
fn a_witness_dated_back_under_an_eviction_counts_for_nothing() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let [spent, open] = [1, 2].map(|_| scene.token(terms(), START));
    scene.join(&spent, 2, 1, START + 5).unwrap();
    part(&mut scene, 1, Manner::Evicted, None, START + MINUTE);
    // The thief of its key forks its log at every id it can find.
    for number in 10..40 {
        let join = forged_join(&scene, &open, number, "thief");
        let vouch = Witness {
            join: scene.id_of(&join),
        };
        let header = crate::trust::LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc: (START + 1) << 16,
        };
        let vouched = scene.placed(&node(1), kind::WITNESS, header, &vouch);
        scene.held.insert(join).unwrap();
        scene.held.insert(vouched).unwrap();
    }
    let state = scene.held.state();
    assert_eq!(
        state
            .members
            .keys()
            .collect::<std::collections::BTreeSet<_>>(),
        [&id(0), &id(2)].into()
    );
    assert!(
        state.frozen.is_empty(),
        "of who is gone it makes no difference"
    );
    same_in_any_order(&scene);
}

#[test]
fn retiring_a_machine_that_came_back_from_an_old_image_keeps_both_branches() {
    for (manner, left) in [(Manner::Retired, 3), (Manner::Evicted, 2)] {
        let mut scene = Scene::founded();
        scene.admit(1, START);
        let tokens = [1, 2].map(|_| scene.token(terms(), START));
        let image = scene.held.clone();
        scene.join(&tokens[0], 2, 1, START + 1).unwrap();
        let before = std::mem::replace(&mut scene.held, image);
        scene.join(&tokens[1], 3, 1, START + 2).unwrap();
        let after: Vec<Statement> = scene.held.iter().cloned().collect();
        scene.held = scene.holder(before.iter().chain(&after));
        for (at_ms, said) in [
            (1, before.iter().collect::<Vec<_>>()),
            (2, after.iter().collect()),
        ] {
            said.into_iter()
                .for_each(|one| scene.held.received(one, at_ms));
        }
        assert!(scene.held.state().frozen.contains_key(&node(1).public()));
        part(&mut scene, 1, manner, None, START + 3);
        assert_eq!(scene.held.state().members.len(), left, "{manner:?}");
    }
}

#[test]
fn the_founder_can_be_evicted_and_its_mesh_goes_on() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    part(&mut scene, 0, Manner::Evicted, None, START + 1);
    let token = scene.token(terms(), START + 2);
    scene.join(&token, 2, 1, START + 2).unwrap();
    let state = scene.held.state();
    assert_eq!(
        state
            .members
            .keys()
            .collect::<std::collections::BTreeSet<_>>(),
        [&id(1), &id(2)].into()
    );
    let refused = scene.join(&token, 3, 0, START + 3).unwrap_err();
    assert!(refused.to_string().contains("used already"), "{refused}");
}

#[test]
fn what_a_member_says_after_it_left_counts_for_nothing() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let token = scene.token(terms(), START);
    let leave = Leave {
        reason: String::new(),
    };
    let said = scene.logged(&node(1), kind::LEAVE, &leave, START + 1);
    scene.held.insert(said).unwrap();
    let join = author_join(&node(2), &token, "n2").unwrap();
    let vouch = Witness {
        join: scene.id_of(&join),
    };
    let vouched = scene.logged(&node(1), kind::WITNESS, &vouch, START + 2);
    scene.held.insert(join).unwrap();
    scene.held.insert(vouched).unwrap();
    let state = scene.held.state();
    assert_eq!(state.members.len(), 1);
    assert_eq!(
        state.why_gone(&id(1)).as_deref(),
        Some("left at 2027-01-15 08:00 UTC")
    );
}

#[test]
fn two_partitions_that_evict_and_admit_agree_after_they_meet() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    scene.admit(2, START);
    let token = scene.token(terms(), START);
    let mut apart = scene.held.clone();
    part(&mut scene, 1, Manner::Evicted, None, START + MINUTE);
    let here = std::mem::replace(&mut scene.held, apart.clone());
    scene.join(&token, 3, 1, START + MINUTE).unwrap();
    apart = std::mem::replace(&mut scene.held, here);
    while exchange(&mut scene.held, &mut apart) > 0 {}
    assert_eq!(scene.held.root(), apart.root());
    assert_eq!(scene.held.state(), apart.state());
    let state = scene.held.state();
    let left: std::collections::BTreeSet<_> = state.members.keys().copied().collect();
    assert_eq!(
        left,
        [id(0), id(2)].into(),
        "whom the evicted one let in behind the cut is not in"
    );
    assert!(state.gone[&id(3)].may_return && !state.gone[&id(1)].may_return);
}

#[test]
fn a_node_that_needs_approval_comes_in_when_an_admin_agrees() {
    let mut scene = Scene::founded();
    let token = approving(&mut scene, 1);
    ask(&mut scene, &token, 1, "n1", START + 5);
    let pending = scene.held.state().pending[&id(1)].clone();
    assert_eq!(
        (pending.name.as_str(), pending.sponsor, pending.at_ms),
        ("n1", id(0), START + 5)
    );
    assert!(scene.held.state().invites[&token.invite_id()].is_open(START + 5));
    approve(&mut scene, 1, START + 2 * HOUR);
    let state = scene.held.state();
    assert_eq!(state.members[&id(1)].joined_ms, START + 2 * HOUR);
    assert_eq!(state.members[&id(1)].sponsor, Some(id(0)));
    assert!(state.pending.is_empty());
    // Of two approvals the earlier counts.
    let again = Approve { join: pending.join };
    let said = scene.logged(&scene.admin, kind::APPROVE, &again, START + 3 * HOUR);
    scene.held.insert(said).unwrap();
    assert_eq!(
        scene.held.state().members[&id(1)].joined_ms,
        START + 2 * HOUR
    );
    same_in_any_order(&scene);
}

#[test]
fn a_token_s_uses_count_in_the_order_of_approval() {
    let mut scene = Scene::founded();
    let token = approving(&mut scene, 1);
    for number in [1, 2, 3] {
        ask(&mut scene, &token, number, "web", START + u64::from(number));
    }
    let apart = scene.held.clone();
    approve(&mut scene, 1, START + 2 * MINUTE);
    let here = std::mem::replace(&mut scene.held, apart);
    assert_eq!(
        here.state().pending.len(),
        0,
        "nothing is left for the others"
    );
    // The same admin elsewhere would fork its log; another one agrees to another node.
    let words = scene.nth_admin(1);
    let said = issue_approve(&words, &scene.held, id(2), START + MINUTE).unwrap();
    scene.held = here;
    scene.held.insert(said).unwrap();
    let state = scene.held.state();
    let used = [Use {
        by: id(2),
        at_ms: START + MINUTE,
    }];
    assert_eq!(state.invites[&token.invite_id()].used, used);
    assert_eq!(state.conflicts[0].refused, id(1));
    same_in_any_order(&scene);
}

#[test]
fn refusing_a_node_that_waits_is_an_eviction_it_is_told_of() {
    let mut scene = Scene::founded();
    let token = approving(&mut scene, 1);
    ask(&mut scene, &token, 1, "n1", START);
    part(&mut scene, 1, Manner::Evicted, None, START + MINUTE);
    let state = scene.held.state();
    assert!(state.pending.is_empty() && state.invites[&token.invite_id()].used.is_empty());
    assert_eq!(state.gone[&id(1)].member.name, "n1");
    let join = author_join(&node(1), &token, "n1").unwrap();
    assert!(witness(&node(0), &scene.held, &join, START).is_err());
}

#[test]
fn who_holds_a_token_s_secret_cannot_fill_the_mesh_with_waiting_nodes() {
    let mut scene = Scene::founded();
    let token = approving(&mut scene, 9);
    for number in 10..=u8::try_from(MAX_PENDING).unwrap() + 30 {
        let join = forged_join(&scene, &token, number, "n");
        let vouch = Witness {
            join: scene.id_of(&join),
        };
        let at_ms = START + u64::from(number);
        let vouched = scene.logged(&node(0), kind::WITNESS, &vouch, at_ms);
        scene.held.insert(join).unwrap();
        scene.held.insert(vouched).unwrap();
    }
    assert_eq!(scene.held.state().pending.len(), MAX_PENDING);
    let joins = scene.held.iter().filter(|one| one.kind == kind::JOIN);
    assert_eq!(joins.count(), MAX_PENDING);
}

#[test]
fn a_sponsor_vouches_for_no_more_than_can_wait_and_for_others_once_those_are_refused() {
    let mut scene = Scene::founded();
    let token = approving(&mut scene, 9);
    let last = 10 + u8::try_from(MAX_PENDING).unwrap();
    for number in 10..last {
        ask(&mut scene, &token, number, "n", START);
    }
    let join = author_join(&node(last), &token, "late").unwrap();
    let refusal = witness(&node(0), &scene.held, &join, START).unwrap_err();
    let full = "64 nodes wait for an admin's approval by this token already; ask for a new token";
    assert_eq!(refusal.to_string(), full);
    for number in 10..last {
        part(&mut scene, number, Manner::Evicted, None, START + 1);
    }
    assert!(scene.held.state().pending.is_empty());
    ask(&mut scene, &token, last, "late", START + 2);
    let state = scene.held.state();
    assert!(state.pending.contains_key(&id(last)));
    assert_eq!(state.gone.len(), MAX_PENDING);
    // Of one that was refused no further Join counts, under whatever name.
    let counted = scene.held.iter().count();
    for name in ["x", "y"] {
        let join = forged_join(&scene, &token, 10, name);
        let vouch = Witness {
            join: scene.id_of(&join),
        };
        let vouched = scene.logged(&node(0), kind::WITNESS, &vouch, START + 3);
        scene.held.insert(join).unwrap();
        scene.held.insert(vouched).unwrap();
    }
    assert_eq!(
        scene.held.iter().count(),
        counted + 2,
        "the Witnesses alone"
    );
    same_in_any_order(&scene);
}

#[test]
fn a_sponsor_s_log_is_not_used_up_by_one_token() {
    let mut scene = Scene::founded();
    let token = approving(&mut scene, 1);
    let most = 1 + MAX_PENDING + MAX_SURPLUS;
    let asked = |scene: &Scene| {
        let join = author_join(&node(250), &token, "late").unwrap();
        witness(&node(0), &scene.held, &join, START)
    };
    // None of them has an effect: they say that they are from before the token's time.
    for number in 10..10 + u8::try_from(most).unwrap() {
        assert!(asked(&scene).is_ok());
        let join = forged_join(&scene, &token, number, "n");
        let vouch = Witness {
            join: scene.id_of(&join),
        };
        let vouched = scene.logged(&node(0), kind::WITNESS, &vouch, START - 6 * MINUTE);
        scene.held.insert(join).unwrap();
        scene.held.insert(vouched).unwrap();
    }
    assert!(scene.held.state().pending.is_empty());
    assert_eq!(asked(&scene), Err(JoinRefusal::Spent));
}

#[test]
fn an_invite_taken_back_admits_nobody_later_and_keeps_who_came_before() {
    let mut scene = Scene::founded();
    let token = scene.token(InviteTerms { uses: 5, ..terms() }, START);
    scene.join(&token, 1, 0, START + 1).unwrap();
    let apart = scene.held.clone();
    let revocation = Revocation {
        target: Target::Invite(token.invite_id()),
        manner: Manner::Evicted,
        cut: None,
        reason: "posted in public",
    };
    let said = issue_revoke(&scene.admin, &scene.held, &revocation, START + MINUTE).unwrap();
    scene.held = apart;
    for (joiner, at_ms) in [(2, START + MINUTE - 1), (3, START + MINUTE + 1)] {
        scene.join(&token, joiner, 0, at_ms).unwrap();
    }
    scene.held.insert(said).unwrap();
    let state = scene.held.state();
    let members: Vec<_> = [1, 2, 3]
        .map(|number| state.members.contains_key(&id(number)))
        .into();
    assert_eq!(members, [true, true, false]);
    assert_eq!(state.gone[&id(3)].reason, "its token was revoked by then");
    let invite = &state.invites[&token.invite_id()];
    assert_eq!(invite.revoked.as_ref().unwrap().reason, "posted in public");
    assert_eq!(
        (invite.is_open(START + 2 * MINUTE), invite.closes_ms()),
        (false, START + MINUTE)
    );
    let join = author_join(&node(4), &token, "n4").unwrap();
    let refusal = witness(&node(0), &scene.held, &join, START + 2 * MINUTE).unwrap_err();
    assert!(
        refusal
            .to_string()
            .starts_with("the token was revoked by admin"),
        "{refusal}"
    );
    same_in_any_order(&scene);
}

#[test]
fn the_name_of_who_is_gone_is_free_and_it_shows_with_letters_of_its_id() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    part(&mut scene, 1, Manner::Retired, None, START + 1);
    assert_eq!(scene.held.state().gone[&id(1)].member.name, "n1");
    let token = scene.token(terms(), START + 2);
    ask(&mut scene, &token, 2, "n1", START + 2);
    let state = scene.held.state();
    assert_eq!(state.members[&id(2)].name, "n1");
    let shown = format!("n1-{}", &id(1).to_string()[..4]);
    assert_eq!(state.gone[&id(1)].member.name, shown);
}

#[test]
fn the_latest_word_on_a_name_counts_and_the_earlier_member_keeps_a_contested_one() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    scene.admit(2, START + 1);
    for (name, at_ms) in [("attic", START + 2), ("cellar", START + 3)] {
        let said = issue_rename(&scene.admin, &scene.held, id(1), name, at_ms).unwrap();
        scene.held.insert(said).unwrap();
    }
    assert_eq!(scene.held.state().members[&id(1)].name, "cellar");
    // Two admins that did not hear of each other give one name twice.
    let words = scene.nth_admin(1);
    let rename = crate::trust::Rename {
        node: id(2),
        name: "cellar".to_owned(),
    };
    let said = scene.logged(&words, kind::RENAME, &rename, START);
    scene.held.insert(said).unwrap();
    let state = scene.held.state();
    assert_eq!(state.members[&id(1)].name, "cellar");
    let shown = format!("cellar-{}", &id(2).to_string()[..4]);
    assert_eq!(state.members[&id(2)].name, shown);
    same_in_any_order(&scene);
}

#[test]
fn a_successor_takes_the_place_of_one_that_is_gone() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    part(&mut scene, 1, Manner::Retired, None, START + 1);
    let token = scene.token(terms(), START + 2);
    let said = issue_replace(
        &scene.admin,
        &scene.held,
        token.invite_id(),
        id(1),
        START + 2,
    );
    scene.held.insert(said.unwrap()).unwrap();
    ask(&mut scene, &token, 2, "n1", START + 3);
    let state = scene.held.state();
    assert_eq!(state.members[&id(2)].replaces, Some(id(1)));
    assert_eq!(state.gone[&id(1)].member.replaced_by, Some(id(2)));
    assert_eq!(state.members[&id(2)].name, "n1");
}

#[test]
fn a_log_is_cut_where_it_stood_by_the_holder_s_own_clock() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let tokens = [1, 2, 3].map(|_| scene.token(terms(), START));
    let mut heads = vec![scene.held.cut(&id(1).0)];
    for (joiner, token) in (2..).zip(&tokens) {
        // Its own clock says the same all the time.
        scene.join(token, joiner, 1, START).unwrap();
        heads.push(scene.held.cut(&id(1).0));
    }
    let log: Vec<Statement> = scene
        .held
        .iter()
        .filter(|one| one.author == id(1).0)
        .cloned()
        .collect();
    let vouched = log.iter().filter(|one| one.kind == kind::WITNESS);
    for (statement, at_ms) in vouched.zip([100, 300, 200]) {
        scene.held.received(statement, at_ms);
        scene.held.received(statement, at_ms + 5_000);
    }
    let cut_at = |since_ms| scene.held.cut_at(&id(1).0, since_ms);
    assert_eq!(cut_at(100), Cut::NOTHING);
    assert_eq!(cut_at(101), heads[1]);
    assert_eq!(
        cut_at(250),
        heads[1],
        "what came late hides what follows it"
    );
    assert_eq!(cut_at(301), heads[3]);
    let unknown: Statements = scene.holder(scene.held.iter());
    assert_eq!(
        unknown.cut_at(&id(1).0, 0),
        heads[3],
        "without times all was there before"
    );
}
