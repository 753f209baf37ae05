//! Who holds what, what is missing here, and whom to ask.
//!
//! In: digests and full answers of peers, what the store holds, how requests go. Out: requests
//! (`poll_request`), digests that are due (`poll_digest`), the backlog of each peer.
//! Invariants: a row is never asked for twice at a time; nothing evicted here is asked for again;
//! equal inputs in equal order give equal outputs.
//! Absent: clock, sockets, disk. `flow` carries requests out and serves those of others.

pub mod budget;
pub mod digest;
pub mod keeper;

mod ask;
mod backlog;
mod choose;
mod holdings;
mod peer;
mod seals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use outlast_store::{IntervalSet, LogId, Origin, Seq};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

pub use ask::{Ask, Request};
use ask::{Asks, Failure};
use backlog::Fresh;
use digest::Entry;
use holdings::{Coverage, Holdings};
use peer::{Compared, Peer};
use seals::SealAsks;

/// Between two digests to one peer, less up to a tenth so that peers don't speak in step.
pub const DIGEST_EVERY: Duration = Duration::from_secs(10);
/// How long the newest rows of a digest may still be on their way before they count as missing.
pub const SETTLE: Duration = Duration::from_secs(2);
/// After this long without any keeper, a restarted node seals what it has of its earlier runs.
const ALONE: Duration = Duration::from_secs(60);

/// A fruitless look for something to ask is repeated after so much time for each log there is, so
/// that claims without end don't keep this node looking.
const LOOK: Duration = Duration::from_micros(20);
/// As many logs are looked through at any time.
const FEW_LOGS: usize = 256;
/// Offences that wait to be fetched; more are the same ones again.
const MOST_OFFENCES: usize = 64;

/// What a peer says of its rows that isn't so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It claims rows and, asked, has none of them.
    Hollow,
    /// It claims more than anybody can hold.
    Claims,
}

/// The comparing half of a node: pure, owned by one task.
#[derive(Debug)]
pub struct Replica {
    me: Origin,
    rng: ChaCha8Rng,
    started: Instant,
    running: Option<LogId>,
    members: BTreeSet<Origin>,
    keepers: BTreeSet<Origin>,
    holdings: Holdings,
    ready: bool,
    peers: BTreeMap<Origin, Peer>,
    /// Logs of which something may be missing; `poll_request` clears those that aren't.
    suspects: BTreeSet<LogId>,
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
            members: BTreeSet::from([me]),
            keepers: BTreeSet::from([me]),
            holdings: Holdings::default(),
            ready: false,
            peers: BTreeMap::new(),
            suspects: BTreeSet::new(),
            asks: Asks::default(),
            seals: SealAsks::default(),
            fresh: Fresh::default(),
            row_samples: BTreeMap::new(),
            open: BTreeMap::new(),
            own_compared: false,
            fetched: false,
            look_again: None,
            offences: VecDeque::new(),
        }
    }

    /// All members ever, whose logs are kept, and those of them that keep.
    pub fn handle_members(&mut self, members: BTreeSet<Origin>, keepers: BTreeSet<Origin>) {
        self.peers.retain(|peer, _| members.contains(peer));
        self.members = members;
        self.members.insert(self.me);
        self.keepers = keepers;
        self.keepers.insert(self.me);
    }

    /// The log this run writes to: only what was lost below its newest row is asked for.
    pub fn handle_started(&mut self, log: LogId) {
        self.running = Some(log);
        self.open.insert(log.origin, log);
    }

    /// Takes the store's word for what is held and evicted here. Nothing is asked for before the
    /// store is `ready`: until then it may hold more than it says.
    pub fn handle_store(
        &mut self,
        held: BTreeMap<LogId, IntervalSet>,
        gone: BTreeMap<LogId, IntervalSet>,
        ready: bool,
    ) {
        let running = self.running;
        self.holdings.replace(held, gone, running);
        if ready && !self.ready {
            self.suspects.extend(
                self.peers
                    .values()
                    .flat_map(|peer| peer.logs.keys().copied()),
            );
        }
        self.ready = ready;
    }

    /// A tunnel to `peer` is up: it gets a digest at once.
    pub fn handle_connected(&mut self, peer: Origin, now: Instant) {
        let entry = self.peers.entry(peer).or_insert_with(|| Peer::new(now));
        entry.connected = Some(now);
        entry.digest_due = now;
        entry.refused.clear();
        entry.refused_runs = 0;
        entry.compared.clear();
        self.asks.forgive(&peer);
        self.suspects.extend(entry.logs.keys().copied());
    }

    /// The tunnel to `peer` is gone: what it was asked for is free to be asked elsewhere.
    pub fn handle_disconnected(&mut self, peer: Origin, now: Instant) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.connected = None;
            entry.settle.clear();
            entry.differing.clear();
        }
        let freed = self.asks.drop_peer(&peer, now);
        self.suspects.extend(freed);
    }

    /// A live row is in hand and on its way to the store: not missing, not yet held. Its origin
    /// surely has what it took since the row before, so a gap is asked for without a digest.
    pub fn handle_row(&mut self, log: LogId, seq: Seq, samples: u64, now: Instant) {
        self.holdings.pending(log, seq..=seq);
        self.row_samples.insert(log.origin, samples.max(1));
        let origin = self.peers.get_mut(&log.origin);
        if origin.is_some_and(|origin| origin.sent_live(log, seq, now)) {
            self.suspects.insert(log);
        }
    }

    /// The store has a row that came live, or was taken here.
    pub fn handle_fresh(&mut self, log: LogId, seq: Seq, now: Instant) {
        self.open.insert(log.origin, log);
        self.holdings.stored(log, seq..=seq);
        self.fresh.push(now, log, seq);
    }

    /// The store has rows that were asked for.
    pub fn handle_stored(&mut self, log: LogId, first: Seq, last: Seq) {
        self.holdings.stored(log, first..=last);
        self.fetched = true;
    }

    /// The store wouldn't take a row that was in hand; with `from`, it isn't asked for there again.
    pub fn handle_refused(&mut self, from: Option<Origin>, log: LogId, first: Seq, last: Seq) {
        self.holdings.dropped(log, first..=last);
        self.suspects.insert(log);
        if let Some(peer) = from.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.refuse(log, first, last);
        }
    }

    /// `peer` has these rows: it sent them, or took them from us.
    pub fn handle_peer_has(&mut self, peer: Origin, log: LogId, first: Seq, last: Seq) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.has(log, first, last);
        }
    }

    /// Compares a digest of `peer` with what is held here.
    pub fn handle_digest(&mut self, peer: Origin, entries: Vec<Entry>, now: Instant) {
        for entry in entries {
            if self.members.contains(&entry.origin) {
                self.handle_entry(peer, entry, now);
            }
        }
    }

    fn handle_entry(&mut self, peer: Origin, entry: Entry, now: Instant) {
        let open = entry.open_log();
        let mine = self.holdings.closed_hash(&entry.origin, open.as_ref());
        let equal = mine == entry.closed;
        let own = entry.origin == self.me;
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if equal {
            known.differing.remove(&entry.origin);
            let agreed = known
                .compared
                .get(&entry.origin)
                .is_some_and(|c| c.mine == mine && c.theirs == mine);
            if !agreed {
                known.agree(self.holdings.covered_of(&entry.origin, open.as_ref()));
                known.compared.insert(
                    entry.origin,
                    Compared {
                        at: now,
                        mine,
                        theirs: mine,
                    },
                );
            }
        } else if known.should_ask(&entry, mine, now) {
            let compared = Compared {
                at: now,
                mine,
                theirs: entry.closed,
            };
            known.compared.insert(entry.origin, compared);
            known.differing.insert(entry.origin);
        }
        let restarted = entry.origin == peer && open.is_some() && known.running != open;
        if restarted {
            known.running = open;
        }
        known.answer_soon(restarted, !equal, now);
        let mut listed = true;
        let mut too_much = false;
        if let (Some(log), Some(state)) = (open, entry.open) {
            match state.coverage {
                Some(coverage) => {
                    too_much = !known.learn(log, coverage, now);
                    self.suspects.insert(log);
                }
                None => {
                    listed = false;
                    known.differing.insert(entry.origin);
                }
            }
        }
        if too_much {
            self.accuse(peer, Offence::Claims);
        }
        if own && equal && listed {
            self.own_compared = true;
        }
    }

    /// A full answer about one origin: replaces what was known of its logs at `peer`.
    pub fn handle_held(
        &mut self,
        id: u64,
        peer: Origin,
        origin: Origin,
        logs: BTreeMap<LogId, Coverage>,
        now: Instant,
    ) {
        self.asks.progress(id, now);
        if !self.members.contains(&origin) {
            return;
        }
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.differing.remove(&origin);
        known.forget(&origin);
        let mut too_much = false;
        for (log, coverage) in logs.into_iter().rev() {
            if log.origin == origin && known.learn(log, coverage, now) {
                self.suspects.insert(log);
            } else {
                too_much = true;
            }
        }
        if too_much {
            self.accuse(peer, Offence::Claims);
        }
        if origin == self.me {
            self.own_compared = true;
        }
    }

    /// A request moved on: its deadline starts again.
    pub fn handle_progress(&mut self, id: u64, now: Instant) {
        self.asks.progress(id, now);
    }

    /// A request is answered. Rows of it that did not come are not at that peer.
    pub fn handle_done(&mut self, id: u64, now: Instant) {
        let Some(request) = self.asks.finish(id) else {
            return;
        };
        let Ask::Rows { log, rows } = request.ask else {
            return self.asks.answered(&request.peer);
        };
        self.suspects.insert(log);
        let absent = self.holdings.lacking(&log, &rows);
        let something = absent != rows;
        if something {
            self.asks.answered(&request.peer);
        } else {
            self.asks.rest(request.peer, Failure::Hollow, now);
        }
        let peer = self.peers.get_mut(&request.peer);
        if peer.is_some_and(|peer| peer.gave(something)) {
            self.accuse(request.peer, Offence::Hollow);
        }
        if let Some(peer) = self.peers.get_mut(&request.peer)
            && let Some(coverage) = peer.logs.get_mut(&log)
        {
            coverage.held = coverage.held.subtract(&absent);
        }
    }

    fn accuse(&mut self, peer: Origin, offence: Offence) {
        if self.offences.len() < MOST_OFFENCES {
            self.offences.push_back((peer, offence));
        }
    }

    /// The next lie somebody was caught at.
    pub fn poll_offence(&mut self) -> Option<(Origin, Offence)> {
        self.offences.pop_front()
    }

    /// A request broke off: what didn't come is asked again, elsewhere first.
    pub fn handle_failed(&mut self, id: u64, now: Instant) {
        let request = self.asks.fail(id, Failure::Broken, now);
        self.free(request);
    }

    fn free(&mut self, request: Option<Request>) {
        match request.map(|request| (request.peer, request.ask)) {
            Some((_, Ask::Rows { log, .. })) => {
                self.suspects.insert(log);
            }
            Some((peer, Ask::Held { origins })) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.differing.extend(origins);
                }
            }
            Some((_, Ask::Seals { .. })) | None => {}
        }
    }

    /// The complete windows that still lack their origin's seal.
    pub fn handle_unsealed(&mut self, windows: &[(LogId, Seq)], now: Instant) {
        self.seals.replace(windows, now);
    }

    /// Whether the rows of earlier runs that peers held are back, so that their short last
    /// windows can be sealed.
    #[must_use]
    pub fn own_runs_recovered(&self, now: Instant) -> bool {
        let asked = self.own_compared || now.duration_since(self.started) >= ALONE;
        self.ready && asked && !self.own_missing(now)
    }

    fn own_missing(&self, now: Instant) -> bool {
        let earlier = |log: &&LogId| log.origin == self.me && Some(**log) != self.running;
        self.suspects.iter().filter(earlier).any(|log| {
            !self
                .missing_at(log, now, |peer| !peer.is_hollow())
                .is_empty()
        }) || self
            .asks
            .logs()
            .any(|log| log.origin == self.me && Some(log) != self.running)
            || self
                .holdings
                .pending_logs()
                .any(|log| log.origin == self.me && Some(*log) != self.running)
    }

    /// The next digest that is due, newest state included.
    pub fn poll_digest(&mut self, now: Instant) -> Option<(Origin, Vec<Entry>)> {
        if !self.ready {
            return None;
        }
        let due = |(id, peer): (&Origin, &Peer)| {
            (peer.connected.is_some() && peer.digest_due <= now).then_some(*id)
        };
        let peer = self.peers.iter().find_map(due)?;
        let jitter = Duration::from_millis(self.rng.random_range(0..1_000));
        let entry = self.peers.get_mut(&peer)?;
        entry.digest_sent = Some(now);
        entry.digest_due = now + DIGEST_EVERY - jitter;
        let entries = self
            .kept_with(&peer)
            .into_iter()
            .map(|origin| self.entry(origin))
            .collect();
        Some((peer, entries))
    }

    fn entry(&self, origin: Origin) -> Entry {
        let open = self
            .open
            .get(&origin)
            .copied()
            .or_else(|| self.holdings.newest(&origin));
        let closed = self.holdings.closed_hash(&origin, open.as_ref());
        Entry::new(
            origin,
            closed,
            open.map(|log| (log, self.holdings.coverage(&log))),
        )
    }

    /// The full answer for `origin`: every log.
    #[must_use]
    pub fn held(&self, origin: &Origin) -> BTreeMap<LogId, Coverage> {
        self.holdings.coverage_of(origin)
    }

    /// The next thing to ask a peer for, if anything is missing and somebody free has it.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if !self.ready {
            return None;
        }
        let request = self
            .next_held(now)
            .or_else(|| self.next_rows(now))
            .or_else(|| self.next_seals(now));
        if request.is_none() && self.fetched && self.asks.is_idle() {
            self.fetched = false;
            self.hasten(now);
        }
        request
    }

    /// Sends digests to everybody before their turn, at most once a second: after a fetch ended
    /// (that is when a backlog reads zero), or when a row could not be sent live.
    pub fn hasten(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            let earliest = peer
                .digest_sent
                .map_or(now, |sent| (sent + Duration::from_secs(1)).max(now));
            peer.digest_due = peer.digest_due.min(earliest);
        }
    }

    /// A request that has been given up and must stop before the next `poll_request`.
    pub fn poll_given_up(&mut self, now: Instant) -> Option<u64> {
        for freed in self.asks.expire(now) {
            self.free(Some(freed));
        }
        self.asks.next_given_up()
    }

    fn keeps(&self, origin: &Origin) -> bool {
        *origin == self.me || keeper::keeps(&self.keepers, origin, &self.me)
    }

    fn kept_with(&self, peer: &Origin) -> BTreeSet<Origin> {
        let theirs = |origin: &Origin| origin == peer || keeper::keeps(&self.keepers, origin, peer);
        let held: BTreeSet<_> = self.holdings.origins().collect();
        let mut origins: BTreeSet<_> = held.into_iter().filter(theirs).collect();
        origins.insert(*peer);
        origins
    }

    /// Whether `peer` should get our own rows live.
    #[must_use]
    pub fn is_keeper_of_mine(&self, peer: &Origin) -> bool {
        keeper::keeps(&self.keepers, &self.me, peer)
    }

    /// When something becomes due after `now` without further input, and what. What is overdue
    /// and could not be done waits for an input that makes it possible.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let connected = || self.peers.values().filter(|peer| peer.connected.is_some());
        let digest = connected().map(|peer| (peer.digest_due, "digest"));
        let settle = connected()
            .flat_map(|peer| peer.settle.iter())
            .filter(|(log, _)| self.suspects.contains(log));
        let settle = settle.map(|(_, &until)| (until, "settled"));
        let asks = self.asks.deadline().map(|at| (at, "request"));
        digest
            .chain(settle)
            .chain(asks)
            .chain(self.seals.deadline().map(|at| (at, "seal")))
            .chain(self.look_again.map(|at| (at, "look")))
            .filter(|(at, _)| *at > now)
            .min()
    }

    /// Requests on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.asks.len()
    }
}
