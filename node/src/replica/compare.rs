//! Digests out and in, and the full answers that a difference leads to.
//!
//! A digest names only origins that both sides keep, so its size grows with what is kept and not
//! with the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outlast_store::{LogId, Origin};
use rand::Rng as _;

use super::digest::Entry;
use super::holdings::Coverage;
use super::peer::{Compared, Peer};
use super::{DIGEST_EVERY, METERED_EVERY, Offence, Replica};

impl Replica {
    /// Compares a digest of `peer` with what is held here.
    pub fn handle_digest(&mut self, peer: Origin, entries: Vec<Entry>, now: Instant) {
        self.stir();
        for entry in entries {
            if self.roster.contains(&entry.origin) {
                self.handle_entry(peer, entry, now);
            }
        }
    }

    fn handle_entry(&mut self, peer: Origin, entry: Entry, now: Instant) {
        let open = entry.open_log();
        let mine = self.holdings.closed_hash(&entry.origin, open.as_ref());
        let equal = mine == entry.closed;
        let compared = |theirs| Compared {
            at: now,
            mine,
            theirs,
            open,
            answered: None,
        };
        let (of, own) = (entry.origin, entry.origin == self.me);
        let kept = self.keeps(&entry.origin);
        let surplus = self.is_surplus(&of);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if kept {
            known.mention(entry.origin, now);
        }
        let contradicts = known.contradicts(&entry);
        if equal {
            if surplus {
                known.told.insert(of, now);
            }
            known.differing.remove(&entry.origin);
            let agreed = known
                .compared
                .get(&entry.origin)
                .is_some_and(|c| c.mine == mine && c.theirs == mine);
            if !agreed {
                known.agree(self.holdings.covered_of(&entry.origin, open.as_ref()));
                known.compared.insert(entry.origin, compared(mine));
            }
        } else if known.should_ask(&entry, mine, now) {
            known.compared.insert(entry.origin, compared(entry.closed));
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
                    let lacks = !self.holdings.lacking(&log, &coverage.held).is_empty();
                    too_much = !known.learn(log, coverage, now);
                    if lacks {
                        self.suspects.insert(log);
                    } else {
                        // Nothing of it waits to be asked for.
                        known.settle.remove(&log);
                    }
                }
                None => {
                    listed = false;
                    known.differing.insert(entry.origin);
                }
            }
        }
        // What others hold of an origin is as full of holes as that origin made it.
        if too_much && of == peer {
            self.accuse(peer, Offence::Claims);
        }
        if contradicts {
            self.accuse(peer, Offence::Contradiction);
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
        self.stir();
        self.asks.progress(id, now);
        if !self.roster.contains(&origin) {
            return;
        }
        let surplus = self.is_surplus(&origin);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if surplus {
            known.told.insert(origin, now);
        }
        known.differing.remove(&origin);
        known.answered(&origin, &logs);
        known.forget(&origin);
        let mut too_much = false;
        for (log, coverage) in logs.into_iter().rev() {
            if log.origin == origin && known.learn(log, coverage, now) {
                self.suspects.insert(log);
            } else {
                too_much = true;
            }
        }
        if too_much && origin == peer {
            self.accuse(peer, Offence::Claims);
        }
        if origin == self.me {
            self.own_compared = true;
        }
    }

    /// The next digest that is due, newest state included.
    pub fn poll_digest(&mut self, now: Instant) -> Option<(Origin, Vec<Entry>)> {
        if self.is_calm(now) {
            return None;
        }
        self.stir();
        self.handle_absences(now);
        if !self.ready {
            return None;
        }
        loop {
            let due = |(id, peer): (&Origin, &Peer)| {
                (peer.connected.is_some() && peer.digest_due <= now).then_some(*id)
            };
            let peer = self.peers.iter().find_map(due)?;
            let jitter = Duration::from_millis(self.rng.random_range(0..1_000));
            let paid = self.roster.is_metered(&peer) || self.roster.is_metered(&self.me);
            self.peers.values_mut().for_each(|peer| peer.doubt(now));
            let every = if paid { METERED_EVERY } else { DIGEST_EVERY };
            let entry = self.peers.get_mut(&peer)?;
            entry.digest_sent = Some(now);
            entry.digest_due = now + every - jitter;
            let origins = self.shared_with(&peer, now).into_iter();
            let entries: Vec<_> = origins.map(|origin| self.entry(origin)).collect();
            if !entries.is_empty() {
                return Some((peer, entries));
            }
        }
    }

    /// Whether `poll_digest` has something to do.
    pub(super) fn is_digest_due(&self, now: Instant) -> bool {
        let mut connected = self.peers.values().filter(|peer| peer.connected.is_some());
        connected.any(|peer| peer.digest_due <= now) || self.is_move_due(now)
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

    /// Sends digests to everybody before their turn, at most once a second: after a fetch ended
    /// (that is when a backlog reads zero), or when a row could not be sent live.
    pub fn hasten(&mut self, now: Instant) {
        self.stir();
        for peer in self.peers.values_mut() {
            let earliest = peer
                .digest_sent
                .map_or(now, |sent| (sent + Duration::from_secs(1)).max(now));
            peer.digest_due = peer.digest_due.min(earliest);
        }
    }

    /// The origins a digest to `peer` tells of: what it keeps and we hold, what we keep of its own
    /// even if that is nothing, and what it told us of lately, so that two who see other members
    /// present still find each other.
    fn shared_with(&self, peer: &Origin, now: Instant) -> BTreeSet<Origin> {
        let held: BTreeSet<_> = self.holdings.origins().collect();
        let mut origins: BTreeSet<_> = held
            .into_iter()
            .filter(|origin| self.tells(origin, peer))
            .collect();
        if self.keeps(peer) {
            origins.insert(*peer);
        }
        if let Some(peer) = self.peers.get(peer) {
            origins.extend(peer.mentioned(now).filter(|origin| self.keeps(origin)));
        }
        origins
    }
}
