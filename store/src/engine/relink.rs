//! A fresh directory for a generation whose handle is lost, since that handle keeps the old one locked.
//!
//! Absent: whether the files in it are good (`shelf`).

use std::fs;
use std::io;
use std::path::Path;

use crate::disk::Disk;

/// Gives a generation whose handle is lost a directory of its own again: the same files under a fresh directory.
///
/// The lost handle keeps the old directory locked, and writes nothing but what the disk had in hand (`worker`). A simulated
/// one locks nothing.
pub(crate) fn relink(disk: &Disk, path: &Path) -> io::Result<()> {
    if matches!(disk, Disk::Simulated(_)) {
        return Ok(());
    }
    let (fresh, lost) = (path.with_extension("relink"), path.with_extension("lost"));
    let _ = fs::remove_dir_all(&fresh);
    link_tree(path, &fresh)?;
    fs::rename(path, &lost)?;
    fs::rename(&fresh, path)?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir)?;
    }
    fs::remove_dir_all(&lost)
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    fs::File::open(to)?.sync_all()
}
