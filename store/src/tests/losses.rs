//! What a store loses by mischance, and what it lets go to make room in memory: each has its reason, and what was lost
//! stays welcome.

use super::rig::Rig;
use super::*;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::shelf::locked;
use crate::state::{State, TAIL_BYTES, TAIL_BYTES_OF_ONE};

const AN_HOUR: Duration = Duration::from_secs(3_600);

fn lost(
    log: LogId,
    rows: std::ops::RangeInclusive<Seq>,
    reason: Reason,
) -> BTreeMap<LogId, BTreeMap<Reason, IntervalSet>> {
    [(log, [(reason, [rows].into_iter().collect())].into())].into()
}

#[test]
fn rows_of_a_damaged_generation_are_gone_as_damaged_over_a_restart_until_somebody_brings_them() {
    let mut rig = Rig::new();
    let store = rig.open();
    define(&store, PEER);
    let blocks = blocks_of(PEER, 2);
    insert_all(&store, &blocks);
    store.flush().unwrap();
    let log = row(PEER, 1, 0).row.log;
    store.shared.set_aside(1, "for the test");
    assert_eq!(store.lost(), lost(log, 1..=120, Reason::Damaged));
    assert_eq!(
        store.gone(),
        BTreeMap::new(),
        "they are still asked for where they are"
    );
    rig.step(&store, Duration::from_secs(30));
    drop(store);
    let store = rig.open();
    assert_eq!(store.lost(), lost(log, 1..=120, Reason::Damaged));
    assert_eq!(store.stats().gone_rows, [(Reason::Damaged, 120)].into());
    assert_eq!(store.insert_block(&blocks[0]).unwrap(), Appended::New);
    assert_eq!(store.append(row(PEER, 61, 0)).unwrap(), Appended::New);
    assert_eq!(store.lost(), lost(log, 62..=120, Reason::Damaged));
    rig.step(&store, Duration::from_secs(30));
    store.close().unwrap();
    assert_eq!(rig.open().stats().gone_rows, [(Reason::Damaged, 59)].into());
}

#[test]
fn rows_of_an_earlier_run_that_nobody_gave_back_are_gone_as_unwritten() {
    let mut rig = Rig::new();
    let store = rig.open();
    let log = store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    let mut rows = Vec::new();
    for seq in 1..=20 {
        rows.push(append_own(&store, schema, seq).0);
        if seq == 5 {
            rig.step(&store, Duration::from_secs(1));
        }
    }
    drop(store);
    rig.disk
        .power_cut(&mut <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(1));
    let store = rig.open();
    assert!(store.holds(&log, 1..=5) && !store.holds(&log, 9..=9));
    store.begin_epoch().unwrap();
    define(&store, ME);
    // A peer had heard the newest of them.
    for row in &rows[14..] {
        store.append(row.clone()).unwrap();
    }
    store.seal_closed(&log);
    let unwritten = lost(log, 6..=14, Reason::Unwritten);
    assert_eq!(store.lost(), unwritten);
    rig.step(&store, Duration::from_secs(30));
    store.close().unwrap();
    let store = rig.open();
    assert_eq!(store.lost(), unwritten);
    assert_eq!(store.append(rows[7].clone()).unwrap(), Appended::New);
    assert_eq!(store.stats().gone_rows, [(Reason::Unwritten, 8)].into());
}

#[test]
fn only_damage_to_own_rows_in_this_run_makes_damaged_of_what_was_never_written() {
    for (broken, in_this_run, reason) in [
        (None, true, Reason::Unwritten),
        (Some(PEER), true, Reason::Unwritten),
        (Some(ME), false, Reason::Unwritten),
        (Some(ME), true, Reason::Damaged),
    ] {
        let mut rig = Rig::new();
        let store = rig.open();
        define(&store, PEER);
        define(&store, ME);
        for origin in [PEER, ME] {
            insert_all(&store, &blocks_of(origin, 1));
            store.flush().unwrap();
        }
        let generation = |store: &Store, origin| {
            let generations = store.shared.shelf.numbers().unwrap();
            let holds = |number: &u32| !store.shared.state().blocks_of(*number).is_empty();
            let of = |number: &u32| store.shared.state().blocks_of(*number)[0].log.origin == origin;
            generations
                .into_iter()
                .find(|number| holds(number) && of(number))
                .unwrap()
        };
        if let Some(broken) = broken.filter(|_| !in_this_run) {
            store
                .shared
                .set_aside(generation(&store, broken), "for the test");
            rig.step(&store, Duration::from_secs(30));
        }
        let log = store.begin_epoch().unwrap();
        let rows: Vec<_> = (1..=20)
            .map(|seq| append_own(&store, delta().hash(), seq).0)
            .collect();
        drop(store);
        let store = rig.open();
        if let Some(broken) = broken.filter(|_| in_this_run) {
            store
                .shared
                .set_aside(generation(&store, broken), "for the test");
        }
        store.begin_epoch().unwrap();
        store.append(rows[19].clone()).unwrap();
        store.seal_closed(&log);
        let lost: Vec<_> = store.lost()[&log].keys().copied().collect();
        assert_eq!(lost, [reason], "{broken:?}, in this run: {in_this_run}");
    }
}

/// A row of 40 KB.
fn wide(origin: Origin, seq: Seq, schema: SchemaHash) -> SignedRow {
    let row = Row {
        schema,
        values: vec![Some(i64::MAX); 4_000],
        ..row(origin, seq, 0).row
    };
    row.sign(&sign(origin))
}

#[test]
fn rows_of_origins_that_died_before_sealing_make_room_in_the_tail_for_the_living() {
    let mut rig = Rig::new();
    let store = rig.open();
    let series = |at: usize| Series::new(format!("s{at}"), [], "", Kind::Gauge, 0).unwrap();
    let delta = SchemaDelta {
        parent: None,
        appended: (0..4_000).map(series).collect(),
    };
    let dead = |number: usize| Origin([100 + number as u8; 32]);
    let alive = Origin([99; 32]);
    let schema = store.define(alive, delta).unwrap();
    let row_bytes = wide(alive, 1, schema).encode().len();
    let of_one = TAIL_BYTES_OF_ONE / row_bytes;
    for number in 0..5 {
        for seq in 1..=of_one as Seq {
            match store.append(wide(dead(number), seq, schema)) {
                Ok(appended) => assert_eq!(appended, Appended::New),
                Err(e) => assert!(matches!(e, StoreError::Busy { .. }), "{e}"),
            }
        }
        rig.step(&store, Duration::from_secs(1));
    }
    let full = store.append(wide(alive, 1, schema));
    assert!(matches!(full, Err(StoreError::Busy { .. })), "{full:?}");
    rig.step(&store, AN_HOUR);
    assert_eq!(store.append(wide(alive, 1, schema)).unwrap(), Appended::New);
    let gone: Vec<Origin> = store.gone().keys().map(|log| log.origin).collect();
    assert_eq!(
        gone,
        [dead(0)],
        "the oldest first, and no more than it takes"
    );
    let went = store.stats().gone_rows[&Reason::Budget];
    assert_eq!(went, 60, "one window");
    assert_eq!(
        store.append(wide(dead(0), 1, schema)).unwrap(),
        Appended::Known
    );
    assert!(store.shared.state().tail_bytes <= TAIL_BYTES);
    rig.step(&store, Duration::from_secs(30));
    drop(store);
    let store = rig.open();
    assert_eq!(store.stats().gone_rows[&Reason::Budget], went);
}

#[test]
fn a_flood_of_unsealed_rows_takes_no_place_from_one_that_died_with_less() {
    let mut rig = Rig::new();
    let store = rig.open();
    define(&store, PEER);
    let died = row(PEER, 1, 0);
    assert_eq!(store.append(died.clone()).unwrap(), Appended::New);
    rig.step(&store, AN_HOUR);
    let series = |at: usize| Series::new(format!("s{at}"), [], "", Kind::Gauge, 0).unwrap();
    let delta = SchemaDelta {
        parent: None,
        appended: (0..4_000).map(series).collect(),
    };
    let flooding = |number: usize| Origin([100 + number as u8; 32]);
    let wide_schema = store.define(flooding(0), delta).unwrap();
    let of_one = TAIL_BYTES_OF_ONE / wide(flooding(0), 1, wide_schema).encode().len();
    // One that has nothing here yet is refused as well.
    let mut refused = 0;
    for (number, seq) in (0..6).flat_map(|number| (1..=of_one as Seq).map(move |seq| (number, seq)))
    {
        match store.append(wide(flooding(number), seq, wide_schema)) {
            Ok(appended) => assert_eq!(appended, Appended::New),
            Err(e) => {
                assert!(matches!(e, StoreError::Busy { .. }), "{e}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "the tail was full");
    assert!(store.holds(&died.row.log, 1..=1));
    assert_eq!(store.gone(), BTreeMap::new());
}

#[test]
fn a_log_that_is_all_holes_is_refused_beyond_a_bound_and_what_fills_them_is_not() {
    let mut rig = Rig::new();
    let store = rig.open();
    define(&store, PEER);
    let refused = (1..).find(|at| store.append(row(PEER, 2 * at, 0)).is_err());
    assert_eq!(refused, Some(4_097));
    let error = store.append(row(PEER, 8_194, 0)).unwrap_err();
    assert!(
        matches!(error, StoreError::OverLimit { what: "holes", .. }),
        "{error}"
    );
    assert_eq!(store.append(row(PEER, 3, 0)).unwrap(), Appended::New);
    assert_eq!(store.append(row(PEER, 8_194, 0)).unwrap(), Appended::New);
}

#[test]
fn the_ballast_goes_when_the_disk_is_full_and_is_made_again_when_it_has_plenty() {
    let mut rig = Rig::new();
    rig.limit_bytes = 256 << 20;
    let store = rig.open();
    assert!(rig.has("ballast"), "made at open");
    assert!(store.stats().bytes >= 16 << 20, "it counts as the store's");
    let schema = define(&store, ME);
    store.begin_epoch().unwrap();
    rig.disk.set_capacity(rig.disk.used_bytes() + (4 << 20));
    for seq in 1..=60 {
        append_own(&store, schema, seq);
    }
    // Whether there was room for the blocks or not.
    let _ = store.flush();
    assert!(!rig.has("ballast"), "freed: less than 8 MB were left");
    drop(store);
    // On a disk as full as that it opens, and all is there.
    let store = rig.open();
    assert!(!rig.has("ballast"));
    assert_eq!(store.stats().rows, 60);
    rig.disk.set_capacity(1 << 30);
    store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    for seq in 1..=60 {
        append_own(&store, schema, seq);
    }
    store.flush().unwrap();
    assert!(rig.has("ballast"), "there is plenty again");
}

#[test]
fn a_small_store_has_no_ballast() {
    let mut rig = Rig::new();
    drop(rig.open());
    assert!(!rig.has("ballast"));
}

/// On a disk with no room for rows what was given up is asked of peers again.
#[test]
fn an_own_block_that_a_peer_gives_back_costs_no_other_one() {
    let disk = SimDisk::new(1 << 30);
    let now = Instant::now();
    let config = config(Path::new("/store"));
    let store = Store::simulated(disk.clone(), config, keys(ME), now, 3).unwrap();
    let log = store.begin_epoch().unwrap();
    let series = |at: i64| Series::new(format!("s{at}"), [], "", Kind::Gauge, 0).unwrap();
    let appended = (0..3_000).map(series).collect();
    let parent = None;
    let schema = store.define(ME, SchemaDelta { parent, appended });
    disk.set_capacity(disk.used_bytes() + (1 << 20));
    store.step(now + Duration::from_secs(1));
    let mut blocks = Vec::new();
    for seq in 1..=60 * 10 {
        let values = (0..1_000).flat_map(|at| noise(seq * 1_000 + at)).collect();
        let (schema, boot_ms) = (*schema.as_ref().unwrap(), u64::from(seq) * 1_000);
        store.append_own(boot_ms, CLOCK, schema, values).unwrap();
        if seq % 60 == 0 {
            let parcels = store.export(&log, seq - 59..=seq, usize::MAX).unwrap();
            let [Parcel::Block(bytes)] = &parcels[..] else {
                panic!("a sealed window")
            };
            blocks.push(bytes.clone());
        }
    }
    let held = store.held_of(&ME);
    let lost = store.stats().lost;
    assert!((60..600).contains(&lost), "{lost} rows were given up");
    let mut refused = 0;
    for block in &blocks {
        match store.insert_block(block) {
            Ok(appended) => assert_eq!(appended, Appended::Known),
            Err(e) => {
                assert!(matches!(e, StoreError::Busy { .. }), "{e}");
                refused += 60;
            }
        }
    }
    assert_eq!(refused, lost, "what isn't here is what was given up");
    assert_eq!((store.held_of(&ME), store.stats().lost), (held, lost));
}

/// An origin that makes epochs by the thousand, each of which goes from here.
#[test]
fn what_went_of_thousands_of_logs_is_remembered_of_the_last_four_thousand() {
    let mut rig = Rig::new();
    let store = rig.open();
    let log = |counter| {
        let mut log = row(PEER, 1, 0).row.log;
        log.epoch.counter = counter;
        log
    };
    let rows: IntervalSet = [1..=60].into_iter().collect();
    let went = (1..=14_000).map(|counter| (log(counter), rows.clone()));
    let went: BTreeMap<LogId, IntervalSet> = went.collect();
    store.shared.state().went(&went);
    let mut gone = locked(&store.shared.gone);
    gone.add(&went, Reason::Budget).unwrap();
    drop(gone);
    let bytes = |rig: &Rig| {
        let disk = rig.disk();
        disk.read(Path::new("/store/gone")).unwrap().len()
    };
    assert!(bytes(&rig) > 1 << 20);
    for _ in 0..2 {
        rig.step(&store, Duration::from_secs(60));
    }
    assert!(bytes(&rig) < 512 << 10, "{}", bytes(&rig));
    let stats = store.stats();
    assert_eq!(stats.forgotten, 10_000);
    assert_eq!(stats.gone_rows, [(Reason::Budget, 4_000 * 60)].into());
    store.close().unwrap();
    let store = rig.open();
    let gone = store.gone();
    assert_eq!((gone.len(), gone.contains_key(&log(14_000))), (4_000, true));
    assert_eq!(store.stats().gone_rows, stats.gone_rows);
}

#[test]
fn an_id_the_disk_does_not_give_out_is_not_replaced_and_one_that_says_nothing_is() {
    let dir = TempDir::new().unwrap();
    let begin = || {
        let store = open(dir.path(), ME);
        let log = store.begin_epoch().unwrap();
        store.close().unwrap();
        log.store
    };
    let (first, id, away) = (begin(), dir.path().join("id"), dir.path().join("away"));
    fs::rename(&id, &away).unwrap();
    // Nobody can read it, and it can be replaced.
    std::os::unix::fs::symlink(&id, &id).unwrap();
    assert_ne!(begin(), first);
    assert!(id.is_symlink());
    fs::rename(&away, &id).unwrap();
    assert_eq!(begin(), first);
    fs::write(&id, b"").unwrap();
    let second = begin();
    assert_ne!(second, first);
    assert_eq!(begin(), second);
}

#[test]
fn a_row_from_the_future_is_not_the_newest_beside_another_store_s() {
    let now_ms = 1_700_000_000_000;
    let of_store = |store, offset_ms| {
        let mut row = row(PEER, 1, 0).row;
        row.log.store = StoreId(store);
        row.boot_ms = 0;
        row.clock.offset_ms = offset_ms;
        std::sync::Arc::new(row.sign(&sign(PEER)))
    };
    let ahead = of_store(1, now_ms + 30 * 86_400_000);
    let (before, live) = (of_store(2, now_ms - 5_000), of_store(3, now_ms));
    for order in [[&ahead, &before, &live], [&live, &ahead, &before]] {
        let mut state = State::default();
        order
            .into_iter()
            .for_each(|row| state.offer_latest(row, now_ms));
        assert_eq!(state.latest[&PEER], live);
    }
}

#[test]
fn blocks_that_became_a_pack_count_for_what_the_pack_takes_before_and_after_a_start() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    let blocks = blocks_of(PEER, 64);
    let before: usize = blocks.iter().map(|block| block.len() + 256).sum();
    insert_all(&store, &blocks);
    store.flush().unwrap();
    let loads = store.shared.shelf.loads(None);
    assert!(loads[&PEER] < before as u64 / 2, "{loads:?} of {before}");
    store.close().unwrap();
    let store = open(dir.path(), ME);
    assert_eq!(store.shared.shelf.loads(None), loads);
}

#[test]
fn a_generation_kept_apart_of_which_nothing_can_be_read_is_nobody_s() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    store.close().unwrap();
    let apart = dir.path().join("apart-000001");
    drop(Engine::open(&Disk::Real, &apart).unwrap());
    let store = open(dir.path(), ME);
    define(&store, PEER);
    insert_all(&store, &blocks_of(PEER, 2));
    store.flush().unwrap();
    assert!(dir.path().join("copies-000002").is_dir());
}
