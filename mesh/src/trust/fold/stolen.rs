//! A key in two places, and what a revocation without a time leaves of what it signed.

use crate::trust::scene::{START, Scene, id, node, words};
use crate::trust::{
    Cut, LogHeader, Manner, Policy, Revocation, Statement, Target, issue_revoke, kind,
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
