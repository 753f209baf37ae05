//! A replica that looks only when something stirred it asks for the same as one that looks at every turn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use outlast_store::{Epoch, IntervalSet, LogId, Origin, Room, Seq, StoreId};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::name;
use super::world::Held;
use crate::replica::digest::{self, Coverage, Entry};
use crate::replica::{Ask, Member, Replica, Request};

const MEMBERS: usize = 20;
const INPUTS: usize = 300;

#[test]
fn a_calm_replica_misses_nothing() {
    for seed in 0..30 {
        let mut pair = Pair::new(seed);
        for _ in 0..INPUTS {
            let input = pair.any_input();
            pair.take(&input);
            pair.compare();
            pair.wait();
            pair.compare();
        }
        assert!(pair.requests > 0, "seed {seed}: nothing was asked for");
        assert!(pair.calm > INPUTS / 10, "seed {seed}: never calm");
    }
}

#[test]
fn a_digest_of_rows_that_are_held_leaves_nothing_to_look_for() {
    let now = Instant::now();
    let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(1), now);
    let log = log_of(1, 1);
    let held = Held::from([(log, coverage(1..=5).held)]);
    replica.handle_store(held, Held::new(), true);
    replica.handle_members(&[Member::new(name(0)), Member::new(name(1))], now);
    replica.handle_connected(name(1), now);
    replica.suspects.clear();
    let digest = |rows| {
        let closed = digest::hash(&Held::new());
        vec![Entry::new(log.origin, closed, Some((log, coverage(rows))))]
    };
    replica.handle_digest(name(1), digest(1..=5), now);
    assert_eq!(replica.suspects, BTreeSet::new());
    replica.handle_digest(name(1), digest(1..=6), now);
    assert_eq!(replica.suspects, BTreeSet::from([log]));
}

#[derive(Debug)]
enum Input {
    Members(Vec<Member>),
    Room(bool),
    Connected(Origin),
    Disconnected(Origin),
    Digest(Origin, Entry),
    Held(u64, Origin, Origin, LogId, Coverage),
    Row(LogId, Seq),
    HandedOn(Origin, LogId, Seq),
    Stored(LogId, Seq, Seq),
    Refused(Option<Origin>, LogId, Seq),
    PeerHas(Origin, LogId, Seq, Seq),
    Unsealed(Vec<(LogId, Seq)>),
    Progress(u64),
    Done(u64),
    Failed(u64),
}

/// Two replicas that are told the same; the second is stirred before each question.
struct Pair {
    seed: u64,
    random: ChaCha8Rng,
    now: Instant,
    calm_one: Replica,
    restless: Replica,
    tops: BTreeMap<LogId, Seq>,
    asked: BTreeMap<u64, Request>,
    requests: usize,
    calm: usize,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let running = log_of(0, 2);
        let replica = || {
            let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(seed), now);
            replica.handle_started(running);
            replica.handle_store(Held::new(), Held::new(), true);
            replica
        };
        let mut pair = Self {
            seed,
            random: ChaCha8Rng::seed_from_u64(seed),
            now,
            calm_one: replica(),
            restless: replica(),
            tops: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            calm: 0,
        };
        let members = pair.members();
        pair.take(&Input::Members(members));
        for peer in 1..MEMBERS {
            pair.take(&Input::Connected(name(peer)));
        }
        pair.compare();
        pair
    }

    /// Few or many, and by the seed of several sites, some of which pay for traffic.
    fn members(&mut self) -> Vec<Member> {
        let count = if self.seed.is_multiple_of(2) {
            5
        } else {
            MEMBERS
        };
        let member = |who: usize| Member {
            absent: who > 0 && self.random.random_ratio(1, 10),
            site: (self.seed % 3 == 1).then(|| format!("site-{}", who % 2)),
            metered: self.seed % 5 == 1 && who.is_multiple_of(7),
            ..Member::new(name(who))
        };
        (0..count).map(member).collect()
    }

    fn any_input(&mut self) -> Input {
        let peer = name(self.random.random_range(1..MEMBERS));
        let log = self.any_log();
        let top = *self.tops.entry(log).or_insert(100);
        let somewhere = self.random.random_range(1..=top);
        let (low, high) = (somewhere, (somewhere + 70).min(top));
        let asked: Vec<u64> = self.asked.keys().copied().collect();
        let one = (!asked.is_empty()).then(|| asked[self.random.random_range(0..asked.len())]);
        match self.random.random_range(0..100) {
            0 => Input::Members(self.members()),
            1 => Input::Room(self.random.random_ratio(2, 3)),
            2..=4 => Input::Connected(peer),
            5 | 6 => Input::Disconnected(peer),
            7..=16 => Input::Digest(peer, self.claim(log, 1..=top)),
            17..=20 => Input::Digest(peer, self.claim(log, low..=high)),
            21..=24 => Input::Refused(self.random.random_bool(0.5).then_some(peer), log, low),
            25..=28 => Input::PeerHas(peer, log, low, high),
            29..=31 => Input::Unsealed(vec![(log, 1), (log, 61)]),
            32..=40 => one.map_or(Input::Row(log, low), Input::Done),
            41..=44 => one.map_or(Input::Row(log, low), Input::Failed),
            45..=48 => one.map_or(Input::Row(log, low), Input::Progress),
            49..=52 => self
                .answer(one, peer)
                .unwrap_or(Input::Stored(log, low, high)),
            53..=58 => Input::Stored(log, low, high),
            59..=64 => Input::HandedOn(peer, log, self.next(log, 1)),
            65..=68 => Input::Row(log, self.next(log, 9)),
            _ => Input::Row(log, self.next(log, 1)),
        }
    }

    fn any_log(&mut self) -> LogId {
        let origin = self.random.random_range(1..MEMBERS);
        let origin = if self.random.random_ratio(2, 3) {
            origin % 4
        } else {
            origin
        };
        log_of(origin, self.random.random_range(1..=2))
    }

    fn next(&mut self, log: LogId, step: Seq) -> Seq {
        let top = self.tops.entry(log).or_insert(100);
        *top += step;
        *top
    }

    fn claim(&mut self, log: LogId, rows: RangeInclusive<Seq>) -> Entry {
        let closed = if self.random.random_ratio(1, 4) {
            [7; 16]
        } else {
            digest::hash(&Held::new())
        };
        Entry::new(log.origin, closed, Some((log, coverage(rows))))
    }

    /// What a peer says of all its logs, where it was asked.
    fn answer(&self, id: Option<u64>, peer: Origin) -> Option<Input> {
        let request = self.asked.get(&id?)?;
        let Ask::Held { origins } = &request.ask else {
            return None;
        };
        let log = LogId {
            origin: *origins.first()?,
            ..log_of(1, 1)
        };
        Some(Input::Held(id?, peer, log.origin, log, coverage(1..=180)))
    }

    fn take(&mut self, input: &Input) {
        let now = self.now;
        if let Input::Done(id) | Input::Failed(id) = input {
            self.asked.remove(id);
        }
        for replica in [&mut self.calm_one, &mut self.restless] {
            match input {
                Input::Members(members) => replica.handle_members(members, now),
                Input::Room(copies) => replica.handle_room(Room {
                    copies: *copies,
                    own: true,
                }),
                Input::Connected(peer) => replica.handle_connected(*peer, now),
                Input::Disconnected(peer) => replica.handle_disconnected(*peer, now),
                Input::Digest(peer, entry) => {
                    replica.handle_digest(*peer, vec![entry.clone()], now);
                }
                Input::Held(id, peer, origin, log, coverage) => {
                    let logs = BTreeMap::from([(*log, coverage.clone())]);
                    replica.handle_held(*id, *peer, *origin, logs, now);
                }
                Input::Row(log, seq) => {
                    replica.handle_row(*log, *seq, 3, now);
                    replica.handle_fresh(*log, *seq, now);
                }
                Input::HandedOn(from, log, seq) => {
                    replica.handle_handed_on(*log, *seq);
                    replica.handle_believed(*from, *log, *seq, 3, now);
                    replica.handle_fresh(*log, *seq, now);
                }
                Input::Stored(log, first, last) => replica.handle_stored(*log, *first, *last),
                Input::Refused(from, log, seq) => replica.handle_refused(*from, *log, *seq, *seq),
                Input::PeerHas(peer, log, first, last) => {
                    replica.handle_peer_has(*peer, *log, *first, *last);
                }
                Input::Unsealed(windows) => replica.handle_unsealed(windows, now),
                Input::Progress(id) => replica.handle_progress(*id, now),
                Input::Done(id) => replica.handle_done(*id, now),
                Input::Failed(id) => replica.handle_failed(*id, now),
            }
        }
    }

    /// Time passes: to what is due next at either, or a little.
    fn wait(&mut self) {
        self.restless.stir();
        let due = [&self.calm_one, &self.restless].map(|replica| replica.poll_timeout(self.now));
        let due = due.into_iter().flatten().min().map(|(at, _)| at);
        let little = self.now + Duration::from_millis(self.random.random_range(0..400));
        let to_due = self.random.random_ratio(1, 3);
        self.now = due.filter(|_| to_due).unwrap_or(little);
    }

    /// Asks both as the flow does, once more than something comes.
    fn compare(&mut self) {
        let now = self.now;
        self.calm += usize::from(self.calm_one.is_calm(now));
        let said = [
            questions(&mut self.calm_one, now, false),
            questions(&mut self.restless, now, true),
        ];
        assert_eq!(said[0], said[1], "seed {}", self.seed);
        for id in &said[0].1 {
            self.asked.remove(id);
        }
        self.requests += said[0].2.len();
        self.asked.extend(
            said[0]
                .2
                .iter()
                .map(|request| (request.id, request.clone())),
        );
        self.restless.stir();
        let never = now + Duration::from_secs(86_400);
        let [calm, restless] = [&self.calm_one, &self.restless]
            .map(|replica| replica.poll_timeout(now).map_or(never, |(at, _)| at));
        assert!(calm <= restless, "seed {}: due too late", self.seed);
    }
}

type Said = (Vec<(Origin, Vec<Entry>)>, BTreeSet<u64>, Vec<Request>);

fn questions(replica: &mut Replica, now: Instant, restless: bool) -> Said {
    let stirred = |replica: &mut Replica| {
        if restless {
            replica.stir();
        }
    };
    let digests = std::iter::from_fn(|| {
        stirred(replica);
        replica.poll_digest(now)
    });
    let digests = digests.collect();
    let given_up = std::iter::from_fn(|| replica.poll_given_up(now)).collect();
    let requests = std::iter::from_fn(|| {
        stirred(replica);
        replica.poll_request(now)
    });
    (digests, given_up, requests.collect())
}

fn coverage(rows: RangeInclusive<Seq>) -> Coverage {
    Coverage {
        held: [rows].into_iter().collect(),
        gone: IntervalSet::new(),
    }
}

fn log_of(origin: usize, epoch: u32) -> LogId {
    LogId {
        origin: name(origin),
        store: StoreId(1),
        epoch: Epoch {
            counter: epoch,
            nonce: 0,
        },
    }
}
