//! What a day of rows has a disk write, by what it is for, and the memory of the process that took it.
//!
//! A child plays the looped day at speed, with the allocator set as the service sets it; strace tells which files it wrote. All
//! that is resident there is its own: the recording is 6 MiB of it. Then rows come as in life, only faster: one to each sync
//! of the spool, as on most disks, and ten, as on SD cards. There a page for each sync is what bounds it: the promise that
//! no second is lost, and not the store's way with the rows.
//! Absent: what the file system writes beside (its journal), and what flash makes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use outlast_store::{Query, Step};
use outlast_tests::Usage;

use crate::allocator::live_bytes;
use crate::disk::{self, DAY, PLAYED_AT_MS};
use crate::figures::heads;

/// As `deploy/systemd/outlast.service` has them.
const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Syncs that are measured of a spool in life.
const SYNCS: usize = 200;

/// Between two of them.
const PACE: Duration = Duration::from_millis(20);

pub(crate) fn measure() {
    println!("{}", heads("what a day writes"));
    let dir = tempfile::tempdir().expect("a scratch directory");
    let told = dir.path().join("calls");
    let program = std::env::current_exe().expect("this program");
    let traced = Command::new("strace").arg("-V").output().is_ok();
    let mut child = if traced {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-e", "trace=write,pwrite64", "-o"]);
        strace.arg(&told).arg(program);
        strace
    } else {
        println!("strace is not here: no parts");
        Command::new(program)
    };
    let home = dir.path().join("store");
    let ended = child.arg("written-day").arg(&home).envs(ALLOCATOR).status();
    assert!(ended.expect("a child").success(), "the day was played");
    if traced {
        let calls = std::fs::read_to_string(&told).expect("what strace saw");
        for (part, bytes) in parts(&calls, &home) {
            println!("  {bytes:>9} B  {part}");
        }
    }
    for rows in [1, 10] {
        spooled(rows);
    }
}

/// What the child does.
pub(crate) fn day(dir: &Path) {
    let ticks = disk::recorded();
    let resident = |when: &str| {
        let resident = Usage::of(std::process::id()).resident_bytes;
        let heap = live_bytes() as f64;
        println!(
            "{:54} {:>8.1} MiB resident, {:.1} of them in use on the heap",
            format!("memory {when}"),
            resident / 1_048_576.0,
            heap / 1_048_576.0
        );
    };
    resident("before, with the recording");
    let (store, origin) = disk::open(dir, 7);
    let began = disk::written_bytes();
    let samples = disk::play(&store, &ticks, DAY);
    resident("after the day");
    let query = |series: &str, last_ms: i64| {
        let end = PLAYED_AT_MS + i64::try_from(DAY).expect("a day") * 1_000;
        let query = Query {
            origins: Some([origin].into()),
            series: series.to_owned(),
            from_ms: end - last_ms,
            to_ms: end,
            step: Step::Raw,
            now_ms: None,
        };
        store.query(&query).expect("an answer").len()
    };
    query("node_load1", 86_400_000);
    query("*", 60_000);
    resident("after one series over a day and all over a minute");
    store.close().expect("close the store");
    let written = (disk::written_bytes() - began) as f64;
    let kept: u64 = disk::on_disk(dir)
        .into_iter()
        .filter(|(name, _)| name != "ballast")
        .map(|(_, bytes)| bytes)
        .sum();
    println!(
        "{:54} {:>8.2} B/sample, {:.1} times what is kept",
        "written, whole pages",
        written / samples as f64,
        written / kept as f64
    );
}

/// Bytes written below a directory, by what they are for.
fn parts(calls: &str, home: &Path) -> BTreeMap<&'static str, u64> {
    let home = home.to_string_lossy();
    let mut parts = BTreeMap::new();
    for line in calls.lines() {
        let Some((_, path)) = line.split_once(&*home) else {
            continue;
        };
        let written = line.rsplit_once(" = ");
        let Some(bytes) = written.and_then(|(_, bytes)| bytes.trim().parse::<u64>().ok()) else {
            continue;
        };
        let path = path.split('>').next().unwrap_or_default();
        let part = if path.contains("/spool/") {
            "rows that were not sealed yet: the spool"
        } else if path.contains("/waiting") {
            "blocks that wait for their pack"
        } else if path.contains("/slabs/") {
            "packs, in sled's slabs"
        } else if path.contains("/metadata/") {
            "sled's own log and snapshots"
        } else {
            "all the rest"
        };
        *parts.entry(part).or_default() += bytes;
    }
    parts
}

/// So many rows to each sync.
fn spooled(rows: usize) {
    let ticks = disk::recorded();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (store, _) = disk::open_synced(dir.path(), 7, PACE / 4);
    let began = disk::written_bytes();
    disk::paced(&store, &ticks, rows * SYNCS, |number| {
        if number % rows == rows - 1 {
            std::thread::sleep(PACE);
        }
    });
    let written = disk::written_bytes() - began;
    println!(
        "{:54} {:>8.1} MB a day",
        format!("the spool, {rows} rows to a sync"),
        written as f64 / (rows * SYNCS) as f64 * DAY as f64 / 1e6
    );
    store.close().expect("close the store");
}
