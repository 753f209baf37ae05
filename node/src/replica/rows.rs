//! Rows on their way here: in hand, stored, refused.

use std::ops::RangeInclusive;
use std::time::Instant;

use outlast_store::{LogId, Origin, Seq};

use super::Replica;

impl Replica {
    /// A live row is in hand and on its way to the store: not missing, not yet held. Its origin
    /// surely has what it took since the row before, so a gap is asked for without a digest.
    /// Says whether there is a gap, which makes something due later.
    pub fn handle_row(&mut self, log: LogId, seq: Seq, samples: u64, now: Instant) -> bool {
        self.holdings.pending(log, seq..=seq);
        self.row_samples.insert(log.origin, samples.max(1));
        let origin = self.peers.get_mut(&log.origin);
        let gap = origin.is_some_and(|origin| origin.sent_live(log, seq, now));
        if gap || self.minds_each_row(&log) {
            self.stir();
        }
        if gap {
            self.suspects.insert(log);
        }
        gap
    }

    /// A row that somebody handed on is in hand. Before the store has seen its signature it says nothing of anybody.
    pub fn handle_handed_on(&mut self, log: LogId, seq: Seq) {
        self.holdings.pending(log, seq..=seq);
    }

    /// The store believes a row that `from` handed on: it and the origin have it, and what came before.
    pub fn handle_believed(
        &mut self,
        from: Origin,
        log: LogId,
        seq: Seq,
        samples: u64,
        now: Instant,
    ) -> bool {
        let gap = self.handle_row(log, seq, samples, now);
        let from = self.peers.get_mut(&from);
        let lacks = from.is_some_and(|from| from.sent_live(log, seq, now));
        if lacks || self.minds_each_row(&log) {
            self.stir();
        }
        if lacks {
            self.suspects.insert(log);
        }
        gap || lacks
    }

    /// The store has a row that came live, or was taken here.
    pub fn handle_fresh(&mut self, log: LogId, seq: Seq, now: Instant) {
        if self.open.insert(log.origin, log) != Some(log) || self.minds_each_row(&log) {
            self.stir();
        }
        self.holdings.stored(log, seq..=seq);
        self.fresh.push(now, log, seq);
    }

    /// The store has rows that were asked for.
    pub fn handle_stored(&mut self, log: LogId, first: Seq, last: Seq) {
        self.stir();
        self.holdings.stored(log, first..=last);
        self.fetched = true;
    }

    /// Rows that the store took while its sets were being read, which may lack them.
    pub fn handle_held_here(&mut self, log: LogId, rows: RangeInclusive<Seq>) {
        self.stir();
        self.holdings.stored(log, rows);
    }

    /// The store wouldn't take a row that was in hand; with `from`, it isn't asked for there again.
    pub fn handle_refused(&mut self, from: Option<Origin>, log: LogId, first: Seq, last: Seq) {
        self.stir();
        self.holdings.dropped(log, first..=last);
        self.suspects.insert(log);
        if let Some(peer) = from.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.refuse(log, first, last);
        }
    }

    /// `peer` has these rows: it sent them, or took them from us.
    pub fn handle_peer_has(&mut self, peer: Origin, log: LogId, first: Seq, last: Seq) {
        self.stir();
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.has(log, first, last);
        }
    }

    /// Whether a row of `log`, even one that comes in order, changes what is to be asked for: a row that lacks is no longer
    /// among the newest then, a neighbour gets on, and where traffic is paid for a window may be whole.
    fn minds_each_row(&self, log: &LogId) -> bool {
        self.suspects.contains(log) || self.roster.is_metered(&self.me)
    }
}
