//! What is asked of peers, from the first word to its end.
//!
//! Absent: choosing what to ask and whom (`choose`), the bounds of it (`ask`).

use std::time::Instant;

use outlast_store::Origin;

use super::ask::{Ask, Failure, Request};
use super::{Calm, MOST_OFFENCES, Offence, Replica};

impl Replica {
    /// A request moved on: its deadline starts again.
    pub fn handle_progress(&mut self, id: u64, now: Instant) {
        self.stir();
        self.asks.progress(id, now);
    }

    /// A request is answered. Rows of it that did not come are not at that peer.
    pub fn handle_done(&mut self, id: u64, now: Instant) {
        self.stir();
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
            && peer.logs.contains_key(&log)
        {
            peer.logs.change(log, |known| {
                known.held = known.held.subtract(&absent);
            });
        }
    }

    /// A request broke off: what didn't come is asked again, elsewhere first.
    pub fn handle_failed(&mut self, id: u64, now: Instant) {
        let request = self.asks.fail(id, Failure::Broken, now);
        self.free(request);
    }

    pub(super) fn free(&mut self, request: Option<Request>) {
        self.stir();
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

    /// The next thing to ask a peer for, if anything is missing and somebody free has it.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if !self.ready || self.is_calm(now) {
            return None;
        }
        self.stir();
        let suspected = self.suspects.len();
        let request = self
            .next_held(now)
            .or_else(|| self.next_rows(now))
            .or_else(|| self.next_seals(now));
        if request.is_some() {
            return request;
        }
        if self.fetched && self.asks.is_idle() {
            self.fetched = false;
            self.hasten(now);
        } else if !self.is_digest_due(now) && self.suspects.len() == suspected {
            // A look that cleared some has room for others in the next.
            let until = self.next_due(now);
            self.calm = Some(Calm { until });
        }
        None
    }

    /// A request that has been given up and must stop before the next `poll_request`.
    pub fn poll_given_up(&mut self, now: Instant) -> Option<u64> {
        for freed in self.asks.expire(now) {
            self.free(Some(freed));
        }
        self.asks.next_given_up()
    }

    /// Requests on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.asks.len()
    }

    pub(super) fn accuse(&mut self, peer: Origin, offence: Offence) {
        if self.offences.len() < MOST_OFFENCES {
            self.offences.push_back((peer, offence));
        }
    }

    /// The next lie somebody was caught at.
    pub fn poll_offence(&mut self) -> Option<(Origin, Offence)> {
        self.offences.pop_front()
    }
}
