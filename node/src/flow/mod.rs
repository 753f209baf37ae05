//! Where the mesh meets the store.
//!
//! In: a tick each second, events of the mesh. Out: rows in the store, live rows and repairs to
//! peers, a feed for whoever shows them.
//! Absent: deciding what is missing and whom to ask (`replica`).

use std::collections::BTreeMap;
use std::sync::Arc;

use outlast_mesh::{Event, Mesh, NodeId, Snapshot};
use outlast_store::{LogId, Origin, Series, SignedRow, Store};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// A node as an origin of rows.
#[must_use]
pub fn origin_of(node: NodeId) -> Origin {
    Origin(node.0)
}

/// An origin of rows as a node of the mesh.
#[must_use]
pub fn node_of(origin: Origin) -> NodeId {
    NodeId(origin.0)
}

/// What a flow is given besides its store and mesh.
#[derive(Debug, Clone, Default)]
pub struct FlowConfig {
    /// Seeds the jitter between nodes. `None`: from the system.
    pub seed: Option<u64>,
}

/// One reading of the machine.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Series seen for the first time; they take the next numbers.
    pub appended: Vec<Series>,
    /// A value for each series so far. `None`: absent at this tick.
    pub values: Vec<Option<i64>>,
}

/// A row that has just been stored.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The row.
    pub row: Arc<SignedRow>,
    /// Whether it came as it was taken, not by repair.
    pub live: bool,
}

/// What the sampler took, counted before anything else saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TakenCount {
    /// The log of this run.
    pub log: LogId,
    /// Ticks.
    pub rows: u64,
    /// Values present in them.
    pub samples: u64,
}

/// What the flow did and refused since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FlowStats {
    /// Live rows taken in.
    pub rows_in: u64,
    /// Live rows sent, each peer counted.
    pub rows_out: u64,
    /// Rows and blocks that were held already.
    pub duplicates: u64,
    /// Rows that came by repair.
    pub repaired_rows: u64,
    /// Rows waiting for a key row or a schema at this moment.
    pub parked: u64,
    /// What was refused or lost, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Bytes sent in answer to requests.
    pub served_bytes: u64,
    /// Requests of ours on their way at this moment.
    pub in_flight: u64,
    /// Seconds without a row because this machine was late.
    pub missed_ticks: u64,
    /// How late the last tick was, milliseconds.
    pub lag_ms: u64,
}

/// The running flow; clones share it.
#[derive(Debug, Clone)]
pub struct Flow {
    store: Store,
    mesh: Mesh,
    feed: broadcast::Sender<Arc<Arrival>>,
    taken: TakenCount,
}

impl Flow {
    /// Begins this run's epoch and starts sampling, sending, receiving and repairing.
    pub fn start_with(
        config: FlowConfig,
        store: Store,
        mesh: Mesh,
        events: mpsc::Receiver<Event>,
        reading: impl FnMut(&Snapshot) -> Reading + Send + 'static,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let _ = (config, store, mesh, events, reading, stop);
        anyhow::bail!("the flow isn't written yet")
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The mesh below.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Every row from here on, as it is stored. A reader that falls behind loses the oldest.
    #[must_use]
    pub fn feed(&self) -> broadcast::Receiver<Arc<Arrival>> {
        self.feed.subscribe()
    }

    /// Samples each other member lacks of what this node holds.
    #[must_use]
    pub fn backlog(&self) -> BTreeMap<NodeId, u64> {
        BTreeMap::new()
    }

    /// What this run sampled, by the sampler's own count.
    #[must_use]
    pub fn taken(&self) -> TakenCount {
        self.taken
    }

    /// Counters for `status`.
    #[must_use]
    pub fn stats(&self) -> FlowStats {
        FlowStats::default()
    }
}
