//! The ledger on disk: an append-only file, `ledger` in the state directory.
//!
//! Each record is a marker, the length (big-endian), the CRC32C of length and body (big-endian), and the body: one event.
//! In: events; once `sync` returns, a power cut loses none of them. Out: at open every event that is still whole.
//! Invariant: damage costs the records it touches, never those around them. A file without any whole record
//! is put aside as `ledger.damaged`: what it held comes back from the peers.
//! Absent: which events belong there, and when it is written anew (`keep`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::event::{Event, MAX_EVENT};
use super::handle::Events;

/// Where a record may begin, so that reading finds its way again after damage.
const MARKER: [u8; 2] = *b"le";
const HEADER: usize = 2 + 2 + 4;

/// The file's name in the state directory.
pub(crate) const FILE: &str = "ledger";

/// The open file. Its owner holds the lock of the state directory.
#[derive(Debug)]
pub(super) struct LedgerFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl LedgerFile {
    /// Opens or makes the file, and reads it. An end that was being written when the power failed is cut off.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Event>)> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (events, end) = recover(&bytes);
        if end == 0 && !bytes.is_empty() {
            fs::rename(path, path.with_extension("damaged"))?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        if end == 0 {
            sync_directory_of(path)?;
        } else if end < bytes.len() {
            file.set_len(end as u64)?;
            file.sync_all()?;
        }
        let path = path.to_owned();
        let len = end as u64;
        Ok((Self { path, file, len }, events))
    }

    /// Appends; durable once `sync` has returned.
    pub(super) fn append<'a>(&mut self, events: impl Iterator<Item = &'a Event>) -> io::Result<()> {
        let bytes = records(events);
        if let Err(error) = self.file.write_all(&bytes) {
            // Half a record would be skipped at the next open; it needn't stay either.
            let _best_effort = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes everything durable that was appended.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the file anew with these events. Before and after, a power cut leaves one whole file.
    pub(super) fn rewrite<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event>,
    ) -> io::Result<()> {
        let bytes = records(events);
        let beside = self.path.with_extension("new");
        if let Err(error) = write_new(&beside, &bytes) {
            // What is half written takes room on a disk that may have none.
            let _best_effort = fs::remove_file(&beside);
            return Err(error);
        }
        fs::rename(&beside, &self.path)?;
        sync_directory_of(&self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.len = bytes.len() as u64;
        Ok(())
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn records<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        let body = event.encode();
        let len = (body.len() as u16).to_be_bytes();
        bytes.extend_from_slice(&MARKER);
        bytes.extend_from_slice(&len);
        bytes.extend_from_slice(&checksum(len, &body));
        bytes.extend_from_slice(&body);
    }
    bytes
}

/// What the file of a node that doesn't run holds, and nothing of it is changed; one that isn't there holds nothing.
pub(crate) fn stored(path: &Path) -> io::Result<Events> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes?,
    };
    let (events, _) = recover(&bytes);
    Ok(events
        .into_iter()
        .map(|event| (event.place(), event))
        .collect())
}

/// Every whole event, and where the last whole record ends.
pub(super) fn recover(bytes: &[u8]) -> (Vec<Event>, usize) {
    let (mut events, mut at, mut end) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let Some((body, len)) = record(&bytes[at..]) else {
            at += 1;
            continue;
        };
        at += len;
        end = at;
        // A later release may write what this one can't read: it stays there until the file is written anew.
        events.extend(Event::decode(body));
    }
    (events, end)
}

/// The body of the record that begins here, and how long the record is.
fn record(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let head: &[u8; HEADER] = bytes.first_chunk()?;
    let [m0, m1, l0, l1, sum @ ..] = *head;
    let len = [l0, l1];
    let size = usize::from(u16::from_be_bytes(len));
    if [m0, m1] != MARKER || size > 2 * MAX_EVENT {
        return None;
    }
    let body = bytes.get(HEADER..HEADER + size)?;
    (checksum(len, body) == sum).then_some((body, HEADER + size))
}

fn checksum(len: [u8; 2], body: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(&len), body).to_be_bytes()
}

/// A rename or a new file is durable once its directory is.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use outlast_mesh::NodeId;

    use super::*;

    fn event(seq: u64) -> Event {
        Event {
            author: NodeId([3; 32]),
            seq,
            wall_ms: 1_800_000_000_000,
            flags: 1,
            kind: 1,
            body: Bytes::from(vec![seq as u8; 3 * seq as usize]),
            signature: [9; 64],
        }
    }

    fn opened(path: &Path) -> (LedgerFile, Vec<u64>) {
        let (file, events) = LedgerFile::open(path).unwrap();
        (file, events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn what_was_appended_is_there_after_a_start_and_after_it_was_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let (mut file, found) = opened(&path);
        assert!(found.is_empty());
        let events: Vec<_> = (1..=5).map(event).collect();
        file.append(events.iter()).unwrap();
        let (mut file, found) = opened(&path);
        assert_eq!(found, [1, 2, 3, 4, 5]);
        let long = file.len();
        file.rewrite(events[3..].iter()).unwrap();
        assert!(file.len() < long);
        file.append([event(6)].iter()).unwrap();
        assert_eq!(file.len(), fs::metadata(&path).unwrap().len());
        assert_eq!(opened(&path).1, [4, 5, 6]);
    }

    #[test]
    fn a_file_torn_at_any_byte_holds_every_record_before_and_takes_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let events: Vec<_> = (1..=4).map(event).collect();
        let whole = records(events.iter());
        let ends: Vec<_> = (1..=4).map(|n| records(events[..n].iter()).len()).collect();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let before = ends.iter().filter(|end| **end <= cut).count() as u64;
            let (mut file, found) = opened(&path);
            assert_eq!(found, (1..=before).collect::<Vec<_>>(), "cut at {cut}");
            file.append([event(9)].iter()).unwrap();
            let found = opened(&path).1;
            assert_eq!(
                found,
                (1..=before).chain([9]).collect::<Vec<_>>(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn any_damaged_byte_costs_at_most_its_own_record() {
        let events: Vec<_> = (1..=4).map(event).collect();
        let whole = records(events.iter());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            let found = recover(&bytes).0;
            assert_eq!(found.len(), 3, "damaged at {at}");
            assert!(found.iter().all(|event| events.contains(event)));
        }
    }

    #[test]
    fn a_file_of_nothing_but_damage_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        fs::write(&path, [7; 500]).unwrap();
        let (mut file, found) = opened(&path);
        assert!(found.is_empty());
        file.append([event(1)].iter()).unwrap();
        assert_eq!(opened(&path).1, [1]);
        let aside = fs::read(dir.path().join("ledger.damaged")).unwrap();
        assert_eq!(aside, [7; 500]);
    }
}
