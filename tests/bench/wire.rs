//! Bytes a second between two peers at rest, as the network counts them: three nodes in
//! namespaces of their own, 60 s, Ethernet headers included.

use std::time::Duration;

use outlast_tests::World;

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

/// What crossed a node's one network interface.
struct Traffic {
    bytes: f64,
    packets: f64,
}

impl Traffic {
    /// Read through the process's own view, so that its namespace is the one counted.
    fn of(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("net/dev");
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with("eth0:"));
        let fields: Vec<f64> = line
            .expect("the node's interface")
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().expect("a count"))
            .collect();
        Self {
            bytes: fields[0] + fields[8],
            packets: fields[1] + fields[9],
        }
    }
}
