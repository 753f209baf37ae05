//! What boringtun leaves to its caller, one fact a test, against the real crate. Here stands what
//! `node` decides without waiting; the rest of the table is near what it takes:
//!
//! | what boringtun does | where our answer is tried |
//! |---|---|
//! | panics on a datagram longer than its buffer | here, and for a session alone in `tunnel::session` |
//! | hands out a cookie like any other answer | here; `tunnel::session` for one that is late or forged |
//! | takes an old initiation in a fresh tunnel | here, `strangers`, `tunnel::session` |
//! | counts a handshake in front and inside | `tunnel::session` |
//! | delivers what another's address stands on | here |
//! | gives up on a dead peer after 90 s | `ageing`, `path::dial`, `path::candidates` |
//! | queues, reorders, crosses initiations | `tunnel::session`, `meeting` for our queue, here for crossings |
//! | seals with keys of any age when nobody ticks | `ageing` after a sleep and a stop, here for the ticks |
//! | notices a restarted peer after 15 s | here |
//! | neither pads nor jitters | `tunnel::session`, `ageing` |
//! | stamps by the wall clock, once a tunnel | `clocks` |
//! | forgets everything as `ConnectionExpired` | `ageing` |
//! | freezes with `mock-instant` | the ban in `.deny.toml` |

use super::*;

#[test]
fn an_oversize_datagram_is_dropped_before_it_reaches_a_session() {
    let mut world = World::new(2);
    world.run(1_000);
    let index = world.peer(0, 1).session.as_ref().unwrap().index();
    let mut forged = vec![0; 9_000];
    forged[0] = 4;
    forged[4..8].copy_from_slice(&(index << 8 | 1).to_le_bytes());

    world.give(0, address(1), &forged);
    world.give(0, address(1), &forged[..MAX_DATAGRAM + 1]);

    assert_eq!(world.dropped(0, "oversize"), 2);
    world.give(0, address(1), &forged[..MAX_DATAGRAM]);
    assert_eq!(
        world.dropped(0, "not authentic") + world.dropped(0, "unknown session"),
        1
    );
}

#[test]
fn a_spoofed_inner_source_is_refused_and_so_is_a_foreign_destination() {
    let mut world = World::new(3);
    world.run(1_000);
    let (two, us, other) = (
        world.nodes[1].me(),
        world.nodes[0].address(),
        world.nodes[2].address(),
    );
    let spoofed = packet::build(other, us, MESSAGE_PORT, &[1, 64, 0, 0]);
    let passing = packet::build(
        world.nodes[1].address(),
        other,
        MESSAGE_PORT,
        &[1, 64, 0, 0],
    );
    assert_eq!(world.nodes[1].me(), two);
    let to = world.nodes[0].me();

    for packet in [spoofed, passing] {
        let now = world.now;
        world.nodes[1].seal_and_send(to, packet, now);
    }
    world.run(10);

    assert_eq!(world.dropped(0, "inner source spoofed"), 1);
    assert_eq!(world.dropped(0, "inner destination not us"), 1);
    assert_eq!(
        world.events(0, |event| matches!(event, NodeEvent::Message { .. })),
        0
    );
}

#[test]
fn a_peer_roams_with_authenticated_data_and_nothing_else() {
    let mut world = World::new(2);
    world.run(1_000);
    let (elsewhere, to) = (address(77), world.nodes[0].me());
    let home = world.peer(0, 1).route.address();
    assert_eq!(home, Some(address(1)));

    let initiation = world.nodes[1]
        .peers
        .get_mut(&to)
        .unwrap()
        .session
        .as_mut()
        .unwrap()
        .initiate();
    world.give(0, elsewhere, &initiation.unwrap());
    assert_eq!(
        world.peer(0, 1).route.address(),
        home,
        "an accepted initiation"
    );
    world.give(0, elsewhere, &[4; 64]);
    assert_eq!(world.peer(0, 1).route.address(), home, "garbage");

    world.nodes[1]
        .handle_message(to, 64, b"from here", world.now)
        .unwrap();
    let now = world.now;
    let data = world.nodes[1].poll_transmit(now).unwrap();
    world.give(0, elsewhere, &data.bytes);

    assert_eq!(world.peer(0, 1).route.address(), Some(elsewhere));
    assert_eq!(
        world.events(0, |event| matches!(event, NodeEvent::Message { .. })),
        1
    );
    world.give(0, address(78), &data.bytes);
    assert_eq!(
        world.peer(0, 1).route.address(),
        Some(elsewhere),
        "a duplicate"
    );
}

#[test]
fn a_replayed_initiation_moves_nothing_in_a_fresh_node() {
    let mut world = World::new(2);
    world.nodes[1].handle_timeout(world.now.after(Duration::from_secs(1)));
    let now = world.now;
    let captured: Vec<Transmit> =
        std::iter::from_fn(|| world.nodes[1].poll_transmit(now)).collect();
    let initiation = captured
        .iter()
        .find(|transmit| transmit.bytes[0] == 1)
        .unwrap();

    world.give(0, address(66), &initiation.bytes);

    let peer = world.peer(0, 1);
    assert_eq!(peer.route.way(), None);
    assert_eq!(peer.liveness.state(world.now.mono), PeerState::Down);
    assert!(!peer.is_live());
    assert_eq!(world.nodes[0].counters.handshakes, 0);
}

#[test]
fn under_load_a_cookie_goes_out_and_nobody_counts_as_alive() {
    let mut world = World::new(2);
    let key = world.nodes[1].identity.tunnel.secret();
    let public = world.nodes[0].identity.tunnel.public();
    let mut stranger = Session::new(&key, public, 9);
    let now = world.now;
    while world.nodes[0].poll_transmit(now).is_some() {}

    for number in 0..230_u32 {
        let from = SocketAddr::from(([10, 0, (number / 200) as u8, (number % 200) as u8], 5));
        let initiation = stranger.initiate().unwrap();
        world.nodes[0].handle_datagram(from, &initiation, now);
    }

    let sent: Vec<Transmit> = std::iter::from_fn(|| world.nodes[0].poll_transmit(now)).collect();
    let cookies = sent
        .iter()
        .filter(|transmit| transmit.bytes[0] == 3)
        .count();
    assert_eq!(cookies, 30, "the limiter counts each handshake once");
    assert_eq!(world.dropped(0, "under load"), 30);
    assert_eq!(world.peer(0, 1).route.address(), None);
    assert_eq!(world.peer(0, 1).liveness.state(now.mono), PeerState::Down);
    let cookie = sent
        .iter()
        .rfind(|transmit| transmit.bytes[0] == 3)
        .unwrap();
    assert_eq!(
        stranger.open(address(0).ip(), &cookie.bytes),
        Opened::CookieStored
    );
}

#[test]
fn a_silently_restarted_peer_is_back_at_once() {
    let mut world = World::new(2);
    world.run(5_000);

    world.restart(1);
    world.run(1_000);

    assert_eq!(world.nodes[1].connected().count(), 1);
    let again = world.events(0, |event| matches!(event, NodeEvent::Connected(_)));
    assert_eq!(again, 2, "connected, lost by its restart, connected");
    assert_eq!(
        world.events(0, |event| matches!(event, NodeEvent::Disconnected(_))),
        1
    );
}

#[test]
fn data_for_a_lost_session_makes_the_one_that_lost_it_initiate() {
    let mut world = World::new(2);
    world.run(2_000);
    let (from, to) = (world.nodes[0].me(), world.nodes[1].me());
    world.nodes[1].drop_session(from);
    world.nodes[1].ensure_session(from, world.now);
    let handshakes = world.nodes[1].counters.handshakes;

    world.nodes[0]
        .handle_message(to, 64, b"anybody?", world.now)
        .unwrap();
    world.run(20);

    assert_eq!(world.nodes[1].counters.handshakes, handshakes + 1);
    assert_eq!(world.dropped(1, "unknown session"), 1);
}

#[test]
fn a_cut_is_noticed_after_ten_seconds_and_heals_within_five() {
    let mut world = World::new(2);
    world.run(2_000);
    world.cut = true;
    world.run(7_000);
    assert_eq!(world.nodes[0].connected().count(), 1);
    world.run(53_000);
    assert_eq!(world.nodes[0].connected().count(), 0);
    assert_eq!(world.state(0, 1), PeerState::Down);

    world.cut = false;
    world.run(5_000);

    assert_eq!(world.nodes[0].connected().count(), 1);
    assert_eq!(world.nodes[1].connected().count(), 1);
    assert_eq!(world.state(0, 1), PeerState::Alive);
}

#[test]
fn a_peer_dead_for_an_hour_is_back_within_a_minute() {
    let mut world = World::new(2);
    world.run(2_000);
    world.cut = true;
    world.run(3_600_000);
    let from = world.nodes[1].me();
    world.nodes[0].drop_session(from);
    world.cut = false;

    world.run(60_000);

    assert_eq!(world.nodes[0].connected().count(), 1);
}

#[test]
fn crossing_initiations_settle_on_one_session() {
    let mut world = World::new(2);
    let ids = [world.nodes[0].me(), world.nodes[1].me()];
    let now = world.now;
    world.nodes[0].initiate(ids[1], None, now);
    world.nodes[1].initiate(ids[0], None, now);

    world.run(2_000);

    assert_eq!(
        [
            world.nodes[0].counters.handshakes,
            world.nodes[1].counters.handshakes
        ],
        [1, 1]
    );
    let crossing = |at| world.dropped(at, "crossing initiation");
    assert_eq!(crossing(0) + crossing(1), 1);
}

#[test]
fn an_initiation_from_where_ours_did_not_go_is_answered_though_it_crosses() {
    for (one, other) in [(0, 1), (1, 0)] {
        let mut world = World::new(2);
        let ids = [world.nodes[0].me(), world.nodes[1].me()];
        let now = world.now;
        world.nodes[one].initiate(ids[other], Some(Way::Direct(address(60))), now);
        world.nodes[other].initiate(ids[one], None, now);

        world.run(200);

        assert_eq!(world.dropped(one, "crossing initiation"), 0);
        assert_eq!(world.nodes[one].connected().count(), 1);
    }
}

#[test]
fn an_older_stamp_is_forgotten_once_a_minute_and_only_without_a_session() {
    let mut world = World::new(2);
    let (secret, public) = (
        world.nodes[1].identity.tunnel.secret(),
        world.nodes[0].identity.tunnel.public(),
    );
    let mut other = Session::new(&secret, public, 5);
    let stamps: Vec<Vec<u8>> = (0..3).map(|_| other.initiate().unwrap()).collect();
    world.give(0, address(1), &stamps[2]);
    world.give(0, address(1), &stamps[1]);
    assert_eq!(world.dropped(0, "old stamp"), 1, "a duplicate on its way");
    assert_eq!(world.peer(0, 1).rebuilt, None);

    world.now = world.now.after(Duration::from_secs(6));
    world.give(0, address(1), &stamps[1]);
    let rebuilt = world.peer(0, 1).rebuilt;
    world.now = world.now.after(Duration::from_secs(6));
    world.give(0, address(1), &stamps[0]);

    assert!(rebuilt.is_some());
    assert_eq!(world.peer(0, 1).rebuilt, rebuilt);
    assert_eq!(world.dropped(0, "old stamp"), 3);
}

#[test]
fn sessions_are_ticked_each_quarter_of_a_second_and_at_once_after_a_stop() {
    let mut world = World::new(2);
    for _ in 0..40 {
        world.run(90);
        let (due, _reason) = world.nodes[0].poll_timeout().unwrap();
        assert!(due <= world.now.mono + Duration::from_millis(250));
    }

    world.now = world.now.after(Duration::from_secs(20));

    let (due, reason) = world.nodes[0].poll_timeout().unwrap();
    assert!(due <= world.now.mono);
    assert_eq!(reason, "tick");
}

#[test]
fn a_sleep_and_a_clock_step_make_everybody_due_and_a_step_forward_renews_what_is_not_live() {
    let hour = Duration::from_secs(3_600);
    let hour_us = 3_600_000_000;
    for (slept, wall_us, jumped, renewed) in [
        (hour, hour_us, true, false),
        (Duration::ZERO, -hour_us, true, false),
        (Duration::ZERO, hour_us, true, true),
        (Duration::ZERO, 0, false, false),
    ] {
        let mut world = World::new(2);
        world.cut = true;
        world.run(600_000);
        let before = world.peer(0, 1).session.as_ref().unwrap().index();
        world.now.boot += slept;
        world.now.wall_us += wall_us;

        world.run(1_500);

        let session = world.peer(0, 1).session.as_ref();
        assert_eq!(session.unwrap().index() != before, renewed, "{wall_us}");
        let last = world.peer(0, 1).dial.last().unwrap();
        let recent = world.now.mono.saturating_duration_since(last) < Duration::from_millis(1_500);
        assert_eq!(recent, jumped, "dialled though it was dead for long");
    }
}

#[test]
fn a_sleep_is_noticed_by_whatever_comes_first_and_dials_live_peers_too() {
    let first: [fn(&mut World); 4] = [
        |world| drop(world.say(0, 1, b"first")),
        |world| world.give(0, address(1), &[4; 64]),
        |world| {
            let (to, now) = (world.nodes[1].address(), world.now);
            world.nodes[0].handle_stream_packet(to, &[0; 64], now);
        },
        |world| {
            let now = world.now;
            world.nodes[0].handle_timeout(now);
        },
    ];
    for (number, comes) in first.into_iter().enumerate() {
        let mut world = World::new(2);
        world.run(2_000);
        let dialled = world.peer(0, 1).dial.last();
        world.sleep(Duration::from_secs(60));

        comes(&mut world);
        world.run(400);

        assert!(world.peer(0, 1).dial.last() > dialled, "case {number}");
        assert_eq!(world.disconnected(0), 0, "the session is still good");
    }
}

#[test]
fn a_node_that_starts_knocks_at_every_member_at_once() {
    let mut world = World::new(9);
    world.run(334);

    for at in 0..9 {
        let knocks = world
            .sent
            .iter()
            .filter(|(_, from, kind)| (*from, *kind) == (at, 1));
        let answers = world
            .sent
            .iter()
            .filter(|(_, from, kind)| (*from, *kind) == (at, 2));
        assert!(knocks.count() + answers.count() >= 8, "node {at}");
    }
}

#[test]
fn a_lost_session_is_revived_once_in_five_seconds_and_only_where_the_peer_lives() {
    let mut world = World::new(2);
    world.run(2_000);
    let mut data = [0; 64];
    data[0] = 4;
    let knocks = |world: &World| {
        let sent = world.sent.iter();
        sent.filter(|(_, at, kind)| (*at, *kind) == (0, 1)).count()
    };
    let before = knocks(&world);
    world.say(1, 0, b"here").unwrap();
    world.run(1);
    // Silent from here, but not for so long that it is dialled anyway.
    world.frozen = Some(1);
    world.run(3_500);

    for _ in 0..100 {
        world.give(0, address(70), &data);
        world.give(0, address(1), &data);
    }
    world.deliver();
    assert_eq!(knocks(&world), before + 1);
    assert_eq!(world.strayed, [], "nothing for somebody else");
    let revived = world.peer(0, 1).revived;
    world.run(4_900);
    world.give(0, address(1), &data);
    assert_eq!(world.peer(0, 1).revived, revived);
    world.run(200);
    world.give(0, address(1), &data);

    assert!(world.peer(0, 1).revived > revived);
    assert_eq!(world.dropped(0, "unknown session"), 202);
}

#[test]
fn an_address_that_changes_ends_the_long_pauses() {
    let mut world = World::new(2);
    world.run(2_000);
    world.cut = true;
    world.run(3 * 3_600_000);
    let dialled = world.peer(0, 1).dial.last().unwrap();
    let moved = Endpoint {
        kind: EndpointKind::Local,
        addr: address(0),
    };
    let other = Endpoint {
        kind: EndpointKind::Local,
        addr: address(41),
    };
    let now = world.now;
    world.nodes[0].handle_endpoints(vec![moved, other], now);
    world.cut = false;

    world.run(1_000);

    assert!(world.peer(0, 1).dial.last().unwrap() > dialled);
    assert_eq!(world.nodes[0].connected().count(), 1);
}

#[test]
fn a_cookie_moves_nothing_and_is_used_by_the_next_initiation() {
    let mut world = World::new(2);
    let key = TunnelKey::generate().secret();
    let public = world.nodes[0].identity.tunnel.public();
    let flood = Session::new(&key, public, 9).initiate().unwrap();
    let from = SocketAddr::from(([10, 0, 0, 1], 50_000));
    for _ in 0..250 {
        world.give(0, from, &flood);
    }
    assert!(world.dropped(0, "under load") > 0);
    world.muted = Some((0, 1));

    for _ in 0..1_000 {
        world.run(1);
        world.give(0, from, &flood);
        world.give(0, from, &flood);
    }

    let cookies = world.sent.iter().filter(|sent| sent.2 == 3);
    let strayed = world.strayed.iter().filter(|sent| sent.bytes[0] == 3);
    assert_eq!(cookies.count() - strayed.count(), 1, "the peer got one");
    let said = world
        .sent
        .iter()
        .filter(|sent| sent.1 == 1)
        .map(|sent| sent.2);
    let first: Vec<u8> = said.take(2).collect();
    assert_eq!(first, [1, 1], "nothing was flushed on a cookie");
    assert_eq!(
        world.nodes[0].connected().count(),
        1,
        "though the load lasts"
    );
    assert_eq!(world.nodes[1].connected().count(), 1);
}
