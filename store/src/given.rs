//! Arbitrary but possible values for the tests of this crate: logs, schemas, rows, runs of rows, and a key to sign with.
//!
//! Absent: anything a release contains.

use crate::row::Row;
use crate::sample::{Clock, ClockSource, Epoch, LogId, Origin, Seq, StoreId};
use crate::series::{Kind, Schema, SchemaDelta, SchemaHash, Series};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

/// A stand-in for a signature: depends on every byte, and on the origin.
pub(crate) fn sign(origin: Origin) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| {
        let mut signature = [0; 64];
        blake3::Hasher::new_keyed(&origin.0)
            .update(message)
            .finalize_xof()
            .fill(&mut signature);
        signature
    }
}

/// Checks what `sign` made.
pub(crate) fn verify(origin: &Origin, message: &[u8], signature: &[u8; 64]) -> bool {
    sign(*origin)(message) == *signature
}

/// Turns one bit over.
pub(crate) fn flip(bytes: &mut [u8], bit: usize) {
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// A fixed log.
pub(crate) fn a_log() -> LogId {
    LogId {
        origin: Origin([7; 32]),
        store: StoreId(0x0102_0304_0506_0708),
        epoch: Epoch {
            counter: 3,
            nonce: 9,
        },
    }
}

/// A schema of gauges without labels.
pub(crate) fn a_schema(names: &[&str]) -> Arc<Schema> {
    let appended = names
        .iter()
        .map(|name| Series::new(*name, [], "", Kind::Gauge, 0).unwrap())
        .collect();
    Arc::new(
        Schema::extend(
            None,
            &SchemaDelta {
                parent: None,
                appended,
            },
        )
        .unwrap(),
    )
}

/// A row of `a_log` taken on second `seq` of a clock that started at 1,000,000 ms.
pub(crate) fn a_row(seq: Seq, schema: &Schema, values: &[Option<i64>]) -> Row {
    Row {
        log: a_log(),
        seq,
        schema: schema.hash,
        boot_ms: u64::from(seq) * 1_000,
        clock: Clock {
            offset_ms: 1_000_000,
            uncertainty_ms: 5,
            source: ClockSource::Ntp,
        },
        values: values.to_vec(),
    }
}

pub(crate) fn log() -> impl Strategy<Value = LogId> {
    (any::<[u8; 32]>(), any::<u64>(), any::<u32>(), any::<u64>()).prop_map(
        |(origin, store, counter, nonce)| LogId {
            origin: Origin(origin),
            store: StoreId(store),
            epoch: Epoch { counter, nonce },
        },
    )
}

pub(crate) fn clock() -> impl Strategy<Value = Clock> {
    let source = prop_oneof![
        Just(ClockSource::Unsynced),
        Just(ClockSource::Ntp),
        Just(ClockSource::Peers)
    ];
    (number(), any::<u32>(), source).prop_map(|(offset_ms, uncertainty_ms, source)| Clock {
        offset_ms,
        uncertainty_ms,
        source,
    })
}

/// Small, large and extreme.
pub(crate) fn number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -300i64..300, 2 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

/// Columns of so many entries: changing, constant and empty ones.
pub(crate) fn table(rows: usize) -> impl Strategy<Value = Vec<Vec<Option<i64>>>> {
    let value = prop_oneof![
        4 => (-1000i64..1000).prop_map(|v| Some(v * 4096)),
        2 => any::<i64>().prop_map(Some),
        1 => Just(None),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)].prop_map(Some),
    ];
    let column = prop_oneof![
        vec(value, rows),
        any::<i64>().prop_map(move |v| vec![Some(v); rows]),
        Just(vec![None; rows]),
    ];
    vec(column, 0..20)
}

pub(crate) fn values(width: usize) -> impl Strategy<Value = Vec<Option<i64>>> {
    vec(
        prop_oneof![3 => number().prop_map(Some), 1 => Just(None)],
        width,
    )
}

pub(crate) fn row() -> impl Strategy<Value = Row> {
    let values = (0usize..40).prop_flat_map(values);
    (
        log(),
        1u32..,
        any::<[u8; 32]>(),
        any::<u64>(),
        clock(),
        values,
    )
        .prop_map(|(log, seq, schema, boot_ms, clock, values)| Row {
            log,
            seq,
            schema: SchemaHash(schema),
            boot_ms,
            clock,
            values,
        })
}

/// Rows that can be a block: some keep their schema, clock and values from the row before.
pub(crate) fn run() -> impl Strategy<Value = Vec<Row>> {
    let changes = vec((row(), any::<[bool; 4]>(), -5i64..5), 60);
    (changes, 1u32..4_000_000, 1usize..=60).prop_map(|(changes, window, count)| {
        let start = (60 - count as u32) / 2;
        let mut rows: Vec<Row> = Vec::new();
        for ((fresh, keep, jitter), seq) in changes
            .into_iter()
            .zip(window * 60 + 1 + start..)
            .take(count)
        {
            let mut row = fresh;
            if let Some(last) = rows.last() {
                row.log = last.log;
                if keep[0] || keep[1] {
                    row.schema = last.schema;
                    row.values.resize(last.values.len(), None);
                }
                if keep[2] {
                    row.clock = last.clock;
                    row.boot_ms = last.boot_ms.wrapping_add_signed(1_000 + jitter);
                }
                if keep[0] && keep[3] {
                    row.values.clone_from(&last.values);
                }
            }
            row.seq = seq;
            rows.push(row);
        }
        rows
    })
}

/// Rows of one log without a hole, over several windows.
pub(crate) fn long_run() -> impl Strategy<Value = Vec<Row>> {
    vec(run(), 1..4).prop_map(|runs| {
        let mut rows: Vec<Row> = runs.concat();
        let (log, first) = (rows[0].log, rows[0].seq);
        for (row, seq) in rows.iter_mut().zip(first..) {
            (row.log, row.seq) = (log, seq);
        }
        // One schema has one number of values in a block, wherever the runs it came from were cut.
        for at in 1..rows.len() {
            if rows[at].schema == rows[at - 1].schema {
                let width = rows[at - 1].values.len();
                rows[at].values.resize(width, None);
            }
        }
        rows
    })
}

pub(crate) fn series() -> impl Strategy<Value = Series> {
    let labels = proptest::collection::btree_map("[a-z_][a-z0-9_]{0,5}", ".{0,12}", 0..4);
    let kind = prop_oneof![Just(Kind::Counter), Just(Kind::Gauge)];
    (
        "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
        labels,
        "[a-z]{0,8}",
        kind,
        -18i8..=18,
    )
        .prop_map(|(name, labels, unit, kind, exponent)| {
            Series::new(name, labels, unit, kind, exponent).unwrap()
        })
}

pub(crate) fn schema_delta() -> impl Strategy<Value = SchemaDelta> {
    (any::<Option<[u8; 32]>>(), vec(series(), 1..10)).prop_map(|(parent, appended)| SchemaDelta {
        parent: parent.map(SchemaHash),
        appended,
    })
}
