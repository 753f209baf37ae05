//! Peers that lie or say too much cost the others little, and are named.

use std::time::Duration;

use outlast_mesh::NodeId;

use super::world::{MESH, World, event, id};
use crate::ledger::event::MAX_SEQ;
use crate::ledger::span::Span;
use crate::ledger::word::{LISTED, Told, Word, held};
use crate::ledger::{Draft, Event, MOST_EVENTS, Offence};

fn tell(world: &mut World, from: usize, to: usize, events: &[Event]) {
    for word in Word::tells(events.iter()) {
        world.say(from, to, &word);
    }
}

fn two() -> World {
    let mut world = World::new(1, 4);
    world.link(0, 1, true);
    world.pass(Duration::from_secs(5));
    world
}

#[test]
fn a_forged_event_is_refused_and_its_bringer_named() {
    let mut world = two();
    let mut forged = event(2, 5, b"lost power");
    forged.body = bytes::Bytes::from_static(b"was stopped");
    tell(&mut world, 0, 1, &[forged]);
    let of_another_mesh = Draft::at(1, &b"x"[..], 0, true);
    let other = outlast_mesh::MeshId([8; 32]);
    assert_ne!(other, MESH);
    let foreign = of_another_mesh.sign(&other, (id(2), 6), |_| [0; 64]);
    tell(&mut world, 0, 1, &[foreign]);
    assert_eq!(world.nodes[1].offences, [(id(0), Offence::Forged); 2]);
    assert!(world.held(1).is_empty());
}

#[test]
fn an_event_of_a_stranger_is_refused_and_nobody_blamed() {
    let mut world = two();
    tell(&mut world, 0, 1, &[event(77, 1, b"hello")]);
    assert!(world.held(1).is_empty() && world.nodes[1].offences.is_empty());
    assert_eq!(world.nodes[1].ledger.stats().refused, 1);
    // Nor is it asked for.
    world.nodes[1].sent.clear();
    let stranger = [((id(77), 1), [1; 8])];
    world.say(0, 1, &Word::Offers(held(stranger.into_iter())));
    assert!(world.nodes[1].sent.is_empty());
}

#[test]
fn of_two_contents_at_one_place_the_lower_stays_everywhere_and_the_author_is_named() {
    let (a, b) = (event(0, 5, b"one"), event(0, 5, b"two"));
    let lower = if a.hash() < b.hash() { &a } else { &b };
    let mut world = World::new(3, 4);
    tell_first(&mut world, 1, &a);
    tell_first(&mut world, 2, &b);
    world.group(&[vec![1, 2, 3]]);
    world.pass(Duration::from_secs(120));
    for node in 1..4 {
        assert_eq!(world.held(node).values().next(), Some(lower), "node {node}");
    }
    let named: Vec<_> = world.nodes.iter().flat_map(|node| &node.offences).collect();
    assert!(!named.is_empty());
    assert!(
        named
            .iter()
            .all(|offence| **offence == (id(0), Offence::TwoContents))
    );
}

fn tell_first(world: &mut World, node: usize, event: &Event) {
    world.link(0, node, true);
    world.nodes[0].ledger.handle_timeout(world.now);
    tell(world, 0, node, std::slice::from_ref(event));
    world.link(0, node, false);
}

#[test]
fn a_flood_of_one_author_is_refused_over_its_quota_and_no_other_s_fault() {
    let mut world = two();
    for seq in 1..=700 {
        // Slowly enough that the bringer isn't over what it may say.
        world.now += Duration::from_millis(20);
        tell(&mut world, 0, 1, &[event(2, seq, b"again")]);
    }
    let offences = &world.nodes[1].offences;
    assert_eq!(offences.len(), 700 - (MOST_EVENTS + 60 + 8), "{offences:?}");
    assert!(
        offences
            .iter()
            .all(|offence| *offence == (id(2), Offence::Quota))
    );
    world.now += Duration::from_secs(30);
    tell(&mut world, 0, 1, &[event(2, 701, b"again")]);
    assert_eq!(world.held(1).last_key_value().unwrap().0.1, 701);
}

#[test]
fn a_peer_that_says_too_much_is_named_and_what_it_is_answered_is_bounded() {
    let mut world = two();
    for seq in 1..=100 {
        world.publish(1, &[seq]);
    }
    world.pass(Duration::from_secs(1));
    let before = world.nodes[1].sent_bytes;
    for _ in 0..5_000 {
        world.say(0, 1, &Word::Root([7; 16]));
        world.say(0, 1, &Word::Holds(Span::ALL, Vec::new()));
    }
    let answered = world.nodes[1].sent_bytes - before;
    assert!(
        (60_000..70_000).contains(&answered),
        "{answered} bytes at once"
    );
    let offences = &world.nodes[1].offences;
    assert_eq!(offences.len(), 10_000 - 512, "what is over the budget");
    assert!(
        offences
            .iter()
            .all(|offence| *offence == (id(0), Offence::Words))
    );
}

#[test]
fn bytes_that_are_no_message_name_their_sender() {
    let mut world = two();
    let backwards = Span {
        from: (id(1), 5),
        to: Some((id(1), 5)),
    };
    let many = vec![(Some((NodeId([255; 32]), 1)), [0; 16]); 17];
    let odd = [
        Word::Holds(backwards, Vec::new()),
        Word::Prints {
            from: (id(1), 1),
            parts: many,
        },
        Word::Tells(vec![Told::of(b"no event")]),
    ];
    for word in &odd {
        world.say(0, 1, word);
    }
    world.say_bytes(0, 1, &[]);
    world.say_bytes(0, 1, &[2, 6]);
    world.say_bytes(0, 1, &[1, 99]);
    assert_eq!(world.nodes[1].offences, [(id(0), Offence::Unreadable); 6]);
}

#[test]
fn a_thief_who_used_up_a_node_s_numbers_silences_it_and_nobody_else() {
    let mut world = two();
    tell(&mut world, 0, 1, &[event(1, MAX_SEQ, b"mine")]);
    world.publish(1, b"really mine");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.bodies(1, 1), [b"mine"]);
    assert_eq!(world.nodes[1].ledger.stats().refused, 1);
    world.publish(0, b"others go on");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.bodies(1, 0).len(), 1);
}

#[test]
fn one_message_brings_a_bounded_number_of_answers() {
    let mut world = two();
    for seq in 1..=60 {
        world.publish(1, &[seq]);
    }
    world.pass(Duration::from_secs(1));
    world.nodes[1].sent.clear();
    world.say(0, 1, &Word::Root([7; 16]));
    assert_eq!(world.nodes[1].sent.len(), 1);
    let Word::Prints { from, parts } = world.nodes[1].sent[0].1.clone() else {
        panic!("{:?}", world.nodes[1].sent);
    };
    let wrong = parts.into_iter().map(|(to, _)| (to, [0; 16])).collect();
    world.nodes[1].sent.clear();
    world.say(0, 1, &Word::Prints { from, parts: wrong });
    assert!(world.nodes[1].sent.len() <= 16);
    let small = |word: &Word| matches!(word, Word::Holds(_, held) if held.len() <= LISTED);
    assert!(world.nodes[1].sent.iter().all(|(_, word)| small(word)));
}

#[test]
fn no_word_of_a_peer_moves_a_node_s_numbers_but_an_event_it_signed() {
    let mut world = World::new(1, 2);
    world.link(0, 1, true);
    let mut forged = event(1, MAX_SEQ, b"mine");
    forged.signature = [7; 64];
    tell(&mut world, 0, 1, &[forged]);
    world.say(0, 1, &Word::Offers(Vec::new()));
    world.publish(1, b"really mine");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.nodes[1].offences, [(id(0), Offence::Forged)]);
    assert_eq!(world.bodies(0, 1), [b"really mine"]);
    let seq = world.held(1).last_key_value().unwrap().0.1;
    assert!(seq < 1 << 33);
}

#[test]
fn what_went_and_is_brought_again_costs_its_author_nothing() {
    let mut world = two();
    for seq in 10..180 {
        world.now += Duration::from_millis(20);
        tell(&mut world, 0, 1, &[event(2, seq, &[1; 900])]);
    }
    let held = world.held(1).len();
    assert!(held < 150, "its bytes are at their bound");
    for _ in 0..1_000 {
        world.now += Duration::from_millis(20);
        tell(&mut world, 0, 1, &[event(2, 1, &[1; 900])]);
    }
    world.now += Duration::from_secs(1);
    tell(&mut world, 0, 1, &[event(2, 500, b"a real one")]);
    assert_eq!(world.held(1).last_key_value().unwrap().0.1, 500);
    assert!(world.nodes[1].offences.is_empty());
}

#[test]
fn a_stretch_to_the_end_is_the_last_of_its_message() {
    let mut world = two();
    let twice = vec![(None, [1; 16]), (None, [2; 16])];
    let word = Word::Prints {
        from: Span::ALL.from,
        parts: twice,
    };
    world.say(0, 1, &word);
    assert_eq!(world.nodes[1].offences, [(id(0), Offence::Unreadable)]);
}
