//! Blocks of one log after one another as one table: what sled keeps of them once there are enough.
//!
//! Longer columns pack better than a minute's: on recorded rows 60 s take 0.512 B/sample, half an hour 0.434, seals and
//! heads included. Nothing of a block is lost: its rows are in the table, its signature in front; `blocks` gives back what
//! went in, to be sent to peers as ever. A pack never leaves the node that made it.
//! Byte by byte (big-endian; varints as in `varint`):
//! - `1` version; log 52, first seq 4, number of blocks 1;
//! - for each block: number of rows 1; how far its lowest boot time is above the highest of the block before (of the first:
//!   above 0) as a zigzag varint; the rest of its head as `head` writes it, the lowest offset as what it differs from that
//!   of the block before (of the first: from 0); signature 64;
//! - codec `1`: one zstd frame, level 9, that names its size; it holds all rows as one sheet (see `sheet`);
//! - CRC32C 4 of all bytes before it.
//!
//! Each block begins where the one before ends. Bounds: `MAX_PACK_BLOCKS` blocks, `MAX_CELLS` values.
//! Absent: which blocks are packed together (`packer`).

use super::seal::inside_window;
use super::sheet::{self, TIMES};
use super::{Block, CODEC_ZSTD, Draft, Head, Sheet, WINDOW, unpack};
use crate::sample::{LogId, Seq};
use crate::varint::{FormatError, Reader, put_i64};
use std::ops::Range;

/// How many blocks a pack has at most.
pub const MAX_PACK_BLOCKS: usize = 60;
/// Rows times columns of a pack at most: at 16 B each what taking it apart needs in memory. Half an hour of 287 series
/// fits; of the widest rows one block alone does, so these stay as they are.
const MAX_CELLS: usize = 1 << 19;
/// What `MAX_CELLS` values can take unpacked: ten bytes each, a bit whether they are there, codes, and schemas.
const MAX_RAW_BYTES: usize = MAX_CELLS * 10 + MAX_CELLS / 8 + (1 << 19);
/// How many bytes an encoded pack can have at most.
pub const MAX_PACK_BYTES: usize = MAX_RAW_BYTES + MAX_RAW_BYTES / 128 + MAX_PACK_BLOCKS * 128 + 512;

const VERSION: u8 = 1;
/// Packing is done once and in the background: on recorded rows 1.4 % smaller than level 3.
const LEVEL: i32 = 9;

/// Blocks that were packed together.
#[derive(Clone, Debug)]
pub struct Pack {
    blocks: Vec<Packed>,
    sheet: Sheet,
}

/// What a pack has of a block beside its rows.
#[derive(Clone, Debug)]
struct Packed {
    head: Head,
    signature: [u8; 64],
    /// Its rows among those of the pack.
    rows: Range<usize>,
}

impl Pack {
    /// Packs blocks of one log, each of which begins where the one before ends. `Err`: they are no such blocks, are too
    /// many, or would not all come back as they are.
    pub fn encode(blocks: &[Block]) -> Result<Vec<u8>, FormatError> {
        let mut out = put_heads(blocks)?;
        let packed = zstd::bulk::compress(&merged(blocks), LEVEL)
            .expect("memory to memory, with room for the worst case");
        out.push(CODEC_ZSTD);
        out.extend_from_slice(&packed);
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        let again = Self::read(&out)?.blocks(|_| true)?;
        if again
            .iter()
            .map(Block::seal)
            .ne(blocks.iter().map(Block::seal))
        {
            return Err(FormatError::Invalid("blocks would not come out of a pack"));
        }
        Ok(out)
    }

    /// Reads bytes that `encode` wrote; checks form and checksum.
    pub fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_PACK_BYTES {
            return Err(FormatError::Limit {
                what: "bytes of a pack",
                len: bytes.len(),
                limit: MAX_PACK_BYTES,
            });
        }
        let (body, crc) = bytes
            .split_last_chunk()
            .ok_or(FormatError::Truncated("a pack"))?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(FormatError::Checksum("a pack"));
        }
        let mut reader = Reader::new(body, "a pack");
        let blocks = read_heads(&mut reader)?;
        match reader.u8()? {
            CODEC_ZSTD => {}
            found => {
                return Err(FormatError::Version {
                    what: "the codec of a pack",
                    found,
                    known: CODEC_ZSTD,
                });
            }
        }
        let rows = blocks.last().map_or(0, |block| block.rows.end);
        let sheet = Sheet::parse(unpack(reader.rest(), MAX_RAW_BYTES)?, rows)?;
        within_cells(rows, sheet.width())?;
        Ok(Self { blocks, sheet })
    }

    /// The heads of its blocks, nothing behind them: neither checksum nor rows are looked at.
    pub fn peek(bytes: &[u8]) -> Result<Vec<Head>, FormatError> {
        let blocks = read_heads(&mut Reader::new(bytes, "a pack"))?;
        Ok(blocks.into_iter().map(|block| block.head).collect())
    }

    /// The heads of its blocks, in order.
    pub fn heads(&self) -> impl Iterator<Item = &Head> {
        self.blocks.iter().map(|block| &block.head)
    }

    /// Rows of all blocks as columns.
    pub fn sheet(&self) -> &Sheet {
        &self.sheet
    }

    /// The blocks whose heads are wanted, in order, as they were when they were packed.
    pub fn blocks(&self, wanted: impl Fn(&Head) -> bool) -> Result<Vec<Block>, FormatError> {
        let wanted: Vec<&Packed> = self.blocks.iter().filter(|b| wanted(&b.head)).collect();
        let mut columns: Vec<Vec<Vec<Option<i64>>>> = vec![Vec::new(); wanted.len()];
        let widest = if wanted.is_empty() {
            0
        } else {
            self.sheet.width()
        };
        for series in 0..widest {
            let column = self.sheet.column(series);
            for (of_block, block) in columns.iter_mut().zip(&wanted) {
                of_block.push(column[block.rows.clone()].to_vec());
            }
        }
        let unpacked = wanted.into_iter().zip(columns);
        unpacked
            .map(|(block, columns)| self.block(block, columns))
            .collect()
    }

    fn block(
        &self,
        packed: &Packed,
        mut columns: Vec<Vec<Option<i64>>>,
    ) -> Result<Block, FormatError> {
        let rows = packed.rows.clone();
        let (boots, clocks) = (
            &self.sheet.boots()[rows.clone()],
            &self.sheet.clocks()[rows.clone()],
        );
        let Head { log, first, .. } = packed.head;
        let head = Head::of_times(log, first, boots, clocks);
        if head != packed.head {
            return Err(FormatError::Invalid("a pack's heads are not of its rows"));
        }
        let runs = self.sheet.runs_of(rows);
        let raw = sheet::write(&runs, boots, clocks, |series| {
            std::mem::take(&mut columns[series])
        });
        let draft = Draft { head, raw };
        let content = draft.content();
        Ok(draft.finish(content, packed.signature))
    }
}

/// Everything before the codec.
pub(crate) fn put_heads(blocks: &[Block]) -> Result<Vec<u8>, FormatError> {
    let first = blocks
        .first()
        .filter(|_| blocks.len() <= MAX_PACK_BLOCKS)
        .ok_or(FormatError::Invalid("a pack of no blocks, or of too many"))?
        .head();
    let mut out = vec![VERSION];
    out.extend_from_slice(&first.log.to_bytes());
    out.extend_from_slice(&first.first.to_be_bytes());
    out.push(blocks.len() as u8);
    let (mut next, mut high, mut least) = (Some(first.first), 0u64, 0);
    for block in blocks {
        let head = block.head();
        if head.log != first.log || Some(head.first) != next {
            return Err(FormatError::Invalid("blocks of a pack are not one run"));
        }
        out.push(head.count);
        put_i64(&mut out, head.boot_ms.start().wrapping_sub(high) as i64);
        head.write_rest(&mut out, least);
        out.extend_from_slice(&block.signature);
        (high, least) = (*head.boot_ms.end(), *head.offset_ms.start());
        next = head.last().checked_add(1);
    }
    Ok(out)
}

fn read_heads(reader: &mut Reader<'_>) -> Result<Vec<Packed>, FormatError> {
    reader.version(VERSION)?;
    let (log, first, count) = (LogId::read(reader)?, reader.u32_be()?, reader.u8()?);
    if !(1..=MAX_PACK_BLOCKS).contains(&usize::from(count)) {
        return Err(FormatError::Invalid("a pack of no blocks, or of too many"));
    }
    let mut blocks: Vec<Packed> = Vec::with_capacity(usize::from(count));
    let (mut next, mut high, mut least, mut row): (Option<Seq>, u64, i64, usize) =
        (Some(first), 0, 0, 0);
    for _ in 0..count {
        let first = next.ok_or(FormatError::Invalid("a pack leaves its log"))?;
        let rows = reader.u8()?;
        inside_window(first, rows)?;
        let low = high.wrapping_add(reader.i64()? as u64);
        let head = Head::read_rest(reader, (log, first, rows), low, least)?;
        (high, least) = (*head.boot_ms.end(), *head.offset_ms.start());
        next = head.last().checked_add(1);
        let end = row + usize::from(rows);
        blocks.push(Packed {
            head,
            signature: reader.array()?,
            rows: row..end,
        });
        row = end;
    }
    Ok(blocks)
}

/// The rows of all blocks as the bytes of one sheet.
fn merged(blocks: &[Block]) -> Vec<u8> {
    let mut runs: Vec<sheet::Run> = Vec::new();
    for run in blocks.iter().flat_map(Block::runs) {
        match runs.last_mut() {
            Some(last) if (last.schema, last.width) == (run.schema, run.width) => {
                last.rows += run.rows;
            }
            _ => runs.push(run.clone()),
        }
    }
    let boots: Vec<u64> = blocks.iter().flat_map(Block::boots).copied().collect();
    let clocks: Vec<_> = blocks.iter().flat_map(Block::clocks).copied().collect();
    sheet::write(&runs, &boots, &clocks, |series| {
        let columns = blocks.iter().map(|block| block.sheet.column(series));
        columns.flatten().collect()
    })
}

fn within_cells(rows: usize, width: usize) -> Result<(), FormatError> {
    let cells = rows * (width + TIMES);
    if cells > MAX_CELLS {
        return Err(FormatError::Limit {
            what: "values of a pack",
            len: cells,
            limit: MAX_CELLS,
        });
    }
    Ok(())
}

/// How many rows of `width` series fit into a pack.
pub(crate) fn rows_that_fit(width: usize) -> usize {
    (MAX_CELLS / (width + TIMES)).min(MAX_PACK_BLOCKS * WINDOW as usize)
}

#[cfg(test)]
mod tests;
