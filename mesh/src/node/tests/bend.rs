//! boringtun's clock, bent to the time a test tells: libfaketime before every call of the clock.
//!
//! `run` starts this very test binary again for the ignored tests of one module, with the library
//! before libc and a file that holds the offset; in there `to` writes that file. Elsewhere `to`
//! does nothing, and boringtun's clock is the real one.
//! The library bends either every clock alike (`Clocks::All`, so hours pass), or the wall clock
//! alone (`Clocks::Wall`, so it is wrong).

use std::path::PathBuf;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use rustix::time::{ClockId, clock_gettime};

use super::*;

const FILE: &str = "FAKETIME_TIMESTAMP_FILE";
const WALL_ALONE: &str = "FAKETIME_DONT_FAKE_MONOTONIC";

/// Which clocks are bent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    All,
    Wall,
}

/// Where the bending stands.
struct Bend {
    file: std::fs::File,
    clocks: Clocks,
    start: Option<Start>,
    /// How far the bent clock is ahead of the true one; it never falls behind again.
    ahead: Duration,
    /// By how many seconds the wall clock is wrong.
    wrong_by: i64,
}

/// A moment by both clocks.
#[derive(Clone, Copy)]
struct Start {
    told: Duration,
    real: Duration,
    ahead: Duration,
}

static BEND: LazyLock<Mutex<Option<Bend>>> = LazyLock::new(|| {
    let clocks = match std::env::var_os(WALL_ALONE) {
        Some(_) => Clocks::Wall,
        None => Clocks::All,
    };
    Mutex::new(std::env::var_os(FILE).map(|file| Bend {
        file: std::fs::File::options().write(true).open(file).unwrap(),
        clocks,
        start: None,
        ahead: Duration::ZERO,
        wrong_by: 0,
    }))
});

/// Runs the ignored tests of `module` with these clocks bent.
///
/// # Panics
/// When one fails, when there are not `count` of them, or when libfaketime is missing.
pub(super) fn run(module: &str, clocks: Clocks, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("offset");
    write(&std::fs::File::create(&file).unwrap(), 0.0);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again
        .args([module, "--ignored", "--test-threads=1"])
        .env("LD_PRELOAD", library())
        .env("FAKETIME_NO_CACHE", "1")
        .env(FILE, &file);
    if clocks == Clocks::Wall {
        again.env(WALL_ALONE, "1");
    }
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said.contains(&format!("ok. {count} passed; 0 failed"));
    assert!(output.status.success() && passed, "{said}");
}

/// Whether the clock is bent at all: the ignored tests mean nothing without.
pub(super) fn is_on() -> bool {
    BEND.lock().unwrap().is_some()
}

/// Makes boringtun's clock read what the test says, or the wall clock wrong by so many seconds.
pub(super) fn to(now: Now, wrong_by: i64) {
    let mut bend = BEND.lock().unwrap();
    let Some(bend) = bend.as_mut() else {
        return;
    };
    if bend.clocks == Clocks::Wall {
        if bend.wrong_by != wrong_by {
            bend.wrong_by = wrong_by;
            write(&bend.file, wrong_by as f64);
        }
        return;
    }
    let start = *bend.start.get_or_insert_with(|| Start {
        told: now.boot,
        real: real_boot(),
        ahead: bend.ahead,
    });
    let told = now.boot.saturating_sub(start.told);
    let real = real_boot().saturating_sub(start.real);
    let ahead = (start.ahead + told).saturating_sub(real);
    if ahead > bend.ahead {
        bend.ahead = ahead;
        write(&bend.file, ahead.as_secs_f64());
    }
}

/// A new test begins where the clock stands.
pub(super) fn begin() {
    if let Some(bend) = BEND.lock().unwrap().as_mut() {
        bend.start = None;
    }
}

/// Always the same length in one write, so that no reader sees half of it.
fn write(file: &std::fs::File, offset: f64) {
    use std::os::unix::fs::FileExt;
    let text = format!("{offset:+021.6}\n");
    file.write_all_at(text.as_bytes(), 0).unwrap();
}

/// The boot clock by the system call itself, which no library stands before.
fn real_boot() -> Duration {
    let boot = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(boot.tv_sec).unwrap(),
        u32::try_from(boot.tv_nsec).unwrap(),
    )
}

fn library() -> PathBuf {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu", "."]
        .map(|place| PathBuf::from(format!("/usr/lib/{place}/faketime/libfaketime.so.1")));
    let found = places.into_iter().find(|place| place.exists());
    found.expect("bending the clock takes libfaketime: install the package `faketime`")
}
