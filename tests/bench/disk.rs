//! Bytes a sample on disk: 45 recorded minutes of real rows fed to a store, as they are and looped
//! to a day, then the whole directory counted, indexes and slack included; and what that day costs:
//! bytes written (blocks are flushed every five minutes, as in life; the spool at speed, so that its page a
//! second isn't in it: see `written`), memory, and questions. After each the same samples in others' stores (`compare`).
//!
//! The looped day is the same 45 minutes 32 times. That favours who compresses more than 45 minutes of a series at once:
//! VictoriaMetrics has up to 8,192 samples in a block, our packs have two hours, each of which has the recording two or three
//! times. Prometheus' chunks of 120 samples don't see it. What is true without the loop, the shorter run says.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use outlast_store::{
    Clock, ClockSource, Keys, Origin, Query, SchemaDelta, Step, Store, StoreConfig,
};
use outlast_tests::recording::{self, Tick};

use crate::compare;

/// The wall time the recording is played at; any will do.
pub(crate) const PLAYED_AT_MS: i64 = 1_700_000_000_000;

/// Rows of a day.
pub(crate) const DAY: usize = 86_400;

pub(crate) fn measure() {
    let ticks = recorded();
    for rows in [ticks.len(), DAY] {
        let samples = loaded(&ticks, rows);
        compare::measure(&ticks, rows, samples);
    }
}

/// The recorded rows.
pub(crate) fn recorded() -> Vec<Tick> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/rows-45min.zst");
    recording::load(&file).expect("read the recorded rows")
}

/// Plays so many rows into a store, and prints what they take and cost. Returns how many samples those were.
fn loaded(ticks: &[Tick], rows: usize) -> usize {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (store, origin) = open(dir.path(), 7);

    let (began, wrote) = (Instant::now(), written_bytes());
    let samples = play(&store, ticks, rows);
    let took = began.elapsed().as_secs_f64();
    println!(
        "\ndisk: {rows} rows{}, {samples} samples, in {took:.1} s",
        if rows > ticks.len() {
            " (the recording looped)"
        } else {
            ""
        }
    );
    ask(&store, origin, rows);
    let resident = outlast_tests::Usage::of(std::process::id()).resident_bytes / 1_048_576.0;
    store.close().expect("close the store");
    let written = written_bytes() - wrote;

    let parts = on_disk(dir.path());
    let counted = |(name, _): &&(String, u64)| name != "ballast";
    let bytes: u64 = parts.iter().filter(counted).map(|(_, bytes)| bytes).sum();
    println!(
        "{:.3} B/sample, {bytes} B in all; the ballast, a constant, isn't counted",
        bytes as f64 / samples as f64,
    );
    println!(
        "{:.2} B/sample written, {:.1} times what is kept; {resident:.1} MiB resident at the end",
        written as f64 / samples as f64,
        written as f64 / bytes as f64,
    );
    for (name, bytes) in parts {
        println!("  {bytes:>9} B  {name}");
    }
    samples
}

/// A store of its own, ready, and whose it is.
pub(crate) fn open(dir: &Path, seed: u8) -> (Store, Origin) {
    open_synced(dir, seed, Duration::from_secs(1))
}

/// As `open`, with the spool synced so often.
pub(crate) fn open_synced(dir: &Path, seed: u8, sync_every: Duration) -> (Store, Origin) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let origin = Origin(key.verifying_key().to_bytes());
    let keys = Keys {
        origin,
        sign: Box::new(move |message| key.sign(message).to_bytes()),
        verify: Box::new(|origin, message, signature| {
            let signature = ed25519_dalek::Signature::from_bytes(signature);
            VerifyingKey::from_bytes(&origin.0)
                .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
        }),
    };
    let config = StoreConfig {
        dir: dir.to_owned(),
        limit_bytes: 1 << 30,
        sync_every,
        check: None,
    };
    let store = Store::open(config, keys).expect("open the store");
    while !store.ready() {
        std::thread::sleep(Duration::from_millis(10));
    }
    (store, origin)
}

/// Asks what people ask, and prints how long the answers took.
fn ask(store: &Store, origin: Origin, rows: usize) {
    let end = PLAYED_AT_MS + i64::from(u32::try_from(rows).expect("a day of rows")) * 1_000;
    let timed = |what: &str, series: &str, from_ms: i64, to_ms: i64| {
        let query = Query {
            origins: Some([origin].into()),
            series: series.to_owned(),
            from_ms,
            to_ms,
            step: Step::Raw,
            now_ms: None,
        };
        let began = Instant::now();
        let answer = store.query(&query).expect("an answer");
        let points: usize = answer.iter().map(|line| line.points.len()).sum();
        let took = began.elapsed().as_secs_f64();
        println!(
            "  {what}: {} series, {points} points in {:.0} ms, {:.1} million a second",
            answer.len(),
            took * 1e3,
            points as f64 / took / 1e6
        );
    };
    timed("one series, all of it", "node_load1", PLAYED_AT_MS, end);
    let middle = PLAYED_AT_MS + (end - PLAYED_AT_MS) / 2;
    timed("all series, a minute", "*", middle, middle + 60_000);
    timed("all series, the last minute", "*", end - 60_000, end);
}

/// What this process has had written to disks.
pub(crate) fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("what this process wrote");
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).expect("a number")
}

/// Appends ticks as this node's own rows, a second apart, and returns how many samples those were. What is sealed reaches the
/// disk as often as in life.
pub(crate) fn play(store: &Store, ticks: &[Tick], rows: usize) -> usize {
    paced(store, ticks, rows, |number| {
        if number % 300 == 299 {
            store.flush().expect("what is sealed reaches the disk");
        }
    })
}

/// As `play`; `after` is called with the number of each row.
pub(crate) fn paced(
    store: &Store,
    ticks: &[Tick],
    rows: usize,
    mut after: impl FnMut(usize),
) -> usize {
    let log = store.begin_epoch().expect("begin an epoch");
    let clock = Clock {
        offset_ms: PLAYED_AT_MS,
        uncertainty_ms: 1,
        source: ClockSource::Ntp,
    };
    let (mut schema, mut samples, mut series) = (None, 0, Vec::new());
    for (number, tick) in ticks.iter().cycle().take(rows).enumerate() {
        if number < ticks.len() && !tick.appended.is_empty() {
            let delta = SchemaDelta {
                parent: schema,
                appended: tick.appended.clone(),
            };
            series.extend(tick.appended.clone());
            schema = Some(store.define(log.origin, delta).expect("define the schema"));
        }
        // Looped, the first rows lack what was numbered later.
        let mut values = tick.values.clone();
        values.resize(series.len(), None);
        samples += values.iter().flatten().count();
        let schema = schema.expect("the first tick numbers its series");
        store
            .append_own(boot_ms(number, tick), clock, schema, values)
            .expect("append a row");
        after(number);
    }
    samples
}

/// When the row of this number is taken: a second after the one before, as jittered as it was.
pub(crate) fn boot_ms(number: usize, tick: &Tick) -> u64 {
    number as u64 * 1_000 + tick.boot_ms % 1_000
}

/// What each entry of a directory occupies with all that is below it, as `du` counts.
pub(crate) fn on_disk(dir: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(dir)
        .expect("the store's directory")
        .flatten();
    let mut parts: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let bytes = if entry.path().is_dir() {
                on_disk(&entry.path()).iter().map(|(_, bytes)| bytes).sum()
            } else {
                entry
                    .metadata()
                    .map_or(0, |metadata| metadata.blocks() * 512)
            };
            (name, bytes)
        })
        .collect();
    parts.sort();
    parts
}
