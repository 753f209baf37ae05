//! What peers sent goes to the store on one thread, in the order it came.
//!
//! In: `Job`s, at most `QUEUE` waiting. A live row that finds the queue full is dropped, counted
//! and repaired later; answers to requests wait. Out: `Note`s to the flow's task.
//! The sets of what is held are read on the same thread, so that they agree with its notes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{
    Appended, Head, IntervalSet, LogId, Origin, SchemaDelta, SchemaHash, Seal, Seq, SignedRow,
    Store, StoreError,
};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::offence::{self, Fault, Offence};
use super::{Arrival, Shared, node_of};

/// Jobs that may wait: a minute of 16 live peers.
pub(super) const QUEUE: usize = 1_024;
/// How long a complete window waits for its seal before a holder is asked.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);

/// Something for the store.
#[derive(Debug)]
pub(super) enum Job {
    /// A live row from its origin.
    Live(SignedRow),
    /// A row or block that was asked for, and who brought it.
    Repair(Piece, NodeId, oneshot::Sender<Repair>),
    /// A seal, and who brought it.
    Seal(Seal, NodeId),
    /// Schemas of an origin, oldest first.
    Define(Origin, Vec<SchemaDelta>, oneshot::Sender<bool>),
    /// Read again what is held and gone.
    Holdings,
    /// Which complete windows lack a seal.
    Unsealed,
    /// Seal the short last windows of this node's earlier runs.
    SealClosed(Vec<LogId>),
}

/// A row or block from a holder.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Row(Box<SignedRow>),
    Block(Bytes, Head),
}

impl Piece {
    pub(super) fn span(&self) -> (LogId, Seq, Seq) {
        match self {
            Self::Row(row) => (row.row.log, row.row.seq, row.row.seq),
            Self::Block(_, head) => (head.log, head.first, head.last()),
        }
    }
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Repair {
    Stored,
    /// It can be tried again when this schema is there.
    Unknown(SchemaHash),
    /// The store is full or closing: nobody's fault.
    NotNow,
    /// It is not what it claims to be.
    Bad,
}

/// What the thread tells the flow's task.
#[derive(Debug)]
pub(super) enum Note {
    Live {
        log: LogId,
        seq: Seq,
        outcome: Live,
    },
    Stored {
        log: LogId,
        first: Seq,
        last: Seq,
    },
    Holdings {
        held: BTreeMap<LogId, IntervalSet>,
        gone: BTreeMap<LogId, IntervalSet>,
        ready: bool,
    },
    Unsealed(Vec<(LogId, Seq)>),
    Sealed(Vec<Seal>),
}

/// What became of a live row.
#[derive(Debug)]
pub(super) enum Live {
    New,
    Known,
    Unknown(SchemaHash, Box<SignedRow>),
    /// The store is full or closing: nobody's fault.
    NotNow,
    Refused,
}

/// Runs until every sender of jobs is gone.
pub(super) fn keep(
    store: &Store,
    me: Origin,
    shared: &Shared,
    jobs: &mut mpsc::Receiver<Job>,
    notes: &mpsc::Sender<Note>,
) {
    while let Some(job) = jobs.blocking_recv() {
        let note = match job {
            Job::Live(row) => Some(live(store, shared, row)),
            Job::Repair(piece, from, reply) => repair(store, shared, &piece, from, reply, notes),
            Job::Seal(seal, from) => apply(store, shared, seal, from),
            Job::Define(origin, deltas, reply) => define(store, shared, origin, deltas, reply),
            Job::Holdings => {
                // `ready` first: sets read after it are complete.
                let ready = store.ready();
                Some(Note::Holdings {
                    held: store.held(),
                    gone: store.gone(),
                    ready,
                })
            }
            Job::Unsealed => Some(Note::Unsealed(unsealed(store, me))),
            Job::SealClosed(logs) => Some(Note::Sealed(
                logs.iter().flat_map(|log| store.seal_closed(log)).collect(),
            )),
        };
        if let Some(note) = note
            && notes.blocking_send(note).is_err()
        {
            return;
        }
    }
}

fn live(store: &Store, shared: &Shared, row: SignedRow) -> Note {
    let (log, seq) = (row.row.log, row.row.seq);
    let outcome = match store.append(row.clone()) {
        Ok(Appended::New) => {
            shared.stats(|stats| stats.rows_in += 1);
            shared.feed(Arrival {
                row: Arc::new(row),
                live: true,
            });
            Live::New
        }
        Ok(Appended::Known) => {
            shared.stats(|stats| stats.duplicates += 1);
            Live::Known
        }
        Ok(Appended::Conflict) => {
            shared.blame(node_of(log.origin), Offence::TwoContents);
            Live::Known
        }
        Err(StoreError::UnknownSchema(hash)) => Live::Unknown(hash, Box::new(row)),
        Err(error) => {
            refuse(shared, &error, node_of(log.origin), log.origin);
            debug!(%error, seq, "a live row was refused");
            if is_passing(&error) {
                Live::NotNow
            } else {
                Live::Refused
            }
        }
    };
    Note::Live { log, seq, outcome }
}

fn repair(
    store: &Store,
    shared: &Shared,
    piece: &Piece,
    from: NodeId,
    reply: oneshot::Sender<Repair>,
    notes: &mpsc::Sender<Note>,
) -> Option<Note> {
    let (log, first, last) = piece.span();
    let stored = match piece {
        Piece::Row(row) => store.append((**row).clone()),
        Piece::Block(bytes, _) => store.insert_block(bytes),
    };
    let outcome = match stored {
        // Its rows are not those held, and not all of them are: the other holders have others.
        Ok(Appended::Conflict) if !store.holds(&log, first..=last) => {
            shared.blame(node_of(log.origin), Offence::TwoContents);
            Repair::Bad
        }
        Ok(appended) => {
            count_repair(shared, piece, appended);
            // Before the reply: when the request ends, the replica must know what it brought.
            let _ = notes.blocking_send(Note::Stored { log, first, last });
            Repair::Stored
        }
        Err(StoreError::UnknownSchema(hash)) => Repair::Unknown(hash),
        Err(error) if is_passing(&error) => Repair::NotNow,
        Err(error) => {
            refuse(shared, &error, from, log.origin);
            debug!(%error, "a repaired piece was refused");
            Repair::Bad
        }
    };
    // A fetch that was given up meanwhile doesn't wait for the answer.
    let _ = reply.send(outcome);
    None
}

fn count_repair(shared: &Shared, piece: &Piece, appended: Appended) {
    let (log, first, last) = piece.span();
    match appended {
        Appended::New => {
            shared.stats(|stats| stats.repaired_rows += u64::from(last - first) + 1);
            if let Piece::Row(row) = piece {
                shared.feed(Arrival {
                    row: Arc::new((**row).clone()),
                    live: false,
                });
            }
        }
        Appended::Known => shared.stats(|stats| stats.duplicates += 1),
        Appended::Conflict => shared.blame(node_of(log.origin), Offence::TwoContents),
    }
}

fn apply(store: &Store, shared: &Shared, seal: Seal, from: NodeId) -> Option<Note> {
    let origin = seal.log.origin;
    if let Err(error) = store.apply_seal(seal) {
        refuse(shared, &error, from, origin);
        debug!(%error, "a seal was refused");
    }
    None
}

fn define(
    store: &Store,
    shared: &Shared,
    origin: Origin,
    deltas: Vec<SchemaDelta>,
    reply: oneshot::Sender<bool>,
) -> Option<Note> {
    let defined = deltas
        .into_iter()
        .try_for_each(|delta| store.define(origin, delta).map(drop));
    if let Err(error) = &defined {
        // Who brought it had no choice: its hash is the one the origin's row names.
        refuse(shared, error, node_of(origin), origin);
        debug!(%error, "a peer's schema was refused");
    }
    let _ = reply.send(defined.is_ok());
    None
}

fn unsealed(store: &Store, me: Origin) -> Vec<(LogId, Seq)> {
    let windows = store.unsealed(SEAL_PATIENCE).into_iter();
    windows
        .filter(|(log, ..)| log.origin != me)
        .map(|(log, first, _)| (log, first))
        .collect()
}

/// Counts a refusal, and names whose fault it is if it is anybody's.
fn refuse(shared: &Shared, error: &StoreError, from: NodeId, origin: Origin) {
    match offence::of(error) {
        Some((what, Fault::Bringer)) => shared.blame(from, what),
        Some((what, Fault::Origin)) => shared.blame(node_of(origin), what),
        None => shared.refuse(reason(error)),
    }
}

/// Whether the same piece may be welcome later: it says nothing against whoever sent it.
fn is_passing(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy { .. } | StoreError::NotDurable { .. } | StoreError::Io { .. }
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
        StoreError::NoEpoch => "store: no epoch",
        StoreError::Opening => "store: still opening",
        StoreError::Query(_) => "store: not a question",
        StoreError::Io { .. } | StoreError::NotDurable { .. } => "store: input or output failed",
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(kept.shared.reckoned(), []);
    }

    #[test]
    fn an_origin_that_never_seals_is_named_and_leaves_room_for_the_others() {
        let kept = Kept::new();
        let outcome = (1..2_000).find_map(|seq| kept.live_unless_new(kept.row(2, seq, 0)));
        assert!(matches!(outcome, Some(Live::Refused)), "{outcome:?}");
        assert!(kept.live_unless_new(kept.row(3, 1, 0)).is_none());
        assert_eq!(
            kept.named(),
            [(node_of(Origin([2; 32])), "unsealed rows over the limit")]
        );
    }

    #[test]
    fn a_forged_piece_is_its_bringer_s_fault_and_a_second_content_its_origin_s() {
        let kept = Kept::new();
        let (liar, origin) = (node_of(Origin([9; 32])), node_of(Origin([2; 32])));
        let bring = |row: SignedRow| {
            let (reply, mut outcome) = oneshot::channel();
            let (notes, _kept) = mpsc::channel(4);
            let piece = Piece::Row(Box::new(row));
            repair(&kept.store, &kept.shared, &piece, liar, reply, &notes);
            outcome.try_recv().unwrap()
        };
        let mut altered = kept.row(2, 1, 0);
        altered.row.boot_ms += 1;
        assert!(matches!(bring(altered.clone()), Repair::Bad));
        // Nor is a schema fetched for what nobody signed.
        altered.row.schema = SchemaHash([5; 32]);
        assert!(matches!(bring(altered), Repair::Bad));
        assert_eq!(kept.named(), [(liar, "altered rows")]);

        assert!(matches!(bring(kept.row(2, 1, 0)), Repair::Stored));
        assert!(matches!(bring(kept.row(2, 1, 7)), Repair::Stored));

        let named = kept.named();
        assert_eq!(named.len(), 2);
        assert!(named.contains(&(origin, "second contents of a row")));
    }

    /// A store with a schema of `SERIES` series, whose origins sign by adding themselves up.
    struct Kept {
        store: Store,
        shared: Shared,
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
                shared: Shared::new(log_of(1)),
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

        fn live_unless_new(&self, row: SignedRow) -> Option<Live> {
            match live(&self.store, &self.shared, row) {
                Note::Live {
                    outcome: Live::New, ..
                } => None,
                Note::Live { outcome, .. } => Some(outcome),
                _ => panic!("a live row is answered as one"),
            }
        }

        fn named(&self) -> Vec<(NodeId, &'static str)> {
            let reckoned = self.shared.reckoned().into_iter();
            reckoned
                .map(|refused| (refused.peer, refused.what))
                .collect()
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
