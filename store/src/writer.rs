//! The thread that reads the generations at open and then puts sealed blocks into the newest one.
//!
//! At open: every generation is verified and read, newest first; what is no good is set aside; then the store is ready.
//! Afterwards, when blocks have waited half a minute or half a megabyte
//! waits: put, sync, and only then tell the state, which lets the spool go of the rows. The bound on bytes and the room on
//! the disk are looked at every 30 s. Own rows, copies and what is kept apart go into generations of their own (`plan`).
//! After a turn (64 MB or 24 h) the next block of a class starts a new one.
//! sled is only written to while there is room for what it may need, since it can't be closed after a write that failed.
//! If one fails all the same the generation gets fresh directories (`engine::relink`), is only read from then on, and
//! what was not synced goes into a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::block::{Block, Head};
use crate::config::Keys;
use crate::disk::Disk;
use crate::engine::{Engine, EngineError, first_file, relink};
use crate::key::block::BlockKey;
use crate::key::gone::Reason;
use crate::open::Shared;
use crate::packer::{self, Loose, When};
use crate::plan::{Class, Kept};
use crate::retain::{OWN_FLOOR, keep_ballast, make_room};
use crate::shelf::{IDLE, Loads, locked, weight};
use crate::state::FLUSH_BYTES;

/// Putting and syncing a batch; beyond it the engine hangs.
const WRITE_DEADLINE: Duration = Duration::from_secs(120);
/// How long a block waits that came whole, as repair brings it: a power cut takes it, and others count on it.
const BARE: Duration = Duration::from_secs(30);
/// Packs made of a closed generation in one turn: readers wait meanwhile, on a slow machine a second each.
const PACKS_ON: usize = 4;
/// sled writes a block about five times: leaves are split and moved.
const WRITE_FACTOR: u64 = 6;

type Batch = Vec<(BlockKey, Arc<[u8]>)>;

/// Runs until the store is closed.
pub(crate) fn run(shared: &Shared) {
    begin(shared);
    loop {
        let (asked, flush, stop) = wait(shared);
        turn(shared, flush);
        locked(&shared.orders).flush_done = asked;
        shared.ordered.notify_all();
        if stop {
            return;
        }
    }
}

/// Reads the generations.
pub(crate) fn begin(shared: &Shared) {
    load(shared);
    // At once, or a crash before the first turn would forget why rows went.
    shared.note_gone();
    keep_ballast(&shared.disk, &shared.dir, shared.limit_bytes());
    shared.state().ready = true;
    locked(&shared.orders).opened = true;
    shared.ordered.notify_all();
}

/// Writes what has waited long enough, or all of it, and brings the directory below its bound.
pub(crate) fn turn(shared: &Shared, all: bool) {
    if all || is_due(shared) {
        flush(shared);
    }
    keep_ballast(&shared.disk, &shared.dir, shared.limit_bytes());
    shared.look_for_room();
    shared.evict();
    pack_on(shared);
    shared.look_for_schemas();
    shared.note_gone();
    shared.shelf.close_idle(shared.now());
}

/// How long until the next look when nobody asks.
pub(crate) fn patience(shared: &Shared) -> Duration {
    shared.tuning.flush_every.min(IDLE)
}

/// Whether the oldest block that waits has waited long enough, or so many do that they should not. A look comes a little
/// sooner or later than planned: half the time between two of them doesn't count.
fn is_due(shared: &Shared) -> bool {
    let state = shared.state();
    let now = shared.now();
    let waits = |since: Instant| now.saturating_duration_since(since) + patience(shared) / 2;
    let waited = state.pending_since.map_or(Duration::ZERO, waits);
    let bare = state.bare_since.map_or(Duration::ZERO, waits) >= BARE;
    // What left the spool's queue unwritten may be on no disk before its block is.
    let nowhere_else = !state.unspooled.is_empty();
    let many = state.pending_bytes > FLUSH_BYTES;
    many || nowhere_else || bare || waited >= shared.tuning.flush_every
}

fn load(shared: &Shared) {
    let numbers = shared.shelf.numbers().unwrap_or_else(|e| {
        tracing::warn!(error = %e, "generations cannot be listed");
        Vec::new()
    });
    let mut adopted = BTreeSet::new();
    for number in numbers.into_iter().rev() {
        if locked(&shared.orders).stop {
            return;
        }
        make_room(&shared.disk, &shared.dir, 0);
        match shared.shelf.load(number, shared.check.as_ref()) {
            Ok((engine, content)) => {
                let mut state = shared.state();
                state.damaged += content.damaged;
                let is_own = shared.shelf.kind(number) == Kept::Own;
                state.own_damaged |= is_own && content.damaged > 0;
                for head in &content.heads {
                    state.scanned(head, number);
                }
                drop(state);
                shared.shelf.load_with(number, &content.loads);
                let class = shared.class_of(number);
                let is_newest = adopted.insert(class);
                if is_newest && !due(shared, number) {
                    shared.shelf.adopt(class, number, engine, content.loose);
                } else if is_newest {
                    // Its day ended while nobody ran.
                    pack_old(shared, number, engine, content.loose);
                } else {
                    shared.shelf.leave_unpacked(number, content.loose);
                }
            }
            Err(why) => shared.set_aside(number, &why),
        }
    }
    forget_losers(shared);
    shared.find_rolled();
}

/// Forgets blocks that lost against another content and lie in their generation all the same.
fn forget_losers(shared: &Shared) {
    let losers = shared.state().crossed();
    for seal in losers {
        let key = BlockKey {
            log: seal.log,
            first: seal.first,
        };
        let held = shared.fetch(&[key]).pop().flatten();
        let held = held.and_then(|held| Block::read(&held).ok());
        if held.is_some_and(|held| held.seal().content == seal.content) {
            shared.state().forget_block(&key, Reason::Damaged);
        }
    }
}

/// Until the next look, or until somebody asks: the number asked for, whether to write all that waits, and whether to end.
fn wait(shared: &Shared) -> (u64, bool, bool) {
    let deadline = Instant::now() + patience(shared);
    let mut orders = locked(&shared.orders);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = orders.flush_asked > orders.flush_done;
        if orders.stop || asked || orders.flush_wanted || left.is_zero() {
            orders.flush_wanted = false;
            return (orders.flush_asked, asked || orders.stop, orders.stop);
        }
        let waited = shared.ordered.wait_timeout(orders, left);
        orders = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Puts and syncs what waits.
fn flush(shared: &Shared) {
    let batch: Batch = {
        let state = shared.state();
        state
            .pending
            .iter()
            .map(|(key, bytes)| (*key, bytes.clone()))
            .collect()
    };
    if batch.is_empty() {
        return;
    }
    let loads = shared.shelf.loads(None);
    let mut classes: BTreeMap<Class, Batch> = BTreeMap::new();
    for (key, bytes) in batch {
        let class = shared.class_for(&key.log.origin, &loads);
        classes.entry(class).or_default().push((key, bytes));
    }
    let mut trouble = None;
    for (class, batch) in classes {
        let schemas = shared.write_schemas();
        let schemas = schemas.map_err(|e| format!("write schemas: {e}"));
        match schemas.and_then(|()| put(shared, class, &batch)) {
            Ok(number) => shared.state().committed(&batch, number),
            Err(why) => trouble = Some(why),
        }
    }
    let mut state = shared.state();
    match trouble {
        None => drop(state.ailments.remove("blocks")),
        Some(why) => {
            let why = format!("sealed blocks are in memory only: {why}");
            state.ailments.insert("blocks", why);
        }
    }
}

/// Puts a batch of one class where there is room for it.
fn put(shared: &Shared, class: Class, batch: &Batch) -> Result<u32, String> {
    let bytes: usize = batch.iter().map(|(_, bytes)| bytes.len()).sum();
    shared.has_format()?;
    shared.look_for_room();
    if class == Class::Own && !shared.state().room.own {
        return Err(OWN_FLOOR.to_owned());
    }
    if !make_room(&shared.disk, &shared.dir, bytes as u64 * WRITE_FACTOR) {
        return Err("less than 8 MB are free on its disk".to_owned());
    }
    write(shared, class, batch)
}

fn loads_of(batch: &Batch) -> Loads {
    let mut loads = Loads::new();
    for (key, bytes) in batch {
        *loads.entry(key.log.origin).or_default() += weight(bytes.len());
    }
    loads
}

fn write(shared: &Shared, class: Class, batch: &Batch) -> Result<u32, String> {
    let mut all = shared.shelf.newest();
    let newest = all.entry(class).or_default();
    if newest.number == 0 {
        newest.number = shared.shelf.fresh_number(class.kept());
    }
    let number = newest.number;
    let path = shared.shelf.path(number);
    let engine = newest.engine.take();
    let mut loose = std::mem::take(&mut newest.loose);
    let work = batch.clone();
    let (disk, keys) = (shared.disk.clone(), shared.keys.clone());
    let worker = &shared.shelf.worker;
    let enough = When::Enough(shared.tuning.pack_blocks);
    let written = worker.within("write", WRITE_DEADLINE, move || {
        let mut engine = put_all(&disk, &keys, engine, &path, &work)?;
        for (_, bytes) in &work {
            if let Ok(head) = Head::peek(bytes) {
                packer::note(&mut loose, &head);
            }
        }
        let change = packer::pack(&mut engine, &mut loose, enough)?;
        Ok::<_, EngineError>((engine, loose, change))
    });
    match written.and_then(|outcome| outcome.map_err(|e| e.to_string())) {
        Ok((engine, loose, change)) => {
            shared.shelf.load_with(number, &loads_of(batch));
            shared.shelf.repacked(number, &change);
            let full = due(shared, number);
            let heavy = engine.written >= shared.tuning.reopen_bytes;
            // Dropping an engine closes it: here after a turn, or to get its memory back.
            let seldom = matches!(class, Class::Apart(_));
            if full {
                all.remove(&class);
                let packed = pack_rest(shared, number, engine, loose);
                drop(all);
                if let Err(why) = packed {
                    shared.set_aside(number, &why);
                    return Err(why);
                }
            } else {
                newest.engine = Some(engine).filter(|_| !heavy && !seldom);
                newest.loose = loose;
            }
            Ok(number)
        }
        Err(why) => {
            all.remove(&class);
            let kept = keep_for_reading(shared, number, &why);
            drop(all);
            if let Err(why) = kept {
                shared.set_aside(number, &why);
            }
            Err(why)
        }
    }
}

/// Before a generation is closed for good. What fails here leaves its blocks as they are; `Err`: it can't be kept at all.
fn pack_rest(
    shared: &Shared,
    number: u32,
    mut engine: Engine,
    mut loose: Loose,
) -> Result<(), String> {
    let (worker, most) = (&shared.shelf.worker, shared.tuning.packs_at_close);
    let packed = worker.within("pack", WRITE_DEADLINE, move || {
        let change = packer::pack_some(&mut engine, &mut loose, When::Closing, most)?;
        Ok::<_, EngineError>((loose, change))
    });
    let why = match packed.and_then(|outcome| outcome.map_err(|e| e.to_string())) {
        Ok((left, change)) => {
            shared.shelf.repacked(number, &change);
            shared.shelf.leave_unpacked(number, left);
            return Ok(());
        }
        Err(why) => why,
    };
    tracing::warn!(
        generation = number,
        why,
        "generation is closed before all of it is packed"
    );
    keep_for_reading(shared, number, &why)
}

/// Whether there is room for as much again as a generation has, and it may be written to at all.
fn may_pack(shared: &Shared, number: u32) -> bool {
    let bytes = shared.disk.bytes_below(&shared.shelf.path(number));
    shared.has_format().is_ok() && make_room(&shared.disk, &shared.dir, bytes)
}

fn pack_old(shared: &Shared, number: u32, engine: Engine, loose: Loose) {
    if !may_pack(shared, number) {
        shared.shelf.leave_unpacked(number, loose);
        return;
    }
    let newest = shared.shelf.newest();
    let packed = pack_rest(shared, number, engine, loose);
    drop(newest);
    if let Err(why) = packed {
        shared.set_aside(number, &why);
    }
}

/// Makes a few more packs of a generation that was closed before all of it was packed. Where that fails it isn't tried again
/// before the next start, since what hangs may go on writing when the disk answers: the next read finds the generation locked and
/// examines it under a fresh directory.
fn pack_on(shared: &Shared) {
    if locked(&shared.orders).stop {
        return;
    }
    let Some((number, mut loose)) = shared.shelf.take_unpacked() else {
        return;
    };
    if !may_pack(shared, number) {
        shared.shelf.leave_unpacked(number, loose);
        return;
    }
    let packed = shared.shelf.read(number, move |engine| {
        let change = packer::pack_some(engine, &mut loose, When::Closing, PACKS_ON)?;
        Ok((loose, change))
    });
    match packed {
        Ok((left, change)) => {
            shared.shelf.close_old(number);
            shared.shelf.repacked(number, &change);
            shared.shelf.leave_unpacked(number, left);
        }
        Err(why) => {
            tracing::warn!(generation = number, why, "generation is not packed on");
        }
    }
}

/// A fresh directory for a generation whose engine is lost. The caller has `newest` locked, since a reader whose read
/// failed gives it one, too (`Shelf::examine`).
fn keep_for_reading(shared: &Shared, number: u32, why: &str) -> Result<(), String> {
    let path = shared.shelf.path(number);
    if !shared.disk.exists(&path) {
        return Ok(());
    }
    relink(&shared.disk, &path).map_err(|e| format!("{why}; fresh directory: {e}"))
}

fn put_all(
    disk: &Disk,
    keys: &Keys,
    engine: Option<Engine>,
    home: &Path,
    batch: &Batch,
) -> Result<Engine, EngineError> {
    let fresh = engine.is_none();
    let open = || Engine::open_believing(disk, home, &*keys.verify);
    let mut engine = engine.map_or_else(open, Ok)?;
    for (key, bytes) in batch {
        engine.put(&key.encode(), bytes)?;
    }
    engine.sync()?;
    // sled syncs its own directories but not the entry of the generation among its siblings, without which a power cut
    // could take all of it after the spool has let go.
    if fresh {
        let entry = disk.sync_parent(home);
        entry.map_err(|e| EngineError::Failed(format!("sync the store's directory: {e}")))?;
    }
    Ok(engine)
}

/// Whether a generation has had its 64 MB or its day; of an origin kept apart half as much, so that several fit in its part
/// of the bound.
fn due(shared: &Shared, number: u32) -> bool {
    let path = shared.shelf.path(number);
    let age = shared.disk.age(&first_file(&shared.disk, &path));
    let old = age.is_some_and(|age| age >= shared.tuning.generation_age);
    let parts = if shared.shelf.kind(number) == Kept::Apart {
        2
    } else {
        1
    };
    old || shared.disk.bytes_below(&path) >= shared.generation_bytes() / parts
}
