//! Who holds what, what is missing here, and whom to ask.
//!
//! In: the members, digests and full answers of peers, what the store holds, how requests go. Out:
//! requests (`poll_request`), digests that are due (`poll_digest`), who gets live rows (`places`), the
//! backlog of each peer, whom a session is wanted with.
//! Invariants: a row is never asked for twice at a time; nothing evicted here is asked for again;
//! equal inputs in equal order give equal outputs.
//! Absent: clock, sockets, disk. `flow` carries requests out and serves those of others.

pub mod budget;
pub mod digest;
pub mod keeper;

mod ask;
mod backlog;
mod choose;
mod claims;
mod compare;
mod holdings;
mod own;
mod peer;
mod places;
mod requests;
mod rows;
mod seals;
mod spot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use outlast_store::{IntervalSet, LogId, Origin, Room, Seq};
use rand_chacha::ChaCha8Rng;

use ask::Asks;
pub use ask::{Ask, Request};
use backlog::Fresh;
use holdings::Holdings;
pub use keeper::Member;
use keeper::Roster;
use peer::Peer;
use places::Places;
use seals::SealAsks;

/// Between two digests to one peer, less up to a tenth so that peers don't speak in step.
pub const DIGEST_EVERY: Duration = Duration::from_secs(10);
/// The same where one of the two pays for its traffic.
const METERED_EVERY: Duration = Duration::from_secs(60);
/// How long the newest rows of a digest may still be on their way before they count as missing.
pub const SETTLE: Duration = Duration::from_secs(2);

/// A fruitless look for something to ask is repeated after so much time for each log there is, so
/// that claims without end don't keep this node looking.
const LOOK: Duration = Duration::from_micros(20);
/// As many logs are looked through at any time.
const FEW_LOGS: usize = 256;
/// Of what one peer says it has no more logs are looked through at a time, beside those that are written to.
const LOGS_OF_ONE: usize = 1_024;
/// Offences that wait to be fetched; more are the same ones again.
const MOST_OFFENCES: usize = 64;

/// What a peer says of its rows that isn't so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It claims rows and, asked, has none of them.
    Hollow,
    /// It claims more than anybody can hold.
    Claims,
    /// Its full answers aren't what its digests before and after them say.
    Contradiction,
}

/// Everything that was due is done, and nothing more is before `until`, unless an input stirs the replica before. Most
/// inputs of a quiet mesh are live rows that come in order, and those don't.
#[derive(Debug, Clone, Copy)]
struct Calm {
    /// And why. `None`: nothing at all is due without an input.
    until: Option<(Instant, &'static str)>,
}

/// The comparing half of a node: pure, owned by one task.
#[derive(Debug)]
pub struct Replica {
    me: Origin,
    rng: ChaCha8Rng,
    started: Instant,
    running: Option<LogId>,
    roster: Roster,
    places: Places,
    holdings: Holdings,
    ready: bool,
    /// Whether rows can be kept.
    room: Room,
    peers: BTreeMap<Origin, Peer>,
    /// Logs of which something may be missing; `poll_request` clears those that aren't.
    suspects: BTreeSet<LogId>,
    /// How many there were when those that nobody here has were cleared.
    swept: usize,
    asks: Asks,
    seals: SealAsks,
    fresh: Fresh,
    /// Samples in a row of each origin, for the backlog's unit.
    row_samples: BTreeMap<Origin, u64>,
    /// The log each origin last wrote to, as far as heard: digests list it openly.
    open: BTreeMap<Origin, LogId>,
    own_compared: bool,
    fetched: bool,
    look_again: Option<Instant>,
    /// How many logs the last look went through.
    looked_at: usize,
    calm: Option<Calm>,
    offences: VecDeque<(Origin, Offence)>,
}

impl Replica {
    /// A replica that knows nothing yet; `me` is the origin of this node's own rows.
    #[must_use]
    pub fn new(me: Origin, rng: ChaCha8Rng, now: Instant) -> Self {
        Self {
            me,
            rng,
            started: now,
            running: None,
            roster: Roster::default(),
            places: Places::default(),
            holdings: Holdings::default(),
            ready: false,
            room: Room::default(),
            peers: BTreeMap::new(),
            suspects: BTreeSet::new(),
            swept: 0,
            asks: Asks::default(),
            seals: SealAsks::default(),
            fresh: Fresh::default(),
            row_samples: BTreeMap::new(),
            open: BTreeMap::new(),
            own_compared: false,
            fetched: false,
            look_again: None,
            looked_at: 0,
            calm: None,
            offences: VecDeque::new(),
        }
    }

    /// The log this run writes to: only what was lost below its newest row is asked for.
    pub fn handle_started(&mut self, log: LogId) {
        self.stir();
        self.running = Some(log);
        self.open.insert(log.origin, log);
    }

    /// What the disk has room for: what could not be kept is not asked for, until it has again.
    pub fn handle_room(&mut self, room: Room) {
        if room != self.room {
            self.stir();
        }
        if (room.copies && !self.room.copies) || (room.own && !self.room.own) {
            self.suspect_all();
        }
        self.room = room;
    }

    fn suspect_all(&mut self) {
        let theirs = self.peers.values().flat_map(|peer| peer.logs.keys());
        self.suspects.extend(theirs.copied());
    }

    /// Takes the store's word for what is held and evicted here. Nothing is asked for before the
    /// store is `ready`: until then it may hold more than it says.
    pub fn handle_store(
        &mut self,
        held: BTreeMap<LogId, IntervalSet>,
        gone: BTreeMap<LogId, IntervalSet>,
        ready: bool,
    ) {
        self.stir();
        let running = self.running;
        self.holdings.replace(held, gone, running);
        self.settle_held();
        if ready && !self.ready {
            self.suspect_all();
        }
        self.ready = ready;
    }

    /// A tunnel to `peer` is up: it gets a digest at once.
    pub fn handle_connected(&mut self, peer: Origin, now: Instant) {
        self.stir();
        let entry = self.peers.entry(peer).or_insert_with(|| Peer::new(now));
        entry.connected = Some(now);
        entry.digest_due = now;
        entry.refused.clear();
        entry.refused_runs = 0;
        entry.compared.clear();
        entry.told.clear();
        self.asks.forgive(&peer);
        self.suspects.extend(entry.logs.keys().copied());
    }

    /// The tunnel to `peer` is gone: what it was asked for is free to be asked elsewhere.
    pub fn handle_disconnected(&mut self, peer: Origin, now: Instant) {
        self.stir();
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.connected = None;
            entry.settle.clear();
            entry.differing.clear();
            // In a large mesh everybody comes by some time.
            if entry.is_nobody() {
                self.peers.remove(&peer);
            }
        }
        let freed = self.asks.drop_peer(&peer, now);
        self.suspects.extend(freed);
    }

    /// The complete windows that still lack their origin's seal.
    pub fn handle_unsealed(&mut self, windows: &[(LogId, Seq)], now: Instant) {
        self.stir();
        self.seals.replace(windows, now);
    }

    /// When something becomes due after `now` without further input, and what. What is overdue
    /// and could not be done waits for an input that makes it possible.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, &'static str)> {
        match self.calm {
            Some(calm) if self.is_calm(now) => calm.until,
            _ => self.next_due(now),
        }
    }

    /// Something changed: what is due is to be found anew.
    fn stir(&mut self) {
        self.calm = None;
    }

    fn is_calm(&self, now: Instant) -> bool {
        let until = self.calm.map(|calm| calm.until);
        until.is_some_and(|until| until.is_none_or(|(at, _)| now < at))
    }

    fn next_due(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let connected = || self.peers.values().filter(|peer| peer.connected.is_some());
        let digest = connected().map(|peer| (peer.digest_due, "digest"));
        let settle = connected()
            .flat_map(|peer| peer.settle.iter())
            .filter(|(log, _)| self.suspects.contains(log));
        let settle = settle.map(|(_, &until)| (until, "settled"));
        let asks = self.asks.deadline(now).map(|at| (at, "request"));
        digest
            .chain(settle)
            .chain(asks)
            .chain(self.seals.deadline(now).map(|at| (at, "seal")))
            .chain(self.look_again.map(|at| (at, "look")))
            .chain(self.places.deadline(now))
            .filter(|(at, _)| *at > now)
            .min()
    }
}
