//! How fast one store takes rows and answers: samples a second of processor time, all threads together, and questions in ms.
//!
//! Its own rows are signed, sealed, packed and written, a looped day of the recording; rows of 200 others have their
//! signatures checked. Each question is put nine times, the first of them to blocks nobody has read yet.
//! Absent: the network, the page, and a disk that is slow.

use std::time::Instant;

use ed25519_dalek::{Signer, SigningKey};
use outlast_store::{
    Clock, ClockSource, Epoch, LogId, Origin, Query, Row, SchemaDelta, SignedRow, Step, Store,
    StoreId,
};
use outlast_tests::Usage;
use outlast_tests::recording::Tick;

use crate::disk::{self, DAY, PLAYED_AT_MS};
use crate::figures::{Figures, heads};

/// Other nodes whose rows are kept.
const OTHERS: u8 = 200;

/// Rows of each.
const ROWS: u32 = 120;

/// How often a question is put.
const ASKED: usize = 9;

pub(crate) fn measure() {
    let ticks = disk::recorded();
    println!("{}", heads("speed of a store"));
    own(&ticks);
    others(&ticks);
}

/// A day of a node's own rows, and questions to it.
fn own(ticks: &[Tick]) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (store, origin) = disk::open(dir.path(), 7);
    let began = cpu_s();
    let samples = disk::play(&store, ticks, DAY);
    taken("own rows: signed, sealed, packed, written", samples, began);

    let end = PLAYED_AT_MS + i64::try_from(DAY).expect("a day") * 1_000;
    let middle = PLAYED_AT_MS + (end - PLAYED_AT_MS) / 2;
    for (name, series, from_ms, to_ms) in [
        ("one series over a day", "node_load1", PLAYED_AT_MS, end),
        ("all series, a minute of it", "*", middle, middle + 60_000),
        ("all series, the last minute", "*", end - 60_000, end),
    ] {
        let query = Query {
            origins: Some([origin].into()),
            series: series.to_owned(),
            from_ms,
            to_ms,
            step: Step::Raw,
            now_ms: None,
        };
        asked(name, || {
            let answer = store.query(&query).expect("an answer");
            answer.iter().map(|line| line.points.len()).sum()
        });
    }
    store.close().expect("close the store");
}

/// Two minutes of rows of many others, and what each sent last.
fn others(ticks: &[Tick]) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (store, _) = disk::open(dir.path(), 7);
    let keys: Vec<_> = (0..OTHERS)
        .map(|number| SigningKey::from_bytes(&[number + 10; 32]))
        .collect();
    let rows: Vec<_> = keys
        .iter()
        .flat_map(|key| rows_of(&store, key, ticks))
        .collect();
    let samples = rows.iter().map(|row| row.row.samples()).sum();
    let began = cpu_s();
    for row in rows {
        store.append(row).expect("append a row");
    }
    store.flush().expect("what is sealed reaches the disk");
    taken("others' rows: checked and written", samples, began);

    let origins: Vec<_> = keys
        .iter()
        .map(|key| Origin(key.verifying_key().to_bytes()))
        .collect();
    asked("the last values of 200 nodes", || latest(&store, &origins));
    store.close().expect("close the store");
    let (store, _) = disk::open(dir.path(), 7);
    asked("the same, opened anew", || latest(&store, &origins));
    store.close().expect("close the store");
}

/// The first rows of the recording as another node's.
fn rows_of(store: &Store, key: &SigningKey, ticks: &[Tick]) -> Vec<SignedRow> {
    let log = LogId {
        origin: Origin(key.verifying_key().to_bytes()),
        store: StoreId(1),
        epoch: Epoch {
            counter: 1,
            nonce: 1,
        },
    };
    let delta = SchemaDelta {
        parent: None,
        appended: ticks[0].appended.clone(),
    };
    let schema = store.define(log.origin, delta).expect("define the schema");
    let clock = Clock {
        offset_ms: PLAYED_AT_MS,
        uncertainty_ms: 1,
        source: ClockSource::Ntp,
    };
    (1..=ROWS)
        .zip(ticks)
        .map(|(seq, tick)| {
            let mut values = tick.values.clone();
            values.truncate(ticks[0].appended.len());
            Row {
                log,
                seq,
                schema,
                boot_ms: u64::from(seq) * 1_000,
                clock,
                values,
            }
            .sign(&|message| key.sign(message).to_bytes())
        })
        .collect()
}

/// Values of the last row of each.
fn latest(store: &Store, origins: &[Origin]) -> usize {
    let rows = origins
        .iter()
        .map(|origin| store.latest(origin).expect("a last row"));
    rows.map(|row| row.row.samples()).sum()
}

/// Puts a question so often and prints how long the answers took.
fn asked(name: &str, mut question: impl FnMut() -> usize) {
    let mut count = 0;
    let took = Figures::of((0..ASKED).map(|_| {
        let began = Instant::now();
        count = question();
        began.elapsed().as_secs_f64() * 1e3
    }));
    let name = format!("{name}, {count} values: ms");
    println!("{name:54} {took:.2}");
}

fn taken(name: &str, samples: usize, began_s: f64) {
    let rate = samples as f64 / (cpu_s() - began_s) / 1e6;
    println!("{name:54} {rate:>14.2} million samples/s of a core");
}

/// Processor time of this process so far.
fn cpu_s() -> f64 {
    Usage::of(std::process::id()).cpu_s
}
