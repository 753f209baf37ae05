//! The store's handle: how it opens and closes.
//!
//! `open` checks FORMAT, reads the small files and the spool, starts the threads and returns: sampling can begin. A
//! third thread then reads the generations, newest first; what is no good goes to quarantine and `ready` turns true.
//! Files: `FORMAT`, `id` (this store's random id), `epoch` (the last epoch begun), `spool/`, `gen-NNNNNN/`, `copies-NNNNNN/`,
//! `apart-NNNNNN/` (see `shelf`), `rollup/` (see `attic`), `quarantine/`,
//! `schemas`, `gone`, `evidence`, `ballast`.
//! Absent: what the calls do (`append`, `seal`, `read`), what the threads do (`spooler`, `writer`).

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::append::{Own, check_time};
use crate::attic::{Attic, Found};
use crate::block::Seal;
use crate::config::{Check, Keys, StoreConfig, Tuning};
use crate::disk::Disk;
use crate::disk::simulated::SimDisk;
use crate::error::{OpenError, StoreError, at};
use crate::format::{check_format, store_id};
use crate::key::gone::Reason;
use crate::ledger::Ledger;
use crate::needed::Surveys;
use crate::retain::{GoneLedger, GoneRows};
use crate::row::SignedRow;
use crate::sample::{Origin, StoreId};
use crate::schemas::{SchemaFile, Schemas};
use crate::shelf::{Shelf, locked};
use crate::spooler::{self, Spooler};
use crate::state::State;
use crate::step::Steps;
use crate::tail::{Recovered, Spool};
use crate::writer;

/// Handle to an open store; clones share it. Dropping the last one stops the threads without waiting for a sync:
/// `close` is the way to lose nothing.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    hands: Arc<Hands>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.shared.dir)
            .finish_non_exhaustive()
    }
}

/// What the handle and the threads share. `state` is locked for short sections only, never across disk work.
pub(crate) struct Shared {
    pub(crate) disk: Disk,
    pub(crate) dir: PathBuf,
    /// May change while the store is open.
    limit_bytes: AtomicU64,
    pub(crate) sync_every: Duration,
    pub(crate) tuning: Tuning,
    pub(crate) check: Option<Check>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) id: StoreId,
    pub(crate) state: Mutex<State>,
    pub(crate) schemas: Mutex<Schemas>,
    pub(crate) schema_file: Mutex<SchemaFile>,
    pub(crate) surveys: Mutex<Surveys>,
    pub(crate) own: Mutex<Option<Own>>,
    pub(crate) gone: Mutex<GoneLedger>,
    pub(crate) shelf: Shelf,
    pub(crate) attic: Mutex<Attic>,
    /// Roll-ups found at open, until the generations have been read.
    pub(crate) found: Mutex<Found>,
    /// What the threads were asked to do, and whether they have.
    pub(crate) orders: Mutex<Orders>,
    pub(crate) ordered: Condvar,
}

/// Requests to the threads; a number that grows asks, the thread answers with the number it has served.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) stop: bool,
    /// Every generation has been read.
    pub(crate) opened: bool,
    pub(crate) sync_asked: u64,
    pub(crate) sync_done: u64,
    /// So many blocks wait that the next flush should not.
    pub(crate) flush_wanted: bool,
    pub(crate) flush_asked: u64,
    pub(crate) flush_done: u64,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Bound on everything below the store's directory.
    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// When a generation is closed.
    pub(crate) fn generation_bytes(&self) -> u64 {
        generation_bytes(&self.tuning, self.limit_bytes())
    }

    /// The time, from the one place the store has it.
    pub(crate) fn now(&self) -> Instant {
        self.disk.now()
    }
}

/// Smaller generations where the bound is below 512 MB, so that dropping one never drops most.
fn generation_bytes(tuning: &Tuning, limit_bytes: u64) -> u64 {
    tuning.generation_bytes.min((limit_bytes / 8).max(1 << 20))
}

/// Who does the store's work on the disk: threads, or whoever calls `step`.
struct Hands {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    steps: Option<Mutex<Steps>>,
}

impl Drop for Hands {
    fn drop(&mut self) {
        locked(&self.shared.orders).stop = true;
        self.shared.ordered.notify_all();
    }
}

impl Store {
    /// Opens the store, returning once the spool is recovered; generations open in the background.
    pub fn open(config: StoreConfig, keys: Keys) -> Result<Self, OpenError> {
        Self::open_tuned(config, keys, Tuning::in_life())
    }

    pub(crate) fn open_tuned(
        config: StoreConfig,
        keys: Keys,
        tuning: Tuning,
    ) -> Result<Self, OpenError> {
        let (shared, spooler) = recover_all(Disk::Real, config, keys, tuning)?;
        let hands = start(&shared, spooler)?;
        Ok(Self { shared, hands })
    }

    /// Opens a store on a simulated disk, without threads: `step` does their work. It has read its generations when this
    /// returns. `seed`: what this run draws at random, so a fresh one at each start.
    #[doc(hidden)]
    pub fn simulated(
        disk: SimDisk,
        config: StoreConfig,
        keys: Keys,
        now: Instant,
        seed: u64,
    ) -> Result<Self, OpenError> {
        Self::simulated_tuned(disk, config, keys, Tuning::simulated(), now, seed)
    }

    pub(crate) fn simulated_tuned(
        disk: SimDisk,
        config: StoreConfig,
        keys: Keys,
        tuning: Tuning,
        now: Instant,
        seed: u64,
    ) -> Result<Self, OpenError> {
        disk.start(now, seed);
        let (shared, spooler) = recover_all(Disk::Simulated(disk), config, keys, tuning)?;
        let hands = Arc::new(Hands {
            handles: Mutex::default(),
            steps: Some(Mutex::new(Steps::begin(&shared, spooler, now))),
            shared: shared.clone(),
        });
        Ok(Self { shared, hands })
    }

    /// Bound on everything below the store's directory.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.shared.limit_bytes()
    }

    /// Sets another bound; what is over it goes at once, in the usual order.
    pub fn set_limit(&self, limit_bytes: u64) {
        let before = self.shared.limit_bytes.swap(limit_bytes, Ordering::Relaxed);
        if before != limit_bytes {
            locked(&self.shared.orders).flush_wanted = true;
            self.shared.ordered.notify_all();
        }
    }

    /// On a simulated disk: does what is due by `now`, which is the time until the next step. Nothing on a real one.
    #[doc(hidden)]
    pub fn step(&self, now: Instant) {
        if let Some(steps) = &self.hands.steps {
            locked(steps).run(&self.shared, now);
        }
    }

    /// Whether every generation has been read. Before that `held` lacks sealed rows: don't ask peers yet.
    pub fn ready(&self) -> bool {
        self.shared.state().ready
    }

    /// Waits for the generations that are still being opened; says whether all of them were.
    pub(crate) fn wait_opened(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut orders = locked(&self.shared.orders);
        while !orders.opened && !orders.stop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.ordered.wait_timeout(orders, left);
            orders = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        orders.opened
    }

    /// Flushes and syncs everything, then stops the store's threads. `Err`: something is in memory only, and lost.
    pub fn close(self) -> Result<(), StoreError> {
        // Seals first, so that the spool can then let go of what they cover.
        let flushed = self.flush();
        let synced = self.sync();
        locked(&self.shared.orders).stop = true;
        self.shared.ordered.notify_all();
        let handles = std::mem::take(&mut *locked(&self.hands.handles));
        for handle in handles {
            // A thread that panicked has said so; there is nothing to close for it.
            let _ = handle.join();
        }
        self.shared.shelf.close();
        flushed.and(synced)
    }

    /// Waits until every sealed block is in sled and synced.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.order(|orders| &mut orders.flush_asked, |orders| orders.flush_done);
        let state = self.shared.state();
        if state.pending.is_empty() {
            Ok(())
        } else {
            Err(not_durable(&state, state.pending_bytes))
        }
    }

    /// Waits until every row is in the spool and synced.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.order(|orders| &mut orders.sync_asked, |orders| orders.sync_done);
        let state = self.shared.state();
        if state.queue.is_empty() {
            Ok(())
        } else {
            Err(not_durable(&state, state.queue_bytes))
        }
    }

    fn order(&self, asked: fn(&mut Orders) -> &mut u64, done: fn(&Orders) -> u64) {
        if let Some(steps) = &self.hands.steps {
            locked(steps).run_all(&self.shared);
            return;
        }
        let mut orders = locked(&self.shared.orders);
        *asked(&mut orders) += 1;
        let number = *asked(&mut orders);
        self.shared.ordered.notify_all();
        // Longer than any single engine deadline; a thread that is stuck for good must not keep the node from ending.
        let deadline = Instant::now() + self.shared.tuning.open_deadline + Duration::from_secs(60);
        while done(&orders) < number && !orders.stop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.ordered.wait_timeout(orders, left);
            orders = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn not_durable(state: &State, bytes: usize) -> StoreError {
    StoreError::NotDurable {
        bytes: bytes as u64,
        why: state.ailments.values().next().cloned().unwrap_or_default(),
    }
}

/// Reads the small files and the spool.
fn recover_all(
    disk: Disk,
    config: StoreConfig,
    keys: Keys,
    tuning: Tuning,
) -> Result<(Arc<Shared>, Spooler), OpenError> {
    let (dir, keys) = (config.dir, Arc::new(keys));
    disk.make_dir(&dir)
        .map_err(at("make the store's directory", &dir))?;
    if let Err(e) = disk.sync_parent(&dir) {
        tracing::warn!(error = %e, "the directory above the store's cannot be synced");
    }
    let refused = check_format(&disk, &dir)?;
    let id = store_id(&disk, &dir)?;
    let (schemas, schema_file, bad_schemas) =
        Schemas::open(&disk, &dir).map_err(at("read schemas", &dir))?;
    let (gone_ledger, gone) = GoneLedger::open(&disk, &dir).map_err(at("read gone", &dir))?;
    let (evidence, kept) =
        Ledger::open(&disk, dir.join("evidence")).map_err(at("read evidence", &dir))?;
    let spool_dir = dir.join("spool");
    // What `append` would take.
    let is_good = |row: &SignedRow| {
        let width = schemas.width(&row.row.schema);
        row.verify(&*keys.verify).is_ok()
            && check_time(row.row.boot_ms, row.row.clock.offset_ms).is_ok()
            && width.is_none_or(|width| row.row.values.len() <= width)
    };
    let (spool, recovered) = Spool::open(&disk, &spool_dir, tuning.segment_bytes, &is_good)
        .map_err(at("recover the spool", &spool_dir))?;
    let file_bytes = (generation_bytes(&tuning, config.limit_bytes) / 8).max(64 << 10);
    let (attic, found, bad_rollups) = Attic::open(&disk, &dir, file_bytes);
    let mut state = recover(recovered, gone, disk.now(), disk.wall_ms());
    state.note_format(refused);
    state.damaged += bad_schemas + bad_rollups;
    for (_, body) in &kept {
        let Some(origin) = accused(body, &keys) else {
            continue;
        };
        state.conflicts += 1;
        *state.accused.entry(origin).or_default() += 1;
        state.losers.extend(Seal::decode(body));
    }
    let shared = Arc::new(Shared {
        shelf: Shelf::new(&disk, &dir, tuning.open_deadline, &keys),
        attic: Mutex::new(attic),
        found: Mutex::new(found),
        disk,
        dir,
        limit_bytes: AtomicU64::new(config.limit_bytes),
        sync_every: config.sync_every,
        tuning,
        check: config.check,
        keys,
        id,
        state: Mutex::new(state),
        schemas: Mutex::new(schemas),
        schema_file: Mutex::new(schema_file),
        surveys: Mutex::default(),
        own: Mutex::default(),
        gone: Mutex::new(gone_ledger),
        orders: Mutex::default(),
        ordered: Condvar::new(),
    });
    Ok((shared, Spooler::new(spool, evidence)))
}

/// Who signed this evidence. None: nobody did, so it accuses nobody.
fn accused(body: &[u8], keys: &Keys) -> Option<Origin> {
    let origin = if let Ok(row) = SignedRow::decode(body) {
        row.verify(&*keys.verify).map(|()| row.row.log.origin)
    } else {
        let seal = Seal::decode(body).ok()?;
        seal.verify(&*keys.verify).map(|()| seal.log.origin)
    };
    origin.ok()
}

fn start(shared: &Arc<Shared>, spooler: Spooler) -> Result<Arc<Hands>, OpenError> {
    let (a, b) = (shared.clone(), shared.clone());
    let spawned = |name: &str, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(at("start a thread", &shared.dir))
    };
    let handles = vec![
        spawned("store-spool", Box::new(move || spooler::run(&a, spooler)))?,
        spawned("store-blocks", Box::new(move || writer::run(&b)))?,
    ];
    Ok(Arc::new(Hands {
        shared: shared.clone(),
        handles: Mutex::new(handles),
        steps: None,
    }))
}

/// The tail as the spool has it. A row found twice is the same row, or the lower of two contents.
fn recover(recovered: Recovered, gone: GoneRows, at: Instant, wall_ms: i64) -> State {
    let mut state = State {
        damaged: recovered.damaged,
        own_damaged: recovered.damaged > 0,
        ..State::default()
    };
    for ((log, reason), rows) in gone.0 {
        let log = state.logs.entry(log).or_default();
        if reason == Reason::Budget {
            state.went_rows += rows.len();
            log.gone = rows;
        } else {
            log.lost.insert(reason, rows);
        }
    }
    for log in state.logs.values_mut() {
        let (lost, gone) = (std::mem::take(&mut log.lost), &log.gone);
        let lost = lost
            .into_iter()
            .map(|(reason, rows)| (reason, rows.subtract(gone)));
        log.lost = lost.filter(|(_, rows)| !rows.is_empty()).collect();
    }
    for row in recovered.rows {
        let held = state
            .logs
            .get(&row.row.log)
            .and_then(|log| log.tail.get(&row.row.seq));
        let stays = held
            .and_then(|bytes| SignedRow::decode(bytes).ok())
            .is_some_and(|old| old.row.content() <= row.row.content());
        if !stays {
            state.insert_row(&row.row, row.encode().into(), at, false);
            state.offer_latest(&Arc::new(row), wall_ms);
        }
    }
    state
}
