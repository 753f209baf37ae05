//! The store's handle: what it is given, how it opens and closes.
//!
//! `open` checks FORMAT, reads the small files and the spool, starts the threads and returns: sampling can begin. A
//! third thread then reads the generations, newest first; what is no good goes to quarantine and `ready` turns true.
//! Files: `FORMAT`, `id` (this store's random id), `epoch` (the last epoch begun), `spool/`, `gen-NNNNNN/`, `copies-NNNNNN/`,
//! `apart-NNNNNN/` (see `shelf`), `rollup/` (see `attic`), `quarantine/`,
//! `schemas`, `gone`, `evidence`, `ballast`.
//! Absent: what the calls do (`append`, `seal`, `read`), what the threads do (`spooler`, `writer`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::append::Own;
use crate::attic::{Attic, Found};
use crate::block::{MAX_PACK_BLOCKS, Seal};
use crate::disk::Disk;
use crate::disk::simulated::SimDisk;
use crate::error::{OpenError, StoreError};
use crate::key::gone::Reason;
use crate::ledger::Ledger;
use crate::needed::Surveys;
use crate::retain::{GoneLedger, GoneRows, make_room};
use crate::row::SignedRow;
use crate::sample::{Origin, StoreId};
use crate::schemas::{SchemaFile, Schemas};
use crate::shelf::{Shelf, locked};
use crate::spooler::{self, Spooler};
use crate::state::State;
use crate::step::Steps;
use crate::tail::{Recovered, Spool};
use crate::writer;

/// The newest format of a store's directory that this release reads, and the one it writes.
/// 1: generations `gen-NNNNNN` alone; 2: also those of other nodes' rows, packed blocks, roll-ups; 4: blocks wait for their
/// pack outside of sled, packs of the second version in pieces.
/// A flipped bit must not turn one number into another: after 4 come 7 and 8.
const FORMAT: u32 = 4;
/// Those that are read.
const FORMATS: [u32; 3] = [1, 2, FORMAT];
const FORMAT_WORD: &str = "outlast-store";

/// Verifies a generation's directory in a child process; `Err` says what is wrong with it.
pub type Check = Box<dyn Fn(&Path) -> Result<(), String> + Send + Sync>;
/// Signs a message with the origin's key.
pub type Sign = Box<dyn Fn(&[u8]) -> [u8; 64] + Send + Sync>;
/// Says whether a signature over a message belongs to the origin.
pub type Verify = Box<dyn Fn(&Origin, &[u8], &[u8; 64]) -> bool + Send + Sync>;

/// Who writes here, and how signatures are made and checked.
pub struct Keys {
    /// This node as an origin of rows.
    pub origin: Origin,
    /// Signs this node's rows and seals.
    pub sign: Sign,
    /// Checks what other origins signed.
    pub verify: Verify,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Where a store lives and how much it may take.
pub struct StoreConfig {
    /// The store's own directory; made if it is missing.
    pub dir: PathBuf,
    /// Bound on everything below `dir`. At the bound the oldest generation goes.
    pub limit_bytes: u64,
    /// How often fresh rows reach the disk for sure: 1 s, on SD cards 10 s.
    pub sync_every: Duration,
    /// Verifies a generation in a child process. None: only this process's own watchdog looks.
    pub check: Option<Check>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("dir", &self.dir)
            .field("limit_bytes", &self.limit_bytes)
            .field("sync_every", &self.sync_every)
            .finish_non_exhaustive()
    }
}

/// Sizes and times that tests make small; in life they are what `Default` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// A generation is closed when it has this much; earlier under a small bound.
    pub(crate) generation_bytes: u64,
    /// A generation is closed at this age.
    pub(crate) generation_age: Duration,
    /// Sealed blocks wait in memory this long, the spool covers them so long. Five minutes write two fifths less of
    /// blocks, whole pages counted, but leave a short run without a generation to look into; the spool writes far more.
    pub(crate) flush_every: Duration,
    /// sled's memory grows with what was written since the open: it is closed and opened again after this much. With
    /// blocks of 3.7 KB synced one by one a process grows by 12.4 MB at 4 MiB, by 9.0 at 1 MiB, by 8.4 at 512 KiB; each
    /// opening takes 0.1 to 0.2 s of the writer's thread.
    pub(crate) reopen_bytes: u64,
    /// So many blocks of a log become a pack: more of them pack better, fewer wait a shorter time beside sled.
    pub(crate) pack_blocks: usize,
    /// Opening and reading a whole generation; beyond it the generation is given up.
    pub(crate) open_deadline: Duration,
    /// A new segment of the spool starts when the current one has this much.
    pub(crate) segment_bytes: u64,
}

impl Tuning {
    fn in_life() -> Self {
        Self {
            generation_bytes: 64 << 20,
            generation_age: Duration::from_secs(24 * 3_600),
            flush_every: Duration::from_secs(30),
            reopen_bytes: 1 << 20,
            pack_blocks: MAX_PACK_BLOCKS,
            open_deadline: Duration::from_secs(180),
            segment_bytes: 1 << 20,
        }
    }

    /// As in life, but the spool is cut smaller: a simulation holds the disks of a thousand nodes in memory.
    fn simulated() -> Self {
        Self {
            segment_bytes: 64 << 10,
            ..Self::in_life()
        }
    }
}

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
    pub(crate) keys: Keys,
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
    let dir = config.dir;
    disk.make_dir(&dir)
        .map_err(at("make the store's directory", &dir))?;
    if let Err(e) = disk.sync_parent(&dir) {
        tracing::warn!(error = %e, "the directory above the store's cannot be synced");
    }
    check_format(&disk, &dir)?;
    let id = store_id(&disk, &dir)?;
    let (schemas, schema_file, bad_schemas) =
        Schemas::open(&disk, &dir).map_err(at("read schemas", &dir))?;
    let (gone_ledger, gone) = GoneLedger::open(&disk, &dir).map_err(at("read gone", &dir))?;
    let (evidence, kept) =
        Ledger::open(&disk, dir.join("evidence")).map_err(at("read evidence", &dir))?;
    let spool_dir = dir.join("spool");
    let (spool, recovered) = Spool::open(&disk, &spool_dir, tuning.segment_bytes)
        .map_err(at("recover the spool", &spool_dir))?;
    let file_bytes = (generation_bytes(&tuning, config.limit_bytes) / 8).max(64 << 10);
    let (attic, found, bad_rollups) = Attic::open(&disk, &dir, file_bytes);
    let mut state = recover(recovered, gone, disk.now(), disk.wall_ms());
    state.damaged += bad_schemas + bad_rollups;
    state.conflicts = kept.len() as u64;
    for origin in kept.iter().filter_map(|(_, body)| accused(body)) {
        *state.accused.entry(origin).or_default() += 1;
    }
    let losers = kept.iter().filter_map(|(_, body)| Seal::decode(body).ok());
    state.losers = losers.collect();
    let shared = Arc::new(Shared {
        shelf: Shelf::new(&disk, &dir, tuning.open_deadline),
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

/// Whose evidence it is.
fn accused(body: &[u8]) -> Option<Origin> {
    let row = SignedRow::decode(body).map(|row| row.row.log.origin);
    row.or_else(|_no_row| Seal::decode(body).map(|seal| seal.log.origin))
        .ok()
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

fn check_format(disk: &Disk, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("FORMAT");
    let bytes = match disk.read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(at("read", &path))?,
    };
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if has_flipped_bit(&bytes) {
        tracing::warn!(
            found = text,
            "the store's FORMAT has a flipped bit, it is written again"
        );
        let line = format!("{FORMAT_WORD} {FORMAT}\n");
        if let Err(e) = disk.replace(&path, line.as_bytes()) {
            tracing::warn!(error = %e, "the store's FORMAT stays damaged");
        }
        return Ok(());
    }
    // Empty: a new store, or one whose power failed while its first file was being made.
    if text.is_empty() {
        let line = format!("{FORMAT_WORD} {FORMAT}\n");
        return disk
            .replace(&path, line.as_bytes())
            .map_err(at("write", &path));
    }
    let number = text
        .strip_prefix(FORMAT_WORD)
        .and_then(|rest| rest.trim().parse::<u32>().ok());
    match number {
        Some(FORMAT) => Ok(()),
        Some(number) if FORMATS.contains(&number) => {
            // What is there is read as ever, what is written from here on is this release's.
            let line = format!("{FORMAT_WORD} {FORMAT}\n");
            if let Err(e) = disk.replace(&path, line.as_bytes()) {
                tracing::warn!(error = %e, "the store's format could not be written");
            }
            Ok(())
        }
        Some(number) if number > FORMAT => Err(OpenError::Newer {
            path: dir.to_owned(),
            found: number.to_string(),
            known: FORMAT,
        }),
        _ => Err(OpenError::Foreign {
            path,
            found: text.chars().take(40).collect(),
        }),
    }
}

/// Whether one bit of a format that is known here differs.
fn has_flipped_bit(found: &[u8]) -> bool {
    FORMATS.iter().any(|number| {
        let known = format!("{FORMAT_WORD} {number}\n").into_bytes();
        let bits = known.iter().zip(found).map(|(a, b)| (a ^ b).count_ones());
        found.len() == known.len() && bits.sum::<u32>() == 1
    })
}

/// The id drawn when the store was made. One that says nothing is replaced: the logs of before stay as they are, and this
/// node goes on under a new id. Where the disk doesn't give it out, this run has one of its own and the file stays.
fn store_id(disk: &Disk, dir: &Path) -> Result<StoreId, OpenError> {
    let path = dir.join("id");
    let text = match disk.read(&path) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => {
            tracing::warn!(error = %e, "the store's id cannot be read, this run goes on under another");
            let id = disk.random().map_err(at("draw a random id for", dir))?;
            return Ok(StoreId(id));
        }
    };
    if let Ok(id) = u64::from_str_radix(text.trim(), 16) {
        return Ok(StoreId(id));
    }
    let id = disk.random().map_err(at("draw a random id for", dir))?;
    let line = format!("{id:016x}\n");
    let written = disk.replace(&path, line.as_bytes()).or_else(|_full| {
        make_room(disk, dir, 0);
        disk.replace(&path, line.as_bytes())
    });
    if let Err(e) = written {
        // The next start draws another, which costs nothing but a log of its own.
        tracing::warn!(error = %e, "the store's id could not be written");
    }
    Ok(StoreId(id))
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}

impl Keys {
    pub(crate) fn is_own(&self, origin: &Origin) -> bool {
        *origin == self.origin
    }
}
