//! The store over a simulated disk: the power fails anywhere, and nothing acknowledged is missing.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::rig::Rig;
use super::*;
use crate::engine::Engine;

const A_SECOND: Duration = Duration::from_secs(1);

/// With generations and packs of a few blocks each.
fn busy() -> Rig {
    let tuning = Tuning {
        generation_bytes: 16 << 10,
        pack_blocks: 4,
        packs_at_close: 0,
        flush_every: Duration::from_secs(20),
        segment_bytes: 16 << 10,
        ..tuning()
    };
    Rig {
        tuning,
        ..Rig::new()
    }
}

#[test]
fn rows_and_blocks_over_a_simulated_disk_are_the_same_after_closing_and_opening() {
    let mut rig = Rig::new();
    let store = rig.open();
    let log = store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    for seq in 1..=150 {
        append_own(&store, schema, seq);
        rig.step(&store, A_SECOND);
        assert_eq!(store.synced(), Some((log, seq)));
    }
    let before = (store.held(), store.tally());
    store.close().unwrap();
    let store = rig.open();
    assert_eq!((store.held(), store.tally()), before);
    assert_eq!(before.1[0].rows, 150);
}

/// What a power cut must leave.
#[derive(Default)]
struct Promised {
    synced: BTreeMap<LogId, Seq>,
    epochs: std::collections::BTreeSet<LogId>,
}

#[test]
fn whenever_the_power_fails_what_was_synced_is_there_and_no_identity_is_used_twice() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = Rig::new();
        let mut promised = Promised::default();
        for _ in 0..rng.random_range(2..6) {
            let store = rig.open();
            for (log, seq) in &promised.synced {
                assert!(store.holds(log, 1..=*seq), "seed {seed}: {log:?} to {seq}");
                assert!(
                    store.schema(&delta().hash()).is_some(),
                    "seed {seed}: a row without its schema"
                );
            }
            let tally = store.tally();
            for (log, seq) in &promised.synced {
                let rows = tally.iter().find(|tally| tally.log == *log).unwrap().rows;
                assert!(rows >= u64::from(*seq), "seed {seed}: can be read");
            }
            let log = store.begin_epoch().unwrap();
            assert!(
                promised.epochs.insert(log),
                "seed {seed}: {log:?} came twice"
            );
            for old in store.held_of(&ME).keys() {
                store.seal_closed(old);
            }
            let schema = define(&store, ME);
            for seq in 1..=rng.random_range(1..300) {
                append_own(&store, schema, seq);
                if rng.random_bool(0.8) {
                    rig.step(&store, A_SECOND);
                }
            }
            promised.synced.extend(store.synced());
            drop(store);
            rig.disk.power_cut(&mut rng);
        }
    }
}

/// `SEEDS` for more than a common run has.
#[test]
fn whenever_the_power_fails_blocks_that_wait_or_are_packed_are_there_in_every_generation() {
    let seeds = std::env::var("SEEDS").ok();
    let seeds = seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let blocks = noisy_blocks(PEER, 60);
    let peer = row(PEER, 1, 0).row.log;
    let (mut generations, mut cuts) = (0, 0);
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = busy();
        let (mut rows, mut flushed) = (BTreeMap::new(), 0);
        for _ in 0..rng.random_range(2..6) {
            let store = rig.open();
            for (log, last) in &rows {
                assert_eq!(read_of(&store, log, *last), *last, "seed {seed}: {log:?}");
            }
            let there = read_of(&store, &peer, flushed as Seq * 60);
            assert_eq!(there, flushed as Seq * 60, "seed {seed}");
            assert_eq!(store.stats().quarantined, [], "seed {seed}");
            store.begin_epoch().unwrap();
            let schema = define(&store, ME);
            let mut seq = 0;
            for (at, block) in blocks.iter().enumerate().skip(flushed) {
                store.insert_block(block).unwrap();
                for _ in 0..rng.random_range(0..12) {
                    seq += 1;
                    append_own(&store, schema, seq);
                    rig.step(&store, A_SECOND);
                }
                if rng.random_bool(0.4) {
                    store.flush().unwrap();
                    flushed = at + 1;
                }
                if rng.random_bool(0.05) {
                    break;
                }
            }
            rows.extend(store.synced());
            generations = generations.max(store.stats().generations);
            drop(store);
            rig.disk.power_cut(&mut rng);
            cuts += 1;
        }
    }
    println!("{seeds} seeds, {cuts} cuts, {generations} generations at most");
    assert!(generations > 4);
}

/// Others are told at once that it is held, and may let go of theirs.
#[test]
fn a_block_that_came_whole_survives_a_power_cut_within_a_minute() {
    let mut rig = Rig::new();
    let store = rig.open();
    define(&store, PEER);
    store.insert_block(&noisy_blocks(PEER, 1)[0]).unwrap();
    (0..50).for_each(|_| rig.step(&store, A_SECOND));
    drop(store);
    rig.disk.power_cut(&mut ChaCha8Rng::seed_from_u64(1));
    let log = row(PEER, 1, 0).row.log;
    assert!(rig.open().holds(&log, 1..=60));
}

#[test]
fn a_generation_whose_day_ended_while_nobody_ran_is_packed_at_the_next_start() {
    let mut rig = Rig::new();
    let store = rig.open();
    define(&store, PEER);
    for block in &noisy_blocks(PEER, 10) {
        store.insert_block(block).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(alone_in(&store, 1), 10);
    drop(store);
    rig.now += Duration::from_secs(25 * 3_600);
    let store = rig.open();
    assert_eq!(alone_in(&store, 1), 0);
    let log = row(PEER, 1, 0).row.log;
    assert_eq!(read_of(&store, &log, 600), 600);
}

#[test]
fn a_closed_generation_of_many_logs_is_packed_to_the_end_also_after_a_start() {
    let mut rig = Rig::new();
    let store = rig.open();
    for of in 10..40 {
        define(&store, Origin([of; 32]));
        insert_all(&store, &blocks_of(Origin([of; 32]), 3));
    }
    store.flush().unwrap();
    assert_eq!(alone_in(&store, 1), 90);
    rig.step(&store, Duration::from_secs(25 * 3_600));
    define(&store, PEER);
    // The first block finds that its day has ended, the second begins another.
    for block in blocks_of(PEER, 2) {
        insert_all(&store, &[block]);
        store.flush().unwrap();
    }
    let left = alone_in(&store, 1);
    assert!((2..90).contains(&left), "{left} are left");
    rig.step(&store, Duration::from_secs(30));
    assert!((2..left).contains(&alone_in(&store, 1)));
    drop(store);
    let store = rig.open();
    for _ in 0..10 {
        rig.step(&store, Duration::from_secs(30));
    }
    assert_eq!(alone_in(&store, 1), 1, "one of a log makes no pack");
    for of in 10..40 {
        let log = row(Origin([of; 32]), 1, 0).row.log;
        assert_eq!(read_of(&store, &log, 180), 180);
    }
}

#[test]
fn a_generation_that_went_does_not_come_back_when_the_power_fails() {
    for seed in 0..20 {
        let mut rig = Rig::new();
        let store = rig.open();
        define(&store, PEER);
        insert_all(&store, &blocks_of(PEER, 2));
        store.flush().unwrap();
        store.shared.shelf.remove(1).unwrap();
        drop(store);
        rig.disk.power_cut(&mut ChaCha8Rng::seed_from_u64(seed));
        assert!(!rig.has("copies-000001"), "seed {seed}");
    }
}

/// How many blocks of a generation are in no pack.
fn alone_in(store: &Store, generation: u32) -> u32 {
    let count = |engine: &mut Engine| {
        let mut alone = 0;
        engine.scan(|_, _| alone += 1)?;
        Ok(alone)
    };
    store.shared.shelf.read(generation, count).unwrap()
}

/// How many rows of a log up to `last` can be read.
fn read_of(store: &Store, log: &LogId, last: Seq) -> Seq {
    if last == 0 {
        return 0;
    }
    let parcels = store.export(log, 1..=last, usize::MAX).unwrap();
    let rows = parcels.iter().map(|parcel| match parcel {
        Parcel::Row(_) => 1,
        Parcel::Block(bytes) => {
            let head = Block::decode(bytes, &verify).unwrap().head().clone();
            head.last().min(last) - head.first + 1
        }
    });
    rows.sum()
}

#[test]
fn bits_that_rot_never_become_values_and_never_keep_the_store_from_starting() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = Rig::new();
        let store = rig.open();
        let log = store.begin_epoch().unwrap();
        let schema = define(&store, ME);
        (1..=200).for_each(|seq| drop(append_own(&store, schema, seq)));
        store.close().unwrap();
        for _ in 0..8 {
            rig.disk.rot(&mut rng);
            let store = rig.open();
            for parcel in store.export(&log, 1..=200, usize::MAX).unwrap() {
                let rows = match parcel {
                    Parcel::Row(bytes) => vec![SignedRow::decode(&bytes).unwrap().row],
                    Parcel::Block(bytes) => Block::decode(&bytes, &verify).unwrap().rows(),
                };
                for row in rows {
                    assert_eq!(row.values, values(row.seq), "seed {seed}");
                }
            }
            store.close().unwrap();
        }
    }
}

#[test]
fn a_full_disk_and_one_that_stalls_keep_rows_in_memory_until_they_answer() {
    let mut rig = Rig::new();
    let store = rig.open();
    let log = store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    let mut seq = 0;
    let mut run = |rig: &mut Rig, count| {
        for _ in 0..count {
            seq += 1;
            append_own(&store, schema, seq);
            rig.step(&store, A_SECOND);
        }
        seq
    };
    let before = run(&mut rig, 20);
    rig.disk.set_capacity(rig.disk.used_bytes());
    run(&mut rig, 100);
    let stats = store.stats();
    assert!(stats.health.contains("in memory only"), "{stats:?}");
    let (_, synced) = store.synced().unwrap();
    assert!(
        (before..before + 40).contains(&synced),
        "the last page had room for a few: {synced}"
    );
    rig.disk.set_capacity(1 << 30);
    rig.disk.stall(true);
    let stalled = run(&mut rig, 60);
    let stats = store.stats();
    assert!(stats.health.contains("has not answered"), "{stats:?}");
    rig.disk.stall(false);
    let last = run(&mut rig, 60);
    assert!(last > stalled);
    assert_eq!(
        (store.synced(), store.stats().health.as_str()),
        (Some((log, last)), "")
    );
    drop(store);
    rig.disk.power_cut(&mut ChaCha8Rng::seed_from_u64(1));
    assert!(rig.open().holds(&log, 1..=last));
}

/// Rows so wide that 200 of them fill the queue.
fn wide() -> (SchemaDelta, Vec<Option<i64>>) {
    let series = |at: i64| Series::new(format!("s{at}"), [], "", Kind::Gauge, 0).unwrap();
    let delta = SchemaDelta {
        parent: None,
        appended: (0..5_000).map(series).collect(),
    };
    (delta, (0..5_000).map(|at| Some(i64::MAX - at)).collect())
}

#[test]
fn rows_that_a_stalled_disk_pushed_out_of_the_queue_are_spooled_later_and_not_told_as_synced_before()
 {
    let mut rig = Rig::new();
    let store = rig.open();
    let log = store.begin_epoch().unwrap();
    let (delta, values) = wide();
    let schema = store.define(ME, delta).unwrap();
    let append = |count: u64| {
        for at in 0..count {
            store.append_own(at, CLOCK, schema, values.clone()).unwrap();
        }
    };
    append(1);
    rig.step(&store, A_SECOND);
    assert_eq!(store.synced(), Some((log, 1)));
    rig.disk.stall(true);
    append(250);
    rig.step(&store, A_SECOND);
    rig.disk.stall(false);
    // The writer's turn is not due: sealed rows that left the queue are in memory alone.
    rig.step(&store, A_SECOND);
    let image = rig.disk.image();
    image.power_cut(&mut ChaCha8Rng::seed_from_u64(1));
    let (_, synced) = store.synced().unwrap();
    assert!(synced < 251, "{synced}");
    for _ in 0..40 {
        rig.step(&store, A_SECOND);
    }
    assert_eq!(store.synced(), Some((log, 251)));
    rig.disk.power_cut(&mut ChaCha8Rng::seed_from_u64(2));
    assert!(rig.open().holds(&log, 1..=251));
    rig.disk = image;
    assert!(rig.open().holds(&log, 1..=synced));
}
