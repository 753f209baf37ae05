//! The fold of what admins settle: settings, and who takes a dead member's place.

use crate::id::NodeId;
use crate::trust::scene::{START, Scene, exchange, id, node, terms};
use crate::trust::{
    InviteTerms, NoAuthority, Policy, PolicyError, Setting, Statements, Token, issue_policy,
    issue_replace, kind,
};

const MINUTE: u64 = 60_000;

fn set(scene: &mut Scene, about: Option<u8>, value: Option<&str>, now_ms: u64) {
    let said = issue_policy(
        &scene.admin,
        &scene.held,
        about.map(id),
        Setting::Site,
        value,
        now_ms,
    );
    scene.held.insert(said.unwrap()).unwrap();
}

fn site(held: &Statements, number: u8) -> Option<String> {
    held.state().settings.site(&id(number)).map(str::to_owned)
}

/// An invite for whoever takes the place of `old`.
fn successor(scene: &mut Scene, old: NodeId, now_ms: u64) -> Token {
    let name = scene.held.state().members[&old].name.clone();
    let terms = InviteTerms {
        name: Some(name),
        ..terms()
    };
    let token = scene.token(terms, now_ms);
    let replace = issue_replace(&scene.admin, &scene.held, token.invite_id(), old, now_ms);
    scene.held.insert(replace.unwrap()).unwrap();
    token
}

#[test]
fn the_latest_word_on_a_setting_counts_whatever_order_it_came_in() {
    let mut scene = Scene::founded();
    set(&mut scene, None, Some("home"), START);
    set(&mut scene, Some(0), Some("attic"), START + 1);
    set(&mut scene, Some(0), Some("cellar"), START + 2);
    assert_eq!(site(&scene.held, 0).as_deref(), Some("cellar"));
    let all: Vec<_> = scene.held.all().cloned().collect();
    let back = scene.holder(all.iter().rev());
    assert_eq!(back.state(), scene.held.state());
    set(&mut scene, Some(0), None, START + 3);
    assert_eq!(site(&scene.held, 0).as_deref(), Some("home"));
}

#[test]
fn a_member_that_is_no_admin_settles_nothing() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let policy = Policy {
        node: None,
        key: "site".to_owned(),
        value: Some("mine".to_owned()),
    };
    let said = scene.logged(&node(1), kind::POLICY, &policy, START + 1);
    scene.held.insert(said).unwrap();
    assert_eq!(site(&scene.held, 1), None);
    let other = Scene::founded();
    let foreign = issue_policy(&other.admin, &scene.held, None, Setting::Site, None, START);
    assert_eq!(
        foreign,
        Err(PolicyError::NoAuthority(NoAuthority::NotAdmin(scene.mesh)))
    );
}

#[test]
fn a_value_that_means_nothing_is_not_signed() {
    let scene = Scene::founded();
    let said = issue_policy(
        &scene.admin,
        &scene.held,
        None,
        Setting::Metered,
        Some("yes"),
        START,
    );
    assert_eq!(
        said.unwrap_err().to_string(),
        "metered takes on or off, not \"yes\""
    );
}

#[test]
fn settings_cross_a_partition_and_agree_after_it() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let mut other = scene.holder(&scene.held.all().cloned().collect::<Vec<_>>());
    set(&mut scene, Some(1), Some("attic"), START + MINUTE);
    assert_eq!(exchange(&mut scene.held, &mut other), 1);
    assert_eq!(scene.held.root(), other.root());
    assert_eq!(site(&other, 1).as_deref(), Some("attic"));
}

#[test]
fn a_successor_takes_name_and_place_of_a_dead_member() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let token = successor(&mut scene, id(1), START + MINUTE);
    let join = crate::trust::author_join(&node(2), &token, "n1").unwrap();
    let witness = crate::trust::witness(&node(0), &scene.held, &join, START + MINUTE).unwrap();
    scene.held.insert(witness.unwrap()).unwrap();
    scene.held.insert(join).unwrap();
    let state = scene.held.state();
    let (old, new) = (&state.members[&id(1)], &state.members[&id(2)]);
    assert_eq!((new.name.as_str(), new.replaces), ("n1", Some(id(1))));
    assert_eq!(old.replaced_by, Some(id(2)));
    assert!(old.name.starts_with("n1-"), "{}", old.name);
    let again = issue_replace(
        &scene.admin,
        &scene.held,
        token.invite_id(),
        id(1),
        START + MINUTE,
    );
    assert_eq!(
        again.unwrap_err().to_string(),
        format!("{} was replaced already, by n1", old.name)
    );
    let all: Vec<_> = scene.held.all().cloned().collect();
    assert_eq!(scene.holder(all.iter().rev()).state(), state);
}

#[test]
fn only_the_first_to_come_takes_the_place() {
    let mut scene = Scene::founded();
    scene.admit(1, START);
    let terms = InviteTerms { uses: 2, ..terms() };
    let token = scene.token(terms, START);
    let replace = issue_replace(&scene.admin, &scene.held, token.invite_id(), id(1), START);
    scene.held.insert(replace.unwrap()).unwrap();
    scene.join(&token, 2, 0, START + 1).unwrap();
    scene.join(&token, 3, 0, START + 2).unwrap();
    let state = scene.held.state();
    assert_eq!(state.members[&id(1)].replaced_by, Some(id(2)));
    assert_eq!(
        state.members[&id(1)].name,
        "n1",
        "n2 took a name of its own"
    );
    assert_eq!(state.members[&id(3)].replaces, None);
}
