//! The life record: what a run left behind, on disk whatever ended it.
//!
//! The file `life` in the state directory holds two slots of `SLOT` bytes, written in turn, so that a write that is torn leaves
//! the other. A slot is its checksum (CRC32C, 4 bytes, little-endian), a length (2) and a `Record` in postcard; the newer of
//! two that check is the record. The file never grows: it can be written when the disk is full.
//! In and out: bytes. Absent: when to write (`task`), and what follows from a record (`verdict`).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::testimony::Last;

/// The file's name in the state directory.
pub(crate) const FILE: &str = "life";

/// One slot: a sector, which disks write whole or not at all.
const SLOT: usize = 512;

/// Checksum and length.
const HEAD: usize = 6;

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Counts the writes, over all runs.
    pub(super) seq: u64,
    pub(super) last: Last,
}

/// The record's file, open for writing.
#[derive(Debug)]
pub(crate) struct LifeFile {
    file: File,
    seq: u64,
}

impl LifeFile {
    /// Opens the file, or makes it at its full size, and says what was in it last. `None`: nothing that can be read.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Option<Last>)> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(FILE))?;
        let mut bytes = [0; 2 * SLOT];
        let held = read_up_to(&file, &mut bytes)?;
        if held < bytes.len() {
            file.write_all_at(&bytes[held..], held as u64)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
        }
        let record = newest(&bytes);
        let seq = record.as_ref().map_or(0, |record| record.seq);
        Ok((Self { file, seq }, record.map(|record| record.last)))
    }

    /// Writes a record into the older slot, and returns once it is on disk.
    pub(crate) fn write(&mut self, last: &Last) -> io::Result<()> {
        self.seq += 1;
        let record = Record {
            seq: self.seq,
            last: last.clone(),
        };
        let at = (self.seq % 2) * SLOT as u64;
        self.file.write_all_at(&slot(&record), at)?;
        self.file.sync_data()
    }
}

fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut held = 0;
    while held < bytes.len() {
        match file.read_at(&mut bytes[held..], held as u64) {
            Ok(0) => break,
            Ok(more) => held += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

pub(super) fn slot(record: &Record) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let body = postcard::to_slice(record, &mut slot[HEAD..]);
    let len = body.expect("texts are cut so that every record fits").len();
    slot[4..HEAD].copy_from_slice(&u16::try_from(len).unwrap_or(0).to_le_bytes());
    let sum = crc32c::crc32c(&slot[4..HEAD + len]);
    slot[..4].copy_from_slice(&sum.to_le_bytes());
    slot
}

pub(super) fn read(slot: &[u8]) -> Option<Record> {
    let (sum, rest) = slot.split_first_chunk::<4>()?;
    let (len, body) = rest.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_le_bytes(*len));
    let body = body.get(..len)?;
    if crc32c::crc32c(rest.get(..2 + len)?) != u32::from_le_bytes(*sum) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// The newer record of a file's two slots.
pub(super) fn newest(bytes: &[u8]) -> Option<Record> {
    let records = bytes.chunks(SLOT).filter_map(read);
    records.max_by_key(|record| record.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outage::testimony::{Kills, Power, Reason, State, version};

    fn last(wall_ms: i64) -> Last {
        Last {
            run: [1; 16],
            boot: [2; 16],
            version: "0.1.0".to_owned(),
            state: State::Running,
            wall_ms,
            boot_ms: 70_000,
            mono_ms: 60_000,
            power: Power::default(),
            kills: Kills::default(),
            stood: 0,
        }
    }

    /// What a file holds, over its next opening.
    fn held(dir: &Path) -> Option<Last> {
        LifeFile::open(dir).unwrap().1
    }

    #[test]
    fn the_last_record_is_found_again_and_the_file_keeps_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, none) = LifeFile::open(dir.path()).unwrap();
        assert_eq!(none, None);
        for wall_ms in 1..8 {
            file.write(&last(wall_ms)).unwrap();
            assert_eq!(held(dir.path()), Some(last(wall_ms)));
            let size = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
            assert_eq!(size, 2 * SLOT as u64);
        }
        let (mut file, before) = LifeFile::open(dir.path()).unwrap();
        assert_eq!(before, Some(last(7)));
        file.write(&last(9)).unwrap();
        assert_eq!(held(dir.path()), Some(last(9)), "a run goes on counting");
    }

    #[test]
    fn a_torn_or_garbled_write_leaves_the_record_before() {
        let records = [1, 2].map(|seq| Record {
            seq,
            last: last(seq as i64),
        });
        let whole = [slot(&records[0]), slot(&records[1])].concat();
        for at in SLOT..whole.len() {
            let mut torn = whole.clone();
            torn[at..].fill(0);
            let found = newest(&torn).unwrap();
            assert!(records.contains(&found), "torn at {at}");
            let mut garbled = whole.clone();
            garbled[at] ^= 0x40;
            assert!(
                records.contains(&newest(&garbled).unwrap()),
                "garbled at {at}"
            );
        }
        assert_eq!(newest(&vec![0; 2 * SLOT]), None);
        assert_eq!(newest(&whole[..40]), None);
    }

    #[test]
    fn the_longest_record_fits_a_slot() {
        let mut longest = last(i64::MIN);
        longest.version = version(&"v".repeat(99));
        longest.state = State::Exiting(Reason::failed(&"w".repeat(999)));
        longest.power = Power {
            mains: Some(false),
            battery: Some(u8::MAX),
            mains_off_ms: Some(i64::MIN),
        };
        longest.kills = Kills {
            own: Some(u64::MAX),
            machine: Some(u64::MAX),
        };
        (longest.boot_ms, longest.mono_ms, longest.stood) = (u64::MAX, u64::MAX, u32::MAX);
        let record = Record {
            seq: u64::MAX,
            last: longest,
        };
        assert_eq!(read(&slot(&record)), Some(record));
    }
}
