//! Kernel files that stay open and are read again and again.
//!
//! Reading from offset 0 of an open descriptor makes the kernel write the text anew and saves the
//! path walk, which is half of what a read costs. A file that can't be read, or makes no sense to
//! who parses it whole, is tried again at the next tick and logged once until it works. One that a
//! machine may do without isn't missed; it is looked for again once a minute.
//! Bound: `MAX_BYTES` of text; a longer file counts as unreadable.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use tracing::{info, warn};

use super::health::{Fault, Report};

/// The whole text of a file that is read now and then, within the same bound.
pub(super) fn read_once(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)?;
    if text.len() > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// The longest text that is read. A machine with 1,024 cores has 400 KB of `/proc/stat`.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Room to begin with: everything but `/proc/stat` of large machines fits.
const FIRST_BYTES: usize = 16 * 1024;

/// Reads that pass before a file that isn't there is looked for again.
const LOOK_AGAIN: u32 = 60;

/// One file, open between reads.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    file: Option<File>,
    failing: bool,
    /// Whether a machine may do without it, and whether it may be closed to us.
    optional: bool,
    guarded: bool,
    /// Reads to pass while it isn't there.
    resting: u32,
}

/// The room that all files are read into, one after the other, and what one source reports of that.
#[derive(Debug)]
pub(super) struct Buffer {
    text: Vec<u8>,
    report: Report,
    found: bool,
}

/// Whether an error says that the machine has no such thing: no file, no device behind it, or a kernel without it.
pub(super) fn is_lack(error: &io::Error) -> bool {
    let none = [Errno::NOENT, Errno::NODEV, Errno::NODATA, Errno::OPNOTSUPP];
    error.kind() == io::ErrorKind::NotFound
        || Errno::from_io_error(error).is_some_and(|errno| none.contains(&errno))
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self {
            text: vec![0; FIRST_BYTES],
            report: Report::default(),
            found: false,
        }
    }

    /// Reports that something the source needs can't be read.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.report.fault = Some(Fault::Failed(error.to_string()));
    }

    /// Reports that the machine has nothing to read, unless something worse was said.
    pub(super) fn lack(&mut self) {
        self.report.fault.get_or_insert(Fault::Lacks);
    }

    /// Reports that something was there: what else the machine lacks doesn't matter then.
    pub(super) fn found(&mut self) {
        self.found = true;
    }

    /// Reports how long the reading took, where it wasn't done in the tick.
    pub(super) fn took(&mut self, took: Duration) {
        self.report.took = Some(took);
    }

    /// Reports that what is measured aside isn't there yet.
    pub(super) fn pend(&mut self) {
        self.report.pending = true;
    }

    /// What the source before reported; the next begins anew.
    pub(super) fn take_report(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        if std::mem::take(&mut self.found) && report.fault == Some(Fault::Lacks) {
            report.fault = None;
        }
        report
    }
}

impl Kept {
    /// A file that every machine has.
    pub(super) fn new(root: &Path, path: &str) -> Self {
        Self {
            path: root.join(path),
            file: None,
            failing: false,
            optional: false,
            guarded: false,
            resting: 0,
        }
    }

    /// A file that not every kernel or machine has.
    pub(super) fn optional(root: &Path, path: &str) -> Self {
        Self {
            optional: true,
            ..Self::new(root, path)
        }
    }

    /// An optional file that on most machines only root reads: closed, it isn't missed either.
    pub(super) fn guarded(root: &Path, path: &str) -> Self {
        Self {
            guarded: true,
            ..Self::optional(root, path)
        }
    }

    /// The whole text as it is at this moment. `None` where it can't be read.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut Buffer) -> Option<&'a [u8]> {
        let read = self.try_read(&mut buffer.text);
        self.heed(read, &mut *buffer).map(|len| &buffer.text[..len])
    }

    /// What `parse` makes of the whole text. `None` where it can't be read, or `parse` says so.
    pub(super) fn read_as<T>(
        &mut self,
        buffer: &mut Buffer,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let read = self.try_read(&mut buffer.text).and_then(|len| {
            let parsed = parse(&buffer.text[..len]);
            parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
        });
        self.heed(read, buffer)
    }

    /// Logs the first failure after a success, and the first success after a failure.
    fn heed<T>(&mut self, read: io::Result<T>, buffer: &mut Buffer) -> Option<T> {
        match read {
            Ok(found) => {
                buffer.found();
                if std::mem::take(&mut self.failing) {
                    info!(path = %self.path.display(), "a source can be read again");
                }
                Some(found)
            }
            Err(error) if self.does_without(&error) => {
                self.file = None;
                if self.resting == 0 {
                    self.resting = LOOK_AGAIN;
                }
                buffer.lack();
                None
            }
            Err(error) => {
                self.file = None;
                buffer.fail(&io::Error::other(format!(
                    "{}: {error}",
                    self.path.display()
                )));
                if !std::mem::replace(&mut self.failing, true) {
                    let path = self.path.display();
                    warn!(%path, %error, "a source can't be read, its values are absent");
                }
                None
            }
        }
    }

    fn does_without(&self, error: &io::Error) -> bool {
        let closed = error.kind() == io::ErrorKind::PermissionDenied;
        (self.optional && is_lack(error)) || (self.guarded && closed)
    }

    fn try_read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if self.resting > 1 {
            self.resting -= 1;
            return Err(io::ErrorKind::NotFound.into());
        }
        self.resting = 0;
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        let mut len = 0;
        loop {
            if len == buffer.len() {
                if len >= MAX_BYTES {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                buffer.resize(len * 2, 0);
            }
            match file.read_at(&mut buffer[len..], len as u64) {
                Ok(0) => return Ok(len),
                Ok(count) => len += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_each_time_and_may_outgrow_the_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        std::fs::write(&path, "one").unwrap();
        let (mut kept, mut buffer) = (Kept::new(dir.path(), "text"), Buffer::new());
        assert_eq!(kept.read(&mut buffer), Some(&b"one"[..]));
        let long = vec![b'x'; FIRST_BYTES * 2 + 1];
        std::fs::write(&path, &long).unwrap();
        assert_eq!(kept.read(&mut buffer), Some(&long[..]));
        std::fs::write(&path, "three").unwrap();
        assert_eq!(kept.read(&mut buffer), Some(&b"three"[..]));
    }

    #[test]
    fn a_missing_file_is_absent_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, mut buffer) = (Kept::new(dir.path(), "text"), Buffer::new());
        assert_eq!(kept.read(&mut buffer), None);
        std::fs::write(dir.path().join("text"), "one").unwrap();
        assert_eq!(kept.read(&mut buffer), Some(&b"one"[..]));
    }

    #[test]
    fn a_text_that_makes_no_sense_is_absent_until_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let (mut kept, mut buffer) = (Kept::new(dir.path(), "text"), Buffer::new());
        let mut number = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let parse = |text: &[u8]| str::from_utf8(text).ok()?.parse().ok();
            (kept.read_as::<u8>(&mut buffer, parse), kept.failing)
        };
        assert_eq!(number("7"), (Some(7), false));
        assert_eq!(number("x"), (None, true));
        assert_eq!(number("8"), (Some(8), false));
    }

    #[test]
    fn a_file_that_may_be_missing_is_lacking_and_found_within_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::optional(dir.path(), "text");
        let mut buffer = Buffer::new();
        assert_eq!(kept.read(&mut buffer), None);
        assert_eq!(buffer.take_report().fault, Some(Fault::Lacks));
        std::fs::write(dir.path().join("text"), "one").unwrap();
        let found = (1..=LOOK_AGAIN).find(|_| kept.read(&mut buffer).is_some());
        assert_eq!(found, Some(LOOK_AGAIN));
        buffer.take_report();
        assert_eq!(kept.read(&mut buffer), Some(&b"one"[..]));
        assert_eq!(buffer.take_report().fault, None);
    }

    #[test]
    fn a_text_without_end_is_refused() {
        let (mut kept, mut buffer) = (Kept::new(Path::new("/"), "dev/zero"), Buffer::new());
        assert_eq!(kept.read(&mut buffer), None);
        let refused = read_once(Path::new("/dev/zero")).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::FileTooLarge));
    }
}
