//! What a node tells its peers it holds, in few bytes.
//!
//! One entry per origin: the log that is being written, with its ranges, and one hash over all
//! its other logs. The sender names the open log, and the receiver hashes its own sets without
//! that log, so the two need not agree which log is the open one. Hashes cover what is held
//! together with what was evicted: two nodes that differ only by retention are equal.

use std::collections::BTreeMap;

use outlast_store::{Epoch, IntervalSet, LogId, Origin, StoreId};
use serde::{Deserialize, Serialize};

pub use super::holdings::Coverage;

/// Logs remembered per peer: 16 origins with the 1,000 epochs each may have.
pub const MAX_LOGS: usize = 16_000;
/// Origins in one request for full sets.
pub const MAX_ORIGINS_ASKED: usize = 16;
/// Ranges of the open log in a digest; with more, the receiver asks for the full answer.
pub const MAX_RANGES: usize = 24;

/// What a peer holds of one origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose rows.
    pub origin: Origin,
    /// Hash over every log but the open one.
    pub closed: [u8; 16],
    /// The log being written, `None` when nothing is held.
    pub open: Option<Open>,
}

/// The open log of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The log's store.
    pub store: StoreId,
    /// The log's epoch.
    pub epoch: Epoch,
    /// Its rows; `None` when there are too many ranges for a digest.
    pub coverage: Option<Coverage>,
}

impl Entry {
    pub(super) fn new(origin: Origin, closed: [u8; 16], open: Option<(LogId, Coverage)>) -> Self {
        let open = open.map(|(log, coverage)| {
            let ranges = coverage.held.ranges().count() + coverage.gone.ranges().count();
            let coverage = (ranges <= MAX_RANGES).then_some(coverage);
            Open {
                store: log.store,
                epoch: log.epoch,
                coverage,
            }
        });
        Self {
            origin,
            closed,
            open,
        }
    }

    /// The full name of the open log.
    #[must_use]
    pub fn open_log(&self) -> Option<LogId> {
        let open = self.open.as_ref()?;
        Some(LogId {
            origin: self.origin,
            store: open.store,
            epoch: open.epoch,
        })
    }
}

/// Hashes interval sets by log; an empty set is as good as none.
pub(super) fn hash(logs: &BTreeMap<LogId, IntervalSet>) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for (log, rows) in logs.iter().filter(|(_, rows)| !rows.is_empty()) {
        hasher.update(&log.store.0.to_le_bytes());
        hasher.update(&log.epoch.counter.to_le_bytes());
        hasher.update(&log.epoch.nonce.to_le_bytes());
        hasher.update(&(rows.ranges().count() as u64).to_le_bytes());
        for range in rows.ranges() {
            hasher.update(&range.start().to_le_bytes());
            hasher.update(&range.end().to_le_bytes());
        }
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}
