//! The files of roll-ups: what is left of rows that went.
//!
//! `rollup/TIER-CLASS-NNNNNN`, numbered from 1: append-only records (`record`), each body one `Rollup`. A few megabytes a
//! file, so that a whole one can go; only the newest of each tier and class is written. They need no engine: written once,
//! seldom read, and each record has its own checksum. A damaged record costs that record.
//! In the state is what each record holds and where it lies; nothing is decoded before it is asked for.
//! Absent: when roll-ups are made and when they go (`retain`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::plan::Kept;
use crate::query::Step;
use crate::record::{self, Records};
use crate::rollup::RollupHead;

const ROLLUP: u8 = 1;

/// The files there are.
#[derive(Debug)]
pub(crate) struct Attic {
    disk: Disk,
    dir: PathBuf,
    file_bytes: u64,
    files: BTreeMap<u32, Shelved>,
}

/// One file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shelved {
    pub(crate) tier: Step,
    pub(crate) class: Kept,
    pub(crate) bytes: u64,
}

/// Where a roll-up lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u32,
    at: u64,
    len: u32,
}

/// Roll-ups found, and where.
pub(crate) type Found = Vec<(RollupHead, Place)>;

impl Attic {
    /// Reads what is there; how many records were damaged.
    pub(crate) fn open(disk: &Disk, dir: &Path, file_bytes: u64) -> (Self, Found, u64) {
        let dir = dir.join("rollup");
        let mut attic = Self {
            disk: disk.clone(),
            dir,
            file_bytes,
            files: BTreeMap::new(),
        };
        let (mut found, mut damaged) = (Vec::new(), 0);
        for name in disk.names(&attic.dir).unwrap_or_default() {
            let Some((number, tier, class)) = parse(&name) else {
                continue;
            };
            let bytes = disk.read(&attic.dir.join(&name)).unwrap_or_default();
            let mut records = Records::new(&bytes);
            while let Some((kind, body)) = records.next() {
                let end = records.good_end as u64;
                match RollupHead::peek(body) {
                    Ok(head) if kind == ROLLUP && head.tier == tier => {
                        let len = body.len() as u32;
                        let at = end - u64::from(len);
                        found.push((
                            head,
                            Place {
                                file: number,
                                at,
                                len,
                            },
                        ));
                    }
                    _ => damaged += 1,
                }
            }
            damaged += records.damaged;
            // A torn end is cut at the next addition.
            let bytes = records.good_end as u64;
            attic.files.insert(number, Shelved { tier, class, bytes });
        }
        (attic, found, damaged)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (u32, &Shelved)> {
        self.files.iter().map(|(number, file)| (*number, file))
    }

    /// Writes and syncs bodies of one tier and class; where each lies.
    pub(crate) fn append(
        &mut self,
        tier: Step,
        class: Kept,
        bodies: &[Vec<u8>],
    ) -> io::Result<Vec<Place>> {
        let mut places = Vec::with_capacity(bodies.len());
        let mut rest = bodies;
        while !rest.is_empty() {
            let (number, len) = self.writable(tier, class);
            let room = self.file_bytes.saturating_sub(len);
            let mut bytes = Vec::new();
            let mut taken = 0;
            for body in rest {
                if taken > 0 && (bytes.len() + record::size(body.len())) as u64 > room {
                    break;
                }
                record::put(&mut bytes, ROLLUP, body);
                let at = len + (bytes.len() - body.len()) as u64;
                let len = body.len() as u32;
                places.push(Place {
                    file: number,
                    at,
                    len,
                });
                taken += 1;
            }
            self.write(number, tier, class, len, &bytes)?;
            rest = &rest[taken..];
        }
        Ok(places)
    }

    /// The newest file of a tier and class and how long it is, or a number for a new one.
    fn writable(&self, tier: Step, class: Kept) -> (u32, u64) {
        let newest = self
            .files
            .iter()
            .rev()
            .find(|(_, file)| (file.tier, file.class) == (tier, class));
        match newest {
            Some((number, file)) if file.bytes < self.file_bytes => (*number, file.bytes),
            _ => (
                self.files.last_key_value().map_or(0, |(last, _)| *last) + 1,
                0,
            ),
        }
    }

    fn write(
        &mut self,
        number: u32,
        tier: Step,
        class: Kept,
        len: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let fresh = len == 0;
        if fresh {
            self.disk.make_dir(&self.dir)?;
            self.disk.sync_parent(&self.dir)?;
        }
        let path = self.dir.join(name(number, tier, class));
        let mut file = self.disk.append_to(&path)?;
        // Whatever a failed addition left behind goes first.
        file.cut(len)?;
        file.write_all(bytes)?;
        file.sync()?;
        if fresh {
            self.disk.sync_dir(&self.dir)?;
        }
        let bytes = len + bytes.len() as u64;
        self.files.insert(number, Shelved { tier, class, bytes });
        Ok(())
    }

    /// A roll-up's body. None: it is not there any more, or damaged.
    pub(crate) fn read(&self, place: &Place) -> Option<Vec<u8>> {
        let file = self.files.get(&place.file)?;
        let path = self.dir.join(name(place.file, file.tier, file.class));
        let head = record::size(0) as u64;
        let from = place.at.checked_sub(head)?;
        let bytes = self
            .disk
            .read_at(&path, from..place.at + u64::from(place.len))
            .ok()?;
        let (_, body) = Records::new(&bytes).next()?;
        (body.len() == place.len as usize).then(|| body.to_vec())
    }

    pub(crate) fn remove(&mut self, number: u32) -> io::Result<()> {
        if let Some(file) = self.files.get(&number) {
            self.disk
                .remove_file(&self.dir.join(name(number, file.tier, file.class)))?;
            self.files.remove(&number);
        }
        Ok(())
    }
}

fn name(number: u32, tier: Step, class: Kept) -> String {
    let tier = match tier {
        Step::Raw => "raw",
        Step::S10 => "10s",
        Step::M1 => "1m",
        Step::H1 => "1h",
    };
    let class = match class {
        Kept::Apart => "apart",
        Kept::Copies => "copies",
        Kept::Own => "own",
    };
    format!("{tier}-{class}-{number:06}")
}

fn parse(text: &str) -> Option<(u32, Step, Kept)> {
    let number = text.rsplit('-').next()?.parse().ok()?;
    for tier in [Step::S10, Step::M1, Step::H1] {
        for class in [Kept::Apart, Kept::Copies, Kept::Own] {
            if name(number, tier, class) == text {
                return Some((number, tier, class));
            }
        }
    }
    None
}
