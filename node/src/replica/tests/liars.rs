//! Peers that are silent, forge, or claim what isn't so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_store::{Epoch, IntervalSet, LogId, Room, StoreId};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::name;
use super::world::{Held, World};
use crate::replica::digest::{self, Coverage, Entry};
use crate::replica::peer::Peer;
use crate::replica::{Ask, DIGEST_EVERY, LOGS_OF_ONE, Member, Offence, Replica, SETTLE};

#[test]
fn a_peer_that_never_answers_costs_ten_seconds_and_the_next_holder_is_asked() {
    let now = Instant::now();
    let mut replica = replica_of(4, now);
    let log = log_of(3, 1);
    let some: IntervalSet = [1..=50].into_iter().collect();
    for peer in [1, 2] {
        replica.handle_connected(name(peer), now);
        replica.handle_digest(
            name(peer),
            claim(log, some.clone(), IntervalSet::new()),
            now,
        );
    }
    let first = replica.poll_request(now).unwrap();
    assert_eq!(
        replica.poll_request(now),
        None,
        "nothing is asked for twice"
    );
    let later = now + Duration::from_secs(10);
    assert_eq!(replica.poll_given_up(later), Some(first.id));
    let second = replica.poll_request(later).unwrap();
    assert_ne!(first.peer, second.peer);
    assert!(matches!(second.ask, Ask::Rows { rows, .. } if rows.contains(1)));
}

#[test]
fn a_forged_row_is_not_asked_of_the_same_peer_again() {
    let now = Instant::now();
    let mut replica = replica_of(2, now);
    let log = log_of(1, 1);
    let some: IntervalSet = [1..=50].into_iter().collect();
    replica.handle_connected(name(1), now);
    replica.handle_digest(name(1), claim(log, some.clone(), IntervalSet::new()), now);
    let request = replica.poll_request(now).unwrap();
    replica.handle_refused(Some(name(1)), log, 1, 48);
    replica.handle_done(request.id, now);
    replica.handle_digest(name(1), claim(log, some, IntervalSet::new()), now);
    assert_eq!(replica.poll_request(now), None);
}

#[test]
fn rows_that_the_disk_has_no_room_for_are_asked_for_once_it_has() {
    let now = Instant::now();
    let mut replica = replica_of_three(now);
    let (theirs, own) = (log_of(1, 1), log_of(0, 1));
    let all: IntervalSet = [1..=100].into_iter().collect();
    let no_copies = Room {
        own: true,
        copies: false,
    };
    replica.handle_room(no_copies);
    replica.handle_digest(name(1), claim(theirs, all.clone(), IntervalSet::new()), now);
    for second in 0..60 {
        let at = now + SETTLE + Duration::from_secs(second);
        assert_eq!(replica.poll_request(at), None);
    }
    let later = now + Duration::from_secs(61);
    replica.handle_digest(name(2), claim(own, all.clone(), IntervalSet::new()), later);
    let asked = |request: Option<crate::replica::Request>| match request.map(|r| r.ask) {
        Some(Ask::Rows { log, .. }) => Some(log),
        _ => None,
    };
    let request = replica.poll_request(later + SETTLE);
    assert_eq!(asked(request), Some(own), "its own it wants all the same");
    replica.handle_room(Room::default());
    let request = replica.poll_request(later + SETTLE);
    assert_eq!(asked(request), Some(theirs));

    let none = Room {
        own: false,
        copies: false,
    };
    let mut replica = replica_of_three(now);
    replica.handle_room(none);
    replica.handle_digest(name(1), claim(own, all, IntervalSet::new()), now);
    assert_eq!(replica.poll_request(now + SETTLE), None);
    replica.handle_room(no_copies);
    let request = replica.poll_request(now + SETTLE * 2);
    assert_eq!(asked(request), Some(own));
}

/// What it claims is looked through when it can be asked, and then not all at once.
#[test]
fn fifteen_thousand_logs_of_a_liar_that_rests_hold_up_no_request() {
    let now = Instant::now();
    let mut replica = listening(now, 16);
    for origin in 1..16 {
        let log = |epoch: u32| log_of(origin, 1_000 + epoch);
        let some = || Coverage {
            held: [1..=4].into_iter().collect(),
            gone: IntervalSet::new(),
        };
        let logs = (0..1_000).map(|epoch| (log(epoch), some())).collect();
        replica.handle_held(1, name(15), name(origin), logs, now);
    }
    assert_eq!(replica.suspects.len(), 15_000);
    let mut now = now + SETTLE * 2;
    for _ in 0..2 {
        assert_eq!(replica.poll_request(now).unwrap().peer, name(15));
        assert!(replica.looked_at <= LOGS_OF_ONE, "{}", replica.looked_at);
    }
    for round in 1..=5 {
        now += SETTLE * 2;
        let rows = claimed(log_of(1, 5_000), 1..=round * 240);
        replica.handle_digest(name(1), rows, now);
        now += SETTLE;
        let request = replica.poll_request(now).unwrap();
        assert_eq!(request.peer, name(1));
        assert!(replica.looked_at < 1_010, "{}", replica.looked_at);
        replica.handle_stored(log_of(1, 5_000), 1, round * 240);
        replica.handle_done(request.id, now);
    }
}

#[test]
fn logs_of_those_who_left_do_not_stay_suspect_without_end() {
    let mut now = Instant::now();
    let mut replica = replica_of_three(now);
    for counter in 1..=20 {
        let logs = (0..500).map(|log| (log_of(1, counter * 500 + log), Coverage::default()));
        replica.handle_held(1, name(2), name(1), logs.collect(), now);
        now += SETTLE;
        replica.poll_request(now);
    }
    assert!(
        replica.suspects.len() <= 1_500,
        "{}",
        replica.suspects.len()
    );
}

#[test]
fn rows_a_liar_calls_gone_are_fetched_from_whoever_has_them() {
    let now = Instant::now();
    let mut replica = replica_of_three(now);
    let log = log_of(1, 1);
    let all: IntervalSet = [1..=100].into_iter().collect();
    replica.handle_digest(name(2), claim(log, IntervalSet::new(), all.clone()), now);
    replica.handle_digest(name(1), claim(log, all, IntervalSet::new()), now);
    let later = now + SETTLE;
    let request = replica.poll_request(later).unwrap();
    assert_eq!(request.peer, name(1));
    assert!(
        matches!(request.ask, Ask::Rows { rows, .. } if rows == [1..=100].into_iter().collect())
    );
}

#[test]
fn a_peer_that_had_let_rows_go_and_has_them_again_is_asked_for_them() {
    let now = Instant::now();
    let mut replica = replica_of_three(now);
    let log = log_of(1, 1);
    let all: IntervalSet = [1..=100].into_iter().collect();
    replica.handle_digest(name(2), claim(log, IntervalSet::new(), all.clone()), now);
    assert_eq!(replica.poll_request(now + SETTLE), None, "nobody has them");

    let later = now + DIGEST_EVERY;
    replica.handle_digest(name(2), claim(log, all, IntervalSet::new()), later);
    let request = replica.poll_request(later + SETTLE).unwrap();
    assert_eq!(request.peer, name(2));
    assert_eq!(replica.poll_offence(), None);
}

#[test]
fn digests_that_full_answers_do_not_bear_out_are_named_and_an_honest_change_is_not() {
    let start = Instant::now();
    let (log, open) = (log_of(1, 1), log_of(1, 2));
    let held = |last| Coverage {
        held: [1..=last].into_iter().collect(),
        gone: IntervalSet::new(),
    };
    let answer = |last| BTreeMap::from([(log, held(last)), (open, held(5))]);
    let hash = |last| digest::hash(&BTreeMap::from([(log, held(last).held)]));
    // What the digests say before and after each answer, what the answer says, and whether that is a lie.
    for (before, said, after, lie) in [
        (90, 100, 90, true),
        (90, 100, 100, false),
        (90, 90, 90, false),
    ] {
        let mut replica = replica_of_three(start);
        let mut named = 0;
        for round in 0..20 {
            let now = start + DIGEST_EVERY * 7 * round;
            for (closed, at) in [(before, now), (after, now + DIGEST_EVERY)] {
                let entry = Entry::new(log.origin, hash(closed), Some((open, held(5))));
                replica.handle_digest(name(2), vec![entry], at);
                while let Some(request) = replica.poll_request(at) {
                    if matches!(request.ask, Ask::Held { .. }) {
                        replica.handle_held(request.id, name(2), log.origin, answer(said), at);
                        replica.handle_done(request.id, at);
                    } else {
                        replica.handle_failed(request.id, at);
                    }
                }
                named += std::iter::from_fn(|| replica.poll_offence())
                    .filter(|offence| *offence == (name(2), Offence::Contradiction))
                    .count();
            }
        }
        assert_eq!(
            named > 0,
            lie,
            "{before}, {said}, {after}: named {named} times"
        );
    }
}

#[test]
fn who_claims_rows_and_never_has_any_is_named_asked_ever_less_and_holds_nobody_up() {
    let start = Instant::now();
    let mut replica = replica_of_three(start);
    let (bogus, real) = (log_of(1, 9), log_of(1, 1));
    let own = log_of(0, 3);
    let (mut asked, mut named, mut real_asked) = (0, 0, 0);
    for tenth in 0..6_000 {
        let now = start + Duration::from_millis(tenth * 100);
        if tenth % 100 == 0 {
            let everything: IntervalSet = [1..=u32::MAX].into_iter().collect();
            let none = IntervalSet::new;
            replica.handle_digest(name(2), claim(bogus, everything.clone(), none()), now);
            replica.handle_digest(name(2), claim(own, everything, none()), now);
            let seq = u32::try_from(tenth).unwrap() + 10;
            let some = [1..=seq].into_iter().collect();
            replica.handle_digest(name(1), claim(real, some, none()), now);
        }
        while replica.poll_given_up(now).is_some() {}
        while let Some(request) = replica.poll_request(now) {
            let Ask::Rows { log, rows } = request.ask else {
                continue;
            };
            if request.peer == name(2) {
                asked += 1;
            } else {
                real_asked += 1;
                let (first, last) = (rows.first().unwrap(), rows.last().unwrap());
                replica.handle_stored(log, first, last);
            }
            replica.handle_done(request.id, now);
        }
        named += std::iter::from_fn(|| replica.poll_offence()).count();
    }
    assert!(
        (5..40).contains(&asked),
        "asked {asked} times in ten minutes"
    );
    assert!(named > 0);
    assert!(
        real_asked >= 30,
        "the honest one was asked {real_asked} times"
    );
    let end = start + Duration::from_secs(600);
    assert!(
        replica.own_runs_recovered(end),
        "a lie about our own runs seals nothing off"
    );
}

#[test]
fn claims_of_logs_and_ranges_without_end_are_refused_named_and_cheap_to_look_through() {
    let start = Instant::now();
    let mut replica = replica_of_three(start);
    let scattered: IntervalSet = (0..12).map(|at| at * 3 + 1..=at * 3 + 1).collect();
    for counter in 1..=20_000 {
        let of = log_of(2, counter);
        replica.handle_digest(
            name(2),
            claim(of, scattered.clone(), IntervalSet::new()),
            start,
        );
    }
    let claimed = &replica.peers[&name(2)].logs;
    let ranges: usize = claimed
        .values()
        .map(|coverage| coverage.held.ranges().len())
        .sum();
    assert!(ranges <= 65_536, "{ranges}");
    assert!(claimed.len() <= digest::MAX_LOGS);
    assert_eq!(replica.poll_offence(), Some((name(2), Offence::Claims)));

    let later = start + SETTLE;
    while let Some(request) = replica.poll_request(later) {
        replica.handle_done(request.id, later);
    }
    let (again, _) = replica.poll_timeout(later).unwrap();
    assert!(again > later);
    assert_eq!(replica.poll_request(later + Duration::from_millis(1)), None);
}

#[test]
fn a_request_that_trickles_is_given_up_in_the_end() {
    let start = Instant::now();
    let mut replica = replica_of_three(start);
    let all: IntervalSet = [1..=100].into_iter().collect();
    replica.handle_digest(name(2), claim(log_of(1, 1), all, IntervalSet::new()), start);
    let request = replica.poll_request(start + SETTLE).unwrap();
    let given_up = (3..1_000).find(|second| {
        let now = start + Duration::from_secs(*second);
        replica.handle_progress(request.id, now);
        replica.poll_given_up(now) == Some(request.id)
    });
    assert_eq!(given_up, Some(302));
}

#[test]
fn many_refused_rows_in_a_row_are_one_run_and_leave_the_peer_of_use() {
    let now = Instant::now();
    let mut peer = Peer::new(now);
    peer.connected = Some(now);
    let world = World::new(1, 1);
    let log = world.nodes[0].running;
    for seq in 1..=5_000 {
        peer.refuse(log, seq, seq);
    }
    assert!(peer.is_of_use());
    for seq in (10_000..=14_000).step_by(2) {
        peer.refuse(log, seq, seq);
    }
    assert!(!peer.is_of_use(), "the bound holds");
}

/// What a liar, node 2, says of a log of node 1.
fn claim(log: LogId, held: IntervalSet, gone: IntervalSet) -> Vec<Entry> {
    let none = digest::hash(&Held::new());
    let coverage = Coverage { held, gone };
    vec![Entry::new(log.origin, none, Some((log, coverage)))]
}

fn log_of(origin: usize, counter: u32) -> LogId {
    LogId {
        origin: name(origin),
        store: StoreId(1),
        epoch: Epoch { counter, nonce: 1 },
    }
}

/// Node 0 of three, connected to the others.
fn replica_of_three(now: Instant) -> Replica {
    let mut replica = replica_of(3, now);
    replica.handle_connected(name(1), now);
    replica.handle_connected(name(2), now);
    replica
}

/// Node 0 of so many, connected to nobody.
fn replica_of(count: usize, now: Instant) -> Replica {
    let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(1), now);
    let members: Vec<_> = (0..count).map(name).map(Member::new).collect();
    replica.handle_members(&members, now);
    replica.handle_store(Held::new(), Held::new(), true);
    replica
}

/// A replica that everybody of so many is connected to and that holds nothing.
fn listening(now: Instant, count: usize) -> Replica {
    let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(1), now);
    let members: Vec<_> = (0..count).map(name).map(Member::new).collect();
    replica.handle_members(&members, now);
    replica.handle_store(Held::new(), Held::new(), true);
    (1..count).for_each(|peer| replica.handle_connected(name(peer), now));
    replica
}

fn claimed(log: LogId, held: std::ops::RangeInclusive<u32>) -> Vec<Entry> {
    let held = [held].into_iter().collect();
    let gone = IntervalSet::new();
    let open = Some((log, Coverage { held, gone }));
    vec![Entry::new(log.origin, digest::hash(&Held::new()), open)]
}

/// The origins whose rows are asked for, in order.
fn origins_asked(replica: &mut Replica, now: Instant) -> Vec<usize> {
    let requests = std::iter::from_fn(|| replica.poll_request(now));
    let origins = requests.filter_map(|request| match request.ask {
        Ask::Rows { log, .. } => Some(usize::from(log.origin.0[0]) - 1),
        _ => None,
    });
    origins.collect()
}

#[test]
fn a_row_nobody_took_makes_nobodys_missing_rows_old() {
    let asked = |lie: bool| {
        let now = Instant::now();
        let mut replica = listening(now, 5);
        replica.handle_digest(name(1), claimed(log_of(1, 1), 1..=50_000), now);
        replica.handle_digest(name(2), claimed(log_of(2, 1), 1..=70_000), now);
        if lie {
            let far = 4_000_000_000..=4_000_000_000;
            replica.handle_digest(name(4), claimed(log_of(1, 1), far.clone()), now);
            replica.handle_digest(name(4), claimed(log_of(1, 9), far), now);
        }
        let asked = origins_asked(&mut replica, now + SETTLE * 2);
        asked.contains(&1) && asked.contains(&2)
    };
    assert!(asked(false));
    assert!(asked(true));
}

#[test]
fn a_row_that_was_handed_on_says_nothing_of_its_origin_before_the_store_believes_it() {
    let mut now = Instant::now();
    let mut replica = listening(now, 4);
    let held: Held = [(log_of(1, 1), [1..=100].into_iter().collect())].into();
    replica.handle_store(held, Held::new(), true);
    replica.handle_digest(name(1), claimed(log_of(1, 1), 1..=100), now);
    for forged in 0..8 {
        let log = log_of(1, 100 + forged);
        replica.handle_handed_on(log, 7);
        replica.handle_refused(Some(name(2)), log, 7, 7);
        now += Duration::from_secs(70);
        assert_eq!(origins_asked(&mut replica, now), [0; 0]);
    }
    assert_eq!(replica.poll_offence(), None);
    assert_eq!(replica.peers[&name(1)].logs.len(), 1);
}

#[test]
fn the_holes_of_one_origin_push_out_nothing_that_is_known_of_others() {
    let now = Instant::now();
    let mut replica = listening(now, 5);
    for seq in 0..70_000 {
        replica.handle_peer_has(name(2), log_of(4, 1), 2 * seq + 1, 2 * seq + 1);
    }
    let held = [1..=100].into_iter().collect();
    let gone = IntervalSet::new();
    let answer = BTreeMap::from([(log_of(1, 1), Coverage { held, gone })]);
    replica.handle_held(1, name(2), name(1), answer, now);
    assert_eq!(replica.poll_offence(), None);
    assert_eq!(origins_asked(&mut replica, now + SETTLE * 2), [1]);
}

#[test]
fn a_seal_nobody_is_there_to_be_asked_for_holds_up_no_other() {
    let now = Instant::now();
    let mut replica = listening(now, 4);
    replica.handle_disconnected(name(3), now);
    replica.handle_unsealed(&[(log_of(1, 1), 1), (log_of(3, 1), 1)], now);
    let request = replica.poll_request(now).unwrap();
    let windows = vec![(log_of(1, 1), 1)];
    assert_eq!(
        (request.peer, request.ask),
        (name(1), Ask::Seals { windows })
    );

    let later = now + Duration::from_secs(60);
    replica.handle_done(request.id, later);
    replica.handle_unsealed(&[(log_of(3, 1), 1)], later);
    assert_eq!(replica.poll_request(later), None);
    replica.handle_connected(name(3), later);
    let soon = later + Duration::from_secs(10);
    assert_eq!(replica.poll_request(soon).unwrap().peer, name(3));
}
