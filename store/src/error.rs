//! What can go wrong in the store, told apart where a caller acts differently.
//!
//! Absent: damaged files. A bad record, block or generation is set aside, counted and
//! named in `Stats`; it is never an error of the call that found it.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::{FORMAT, FORMAT_WORD};
use crate::query::QueryError;
use crate::{LogId, Origin, SchemaHash, Seq};

/// Why a store did not open. Damage is no reason: the store then starts without what is damaged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory was written by a newer release and was left untouched.
    #[error(
        "store at {} has format {found}, this release reads up to {known}; upgrade outlast, nothing was changed", path.display()
    )]
    Newer {
        /// Where the store is.
        path: PathBuf,
        /// The format its FORMAT file names.
        found: String,
        /// The newest format this release reads.
        known: u32,
    },
    /// The FORMAT file is there and says nothing we understand.
    #[error("{} says {found:?}, expected \"{FORMAT_WORD} {FORMAT}\"; is this a store of outlast?", path.display())]
    Foreign {
        /// The FORMAT file.
        path: PathBuf,
        /// Its first bytes.
        found: String,
    },
    /// The directory or a small file in it could not be made or read.
    #[error("{what} at {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Why a call on an open store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row names a schema this node does not have; fetch it, `define` it, try again.
    #[error("schema {0:?} is unknown here")]
    UnknownSchema(SchemaHash),
    /// A signature does not belong to the origin named beside it.
    #[error("{what} of {log:?} at seq {seq} is not signed by its origin")]
    BadSignature {
        /// Row, seal or block.
        what: &'static str,
        /// The log it claims to be from.
        log: LogId,
        /// Its (first) sequence number.
        seq: Seq,
    },
    /// Bytes or numbers that no release of ours writes.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// Row, block, seal or schema.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A bound per origin is reached; the excess is refused and counted.
    #[error("{what} of origin {origin:?} over the limit of {limit}")]
    OverLimit {
        /// Series, schema bytes, schema changes an hour, epochs.
        what: &'static str,
        /// Whose.
        origin: Origin,
        /// The limit.
        limit: u64,
    },
    /// The memory bound for what the disk has not taken is reached; try again later.
    #[error("{held} bytes wait for the disk, the limit is {limit}; try again later")]
    Busy {
        /// Bytes waiting.
        held: u64,
        /// The bound.
        limit: u64,
    },
    /// Too little of the disk is free to keep rows of others; what came may be shown, and be asked for again.
    #[error("not kept: too little of the disk is free")]
    NoRoom,
    /// Generations are still being opened, so an answer would lack what is in them; ask again.
    #[error("the store is still opening its generations; ask again in a moment")]
    Opening,
    /// `append_own` before `begin_epoch`.
    #[error("no epoch was begun in this run")]
    NoEpoch,
    /// A file could not be written or read.
    #[error("{what} at {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// What was asked is not a query, or its answer would be too large.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The disk did not take what is in memory.
    #[error("{bytes} bytes are in memory only: {why}")]
    NotDurable {
        /// How many.
        bytes: u64,
        /// What the disk answered.
        why: String,
    },
}

/// What was being done to `path` when the disk failed.
pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
