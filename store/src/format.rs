//! The two files that say what a store's directory is: `FORMAT`, in which format, and `id`, the store's random one.
//!
//! Where an older FORMAT can't be replaced, because the disk is full or read-only, no block is written until it can: its
//! release would open the directory and miss them. Rows go on into the spool, which is the same in all of them; beyond what may
//! wait for a generation the oldest go, as on any full disk, and what goes at the bound becomes roll-ups as ever.
//! Absent: what the formats are of (`engine`, `attic`, `tail`).

use std::io;
use std::path::Path;

use crate::disk::Disk;
use crate::error::{OpenError, at};
use crate::open::Shared;
use crate::retain::make_room;
use crate::sample::StoreId;
use crate::state::State;

/// The newest format of a store's directory that this release reads, and the one it writes.
/// 1: generations `gen-NNNNNN` alone; 2: also those of other nodes' rows, packed blocks, roll-ups; 4: blocks wait for their
/// pack outside of sled, packs of the second version in pieces.
/// A flipped bit must not turn one number into another: after 4 come 7 and 8.
pub(crate) const FORMAT: u32 = 4;
/// Those that are read.
const FORMATS: [u32; 3] = [1, 2, FORMAT];
pub(crate) const FORMAT_WORD: &str = "outlast-store";

/// What is said while FORMAT stays as it was.
const STAYS: &str = "its FORMAT is still that of an older release";

/// Checks FORMAT; one that is missing, older or damaged is written anew. Returns why that failed, where the store can be
/// opened all the same.
pub(crate) fn check_format(disk: &Disk, dir: &Path) -> Result<Option<io::Error>, OpenError> {
    let path = dir.join("FORMAT");
    let bytes = match disk.read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(at("read", &path))?,
    };
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    // Empty: a new store, or one whose power failed while its first file was being made.
    if text.is_empty() {
        write_format(disk, dir).map_err(at("write", &path))?;
        return Ok(None);
    }
    if has_flipped_bit(&bytes) {
        tracing::warn!(
            found = text,
            "the store's FORMAT has a flipped bit, it is written again"
        );
        return Ok(write_format(disk, dir).err());
    }
    let number = text
        .strip_prefix(FORMAT_WORD)
        .and_then(|rest| rest.trim().parse::<u32>().ok());
    match number {
        Some(FORMAT) => Ok(None),
        // What is there is read as ever, what is written from here on is this release's.
        Some(number) if FORMATS.contains(&number) => Ok(write_format(disk, dir).err()),
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

fn write_format(disk: &Disk, dir: &Path) -> io::Result<()> {
    let line = format!("{FORMAT_WORD} {FORMAT}\n");
    replace(disk, dir, "FORMAT", &line)
}

/// Writes a small file, on a full disk in the ballast's place.
fn replace(disk: &Disk, dir: &Path, name: &str, line: &str) -> io::Result<()> {
    let path = dir.join(name);
    disk.replace(&path, line.as_bytes()).or_else(|_full| {
        make_room(disk, dir, 0);
        disk.replace(&path, line.as_bytes())
    })
}

impl State {
    /// FORMAT could be written, or not.
    pub(crate) fn note_format(&mut self, refused: Option<io::Error>) {
        match refused {
            None => drop(self.ailments.remove("format")),
            Some(e) => {
                let why = format!("no block is written, {STAYS}: {e}");
                self.ailments.insert("format", why);
            }
        }
    }
}

impl Shared {
    /// Whether FORMAT names the format of what is written here; if not, that is tried again.
    pub(crate) fn has_format(&self) -> Result<(), String> {
        if !self.state().ailments.contains_key("format") {
            return Ok(());
        }
        let refused = write_format(&self.disk, &self.dir).err();
        let mut state = self.state();
        state.note_format(refused);
        if state.ailments.contains_key("format") {
            return Err(STAYS.to_owned());
        }
        Ok(())
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
pub(crate) fn store_id(disk: &Disk, dir: &Path) -> Result<StoreId, OpenError> {
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
    if let Err(e) = replace(disk, dir, "id", &line) {
        // The next start draws another, which costs nothing but a log of its own.
        tracing::warn!(error = %e, "the store's id could not be written");
    }
    Ok(StoreId(id))
}
