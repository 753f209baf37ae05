//! Own rows cut for the wire: deltas against a key row, a new key row each ten seconds.

use std::sync::Arc;

use bytes::Bytes;
use outlast_store::{LogId, Seq, SignedRow};

use super::wire::Part;

/// Rows from one key row to the next.
const KEY_EVERY: Seq = 10;

/// The key rows peers may need: the one in use and the one before.
#[derive(Debug, Default)]
pub(super) struct LiveRows {
    key: Option<Arc<SignedRow>>,
    before: Option<Arc<SignedRow>>,
}

impl LiveRows {
    /// The datagrams of the next row; `None` when it is too long for them.
    pub(super) fn parts_of(&mut self, row: Arc<SignedRow>) -> Option<Vec<Bytes>> {
        match &self.key {
            Some(key) if follows(key, &row) => {
                Part::cut(&row.row.log, row.row.seq, &row.delta(&key.row))
            }
            _ => {
                let parts = absolute(&row)?;
                self.before = self.key.replace(row);
                Some(parts)
            }
        }
    }

    /// The key row in use, for a peer that has just come.
    pub(super) fn key_parts(&self) -> Vec<Bytes> {
        self.key
            .as_ref()
            .and_then(|key| absolute(key))
            .unwrap_or_default()
    }

    /// A key row a peer missed, while it is remembered.
    pub(super) fn parts_of_key(&self, log: &LogId, seq: Seq) -> Vec<Bytes> {
        let known = [&self.key, &self.before].into_iter().flatten();
        let mut wanted = known.filter(|key| key.row.log == *log && key.row.seq == seq);
        wanted
            .next()
            .and_then(|key| absolute(key))
            .unwrap_or_default()
    }
}

fn follows(key: &SignedRow, row: &SignedRow) -> bool {
    key.row.log == row.row.log
        && key.row.schema == row.row.schema
        && row.row.seq > key.row.seq
        && row.row.seq - key.row.seq < KEY_EVERY
}

fn absolute(row: &SignedRow) -> Option<Vec<Bytes>> {
    Part::cut(&row.row.log, row.row.seq, &row.encode())
}
