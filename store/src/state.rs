//! What is held, in memory: the index of sealed blocks, the rows of the tail, what waits for the disk.
//!
//! Rows come in through `insert_row`, blocks through `install` (new), `scanned` (read back at open). Per block the index
//! keeps where it lies and which time it covers (about 60 B), per tail row its encoded bytes; nothing is decoded.
//! Invariant: `held` is exactly the rows of `blocks` and of `tail`, and the two never overlap. Two blocks may share rows
//! where their origin sealed twice what it had lost between; neither has all rows of the other.
//! Absent: disks, clocks, signatures. The threads in `spooler` and `writer` take from here what they make durable.

mod blocks;
mod log;
mod losses;
mod rows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attic::Place;
use crate::block::Seal;
use crate::interval::IntervalSet;
use crate::key::block::BlockKey;
use crate::key::gone::Reason;
use crate::retain::Room;
use crate::row::SignedRow;
use crate::sample::{Epoch, LogId, Origin, Seq, StoreId};

pub(crate) use log::{Log, Meta, brief, last};

/// The generation of a block that only memory holds so far.
pub(crate) const PENDING: u32 = 0;
/// Rows in memory that no block covers. At the bound those of others that wait for a seal go where nothing joined their
/// window for an hour, as when their origin died; if that is not enough, rows of others are refused and asked for later.
pub(crate) const TAIL_BYTES: usize = 32 << 20;
/// The part of them that one other origin may have, three minutes of the largest rows: beyond it they are refused and the
/// origin named, so that one that never seals leaves room for the rest.
pub(crate) const TAIL_BYTES_OF_ONE: usize = TAIL_BYTES / 4;
/// What another origin may have there without ever making room: the last minute before it died of 3,000 series.
pub(crate) const TAIL_BYTES_SPARED: usize = TAIL_BYTES / 64;
/// Rows the spool has not taken. At the bound the oldest leave the queue and are remembered as `unspooled`: they come back
/// into it when the disk takes rows again, and nothing after them counts as synced before.
pub(crate) const QUEUE_BYTES: usize = 8 << 20;
/// Blocks sled has not taken. At the bound blocks of others are refused; of our own the oldest is given up and counted.
pub(crate) const PENDING_BYTES: usize = 8 << 20;
/// Blocks waiting in memory from which sled takes them without waiting for its next turn.
pub(crate) const FLUSH_BYTES: usize = 512 << 10;
/// Stretches of rows with a hole between them, in one log of another origin: two and a quarter hours of every second row.
/// Beyond it what joins none of them is refused, and the origin named.
pub(crate) const MAX_RANGES: usize = 4_096;
/// The same over all logs of an origin.
pub(crate) const MAX_RANGES_OF_ONE: usize = 4 * MAX_RANGES;
/// Logs of one origin of which nothing is held and no roll-up is left. Beyond it the first of them are forgotten, what went
/// of them too, and counted: they are taken again from whoever still has them.
pub(crate) const MAX_EMPTY_LOGS: usize = 4_000;
/// Seals whose rows are not all here. At the bound further ones are forgotten and asked for again later.
pub(crate) const WAITING_SEALS: usize = 1_024;

/// A row on its way into the spool.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) log: LogId,
    pub(crate) seq: Seq,
    pub(crate) bytes: Arc<[u8]>,
}

/// Everything the store knows without asking a disk.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) tail_bytes: usize,
    /// Rows the spool has not synced, oldest first.
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: usize,
    /// Rows that left a full queue and are not on disk.
    pub(crate) unspooled: BTreeMap<LogId, IntervalSet>,
    /// The newest row of the running epoch that the spool has synced, whatever is missing before it.
    pub(crate) spooled: Option<(LogId, Seq)>,
    /// Blocks sled has not synced.
    pub(crate) pending: BTreeMap<BlockKey, Arc<[u8]>>,
    pub(crate) pending_bytes: usize,
    pub(crate) pending_since: Option<Instant>,
    /// Those of our own that a peer gave back.
    pub(crate) brought: BTreeSet<BlockKey>,
    /// Since when one waits that has rows which are in no spool.
    pub(crate) bare_since: Option<Instant>,
    /// Seals of others whose rows are not all here.
    pub(crate) waiting: BTreeMap<BlockKey, Seal>,
    /// Runs the spool need not keep any more.
    pub(crate) released: Vec<(LogId, RangeInclusive<Seq>)>,
    /// The losing content of identities seen with two; 64 at most wait for the spool's thread, more are only counted.
    pub(crate) evidence: Vec<Vec<u8>>,
    pub(crate) latest: BTreeMap<Origin, Arc<SignedRow>>,
    pub(crate) synced: Option<(LogId, Seq)>,
    pub(crate) ready: bool,
    pub(crate) conflicts: u64,
    /// Seals that lost against another content before the start, until the generations have been read.
    pub(crate) losers: Vec<Seal>,
    /// By whom, as far as evidence from before the start says.
    pub(crate) accused: BTreeMap<Origin, u64>,
    pub(crate) damaged: u64,
    /// Damage was found since the start where rows of this node may have been.
    pub(crate) own_damaged: bool,
    pub(crate) lost: u64,
    pub(crate) refused: u64,
    /// Rows that went by retention.
    pub(crate) went_rows: u64,
    /// What went or was lost and the file of it doesn't say yet.
    pub(crate) unnoted: BTreeMap<(LogId, Reason), IntervalSet>,
    /// Logs of which only what went of them was known, and that were forgotten.
    pub(crate) forgotten: u64,
    /// Other origins that have more than their part of the bound.
    pub(crate) over_share: Vec<Origin>,
    /// Rows and blocks not kept because little of the disk is free.
    pub(crate) unkept: u64,
    /// Whether the disk has room.
    pub(crate) room: Room,
    /// When the spool's write that is on its way began.
    pub(crate) spooling: Option<Instant>,
    /// What is wrong, one sentence a cause.
    pub(crate) ailments: BTreeMap<&'static str, String>,
}

/// A sync of the spool that takes longer is named in the health: slow cards take a second or two.
const HUNG: Duration = Duration::from_secs(10);

impl State {
    /// The roll-ups in a file, by log.
    pub(crate) fn rolled_in(&self, file: u32) -> BTreeMap<LogId, Vec<Place>> {
        let mut found: BTreeMap<LogId, Vec<Place>> = BTreeMap::new();
        for (id, log) in &self.logs {
            let places = log.rolled.iter().map(|(_, entry)| entry.place);
            let places: Vec<Place> = places.filter(|place| place.file == file).collect();
            if !places.is_empty() {
                found.insert(*id, places);
            }
        }
        found
    }

    /// Says so when the disk has not answered a write of the spool for long: nothing after it is safe.
    pub(crate) fn hung(&self, now: Instant) -> Option<String> {
        let since = now.saturating_duration_since(self.spooling?);
        (since >= HUNG).then(|| {
            let seconds = since.as_secs();
            format!("fresh rows are in memory only: the disk has not answered for {seconds} s")
        })
    }

    /// Counts an identity with two signed contents and keeps the loser as evidence.
    pub(crate) fn conflict(&mut self, loser: Vec<u8>) {
        self.conflicts += 1;
        if self.evidence.len() < 64 {
            self.evidence.push(loser);
        }
    }

    /// How many epochs of an origin have rows here.
    pub(crate) fn epochs(&self, origin: &Origin) -> usize {
        self.logs_of(origin)
            .filter(|(_, log)| !log.held.is_empty())
            .count()
    }

    pub(crate) fn logs_of(&self, origin: &Origin) -> impl Iterator<Item = (&LogId, &Log)> {
        let log = |store, counter, nonce| LogId {
            origin: *origin,
            store: StoreId(store),
            epoch: Epoch { counter, nonce },
        };
        self.logs
            .range(log(0, 0, 0)..=log(u64::MAX, u32::MAX, u64::MAX))
    }
}
