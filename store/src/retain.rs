//! What the store remembers of what went, and how it minds the room on its disk.
//!
//! What goes is written to `gone` with its reason before its files are deleted, so that nobody asks for it again. What was
//! lost by mischance, damaged or never written, is noted there after; it stays welcome, and leaves the count when it comes
//! again. Bound: above a MiB the file is written anew when it has twice what it needs, at each start where half would do.
//! Copies of others' rows are not taken while less than a tenth of the disk or 2 GiB is free, whichever is less; own rows
//! stay in memory below a twentieth or 512 MiB. Live rows go on to whoever looks.
//! The ballast is 16 MB of allocated nothing: freed when less than `ROOM` is free, since sled can neither open nor close
//! on a full disk; made again when there is plenty.
//! Absent: what goes first (`plan`), and making roll-ups of it (`evict`).

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::disk::Disk;
use crate::interval::IntervalSet;
use crate::key::gone::{Gone, GoneKey, Reason};
use crate::ledger::Ledger;
use crate::open::Shared;
use crate::sample::{LogId, Seq};
use crate::shelf::locked;

const BALLAST_BYTES: u64 = 16 << 20;
/// Below this bound a ballast would be too large a part of it.
const BALLAST_FROM: u64 = 256 << 20;
/// Free bytes without which sled is not written to.
pub(crate) const ROOM: u64 = 8 << 20;
/// Free bytes from which the ballast is made again.
const PLENTY: u64 = 64 << 20;
const RANGE: u8 = 1;
/// Records of what went from which the file is written anew at the next start, when half of them would do.
const MANY: usize = 1_024;
/// Bytes from which it is written anew while the store is open.
const LONG: u64 = 1 << 20;
/// What is said of a disk with little room.
const COPIES_FLOOR: &str =
    "rows of other nodes are not kept: less than a tenth of the disk, or 2 GiB, is free";
pub(crate) const OWN_FLOOR: &str =
    "nothing is kept on disk: less than a twentieth of it, or 512 MiB, is free";

/// Rows that went or were lost, by log and reason. What was lost may have come again since.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GoneRows(pub(crate) BTreeMap<(LogId, Reason), IntervalSet>);

impl GoneRows {
    fn insert(&mut self, log: LogId, rows: RangeInclusive<Seq>, reason: Reason) {
        self.0.entry((log, reason)).or_default().insert(rows);
    }

    /// The fewest records that say all of it.
    fn bodies(&self) -> Vec<Vec<u8>> {
        let ranges = self.0.iter().flat_map(|((log, reason), set)| {
            set.ranges().map(move |range| body(*log, &range, *reason))
        });
        ranges.collect()
    }
}

/// What the disk has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For this node's own rows.
    pub own: bool,
    /// For rows of others.
    pub copies: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            own: true,
            copies: true,
        }
    }
}

impl Room {
    /// Of a disk with so many bytes, so many of them free.
    pub(crate) fn of(size: u64, free: u64) -> Self {
        Self {
            own: free >= (size / 20).min(512 << 20),
            copies: free >= (size / 10).min(2 << 30),
        }
    }
}

impl Shared {
    /// Looks at the disk; said in the health while there is little.
    pub(crate) fn look_for_room(&self) {
        let (size, free) = (self.disk.size(&self.dir), self.disk.free(&self.dir));
        let room = Room::of(size, free);
        let mut state = self.state();
        state.room = room;
        if room.copies {
            state.ailments.remove("room");
        } else {
            let said = if room.own { COPIES_FLOOR } else { OWN_FLOOR };
            state.ailments.insert("room", said.to_owned());
        }
    }
}

impl Shared {
    /// Writes down what went or was lost since the last time; what can't be written waits.
    pub(crate) fn note_gone(&self) {
        let unnoted = GoneRows(std::mem::take(&mut self.state().unnoted));
        let noted = locked(&self.gone).add_all(&unnoted);
        if let Err(e) = noted {
            tracing::warn!(error = %e, "what was lost is only remembered until the next start");
            let mut state = self.state();
            for (of, rows) in unnoted.0 {
                let waits = state.unnoted.entry(of).or_default();
                rows.ranges().for_each(|range| waits.insert(range));
            }
        }
        self.state().forget_empty_logs();
        self.shorten_gone();
    }

    /// Writes the file anew when it is long and twice what it was when that was done last.
    fn shorten_gone(&self) {
        let mut ledger = locked(&self.gone);
        if ledger.file.len() < LONG.max(2 * ledger.shortest) {
            return;
        }
        let state = self.state();
        if !state.unnoted.is_empty() {
            return;
        }
        let rows = GoneRows(state.gone_by_log());
        drop(state);
        if let Err(e) = ledger.rewrite(&rows) {
            tracing::warn!(error = %e, "the file of what went stays long");
        }
    }
}

/// The file of what retention took, and of what was lost.
#[derive(Debug)]
pub(crate) struct GoneLedger {
    file: Ledger,
    /// How long it was after it was last written anew.
    shortest: u64,
}

impl GoneLedger {
    pub(crate) fn open(disk: &Disk, dir: &Path) -> io::Result<(Self, GoneRows)> {
        let (file, records) = Ledger::open(disk, dir.join("gone"))?;
        let written = records.len();
        let mut gone = GoneRows::default();
        for (_, body) in records {
            if let Some((key, value)) = body.split_at_checked(GoneKey::LEN)
                && let (Ok(key), Ok(value)) = (GoneKey::decode(key), Gone::decode(value))
            {
                gone.insert(key.log, key.first..=value.last, value.reason);
            }
        }
        let fewest = gone.bodies().len();
        let shortest = 0;
        let mut ledger = Self { file, shortest };
        if written > MANY
            && fewest < written / 2
            && let Err(e) = ledger.rewrite(&gone)
        {
            tracing::warn!(error = %e, "the file of what went stays long");
        }
        Ok((ledger, gone))
    }

    fn rewrite(&mut self, gone: &GoneRows) -> io::Result<()> {
        let bodies = gone.bodies();
        let records = bodies.iter().map(|body| (RANGE, &body[..]));
        self.file.rewrite(records)?;
        self.shortest = self.file.len();
        Ok(())
    }

    /// Remembers that these rows went.
    pub(crate) fn add(
        &mut self,
        went: &BTreeMap<LogId, IntervalSet>,
        reason: Reason,
    ) -> io::Result<()> {
        let went = went
            .iter()
            .map(|(log, rows)| ((*log, reason), rows.clone()));
        self.add_all(&GoneRows(went.collect()))
    }

    /// Remembers all of it with one sync.
    fn add_all(&mut self, rows: &GoneRows) -> io::Result<()> {
        let bodies = rows.bodies();
        let records = bodies.iter().map(|body| (RANGE, &body[..]));
        self.file.append(records)
    }
}

fn body(log: LogId, range: &RangeInclusive<Seq>, reason: Reason) -> Vec<u8> {
    let (first, last) = (*range.start(), *range.end());
    let key = GoneKey { log, first };
    let gone = Gone { last, reason };
    [&key.encode()[..], &gone.encode()].concat()
}

/// Whether sled may write here; frees the ballast when that is what it takes.
pub(crate) fn make_room(disk: &Disk, dir: &Path, need: u64) -> bool {
    if disk.free(dir) >= ROOM + need {
        return true;
    }
    let _ = disk.remove_file(&dir.join("ballast"));
    disk.free(dir) >= ROOM + need
}

/// Puts the ballast there if the bound is large enough and the disk has plenty; under a small bound it goes.
pub(crate) fn keep_ballast(disk: &Disk, dir: &Path, limit_bytes: u64) {
    let path = dir.join("ballast");
    if limit_bytes < BALLAST_FROM {
        let _ = disk.remove_file(&path);
        return;
    }
    if disk.exists(&path) || disk.free(dir) < PLENTY {
        return;
    }
    if let Err(e) = disk.allocate(&path, BALLAST_BYTES) {
        tracing::debug!(error = %e, "no ballast");
        let _ = disk.remove_file(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_of_what_went_is_written_anew_and_says_the_same() {
        let disk = Disk::Simulated(crate::disk::simulated::SimDisk::new(1 << 24));
        let dir = Path::new("/store");
        disk.make_dir(dir).unwrap();
        let (mut ledger, _) = GoneLedger::open(&disk, dir).unwrap();
        let log = crate::given::a_log();
        for first in 1..=2_000 {
            let reason = if first <= 1_500 {
                Reason::Budget
            } else {
                Reason::Damaged
            };
            let went = [(log, [first..=first + 5].into_iter().collect())].into();
            ledger.add(&went, reason).unwrap();
        }
        let long = disk.read(&dir.join("gone")).unwrap().len();
        let (_, gone) = GoneLedger::open(&disk, dir).unwrap();
        let short = disk.read(&dir.join("gone")).unwrap().len();
        assert!(short < long / 100, "{short} of {long}");
        let (_, again) = GoneLedger::open(&disk, dir).unwrap();
        assert_eq!(again, gone);
        let rows = |reason| again.0[&(log, reason)].len();
        assert_eq!((rows(Reason::Budget), rows(Reason::Damaged)), (1_505, 505));
    }
}
