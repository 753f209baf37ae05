//! How a command ends when it can't do what was asked: one sentence and an exit code.
//!
//! In: any error of a command. Out: `outlast: …` on stderr, once, at the edge, and the code.
//! Absent: the causes themselves; those are named where they happen.

use std::fmt;
use std::path::Path;

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
        let message = format!(
            "no node is running on {}; start it with `outlast up`, or name another directory with --state-dir",
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
        Self::new(format!("{error:#}"))
    }
}
