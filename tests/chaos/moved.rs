//! Addresses that change and interfaces that come and go, under running nodes.

use std::time::{Duration, Instant};

use outlast_tests::net::{Family, address};
use outlast_tests::{World, now_ms, wait_for};

use crate::cut::converge;
use crate::stack::endpoints;
use crate::{wait_whole, world};

/// A node is back at its new address within 5 s where nobody else uses the machine.
const BACK: Duration = Duration::from_secs(20);

#[test]
fn a_node_that_gets_another_address_is_found_there_by_everybody() {
    let mut world = world("dhcp");
    world.found(&["a", "b", "c"]);
    wait_whole(&world);
    std::thread::sleep(Duration::from_secs(5));
    let from = now_ms();

    move_to(&world, "b", 2, 102);
    wait_at(&world, &[0, 2], 102, "another address");
    // Its rows alone would bring that about. That it knows by itself, long before it would look
    // again, is the system's news.
    wait_for("b knowing that it moved", BACK, || {
        match world
            .node(1)
            .log_tail(100)
            .contains("own addresses changed")
        {
            true => Ok(()),
            false => Err("no word of it in the log".into()),
        }
    });
    // Every address but the loopback's is another one again, while c can't hear of it.
    world.net.as_ref().expect("in namespaces").pull("c");
    move_to(&world, "b", 102, 103);
    wait_at(&world, &[0], 103, "once more");
    std::thread::sleep(Duration::from_secs(12));
    world.net.as_ref().expect("in namespaces").push_back("c");
    wait_at(&world, &[0, 2], 103, "after a cut");

    wait_whole(&world);
    std::thread::sleep(Duration::from_secs(3));
    let all = converge(&world.nodes().iter().collect::<Vec<_>>(), from, now_ms());
    assert_eq!(all.holes("b", "node_load1"), Vec::<i64>::new());
    assert_eq!(all.repeats(), Vec::<String>::new());
}

#[test]
fn an_interface_that_vanishes_and_returns_brings_its_node_back() {
    let mut world = world("gone");
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], Duration::from_secs(20));
    world.node(1).wait_alive(&["a"], Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(4));
    let from = now_ms();

    // Down, and up again with other addresses.
    let net = world.net.as_ref().expect("in namespaces");
    net.ip("b", &["link", "set", "eth0", "down"]);
    wait_lost(&world);
    let net = world.net.as_ref().expect("in namespaces");
    net.ip("b", &["addr", "flush", "dev", "eth0"]);
    net.ip("b", &["link", "set", "eth0", "up"]);
    for family in [Family::Four, Family::Six] {
        net.add_address("b", family, &address(family, 104));
    }
    wait_at(&world, &[0], 104, "a link up again");

    // The interface itself deleted, and another one made.
    world.net.as_ref().expect("in namespaces").unplug("b");
    wait_lost(&world);
    world.net.as_ref().expect("in namespaces").replug("b", 105);
    wait_at(&world, &[0], 105, "a new interface");

    std::thread::sleep(Duration::from_secs(3));
    let all = converge(&world.nodes().iter().collect::<Vec<_>>(), from, now_ms());
    assert_eq!(all.holes("b", "node_load1"), Vec::<i64>::new());
    assert_eq!(all.repeats(), Vec::<String>::new());
}

fn move_to(world: &World, host: &str, from: usize, to: usize) {
    let net = world.net.as_ref().expect("in namespaces");
    for family in [Family::Four, Family::Six] {
        net.ip(
            host,
            &["addr", "del", &address(family, from), "dev", "eth0"],
        );
    }
    for family in [Family::Four, Family::Six] {
        net.add_address(host, family, &address(family, to));
    }
}

/// Waits until these nodes hear b at its addresses of this number.
fn wait_at(world: &World, nodes: &[usize], number: usize, what: &str) {
    let began = Instant::now();
    let homes = [format!("10.77.0.{number}:"), format!("[fd77::{number}]:")];
    for at in nodes {
        let node = world.node(*at);
        wait_for(&format!("{} finding b: {what}", node.name), BACK, || {
            let endpoints = endpoints(node);
            let alive = ("b".to_owned(), "alive".to_owned());
            let there = |endpoint: &String| homes.iter().any(|home| endpoint.starts_with(home));
            if endpoints.iter().any(there) && node.peer_states().contains(&alive) {
                return Ok(());
            }
            Err(format!("{endpoints:?}, {:?}", node.peer_states()))
        });
    }
    eprintln!("{what}: b found after {:?}", began.elapsed());
}

/// Waits until a has noticed that b is gone.
fn wait_lost(world: &World) {
    wait_for("b being missed", Duration::from_secs(30), || {
        let states = world.node(0).peer_states();
        match states.contains(&("b".to_owned(), "down".to_owned())) {
            true => Ok(()),
            false => Err(format!("{states:?}")),
        }
    });
}
