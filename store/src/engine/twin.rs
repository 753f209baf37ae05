//! What stands for sled on a simulated disk: one append-only file of records, synced as a whole.
//!
//! A record is a key after its length (1 byte) and the value; the last one of a key counts. What is put waits in memory
//! until `sync`; when more than a third of the file is of values that are no more, it is written anew beside itself. A torn end is cut at open, a bad record is reported once by `scan`, values are read from the disk each
//! time and believed by nobody unchecked (`engine`).
//! Absent: everything sled does about space; deadlines, since nothing here waits.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};

use crate::disk::simulated::SimDisk;
use crate::disk::{Disk, File};
use crate::record::{self, Records};

/// A file below this is not worth writing anew.
const SMALL: u64 = 32 << 10;
const PUT: u8 = 1;
const EVICT: u8 = 2;

#[derive(Debug)]
pub(super) struct Twin {
    disk: SimDisk,
    path: PathBuf,
    file: File,
    /// Its name is not durable yet.
    fresh: bool,
    len: u64,
    waiting: Vec<u8>,
    index: BTreeMap<Vec<u8>, Range<u64>>,
    /// Bytes of the values in the index.
    live: u64,
    bad: u64,
}

impl Twin {
    pub(super) fn open(disk: &SimDisk, dir: &Path) -> io::Result<Self> {
        let files = Disk::Simulated(disk.clone());
        let path = file_in(dir);
        let fresh = !files.exists(&path);
        files.make_dir(dir)?;
        let mut file = files.append_to(&path)?;
        let bytes = files.read(&path)?;
        let mut records = Records::new(&bytes);
        let mut index = BTreeMap::new();
        while let Some((kind, body)) = records.next() {
            let end = records.good_end as u64;
            if let Some((key, value)) = split(body) {
                if kind == PUT {
                    index.insert(key.to_vec(), end - value.len() as u64..end);
                } else {
                    index.remove(key);
                }
            }
        }
        let live = index
            .values()
            .map(|range: &Range<u64>| range.end - range.start)
            .sum();
        let (len, bad) = (records.good_end as u64, records.damaged);
        file.cut(len)?;
        Ok(Self {
            disk: disk.clone(),
            path,
            file,
            fresh,
            len,
            waiting: Vec::new(),
            index,
            live,
            bad,
        })
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.note(PUT, key, value);
        let end = self.len + self.waiting.len() as u64;
        let len = value.len() as u64;
        let old = self.index.insert(key.to_vec(), end - len..end);
        self.live += len;
        self.live -= old.map_or(0, |old| old.end - old.start);
    }

    pub(super) fn evict(&mut self, key: &[u8]) {
        self.note(EVICT, key, &[]);
        let old = self.index.remove(key);
        self.live -= old.map_or(0, |old| old.end - old.start);
    }

    fn note(&mut self, kind: u8, key: &[u8], value: &[u8]) {
        let body = [&[key.len() as u8], key, value].concat();
        record::put(&mut self.waiting, kind, &body);
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.write_all(&self.waiting)?;
        self.file.sync()?;
        if self.fresh {
            Disk::Simulated(self.disk.clone()).sync_parent(&self.path)?;
            self.fresh = false;
        }
        self.len += self.waiting.len() as u64;
        self.waiting.clear();
        if self.len > SMALL && self.live < self.len / 3 * 2 {
            self.write_anew()?;
        }
        Ok(())
    }

    /// Leaves out what is no more.
    fn write_anew(&mut self) -> io::Result<()> {
        let files = Disk::Simulated(self.disk.clone());
        let (mut bytes, mut index) = (Vec::new(), BTreeMap::new());
        for key in self.index.keys() {
            let value = self.get(key)?.unwrap_or_default();
            record::put(
                &mut bytes,
                PUT,
                &[&[key.len() as u8], &key[..], &value].concat(),
            );
            let end = bytes.len() as u64;
            index.insert(key.clone(), end - value.len() as u64..end);
        }
        let fresh = self.path.with_extension("new");
        let mut file = files.create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync()?;
        files.rename(&fresh, &self.path)?;
        files.sync_parent(&self.path)?;
        self.file = files.append_to(&self.path)?;
        (self.len, self.index) = (bytes.len() as u64, index);
        Ok(())
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

/// The file of the generation at `dir`.
pub(super) fn file_in(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = body.split_first()?;
    rest.split_at_checked(usize::from(*len))
}
