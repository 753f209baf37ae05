//! What is remembered of a connected peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use outlast_mesh::NodeId;
use outlast_store::{Origin, SchemaHash, SignedRow};

use super::Core;
use super::budget::Budget;
use super::handed::Handed;
use crate::flow::inward::Inward;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) inward: Inward,
    pub(super) awaiting_schema: VecDeque<(SchemaHash, Arc<SignedRow>)>,
    pub(super) fetching: BTreeSet<SchemaHash>,
    pub(super) key_answered: Option<Instant>,
    pub(super) budget: Budget,
    /// Until when it wants its rows handed on.
    pub(super) hand_on_until: Option<Instant>,
    /// The origins whose rows it hands on.
    pub(super) handed: BTreeMap<Origin, Handed>,
}

impl Peer {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            inward: Inward::default(),
            awaiting_schema: VecDeque::new(),
            fetching: BTreeSet::new(),
            key_answered: None,
            budget,
            hand_on_until: None,
            handed: BTreeMap::new(),
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
