//! Bytes a second between two peers at rest, as the network counts them: three nodes in
//! namespaces of their own, 60 s, Ethernet headers included.

use std::time::Duration;

use outlast_tests::{Traffic, World};

use crate::OUTLAST;

/// How long the wire is watched.
const WATCHED: Duration = Duration::from_secs(60);

/// How long everything runs first: the join's own traffic isn't counted.
const SETTLING: Duration = Duration::from_secs(20);

pub(crate) fn measure() {
    let Some(mut world) = World::in_namespaces(OUTLAST, "w") else {
        println!("\nwire: not measured, namespaces take root");
        return;
    };
    world.found(&["a", "b", "c"]);
    world
        .node(0)
        .wait_alive(&["b", "c"], Duration::from_secs(20));
    std::thread::sleep(SETTLING);
    let before = Traffic::of(world.node(0).pid().expect("up"));
    std::thread::sleep(WATCHED);
    let after = Traffic::of(world.node(0).pid().expect("up"));

    let seconds = WATCHED.as_secs_f64();
    let both_peers = (after.bytes - before.bytes) / seconds;
    let packets = (after.packets - before.packets) / seconds;
    println!("\nwire over {seconds:.0} s, a node with two peers, both directions together");
    println!(
        "between two peers {:10.0} B/s, {:.1} packets/s",
        both_peers / 2.0,
        packets / 2.0
    );
}
