//! How a command ends when it can't do what was asked: one sentence and an exit code.
//!
//! In: any error of a command. Out: `outlast: …` on stderr, once, at the edge, and the code.
//! Absent: the causes themselves; those are named where they happen.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::service;

/// Done.
pub(crate) const DONE: u8 = 0;
/// It failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// The node isn't running.
pub(crate) const NOT_RUNNING: u8 = 3;

/// Why a command stops: a sentence for the reader and the exit code that goes with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: u8,
    /// One line, without the leading `outlast: `. Empty: end without a word.
    pub(crate) message: String,
}

impl Failure {
    /// It failed.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            exit: FAILED,
            message: message.into(),
        }
    }

    /// What was typed can't be meant.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: USAGE,
            message: message.into(),
        }
    }

    /// No node answers for this state directory.
    pub(crate) fn not_running(state: &Path) -> Self {
        let serves = state == Path::new(service::STATE_DIR) || !state.exists();
        let start = if serves && service::unit().is_some() {
            "start the service with `sudo systemctl start outlast`"
        } else {
            "start it with `outlast up`"
        };
        let message = format!(
            "no node is running on {}; {start}, or name another directory with --state-dir",
            state.display()
        );
        Self {
            exit: NOT_RUNNING,
            message,
        }
    }

    /// The reader of our output went away, which is its right: nothing to say.
    pub(crate) fn reader_gone() -> Self {
        Self {
            exit: DONE,
            message: String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let advice = advice(&error).map_or_else(String::new, |advice| format!("; {advice}"));
        Self::new(format!("{}{advice}", joined(&error)))
    }
}

/// An error and its causes in one line; a cause that the one above it has quoted is left out.
fn joined(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    let mut above = line.clone();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !above.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
        above = cause;
    }
    line
}

/// What to do about troubles of the system that come up everywhere.
fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>())?;
    match io.kind() {
        ErrorKind::PermissionDenied => {
            Some("run this as the user it belongs to, or as root with sudo")
        }
        ErrorKind::NotFound => Some("look whether that path is right"),
        ErrorKind::AlreadyExists => {
            Some("name a file that is not there yet, or move that one elsewhere")
        }
        ErrorKind::AddrInUse => Some(
            "another program has that port; take another one, or ask `sudo ss -lnp` which it is",
        ),
        ErrorKind::AddrNotAvailable => {
            Some("that is no address of this machine; `ip address` lists them")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room on that file system and try again")
        }
        ErrorKind::ReadOnlyFilesystem => {
            Some("mount that file system writable, or name another directory with --state-dir")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn troubles_of_the_system_come_with_what_to_do() {
        let cases = [
            (
                ErrorKind::PermissionDenied,
                "write /x: permission denied; run this as the user it belongs to, or as root with sudo",
            ),
            (
                ErrorKind::AddrNotAvailable,
                "write /x: address not available; that is no address of this machine; `ip address` lists them",
            ),
            (
                ErrorKind::StorageFull,
                "write /x: no storage space; make room on that file system and try again",
            ),
            (
                ErrorKind::ReadOnlyFilesystem,
                "write /x: read-only filesystem or storage medium; mount that file system writable, or name another directory with --state-dir",
            ),
            (
                ErrorKind::NotFound,
                "write /x: entity not found; look whether that path is right",
            ),
            (
                ErrorKind::AlreadyExists,
                "write /x: entity already exists; name a file that is not there yet, or move that one elsewhere",
            ),
        ];
        for (kind, said) in cases {
            let error = Err::<(), _>(io::Error::from(kind)).context("write /x");
            assert_eq!(Failure::from(error.unwrap_err()).message, said);
        }
    }
}
