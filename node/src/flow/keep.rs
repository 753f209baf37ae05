//! What peers sent goes to the store, and what they asked for comes from it: one `Job`, one `Note`.
//!
//! `work` is the whole of it, without a thread; `keep` does it on one, in the order the jobs came. A live row only touches
//! memory; everything else may wait for the disk, a damaged one up to the store's own deadlines. So there are three
//! lanes: live rows; what is stored; what is read, which may run side by side. The core bounds how many jobs wait.
//! Absent: whose turn it is (`core`), and what counts as a lie (`offence`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{
    Appended, Head, IntervalSet, LogId, MAX_SERIES, Origin, Parcel, SchemaDelta, SchemaHash, Seal,
    Sealed, Seq, SignedRow, Store, StoreError,
};
use tokio::sync::mpsc;
use tracing::debug;

use super::core::StreamId;
use super::node_of;
use super::offence::{self, Fault, Offence};
use super::points::{Covered, MOST_POINT_BYTES, Page, PointsAsked};
use super::wire::Answer;

/// How long a complete window waits for its seal before a holder is asked.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);
/// One export: a window of the largest rows fits.
const EXPORT_BYTES: usize = 2 * 1024 * 1024;

/// Something for the store.
#[derive(Debug)]
pub enum Job {
    /// A live row from its origin.
    Live(Arc<SignedRow>),
    /// A live row that is shown and not kept.
    Show(Arc<SignedRow>),
    /// A live row that a neighbour of its origin's keepers handed on, and who.
    HandedOn(Arc<SignedRow>, NodeId),
    /// A row or block that was asked for, and who brought it.
    Repair {
        /// On which stream.
        ask: StreamId,
        /// What came.
        piece: Piece,
        /// From whom.
        from: NodeId,
    },
    /// A seal, and who brought it.
    Seal(Seal, NodeId),
    /// Schemas of an origin, oldest first.
    Define {
        /// On which stream they came.
        ask: StreamId,
        /// Whose they are.
        origin: Origin,
        /// The one that was asked for.
        hash: SchemaHash,
        /// It and those before it.
        deltas: Vec<SchemaDelta>,
    },
    /// Read again what is held and gone; these rows every keeper has.
    Holdings(BTreeMap<LogId, IntervalSet>),
    /// Which complete windows lack a seal.
    Unsealed,
    /// Seal the short last windows of this node's earlier runs.
    SealClosed(Vec<LogId>),
    /// Rows of a range, to be sent.
    Export {
        /// On which stream.
        stream: StreamId,
        /// Of which log.
        log: LogId,
        /// Which.
        rows: RangeInclusive<Seq>,
    },
    /// Points of one origin's history, as answers.
    Points {
        /// On which stream.
        stream: StreamId,
        /// Which.
        asked: PointsAsked,
    },
    /// The seals of these windows, as answers.
    Seals {
        /// On which stream.
        stream: StreamId,
        /// Log and first row of each.
        windows: Vec<(LogId, Seq)>,
    },
    /// A schema with its parents up to one of those known, oldest first, as answers.
    Schema {
        /// On which stream.
        stream: StreamId,
        /// Which.
        hash: SchemaHash,
        /// What the peer has.
        known: Vec<SchemaHash>,
    },
}

/// Which jobs may not overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Live rows: never waits for a disk.
    Live,
    /// What changes the store.
    Stored,
    /// What only reads: in any order, some at a time.
    Read,
}

impl Job {
    /// Where it queues.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Live(_) | Self::HandedOn(..) | Self::Show(_) => Lane::Live,
            Self::Points { .. }
            | Self::Export { .. }
            | Self::Seals { .. }
            | Self::Schema { .. } => Lane::Read,
            _ => Lane::Stored,
        }
    }
}

/// A row or block from a holder.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A single row.
    Row(Arc<SignedRow>),
    /// A sealed block and its head.
    Block(Bytes, Head),
}

impl Piece {
    /// Which rows it has.
    #[must_use]
    pub fn span(&self) -> (LogId, Seq, Seq) {
        match self {
            Self::Row(row) => (row.row.log, row.row.seq, row.row.seq),
            Self::Block(_, head) => (head.log, head.first, head.last()),
        }
    }
}

impl From<SignedRow> for Piece {
    fn from(row: SignedRow) -> Self {
        Self::Row(Arc::new(row))
    }
}

/// What the store did with a job.
#[derive(Debug)]
pub struct Note {
    /// What came of it.
    pub outcome: Outcome,
    /// What is to be counted, and against whom.
    pub charge: Option<Charge>,
}

/// A refusal to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// Somebody's fault.
    Blame(NodeId, Offence),
    /// Nobody's.
    Refuse(&'static str),
}

/// What came of a job: one for each kind.
#[derive(Debug)]
pub enum Outcome {
    /// Of a live row.
    Live {
        /// The row.
        row: Arc<SignedRow>,
        /// Who sent it: its origin, or a neighbour.
        from: NodeId,
        /// What became of it.
        outcome: Live,
    },
    /// A row to be shown.
    Shown(Arc<SignedRow>),
    /// A row that can't be shown until its schema is here.
    Unshown {
        /// Whose.
        origin: Origin,
        /// The schema that is missing.
        hash: SchemaHash,
        /// One of the same origin that isn't.
        known: Option<SchemaHash>,
    },
    /// Of a piece that was asked for.
    Repaired {
        /// On which stream.
        ask: StreamId,
        /// The piece.
        piece: Piece,
        /// What became of it.
        outcome: Repair,
    },
    /// A seal was taken or refused. `Some`: its window is held with another content, of which the one it seals must stay;
    /// who has it, and the rows.
    Sealed(Option<(NodeId, LogId, RangeInclusive<Seq>)>),
    /// Of schemas that were fetched.
    Defined {
        /// On which stream.
        ask: StreamId,
        /// Whether the one that was asked for is known.
        defined: bool,
    },
    /// What is held and gone.
    Holdings {
        /// Rows that can be read.
        held: BTreeMap<LogId, IntervalSet>,
        /// Rows that retention took.
        gone: BTreeMap<LogId, IntervalSet>,
        /// Whether the sets are complete.
        ready: bool,
    },
    /// Log and first row of complete windows without a seal.
    Unsealed(Vec<(LogId, Seq)>),
    /// The seals of earlier runs' last windows.
    SealedClosed(Vec<Seal>),
    /// Rows to be sent; `None`: the store can't say.
    Exported {
        /// On which stream.
        stream: StreamId,
        /// In order.
        parcels: Option<Vec<Parcel>>,
    },
    /// Answers to be sent.
    Found {
        /// On which stream.
        stream: StreamId,
        /// Whole frames.
        answers: Vec<Bytes>,
    },
}

/// What became of a live row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// It is held.
    New,
    /// It was held already, or another under its identity is.
    Known,
    /// It can be tried again when this schema is there.
    Unknown {
        /// The schema that is missing.
        hash: SchemaHash,
        /// One of the same origin that isn't.
        known: Option<SchemaHash>,
    },
    /// The store is full or closing: nobody's fault.
    NotNow,
    /// Good, and not held: too little of the disk is free. Whoever looks sees it.
    Unkept,
    /// It is not what it claims to be.
    Refused,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It is held.
    New,
    /// All of it was held already.
    Known,
    /// It can be tried again when this schema is there.
    Unknown {
        /// The schema that is missing.
        hash: SchemaHash,
        /// One of the same origin that isn't.
        known: Option<SchemaHash>,
    },
    /// The store is full or closing: nobody's fault.
    NotNow,
    /// It is not what it claims to be.
    Bad,
}

/// Runs until every sender of jobs is gone.
pub(super) fn keep(
    store: &Store,
    me: Origin,
    jobs: &mut mpsc::UnboundedReceiver<Job>,
    notes: &mpsc::Sender<Note>,
) {
    while let Some(job) = jobs.blocking_recv() {
        if notes.blocking_send(work(store, me, job)).is_err() {
            return;
        }
    }
}

/// Does one job. `me` is the origin of this node's own rows.
#[must_use]
pub fn work(store: &Store, me: Origin, job: Job) -> Note {
    let (outcome, charge) = match job {
        Job::Show(row) => (show(store, row), None),
        Job::Points { stream, asked } => {
            let answers = points(store, &asked);
            (Outcome::Found { stream, answers }, None)
        }
        Job::Live(row) => {
            let origin = node_of(row.row.log.origin);
            live(store, row, origin)
        }
        Job::HandedOn(row, from) => live(store, row, from),
        Job::Repair { ask, piece, from } => repair(store, ask, piece, from),
        Job::Seal(seal, from) => apply(store, seal, from),
        Job::Define {
            ask,
            origin,
            hash,
            deltas,
        } => define(store, ask, origin, hash, deltas),
        Job::Holdings(delivered) => {
            store.delivered(delivered);
            // `ready` first: sets read after it are complete.
            let ready = store.ready();
            let (held, gone) = (store.held(), store.gone());
            (Outcome::Holdings { held, gone, ready }, None)
        }
        Job::Unsealed => (Outcome::Unsealed(unsealed(store, me)), None),
        Job::SealClosed(logs) => {
            let seals = logs.iter().flat_map(|log| store.seal_closed(log));
            (Outcome::SealedClosed(seals.collect()), None)
        }
        Job::Export { stream, log, rows } => {
            let parcels = store.export(&log, rows, EXPORT_BYTES).ok();
            (Outcome::Exported { stream, parcels }, None)
        }
        Job::Seals { stream, windows } => {
            let seals = windows
                .iter()
                .filter_map(|(log, first)| store.seal_of(log, *first));
            let answers = seals.map(|seal| Answer::Seal(seal.encode().into()).encode());
            let answers = answers.collect();
            (Outcome::Found { stream, answers }, None)
        }
        Job::Schema {
            stream,
            hash,
            known,
        } => {
            let answers = schema(store, hash, &known);
            (Outcome::Found { stream, answers }, None)
        }
    };
    Note { outcome, charge }
}

fn show(store: &Store, row: Arc<SignedRow>) -> Outcome {
    let (origin, hash) = (row.row.log.origin, row.row.schema);
    match store.schema(&hash) {
        Some(schema) if row.row.values.len() <= schema.series.len() => Outcome::Shown(row),
        _ => Outcome::Unshown {
            origin,
            hash,
            known: known_schema(store, &origin),
        },
    }
}

/// Pages, then what they cover. Without the latter the answer is not whole: it was too large, or the store can't say.
fn points(store: &Store, asked: &PointsAsked) -> Vec<Bytes> {
    let found = asked.query().map(|query| store.query(&query));
    let Some(Ok(found)) = found else {
        return Vec::new();
    };
    let mut answers = Vec::new();
    let mut size = 0;
    for page in found.iter().flat_map(Page::cut) {
        let answer = Answer::Points(page.encode().into()).encode();
        size += answer.len();
        if size > MOST_POINT_BYTES {
            return answers;
        }
        answers.push(answer);
    }
    answers.push(Answer::Covered(Covered::of(&found)).encode());
    answers
}

fn live(store: &Store, row: Arc<SignedRow>, from: NodeId) -> (Outcome, Option<Charge>) {
    let origin = row.row.log.origin;
    let (outcome, charge) = match store.append(Arc::clone(&row)) {
        Ok(Appended::New) => (Live::New, None),
        Ok(Appended::Known) => (Live::Known, None),
        Ok(Appended::Conflict) => (Live::Known, Some(two_contents(origin))),
        Err(StoreError::UnknownSchema(hash)) => {
            let known = known_schema(store, &origin);
            (Live::Unknown { hash, known }, None)
        }
        Err(error @ StoreError::NoRoom) => {
            let charge = refusal(&error, node_of(origin), origin);
            (Live::Unkept, Some(charge))
        }
        Err(error) => {
            debug!(%error, seq = row.row.seq, "a live row was refused");
            let charge = refusal(&error, from, origin);
            let passing = is_passing(&error);
            (
                if passing { Live::NotNow } else { Live::Refused },
                Some(charge),
            )
        }
    };
    (Outcome::Live { row, from, outcome }, charge)
}

fn repair(store: &Store, ask: StreamId, piece: Piece, from: NodeId) -> (Outcome, Option<Charge>) {
    let (log, first, last) = piece.span();
    let stored = match &piece {
        Piece::Row(row) => store.append(Arc::clone(row)),
        Piece::Block(bytes, _) => store.insert_block(bytes),
    };
    let (outcome, charge) = match stored {
        Ok(Appended::New) => (Repair::New, None),
        Ok(Appended::Known) => (Repair::Known, None),
        // Its rows are not those held, and not all of them are: the other holders have others.
        Ok(Appended::Conflict) if !store.holds(&log, first..=last) => {
            (Repair::Bad, Some(two_contents(log.origin)))
        }
        Ok(Appended::Conflict) => (Repair::Known, Some(two_contents(log.origin))),
        Err(StoreError::UnknownSchema(hash)) => {
            let known = known_schema(store, &log.origin);
            (Repair::Unknown { hash, known }, None)
        }
        Err(error) if is_passing(&error) => (Repair::NotNow, None),
        Err(error) => {
            debug!(%error, "a repaired piece was refused");
            (Repair::Bad, Some(refusal(&error, from, log.origin)))
        }
    };
    let outcome = Outcome::Repaired {
        ask,
        piece,
        outcome,
    };
    (outcome, charge)
}

/// The schema of an origin's newest row, from which the one that is missing most likely grew. A damaged disk may have
/// lost it while its rows are still here: naming it then would have the peer leave it out.
fn known_schema(store: &Store, origin: &Origin) -> Option<SchemaHash> {
    let newest = store.latest(origin).map(|row| row.row.schema);
    newest.filter(|hash| store.schema(hash).is_some())
}

fn two_contents(origin: Origin) -> Charge {
    Charge::Blame(node_of(origin), Offence::TwoContents)
}

fn apply(store: &Store, seal: Seal, from: NodeId) -> (Outcome, Option<Charge>) {
    let (log, rows) = (seal.log, seal.first..=seal.last());
    match store.apply_seal(seal.clone()) {
        Ok(Sealed::Done) => (Outcome::Sealed(None), None),
        Ok(Sealed::Known | Sealed::Waiting) => {
            let held = store.seal_of(&log, seal.first);
            let other = held.filter(|held| {
                (held.first, held.count) == (seal.first, seal.count) && held.content != seal.content
            });
            let wins = other
                .as_ref()
                .is_some_and(|held| seal.content < held.content);
            let fetch = wins.then_some((from, log, rows));
            (
                Outcome::Sealed(fetch),
                other.map(|_| two_contents(log.origin)),
            )
        }
        Err(error) => {
            debug!(%error, "a seal was refused");
            (
                Outcome::Sealed(None),
                Some(refusal(&error, from, log.origin)),
            )
        }
    }
}

fn define(
    store: &Store,
    ask: StreamId,
    origin: Origin,
    hash: SchemaHash,
    deltas: Vec<SchemaDelta>,
) -> (Outcome, Option<Charge>) {
    let defined = deltas
        .into_iter()
        .try_for_each(|delta| store.define(origin, delta).map(drop));
    let charge = defined.as_ref().err().map(|error| {
        debug!(%error, "a peer's schema was refused");
        // Who brought it had no choice: its hash is the one the origin's row names.
        refusal(error, node_of(origin), origin)
    });
    let defined = defined.is_ok() && store.schema(&hash).is_some();
    (Outcome::Defined { ask, defined }, charge)
}

fn schema(store: &Store, hash: SchemaHash, known: &[SchemaHash]) -> Vec<Bytes> {
    let mut deltas = Vec::new();
    let mut next = Some(hash);
    while let Some(hash) = next.filter(|hash| !known.contains(hash) && deltas.len() < MAX_SERIES) {
        let Some(delta) = store.schema_delta(&hash) else {
            break;
        };
        next = delta.parent;
        deltas.push(delta);
    }
    let oldest_first = deltas.into_iter().rev();
    oldest_first
        .map(|delta| Answer::Schema(delta.encode().into()).encode())
        .collect()
}

fn unsealed(store: &Store, me: Origin) -> Vec<(LogId, Seq)> {
    let windows = store.unsealed(SEAL_PATIENCE).into_iter();
    windows
        .filter(|(log, ..)| log.origin != me)
        .map(|(log, first, _)| (log, first))
        .collect()
}

/// Names whose fault a refusal is, if it is anybody's.
fn refusal(error: &StoreError, from: NodeId, origin: Origin) -> Charge {
    match offence::of(error) {
        Some((what, Fault::Bringer)) => Charge::Blame(from, what),
        Some((what, Fault::Origin)) => Charge::Blame(node_of(origin), what),
        None => Charge::Refuse(reason(error)),
    }
}

/// Whether the same piece may be welcome later: it says nothing against whoever sent it.
fn is_passing(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy { .. }
            | StoreError::NoRoom
            | StoreError::NotDurable { .. }
            | StoreError::Io { .. }
    )
}

/// The reason a refusal is counted under.
fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::UnknownSchema(_) => "schema: unknown",
        StoreError::BadSignature { .. }
        | StoreError::Malformed { .. }
        | StoreError::OverLimit { .. } => "somebody's fault",
        StoreError::Busy { .. } => "store: waiting for the disk",
        StoreError::NoRoom => "store: too little of the disk is free",
        StoreError::NoEpoch => "store: no epoch",
        StoreError::Opening => "store: still opening",
        StoreError::Query(_) => "store: not a question",
        StoreError::Io { .. } | StoreError::NotDurable { .. } => "store: input or output failed",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use outlast_store::{Clock, ClockSource, Epoch, Keys, Kind, Row, Series, StoreConfig, StoreId};

    use super::*;

    /// Each row is about 40 KB, so that few of them fill the tail.
    const SERIES: usize = 4_000;

    #[test]
    fn a_live_row_that_finds_the_store_full_is_asked_for_later() {
        let kept = Kept::new();
        // No one origin may fill it alone.
        let outcome = (0..2_000).find_map(|number| {
            let row = kept.row(2 + (number / 150) as u8, number % 150 + 1, 0);
            kept.live_unless_new(row)
        });
        assert!(matches!(outcome, Some(Live::NotNow)), "{outcome:?}");
        assert_eq!(kept.named.take(), []);
    }

    #[test]
    fn an_origin_that_never_seals_is_named_and_leaves_room_for_the_others() {
        let kept = Kept::new();
        let outcome = (1..2_000).find_map(|seq| kept.live_unless_new(kept.row(2, seq, 0)));
        assert!(matches!(outcome, Some(Live::Refused)), "{outcome:?}");
        assert!(kept.live_unless_new(kept.row(3, 1, 0)).is_none());
        assert_eq!(
            kept.named.take(),
            [(node_of(Origin([2; 32])), Offence::Unsealed)]
        );
    }

    #[test]
    fn a_forged_piece_is_its_bringer_s_fault_and_a_second_content_its_origin_s() {
        let kept = Kept::new();
        let (liar, origin) = (node_of(Origin([9; 32])), node_of(Origin([2; 32])));
        let bring = |row: SignedRow| {
            let piece = row.into();
            let ask = 1;
            match kept.work(Job::Repair {
                ask,
                piece,
                from: liar,
            }) {
                Outcome::Repaired { outcome, .. } => outcome,
                outcome => panic!("a piece is answered as one: {outcome:?}"),
            }
        };
        let mut altered = kept.row(2, 1, 0);
        altered.row.boot_ms += 1;
        assert!(matches!(bring(altered.clone()), Repair::Bad));
        // Nor is a schema fetched for what nobody signed.
        altered.row.schema = SchemaHash([5; 32]);
        assert!(matches!(bring(altered), Repair::Bad));
        assert_eq!(kept.named.take(), [(liar, Offence::Altered); 2]);

        assert_eq!(bring(kept.row(2, 1, 0)), Repair::New);
        assert_eq!(bring(kept.row(2, 1, 7)), Repair::Known);
        assert_eq!(kept.named.take(), [(origin, Offence::TwoContents)]);
    }

    /// A store with a schema of `SERIES` series, whose origins sign by adding themselves up.
    struct Kept {
        store: Store,
        named: RefCell<Vec<(NodeId, Offence)>>,
        schema: SchemaHash,
        _dir: tempfile::TempDir,
    }

    impl Kept {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let config = StoreConfig {
                dir: dir.path().to_owned(),
                limit_bytes: 64 << 20,
                sync_every: Duration::from_secs(1),
                check: None,
            };
            let keys = Keys {
                origin: Origin([1; 32]),
                sign: Box::new(|message| signature(&Origin([1; 32]), message)),
                verify: Box::new(|origin, message, signed| signature(origin, message) == *signed),
            };
            let store = Store::open(config, keys).unwrap();
            let series =
                |number: usize| Series::new(format!("s{number}"), [], "", Kind::Gauge, 0).unwrap();
            let appended = (0..SERIES).map(series).collect();
            let parent = None;
            let schema = store
                .define(Origin([2; 32]), SchemaDelta { parent, appended })
                .unwrap();
            Self {
                store,
                named: RefCell::default(),
                schema,
                _dir: dir,
            }
        }

        fn row(&self, origin: u8, seq: Seq, salt: i64) -> SignedRow {
            let mut values = vec![Some(i64::MAX); SERIES];
            values[0] = Some(salt);
            let row = Row {
                log: log_of(origin),
                seq,
                schema: self.schema,
                boot_ms: u64::from(seq) * 1_000,
                clock: Clock {
                    offset_ms: 0,
                    uncertainty_ms: 0,
                    source: ClockSource::Ntp,
                },
                values,
            };
            row.sign(&|message| signature(&Origin([origin; 32]), message))
        }

        fn work(&self, job: Job) -> Outcome {
            let note = work(&self.store, Origin([1; 32]), job);
            if let Some(Charge::Blame(who, what)) = note.charge {
                self.named.borrow_mut().push((who, what));
            }
            note.outcome
        }

        fn live_unless_new(&self, row: SignedRow) -> Option<Live> {
            match self.work(Job::Live(Arc::new(row))) {
                Outcome::Live { outcome, .. } => (outcome != Live::New).then_some(outcome),
                outcome => panic!("a live row is answered as one: {outcome:?}"),
            }
        }
    }

    fn log_of(origin: u8) -> LogId {
        LogId {
            origin: Origin([origin; 32]),
            store: StoreId(1),
            epoch: Epoch {
                counter: 1,
                nonce: 1,
            },
        }
    }

    /// Stands in for a signature: another for each origin and message.
    fn signature(origin: &Origin, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        let hash = blake3::keyed_hash(&origin.0, message);
        signature[..32].copy_from_slice(hash.as_bytes());
        signature
    }
}
