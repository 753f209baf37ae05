//! Power cuts of the real store: what it writes and syncs under load is recorded, and states that a disk may be left in
//! are rebuilt and opened again. Needs strace.
//!
//! One child runs the load under strace; another, which has no program to find on its path, rebuilds and opens. The load
//! writes what it was promised into `said`, so that the promises lie in the record among the writes.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::disk::Disk;
use crate::engine::Engine;

mod flips;
mod states;
mod trace;

use states::{Loss, Names, Recorded};
use trace::Event;

/// Crash states opened; each costs a few openings of sled.
const STATES: usize = 240;

/// What decides the load and the states: `SEED`, or always the same.
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok();
    seed.and_then(|seed| seed.parse().ok()).unwrap_or(0xC0FFEE)
}

/// Small generations and packs, and blocks flushed often, so that a short load has several of each.
fn busy() -> Tuning {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    Tuning {
        generation_bytes: rng.random_range(32..=64) << 10,
        pack_blocks: rng.random_range(3..=8),
        flush_every: Duration::from_millis(rng.random_range(50..=200)),
        reopen_bytes: rng.random_range(32..=128) << 10,
        segment_bytes: rng.random_range(8..=32) << 10,
        packs_at_close: rng.random_range(0..=1),
        ..tuning()
    }
}

fn open_busy(dir: &Path) -> Store {
    let mut config = config(&dir.join("store"));
    config.sync_every = Duration::from_millis(5);
    config.check = Some(Box::new(check_in_child));
    let store = Store::open_tuned(config, keys(ME), busy()).unwrap();
    wait_ready(&store);
    store
}

/// As the node does it: the same program reads the generation, and is killed at a deadline.
fn check_in_child(path: &Path) -> Result<(), String> {
    let mut child = this_program("child_checks", path);
    let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|e| e.to_string())?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err("no answer".to_owned())
}

fn this_program(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("tests::crash::{test}"))
        .env("OUTLAST_TEST_STORE", dir)
        .env("PATH", "/dev/null");
    command
}

fn given_dir() -> Option<PathBuf> {
    std::env::var_os("OUTLAST_TEST_STORE").map(PathBuf::from)
}

#[test]
fn after_every_recorded_power_cut_the_store_opens_with_all_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    let home = dir.path().canonicalize().unwrap();
    let load = this_program("child_loads", &home);
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-y",
            "-xx",
            "-qq",
            "-s",
            "4194304",
            "-e",
            trace::CALLS,
            "-e",
            "signal=none",
        ])
        .arg("-o")
        .arg(home.join("record"))
        .arg("-E")
        .arg("PATH=/dev/null")
        .arg("-E")
        .arg(format!("OUTLAST_TEST_STORE={}", home.display()))
        .arg(load.get_program())
        .args(load.get_args())
        .stdout(Stdio::null());
    let recorded = strace
        .status()
        .expect("strace, which tests/install installs");
    assert!(recorded.success(), "{recorded}");
    let opened = this_program("child_opens_states", &home).status().unwrap();
    if !opened.success() {
        let home = dir.keep();
        panic!(
            "{opened}; the record is kept: OUTLAST_TEST_STORE={} SEED={} opens its states again in child_opens_states (--ignored)",
            home.display(),
            seed()
        );
    }
}

#[test]
#[ignore = "the process whose writes the test above records"]
fn child_loads() {
    let Some(dir) = given_dir() else { return };
    let mut said = fs::File::create(dir.join("said")).unwrap();
    let peers = noisy_blocks(PEER, 60);
    let mut peers = peers.iter().enumerate();
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let (syncs, flushes) = (rng.random_range(3..=9), rng.random_range(10..=15));
    for run in 0..3 {
        let store = open_busy(&dir);
        // Where nothing went wrong nothing may be set aside: what comes after that would be told as lost by power cuts.
        assert_eq!(store.stats().quarantined, [], "run {run}");
        let log = store.begin_epoch().unwrap();
        writeln!(said, "epoch {}", hex(&log)).unwrap();
        let schema = define(&store, ME);
        for old in store.held_of(&ME).keys() {
            store.seal_closed(old);
        }
        for seq in 1..=300 {
            append_own(&store, schema, seq);
            if seq % syncs == 0 {
                store.sync().unwrap();
                let (log, seq) = store.synced().unwrap();
                writeln!(said, "row {} {seq}", hex(&log)).unwrap();
            }
            if seq % flushes == 0
                && let Some((at, block)) = peers.next()
            {
                store.insert_block(block).unwrap();
                store.flush().unwrap();
                writeln!(said, "block {at}").unwrap();
            }
        }
        let threads = Arc::downgrade(&store.shared);
        if run == 0 {
            store.close().unwrap();
        } else {
            drop(store);
        }
        // Two stores in one directory are no power cut.
        while threads.strong_count() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
#[ignore = "the process in which the test above opens its states"]
fn child_opens_states() {
    let Some(home) = given_dir() else { return };
    let record = fs::read_to_string(home.join("record")).unwrap();
    let events = trace::read(&record, &home);
    let seed = seed();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut whole = Recorded::default();
    events.iter().for_each(|event| whole.handle(event));
    assert_same(&whole.whole(), &home);
    let made: BTreeSet<&Path> = events.iter().filter_map(generation_made).collect();
    assert!(made.len() >= 4, "the load turns generations: {made:?}");
    assert!(packs_in(&home) > 0, "the load makes packs");
    let mut points: Vec<usize> = (0..STATES)
        .map(|_| rng.random_range(1..=events.len()))
        .collect();
    points.sort_unstable();
    let (mut recorded, mut promised) = (Recorded::default(), Promised::default());
    let (mut done, mut aside) = (0, 0);
    for (at, point) in points.into_iter().enumerate() {
        for event in &events[done..point] {
            recorded.handle(event);
            promised.handle(event);
        }
        done = point;
        let loss = [Loss::All, Loss::Pages, Loss::Torn][at % 3];
        let names = [Names::Ext4, Names::Strict][at / 3 % 2];
        let files = recorded.after_cut(loss, names, &mut rng);
        let place = TempDir::new_in(scratch()).unwrap();
        build(&files, place.path());
        let what = format!(
            "seed {seed}, event {point} of {}, {loss:?}, {names:?}",
            events.len()
        );
        let checked = catch_unwind(AssertUnwindSafe(|| promised.check(place.path(), &what)));
        aside += checked.unwrap_or_else(|panic| {
            let kept = home.join("state");
            build(&files, &kept);
            println!(
                "{what}: kept as it was before it was opened: {}",
                kept.display()
            );
            resume_unwind(panic)
        });
    }
    println!(
        "{STATES} states of {} events opened, {aside} generations set aside",
        events.len()
    );
}

/// Every file that the record makes is there as the record makes it: else it tells of power cuts that never were.
fn assert_same(recorded: &states::Files, home: &Path) {
    for (path, bytes) in recorded {
        let there = fs::read(home.join(path)).ok();
        // The ballast's place is taken without a write.
        if path.ends_with("ballast") {
            continue;
        }
        let same = bytes.is_none() || *bytes == there;
        let (recorded, there) = (bytes.as_ref().map(Vec::len), there.map(|there| there.len()));
        assert!(
            same,
            "{}: {recorded:?} bytes recorded, {there:?} there",
            path.display()
        );
    }
}

/// The generation whose directory is made, if one is.
fn generation_made(event: &Event) -> Option<&Path> {
    let Event::MakeDir(path) = event else {
        return None;
    };
    let name = path.file_name()?.to_str()?;
    let number = name
        .strip_prefix("gen-")
        .or_else(|| name.strip_prefix("copies-"))?;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(path)
}

/// How many packs the load left.
fn packs_in(home: &Path) -> usize {
    let mut packs = 0;
    for entry in fs::read_dir(home.join("store")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("gen-") || name.starts_with("copies-") {
            let engine = Engine::open(&Disk::Real, &entry.path());
            engine.unwrap().scan_packs(|_, _| packs += 1).unwrap();
        }
    }
    packs
}

/// Memory where there is some: what is rebuilt need not reach a disk.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

fn build(files: &states::Files, place: &Path) {
    fs::create_dir_all(place).unwrap();
    for (path, bytes) in files {
        let path = place.join(path);
        match bytes {
            None => fs::create_dir_all(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
    }
}

/// What the load was told before the power failed.
#[derive(Debug, Default)]
struct Promised {
    said: Vec<u8>,
    rows: BTreeMap<LogId, Seq>,
    epochs: Vec<LogId>,
    blocks: u32,
}

impl Promised {
    fn handle(&mut self, event: &Event) {
        let Event::Write { path, bytes, .. } = event else {
            return;
        };
        if path != Path::new("said") {
            return;
        }
        self.said.extend_from_slice(bytes);
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            let line = String::from_utf8(line).unwrap();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["epoch", log] => self.epochs.push(unhex(log)),
                ["row", log, seq] => drop(self.rows.insert(unhex(log), seq.parse().unwrap())),
                ["block", at] => self.blocks = self.blocks.max(at.parse::<u32>().unwrap() + 1),
                _ => panic!("{line}"),
            }
        }
    }

    /// Opens the store, asks for everything and writes more; says how many generations were set aside.
    fn check(&self, place: &Path, what: &str) -> usize {
        let store = open_busy(place);
        for (log, last) in &self.rows {
            let rows = rows_of(&store, log, *last);
            assert!(
                (1..=*last).all(|seq| rows.get(&seq) == Some(&values(seq))),
                "{what}: {log:?}"
            );
            let schema = store.schema(&delta().hash());
            assert!(schema.is_some(), "{what}: rows without their schema");
        }
        let peer = row(PEER, 1, 0).row.log;
        let held = store.held().remove(&peer).unwrap_or_default();
        let promised = 1..=self.blocks * 60;
        assert!(
            promised.is_empty() || held.covers(promised),
            "{what}: blocks of others: {held:?} of {}, {:?}",
            self.blocks * 60,
            store.stats()
        );
        // Only one that sled was still making may be set aside: any other had rows that are promised.
        let aside = store.stats().quarantined.len();
        let log = store.begin_epoch().unwrap();
        assert!(!self.epochs.contains(&log), "{what}: an epoch came twice");
        let schema = define(&store, ME);
        (1..=60).for_each(|seq| drop(append_own(&store, schema, seq)));
        store.close().unwrap_or_else(|e| panic!("{what}: {e}"));
        aside
    }
}

fn rows_of(store: &Store, log: &LogId, last: Seq) -> BTreeMap<Seq, Vec<Option<i64>>> {
    let mut rows = BTreeMap::new();
    for parcel in store.export(log, 1..=last, usize::MAX).unwrap() {
        match parcel {
            Parcel::Row(bytes) => {
                let row = SignedRow::decode(&bytes).unwrap().row;
                rows.insert(row.seq, row.values);
            }
            Parcel::Block(bytes) => {
                let block = Block::decode(&bytes, &verify).unwrap();
                rows.extend(block.rows().into_iter().map(|row| (row.seq, row.values)));
            }
        }
    }
    rows
}

fn hex(log: &LogId) -> String {
    data_encoding::HEXLOWER.encode(&log.to_bytes())
}

fn unhex(text: &str) -> LogId {
    let key = [
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap(),
        vec![0; 4],
    ]
    .concat();
    key::block::BlockKey::decode(&key).unwrap().log
}

#[test]
#[ignore = "the process that reads a generation for those above"]
fn child_checks() {
    let Some(dir) = given_dir() else { return };
    verify_generation(&dir).unwrap();
}
