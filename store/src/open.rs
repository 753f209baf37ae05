//! The store's handle: what it is given, how it opens, what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{OpenError, StoreError};
use crate::{
    Clock, IntervalSet, LogId, Origin, Query, Schema, SchemaDelta, SchemaHash, Seal, Seq,
    SeriesPoints, SignedRow,
};

/// Verifies a generation's directory in a child process; `Err` says what is wrong with it.
pub type Check = Box<dyn Fn(&Path) -> Result<(), String> + Send + Sync>;
/// Signs a message with the origin's key.
pub type Sign = Box<dyn Fn(&[u8]) -> [u8; 64] + Send + Sync>;
/// Says whether a signature over a message belongs to the origin.
pub type Verify = Box<dyn Fn(&Origin, &[u8], &[u8; 64]) -> bool + Send + Sync>;

/// Who writes here, and how signatures are made and checked.
pub struct Keys {
    /// This node as an origin of rows.
    pub origin: Origin,
    /// Signs this node's rows and seals.
    pub sign: Sign,
    /// Checks what other origins signed.
    pub verify: Verify,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Where a store lives and how much it may take.
pub struct StoreConfig {
    /// The store's own directory; made if it is missing.
    pub dir: PathBuf,
    /// Bound on everything below `dir`. At the bound the oldest generation goes.
    pub limit_bytes: u64,
    /// How often fresh rows reach the disk for sure: 1 s, on SD cards 10 s.
    pub sync_every: Duration,
    /// Verifies a generation in a child process. None: only this process's own watchdog looks.
    pub check: Option<Check>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("dir", &self.dir)
            .field("limit_bytes", &self.limit_bytes)
            .field("sync_every", &self.sync_every)
            .finish_non_exhaustive()
    }
}

/// Who handed a row over, which decides whether its signature must be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The origin itself, through its own tunnel: believed.
    Origin,
    /// Somebody else: believed when the origin's signature is good.
    Holder,
}

/// What became of a row or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is held from here on.
    New,
    /// Its rows were held already, or were held once and are gone by retention.
    Known,
    /// Another signed content stands under its identity; both are kept as evidence.
    Conflict,
}

/// What became of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Its rows are a block.
    Done,
    /// Rows are missing or differ: they, or the whole block, have to be fetched.
    Waiting,
    /// The block was there already.
    Known,
}

/// A piece of a log on its way to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// One encoded `SignedRow`.
    Row(Vec<u8>),
    /// One whole encoded `Block`.
    Block(Vec<u8>),
}

/// Everything held of one log, counted and hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTally {
    /// Which log.
    pub log: LogId,
    /// Rows held.
    pub rows: u64,
    /// Values present in them.
    pub samples: u64,
    /// BLAKE3 over the rows' canonical bytes in order of seq.
    pub digest: [u8; 32],
}

/// A generation that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name below `quarantine/`.
    pub name: String,
    /// Why it was set aside; empty when an earlier run did it.
    pub reason: String,
}

/// How the store is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes on disk, everything below the store's directory.
    pub bytes: u64,
    /// The bound on them.
    pub limit_bytes: u64,
    /// Wall time of the oldest row held. None: no rows.
    pub oldest_ms: Option<i64>,
    /// Wall time of the newest row held. None: no rows.
    pub newest_ms: Option<i64>,
    /// Series in the newest schema of each origin, summed.
    pub series: u64,
    /// Rows held.
    pub rows: u64,
    /// Generations on disk.
    pub generations: u32,
    /// Whether every generation has been read; before that `held` is incomplete.
    pub ready: bool,
    /// What was set aside and why.
    pub quarantined: Vec<Quarantined>,
    /// Identities seen with two signed contents.
    pub conflicts: u64,
    /// Damaged records skipped at open and blocks with a bad checksum.
    pub damaged: u64,
    /// Rows given up in memory because the disk took none for too long.
    pub lost: u64,
    /// Rows and blocks refused at a bound.
    pub refused: u64,
    /// One sentence; empty when all is well.
    pub health: String,
    /// The newest row of the running epoch that would survive a power cut. None: none yet.
    pub synced: Option<(LogId, Seq)>,
}

/// Handle to an open store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens the store, returning once the spool is recovered; generations open in the background.
    pub fn open(_config: StoreConfig, _keys: Keys) -> Result<Self, OpenError> {
        unimplemented!()
    }
    /// Whether every generation has been read. Before that `held` lacks sealed rows: don't ask peers yet.
    pub fn ready(&self) -> bool {
        unimplemented!()
    }
    /// Starts this run's epoch; its id is on disk when this returns.
    pub fn begin_epoch(&self) -> Result<LogId, StoreError> {
        unimplemented!()
    }
    /// Adds a schema to those of an origin.
    pub fn define(&self, _origin: Origin, _delta: SchemaDelta) -> Result<SchemaHash, StoreError> {
        unimplemented!()
    }
    /// The series a schema stands for. None: not known here.
    pub fn schema(&self, _hash: &SchemaHash) -> Option<Arc<Schema>> {
        unimplemented!()
    }
    /// A schema as it travels. None: not known here.
    pub fn schema_delta(&self, _hash: &SchemaHash) -> Option<SchemaDelta> {
        unimplemented!()
    }
    /// Appends the next row of this run's epoch; returns the seal when the row ends a window.
    pub fn append_own(
        &self,
        _boot_ms: u64,
        _clock: Clock,
        _schema: SchemaHash,
        _values: Vec<Option<i64>>,
    ) -> Result<(Arc<SignedRow>, Option<Seal>), StoreError> {
        unimplemented!()
    }
    /// Appends a row of any origin.
    pub fn append(&self, _row: SignedRow, _source: Source) -> Result<Appended, StoreError> {
        unimplemented!()
    }
    /// Seals rows that are held; keeps the seal when they are not.
    pub fn apply_seal(&self, _seal: Seal) -> Result<Sealed, StoreError> {
        unimplemented!()
    }
    /// Takes a whole block.
    pub fn insert_block(&self, _bytes: &[u8]) -> Result<Appended, StoreError> {
        unimplemented!()
    }
    /// Contiguous unsealed runs inside one window that nobody added to for `older_than`: log, first seq, rows.
    pub fn unsealed(&self, _older_than: Duration) -> Vec<(LogId, Seq, u8)> {
        unimplemented!()
    }
    /// The seal of the block that covers `first`. None: not sealed here.
    pub fn seal_of(&self, _log: &LogId, _first: Seq) -> Option<Seal> {
        unimplemented!()
    }
    /// Seals what an earlier epoch of this node left unsealed.
    pub fn seal_closed(&self, _log: &LogId) -> Vec<Seal> {
        unimplemented!()
    }
    /// What is held, per log.
    pub fn held(&self) -> BTreeMap<LogId, IntervalSet> {
        unimplemented!()
    }
    /// What is held of one origin.
    pub fn held_of(&self, _origin: &Origin) -> BTreeMap<LogId, IntervalSet> {
        unimplemented!()
    }
    /// What was held and went by retention: not to be asked for again.
    pub fn gone(&self) -> BTreeMap<LogId, IntervalSet> {
        unimplemented!()
    }
    /// Rows and blocks of a range, in order, until `max_bytes` are reached; at least one if any is held.
    pub fn export(
        &self,
        _log: &LogId,
        _range: RangeInclusive<Seq>,
        _max_bytes: usize,
    ) -> Result<Vec<Parcel>, StoreError> {
        unimplemented!()
    }
    /// The newest row of an origin. Its signature is zero where only the sealed block is left.
    pub fn latest(&self, _origin: &Origin) -> Option<Arc<SignedRow>> {
        unimplemented!()
    }
    /// Points of the series that match, gaps as gaps.
    pub fn query(&self, _query: &Query) -> Result<Vec<SeriesPoints>, StoreError> {
        unimplemented!()
    }
    /// Reads everything and counts it.
    pub fn tally(&self) -> Vec<LogTally> {
        unimplemented!()
    }
    /// How the store is doing.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    /// The newest row of the running epoch that would survive a power cut. None: none yet.
    pub fn synced(&self) -> Option<(LogId, Seq)> {
        unimplemented!()
    }
    /// Flushes and syncs everything, then stops the store's threads.
    pub fn close(self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
