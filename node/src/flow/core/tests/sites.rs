//! What crosses to another site, and what is sent to who pays for it.

use std::collections::BTreeMap;

use super::world::{World, id};
use crate::flow::origin_of;
use crate::flow::wire::{HANDED_ON, ROW};
use crate::replica::Member;

/// Node 0 and 1 in one site, the other four in another.
fn two_sites(seed: u64, named: bool) -> World {
    let mut world = World::new(seed, &[5; 6]);
    let site = |index: usize| Some(if index < 2 { "north" } else { "south" }.to_owned());
    let members = (0..6).map(|index| Member {
        site: site(index).filter(|_| named),
        ..Member::new(origin_of(id(index)))
    });
    stand(&mut world, &members.collect::<Vec<_>>());
    world
}

fn stand(world: &mut World, members: &[Member]) {
    let now = world.now;
    for member in &mut world.members {
        member.core.replica.handle_members(members, now);
        member.core.settle(now);
    }
    world.sent.clear();
}

/// Live rows by who sent them to whom.
fn rows_sent(world: &World) -> BTreeMap<(usize, usize), usize> {
    let mut rows = BTreeMap::new();
    for (from, to, kind) in &world.sent {
        if [ROW, HANDED_ON].contains(kind) {
            *rows.entry((*from, *to)).or_default() += 1;
        }
    }
    rows
}

#[test]
fn a_row_crosses_to_another_site_once_and_everybody_there_has_it_live() {
    let mut world = two_sites(11, true);
    world.live(40);

    let sent = rows_sent(&world);
    let crossed = |from: usize, to: &dyn Fn(usize) -> bool| -> usize {
        let there = sent.iter().filter(|((of, at), _)| *of == from && to(*at));
        there.map(|(_, count)| count).sum()
    };
    let (north, south) = (|at: usize| at < 2, |at: usize| at >= 2);
    // 40 rows of its own, and those it hands on stay at home.
    assert_eq!((crossed(0, &south), crossed(1, &south)), (40, 40));
    for from in 2..6 {
        assert_eq!(crossed(from, &north), 40, "node {from}");
    }
    for (at, member) in world.members.iter().enumerate() {
        assert_eq!(
            member.core.stats().rows_in,
            200,
            "all of five others live at {at}"
        );
        assert_eq!(member.core.stats().repaired_rows, 0);
        assert_eq!(member.core.stats().refused, BTreeMap::new());
    }
    assert_eq!(world.blames, []);
}

#[test]
fn what_was_missed_crosses_to_another_site_once_as_well() {
    let served = |named| {
        let mut world = two_sites(12, named);
        world.part(0);
        world.live(150);
        let before = world.members[0].core.stats().served_bytes;
        world.connect(0);
        world.live(90);
        for at in 1..6 {
            assert_eq!(world.rows(at, 0), 240, "rows of 0 at {at}");
            assert_eq!(world.rows(0, at), 240, "rows of {at} at 0");
        }
        world.members[0].core.stats().served_bytes - before
    };
    let (once, to_each) = (served(true), served(false));
    // To its neighbour and once over, instead of to all five.
    assert!(once * 2 < to_each, "{once} of {to_each} bytes");
}

#[test]
fn a_neighbour_that_is_to_hand_on_and_dies_costs_no_row() {
    let mut world = two_sites(13, true);
    world.live(10);
    let first = rows_sent(&world)
        .into_iter()
        .find(|((from, to), _)| *from == 0 && *to >= 2);
    let ((_, gate), _) = first.unwrap();
    world.part(gate);
    world.live(50);
    for at in (1..6).filter(|at| *at != gate) {
        assert_eq!(world.rows(at, 0), 60, "rows of 0 at {at}");
    }
    world.connect(gate);
    world.live(60);
    assert_eq!(world.rows(gate, 0), 120);
    assert_eq!(world.blames, []);
}

#[test]
fn who_pays_for_its_traffic_gets_blocks_and_no_live_rows() {
    let mut world = World::new(14, &[5; 3]);
    let metered = |index| Member {
        metered: index == 2,
        ..Member::new(origin_of(id(index)))
    };
    stand(&mut world, &(0..3).map(metered).collect::<Vec<_>>());
    world.live(190);

    let sent = rows_sent(&world);
    assert!(!sent.contains_key(&(0, 2)) && !sent.contains_key(&(1, 2)));
    assert_eq!(
        (world.rows(0, 2), world.rows(1, 0)),
        (190, 190),
        "the others get its rows"
    );
    for of in [0, 1] {
        let there = world.rows(2, of);
        assert!(
            there.is_multiple_of(60) && there >= 120,
            "{there} rows of {of}"
        );
    }
    assert_eq!(world.blames, []);
}
