//! Members meet, talk, rest and leave.

use super::*;

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
fn at_rest_a_peer_costs_less_than_forty_bytes_a_second_headers_included() {
    let mut world = World::new(2);
    world.run(10_000);
    let sent = |world: &World| {
        let counters = &world.nodes[0].counters;
        counters.tx_bytes + 28 * counters.tx_datagrams
    };
    let before = sent(&world);
    for _ in 0..2_400 {
        world.run(125);
        assert_eq!(world.state(0, 1), PeerState::Alive);
        assert_eq!(world.state(1, 0), PeerState::Alive);
    }
    let rate = (sent(&world) - before) as f64 / 300.0;
    // The renewals of the session, which this clock doesn't reach, come to 3 more.
    assert!((20.0..37.0).contains(&rate), "{rate} B/s");
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
