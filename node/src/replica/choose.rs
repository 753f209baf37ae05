//! What to ask next, and whom.
//!
//! Newest first: of each origin its newest log that misses something, of those the one that
//! misses what is closest to its end. The origin is asked when it is there; when it has its hands
//! full, whoever else has the rows. What is on its way is never asked for again.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Instant;

use outlast_store::{IntervalSet, LogId, Origin};

use super::ask::{Ask, Request, newest_windows};
use super::peer::Peer;
use super::{FEW_LOGS, LOOK, Replica, digest, seals};

impl Replica {
    pub(super) fn next_held(&mut self, now: Instant) -> Option<Request> {
        let free = |(id, peer): (&Origin, &Peer)| {
            let ask = peer.connected.is_some()
                && !peer.differing.is_empty()
                && self.asks.may_ask_held(id, now);
            ask.then_some(*id)
        };
        let peer = self.peers.iter().find_map(free)?;
        let known = self.peers.get_mut(&peer)?;
        let origins: Vec<_> = known
            .differing
            .iter()
            .copied()
            .take(digest::MAX_ORIGINS_ASKED)
            .collect();
        known.differing.retain(|origin| !origins.contains(origin));
        Some(self.asks.start(peer, Ask::Held { origins }, now))
    }

    pub(super) fn next_rows(&mut self, now: Instant) -> Option<Request> {
        if !self
            .peers
            .iter()
            .any(|(id, peer)| peer.connected.is_some() && self.asks.may_ask(id, now))
        {
            return None;
        }
        if self.look_again.is_some_and(|at| now < at) {
            return None;
        }
        let looked_at = self.suspects.len();
        let mut best: Option<(u32, LogId, Origin, IntervalSet)> = None;
        let mut chosen = BTreeSet::new();
        let mut complete = Vec::new();
        // Newest first: of each origin its newest log that somebody free has something of, of
        // these the one that misses what is closest to its end.
        for log in self.suspects.iter().rev() {
            if chosen.contains(&log.origin) {
                continue;
            }
            let missing = self.missing(log, now);
            if missing.is_empty() {
                if !self.settling(log, now) {
                    complete.push(*log);
                }
                continue;
            }
            let Some((peer, rows)) = self.holder(log, &missing, now) else {
                continue;
            };
            chosen.insert(log.origin);
            let depth = self.known_top(log).saturating_sub(rows.last().unwrap_or(0)) / 60;
            if best.as_ref().is_none_or(|(other, ..)| depth < *other) {
                best = Some((depth, *log, peer, rows));
            }
        }
        for log in complete {
            self.suspects.remove(&log);
            for peer in self.peers.values_mut() {
                peer.settle.remove(&log);
            }
        }
        let fruitless = best.is_none() && looked_at > FEW_LOGS;
        self.look_again =
            fruitless.then(|| now + LOOK * u32::try_from(looked_at).unwrap_or(u32::MAX));
        let (_, log, peer, rows) = best?;
        Some(self.asks.start(peer, Ask::Rows { log, rows }, now))
    }

    pub(super) fn next_seals(&mut self, now: Instant) -> Option<Request> {
        let due = self.seals.due(now);
        let (log, _) = due.first()?;
        let peer = self.seal_holder(log, now)?;
        let windows: Vec<_> = due
            .into_iter()
            .filter(|(log, _)| self.seal_holder(log, now) == Some(peer))
            .take(seals::MAX_ASKED)
            .collect();
        self.seals.asked(&windows, now);
        Some(self.asks.start(peer, Ask::Seals { windows }, now))
    }

    /// The origin when it is up, else any connected holder, a different one each time.
    fn seal_holder(&self, log: &LogId, now: Instant) -> Option<Origin> {
        let mut holders = self
            .peers
            .iter()
            .filter(|(id, peer)| {
                peer.connected.is_some()
                    && peer.logs.contains_key(log)
                    && self.asks.may_ask(id, now)
            })
            .map(|(id, _)| *id);
        let origin = self
            .peers
            .get(&log.origin)
            .filter(|peer| peer.connected.is_some());
        if origin.is_some() && self.asks.may_ask(&log.origin, now) {
            return Some(log.origin);
        }
        holders.next()
    }

    /// What connected peers hold of `log` and we neither have, await nor have evicted.
    pub(super) fn missing(&self, log: &LogId, now: Instant) -> IntervalSet {
        self.missing_at(log, now, |_| true)
    }

    /// The same, by the word of some of the peers.
    pub(super) fn missing_at(
        &self,
        log: &LogId,
        now: Instant,
        believed: impl Fn(&Peer) -> bool,
    ) -> IntervalSet {
        if !self.keeps(&log.origin) {
            return IntervalSet::default();
        }
        let mut offered = self
            .peers
            .values()
            .filter(|peer| peer.is_of_use() && believed(peer))
            .map(|peer| peer.offers(log, now))
            .fold(IntervalSet::default(), |all, held| all.union(&held));
        if Some(*log) == self.running {
            offered = offered.intersect(&self.holdings.below_top(log));
        }
        self.asks
            .not_in_flight(log, self.holdings.lacking(log, &offered))
    }

    fn settling(&self, log: &LogId, now: Instant) -> bool {
        self.peers
            .values()
            .any(|peer| peer.settle.get(log).is_some_and(|&until| now < until))
            || self.holdings.is_pending(log)
            || self.asks.logs().any(|asked| asked == *log)
    }

    fn known_top(&self, log: &LogId) -> u32 {
        let tops = self
            .peers
            .values()
            .filter_map(|peer| peer.logs.get(log)?.held.last());
        tops.max().unwrap_or(0)
    }

    /// The origin first; when it has its hands full, whoever has the fewest requests of ours.
    fn holder(
        &self,
        log: &LogId,
        missing: &IntervalSet,
        now: Instant,
    ) -> Option<(Origin, IntervalSet)> {
        let chunk = |peer: &Peer| newest_windows(&peer.offers(log, now).intersect(missing));
        self.peers
            .iter()
            .filter(|(id, peer)| peer.is_of_use() && self.asks.may_ask(id, now))
            .map(|(id, peer)| (*id, chunk(peer)))
            .filter(|(_, rows)| !rows.is_empty())
            .min_by_key(|(id, rows)| {
                let top = rows.last().unwrap_or(0);
                (Reverse(top / 60), *id != log.origin, self.asks.load(id))
            })
    }
}
