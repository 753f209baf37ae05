//! How much each peer lacks of what is held here.
//!
//! Nothing acknowledges a live row; the next digest does. Until then a connected peer most likely
//! has it, and counting it would show a number that is never zero: such rows are `Fresh`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use outlast_store::{IntervalSet, LogId, Origin, Seq};

use super::Replica;

/// A digest interval and the settling after it.
const FRESH_FOR: Duration = Duration::from_secs(12);
/// 16 origins for `FRESH_FOR`, twice over; beyond it the oldest count as backlog at once.
const MAX_FRESH: usize = 400;

#[derive(Debug, Default)]
pub(super) struct Fresh {
    rows: VecDeque<(Instant, LogId, Seq)>,
}

impl Fresh {
    pub(super) fn push(&mut self, now: Instant, log: LogId, seq: Seq) {
        while self.rows.len() >= MAX_FRESH
            || self
                .rows
                .front()
                .is_some_and(|(at, ..)| now.duration_since(*at) > FRESH_FOR)
        {
            self.rows.pop_front();
        }
        self.rows.push_back((now, log, seq));
    }

    /// Fresh rows of `log` that arrived after `since`.
    pub(super) fn of(&self, log: &LogId, since: Instant, now: Instant) -> IntervalSet {
        let fresh = self.rows.iter().filter(|(at, of, _)| {
            of == log && *at >= since && now.duration_since(*at) <= FRESH_FOR
        });
        fresh.map(|(_, _, seq)| *seq..=*seq).collect()
    }
}

impl Replica {
    /// Samples each member that keeps what we hold lacks of it, as far as known: a peer that hasn't
    /// been heard since the start counts as holding nothing. Who is neither connected nor wanted is
    /// left out: another keeper of a node that is here, which in a large mesh says nothing to us and
    /// is that node's to look after.
    #[must_use]
    pub fn backlog(&self, now: Instant) -> BTreeMap<Origin, u64> {
        let wanted = self.wanted();
        let here = |peer: &Origin| {
            let peer = self.peers.get(peer);
            peer.is_some_and(|peer| peer.connected.is_some())
        };
        let partners = self.partners().into_iter();
        let mut backlog: BTreeMap<Origin, u64> = partners
            .filter(|peer| wanted.contains(peer) || here(peer))
            .filter(|peer| !self.roster.is_gone(peer))
            .map(|peer| (peer, 0))
            .collect();
        for (log, held) in self.holdings.held() {
            for peer in self.keepers_and(&log.origin) {
                if let Some(samples) = backlog.get_mut(&peer) {
                    *samples += self.lacked(log, held, &peer, now);
                }
            }
        }
        backlog
    }

    /// Samples of `log` that a keeper of it lacks.
    fn lacked(&self, log: &LogId, held: &IntervalSet, peer: &Origin, now: Instant) -> u64 {
        let known = self.peers.get(peer);
        let mut lacks = match known.and_then(|known| known.logs.get(log)) {
            Some(coverage) if coverage.held == *held => return 0,
            Some(coverage) => held.subtract(&coverage.held).subtract(&coverage.gone),
            None => held.clone(),
        };
        if self.roster.is_metered(peer) {
            lacks = self.sealed_of(log, &lacks);
        }
        if let Some(since) = known.and_then(|known| known.connected) {
            lacks = lacks.subtract(&self.fresh.of(log, since, now));
        }
        lacks.len() * self.row_samples.get(&log.origin).copied().unwrap_or(1)
    }
}
