//! Networks of one address family, and of two of which one falls silent.

use std::time::Duration;

use outlast_tests::net::Family;
use outlast_tests::{Node, now_ms, wait_for};

use crate::cut::converge;
use crate::{wait_whole, world};

#[test]
fn a_network_of_ipv6_alone_is_enough() {
    let mut world = world("6");
    let net = world.net.as_mut().expect("in namespaces");
    net.speak_only(Family::Six);

    world.found(&["a", "b", "c"]);
    wait_whole(&world);
    std::thread::sleep(Duration::from_secs(3));
    let from = now_ms();
    std::thread::sleep(Duration::from_secs(5));

    converge(&world.nodes().iter().collect::<Vec<_>>(), from, now_ms());
    for node in world.nodes() {
        let endpoints = endpoints(node);
        assert!(
            endpoints.iter().all(|endpoint| endpoint.starts_with('[')),
            "{endpoints:?}"
        );
    }
}

#[test]
fn when_one_address_family_falls_silent_the_other_carries_on_without_loss() {
    let mut world = world("d");
    world.found(&["a", "b", "c"]);
    wait_whole(&world);
    std::thread::sleep(Duration::from_secs(5));
    let from = now_ms();

    // Nothing tells the nodes: datagrams leave as before and don't arrive.
    let used = endpoints(world.node(0));
    let (family, other) = match used[0].starts_with('[') {
        true => ("ipv6", '1'),
        false => ("ipv4", '['),
    };
    let rule = format!(
        "table inet silent {{ chain in {{ type filter hook input priority 0; \
         meta nfproto {family} udp dport 51800 drop; }}; }}"
    );
    for name in ["a", "b", "c"] {
        let net = world.net.as_ref().expect("in namespaces");
        net.run(name, &["nft", &rule]);
    }

    let began = std::time::Instant::now();
    wait_for("the other family", Duration::from_secs(40), || {
        for node in world.nodes() {
            let endpoints = endpoints(node);
            if !endpoints.iter().all(|endpoint| endpoint.starts_with(other)) {
                return Err(format!("{} uses {endpoints:?}", node.name));
            }
        }
        Ok(())
    });
    eprintln!("moved to the other family after {:?}", began.elapsed());
    wait_whole(&world);
    std::thread::sleep(Duration::from_secs(3));
    let all = converge(&world.nodes().iter().collect::<Vec<_>>(), from, now_ms());
    for origin in ["a", "b", "c"] {
        assert_eq!(all.holes(origin, "node_load1"), Vec::<i64>::new());
    }
    assert_eq!(all.repeats(), Vec::<String>::new());
}

/// Where a node sends what is for its peers.
pub(crate) fn endpoints(node: &Node) -> Vec<String> {
    let status = node.json(&["status"]);
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    peers
        .iter()
        .map(|peer| peer["endpoint"].as_str().unwrap_or_default().to_owned())
        .collect()
}
