//! Bytes a sample on disk: 45 recorded minutes of real rows fed to a store at speed, then the
//! whole directory counted, indexes and slack included.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use outlast_store::{Clock, ClockSource, Keys, Origin, SchemaDelta, Store, StoreConfig};
use outlast_tests::recording::{self, Tick};

/// The wall time the recording is played at; any will do.
pub(crate) const PLAYED_AT_MS: i64 = 1_700_000_000_000;

pub(crate) fn measure() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/rows-45min.zst");
    let ticks = recording::load(&file).expect("read the recorded rows");
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (store, _origin) = open(dir.path(), 7);

    let began = Instant::now();
    let samples = play(&store, &ticks);
    let took = began.elapsed().as_secs_f64();
    store.close().expect("close the store");

    let parts = on_disk(dir.path());
    let counted = |(name, _): &&(String, u64)| name != "ballast";
    let bytes: u64 = parts.iter().filter(counted).map(|(_, bytes)| bytes).sum();
    let series = ticks.last().map_or(0, |tick| tick.values.len());
    println!(
        "\ndisk: {} rows of {series} series, {samples} samples, in {took:.1} s",
        ticks.len()
    );
    println!(
        "{:.3} B/sample, {bytes} B in all; the ballast, a constant, isn't counted",
        bytes as f64 / samples as f64,
    );
    for (name, bytes) in parts {
        println!("  {bytes:>9} B  {name}");
    }
}

/// A store of its own, ready, and whose it is.
pub(crate) fn open(dir: &Path, seed: u8) -> (Store, Origin) {
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
        sync_every: Duration::from_secs(1),
        check: None,
    };
    let store = Store::open(config, keys).expect("open the store");
    while !store.ready() {
        std::thread::sleep(Duration::from_millis(10));
    }
    (store, origin)
}

/// Appends every tick as this node's own row and returns how many samples those were.
fn play(store: &Store, ticks: &[Tick]) -> usize {
    let log = store.begin_epoch().expect("begin an epoch");
    let clock = Clock {
        offset_ms: PLAYED_AT_MS,
        uncertainty_ms: 1,
        source: ClockSource::Ntp,
    };
    let (mut schema, mut samples) = (None, 0);
    for tick in ticks {
        if !tick.appended.is_empty() {
            let delta = SchemaDelta {
                parent: schema,
                appended: tick.appended.clone(),
            };
            schema = Some(store.define(log.origin, delta).expect("define the schema"));
        }
        samples += tick.values.iter().flatten().count();
        let schema = schema.expect("the first tick numbers its series");
        store
            .append_own(tick.boot_ms, clock, schema, tick.values.clone())
            .expect("append a row");
    }
    samples
}

/// What each entry of a directory occupies with all that is below it, as `du` counts.
fn on_disk(dir: &Path) -> Vec<(String, u64)> {
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
