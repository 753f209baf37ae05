//! The ledger in the flow's task: its file's thread, who waits for an event to be told, and who reads all of them.
//!
//! Absent: deciding anything; the core does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outlast_mesh::{MeshId, NodeKey};
use tokio::sync::{oneshot, watch};

use super::core::Core;
use crate::ledger::{
    Event, Events, HeldBack, Keeper, Keys, Ledger, Place, PublishError, Submitted,
};
use crate::when::now_ms;

/// Between two sets of events that readers are given.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Where the ledger is kept, and by whom.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// The file.
    pub path: PathBuf,
    /// Signs this node's events.
    pub key: NodeKey,
    /// Whose events these are.
    pub mesh: MeshId,
}

impl LedgerConfig {
    /// The ledger as the disk has it. `seed` must be another at each start.
    pub(super) fn ledger(&self, earlier: Vec<Event>, seed: u64) -> Ledger {
        let key = self.key.clone();
        let keys = Keys {
            mesh: self.mesh,
            sign: Some(Box::new(move |message| key.sign(message))),
            verify: outlast_mesh::verify,
        };
        Ledger::new(self.key.id(), keys, seed, Instant::now()).with_earlier(earlier, now_ms())
    }
}

#[derive(Debug)]
pub(super) struct Clerk {
    /// `None`: it is kept in memory only.
    keeper: Option<Keeper>,
    shown: watch::Sender<Arc<Events>>,
    shown_at: Option<Instant>,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Place, PublishError>>>,
}

impl Clerk {
    pub(super) fn new(keeper: Option<Keeper>, shown: watch::Sender<Arc<Events>>) -> Self {
        Self {
            keeper,
            shown,
            shown_at: None,
            waiting: BTreeMap::new(),
        }
    }

    /// Somebody here publishes something.
    pub(super) fn handle_submitted(&mut self, submitted: Submitted, core: &mut Core) {
        let taken = core.handle_event(submitted.draft, Instant::now());
        match (taken, submitted.done) {
            (Ok(ticket), Some(done)) => {
                self.waiting.insert(ticket, done);
            }
            (Err(HeldBack), Some(done)) => {
                // Whoever waits may have given up.
                let _ = done.send(Err(PublishError::HeldBack));
            }
            (Err(HeldBack), None) => tracing::debug!("an event was held back"),
            (Ok(_), None) => {}
        }
    }

    /// Has an event written, at once where it is `own`; false where nobody will say that it was.
    pub(super) fn record(&self, event: Event, own: bool) -> bool {
        self.keeper
            .as_ref()
            .is_some_and(|keeper| keeper.append(event, own))
    }

    pub(super) fn handle_told(&mut self, ticket: u64, place: Place) {
        if let Some(done) = self.waiting.remove(&ticket) {
            // Whoever waits may have given up.
            let _ = done.send(Ok(place));
        }
        self.waiting.retain(|_, done| !done.is_closed());
    }

    /// Gives readers what is held, where that has changed, once a second at most.
    pub(super) fn show(&mut self, core: &Core) {
        let now = Instant::now();
        let lately = self.shown_at.is_some_and(|at| now < at + SHOW_EVERY);
        if !lately && !Arc::ptr_eq(&self.shown.borrow(), core.events()) {
            self.shown_at = Some(now);
            self.shown.send_replace(Arc::clone(core.events()));
        }
    }

    /// Once a second: the file is written anew where it should be.
    pub(super) fn look(&mut self, core: &Core) {
        self.show(core);
        if let Some(keeper) = &self.keeper
            && keeper.wants_all(core.ledger_stats().bytes, Instant::now())
        {
            keeper.rewrite(core.events_on_disk());
        }
    }

    /// What is wrong with the file, as a sentence.
    pub(super) fn trouble(&self) -> Option<String> {
        self.keeper.as_ref()?.trouble()
    }
}
