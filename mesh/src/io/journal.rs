//! The statements on disk: an append-only file, `statements.log` in the state directory.
//!
//! Each record is a marker, the length, the CRC32C of both length and body, and the body: one
//! statement, or the time when the statements before it came here. In: statements that must not be
//! forgotten; when `append` returns, a power cut loses none of them. Out: at open, every statement
//! that is still whole, and when it came.
//! Invariant: damage costs the records it touches, never those around them.
//! Absent: checking signatures. `Statements::insert` does, for what comes from disk as for what
//! comes from peers.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    trust::{MAX_BODY, OVERHEAD, Statement, Statements},
    tunnel::keys::sync_directory_of,
};

/// Where a record may begin, so that reading finds its way again after damage.
const MARKER: [u8; 2] = *b"ol";
/// The same for a time: milliseconds since the Unix epoch, big-endian, at which the statements came
/// that stand between the time before and this one. Who does not know it skips it.
const TIME_MARKER: [u8; 2] = *b"ot";
/// Bytes before a body: marker, length (big-endian), CRC32C (big-endian).
const HEADER: usize = 2 + 2 + 4;
/// Bytes the file may hold beyond twice what it was at its last rewriting, before it is written
/// anew: room for some 3,000 changes of address, which replace each other.
const SLACK: u64 = 1024 * 1024;

/// An append-only file of statements. Its owner holds the lock of the state directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    len: u64,
    /// Length at open or after the last rewriting.
    base: u64,
    received: Vec<Option<u64>>,
}

/// A statement as it was found, and when it came, where that is known.
pub(crate) type Kept = (Statement, Option<u64>);

impl Journal {
    /// Opens or makes the file at `path`; the statements it holds, in the order they were appended.
    /// An end that was being written when the power failed is cut off. A file that holds bytes and
    /// no whole record is no file of ours any more: it is an error, and stays as it is.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Statement>)> {
        let fresh = !path.exists();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        if fresh {
            sync_directory_of(path)?;
        }
        let bytes = fs::read(path)?;
        let (kept, end) = recover(&bytes);
        let (statements, received) = kept.into_iter().unzip();
        if end == 0 && !bytes.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no whole statement in its {} bytes", bytes.len()),
            ));
        }
        if end < bytes.len() {
            file.set_len(end as u64)?;
            file.sync_all()?;
        }
        let len = end as u64;
        Ok((
            Self {
                path: path.to_owned(),
                file,
                len,
                base: len,
                received,
            },
            statements,
        ))
    }

    /// When each of the statements that `open` gave came here, by this machine's clock then; `None` where that was not
    /// written down.
    #[must_use]
    pub fn received(&self) -> &[Option<u64>] {
        &self.received
    }

    /// Appends durably: when it returns, a power cut loses nothing of it.
    pub fn append(&mut self, statements: &[Statement]) -> io::Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        let mut bytes = records(statements.iter());
        time_record(Some(wall_ms()), &mut bytes);
        if let Err(error) = self
            .file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
        {
            // Half a record would be skipped at the next open; it needn't stay either.
            let _best_effort = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Writes the file anew with `statements`, once it has grown by more than twice
    /// and 1 MiB since the last time; `false` when it has not, which costs nothing to ask. Before
    /// and after, a power cut leaves one whole file.
    pub fn compact(&mut self, statements: &Statements) -> io::Result<bool> {
        if self.len <= 2 * self.base + SLACK {
            return Ok(false);
        }
        let bytes = dated_records(statements.all_received());
        let beside = self.path.with_extension("log.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        sync_directory_of(&self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.len = bytes.len() as u64;
        self.base = self.len;
        Ok(true)
    }
}

pub(crate) fn records<'a>(statements: impl Iterator<Item = &'a Statement>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for statement in statements {
        push_statement(statement, &mut bytes);
    }
    bytes
}

/// Statements with the times they came at: one time behind all that came at once.
pub(crate) fn dated_records<'a>(
    statements: impl Iterator<Item = (&'a Statement, Option<u64>)>,
) -> Vec<u8> {
    let (mut bytes, mut time) = (Vec::new(), None);
    for (statement, at_ms) in statements {
        if time.is_some_and(|time| time != at_ms) {
            time_record(time.flatten(), &mut bytes);
        }
        push_statement(statement, &mut bytes);
        time = Some(at_ms);
    }
    if time.flatten().is_some() {
        time_record(time.flatten(), &mut bytes);
    }
    bytes
}

fn push_statement(statement: &Statement, bytes: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(statement.encoded_len());
    statement.encode(&mut body);
    push_record(MARKER, &body, bytes);
}

/// A time; 0 for one that is not known.
fn time_record(at_ms: Option<u64>, bytes: &mut Vec<u8>) {
    push_record(TIME_MARKER, &at_ms.unwrap_or(0).to_be_bytes(), bytes);
}

fn push_record(marker: [u8; 2], body: &[u8], bytes: &mut Vec<u8>) {
    let len = (body.len() as u16).to_be_bytes();
    bytes.extend_from_slice(&marker);
    bytes.extend_from_slice(&len);
    bytes.extend_from_slice(&checksum(len, body));
    bytes.extend_from_slice(body);
}

/// Every whole statement in `bytes` with its time, and where the last whole record ends.
pub(crate) fn recover(bytes: &[u8]) -> (Vec<Kept>, usize) {
    let (mut kept, mut at, mut end, mut dated) = (Vec::<Kept>::new(), 0, 0, 0);
    while at < bytes.len() {
        let Some((record, len)) = record(&bytes[at..]) else {
            at += 1;
            continue;
        };
        at += len;
        end = at;
        match record {
            Record::Statement(statement) => kept.extend(statement.map(|one| (one, None))),
            Record::Time(at_ms) => {
                let undated = kept.iter_mut().skip(dated);
                undated.for_each(|(_, time)| *time = Some(at_ms).filter(|at_ms| *at_ms > 0));
                dated = kept.len();
            }
        }
    }
    (kept, end)
}

enum Record {
    /// `None`: one that this version cannot read; it is left alone.
    Statement(Option<Statement>),
    Time(u64),
}

/// The record at the start of `bytes` and its length, if its checksum fits.
fn record(bytes: &[u8]) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let [m0, m1, l0, l1, crc @ ..] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let is_time = [m0, m1] == TIME_MARKER;
    if !(is_time || [m0, m1] == MARKER) || len > MAX_BODY + OVERHEAD {
        return None;
    }
    let body = rest.get(..len)?;
    if checksum([l0, l1], body) != crc {
        return None;
    }
    if is_time {
        let at_ms = u64::from_be_bytes(body.try_into().ok()?);
        return Some((Record::Time(at_ms), HEADER + len));
    }
    let mut unread = body;
    let statement = Statement::decode(&mut unread).ok();
    let statement = statement.filter(|_whole| unread.is_empty());
    Some((Record::Statement(statement), HEADER + len))
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn checksum(len: [u8; 2], body: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(&len), body).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        id::{MeshId, NodeId},
        trust::{self, kind},
        tunnel::keys::{AdminKey, NodeKey, TunnelKey},
    };

    const MESH: MeshId = MeshId([7; 32]);

    fn statement(body: Vec<u8>) -> Statement {
        Statement::sign(kind::POLICY, &MESH, &NodeKey::from_seed(&[1; 32]), body)
    }

    fn three() -> Vec<Statement> {
        // A marker inside a body must not be mistaken for a record.
        [vec![1; 5], b"olololol".to_vec(), vec![3; 50]]
            .map(statement)
            .to_vec()
    }

    fn written(statements: &[Statement]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("statements.log");
        Journal::open(&path).unwrap().0.append(statements).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_appended_is_there_at_the_next_open() {
        let (_dir, path) = written(&three());
        let (mut journal, held) = Journal::open(&path).unwrap();
        assert_eq!(held, three());
        journal.append(&[statement(vec![9])]).unwrap();
        let (_journal, held) = Journal::open(&path).unwrap();
        assert_eq!(held.len(), 4);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn what_was_appended_tells_when_it_came_and_goes_on_to_when_the_file_is_written_anew() {
        let before = wall_ms();
        let (_dir, path) = written(&three());
        let (journal, held) = Journal::open(&path).unwrap();
        let times: Vec<u64> = journal.received().iter().map(|at| at.unwrap()).collect();
        assert_eq!(times.len(), held.len());
        assert!(times.iter().all(|at| (before..=wall_ms()).contains(at)));
        // A file of the release before has no times.
        fs::write(&path, records(three().iter())).unwrap();
        let (journal, held) = Journal::open(&path).unwrap();
        assert_eq!(held, three());
        assert_eq!(journal.received(), [None; 3]);
    }

    #[test]
    fn a_file_cut_at_any_byte_keeps_every_whole_record_and_takes_more() {
        let (_dir, path) = written(&three());
        let whole = fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..=3)
            .map(|count| records(three()[..count].iter()).len())
            .collect();
        for len in (0..1).chain(ends[1]..=whole.len()) {
            fs::write(&path, &whole[..len]).unwrap();
            let kept = ends.iter().filter(|end| **end <= len).count() - 1;
            let (mut journal, held) = Journal::open(&path).unwrap();
            assert_eq!(held, three()[..kept], "cut at {len}");
            journal.append(&[statement(vec![9])]).unwrap();
            let (_journal, held) = Journal::open(&path).unwrap();
            assert_eq!(held.len(), kept + 1, "cut at {len}");
            assert_eq!(held[kept], statement(vec![9]), "cut at {len}");
        }
    }

    #[test]
    fn a_file_without_one_whole_record_is_refused_and_left_as_it_is() {
        let (_dir, path) = written(&three()[..1]);
        let whole = records(three()[..1].iter());
        for damaged in [&whole[..1], &whole[..whole.len() - 1], &[0; 4_096]] {
            fs::write(&path, damaged).unwrap();
            let error = Journal::open(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_damaged_byte_costs_one_record() {
        let (_dir, path) = written(&three());
        let whole = fs::read(&path).unwrap();
        let ends: Vec<usize> = (1..=3)
            .map(|count| records(three()[..count].iter()).len())
            .collect();
        for at in 0..ends[2] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            fs::write(&path, &damaged).unwrap();
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let mut expected = three();
            expected.remove(hit);
            assert_eq!(Journal::open(&path).unwrap().1, expected, "damage at {at}");
        }
    }

    #[test]
    fn zeros_left_by_a_power_cut_are_cut_off() {
        let (_dir, path) = written(&three());
        let mut bytes = fs::read(&path).unwrap();
        let len = bytes.len();
        bytes.extend([0; 4_096]);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, three());
        assert_eq!(fs::metadata(&path).unwrap().len(), len as u64);
    }

    #[test]
    fn a_grown_file_is_written_anew_with_what_counts() {
        let (admin, node) = (AdminKey::generate(), NodeKey::generate());
        let (mesh, genesis) = trust::found(&admin, node.id(), "a", "home", None, 1_000);
        let mut statements = Statements::new(mesh);
        statements.insert(genesis.clone()).unwrap();
        let (_dir, path) = written(&[genesis]);
        let mut journal = Journal::open(&path).unwrap().0;
        let mut info = trust::NodeInfo {
            incarnation: 1,
            seq: 0,
            tunnel: TunnelKey::generate().public(),
            tunnel_previous: None,
            endpoints: Vec::new(),
            version: "0.1.0".into(),
            wire_min: 1,
            wire_max: 1,
            store_format: 1,
        };
        while !journal.compact(&statements).unwrap() {
            let batch: Vec<_> = (0..1_000)
                .map(|_| {
                    info.seq += 1;
                    info.sign(&node, &mesh)
                })
                .collect();
            journal.append(&batch).unwrap();
            statements.insert(batch[999].clone()).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 1_000);
        journal.append(&[info.sign(&node, &mesh)]).unwrap();
        let mut again = Statements::new(mesh);
        for statement in Journal::open(&path).unwrap().1 {
            again.insert(statement).unwrap();
        }
        assert_eq!(again.root(), statements.root());
        assert!(again.state().members.contains_key(&NodeId(node.public())));
    }

    proptest! {
        #[test]
        fn any_file_opens(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let (_statements, end) = recover(&bytes);
            prop_assert!(end <= bytes.len());
        }

        #[test]
        fn records_survive_the_disk(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..99), 0..9)) {
            let statements: Vec<_> = bodies.into_iter().map(statement).collect();
            let bytes = records(statements.iter());
            let kept = statements.into_iter().map(|statement| (statement, None)).collect();
            prop_assert_eq!(recover(&bytes), (kept, bytes.len()));
        }

        #[test]
        fn times_survive_the_disk(
            dated in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::option::of(1_u64..4)), 0..9),
        ) {
            let kept: Vec<Kept> = dated.into_iter().map(|(body, at_ms)| (statement(body), at_ms)).collect();
            let bytes = dated_records(kept.iter().map(|(statement, at_ms)| (statement, *at_ms)));
            prop_assert_eq!(recover(&bytes), (kept, bytes.len()));
        }
    }
}
