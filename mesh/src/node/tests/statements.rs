//! What is said spreads to every member, and is kept before it leaves.

use super::*;
use crate::trust::{Setting, issue_policy};

#[test]
fn what_is_published_spreads_and_is_journalled_before_it_leaves() {
    let mut world = World::new(3);
    world.run(1_000);
    let now = world.now;
    while world.nodes[0].poll_transmit(now).is_some() {}
    assert!(world.nodes[0].poll_journal().is_empty());
    let moved = vec![Endpoint {
        kind: EndpointKind::Local,
        addr: address(40),
    }];

    world.nodes[0].handle_endpoints(moved, now);

    assert!(world.nodes[0].owes_write());
    assert_eq!(world.nodes[0].poll_transmit(now), None);
    assert_eq!(world.nodes[0].poll_journal().len(), 1);
    let first = world.nodes[0].poll_transmit(now).unwrap();
    world.give(1, address(0), &first.bytes);
    assert!(!world.nodes[1].owes_write(), "others hold it already");
    assert_eq!(world.nodes[1].poll_journal().len(), 1);
    world.run(500);
    let root = world.nodes[0].statements().root();
    assert!(
        world
            .nodes
            .iter()
            .all(|node| node.statements().root() == root)
    );
}

#[test]
fn a_higher_incarnation_seen_elsewhere_is_passed() {
    let mut world = World::new(2);
    world.run(1_000);
    let moved = Endpoint {
        kind: EndpointKind::Advertised,
        addr: address(1),
    };
    let now = world.now;
    world.nodes[1].handle_endpoints(vec![moved], now);
    world.run(1_000);
    // Its disk comes back as it was at first: it begins with what the others know to be old.
    world.restart(1);
    world.run(1_000);

    let me = world.nodes[1].me();
    let seen = |at: usize| {
        let state = world.nodes[at].statements().state();
        state.members[&me].info.clone().unwrap().incarnation
    };
    assert_eq!(seen(0), seen(1));
    assert_eq!(seen(0), 3);
}

#[test]
fn a_mesh_of_sixty_reaches_a_joiner_who_knows_the_token_s_chain_alone() {
    let keys: Vec<_> = (1..=60)
        .map(|number| (NodeKey::from_seed(&[number; 32]), TunnelKey::generate()))
        .collect();
    let (whole, _invite) = members(&keys, Now::real());
    let mut held = Statements::new(whole.mesh());
    for statement in whole.iter().take(2) {
        held.insert(statement.clone()).unwrap();
    }

    let mut questions = 0;
    while held.root() != whole.root() {
        questions += 1;
        assert!(
            questions <= 20,
            "{} members known",
            held.state().members.len()
        );
        for summary in sync::Sync::default().summary(&held) {
            for statement in sync::missing(&whole, &summary) {
                held.insert(statement).unwrap();
            }
        }
    }

    assert_eq!(held.state().members.len(), 60);
}

#[test]
fn a_refused_statement_is_not_asked_for_again_at_once() {
    let mut world = World::new(2);
    world.run(1_000);
    let (from, to) = (world.nodes[1].me(), world.nodes[0].me());
    let ours = world.nodes[0].roots();
    let sync = &mut world.nodes[0].peers.get_mut(&from).unwrap().sync;
    sync.learn([9; 32], None, &ours);
    let (asked, now) = (world.now, world.now.after(Duration::from_secs(5)));
    assert!(sync.take_summary_due(asked.mono));
    let mut forged = world.first.iter().next().unwrap().clone();
    forged.body.push(0);
    let mut body = Vec::new();
    forged.encode(&mut body);

    world.nodes[1].say(to, kind::STATEMENTS, &body, asked);
    world.deliver();

    assert_eq!(world.dropped(0, "statement refused"), 1);
    let sync = &mut world.nodes[0].peers.get_mut(&from).unwrap().sync;
    assert!(!sync.take_summary_due(now.mono));
}

#[test]
fn a_log_is_cut_by_when_it_came_and_not_by_what_it_says() {
    let mut world = World::new(2);
    world.run(1_000);
    let admin = admin();
    let held = world.nodes[0].statements().clone();
    let before = held.cut(&admin.public());
    let said_ms = held.state().genesis.as_ref().unwrap().created_ms;
    let (site, now) = (Some("attic"), world.now);
    let said = issue_policy(&admin, &held, None, Setting::Site, site, said_ms);
    world.nodes[0].handle_publish(said.unwrap(), now).unwrap();
    world.run(500);
    for node in &world.nodes {
        let cut_at = |at_ms| node.statements().cut_at(&admin.public(), at_ms);
        assert_eq!(cut_at(now.wall_ms()), before);
        assert_eq!(cut_at(world.now.wall_ms() + 1).seq, before.seq + 1);
    }
}
