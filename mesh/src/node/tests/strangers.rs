//! Datagrams of those who don't belong: garbage, floods, guests beyond the bound.

use super::*;

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
