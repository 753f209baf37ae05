//! Looking at a node that can't be reached from here, through those who keep its rows.

use std::time::Duration;

use outlast_mesh::NodeId;

use super::world::{World, at, id};
use crate::flow::core::Offence;
use crate::flow::wire::HandedOn;

/// More than keep everything.
const COUNT: usize = 20;
const OF: usize = 5;

/// A mesh in which somebody who doesn't keep the rows of `OF` is cut off from it; says who, and who keeps them in the
/// order in which they are asked.
fn cut_off(seed: u64) -> (World, usize, Vec<usize>) {
    let mut world = World::new(seed, &[2; COUNT]);
    world.live(3);
    let keeps = |world: &World, at: usize| world.members[at].core.keeps(&id(OF));
    let looks = (0..COUNT)
        .find(|at| *at != OF && !keeps(&world, *at))
        .unwrap();
    world.session(looks, OF, false);
    let holders = world.members[looks].core.holders(&id(OF), world.now);
    let keepers = holders.into_iter().map(at).collect();
    (world, looks, keepers)
}

/// Somebody looks for so many seconds; says how many rows of `OF` were shown.
fn look(world: &mut World, looks: usize, seconds: u32) -> usize {
    let before = world.shown.len();
    for _ in 0..seconds {
        let now = world.now;
        world.members[looks].core.handle_look(id(OF), now);
        world.live(1);
    }
    let shown = world.shown[before..].iter();
    shown.filter(|shown| **shown == (looks, OF)).count()
}

#[test]
fn a_node_that_cannot_be_reached_is_shown_live_through_one_of_its_keepers() {
    let (mut world, looks, _) = cut_off(31);

    let shown = look(&mut world, looks, 40);

    assert!((38..=41).contains(&shown), "{shown} rows in 40 s");
    assert_eq!(world.rows(looks, OF), 0, "shown and not kept");
    assert_eq!(world.blames, []);

    // Reached again, the node itself is asked, and nobody who looks no more gets anything.
    world.session(looks, OF, true);
    let shown = look(&mut world, looks, 40);
    assert!((38..=42).contains(&shown), "{shown} rows in 40 s");
    world.live(65);
    let before = world.shown.len();
    world.live(10);
    assert_eq!(world.shown.len(), before);
}

#[test]
fn a_keeper_that_has_nothing_to_show_gives_way_to_the_next() {
    let (mut world, looks, keepers) = cut_off(32);
    world.session(keepers[0], OF, false);
    let first = look(&mut world, looks, 10);
    assert!((5..=8).contains(&first), "{first} rows in 10 s");

    // And the next, when that one goes.
    world.session(looks, keepers[1], false);
    let then = look(&mut world, looks, 20);
    assert!(then >= 14, "{then} rows in 20 s");
    assert_eq!(world.blames, []);
}

#[test]
fn a_keeper_that_forges_rows_is_named_and_none_of_them_is_shown() {
    let (mut world, looks, keepers) = cut_off(33);
    look(&mut world, looks, 5);
    let through = keepers[0];
    let from: NodeId = id(through);
    let store = &world.members[through].store;
    let row = store.latest(&crate::flow::origin_of(id(OF))).unwrap();
    let mut forged = (*row).clone();
    forged.row.seq += 1;
    forged.row.values[0] = Some(4_711);
    let (log, seq) = (forged.row.log, forged.row.seq);
    let now = world.now;
    for part in HandedOn::cut(&log, seq, &forged.encode()).unwrap() {
        let core = &mut world.members[looks].core;
        core.handle_message(from, crate::flow::wire::HANDED_ON, &part, now);
    }
    let before = world.shown.len();
    world.pass(Duration::from_millis(100));

    assert_eq!(world.shown.len(), before);
    assert_eq!(world.blames, [(looks, from, Offence::Altered)]);
    let after = look(&mut world, looks, 10);
    assert!((9..=11).contains(&after), "{after} rows in 10 s");
    let core = &world.members[looks].core;
    let next = crate::flow::origin_of(id(OF));
    assert!(
        core.is_watched_through(id(keepers[1]), &next),
        "the next is asked"
    );
}

#[test]
fn nobody_is_shown_what_a_node_does_not_keep_or_for_more_than_it_lets_look() {
    let (mut world, looks, keepers) = cut_off(34);
    let stranger = (0..COUNT)
        .find(|at| *at != OF && *at != looks && !keepers.contains(at))
        .unwrap();
    let ask = |world: &mut World, at: usize, from: usize| {
        let origin = crate::flow::origin_of(id(OF));
        let body = crate::flow::wire::small(&crate::flow::core::Subscribe { origin });
        let now = world.now;
        let core = &mut world.members[at].core;
        core.handle_message(id(from), crate::flow::wire::SUBSCRIBE, &body, now);
        core.stats().refused.clone()
    };
    let refused = ask(&mut world, stranger, looks);
    assert_eq!(refused["subscription: of rows that aren't kept here"], 1);
    let mut last = refused;
    for from in (0..COUNT).filter(|from| *from != keepers[0]) {
        last = ask(&mut world, keepers[0], from);
    }
    assert_eq!(last["subscription: too many at a time"], 3);
}

#[test]
fn one_who_looks_at_everybody_leaves_places_for_others() {
    const ALL: usize = 13;
    let mut world = World::new(35, &[2; ALL]);
    world.live(3);
    let now = world.now;
    let mut refused = |from: usize, of: usize| {
        let origin = crate::flow::origin_of(id(of));
        let body = crate::flow::wire::small(&crate::flow::core::Subscribe { origin });
        let core = &mut world.members[0].core;
        core.handle_message(id(from), crate::flow::wire::SUBSCRIBE, &body, now);
        let refused = &core.stats().refused;
        refused.get("subscription: too many at a time").copied()
    };
    let last = (2..ALL).map(|of| refused(1, of)).last();
    assert_eq!(last, Some(Some(3)), "8 of 11");
    assert_eq!(refused(2, 3), Some(3), "somebody else is let look");
}
