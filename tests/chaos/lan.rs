//! Networks that have lost everything but their cables: no uplink, no names, other addresses than
//! anybody knows, a clock at 1970.

use std::time::{Duration, Instant};

use outlast_tests::net::{Family, address};
use outlast_tests::{World, now_ms, wait_for};

use crate::cut::converge;
use crate::stack::endpoints;
use crate::world;

/// A whole network is back within 10 s where nobody else uses the machine.
const BACK: Duration = Duration::from_secs(40);

#[test]
fn a_site_powered_on_at_once_with_other_addresses_and_a_clock_at_1970_is_whole_again() {
    let mut world = world("cold");
    let names = ["a", "b", "c", "d"];
    world.found(&names);
    wait_whole(&world, &names);
    std::thread::sleep(Duration::from_secs(3));
    let from = now_ms();
    std::thread::sleep(Duration::from_secs(2));

    // The power fails; the lease of everybody is another one afterwards, and b has c's old one.
    for at in 0..names.len() {
        world.node_mut(at).kill();
    }
    let net = world.net.as_ref().expect("in namespaces");
    for (name, number) in [("a", 121), ("c", 122), ("b", 3), ("d", 123)] {
        net.move_to(name, number);
    }
    world.node_mut(3).set_clock(-now_ms() / 1_000 + 60);
    let began = Instant::now();
    for at in 0..names.len() {
        world.node_mut(at).start(&[]);
    }
    for node in world.nodes() {
        node.wait_up();
    }

    wait_whole(&world, &names);
    eprintln!("whole again {:?} after the power", began.elapsed());
    for at in 0..3 {
        let paths = paths(&world, at);
        assert!(paths.iter().all(|path| path == "lan"), "{paths:?}");
    }
    world.node_mut(3).set_clock(0);
    std::thread::sleep(Duration::from_secs(3));
    let three: Vec<_> = world.nodes()[..3].iter().collect();
    let all = converge(&three, from, now_ms());
    assert_eq!(all.repeats(), Vec::<String>::new());
}

#[test]
fn a_network_is_found_by_calls_alone_on_ports_of_its_own_and_where_they_are_off_it_is_not() {
    let mut world = world("call");
    for name in ["a", "b"] {
        world.add(name);
    }
    let silent = world.dir().join("silent.toml");
    std::fs::write(&silent, "lan_calls = false\n").expect("write a configuration");
    let silent = silent.to_str().expect("a plain path").to_owned();
    let ports = [["--listen", "[::]:7001"], ["--listen", "[::]:7002"]];
    let start = |world: &mut World, quiet: bool| {
        for (at, port) in ports.iter().enumerate() {
            let flags = [&port[..], &["--config", &silent]].concat();
            let flags = if quiet { &flags[..] } else { &port[..] };
            world.node_mut(at).up_with(flags);
        }
    };
    start(&mut world, true);
    let token = world.node(0).run(&["init", "--name", "a", "--invite", "1"]);
    world
        .node(1)
        .run_with_input(&["join", "--name", "b"], &token);
    wait_whole(&world, &["a", "b"]);

    for at in 0..2 {
        world.node_mut(at).kill();
    }
    let net = world.net.as_ref().expect("in namespaces");
    net.move_to("a", 131);
    net.move_to("b", 132);
    start(&mut world, true);
    std::thread::sleep(Duration::from_secs(8));
    for at in 0..2 {
        assert_eq!(world.node(at).peer_states()[0].1, "down");
        world.node_mut(at).kill();
    }

    start(&mut world, false);
    wait_whole(&world, &["a", "b"]);
}

#[test]
fn ipv6_that_appears_under_a_running_node_is_used_and_ipv4_may_go() {
    let mut world = world("late6");
    let net = world.net.as_mut().expect("in namespaces");
    net.speak_only(Family::Four);
    world.found(&["a", "b"]);
    wait_whole(&world, &["a", "b"]);

    let net = world.net.as_ref().expect("in namespaces");
    for (number, host) in ["a", "b"].iter().enumerate() {
        let new = address(Family::Six, number + 1);
        net.add_address(host, Family::Six, &new);
    }
    for (number, host) in ["a", "b"].iter().enumerate() {
        let old = address(Family::Four, number + 1);
        net.ip(host, &["addr", "del", &old, "dev", "eth0"]);
    }

    for node in world.nodes() {
        wait_for("IPv6 in use", BACK, || {
            let used = endpoints(node);
            let fine = used.iter().all(|endpoint| endpoint.starts_with('['));
            fine.then_some(()).ok_or_else(|| format!("{used:?}"))
        });
    }
    wait_whole(&world, &["a", "b"]);
}

/// Waits until each of these, the first nodes, sees all others alive.
fn wait_whole(world: &World, names: &[&str]) {
    for (at, name) in names.iter().enumerate() {
        let others: Vec<_> = names.iter().copied().filter(|n| n != name).collect();
        world.node(at).wait_alive(&others, BACK);
    }
}

fn paths(world: &World, at: usize) -> Vec<String> {
    let status = world.node(at).json(&["status"]);
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    peers
        .iter()
        .map(|peer| peer["path"].as_str().unwrap_or_default().to_owned())
        .collect()
}
