//! skeleton block
#![allow(missing_docs, unused)]
use crate::row::{Row, Sign, Verify};
use crate::sample::{Clock, LogId, Origin, Seq};
use crate::series::SchemaHash;
use crate::varint::FormatError;
use std::ops::RangeInclusive;

/// Rows in a window and the most rows in a block.
pub const WINDOW: u32 = 60;

/// The window (first and last seq) that `seq` falls in.
pub fn window_of(seq: Seq) -> RangeInclusive<Seq> {
    unimplemented!()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub log: LogId,
    pub first: Seq,
    pub count: u8,
    pub content: [u8; 32],
    pub signature: [u8; 64],
}
impl Seal {
    pub fn last(&self) -> Seq {
        unimplemented!()
    }
    pub fn verify(&self, verify: Verify<'_>) -> Result<(), FormatError> {
        unimplemented!()
    }
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
}

/// Columns without a seal yet: `Draft::build(rows)` then `seal(sign)` (origin) or `attach(seal)` (keeper).
#[derive(Clone, Debug)]
pub struct Draft;
impl Draft {
    pub fn build<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Result<Self, FormatError> {
        unimplemented!()
    }
    pub fn content(&self) -> [u8; 32] {
        unimplemented!()
    }
    pub fn seal(self, sign: Sign<'_>) -> Block {
        unimplemented!()
    }
    /// Fails where the seal is for other content. The seal's signature is the caller's to check.
    pub fn attach(self, seal: &Seal) -> Result<Block, FormatError> {
        unimplemented!()
    }
}

/// What a block says about itself without being decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub log: LogId,
    pub first: Seq,
    pub count: u8,
    /// Lowest and highest boot time of its rows.
    pub boot_ms: RangeInclusive<u64>,
    /// Lowest and highest clock offset of its rows.
    pub offset_ms: RangeInclusive<i64>,
    /// Offset of the first row whose clock was synced.
    pub synced_ms: Option<i64>,
}
impl Head {
    /// Of the encoded bytes of a block; checks the form of the head only.
    pub fn peek(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
    pub fn last(&self) -> Seq {
        unimplemented!()
    }
}

#[derive(Clone, Debug)]
pub struct Block;
impl Block {
    pub fn head(&self) -> &Head {
        unimplemented!()
    }
    pub fn seal(&self) -> Seal {
        unimplemented!()
    }
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// Foreign bytes: form, checksum and signature.
    pub fn decode(bytes: &[u8], verify: Verify<'_>) -> Result<Self, FormatError> {
        unimplemented!()
    }
    /// Own bytes back from disk: form and checksum, not the signature.
    pub fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
    pub fn rows(&self) -> Vec<Row> {
        unimplemented!()
    }
    /// How many values are present.
    pub fn samples(&self) -> u64 {
        unimplemented!()
    }
}
