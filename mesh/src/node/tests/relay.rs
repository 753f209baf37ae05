//! Members that reach each other only through a third: found, used, bounded, left.

use super::*;
use crate::snapshot::{Path, PeerSnapshot};
use crate::trust::{Manner, Revocation, Target, issue_revoke};
use crate::wire::relay::{self as header, Relayed};
use crate::wire::{RELAY_PORT, RELAYED_PORT};

/// Nodes 1 and 2 hear nothing of each other but through others.
fn parted(count: u8) -> World {
    let mut world = World::new(count);
    world.apart = Some([1, 2]);
    world
}

fn shown(world: &World, at: usize, of: usize) -> PeerSnapshot {
    let id = world.nodes[of].me();
    let peers = world.nodes[at].snapshot(world.now).peers;
    peers.into_iter().find(|peer| peer.id == id).unwrap()
}

fn via(world: &World, at: usize, of: usize) -> Option<usize> {
    let by = shown(world, at, of).via?;
    world.nodes.iter().position(|node| node.me() == by)
}

#[test]
fn two_that_cannot_reach_each_other_talk_through_a_third_within_a_second_and_a_half() {
    let mut world = parted(3);
    world.run(1_500);

    world.say(1, 2, b"over").unwrap();
    world.say(2, 1, b"and back").unwrap();
    world.run(10);

    assert_eq!((world.heard(1), world.heard(2)), (1, 1));
    for (at, of) in [(1, 2), (2, 1)] {
        let peer = shown(&world, at, of);
        assert_eq!((peer.path, via(&world, at, of)), (Path::Relay, Some(0)));
        assert_eq!(peer.endpoint, Some(address(0)));
        let why = peer.why_not_direct.unwrap();
        assert!(why.contains("none of the 1 addresses"), "{why}");
        assert!(peer.path_since_ms.is_some());
    }
    assert!(world.nodes[0].counters.relayed_datagrams > 0);
}

#[test]
fn whoever_starts_again_is_back_through_the_relay_within_a_second_and_a_half_of_having_one() {
    let mut world = parted(3);
    world.run(10_000);
    for again in [vec![1], vec![2], vec![1, 2], vec![0], vec![0, 1, 2]] {
        // Long enough to be missed by all.
        world.walls = again
            .iter()
            .flat_map(|at| (0..3).flat_map(|other| [(*at, other), (other, *at)]))
            .collect();
        world.run(60_000);
        for at in &again {
            world.restart(*at);
        }
        world.walls.clear();
        let relay_is_there = |world: &World| {
            [1, 2]
                .iter()
                .all(|at| world.peer(*at, 0).connected && world.peer(0, *at).connected)
        };
        while !relay_is_there(&world) {
            world.run(50);
        }
        world.run(1_500);
        world.say(1, 2, b"over").unwrap();
        world.say(2, 1, b"and back").unwrap();
        world.run(10);
        assert_eq!(
            (via(&world, 1, 2), via(&world, 2, 1)),
            (Some(0), Some(0)),
            "{again:?}"
        );
    }
}

#[test]
fn the_relay_is_left_within_thirty_seconds_of_a_direct_way_opening_and_nothing_is_lost() {
    let mut world = parted(3);
    world.run(120_000);
    assert_eq!(via(&world, 1, 2), Some(0));

    world.apart = None;
    let mut said = 0;
    for _ in 0..300 {
        world.say(1, 2, b"ping").unwrap();
        world.say(2, 1, b"pong").unwrap();
        said += 1;
        world.run(100);
    }

    for (at, of) in [(1, 2), (2, 1)] {
        let peer = shown(&world, at, of);
        assert_eq!(
            (peer.path, peer.via, peer.why_not_direct),
            (Path::Direct, None, None)
        );
        assert_eq!(world.heard(at), said);
        assert_eq!(world.disconnected(at), 0);
    }
    let relayed = world.nodes[0].counters.relayed_datagrams;
    world.run(60_000);
    assert_eq!(world.nodes[0].counters.relayed_datagrams, relayed);
}

#[test]
fn a_way_that_closes_gives_way_to_a_relay_before_anybody_is_down() {
    let mut world = World::new(3);
    world.run(20_000);
    assert_eq!(shown(&world, 1, 2).path, Path::Direct);
    // First in one direction alone: the other still hears.
    for walls in [vec![(1, 2)], vec![(1, 2), (2, 1)]] {
        world.walls = walls.into_iter().collect();
        for _ in 0..40 {
            world.run(500);
            assert_ne!(world.state(1, 2), PeerState::Down);
            assert_ne!(world.state(2, 1), PeerState::Down);
        }
        assert_eq!((via(&world, 1, 2), via(&world, 2, 1)), (Some(0), Some(0)));
        world.run(120_000);
        assert_eq!((via(&world, 1, 2), via(&world, 2, 1)), (Some(0), Some(0)));
        world.walls.clear();
        world.run(30_000);
        assert_eq!((via(&world, 1, 2), via(&world, 2, 1)), (None, None));
    }
    assert_eq!(world.disconnected(1) + world.disconnected(2), 0);
}

#[test]
fn a_relay_that_falls_silent_or_leaves_is_replaced_before_anybody_is_down() {
    let mut world = parted(5);
    world.run(10_000);
    let first = via(&world, 1, 2).unwrap();

    world.frozen = Some(first);
    for _ in 0..24 {
        world.run(500);
        assert_ne!(world.state(1, 2), PeerState::Down);
    }
    let second = via(&world, 1, 2).unwrap();
    assert_ne!(second, first);

    let now = world.now;
    world.nodes[second].handle_shutdown(now);
    world.deliver();
    let ways = [(1, 2), (2, 1)].map(|(at, of)| world.peer(at, of).route.way());
    assert_eq!(ways, [None, None], "a goodbye is believed at once");
    world
        .routers
        .insert(second, nat::Router::new(nat::Kind::Symmetric, 9));
    world.walls.extend((0..5).map(|to| (second, to)));
    world.run(2_000);
    let third = via(&world, 1, 2).unwrap();
    assert!(third != first && third != second);
    world.say(1, 2, b"still here").unwrap();
    world.run(10);
    assert_eq!(
        (world.heard(2), world.disconnected(2)),
        (1, 2),
        "only the relays were lost"
    );
}

#[test]
fn a_relay_that_sleeps_for_an_hour_hands_on_again_within_seconds_of_waking() {
    let mut world = parted(3);
    world.run(10_000);
    assert_eq!(via(&world, 1, 2), Some(0));

    // It is the only one there is.
    world.frozen = Some(0);
    world.run(3_600_000);
    assert_eq!(world.state(1, 2), PeerState::Down);
    world.frozen = None;
    world.run(5_000);

    assert_eq!((via(&world, 1, 2), via(&world, 2, 1)), (Some(0), Some(0)));
    world.say(1, 2, b"good morning").unwrap();
    world.run(10);
    assert_eq!(world.heard(2), 1);
}

#[test]
fn a_metered_member_hands_on_nothing_and_is_not_even_asked() {
    let mut world = World::new(3);
    world.make_metered(0);
    world.apart = Some([1, 2]);
    world.run(60_000);

    assert_eq!(world.state(1, 2), PeerState::Down);
    assert_eq!(world.nodes[0].counters.relayed_datagrams, 0);
    assert_eq!(world.dropped(0, "relay: metered"), 0);
    let nat = world.nodes[0].snapshot(world.now).nat;
    assert_eq!(nat.relays_nothing.as_deref(), Some("this node is metered"));
    assert!(world.nodes[1].snapshot(world.now).nat.relays.is_empty());

    world.ask(1, 0, 2, &sealed(128));
    assert_eq!(world.dropped(0, "relay: metered"), 1);
    assert_eq!(world.nodes[0].counters.relayed_datagrams, 0);
}

#[test]
fn who_uses_a_relay_leaves_it_when_it_becomes_metered() {
    let mut world = parted(4);
    world.run(10_000);
    let first = via(&world, 1, 2).unwrap();
    world.make_metered(first);
    world.run(10_000);
    let second = via(&world, 1, 2).unwrap();
    assert_ne!(second, first);
    assert_eq!(world.state(2, 1), PeerState::Alive);
}

#[test]
fn nothing_is_handed_on_for_strangers_for_the_evicted_or_over_a_second_hop() {
    let mut world = parted(4);
    world.run(10_000);
    let relayed = |world: &World| world.nodes[0].counters.relayed_datagrams;
    let before = relayed(&world);
    let stranger: Ipv6Addr = "fd00::7".parse().unwrap();
    let (one, two) = (world.nodes[1].address(), world.nodes[2].address());

    // Whom it is for is no member, the asker itself, or the relay.
    let us = world.nodes[0].address();
    for other in [stranger, one, us] {
        world.inject_relay(1, 0, other, &sealed(64));
    }
    assert_eq!(world.dropped(0, "relay: no way there"), 3);
    // It came over a relay itself.
    let (from, now) = (world.nodes[1].me(), world.now);
    let by = Way::Relay(world.nodes[3].me());
    let payload = [&two.octets()[..], &sealed(64)].concat();
    world.nodes[0].hand_on(from, by, &payload, now);
    world.nodes[0].handed_on(from, by, &payload, now);
    assert_eq!(world.dropped(0, "relay: second hop"), 1);
    assert_eq!(world.dropped(0, "relayed: second hop"), 1);
    assert_eq!(relayed(&world), before);

    // The founder evicts node 1; the relay has no session with it any more, whatever it goes on sending.
    world.ask(1, 0, 2, &sealed(64));
    assert_eq!(relayed(&world), before + 1);
    let kept = world.seal_relay(1, 0, two, &sealed(64));
    world.evict(1);
    let at = relayed(&world);
    world.give(0, address(1), &kept);
    world.run(30_000);
    assert_eq!(relayed(&world), at);
    assert_eq!(world.state(2, 3), PeerState::Alive);
}

#[test]
fn a_chain_of_four_meets_over_one_hop_and_never_over_two() {
    let mut world = World::new(4);
    // Only neighbours hear each other.
    for (one, other) in [(0, 2), (0, 3), (1, 3)] {
        world.walls.extend([(one, other), (other, one)]);
    }
    world.run(120_000);

    assert_eq!((via(&world, 0, 2), via(&world, 3, 1)), (Some(1), Some(2)));
    assert_eq!(shown(&world, 0, 3).path, Path::None);
    assert_eq!(world.state(0, 3), PeerState::Down);
    for at in [1, 2] {
        assert!(
            world.dropped(at, "relay: no way there") > 0,
            "asked in vain"
        );
    }
}

#[test]
fn what_is_handed_on_in_another_s_name_moves_nothing() {
    let mut world = World::new(4);
    world.run(5_000);
    let [us, liar, victim, other] = [0, 1, 2, 3].map(|at| world.nodes[at].address());
    let of_victim = {
        let to = world.nodes[0].me();
        let peer = world.nodes[2].peers.get_mut(&to).unwrap();
        let packet = packet::build(victim, us, MESSAGE_PORT, &[]);
        peer.session.as_mut().unwrap().seal(&packet).unwrap()
    };
    let initiation = {
        let to = world.nodes[0].me();
        let peer = world.nodes[2].peers.get_mut(&to).unwrap();
        peer.session.as_mut().unwrap().initiate().unwrap()
    };
    let cases = [
        (other, of_victim.clone(), "relayed: in another's name"),
        (other, initiation, "relayed: in another's name"),
        (us, of_victim.clone(), "relayed: from a stranger"),
        (liar, of_victim.clone(), "relayed: from a stranger"),
        (
            "fd00::7".parse().unwrap(),
            of_victim,
            "relayed: from a stranger",
        ),
        (victim, sealed(64), "unknown session"),
    ];
    let before: Vec<_> = (1..4).map(|at| world.peer(0, at).route.way()).collect();
    for (claimed, datagram, reason) in cases {
        let dropped = world.dropped(0, reason);
        let relayed = Relayed {
            other: claimed,
            datagram: &datagram,
        };
        let packet = header::build(liar, us, RELAYED_PORT, relayed);
        world.inject(1, 0, &packet);
        assert_eq!(world.dropped(0, reason), dropped + 1, "{reason}");
    }
    world.inject(1, 0, &packet::build(liar, us, RELAYED_PORT, &[4; 20]));
    world.inject(1, 0, &packet::build(liar, us, RELAY_PORT, &victim.octets()));
    assert_eq!(world.blamed(0, 1, Offence::Malformed), 2);
    let after: Vec<_> = (1..4).map(|at| world.peer(0, at).route.way()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_flood_through_a_relay_is_bounded_counted_and_leaves_the_small_things_their_part() {
    let mut world = parted(3);
    world.run(10_000);
    let (before, start) = (world.nodes[0].counters.clone(), world.now);
    for _ in 0..1_000 {
        for _ in 0..20 {
            world.ask(1, 0, 2, &sealed(1_280));
        }
        world.run(10);
    }
    let seconds = world.now.mono.duration_since(start.mono).as_secs_f64();
    let relayed = world.nodes[0].counters.relayed_bytes - before.relayed_bytes;
    // Its share at once and a second, and what is small besides.
    let bound = 512_000.0 + seconds * 256_000.0 + 64_000.0 + seconds * 32_000.0;
    assert!(relayed as f64 <= bound, "{relayed} of {bound}");
    assert!(relayed as f64 > 0.8 * bound - 64_000.0 - seconds * 32_000.0);
    assert!(world.dropped(0, "relay: over budget") > 15_000);
    assert_eq!(world.state(1, 2), PeerState::Alive);
    assert_eq!(world.disconnected(1) + world.disconnected(2), 0);
}

#[test]
fn one_that_floods_a_relay_with_handshakes_keeps_no_other_from_being_introduced() {
    let mut world = World::new(4);
    world.run(5_000);
    let [us, relay] = [0, 1].map(|at| world.nodes[at].address());
    let introduced = |world: &mut World, asker: usize| {
        let (to, other) = (world.nodes[0].me(), world.nodes[asker].address());
        let peer = world.nodes[asker].peers.get_mut(&to).unwrap();
        let datagram = peer.session.as_mut().unwrap().initiate().unwrap();
        let relayed = Relayed {
            other,
            datagram: &datagram,
        };
        let refused = world.dropped(0, "relayed: too many handshakes");
        let packet = header::build(relay, us, RELAYED_PORT, relayed);
        world.inject(1, 0, &packet);
        world.dropped(0, "relayed: too many handshakes") == refused
    };
    let taken = (0..300).filter(|_| introduced(&mut world, 2)).count();
    assert!((1..=64).contains(&taken), "{taken} of the one that floods");
    assert!(introduced(&mut world, 3), "the other is not heard");
}

#[test]
fn a_relay_sends_no_more_than_it_was_brought() {
    let mut world = World::new(3);
    world.run(5_000);
    let [one, two] = [1, 2].map(|at| world.nodes[at].address());
    let stranger: Ipv6Addr = "fd00::7".parse().unwrap();
    for (other, length) in [
        (two, 32),
        (two, 148),
        (two, 1_280),
        (stranger, 32),
        (one, 1_280),
    ] {
        while world.nodes[0].poll_transmit(world.now).is_some() {}
        let datagram = sealed(length);
        let sealed = world.seal_relay(1, 0, other, &datagram);
        let now = world.now;
        world.nodes[0].handle_datagram(address(1), &sealed, now);
        let out: usize = std::iter::from_fn(|| world.nodes[0].poll_transmit(now))
            .map(|transmit| transmit.bytes.len())
            .sum();
        assert!(out > 0 && out <= sealed.len(), "{out} for {}", sealed.len());
    }
}

#[test]
fn streams_pass_through_a_relay_whole_on_a_wide_path_and_in_halves_on_one_of_1_280_bytes() {
    for (widest, is_narrow) in [(1_376, false), (1_375, true), (1_280 - 48, true)] {
        let mut world = parted(3);
        world.widest = widest;
        world.run(7_000);
        for length in (1..MAX_STREAM_PACKET)
            .step_by(23)
            .chain([MAX_STREAM_PACKET])
        {
            for (from, to) in [(1, 2), (2, 1)] {
                let sent = world.stream(from, to, length);
                world.run(50);
                assert_eq!(world.streamed(to, &sent), 1, "{length} bytes of {widest}");
            }
        }
        assert_eq!(via(&world, 1, 2), Some(0));
        assert_eq!(world.peer(1, 2).width.is_wide(), !is_narrow, "{widest}");
        let mtu = shown(&world, 1, 2).mtu_at_least;
        assert_eq!(mtu, if is_narrow { 1_280 } else { 1_424 });
    }
}

#[test]
fn a_silent_member_costs_its_peers_no_more_relayed_knocks_than_dials() {
    let mut world = World::new(4);
    world.run(5_000);
    world.frozen = Some(3);
    world.run(600_000);
    world.sent.clear();
    let asked = |world: &World| -> u64 {
        let relays = [0, 1, 2].map(|at| world.dropped(at, "relay: no way there"));
        relays.iter().sum()
    };
    let before = asked(&world);
    world.run(600_000);

    let dials = world
        .sent
        .iter()
        .filter(|(_, at, kind)| (*at, *kind) == (1, 1));
    assert!(dials.count() <= 20, "once a minute at most");
    let asked = asked(&world) - before;
    // Three that look for it ask the two others each.
    assert!((12..=3 * 2 * 15).contains(&asked), "{asked} asked in vain");
}

#[test]
fn a_session_through_a_relay_is_renewed_with_the_clock_bent() {
    bend::run("node::tests::relay::", bend::Clocks::All, 1);
}

#[test]
#[ignore = "run by `a_session_through_a_relay_is_renewed_with_the_clock_bent`"]
fn a_relayed_session_lives_through_its_renewals() {
    assert!(bend::is_on());
    let mut world = parted(3);
    world.run(10_000);
    let handshakes = world.nodes[1].counters.handshakes;
    for _ in 0..600 {
        world.run(1_000);
        assert_eq!(world.state(1, 2), PeerState::Alive);
    }
    assert_eq!(via(&world, 1, 2), Some(0));
    assert!(world.nodes[1].counters.handshakes >= handshakes + 6);
    assert_eq!(world.disconnected(1) + world.disconnected(2), 0);
}

/// A datagram of a session that nobody has.
fn sealed(length: usize) -> Vec<u8> {
    let mut datagram = vec![0xee; length];
    let kind = if length == 148 { 1 } else { 4 };
    datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
    datagram
}

impl World {
    /// A member asks a relay to hand something on to another.
    fn ask(&mut self, from: usize, relay: usize, to: usize, datagram: &[u8]) {
        let other = self.nodes[to].address();
        self.inject_relay(from, relay, other, datagram);
    }

    fn inject_relay(&mut self, from: usize, relay: usize, other: Ipv6Addr, datagram: &[u8]) {
        let sealed = self.seal_relay(from, relay, other, datagram);
        self.give(relay, self.homes[from], &sealed);
    }

    fn seal_relay(
        &mut self,
        from: usize,
        relay: usize,
        other: Ipv6Addr,
        datagram: &[u8],
    ) -> Vec<u8> {
        let (us, id) = (self.nodes[relay].address(), self.nodes[relay].me());
        let relayed = Relayed { other, datagram };
        let packet = header::build(self.nodes[from].address(), us, RELAY_PORT, relayed);
        let peer = self.nodes[from].peers.get_mut(&id).unwrap();
        peer.session.as_mut().unwrap().seal(&packet).unwrap()
    }

    /// The founder evicts this node; node 0 hears of it first.
    fn evict(&mut self, at: usize) {
        let revocation = Revocation {
            target: Target::Node(self.nodes[at].me()),
            manner: Manner::Evicted,
            cut: None,
            reason: "stolen",
        };
        let (held, at_ms) = (self.nodes[0].statements(), self.now.wall_ms());
        let revoke = issue_revoke(&admin(), held, &revocation, at_ms).unwrap();
        let now = self.now_at(0);
        self.nodes[0].handle_publish(revoke, now).unwrap();
    }
}
