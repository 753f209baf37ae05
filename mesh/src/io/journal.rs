//! The statements on disk.

use std::{io, path::Path};

use crate::trust::Statement;

/// An append-only file of statements.
#[derive(Debug)]
pub struct Journal;

impl Journal {
    /// Opens or makes the file at `path`; the statements it holds.
    pub fn open(_path: &Path) -> io::Result<(Self, Vec<Statement>)> {
        unimplemented!()
    }

    /// Appends durably: when it returns, a power cut loses nothing of it.
    pub fn append(&mut self, _statements: &[Statement]) -> io::Result<()> {
        unimplemented!()
    }
}
