//! A node gets back what its own disk lost.

use std::time::Duration;

use outlast_store::StoreId;

use super::name;
use super::world::{Held, World};

#[test]
fn a_lost_tail_comes_back_from_a_peer_and_only_then_is_the_run_sealed() {
    let mut world = World::new(5, 3);
    world.quiet(Duration::from_secs(30));
    let before = world.nodes[0].running;
    world.crash(0, 5);
    world.start(0);
    assert!(!world.recovered(0));
    world.quiet(Duration::from_secs(8));
    assert_eq!(world.nodes[0].held[&before], world.nodes[1].held[&before]);
    assert!(world.recovered(0));
}

#[test]
fn a_node_alone_seals_its_earlier_runs_after_a_minute() {
    let mut world = World::new(5, 2);
    world.quiet(Duration::from_secs(10));
    world.crash(1, 0);
    world.crash(0, 2);
    world.start(0);
    world.quiet(Duration::from_secs(58));
    assert!(!world.recovered(0));
    world.quiet(Duration::from_secs(3));
    assert!(world.recovered(0));
}

#[test]
fn a_wiped_node_gets_everything_back_from_those_who_are_left() {
    let mut world = World::new(7, 4);
    world.quiet(Duration::from_secs(200));
    world.crash(0, 0);
    world.crash(3, 0);
    world.nodes[0].wipe();
    world.start(0);
    world.quiet(Duration::from_secs(20));
    let of = |node: usize, origin: usize| -> Held {
        let logs = world.nodes[node].held.iter();
        logs.filter(|(log, _)| log.origin == name(origin))
            .map(|(log, rows)| {
                let mut rows = rows.clone();
                // The last rows of the new run are on their way.
                if log.store != StoreId(origin as u64 + 1) {
                    rows.remove(19..=20);
                }
                (*log, rows)
            })
            .collect()
    };
    // Node 3 is dead: its rows come from holders. Node 0's old rows as well.
    assert_eq!(of(0, 3), of(1, 3));
    assert_eq!(of(0, 0), of(1, 0));
    assert_eq!(of(0, 0).len(), 2, "the old store's log and the new one's");
}

#[test]
fn what_a_running_node_lost_of_its_own_run_comes_back_from_a_peer() {
    let mut world = World::new(11, 2);
    world.quiet(Duration::from_secs(130));
    world.lose(0, 1..=60);
    world.quiet(Duration::from_secs(25));
    let log = world.nodes[0].running;
    assert!(world.nodes[0].held[&log].covers(1..=60));
    let asked = world.requests;
    world.quiet(Duration::from_secs(30));
    assert_eq!(world.requests, asked);
}
