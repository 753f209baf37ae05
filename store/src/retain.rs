//! How the store stays within its bytes, and what it does when the disk has none left.
//!
//! The bound covers everything below the store's directory. At the bound what was set aside goes first, then whole
//! generations, the oldest first, never the one being written. What goes is written to `gone` before its directory is
//! touched, so that nobody asks for it again.
//! The ballast is 16 MB of allocated nothing: freed when less than `ROOM` is free, since sled can neither open nor close
//! on a full disk; made again when there is plenty.
//! Absent: looking at samples' wall time. Retention goes by the order in which things were written.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::disk::Disk;
use crate::interval::IntervalSet;
use crate::key::gone::{Gone, GoneKey, Reason};
use crate::ledger::Ledger;
use crate::sample::LogId;

const BALLAST_BYTES: u64 = 16 << 20;
/// Below this bound a ballast would be too large a part of it.
const BALLAST_FROM: u64 = 256 << 20;
/// Free bytes without which sled is not written to.
pub(crate) const ROOM: u64 = 8 << 20;
/// Free bytes from which the ballast is made again.
const PLENTY: u64 = 64 << 20;
const RANGE: u8 = 1;

/// The file of what retention took.
#[derive(Debug)]
pub(crate) struct GoneLedger(Ledger);

impl GoneLedger {
    pub(crate) fn open(
        disk: &Disk,
        dir: &Path,
    ) -> io::Result<(Self, BTreeMap<LogId, IntervalSet>)> {
        let (ledger, records) = Ledger::open(disk, dir.join("gone"))?;
        let mut gone: BTreeMap<LogId, IntervalSet> = BTreeMap::new();
        for (_, body) in records {
            if let Some((key, value)) = body.split_at_checked(GoneKey::LEN)
                && let (Ok(key), Ok(value)) = (GoneKey::decode(key), Gone::decode(value))
            {
                gone.entry(key.log)
                    .or_default()
                    .insert(key.first..=value.last);
            }
        }
        Ok((Self(ledger), gone))
    }

    /// Remembers that these rows went to make room.
    pub(crate) fn add(&mut self, went: &BTreeMap<LogId, IntervalSet>) -> io::Result<()> {
        let mut bodies = Vec::new();
        for (log, set) in went {
            for range in set.ranges() {
                let (first, last) = range.into_inner();
                let key = GoneKey { log: *log, first };
                let gone = Gone {
                    last,
                    reason: Reason::Budget,
                };
                bodies.push([&key.encode()[..], &gone.encode()].concat());
            }
        }
        self.0.append(bodies.iter().map(|body| (RANGE, &body[..])))
    }
}

/// Whether sled may write here; frees the ballast when that is what it takes.
pub(crate) fn make_room(disk: &Disk, dir: &Path, need: u64) -> bool {
    if disk.free(dir) >= ROOM + need {
        return true;
    }
    let _ = disk.remove_file(&dir.join("ballast"));
    disk.free(dir) >= ROOM + need
}

/// Puts the ballast there if the bound is large enough and the disk has plenty.
pub(crate) fn keep_ballast(disk: &Disk, dir: &Path, limit_bytes: u64) {
    let path = dir.join("ballast");
    if limit_bytes < BALLAST_FROM || disk.exists(&path) || disk.free(dir) < PLENTY {
        return;
    }
    if let Err(e) = disk.allocate(&path, BALLAST_BYTES) {
        tracing::debug!(error = %e, "no ballast");
        let _ = disk.remove_file(&path);
    }
}
