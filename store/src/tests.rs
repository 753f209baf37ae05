//! The store as a whole: what is held after closing, killing, damage and bounds, against what was put in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::config::Tuning;
use crate::given::{sign, verify};
use crate::*;

mod clocks;
mod contents;
mod crash;
mod faults;
mod forged;
mod format;
mod liar;
mod losses;
mod retention;
mod rig;
mod schemas;
mod simulated;
mod world;

use world::*;

const ME: Origin = Origin([1; 32]);
const PEER: Origin = Origin([2; 32]);
const CLOCK: Clock = Clock {
    offset_ms: 1_700_000_000_000,
    uncertainty_ms: 5,
    source: ClockSource::Ntp,
};

#[test]
fn rows_and_blocks_are_the_same_after_closing_and_opening() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    let log = store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    let mut seals = Vec::new();
    for seq in 1..=150 {
        seals.extend(append_own(&store, schema, seq).1);
    }
    assert_eq!(
        seals.iter().map(|seal| seal.first).collect::<Vec<_>>(),
        [1, 61]
    );
    let before = (store.held(), store.tally());
    let latest = store.latest(&ME).unwrap();
    store.close().unwrap();

    let store = open(dir.path(), ME);
    assert_eq!((store.held(), store.tally()), before);
    assert_eq!(before.1[0].rows, 150);
    assert_eq!(store.latest(&ME).unwrap(), latest);
    assert_eq!(store.seal_of(&log, 17).unwrap(), seals[0]);
    assert_eq!(store.stats().oldest_ms, Some(CLOCK.offset_ms + 1_000));
    assert_eq!(store.stats().newest_ms, Some(CLOCK.offset_ms + 150_000));
    let next = store.begin_epoch().unwrap();
    assert!(
        next.store == log.store && next > log,
        "the id stays, epochs grow"
    );
    assert_eq!(
        store
            .seal_closed(&log)
            .iter()
            .map(|s| (s.first, s.count))
            .collect::<Vec<_>>(),
        [(121, 30)]
    );
    assert_eq!(store.tally(), before.1, "sealing changes no row");
    store.close().unwrap();
    assert_eq!(
        fs::read_dir(dir.path().join("spool")).unwrap().count(),
        0,
        "nothing unsealed, nothing spooled"
    );
}

#[test]
fn a_keeper_builds_the_same_block_from_rows_and_seal_in_any_order() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (origin, keeper) = (open(a.path(), ME), open(b.path(), PEER));
    let log = origin.begin_epoch().unwrap();
    let schema = define(&origin, ME);
    let rows: Vec<_> = (1..=60)
        .map(|seq| append_own(&origin, schema, seq))
        .collect();
    let seal = rows[59].1.clone().unwrap();
    let row = (*rows[0].0).clone();
    assert!(
        matches!(keeper.append(row.clone()), Err(StoreError::UnknownSchema(hash)) if hash == schema)
    );
    define(&keeper, ME);
    let mut forged = row.clone();
    forged.row.boot_ms += 1;
    assert!(matches!(
        keeper.append(forged),
        Err(StoreError::BadSignature { .. })
    ));
    for (row, _) in rows.iter().rev().take(59) {
        assert_eq!(keeper.append((**row).clone()).unwrap(), Appended::New);
    }
    assert_eq!(keeper.unsealed(Duration::ZERO), [(log, 2, 59)]);
    assert_eq!(keeper.apply_seal(seal.clone()).unwrap(), Sealed::Waiting);
    assert_eq!(keeper.append(row.clone()).unwrap(), Appended::New);
    assert_eq!(keeper.append(row).unwrap(), Appended::Known);
    assert_eq!(keeper.apply_seal(seal).unwrap(), Sealed::Known);
    assert_eq!(keeper.unsealed(Duration::ZERO), []);
    assert_eq!(keeper.tally(), origin.tally());
    let parcels = (
        origin.export(&log, 1..=60, 1).unwrap(),
        keeper.export(&log, 1..=60, 1).unwrap(),
    );
    assert_eq!(parcels.0, parcels.1, "the same bytes");
    let Parcel::Block(bytes) = &parcels.0[0] else {
        panic!("sealed rows travel as a block")
    };
    assert_eq!(keeper.insert_block(bytes).unwrap(), Appended::Known);
    keeper.close().unwrap();
    let keeper = open(b.path(), PEER);
    assert_eq!(keeper.insert_block(bytes).unwrap(), Appended::Known);
    assert_eq!(keeper.stats().conflicts, 0);
}

#[test]
fn of_two_contents_under_one_identity_the_lower_hash_stays_whichever_came_first() {
    let make = |value| row(PEER, 1, value);
    let (mut low, mut high) = (make(1), make(2));
    if low.row.content() > high.row.content() {
        (low, high) = (high, low);
    }
    for pair in [[&low, &high], [&high, &low]] {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), ME);
        define(&store, PEER);
        assert_eq!(store.append(pair[0].clone()).unwrap(), Appended::New);
        assert_eq!(store.append(pair[1].clone()).unwrap(), Appended::Conflict);
        assert_eq!(*store.latest_in_tail(&low.row.log), low);
        assert_eq!(store.stats().conflicts, 1);
        store.close().unwrap();
        let store = open(dir.path(), ME);
        assert_eq!(*store.latest_in_tail(&low.row.log), low);
        assert_eq!(store.stats().conflicts, 1, "the evidence is kept");
    }
}

#[test]
fn a_block_wins_over_rows_that_differ_and_the_difference_is_evidence() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (first, second) = (open(a.path(), ME), open(b.path(), ME));
    define(&first, PEER);
    define(&second, PEER);
    let rows: Vec<Row> = (1..=60).map(|seq| row(PEER, seq, 5).row).collect();
    let block = Draft::build(&rows).unwrap().seal(&sign(PEER));
    first.append(row(PEER, 7, 6)).unwrap();
    assert_eq!(
        first.insert_block(&block.encode()).unwrap(),
        Appended::Conflict
    );
    assert_eq!(second.insert_block(&block.encode()).unwrap(), Appended::New);
    assert_eq!(first.tally(), second.tally());
    assert_eq!((first.stats().conflicts, second.stats().conflicts), (1, 0));
    let others: Vec<Row> = (1..=60).map(|seq| row(PEER, seq, 9).row).collect();
    let other = Draft::build(&others).unwrap().seal(&sign(PEER));
    assert_eq!(
        first.insert_block(&other.encode()).unwrap(),
        Appended::Conflict
    );
    assert_eq!(
        first.seal_of(&rows[0].log, 1).unwrap().content,
        other.seal().content.min(block.seal().content)
    );
}

#[test]
fn who_signed_two_contents_is_still_known_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    assert_eq!(store.append(row(PEER, 1, 0)).unwrap(), Appended::New);
    assert_eq!(store.append(row(PEER, 1, 7)).unwrap(), Appended::Conflict);
    let seal = |salt| {
        let rows: Vec<Row> = (61..=120).map(|seq| row(PEER, seq, salt).row).collect();
        Draft::build(&rows).unwrap().seal(&sign(PEER)).encode()
    };
    store.insert_block(&seal(0)).unwrap();
    assert_eq!(store.insert_block(&seal(1)).unwrap(), Appended::Conflict);
    assert_eq!(
        store.accused(),
        BTreeMap::new(),
        "those of this run are told as they come"
    );
    store.close().unwrap();
    assert_eq!(open(dir.path(), ME).accused(), [(PEER, 2)].into());
}

#[test]
fn a_short_run_gives_way_to_the_whole_window() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    let rows: Vec<Row> = (1..=60).map(|seq| row(PEER, seq, 5).row).collect();
    let run = Draft::build(&rows[..30]).unwrap().seal(&sign(PEER));
    let whole = Draft::build(&rows).unwrap().seal(&sign(PEER));
    assert_eq!(store.insert_block(&run.encode()).unwrap(), Appended::New);
    store.flush().unwrap();
    assert_eq!(store.insert_block(&whole.encode()).unwrap(), Appended::New);
    assert_eq!(store.insert_block(&run.encode()).unwrap(), Appended::Known);
    store.close().unwrap();
    let store = open(dir.path(), ME);
    assert_eq!(store.tally()[0].rows, 60);
    assert_eq!(store.seal_of(&rows[0].log, 1).unwrap(), whole.seal());
}

#[test]
fn the_last_segment_cut_at_every_byte_keeps_the_whole_records_before_the_cut() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    let mut ends = vec![0];
    for seq in 1..=4 {
        let (row, _) = append_own(&store, schema, seq);
        ends.push(ends[ends.len() - 1] + record::size(row.encode().len()));
    }
    store.close().unwrap();
    let segment = dir.path().join("spool/00000001");
    let bytes = fs::read(&segment).unwrap();
    assert_eq!(bytes.len(), ends[4]);
    for cut in 0..=bytes.len() {
        let copy = TempDir::new().unwrap();
        fs::write(copy.path().join("00000001"), &bytes[..cut]).unwrap();
        let (_, found) =
            tail::Spool::open(&disk::Disk::Real, copy.path(), 1 << 20, &|_| true).unwrap();
        let whole = ends[1..].iter().filter(|end| **end <= cut).count();
        assert_eq!(
            (found.rows.len(), found.damaged),
            (whole, 0),
            "cut at {cut}"
        );
        let left = fs::metadata(copy.path().join("00000001")).unwrap().len();
        assert_eq!(left, ends[whole] as u64, "the torn end is cut");
    }
}

#[test]
fn a_generation_that_is_damaged_is_set_aside_and_its_rows_can_come_again() {
    for harm in [
        cut_metadata as fn(&Path),
        garble_everything,
        flip_in_the_middle,
    ] {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), ME);
        define(&store, PEER);
        // Most of them lie in a pack, the rest waits for one.
        let blocks = blocks_of(PEER, 40);
        insert_all(&store, &blocks);
        let before = store.tally();
        store.close().unwrap();
        harm(&dir.path().join("copies-000001"));

        // sled may spin over a damaged leaf; one that is set aside for being slow is as good here.
        let patience = Tuning {
            open_deadline: Duration::from_secs(10),
            ..tuning()
        };
        let store = Store::open_tuned(config(dir.path()), keys(ME), patience).unwrap();
        wait_ready(&store);
        let stats = store.stats();
        assert!(
            stats.damaged > 0 || stats.quarantined.len() == 1 || stats.rows < 2_400,
            "{stats:?}"
        );
        for block in &blocks {
            store.insert_block(block).unwrap();
        }
        assert_eq!(store.tally(), before);
        store.close().unwrap();
        let store = open(dir.path(), ME);
        assert_eq!(store.tally(), before, "and they stay");
    }
}

#[test]
fn a_generation_that_is_gone_is_simply_missing() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    insert_all(&store, &blocks_of(PEER, 2));
    store.close().unwrap();
    fs::remove_dir_all(dir.path().join("copies-000001")).unwrap();
    let store = open(dir.path(), ME);
    assert_eq!(
        (store.held().len(), store.gone().len()),
        (0, 0),
        "missing, not gone: it may be asked for again"
    );
}

#[test]
fn a_generation_the_child_process_refuses_is_tried_twice_and_set_aside() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    insert_all(&store, &blocks_of(PEER, 1));
    store.close().unwrap();
    assert_eq!(verify_generation(&dir.path().join("copies-000001")), Ok(1));
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = asked.clone();
    let mut config = config(dir.path());
    config.check = Some(Box::new(move |_| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Err("hangs".to_owned())
    }));
    let store = Store::open_tuned(config, keys(ME), tuning()).unwrap();
    wait_ready(&store);
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
    let stats = store.stats();
    assert_eq!(
        (
            stats.quarantined[0].reason.as_str(),
            stats.rows,
            stats.generations
        ),
        ("hangs", 0, 0)
    );
}

#[test]
fn the_bound_holds_to_within_a_generation_and_what_went_is_not_taken_again() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.limit_bytes = 600 << 10;
    let tuning = Tuning {
        generation_bytes: 128 << 10,
        ..tuning()
    };
    let store = Store::open_tuned(config, keys(ME), tuning).unwrap();
    wait_ready(&store);
    define(&store, PEER);
    let blocks = noisy_blocks(PEER, 260);
    for part in blocks.chunks(20) {
        insert_all(&store, part);
        store.flush().unwrap();
        let bytes = store.stats().bytes;
        assert!(
            bytes <= (600 << 10) + tuning.generation_bytes * 2,
            "{bytes} bytes"
        );
    }
    let log = row(PEER, 1, 0).row.log;
    let (held, gone) = (store.held()[&log].clone(), store.gone()[&log].clone());
    assert!(held.contains(260 * 60) && gone.first() < held.last());
    assert!(held.intersect(&gone).is_empty());
    assert_eq!(held.union(&gone).len(), 260 * 60);
    let first = gone.first().unwrap() / 60;
    let again = store.insert_block(&blocks[first as usize]).unwrap();
    assert_eq!(again, Appended::Known);
    store.close().unwrap();
    let store = open(dir.path(), ME);
    assert_eq!(store.gone()[&log], gone);
    assert_eq!(store.held()[&log], held);
}

#[test]
fn on_a_full_disk_rows_wait_in_memory_and_are_synced_when_there_is_space_again() {
    let dir = TempDir::new().unwrap();
    let mounted = Command::new("/bin/mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "outlast-test"])
        .arg(dir.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    }
    let unmounted = Unmount(dir.path());
    let home = dir.path().join("store");
    let store = open(&home, ME);
    let log = store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    (1..=90).for_each(|seq| drop(append_own(&store, schema, seq)));
    store.flush().unwrap();
    store.sync().unwrap();
    let filler = dir.path().join("filler");
    fill(&filler);
    (91..=150).for_each(|seq| drop(append_own(&store, schema, seq)));
    assert!(store.sync().is_err() && store.flush().is_err());
    let stats = store.stats();
    assert!(stats.health.contains("in memory only"), "{stats:?}");
    assert_eq!(
        (store.synced(), stats.rows, stats.lost),
        (Some((log, 90)), 150, 0)
    );
    let before = store.tally();
    fs::remove_file(filler).unwrap();
    // A child that another test has just forked may hold the file, and with it the space, a moment longer.
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.sync().is_err() {
        assert!(Instant::now() < deadline, "{}", store.stats().health);
        std::thread::sleep(Duration::from_millis(20));
    }
    store.flush().unwrap();
    assert_eq!(
        (store.synced(), store.stats().health.as_str()),
        (Some((log, 150)), "")
    );
    store.close().unwrap();
    let store = open(&home, ME);
    assert_eq!(store.tally(), before);
    store.close().unwrap();
    drop(unmounted);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("/bin/umount").arg("-l").arg(self.0).status();
    }
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 20, 4_096] {
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
}

/// Runs this test binary once more as a process that appends until it is killed.
#[test]
fn a_killed_process_loses_nothing_it_called_synced() {
    for round in 0..3 {
        let dir = TempDir::new().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "tests::child_appends_until_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("OUTLAST_TEST_STORE", dir.path())
            .env("PATH", "")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = dir.path().join("said");
        let deadline = Instant::now() + Duration::from_secs(60);
        let enough = 200 + round * 137;
        while read_said(&said) < enough && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let said = read_said(&said);
        assert!(said >= enough, "the child got as far as {said}");
        let store = open(&dir.path().join("store"), ME);
        let (log, held) = store.held().pop_first().unwrap();
        assert!(
            held.covers(1..=said),
            "synced through {said}, held {held:?}"
        );
        let tally = store.tally();
        assert_eq!(tally[0].rows, held.len());
        let expected: Vec<_> = (1..=held.last().unwrap()).map(values).collect();
        assert_eq!(
            tally[0].samples,
            expected.iter().flatten().flatten().count() as u64
        );
        assert!(store.begin_epoch().unwrap() > log);
    }
}

#[test]
#[ignore = "the process that the test above kills"]
fn child_appends_until_killed() {
    let Some(dir) = std::env::var_os("OUTLAST_TEST_STORE").map(PathBuf::from) else {
        return;
    };
    let store = open(&dir.join("store"), ME);
    store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    for seq in 1.. {
        append_own(&store, schema, seq);
        if let Some((_, seq)) = store.synced() {
            fs::write(dir.join("said.new"), seq.to_string()).unwrap();
            fs::rename(dir.join("said.new"), dir.join("said")).unwrap();
        }
    }
}

fn read_said(path: &Path) -> Seq {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_a_map_from_identity_to_row(ops in proptest::collection::vec(op(), 1..40)) {
        let dir = TempDir::new().unwrap();
        let mut store = open(dir.path(), ME);
        define(&store, PEER);
        let mut model: BTreeMap<Seq, Row> = BTreeMap::new();
        let log = row(PEER, 1, 0).row.log;
        for op in ops {
            match op {
                Op::Row(seq) => {
                    let row = row(PEER, seq, 0);
                    let known = model.insert(seq, row.row.clone()).is_some();
                    let expected = if known { Appended::Known } else { Appended::New };
                    prop_assert_eq!(store.append(row).unwrap(), expected);
                }
                Op::Seal(window) => {
                    let rows: Vec<Row> = window_rows(window);
                    let seal = Draft::build(&rows).unwrap().seal(&sign(PEER)).seal();
                    store.apply_seal(seal).unwrap();
                }
                Op::Block(window) => {
                    let rows: Vec<Row> = window_rows(window);
                    store.insert_block(&Draft::build(&rows).unwrap().seal(&sign(PEER)).encode()).unwrap();
                    model.extend(rows.into_iter().map(|row| (row.seq, row)));
                }
                Op::Flush => store.flush().unwrap(),
                Op::Reopen => {
                    store.close().unwrap();
                    store = open(dir.path(), ME);
                }
            }
            let held: IntervalSet = model.keys().map(|seq| *seq..=*seq).collect();
            prop_assert_eq!(store.held().remove(&log).unwrap_or_default(), held);
        }
        let mut hasher = blake3::Hasher::new();
        for row in model.values() {
            hasher.update(&row.canonical());
        }
        let tally = store.tally().pop().map(|tally| (tally.rows, tally.digest));
        let expected = (!model.is_empty()).then(|| (model.len() as u64, *hasher.finalize().as_bytes()));
        prop_assert_eq!(tally, expected);
        prop_assert_eq!(store.stats().conflicts, 0);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Row(Seq),
    Seal(u32),
    Block(u32),
    Flush,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..=180u32).prop_map(Op::Row),
        2 => (0..3u32).prop_map(Op::Seal),
        2 => (0..3u32).prop_map(Op::Block),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
    ]
}

fn window_rows(window: u32) -> Vec<Row> {
    (window * 60 + 1..=window * 60 + 60)
        .map(|seq| row(PEER, seq, 0).row)
        .collect()
}
