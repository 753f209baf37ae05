//! Small files that are whole or absent, whatever cuts the power, and those that nobody but their owner reads.
//!
//! In: a path, bytes. Out: the same on disk for sure, or an error that names the path.
//! Absent: what is in them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zeroize::Zeroizing;

/// Writes a new file and makes sure of it on disk; one that exists already is left alone and an error.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let context = || format!("write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(context)?;
    file.write_all(content).with_context(context)?;
    file.sync_all().with_context(context)?;
    sync_directory_of(path).with_context(context)
}

/// Puts a file in place of another, or of none, durably; after a power cut one of them is there. It belongs to whom the
/// file `like` belongs, also where root writes it.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32, like: &Path) -> Result<()> {
    let context = || format!("write {}", path.display());
    let fresh = beside(path, ".new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    write_new(&fresh, content, mode)?;
    let (theirs, ours) = (std::fs::metadata(like), std::fs::metadata(&fresh));
    let (theirs, ours) = (theirs.with_context(context)?, ours.with_context(context)?);
    if theirs.uid() != ours.uid() {
        let owner = (Some(theirs.uid()), Some(theirs.gid()));
        std::os::unix::fs::chown(&fresh, owner.0, owner.1).with_context(context)?;
    }
    std::fs::rename(&fresh, path).with_context(context)?;
    sync_directory_of(path).with_context(context)
}

/// The path of what belongs to a file and lies next to it.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// The beginning of a file of secrets, which others can't read.
pub(crate) fn read_private(path: &Path, longest: u64) -> Result<Zeroizing<Vec<u8>>> {
    let context = || format!("read {}", path.display());
    let file = File::open(path).with_context(context)?;
    let mode = file.metadata().with_context(context)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.display();
        bail!(
            "{path} has mode {mode:04o}, so others may read it; make it private with `chmod 600 {path}`"
        );
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(longest)?));
    file.take(longest)
        .read_to_end(&mut bytes)
        .with_context(context)?;
    Ok(bytes)
}
