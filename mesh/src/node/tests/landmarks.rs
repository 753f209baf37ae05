//! Relays in meshes too large for a session with everybody: legs that rest, targets and relays that sleep.

use std::collections::BTreeSet;

use super::wide::Crowd;
use super::*;

/// Three members of a mesh that is large to them; the last two reach each other through the first alone.
fn parted() -> World {
    let mut world = World::new(3);
    world.apart = Some([1, 2]);
    for node in &mut world.nodes {
        node.handle_full(2);
    }
    let (two, now) = (world.nodes[2].me(), world.now);
    world.nodes[1].handle_want([two].into(), now);
    world.run(20_000);
    assert_eq!(relays(&world), [Some(world.nodes[0].me()); 2]);
    world
}

fn relays(world: &World) -> [Option<NodeId>; 2] {
    [(1, 2), (2, 1)].map(|(at, of)| world.peer(at, of).route.relay())
}

#[test]
fn one_sign_of_life_that_is_lost_ends_no_way_through_a_relay() {
    for at in [1, 2] {
        let mut world = parted();
        let way = relays(&world);
        let reasons = ["relay gone", "relay: no way there"];
        let dropped = |world: &World| -> Vec<u64> {
            let nodes = 0..3;
            let each = nodes.flat_map(|node| reasons.map(|reason| world.dropped(node, reason)));
            each.collect()
        };
        let before = dropped(&world);
        for _ in 0..20 {
            // From a sign of this node on, long enough to lose the next and no other.
            let heard = world.peer(0, at).liveness.heard_ms();
            while world.peer(0, at).liveness.heard_ms() == heard {
                world.run(50);
            }
            world.muted = Some((at, 4));
            world.run(4_300);
            world.muted = None;
            for _ in 0..40 {
                world.say(3 - at, at, b"on").unwrap();
                world.run(100);
                assert_eq!(relays(&world), way);
            }
        }
        assert_eq!(dropped(&world), before);
    }
}

#[test]
fn what_passes_through_a_relay_keeps_both_its_sessions() {
    let mut world = parted();
    // But for what passes nobody would keep them: who is heard is no pick again.
    for (at, of) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
        let of = world.nodes[of].me();
        world.nodes[at].wide.view.forget(of);
    }
    let lost = |world: &World| -> usize { (0..3).map(|at| world.disconnected(at)).sum() };
    let before = (world.heard(2), lost(&world));
    for _ in 0..120 {
        world.say(1, 2, b"on").unwrap();
        world.run(1_000);
    }
    assert_eq!((world.heard(2) - 120, lost(&world)), before);
}

/// Two members that have no session with each other, and for which `also` holds.
fn asleep(crowd: &Crowd, also: impl Fn(usize, usize) -> bool) -> Option<(usize, usize)> {
    let me = |at: usize| crowd.world.nodes[at].me();
    let sleeps = |at: usize, of: usize| !crowd.world.nodes[at].wide.awake.contains(&me(of));
    let pairs = (0..66).flat_map(|at| (0..66).map(move |of| (at, of)));
    let mut fit =
        pairs.filter(|(at, of)| at != of && sleeps(*at, *of) && sleeps(*of, *at) && also(*at, *of));
    fit.next()
}

#[test]
fn a_relay_wakes_whom_it_is_asked_for_before_it_says_that_there_is_no_way() {
    let mut crowd = Crowd::new(66);
    crowd.run(20);
    let awake = |at: usize| -> BTreeSet<NodeId> { crowd.world.nodes[at].connected().collect() };
    let strange = |at, of| awake(at).is_disjoint(&awake(of));
    let (at, of) = asleep(&crowd, strange).expect("two that nobody brings together");
    crowd.walls.insert((at.min(of), at.max(of)));

    crowd.world.say(at, of, b"over").unwrap();
    crowd.run(4);

    assert_eq!(crowd.world.heard(of), 1);
    let refused: u64 = (0..66)
        .map(|by| crowd.world.dropped(by, "relay: no way there"))
        .sum();
    assert_eq!(refused, 0);
}

#[test]
fn nobody_has_more_members_woken_by_a_relay_than_its_budget_and_the_dead_are_left_asleep() {
    let mut crowd = Crowd::new(66);
    crowd.run(20);
    let [asker, relay] = [1, 0].map(|at| crowd.world.nodes[at].me());
    let now = crowd.world.now;
    let node = &mut crowd.world.nodes[0];
    let sleepers: Vec<NodeId> = {
        let asleep = node.peers.keys().filter(|id| !node.wide.awake.contains(id));
        asleep
            .copied()
            .filter(|id| *id != asker && *id != relay)
            .collect()
    };
    assert!(sleepers.len() > 20);
    node.peers.get_mut(&asker).unwrap().quota.introductions = Allowance::new(0.0, 3.0);
    let mut payload = |to: NodeId| {
        let mut initiation = vec![0; 148];
        initiation[0] = 1;
        let other = overlay_address(&node.mesh, &to);
        let payload = [&other.octets()[..], &initiation].concat();
        node.hand_on(asker, Way::Direct(address(1)), &payload, now);
        node.peers[&to].bond.roused.is_some()
    };
    let woken = sleepers.iter().filter(|to| payload(**to)).count();
    assert_eq!(woken, 3);
    for _ in 0..9 {
        payload(sleepers[0]);
    }
    assert_eq!(crowd.world.dropped(0, "relay: not awake yet"), 6);
}

#[test]
fn members_that_nobody_can_reach_meet_at_their_landmarks() {
    let mut crowd = Crowd::new(66);
    crowd.hidden = (20..66).collect();
    for at in crowd.hidden.clone() {
        let inside = Endpoint {
            kind: EndpointKind::Local,
            addr: SocketAddr::from(([10, 0, 0, 1], 1_000)),
        };
        let now = crowd.world.now;
        crowd.world.nodes[at].handle_endpoints(vec![inside], now);
    }
    crowd.run(30);
    for number in 0..3 {
        let apart = |at: usize, of: usize| {
            let (node, me) = (&crowd.world.nodes[at], crowd.world.nodes[of].me());
            let mut landmarks = node.landmarks(me).into_iter();
            let awake = |id: NodeId| node.wide.awake.contains(&id);
            at >= 20 && of >= 20 + number && !landmarks.any(awake)
        };
        let (at, of) = asleep(&crowd, apart).expect("most have no session");
        let (me, heard) = (crowd.world.nodes[of].me(), crowd.world.heard(of));
        let now = crowd.world.now.mono;
        let node = &mut crowd.world.nodes[at];
        let landmarks = node.landmarks(me);
        let others: Vec<NodeId> = node
            .peers
            .keys()
            .copied()
            .filter(|id| !landmarks.contains(id))
            .collect();
        let asking = &mut node.peers.get_mut(&me).unwrap().asking;
        others
            .into_iter()
            .for_each(|other| asking.refuse(other, now));

        crowd.world.say(at, of, b"over").unwrap();
        crowd.run(4);

        assert_eq!(crowd.world.heard(of), heard + 1, "{at} to {of}");
    }
}
