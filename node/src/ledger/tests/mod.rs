//! Ledgers that talk: whatever happens on the way, in the end all hold what all have heard.

mod liars;
mod lives;
mod rest;
mod world;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::Event;
use super::set::{Put, Set};
use super::span::Span;
use world::{World, event, id, model};

const SHARE: usize = 128 * 1024;

/// Events of three authors, some places twice, some authors over their bounds.
fn heard() -> impl Strategy<Value = Vec<Event>> {
    let one = (0..3_usize, 1..700_u64, 0..2_u8, 0..3_usize);
    let one = one.prop_map(|(author, seq, content, size)| {
        let len = [0, 300, 900][(size + seq as usize) % 3];
        let second = u8::from(content == 1 && seq.is_multiple_of(50));
        event(author, seq, &vec![second; len + usize::from(second)])
    });
    vec(one, 0..900)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sets_that_heard_the_same_in_any_order_come_to_hold_what_the_model_says(
        events in heard(),
        seed in any::<u64>(),
    ) {
        let wanted = model(&events, SHARE);
        let mut sets: Vec<Set> = (0..3).map(|_| Set::default()).collect();
        let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(seed);
        for set in &mut sets {
            let mut events = events.clone();
            events.shuffle(&mut rng);
            // Some come twice, and again once others have gone.
            let again: Vec<_> = events.iter().filter(|_| rng.random_bool(0.2)).cloned().collect();
            for event in events.into_iter().chain(again) {
                set.put(event);
            }
        }
        let rounds = (0..50).take_while(|_| exchange(&mut sets)).count();
        prop_assert!(rounds < 50, "they never agree");
        let held: Vec<_> = sets.iter().map(|set| set.events().clone()).collect();
        prop_assert!(held.iter().all(|other| other == &held[0]));
        for (place, event) in &wanted {
            prop_assert_eq!(held[0].get(place), Some(event));
        }
        for author in (0..3).map(id) {
            let mine = held[0].values().filter(|event| event.author == author);
            let bytes: usize = mine.clone().map(|event| event.encode().len()).sum();
            prop_assert!(bytes <= SHARE && mine.count() <= 512);
            // A small one may stay below a large one that went; nothing above what went is missing.
            let oldest = wanted.keys().find(|place| place.0 == author);
            let more = held[0].keys().filter(|place| place.0 == author && !wanted.contains_key(*place));
            prop_assert!(more.into_iter().all(|place| Some(place) < oldest));
        }
        let [a, b, _] = &mut sets[..] else { unreachable!() };
        prop_assert_eq!(a.print(&Span::ALL), b.print(&Span::ALL));
        prop_assert_eq!(a.bytes(), a.events().values().map(Event::encoded_len).sum::<usize>());
    }

    #[test]
    fn a_stretch_is_cut_into_parts_that_make_it_up(
        events in heard(),
        (from, to) in (0..800_u64, 0..800_u64),
    ) {
        let mut set = Set::default();
        for event in &events {
            set.put(event.clone());
        }
        let mut ends = [(id(0), from), (id(1), to)];
        ends.sort();
        for span in [Span::ALL, Span { from: ends[0], to: Some(ends[1]) }, Span { from: ends[1], to: None }] {
            let inside = |place: &_| span.contains(place);
            let model: Vec<_> = set.events().keys().copied().filter(inside).collect();
            prop_assert_eq!(set.count(&span), model.len());
            let held: Vec<_> = set.held(&span).map(|(place, _)| place).collect();
            prop_assert_eq!(&held, &model);
            let parts = set.split(&span, 16);
            prop_assert!(parts.len() <= 16 && parts.iter().all(Span::is_sane));
            prop_assert_eq!((parts[0].from, parts[parts.len() - 1].to), (span.from, span.to));
            prop_assert!(parts.windows(2).all(|pair| pair[0].to == Some(pair[1].from)));
            let counts: usize = parts.iter().map(|part| set.count(part)).sum();
            prop_assert_eq!(counts, model.len());
        }
    }

    #[test]
    fn one_event_more_shows_in_the_print_of_every_stretch_it_is_in(
        events in heard(),
        nth in any::<prop::sample::Index>(),
    ) {
        let (mut with, mut without) = (Set::default(), Set::default());
        for event in &events {
            with.put(event.clone());
        }
        let kept: Vec<_> = with.events().values().cloned().collect();
        prop_assume!(!kept.is_empty());
        let left_out = nth.get(&kept).place();
        for event in kept.iter().filter(|event| event.place() != left_out) {
            without.put(event.clone());
        }
        prop_assert_ne!(with.print(&Span::ALL), without.print(&Span::ALL));
        for span in with.split(&Span::ALL, 16) {
            let same = with.print(&span) == without.print(&span);
            prop_assert_eq!(same, !span.contains(&left_out));
        }
    }
}

/// Each is given what the next holds; whether that changed anything.
fn exchange(sets: &mut [Set]) -> bool {
    let before: Vec<_> = sets.iter().map(|set| set.events().clone()).collect();
    for to in 0..sets.len() {
        let from = sets[(to + 1) % sets.len()].events().clone();
        for event in from.values().rev() {
            sets[to].put(event.clone());
        }
    }
    let changed = |(set, before): (&Set, &_)| set.events() != before;
    sets.iter().zip(&before).any(changed)
}

#[test]
fn whatever_the_network_does_all_hold_everything_in_the_end() {
    for seed in 0..12 {
        let mut world = World::new(seed, 7);
        world.loss = 0.3;
        let mut all = Vec::new();
        for round in 0..6_u8 {
            let mut nodes: Vec<_> = (0..7).collect();
            nodes.shuffle(&mut world.rng);
            let (one, other) = nodes.split_at(3);
            world.group(&[one.to_vec(), other.to_vec()]);
            for index in 0..7_u8 {
                if world.publish(index.into(), &[round, index]) {
                    all.push((usize::from(index), vec![round, index]));
                }
            }
            world.pass(Duration::from_secs(20));
        }
        world.all_meet();
        world.pass(Duration::from_secs(240));
        for node in 0..7 {
            for author in 0..7 {
                let mine = all.iter().filter(|(by, _)| *by == author);
                let mine: Vec<_> = mine.map(|(_, body)| body.clone()).collect();
                assert_eq!(
                    world.bodies(node, author),
                    mine,
                    "seed {seed}: {author} at {node}"
                );
            }
        }
        let blamed = world.nodes.iter().find(|node| !node.offences.is_empty());
        assert!(blamed.is_none(), "seed {seed}");
    }
}

#[test]
fn a_node_that_comes_new_to_a_large_ledger_has_all_of_it_within_minutes_and_a_bounded_rate() {
    let mut world = World::new(1, 3);
    let events: Vec<_> = (0..2)
        .flat_map(|author| (1..=512).map(move |seq| event(author, seq, &[7; 100])))
        .collect();
    world.restart(0, events.clone());
    world.restart(1, events.clone());
    world.all_meet();
    let mut before = 0;
    for _ in 0..30 {
        world.pass(Duration::from_secs(10));
        let sent: u64 = world.nodes[..2].iter().map(|node| node.sent_bytes).sum();
        assert!(
            sent - before <= 2 * (65_536 + 10 * 16_384),
            "{}",
            sent - before
        );
        before = sent;
    }
    assert_eq!(world.held(2), model(&events, SHARE));
    let twice = before as f64 / events.iter().map(|e| e.encode().len()).sum::<usize>() as f64;
    assert!(twice < 4.0, "{twice} times its bytes from two peers");
}

#[test]
fn what_is_older_than_what_is_kept_is_not_taken_again() {
    let mut set = Set::default();
    for seq in 2..=600 {
        assert_eq!(set.put(event(0, seq, b"")), Put::New);
    }
    assert_eq!(set.events().len(), 512);
    assert_eq!(set.put(event(0, 1, b"")), Put::Old);
    assert!(!set.has_room(&(id(0), 1), 200) && set.has_room(&(id(0), 601), 200));
    assert_eq!(set.put(event(0, 600, b"")), Put::Known);
}

#[test]
fn many_authors_share_what_all_may_take() {
    let mut set = Set::default();
    for seq in 1..=100 {
        set.put(event(0, seq, &[0; 900]));
    }
    assert_eq!(set.events().len(), 100);
    set.handle_authors(4_000);
    let each = event(0, 1, &[0; 900]).encode().len();
    assert_eq!(set.events().len(), 32 * 1024 * 1024 / 4_000 / each);
    assert_eq!(set.newest(&id(0)), 100, "the newest stay");
    set.handle_authors(1_000_000);
    assert_eq!(set.events().len(), 4 * 1024 / each);
}
