//! A key in two places: the fork takes nothing from anybody, and a revocation leaves the branch that came first.

use crate::trust::history::forged_join;
use crate::trust::scene::{START, Scene, id, lacking, node, terms, words};
use crate::trust::{
    Cut, Leave, LogHeader, MAX_LOG_BYTES, Manner, Policy, Revocation, Revoke, Setting, Settings,
    Statement, Statements, Target, Witness, author_join, issue_policy, issue_revoke, kind, witness,
};
use crate::tunnel::keys::{AdminKey, Author};

/// A mesh whose founder let in 1, 2 and 3.
fn grown() -> Scene {
    let mut scene = Scene::founded();
    for joiner in 1..4 {
        scene.admit(joiner, START + u64::from(joiner));
    }
    let held: Vec<Statement> = scene.held.all().cloned().collect();
    for statement in &held {
        scene.held.received(statement, START);
    }
    scene
}

/// A thief's branch of a log from behind `from`, received at `at_ms`.
fn branch(
    scene: &mut Scene,
    key: &impl Author,
    from: Cut,
    hlc: u64,
    len: u32,
    at_ms: u64,
) -> Vec<Statement> {
    let mut last = from;
    let mut said = Vec::new();
    for _ in 0..len {
        let header = LogHeader {
            seq: last.seq + 1,
            prev: last.id,
            hlc,
        };
        let policy = Policy {
            node: None,
            key: "site".to_owned(),
            value: Some("thief".to_owned()),
        };
        let statement = scene.placed(key, kind::POLICY, header, &policy);
        last = Cut {
            seq: last.seq + 1,
            id: scene.id_of(&statement).0,
        };
        scene.held.insert(statement.clone()).unwrap();
        scene.held.received(&statement, at_ms);
        said.push(statement);
    }
    said
}

fn revoke(scene: &mut Scene, by: &AdminKey, target: Target, manner: Manner, cut: Option<Cut>) {
    let revocation = Revocation {
        target,
        manner,
        cut,
        reason: "stolen",
    };
    let said = issue_revoke(by, &scene.held, &revocation, START + 1_000).unwrap();
    scene.held.insert(said).unwrap();
}

fn members(scene: &Scene) -> Vec<u8> {
    let state = scene.held.state();
    (0..4)
        .filter(|n| state.members.contains_key(&id(*n)))
        .collect()
}

#[test]
fn evicting_a_copied_node_keeps_whom_it_let_in_before_the_thief_whatever_the_thief_s_clock_and_length()
 {
    for (hlc, len) in [(1, 1), (1, 9), (START << 16, 9), (u64::MAX, 9)] {
        for since in [None, Some(START + 50)] {
            let mut scene = grown();
            branch(&mut scene, &node(0), Cut::NOTHING, hlc, len, START + 100);
            // With two more the true one is none of those that are looked at, if their ids are lower.
            branch(
                &mut scene,
                &node(0),
                Cut::NOTHING,
                hlc - 1,
                len,
                START + 101,
            );
            branch(
                &mut scene,
                &node(0),
                Cut::NOTHING,
                hlc / 2,
                len,
                START + 102,
            );
            let cut = since.map(|since| scene.held.cut_at(&id(0).0, since));
            let admin = scene.admin.clone();
            revoke(
                &mut scene,
                &admin,
                Target::Node(id(0)),
                Manner::Evicted,
                cut,
            );
            assert_eq!(members(&scene), [1, 2, 3], "{hlc} {len} {since:?}");
            let all: Vec<Statement> = scene.held.iter().cloned().collect();
            assert_eq!(scene.holder(&all).state(), scene.held.state());
        }
    }
}

#[test]
fn revoking_a_copied_admin_key_never_brings_the_later_branch_into_force() {
    for manner in [Manner::Evicted, Manner::Retired] {
        for (hlc, len) in [(1, 1), (START << 16, 20), (u64::MAX, 20)] {
            let mut scene = grown();
            let genesis = scene.held.cut_at(&scene.admin.public(), START + 1);
            assert_eq!(genesis.seq, 4, "the Genesis and three invites");
            let admin = scene.admin.clone();
            let first = Cut {
                seq: 1,
                id: scene.mesh.0,
            };
            branch(&mut scene, &admin, first, hlc, len, START + 100);
            revoke(
                &mut scene,
                &words(),
                Target::Admin(admin.public()),
                manner,
                None,
            );
            assert_eq!(members(&scene), [0, 1, 2, 3], "{hlc} {len}");
            assert_eq!(scene.held.state().settings.site(&id(1)), None);
        }
    }
}

#[test]
fn of_two_branches_that_came_at_once_neither_counts() {
    let mut scene = grown();
    let admin = scene.admin.clone();
    let before = scene.held.cut(&admin.public());
    branch(&mut scene, &admin, before, 5, 3, START + 100);
    branch(&mut scene, &admin, before, 6, 1, START + 100);
    assert_eq!(scene.held.cut(&admin.public()), before);
}

/// Everybody's membership, names and settings.
fn standing(scene: &Scene) -> (Vec<u8>, Vec<String>, Settings) {
    let state = scene.held.state();
    let names = state.members.values().map(|member| member.name.clone());
    (members(scene), names.collect(), state.settings.clone())
}

#[test]
fn a_rival_by_a_member_s_key_changes_nobody_s_membership_whatever_time_it_claims() {
    for hlc in [0, 1, START << 16, u64::MAX] {
        let mut scene = grown();
        let before = standing(&scene);
        branch(&mut scene, &node(0), Cut::NOTHING, hlc, 1, START + 100);
        assert_eq!(standing(&scene), before, "{hlc}");
        assert_eq!(scene.held.state().frozen[&node(0).public()].seq, 1);
        // Its farewell is a word like any other: it takes itself out, not those it let in.
        let mut scene = grown();
        let header = LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc,
        };
        let reason = String::new();
        let left = scene.placed(&node(0), kind::LEAVE, header, &Leave { reason });
        scene.held.insert(left).unwrap();
        assert_eq!(members(&scene), [1, 2, 3], "{hlc}");
        assert!(scene.held.state().frozen.contains_key(&node(0).public()));
    }
}

#[test]
fn many_rivals_displace_nothing_that_was_held_before_them() {
    let mut scene = grown();
    let before = standing(&scene);
    for hlc in 0..40 {
        branch(
            &mut scene,
            &node(0),
            Cut::NOTHING,
            hlc,
            3,
            START + 100 + hlc,
        );
    }
    assert_eq!(standing(&scene), before);
    // Who hears of it from a member gets what that one had first, first; and is as hard to convince.
    let all: Vec<Statement> = scene.held.iter().cloned().collect();
    scene.held = Statements::new(scene.mesh);
    for statement in &all {
        scene.held.insert(statement.clone()).unwrap();
        scene.held.received(statement, START + 200);
    }
    assert_eq!(standing(&scene), before);
    for hlc in 40..80 {
        branch(
            &mut scene,
            &node(0),
            Cut::NOTHING,
            hlc,
            3,
            START + 200 + hlc,
        );
    }
    assert_eq!(standing(&scene), before);
    let log = scene
        .held
        .iter()
        .filter(|one| one.author == node(0).public());
    assert_eq!(log.count(), 2 * 3, "two a place count");
}

#[test]
fn who_held_the_same_first_come_to_hold_the_same_of_a_thief_s_many_rivals() {
    let mut scene = grown();
    let rivals: Vec<Statement> = (0..12)
        .flat_map(|hlc| {
            let mut other = grown_like(&scene);
            branch(&mut other, &node(0), Cut::NOTHING, hlc, 2, START)
        })
        .collect();
    let mut apart = grown_like(&scene).held;
    for (at, rival) in rivals.iter().enumerate() {
        let (one, other) = (&mut scene.held, &mut apart);
        let first = if at % 3 == 0 { one } else { other };
        first.insert(rival.clone()).unwrap();
        first.received(rival, START + 100 + at as u64);
    }
    while exchange_received(&mut scene.held, &mut apart) > 0 {}
    assert_eq!(scene.held.root(), apart.root());
    assert_eq!(members(&scene), [0, 1, 2, 3]);
}

/// Another holder of the same, which received it at the same time.
fn grown_like(scene: &Scene) -> Scene {
    let held: Vec<Statement> = scene.held.all().cloned().collect();
    let other = scene.holder(&held);
    held.iter().for_each(|one| other.received(one, START));
    Scene {
        admin: scene.admin.clone(),
        mesh: scene.mesh,
        held: other,
    }
}

/// One comparison between two holders whose clocks go on.
fn exchange_received(a: &mut Statements, b: &mut Statements) -> usize {
    let (to_a, to_b) = (lacking(b, &a.summary()), lacking(a, &b.summary()));
    let mut new = 0;
    for (holder, statements) in [(a, to_a), (b, to_b)] {
        for statement in statements {
            new += usize::from(holder.insert(statement.clone()).unwrap());
            holder.received(&statement, START + 1_000);
        }
    }
    new
}

#[test]
fn an_admin_key_in_two_places_puts_out_nobody_lets_nobody_back_and_changes_no_setting() {
    let mut scene = grown();
    let admin = scene.admin.clone();
    let set = |scene: &mut Scene, by: &AdminKey, site: &str| {
        let said = issue_policy(by, &scene.held, None, Setting::Site, Some(site), START + 5);
        scene.held.insert(said.unwrap()).unwrap();
    };
    set(&mut scene, &words(), "before");
    revoke(
        &mut scene,
        &admin,
        Target::Node(id(3)),
        Manner::Evicted,
        None,
    );
    let open = scene.token(terms(), START + 6);
    let before = standing(&scene);
    assert_eq!(before.0, [0, 1, 2]);
    // What it set itself stands behind the fork, and counts no more than the thief's.
    set(&mut scene, &admin, "after");
    let genesis = Cut {
        seq: 1,
        id: scene.mesh.0,
    };
    for hlc in [0, u64::MAX] {
        let mut scene = grown_like(&scene);
        branch(&mut scene, &admin, genesis, hlc, 4, START + 100);
        assert_eq!(standing(&scene), before, "{hlc}");
        let state = scene.held.state();
        assert!(state.gone.contains_key(&id(3)));
        assert_eq!(state.frozen[&admin.public()].seq, 2);
        let join = author_join(&node(4), &open, "n4").unwrap();
        let refusal = witness(&node(0), &scene.held, &join, START + 7).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the token is refused: the admin key that made it is in use in two places; ask another admin for one"
        );
    }
}

#[test]
fn a_copied_admin_key_closes_no_token_as_of_a_time_before_it_was_used() {
    let mut scene = grown();
    let admin = scene.admin.clone();
    let state = scene.held.state();
    let used = *state.invites.keys().next().unwrap();
    let header = LogHeader {
        seq: 2,
        prev: scene.mesh.0,
        hlc: START << 16,
    };
    let closed = Revoke {
        target: Target::Invite(used),
        cut: Cut::NOTHING,
        manner: Manner::Evicted,
        reason: String::new(),
    };
    let said = scene.placed(&admin, kind::REVOKE, header, &closed);
    scene.held.insert(said).unwrap();
    assert_eq!(members(&scene), [0, 1, 2, 3]);
    assert!(scene.held.state().invites[&used].revoked.is_some());
}

#[test]
fn a_back_dated_branch_takes_no_token_from_whom_another_member_let_in() {
    let mut scene = grown();
    let token = scene.token(terms(), START + 10);
    scene.join(&token, 7, 1, START + 20).unwrap();
    let join = forged_join(&scene, &token, 9, "thief");
    let vouch = Witness {
        join: scene.id_of(&join),
    };
    let header = LogHeader {
        seq: 1,
        prev: [0; 32],
        hlc: (START + 10) << 16,
    };
    let vouched = scene.placed(&node(0), kind::WITNESS, header, &vouch);
    scene.held.insert(join).unwrap();
    scene.held.insert(vouched).unwrap();
    let state = scene.held.state();
    assert!(state.members.contains_key(&id(7)) && !state.members.contains_key(&id(9)));
    assert_eq!(state.conflicts[0].refused, id(9));
}

#[test]
fn one_key_used_apart_is_named_and_a_senior_says_which_branch_counts() {
    let mut scene = grown();
    let admin = scene.admin.clone();
    let set = |held: &Statements, site| {
        issue_policy(&admin, held, None, Setting::Site, Some(site), START + 5).unwrap()
    };
    let before = set(&scene.held, "before");
    scene.held.insert(before.clone()).unwrap();
    scene.held.received(&before, START + 5);
    let [one, other] = ["one", "other"].map(|site| set(&scene.held, site));
    for (said, at_ms) in [(&one, START + 6), (&other, START + 7)] {
        scene.held.insert(said.clone()).unwrap();
        scene.held.received(said, at_ms);
    }
    let site = |scene: &Scene| scene.held.state().settings.site(&id(0)).map(str::to_owned);
    assert_eq!(site(&scene).as_deref(), Some("before"));
    let frozen = scene.held.state().frozen[&admin.public()].clone();
    let both = [&one, &other].map(|said| scene.id_of(said));
    assert!(both.iter().all(|id| frozen.statements.contains(id)));
    let refusal = issue_policy(&admin, &scene.held, None, Setting::Site, None, START + 8);
    assert!(refusal.unwrap_err().to_string().contains("in two places"));

    let target = Target::Admin(admin.public());
    revoke(&mut scene, &words(), target, Manner::Evicted, None);
    assert_eq!(site(&scene).as_deref(), Some("one"), "it came first");
    assert!(scene.held.state().frozen.is_empty());
    assert_eq!(members(&scene), [0, 1, 2, 3]);
}

#[test]
fn rivals_beside_an_accepted_branch_count_at_one_place_alone() {
    let mut scene = grown();
    let log = |scene: &Scene| {
        let log = scene
            .held
            .iter()
            .filter(|one| one.author == node(0).public());
        log.map(|one| one.body.len()).sum::<usize>()
    };
    let true_bytes = log(&scene);
    // Long, so that they would be more than may count beside a log.
    let mut last = Cut::NOTHING;
    for seq in 1..=600 {
        for filler in [1_u8, 2] {
            let header = LogHeader {
                seq,
                prev: last.id,
                hlc: 1,
            };
            let said = scene.placed(&node(0), 12, header, &vec![filler; 850]);
            if filler == 2 {
                last = Cut {
                    seq,
                    id: scene.id_of(&said).0,
                };
            }
            scene.held.insert(said.clone()).unwrap();
            scene.held.received(&said, START + 100);
        }
    }
    let beside = log(&scene) - true_bytes;
    assert!(beside < 600 * 900 + MAX_LOG_BYTES / 4, "{beside}");
    assert_eq!(members(&scene), [0, 1, 2, 3]);
    let admin = scene.admin.clone();
    revoke(
        &mut scene,
        &admin,
        Target::Node(id(0)),
        Manner::Evicted,
        None,
    );
    assert_eq!(members(&scene), [1, 2, 3]);
    let more = log(&scene) - true_bytes - beside;
    assert_eq!(more, 0, "the cut adds no rivals to those");
}
