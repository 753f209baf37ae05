//! Two and three nodes over a wire in memory, with time that is told. boringtun reads its own
//! clock, so no test here waits for a timer of its.

use std::collections::BTreeMap;

use super::*;
use crate::snapshot::PeerState;
use crate::spread::sync;
use crate::trust::{EndpointKind, found};
use crate::tunnel::session::{MAX_DATAGRAM, Opened, Session};
use crate::{AdminKey, NodeKey, TunnelKey};

#[test]
fn members_connect_within_a_second_and_hold_the_same_statements() {
    let mut world = World::new(3);

    world.run(1_000);

    for at in 0..3 {
        assert_eq!(world.nodes[at].connected().count(), 2);
        assert_eq!(
            world.nodes[at].statements().root(),
            world.nodes[0].statements().root()
        );
    }
    let connected = world.events(0, |event| matches!(event, NodeEvent::Connected(_)));
    assert_eq!(connected, 2);
}

#[test]
fn application_frames_pass_once_connected_and_only_then() {
    let mut world = World::new(2);
    let to = world.nodes[1].me();
    assert_eq!(
        world.nodes[0].handle_message(to, 64, b"early", world.now),
        Err(SendError::NotConnected(to))
    );
    world.run(1_000);

    world.nodes[0]
        .handle_message(to, 200, b"later", world.now)
        .unwrap();
    world.run(10);

    let body = Bytes::from_static(b"later");
    let from = world.nodes[0].me();
    let message = NodeEvent::Message {
        from,
        kind: 200,
        body,
    };
    assert_eq!(world.events(1, |event| *event == message), 1);
}

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
    let home = world.peer(0, 1).endpoint;
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
    assert_eq!(world.peer(0, 1).endpoint, home, "an accepted initiation");
    world.give(0, elsewhere, &[4; 64]);
    assert_eq!(world.peer(0, 1).endpoint, home, "garbage");

    world.nodes[1]
        .handle_message(to, 64, b"from here", world.now)
        .unwrap();
    let now = world.now;
    let data = world.nodes[1].poll_transmit(now).unwrap();
    world.give(0, elsewhere, &data.bytes);

    assert_eq!(world.peer(0, 1).endpoint, Some(elsewhere));
    assert_eq!(
        world.events(0, |event| matches!(event, NodeEvent::Message { .. })),
        1
    );
    world.give(0, address(78), &data.bytes);
    assert_eq!(world.peer(0, 1).endpoint, Some(elsewhere), "a duplicate");
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
    assert_eq!(peer.endpoint, None);
    assert_eq!(peer.liveness.state(world.now.mono), PeerState::Down);
    assert!(!peer.is_live());
    assert_eq!(world.nodes[0].counters.handshakes, 0);
}

#[test]
fn garbage_in_a_member_s_name_does_not_shut_the_member_out() {
    let mut world = World::new(2);
    let key = world.nodes[1].identity.tunnel.secret();
    let public = world.nodes[0].identity.tunnel.public();
    let mut garbage = vec![7; 148];
    garbage[..4].copy_from_slice(&[1, 0, 0, 0]);
    for _ in 0..100 {
        world.give(0, address(1), &garbage);
    }

    let initiation = Session::new(&key, public, 9).initiate().unwrap();
    world.give(0, address(1), &initiation);

    assert_eq!(world.dropped(0, "mac1"), 100);
    assert!(world.peer(0, 1).accepted.is_some());
}

#[test]
fn one_source_begins_a_bounded_number_of_handshakes() {
    let mut world = World::new(2);
    let key = TunnelKey::generate().secret();
    let public = world.nodes[0].identity.tunnel.public();
    let mut stranger = Session::new(&key, public, 9);
    for _ in 0..100 {
        world.give(0, address(50), &stranger.initiate().unwrap());
    }

    assert_eq!(world.dropped(0, "source limit"), 68);
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
    assert_eq!(world.peer(0, 1).endpoint, None);
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
fn an_idle_mesh_stays_alive_and_measures_itself() {
    let mut world = World::new(2);
    world.run(1_000);
    for _ in 0..240 {
        world.run(500);
        assert_eq!(world.state(0, 1), PeerState::Alive);
    }
    let shown = world.nodes[0].snapshot(world.now).peers.remove(0);
    assert_eq!(shown.clock_offset_ms, Some(0));
    assert!(shown.rtt_ms.is_some() && shown.last_heard_ms.is_some());
    assert_eq!(shown.endpoint, Some(address(1)));
    assert_eq!(
        world.events(0, |event| matches!(event, NodeEvent::Disconnected(_))),
        0
    );
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
        world.nodes[one].initiate(ids[other], Some(address(60)), now);
        world.nodes[other].initiate(ids[one], None, now);

        world.run(200);

        assert_eq!(world.dropped(one, "crossing initiation"), 0);
        assert_eq!(world.nodes[one].connected().count(), 1);
    }
}

#[test]
fn a_goodbye_says_left_and_an_isolated_node_is_silent() {
    let mut world = World::new(2);
    world.run(2_000);
    world.nodes[0].handle_isolate(true);
    world.run(3_000);
    assert!(world.dropped(0, "isolated") > 0);
    world.nodes[0].handle_isolate(false);
    world.run(2_000);
    let now = world.now;

    world.nodes[1].handle_shutdown(now);
    let last: Vec<Transmit> = std::iter::from_fn(|| world.nodes[1].poll_transmit(now)).collect();
    for transmit in &last {
        world.give(0, address(1), &transmit.bytes);
    }

    assert_eq!(world.state(0, 1), PeerState::Left);
    assert_eq!(world.nodes[0].connected().count(), 0);
}

#[test]
fn what_is_published_spreads_and_is_journalled_before_it_leaves() {
    let mut world = World::new(3);
    world.run(1_000);
    let now = world.now;
    while world.nodes[0].poll_transmit(now).is_some() {}
    assert!(world.nodes[0].poll_journal().is_empty());
    let moved = vec![Endpoint {
        kind: EndpointKind::Local,
        addr: address(40),
    }];

    world.nodes[0].handle_endpoints(moved, now);

    assert!(world.nodes[0].owes_write());
    assert_eq!(world.nodes[0].poll_journal().len(), 1);
    let first = world.nodes[0].poll_transmit(now).unwrap();
    world.give(1, address(0), &first.bytes);
    assert!(!world.nodes[1].owes_write(), "others hold it already");
    assert_eq!(world.nodes[1].poll_journal().len(), 1);
    world.run(500);
    let root = world.nodes[0].statements().root();
    assert!(
        world
            .nodes
            .iter()
            .all(|node| node.statements().root() == root)
    );
}

#[test]
fn a_higher_incarnation_seen_elsewhere_is_passed() {
    let mut world = World::new(2);
    world.run(1_000);
    let moved = Endpoint {
        kind: EndpointKind::Advertised,
        addr: address(1),
    };
    let now = world.now;
    world.nodes[1].handle_endpoints(vec![moved], now);
    world.run(1_000);
    // Its disk comes back as it was at first: it begins with what the others know to be old.
    world.restart(1);
    world.run(1_000);

    let me = world.nodes[1].me();
    let seen = |at: usize| {
        let state = world.nodes[at].statements().state();
        state.members[&me].info.clone().unwrap().incarnation
    };
    assert_eq!(seen(0), seen(1));
    assert_eq!(seen(0), 3);
}

#[test]
fn random_datagrams_are_dropped_and_counted() {
    let mut world = World::new(2);
    world.run(1_000);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let index = world.peer(0, 1).session.as_ref().unwrap().index();

    for _ in 0..3_000 {
        let length = random.random_range(0..400);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if bytes.len() > 8 {
            bytes[..4].copy_from_slice(&[random.random_range(0..6), 0, 0, 0]);
            bytes[4..8].copy_from_slice(&(index << 8 | random.random_range(0..4)).to_le_bytes());
        }
        world.give(0, address(9), &bytes);
    }

    assert_eq!(world.peer(0, 1).endpoint, Some(address(1)));
    assert!(world.nodes[0].counters.dropped.values().sum::<u64>() >= 3_000);
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
fn guests_are_bounded_and_strangers_hear_nothing() {
    let mut world = World::new(2);
    let public = world.nodes[0].identity.tunnel.public();
    let now = world.now;
    let guest = world.invite.tunnel().secret();
    while world.nodes[0].poll_transmit(now).is_some() {}
    for host in 0..40_u8 {
        let from = SocketAddr::from(([10, 0, 0, host], 9));
        let mut session = Session::new(&guest, public, u32::from(host));
        world.nodes[0].handle_datagram(from, &session.initiate().unwrap(), now);
    }
    let mut stranger = Session::new(&TunnelKey::generate().secret(), public, 77);
    let from = SocketAddr::from(([10, 0, 1, 1], 9));
    world.nodes[0].handle_datagram(from, &stranger.initiate().unwrap(), now);

    let answers = std::iter::from_fn(|| world.nodes[0].poll_transmit(now)).count();

    assert_eq!(answers, crate::admission::desk::MOST_GUESTS);
    assert_eq!(world.dropped(0, "joining tunnels full"), 24);
    assert_eq!(world.dropped(0, "unknown key"), 1);
    let later = now.after(Duration::from_secs(31));
    world.nodes[0].handle_timeout(later);
    assert!(world.nodes[0].desk.overdue(later.mono).is_empty());
}

#[test]
fn a_connected_peer_s_packets_wait_for_its_session_in_a_bounded_queue() {
    let mut world = World::new(2);
    world.run(2_000);
    let (from, to) = (world.nodes[0].me(), world.nodes[1].me());
    world.nodes[0].drop_session(to);
    for number in 0..70_u8 {
        world.nodes[0]
            .handle_message(to, 64, &[number; 700], world.now)
            .unwrap();
    }
    world.nodes[0].flush_payloads(world.now);
    assert_eq!(world.dropped(0, "waiting queue full"), 6);

    world.run(1_000);

    let bodies: Vec<u8> = world.seen[&1]
        .iter()
        .filter_map(|event| match event {
            NodeEvent::Message {
                from: sender, body, ..
            } if *sender == from => Some(body[0]),
            _ => None,
        })
        .collect();
    assert_eq!(bodies, (6..70).collect::<Vec<u8>>());
}

#[test]
fn a_mesh_of_sixty_reaches_a_joiner_who_knows_the_token_s_chain_alone() {
    let keys: Vec<_> = (1..=60)
        .map(|number| (NodeKey::from_seed(&[number; 32]), TunnelKey::generate()))
        .collect();
    let (whole, _invite) = members(&keys, Now::real());
    let mut held = Statements::new(whole.mesh());
    for statement in whole.iter().take(2) {
        held.insert(statement.clone()).unwrap();
    }

    let mut questions = 0;
    while held.root() != whole.root() {
        questions += 1;
        assert!(
            questions <= 20,
            "{} members known",
            held.state().members.len()
        );
        for summary in sync::Sync::default().summary(&held) {
            for statement in sync::missing(&whole, &summary) {
                held.insert(statement).unwrap();
            }
        }
    }

    assert_eq!(held.state().members.len(), 60);
}

#[test]
fn a_member_that_claims_to_restart_all_the_time_makes_one_event_a_second() {
    let mut world = World::new(2);
    world.run(1_000);
    let (to, root) = (world.nodes[0].me(), world.nodes[0].statements().root());
    for run in 0..1_000 {
        let hello = message::Hello {
            wire_min: 1,
            wire_max: 1,
            run,
            root,
            heard: true,
        };
        let now = world.now;
        world.nodes[1].say(to, kind::HELLO, &message::encode(&hello), now);
    }
    world.run(10);

    assert_eq!(world.dropped(0, "restarts too often"), 999);
    let connected = world.events(0, |event| matches!(event, NodeEvent::Connected(_)));
    assert_eq!(connected, 2);
}

#[test]
fn a_member_that_asks_for_everything_all_the_time_is_answered_a_bounded_number_of_times() {
    let mut world = World::new(2);
    world.run(1_000);
    let to = world.nodes[0].me();
    let nothing = message::Summary {
        root: [9; 32],
        range: Some(([0; 32], [0xff; 32])),
        heads: Vec::new(),
    };
    for _ in 0..1_000 {
        let now = world.now;
        world.nodes[1].say(to, kind::WANT, &message::encode(&nothing), now);
    }
    world.run(10);

    assert_eq!(world.dropped(0, "asked too often"), 1_000 - 64);
}

#[test]
fn a_refused_statement_is_not_asked_for_again_at_once() {
    let mut world = World::new(2);
    world.run(1_000);
    let (from, to) = (world.nodes[1].me(), world.nodes[0].me());
    let root = world.nodes[0].statements().root();
    let sync = &mut world.nodes[0].peers.get_mut(&from).unwrap().sync;
    sync.learn([9; 32], root);
    let (asked, now) = (world.now, world.now.after(Duration::from_secs(5)));
    assert!(sync.take_summary_due(asked.mono));
    let mut forged = world.first.iter().next().unwrap().clone();
    forged.body.push(0);
    let mut body = Vec::new();
    forged.encode(&mut body);

    world.nodes[1].say(to, kind::STATEMENTS, &body, asked);
    world.deliver();

    assert_eq!(world.dropped(0, "statement refused"), 1);
    let sync = &mut world.nodes[0].peers.get_mut(&from).unwrap().sync;
    assert!(!sync.take_summary_due(now.mono));
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
fn a_sleep_and_a_clock_step_make_everybody_due_and_renew_what_is_not_live() {
    let hour = Duration::from_secs(3_600);
    let hour_us = 3_600_000_000;
    for (slept, stepped_us) in [
        (hour, hour_us),
        (Duration::ZERO, -hour_us),
        (Duration::ZERO, 0),
    ] {
        let mut world = World::new(2);
        world.cut = true;
        world.run(600_000);
        let before = world.peer(0, 1).session.as_ref().unwrap().index();
        world.now.boot += slept;
        world.now.wall_us += stepped_us;

        world.run(1_500);

        let jumped = stepped_us != 0;
        let session = world.peer(0, 1).session.as_ref();
        assert_eq!(session.unwrap().index() != before, jumped, "{stepped_us}");
        let last = world.peer(0, 1).dial.last().unwrap();
        let recent = world.now.mono.saturating_duration_since(last) < Duration::from_millis(1_500);
        assert_eq!(recent, jumped, "dialled though it was dead for long");
    }
}

/// Nodes, the wire between them, and the time.
struct World {
    nodes: Vec<Node>,
    keys: Vec<(NodeKey, TunnelKey)>,
    first: Statements,
    invite: crate::trust::InviteSeed,
    seen: BTreeMap<usize, Vec<NodeEvent>>,
    now: Now,
    cut: bool,
}

impl World {
    /// Members of one mesh: node 0 founded it and vouched for the others.
    fn new(count: u8) -> Self {
        let now = Now::real();
        let keys: Vec<_> = (1..=count)
            .map(|number| (NodeKey::from_seed(&[number; 32]), TunnelKey::generate()))
            .collect();
        let (first, invite) = members(&keys, now);
        let mut world = Self {
            nodes: Vec::new(),
            first,
            invite,
            keys,
            seen: BTreeMap::new(),
            now,
            cut: false,
        };
        for at in 0..usize::from(count) {
            let node = world.node(at, u64::from(count));
            world.nodes.push(node);
        }
        world
    }

    fn node(&self, at: usize, seed: u64) -> Node {
        let (node, tunnel) = self.keys[at].clone();
        let mut bytes = [at as u8; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = NodeConfig {
            identity: Identity { node, tunnel },
            statements: self.first.clone(),
            endpoints: vec![Endpoint {
                kind: EndpointKind::Local,
                addr: address(at),
            }],
            udp_port: address(at).port(),
            version: "0.1.0".into(),
            remembered: Vec::new(),
            seed: bytes,
        };
        Node::new(config, self.now)
    }

    /// The node stops without a word and starts with its first disk.
    fn restart(&mut self, at: usize) {
        let seed = self.now.wall_us.unsigned_abs();
        self.nodes[at] = self.node(at, seed);
    }

    fn run(&mut self, ms: u64) {
        let end = self.now.after(Duration::from_millis(ms));
        loop {
            self.deliver();
            let due = self
                .nodes
                .iter()
                .filter_map(|node| node.poll_timeout())
                .map(|(at, _)| at)
                .min();
            let due = due.expect("a node always has a deadline");
            if due > end.mono {
                break;
            }
            self.now = self.now.after(due.saturating_duration_since(self.now.mono));
            for node in &mut self.nodes {
                node.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.nodes.len() {
                self.nodes[at].poll_journal();
                while let Some(transmit) = self.nodes[at].poll_transmit(self.now) {
                    quiet = false;
                    let to = usize::from(transmit.to.port()) - 1_000;
                    if !self.cut && to < self.nodes.len() {
                        self.give(to, address(at), &transmit.bytes);
                    }
                }
                self.collect(at);
            }
            if quiet {
                return;
            }
        }
    }

    fn give(&mut self, at: usize, from: SocketAddr, bytes: &[u8]) {
        self.nodes[at].handle_datagram(from, bytes, self.now);
        self.collect(at);
    }

    fn collect(&mut self, at: usize) {
        let events = std::iter::from_fn(|| self.nodes[at].poll_event());
        self.seen.entry(at).or_default().extend(events);
    }

    fn events(&self, at: usize, wanted: impl Fn(&NodeEvent) -> bool) -> usize {
        self.seen
            .get(&at)
            .into_iter()
            .flatten()
            .filter(|event| wanted(event))
            .count()
    }

    fn peer(&self, at: usize, of: usize) -> &Peer {
        &self.nodes[at].peers[&self.nodes[of].me()]
    }

    fn state(&self, at: usize, of: usize) -> PeerState {
        self.peer(at, of).liveness.state(self.now.mono)
    }

    fn dropped(&self, at: usize, reason: &str) -> u64 {
        self.nodes[at]
            .counters
            .dropped
            .get(reason)
            .copied()
            .unwrap_or(0)
    }
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1_000 + at as u16))
}

/// Statements that make all of these members, with their keys and addresses.
fn members(keys: &[(NodeKey, TunnelKey)], now: Now) -> (Statements, crate::trust::InviteSeed) {
    use crate::trust::{self, InviteTerms, NodeInfo, Token};
    let (admin, at_ms) = (AdminKey::generate(), now.wall_ms() - 60_000);
    let (mesh, genesis) = found(&admin, keys[0].0.id(), "n0", "home", None, at_ms);
    let mut statements = Statements::new(mesh);
    statements.insert(genesis).unwrap();
    let terms = InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: 100,
        needs_approval: false,
    };
    let (seed, invite) = trust::issue_invite(&admin, &statements, terms, at_ms).unwrap();
    statements.insert(invite.clone()).unwrap();
    let sponsor = trust::Bootstrap {
        node: keys[0].0.id(),
        tunnel: keys[0].1.public(),
        addrs: vec![address(0)],
    };
    let token = Token::new(seed.clone(), invite, &statements, vec![sponsor]).unwrap();
    for (at, (node, tunnel)) in keys.iter().enumerate() {
        if at > 0 {
            let join = trust::author_join(node, &token, &format!("n{at}")).unwrap();
            let witness = trust::witness(&keys[0].0, &statements, &join, now.wall_ms()).unwrap();
            statements.insert(join).unwrap();
            statements.insert(witness.unwrap()).unwrap();
        }
        let info = NodeInfo {
            incarnation: 1,
            seq: 1,
            tunnel: tunnel.public(),
            tunnel_previous: None,
            endpoints: vec![Endpoint {
                kind: EndpointKind::Local,
                addr: address(at),
            }],
            version: String::new(),
            wire_min: 1,
            wire_max: 1,
            store_format: 1,
        };
        let body = message::encode(&info);
        let info = Statement::sign(trust::kind::NODE_INFO, &mesh, node, body);
        statements.insert(info).unwrap();
    }
    (statements, seed)
}
