//! Logs under any order of arrival, forks, quotas and exchange between two holders.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::trust::{
    Cut, InviteTerms, Manner, NoAuthority, Revocation, Target, Witness, author_join,
    history::{happening, history},
    issue_revoke,
    scene::{START, Scene, exchange, id, node, terms},
};

#[test]
fn a_statement_is_taken_once() {
    let mut scene = Scene::founded();
    let info = scene.info(0, 1, 1);
    assert_eq!(scene.held.insert(info.clone()), Ok(true));
    assert_eq!(scene.held.insert(info), Ok(false));
}

#[test]
fn a_changed_statement_is_refused() {
    let mut scene = Scene::founded();
    let info = scene.info(0, 1, 1);
    let forged = Statement {
        author: node(5).public(),
        ..info.clone()
    };
    assert_eq!(
        scene.held.insert(forged),
        Err(Refusal::Signature {
            kind: kind::NODE_INFO
        })
    );
    let mut forged = info;
    *forged.body.last_mut().unwrap() += 1;
    assert_eq!(
        scene.held.insert(forged),
        Err(Refusal::Signature {
            kind: kind::NODE_INFO
        })
    );
}

#[test]
fn another_mesh_s_genesis_is_refused() {
    let mut scene = Scene::founded();
    let other = Scene::founded();
    let genesis = other.held.iter().next().unwrap().clone();
    assert_eq!(
        scene.held.insert(genesis),
        Err(Refusal::Foreign(other.mesh))
    );
}

#[test]
fn an_author_s_log_is_bounded() {
    let mut scene = Scene::founded();
    let header = LogHeader {
        seq: MAX_LOG + 1,
        prev: [1; 32],
        hlc: 0,
    };
    let statement = scene.placed(&node(0), kind::POLICY, header, &"too much");
    let refusal = Refusal::Quota {
        seq: MAX_LOG + 1,
        limit: MAX_LOG,
    };
    assert_eq!(scene.held.insert(statement), Err(refusal));
}

#[test]
fn an_author_s_log_counts_up_to_its_bytes_whatever_the_order() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let mut chain = Vec::new();
    let (mut seq, mut prev) = (1, [0; 32]);
    while chain.len() * 900 < MAX_LOG_BYTES + 20_000 {
        let hlc = (START << 16) + u64::from(seq);
        let header = LogHeader { seq, prev, hlc };
        let statement = scene.placed(&node(1), 10, header, &vec![7_u8; 850]);
        prev = scene.id_of(&statement).0;
        seq += 1;
        chain.push(statement);
    }
    let before = scene.held.clone();
    let (mut forth, mut back) = (before.clone(), before);
    let mut refused = 0;
    for statement in &chain {
        let _folded = forth.state();
        let outcome = forth.insert(statement.clone());
        refused += usize::from(matches!(outcome, Err(Refusal::Quota { .. })));
    }
    for statement in chain.iter().rev() {
        back.insert(statement.clone()).unwrap();
    }

    let bytes = |held: &Statements| -> usize {
        let ours = held.iter().filter(|s| s.author == node(1).public());
        ours.map(|statement| statement.body.len()).sum()
    };
    assert!(refused > 10, "{refused} refused");
    assert_eq!(forth.root(), back.root());
    assert!((MAX_LOG_BYTES - 1_000..=MAX_LOG_BYTES + 1_000).contains(&bytes(&forth)));
    assert_eq!(forth.state().members.len(), 2);
}

#[test]
fn forged_rivals_do_not_push_what_a_revocation_accepts_over_its_bytes() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let token = scene.token(terms(), START);
    let (mut seq, mut prev) = (1, [0; 32]);
    for _ in 0..700 {
        let hlc = ((START + 9) << 16) + u64::from(seq);
        let header = LogHeader { seq, prev, hlc };
        for filler in [[7_u8; 850], [8_u8; 850]] {
            let said = scene.placed(&node(1), 12, header, &filler.to_vec());
            if filler[0] == 7 {
                prev = scene.id_of(&said).0;
            }
            scene.held.insert(said).unwrap();
        }
        seq += 1;
    }
    let join = author_join(&node(2), &token, "n2").unwrap();
    let vouch = Witness {
        join: scene.id_of(&join),
    };
    let hlc = ((START + 9) << 16) + u64::from(seq);
    let header = LogHeader { seq, prev, hlc };
    let vouched = scene.placed(&node(1), kind::WITNESS, header, &vouch);
    let end = scene.id_of(&vouched).0;
    scene.held.insert(join).unwrap();
    scene.held.insert(vouched).unwrap();
    assert!(!scene.held.state().members.contains_key(&id(2)));

    let revocation = Revocation {
        target: Target::Node(id(1)),
        manner: Manner::Evicted,
        cut: Some(Cut { seq, id: end }),
        reason: "",
    };
    let said = issue_revoke(&scene.admin, &scene.held, &revocation, START).unwrap();
    scene.held.insert(said).unwrap();
    assert!(scene.held.state().members.contains_key(&id(2)));
}

#[test]
fn strangers_cannot_fill_memory_nor_push_members_out() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let root = scene.held.root();
    for number in 0..MAX_WAITING as u32 * 2 {
        let header = LogHeader {
            seq: 0,
            prev: [0; 32],
            hlc: u64::from(number),
        };
        let join = super::super::Join {
            invite: StatementId([5; 32]),
            name: "x".into(),
            created_ms: 0,
            invite_signature: [0; 64],
        };
        let statement = scene.placed(&node(9), kind::JOIN, header, &join);
        scene.held.insert(statement).unwrap();
    }
    let held: usize = scene
        .held
        .authors
        .values()
        .map(|authored| authored.joins.len())
        .sum();
    assert!(held <= MAX_WAITING + 1, "{held}");
    assert_eq!(scene.held.root(), root);
    assert_eq!(scene.held.state().members.len(), 2);
}

#[test]
fn what_does_not_count_yet_is_held_after_what_does() {
    let mut scene = Scene::founded();
    let token = scene.token(terms(), START);
    let join = author_join(&node(1), &token, "n1").unwrap();
    scene.held.insert(join.clone()).unwrap();
    assert!(scene.held.iter().all(|held| *held != join));
    assert_eq!(scene.held.all().last(), Some(&join));
    assert_eq!(scene.held.all().count(), scene.held.iter().count() + 1);
}

#[test]
fn the_head_names_the_last_statement_of_a_log() {
    let mut scene = Scene::founded();
    assert_eq!(scene.held.head(&node(0).public()), (1, [0; 32]));
    let statement = scene.logged(&node(0), kind::POLICY, &"a", START);
    scene.held.insert(statement.clone()).unwrap();
    assert_eq!(
        scene.held.head(&node(0).public()),
        (2, scene.id_of(&statement).0)
    );
}

#[test]
fn who_lacks_what_a_key_signed_last_is_told_before_it_signs_again() {
    let mut scene = Scene::founded();
    let key = scene.admin.public();
    let behind = scene.held.clone();
    let nothing = Cut::NOTHING;
    assert_eq!(behind.reaches(&key, nothing), Ok(()));
    let said = scene.logged(&scene.admin, kind::POLICY, &"a", START);
    let beside = scene.logged(&scene.admin, kind::POLICY, &"b", START);
    let last = scene.held.place(&said).unwrap();
    assert_eq!((last.seq, last.id), (2, scene.id_of(&said).0));
    assert_eq!(scene.held.place(&scene.info(0, 1, 1)), None);
    scene.held.insert(said).unwrap();
    let next = scene.logged(&scene.admin, kind::POLICY, &"c", START);
    let end = scene.held.place(&next).unwrap();
    assert_eq!(scene.held.reaches(&key, last), Ok(()));
    let refusal = behind.reaches(&key, last);
    assert_eq!(refusal, Err(NoAuthority::Behind { seq: 2, held: 1 }));
    // What is held with a hole before it does not lead there.
    let mut holed = behind.clone();
    holed.insert(next).unwrap();
    let refusal = holed.reaches(&key, end);
    assert_eq!(refusal, Err(NoAuthority::Behind { seq: 3, held: 1 }));
    let mut other = behind;
    other.insert(beside).unwrap();
    let refusal = other.reaches(&key, last);
    assert_eq!(refusal, Err(NoAuthority::Parted { seq: 2 }));
}

#[test]
fn a_log_counts_up_to_its_first_hole() {
    let mut scene = Scene::founded();
    let mut logged = Vec::new();
    for text in ["a", "b", "c"] {
        logged.push(scene.logged(&node(0), kind::POLICY, &text, START));
        scene.held.insert(logged.last().unwrap().clone()).unwrap();
    }
    let genesis = scene.held.iter().next().unwrap().clone();
    let mut other = scene.holder([&genesis, &logged[0], &logged[2]]);
    assert_eq!(other.head(&node(0).public()).0, 2);
    other.insert(logged[1].clone()).unwrap();
    assert_eq!(other.root(), scene.held.root());
}

#[test]
fn who_is_behind_gets_only_what_it_lacks() {
    let mut scene = Scene::founded();
    for _ in 0..3 {
        let statement = scene.logged(&node(0), kind::POLICY, &"a", START);
        scene.held.insert(statement).unwrap();
    }
    let mut behind = scene.held.clone();
    for _ in 0..2 {
        let statement = scene.logged(&node(0), kind::POLICY, &"b", START);
        scene.held.insert(statement).unwrap();
    }
    let info = scene.info(0, 1, 1);
    scene.held.insert(info).unwrap();
    assert_eq!(exchange(&mut behind, &mut scene.held), 3);
    assert_eq!(exchange(&mut behind, &mut scene.held), 0);
    assert_eq!(behind.root(), scene.held.root());
}

#[test]
fn three_statements_at_one_place_converge_to_the_same_two() {
    let mut scene = Scene::founded();
    let mut rivals: Vec<_> = ["a", "b", "c"]
        .map(|text| scene.logged(&node(0), kind::POLICY, &text, START))
        .to_vec();
    rivals.sort_by_key(|statement| scene.id_of(statement));
    let before = scene.held.clone();
    scene.held.insert(rivals[2].clone()).unwrap();
    let next = scene.logged(&node(0), kind::POLICY, &"next", START);
    let [mut one, mut other] = [before.clone(), before];
    rivals
        .iter()
        .for_each(|rival| drop(one.insert(rival.clone())));
    // The other holder's log is longer, and shorter once it knows all three.
    for statement in [&rivals[0], &rivals[2], &next] {
        other.insert(statement.clone()).unwrap();
    }
    exchange(&mut one, &mut other);
    exchange(&mut one, &mut other);
    assert_eq!(exchange(&mut one, &mut other), 0);
    assert_eq!(one.root(), other.root());
    assert!(
        rivals[..2]
            .iter()
            .all(|rival| other.iter().any(|held| held == rival))
    );
    assert!(
        [&rivals[2], &next]
            .iter()
            .all(|late| other.iter().all(|held| *held != **late))
    );
}

#[test]
fn who_waits_here_and_was_let_in_in_vain_there_is_the_same_everywhere_after_a_meeting() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let in_vain = scene.token(terms(), START);
    let needs_approval = true;
    let waiting = scene.token(
        InviteTerms {
            needs_approval,
            ..terms()
        },
        START,
    );
    let mut apart = scene.held.clone();
    // There a member lets it in that is evicted with all it said; by then it has said something itself.
    scene.join(&in_vain, 2, 1, START + 1).unwrap();
    let revocation = Revocation {
        target: Target::Node(id(1)),
        manner: Manner::Evicted,
        cut: Some(Cut::NOTHING),
        reason: "",
    };
    let said = issue_revoke(&scene.admin, &scene.held, &revocation, START + 2).unwrap();
    scene.held.insert(said).unwrap();
    let word = scene.logged(&node(2), 12, &"a word", START + 3);
    scene.held.insert(word).unwrap();
    // Here it waits for an admin's approval.
    let mut there = std::mem::replace(&mut scene.held, apart);
    scene.join(&waiting, 2, 0, START + 4).unwrap();
    apart = scene.held.clone();

    let mut rounds = 0;
    while exchange(&mut apart, &mut there) > 0 {
        rounds += 1;
        assert!(rounds < 20, "the exchange does not come to an end");
    }
    assert_eq!(apart.root(), there.root());
    assert!(there.state().pending.contains_key(&id(2)));
}

#[test]
fn no_rivals_displace_the_genesis() {
    let mut scene = Scene::founded();
    let header = LogHeader {
        seq: 1,
        prev: [0; 32],
        hlc: START << 16,
    };
    for text in 0..32_u8 {
        let rival = scene.placed(&scene.admin, kind::POLICY, header, &text);
        scene.held.insert(rival).unwrap();
    }
    let state = scene.held.state();
    assert!(state.genesis.is_some() && state.members.contains_key(&id(0)));
    assert_eq!(state.frozen.len(), 1, "its log is forked all the same");
}

#[test]
fn of_two_infos_at_one_place_the_same_stays_whichever_came_first() {
    let scene = Scene::founded();
    let genesis = scene.held.iter().next().unwrap();
    let [one, other] = ["0.1.0", "0.2.0"].map(|version| scene.info_of(0, version, 1, 1));
    let [forth, back] =
        [[genesis, &one, &other], [genesis, &other, &one]].map(|all| scene.holder(all));
    assert_eq!(forth.root(), back.root());
    assert_eq!(forth.state(), back.state());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_and_any_repetition_mean_the_same(
        happenings in prop::collection::vec(happening(), 1..40),
        order in any::<u64>(),
        repeated in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let mut scene = Scene::founded();
        let said = history(&mut scene, &happenings);
        let expected = scene.holder(&said);
        let mut again = said.clone();
        again.extend(repeated.iter().map(|index| index.get(&said).clone()));
        shuffle(&mut again, order);
        let other = scene.holder(&again);
        prop_assert_eq!(other.state(), expected.state());
        prop_assert_eq!(other.root(), expected.root());
        prop_assert_eq!(other.summary(), expected.summary());
    }

    #[test]
    fn any_partition_heals_to_the_same(
        happenings in prop::collection::vec(happening(), 1..40),
        parts in prop::collection::vec(0_usize..3, 200),
    ) {
        let mut scene = Scene::founded();
        let said = history(&mut scene, &happenings);
        let expected = scene.holder(&said);
        let mut holders = vec![scene.holder(&said[..1]); 3];
        for (statement, part) in said.iter().zip(&parts) {
            holders[*part].insert(statement.clone()).unwrap();
        }
        let [a, b, c] = holders.as_mut_slice() else { unreachable!() };
        let mut rounds = 0;
        while exchange(a, b) + exchange(b, c) + exchange(c, a) > 0 {
            rounds += 1;
            prop_assert!(rounds < 200, "the exchange does not come to an end");
        }
        for holder in holders {
            prop_assert_eq!(holder.state(), expected.state());
            prop_assert_eq!(holder.root(), expected.root());
        }
    }

    #[test]
    fn what_counts_is_enough_to_begin_with(happenings in prop::collection::vec(happening(), 1..40)) {
        let mut scene = Scene::founded();
        let said = history(&mut scene, &happenings);
        let whole = scene.holder(&said);
        let mut other = Statements::new(scene.mesh);
        for statement in whole.iter() {
            other.insert(statement.clone()).unwrap();
        }
        prop_assert_eq!(other.state(), whole.state());
        prop_assert_eq!(other.root(), whole.root());
    }

    #[test]
    fn the_state_keeps_its_promises(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut scene = Scene::founded();
        let said = history(&mut scene, &happenings);
        let state = scene.holder(&said).state();
        let names: BTreeSet<_> = state.members.values().map(|member| &member.name).collect();
        prop_assert_eq!(names.len(), state.members.len());
        prop_assert!(state.ever(&id(0)).is_some());
        for invite in state.invites.values() {
            prop_assert!(invite.used.len() <= usize::from(invite.invite.uses));
        }
        for gone in state.gone.keys() {
            prop_assert!(!state.members.contains_key(gone) && !state.pending.contains_key(gone));
        }
        for (key, admin) in &state.admins {
            let above = |by: &[u8; 32]| *by == *key || state.admins[by].rank < admin.rank;
            prop_assert!(admin.granted_by.iter().all(above));
            prop_assert!(admin.revoked.iter().all(|revoked| above(&revoked.by)), "{:?}", admin);
        }
    }

    #[test]
    fn heads_survive_their_encoding(author: [u8; 32], seq: u32, log: [u8; 16], notes: [u8; 8]) {
        let head = AuthorHead { author, seq, log, notes };
        let bytes = postcard::to_stdvec(&head).unwrap();
        prop_assert!(bytes.len() <= 61);
        prop_assert_eq!(postcard::from_bytes::<AuthorHead>(&bytes), Ok(head));
    }
}

fn shuffle(statements: &mut [Statement], seed: u64) {
    use rand::{SeedableRng, seq::SliceRandom};
    statements.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
}
