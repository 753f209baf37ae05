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
