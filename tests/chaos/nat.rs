//! Sites behind NATs of each kind, and one public machine between them: who reaches whom, by
//! which way, and what stays when the public one dies.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use outlast_tests::capture::enter;
use outlast_tests::{Nat, Net, Place, Rows, World, now_ms, wait_for};
use serde_json::Value;

use crate::world;

/// Two sites of each kind, with one machine in each.
const SITES: [(&str, Nat); 6] = [
    ("full1", Nat::FullCone),
    ("full2", Nat::FullCone),
    ("port1", Nat::PortRestricted),
    ("port2", Nat::PortRestricted),
    ("sym1", Nat::Symmetric),
    ("sym2", Nat::Symmetric),
];

/// Pairs have found their way within 15 s where nobody else uses the machine.
const FOUND: Duration = Duration::from_secs(60);

/// How long a relay may be used once a direct way is open.
const RELAY_LEFT: Duration = Duration::from_secs(30);

/// Longer than a dead machine takes to be missed by everybody.
const GONE: Duration = Duration::from_secs(15);

/// What a pair has whose NATs let no hole be punched.
const HARD: &str = "relay";

#[test]
fn every_pair_behind_any_two_nats_talks_by_the_way_expected_and_the_public_machine_may_die() {
    let mut world = world("nat");
    let net = world.net.as_mut().expect("in namespaces");
    net.stand("p", Place::Public);
    for (site, nat) in SITES {
        net.build_site(site, Some(nat));
        net.stand(site, Place::site(site));
    }
    let names: Vec<&str> = std::iter::once("p")
        .chain(SITES.map(|(site, _)| site))
        .collect();
    let began = Instant::now();
    world.found(&names);
    for (at, other, expected) in pairs() {
        wait_way(&world, at, names[other], expected);
    }
    eprintln!("all pairs after {:?}", began.elapsed());

    world.node_mut(0).kill();
    let killed = Instant::now();
    let left: Vec<_> = pairs()
        .filter(|(at, other, _)| at.min(other) > &0)
        .collect();
    // Whoever is reached directly stays so all the while.
    let mut looks = 0;
    while killed.elapsed() < GONE || looks < 3 {
        looks += 1;
        for at in 1..names.len() {
            let status = world.node(at).json(&["status"]);
            let direct = left.iter().filter(|pair| pair.0 == at && pair.2 != HARD);
            for (_, other, _) in direct {
                let found = peer(&status, names[*other]);
                assert_eq!(found["path"], "direct", "{}: {found}", names[at]);
                assert_ne!(found["state"], "down", "{}: {found}", names[at]);
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    for (at, other, expected) in left {
        wait_way(&world, at, names[other], expected);
    }
}

#[test]
fn a_relay_is_left_once_a_direct_way_opens_and_a_machine_that_moves_is_found_in_each_network() {
    let mut world = world("mv");
    let net = world.net.as_mut().expect("in namespaces");
    net.stand("p", Place::Public);
    for site in ["west", "east"] {
        net.build_site(site, Some(Nat::PortRestricted));
        net.stand(&site[..1], Place::site(site));
    }
    net.forbid("west", "east");
    world.found(&["p", "w", "e"]);
    wait_way(&world, 1, "e", "relay");
    wait_way(&world, 2, "w", "relay");
    let status = world.node(1).json(&["status"]);
    assert_eq!(peer(&status, "e")["via"], "p", "{status}");

    world.net.as_ref().expect("in namespaces").allow("west");
    let opened = Instant::now();
    wait_way(&world, 1, "e", "direct");
    wait_way(&world, 2, "w", "direct");
    eprintln!("the relay was left after {:?}", opened.elapsed());
    assert!(opened.elapsed() < RELAY_LEFT, "{:?}", opened.elapsed());

    for (place, path) in [
        (Place::site("east"), "lan"),
        (Place::Public, "direct"),
        (Place::site("west"), "direct"),
    ] {
        let at_p = Rows::of(world.node(0), "w");
        let at_e = Rows::of(world.node(2), "w");
        let net = world.net.as_mut().expect("in namespaces");
        net.move_over("w", place.clone());
        let moved = now_ms();
        for (rows, name) in [(at_p, "p"), (at_e, "e")] {
            let first = rows.first(FOUND, |row| row.at_ms >= moved);
            let took = first.expect("rows come again").arrived_ms - moved;
            eprintln!("{place:?}: a row at {name} after {took} ms");
        }
        for (at, peer) in [(1, "p"), (1, "e"), (0, "w"), (2, "w")] {
            let expected = if at == 0 || peer == "p" {
                "direct"
            } else {
                path
            };
            wait_way(&world, at, peer, expected);
        }
    }
}

/// Nodes by number, 0 the public one, and the path from the first to the second.
fn pairs() -> impl Iterator<Item = (usize, usize, &'static str)> {
    let all = 0..=SITES.len();
    let both = all
        .clone()
        .flat_map(move |at| all.clone().map(move |other| (at, other)));
    both.filter(|(at, other)| at != other).map(|(at, other)| {
        let nat = |number: usize| number.checked_sub(1).map(|site| SITES[site].1);
        let is_easy = |nat| matches!(nat, None | Some(Nat::FullCone));
        let (one, two) = (nat(at), nat(other));
        let hard = [one, two].contains(&Some(Nat::Symmetric)) && !is_easy(one) && !is_easy(two);
        (at, other, if hard { HARD } else { "direct" })
    })
}

/// Waits until this node has such a path to a peer, and hears it unless it has none.
fn wait_way(world: &World, at: usize, peer: &str, expected: &str) {
    let state = if expected == "none" { "down" } else { "alive" };
    let what = format!("{} reaching {peer}: {expected}", world.node(at).name);
    wait_for(&what, FOUND, || {
        let way = way(world, at, peer);
        let fine = way == (state.to_owned(), expected.to_owned());
        fine.then_some(()).ok_or_else(|| format!("{way:?}"))
    });
}

/// State and path of a peer, as this node tells.
fn way(world: &World, at: usize, name: &str) -> (String, String) {
    let status = world.node(at).json(&["status"]);
    let peer = peer(&status, name);
    let text = |key: &str| peer[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("path"))
}

fn peer(status: &Value, name: &str) -> Value {
    let peers = status["peers"].as_array().expect("peers");
    let peer = peers.iter().find(|peer| peer["name"] == name);
    peer.cloned().unwrap_or_default()
}

#[test]
fn each_kind_of_nat_maps_and_filters_as_its_name_says() {
    let mut net = Net::new("nk").expect("network namespaces take root");
    for (site, nat) in [
        ("full", Nat::FullCone),
        ("port", Nat::PortRestricted),
        ("sym", Nat::Symmetric),
    ] {
        net.build_site(site, Some(nat));
        net.stand(&format!("h{site}"), Place::site(site));
    }
    let [one, other] = ["one", "other"].map(|host| {
        net.stand(host, Place::Public);
        net.plug(host)
    });
    let stranger = socket(&other, 4_001);
    let (one, other) = (socket(&one, 4_000), socket(&other, 4_000));
    for (site, same_port, open) in [
        ("full", true, true),
        ("port", true, false),
        ("sym", false, false),
    ] {
        let inside = socket(&net.plug(&format!("h{site}")), 51_800);
        let seen_by = |outside: &UdpSocket, host: u8| {
            let to = SocketAddr::from(([203, 0, 113, host], 4_000));
            inside.send_to(b"out", to).expect("the way is open");
            received(outside).expect("what leaves arrives")
        };
        let (first, second) = (seen_by(&one, 1), seen_by(&other, 2));
        assert_eq!(first.port() == second.port(), same_port, "{site}");

        // Answers come in by the hole, others only where it is open to everybody.
        one.send_to(b"back", first).expect("sent");
        assert!(received(&inside).is_some(), "{site}: no answer");
        stranger.send_to(b"guess", first).expect("sent");
        assert_eq!(received(&inside).is_some(), open, "{site}: a stranger");
    }
}

fn socket(namespace: &str, port: u16) -> UdpSocket {
    let namespace = namespace.to_owned();
    let entered = std::thread::spawn(move || {
        enter(&namespace);
        UdpSocket::bind(("0.0.0.0", port)).expect("the port is free")
    });
    let socket = entered.join().expect("the namespace is there");
    let patience = Some(Duration::from_millis(500));
    socket.set_read_timeout(patience).expect("a timeout");
    socket
}

/// Who sent the next datagram; `None` when none comes.
fn received(socket: &UdpSocket) -> Option<SocketAddr> {
    let mut bytes = [0; 16];
    socket.recv_from(&mut bytes).ok().map(|(_, from)| from)
}
