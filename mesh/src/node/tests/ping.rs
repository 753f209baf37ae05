//! Pings of the owner's.

use super::*;
use crate::error::PingError;
use crate::wire::message::{Pong, kind};

fn pongs(world: &World) -> Vec<u32> {
    let seen = world.seen.get(&0).into_iter().flatten();
    seen.filter_map(|event| match event {
        NodeEvent::Pong { number, .. } => Some(*number),
        _ => None,
    })
    .collect()
}

#[test]
fn an_owner_s_ping_is_answered_once_and_apart_from_signs_of_life() {
    let mut world = World::new(2);
    world.run(2_000);
    let them = world.nodes[1].me();
    let now = world.now;

    let first = world.nodes[0].handle_ping(them, now).unwrap();
    let second = world.nodes[0].handle_ping(them, now).unwrap();
    world.run(20_000);

    // Liveness has measured too in that time, with numbers of its own.
    assert!(world.peer(0, 1).liveness.rtt().is_some());
    assert_eq!(pongs(&world), [first, second]);
    assert!(first != second && first >= 1 << 31);
}

#[test]
fn an_answer_counts_only_from_the_peer_that_was_asked_and_only_once() {
    let mut world = World::new(3);
    world.run(2_000);
    let (asked, other) = (world.nodes[1].me(), world.nodes[2].me());
    world.cut = true;
    let now = world.now;
    let number = world.nodes[0].handle_ping(asked, now).unwrap();
    let pong = Pong {
        number,
        received_us: 0,
        sent_us: 0,
        observed: address(0),
    };
    let mut body = Vec::new();
    frame::push(&mut body, kind::PONG, &message::encode(&pong));

    world.nodes[0].frames(other, Way::Direct(address(2)), &body, now);
    world.collect(0);
    assert_eq!(pongs(&world), [0; 0]);

    for _ in 0..2 {
        world.nodes[0].frames(asked, Way::Direct(address(1)), &body, now);
    }
    world.collect(0);
    assert_eq!(pongs(&world), [number]);
}

#[test]
fn nobody_is_asked_who_can_t_answer_and_questions_are_bounded() {
    let mut world = World::new(2);
    let (me, them, now) = (world.nodes[0].me(), world.nodes[1].me(), world.now);
    let stranger = NodeKey::from_seed(&[99; 32]).id();
    let ask = |world: &mut World, whom| {
        let now = world.now;
        world.nodes[0].handle_ping(whom, now)
    };
    assert_eq!(ask(&mut world, me), Err(PingError::Ourselves));
    assert_eq!(
        ask(&mut world, stranger),
        Err(PingError::NotAMember(stranger))
    );
    assert_eq!(ask(&mut world, them), Err(PingError::NotConnected(them)));

    world.run(2_000);
    world.cut = true;
    let answers: Vec<_> = (0..65).map(|_| ask(&mut world, them).is_ok()).collect();
    assert_eq!(answers.iter().filter(|ok| **ok).count(), 64);
    assert_eq!(ask(&mut world, them), Err(PingError::Busy));
    // The unanswered are forgotten, so the owner may ask again.
    world.now = world.now.after(Duration::from_secs(11));
    assert!(ask(&mut world, them).is_ok());
    assert!(now.mono < world.now.mono);
}
