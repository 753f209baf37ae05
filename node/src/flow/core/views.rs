//! What goes to and comes from nodes that don't keep each other's rows: summaries, and live rows for who looks.
//!
//! Summaries go to everybody (`summary`). Who looks at a node whose rows it doesn't keep subscribes at it, again each
//! `RENEW`; for `HOLDS` after the last time it gets live rows as a keeper does. Such rows are shown and not kept: they
//! never reach the replica or the store, and what is lost of them isn't repaired.
//! Bounds: `MOST_VIEWERS` subscribers besides keepers, one more is refused and counted; `MOST_WATCHED` nodes looked at
//! and as many about to be asked, the one of longest ago goes first; a peer's subscriptions cost its budget.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{MemberSnapshot, NodeId, PeerState};
use outlast_store::{LogId, Origin, SchemaHash, SignedRow};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Core, Offence};
use crate::flow::keep::Job;
use crate::flow::wire::{self, SUBSCRIBE, SUMMARIES};
use crate::flow::{node_of, origin_of};
use crate::replica::keeper::EVERYBODY;
use crate::summary::gauges::Gauges;
use crate::summary::{Fault, Seen, Standing, Summaries, message};

/// Subscribers of this node's live rows at a time, besides its keepers.
const MOST_VIEWERS: usize = 16;
/// Nodes looked at here at a time.
const MOST_WATCHED: usize = 64;
/// Between two subscriptions at a node that is looked at.
const RENEW: Duration = Duration::from_secs(10);
/// How long a subscription holds, and a look.
pub(super) const HOLDS: Duration = Duration::from_secs(30);

/// Asks for the live rows of an origin: the receiver's own, and nobody else's so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::flow) struct Subscribe {
    pub(in crate::flow) origin: Origin,
}

/// The core's part of it.
#[derive(Debug)]
pub(super) struct Views {
    summaries: Summaries,
    viewers: BTreeMap<NodeId, Instant>,
    watched: BTreeMap<NodeId, Watched>,
    /// Who may be asked for the history of a node that somebody looks for, and until when.
    sought: BTreeMap<NodeId, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    until: Instant,
    renew: Instant,
}

impl Views {
    pub(super) fn new(running: LogId, seed: u64, now: Instant) -> Self {
        // Another stream of the same seed: the replica's choices don't depend on what is shown.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        Self {
            summaries: Summaries::new(node_of(running.origin), EVERYBODY, rng, now),
            viewers: BTreeMap::new(),
            watched: BTreeMap::new(),
            sought: BTreeMap::new(),
        }
    }

    pub(super) fn handle_members(&mut self, members: &[MemberSnapshot]) {
        let there = members
            .iter()
            .filter(|member| !matches!(member.state, PeerState::Retired | PeerState::Evicted));
        let standing = |member: &MemberSnapshot| (member.id, standing(member));
        self.summaries.handle_members(there.map(standing).collect());
    }

    pub(super) fn handle_connected(&mut self, peer: NodeId, now: Instant) {
        self.summaries.handle_connected(peer);
        if let Some(watched) = self.watched.get_mut(&peer) {
            watched.renew = now;
        }
    }

    pub(super) fn handle_disconnected(&mut self, peer: NodeId) {
        self.summaries.handle_disconnected(peer);
        self.viewers.remove(&peer);
    }

    pub(super) fn due(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let renewals = self.watched.values().map(|watched| watched.renew);
        let renewals = renewals.map(|at| (at, "a subscription"));
        renewals.chain(self.summaries.poll_timeout(now)).min()
    }
}

fn standing(member: &MemberSnapshot) -> Standing {
    Standing {
        metered: member.metered,
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
        let renew = watched.get(&node).map_or(now, |watched| watched.renew);
        let until = now + HOLDS;
        watched.insert(node, Watched { until, renew });
        if watched.len() > MOST_WATCHED {
            let oldest = watched.iter().min_by_key(|(_, watched)| watched.until);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                watched.remove(&oldest);
            }
        }
        self.want();
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
        let reached = others.filter(|holder| self.within_reach.contains(holder));
        here.into_iter().chain(reached).collect()
    }

    /// The members whose rows are kept here.
    #[must_use]
    pub fn kept(&self) -> BTreeSet<NodeId> {
        let members = self.members.iter().copied();
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
            return self.refuse("subscription: of another's rows");
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

    /// A live row of an origin that isn't kept here: shown if its schema is known, and gone.
    pub(super) fn show(&mut self, row: Arc<SignedRow>) {
        self.store(Job::Show(row));
    }

    /// The schema of a row that is only shown isn't here.
    pub(super) fn handle_unshown(
        &mut self,
        origin: Origin,
        hash: SchemaHash,
        known: Option<SchemaHash>,
        now: Instant,
    ) {
        let from = node_of(origin);
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
        self.views.watched.retain(|_, watched| watched.until > now);
        self.views.sought.retain(|_, until| *until > now);
        while let Some((to, body)) = self.views.summaries.poll_message(now) {
            self.send(to, SUMMARIES, body);
        }
        let mut renewed = Vec::new();
        for (node, watched) in &mut self.views.watched {
            if watched.renew <= now {
                watched.renew = now + RENEW;
                renewed.push(*node);
            }
        }
        for node in renewed {
            let kept = self.keeps(&node);
            if !kept && self.peers.contains_key(&node) {
                let origin = origin_of(node);
                self.send(node, SUBSCRIBE, wire::small(&Subscribe { origin }));
            }
        }
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
