//! A tunnel key is replaced while everybody talks.

use super::*;
use crate::error::RotateError;

#[test]
fn a_key_is_replaced_under_traffic_and_no_message_is_lost() {
    let mut world = World::new(3);
    world.run(2_000);
    let mut sent = talk(&mut world, 100);

    let key = TunnelKey::generate();
    let public = key.public();
    world.nodes[0].handle_rotate(key, world.now).unwrap();
    sent += talk(&mut world, 500);

    assert_eq!(heard_by_each(&world), [sent, sent, sent]);
    assert!((0..3).all(|at| world.disconnected(at) == 0));
    for at in [1, 2] {
        let pair = world.peer(0, at).session.as_ref().unwrap().pair();
        assert_eq!(pair.ours, public);
        assert_eq!(
            world.peer(at, 0).session.as_ref().unwrap().pair().theirs,
            public
        );
    }
    let rotation = world.nodes[0].snapshot(world.now).rotation.unwrap();
    assert_eq!(rotation.unmoved, []);
    // What was under way has arrived, and the tunnels that carried it are let go.
    world.run(1_000);
    let handshakes = world.nodes[0].counters.handshakes;
    world.run(30_000);
    assert_eq!(
        world.nodes[0].counters.handshakes, handshakes,
        "nobody moves back"
    );
}

#[test]
fn everybody_s_key_is_replaced_at_once_and_no_message_is_lost() {
    let mut world = World::new(3);
    world.run(2_000);
    for at in 0..3 {
        let now = world.now;
        world.nodes[at]
            .handle_rotate(TunnelKey::generate(), now)
            .unwrap();
    }

    let sent = talk(&mut world, 1_500);

    assert_eq!(heard_by_each(&world), [sent, sent, sent]);
    assert!((0..3).all(|at| world.disconnected(at) == 0));
    assert!(world.nodes.iter().all(|node| node.unmoved().is_empty()));
}

#[test]
fn who_slept_through_it_comes_back_with_the_old_key_and_changes_over() {
    for sponsor_restarts in [false, true] {
        let mut world = World::new(3);
        world.run(2_000);
        world.frozen = Some(2);
        let old = world.keys[0].1.clone();
        let key = TunnelKey::generate();
        world.nodes[0]
            .handle_rotate(key.clone(), world.now)
            .unwrap();
        world.run(15_000);
        world.frozen = None;
        // It starts with the disk of long ago, and nobody else is there to tell it.
        world.apart = Some([1, 2]);
        world.restart(2);
        if sponsor_restarts {
            world.keys[0].1 = key.clone();
            world.former.insert(0, vec![old]);
            let held = world.nodes[0].statements().clone();
            let first = std::mem::replace(&mut world.first, held);
            world.restart(0);
            world.first = first;
        }

        world.run(20_000);

        assert_eq!(world.say(2, 0, b"back"), Ok(()), "{sponsor_restarts}");
        assert_eq!(world.say(0, 2, b"welcome"), Ok(()), "{sponsor_restarts}");
        let pair = world.peer(2, 0).session.as_ref().unwrap().pair();
        assert_eq!(pair.theirs, key.public(), "{sponsor_restarts}");
    }
}

#[test]
fn a_second_change_waits_for_the_first_and_the_key_before_is_forgotten_after_a_month() {
    let mut world = World::new(2);
    world.run(2_000);
    let key = TunnelKey::generate();
    world.nodes[0]
        .handle_rotate(key.clone(), world.now)
        .unwrap();
    let again = world.nodes[0].handle_rotate(TunnelKey::generate(), world.now);
    assert_eq!(again, Err(RotateError::UnderWay { peers: 1 }));
    assert_eq!(
        world.nodes[0].handle_rotate(key, world.now),
        Err(RotateError::UnderWay { peers: 1 })
    );
    world.run(2_000);
    world.nodes[0]
        .handle_rotate(TunnelKey::generate(), world.now)
        .unwrap();
    world.run(2_000);
    assert_eq!(world.nodes[0].secrets().len(), 3);
    assert_eq!(
        world.nodes[1].table.sizes()[1],
        2,
        "the present key and one before"
    );

    let mut later = world.now;
    later.wall_us += 31 * 24 * 3_600 * 1_000_000;
    world.nodes[0].forget_previous_if_due(later);
    world.run(1_000);

    assert_eq!(world.nodes[0].secrets().len(), 1);
    assert_eq!(world.nodes[0].snapshot(world.now).rotation, None);
    assert_eq!(world.nodes[1].table.sizes()[1], 1);
    assert_eq!(world.say(1, 0, b"on"), Ok(()));
}

#[test]
fn a_new_tunnel_that_cannot_be_made_leaves_the_old_one_in_use() {
    let mut world = World::new(2);
    world.run(2_000);
    // No initiation of the peer arrives, nor its answers to ours.
    world.nodes[0]
        .handle_rotate(TunnelKey::generate(), world.now)
        .unwrap();
    world.muted = Some((1, 1));

    let sent = talk(&mut world, 4_000);

    assert_eq!(heard_by_each(&world), [sent, sent]);
    assert_eq!(world.nodes[0].unmoved().len(), 1);
    assert_eq!(
        world.nodes[0].table.sizes()[0],
        1,
        "what was tried is let go"
    );
    assert_eq!(world.nodes[1].table.sizes()[0], 1);
}

#[test]
fn a_key_nobody_has_used_is_not_replaced_and_the_one_others_know_is_kept() {
    let mut world = World::new(2);
    world.run(2_000);
    world.cut = true;
    world.run(15_000);
    world.nodes[0]
        .handle_rotate(TunnelKey::generate(), world.now)
        .unwrap();
    world.run(1_000);
    let again = world.nodes[0].handle_rotate(TunnelKey::generate(), world.now);
    assert_eq!(again, Err(RotateError::Unknown));
    let mut later = world.now;
    later.wall_us += 31 * 24 * 3_600 * 1_000_000;
    world.nodes[0].forget_previous_if_due(later);
    assert_eq!(world.nodes[0].secrets().len(), 2, "nobody knows another");

    world.cut = false;
    world.run(20_000);

    assert_eq!(world.say(1, 0, b"back"), Ok(()));
    assert_eq!(world.nodes[0].may_rotate(world.now), Ok(()));
}

/// Everybody says something to everybody each 10 ms; how much each should have heard.
fn talk(world: &mut World, times: usize) -> usize {
    let count = world.nodes.len();
    for _ in 0..times {
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                world.say(from, to, b"said once").unwrap();
            }
        }
        world.run(10);
    }
    times * (count - 1)
}

fn heard_by_each(world: &World) -> Vec<usize> {
    (0..world.nodes.len()).map(|at| world.heard(at)).collect()
}
