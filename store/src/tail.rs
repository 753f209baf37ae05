//! The spool: fresh rows on disk until their block is safe in a generation.
//!
//! `write` appends rows as records and returns when they would survive a power cut. `release` says that a run is safe
//! elsewhere; a segment none of whose rows is needed is deleted. A segment takes 1 MiB (`Tuning`); rows that outlive four newer
//! segments (an origin that died before sealing) are written again at the end, so that they hold up nothing.
//! At open every segment is read, a torn end is cut, a bad record costs that record, and writing goes on in a new one.
//! Every row here is signed; what follows a bad record is believed for that alone (`record`).
//! After a failed write or sync the segment is never trusted with more: the caller keeps its rows and writes them again.
//! Invariant: one record is one row; whichever copy of a row is read, it is the same row.
//! Absent: threads (`spooler`), what rows mean.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, File};
use crate::interval::IntervalSet;
use crate::record::{self, Records};
use crate::row::SignedRow;
use crate::sample::{LogId, Seq};
use crate::state::Queued;

const ROW: u8 = 1;
/// With more segments than this the rows still needed from the oldest are carried over.
const SEGMENTS: usize = 4;

/// What lies in one file.
#[derive(Debug, Default)]
struct Segment {
    needed: BTreeMap<LogId, IntervalSet>,
    bytes: u64,
}

/// The segments on disk and the file being written.
#[derive(Debug)]
pub(crate) struct Spool {
    disk: Disk,
    segment_bytes: u64,
    dir: PathBuf,
    segments: BTreeMap<u64, Segment>,
    file: Option<(u64, File)>,
    next: u64,
}

/// What opening found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Rows in the order they were written; a row may come twice.
    pub(crate) rows: Vec<SignedRow>,
    /// Stretches of bad bytes, records that hold no row, and rows behind bad bytes that nobody signed.
    pub(crate) damaged: u64,
}

impl Spool {
    /// Reads every segment below `dir`, which is made if it is missing. `is_good` checks a row that may be forged.
    pub(crate) fn open(
        disk: &Disk,
        dir: &Path,
        segment_bytes: u64,
        is_good: &dyn Fn(&SignedRow) -> bool,
    ) -> io::Result<(Self, Recovered)> {
        if !disk.exists(dir) {
            disk.make_dir(dir)?;
            disk.sync_parent(dir)?;
        }
        let names = disk.names(dir)?;
        let mut names: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
        names.sort_unstable();
        let mut spool = Self {
            disk: disk.clone(),
            segment_bytes,
            dir: dir.to_owned(),
            segments: BTreeMap::new(),
            file: None,
            next: names.last().map_or(1, |last| last + 1),
        };
        let mut recovered = Recovered::default();
        for name in names {
            spool.read(name, is_good, &mut recovered)?;
        }
        Ok((spool, recovered))
    }

    fn read(
        &mut self,
        name: u64,
        is_good: &dyn Fn(&SignedRow) -> bool,
        recovered: &mut Recovered,
    ) -> io::Result<()> {
        let path = self.path(name);
        let bytes = self.disk.read(&path)?;
        let mut records = Records::new(&bytes);
        let mut segment = Segment::default();
        let (mut strange, mut end) = (0, 0);
        while let Some((kind, body)) = records.next() {
            let row = SignedRow::decode(body).ok().filter(|_| kind == ROW);
            let believed = |row: &SignedRow| !records.is_suspect() || is_good(row);
            let row = row.filter(believed);
            if row.is_some() || !records.is_suspect() {
                end = records.good_end as u64;
            }
            match row {
                Some(row) => {
                    let set = segment.needed.entry(row.row.log).or_default();
                    set.insert(row.row.seq..=row.row.seq);
                    recovered.rows.push(row);
                }
                None => strange += 1,
            }
        }
        recovered.damaged += records.damaged + strange;
        if end < bytes.len() as u64 {
            // Not cutting costs nothing but reading it again, so a file system that refuses is no reason to stop.
            let file = self.disk.append_to(&path);
            if let Err(e) = file.and_then(|mut file| file.cut(end)) {
                tracing::warn!(error = %e, "torn end of a spool segment stays");
            }
        }
        segment.bytes = end;
        self.segments.insert(name, segment);
        Ok(())
    }

    fn path(&self, name: u64) -> PathBuf {
        self.dir.join(format!("{name:08}"))
    }

    /// Appends rows and syncs them; on an error none of them counts as written.
    pub(crate) fn write(&mut self, rows: &[Queued]) -> io::Result<()> {
        let size = rows.iter().map(|row| record::size(row.bytes.len())).sum();
        let mut bytes = Vec::with_capacity(size);
        for row in rows {
            record::put(&mut bytes, ROW, &row.bytes);
        }
        if let Err(e) = self.append(&bytes) {
            self.file = None;
            return Err(e);
        }
        self.note(rows, bytes.len() as u64);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let full = |name: &u64| {
            self.segments
                .get(name)
                .is_some_and(|s| s.bytes >= self.segment_bytes)
        };
        if self.file.as_ref().is_none_or(|(name, _)| full(name)) {
            self.file = Some(self.start()?);
        }
        let Some((_, file)) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.write_all(bytes)?;
        file.sync()
    }

    fn start(&mut self) -> io::Result<(u64, File)> {
        let name = self.next;
        self.next += 1;
        let file = self.disk.create_new(&self.path(name))?;
        self.segments.insert(name, Segment::default());
        self.disk.sync_dir(&self.dir)?;
        Ok((name, file))
    }

    fn note(&mut self, rows: &[Queued], bytes: u64) {
        let Some((name, _)) = &self.file else { return };
        let segment = self.segments.entry(*name).or_default();
        segment.bytes += bytes;
        for row in rows {
            segment
                .needed
                .entry(row.log)
                .or_default()
                .insert(row.seq..=row.seq);
        }
    }

    /// These rows are safe elsewhere, or nobody wants them any more.
    pub(crate) fn release(&mut self, log: &LogId, range: &RangeInclusive<Seq>) {
        for segment in self.segments.values_mut() {
            if let Some(set) = segment.needed.get_mut(log) {
                set.remove(range.clone());
                if set.is_empty() {
                    segment.needed.remove(log);
                }
            }
        }
    }

    /// Deletes segments nobody needs; the one being written only when `all`.
    pub(crate) fn sweep(&mut self, all: bool) {
        let current = self.file.as_ref().map(|(name, _)| *name);
        let done = |(name, segment): (&u64, &Segment)| {
            let idle = all || Some(*name) != current;
            (idle && segment.needed.is_empty()).then_some(*name)
        };
        let done: Vec<u64> = self.segments.iter().filter_map(done).collect();
        for name in done {
            if Some(name) == current {
                self.file = None;
            }
            match self.disk.remove_file(&self.path(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(error = %e, "spool segment stays");
                }
                _ => drop(self.segments.remove(&name)),
            }
        }
    }

    /// What the oldest segment still holds, when there are so many segments that it should go.
    pub(crate) fn leftovers(&self) -> Option<(u64, BTreeMap<LogId, IntervalSet>)> {
        let (name, segment) = self.segments.first_key_value()?;
        let crowded = self.segments.len() > SEGMENTS;
        (crowded && !segment.needed.is_empty()).then(|| (*name, segment.needed.clone()))
    }

    /// The leftovers of `name` are written again, or were not worth it.
    pub(crate) fn carried(&mut self, name: u64) {
        if let Some(segment) = self.segments.get_mut(&name) {
            segment.needed.clear();
        }
    }
}

fn number(name: &str) -> Option<u64> {
    name.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| name.parse().ok())
        .flatten()
}
