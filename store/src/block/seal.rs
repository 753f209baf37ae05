//! An origin's word that a run of its rows has just this content.
//!
//! A seal is all that crosses the wire when a keeper has the rows already: it builds the same block and compares.
//! Byte by byte: `1` version; log 52; first seq 4; count 1; content hash 32; signature 64: 154 bytes.
//! The origin signs "outlast/seal/1\0" + log + first seq + count + content hash.
//! Absent: what the content hash covers (`block`).

use super::window_of;
use crate::row::Verifier;
use crate::sample::{LogId, Seq};
use crate::varint::{FormatError, Reader};

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"outlast/seal/1\0";

/// The origin's signature over a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The log the rows belong to.
    pub log: LogId,
    /// The seq of the first row.
    pub first: Seq,
    /// How many rows, 1 to 60, all inside one window.
    pub count: u8,
    /// The block's content hash.
    pub content: [u8; 32],
    /// By the origin, over `Seal::message`.
    pub signature: [u8; 64],
}

impl Seal {
    /// The seq of the last row.
    pub fn last(&self) -> Seq {
        self.first
            .saturating_add(u32::from(self.count).saturating_sub(1))
    }

    /// The bytes the origin signs.
    pub fn message(&self) -> Vec<u8> {
        message(&self.log, self.first, self.count, &self.content)
    }

    /// Whether the origin signed it.
    pub fn verify(&self, verify: &Verifier<'_>) -> Result<(), FormatError> {
        let good = verify(&self.log.origin, &self.message(), &self.signature);
        if good {
            Ok(())
        } else {
            Err(FormatError::Signature("a seal"))
        }
    }

    /// The bytes as stored and sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_run(&mut out, &self.log, self.first, self.count);
        out.extend_from_slice(&self.content);
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads one seal and nothing else; the signature is the caller's to check.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "a seal");
        reader.version(VERSION)?;
        let (log, first, count) = read_run(&mut reader)?;
        let seal = Self {
            log,
            first,
            count,
            content: reader.array()?,
            signature: reader.array()?,
        };
        reader.finish()?;
        Ok(seal)
    }
}

pub(super) fn message(log: &LogId, first: Seq, count: u8, content: &[u8; 32]) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    put_run(&mut out, log, first, count);
    out.extend_from_slice(content);
    out
}

/// Appends log, first seq and count, as seals and blocks have them.
pub(super) fn put_run(out: &mut Vec<u8>, log: &LogId, first: Seq, count: u8) {
    out.extend_from_slice(&log.to_bytes());
    out.extend_from_slice(&first.to_be_bytes());
    out.push(count);
}

/// Reads what `put_run` wrote; refuses a run that is empty or leaves its window.
pub(super) fn read_run(reader: &mut Reader<'_>) -> Result<(LogId, Seq, u8), FormatError> {
    let (log, first, count) = (LogId::read(reader)?, reader.u32_be()?, reader.u8()?);
    inside_window(first, count)?;
    Ok((log, first, count))
}

/// Refuses a run that is empty or leaves its window.
pub(super) fn inside_window(first: Seq, count: u8) -> Result<(), FormatError> {
    let inside = first > 0 && count > 0 && {
        let window = window_of(first);
        u32::from(count) <= window.end() - first + 1
    };
    if inside {
        Ok(())
    } else {
        Err(FormatError::Invalid(
            "a run of rows is not inside one window",
        ))
    }
}
