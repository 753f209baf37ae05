//! skeleton row
#![allow(missing_docs, unused)]
use crate::sample::{Clock, LogId, Origin, Seq};
use crate::series::SchemaHash;
use crate::varint::FormatError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub log: LogId,
    pub seq: Seq,
    pub schema: SchemaHash,
    pub boot_ms: u64,
    pub clock: Clock,
    pub values: Vec<Option<i64>>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRow {
    pub row: Row,
    pub signature: [u8; 64],
}
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> [u8; 64];
pub type Verify<'a> = &'a dyn Fn(&Origin, &[u8], &[u8; 64]) -> bool;
impl Row {
    /// The bytes that identify its content.
    pub fn canonical(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// The bytes its origin signs.
    pub fn message(&self) -> Vec<u8> {
        unimplemented!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
    pub fn sign(self, sign: Sign<'_>) -> SignedRow {
        unimplemented!()
    }
    /// Wall time by the row's own clock.
    pub fn wall_ms(&self) -> i64 {
        unimplemented!()
    }
    /// How many values are present.
    pub fn samples(&self) -> usize {
        unimplemented!()
    }
    /// BLAKE3 of the canonical bytes.
    pub fn content(&self) -> [u8; 32] {
        unimplemented!()
    }
}
impl SignedRow {
    pub fn verify(&self, verify: Verify<'_>) -> Result<(), FormatError> {
        unimplemented!()
    }
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
    /// The row relative to an earlier row of its log; absolute where `key` is of no use.
    pub fn delta(&self, key: &Row) -> Vec<u8> {
        unimplemented!()
    }
    /// `bytes` may also be an absolute row, which needs no key.
    pub fn from_delta(key: &Row, bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
}
/// The seq of the key row `bytes` (what `delta` wrote) needs; `None` for an absolute row.
pub fn delta_key(bytes: &[u8]) -> Result<Option<Seq>, FormatError> {
    unimplemented!()
}
