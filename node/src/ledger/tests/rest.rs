//! What a ledger costs while nothing happens, and how an event gets through a mesh where not everybody has a session with
//! everybody.

use std::time::Duration;

use rand::Rng as _;

use super::world::World;

#[test]
fn at_rest_a_peer_costs_less_than_three_bytes_a_second() {
    let mut world = World::new(1, 8);
    world.all_meet();
    for node in 0..8 {
        world.publish(node, b"began");
    }
    world.pass(Duration::from_secs(120));
    let before: Vec<_> = world.nodes.iter().map(|node| node.sent_bytes).collect();
    world.pass(Duration::from_secs(3_000));
    let all: u64 = world.nodes.iter().map(|node| node.sent_bytes).sum();
    let all = all - before.iter().sum::<u64>();
    let each = all as f64 / 3_000.0 / 8.0 / 7.0;
    assert!((1.0..3.0).contains(&each), "{each} B/s a peer");
}

#[test]
fn in_a_mesh_of_two_hundred_an_event_is_everywhere_within_seconds_at_a_flat_cost() {
    let nodes = 200;
    let mut world = World::new(5, nodes);
    for node in 0..nodes {
        for _ in 0..8 {
            let other = world.rng.random_range(0..nodes);
            world.link(node, other, true);
        }
    }
    world.pass(Duration::from_secs(5));
    world.nodes.iter_mut().for_each(|node| node.sent_bytes = 0);
    world.publish(0, b"lost power");
    world.pass(Duration::from_secs(2));
    let know = (0..nodes).filter(|node| !world.bodies(*node, 0).is_empty());
    assert!(know.count() >= 196);
    let most = world.nodes.iter().skip(1).map(|node| node.sent_bytes).max();
    assert!(most.unwrap() < 6 * 1_000, "{most:?} bytes for one event");
    world.pass(Duration::from_secs(60));
    assert!((0..nodes).all(|node| world.bodies(node, 0).len() == 1));
}
