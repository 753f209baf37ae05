//! A small append-only file of records: read whole at open, each addition synced.
//!
//! For what is written rarely and must not be lost: schemas, what retention took, evidence of conflicts.
//! Absent: rewriting. What such a file is for bounds its size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::record::{self, Records};

/// Kind and body of each record, in the order they were written.
pub(crate) type Bodies = Vec<(u8, Vec<u8>)>;

/// The file and how long it is.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    len: u64,
}

impl Ledger {
    /// Reads the records of the file at `path`, which need not exist; a torn end is cut at the next addition.
    pub(crate) fn open(path: PathBuf) -> io::Result<(Self, Bodies)> {
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut records = Records::new(&bytes);
        let found = records
            .by_ref()
            .map(|(kind, body)| (kind, body.to_vec()))
            .collect();
        let len = records.good_end as u64;
        Ok((Self { path, len }, found))
    }

    /// Appends records and syncs them.
    pub(crate) fn append<'a>(
        &mut self,
        records: impl IntoIterator<Item = (u8, &'a [u8])>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (kind, body) in records {
            record::put(&mut bytes, kind, body);
        }
        let fresh = !self.path.exists();
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        // Whatever a failed addition or a power cut left behind goes first.
        file.set_len(self.len)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        if fresh {
            sync_parent(&self.path)?;
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The file's length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes a whole small file so that after a power cut it is either the old or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_parent(path)
}

/// Makes the name of a file or directory survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    sync_dir(dir.unwrap_or_else(|| Path::new(".")))
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
