//! Up to 60 rows as columns, compressed and sealed by their origin: what sled keeps and nodes exchange.
//!
//! A block holds a run of rows of one log without a hole, inside one window (window `k` is seq `60k+1..=60k+60`).
//! Byte by byte (big-endian; varints as in `varint`):
//! - head: `1` version; log 52, first seq 4, number of rows 1; then of the rows' boot times in ms the lowest as a varint and
//!   how far the highest is above it, of their clock offsets the lowest as a zigzag varint and how far the highest is
//!   above it; then `0`, or `1` and as a varint how far the offset of the first row with a synced clock is above the lowest;
//! - signature 64 of the origin (see `seal`);
//! - codec `1`: one zstd frame, level 3, that names its size; it holds the columns and is followed by
//! - CRC32C 4 of all bytes before it.
//!
//! The columns: see `sheet`.
//!
//! **Content hash** = BLAKE3("outlast/block/1\0" + head + columns, uncompressed). So whoever has all the rows builds the
//! same columns and only checks the seal; and a better codec can come without a new signature.
//! Bounds: at most `MAX_RAW_BYTES` of columns are unpacked. Foreign bytes are believed when form, checksum and signature
//! are good *and* the rows in them would be encoded to just these columns.
//! Absent: which rows go into a block, and when (`seal` in the engine's part); many blocks as one value (`pack`).

pub(crate) mod column;
mod draft;
mod grouped;
mod head;
mod pack;
mod seal;
mod sheet;

pub(crate) use self::sheet::full;

use crate::row::{Row, Verifier};
use crate::sample::{Clock, Seq};
use crate::series::MAX_SERIES;
use crate::varint::{FormatError, Reader};
use std::ops::RangeInclusive;
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

pub use self::draft::Draft;
pub use self::head::Head;
pub(crate) use self::pack::rows_that_fit;
pub use self::pack::{MAX_PACK_BLOCKS, MAX_PACK_BYTES, Pack};
#[cfg(test)]
pub(crate) use self::pack::{encode_first, put_heads};
pub use self::seal::Seal;
pub use self::sheet::{Run, Sheet};

/// The number of rows in a window, and the most in a block.
pub const WINDOW: u32 = 60;
/// How many bytes of columns are unpacked at most: what 60 rows of `MAX_SERIES` random values need.
pub const MAX_RAW_BYTES: usize = 60 * (36 + 4 * 10) + (MAX_SERIES + 4) * (60 * 10 + 8 + 10) + 16;
/// How many bytes an encoded block can have at most: incompressible columns, a head and a seal.
pub const MAX_BLOCK_BYTES: usize = MAX_RAW_BYTES + MAX_RAW_BYTES / 128 + 512;

const VERSION: u8 = 1;
const CODEC_ZSTD: u8 = 1;
const LEVEL: i32 = 3;
const DOMAIN: &[u8] = b"outlast/block/1\0";

/// The first and last seq of the window that `seq` falls in; the very last window is short.
pub fn window_of(seq: Seq) -> RangeInclusive<Seq> {
    let first = (seq.max(1) - 1) / WINDOW * WINDOW + 1;
    first..=first.saturating_add(WINDOW - 1)
}

/// Sealed rows.
#[derive(Clone, Debug)]
pub struct Block {
    head: Head,
    content: [u8; 32],
    signature: [u8; 64],
    sheet: Sheet,
}

impl Block {
    /// Reads foreign bytes; checks form, checksum, signature, and that there is no other encoding of the same rows.
    pub fn decode(bytes: &[u8], verify: &Verifier<'_>) -> Result<Self, FormatError> {
        let block = Self::read(bytes)?;
        block
            .seal()
            .verify(verify)
            .or(Err(FormatError::Signature("a block")))?;
        let again = Draft::build(&block.rows())?;
        if again.head != block.head || again.raw != block.sheet.bytes() {
            return Err(FormatError::Invalid(
                "a block is not encoded as its rows would be",
            ));
        }
        Ok(block)
    }

    /// Reads bytes that `decode` or `encode` have passed before; checks form and checksum.
    pub fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(FormatError::Limit {
                what: "bytes of a block",
                len: bytes.len(),
                limit: MAX_BLOCK_BYTES,
            });
        }
        let (body, crc) = bytes
            .split_last_chunk()
            .ok_or(FormatError::Truncated("a block"))?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(FormatError::Checksum("a block"));
        }
        let mut reader = Reader::new(body, "a block");
        let head = Head::read(&mut reader)?;
        let signature = reader.array()?;
        match reader.u8()? {
            CODEC_ZSTD => {}
            found => {
                return Err(FormatError::Version {
                    what: "the codec of a block",
                    found,
                    known: CODEC_ZSTD,
                });
            }
        }
        let raw = unpack(reader.rest(), MAX_RAW_BYTES)?;
        let content = draft::content(&head, &raw);
        Self::parse(head, raw, content, signature)
    }

    /// The bytes as stored and sent.
    pub fn encode(&self) -> Vec<u8> {
        let packed = zstd::bulk::compress(self.sheet.bytes(), LEVEL)
            .expect("memory to memory, with room for the worst case");
        let mut out = Vec::with_capacity(packed.len() + 192);
        self.head.write(&mut out);
        out.extend_from_slice(&self.signature);
        out.push(CODEC_ZSTD);
        out.extend_from_slice(&packed);
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        out
    }

    /// What the block says about itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The origin's word for it.
    pub fn seal(&self) -> Seal {
        let Head {
            log, first, count, ..
        } = self.head;
        Seal {
            log,
            first,
            count,
            content: self.content,
            signature: self.signature,
        }
    }

    /// Its rows as columns.
    pub fn sheet(&self) -> &Sheet {
        &self.sheet
    }

    /// The schemas of its rows, in order.
    pub fn runs(&self) -> &[Run] {
        self.sheet.runs()
    }

    /// Boot time of each row.
    pub fn boots(&self) -> &[u64] {
        self.sheet.boots()
    }

    /// Clock of each row.
    pub fn clocks(&self) -> &[Clock] {
        self.sheet.clocks()
    }

    /// The values of some series, by their number, an entry for each row; all `None` where no row has that series.
    /// Only these are decoded.
    pub fn columns(&self, series: &[usize]) -> Vec<Vec<Option<i64>>> {
        self.sheet.columns(series)
    }

    /// How many values are present in all rows.
    pub fn samples(&self) -> u64 {
        self.sheet.samples()
    }

    /// All rows, as they were before they became columns.
    pub fn rows(&self) -> Vec<Row> {
        let (boots, clocks) = (self.boots(), self.clocks());
        let mut rows = Vec::with_capacity(boots.len());
        for run in self.runs() {
            for _ in 0..run.rows {
                let at = rows.len();
                let (boot_ms, clock) = (boots[at], clocks[at]);
                let values = vec![None; run.width];
                let seq = self.head.first.saturating_add(at as u32);
                rows.push(Row {
                    log: self.head.log,
                    seq,
                    schema: run.schema,
                    boot_ms,
                    clock,
                    values,
                });
            }
        }
        for index in 0..self.sheet.width() {
            for (row, value) in rows.iter_mut().zip(self.sheet.column(index)) {
                if let Some(place) = row.values.get_mut(index) {
                    *place = value;
                }
            }
        }
        rows
    }

    fn parse(
        head: Head,
        raw: Vec<u8>,
        content: [u8; 32],
        signature: [u8; 64],
    ) -> Result<Self, FormatError> {
        let sheet = Sheet::parse(raw, usize::from(head.count))?;
        Ok(Self {
            head,
            content,
            signature,
            sheet,
        })
    }
}

/// A block made of its head and unpacked columns, one after the other, without looking at the columns. `None` without a
/// head in front.
#[cfg(any(test, fuzzing))]
pub(crate) fn pack(inside: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(inside, "a block");
    let head = Head::read(&mut reader).ok()?;
    let packed = zstd::bulk::compress(reader.rest(), LEVEL).ok()?;
    let mut out = Vec::new();
    head.write(&mut out);
    out.extend_from_slice(&[7; 64]);
    out.push(CODEC_ZSTD);
    out.extend_from_slice(&packed);
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    Some(out)
}

/// What `pack` takes, of a block.
#[cfg(test)]
pub(crate) fn inside(block: &Block) -> Vec<u8> {
    let mut out = Vec::new();
    block.head.write(&mut out);
    out.extend_from_slice(block.sheet.bytes());
    out
}

/// One whole zstd frame that names its size, which is at most `limit`.
pub(crate) fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, FormatError> {
    let broken = FormatError::Invalid("a zstd frame is damaged or not one whole frame");
    if find_frame_compressed_size(packed).ok() != Some(packed.len()) {
        return Err(broken);
    }
    let size = get_frame_content_size(packed)
        .ok()
        .flatten()
        .ok_or(broken)?;
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    if len > limit {
        return Err(FormatError::Limit {
            what: "columns, unpacked,",
            len,
            limit,
        });
    }
    let raw = zstd::bulk::decompress(packed, len).or(Err(broken))?;
    if raw.len() == len {
        Ok(raw)
    } else {
        Err(broken)
    }
}

#[cfg(test)]
mod tests;
