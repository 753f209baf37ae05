//! Rows of a real machine, recorded once and played back at any speed.
//!
//! A recording is what the collector said, tick by tick: `save` and `load` keep it as one zstd
//! frame of postcard. The one in `bench/` is 45 minutes of a two-core machine that was building
//! and testing this project meanwhile, made with `cargo run --release -p outlast-tests --bin record`.
//! Absent: signatures and identities; playing back makes new ones.

use std::io;
use std::path::Path;

use outlast_store::Series;
use serde::{Deserialize, Serialize};

/// One tick as the collector gave it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tick {
    /// Time since boot, in milliseconds.
    pub boot_ms: u64,
    /// Series numbered at this tick for the first time.
    pub appended: Vec<Series>,
    /// Values by series number; `None` where the source had none.
    pub values: Vec<Option<i64>>,
}

/// Writes a recording.
pub fn save(path: &Path, ticks: &[Tick]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(ticks).map_err(io::Error::other)?;
    std::fs::write(path, zstd::encode_all(&bytes[..], 19)?)
}

/// Reads a recording.
pub fn load(path: &Path) -> io::Result<Vec<Tick>> {
    let bytes = zstd::decode_all(&std::fs::read(path)?[..])?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}
