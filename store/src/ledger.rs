//! A small append-only file of records: read whole at open, each addition synced.
//!
//! For what is written rarely and must not be lost: schemas, what retention took, evidence of conflicts.
//! Absent: when to write it anew; what such a file is for bounds its size.

use std::io;
use std::path::PathBuf;

use crate::disk::Disk;
use crate::record::{self, Records};

/// Kind and body of each record, in the order they were written.
pub(crate) type Bodies = Vec<(u8, Vec<u8>)>;

/// The file and how long it is.
#[derive(Debug)]
pub(crate) struct Ledger {
    disk: Disk,
    path: PathBuf,
    len: u64,
}

impl Ledger {
    /// Reads the records of the file at `path`, which need not exist; a torn end is cut at the next addition.
    pub(crate) fn open(disk: &Disk, path: PathBuf) -> io::Result<(Self, Bodies)> {
        let bytes = match disk.read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut records = Records::new(&bytes);
        let found = records
            .by_ref()
            .map(|(kind, body)| (kind, body.to_vec()))
            .collect();
        let len = records.good_end as u64;
        let disk = disk.clone();
        Ok((Self { disk, path, len }, found))
    }

    /// Appends records and syncs them; none is nothing.
    pub(crate) fn append<'a>(
        &mut self,
        records: impl IntoIterator<Item = (u8, &'a [u8])>,
    ) -> io::Result<()> {
        let bytes = encoded(records);
        if bytes.is_empty() {
            return Ok(());
        }
        let fresh = !self.disk.exists(&self.path);
        let mut file = self.disk.append_to(&self.path)?;
        // Whatever a failed addition or a power cut left behind goes first.
        file.cut(self.len)?;
        file.write_all(&bytes)?;
        file.sync()?;
        if fresh {
            self.disk.sync_parent(&self.path)?;
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Writes the file anew with these records only; after a power cut it is the old or the new one.
    pub(crate) fn rewrite<'a>(
        &mut self,
        records: impl IntoIterator<Item = (u8, &'a [u8])>,
    ) -> io::Result<()> {
        let bytes = encoded(records);
        self.disk.replace(&self.path, &bytes)?;
        self.len = bytes.len() as u64;
        Ok(())
    }

    /// The file's length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

/// The bytes of records, one after another.
fn encoded<'a>(records: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, body) in records {
        record::put(&mut bytes, kind, body);
    }
    bytes
}
