//! What a node says in a large mesh, where sessions come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outlast_mesh::PeerState;
use rand::SeedableRng as _;
use rand::seq::IteratorRandom as _;
use rand_chacha::ChaCha8Rng;

use super::world::{World, at, id, snapshot};
use crate::flow::origin_of;
use crate::flow::wire::{DIGEST, Question, ROW};
use crate::summary::gauges::Gauges;

/// What the tunnel adds to a small message: the outer headers, `WireGuard`'s and the inner headers.
const OVERHEAD: u64 = 28 + 32 + 48;
/// Others each node has a session with at any time for the mesh's sake, and how long one of them stays.
const PICKS: usize = 8;
const STAYS: u32 = 20;

/// Sessions as the mesh keeps them above `spread::FULL` members: whom either side wants, and some at random.
struct Sessions {
    count: usize,
    rng: ChaCha8Rng,
    picks: Vec<BTreeSet<usize>>,
    up: BTreeSet<(usize, usize)>,
}

impl Sessions {
    fn new(count: usize) -> Self {
        Self {
            count,
            rng: ChaCha8Rng::seed_from_u64(1),
            picks: vec![BTreeSet::new(); count],
            up: BTreeSet::new(),
        }
    }

    fn rotate(&mut self) {
        for (me, picks) in self.picks.iter_mut().enumerate() {
            let others = (0..self.count).filter(|other| *other != me);
            *picks = others
                .choose_multiple(&mut self.rng, PICKS)
                .into_iter()
                .collect();
        }
    }

    fn settle(&mut self, world: &mut World) {
        let mut up = BTreeSet::new();
        for me in 0..self.count {
            let everybody = self.count <= outlast_mesh::spread::FULL;
            let others = (0..self.count).filter(|other| everybody && *other != me);
            let wanted = world.wanted[me].iter().map(|peer| at(*peer));
            let picks = self.picks[me].iter().copied();
            let all = others.chain(wanted).chain(picks);
            up.extend(all.map(|peer| (me.min(peer), me.max(peer))));
        }
        for (one, other) in self.up.difference(&up) {
            world.session(*one, *other, false);
        }
        for (one, other) in up.difference(&self.up) {
            world.session(*one, *other, true);
        }
        self.up = up;
    }
}

/// Everybody takes a row each second and sessions come and go, for so many seconds.
fn live(world: &mut World, sessions: &mut Sessions, seconds: u32) {
    for second in 0..seconds {
        if second % STAYS == 0 {
            sessions.rotate();
        }
        sessions.settle(world);
        let now = world.now;
        for member in &mut world.members {
            let gauges = Gauges([second as u8; 8]);
            member.core.handle_own_gauges(second, 0, gauges, now);
        }
        world.live(1);
    }
}

fn large(count: usize) -> (World, Sessions) {
    let mut world = World::apart(7, &vec![2; count]);
    world.recorded = false;
    world.least_step = Duration::from_millis(50);
    world.pass(Duration::from_millis(1));
    (world, Sessions::new(count))
}

/// What each of so many nodes sends a second, by kind, and in all with what the tunnel adds.
fn rates(count: usize) -> (BTreeMap<u8, f64>, f64) {
    const SECONDS: u32 = 20;
    let (mut world, mut sessions) = large(count);
    live(&mut world, &mut sessions, 20);
    world.traffic.clear();
    live(&mut world, &mut sessions, SECONDS);
    assert!(world.blames.is_empty(), "{:?}", world.blames);
    let per_node = |bytes: u64| bytes as f64 / f64::from(SECONDS) / count as f64;
    let kinds = world.traffic.iter();
    let kinds = kinds.map(|(kind, (_, bytes))| (*kind, per_node(*bytes)));
    let all = world.traffic.values();
    let all = all
        .map(|(messages, bytes)| messages * OVERHEAD + bytes)
        .sum();
    (kinds.collect(), per_node(all))
}

#[test]
fn a_node_of_a_hundred_and_fifty_sends_what_one_of_fifty_does() {
    let (few, many) = (rates(50), rates(150));
    let told = format!("50: {few:?}; 150: {many:?}");
    println!("{told}");
    assert!((0.95..1.05).contains(&(many.1 / few.1)), "{told}");
    for (kind, rate) in many.0 {
        // Ten bytes: what is said now and then falls unevenly into so short a time.
        let of_few = few.0.get(&kind).copied().unwrap_or(0.0);
        assert!(rate < 1.1 * of_few + 10.0, "kind {kind} of {told}");
    }
}

#[test]
fn rows_and_digests_go_to_those_who_keep_something_together_and_a_session_that_rests_is_no_loss() {
    const COUNT: usize = 80;
    let (mut world, mut sessions) = large(COUNT);
    let keep = |world: &World, at: usize, of: usize| world.members[at].core.keeps(&id(of));
    let before: Vec<_> = (0..COUNT).map(|of| keep(&world, 0, of)).collect();
    world.recorded = true;
    live(&mut world, &mut sessions, 45);

    let of_kind = |wanted: u8| {
        let all = world.sent.iter();
        let all = all.filter(move |(_, _, kind)| *kind == wanted);
        all.map(|(from, to, _)| (*from, *to))
            .collect::<BTreeSet<_>>()
    };
    let (rows, digests) = (of_kind(ROW), of_kind(DIGEST));
    assert!(!rows.is_empty() && !digests.is_empty());
    for (from, to) in rows {
        assert!(keep(&world, to, from), "a row from {from} to {to}");
    }
    for (from, to) in digests {
        let together = |of: usize| keep(&world, from, of) && keep(&world, to, of);
        assert!((0..COUNT).any(together), "a digest from {from} to {to}");
    }
    let after: Vec<_> = (0..COUNT).map(|of| keep(&world, 0, of)).collect();
    assert_eq!(after, before, "what is kept");
    for (at, member) in world.members.iter().enumerate() {
        let lacks = member
            .core
            .backlog()
            .iter()
            .filter(|(_, lacks)| **lacks > 0);
        assert_eq!(lacks.collect::<Vec<_>>(), [], "as node {at} sees it");
    }
}

#[test]
fn somebody_who_shares_nothing_is_answered_what_it_asks() {
    const COUNT: usize = 80;
    let (mut world, mut sessions) = large(COUNT);
    live(&mut world, &mut sessions, 3);
    let strange =
        |at: &usize| !world.wanted[0].contains(&id(*at)) && !world.wanted[*at].contains(&id(0));
    let stranger = (1..COUNT).find(strange).expect("most are strangers");
    world.session(0, stranger, true);
    world.traffic.clear();
    let question = Question::Held(vec![origin_of(id(0))]).encode();
    world.open(stranger, 1 << 40, 0, question);
    world.pass(Duration::from_secs(1));
    let (answers, _) = world.traffic.get(&0).copied().unwrap_or_default();
    assert!(answers > 0);
}

#[test]
fn who_is_looked_at_or_looked_for_is_wanted_at_once_and_for_as_long() {
    const COUNT: usize = 80;
    let (mut world, _) = large(COUNT);
    let usual = world.wanted[0].clone();
    assert_eq!(usual, world.members[0].core.wanted());
    let others = |world: &World| {
        let others = (1..COUNT)
            .map(id)
            .filter(|other| !world.wanted[0].contains(other));
        others.collect::<Vec<_>>()
    };
    let looked_at = others(&world)[0];
    let now = world.now;
    world.members[0].core.handle_look(looked_at, now);
    world.pass(Duration::from_millis(1));
    assert!(world.wanted[0].contains(&looked_at));

    // Nobody is connected, and the node and its keepers can be reached all the same.
    let looked_for = others(&world)[0];
    let now = world.now;
    let holders = world.members[0].core.handle_search(&looked_for, now);
    assert_eq!((holders.len(), holders[0]), (4, looked_for));
    world.pass(Duration::from_millis(1));
    assert!(world.wanted[0].is_superset(&holders.into_iter().collect()));

    world.pass(Duration::from_secs(32));
    assert_eq!(world.wanted[0], usual);

    let mut members: Vec<_> = (0..COUNT).map(snapshot).collect();
    members[at(looked_for)].state = PeerState::Down;
    let now = world.now;
    world.members[0].core.handle_members(&members, now);
    let holders = world.members[0].core.holders(&looked_for, now);
    assert!(
        holders.len() == 3 && !holders.contains(&looked_for),
        "{holders:?}"
    );
}

#[test]
fn where_everybody_has_a_session_who_has_none_cannot_be_asked() {
    let (world, _) = large(40);
    let core = &world.members[0].core;
    assert_eq!(core.holders(&id(7), world.now), []);
}
