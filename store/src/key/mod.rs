//! What is kept under a key: one file a kind, for its keys and its values.
//!
//! Blocks lie in sled; schemas and ranges that are gone in a small file of records each, key before value.
//! Keys are big-endian, so that their order as bytes is their order as values: all blocks of a log lie together, by seq.
//! Every value carries a checksum of its own, since the engine may give back what it didn't get.
//! Absent: the engine.

pub mod block;
pub mod gone;
pub mod schema;

use crate::sample::{LogId, Seq};
use crate::varint::{FormatError, Reader};

/// How many bytes a log and a seq in it have as a key.
const LOG_AND_SEQ: usize = LogId::LEN + 4;

/// A log and a seq in it, as a key.
fn log_and_seq(log: &LogId, seq: Seq) -> [u8; LOG_AND_SEQ] {
    let mut out = [0; LOG_AND_SEQ];
    out[..LogId::LEN].copy_from_slice(&log.to_bytes());
    out[LogId::LEN..].copy_from_slice(&seq.to_be_bytes());
    out
}

/// The inverse of `log_and_seq`, for a key of `what`.
fn read_log_and_seq(bytes: &[u8], what: &'static str) -> Result<(LogId, Seq), FormatError> {
    let mut reader = Reader::new(bytes, what);
    let key = (LogId::read(&mut reader)?, reader.u32_be()?);
    reader.finish()?;
    Ok(key)
}

/// `body` and its CRC32C, 4 bytes big-endian.
fn with_checksum(mut body: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&body);
    body.extend_from_slice(&crc.to_be_bytes());
    body
}

/// The body, if its checksum is right.
fn without_checksum<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a [u8], FormatError> {
    let (body, crc) = bytes
        .split_last_chunk()
        .ok_or(FormatError::Truncated(what))?;
    if crc32c::crc32c(body) == u32::from_be_bytes(*crc) {
        Ok(body)
    } else {
        Err(FormatError::Checksum(what))
    }
}
