//! Members that ask too much.

use super::*;

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

    assert!(world.dropped(0, "restarts too often") > 200);
    let unread = world.dropped(0, "talks too much");
    assert_eq!(world.dropped(0, "restarts too often") + unread, 999);
    assert!(unread > 700, "{unread}");
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
fn a_member_that_greets_behind_its_goodbye_has_left() {
    let mut world = World::new(2);
    world.run(1_000);
    let (to, now) = (world.nodes[0].me(), world.now);
    let hello = hello(&world, 7);
    world.nodes[1].say(to, kind::GOODBYE, &[], now);
    world.nodes[1].say(to, kind::HELLO, &hello, now);
    world.deliver();

    assert_eq!(world.dropped(0, "after a goodbye"), 1);
    assert_eq!(world.nodes[0].connected().count(), 0);
    assert_eq!(world.disconnected(0), 1);
    // Whoever means it shakes hands anew.
    world.run(60_000);
    assert_eq!(world.nodes[0].connected().count(), 1);
}

#[test]
fn a_member_that_restarts_too_often_is_lost_until_it_may_connect_again() {
    let mut world = World::new(2);
    world.run(1_000);
    let (to, connected) = (world.nodes[0].me(), |event: &NodeEvent| {
        matches!(event, NodeEvent::Connected(_))
    });
    let mut runs = 0;
    while world.dropped(0, "connects too often") == 0 {
        runs += 1;
        assert!(runs < 60, "nothing is refused");
        world.now = world.now.after(Duration::from_millis(1_001));
        let (hello, now) = (hello(&world, runs), world.now);
        world.nodes[1].say(to, kind::HELLO, &hello, now);
        world.deliver();
    }
    let (came, went) = (world.events(0, connected), world.disconnected(0));
    assert_eq!(went, came, "its last life is not taken for the one before");

    world.run(10_000);

    assert_eq!(world.events(0, connected), came + 1);
    assert_eq!(world.nodes[0].connected().count(), 1);
}

/// The greeting of a node that began as this run.
fn hello(world: &World, run: u64) -> Vec<u8> {
    message::encode(&message::Hello {
        wire_min: 1,
        wire_max: 1,
        run,
        root: world.nodes[0].statements().root(),
        heard: true,
    })
}
