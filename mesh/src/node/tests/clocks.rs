//! Wall clocks that are wrong, on one machine or on all, and what the owner is told.

use super::*;

const DAY: i64 = 24 * 3_600;

#[test]
fn clocks_that_are_wrong_cost_seconds_and_no_peer() {
    bend::run("node::tests::clocks::", bend::Clocks::Wall, 5);
}

#[test]
fn before_1970_no_tunnel_is_made_and_all_are_once_the_clock_is_set() {
    let mut world = World::new(3);
    let since_1970 = world.now.wall_us / 1_000_000;
    for at in 0..3 {
        world.wrong_by.insert(at, -since_1970 - 3_600);
        world.restart(at);
    }

    world.run(600_000);

    for at in 0..3 {
        assert!(
            world.nodes[at]
                .peers
                .values()
                .all(|peer| peer.session.is_none())
        );
        let notices = world.notices(at);
        assert_eq!(notices.len(), 1);
        assert!(notices[0].contains("before 1970") && notices[0].contains("timedatectl"));
    }
    world.wrong_by.clear();
    world.run(3_000);
    for at in 0..3 {
        assert_eq!(world.nodes[at].connected().count(), 2);
        assert_eq!(world.notices(at), Vec::<String>::new());
    }
}

#[test]
fn guests_wait_too_while_the_clock_reads_before_1970() {
    let mut world = World::new(1);
    let guest = world.invite.tunnel().secret();
    let mut session = Session::new(&guest, world.nodes[0].identity.tunnel.public(), 5);
    world
        .wrong_by
        .insert(0, -world.now.wall_us / 1_000_000 - 10);

    world.give(0, address(9), &session.initiate().unwrap());

    assert_eq!(world.dropped(0, "unknown key"), 1);
}

#[test]
#[ignore = "run by `clocks_that_are_wrong_cost_seconds_and_no_peer`"]
fn a_peer_restarted_thirty_days_back_is_initiated_to_by_those_who_know_better() {
    let mut world = bent(3);
    world.run(5_000);
    world.wrong_by.insert(1, -30 * DAY);
    world.restart(1);

    world.run(15_000);

    assert!(world.dropped(0, "old stamp") > 0, "its stamps are old");
    assert_eq!(world.nodes[1].connected().count(), 2);
    assert_eq!(world.nodes[0].connected().count(), 2);
    world.say(1, 0, b"from the past").unwrap();
    world.say(0, 1, b"from today").unwrap();
    world.run(10);
    assert_eq!([world.heard(0), world.heard(1)], [1, 1]);
    assert_eq!(
        world.notices(0),
        [
            "the clock of n1 is 30 days behind this machine's; where it is wrong, set it, for \
          example with `timedatectl set-ntp true`"
        ]
    );
    assert_eq!(
        world.notices(1)[0].split(';').next(),
        Some("this machine's clock is 30 days behind the founding of its mesh")
    );
}

#[test]
#[ignore = "run by `clocks_that_are_wrong_cost_seconds_and_no_peer`"]
fn one_whose_address_changed_too_is_initiated_to_where_its_old_stamps_come_from() {
    for (back, other) in [(0, 1), (1, 0)] {
        let mut world = bent(2);
        // It was the one that began, so its stamps are known.
        world.muted = Some((other, 1));
        world.run(5_000);
        world.muted = None;
        world.wrong_by.insert(back, -30 * DAY);
        world.homes[back] = address(40);
        world.restart_with_memory(back);

        world.run(15_000);

        assert!(world.dropped(other, "old stamp") > 0);
        assert_eq!(world.nodes[back].connected().count(), 1);
        assert_eq!(world.nodes[other].connected().count(), 1);
        assert_eq!(world.peer(other, back).route.address(), Some(address(40)));
        let rebuilt = world.peer(other, back).rebuilt;
        assert_eq!(rebuilt, None, "its stamps are still remembered");
    }
}

#[test]
#[ignore = "run by `clocks_that_are_wrong_cost_seconds_and_no_peer`"]
fn a_clock_set_back_while_it_runs_breaks_nothing_at_once_or_later() {
    let mut world = bent(2);
    world.run(5_000);
    world.wrong_by.insert(1, -30 * DAY);
    world.run(60_000);
    assert_eq!(world.disconnected(0) + world.disconnected(1), 0);

    // Nor when the session is gone: the tunnel's stamps go by the boot clock.
    world.cut = true;
    world.run(60_000);
    let index = world.peer(1, 0).session.as_ref().unwrap().index();
    world.cut = false;
    world.muted = Some((0, 1));
    world.run(10_000);

    assert_eq!(world.nodes[1].connected().count(), 1);
    assert_eq!(world.dropped(0, "old stamp"), 0);
    assert_eq!(world.peer(1, 0).session.as_ref().unwrap().index(), index);
}

#[test]
#[ignore = "run by `clocks_that_are_wrong_cost_seconds_and_no_peer`"]
fn a_board_that_boots_in_1970_is_connected_before_and_after_its_clock_is_set() {
    let mut world = bent(2);
    world.run(5_000);
    world
        .wrong_by
        .insert(1, -world.now.wall_us / 1_000_000 + 30);
    world.restart(1);
    world.run(15_000);
    assert_eq!(world.nodes[1].connected().count(), 1);
    assert!(world.notices(1)[0].contains("behind the founding"));

    world.wrong_by.clear();
    world.run(16_000);

    assert_eq!(world.nodes[1].connected().count(), 1);
    assert_eq!(world.disconnected(0), 1, "by its restart alone");
    assert_eq!(world.notices(0), Vec::<String>::new());
    assert_eq!(world.notices(1), Vec::<String>::new());
}

#[test]
#[ignore = "run by `clocks_that_are_wrong_cost_seconds_and_no_peer`"]
fn a_clock_set_right_after_a_wrong_start_is_where_new_stamps_come_from() {
    let mut world = bent(2);
    world.cut = true;
    world.wrong_by.insert(1, -30 * DAY);
    world.restart(1);
    world.run(5_000);
    // What the first node accepted before, it accepts nothing older than.
    let secret = world.keys[1].1.secret();
    let public = world.nodes[0].identity.tunnel.public();
    bend::to(world.now, 0);
    let earlier = Session::new(&secret, public, 5).initiate().unwrap();
    world.give(0, address(1), &earlier);
    assert!(world.peer(0, 1).accepted.is_some());

    world.wrong_by.clear();
    world.cut = false;
    world.muted = Some((0, 1));
    world.run(3_000);

    assert_eq!(world.nodes[1].connected().count(), 1);
    assert!(
        world.dropped(0, "old stamp") <= 1,
        "one before the step was seen"
    );
    assert_eq!(world.peer(0, 1).rebuilt, None);
}

#[test]
fn the_one_clock_that_differs_from_all_others_is_named_as_the_wrong_one() {
    let mut world = World::new(4);
    world.wrong_by.insert(2, 7_200);

    world.run(20_000);

    assert_eq!(
        world.notices(2),
        [
            "this machine's clock is 2 hours ahead of its peers'; set it, for example with \
          `timedatectl set-ntp true`"
        ]
    );
    for at in [0, 1, 3] {
        assert_eq!(
            world.notices(at),
            [
                "the clock of n2 is 2 hours ahead of this machine's; where it is wrong, set it, \
              for example with `timedatectl set-ntp true`"
            ]
        );
    }
    world.wrong_by.clear();
    world.run(20_000);
    assert!((0..4).all(|at| world.notices(at).is_empty()));
}

/// A world in which a node's wall clock is wrong for boringtun too.
fn bent(count: u8) -> World {
    assert!(bend::is_on(), "meaningless with boringtun's clock as it is");
    World::new(count)
}
