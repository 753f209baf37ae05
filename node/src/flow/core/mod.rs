//! The exchange of rows as a state machine: what comes from peers, what goes to them, and the asking in between.
//!
//! In: members, messages as the bytes on the wire, bytes of streams, this node's own rows, and what the store says
//! (`Note`s of `keep::work`). Out: `Effect`s, in order, to be carried out at once. Whoever drives it owns clocks, sockets,
//! tasks and threads: `flow/remote.rs` over tokio and quinn, the simulator over virtual time.
//! Invariant: equal inputs in equal order give equal effects. One mutation, then drain.
//! Bounds per peer stand in `budget`, `rows`, `asks` and `serve`; what is over them is dropped, counted and repaired.
//! At most `MOST_JOBS` live rows and as many seals wait for the store; one more is dropped and counted.
//! Absent: deciding what is missing and whom to ask (`replica`).

mod asks;
mod budget;
mod delivery;
mod events;
mod frames;
mod handed;
mod named;
mod peer;
mod rows;
mod serve;
#[cfg(test)]
mod tests;
mod upkeep;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{MemberSnapshot, NodeId, PeerState};
use outlast_store::{LogId, Origin, Seal, Seq};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::live::LiveRows;
use super::wire::{
    self, DIGEST, HANDED_ON, KEYROW, KeyRow, LEDGER, Part, ROW, SEAL, SUBSCRIBE, SUMMARIES,
};
use super::{FlowStats, node_of, origin_of};
use crate::ledger::{self, Ledger, Place};
use crate::replica::budget::{Bucket, Pace};
use crate::replica::digest::Entry;
use crate::replica::{self, Member, Replica};
use asks::Asking;
use budget::Budget;
use delivery::Delivery;
use peer::Peer;
use serve::Serving;
use views::Views;

pub use super::keep::{Charge, Job, Lane, Live, Note, Outcome, Piece, Repair, work};
pub use super::local::OwnRow;
pub use super::offence::Offence;
pub(super) use frames::Frames;
pub use named::Named;
#[cfg(any(test, fuzzing))]
pub(super) use views::Subscribe;
pub use views::marks_of;

/// Live rows, and beside them seals, that may wait for the store: a minute of 16 live peers.
pub const MOST_JOBS: usize = 1_024;
const TICK: Duration = Duration::from_secs(1);

/// A stream, of either side, for as long as it is open.
pub type StreamId = u64;

/// Something to be done at once.
#[derive(Debug)]
pub enum Effect {
    /// Send a small message; it may be lost.
    Send {
        /// Whom to.
        to: NodeId,
        /// Its kind, 64 or above.
        kind: u8,
        /// At most `MAX_MESSAGE` bytes.
        body: Bytes,
    },
    /// Have the store do this (`work`) and bring back its note; jobs of one lane in order.
    Store(Job),
    /// Open a stream to a peer, write the question and end our side of it.
    Open {
        /// Names the stream from here on.
        stream: StreamId,
        /// Whom to ask.
        peer: NodeId,
        /// The whole frame.
        question: Bytes,
    },
    /// Bring the next bytes of a stream (`handle_read`), however few.
    Read(StreamId),
    /// Write all of this to a stream at bulk priority, then say so (`handle_written`).
    Write {
        /// Where.
        stream: StreamId,
        /// What.
        bytes: Bytes,
    },
    /// Everything is written: end our side, and forget the stream.
    Finish(StreamId),
    /// Drop the stream as it is, and forget it.
    Close(StreamId),
    /// Keep sessions with these, as far as not everybody has one with everybody (`Core::wanted`).
    Want(BTreeSet<NodeId>),
    /// A member did what no honest one does. It is counted in `stats` already.
    Blame(NodeId, Offence),
    /// Write an event down; where it is this node's own, say when that is done (`handle_recorded`).
    Record(ledger::Event),
    /// The event that `handle_event` named so has this place, and is on its way to everybody.
    Told(u64, Place),
}

/// The pure half of a flow.
#[derive(Debug)]
pub struct Core {
    running: LogId,
    replica: Replica,
    live: LiveRows,
    views: Views,
    ledger: Ledger,
    /// Rows this node hands on, by origin.
    handing: BTreeMap<Origin, LiveRows>,
    /// The members as they were named last.
    named: Arc<Named>,
    /// What `Effect::Want` said last.
    wanted: BTreeSet<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    /// The budgets of members that are away.
    spent: BTreeMap<NodeId, Budget>,
    pace: Pace,
    /// How fast each member is served; they outlast a connection.
    buckets: BTreeMap<NodeId, Bucket>,
    asks: BTreeMap<StreamId, Asking>,
    /// The streams of the replica's requests.
    requests: BTreeMap<u64, StreamId>,
    served: BTreeMap<StreamId, Serving>,
    /// Answers that are written and not there yet.
    deliveries: BTreeMap<StreamId, Delivery>,
    last_stream: StreamId,
    jobs: upkeep::Jobs,
    effects: VecDeque<Effect>,
    stats: FlowStats,
    synced: BTreeSet<NodeId>,
    backlog: BTreeMap<NodeId, u64>,
    ticks: u64,
    tick_at: Instant,
    due: (Instant, &'static str),
    ready: bool,
    earlier_sealed: bool,
    earlier: Vec<LogId>,
}

impl Core {
    /// A flow that knows nobody yet. `running` is the log of this run, `seed` the jitter between nodes.
    #[must_use]
    pub fn new(running: LogId, seed: u64, now: Instant) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let mut replica = Replica::new(running.origin, rng, now);
        replica.handle_started(running);
        Self {
            running,
            replica,
            live: LiveRows::default(),
            views: Views::new(running, seed, now),
            ledger: events::silent(node_of(running.origin), seed, now),
            handing: BTreeMap::new(),
            named: Arc::default(),
            wanted: BTreeSet::new(),
            peers: BTreeMap::new(),
            spent: BTreeMap::new(),
            pace: Pace::Polite,
            buckets: BTreeMap::new(),
            asks: BTreeMap::new(),
            requests: BTreeMap::new(),
            served: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            last_stream: 0,
            jobs: upkeep::Jobs::default(),
            effects: VecDeque::new(),
            stats: FlowStats::default(),
            synced: BTreeSet::new(),
            backlog: BTreeMap::new(),
            ticks: 0,
            tick_at: now,
            due: (now, "tick"),
            ready: false,
            earlier_sealed: false,
            earlier: Vec::new(),
        }
    }

    /// Serves peers at this pace from here on.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Everybody who is or was a member, this node included.
    pub fn handle_members(&mut self, members: &[MemberSnapshot], now: Instant) {
        if !self.named.is_of(members) {
            let named = Named::after(&self.named, members.to_vec());
            self.handle_named(Arc::new(named), now);
        }
    }

    /// The same, where several nodes are told of the same members.
    pub fn handle_named(&mut self, named: Arc<Named>, now: Instant) {
        if Arc::ptr_eq(&self.named, &named) {
            return;
        }
        self.views.handle_members(&named);
        self.spent.retain(|peer, _| named.contains(peer));
        self.buckets.retain(|peer, _| named.contains(peer));
        self.handing
            .retain(|origin, _| named.contains(&node_of(*origin)));
        let members: Vec<_> = named.snapshots().iter().map(keeping).collect();
        self.replica.handle_members(&members, now);
        self.named = named;
        self.name_authors(now);
        self.want();
        self.settle(now);
    }

    /// Whether the members that were named last include this one.
    #[must_use]
    pub fn is_member(&self, node: &NodeId) -> bool {
        self.named.contains(node)
    }

    /// A peer is there, or there again.
    pub fn handle_connected(&mut self, peer: NodeId, now: Instant) {
        self.forget(peer);
        let budget = self.spent.remove(&peer).unwrap_or_default();
        self.peers.insert(peer, Peer::new(budget));
        self.replica.handle_connected(origin_of(peer), now);
        self.views.handle_connected(peer, now);
        self.ledger.handle_connected(peer, now);
        self.settle_ledger(now);
        self.send_key_row(peer);
        self.settle(now);
    }

    /// A peer is gone: streams with it are closed.
    pub fn handle_disconnected(&mut self, peer: NodeId, now: Instant) {
        self.forget(peer);
        self.synced.remove(&peer);
        self.views.handle_disconnected(peer, now);
        self.ledger.handle_disconnected(peer);
        self.stop_serving(peer);
        self.replica.handle_disconnected(origin_of(peer), now);
        self.settle(now);
    }

    /// A small message of a peer.
    pub fn handle_message(&mut self, from: NodeId, kind: u8, body: &Bytes, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return self.refuse("small message: from a peer that is not there");
        };
        match kind {
            ROW => match Part::decode(body) {
                Some(part) => self.handle_part(from, part, now),
                None => self.blame(from, Offence::Unreadable),
            },
            SEAL if !peer.budget.seal(now) => self.blame(from, Offence::Seals),
            SEAL => self.handle_seal(from, body),
            DIGEST if !peer.budget.digest(now) => self.blame(from, Offence::Digests),
            DIGEST => match wire::from_small::<Vec<Entry>>(body) {
                Some(entries) => {
                    self.replica.handle_digest(origin_of(from), entries, now);
                    self.settle(now);
                }
                None => self.blame(from, Offence::Unreadable),
            },
            KEYROW if !peer.budget.key_row(now) => self.blame(from, Offence::KeyRows),
            KEYROW => match wire::from_small::<KeyRow>(body) {
                Some(key) => self.handle_key_request(from, key, now),
                None => self.blame(from, Offence::Unreadable),
            },
            SUMMARIES => self.handle_summaries(from, body, now),
            SUBSCRIBE if !peer.budget.subscription(now) => self.blame(from, Offence::Subscriptions),
            SUBSCRIBE => self.handle_subscribe(from, body, now),
            HANDED_ON => self.handle_handed_on(from, body, now),
            LEDGER => {
                self.ledger.handle_message(from, body, now);
                self.settle_ledger(now);
            }
            _ => self.refuse("small message: unknown kind"),
        }
    }

    /// A row of this node that the store has taken.
    pub fn handle_own(&mut self, own: &OwnRow, now: Instant) {
        let row = &own.row;
        let (log, seq) = (row.row.log, row.row.seq);
        let _gap = self
            .replica
            .handle_row(log, seq, row.row.samples() as u64, now);
        self.replica.handle_fresh(log, seq, now);
        self.send_live(own, now);
        if let Some(seal) = &own.seal {
            self.send_seals(std::slice::from_ref(seal));
        }
    }

    /// A peer's smoothed round trip, once a second; `None` where none was measured.
    pub fn handle_round_trip(&mut self, peer: NodeId, rtt_ms: Option<f64>) {
        if let Some(bucket) = self.buckets.get_mut(&peer) {
            bucket.handle_rtt(rtt_ms);
        }
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When `handle_timeout` is due, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> (Instant, &'static str) {
        self.due
    }

    /// Counters since the start; what the sampler counts is not in them.
    #[must_use]
    pub fn stats(&self) -> &FlowStats {
        &self.stats
    }

    /// Samples each other member lacks of what is held here, as of the last second.
    #[must_use]
    pub fn backlog(&self) -> &BTreeMap<NodeId, u64> {
        &self.backlog
    }

    /// The connected peers whose clock is kept by NTP, by their last row.
    #[must_use]
    pub fn synced(&self) -> &BTreeSet<NodeId> {
        &self.synced
    }

    /// Whether this node keeps the rows of another.
    #[must_use]
    pub fn keeps(&self, origin: &NodeId) -> bool {
        self.replica.keeps(&origin_of(*origin))
    }

    /// The members this node needs a warm session with: who keeps its rows, whose rows it keeps, and
    /// whoever else is to get some of them from it or it from them, who is looked at, and who is asked.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<NodeId> {
        let wanted = self.replica.wanted().into_iter().map(node_of);
        let asked = self.asks.values().map(Asking::peer);
        let all = wanted.chain(self.watched()).chain(self.sought());
        all.chain(asked).collect()
    }

    /// Says whom a session is wanted with when that isn't what was said last: at once when the members or what is looked
    /// at change, each second otherwise.
    fn want(&mut self) {
        let wanted = self.wanted();
        if wanted != self.wanted {
            self.wanted.clone_from(&wanted);
            self.effects.push_back(Effect::Want(wanted));
        }
    }

    fn send(&mut self, to: NodeId, kind: u8, body: Bytes) {
        self.effects.push_back(Effect::Send { to, kind, body });
    }

    fn send_seals(&mut self, seals: &[Seal]) {
        for seal in seals {
            let body = Bytes::from(seal.encode());
            for peer in self.replica.seal_to() {
                self.send(node_of(peer), SEAL, body.clone());
            }
        }
    }

    fn handle_seal(&mut self, from: NodeId, body: &Bytes) {
        match Seal::decode(body) {
            Ok(seal) if seal.log.origin == origin_of(from) => self.store_seal(seal, from),
            Ok(_) => self.blame(from, Offence::Foreign),
            Err(_) => self.blame(from, Offence::Unreadable),
        }
    }

    fn refuse(&mut self, reason: &'static str) {
        *self.stats.refused.entry(reason).or_default() += 1;
    }

    /// Counts a refusal and names whose fault it is; this node itself is never named.
    fn blame(&mut self, culprit: NodeId, what: Offence) {
        self.refuse(what.as_str());
        if culprit != node_of(self.running.origin) {
            self.effects.push_back(Effect::Blame(culprit, what));
        }
    }

    /// Carries out whatever the replica wants by now, and finds when it wants something next.
    fn settle(&mut self, now: Instant) {
        while let Some((peer, entries)) = self.replica.poll_digest(now) {
            for message in wire::digests(entries) {
                self.send(node_of(peer), DIGEST, message);
            }
        }
        while let Some(id) = self.replica.poll_given_up(now) {
            self.cancel(id);
        }
        while let Some((peer, offence)) = self.replica.poll_offence() {
            let what = match offence {
                replica::Offence::Hollow => Offence::Hollow,
                replica::Offence::Claims => Offence::Claims,
                replica::Offence::Contradiction => Offence::Contradiction,
            };
            self.blame(node_of(peer), what);
        }
        while let Some(request) = self.replica.poll_request(now) {
            self.ask(request);
        }
        self.reckon_due(now);
    }

    fn reckon_due(&mut self, now: Instant) {
        let tick = (self.tick_at, "tick");
        let dues = [
            self.replica.poll_timeout(now),
            self.ask_due(),
            self.serve_due(),
            self.views.due(now),
            self.ledger.poll_timeout(),
        ];
        self.due = dues
            .into_iter()
            .flatten()
            .chain([tick])
            .min()
            .unwrap_or(tick);
    }

    fn refused(&mut self, log: LogId, seq: Seq) {
        self.replica.handle_refused(None, log, seq, seq);
    }
}

/// A member as the keeping of rows sees it. One that is merely not heard from here may be heard by
/// others; one that said goodbye is as absent as one that died.
fn keeping(member: &MemberSnapshot) -> Member {
    Member {
        gone: matches!(member.state, PeerState::Retired | PeerState::Evicted),
        absent: matches!(member.state, PeerState::Down | PeerState::Left),
        site: member.site.clone(),
        metered: member.metered,
        may_be_off: member.may_be_off,
        successor: member.replaced_by.map(origin_of),
        ..Member::new(origin_of(member.id))
    }
}
