//! Calls on the own link: to whom, how often, and who answers.

use super::*;
use crate::path::lan;

/// Members that all have other addresses than anybody knows.
fn moved(count: u8, calls: bool) -> World {
    let mut world = World::new(count);
    world.calls = calls;
    for at in 0..usize::from(count) {
        world.homes[at] = elsewhere(at);
        world.restart(at);
    }
    world.sent.clear();
    world
}

fn elsewhere(at: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7 + at as u8], address(at).port()))
}

#[test]
fn a_link_whose_addresses_all_changed_finds_itself_within_three_seconds() {
    let mut world = moved(5, true);

    world.run(3_000);

    for at in 0..5 {
        assert_eq!(world.nodes[at].connected().count(), 4, "node {at}");
        for of in (0..5).filter(|of| *of != at) {
            assert_eq!(world.peer(at, of).route.address(), Some(elsewhere(of)));
        }
    }
}

#[test]
fn without_calls_nobody_is_called_and_nobody_is_found() {
    let mut world = moved(2, false);

    world.run(60_000);

    assert_eq!(world.nodes[0].connected().count(), 0);
    assert_eq!(world.called.len(), 0);
}

#[test]
fn members_that_are_where_they_were_are_not_called() {
    let mut world = World::new(3);
    world.calls = true;
    for at in 0..3 {
        world.restart(at);
    }

    world.run(30_000);

    assert_eq!(world.nodes[0].connected().count(), 2);
    assert_eq!(world.called.len(), 0);
}

#[test]
fn a_call_is_answered_by_the_member_it_names_alone() {
    let mut world = moved(4, true);
    // Everybody listens at the same port, and hears every call.
    world.one_port = true;

    world.run(1_200);

    let calls = world.called.len();
    let kinds = |kind: u8| world.sent.iter().filter(|(.., sent)| *sent == kind).count();
    assert!(calls > 0);
    assert!(kinds(2) <= calls, "{} answers to {calls} calls", kinds(2));
    let deaf: u64 = (0..4).map(|at| world.dropped(at, "mac1")).sum();
    assert!(deaf >= calls as u64, "{deaf}");
}

#[test]
fn a_mesh_that_is_gone_is_called_within_the_budget() {
    let mut world = World::new(40);
    world.calls = true;
    world.restart(0);
    let end = world.now.after(Duration::from_secs(4)).mono;

    let mut called = 0;
    while let Some((due, _)) = world.nodes[0].poll_timeout().filter(|(at, _)| *at < end) {
        world.now = world
            .now
            .after(due.saturating_duration_since(world.now.mono));
        world.nodes[0].handle_timeout(world.now);
        while let Some(transmit) = world.nodes[0].poll_transmit(world.now) {
            called += u32::from(lan::is_call(transmit.to));
        }
        world.nodes[0].poll_journal();
    }

    // Each of the 39 was due twice.
    let (per_second, at_once) = lan::CALLS;
    assert!(f64::from(called) <= at_once + 4.0 * per_second, "{called}");
    assert!(f64::from(called) >= at_once, "{called}");
    assert!(world.dropped(0, "calls on the link too many") > 0);
}
