//! The generations on disk: finding, verifying, opening for a while, setting aside.
//!
//! Directories numbered from 1: `gen-NNNNNN` of this node's own rows (and of whatever was written before there were
//! classes), `copies-NNNNNN` of others', `apart-NNNNNN` of one other origin that has much. The newest of each class is
//! written, older ones are opened when they are read: two at most, closed after 30 s without a question. Everything that touches an engine runs on one thread under a
//! deadline (`Worker`), because a damaged generation may panic or spin: the thread is then left behind with the engine.
//! One that fails a read gets a fresh directory and is verified as at open, since a disk that stalls is not damage; one
//! that fails that moves to `quarantine/`. What was in it is asked for again by whoever compares `held`.
//! Invariant: a generation number is never used twice while this process runs.
//! Absent: which block lies where (`state`), when to write (`writer`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::block::{Head, Pack};
use crate::config::{Check, Keys};
use crate::disk::Disk;
use crate::engine::{Engine, EngineError, relink};
use crate::key::block::BlockKey;
use crate::packer::{self, Change, Loose};
use crate::plan::{Class, Kept};
use crate::sample::Origin;
use crate::worker::Worker;

/// Old generations open at the same time.
const OPEN_OLD: usize = 2;
/// An old generation nobody reads is closed after this.
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// Reading a batch of blocks; beyond it the engine hangs.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Blocks of closed generations that are remembered because they are to be packed: a generation and a half of the usual ones.
const UNPACKED: usize = 32 << 10;
/// Generations kept aside for a look; the oldest is deleted when one more comes.
const KEPT_ASIDE: usize = 2;

/// What one generation holds: heads of its blocks, and how many values failed our checksum.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) heads: Vec<Head>,
    pub(crate) damaged: u64,
    /// What the values of each origin take.
    pub(crate) loads: Loads,
    /// Blocks that are in no pack.
    pub(crate) loose: Loose,
}

/// Bytes by origin.
pub(crate) type Loads = BTreeMap<Origin, u64>;

/// What a block costs beside its bytes: its place in the index, and in sled's slabs.
const BLOCK_COST: u64 = 256;

/// The directory of generations and the engines that are open.
#[derive(Debug)]
pub(crate) struct Shelf {
    disk: Disk,
    dir: PathBuf,
    open_deadline: Duration,
    keys: Arc<Keys>,
    pub(crate) worker: Worker,
    highest: AtomicU32,
    newest: Mutex<BTreeMap<Class, Newest>>,
    kinds: Mutex<BTreeMap<u32, Kept>>,
    loads: Mutex<BTreeMap<u32, Loads>>,
    old: Mutex<BTreeMap<u32, (Engine, Instant)>>,
    /// Of closed generations the blocks that are to become packs yet.
    unpacked: Mutex<BTreeMap<u32, Loose>>,
}

/// The generation being written.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// 0: none was made or opened yet.
    pub(crate) number: u32,
    /// None with a number: closed or lost; to be opened again.
    pub(crate) engine: Option<Engine>,
    /// Its blocks that are in no pack yet.
    pub(crate) loose: Loose,
}

impl Shelf {
    pub(crate) fn new(disk: &Disk, dir: &Path, open_deadline: Duration, keys: &Arc<Keys>) -> Self {
        Self {
            worker: Worker::new(disk),
            disk: disk.clone(),
            dir: dir.to_owned(),
            open_deadline,
            keys: keys.clone(),
            highest: AtomicU32::new(0),
            newest: Mutex::default(),
            kinds: Mutex::default(),
            loads: Mutex::default(),
            old: Mutex::default(),
            unpacked: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, number: u32) -> PathBuf {
        let prefix = prefix(self.kind(number));
        self.dir.join(format!("{prefix}-{number:06}"))
    }

    /// Whose rows a generation holds.
    pub(crate) fn kind(&self, number: u32) -> Kept {
        locked(&self.kinds)
            .get(&number)
            .copied()
            .unwrap_or(Kept::Own)
    }

    /// Adds what was put into a generation.
    pub(crate) fn load_with(&self, number: u32, more: &Loads) {
        let mut loads = locked(&self.loads);
        let load = loads.entry(number).or_default();
        for (origin, bytes) in more {
            *load.entry(*origin).or_default() += bytes;
        }
    }

    /// What was put became a pack.
    pub(crate) fn repacked(&self, number: u32, change: &Change) {
        let mut loads = locked(&self.loads);
        let load = loads.entry(number).or_default();
        for (origin, bytes) in change {
            let load = load.entry(*origin).or_default();
            *load = load.saturating_add_signed(*bytes);
        }
    }

    /// What each origin's blocks take in one generation, or in all.
    pub(crate) fn loads(&self, of: Option<u32>) -> Loads {
        let mut all = Loads::new();
        for (number, load) in locked(&self.loads).iter() {
            if of.is_none_or(|of| of == *number) {
                for (origin, bytes) in load {
                    *all.entry(*origin).or_default() += bytes;
                }
            }
        }
        all
    }

    /// The numbers on disk, ascending. Leftovers of a removal or a relink that was cut off are cleared.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for name in self.disk.names(&self.dir)? {
            let Some((kind, rest)) = kind_of(&name) else {
                continue;
            };
            let whole = name.split('.').next().unwrap_or(&name);
            let mut there = |number: &str| {
                let number = number.parse::<u32>().ok().filter(|number| *number > 0);
                numbers.extend(number);
                number.map(|number| locked(&self.kinds).insert(number, kind));
            };
            match rest.split_once('.') {
                None => there(rest),
                Some((number, "lost")) if !self.disk.exists(&self.dir.join(whole)) => {
                    self.disk
                        .rename(&self.dir.join(&name), &self.dir.join(whole))?;
                    there(number);
                }
                Some(_) => {
                    let _ = self.disk.remove_dir_all(&self.dir.join(&name));
                }
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Verifies and reads a whole generation, twice if it fails; `Err` says why it is no good.
    pub(crate) fn load(
        &self,
        number: u32,
        check: Option<&Check>,
    ) -> Result<(Engine, Content), String> {
        let once = || {
            let (disk, path) = (self.disk.clone(), self.path(number));
            let keys = self.keys.clone();
            check.map_or(Ok(()), |check| check(&path))?;
            self.worker
                .within("open", self.open_deadline, move || {
                    read_all(Engine::open_believing(&disk, &path, &*keys.verify)?)
                })
                .and_then(|outcome| outcome.map_err(|e| e.to_string()))
        };
        once().or_else(|why| {
            tracing::warn!(
                generation = number,
                why,
                "generation does not open, trying once more"
            );
            once()
        })
    }

    /// Makes an opened generation the one of its class that is written.
    pub(crate) fn adopt(&self, class: Class, number: u32, engine: Engine, loose: Loose) {
        let newest = Newest {
            number,
            engine: Some(engine),
            loose,
        };
        locked(&self.newest).insert(class, newest);
    }

    /// The generations being written. A reader holds them for a read's deadline at most.
    pub(crate) fn newest(&self) -> MutexGuard<'_, BTreeMap<Class, Newest>> {
        locked(&self.newest)
    }

    /// The numbers of the generations being written, by class.
    pub(crate) fn writing(&self) -> BTreeMap<u32, Class> {
        let newest = self.newest();
        newest
            .iter()
            .map(|(class, newest)| (newest.number, *class))
            .collect()
    }

    /// A number no generation has had while this process runs, for one of a kind.
    pub(crate) fn fresh_number(&self, kind: Kept) -> u32 {
        let there = self
            .numbers()
            .ok()
            .and_then(|numbers| numbers.last().copied());
        let number = self.highest.load(Ordering::Relaxed).max(there.unwrap_or(0)) + 1;
        self.highest.store(number, Ordering::Relaxed);
        locked(&self.kinds).insert(number, kind);
        number
    }

    /// What `look` finds in one generation, or does to one that is closed. `Err`: the caller examines the generation or
    /// gives it a fresh directory; what was done may be half done, and may go on.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        number: u32,
        look: impl FnOnce(&mut Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, String> {
        let mut newest = locked(&self.newest);
        if let Some(newest) = written_of(&mut newest, number) {
            let engine = newest.engine.take();
            let (engine, found) = self.read_from(number, engine, look)?;
            newest.engine = Some(engine);
            return Ok(found);
        }
        drop(newest);
        let mut old = locked(&self.old);
        let engine = old.remove(&number).map(|(engine, _)| engine);
        let (engine, found) = self.read_from(number, engine, look)?;
        old.insert(number, (engine, self.disk.now()));
        while old.len() > OPEN_OLD {
            let oldest = old
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(number, _)| *number);
            oldest.map(|number| old.remove(&number));
        }
        Ok(found)
    }

    /// After a read that failed: verifies the generation under a fresh directory, because what hung keeps the old one
    /// locked. `Err` says why it is no good.
    pub(crate) fn examine(&self, number: u32, check: Option<&Check>) -> Result<(), String> {
        // Held throughout, so that nobody begins to write in a directory that is being replaced.
        let mut newest = locked(&self.newest);
        let written = written_of(&mut newest, number);
        let somebody_reads = written.is_some_and(|newest| newest.engine.is_some())
            || locked(&self.old).contains_key(&number);
        if somebody_reads {
            return Ok(());
        }
        relink(&self.disk, &self.path(number)).map_err(|e| format!("fresh directory: {e}"))?;
        self.load(number, check).map(drop)
    }

    fn read_from<T: Send + 'static>(
        &self,
        number: u32,
        engine: Option<Engine>,
        look: impl FnOnce(&mut Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<(Engine, T), String> {
        let (disk, path) = (self.disk.clone(), self.path(number));
        let keys = self.keys.clone();
        self.worker
            .within("read", READ_DEADLINE, move || {
                // Opening makes what is missing: a generation that retention took must not come back empty.
                if engine.is_none() && !disk.exists(&path) {
                    return Err(EngineError::Failed("it is not there any more".to_owned()));
                }
                let open = || Engine::open_believing(&disk, &path, &*keys.verify);
                let mut engine = engine.map_or_else(open, Ok)?;
                let found = look(&mut engine)?;
                Ok((engine, found))
            })?
            .map_err(|e: EngineError| e.to_string())
    }

    /// Closes old generations nobody has read for a while.
    pub(crate) fn close_idle(&self, now: Instant) {
        let mut old = locked(&self.old);
        old.retain(|_, (_, used)| now.saturating_duration_since(*used) < IDLE);
    }

    /// Remembers what is left to pack of a closed generation, as far as there is room: the rest waits for the next start.
    pub(crate) fn leave_unpacked(&self, number: u32, loose: Loose) {
        let blocks = |loose: &Loose| loose.values().map(BTreeMap::len).sum::<usize>();
        let mut unpacked = locked(&self.unpacked);
        let there: usize = unpacked.values().map(blocks).sum();
        if packer::is_left(&loose) && there + blocks(&loose) <= UNPACKED {
            unpacked.insert(number, loose);
        }
    }

    /// The newest closed generation that is not all packed.
    pub(crate) fn take_unpacked(&self) -> Option<(u32, Loose)> {
        locked(&self.unpacked).pop_last()
    }

    /// Closes an old generation, which gives back the memory that writing to it took.
    pub(crate) fn close_old(&self, number: u32) {
        locked(&self.old).remove(&number);
    }

    /// Closes everything.
    pub(crate) fn close(&self) {
        locked(&self.old).clear();
        for newest in locked(&self.newest).values_mut() {
            newest.engine = None;
        }
    }

    /// Moves a generation out of the way, with the reason written beside its files.
    pub(crate) fn set_aside(&self, number: u32, why: &str) {
        locked(&self.old).remove(&number);
        self.highest.fetch_max(number, Ordering::Relaxed);
        self.newest().retain(|_, newest| newest.number != number);
        locked(&self.loads).remove(&number);
        locked(&self.unpacked).remove(&number);
        let aside = self.dir.join("quarantine");
        let at = self.disk.wall_seconds();
        let prefix = prefix(self.kind(number));
        let target = aside.join(format!("{prefix}-{number:06}-{at}"));
        let made = self.disk.make_dir(&aside);
        let moved = made.and_then(|()| self.disk.rename(&self.path(number), &target));
        if let Err(e) = moved {
            tracing::warn!(generation = number, error = %e, "generation could not be set aside");
            return;
        }
        tracing::warn!(generation = number, why, "generation set aside");
        let _ = self.disk.write(&target.join("why"), why.as_bytes());
        let kept = self.quarantined();
        for (name, _) in kept.iter().take(kept.len().saturating_sub(KEPT_ASIDE)) {
            let _ = self.disk.remove_dir_all(&aside.join(name));
        }
    }

    /// What was set aside and why, oldest first.
    pub(crate) fn quarantined(&self) -> Vec<(String, String)> {
        let aside = self.dir.join("quarantine");
        let mut names = self.disk.names(&aside).unwrap_or_default();
        names.sort_by_key(|name| {
            name.rsplit('-')
                .next()
                .and_then(|at| at.parse::<u64>().ok())
        });
        let why = |name: String| {
            let why = self.disk.read(&aside.join(&name).join("why"));
            let why = String::from_utf8_lossy(&why.unwrap_or_default()).into_owned();
            (name, why)
        };
        names.into_iter().map(why).collect()
    }

    /// Deletes what was set aside; how many bytes that frees.
    pub(crate) fn clear_quarantine(&self) -> u64 {
        let aside = self.dir.join("quarantine");
        let bytes = self.disk.bytes_below(&aside);
        for (name, _) in self.quarantined() {
            let _ = self.disk.remove_dir_all(&aside.join(name));
        }
        bytes
    }

    /// Deletes a generation: renamed first and for good, so that a half-deleted one is never opened.
    pub(crate) fn remove(&self, number: u32) -> io::Result<()> {
        locked(&self.old).remove(&number);
        locked(&self.loads).remove(&number);
        locked(&self.unpacked).remove(&number);
        let dropped = self.path(number).with_extension("dropped");
        self.disk.rename(&self.path(number), &dropped)?;
        self.disk.sync_dir(&self.dir)?;
        self.disk.remove_dir_all(&dropped)
    }
}

fn prefix(kind: Kept) -> &'static str {
    match kind {
        Kept::Apart => "apart",
        Kept::Copies => "copies",
        Kept::Own => "gen",
    }
}

/// What kind of generation a name is for, and what follows.
fn kind_of(name: &str) -> Option<(Kept, &str)> {
    let mut kinds = [Kept::Own, Kept::Copies, Kept::Apart].into_iter();
    kinds.find_map(|kind| {
        let rest = name.strip_prefix(prefix(kind))?;
        Some((kind, rest.strip_prefix('-')?))
    })
}

fn written_of(newest: &mut BTreeMap<Class, Newest>, number: u32) -> Option<&mut Newest> {
    newest.values_mut().find(|newest| newest.number == number)
}

/// What a block of so many bytes counts for.
pub(crate) fn weight(bytes: usize) -> u64 {
    bytes as u64 + BLOCK_COST
}

/// Opens the generation at `path` and reads all of it, as `Store::open` does: what a child process runs for
/// `StoreConfig::check`. Returns how many blocks are good; those behind damage don't count, since a child has no keys.
pub fn verify_generation(path: &Path) -> Result<u64, String> {
    let content = Engine::open(&Disk::Real, path).and_then(read_all);
    let (_, content) = content.map_err(|e| e.to_string())?;
    Ok(content.heads.len() as u64)
}

fn read_all(mut engine: Engine) -> Result<(Engine, Content), EngineError> {
    let mut content = Content::default();
    engine.scan(|key, block| {
        let bytes = block.as_ref().map_or(0, |block| weight(block.len()));
        let head = block.ok().and_then(|block| Head::peek(block).ok());
        let named = BlockKey::decode(key).ok();
        if let Some(key) = &named {
            *content.loads.entry(key.log.origin).or_default() += bytes;
        }
        match (head, named) {
            (Some(head), Some(key)) if key.is_of(&head) => {
                packer::note(&mut content.loose, &head);
                content.heads.push(head);
            }
            _ => content.damaged += 1,
        }
    })?;
    engine.scan_packs(|key, pack| {
        let bytes = pack.as_ref().map_or(0, |pack| weight(pack.len()));
        let heads = pack.ok().and_then(|pack| Pack::peek(pack).ok());
        let named = BlockKey::decode(key).ok();
        if let Some(key) = &named {
            *content.loads.entry(key.log.origin).or_default() += bytes;
        }
        match (heads, named) {
            (Some(heads), Some(key)) if heads.first().is_some_and(|head| key.is_of(head)) => {
                content.heads.extend(heads);
            }
            _ => content.damaged += 1,
        }
    })?;
    Ok((engine, content))
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
