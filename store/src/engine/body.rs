//! What keeps the blocks of a generation on a real disk: a journal of those that wait, and sled with the packs. The only
//! file that names sled.
//!
//! Absent: checksums of values, and what a failure means (`engine`).

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::journal::{Journal, MAX_VALUE, Spare};
use super::{EngineError, checked, guarded, mend, pieces, take};
use crate::disk::Disk;

pub(super) type Db = sled::Db<4>;
pub(super) type Tree = sled::Tree<4>;

/// What sled may keep in memory; blocks are read once and in order, so little helps.
const CACHE_BYTES: usize = 256 * 1024;
/// Blocks are compressed already; level 1 costs least for finding that out.
const ZSTD_LEVEL: i32 = 1;
/// The tree of whole packs. Only read: each took a slot up to a third larger.
pub(super) const PACKS: &str = "packs";
/// The file of the blocks that wait, among sled's.
const WAITING: &str = "waiting";
/// Once most of the blocks in it have gone into packs, the rest is written anew.
const WAITING_SPARE: Spare = Spare {
    from: 64 << 10,
    thirds: 1,
};

/// An open sled.
#[derive(Debug)]
pub(super) struct Sled {
    /// Blocks that wait for their pack.
    pub(super) waiting: Journal,
    /// Blocks lie in sled by themselves, too: put there by an earlier release, or too large for a record.
    pub(super) blocks: bool,
    /// None where there is no such tree, or nobody has asked yet.
    pub(super) packs: Option<Tree>,
    pub(super) pieces: Option<Tree>,
    pub(super) db: Db,
    /// Something was put into sled or taken out; at first also its own files.
    pub(super) dirty: bool,
}

impl Sled {
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let db = open_sled(path)?;
        let opened = guarded(|| {
            let waiting = Journal::open(&Disk::Real, path.join(WAITING), WAITING_SPARE)?;
            let blocks = db.iter().next().transpose()?.is_some();
            Ok((waiting, blocks))
        })?;
        let (waiting, blocks) =
            opened.map_err(|e: io::Error| EngineError::Failed(format!("open: {e}")))?;
        Ok(Self {
            waiting,
            blocks,
            packs: None,
            pieces: None,
            db,
            dirty: true,
        })
    }

    /// Says how many bytes that puts into sled.
    pub(super) fn put(&mut self, key: &[u8], value: Vec<u8>) -> io::Result<u64> {
        if value.len() <= MAX_VALUE {
            self.waiting.put(key, &value);
            return Ok(0);
        }
        let bytes = (key.len() + value.len()) as u64;
        self.waiting.evict(key);
        (self.blocks, self.dirty) = (true, true);
        self.db.insert(key, value)?;
        Ok(bytes)
    }

    /// Puts all pieces of a pack; what one under the same key had more goes.
    pub(super) fn put_pack(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.dirty = true;
        let Some(pieces) = self.pieces(true)? else {
            return Ok(());
        };
        pieces::put(pieces, key, value)
    }

    pub(super) fn evict(&mut self, key: &[u8]) -> io::Result<()> {
        self.waiting.evict(key);
        if self.blocks && self.db.remove(key)?.is_some() {
            self.dirty = true;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.waiting.sync()?;
        if self.dirty {
            self.db.flush()?;
            self.dirty = false;
        }
        Ok(())
    }

    pub(super) fn get(&mut self, key: &[u8]) -> io::Result<Option<Result<Vec<u8>, EngineError>>> {
        if let Some(value) = self.waiting.get(key)? {
            return Ok(Some(take(&value)));
        }
        let block = if self.blocks { self.db.get(key)? } else { None };
        Ok(block.map(|value| take(&value)))
    }

    pub(super) fn scan(
        &mut self,
        mut each: impl FnMut(&[u8], Result<&[u8], EngineError>),
    ) -> io::Result<()> {
        self.waiting.scan(|key, value| each(key, checked(value)))?;
        for entry in self.db.iter() {
            let (key, value) = entry?;
            if !self.waiting.has(&key) {
                each(&key, checked(&value));
            }
        }
        Ok(())
    }

    /// The tree of whole packs, kept open since dropping it flushes. None is made.
    pub(super) fn packs(&mut self) -> io::Result<Option<&Tree>> {
        if self.packs.is_none() && self.db.contains_tree(PACKS)? {
            self.packs = Some(self.db.open_tree(PACKS)?);
        }
        Ok(self.packs.as_ref())
    }

    /// The tree of packs in pieces, kept open too. None is made by looking: old generations are only read.
    pub(super) fn pieces(&mut self, make: bool) -> io::Result<Option<&Tree>> {
        if self.pieces.is_none() && (make || self.db.contains_tree(pieces::PIECES)?) {
            self.pieces = Some(self.db.open_tree(pieces::PIECES)?);
        }
        Ok(self.pieces.as_ref())
    }
}

pub(super) fn open_sled(path: &Path) -> Result<Db, EngineError> {
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
