//! What the store asks of the machine: files, the time, chance.
//!
//! `Disk::Real` is `std::fs` and the system's clocks. `Disk::Simulated` is a disk in memory that can lose power, fill,
//! stall and rot (`simulated`), and whose time and chance are given: the same store runs over both.
//! Nothing else here names `std::fs` or a clock, except `engine`, since sled keeps its own files.
//! Absent: what the files mean; threads.

pub(crate) mod simulated;
mod tree;

use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use simulated::{SimDisk, SimFile};

/// A disk with the clock and the dice of its machine; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) enum Disk {
    Real,
    Simulated(SimDisk),
}

/// A file open for writing at its end.
#[derive(Debug)]
pub(crate) enum File {
    Real(fs::File),
    Simulated(SimFile),
}

impl Disk {
    /// The time: the machine's, or what a simulated one was last given.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Simulated(disk) => disk.now(),
        }
    }

    /// Seconds of the wall clock, for names that people read.
    pub(crate) fn wall_ms(&self) -> i64 {
        i64::try_from(self.wall_seconds()).map_or(i64::MAX, |seconds| seconds.saturating_mul(1_000))
    }

    pub(crate) fn wall_seconds(&self) -> u64 {
        match self {
            Self::Real => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            Self::Simulated(disk) => disk.lifetime().as_secs(),
        }
    }

    /// A number nobody can guess; in a simulation the next of its seed.
    pub(crate) fn random(&self) -> io::Result<u64> {
        match self {
            Self::Real => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
                Ok(u64::from_le_bytes(bytes))
            }
            Self::Simulated(disk) => Ok(disk.random()),
        }
    }

    /// Makes a directory and what is missing above it.
    pub(crate) fn make_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Real => fs::create_dir_all(path),
            Self::Simulated(disk) => disk.make_dir(path),
        }
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        match self {
            Self::Real => path.exists(),
            Self::Simulated(disk) => disk.exists(path),
        }
    }

    /// The names in a directory; what is no text is left out.
    pub(crate) fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        match self {
            Self::Real => {
                let mut names = Vec::new();
                for entry in fs::read_dir(path)? {
                    names.extend(entry?.file_name().into_string());
                }
                Ok(names)
            }
            Self::Simulated(disk) => disk.names(path),
        }
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Self::Real => fs::read(path),
            Self::Simulated(disk) => disk.read(path),
        }
    }

    /// A part of a file; what lies behind its end is left out.
    pub(crate) fn read_at(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        match self {
            Self::Real => {
                let mut file = fs::File::open(path)?;
                file.seek(io::SeekFrom::Start(range.start))?;
                let mut bytes = Vec::new();
                file.take(range.end.saturating_sub(range.start))
                    .read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Self::Simulated(disk) => disk.read_at(path, range),
        }
    }

    /// Makes an empty file, or empties the one there.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        match self {
            Self::Real => fs::File::create(path).map(File::Real),
            Self::Simulated(disk) => disk.create(path).map(File::Simulated),
        }
    }

    /// Makes a file that must not be there.
    pub(crate) fn create_new(&self, path: &Path) -> io::Result<File> {
        match self {
            Self::Real => fs::File::options()
                .create_new(true)
                .append(true)
                .open(path)
                .map(File::Real),
            Self::Simulated(disk) => disk.create_new(path).map(File::Simulated),
        }
    }

    /// Opens a file, made if it is missing, to write at its end.
    pub(crate) fn append_to(&self, path: &Path) -> io::Result<File> {
        match self {
            Self::Real => fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .map(File::Real),
            Self::Simulated(disk) => disk.append_to(path).map(File::Simulated),
        }
    }

    /// Writes a whole file; nothing is synced.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.create(path)?.write_all(bytes)
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Self::Real => fs::rename(from, to),
            Self::Simulated(disk) => disk.rename(from, to),
        }
    }

    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Real => fs::remove_file(path),
            Self::Simulated(disk) => disk.remove_file(path),
        }
    }

    pub(crate) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Real => fs::remove_dir_all(path),
            Self::Simulated(disk) => disk.remove_dir_all(path),
        }
    }

    /// Makes the names in a directory survive a power cut.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Real => fs::File::open(path)?.sync_all(),
            Self::Simulated(disk) => disk.sync_dir(path),
        }
    }

    /// Makes the name of a file or directory survive a power cut.
    pub(crate) fn sync_parent(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        self.sync_dir(dir.unwrap_or_else(|| Path::new(".")))
    }

    /// Writes a whole small file so that after a power cut it is either the old or the new one.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = self.create(&fresh)?;
        file.write_all(bytes)?;
        file.sync()?;
        self.rename(&fresh, path)?;
        self.sync_parent(path)
    }

    /// Bytes that everything at and below `path` takes on disk.
    pub(crate) fn bytes_below(&self, path: &Path) -> u64 {
        match self {
            Self::Real => real_bytes_below(path),
            Self::Simulated(disk) => disk.bytes_below(path),
        }
    }

    /// Bytes an ordinary user can still write; when the system doesn't say, as many as you like.
    pub(crate) fn free(&self, dir: &Path) -> u64 {
        match self {
            Self::Real => {
                statvfs(dir).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
            }
            Self::Simulated(disk) => disk.free(),
        }
    }

    /// Bytes of the whole file system; 0 when the system doesn't say.
    pub(crate) fn size(&self, dir: &Path) -> u64 {
        match self {
            Self::Real => statvfs(dir).map_or(0, |fs| fs.f_blocks.saturating_mul(fs.f_frsize)),
            Self::Simulated(disk) => disk.size(),
        }
    }

    /// How long ago a file was made. None: the file system doesn't say, or it isn't there.
    pub(crate) fn age(&self, path: &Path) -> Option<Duration> {
        match self {
            Self::Real => {
                let meta = fs::metadata(path).ok()?;
                let made = meta.created().or_else(|_| meta.modified()).ok()?;
                SystemTime::now().duration_since(made).ok()
            }
            Self::Simulated(disk) => disk.age(path),
        }
    }

    /// Makes a file of so many bytes that hold their place and mean nothing.
    pub(crate) fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        match self {
            Self::Real => {
                let file = fs::File::create(path)?;
                Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
            }
            Self::Simulated(disk) => disk.allocate(path, bytes),
        }
    }
}

impl File {
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Real(file) => file.write_all(bytes),
            Self::Simulated(file) => file.write_all(bytes),
        }
    }

    /// Cuts the file to `len` bytes; it must not be shorter.
    pub(crate) fn cut(&mut self, len: u64) -> io::Result<()> {
        match self {
            Self::Real(file) => file.set_len(len),
            Self::Simulated(file) => file.cut(len),
        }
    }

    /// What was written survives a power cut when this returns; the file's name is another matter.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::Real(file) => file.sync_data(),
            Self::Simulated(file) => file.sync(),
        }
    }
}

fn real_bytes_below(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    own + below
        .map(|entry| real_bytes_below(&entry.path()))
        .sum::<u64>()
}
