//! Whole exchanges between cores, on virtual time.

mod heir;
mod sites;
mod views;
mod wide;
mod world;

use std::time::Duration;

use bytes::Bytes;
use outlast_store::{IntervalSet, LogId, Parcel};

use super::{MOST_JOBS, Offence, StreamId};
use crate::flow::wire::{Answer, DIGEST, Question, SEAL, small};
use crate::replica::budget::{BURST, Bucket, Pace};
use crate::replica::digest::{Coverage, Entry, Open};
use world::{CLOCK, World, id, member};

#[test]
fn nodes_that_were_apart_hold_the_same_rows_soon_after_they_meet_and_nobody_is_blamed() {
    let mut world = World::new(1, &[5, 5, 5]);
    world.live(10);
    world.part(2);
    world.live(150);

    world.connect(2);
    world.live(20);

    for (at, of) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        assert_eq!(world.rows(at, of), 180, "rows of {of} at {at}");
    }
    assert_eq!(world.blames, []);
    assert!(world.members[2].core.stats().repaired_rows >= 300);
}

#[test]
fn the_same_seed_twice_gives_the_same_effects_in_the_same_order() {
    let story = |seed| {
        let mut world = World::new(seed, &[5, 3]);
        world.live(5);
        world.part(1);
        world.live(70);
        world.connect(1);
        world.live(15);
        world.log
    };
    let (first, again, other) = (story(7), story(7), story(8));

    assert!(first.len() > 300, "{} effects", first.len());
    assert_eq!(first, again);
    assert_ne!(first, other, "the seed moves the digests");
}

#[test]
fn a_large_schema_at_the_slowest_rate_is_waited_for_inside_one_request() {
    // About 270 kB of schema: over half a minute at 8 kB/s, three times what a silent request is given.
    let mut world = World::new(3, &[5_000, 1]);
    world.part(1);
    world.live(3);
    slow_down(&mut world, 0, 1);
    world.connect(1);

    let mut waited = 0;
    while world.rows(1, 0) < 3 && waited < 280 {
        world.pass(Duration::from_secs(1));
        waited += 1;
    }

    assert_eq!(world.rows(1, 0), 3, "after {waited} s");
    assert!(
        waited > 12,
        "it went too fast to prove anything: {waited} s"
    );
    let asked = world.log.iter();
    let asked = asked
        .filter(|line| line.starts_with("1 Store(Repair"))
        .count();
    assert!(
        asked <= 6 && waited <= 80,
        "{asked} pieces for three rows in {waited} s: requests were given up"
    );
    assert_eq!(world.blames, []);
}

#[test]
fn a_schema_that_rot_took_is_fetched_again_though_the_newest_row_names_it() {
    let mut world = World::new(11, &[5, 3]);
    world.live(5);
    world.part(1);
    world.restart_without_schema(1, 0);

    world.connect(1);
    world.live(20);

    assert_eq!(world.rows(1, 0), 25);
    assert_eq!(world.blames, []);
}

#[test]
fn a_peer_that_reconnects_while_it_is_served_has_all_its_places_again() {
    let mut world = World::new(4, &[5, 5]);
    for round in 0..20 {
        for _ in 0..6 {
            assert!(ask_nothing(&mut world, 0, 1).is_some(), "round {round}");
        }
        assert!(ask_nothing(&mut world, 0, 1).is_none(), "a seventh place");
        world.part(1);
        assert_eq!(world.queue(0, "streams served"), 0, "round {round}");
        world.pass(Duration::from_secs(1));
        world.connect(1);
    }
}

#[test]
fn a_stalled_disk_costs_no_live_row_its_place_and_is_said() {
    let mut world = World::new(5, &[5, 5]);
    world.live(3);
    world.members[1].stalled = true;
    world.live(30);

    let silent = world.members[1].core.store_silent(world.now);
    assert!(silent >= Duration::from_secs(20), "{silent:?}");
    assert!(world.queue(1, "other jobs for the store") <= 20);
    world.members[1].stalled = false;
    world.live(5);
    assert_eq!(world.rows(1, 0), 38);
    let silent = world.members[1].core.store_silent(world.now);
    assert!(silent <= Duration::from_secs(1), "{silent:?}");
    assert!(world.queue(1, "live rows for the store") < MOST_JOBS);
}

#[test]
fn who_never_finishes_its_question_is_named_and_loses_its_place() {
    let mut world = World::new(6, &[5, 5]);
    ask_nothing(&mut world, 0, 1).unwrap();
    world.pass(Duration::from_secs(25));
    assert_eq!(world.blames, [(0, id(1), Offence::Unfinished)]);
    assert_eq!(world.queue(0, "streams served"), 0);
}

#[test]
fn seals_beyond_what_a_start_takes_are_named_before_anything_looks_at_them() {
    let mut world = World::new(6, &[5, 5]);
    let now = world.now;
    for _ in 0..300 {
        let core = &mut world.members[0].core;
        core.handle_message(id(1), SEAL, &Bytes::from_static(b"no seal"), now);
    }
    world.pass(Duration::from_millis(1));
    let named = |what| {
        world
            .blames
            .iter()
            .filter(|blame| **blame == (0, id(1), what))
            .count()
    };
    assert_eq!(
        (named(Offence::Unreadable), named(Offence::Seals)),
        (256, 44)
    );
}

#[test]
fn a_question_for_too_much_is_named_and_not_answered() {
    let mut world = World::new(6, &[5, 5]);
    let log = world.members[0].log;
    let question = Question::Rows(log, [1..=u32::MAX - 1].into_iter().collect()).encode();
    let stream = ask_nothing(&mut world, 0, 1).unwrap();
    let now = world.now;
    world.members[0].core.handle_read(stream, &question, now);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.blames, [(0, id(1), Offence::Greedy)]);
}

#[test]
fn a_record_that_cannot_be_read_costs_itself_and_an_answer_without_end_is_cut_off() {
    let mut world = World::new(8, &[5, 5]);
    world.live(1);
    world.part(1);
    world.live(60);
    let log = world.members[1].log;
    let rows = world.members[1]
        .store
        .export(&log, 1..=60, 1 << 20)
        .unwrap();
    let block = rows.into_iter().map(|parcel| match parcel {
        Parcel::Row(bytes) => Answer::Row(bytes.into()).encode(),
        Parcel::Block(bytes) => Answer::Block(bytes.into()).encode(),
    });
    let good: Vec<_> = block.collect();
    let bad = Answer::Row(Bytes::from_static(b"no row")).encode();

    let stream = claim_rows(&mut world, log);
    for frame in [bad.clone()].iter().chain(&good) {
        answer(&mut world, stream, frame);
    }
    assert_eq!(world.rows(0, 1), 60, "the good one behind it came in");
    assert_eq!(world.blames, [(0, id(1), Offence::Unreadable)]);

    world.live(3);
    let stream = claim_rows(&mut world, log);
    let before = world.blames.len();
    for _ in 0..2_000 {
        answer(&mut world, stream, &bad);
    }
    let named = &world.blames[before..];
    // Twice the two hundred rows, a few more, and the word that ends it.
    assert!(named.len() < 420, "{} frames were read", named.len());
    assert!(named.contains(&(0, id(1), Offence::Endless)));
}

#[test]
fn of_two_signed_contents_the_lower_is_everywhere_in_the_end_and_the_origin_named() {
    let mut world = World::new(9, &[5, 5, 1]);
    world.part(2);
    let copies = [11, 22].map(|salt| {
        let copied = member(2, 1, 77, world.now);
        for seq in 1..=60 {
            let values = vec![Some(salt * seq)];
            let boot_ms = seq as u64 * 1_000;
            copied
                .store
                .append_own(boot_ms, CLOCK, copied.schema, values)
                .unwrap();
        }
        copied
    });
    let log = copies[0].log;
    assert_eq!(log, copies[1].log, "one name");
    for (at, copied) in copies.iter().enumerate() {
        let store = &world.members[at].store;
        let schema = copied.store.schema_delta(&copied.schema).unwrap();
        store.define(log.origin, schema).unwrap();
        for parcel in copied.store.export(&log, 1..=60, 1 << 20).unwrap() {
            let Parcel::Block(bytes) = parcel else {
                panic!("the window is sealed");
            };
            store.insert_block(&bytes).unwrap();
        }
    }
    let content = |world: &World, at: usize| {
        let seal = world.members[at].store.seal_of(&log, 1);
        seal.unwrap().content
    };
    let contents = [content(&world, 0), content(&world, 1)];
    assert_ne!(contents[0], contents[1]);

    world.pass(Duration::from_secs(400));

    let lower = contents.into_iter().min().unwrap();
    assert_eq!([content(&world, 0), content(&world, 1)], [lower, lower]);
    let named: Vec<_> = world
        .blames
        .iter()
        .map(|(_, who, what)| (*who, *what))
        .collect();
    assert!(!named.is_empty());
    assert!(
        named
            .iter()
            .all(|line| *line == (id(2), Offence::TwoContents)),
        "{named:?}"
    );
    for at in [0, 1] {
        assert!(
            world.members[at].store.stats().conflicts > 0,
            "evidence is kept"
        );
    }
}

#[test]
fn the_store_hears_which_rows_all_keepers_have_and_that_a_new_one_has_none() {
    let mut world = World::new(12, &[5, 5, 5]);
    world.live(40);
    let log = world.members[0].log;
    let told = world.members[0].store.delivered_of(&log);
    assert!(told.covers(1..=10), "{told:?}");

    let members: Vec<_> = (0..4).map(world::snapshot).collect();
    let now = world.now;
    world.members[0].core.handle_members(&members, now);
    world.live(15);
    let told = world.members[0].store.delivered_of(&log);
    assert!(told.is_empty(), "{told:?}");
}

/// Node 1, which is not there to speak for itself, claims to have two hundred rows; node 0 asks on this stream.
fn claim_rows(world: &mut World, log: LogId) -> StreamId {
    let now = world.now;
    let core = &mut world.members[0].core;
    core.handle_connected(id(1), now);
    let held = Coverage {
        held: [1..=200].into_iter().collect(),
        gone: IntervalSet::new(),
    };
    let open = Open {
        store: log.store,
        epoch: log.epoch,
        coverage: Some(held),
    };
    let entry = Entry {
        origin: log.origin,
        closed: [0; 16],
        open: Some(open),
    };
    core.handle_message(id(1), DIGEST, &small(&vec![entry]), now);
    world.hold_streams = true;
    world.pass(Duration::from_secs(4));
    world.asked_for_rows(0).expect("it asks")
}

fn answer(world: &mut World, stream: StreamId, frame: &Bytes) {
    let now = world.now;
    world.members[0].core.handle_read(stream, frame, now);
    world.pass(Duration::from_millis(1));
}

/// `from` opens a stream to `to` and says nothing on it.
fn ask_nothing(world: &mut World, to: usize, from: usize) -> Option<StreamId> {
    let now = world.now;
    world.members[to].core.handle_stream(id(from), now)
}

/// What `of` gives `peer` goes at the slowest rate from here on, as over a path whose round trips never calm down.
fn slow_down(world: &mut World, of: usize, peer: usize) {
    let mut bucket = Bucket::new(Pace::Polite, world.now);
    bucket.take(BURST as usize, world.now);
    bucket.handle_rtt(Some(10.0));
    for second in 0..12 {
        bucket.handle_rtt(Some(1_000.0 + f64::from(second)));
    }
    world.members[of].core.buckets.insert(id(peer), bucket);
}
