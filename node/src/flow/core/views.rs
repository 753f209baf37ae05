//! What goes to and comes from nodes that don't keep each other's rows: summaries, and live rows for who looks.
//!
//! Summaries go to everybody (`summary`). Who looks at a node whose rows it doesn't keep subscribes at it, again each
//! `RENEW`; for `HOLDS` after the last time it gets live rows as a keeper does. Where the node can't be reached it subscribes
//! at one of its keepers, and at the next when `RETRY` brought no row that the node signed. Such rows are shown and not
//! kept: they never reach the replica or the store, and what is lost of them isn't repaired.
//! Bounds: `MOST_VIEWERS` subscribers besides keepers, and as many subscriptions to others' rows that are kept here,
//! `MOST_OF_ONE` of them of one peer, one more is refused and counted; `MOST_WATCHED` nodes looked at and as many about to be
//! asked, the one of longest ago goes first; a peer's subscriptions cost its budget.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{LogId, Origin, SchemaHash, SignedRow};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::named::Named;
use super::{Core, Offence};
use crate::flow::keep::Job;
use crate::flow::wire::{self, SUBSCRIBE, SUMMARIES};
use crate::flow::{node_of, origin_of};
use crate::replica::keeper::EVERYBODY;
use crate::summary::gauges::Gauges;
use crate::summary::{Fault, Seen, Summaries, message};

/// Subscribers of this node's live rows at a time, besides its keepers.
const MOST_VIEWERS: usize = 16;
/// Others' rows that one peer looks at through this node at a time: half, so that nobody has all places.
const MOST_OF_ONE: usize = MOST_VIEWERS / 2;
/// Nodes looked at here at a time.
const MOST_WATCHED: usize = 64;
/// Between two subscriptions at a node that is looked at.
const RENEW: Duration = Duration::from_secs(10);
/// How long a keeper has to bring a row of the node that is looked at through it.
const RETRY: Duration = Duration::from_secs(3);
/// How long a subscription holds, and a look.
pub(super) const HOLDS: Duration = Duration::from_secs(30);

/// Asks for the live rows of an origin: the receiver's own, or one it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::flow) struct Subscribe {
    pub(in crate::flow) origin: Origin,
}

/// The core's part of it.
#[derive(Debug)]
pub(super) struct Views {
    summaries: Summaries,
    viewers: BTreeMap<NodeId, Instant>,
    /// Who looks at which origin through this node, and until when.
    through: BTreeMap<(Origin, NodeId), Instant>,
    watched: BTreeMap<NodeId, Watched>,
    /// Who may be asked for the history of a node that somebody looks for, and until when.
    sought: BTreeMap<NodeId, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    until: Instant,
    renew: Instant,
    /// Where it was subscribed last: the node itself, or a keeper of it.
    at: Option<NodeId>,
    /// Whether a row came from there since.
    shown: bool,
}

impl Views {
    pub(super) fn new(running: LogId, seed: u64, now: Instant) -> Self {
        // Another stream of the same seed: the replica's choices don't depend on what is shown.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        Self {
            summaries: Summaries::new(node_of(running.origin), EVERYBODY, rng, now),
            viewers: BTreeMap::new(),
            through: BTreeMap::new(),
            watched: BTreeMap::new(),
            sought: BTreeMap::new(),
        }
    }

    pub(super) fn handle_members(&mut self, named: &Named) {
        self.summaries
            .handle_members(Arc::clone(named.summarised()));
    }

    pub(super) fn handle_connected(&mut self, peer: NodeId, now: Instant) {
        self.summaries.handle_connected(peer);
        if let Some(watched) = self.watched.get_mut(&peer) {
            watched.renew = now;
        }
    }

    pub(super) fn handle_disconnected(&mut self, peer: NodeId, now: Instant) {
        self.summaries.handle_disconnected(peer);
        self.viewers.remove(&peer);
        self.through.retain(|(_, viewer), _| *viewer != peer);
        for watched in self.watched.values_mut() {
            if watched.at == Some(peer) {
                // Another is asked at the next look at what is due.
                (watched.at, watched.renew) = (None, watched.renew.min(now));
            }
        }
    }

    pub(super) fn due(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let renewals = self.watched.values().map(|watched| watched.renew);
        let renewals = renewals.map(|at| (at, "a subscription"));
        renewals.chain(self.summaries.poll_timeout(now)).min()
    }
}

impl Core {
    /// What this node measured, as all others are told; `marks` as in `summary::message`.
    pub fn handle_own_gauges(&mut self, seq: u32, marks: u8, gauges: Gauges, now: Instant) {
        let run = self.running.epoch.counter;
        self.views
            .summaries
            .handle_own(run, seq, marks, gauges, now);
    }

    /// The machine slept so long, which `Instant` doesn't count.
    pub fn handle_slept(&mut self, slept: Duration) {
        self.views.summaries.handle_slept(slept);
    }

    /// Somebody looks at a node, and will have done so for another `HOLDS`.
    pub fn handle_look(&mut self, node: NodeId, now: Instant) {
        if !self.is_member(&node) || node == node_of(self.running.origin) {
            return;
        }
        let watched = &mut self.views.watched;
        let until = now + HOLDS;
        let entry = watched.entry(node).or_insert(Watched {
            until,
            renew: now,
            at: None,
            shown: false,
        });
        entry.until = until;
        if watched.len() > MOST_WATCHED {
            let oldest = watched.iter().min_by_key(|(_, watched)| watched.until);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                watched.remove(&oldest);
            }
        }
        if self.peers.contains_key(&node) {
            self.want();
        } else {
            // Its keepers may be needed in its stead.
            self.handle_search(&node, now);
        }
        self.show_on(now);
        self.reckon_due(now);
    }

    /// What is known by summaries of every other member.
    pub fn seen(&self, now: Instant) -> BTreeMap<NodeId, Seen> {
        self.views.summaries.all(now).collect()
    }

    /// Who may have the rows of a node, besides this one and as far as they can be asked: whoever is connected first, of
    /// those the node itself, then its keepers in rendezvous order. They are about to be asked: for `HOLDS` a session is
    /// wanted with each.
    pub fn handle_search(&mut self, node: &NodeId, now: Instant) -> Vec<NodeId> {
        let holders = self.holders(node, now);
        let sought = &mut self.views.sought;
        for holder in &holders {
            sought.insert(*holder, now + HOLDS);
            if sought.len() > MOST_WATCHED {
                let oldest = sought.iter().min_by_key(|(_, until)| **until);
                if let Some(oldest) = oldest.map(|(node, _)| *node) {
                    sought.remove(&oldest);
                }
            }
        }
        self.want();
        holders
    }

    /// The same, of somebody who only wants to know.
    #[must_use]
    pub fn holders(&self, node: &NodeId, now: Instant) -> Vec<NodeId> {
        let me = self.running.origin;
        let keepers = self.replica.holders(&origin_of(*node), now).into_iter();
        let keepers = keepers.filter(|keeper| *keeper != me && *keeper != origin_of(*node));
        let all = std::iter::once(*node).chain(keepers.map(node_of));
        let (here, others): (Vec<_>, Vec<_>) =
            all.partition(|holder| self.peers.contains_key(holder));
        let others = others.into_iter();
        let reached = others.filter(|holder| self.named.is_within_reach(holder));
        here.into_iter().chain(reached).collect()
    }

    /// The members whose rows are kept here.
    #[must_use]
    pub fn kept(&self) -> BTreeSet<NodeId> {
        let members = self.named.ids().copied();
        members.filter(|member| self.keeps(member)).collect()
    }

    /// The nodes that are looked at here.
    pub(super) fn watched(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.views.watched.keys().copied()
    }

    /// Who is about to be asked for the history of a node.
    pub(super) fn sought(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.views.sought.keys().copied()
    }

    /// Those who look at this node from elsewhere and aren't its keepers.
    pub(super) fn viewers(&self) -> BTreeSet<NodeId> {
        let viewers = self.views.viewers.keys().copied();
        viewers
            .filter(|peer| !self.replica.is_keeper_of_mine(&origin_of(*peer)))
            .collect()
    }

    pub(super) fn handle_summaries(&mut self, from: NodeId, body: &Bytes, now: Instant) {
        match self.views.summaries.handle_message(from, body, now) {
            Ok(taken) => {
                let counts = [
                    (taken.disputed, "summary: something else of the same moment"),
                    (taken.unknown, "summary: of nobody who is known"),
                ];
                for (count, reason) in counts.into_iter().filter(|(count, _)| *count > 0) {
                    *self.stats.refused.entry(reason).or_default() += u64::from(count);
                }
            }
            Err(Fault::Unreadable) => self.blame(from, Offence::Unreadable),
            Err(Fault::TooOften) => self.blame(from, Offence::Summaries),
        }
        self.show_on(now);
    }

    pub(super) fn handle_subscribe(&mut self, from: NodeId, body: &Bytes, now: Instant) {
        let Some(asked) = wire::from_small::<Subscribe>(body) else {
            return self.blame(from, Offence::Unreadable);
        };
        if asked.origin != self.running.origin {
            return self.let_watch(from, asked.origin, now);
        }
        let viewers = &mut self.views.viewers;
        let fresh = !viewers.contains_key(&from);
        if fresh && viewers.len() >= MOST_VIEWERS {
            return self.refuse("subscription: too many at a time");
        }
        viewers.insert(from, now + HOLDS);
        if fresh && !self.replica.is_keeper_of_mine(&origin_of(from)) {
            self.send_own_key(from, false);
        }
    }

    /// Somebody wants to look at another through this node.
    fn let_watch(&mut self, from: NodeId, origin: Origin, now: Instant) {
        if !self.is_member(&node_of(origin)) || !self.keeps(&node_of(origin)) {
            return self.refuse("subscription: of rows that aren't kept here");
        }
        let through = &mut self.views.through;
        let fresh = !through.contains_key(&(origin, from));
        let of_one = through.keys().filter(|(_, viewer)| *viewer == from);
        if fresh && (through.len() >= MOST_VIEWERS || of_one.count() >= MOST_OF_ONE) {
            return self.refuse("subscription: too many at a time");
        }
        through.insert((origin, from), now + HOLDS);
        if fresh {
            self.send_handed_key(from, &origin);
        }
    }

    /// Those who look at an origin through this node.
    pub(super) fn viewers_of(&self, origin: &Origin) -> BTreeSet<NodeId> {
        let first = (*origin, NodeId([0; 32]));
        let of = self.views.through.range(first..);
        let of = of.take_while(|((of, _), _)| of == origin);
        of.map(|((_, viewer), _)| *viewer).collect()
    }

    /// Whether rows of `origin` are wanted from `keeper`, to be shown.
    pub(super) fn is_watched_through(&self, keeper: NodeId, origin: &Origin) -> bool {
        let watched = self.views.watched.get(&node_of(*origin));
        watched.is_some_and(|watched| watched.at == Some(keeper))
    }

    /// A live row of an origin that isn't kept here: shown if its schema is known, and gone.
    pub(super) fn show(&mut self, row: SignedRow, from: NodeId) {
        self.store(Job::Show(Arc::new(row), from));
    }

    /// A row of a node that is looked at came, signed, and can be shown.
    pub(super) fn handle_shown(&mut self, origin: Origin, from: NodeId) {
        if let Some(watched) = self.views.watched.get_mut(&node_of(origin)) {
            watched.shown |= watched.at == Some(from);
        }
    }

    /// A row came that its origin did not sign: somebody else is asked for them, at once.
    pub(super) fn handle_forged(&mut self, origin: Origin, from: NodeId, now: Instant) {
        if let Some(watched) = self.views.watched.get_mut(&node_of(origin))
            && watched.at == Some(from)
        {
            (watched.shown, watched.renew) = (false, now);
        }
        self.show_on(now);
    }

    /// The schema of a row that is only shown isn't here.
    pub(super) fn handle_unshown(
        &mut self,
        from: NodeId,
        origin: Origin,
        hash: SchemaHash,
        known: Option<SchemaHash>,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.fetching.contains(&hash) {
            return;
        }
        if !peer.budget.schema(hash, now) {
            return self.blame(from, Offence::Schemas);
        }
        peer.fetching.insert(hash);
        self.fetch_schema_for_parked(from, origin, hash, known, now);
    }

    /// Sends what is due to be said, and forgets who looks no more.
    pub(super) fn show_on(&mut self, now: Instant) {
        self.views.viewers.retain(|_, until| *until > now);
        self.views.through.retain(|_, until| *until > now);
        self.views.watched.retain(|_, watched| watched.until > now);
        self.views.sought.retain(|_, until| *until > now);
        while let Some((to, body)) = self.views.summaries.poll_message(now) {
            self.send(to, SUMMARIES, body);
        }
        let due = self.views.watched.iter();
        let due: Vec<_> = due
            .filter(|(_, watched)| watched.renew <= now)
            .map(|(node, watched)| (*node, *watched))
            .collect();
        for (node, watched) in due {
            self.renew(node, watched, now);
        }
    }

    /// Subscribes once more at a node that is looked at, or at somebody who keeps its rows.
    fn renew(&mut self, node: NodeId, watched: Watched, now: Instant) {
        let kept = self.keeps(&node);
        let at = if kept {
            None
        } else if self.peers.contains_key(&node) {
            Some(node)
        } else {
            self.next_keeper(&node, watched, now)
        };
        let is_sure = at.is_none_or(|at| at == node || (watched.shown && watched.at == Some(at)));
        let renew = now + if is_sure { RENEW } else { RETRY };
        if let Some(watched) = self.views.watched.get_mut(&node) {
            (watched.at, watched.shown, watched.renew) = (at, false, renew);
        }
        if let Some(at) = at {
            let origin = origin_of(node);
            self.send(at, SUBSCRIBE, wire::small(&Subscribe { origin }));
        }
    }

    /// The keeper that brought rows, else the one after it.
    fn next_keeper(&self, node: &NodeId, watched: Watched, now: Instant) -> Option<NodeId> {
        let holders = self.holders(node, now).into_iter();
        let keepers: Vec<_> = holders
            .filter(|holder| holder != node && self.peers.contains_key(holder))
            .collect();
        let last = keepers
            .iter()
            .position(|keeper| Some(*keeper) == watched.at);
        let next = match last {
            Some(last) if watched.shown => last,
            Some(last) => (last + 1) % keepers.len(),
            None => 0,
        };
        keepers.get(next).copied()
    }
}

/// The mark of a row's clock in a summary.
#[must_use]
pub fn marks_of(row: &SignedRow) -> u8 {
    match row.row.clock.source {
        outlast_store::ClockSource::Ntp => message::SYNCED,
        _ => 0,
    }
}
