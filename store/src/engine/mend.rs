//! What sled leaves undone around an opening, and what a power cut makes of that.
//!
//! It never syncs its cookie, nor the names of its metadata directory and of its newest log. And a generation whose
//! newest snapshot no log follows is opened once and lost: that opening writes the snapshot under the number it has and
//! then removes it as the old one. Both are what a power cut leaves that comes between an opening and the next flush.
//! Absent: what is damaged (`shelf`).

use std::fs;
use std::io;
use std::path::Path;

/// Before an opening: a log behind the newest snapshot, empty as a new one is.
pub(super) fn before_opening(generation: &Path) -> io::Result<()> {
    let dir = generation.join("metadata");
    let (mut snapshot, mut log) = (None, None);
    let names = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in names {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        snapshot = snapshot.max(number(&name, "snapshot_"));
        log = log.max(number(&name, "log_"));
    }
    if let Some(newest) = snapshot.filter(|newest| log.is_none_or(|log| log <= *newest)) {
        let name = format!("log_{:016x}", newest + 1);
        // Another process may be opening it, too, and have made it meanwhile.
        fs::File::options()
            .append(true)
            .create(true)
            .open(dir.join(name))?;
    }
    Ok(())
}

fn number(name: &str, prefix: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix(prefix)?, 16).ok()
}

/// After an opening: what was made is made durable.
pub(super) fn after_opening(generation: &Path) -> io::Result<()> {
    for entry in fs::read_dir(generation)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(generation.join("metadata"))?.sync_all()?;
    fs::File::open(generation)?.sync_all()
}
