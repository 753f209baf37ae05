//! What the store's calls answer.

use std::collections::BTreeMap;

use crate::key::gone::Reason;
use crate::query::Step;
use crate::sample::{LogId, Origin, Seq};

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
    /// Its rows are sealed here with another content. `wins`: the one it names must stay, and has to be fetched whole.
    Contradicted {
        /// Whether its content is the lower.
        wins: bool,
    },
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

/// What is left of rows that went, in one tier of roll-ups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    /// How many rows it stands for.
    pub rows: u64,
    /// Bytes on disk.
    pub bytes: u64,
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
    /// Rows and blocks of others not kept because too little of the disk is free.
    pub unkept: u64,
    /// Logs of which nothing was held and what had gone of them was forgotten.
    pub forgotten: u64,
    /// Rows that went from here, by reason.
    pub gone_rows: BTreeMap<Reason, u64>,
    /// Origins that have more than a quarter of the bound: their own oldest rows go first.
    pub over_share: Vec<Origin>,
    /// What is left of rows that went.
    pub tiers: BTreeMap<Step, Tier>,
    /// One sentence; empty when all is well.
    pub health: String,
    /// The newest row of the running epoch that would survive a power cut. None: none yet.
    pub synced: Option<(LogId, Seq)>,
}
