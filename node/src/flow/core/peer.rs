//! What is remembered of a connected peer.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use outlast_mesh::NodeId;
use outlast_store::{SchemaHash, SignedRow};

use super::Core;
use super::budget::Budget;
use crate::flow::inward::Inward;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) inward: Inward,
    pub(super) awaiting_schema: VecDeque<(SchemaHash, Arc<SignedRow>)>,
    pub(super) fetching: BTreeSet<SchemaHash>,
    pub(super) key_answered: Option<Instant>,
    pub(super) budget: Budget,
}

impl Peer {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            inward: Inward::default(),
            awaiting_schema: VecDeque::new(),
            fetching: BTreeSet::new(),
            key_answered: None,
            budget,
        }
    }
}

impl Core {
    /// Rows that waited for something from this peer are missing again.
    pub(super) fn forget(&mut self, peer: NodeId) {
        let Some(forgotten) = self.peers.remove(&peer) else {
            return;
        };
        self.spent.insert(peer, forgotten.budget);
        for (_, row) in forgotten.awaiting_schema {
            self.refused(row.row.log, row.row.seq);
        }
    }
}
