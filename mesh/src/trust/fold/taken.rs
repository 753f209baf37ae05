//! Who came in by what was taken back: told, and no more than a bounded number.

use super::unseated::MAX_UNSEATED;
use crate::trust::history::forged_join;
use crate::trust::scene::{START, Scene, id, node, terms};
use crate::trust::{
    Cut, Manner, Revocation, Statement, Target, Token, Witness, issue_revoke, kind,
};

/// A mesh whose member 1 was evicted with nothing of its log accepted, and a token that it still holds.
fn thief() -> (Scene, Token) {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let token = scene.token(terms(), START);
    let revocation = Revocation {
        target: Target::Node(id(1)),
        manner: Manner::Evicted,
        cut: Some(Cut::NOTHING),
        reason: "stolen",
    };
    let said = issue_revoke(&scene.admin, &scene.held, &revocation, START + 1).unwrap();
    scene.held.insert(said).unwrap();
    (scene, token)
}

/// Node `sponsor` vouches for one that the holder of the token made up.
fn vouch(scene: &mut Scene, token: &Token, sponsor: u8, joiner: u8, at_ms: u64) {
    let join = forged_join(scene, token, joiner, &format!("n{joiner}"));
    let witness = Witness {
        join: scene.id_of(&join),
    };
    let vouched = scene.logged(&node(sponsor), kind::WITNESS, &witness, at_ms);
    scene.held.insert(join).unwrap();
    scene.held.insert(vouched).unwrap();
}

/// What counts of a node, by kind.
fn counted(scene: &Scene, number: u8) -> Vec<u8> {
    let author = node(number).public();
    let of_it = scene.held.iter().filter(|one| one.author == author);
    of_it.map(|one| one.kind).collect()
}

fn same_for_everybody(scene: &Scene) {
    let all: Vec<Statement> = scene.held.all().cloned().collect();
    let counted: Vec<Statement> = scene.held.iter().cloned().collect();
    for other in [scene.holder(all.iter().rev()), scene.holder(&counted)] {
        assert_eq!(other.state(), scene.held.state());
        assert_eq!(other.root(), scene.held.root());
    }
}

#[test]
fn a_thief_cannot_fill_the_mesh_with_nodes_that_were_let_in_in_vain() {
    let (mut scene, token) = thief();
    // Half of them by the thief, half by those that it made up.
    for joiner in 10..70 {
        vouch(&mut scene, &token, 1, joiner, START + u64::from(joiner));
    }
    for joiner in 100..160 {
        let at_ms = START + u64::from(joiner);
        vouch(&mut scene, &token, joiner - 90, joiner, at_ms);
    }
    let state = scene.held.state();
    assert_eq!(state.gone.len(), 1 + MAX_UNSEATED);
    let joins = scene.held.iter().filter(|one| one.kind == kind::JOIN);
    assert_eq!(joins.count(), 1 + MAX_UNSEATED);
    same_for_everybody(&scene);
}

#[test]
fn of_who_was_let_in_in_vain_counts_what_is_needed_to_tell_it_and_those_it_let_in() {
    let (mut scene, token) = thief();
    vouch(&mut scene, &token, 1, 2, START + 2);
    vouch(&mut scene, &token, 2, 3, START + 3);
    vouch(&mut scene, &token, 3, 4, START + 4);
    let info = scene.info(2, 1, 1);
    scene.held.insert(info).unwrap();
    for at_ms in START + 5..START + 105 {
        let ballast = scene.logged(&node(2), 12, &"ballast", at_ms);
        scene.held.insert(ballast).unwrap();
    }
    let note = Statement::sign(20, &scene.mesh, &node(2), vec![1, 1, 0]);
    scene.held.insert(note).unwrap();
    vouch(&mut scene, &token, 2, 5, START + 106);

    let state = scene.held.state();
    let told: Vec<u8> = (1..=5)
        .filter(|n| state.gone.contains_key(&id(*n)))
        .collect();
    assert_eq!(told, [1, 2, 3, 4]);
    assert_eq!(state.gone[&id(4)].reason, "who let it in was no member");
    let counted = counted(&scene, 2);
    assert_eq!(counted.len(), 1 + 16 + 1);
    assert_eq!(counted.last(), Some(&kind::NODE_INFO));
    assert!(
        state.gone[&id(2)].member.info.is_some(),
        "its keys are known"
    );
    same_for_everybody(&scene);
}
