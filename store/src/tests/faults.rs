//! Disks that refuse, stall or come back late, and blocks that overlap: nothing good is given up.

use super::*;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::state::State;

/// Turns to a new generation after every flush.
fn turning() -> Tuning {
    Tuning {
        generation_bytes: 1,
        ..tuning()
    }
}

fn open_turning(dir: &Path) -> Store {
    let store = Store::open_tuned(config(dir), keys(ME), turning()).unwrap();
    wait_ready(&store);
    store
}

fn spooled(dir: &Path) -> usize {
    fs::read_dir(dir.join("spool")).unwrap().count()
}

#[test]
fn a_generation_that_fails_one_read_and_verifies_is_not_given_up() {
    let dir = TempDir::new().unwrap();
    let store = open_turning(dir.path());
    define(&store, PEER);
    insert_all(&store, &blocks_of(PEER, 3));
    store.flush().unwrap();
    // Somebody has it open: what a read left behind that hung.
    let stuck = Engine::open(&Disk::Real, &dir.path().join("copies-000001")).unwrap();
    let tally = store.tally();
    let stats = store.stats();
    assert_eq!((tally[0].rows, stats.rows, stats.damaged), (180, 180, 0));
    assert_eq!(stats.quarantined, []);
    drop(stuck);
    store.close().unwrap();
    assert_eq!(open(dir.path(), ME).tally(), tally);
}

#[test]
fn what_a_block_made_superfluous_leaves_the_spool_though_the_disk_refused_meanwhile() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    for seq in 1..=60 {
        store.append(row(PEER, seq, 0)).unwrap();
    }
    store.close().unwrap();
    let store = open(dir.path(), ME);
    let (spool, away) = (dir.path().join("spool"), dir.path().join("away"));
    fs::rename(&spool, &away).unwrap();
    store.append(row(PEER, 61, 0)).unwrap();
    insert_all(&store, &blocks_of(PEER, 1));
    store.flush().unwrap();
    assert!(store.sync().is_err(), "there is nowhere to write");
    assert!(store.stats().health.contains("in memory only"));
    fs::rename(&away, &spool).unwrap();
    store.sync().unwrap();
    assert_eq!(spooled(dir.path()), 1, "row 61 alone is needed");
}

#[test]
fn a_row_that_came_again_stays_in_the_spool_though_it_was_released_before() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.sync_every = Duration::from_secs(3_600);
    let store = Store::open_tuned(config, keys(ME), tuning()).unwrap();
    wait_ready(&store);
    define(&store, PEER);
    insert_all(&store, &blocks_of(PEER, 1));
    store.flush().unwrap();
    store.shared.set_aside(1, "for the test");
    store.append(row(PEER, 7, 0)).unwrap();
    store.close().unwrap();
    let store = open(dir.path(), ME);
    assert_eq!(store.stats().rows, 1);
}

#[test]
fn a_question_waits_for_the_generations_that_are_still_being_opened() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    insert_all(&store, &blocks_of(PEER, 2));
    let before = store.tally();
    store.close().unwrap();
    let mut config = config(dir.path());
    config.check = Some(Box::new(|_| {
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }));
    let store = Store::open_tuned(config, keys(ME), tuning()).unwrap();
    assert!(!store.ready());
    let query = Query {
        origins: None,
        series: "c".to_owned(),
        from_ms: CLOCK.offset_ms,
        to_ms: CLOCK.offset_ms + 121_000,
        step: Step::Raw,
        now_ms: None,
    };
    let found = store.query(&query).unwrap();
    let points = found[0].points.iter().filter(|(_, value)| value.is_some());
    assert_eq!(points.count(), 120);
    assert_eq!(store.tally(), before);
}

#[test]
fn an_epoch_begins_though_its_number_cannot_be_written() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    let first = store.begin_epoch().unwrap();
    store.close().unwrap();
    fs::create_dir(dir.path().join("epoch.new")).unwrap();
    let store = open(dir.path(), ME);
    let second = store.begin_epoch().unwrap();
    assert!(second > first && second.epoch.nonce != first.epoch.nonce);
    assert!(
        store.stats().health.contains("epoch"),
        "{}",
        store.stats().health
    );
    fs::remove_dir(dir.path().join("epoch.new")).unwrap();
    assert!(store.begin_epoch().unwrap() > second);
    assert_eq!(store.stats().health, "");
}

#[test]
fn generations_turn_and_all_of_them_open_again_in_whatever_order_blocks_came() {
    let dir = TempDir::new().unwrap();
    let store = open_turning(dir.path());
    define(&store, PEER);
    let blocks = blocks_of(PEER, 12);
    for block in blocks.iter().rev() {
        assert_eq!(store.insert_block(block).unwrap(), Appended::New);
        store.flush().unwrap();
    }
    assert_eq!(store.stats().generations, 12);
    let before = store.tally();
    assert_eq!(before[0].rows, 720);
    store.close().unwrap();
    let store = open_turning(dir.path());
    assert_eq!(store.tally(), before);
    insert_all(&store, &[blocks_of(PEER, 13).pop().unwrap()]);
    store.flush().unwrap();
    assert_eq!((store.stats().generations, store.stats().rows), (13, 780));
}

#[test]
fn a_generation_turns_at_its_age() {
    let dir = TempDir::new().unwrap();
    let aged = Tuning {
        generation_age: Duration::ZERO,
        ..tuning()
    };
    let store = Store::open_tuned(config(dir.path()), keys(ME), aged).unwrap();
    wait_ready(&store);
    define(&store, PEER);
    for block in blocks_of(PEER, 3) {
        store.insert_block(&block).unwrap();
        store.flush().unwrap();
    }
    assert_eq!((store.stats().generations, store.stats().rows), (3, 180));
}

#[test]
fn a_disk_that_does_not_answer_the_spool_is_named_after_ten_seconds() {
    let now = Instant::now();
    let mut state = State {
        spooling: Some(now),
        ..Default::default()
    };
    assert_eq!(state.hung(now + Duration::from_secs(9)), None);
    let named = state.hung(now + Duration::from_secs(12)).unwrap();
    assert!(named.ends_with("has not answered for 12 s"), "{named}");
    state.spooling = None;
    assert_eq!(state.hung(now + Duration::from_secs(99)), None);
}

/// An origin that lost a sealed run and got other rows back seals a run that overlaps it.
#[test]
fn two_runs_that_share_rows_are_both_held_whichever_came_first() {
    let rows: Vec<Row> = (1..=60).map(|seq| row(PEER, seq, 5).row).collect();
    let block = |run: &[Row]| Draft::build(run).unwrap().seal(&sign(PEER)).encode();
    let (low, high) = (block(&rows[..10]), block(&rows[4..20]));
    let mut digests = Vec::new();
    for pair in [[&low, &high], [&high, &low]] {
        let dir = TempDir::new().unwrap();
        let store = open_turning(dir.path());
        define(&store, PEER);
        for bytes in pair {
            assert_eq!(store.insert_block(bytes).unwrap(), Appended::New);
            store.flush().unwrap();
        }
        assert_eq!(store.insert_block(pair[0]).unwrap(), Appended::Known);
        let tally = store.tally();
        assert_eq!((tally[0].rows, store.stats().conflicts), (20, 0));
        assert!(store.held()[&rows[0].log].covers(1..=20));
        store.close().unwrap();
        let store = open_turning(dir.path());
        assert_eq!(store.tally(), tally);
        digests.push(tally[0].digest);
        // One of the two goes: what only it had goes with it.
        store.shared.set_aside(2, "for the test");
        let left = if pair[0] == &low { 10 } else { 16 };
        assert_eq!(store.stats().rows, left);
        let whole = block(&rows);
        assert_eq!(store.insert_block(&whole).unwrap(), Appended::New);
        assert_eq!(store.tally()[0].rows, 60);
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn what_a_full_generation_left_unpacked_is_packed_in_later_turns() {
    let dir = TempDir::new().unwrap();
    // One batch, so one generation.
    let tuning = Tuning {
        flush_every: Duration::from_secs(3_600),
        ..turning()
    };
    let store = Store::open_tuned(config(dir.path()), keys(ME), tuning).unwrap();
    wait_ready(&store);
    let origins = (10..34).map(|of| Origin([of; 32]));
    for origin in origins.clone() {
        define(&store, origin);
        insert_all(&store, &blocks_of(origin, 2));
    }
    store.flush().unwrap();
    let alone = || {
        let generation = store.shared.shelf.numbers().unwrap()[0];
        let count = |engine: &mut Engine| {
            let mut alone = 0;
            engine.scan(|_, _| alone += 1)?;
            Ok(alone)
        };
        store.shared.shelf.read(generation, count).unwrap()
    };
    let first: u32 = alone();
    assert!(first > 0, "more than one turn's worth");
    for _ in 0..6 {
        store.flush().unwrap();
    }
    assert_eq!(alone(), 0);
    for origin in origins {
        let log = row(origin, 1, 0).row.log;
        let parcels = store.export(&log, 1..=120, usize::MAX).unwrap();
        assert!(!parcels.is_empty() && store.holds(&log, 1..=120));
    }
}
