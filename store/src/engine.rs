//! One generation of sealed blocks: the only file that names sled. On a simulated disk `twin` stands for it.
//!
//! Blocks go in by `put` (the same key and bytes twice is nothing), are safe when `sync` has answered with a ticket,
//! come out by `get` and `scan`; packs of blocks lie in a tree of their own, so that leaves of the one are not written
//! again for the other, and come out by `pack_of` and `scan_packs`. Every value carries our own CRC32C, so that no answer of the engine is believed
//! unchecked. Only one writer at a time: the owner of the `Engine`.
//!
//! sled as measured (fanout 4, no flusher, explicit flush): memory grows with what was written since the open, so the
//! owner reopens after a megabyte (`written`); after a failed flush its Drop waits for ever, so a broken engine is
//! forgotten instead of dropped and its directory stays locked until the process ends (`relink` gets around that).
//! Absent: transactions, merge operators, subscriptions; deadlines and quarantine (`shelf`).

mod mend;
mod twin;

use std::fs;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::disk::Disk;
use crate::disk::simulated::SimDisk;
use crate::key::block::BlockKey;
use twin::Twin;

type Db = sled::Db<4>;

/// What sled may keep in memory; blocks are read once and in order, so little helps.
const CACHE_BYTES: usize = 256 * 1024;
/// Blocks are compressed already; level 1 costs least for finding that out.
const ZSTD_LEVEL: i32 = 1;
const VALUE_VERSION: u8 = 1;
/// The tree of packs.
const PACKS: &str = "packs";
/// The twin has one tree only: packs stand behind this byte there.
const TWIN_PACKS: u8 = b'p';
/// A block lies in the last pack that begins at or below it, unless one made at the end of a generation begins inside
/// another: so many are looked at.
const PACKS_TRIED: usize = 4;

/// Why a generation did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// The engine failed or panicked: it is broken from here on.
    #[error("{0}")]
    Failed(String),
    /// This one value fails our checksum; others may be fine.
    #[error("a value fails its checksum")]
    Damaged,
}

/// How many syncs have succeeded since the open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What keeps the blocks.
#[derive(Debug)]
enum Body {
    /// None only while it is dropped.
    Sled(Box<Option<Sled>>),
    Twin(Twin),
}

/// An open sled; `packs` is None where there is no such tree, or nobody has asked yet.
#[derive(Debug)]
struct Sled {
    packs: Option<sled::Tree<4>>,
    db: Db,
}

/// An open generation.
#[derive(Debug)]
pub(crate) struct Engine {
    body: Body,
    broken: Option<String>,
    ticket: Ticket,
    /// Bytes put since the open.
    pub(crate) written: u64,
}

impl Engine {
    /// Opens or makes the generation at `path`.
    pub(crate) fn open(disk: &Disk, path: &Path) -> Result<Self, EngineError> {
        let body = match disk {
            Disk::Real => Body::Sled(Box::new(Some(Sled {
                packs: None,
                db: open_sled(path)?,
            }))),
            Disk::Simulated(disk) => Body::Twin(open_twin(disk, path)?),
        };
        Ok(Self {
            body,
            broken: None,
            ticket: Ticket(0),
            written: 0,
        })
    }

    /// Stores `bytes` under `key`; not durable before the next `sync`.
    pub(crate) fn put(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), EngineError> {
        let value = stamped(bytes);
        self.written += (key.len() + value.len()) as u64;
        self.run("put", |body| match body {
            Body::Sled(db) => there(db)?.db.insert(key, value).map(drop),
            Body::Twin(twin) => {
                twin.put(key, &value);
                Ok(())
            }
        })
    }

    /// Stores a pack under the key of its first block; not durable before the next `sync`.
    pub(crate) fn put_pack(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), EngineError> {
        let value = stamped(bytes);
        self.written += (key.len() + value.len()) as u64;
        self.run("put", |body| match body {
            Body::Sled(db) => {
                if let Some(packs) = there(db)?.packs(true)? {
                    packs.insert(key, value)?;
                }
                Ok(())
            }
            Body::Twin(twin) => {
                twin.put(&in_packs(key), &value);
                Ok(())
            }
        })
    }

    /// The first pack at or below `key` that is wanted, of the few that can have it.
    pub(crate) fn pack_of<T>(
        &mut self,
        key: &[u8],
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        let mut look = |value: &[u8]| checked(value).ok().and_then(&mut wanted);
        self.run("read", |body| match body {
            Body::Sled(db) => {
                let Some(packs) = there(db)?.packs(false)? else {
                    return Ok(None);
                };
                for entry in packs.range(..=key).rev().take(PACKS_TRIED) {
                    if let Some(found) = look(&entry?.1) {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Body::Twin(twin) => {
                for key in twin.keys_down_from(&in_packs(key)).take(PACKS_TRIED) {
                    let value = twin.get(key)?.filter(|_| is_of_pack(key));
                    if let Some(found) = value.and_then(|value| look(&value)) {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        })
    }

    /// Every key of a pack and the checked pack, in order of keys.
    pub(crate) fn scan_packs(
        &mut self,
        mut each: impl FnMut(&[u8], Result<&[u8], EngineError>),
    ) -> Result<(), EngineError> {
        self.run("scan", |body| match body {
            Body::Sled(db) => {
                let packs = there(db)?.packs(false)?;
                for entry in packs.iter().flat_map(|packs| packs.iter()) {
                    let (key, value) = entry?;
                    each(&key, checked(&value));
                }
                Ok(())
            }
            Body::Twin(twin) => twin.scan(|key, value| {
                if is_of_pack(key) {
                    each(&key[1..], checked(value));
                }
            }),
        })
    }

    /// Takes a block out; whether that survives a power cut before the next `sync` is open.
    pub(crate) fn evict(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.run("evict", |body| match body {
            Body::Sled(db) => there(db)?.db.remove(key).map(drop),
            Body::Twin(twin) => {
                twin.evict(key);
                Ok(())
            }
        })
    }

    /// Everything put before survives a power cut when this returns.
    pub(crate) fn sync(&mut self) -> Result<Ticket, EngineError> {
        self.run("flush", |body| match body {
            Body::Sled(db) => there(db)?.db.flush().map(drop),
            Body::Twin(twin) => twin.sync(),
        })?;
        self.ticket.0 += 1;
        Ok(self.ticket)
    }

    /// The block stored under `key`, checked.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.run("read", |body| match body {
            Body::Sled(db) => Ok(there(db)?.db.get(key)?.map(|value| take(&value))),
            Body::Twin(twin) => Ok(twin.get(key)?.map(|value| take(&value))),
        })?
        .transpose()
    }

    /// Every key and checked block, in order of keys.
    pub(crate) fn scan(
        &mut self,
        mut each: impl FnMut(&[u8], Result<&[u8], EngineError>),
    ) -> Result<(), EngineError> {
        self.run("scan", |body| match body {
            Body::Sled(db) => {
                for entry in there(db)?.db.iter() {
                    let (key, value) = entry?;
                    each(&key, checked(&value));
                }
                Ok(())
            }
            Body::Twin(twin) => twin.scan(|key, value| {
                if !is_of_pack(key) {
                    each(key, checked(value));
                }
            }),
        })
    }

    /// Why the engine is broken. None: it works.
    #[cfg(test)]
    pub(crate) fn health(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn run<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Body) -> io::Result<T>,
    ) -> Result<T, EngineError> {
        if let Some(why) = &self.broken {
            return Err(EngineError::Failed(why.clone()));
        }
        let outcome = match guarded(|| work(&mut self.body)) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(e)) => EngineError::Failed(format!("{what}: {e}")),
            Err(e) => e,
        };
        self.broken = Some(outcome.to_string());
        Err(outcome)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Body::Sled(db) = &mut self.body else {
            return;
        };
        let db = db.take();
        if self.broken.is_some() {
            mem::forget(db);
        } else if let Err(e) = guarded(|| drop(db)) {
            tracing::warn!(error = %e, "generation did not close cleanly");
        }
    }
}

fn stamped(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes.len() + 5);
    value.push(VALUE_VERSION);
    value.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    value.extend_from_slice(bytes);
    value
}

impl Sled {
    /// The tree of packs, kept open since dropping it flushes. None is made by looking: old generations are only read.
    fn packs(&mut self, make: bool) -> io::Result<Option<&sled::Tree<4>>> {
        if self.packs.is_none() && (make || self.db.contains_tree(PACKS)?) {
            self.packs = Some(self.db.open_tree(PACKS)?);
        }
        Ok(self.packs.as_ref())
    }
}

fn in_packs(key: &[u8]) -> Vec<u8> {
    [&[TWIN_PACKS], key].concat()
}

fn is_of_pack(key: &[u8]) -> bool {
    key.len() == BlockKey::LEN + 1
}

fn open_sled(path: &Path) -> Result<Db, EngineError> {
    let config = sled::Config::new()
        .path(path)
        .flush_every_ms(None)
        .cache_capacity_bytes(CACHE_BYTES)
        .zstd_compression_level(ZSTD_LEVEL);
    let failed = |e: io::Error| EngineError::Failed(format!("open: {e}"));
    mend::before_opening(path).map_err(failed)?;
    let mut patience = 50;
    loop {
        match guarded(|| config.open::<4>())? {
            Ok(db) => {
                mend::after_opening(path).map_err(failed)?;
                return Ok(db);
            }
            // A child of ours that has not reached its exec yet still shares the lock of the last handle.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(failed(e)),
        }
    }
}

fn open_twin(disk: &SimDisk, path: &Path) -> Result<Twin, EngineError> {
    Twin::open(disk, path).map_err(|e| EngineError::Failed(format!("open: {e}")))
}

/// The file of the generation at `path` that was made first and stays.
pub(crate) fn first_file(disk: &Disk, path: &Path) -> PathBuf {
    match disk {
        Disk::Real => path.join("slabs").join("64"),
        Disk::Simulated(_) => twin::file_in(path),
    }
}

fn there(sled: &mut Option<Sled>) -> io::Result<&mut Sled> {
    sled.as_mut().ok_or_else(|| io::Error::other("closed"))
}

fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        EngineError::Failed(format!("panic: {}", text.unwrap_or("no message")))
    })
}

fn take(value: &[u8]) -> Result<Vec<u8>, EngineError> {
    checked(value).map(<[u8]>::to_vec)
}

fn checked(value: &[u8]) -> Result<&[u8], EngineError> {
    match value {
        [VALUE_VERSION, a, b, c, d, bytes @ ..]
            if crc32c::crc32c(bytes) == u32::from_le_bytes([*a, *b, *c, *d]) =>
        {
            Ok(bytes)
        }
        _ => Err(EngineError::Damaged),
    }
}

/// Gives a generation whose handle is lost a directory of its own again: the same files under a fresh directory.
///
/// The lost handle keeps the old directory locked, and never writes again. A simulated one locks nothing.
pub(crate) fn relink(disk: &Disk, path: &Path) -> io::Result<()> {
    if matches!(disk, Disk::Simulated(_)) {
        return Ok(());
    }
    let (fresh, lost) = (path.with_extension("relink"), path.with_extension("lost"));
    let _ = fs::remove_dir_all(&fresh);
    link_tree(path, &fresh)?;
    fs::rename(path, &lost)?;
    fs::rename(&fresh, path)?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir)?;
    }
    fs::remove_dir_all(&lost)
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_synced_comes_back_checked_and_what_is_evicted_does_not() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("gen-000001");
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        engine.put(b"a", b"one").unwrap();
        engine.put(b"a", b"one").unwrap();
        engine.put(b"b", b"two").unwrap();
        assert_eq!(engine.sync(), Ok(Ticket(1)));
        engine.evict(b"b").unwrap();
        assert_eq!(engine.sync(), Ok(Ticket(2)));
        drop(engine);
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        assert_eq!(engine.get(b"a"), Ok(Some(b"one".to_vec())));
        assert_eq!((engine.get(b"b"), engine.health()), (Ok(None), None));
        engine
            .run("put", |body| match body {
                Body::Sled(db) => there(db)?
                    .db
                    .insert(b"a", &[VALUE_VERSION, 0, 0, 0, 0, 7][..]),
                Body::Twin(_) => unreachable!("a real disk"),
            })
            .unwrap();
        assert_eq!(engine.get(b"a"), Err(EngineError::Damaged));
    }

    /// As a power cut leaves it that comes after an opening and before the next flush.
    #[test]
    fn a_generation_whose_newest_log_was_lost_opens_again_and_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("gen-000001");
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        engine.put(b"a", b"one").unwrap();
        engine.sync().unwrap();
        drop(engine);
        drop(Engine::open(&Disk::Real, &path).unwrap());
        for _ in 0..3 {
            let mut logs: Vec<_> = fs::read_dir(path.join("metadata"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.to_string_lossy().contains("/log_"))
                .collect();
            logs.sort();
            fs::remove_file(logs.last().unwrap()).unwrap();
            let mut engine = Engine::open(&Disk::Real, &path).unwrap();
            assert_eq!(engine.get(b"a"), Ok(Some(b"one".to_vec())));
        }
    }

    #[test]
    fn a_broken_engine_says_so_and_its_files_can_be_opened_again_beside_it() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("gen-000001");
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        engine.put(b"a", b"one").unwrap();
        engine.sync().unwrap();
        let panicked = engine.run::<()>("put", |_| panic!("no such luck"));
        assert!(
            panicked.is_err()
                && engine
                    .health()
                    .is_some_and(|why| why.contains("no such luck"))
        );
        assert!(
            engine.get(b"a").is_err(),
            "nothing is asked of a broken engine"
        );
        drop(engine);
        relink(&Disk::Real, &path).unwrap();
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        assert_eq!(engine.get(b"a"), Ok(Some(b"one".to_vec())));
    }
}
