//! The replica against a plain model of the world, in virtual time.
//!
//! Nodes take a row a second, send it live over a network that loses, doubles, delays and cuts,
//! crash with unsynced rows, and come back, some with an empty disk. The model keeps who holds
//! what; the replicas only hear what the network lets through.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use outlast_store::{Epoch, IntervalSet, LogId, Origin, Seq, StoreId};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::digest::{Coverage, Entry};
use super::{Ask, Replica, Request, SETTLE};

type Held = BTreeMap<LogId, IntervalSet>;

#[test]
fn after_the_faults_stop_all_keepers_hold_equal_sets() {
    for seed in 0..40 {
        let mut world = World::new(seed, 3 + (seed % 3) as usize);
        world.faults(Duration::from_secs(300));
        world.quiet(Duration::from_secs(90));
        world.assert_equal();
    }
}

#[test]
fn the_same_seed_gives_the_same_log_of_events() {
    for seed in [3, 17] {
        let logs: Vec<_> = (0..2)
            .map(|_| {
                let mut world = World::new(seed, 4);
                world.faults(Duration::from_secs(200));
                world.quiet(Duration::from_secs(40));
                world.events
            })
            .collect();
        assert!(logs[0].len() > 200, "seed {seed}: {} events", logs[0].len());
        assert_eq!(logs[0], logs[1], "seed {seed}");
    }
}

#[test]
fn a_cut_of_a_minute_is_whole_five_seconds_after_it_heals() {
    let mut world = World::new(1, 3);
    world.quiet(Duration::from_secs(30));
    world.cut(2, true);
    world.quiet(Duration::from_secs(60));
    assert!(world.backlog_of(0, 2) > 0, "the cut shows as backlog");
    world.cut(2, false);
    world.quiet(Duration::from_secs(6));
    world.assert_equal();
    assert_eq!(world.backlog_of(0, 2), 0);
    assert_eq!(world.backlog_of(2, 0), 0);
}

#[test]
fn a_cut_too_short_to_be_noticed_is_repaired_by_the_next_live_row() {
    let mut world = World::new(2, 3);
    world.quiet(Duration::from_secs(15));
    world.nodes[2].cut = true;
    world.quiet(Duration::from_secs(2));
    world.nodes[2].cut = false;
    world.quiet(Duration::from_millis(4_500));
    world.assert_equal();
}

#[test]
fn a_lost_tail_comes_back_from_a_peer_and_only_then_is_the_run_sealed() {
    let mut world = World::new(5, 3);
    world.quiet(Duration::from_secs(30));
    let before = world.nodes[0].running;
    world.crash(0, 5);
    world.start(0);
    assert!(!world.recovered(0));
    world.quiet(Duration::from_secs(8));
    assert_eq!(world.nodes[0].held[&before], world.nodes[1].held[&before]);
    assert!(world.recovered(0));
}

#[test]
fn a_node_alone_seals_its_earlier_runs_after_a_minute() {
    let mut world = World::new(5, 2);
    world.quiet(Duration::from_secs(10));
    world.crash(1, 0);
    world.crash(0, 2);
    world.start(0);
    world.quiet(Duration::from_secs(58));
    assert!(!world.recovered(0));
    world.quiet(Duration::from_secs(3));
    assert!(world.recovered(0));
}

#[test]
fn a_wiped_node_gets_everything_back_from_those_who_are_left() {
    let mut world = World::new(7, 4);
    world.quiet(Duration::from_secs(200));
    world.crash(0, 0);
    world.crash(3, 0);
    world.nodes[0].wipe();
    world.start(0);
    world.quiet(Duration::from_secs(20));
    let of = |node: usize, origin: usize| -> Held {
        let logs = world.nodes[node].held.iter();
        logs.filter(|(log, _)| log.origin == name(origin))
            .map(|(log, rows)| {
                let mut rows = rows.clone();
                // The last rows of the new run are on their way.
                if log.store != StoreId(origin as u64 + 1) {
                    rows.remove(19..=20);
                }
                (*log, rows)
            })
            .collect()
    };
    // Node 3 is dead: its rows come from holders. Node 0's old rows as well.
    assert_eq!(of(0, 3), of(1, 3));
    assert_eq!(of(0, 0), of(1, 0));
    assert_eq!(of(0, 0).len(), 2, "the old store's log and the new one's");
}

#[test]
fn what_was_evicted_here_is_not_asked_for_again() {
    let mut world = World::new(9, 2);
    world.quiet(Duration::from_secs(130));
    let log = world.nodes[1].running;
    world.nodes[0].evict(log, 1..=60);
    let asked = world.requests;
    world.quiet(Duration::from_secs(40));
    assert!(!world.nodes[0].held[&log].contains(60));
    assert_eq!(world.requests, asked, "and the two count as equal");
}

#[test]
fn a_peer_that_never_answers_costs_ten_seconds_and_the_next_holder_is_asked() {
    let now = Instant::now();
    let log = LogId {
        origin: name(3),
        store: StoreId(1),
        epoch: Epoch {
            counter: 1,
            nonce: 1,
        },
    };
    let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(1), now);
    let members: BTreeSet<_> = (0..4).map(name).collect();
    replica.handle_members(members.clone(), members);
    replica.handle_store(Held::new(), Held::new(), true);
    for peer in [1, 2] {
        replica.handle_connected(name(peer), now);
        let held = [1..=50].into_iter().collect();
        let entry = Entry::new(
            log.origin,
            super::digest::hash(&Held::new()),
            Some((
                log,
                Coverage {
                    held,
                    gone: IntervalSet::new(),
                },
            )),
        );
        replica.handle_digest(name(peer), vec![entry], now);
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
    let log = LogId {
        origin: name(1),
        store: StoreId(1),
        epoch: Epoch {
            counter: 1,
            nonce: 1,
        },
    };
    let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(1), now);
    let members: BTreeSet<_> = (0..2).map(name).collect();
    replica.handle_members(members.clone(), members);
    replica.handle_store(Held::new(), Held::new(), true);
    replica.handle_connected(name(1), now);
    let entry = || {
        let held = [1..=50].into_iter().collect();
        Entry::new(
            log.origin,
            super::digest::hash(&Held::new()),
            Some((
                log,
                Coverage {
                    held,
                    gone: IntervalSet::new(),
                },
            )),
        )
    };
    replica.handle_digest(name(1), vec![entry()], now);
    let request = replica.poll_request(now).unwrap();
    replica.handle_refused(Some(name(1)), log, 1, 48);
    replica.handle_done(request.id, now);
    replica.handle_digest(name(1), vec![entry()], now);
    assert_eq!(replica.poll_request(now), None);
}

/// What a liar, node 2, says of a log of node 1.
fn claim(log: LogId, held: IntervalSet, gone: IntervalSet) -> Vec<Entry> {
    let none = super::digest::hash(&Held::new());
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
    let mut replica = Replica::new(name(0), ChaCha8Rng::seed_from_u64(1), now);
    let members: BTreeSet<_> = (0..3).map(name).collect();
    replica.handle_members(members.clone(), members);
    replica.handle_store(Held::new(), Held::new(), true);
    replica.handle_connected(name(1), now);
    replica.handle_connected(name(2), now);
    replica
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
    assert!(claimed.len() <= super::digest::MAX_LOGS);
    assert_eq!(
        replica.poll_offence(),
        Some((name(2), super::Offence::Claims))
    );

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
fn what_a_running_node_lost_of_its_own_run_comes_back_from_a_peer() {
    let mut world = World::new(11, 2);
    world.quiet(Duration::from_secs(130));
    world.lose(0, 1..=60);
    world.quiet(Duration::from_secs(25));
    let log = world.nodes[0].running;
    assert!(world.nodes[0].held[&log].covers(1..=60));
    let asked = world.requests;
    world.quiet(Duration::from_secs(30));
    assert_eq!(world.requests, asked);
}

#[test]
fn many_refused_rows_in_a_row_are_one_run_and_leave_the_peer_of_use() {
    let now = Instant::now();
    let mut peer = super::Peer::new(now);
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

fn name(index: usize) -> Origin {
    Origin([index as u8 + 1; 32])
}

struct Node {
    up: bool,
    cut: bool,
    replica: Replica,
    store: u64,
    epoch: u32,
    running: LogId,
    next: Seq,
    held: Held,
    gone: Held,
    connected: BTreeSet<usize>,
    /// Rows asked for and not answered, per request.
    asked: BTreeMap<u64, (LogId, IntervalSet)>,
}

impl Node {
    fn wipe(&mut self) {
        self.held.clear();
        self.gone.clear();
        self.store += 100;
        self.epoch = 0;
    }

    fn evict(&mut self, log: LogId, rows: std::ops::RangeInclusive<Seq>) {
        self.held.get_mut(&log).unwrap().remove(rows.clone());
        self.gone.entry(log).or_default().insert(rows);
        self.replica
            .handle_store(self.held.clone(), self.gone.clone(), true);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Live {
        to: usize,
        log: LogId,
        seq: Seq,
    },
    Digest {
        from: usize,
        to: usize,
        life: u32,
        index: usize,
    },
    Serve {
        from: usize,
        to: usize,
        id: u64,
        life: (u32, u32),
    },
    Answer {
        from: usize,
        to: usize,
        id: u64,
        life: (u32, u32),
    },
    Tick,
    Link {
        a: usize,
        b: usize,
    },
}

struct World {
    start: Instant,
    at: Duration,
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
    queue: BinaryHeap<std::cmp::Reverse<(Duration, u64, Happening)>>,
    order: u64,
    digests: Vec<Vec<Entry>>,
    requests_open: BTreeMap<(usize, u64), Request>,
    loss: f64,
    requests: u64,
    events: Vec<String>,
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            at: Duration::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            digests: Vec::new(),
            requests_open: BTreeMap::new(),
            loss: 0.0,
            requests: 0,
            events: vec![],
        };
        for index in 0..count {
            let running = LogId {
                origin: name(index),
                store: StoreId(0),
                epoch: Epoch {
                    counter: 0,
                    nonce: 0,
                },
            };
            world.nodes.push(Node {
                up: false,
                cut: false,
                replica: Replica::new(name(index), ChaCha8Rng::seed_from_u64(seed), start),
                store: index as u64 + 1,
                epoch: 0,
                running,
                next: 1,
                held: Held::new(),
                gone: Held::new(),
                connected: BTreeSet::new(),
                asked: BTreeMap::new(),
            });
        }
        (0..count).for_each(|index| world.start(index));
        world.after(Duration::from_secs(1), Happening::Tick);
        world
    }

    fn now(&self) -> Instant {
        self.start + self.at
    }

    fn after(&mut self, delay: Duration, what: Happening) {
        self.order += 1;
        self.queue
            .push(std::cmp::Reverse((self.at + delay, self.order, what)));
    }

    fn note(&mut self, text: String) {
        self.events.push(format!("{:?} {text}", self.at));
    }

    fn start(&mut self, index: usize) {
        let now = self.now();
        let members: BTreeSet<_> = (0..self.nodes.len()).map(name).collect();
        let node = &mut self.nodes[index];
        node.epoch += 1;
        node.up = true;
        node.next = 1;
        node.running = LogId {
            origin: name(index),
            store: StoreId(node.store),
            epoch: Epoch {
                counter: node.epoch,
                nonce: u64::from(node.epoch) * 7,
            },
        };
        node.replica = Replica::new(
            name(index),
            ChaCha8Rng::seed_from_u64(node.epoch.into()),
            now,
        );
        node.replica.handle_members(members.clone(), members);
        node.replica.handle_started(node.running);
        node.replica
            .handle_store(node.held.clone(), node.gone.clone(), true);
        self.note(format!("start {index}"));
        self.relink(index);
    }

    /// The node dies and its last `unsynced` rows of each log with it.
    fn crash(&mut self, index: usize, unsynced: u32) {
        let node = &mut self.nodes[index];
        node.up = false;
        node.connected.clear();
        node.asked.clear();
        self.requests_open.retain(|(who, _), _| *who != index);
        let node = &mut self.nodes[index];
        for rows in node.held.values_mut() {
            if let Some(last) = rows.last() {
                rows.remove(last.saturating_sub(unsynced) + 1..=last);
            }
        }
        self.note(format!("crash {index}"));
        self.relink(index);
    }

    /// A generation of this node's store is damaged while it runs.
    fn lose(&mut self, index: usize, rows: std::ops::RangeInclusive<Seq>) {
        let node = &mut self.nodes[index];
        node.held.get_mut(&node.running).unwrap().remove(rows);
        node.replica
            .handle_store(node.held.clone(), node.gone.clone(), true);
    }

    fn cut(&mut self, index: usize, cut: bool) {
        self.nodes[index].cut = cut;
        self.note(format!("cut {index} {cut}"));
        self.relink(index);
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        let open = |node: &Node| node.up && !node.cut;
        open(&self.nodes[a]) && open(&self.nodes[b])
    }

    fn relink(&mut self, index: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            let open = self.reaches(index, other);
            for (a, b) in [(index, other), (other, index)] {
                let delay = if open {
                    300
                } else {
                    self.rng.random_range(3_000..10_000)
                };
                self.after(Duration::from_millis(delay), Happening::Link { a, b });
            }
        }
    }

    /// A runs into the truth about its link to B.
    fn link(&mut self, a: usize, b: usize) {
        let now = self.now();
        let open = self.reaches(a, b);
        let node = &mut self.nodes[a];
        if !node.up || open == node.connected.contains(&b) {
            return;
        }
        if open {
            node.connected.insert(b);
            node.replica.handle_connected(name(b), now);
        } else {
            node.connected.remove(&b);
            node.replica.handle_disconnected(name(b), now);
        }
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(if self.loss > 0.0 && self.rng.random_bool(0.1) {
            self.rng.random_range(100..2_500)
        } else {
            self.rng.random_range(1..40)
        })
    }

    /// How often a datagram arrives.
    fn copies(&mut self) -> usize {
        if self.rng.random_bool(self.loss) {
            0
        } else {
            1 + usize::from(self.rng.random_bool(self.loss / 2.0))
        }
    }

    fn run(&mut self, until: Duration) {
        while let Some(std::cmp::Reverse((at, ..))) = self.queue.peek() {
            if *at > until {
                break;
            }
            let std::cmp::Reverse((at, _, what)) = self.queue.pop().unwrap();
            self.at = at;
            self.happen(what);
            (0..self.nodes.len())
                .filter(|index| self.nodes[*index].up)
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|index| self.drain(index));
        }
        self.at = until;
    }

    fn quiet(&mut self, time: Duration) {
        self.loss = 0.0;
        self.run(self.at + time);
    }

    fn faults(&mut self, time: Duration) {
        let end = self.at + time;
        self.loss = 0.15;
        while self.at < end {
            let pause = Duration::from_millis(self.rng.random_range(500..15_000));
            self.run(self.at + pause);
            let index = self.rng.random_range(0..self.nodes.len());
            match self.rng.random_range(0..10) {
                0..4 => self.cut(index, !self.nodes[index].cut),
                4..7 if self.nodes[index].up => {
                    let unsynced = self.rng.random_range(0..4);
                    self.crash(index, unsynced);
                    if self.rng.random_bool(0.1) {
                        self.nodes[index].wipe();
                    }
                }
                _ if !self.nodes[index].up => self.start(index),
                _ => {}
            }
        }
        for index in 0..self.nodes.len() {
            self.cut(index, false);
            if !self.nodes[index].up {
                self.start(index);
            }
        }
    }

    fn happen(&mut self, what: Happening) {
        let now = self.now();
        match what {
            Happening::Tick => {
                self.after(Duration::from_secs(1), Happening::Tick);
                (0..self.nodes.len())
                    .filter(|i| self.nodes[*i].up)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|i| self.tick(i));
            }
            Happening::Link { a, b } => self.link(a, b),
            Happening::Live { to, log, seq } => {
                let node = &mut self.nodes[to];
                if node.up && !node.cut {
                    node.replica.handle_row(log, seq, 1, now);
                    node.held.entry(log).or_default().insert(seq..=seq);
                    node.replica.handle_fresh(log, seq, now);
                }
            }
            Happening::Digest {
                from,
                to,
                life,
                index,
            } => {
                if self.reaches(from, to) && self.nodes[to].epoch == life {
                    let entries = self.digests[index].clone();
                    self.nodes[to]
                        .replica
                        .handle_digest(name(from), entries, now);
                }
            }
            Happening::Serve { from, to, id, life } => {
                if self.reaches(from, to) && (self.nodes[from].epoch, self.nodes[to].epoch) == life
                {
                    let delay = self.delay();
                    self.after(delay, Happening::Answer { from, to, id, life });
                }
            }
            Happening::Answer { from, to, id, life } => {
                if self.reaches(from, to) && (self.nodes[from].epoch, self.nodes[to].epoch) == life
                {
                    self.answer(from, to, id);
                }
            }
        }
    }

    fn tick(&mut self, index: usize) {
        let now = self.now();
        let count = self.nodes.len();
        let node = &mut self.nodes[index];
        let (log, seq) = (node.running, node.next);
        node.next += 1;
        node.held.entry(log).or_default().insert(seq..=seq);
        node.replica.handle_row(log, seq, 1, now);
        node.replica.handle_fresh(log, seq, now);
        let open = !node.cut;
        for to in (0..count).filter(|to| *to != index) {
            if open && self.nodes[index].connected.contains(&to) {
                for _ in 0..self.copies() {
                    let delay = self.delay();
                    self.after(delay, Happening::Live { to, log, seq });
                }
            }
        }
    }

    fn drain(&mut self, index: usize) {
        let now = self.now();
        while let Some((peer, entries)) = self.nodes[index].replica.poll_digest(now) {
            let to = peer.0[0] as usize - 1;
            self.note(format!("digest {index} to {to}: {entries:?}"));
            self.digests.push(entries);
            for _ in 0..self.copies() {
                let delay = self.delay();
                let what = Happening::Digest {
                    from: index,
                    to,
                    life: self.nodes[to].epoch,
                    index: self.digests.len() - 1,
                };
                self.after(delay, what);
            }
        }
        while let Some(id) = self.nodes[index].replica.poll_given_up(now) {
            self.requests_open.remove(&(index, id));
            self.nodes[index].asked.remove(&id);
        }
        while let Some(request) = self.nodes[index].replica.poll_request(now) {
            self.asked(index, request);
        }
    }

    /// A request leaves: nothing in it may be held or on its way already.
    fn asked(&mut self, index: usize, request: Request) {
        self.requests += 1;
        self.note(format!("{index} asks {request:?}"));
        let to = request.peer.0[0] as usize - 1;
        let node = &mut self.nodes[index];
        assert!(node.connected.contains(&to), "asked a peer that is away");
        if let Ask::Rows { log, rows } = &request.ask {
            let held = node.held.get(log).cloned().unwrap_or_default();
            assert!(held.intersect(rows).is_empty(), "asked for what is held");
            let gone = node.gone.get(log).cloned().unwrap_or_default();
            assert!(
                gone.intersect(rows).is_empty(),
                "asked for what was evicted"
            );
            for (other, taken) in node.asked.values() {
                assert!(
                    other != log || taken.intersect(rows).is_empty(),
                    "asked twice at a time"
                );
            }
            node.asked.insert(request.id, (*log, rows.clone()));
        }
        let life = (self.nodes[index].epoch, self.nodes[to].epoch);
        let id = request.id;
        self.requests_open.insert((index, id), request);
        let delay = self.delay();
        self.after(
            delay,
            Happening::Serve {
                from: index,
                to,
                id,
                life,
            },
        );
    }

    fn answer(&mut self, from: usize, to: usize, id: u64) {
        let now = self.now();
        let Some(request) = self.requests_open.remove(&(from, id)) else {
            return;
        };
        self.nodes[from].asked.remove(&id);
        match request.ask {
            Ask::Held { origins } => {
                for origin in origins {
                    let logs = self.nodes[to].replica.held(&origin);
                    self.nodes[from]
                        .replica
                        .handle_held(id, name(to), origin, logs, now);
                }
            }
            Ask::Rows { log, rows } => {
                let has = self.nodes[to]
                    .held
                    .get(&log)
                    .cloned()
                    .unwrap_or_default()
                    .intersect(&rows);
                // Some streams break half way: the newest came.
                let broken = self.loss > 0.0 && self.rng.random_bool(0.2);
                for range in has.ranges().rev().take(if broken { 1 } else { usize::MAX }) {
                    let (first, last) = range.into_inner();
                    self.nodes[from]
                        .held
                        .entry(log)
                        .or_default()
                        .insert(first..=last);
                    self.nodes[from].replica.handle_stored(log, first, last);
                    self.nodes[to]
                        .replica
                        .handle_peer_has(name(from), log, first, last);
                }
                if broken {
                    self.nodes[from].replica.handle_failed(id, now);
                    return;
                }
            }
            Ask::Seals { .. } => {}
        }
        let now = self.now();
        self.nodes[from].replica.handle_done(id, now);
    }

    fn recovered(&self, index: usize) -> bool {
        self.nodes[index].replica.own_runs_recovered(self.now())
    }

    fn backlog_of(&self, at: usize, peer: usize) -> u64 {
        self.nodes[at].replica.backlog(self.now())[&name(peer)]
    }

    /// Every log, less the rows of the last seconds that may still be on their way.
    fn assert_equal(&self) {
        let settled = |node: &Node| -> Held {
            let cut = |(log, rows): (&LogId, &IntervalSet)| {
                let mut rows = rows.clone();
                if self.nodes.iter().any(|node| node.running == *log) {
                    let end = self
                        .nodes
                        .iter()
                        .find(|node| node.running == *log)
                        .unwrap()
                        .next;
                    rows.remove(end.saturating_sub(2)..=end);
                }
                (!rows.is_empty()).then_some((*log, rows))
            };
            node.held.iter().filter_map(cut).collect()
        };
        let expected = settled(&self.nodes[0]);
        for (index, node) in self.nodes.iter().enumerate() {
            assert_eq!(settled(node), expected, "node {index}");
        }
    }
}
