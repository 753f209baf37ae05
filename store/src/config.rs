//! What a store is given: who writes in it, where it lives and how much it may take, and the sizes and times it goes by.
//!
//! Absent: what is done with it (`open`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::block::MAX_PACK_BLOCKS;
use crate::packer;
use crate::sample::Origin;

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

impl Keys {
    pub(crate) fn is_own(&self, origin: &Origin) -> bool {
        *origin == self.origin
    }
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

/// Sizes and times that tests make small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// A generation is closed when it has this much; earlier under a small bound.
    pub(crate) generation_bytes: u64,
    /// A generation is closed at this age.
    pub(crate) generation_age: Duration,
    /// Sealed blocks wait in memory this long, the spool covers them so long. Five minutes write two fifths less of
    /// blocks, whole pages counted, but leave a short run without a generation to look into; the spool writes far more.
    pub(crate) flush_every: Duration,
    /// sled's memory grows with what was written since the open: it is closed and opened again after this much. With
    /// blocks of 3.7 KB synced one by one a process grows by 12.4 MB at 4 MiB, by 9.0 at 1 MiB, by 8.4 at 512 KiB; each
    /// opening takes 0.1 to 0.2 s of the writer's thread.
    pub(crate) reopen_bytes: u64,
    /// So many blocks of a log become a pack: more of them pack better, fewer wait a shorter time beside sled.
    pub(crate) pack_blocks: usize,
    /// Packs made when a generation is closed; what is left is packed in later turns.
    pub(crate) packs_at_close: usize,
    /// Opening and reading a whole generation; beyond it the generation is given up.
    pub(crate) open_deadline: Duration,
    /// A new segment of the spool starts when the current one has this much.
    pub(crate) segment_bytes: u64,
}

impl Tuning {
    pub(crate) fn in_life() -> Self {
        Self {
            generation_bytes: 64 << 20,
            generation_age: Duration::from_secs(24 * 3_600),
            flush_every: Duration::from_secs(30),
            reopen_bytes: 1 << 20,
            pack_blocks: MAX_PACK_BLOCKS,
            packs_at_close: packer::RUNS,
            open_deadline: Duration::from_secs(180),
            segment_bytes: 1 << 20,
        }
    }

    /// As in life, but the spool is cut smaller: a simulation holds the disks of a thousand nodes in memory.
    pub(crate) fn simulated() -> Self {
        Self {
            segment_bytes: 64 << 10,
            ..Self::in_life()
        }
    }
}
