//! Trust first: what two sides settle before the application speaks.

use super::*;
use crate::trust;

#[test]
fn sides_that_differ_about_members_exchange_that_before_the_application_speaks() {
    let mut world = World::new(2);
    let invite = an_invite(&world);
    world.nodes[0].handle_publish(invite, world.now).unwrap();
    let roots: Vec<_> = world.nodes.iter().map(Node::roots).collect();
    assert_ne!(roots[0].trust, roots[1].trust);

    // Each hears the other and not one statement: neither takes a word.
    swallow_statements(&mut world, true);
    world.run(3_000);
    assert_eq!(world.nodes[0].met().count(), 1, "they have greeted");
    assert!(world.say(0, 1, b"early").is_err());
    assert!(world.say(1, 0, b"early").is_err());
    smuggle(&mut world, 1, 0);
    world.run(10);
    assert_eq!(world.heard(0), 0);
    assert_eq!(world.dropped(0, "before the greeting"), 1);
    assert_eq!(connected(&world, 0) + connected(&world, 1), 0);

    swallow_statements(&mut world, false);
    world.run(2_000);
    assert_eq!((connected(&world, 0), connected(&world, 1)), (1, 1));
    assert_eq!(world.nodes[0].roots(), world.nodes[1].roots());
    assert_eq!(world.nodes[0].counters.connected_unagreed, 0);
    assert!(agrees(&world, 0) && agrees(&world, 1));
    world.say(0, 1, b"now").unwrap();
    world.say(1, 0, b"now").unwrap();
    world.run(10);
    assert_eq!((world.heard(0), world.heard(1)), (1, 1));
}

#[test]
fn whoever_never_agrees_is_let_through_after_ten_seconds_and_counted() {
    let mut world = World::new(2);
    let invite = an_invite(&world);
    world.nodes[0].handle_publish(invite, world.now).unwrap();
    swallow_statements(&mut world, true);

    world.run(9_500);
    assert_eq!((connected(&world, 0), connected(&world, 1)), (0, 0));
    world.run(1_500);

    assert_eq!((connected(&world, 0), connected(&world, 1)), (1, 1));
    assert_eq!(world.nodes[0].counters.connected_unagreed, 1);
    assert!(!agrees(&world, 0) && !agrees(&world, 1));
}

#[test]
fn an_older_node_that_tells_no_digest_of_trust_agrees_by_its_whole_set() {
    let ours = sync::Roots {
        all: [1; 32],
        trust: [2; 32],
    };
    let mut sync = sync::Sync::default();
    sync.learn([9; 32], None, &ours);
    assert!(!sync.agrees(&ours));
    sync.learn([1; 32], None, &ours);
    assert!(sync.agrees(&ours));
}

#[test]
fn what_is_settled_is_confirmed_at_once_and_again_when_the_push_is_lost() {
    let mut world = World::new(3);
    world.run(1_000);
    assert!((0..3).all(|at| agrees(&world, at)));
    let invite = an_invite(&world);
    world.nodes[0].handle_publish(invite, world.now).unwrap();
    assert!(!agrees(&world, 0), "nobody has confirmed it yet");

    world.run(300);
    assert!((0..3).all(|at| agrees(&world, at)));

    // Everything that leaves at once is lost: the digest is told again a second later.
    let invite = an_invite(&world);
    world.nodes[0].handle_publish(invite, world.now).unwrap();
    world.cut = true;
    world.run(500);
    world.cut = false;
    assert!(!agrees(&world, 0));
    world.run(1_500);
    assert!((0..3).all(|at| agrees(&world, at)));
}

/// Whether the snapshot says of every peer that it holds what this node holds.
fn agrees(world: &World, at: usize) -> bool {
    let snapshot = world.nodes[at].snapshot(world.now);
    snapshot.peers.iter().all(|peer| peer.agrees)
}

fn connected(world: &World, at: usize) -> usize {
    world.events(at, |event| matches!(event, NodeEvent::Connected(_)))
}

/// What only an admin's log grows by.
fn an_invite(world: &World) -> Statement {
    let terms = trust::InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: 1,
        needs_approval: false,
    };
    let held = world.nodes[0].statements();
    let (_seed, invite) = trust::issue_invite(&admin(), held, terms, world.now.wall_ms()).unwrap();
    invite
}

/// Both nodes look at no statement of each other's, as if each datagram with one were lost.
fn swallow_statements(world: &mut World, on: bool) {
    for node in &mut world.nodes {
        for peer in node.peers.values_mut() {
            let (per_second, at_once) = if on { (0.0, 0.0) } else { (1_024.0, 8_192.0) };
            peer.quota.statements = Allowance::new(per_second, at_once);
        }
    }
}

/// An application frame past all manners.
fn smuggle(world: &mut World, from: usize, to: usize) {
    let (to, now) = (world.nodes[to].me(), world.now);
    world.nodes[from].say(to, 64, b"smuggled", now);
}
