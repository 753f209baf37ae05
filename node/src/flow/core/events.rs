//! The ledger in the core: small messages of its own kind, beside those of rows.

use std::sync::Arc;
use std::time::Instant;

use outlast_mesh::{MeshId, NodeId};

use super::{Core, Effect, Offence};
use crate::flow::wire::LEDGER;
use crate::ledger::{self, Authors, Draft, Events, HeldBack, Keys, Ledger, LedgerStats, Place};

impl Core {
    /// Keeps this ledger from here on, instead of one that only passes on.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.ledger = ledger;
        self
    }

    /// Something happened here that everybody should know. What comes back names it in `Effect::Told`.
    pub fn handle_event(&mut self, draft: Draft, now: Instant) -> Result<u64, HeldBack> {
        let ticket = self.ledger.handle_own(draft, now);
        self.settle_ledger(now);
        ticket
    }

    /// An event of this node is on disk, or can't be written.
    pub fn handle_recorded(&mut self, place: Place, now: Instant) {
        self.ledger.handle_written(place);
        self.settle_ledger(now);
    }

    /// Every event that is held.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        self.ledger.events()
    }

    /// Counters of the ledger.
    #[must_use]
    pub fn ledger_stats(&self) -> LedgerStats {
        self.ledger.stats()
    }

    /// Everything that belongs in the ledger's file.
    pub(in crate::flow) fn events_on_disk(&self) -> Vec<ledger::Event> {
        self.ledger.on_disk().cloned().collect()
    }

    pub(super) fn name_authors(&mut self, now: Instant) {
        let authors = Authors {
            ever: Arc::clone(self.named.ever()),
            there: self.named.there(),
        };
        self.ledger.handle_members(authors, now);
        self.settle_ledger(now);
    }

    /// Carries out what the ledger wants by now.
    pub(super) fn settle_ledger(&mut self, now: Instant) {
        while let Some(event) = self.ledger.poll_record() {
            self.effects.push_back(Effect::Record(event));
        }
        while let Some((to, body)) = self.ledger.poll_transmit() {
            self.send(to, LEDGER, body);
        }
        // After the messages: what is told of is on its way.
        while let Some((ticket, place)) = self.ledger.poll_told() {
            self.effects.push_back(Effect::Told(ticket, place));
        }
        while let Some((culprit, offence)) = self.ledger.poll_offence() {
            self.blame(culprit, named(offence));
        }
        self.reckon_due(now);
    }
}

/// A ledger that reads and passes on, and has nothing to say.
pub(super) fn silent(me: NodeId, seed: u64, now: Instant) -> Ledger {
    let keys = Keys {
        mesh: MeshId([0; 32]),
        sign: None,
        verify: outlast_mesh::verify,
    };
    Ledger::new(me, keys, seed, now)
}

fn named(offence: ledger::Offence) -> Offence {
    match offence {
        ledger::Offence::Unreadable => Offence::Unreadable,
        ledger::Offence::Words => Offence::Ledger,
        ledger::Offence::Forged => Offence::ForgedEvents,
        ledger::Offence::Quota => Offence::Events,
        ledger::Offence::TwoContents => Offence::TwoEvents,
    }
}
