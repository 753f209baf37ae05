//! The store's word on what peers bring.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use outlast_mesh::NodeId;
use outlast_store::{
    Clock, ClockSource, Epoch, Keys, Kind, LogId, Row, SchemaDelta, SchemaHash, Seq, Series,
    SignedRow, SimDisk, StoreConfig, StoreId,
};

use super::*;
use crate::flow::offence::Offence;

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

#[test]
fn while_the_disk_hangs_a_schema_and_the_live_rows_behind_it_are_taken() {
    let disk = SimDisk::new(1 << 30);
    let begun = Instant::now();
    let (config, keys) = (config(Path::new("/store")), keys());
    let store = Store::simulated(disk.clone(), config, keys, begun, 1).unwrap();
    disk.stall(true);
    let series = Series::new("a", [], "", Kind::Gauge, 0).unwrap();
    let delta = SchemaDelta {
        parent: None,
        appended: vec![series],
    };
    let (origin, hash) = (Origin([2; 32]), delta.hash());
    let me = Origin([1; 32]);
    let unknown = SchemaHash([9; 32]);
    let defined = work(
        &store,
        me,
        Job::Define {
            ask: 1,
            origin,
            hash,
            deltas: vec![delta],
        },
    );
    assert!(matches!(
        defined.outcome,
        Outcome::Defined { defined: true, .. }
    ));
    for seq in 1..=60 {
        store.step(begun + Duration::from_secs(seq));
        let row = Row {
            log: log_of(2),
            seq: seq as Seq,
            schema: hash,
            boot_ms: seq * 1_000,
            clock: CLOCK,
            values: vec![Some(1)],
        };
        let row = row.sign(&|message| signature(&origin, message));
        let note = work(&store, me, Job::Live(Arc::new(row.clone())));
        let Outcome::Live { outcome, .. } = note.outcome else {
            panic!("{note:?}");
        };
        assert_eq!((outcome, note.charge), (Live::New, None));
        // What it grew from most likely is known without a look at the disk.
        let mut next = row.row;
        (next.seq, next.schema) = (next.seq + 1, unknown);
        let next = next.sign(&|message| signature(&origin, message));
        let note = work(&store, me, Job::Live(Arc::new(next)));
        let Outcome::Live { outcome, .. } = note.outcome else {
            panic!("{note:?}");
        };
        let known = Some(hash);
        assert_eq!(
            outcome,
            Live::Unknown {
                hash: unknown,
                known
            }
        );
    }
    assert!(store.stats().health.contains("has not answered"));
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
        let store = Store::open(config(dir.path()), keys()).unwrap();
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
            clock: CLOCK,
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

const CLOCK: Clock = Clock {
    offset_ms: 0,
    uncertainty_ms: 0,
    source: ClockSource::Ntp,
};

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_owned(),
        limit_bytes: 64 << 20,
        sync_every: Duration::from_secs(1),
        check: None,
    }
}

fn keys() -> Keys {
    Keys {
        origin: Origin([1; 32]),
        sign: Box::new(|message| signature(&Origin([1; 32]), message)),
        verify: Box::new(|origin, message, signed| signature(origin, message) == *signed),
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
