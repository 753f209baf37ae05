//! The trees that are kept in sled: one file each for its keys and its values.
//!
//! Keys are big-endian, so that their order as bytes is their order as values: all blocks of a log lie together, by seq.
//! Every value carries a checksum of its own, since the engine may give back what it didn't get.
//! Absent: the engine.

pub mod block;
pub mod gone;
pub mod schema;

use crate::varint::FormatError;

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
