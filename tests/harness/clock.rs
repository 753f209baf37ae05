//! A node's wall clock, set wrong by libfaketime, at its start or while it runs.
//!
//! The library stands before libc in the node's process and reads the offset from a file at every
//! look at the clock; the clocks that only go forward are left alone. What a process asks of the
//! kernel directly it doesn't see: the daemon reads the time since boot so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The wall clock of one node.
#[derive(Debug)]
pub struct WrongClock {
    path: PathBuf,
    file: File,
}

impl WrongClock {
    /// A clock that is right, to be set through this file.
    pub fn new(path: PathBuf) -> Self {
        let file = File::create(&path).expect("make the clock's file");
        let clock = Self { path, file };
        clock.set(0);
        clock
    }

    /// Sets it wrong by so many seconds, at once.
    pub fn set(&self, wrong_by: i64) {
        // Always as long, in one write: no reader sees half of it.
        let text = format!("{wrong_by:+020}\n");
        let written = self.file.write_all_at(text.as_bytes(), 0);
        written.expect("write the clock's file");
    }

    /// Lets a process go by it.
    ///
    /// # Panics
    /// When libfaketime isn't installed.
    pub fn bend(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.path)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}

/// Clears away what the library of a process that was killed left in shared memory.
pub(crate) fn clear_after(pid: u32) {
    for left in [
        format!("/dev/shm/faketime_shm_{pid}"),
        format!("/dev/shm/sem.faketime_sem_{pid}"),
    ] {
        // Mostly it went by itself, or never was.
        drop(std::fs::remove_file(left));
    }
}

fn library() -> PathBuf {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu", "."];
    let mut paths = places.iter().map(|place| {
        Path::new("/usr/lib")
            .join(place)
            .join("faketime/libfaketime.so.1")
    });
    let found = paths.find(|path| path.exists());
    found.expect("a wrong clock takes libfaketime: install the package `faketime`")
}
