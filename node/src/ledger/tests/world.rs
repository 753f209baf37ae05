//! Ledgers on virtual time, over a network that loses, doubles and reorders, and what they should hold by a slow model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{MeshId, NodeId};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::ledger::word::Word;
use crate::ledger::{Authors, Draft, Event, Keys, Ledger, MOST_EVENTS, Offence, Place, kind};

pub(super) const MESH: MeshId = MeshId([9; 32]);
pub(super) const WALL_MS: i64 = 1_800_000_000_000;

pub(super) struct Node {
    pub(super) ledger: Ledger,
    /// What its disk holds.
    pub(super) disk: Vec<Event>,
    pub(super) offences: Vec<(NodeId, Offence)>,
    pub(super) told: Vec<(u64, Place)>,
    pub(super) sent_bytes: u64,
    pub(super) sent: Vec<(usize, Word)>,
    /// Its disk says nothing.
    pub(super) hangs: bool,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) nodes: Vec<Node>,
    pub(super) links: BTreeSet<(usize, usize)>,
    air: BTreeMap<(Instant, u64), (usize, usize, Bytes)>,
    count: u64,
    pub(super) rng: ChaCha8Rng,
    pub(super) loss: f64,
    ever: Arc<BTreeSet<NodeId>>,
}

pub(super) fn id(index: usize) -> NodeId {
    NodeId(*blake3::hash(&index.to_le_bytes()).as_bytes())
}

fn signature(author: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(blake3::keyed_hash(author, message).as_bytes());
    signature
}

fn keys(index: usize) -> Keys {
    Keys {
        mesh: MESH,
        sign: Some(Box::new(move |message| signature(&id(index).0, message))),
        verify: |author, message, given| signature(author, message) == *given,
    }
}

/// An event as `author` would sign it, at any place.
pub(super) fn event(author: usize, seq: u64, body: &[u8]) -> Event {
    let draft = Draft::at(kind::LIFE, body.to_vec(), WALL_MS, true);
    draft.sign(&MESH, (id(author), seq), |message| {
        signature(&id(author).0, message)
    })
}

impl World {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            start: now,
            nodes: Vec::new(),
            links: BTreeSet::new(),
            air: BTreeMap::new(),
            count: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss: 0.0,
            ever: Arc::new((0..nodes).map(id).collect()),
        };
        for index in 0..nodes {
            let ledger = world.started(index, Vec::new());
            world.nodes.push(Node {
                ledger,
                disk: Vec::new(),
                offences: Vec::new(),
                told: Vec::new(),
                sent_bytes: 0,
                sent: Vec::new(),
                hangs: false,
            });
        }
        world
    }

    fn started(&mut self, index: usize, disk: Vec<Event>) -> Ledger {
        let seed = self.rng.random();
        let ledger = Ledger::new(id(index), keys(index), seed, self.now);
        let mut ledger = ledger.with_earlier(disk, WALL_MS);
        let authors = Authors {
            ever: Arc::clone(&self.ever),
            there: self.ever.len(),
        };
        ledger.handle_members(authors, self.now);
        ledger
    }

    /// The node starts again over this disk, and meets nobody.
    pub(super) fn restart(&mut self, index: usize, disk: Vec<Event>) {
        for other in 0..self.nodes.len() {
            self.link(index, other, false);
        }
        self.nodes[index].ledger = self.started(index, disk.clone());
        self.nodes[index].disk = disk;
    }

    pub(super) fn link(&mut self, one: usize, other: usize, on: bool) {
        if one == other || self.links.contains(&(one.min(other), one.max(other))) == on {
            return;
        }
        let pair = (one.min(other), one.max(other));
        for (at, peer) in [(one, other), (other, one)] {
            let ledger = &mut self.nodes[at].ledger;
            if on {
                ledger.handle_connected(id(peer), self.now);
            } else {
                ledger.handle_disconnected(id(peer));
            }
        }
        if on {
            self.links.insert(pair);
        } else {
            self.links.remove(&pair);
        }
    }

    /// Everybody meets everybody of the same group, and nobody else.
    pub(super) fn group(&mut self, groups: &[Vec<usize>]) {
        for one in 0..self.nodes.len() {
            for other in 0..one {
                let together = groups
                    .iter()
                    .any(|group| group.contains(&one) && group.contains(&other));
                self.link(one, other, together);
            }
        }
    }

    pub(super) fn all_meet(&mut self) {
        let all = (0..self.nodes.len()).collect();
        self.group(&[all]);
    }

    pub(super) fn publish(&mut self, index: usize, body: &[u8]) -> bool {
        let wall_ms = WALL_MS + self.now.duration_since(self.start).as_millis() as i64;
        let draft = Draft::at(kind::LIFE, body.to_vec(), wall_ms, true);
        let taken = self.nodes[index].ledger.handle_own(draft, self.now).is_ok();
        self.drain(index);
        taken
    }

    /// A message as a peer's own code would never send it.
    pub(super) fn say(&mut self, from: usize, to: usize, word: &Word) {
        self.say_bytes(from, to, &word.encode());
    }

    pub(super) fn say_bytes(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let now = self.now;
        self.nodes[to].ledger.handle_message(id(from), bytes, now);
        self.drain(to);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.air.keys().next().map(|(at, _)| *at);
            let dues = self.nodes.iter().map(|node| node.ledger.poll_timeout());
            let due = dues.flatten().map(|(at, _)| at).min();
            let next = arrival.into_iter().chain(due).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now)
                && let Some((_, (from, to, bytes))) = self.air.pop_first()
            {
                if self.links.contains(&(from.min(to), from.max(to))) {
                    self.say_bytes(from, to, &bytes);
                }
                continue;
            }
            for index in 0..self.nodes.len() {
                let ledger = &mut self.nodes[index].ledger;
                if ledger.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                    ledger.handle_timeout(self.now);
                    self.drain(index);
                }
            }
        }
        self.now = until;
    }

    fn drain(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(event) = node.ledger.poll_record() {
            if node.hangs {
                continue;
            }
            let place = event.place();
            node.disk.push(event);
            if place.0 == id(index) {
                node.ledger.handle_written(place);
            }
        }
        node.told
            .extend(std::iter::from_fn(|| node.ledger.poll_told()));
        let offences = std::iter::from_fn(|| node.ledger.poll_offence());
        node.offences.extend(offences);
        while let Some((to, bytes)) = node.ledger.poll_transmit() {
            assert!(bytes.len() <= outlast_mesh::MAX_MESSAGE, "{}", bytes.len());
            node.sent_bytes += bytes.len() as u64 + 112;
            let Some(to) = (0..self.ever.len()).find(|other| id(*other) == to) else {
                panic!("a message to nobody");
            };
            node.sent.push((to, Word::decode(&bytes).unwrap()));
            if self.rng.random_bool(self.loss) {
                continue;
            }
            let copies = 1 + usize::from(self.loss > 0.0 && self.rng.random_bool(0.1));
            for _ in 0..copies {
                let delay = Duration::from_millis(self.rng.random_range(1..80));
                self.count += 1;
                self.air
                    .insert((self.now + delay, self.count), (index, to, bytes.clone()));
            }
        }
    }

    pub(super) fn held(&self, index: usize) -> BTreeMap<Place, Event> {
        BTreeMap::clone(self.nodes[index].ledger.events())
    }

    pub(super) fn bodies(&self, at: usize, author: usize) -> Vec<Vec<u8>> {
        let held = self.nodes[at].ledger.events().values();
        let held = held.filter(|event| event.author == id(author));
        held.map(|event| event.body.to_vec()).collect()
    }
}

/// What a node should hold that has heard all of these: by the definition, slowly.
pub(super) fn model(events: &[Event], share: usize) -> BTreeMap<Place, Event> {
    let mut lowest: BTreeMap<Place, Event> = BTreeMap::new();
    for event in events {
        let place = event.place();
        let lower = |held: &Event| event.hash() < held.hash();
        if lowest.get(&place).is_none_or(lower) {
            lowest.insert(place, event.clone());
        }
    }
    let mut kept = BTreeMap::new();
    let authors: BTreeSet<NodeId> = lowest.keys().map(|place| place.0).collect();
    for author in authors {
        let mut bytes = 0;
        let newest = lowest.iter().rev().filter(|(place, _)| place.0 == author);
        for (nth, (place, event)) in newest.enumerate() {
            bytes += event.encode().len();
            if nth >= MOST_EVENTS || bytes > share {
                break;
            }
            kept.insert(*place, event.clone());
        }
    }
    kept
}
