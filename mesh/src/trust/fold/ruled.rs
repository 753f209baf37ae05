//! Admins against each other: ranks, stolen keys, recovery words, resignations.

use crate::trust::scene::{START, Scene, id, node, terms, words};
use crate::trust::{
    AdminGrant, CRITICAL, Cut, InviteTerms, Manner, Policy, Rename, Revocation, Revoke, Setting,
    Statement, Statements, Target, Token, author_join, issue_grant, issue_invite, issue_policy,
    issue_rename, issue_revoke, kind, witness,
};
use crate::tunnel::keys::AdminKey;

const MINUTE: u64 = 60_000;

/// Makes admin `number` of rank `rank`, by the first one.
fn grant(scene: &mut Scene, number: u8, rank: u8) -> AdminKey {
    let key = scene.nth_admin(number);
    let (label, public) = (format!("a{number}"), key.public());
    let said = issue_grant(&scene.admin, &scene.held, public, Some(rank), &label, START);
    scene.held.insert(said.unwrap()).unwrap();
    key
}

/// Revokes without asking whether it would count.
fn revoke(
    held: &mut Statements,
    scene: &Scene,
    by: &AdminKey,
    target: Target,
    cut: Cut,
    at_ms: u64,
) {
    let revoke = Revoke {
        target,
        cut,
        manner: Manner::Evicted,
        reason: "so".to_owned(),
    };
    let header = held.next_header(&by.public(), at_ms);
    let said = scene.placed(by, kind::REVOKE, header, &revoke);
    held.insert(said).unwrap();
}

fn revoke_admin(scene: &mut Scene, by: &AdminKey, of: &AdminKey, at_ms: u64) {
    let mut held = scene.held.clone();
    let (target, cut) = (Target::Admin(of.public()), held.cut(&of.public()));
    revoke(&mut held, scene, by, target, cut, at_ms);
    scene.held = held;
}

fn token_of(scene: &mut Scene, admin: &AdminKey, at_ms: u64) -> Token {
    let (seed, invite) = issue_invite(admin, &scene.held, terms(), at_ms).unwrap();
    scene.held.insert(invite.clone()).unwrap();
    Token::new(seed, invite, &scene.held, Vec::new()).unwrap()
}

#[test]
fn an_admin_made_by_an_admin_invites_and_its_token_leads_to_the_genesis() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let third = scene.nth_admin(3);
    let said = issue_grant(&second, &scene.held, third.public(), None, "a3", START).unwrap();
    scene.held.insert(said).unwrap();
    let token = token_of(&mut scene, &third, START);
    let kinds: Vec<u8> = token.chain().iter().map(|one| one.kind).collect();
    let granted = kind::ADMIN_GRANT;
    assert_eq!(kinds, [kind::GENESIS, granted, granted, kind::INVITE]);
    assert_eq!(Token::parse(&token.encode()).as_ref(), Ok(&token));
    scene.join(&token, 1, 0, START + 1).unwrap();
    let state = scene.held.state();
    assert!(state.members.contains_key(&id(1)));
    assert_eq!(state.rank(&third.public()), Some(3));
    assert_eq!(
        state.admins[&third.public()].granted_by,
        Some(second.public())
    );
}

#[test]
fn a_token_whose_grants_do_not_lead_to_its_inviter_is_unsigned() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let token = token_of(&mut scene, &second, START);
    let (seed, mut chain) = (token.seed().clone(), token.chain().to_vec());
    chain.remove(1);
    assert!(Token::of_chain(seed.clone(), chain).is_err());
    let stranger = AdminGrant {
        admin: second.public(),
        rank: 9,
        label: "a2".to_owned(),
    };
    let by = scene.nth_admin(3);
    let forged = scene.logged(&by, kind::ADMIN_GRANT, &stranger, START);
    let mut chain = token.chain().to_vec();
    chain[1] = forged;
    assert!(Token::of_chain(seed, chain).is_err());
}

#[test]
fn an_admin_grants_less_than_it_has() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    for (rank, counts) in [(1, false), (2, false), (3, true)] {
        let third = scene.nth_admin(3).public();
        let grant = AdminGrant {
            admin: third,
            rank,
            label: "a3".to_owned(),
        };
        let said = scene.logged(&second, kind::ADMIN_GRANT, &grant, START);
        scene.held.insert(said).unwrap();
        assert_eq!(scene.held.state().rank(&third).is_some(), counts, "{rank}");
    }
}

#[test]
fn a_key_granted_twice_has_its_best_rank() {
    let mut scene = Scene::founded();
    let third = grant(&mut scene, 3, 4).public();
    let said = issue_grant(&words(), &scene.held, third, Some(1), "a3", START + 9).unwrap();
    scene.held.insert(said).unwrap();
    let state = scene.held.state();
    assert_eq!(state.rank(&third), Some(1));
    assert_eq!(state.admins[&third].granted_by, Some(words().public()));
    assert_eq!(state.admins[&third].at_ms, START + 9);
}

#[test]
fn admins_of_one_rank_cannot_throw_each_other_out() {
    let mut scene = Scene::founded();
    let (one, other) = (grant(&mut scene, 2, 2), grant(&mut scene, 3, 2));
    revoke_admin(&mut scene, &one, &other, START + 1);
    revoke_admin(&mut scene, &other, &one, START + 1);
    let first = scene.admin.clone();
    revoke_admin(&mut scene, &one, &first, START + 2);
    let state = scene.held.state();
    for key in [&one, &other, &first] {
        assert!(state.rank(&key.public()).is_some());
    }
}

#[test]
fn who_stands_above_ends_an_admin_s_words_where_it_says() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let early = token_of(&mut scene, &second, START);
    let first = scene.admin.clone();
    revoke_admin(&mut scene, &first, &second, START + MINUTE);
    let state = scene.held.state();
    assert!(
        state.invites.contains_key(&early.invite_id()),
        "made before the cut"
    );
    let revoked = state.admins[&second.public()].revoked.clone().unwrap();
    assert_eq!(
        (revoked.by_label.as_str(), revoked.at_ms),
        ("admin", START + MINUTE)
    );
    assert_eq!(revoked.cut.seq, 1);
    // What the thief says after counts for nothing, and its tools refuse to say it.
    let refusal = issue_invite(&second, &scene.held, terms(), START + 2 * MINUTE).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "this admin key was revoked by admin at 2027-01-15 08:01 UTC: nothing it signs counts any more"
    );
    let late = scene.logged(&second, kind::INVITE, early.invite(), START + 2 * MINUTE);
    scene.held.insert(late.clone()).unwrap();
    let state = scene.held.state();
    assert!(!state.invites.contains_key(&scene.id_of(&late)));
    assert!(
        scene.held.iter().any(|held| *held == late),
        "it is passed on"
    );
}

#[test]
fn a_token_of_an_admin_whose_words_are_void_admits_nobody_and_says_why() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let token = token_of(&mut scene, &second, START);
    scene.join(&token, 1, 0, START + 1).unwrap();
    let mut held = scene.held.clone();
    let target = Target::Admin(second.public());
    revoke(
        &mut held,
        &scene,
        &scene.admin.clone(),
        target,
        Cut::NOTHING,
        START + MINUTE,
    );
    scene.held = held;
    let state = scene.held.state();
    assert!(state.invites.is_empty() && !state.members.contains_key(&id(1)));
    assert_eq!(
        state.gone[&id(1)].reason,
        "the admin who invited it was revoked"
    );
    let join = author_join(&node(2), &token, "n2").unwrap();
    let refusal = witness(&node(0), &scene.held, &join, START + MINUTE).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the token was revoked by admin at 2027-01-15 08:01 UTC; ask for a new one"
    );
}

#[test]
fn cutting_a_stolen_admin_s_log_voids_its_false_evictions() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let before = scene.held.state();
    let stolen = scene.admin.clone();
    let good = scene.held.cut(&stolen.public());
    // The thief evicts everybody, an honest admin too, and makes one of its own.
    let honest = grant(&mut scene, 2, 2);
    let theirs = grant(&mut scene, 3, 2);
    let mut held = scene.held.clone();
    for target in [
        Target::Node(id(0)),
        Target::Node(id(1)),
        Target::Admin(honest.public()),
    ] {
        revoke(
            &mut held,
            &scene,
            &stolen,
            target,
            Cut::NOTHING,
            START + MINUTE,
        );
    }
    assert_eq!(held.state().members.len(), 0);
    let target = Target::Admin(stolen.public());
    revoke(
        &mut held,
        &scene,
        &words(),
        target,
        good,
        START + 2 * MINUTE,
    );
    let state = held.state();
    assert_eq!(state.members, before.members);
    assert!(state.gone.is_empty());
    assert_eq!(state.rank(&theirs.public()), None);
    // Recovery words found a new admin.
    let new = scene.nth_admin(4);
    let said = issue_grant(
        &words(),
        &held,
        new.public(),
        Some(1),
        "new",
        START + 3 * MINUTE,
    );
    held.insert(said.unwrap()).unwrap();
    assert!(issue_invite(&new, &held, terms(), START + 3 * MINUTE).is_ok());
}

#[test]
fn a_branch_dated_back_does_not_slip_under_a_cut() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let kept = token_of(&mut scene, &second, START + 1);
    let first = scene.admin.clone();
    revoke_admin(&mut scene, &first, &second, START + MINUTE);
    // The thief forks the log at its first place, again and again until ids sort before the true one.
    for uses in 1..=20 {
        let mut invite = kept.invite().clone();
        invite.uses = uses + 1;
        let header = crate::trust::LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc: START << 16,
        };
        let forged = scene.placed(&second, kind::INVITE, header, &invite);
        scene.held.insert(forged).unwrap();
    }
    let state = scene.held.state();
    assert_eq!(
        state.invites.keys().collect::<Vec<_>>(),
        [&kept.invite_id()]
    );
    let all: Vec<Statement> = scene.held.all().cloned().collect();
    assert_eq!(scene.holder(all.iter().rev()).root(), scene.held.root());
    let counted: Vec<Statement> = scene.held.iter().cloned().collect();
    assert_eq!(scene.holder(&counted).root(), scene.held.root());
}

#[test]
fn a_resignation_ends_an_admin_s_words_and_takes_nothing_back() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let token = token_of(&mut scene, &second, START);
    let revocation = Revocation {
        target: Target::Admin(second.public()),
        manner: Manner::Retired,
        cut: Some(Cut::NOTHING),
        reason: "moved on",
    };
    let said = issue_revoke(&second, &scene.held, &revocation, START + MINUTE).unwrap();
    scene.held.insert(said).unwrap();
    let state = scene.held.state();
    assert!(state.invites.contains_key(&token.invite_id()));
    let revoked = state.admins[&second.public()].revoked.clone().unwrap();
    assert_eq!(
        (revoked.by, revoked.by_label.as_str()),
        (second.public(), "a2")
    );
    assert_eq!(revoked.reason, "moved on");
    let late = scene.logged(&second, kind::INVITE, token.invite(), START + 2 * MINUTE);
    scene.held.insert(late.clone()).unwrap();
    assert!(!scene.held.state().invites.contains_key(&scene.id_of(&late)));
}

#[test]
fn an_admin_in_use_in_two_places_is_frozen_and_can_be_revoked() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let before = scene.held.clone();
    let one = token_of(&mut scene, &second, START + 1);
    scene.held = before;
    let other = token_of(&mut scene, &second, START + 2);
    for statement in one.chain() {
        scene.held.insert(statement.clone()).unwrap();
    }
    let state = scene.held.state();
    assert!(state.frozen.contains_key(&second.public()));
    assert_eq!(state.invites.len(), 2, "what both said until then stands");
    let refusal = issue_invite(&second, &scene.held, terms(), START + 3).unwrap_err();
    assert!(
        refusal.to_string().contains("in use in two places"),
        "{refusal}"
    );
    // Its senior says which of the two it was.
    let mut held = scene.held.clone();
    let cut = Cut {
        seq: 1,
        id: other.invite_id().0,
    };
    let target = Target::Admin(second.public());
    revoke(
        &mut held,
        &scene,
        &scene.admin.clone(),
        target,
        cut,
        START + MINUTE,
    );
    let state = held.state();
    assert_eq!(
        state.invites.keys().collect::<Vec<_>>(),
        [&other.invite_id()]
    );
    assert!(state.frozen.is_empty());
}

#[test]
fn a_critical_kind_of_any_admin_shows_and_one_said_after_its_cut_does_not() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let said = scene.logged(&second, CRITICAL + 3, &"new rules", START);
    scene.held.insert(said).unwrap();
    assert_eq!(scene.held.state().unsupported, [CRITICAL + 3]);
    let first = scene.admin.clone();
    revoke_admin(&mut scene, &first, &second, START + 1);
    let said = scene.logged(&second, CRITICAL + 4, &"more", START + 2);
    scene.held.insert(said).unwrap();
    assert_eq!(scene.held.state().unsupported, [CRITICAL + 3]);
}

#[test]
fn of_two_admins_settings_the_later_counts_and_who_knows_of_one_sets_later() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let set = |by: &AdminKey, held: &Statements, site, at_ms| {
        issue_policy(by, held, None, Setting::Site, Some(site), at_ms).unwrap()
    };
    let late = set(&second, &scene.held, "late", START + 2);
    let early = set(&scene.admin, &scene.held, "early", START + 1);
    for said in [&late, &early] {
        scene.held.insert(said.clone()).unwrap();
    }
    let site = |held: &Statements| held.state().settings.site(&id(0)).map(str::to_owned);
    assert_eq!(site(&scene.held).as_deref(), Some("late"));
    let again = set(&scene.admin, &scene.held, "again", START + 1);
    scene.held.insert(again).unwrap();
    assert_eq!(
        site(&scene.held).as_deref(),
        Some("again"),
        "whatever its clock"
    );
}

#[test]
fn the_end_of_time_is_no_last_word_over_those_above() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let junior = grant(&mut scene, 2, 2);
    let mut header = scene.held.next_header(&junior.public(), START);
    let policy = Policy {
        node: None,
        key: "site".to_owned(),
        value: Some("theirs".to_owned()),
    };
    header.hlc = u64::MAX;
    let said = scene.placed(&junior, kind::POLICY, header, &policy);
    scene.held.insert(said).unwrap();
    let mut header = scene.held.next_header(&junior.public(), START);
    assert!(header.hlc < u64::MAX, "a wish dates nothing behind it");
    let (node, name) = (id(1), "theirs".to_owned());
    header.hlc = u64::MAX;
    let said = scene.placed(&junior, kind::RENAME, header, &Rename { node, name });
    scene.held.insert(said).unwrap();
    let state = scene.held.state();
    assert_eq!(state.settings.site(&id(0)), Some("theirs"));
    assert_eq!(state.members[&id(1)].name, "theirs");

    let (admin, held) = (scene.admin.clone(), scene.held.clone());
    let site = issue_policy(&admin, &held, None, Setting::Site, Some("ours"), START + 1).unwrap();
    scene.held.insert(site).unwrap();
    let name = issue_rename(&admin, &scene.held, id(1), "ours", START + 1).unwrap();
    scene.held.insert(name).unwrap();
    let state = scene.held.state();
    assert_eq!(state.settings.site(&id(0)), Some("ours"));
    assert_eq!(state.members[&id(1)].name, "ours");
    // And what the senior says else is of its own time.
    let token = scene.token(terms(), START + 2);
    scene.join(&token, 2, 0, START + 2).unwrap();
    assert_eq!(scene.held.state().members[&id(2)].joined_ms, START + 2);
}

#[test]
fn an_admin_that_claims_the_beginning_of_time_closes_no_token_before_its_own_words() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    scene.join(&token, 1, 0, START + 1).unwrap();
    let junior = scene.nth_admin(2);
    let said = issue_grant(
        &scene.admin,
        &scene.held,
        junior.public(),
        None,
        "a2",
        START + 2,
    );
    scene.held.insert(said.unwrap()).unwrap();
    let revoke = Revoke {
        target: Target::Invite(token.invite_id()),
        cut: Cut::NOTHING,
        manner: Manner::Evicted,
        reason: String::new(),
    };
    let header = crate::trust::LogHeader {
        seq: 1,
        prev: [0; 32],
        hlc: 0,
    };
    let said = scene.placed(&junior, kind::REVOKE, header, &revoke);
    scene.held.insert(said).unwrap();
    let state = scene.held.state();
    assert!(
        state.members.contains_key(&id(1)),
        "it was no admin by then"
    );
    let revoked = state.invites[&token.invite_id()].revoked.clone().unwrap();
    assert_eq!(revoked.at_ms, START + 2);
}

#[test]
fn an_invite_pinned_to_a_name_and_needing_approval_keeps_both() {
    let mut scene = Scene::founded();
    let terms = InviteTerms {
        name: Some("web3".to_owned()),
        needs_approval: true,
        ..terms()
    };
    let token = scene.token(terms, START);
    assert!(author_join(&node(1), &token, "web4").is_err());
    let join = author_join(&node(1), &token, "web3").unwrap();
    let vouched = witness(&node(0), &scene.held, &join, START)
        .unwrap()
        .unwrap();
    scene.held.insert(join).unwrap();
    scene.held.insert(vouched).unwrap();
    assert_eq!(scene.held.state().pending[&id(1)].name, "web3");
}

#[test]
fn an_admin_of_whom_only_a_later_statement_is_held_counts_like_one_unheard_of() {
    let mut scene = Scene::founded();
    let second = grant(&mut scene, 2, 2);
    let before = scene.held.clone();
    let header = crate::trust::LogHeader {
        seq: 3,
        prev: [1; 32],
        hlc: START << 16,
    };
    let said = scene.placed(&second, kind::POLICY, header, &"later");
    scene.held.insert(said).unwrap();
    assert_eq!(scene.held.root(), before.root());
    assert_eq!(scene.held.summary(), before.summary());
}
