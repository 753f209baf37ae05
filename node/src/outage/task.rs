//! The shell: the thread that keeps the life record, and the task that looks at clocks and peers.
//!
//! In: clocks, the mesh's snapshots, the machine's power. Out: the record on disk, events in the ledger.
//! The thread alone touches files, so a disk that hangs holds up neither the task nor the end of the process.
//! A word the ledger refuses is dropped and logged: a quota is there so that a flapping node doesn't flood everybody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER_PERMISSIVE;
use outlast_mesh::{Mesh, NodeId, PeerState, Snapshot};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::facts::{Feed, KillCount};
use super::life::LifeFile;
use super::pulse::{Clocks, Pulse};
use super::sight::{Peer, Watch};
use super::testimony::{Began, Ident, Last, Life, Power, Reason, State, Telling, Word, version};
use crate::ledger::{Draft, Events, LedgerHandle};
use crate::when::{RELEASED_MS, now_ms};

/// How long the node waits at its end for its record and its word.
const PARTING: Duration = Duration::from_millis(1_500);

/// When to begin looking at peers: what was told in earlier runs has been read by then.
const SETTLE: Duration = Duration::from_secs(5);

/// How long ago one was there that others say is down and this node never heard itself, milliseconds: in a large mesh.
const UNHEARD_MS: i64 = 15_000;

/// What this run is.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The state directory.
    pub(crate) dir: PathBuf,
    /// As `status` shows it, hexadecimal.
    pub(crate) run_id: String,
    /// As the kernel writes it.
    pub(crate) boot_id: String,
    /// The release.
    pub(crate) version: String,
    /// Between two records.
    pub(crate) record_every: Duration,
    /// What feeds the machine.
    pub(crate) feed: Feed,
}

/// The running part: what it needs to be told at the end.
#[derive(Debug)]
pub(crate) struct Outages {
    ledger: LedgerHandle,
    run: Ident,
    shared: Arc<Shared>,
    record: SyncSender<Order>,
}

/// What the record says besides clocks.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    power: Mutex<Power>,
    stood: AtomicU32,
}

/// What the thread is asked to do.
#[derive(Debug)]
struct Order {
    written: Option<oneshot::Sender<()>>,
}

impl Outages {
    /// Reads what the last run left, tells of it, and begins to watch until `stop`.
    pub(crate) fn start(
        run: &Run,
        mesh: &Mesh,
        ledger: LedgerHandle,
        stop: CancellationToken,
    ) -> Result<Self> {
        let (file, before) = match LifeFile::open(&run.dir) {
            Ok((file, before)) => (Some(file), before),
            Err(error) => {
                tracing::warn!(%error, "the life record can't be opened: how this run ends will be harder to tell");
                (None, None)
            }
        };
        let ident = ident(&run.run_id);
        let keeper = Keeper {
            file,
            kills: KillCount::find(Path::new("/")),
            last: Last {
                run: ident,
                boot: ident_of_boot(&run.boot_id),
                version: version(&run.version),
                state: State::Running,
                wall_ms: 0,
                boot_ms: 0,
                mono_ms: 0,
                power: Power::default(),
                kills: super::testimony::Kills::default(),
                stood: 0,
            },
            shared: Arc::new(Shared {
                state: Mutex::new(State::Running),
                power: Mutex::default(),
                stood: AtomicU32::new(0),
            }),
            every: run.record_every,
        };
        let began = keeper.began(before);
        tell(&ledger, &Word::Life(Life::Began(Box::new(began))));
        let shared = Arc::clone(&keeper.shared);
        let (record, orders) = sync_channel(4);
        std::thread::Builder::new()
            .name("outlast-life".to_owned())
            .spawn(move || keeper.keep(&orders))
            .context("start the thread of the life record")?;
        let eye = Eye {
            mesh: mesh.clone(),
            ledger: ledger.clone(),
            feed: run.feed.clone(),
            run: ident,
            shared: Arc::clone(&shared),
            record: record.clone(),
        };
        tokio::spawn(eye.watch(stop));
        Ok(Self {
            ledger,
            run: ident,
            shared,
            record,
        })
    }

    /// Tells everybody that this run ends, and why; returns once that is on disk and on its way, or after `PARTING`.
    pub(crate) async fn ends(&self, reason: Reason) {
        self.write(State::Exiting(reason.clone())).await;
        let (kind, body) = Word::Life(Life::Ends {
            run: self.run,
            reason,
        })
        .written();
        let draft = Draft::at(kind, body, now_ms(), is_certain());
        if let Err(error) = self.ledger.publish_and_wait(draft, PARTING).await {
            tracing::warn!(%error, "the end of this run was not told");
        }
    }

    /// Notes that everything was put away.
    pub(crate) async fn ended(&self, reason: Reason) {
        self.write(State::Exited(reason)).await;
    }

    async fn write(&self, state: State) {
        *locked(&self.shared.state) = state;
        let (written, done) = oneshot::channel();
        let order = Order {
            written: Some(written),
        };
        if self.record.try_send(order).is_err()
            || tokio::time::timeout(PARTING, done).await.is_err()
        {
            tracing::warn!("the life record was not written in time");
        }
    }
}

/// The thread's own.
struct Keeper {
    /// `None`: it can't be opened, and the node runs without.
    file: Option<LifeFile>,
    kills: KillCount,
    last: Last,
    shared: Arc<Shared>,
    every: Duration,
}

impl Keeper {
    fn began(&self, before: Option<Last>) -> Began {
        Began {
            run: self.last.run,
            boot: self.last.boot,
            version: self.last.version.clone(),
            boot_ms: clocks().boot_ms,
            kills: self.kills.read(),
            before,
        }
    }

    /// Writes the record every while and when it is told to, until nobody can tell it any more.
    fn keep(mut self, orders: &Receiver<Order>) {
        let mut failed = false;
        self.write(&mut failed);
        loop {
            match orders.recv_timeout(self.every) {
                Ok(order) => {
                    self.write(&mut failed);
                    if let Some(written) = order.written {
                        // Who asked may have lost patience.
                        let _ = written.send(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.write(&mut failed),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, failed: &mut bool) {
        let clocks = clocks();
        self.last.state = locked(&self.shared.state).clone();
        self.last.power = *locked(&self.shared.power);
        (self.last.wall_ms, self.last.boot_ms, self.last.mono_ms) =
            (clocks.wall_ms, clocks.boot_ms, clocks.mono_ms);
        self.last.kills = self.kills.read();
        self.last.stood = self.shared.stood.load(Ordering::Relaxed);
        let Some(file) = &mut self.file else { return };
        let written = file.write(&self.last);
        if let Err(error) = &written
            && !*failed
        {
            tracing::warn!(%error, "the life record can't be written: how this run ends will be harder to tell");
        }
        *failed = written.is_err();
    }
}

/// The task's own.
struct Eye {
    mesh: Mesh,
    ledger: LedgerHandle,
    feed: Feed,
    run: Ident,
    shared: Arc<Shared>,
    record: SyncSender<Order>,
}

impl Eye {
    /// Looks at clocks, power and peers with each snapshot of the mesh, of which there is one a second.
    async fn watch(self, stop: CancellationToken) {
        let mut pulse = Pulse::new(self.run, clocks());
        let mut watch: Option<Watch> = None;
        let mut snapshots = self.mesh.watch();
        let began = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = snapshots.changed() => if changed.is_err() { return },
            }
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let said = pulse.handle_look(clocks());
            if let (false, Some(watch)) = (said.is_empty(), &mut watch) {
                watch.handle_standstill();
            }
            for word in said {
                let told = tell(&self.ledger, &word);
                if told && matches!(word, Word::Life(Life::Slept { .. })) {
                    self.shared.stood.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.look_at_power();
            if began.elapsed() < SETTLE {
                continue;
            }
            let events = self.ledger.snapshot();
            let watch = watch
                .get_or_insert_with(|| Watch::new(snapshot.me, self.run, &Telling::all(&events)));
            for sight in watch.handle_look(&peers(&snapshot, &events), Instant::now()) {
                tell(&self.ledger, &Word::Sight(sight));
            }
        }
    }

    /// Mains that go or come are told and put on record at once.
    fn look_at_power(&self) {
        let mut power = self.feed.look();
        let mut held = locked(&self.shared.power);
        if power.mains == Some(false) {
            power.mains_off_ms = held.mains_off_ms.or_else(|| Some(now_ms()));
        }
        let before = std::mem::replace(&mut *held, power);
        drop(held);
        // That they are there is no news at the start.
        if power.mains != before.mains && (before.mains.is_some() || power.mains == Some(false)) {
            tell(&self.ledger, &Word::Power(power));
            let _busy = self.record.try_send(Order { written: None });
        }
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every other member as it is seen.
fn peers(snapshot: &Snapshot, events: &Events) -> BTreeMap<NodeId, Peer> {
    let members = snapshot
        .peers
        .iter()
        .filter(|peer| !matches!(peer.state, PeerState::Retired | PeerState::Evicted));
    let seen = members.map(|peer| {
        let silent = peer.state != PeerState::Alive;
        let heard = peer.last_heard_ms.and_then(|at| i64::try_from(at).ok());
        let peer_of = Peer {
            state: peer.state,
            last_heard_ms: heard.or_else(|| silent.then(|| now_ms() - UNHEARD_MS)),
            ahead_ms: peer.clock_offset_ms,
            run: silent.then(|| run_of(peer.id, events)).flatten(),
        };
        (peer.id, peer_of)
    });
    seen.collect()
}

/// The last run of a node that is known.
fn run_of(node: NodeId, events: &Events) -> Option<Ident> {
    let mut words = events.range((node, 0)..=(node, u64::MAX)).rev();
    words.find_map(|(_, event)| match Word::read(event.kind, &event.body) {
        Some(Word::Life(Life::Began(began))) => Some(began.run),
        _ => None,
    })
}

/// Publishes a word; whether it was taken.
fn tell(ledger: &LedgerHandle, word: &Word) -> bool {
    let (kind, body) = word.written();
    let told = ledger.publish(Draft::at(kind, body, now_ms(), is_certain()));
    if let Err(error) = &told {
        tracing::warn!(%error, "an event of this node was not told");
    }
    told.is_ok()
}

/// Whether this machine's clock is to be gone by.
fn is_certain() -> bool {
    now_ms() >= RELEASED_MS && crate::flow::is_synchronised(Path::new("/run")) != Some(false)
}

/// The three clocks at one moment.
fn clocks() -> Clocks {
    /// A look that took longer than this is repeated: the process may have stood still within it.
    const AT_ONCE_MS: u64 = 20;
    loop {
        let boot_ms = ms(ClockId::Boottime);
        let clocks = Clocks {
            wall_ms: now_ms(),
            boot_ms,
            mono_ms: ms(ClockId::Monotonic),
        };
        if ms(ClockId::Boottime) - boot_ms <= AT_ONCE_MS {
            return clocks;
        }
    }
}

fn ms(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let ms = time.tv_sec.saturating_mul(1_000) + time.tv_nsec / 1_000_000;
    u64::try_from(ms).unwrap_or(0)
}

fn ident(hex: &str) -> Ident {
    let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or_default()
}

/// A boot id without its hyphens; all zero where the kernel tells none.
fn ident_of_boot(text: &str) -> Ident {
    ident(&text.trim().replace('-', ""))
}
