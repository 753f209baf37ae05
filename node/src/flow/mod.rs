//! Where the mesh meets the store.
//!
//! In: a tick each second, events of the mesh. Out: rows in the store, live rows and repairs to
//! peers, a feed for whoever shows them.
//! Threads: `sample` and `append` (local.rs), two lanes of `keep` (keep.rs), and one task (remote.rs) that drives the
//! pure `core`. Sampling waits for none of the others.
//! Absent: deciding what is missing and whom to ask (`replica`).

mod ask;
mod clerk;
mod clock;
#[doc(hidden)]
pub mod core;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gauge;
mod inward;
mod keep;
mod live;
mod local;
mod offence;
mod parts;
mod pipe;
mod points;
mod remote;
mod shared;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod wire;

pub(crate) use clock::{is_synchronised, time_service};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use outlast_mesh::{Event, Mesh, NodeId, Refused, Snapshot};
use outlast_store::{LogId, Origin, SignedRow, Store};
use serde::Serialize;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::core::{Core, MOST_JOBS};
use crate::collect::{Collector, Tick, TunnelStats};
use crate::ledger::{self, LedgerHandle, LedgerStats};
use crate::replica::budget::Pace;
use crate::summary::Seen;
use ask::Look;
pub use ask::{AskError, Told, Whereabouts};
use clerk::Clerk;
pub use clerk::LedgerConfig;
use offence::Offence;
use remote::{Inbox, Outbox, Remote};
use shared::Shared;

/// A store that answers nothing for so long is named: reading a damaged generation may take half a minute.
const STALLED: Duration = Duration::from_secs(10);

/// What a node whose key signs two contents for one row is named for, see `Flow::refused`.
pub(crate) const TWO_CONTENTS: &str = "second contents of a row";

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
    /// How fast peers are served what they missed.
    pub pace: Pace,
    /// Where the ledger is kept. `None`: in memory, and this node says nothing in it.
    pub ledger: Option<LedgerConfig>,
}

/// A row that has just come: stored, or only shown.
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
    /// Live rows of others handed on to neighbours, each counted.
    pub handed_on: u64,
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
    shared: Arc<Shared>,
    ledger: LedgerHandle,
    looks: mpsc::Sender<Look>,
    asking: Arc<Semaphore>,
    ended: CancellationToken,
}

impl Flow {
    /// Begins this run's epoch and starts sampling, sending, receiving and repairing, until
    /// `stop`. Needs a tokio runtime.
    pub fn start(
        config: FlowConfig,
        store: Store,
        mesh: Mesh,
        events: mpsc::Receiver<Event>,
        mut collector: Collector,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let reading = move |snapshot: &Snapshot| collector.tick(&TunnelStats::from(snapshot));
        Self::start_with(config, store, mesh, events, reading, stop)
    }

    /// As `start`, with any source of readings.
    pub fn start_with(
        config: FlowConfig,
        store: Store,
        mesh: Mesh,
        events: mpsc::Receiver<Event>,
        reading: impl FnMut(&Snapshot) -> Tick + Send + 'static,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let running = store.begin_epoch().context("begin this run's epoch")?;
        let shared = Arc::new(Shared::new(running));
        // What a restart must not silence: the evidence is on disk.
        for (origin, times) in store.accused() {
            (0..times).for_each(|_| shared.blame(node_of(origin), Offence::TwoContents));
        }
        let (looks_in, looks) = mpsc::channel(64);
        let (ledger, desk) = ledger::channel();
        let flow = Self {
            store,
            mesh,
            shared,
            ledger,
            looks: looks_in,
            asking: ask::asking(),
            ended: CancellationToken::new(),
        };
        let seed = config.seed.unwrap_or_else(|| system_seed(&running));
        let mut core = Core::new(running, seed, Instant::now()).with_pace(config.pace);
        let mut files = None;
        if let Some(config) = &config.ledger {
            let (keeper, scribe, earlier) = ledger::open(&config.path);
            core = core.with_ledger(config.ledger(earlier, running.epoch.nonce));
            files = Some((keeper, scribe));
        }
        let papers = Papers { desk, files };
        flow.spawn(running, core, events, (looks, papers), reading, stop)?;
        Ok(flow)
    }

    fn spawn(
        &self,
        running: LogId,
        core: Core,
        events: mpsc::Receiver<Event>,
        (looks, papers): (mpsc::Receiver<Look>, Papers),
        reading: impl FnMut(&Snapshot) -> Tick + Send + 'static,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let (samples_in, samples) = std::sync::mpsc::sync_channel(local::QUEUE);
        let (sampler_stop, stopped) = std::sync::mpsc::channel();
        let (own_in, own) = mpsc::channel(64);
        // The core bounds what waits in either.
        let (live_in, live) = mpsc::unbounded_channel();
        let (stored_in, stored) = mpsc::unbounded_channel();
        let (notes_in, notes) = mpsc::channel(MOST_JOBS);
        let (said_in, said) = mpsc::channel(256);
        let (mesh, shared) = (self.mesh.clone(), Arc::clone(&self.shared));
        let sample = thread("outlast-sample", move || {
            local::sample(reading, &mesh, &shared, &stopped, &samples_in)
        })?;
        let (store, shared) = (self.store.clone(), Arc::clone(&self.shared));
        let append = thread("outlast-append", move || {
            local::append(&store, running.origin, &shared, &samples, &own_in)
        })?;
        let keep = |name, mut jobs| {
            let (store, notes) = (self.store.clone(), notes_in.clone());
            thread(name, move || {
                keep::keep(&store, running.origin, &mut jobs, &notes);
            })
        };
        let mut threads = vec![
            sample,
            append,
            keep("outlast-keep", live)?,
            keep("outlast-mend", stored)?,
        ];
        let (written_in, written) = mpsc::unbounded_channel();
        let (keeper, scribe) = papers.files.unzip();
        if let Some(scribe) = scribe {
            threads.push(thread("outlast-ledger", move || scribe.run(&written_in))?);
        }
        let remote = Remote {
            mesh: self.mesh.clone(),
            store: self.store.clone(),
            shared: Arc::clone(&self.shared),
            core,
            out: Outbox {
                live: live_in,
                stored: stored_in,
                notes: notes_in,
                said: said_in,
            },
            pipes: BTreeMap::new(),
            tasks: JoinSet::new(),
            clerk: Clerk::new(keeper, papers.desk.events),
            awake: (clock::SystemClock::boot_ms(), Instant::now()),
        };
        let inbox = Inbox {
            events,
            own,
            notes,
            said,
            looks,
            drafts: papers.desk.drafts,
            written,
        };
        let ended = self.ended.clone();
        tokio::spawn(async move {
            remote.run(inbox, stop).await;
            drop(sampler_stop);
            let _ = tokio::task::spawn_blocking(move || join(threads)).await;
            ended.cancel();
        });
        Ok(())
    }

    /// Resolves once the last row of this run has been handed to the store: after that it can
    /// be closed.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
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
    /// Rows that come as whole blocks aren't in it: they are history, for queries.
    #[must_use]
    pub fn feed(&self) -> broadcast::Receiver<Arc<Arrival>> {
        self.shared.subscribe()
    }

    /// What summaries say of every other member, and how old that is.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<NodeId, Seen> {
        self.shared.seen()
    }

    /// Somebody looks at a node: for the next half minute its live rows come, kept here or not.
    pub fn look_at(&self, node: NodeId) {
        // Who looks says so again and again.
        let _ = self.looks.try_send(Look::At(node));
    }

    /// Samples each other member lacks of what this node holds, at most a second old. Rows that
    /// went out live to a connected peer count only when a digest shows them missing; a peer not
    /// heard since the start counts as holding nothing.
    #[must_use]
    pub fn backlog(&self) -> BTreeMap<NodeId, u64> {
        self.shared.backlog()
    }

    /// The ledger: what every node tells everybody, and what this one tells.
    #[must_use]
    pub fn ledger(&self) -> LedgerHandle {
        self.ledger.clone()
    }

    /// Counters of the ledger, at most a second old.
    #[must_use]
    pub fn ledger_stats(&self) -> LedgerStats {
        self.shared.ledger().0
    }

    /// What this run sampled, by the sampler's own count.
    #[must_use]
    pub fn taken(&self) -> TakenCount {
        self.shared.taken()
    }

    /// What members did in the exchange of rows that was refused, by culprit.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        self.shared.reckoned()
    }

    /// Sentences a person should read.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let silent = self.shared.silent();
        let stalled = (silent >= STALLED).then(|| {
            format!(
                "the store has not answered for {} s: live rows are kept, what others bring to mend gaps waits",
                silent.as_secs()
            )
        });
        stalled.into_iter().chain(self.shared.ledger().1).collect()
    }

    /// Counters for `status`.
    #[must_use]
    pub fn stats(&self) -> FlowStats {
        self.shared.counted()
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    Builder::new()
        .name(name.into())
        .spawn(work)
        .with_context(|| format!("start thread {name}"))
}

/// Both ends of the ledger that the task takes over.
#[derive(Debug)]
struct Papers {
    desk: ledger::Desk,
    files: Option<(ledger::Keeper, ledger::Scribe)>,
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the flow panicked");
        }
    }
}

/// Nodes must not speak in step; nothing else depends on the seed. The epoch's nonce is random.
fn system_seed(running: &LogId) -> u64 {
    running.epoch.nonce
}
