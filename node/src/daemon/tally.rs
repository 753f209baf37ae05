//! What this node holds of each log, counted up to a row: the other half of "nothing is missing".
//!
//! In: the store, the last row to count by log. Out: rows, samples and one digest a log.
//! Absent: what was taken; only each origin's own sampler knows that.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use outlast_store::{Block, LogId, Parcel, Row, Seq, SignedRow, Store};
use serde::{Deserialize, Serialize};

/// What one node holds of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogCount {
    /// Rows held.
    pub(crate) rows: u64,
    /// Values present in them.
    pub(crate) samples: u64,
    /// BLAKE3 over the rows' canonical bytes in order of seq, as hex.
    pub(crate) digest: String,
}

/// Bytes asked of the store at once.
const AT_ONCE: usize = 1 << 20;

/// A log's name on the control socket.
pub(crate) fn log_name(log: &LogId) -> String {
    HEXLOWER.encode(&log.to_bytes())
}

/// Counts every log; of those in `cuts` only the rows up to and with that one.
pub(crate) fn tally(
    store: &Store,
    cuts: &BTreeMap<String, Seq>,
) -> Result<BTreeMap<String, LogCount>> {
    let mut counts = BTreeMap::new();
    for (log, held) in store.held() {
        let name = log_name(&log);
        let last = cuts.get(&name).copied().unwrap_or(Seq::MAX);
        let mut count = Counting::default();
        for range in held.ranges() {
            let (mut first, end) = (*range.start(), (*range.end()).min(last));
            while first <= end {
                let parcels = store
                    .export(&log, first..=end, AT_ONCE)
                    .with_context(|| format!("read log {name} from row {first}"))?;
                let before = first;
                for row in rows(&parcels)? {
                    if (first..=end).contains(&row.seq) {
                        first = row.seq + 1;
                        count.add(&row);
                    }
                }
                if first == before {
                    break;
                }
            }
        }
        counts.insert(name, count.finish());
    }
    Ok(counts)
}

fn rows(parcels: &[Parcel]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for parcel in parcels {
        match parcel {
            Parcel::Row(bytes) => rows.push(SignedRow::decode(bytes)?.row),
            Parcel::Block(bytes) => rows.extend(Block::read(bytes)?.rows()),
        }
    }
    Ok(rows)
}

#[derive(Default)]
struct Counting {
    rows: u64,
    samples: u64,
    hasher: blake3::Hasher,
}

impl Counting {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        self.samples += row.samples() as u64;
        self.hasher.update(&row.canonical());
    }

    fn finish(self) -> LogCount {
        LogCount {
            rows: self.rows,
            samples: self.samples,
            digest: self.hasher.finalize().to_hex().to_string(),
        }
    }
}
