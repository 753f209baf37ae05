//! `up`: everything a node is, started in order and stopped within `GOODBYE`.
//!
//! The order: lock, control socket, (wait for `init` or `join`), store, mesh, flow, page. Stopping goes back.
//! In: the state directory, the configuration, SIGTERM or SIGINT. Out: the exit code.
//! Invariant: nothing is started twice; before a mesh exists nothing but the control socket is open.
//! Absent: what the commands on the socket answer (`daemon/answer.rs`).

mod answer;
mod bound;
mod chronicle;
mod entrance;
mod history;
mod holdings;
mod live;
mod netcheck;
mod outages;
mod ping;
mod pulse;
mod query;
mod standing;
mod status;
mod store;
mod tally;
mod trust;
mod watcher;

pub(crate) use history::offline;
pub(crate) use store::open as open_store;
pub(crate) use store::{NO_PATH, check as store_check};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use outlast_mesh::{Mesh, MeshConfig, NodeKey, Snapshot};
use outlast_store::{Stats, Store};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::collect::Collector;
use crate::config::Config;
use crate::control::server::{self, Door};
use crate::failure::Failure;
use crate::flow::{Flow, FlowConfig, LedgerConfig};
use crate::ledger;
use crate::membership::{Keys, Membership};
use crate::outage::{self, Outages};
use crate::replica::budget::Pace;
use crate::service;
use crate::service::herald::Herald;
use crate::state::{Lock, StateDir};
use crate::web::{self, Tickets, WebContext, WebKey};

/// How long leaving may take; then the process ends as a crash would, which everything here survives.
const GOODBYE: Duration = Duration::from_secs(5);

/// Threads of the runtime: one for the mesh, one for whatever reads the store.
const WORKERS: usize = 2;

/// The node, from `up` until it ends.
#[derive(Debug)]
pub(crate) struct Daemon {
    state: StateDir,
    config: Config,
    started: Instant,
    run_id: String,
    boot_id: String,
    /// Ends the process when cancelled.
    stop: CancellationToken,
    /// Whether what this node was goes aside when it ends.
    departs: AtomicBool,
    /// Cancelled once everything has started that can start without `init` or `join`.
    begun: CancellationToken,
    /// One `init` or `join` at a time.
    entrance: Mutex<()>,
    running: OnceLock<Running>,
    /// What ended the node, when something did.
    fatal: mpsc::Sender<anyhow::Error>,
}

/// What exists once there is a mesh.
#[derive(Debug)]
struct Running {
    mesh: Mesh,
    store: Store,
    flow: Flow,
    /// How the sources of measurements fare.
    sources: crate::collect::Sources,
    /// What the store said of itself when it was asked last, for when its disk hangs.
    stats: std::sync::Mutex<Stats>,
    /// Whose turn it is to look at the disk for the status.
    looks: Arc<tokio::sync::Semaphore>,
    dashboard: SocketAddr,
    tickets: Tickets,
    /// Keeps the life record, and tells what is seen of others.
    outages: Outages,
    /// Ends page and flow.
    stop: CancellationToken,
    page: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// Runs the node until it is told to stop.
pub(crate) fn run(
    state: StateDir,
    config: Config,
    ephemeral: Option<PathBuf>,
) -> Result<(), Failure> {
    state.prepare()?;
    let lock = state.lock().map_err(anyhow::Error::from)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(live(state, config, lock, ephemeral.is_some()));
    // A thread still in the store must not hold up the end; what it writes is covered by the journal.
    runtime.shutdown_timeout(Duration::from_millis(500));
    if let Some(dir) = ephemeral {
        watcher::remove(&dir);
    }
    Ok(ended?)
}

async fn live(state: StateDir, config: Config, lock: Lock, ephemeral: bool) -> Result<()> {
    let signalled = crate::interrupt::stopped();
    let doors = doors(state.path())?;
    let (fatal, mut failures) = mpsc::channel(1);
    let daemon = Arc::new(Daemon {
        boot_id: boot_id(),
        run_id: random_id(),
        started: Instant::now(),
        stop: CancellationToken::new(),
        departs: AtomicBool::new(false),
        begun: CancellationToken::new(),
        entrance: Mutex::new(()),
        running: OnceLock::new(),
        fatal,
        state,
        config,
    });
    if ephemeral {
        watcher::stop_with_stdin(daemon.stop.clone());
    }
    let mut tasks = JoinSet::new();
    for door in doors {
        tasks.spawn(server::serve(
            door,
            Arc::clone(&daemon),
            daemon.stop.clone(),
        ));
    }
    let herald = Herald::from_env().map(Arc::new);
    if let Some(herald) = &herald {
        // Ready means that commands are answered: a node that waits for `init` is up.
        herald.ready("starting");
        tasks.spawn(pulse::speak(Arc::clone(herald), Arc::clone(&daemon)));
    }
    let ended = tokio::select! {
        () = signalled => Ok(()),
        () = daemon.stop.cancelled() => Ok(()),
        failure = failures.recv() => failure.map_or(Ok(()), Err),
        Err(error) = begin(&daemon) => Err(error),
    };
    tracing::info!("stopping");
    if let Some(herald) = &herald {
        herald.stopping();
    }
    daemon.stop.cancel();
    while tasks.join_next().await.is_some() {}
    let reason = daemon.why_it_ends(&ended);
    if tokio::time::timeout(GOODBYE, daemon.leave(reason))
        .await
        .is_err()
    {
        tracing::warn!(
            after_s = GOODBYE.as_secs(),
            "gave up waiting for a clean end"
        );
    }
    let runtime_directory = service::runtime_directory();
    for dir in [Some(daemon.state.path()), runtime_directory.as_deref()] {
        let _ = dir.map(|dir| std::fs::remove_file(dir.join(crate::control::SOCKET)));
    }
    daemon.put_aside();
    drop(lock);
    ended
}

/// Where commands connect: always in the state directory, and in a service's runtime directory.
fn doors(state: &Path) -> Result<Vec<Door>> {
    let mut doors = vec![Door::own(state)?];
    if let Some(dir) = service::runtime_directory() {
        match Door::of_service(&dir) {
            Ok(door) => doors.push(door),
            // Root still reaches the node, and the node its peers.
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the group gets no socket"),
        }
    }
    Ok(doors)
}

async fn begin(daemon: &Daemon) -> Result<()> {
    if daemon.state.is_member() {
        daemon.start().await?;
    } else {
        tracing::info!(state_dir = %daemon.state.path().display(), "waiting for `outlast init` or `outlast join`");
    }
    daemon.begun.cancel();
    Ok(())
}

impl Daemon {
    fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// Starts everything that needs a mesh.
    async fn start(&self) -> Result<()> {
        let membership = Membership::load(&self.state)?.context("no statements to start from")?;
        let identity = Keys::load_or_make(&self.state)?.identity;
        let settled = membership.statements.state();
        let retention = settled.settings.retention_bytes(&identity.node.id());
        let store = self.open_store(identity.node.clone(), retention).await?;
        let ledger = LedgerConfig {
            path: self.state.join(ledger::FILE),
            key: identity.node.clone(),
            mesh: membership.statements.mesh(),
        };
        let config = self.mesh_config();
        let (mesh, events) =
            Mesh::start(config, identity, membership.journal, membership.statements).await?;
        let stop = CancellationToken::new();
        let collector = Collector::with(Path::new("/"), &self.config.measure);
        let sources = collector.sources();
        let run = self.outage_run(&collector);
        let flow = Flow::start(
            FlowConfig {
                seed: None,
                pace: self.pace(),
                ledger: Some(ledger),
            },
            store.clone(),
            mesh.clone(),
            events,
            collector,
            stop.clone(),
        )?;
        let tickets = Tickets::new();
        let context = WebContext {
            flow: flow.clone(),
            tickets: tickets.clone(),
            key: self.web_key()?,
            listen: self.config.dashboard,
            names: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (dashboard, page) = web::serve(context, stop.clone()).await?;
        log_running(&mesh.snapshot(), dashboard);
        let outages = Outages::start(&run, &mesh, flow.ledger(), stop.clone())?;
        self.follow(&mesh, &store, retention, &stop);
        let running = Running {
            mesh,
            store,
            flow,
            sources,
            stats: std::sync::Mutex::default(),
            looks: Arc::new(tokio::sync::Semaphore::new(1)),
            dashboard,
            tickets,
            outages,
            stop,
            page: std::sync::Mutex::new(Some(page)),
        };
        self.running
            .set(running)
            .map_err(|_second| anyhow::anyhow!("the node is running already"))
    }

    fn pace(&self) -> Pace {
        if self.config.unlimited_repair {
            Pace::Unlimited
        } else {
            Pace::Polite
        }
    }

    fn outage_run(&self, collector: &Collector) -> outage::Run {
        outage::Run {
            dir: self.state.path().to_owned(),
            run_id: self.run_id.clone(),
            boot_id: self.boot_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            record_every: store::record_every(self.state.path()),
            feed: outage::Feed {
                power: collector.power(),
                upses: collector.ups(),
            },
        }
    }

    fn mesh_config(&self) -> MeshConfig {
        MeshConfig {
            listen: self.config.listen,
            advertise: self.config.endpoints.clone(),
            calls: self.config.lan_calls,
            state_dir: self.state.path().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Does and logs what the statements bring from now on.
    fn follow(
        &self,
        mesh: &Mesh,
        store: &Store,
        retention_bytes: Option<u64>,
        stop: &CancellationToken,
    ) {
        tokio::spawn(bound::follow(
            self.config.clone(),
            self.state.clone(),
            retention_bytes,
            mesh.watch(),
            store.clone(),
            stop.clone(),
        ));
        tokio::spawn(chronicle::follow(mesh.clone(), stop.clone()));
    }

    async fn open_store(&self, node: NodeKey, retention_bytes: Option<u64>) -> Result<Store> {
        let state = self.state.clone();
        let bound = self.config.store_bound(state.path(), retention_bytes);
        let opening =
            tokio::task::spawn_blocking(move || open_store(&state, bound.bytes, Some(node)));
        opening.await.context("open the store")?
    }

    fn web_key(&self) -> Result<WebKey> {
        let path = self.state.join("web.key");
        match std::fs::read_to_string(&path) {
            Ok(text) => WebKey::from_base64(text.trim())
                .with_context(|| format!("{}; remove it to make a new one", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = WebKey::generate();
                let line = zeroize::Zeroizing::new(format!("{}\n", *key.to_base64()));
                crate::file::write_new(&path, line.as_bytes(), 0o600)?;
                Ok(key)
            }
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Says goodbye and puts everything on disk.
    async fn leave(&self, reason: outage::Reason) {
        let Some(running) = self.running() else {
            return;
        };
        running.outages.ends(reason.clone()).await;
        running.stop.cancel();
        let page = running.page.lock().ok().and_then(|mut page| page.take());
        let page = async {
            if let Some(page) = page {
                let _ = page.await;
            }
        };
        let mesh = async {
            // The last row is in the store, and on its way to the peers, before both close.
            running.flow.ended().await;
            running.mesh.clone().shutdown().await;
        };
        tokio::join!(page, mesh);
        let store = running.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the store did not close cleanly"),
            Err(error) => tracing::warn!(%error, "the store's end was cut short"),
        }
        running.outages.ended(reason).await;
    }

    fn why_it_ends(&self, ended: &Result<()>) -> outage::Reason {
        match ended {
            Err(error) => outage::Reason::failed(&format!("{error:#}")),
            Ok(()) if self.departs.load(Ordering::SeqCst) => outage::Reason::Departs,
            Ok(()) => outage::Reason::Told,
        }
    }
}

fn log_running(snapshot: &Snapshot, dashboard: SocketAddr) {
    tracing::info!(
        mesh = %crate::text::visible(&snapshot.mesh_name),
        node = %snapshot.my_name,
        udp_port = snapshot.udp_port,
        dashboard = %dashboard,
        "running"
    );
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel hands out randomness on every system we run on");
    HEXLOWER.encode(&bytes)
}
