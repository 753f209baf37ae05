//! What to ask next, and whom.
//!
//! Newest first: of each origin its newest log that misses something, of those the one that
//! misses what is closest to its end. What is older than a day waits until nothing else is missing,
//! and goes in one request at a time. The origin is asked when it is there and in this site; when it
//! has its hands full, whoever else has the rows. What is on its way is never asked for again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use outlast_store::{IntervalSet, LogId, Origin, Seq};

use super::ask::{Ask, Request, newest_windows};
use super::holdings::span;
use super::peer::Peer;
use super::{FEW_LOGS, LOGS_OF_ONE, LOOK, Replica, digest, seals};

/// Rows of a day.
const A_DAY: u64 = 86_400;

/// Whose turn it is: what is older than a day comes after all that isn't, then what is closest to the
/// end of its log.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    is_old: bool,
    windows: u32,
}

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
        if self.suspects.is_empty() {
            self.settle_waits(&BTreeSet::new(), now);
            self.look_again = None;
            return None;
        }
        if self.look_again.is_some_and(|at| now < at) {
            return None;
        }
        self.sweep();
        let askable = self.askable(now);
        if askable.is_empty() {
            return None;
        }
        self.settle_waits(&askable, now);
        self.looked_at = askable.len();
        let mut best: Option<(Turn, LogId, Origin, IntervalSet)> = None;
        let mut chosen = BTreeSet::new();
        let mut complete = Vec::new();
        let is_open = |log: &&LogId| self.open.get(&log.origin) == Some(*log);
        let open = askable.iter().filter(is_open);
        let others = askable.iter().rev().filter(|log| !is_open(log));
        for log in open.chain(others) {
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
            let turn = self.turn(log, rows.last().unwrap_or(0));
            if best.as_ref().is_none_or(|(other, ..)| turn < *other) {
                best = Some((turn, *log, peer, rows));
            }
        }
        for log in complete {
            self.suspects.remove(&log);
            for peer in self.peers.values_mut() {
                peer.settle.remove(&log);
            }
        }
        let fruitless = best.is_none() && self.looked_at > FEW_LOGS;
        self.look_again =
            fruitless.then(|| now + LOOK * u32::try_from(self.looked_at).unwrap_or(u32::MAX));
        let (turn, log, peer, rows) = best?;
        // What is older than a day has what nobody else needs: one request at a time.
        if turn.is_old && self.asks.logs().next().is_some() {
            return None;
        }
        Some(self.asks.start(peer, Ask::Rows { log, rows }, now))
    }

    /// The suspects that somebody has who may be asked at this moment: of each such peer those that are written to, and the
    /// last ones. What only others have waits until one of them may be, so that a liar that rests costs nothing.
    fn askable(&self, now: Instant) -> BTreeSet<LogId> {
        let mut askable = BTreeSet::new();
        let here = self.peers.iter();
        for (_, peer) in here.filter(|(id, peer)| peer.is_of_use() && self.asks.may_ask(id, now)) {
            let suspect = |log: &&LogId| self.suspects.contains(log) && peer.logs.contains_key(log);
            askable.extend(self.open.values().filter(suspect));
            if peer.logs.len() < self.suspects.len() {
                let theirs = peer.logs.keys().rev().filter(suspect);
                askable.extend(theirs.take(LOGS_OF_ONE));
            } else {
                let theirs = self.suspects.iter().rev().filter(suspect);
                askable.extend(theirs.take(LOGS_OF_ONE));
            }
        }
        askable
    }

    /// Forgets suspects that nobody here has, whenever there are twice as many: who comes with them makes them suspect again.
    fn sweep(&mut self) {
        if self.suspects.len() <= 2 * self.swept + FEW_LOGS {
            return;
        }
        let here = self.peers.values().filter(|peer| peer.connected.is_some());
        let here: Vec<_> = here.collect();
        self.suspects
            .retain(|log| here.iter().any(|peer| peer.logs.contains_key(log)));
        self.swept = self.suspects.len();
    }

    /// When it is the turn of a row, by how much its origin took since.
    fn turn(&self, log: &LogId, seq: Seq) -> Turn {
        let behind = self.known_top(log).saturating_sub(seq);
        let age = u64::from(behind) + self.rows_after(log);
        Turn {
            is_old: age >= A_DAY,
            windows: behind / 60,
        }
    }

    /// How many rows its origin took after those of `log`, as far as known.
    fn rows_after(&self, log: &LogId) -> u64 {
        let open = self.open.get(&log.origin);
        if open == Some(log) {
            return 0;
        }
        let theirs = self.peers.values();
        let theirs = theirs.flat_map(|peer| peer.logs.range(span(&log.origin)));
        let held = self.holdings.held_of(&log.origin);
        let logs = theirs.map(|(log, _)| log).chain(held.map(|(log, _)| log));
        let later: BTreeSet<&LogId> = logs.filter(|of| *of > log || Some(*of) == open).collect();
        later
            .into_iter()
            .map(|of| u64::from(self.known_top(of)))
            .sum()
    }

    pub(super) fn next_seals(&mut self, now: Instant) -> Option<Request> {
        let due = self.seals.due(now);
        let logs: BTreeSet<LogId> = due.iter().map(|(log, _)| *log).collect();
        let nobody_has: BTreeSet<LogId> = logs
            .iter()
            .filter(|log| !self.has_seal_holder(log))
            .copied()
            .collect();
        self.seals.put_off(&nobody_has, now);
        let holders: BTreeMap<LogId, Origin> = logs
            .into_iter()
            .filter_map(|log| Some((log, self.seal_holder(&log, now)?)))
            .collect();
        let peer = due.iter().find_map(|(log, _)| holders.get(log)).copied()?;
        let windows: Vec<_> = due
            .into_iter()
            .filter(|(log, _)| holders.get(log) == Some(&peer))
            .take(seals::MAX_ASKED)
            .collect();
        self.seals.asked(&windows, now);
        Some(self.asks.start(peer, Ask::Seals { windows }, now))
    }

    /// Whether anybody is connected that may have seals of `log`, with its hands full or not.
    fn has_seal_holder(&self, log: &LogId) -> bool {
        let here = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.connected.is_some());
        here.into_iter()
            .any(|(id, peer)| *id == log.origin || peer.logs.contains_key(log))
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
        let own = log.origin == self.me;
        let room = if own { self.room.own } else { self.room.copies };
        if !(room && self.keeps(&log.origin)) {
            return IntervalSet::default();
        }
        // Most peers of a large mesh keep other logs.
        let mut offered = self
            .peers
            .values()
            .filter(|peer| peer.logs.contains_key(log) && peer.is_of_use() && believed(peer))
            .map(|peer| peer.offers(log, now))
            .reduce(|all, held| all.union(&held))
            .unwrap_or_default();
        if !own && self.roster.is_metered(&self.me) {
            offered = self.sealed_of(log, &offered);
        }
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

    /// The newest row of a log: what is held here, or as its origin says. Where that says nothing, what all of its other
    /// holders say at least, so that one that lies makes nobody's rows old.
    pub(super) fn known_top(&self, log: &LogId) -> u32 {
        let held = self.holdings.held().get(log).and_then(IntervalSet::last);
        let top = |peer: &Peer| peer.logs.get(log).and_then(|known| known.held.last());
        let told = self.peers.get(&log.origin).and_then(top).or_else(|| {
            let knows = |peer: &&Peer| peer.logs.range(span(&log.origin)).next().is_some();
            let others = self.peers.values().filter(|peer| !peer.is_hollow());
            others
                .filter(knows)
                .map(|peer| top(peer).unwrap_or(0))
                .min()
        });
        held.max(told).unwrap_or(0)
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
            .filter(|(_, peer)| peer.logs.contains_key(log) && peer.is_of_use())
            .filter(|(id, _)| self.asks.may_ask(id, now))
            .filter(|(id, _)| self.may_fetch_from(log, id, now))
            .map(|(id, peer)| (*id, chunk(peer)))
            .filter(|(_, rows)| !rows.is_empty())
            .min_by_key(|(id, rows)| {
                let top = rows.last().unwrap_or(0);
                let far = self.distance(id);
                let load = self.asks.load(id);
                (Reverse(top / 60), far, *id != log.origin, load)
            })
    }
}
