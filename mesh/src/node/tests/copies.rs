//! A state directory in two machines.

use super::*;

/// Runs with what node 2 has.
const COPY: usize = 3;

#[test]
fn a_copied_state_directory_is_named_on_both_sides_and_harms_nobody_else() {
    let mut world = World::new(3);
    world.run(2_000);
    for at in 0..3 {
        assert_eq!(world.notices(at), [""; 0]);
    }
    copy(&mut world);
    let others = world.heard(0) + world.heard(1);

    for round in 0..1_800 {
        // Sessions are renewed every two minutes, which this clock does not reach.
        if round % 300 == 0 {
            let (to, now) = (world.nodes[1].me(), world.now);
            world.nodes[2].initiate(to, None, now);
        }
        world.say(0, 1, b"on").unwrap();
        world.say(1, 0, b"on").unwrap();
        drop(world.say(2, 0, b"one"));
        drop(world.say(COPY, 1, b"the other"));
        world.run(100);
    }

    for at in [0, 1] {
        let told = world.notices(at);
        let said = told
            .iter()
            .find(|told| told.starts_with("n2 runs in two places"));
        let said = said.unwrap_or_else(|| panic!("{at}: {told:?}"));
        let places = [address(2), address(COPY)].map(|place| said.contains(&place.to_string()));
        assert_eq!(places, [true, true], "{said}");
        assert!(world.blamed(at, 2, Offence::TwoPlaces) > 0);
    }
    for at in [2, COPY] {
        let told = world.notices(at);
        let own = |told: &String| told.starts_with("this node runs in two places");
        assert!(told.iter().any(own), "{at}: {told:?}");
    }
    let (copied, lost) = (
        world.nodes[2].me(),
        |event: &NodeEvent, copied: NodeId| matches!(event, NodeEvent::Disconnected(id) if *id != copied),
    );
    assert_eq!(world.events(0, |event| lost(event, copied)), 0);
    assert_eq!(world.events(1, |event| lost(event, copied)), 0);
    assert!(world.heard(0) + world.heard(1) >= others + 3_600);
    assert!(world.disconnected(0) < 100, "{}", world.disconnected(0));

    // The copy is stopped; the notice goes with time.
    world.frozen = Some(COPY);
    world.run(700_000);
    for at in 0..3 {
        let told = world.notices(at);
        assert!(
            !told.iter().any(|told| told.contains("two places")),
            "{told:?}"
        );
    }
}

#[test]
fn a_node_that_restarts_and_moves_is_in_one_place() {
    let mut world = World::new(3);
    world.run(2_000);
    for round in 0..5 {
        world.homes[2] = address(50 + round);
        world.restart(2);
        world.run(20_000);
        assert!(world.peer(0, 2).connected, "round {round}");
    }
    for at in 0..3 {
        assert_eq!(world.blamed(at, 2, Offence::TwoPlaces), 0);
        assert_eq!(world.notices(at), [""; 0]);
    }
}

fn copy(world: &mut World) {
    world.keys.push(world.keys[2].clone());
    world.homes.push(address(COPY));
    let copy = world.node(COPY, 4_711);
    world.nodes.push(copy);
}
