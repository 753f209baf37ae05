//! Own rows cut for the wire: deltas against a key row, a new key row each ten seconds.

use std::sync::Arc;

#[cfg(any(test, fuzzing))]
use bytes::Bytes;
#[cfg(test)]
use outlast_store::LogId;
use outlast_store::{Seq, SignedRow};

use super::wire::{KeyRow, Part};

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
    #[cfg(any(test, fuzzing))]
    pub(super) fn parts_of(&mut self, row: Arc<SignedRow>) -> Option<Vec<Bytes>> {
        let (log, seq) = (row.row.log, row.row.seq);
        Part::cut(&log, seq, &self.encode(row))
    }

    /// The next row as it travels. One that is too long for that becomes no key row.
    pub(super) fn encode(&mut self, row: Arc<SignedRow>) -> Vec<u8> {
        match &self.key {
            Some(key) if follows(key, &row) => row.delta(&key.row),
            _ => {
                let bytes = row.encode();
                if Part::fits(&bytes) {
                    self.before = self.key.replace(row);
                }
                bytes
            }
        }
    }

    /// The key row in use, in full.
    pub(super) fn key(&self) -> Option<&SignedRow> {
        self.key.as_deref()
    }

    /// A key row by its name, while it is remembered.
    pub(super) fn key_of(&self, wanted: &KeyRow) -> Option<&SignedRow> {
        let mut known = [&self.key, &self.before].into_iter().flatten();
        let named = known.find(|key| {
            let log = key.row.log;
            (log.store, log.epoch, key.row.seq) == (wanted.store, wanted.epoch, wanted.seq)
        });
        named.map(|key| &**key)
    }

    /// A key row a peer missed, while it is remembered.
    #[cfg(test)]
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

#[cfg(test)]
fn absolute(row: &SignedRow) -> Option<Vec<Bytes>> {
    Part::cut(&row.row.log, row.row.seq, &row.encode())
}
