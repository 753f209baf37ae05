//! A plain model of the world for replicas, in virtual time.
//!
//! Nodes take a row a second, send it live over a network that loses, doubles, delays and cuts,
//! crash with unsynced rows, and come back, some with an empty disk. The model keeps who holds
//! what; the replicas only hear what the network lets through.

mod exchange;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use outlast_store::{Epoch, IntervalSet, LogId, Seq, StoreId};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::name;
use crate::replica::digest::Entry;
use crate::replica::{Member, Replica, Request};

pub(super) type Held = BTreeMap<LogId, IntervalSet>;

pub(super) struct Node {
    pub(super) up: bool,
    pub(super) cut: bool,
    pub(super) replica: Replica,
    store: u64,
    epoch: u32,
    pub(super) running: LogId,
    pub(super) next: Seq,
    pub(super) held: Held,
    pub(super) gone: Held,
    connected: BTreeSet<usize>,
    /// Rows asked for and not answered, per request.
    asked: BTreeMap<u64, (LogId, IntervalSet)>,
}

impl Node {
    pub(super) fn wipe(&mut self) {
        self.held.clear();
        self.gone.clear();
        self.store += 100;
        self.epoch = 0;
    }

    pub(super) fn evict(&mut self, log: LogId, rows: std::ops::RangeInclusive<Seq>) {
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

pub(super) struct World {
    start: Instant,
    at: Duration,
    rng: ChaCha8Rng,
    pub(super) nodes: Vec<Node>,
    queue: BinaryHeap<std::cmp::Reverse<(Duration, u64, Happening)>>,
    order: u64,
    digests: Vec<Vec<Entry>>,
    requests_open: BTreeMap<(usize, u64), Request>,
    loss: f64,
    pub(super) requests: u64,
    pub(super) events: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64, count: usize) -> Self {
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

    pub(super) fn start(&mut self, index: usize) {
        let now = self.now();
        let members: Vec<_> = (0..self.nodes.len()).map(name).map(Member::new).collect();
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
        node.replica.handle_members(&members, now);
        node.replica.handle_started(node.running);
        node.replica
            .handle_store(node.held.clone(), node.gone.clone(), true);
        self.note(format!("start {index}"));
        self.relink(index);
    }

    /// The node dies and its last `unsynced` rows of each log with it.
    pub(super) fn crash(&mut self, index: usize, unsynced: u32) {
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
    pub(super) fn lose(&mut self, index: usize, rows: std::ops::RangeInclusive<Seq>) {
        let node = &mut self.nodes[index];
        node.held.get_mut(&node.running).unwrap().remove(rows);
        node.replica
            .handle_store(node.held.clone(), node.gone.clone(), true);
    }

    pub(super) fn cut(&mut self, index: usize, cut: bool) {
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

    pub(super) fn quiet(&mut self, time: Duration) {
        self.loss = 0.0;
        self.run(self.at + time);
    }

    pub(super) fn faults(&mut self, time: Duration) {
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

    pub(super) fn recovered(&self, index: usize) -> bool {
        self.nodes[index].replica.own_runs_recovered(self.now())
    }

    pub(super) fn backlog_of(&self, at: usize, peer: usize) -> u64 {
        self.nodes[at].replica.backlog(self.now())[&name(peer)]
    }

    /// Every log, less the rows of the last seconds that may still be on their way.
    pub(super) fn assert_equal(&self) {
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
