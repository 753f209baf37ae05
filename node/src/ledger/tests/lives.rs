//! What becomes of a node's own events: numbers, disks that come back old, hang or are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{World, id};
use crate::ledger::Place;

#[test]
fn an_event_is_on_disk_before_anybody_hears_of_it() {
    let mut world = World::new(1, 2);
    world.all_meet();
    world.pass(Duration::from_secs(5));
    world.nodes[0].hangs = true;
    world.publish(0, b"began");
    world.pass(Duration::from_secs(4));
    assert!(world.bodies(1, 0).is_empty() && world.bodies(0, 0).is_empty());
    assert!(world.nodes[0].told.is_empty());
    // A disk that hangs for good doesn't keep a node from being heard.
    world.pass(Duration::from_secs(2));
    assert_eq!(world.bodies(1, 0), [b"began"]);
    assert_eq!(world.nodes[0].told.len(), 1);
}

#[test]
fn a_healthy_disk_delays_no_event_by_more_than_the_way() {
    let mut world = World::new(1, 5);
    world.all_meet();
    world.pass(Duration::from_secs(5));
    world.publish(0, b"lost sight of e");
    world.pass(Duration::from_millis(100));
    for node in 0..5 {
        assert_eq!(world.bodies(node, 0).len(), 1, "node {node}");
    }
}

#[test]
fn a_node_alone_says_something_after_three_seconds_and_a_mesh_of_one_at_once() {
    let mut world = World::new(1, 2);
    world.publish(0, b"began");
    assert!(world.bodies(0, 0).is_empty());
    world.pass(Duration::from_secs(3));
    assert_eq!(world.bodies(0, 0), [b"began"]);
    let mut alone = World::new(1, 1);
    alone.publish(0, b"began");
    assert_eq!(alone.bodies(0, 0), [b"began"]);
}

#[test]
fn no_number_is_used_twice_whatever_the_disk_comes_back_as() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let mut image = Vec::new();
        let mut seen: BTreeMap<Place, Vec<u8>> = BTreeMap::new();
        for life in 0..6_u8 {
            // Now with its peers, now alone.
            if life.is_multiple_of(2) {
                world.all_meet();
            }
            world.pass(Duration::from_secs(5));
            for number in 0..4 {
                world.publish(0, &[life, number]);
            }
            world.pass(Duration::from_secs(1));
            for (place, event) in world.held(0) {
                let body = seen.entry(place).or_insert_with(|| event.body.to_vec());
                assert_eq!(*body, event.body.to_vec(), "seed {seed}");
            }
            if life == 0 {
                image = world.nodes[0].disk.clone();
            }
            // Yesterday's image, an empty disk, or the image again.
            let disk = if life == 2 { Vec::new() } else { image.clone() };
            world.restart(0, disk);
        }
        world.all_meet();
        world.pass(Duration::from_secs(120));
        let ways: Vec<_> = (0..3).map(|node| world.bodies(node, 0)).collect();
        assert!(ways.iter().all(|bodies| *bodies == ways[0]), "seed {seed}");
        let offences = world.nodes.iter().flat_map(|node| &node.offences);
        assert_eq!(
            offences.count(),
            0,
            "seed {seed}: nobody was found with two contents"
        );
        // What it said while its peers heard it is there again, though its own disk had lost it.
        let mut heard: Vec<_> = ways[0].iter().filter(|body| body[0] == 2).collect();
        heard.sort();
        assert_eq!(heard, [&[2, 0], &[2, 1], &[2, 2], &[2, 3]], "seed {seed}");
    }
}

#[test]
fn with_a_peer_that_answers_a_restored_node_goes_on_above_all_it_ever_said() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        world.all_meet();
        world.pass(Duration::from_secs(5));
        world.publish(0, b"first");
        let image = world.nodes[0].disk.clone();
        world.publish(0, b"second");
        world.pass(Duration::from_secs(5));
        world.restart(0, image);
        world.publish(0, b"third");
        world.all_meet();
        world.pass(Duration::from_secs(60));
        for node in 0..2 {
            let bodies = world.bodies(node, 0);
            assert_eq!(bodies, [&b"first"[..], b"second", b"third"], "seed {seed}");
        }
    }
}

#[test]
fn what_is_over_the_quota_is_counted_and_told_once() {
    let mut world = World::new(1, 2);
    world.all_meet();
    world.pass(Duration::from_secs(5));
    let taken = (0..100).filter(|_| world.publish(0, b"again")).count();
    assert_eq!((taken, world.nodes[0].ledger.stats().held_back), (60, 40));
    world.pass(Duration::from_secs(120));
    let told = world.held(1).into_values();
    let told: Vec<_> = told
        .filter(|event| event.kind == crate::ledger::kind::HELD_BACK)
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(postcard::from_bytes::<u64>(&told[0].body), Ok(40));
    assert_eq!(told[0].author, id(0));
}

#[test]
fn what_a_gone_node_said_stays_readable_and_reaches_who_comes_later() {
    let mut world = World::new(1, 3);
    world.link(0, 1, true);
    world.pass(Duration::from_secs(5));
    world.publish(0, b"on battery");
    world.pass(Duration::from_secs(1));
    world.link(0, 1, false);
    world.link(1, 2, true);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.bodies(2, 0), [b"on battery"]);
}

#[test]
fn who_publishes_often_still_compares_and_tells_at_a_meeting_what_was_missed() {
    let mut world = World::new(1, 2);
    world.pass(Duration::from_secs(5));
    world.publish(0, b"lost sight of b");
    world.pass(Duration::from_secs(5));
    world.all_meet();
    // Both speak before either has told what it holds.
    world.publish(0, b"b is back");
    world.publish(1, b"began");
    for _ in 0..4 {
        world.pass(Duration::from_secs(1));
        world.publish(0, b"again");
    }
    assert_eq!(world.bodies(1, 0)[0], b"lost sight of b");
}
