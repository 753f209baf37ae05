//! Whose rows are fetched first, and what becomes of those that are kept no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outlast_store::{Epoch, IntervalSet, LogId, StoreId};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::name;
use super::world::Held;
use crate::replica::digest::{self, Coverage, Entry};
use crate::replica::keeper::{EVERYBODY, KEEPERS};
use crate::replica::{Ask, Member, Replica, SETTLE};

fn log_of(origin: usize) -> LogId {
    LogId {
        origin: name(origin),
        store: StoreId(1),
        epoch: Epoch {
            counter: 1,
            nonce: 1,
        },
    }
}

/// Node 0 of so many, connected to all others.
fn replica_of(count: usize, held: Held, now: Instant) -> Replica {
    let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(1), now);
    let members: Vec<_> = (0..count).map(name).map(Member::new).collect();
    replica.handle_members(&members, now);
    replica.handle_store(held, Held::new(), true);
    (1..count).for_each(|peer| replica.handle_connected(name(peer), now));
    replica
}

fn says(log: LogId, held: IntervalSet) -> Vec<Entry> {
    let coverage = Coverage {
        held,
        gone: IntervalSet::new(),
    };
    let none = digest::hash(&Held::new());
    vec![Entry::new(log.origin, none, Some((log, coverage)))]
}

#[test]
fn the_last_day_of_everybody_comes_before_anything_older_and_that_one_request_at_a_time() {
    let start = Instant::now();
    let mut replica = replica_of(3, Held::new(), start);
    for (peer, rows) in [(1, 100_000), (2, 90_000)] {
        let held = [1..=rows].into_iter().collect();
        replica.handle_digest(name(peer), says(log_of(peer), held), start);
    }
    let now = start + SETTLE;
    let mut day: BTreeMap<LogId, u64> = BTreeMap::new();
    let mut old = 0;
    loop {
        let mut requests = Vec::new();
        while let Some(request) = replica.poll_request(now) {
            requests.push(request);
        }
        if requests.is_empty() {
            break;
        }
        let mut older = 0;
        for request in &requests {
            let Ask::Rows { log, rows } = &request.ask else {
                panic!("nothing else is missing");
            };
            let top = if *log == log_of(1) { 100_000 } else { 90_000 };
            if top - rows.last().unwrap() >= 86_400 {
                older += 1;
                old += rows.len();
            } else {
                assert_eq!(old, 0, "the day first");
                *day.entry(*log).or_default() += rows.len();
            }
            replica.handle_stored(*log, rows.first().unwrap(), rows.last().unwrap());
        }
        assert!(older <= 1 && (older == 0 || requests.len() == 1));
        for request in requests {
            replica.handle_done(request.id, now);
        }
    }
    assert!(day.values().all(|rows| *rows >= 86_400), "{day:?}");
    assert_eq!(old + day.values().sum::<u64>(), 190_000);
}

#[test]
fn what_is_kept_no_longer_is_told_of_until_its_keepers_have_it() {
    let now = Instant::now();
    let count = 40;
    let rows: IntervalSet = [1..=600].into_iter().collect();
    // Rows of everybody, from when this was a mesh of few.
    let held: Held = (1..count).map(|of| (log_of(of), rows.clone())).collect();
    let mut replica = replica_of(count, held, now);
    let foreign = (1..count).find(|of| !replica.keeps(&name(*of))).unwrap();
    let told = |replica: &mut Replica, now| {
        let mut told = BTreeSet::new();
        while let Some((to, entries)) = replica.poll_digest(now) {
            let of_it = entries.iter().any(|entry| entry.origin == name(foreign));
            told.extend(of_it.then_some(to));
        }
        told
    };
    let first = told(&mut replica, now);
    let keepers: Vec<_> = first.iter().filter(|to| **to != name(foreign)).collect();
    assert_eq!(keepers.len(), KEEPERS, "its keepers, and itself");
    assert!(
        first
            .iter()
            .all(|keeper| *keeper == name(foreign) || replica.wanted().contains(keeper))
    );

    for keeper in &first {
        replica.handle_digest(*keeper, says(log_of(foreign), rows.clone()), now);
    }
    let held: Held = (1..count).map(|of| (log_of(of), rows.clone())).collect();
    replica.handle_store(held, Held::new(), true);

    let later = now + Duration::from_secs(70);
    assert_eq!(told(&mut replica, later), BTreeSet::new());
    assert_eq!(
        replica.held(&name(foreign)).len(),
        1,
        "and nothing is dropped"
    );
}

#[test]
fn what_all_keepers_let_go_comes_back_to_an_origin_that_lost_it() {
    let start = Instant::now();
    let count = 40;
    let rows: IntervalSet = [1..=600].into_iter().collect();
    let all: Held = (1..count).map(|of| (log_of(of), rows.clone())).collect();
    let mut replica = replica_of(count, all.clone(), start);
    let foreign = (1..count).find(|of| !replica.keeps(&name(*of))).unwrap();
    let told = |replica: &mut Replica, now| -> BTreeSet<_> {
        let digests = std::iter::from_fn(|| replica.poll_digest(now));
        let of_it = |entries: &[Entry]| entries.iter().any(|of| of.origin == name(foreign));
        let of_it = digests.filter(|(_, entries)| of_it(entries));
        of_it.map(|(to, _)| to).collect()
    };
    // Everybody has them, or had them and let them go; the origin has none.
    for keeper in told(&mut replica, start) {
        let gone = keeper != name(foreign);
        let coverage = Coverage {
            held: IntervalSet::new(),
            gone: if gone {
                rows.clone()
            } else {
                IntervalSet::new()
            },
        };
        let none = digest::hash(&Held::new());
        let entry = Entry::new(name(foreign), none, Some((log_of(foreign), coverage)));
        replica.handle_digest(keeper, vec![entry], start);
    }
    replica.handle_store(all.clone(), Held::new(), true);
    let later = start + Duration::from_secs(70);
    let origin = BTreeSet::from([name(foreign)]);
    assert_eq!(told(&mut replica, later), origin, "it lacks them");
    assert!(replica.wanted().contains(&name(foreign)));

    // It has them, and loses them again: once while it is away, once without a word.
    let has_them = |replica: &mut Replica, now| {
        replica.handle_digest(name(foreign), says(log_of(foreign), rows.clone()), now);
        replica.handle_store(all.clone(), Held::new(), true);
    };
    has_them(&mut replica, later);
    let later = later + Duration::from_secs(70);
    assert_eq!(told(&mut replica, later), BTreeSet::new());
    replica.handle_disconnected(name(foreign), later);
    replica.handle_connected(name(foreign), later);
    replica.handle_store(all.clone(), Held::new(), true);
    assert_eq!(told(&mut replica, later), origin, "it was away");
    has_them(&mut replica, later);
    let later = later + Duration::from_secs(70);
    assert_eq!(told(&mut replica, later), BTreeSet::new());
    let later = later + Duration::from_secs(3_600);
    told(&mut replica, later);
    replica.handle_store(all.clone(), Held::new(), true);
    let later = later + Duration::from_secs(70);
    assert_eq!(told(&mut replica, later).len(), 1 + KEEPERS, "an hour");
}

#[test]
fn a_node_of_a_large_mesh_talks_to_few_and_one_of_a_small_mesh_to_all() {
    let now = Instant::now();
    let digests = |count: usize| {
        let own = [1..=100].into_iter().collect();
        let mut replica = replica_of(count, Held::from([(log_of(0), own)]), now);
        let wanted = replica.wanted();
        let to: BTreeSet<_> = std::iter::from_fn(|| replica.poll_digest(now))
            .map(|(to, _)| to)
            .collect();
        (to, wanted)
    };
    let (to, wanted) = digests(EVERYBODY);
    assert_eq!((to.len(), wanted.len()), (15, 15));
    let sizes = [60, 120, 240].map(|count| {
        let (to, wanted) = digests(count);
        assert!(to.is_subset(&wanted));
        to.len().max(wanted.len())
    });
    assert!(sizes.iter().all(|size| *size <= 12), "{sizes:?}");
}

#[test]
fn rows_count_as_delivered_once_every_keeper_that_counts_has_them() {
    let now = Instant::now();
    let own: IntervalSet = [1..=100].into_iter().collect();
    let mut replica = replica_of(3, Held::from([(log_of(0), own)]), now);
    let few = [1..=60].into_iter().collect();
    replica.handle_digest(name(1), says(log_of(0), few), now);
    assert_eq!(replica.delivered(), BTreeMap::new());
    replica.handle_digest(
        name(2),
        says(log_of(0), [1..=80].into_iter().collect()),
        now,
    );
    assert_eq!(
        replica.delivered(),
        BTreeMap::from([(log_of(0), [1..=60].into_iter().collect())])
    );

    let mut members: Vec<_> = (0..3).map(name).map(Member::new).collect();
    members[1].may_be_off = true;
    replica.handle_members(&members, now);
    assert_eq!(
        replica.delivered(),
        BTreeMap::from([(log_of(0), [1..=80].into_iter().collect())])
    );
}

#[test]
fn those_who_come_and_go_and_share_nothing_leave_nothing_behind() {
    let start = Instant::now();
    let mut replica = replica_of(200, Held::new(), start);
    for number in 0..200 {
        replica.handle_disconnected(name(number), start);
    }
    assert_eq!(replica.peers.len(), 0);
    replica.handle_connected(name(1), start);
    replica.handle_digest(
        name(1),
        says(log_of(1), [1..=9].into_iter().collect()),
        start,
    );
    replica.handle_disconnected(name(1), start);
    assert_eq!(replica.peers.len(), 1, "it told of rows");
}
