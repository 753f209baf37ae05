//! Narrow paths, and addresses that change.

use super::*;
use crate::path::halves;
use crate::wire::{FRAGMENT_PORT, fragment};

/// What a link of 1,280 bytes leaves to a datagram over IPv6.
const NARROWEST: usize = 1_280 - 48;

#[test]
fn a_narrow_link_carries_stream_packets_of_every_length_both_ways() {
    let mut world = World::new(2);
    world.widest = NARROWEST;
    world.run(1_000);

    for length in (1..MAX_STREAM_PACKET)
        .step_by(11)
        .chain([MAX_STREAM_PACKET])
    {
        for (from, to) in [(0, 1), (1, 0)] {
            let sent = world.stream(from, to, length);
            world.run(20);
            assert_eq!(world.streamed(to, &sent), 1, "{length} bytes");
        }
    }

    for at in 0..2 {
        let counters = &world.nodes[at].counters;
        assert!(counters.split_packets > 0);
        assert_eq!(counters.split_packets, counters.joined_packets);
        assert_eq!(world.dropped(at, "fragment alone"), 0);
    }
}

#[test]
fn a_path_that_carries_long_datagrams_splits_only_until_that_is_proved() {
    let mut world = World::new(2);
    world.run(1_000);
    for _ in 0..100 {
        let sent = world.stream(0, 1, MAX_STREAM_PACKET);
        world.run(20);
        assert_eq!(world.streamed(1, &sent), 1);
        world.seen.clear();
    }
    assert_eq!(world.nodes[0].counters.split_packets, 1);
    assert!(world.peer(0, 1).width.is_wide());
    assert!(
        !world.peer(1, 0).width.is_wide(),
        "each direction is proved by itself"
    );
}

#[test]
fn a_path_that_becomes_narrow_splits_again_within_its_next_proof() {
    let mut world = World::new(2);
    world.run(1_000);
    world.stream(0, 1, MAX_STREAM_PACKET);
    world.run(1_000);
    assert!(world.peer(0, 1).width.is_wide());

    world.seen.clear();
    world.widest = NARROWEST;
    let mut arrived = Vec::new();
    for _ in 0..300 {
        let sent = world.stream(0, 1, MAX_STREAM_PACKET);
        world.run(100);
        arrived.push(world.streamed(1, &sent) == 1);
        world.seen.clear();
    }

    let first = arrived.iter().position(|arrived| *arrived).unwrap();
    assert!(
        first <= 180,
        "narrow noticed after {first} tenths of a second"
    );
    assert!(arrived[first..].iter().all(|arrived| *arrived));
    world.widest = usize::MAX;
    for _ in 0..700 {
        world.stream(0, 1, MAX_STREAM_PACKET);
        world.run(100);
    }
    assert!(
        world.peer(0, 1).width.is_wide(),
        "wide again within the rarest probe"
    );
}

#[test]
fn a_new_endpoint_is_narrow_until_proved() {
    let mut world = World::new(2);
    world.run(1_000);
    world.stream(0, 1, MAX_STREAM_PACKET);
    world.run(100);
    assert!(world.peer(0, 1).width.is_wide());

    world.homes[1] = address(70);
    world.message(1, 0);
    world.run(10);

    assert_eq!(world.peer(0, 1).route.address(), Some(address(70)));
    assert!(!world.peer(0, 1).width.is_wide());
}

#[test]
fn a_datagram_the_machine_refuses_for_its_length_makes_the_path_narrow() {
    let mut world = World::new(2);
    world.run(1_000);
    world.stream(0, 1, MAX_STREAM_PACKET);
    world.run(100);

    world.nodes[0].handle_send_failure(address(1), SendFailure::TooLong, world.now);

    assert!(!world.peer(0, 1).width.is_wide());
    assert_eq!(world.dropped(0, "too long for the machine"), 1);
    world.widest = NARROWEST;
    world.seen.clear();
    let sent = world.stream(0, 1, MAX_STREAM_PACKET);
    world.run(20);
    assert_eq!(world.streamed(1, &sent), 1);
}

#[test]
fn what_is_joined_passes_the_same_checks_and_never_nests() {
    let mut world = World::new(3);
    world.run(1_000);
    let (us, liar, other) = (
        world.nodes[0].address(),
        world.nodes[1].address(),
        world.nodes[2].address(),
    );
    let half = packet::build(liar, us, FRAGMENT_PORT, &fragment::split(9, b"inner")[0]);
    let cases = [
        (
            packet::build(other, us, STREAM_PORT, b"x"),
            "inner source spoofed",
        ),
        (
            packet::build(liar, other, STREAM_PORT, b"x"),
            "inner destination not us",
        ),
        (packet::build(liar, us, 7, b"x"), "inner port closed"),
        (half, "fragment within a fragment"),
        (vec![0x60; 900], "inner packet malformed"),
    ];

    for (number, (bad, reason)) in cases.into_iter().enumerate() {
        for payload in fragment::split(number as u32, &bad) {
            world.inject(1, 0, &packet::build(liar, us, FRAGMENT_PORT, &payload));
        }
        assert_eq!(world.dropped(0, reason), 1, "{reason}");
    }
    let stream = |event: &NodeEvent| matches!(event, NodeEvent::StreamPacket { .. });
    assert_eq!(world.events(0, stream), 0);
    world.inject(1, 0, &packet::build(liar, us, FRAGMENT_PORT, &[0; 4]));
    assert_eq!(world.dropped(0, "fragment malformed"), 1);
}

#[test]
fn halves_without_their_others_are_bounded_given_up_and_counted() {
    let mut world = World::new(2);
    world.run(1_000);
    let (us, peer) = (world.nodes[0].address(), world.nodes[1].address());
    let most = halves::MOST as u32;
    for id in 0..most + 6 {
        let payload = &fragment::split(id, &[0x60; 1_200])[0];
        world.inject(1, 0, &packet::build(peer, us, FRAGMENT_PORT, payload));
    }
    assert_eq!(world.dropped(0, "fragment alone"), 6);

    world.run(3_000);

    assert_eq!(world.dropped(0, "fragment alone"), u64::from(most) + 6);
}

#[test]
fn a_node_whose_address_changes_is_reached_there_within_a_second() {
    let mut world = World::new(3);
    world.run(5_000);

    world.homes[1] = address(71);
    world.nodes[1].handle_endpoints(local(&[71]), world.now);
    world.run(1_000);

    for at in [0, 2] {
        assert_eq!(world.peer(at, 1).route.address(), Some(address(71)));
        assert_eq!(world.state(at, 1), PeerState::Alive);
    }
    let lost = |event: &NodeEvent| matches!(event, NodeEvent::Disconnected(_));
    assert_eq!(world.events(0, lost), 0);
}

#[test]
fn two_that_move_in_one_moment_find_each_other_by_what_a_third_is_told() {
    for are_told in [true, false] {
        let mut world = World::new(3);
        world.run(60_000);
        for (at, new) in [(1, 71), (2, 72)] {
            world.homes[at] = address(new);
            let now = world.now_at(at);
            if are_told {
                world.nodes[at].handle_endpoints(local(&[new]), now);
            }
        }
        world.run(5_000);
        let direct = [(0, 1), (0, 2), (1, 2), (2, 1)];
        let ways = direct.map(|(at, of)| world.peer(at, of).route.address());
        assert_eq!(
            ways,
            [71, 72, 72, 71].map(|new| Some(address(new))),
            "{are_told}"
        );
        assert_eq!(world.disconnected(1) + world.disconnected(2), 0);
    }
}

#[test]
fn who_was_cut_off_while_a_node_moved_learns_its_new_address_from_the_others() {
    let mut world = World::new(3);
    world.run(5_000);
    // The third would relay between them.
    world.make_metered(0);
    world.apart = Some([1, 2]);
    world.run(600_000);
    assert_eq!(world.state(2, 1), PeerState::Down);

    world.homes[1] = address(71);
    world.nodes[1].handle_endpoints(local(&[71]), world.now);
    let (two, now) = (world.nodes[1].me(), world.now);
    world.run(1_000);

    let dialled = world.peer(2, 1);
    assert!(
        dialled.dial.last() > Some(now.mono),
        "at once, not in a minute"
    );
    assert!(
        dialled.initiated_to.contains(&Way::Direct(address(71))),
        "{two:?}"
    );
    world.apart = None;
    world.run(15_000);
    assert_eq!(world.state(2, 1), PeerState::Alive);
}

#[test]
fn an_address_only_others_see_is_spread_to_the_third() {
    let mut world = World::new(3);
    world.run(1_000);
    // A router in between gives node 1 another face; node 1 itself notices nothing.
    world.homes[1] = address(72);

    world.run(60_000);

    let info = world.nodes[2].state.members[&world.nodes[1].me()]
        .info
        .clone();
    let observed = Endpoint {
        kind: EndpointKind::Observed,
        addr: address(72),
    };
    assert!(info.unwrap().endpoints.contains(&observed));
}

#[test]
fn a_flapping_interface_floods_neither_statements_nor_handshakes() {
    let mut world = World::new(2);
    world.run(2_000);
    let (seq, handshakes) = (world.nodes[0].own_seq(), world.nodes[0].counters.handshakes);

    for second in 0..600 {
        world.nodes[0].handle_endpoints(local(&[0, 80 + second % 3]), world.now);
        world.nodes[0].handle_stir(world.now);
        world.run(1_000);
    }

    let said = world.nodes[0].own_seq() - seq;
    let shaken = world.nodes[0].counters.handshakes - handshakes;
    assert!((60..=63).contains(&said), "{said} statements in 10 min");
    assert!(shaken <= 63, "{shaken} handshakes in 10 min");
    world.run(10_000);
    let shown = world.nodes[1].state.members[&world.nodes[0].me()]
        .info
        .clone();
    assert_eq!(
        shown.unwrap().endpoints,
        local(&[0, 82]),
        "the last one counts"
    );
}

#[test]
fn losing_every_address_is_no_news_and_having_one_again_dials_at_once() {
    let mut world = World::new(2);
    world.run(2_000);
    let seq = world.nodes[0].own_seq();
    let loopback = vec![Endpoint {
        kind: EndpointKind::Local,
        addr: "127.0.0.1:1000".parse().unwrap(),
    }];

    world.cut = true;
    world.nodes[0].handle_endpoints(loopback, world.now);
    world.run(120_000);
    assert_eq!(world.nodes[0].own_seq(), seq);
    world.cut = false;
    world.nodes[0].handle_endpoints(local(&[0]), world.now);
    world.run(1_000);

    assert_eq!(world.state(1, 0), PeerState::Alive);
    assert_eq!(world.nodes[0].own_seq(), seq, "it was never forgotten");
}

#[test]
fn a_cable_put_back_is_noticed_at_once_and_a_machine_that_stirs_all_day_stays_quiet() {
    let mut world = World::new(2);
    world.run(2_000);
    world.cut = true;
    world.run(3_600_000);
    world.cut = false;
    world.nodes[0].handle_stir(world.now);
    world.run(700);
    assert_eq!(world.state(0, 1), PeerState::Alive);

    world.cut = true;
    world.run(3_600_000);
    let mut attempts = 0;
    let mut last = None;
    for _ in 0..3_600 {
        world.nodes[0].handle_stir(world.now);
        world.run(1_000);
        let dialled = world.peer(0, 1).dial.last();
        attempts += u32::from(dialled != last);
        last = dialled;
    }
    assert!(attempts < 500, "{attempts} attempts in an hour");
}

#[test]
fn a_path_without_a_route_is_left_for_another_address_at_once() {
    let mut world = World::new(2);
    world.run(5_000);
    world.nodes[1].handle_endpoints(local(&[1, 90]), world.now);
    world.run(3_000);
    let was = world.peer(0, 1).route.address().unwrap();
    assert_eq!(was, address(1));
    world.homes[1] = address(90);

    world.message(0, 1);
    while world.nodes[0].poll_transmit(world.now).is_some() {}
    world.nodes[0].handle_send_failure(was, SendFailure::NoRoute, world.now);
    world.run(400);

    assert_eq!(world.peer(0, 1).route.address(), Some(address(90)));
    assert_eq!(world.dropped(0, "no route"), 1);
}

/// Addresses of interfaces.
#[test]
fn a_heard_peer_that_says_it_is_elsewhere_is_dialled_there_and_one_with_an_address_more_is_not() {
    let dialled = |endpoints: &[usize]| {
        let mut world = World::new(2);
        world.run(10_000);
        let now = world.now_at(1);
        world.nodes[1].handle_endpoints(local(endpoints), now);
        world.run(1_500);
        assert_eq!(world.state(0, 1), PeerState::Alive);
        let mut strayed = world.strayed.iter();
        strayed.any(|sent| sent.to == address(40) && sent.bytes[0] == 1)
    };

    assert!(dialled(&[40]));
    assert!(!dialled(&[1, 40]));
}

fn local(numbers: &[usize]) -> Vec<Endpoint> {
    let endpoint = |number: &usize| Endpoint {
        kind: EndpointKind::Local,
        addr: address(*number),
    };
    numbers.iter().map(endpoint).collect()
}

impl World {
    /// Sends a stream packet and returns what it holds.
    pub(super) fn stream(&mut self, from: usize, to: usize, length: usize) -> Vec<u8> {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        let to = self.nodes[to].address();
        self.nodes[from].handle_stream_packet(to, &bytes, self.now);
        bytes
    }

    /// How many stream packets of these bytes arrived.
    pub(super) fn streamed(&self, at: usize, sent: &[u8]) -> usize {
        self.events(
            at,
            |event| matches!(event, NodeEvent::StreamPacket { bytes, .. } if bytes[..] == *sent),
        )
    }

    fn message(&mut self, from: usize, to: usize) {
        let to = self.nodes[to].me();
        self.nodes[from]
            .handle_message(to, 64, b"here", self.now)
            .unwrap();
    }

    /// Sends an inner packet made by a member that doesn't keep the rules.
    pub(super) fn inject(&mut self, from: usize, to: usize, packet: &[u8]) {
        let id = self.nodes[to].me();
        let peer = self.nodes[from].peers.get_mut(&id).unwrap();
        let sealed = peer.session.as_mut().unwrap().seal(packet).unwrap();
        self.give(to, self.homes[from], &sealed);
    }
}
