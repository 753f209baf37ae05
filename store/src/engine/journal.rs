//! Values by key in one append-only file of records, synced as a whole.
//!
//! Of a generation on a real disk it keeps the blocks that wait for a pack: each is written once here, where sled would write
//! its leaf again for every neighbour. On a simulated disk it stands for sled itself and keeps the packs, too.
//! A record is a key after its length (1 byte) and the value; the last one of a key counts. What is put waits in memory
//! until `sync`; when much of the file is of values that are no more, what is left is written anew beside it. The file is
//! made by the first sync. What was put behind a bad record counts only after `believe`, and what was evicted there comes
//! back, which lies beside its pack then, as after a power cut. A torn end is cut at open, a bad record is reported once by `scan`, values are read from the disk
//! each time and believed by nobody unchecked (`engine`).
//! Bounds: `MAX_VALUE`; the file has `Spare` at most beside what it keeps. A generation's 64 MB may all lie here, where an
//! origin's blocks never join: so it is read and written anew by pieces, of which one is in memory.
//! Absent: deadlines, since nothing here waits; everything sled does about many values.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, File};
use crate::record;
use crate::worker;

/// The longest value: with its key it fits into a record.
pub(super) const MAX_VALUE: usize = record::MAX_BODY - 256;
const PUT: u8 = 1;
const EVICT: u8 = 2;

/// When the file is written anew: it is longer than `from`, and less than so many thirds of it are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    pub(super) from: u64,
    pub(super) thirds: u64,
}

#[derive(Debug)]
pub(super) struct Journal {
    disk: Disk,
    path: PathBuf,
    spare: Spare,
    /// None before the first sync of a new one.
    file: Option<File>,
    len: u64,
    waiting: Vec<u8>,
    index: BTreeMap<Vec<u8>, Range<u64>>,
    /// What was put behind a bad stretch, in order, until somebody vouches for it.
    suspects: Vec<(Vec<u8>, Range<u64>)>,
    /// Bytes of the values in the index.
    live: u64,
    bad: u64,
}

impl Journal {
    /// Reads the file at `path`, if it is there.
    pub(super) fn open(disk: &Disk, path: PathBuf, spare: Spare) -> io::Result<Self> {
        let mut journal = Self {
            disk: disk.clone(),
            path,
            spare,
            file: None,
            len: 0,
            waiting: Vec::new(),
            index: BTreeMap::new(),
            suspects: Vec::new(),
            live: 0,
            bad: 0,
        };
        if disk.exists(&journal.path) {
            journal.read()?;
        }
        Ok(journal)
    }

    fn read(&mut self) -> io::Result<()> {
        let (disk, path, index) = (&self.disk, &self.path, &mut self.index);
        let suspects = &mut self.suspects;
        let read = |range| disk.read_at(path, range);
        let walked = record::walk(read, |kind, body, end, suspect| {
            if let Some((key, value)) = split(body) {
                let range = end - value.len() as u64..end;
                match (kind == PUT, suspect) {
                    (true, false) => drop(index.insert(key.to_vec(), range)),
                    (true, true) => suspects.push((key.to_vec(), range)),
                    (false, false) => drop(index.remove(key)),
                    (false, true) => {}
                }
            }
        })?;
        let sizes = self.index.values().map(|range| range.end - range.start);
        self.live = sizes.sum();
        (self.len, self.bad) = (walked.good_end, walked.damaged);
        self.bad += self.suspects.len() as u64;
        let mut file = self.disk.append_to(&self.path)?;
        if self.len < walked.len {
            file.cut(self.len)?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Takes over the suspects that are worth more than what lies under their key: `worth` says for how many rows somebody
    /// vouches. To be called before anything is put.
    pub(super) fn believe(&mut self, worth: impl Fn(&[u8], &[u8]) -> u32) -> io::Result<()> {
        for (key, range) in mem::take(&mut self.suspects) {
            let suspect = self.disk.read_at(&self.path, range.clone())?;
            let suspect = worth(&key, &suspect);
            if suspect == 0 {
                continue;
            }
            self.bad -= 1;
            let held = self.get(&key)?;
            if held.is_none_or(|held| worth(&key, &held) < suspect) {
                self.live += range.end - range.start;
                let old = self.index.insert(key, range);
                self.live -= old.map_or(0, |old| old.end - old.start);
            }
        }
        Ok(())
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.note(PUT, key, value);
        let end = self.len + self.waiting.len() as u64;
        let len = value.len() as u64;
        let old = self.index.insert(key.to_vec(), end - len..end);
        self.live += len;
        self.live -= old.map_or(0, |old| old.end - old.start);
    }

    /// Says whether it was there.
    pub(super) fn evict(&mut self, key: &[u8]) -> bool {
        let Some(old) = self.index.remove(key) else {
            return false;
        };
        self.note(EVICT, key, &[]);
        self.live -= old.end - old.start;
        true
    }

    fn note(&mut self, kind: u8, key: &[u8], value: &[u8]) {
        let body = [&[key.len() as u8], key, value].concat();
        record::put(&mut self.waiting, kind, &body);
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        let len = self.len + self.waiting.len() as u64;
        if len > self.spare.from && self.live < len / 3 * self.spare.thirds {
            return self.write_anew();
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let fresh = self.file.is_none();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.disk.append_to(&self.path)?),
        };
        file.write_all(&self.waiting)?;
        file.sync()?;
        if fresh {
            self.disk.sync_parent(&self.path)?;
        }
        self.len = len;
        self.waiting.clear();
        Ok(())
    }

    /// Leaves out what is no more.
    fn write_anew(&mut self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = self.disk.create(&fresh)?;
        let (mut bytes, mut len, mut index) = (Vec::new(), 0, BTreeMap::new());
        for key in self.index.keys() {
            let value = self.get(key)?.unwrap_or_default();
            let body = [&[key.len() as u8], &key[..], &value].concat();
            if bytes.len() + record::size(body.len()) > record::PIECE {
                file.write_all(&bytes)?;
                len += bytes.len() as u64;
                bytes.clear();
            }
            record::put(&mut bytes, PUT, &body);
            let end = len + bytes.len() as u64;
            index.insert(key.clone(), end - value.len() as u64..end);
        }
        file.write_all(&bytes)?;
        len += bytes.len() as u64;
        file.sync()?;
        // The generation may have a fresh directory by then, and a journal of its own there.
        worker::still_wanted()?;
        self.disk.rename(&fresh, &self.path)?;
        self.disk.sync_parent(&self.path)?;
        self.file = Some(self.disk.append_to(&self.path)?);
        (self.len, self.index) = (len, index);
        self.waiting = Vec::new();
        Ok(())
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.index.contains_key(key)
    }

    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(range) = self.index.get(key) else {
            return Ok(None);
        };
        if range.start < self.len {
            return self.disk.read_at(&self.path, range.clone()).map(Some);
        }
        let start = (range.start - self.len) as usize;
        let end = (range.end - self.len) as usize;
        Ok(Some(self.waiting[start..end].to_vec()))
    }

    /// The keys at or below `key`, from there down.
    pub(super) fn keys_down_from(&self, key: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.index
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .rev()
            .map(|(key, _)| key.as_slice())
    }

    /// Every key and value in order, then an empty key for each stretch of bad bytes.
    pub(super) fn scan(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        for key in self.index.keys() {
            each(key, &self.get(key)?.unwrap_or_default());
        }
        (0..self.bad).for_each(|_| each(&[], &[]));
        Ok(())
    }
}

/// The file of the simulated generation at `dir`.
pub(super) fn file_in(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = body.split_first()?;
    rest.split_at_checked(usize::from(*len))
}
