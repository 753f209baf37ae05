//! The fold against orders, partitions, copied keys and statements that ought not to count.

use super::admission::MAX_SURPLUS;
use super::names::unique_name;
use super::*;
use crate::trust::{
    Conflict, InviteTerms, Statement, Use, Witness, author_join,
    history::forged_join,
    kind,
    payload::LogHeader,
    scene::{HOUR, START, Scene, id, node, terms},
    witness,
};

const MINUTE: u64 = 60_000;

#[test]
fn the_founder_is_a_member_from_the_start() {
    let scene = Scene::founded();
    let state = scene.held.state();
    assert_eq!(state.name, "home");
    let founder = &state.members[&id(0)];
    assert_eq!(
        (founder.name.as_str(), founder.joined_ms, founder.sponsor),
        ("founder", START, None)
    );
    assert_eq!(founder.address, overlay_address(&scene.mesh, &id(0)));
}

#[test]
fn a_witnessed_join_makes_a_member_and_uses_the_invite_up() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    assert!(scene.held.state().invites[&token.invite_id()].is_open(START));
    scene.join(&token, 1, 0, START + 5).unwrap();
    let state = scene.held.state();
    let member = &state.members[&id(1)];
    assert_eq!(
        (member.name.as_str(), member.joined_ms, member.sponsor),
        ("n1", START + 5, Some(id(0)))
    );
    let invite = &state.invites[&token.invite_id()];
    assert_eq!(
        invite.used,
        [Use {
            by: id(1),
            at_ms: START + 5
        }]
    );
    assert!(!invite.is_open(START + 5));
    assert_eq!(invite.closes_ms(), START + 5);
}

#[test]
fn any_member_may_sponsor() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let token = scene.token(terms(), START);
    scene.join(&token, 2, 1, START + 1).unwrap();
    assert_eq!(scene.held.state().members[&id(2)].sponsor, Some(id(1)));
}

#[test]
fn a_stranger_s_witness_counts_for_nothing() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let join = author_join(&node(1), &token, "n1").unwrap();
    let vouch = scene.logged(
        &node(9),
        kind::WITNESS,
        &Witness {
            join: scene.id_of(&join),
        },
        START,
    );
    scene.held.insert(join).unwrap();
    scene.held.insert(vouch).unwrap();
    assert_eq!(scene.held.state().members.len(), 1);
}

#[test]
fn nobody_vouches_before_its_own_admission() {
    let mut scene = Scene::founded();
    scene.admit(1, START + 10 * MINUTE);
    let token = scene.token(terms(), START + 10 * MINUTE);
    let join = author_join(&node(2), &token, "n2").unwrap();
    let header = LogHeader {
        seq: 1,
        prev: [0; 32],
        hlc: (START + 9 * MINUTE) << 16,
    };
    let vouch = scene.placed(
        &node(1),
        kind::WITNESS,
        header,
        &Witness {
            join: scene.id_of(&join),
        },
    );
    scene.held.insert(join).unwrap();
    scene.held.insert(vouch).unwrap();
    assert!(!scene.held.state().members.contains_key(&id(2)));
}

#[test]
fn of_two_uses_the_earliest_witness_wins_and_the_other_shows() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let token = scene.token(terms(), START);
    let before = scene.held.clone();
    scene.join(&token, 3, 1, START + 9).unwrap();
    let late = scene.held.clone();
    scene.held = before;
    scene.join(&token, 2, 0, START + 8).unwrap();
    let early = scene.held.clone();
    let merged = scene.holder(late.iter().chain(early.iter()));
    let state = merged.state();
    assert!(state.members.contains_key(&id(2)) && !state.members.contains_key(&id(3)));
    let conflict = Conflict {
        invite: token.invite_id(),
        refused: id(3),
        refused_name: "n3".into(),
        sponsor: id(1),
        at_ms: START + 9,
        admitted: vec![id(2)],
    };
    assert_eq!(state.conflicts, [conflict]);
}

#[test]
fn a_member_that_keeps_its_token_s_secret_cannot_fill_the_mesh_with_joins() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let token = scene.token(terms(), START);
    scene.join(&token, 2, 0, START).unwrap();
    for number in 10..90 {
        let join = forged_join(&scene, &token, number, &format!("n{number}"));
        let witness = Witness {
            join: scene.id_of(&join),
        };
        let at_ms = START + u64::from(number);
        let vouched = scene.logged(&node(1), kind::WITNESS, &witness, at_ms);
        scene.held.insert(join).unwrap();
        scene.held.insert(vouched).unwrap();
    }

    let state = scene.held.state();
    assert_eq!(state.members.len(), 3);
    assert_eq!(state.conflicts.len(), MAX_SURPLUS);
    let joins = scene.held.iter().filter(|s| s.kind == kind::JOIN);
    assert_eq!(joins.count(), 2 + MAX_SURPLUS);
}

#[test]
fn an_invite_admits_the_first_as_many_as_it_says() {
    let mut scene = Scene::founded();
    for sponsor in 1..=3 {
        scene.admit(sponsor, START);
    }
    let token = scene.token(InviteTerms { uses: 2, ..terms() }, START);
    // Three sponsors that do not hear of each other.
    let apart = scene.held.clone();
    let mut merged = scene.held.clone();
    for (joiner, sponsor, at) in [(4, 1, 30), (5, 2, 10), (6, 3, 20)] {
        scene.held = apart.clone();
        scene.join(&token, joiner, sponsor, START + at).unwrap();
        scene
            .held
            .iter()
            .for_each(|statement| drop(merged.insert(statement.clone())));
    }
    let state = merged.state();
    let used = [(5, 10), (6, 20)].map(|(by, at)| Use {
        by: id(by),
        at_ms: START + at,
    });
    assert_eq!(state.invites[&token.invite_id()].used, used);
    assert_eq!(state.conflicts[0].refused, id(4));
    assert!(!state.members.contains_key(&id(4)));
}

#[test]
fn a_witness_counts_within_five_minutes_of_the_invite_s_time() {
    let grace = 5 * MINUTE;
    for (at, counts) in [
        (START - grace, true),
        (START - grace - 1, false),
        (START + HOUR + grace, true),
        (START + HOUR + grace + 1, false),
    ] {
        let mut scene = Scene::founded();
        let token = scene.token(terms(), START);
        let join = author_join(&node(1), &token, "n1").unwrap();
        let header = LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc: at << 16,
        };
        let vouch = scene.placed(
            &node(0),
            kind::WITNESS,
            header,
            &Witness {
                join: scene.id_of(&join),
            },
        );
        scene.held.insert(join).unwrap();
        scene.held.insert(vouch).unwrap();
        assert_eq!(
            scene.held.state().members.contains_key(&id(1)),
            counts,
            "{at}"
        );
    }
}

#[test]
fn an_invite_for_one_name_admits_no_other() {
    let mut scene = Scene::founded();
    let pinned = scene.token(
        InviteTerms {
            name: Some("web3".into()),
            ..terms()
        },
        START,
    );
    let free = scene.token(terms(), START);
    // A joiner that ignores the pin signs for another name with the same seed.
    let wrong = forged_join(&scene, &pinned, 1, "web4");
    let vouch = scene.logged(
        &node(0),
        kind::WITNESS,
        &Witness {
            join: scene.id_of(&wrong),
        },
        START,
    );
    scene.held.insert(wrong).unwrap();
    scene.held.insert(vouch).unwrap();
    assert_eq!(scene.held.state().members.len(), 1);
    scene.join(&free, 1, 0, START).unwrap();
    assert_eq!(scene.held.state().members.len(), 2);
}

#[test]
fn an_invite_that_needs_approval_admits_nobody_yet() {
    let mut scene = Scene::founded();
    let token = scene.token(
        InviteTerms {
            needs_approval: true,
            ..terms()
        },
        START,
    );
    let join = author_join(&node(1), &token, "n1").unwrap();
    let vouch = scene.logged(
        &node(0),
        kind::WITNESS,
        &Witness {
            join: scene.id_of(&join),
        },
        START,
    );
    scene.held.insert(join).unwrap();
    scene.held.insert(vouch).unwrap();
    assert_eq!(scene.held.state().members.len(), 1);
}

#[test]
fn an_invite_by_a_mere_member_is_none() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let invite = scene.logged(&node(0), kind::INVITE, token.invite(), START);
    let id = scene.id_of(&invite);
    scene.held.insert(invite).unwrap();
    assert!(!scene.held.state().invites.contains_key(&id));
}

#[test]
fn of_two_equal_names_the_earliest_keeps_it() {
    let mut scene = Scene::founded();
    for (joiner, at) in [(2, 20), (1, 10)] {
        let token = scene.token(terms(), START);
        let join = author_join(&node(joiner), &token, "web").unwrap();
        let vouch = witness(&node(0), &scene.held, &join, START + at)
            .unwrap()
            .unwrap();
        scene.held.insert(join).unwrap();
        scene.held.insert(vouch).unwrap();
    }
    let state = scene.held.state();
    let later = format!("web-{}", &id(1).to_string()[..4]);
    assert_eq!(state.members[&id(2)].name, "web");
    assert_eq!(state.members[&id(1)].name, later);
}

#[test]
fn a_name_made_unique_stays_a_name() {
    let long = "x".repeat(63);
    let mut taken = BTreeSet::from([long.clone()]);
    for number in 1..=40 {
        let name = unique_name(&taken, &long, &id(number));
        assert!(crate::trust::is_name(&name), "{name}");
        assert!(taken.insert(name));
    }
    let four = id(1).to_string()[..4].to_owned();
    let taken = BTreeSet::from(["web".to_owned(), format!("web-{four}")]);
    assert_eq!(
        unique_name(&taken, "web", &id(1)),
        format!("web-{}", &id(1).to_string()[..5])
    );
}

#[test]
fn an_author_with_two_statements_at_one_place_is_frozen_and_nobody_loses_membership() {
    let mut scene = Scene::founded();
    let tokens: Vec<_> = (0..4).map(|_| scene.token(terms(), START)).collect();
    let image = scene.held.clone();
    // The founder admits 1 and 2, then comes back from an older image of its disk and admits 3.
    scene.join(&tokens[0], 1, 0, START + 10).unwrap();
    scene.join(&tokens[1], 2, 0, START + 20).unwrap();
    let before = std::mem::replace(&mut scene.held, image);
    scene.join(&tokens[2], 3, 0, START + 30).unwrap();
    scene.held = scene.holder(before.iter().chain(scene.held.iter()));
    let state = scene.held.state();
    assert_eq!(state.members.len(), 4);
    let frozen = &state.frozen[&node(0).public()];
    assert_eq!((frozen.seq, frozen.hlc >> 16), (1, START + 30));
    // It vouches for nobody any more; if it does, another member goes before it, whatever their clocks.
    let join = author_join(&node(4), &tokens[3], "n4").unwrap();
    let refusal = witness(&node(0), &scene.held, &join, START + 40);
    assert_eq!(refusal, Err(crate::trust::JoinRefusal::Copied));
    let vouch = scene.logged(
        &node(0),
        kind::WITNESS,
        &Witness {
            join: scene.id_of(&join),
        },
        START + 40,
    );
    scene.join(&tokens[3], 5, 1, START + 50).unwrap();
    scene.held.insert(join).unwrap();
    scene.held.insert(vouch).unwrap();
    let state = scene.held.state();
    assert!(state.members.contains_key(&id(5)) && !state.members.contains_key(&id(4)));
    assert_eq!(state.conflicts[0].refused, id(4));
}

#[test]
fn a_critical_kind_from_an_admin_shows_and_one_from_a_member_does_not() {
    let mut scene = Scene::founded();
    let statement = scene.logged(&node(0), CRITICAL + 1, &"new rules", START);
    scene.held.insert(statement).unwrap();
    assert_eq!(scene.held.state().unsupported, [0; 0]);
    let statement = scene.logged(&scene.admin, CRITICAL + 2, &"new rules", START);
    scene.held.insert(statement).unwrap();
    assert_eq!(scene.held.state().unsupported, [CRITICAL + 2]);
}

#[test]
fn kinds_of_later_versions_are_kept_and_passed_on_and_change_nothing() {
    let mut scene = Scene::founded();
    let before = scene.held.clone();
    for kind in [
        kind::ADMIN_GRANT,
        kind::APPROVE,
        kind::REVOKE,
        kind::RENAME,
        kind::POLICY,
        12,
    ] {
        let statement = scene.logged(&scene.admin, kind, &"later", START);
        scene.held.insert(statement.clone()).unwrap();
        assert!(scene.held.iter().any(|held| *held == statement));
    }
    assert_eq!(scene.held.state(), before.state());
    assert_ne!(scene.held.root(), before.root());
}

#[test]
fn of_two_infos_the_higher_incarnation_then_sequence_stays() {
    let mut scene = Scene::founded();
    for (incarnation, seq) in [(1, 9), (2, 1), (2, 3), (2, 2), (1, 10)] {
        let info = scene.info(0, incarnation, seq);
        scene.held.insert(info).unwrap();
    }
    let state = scene.held.state();
    let info = state.members[&id(0)].info.as_ref().unwrap();
    assert_eq!((info.incarnation, info.seq), (2, 3));
}

#[test]
fn without_its_genesis_a_set_means_nothing_and_with_it_everything() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let all: Vec<Statement> = scene.held.iter().cloned().collect();
    let mut other = scene.holder(&all[1..]);
    assert_eq!((other.state().members.len(), other.summary().len()), (0, 0));
    other.insert(all[0].clone()).unwrap();
    assert_eq!(other.state(), scene.held.state());
}
