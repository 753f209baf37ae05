//! Blocks of one log after one another as one table: what sled keeps of them once there are enough.
//!
//! Longer columns pack better than a minute's: on 45 recorded minutes blocks take 0.512 B/sample, all as one pack about 0.41,
//! seals and heads included. Nothing of a block is lost: its rows are in the table, its signature in front; `blocks` gives back what
//! went in, to be sent to peers as ever. A pack never leaves the node that made it.
//! Byte by byte (big-endian; varints as in `varint`):
//! - `2` version; log 52, first seq 4, number of blocks 1;
//! - for each block: number of rows 1; how far its lowest boot time is above the highest of the block before (of the first:
//!   above 0) as a zigzag varint; the rest of its head as `head` writes it, the lowest offset as what it differs from that
//!   of the block before (of the first: from 0); signature 64;
//! - the length of the front as a varint, the front as one zstd frame that names its size, and the groups: all rows as one
//!   sheet in groups (see `sheet`, `grouped`), so that one series is read without unpacking the others;
//! - CRC32C 4 of all bytes before it.
//!
//! Version `1`, which is read: 60 blocks and 2^19 values at most; in place of front and groups codec `1` and one zstd frame
//! that names its size; it holds all rows as one whole sheet.
//!
//! Each block begins where the one before ends. Bounds: `MAX_PACK_BLOCKS` blocks, `MAX_CELLS` values; more are refused here,
//! and left for the next pack by `packer`. Packing holds the blocks as they are unpacked, a column, a group and a few blocks
//! made again in memory: for two hours of 140 series about 6 MB.
//! Absent: which blocks are packed together (`packer`).

use super::seal::inside_window;
use super::sheet::{self, TIMES};
use super::{Block, CODEC_ZSTD, Draft, Head, Sheet, WINDOW, grouped, unpack};
use crate::sample::{Clock, LogId, Seq};
use crate::varint::{FormatError, Reader, put_i64};
use std::ops::Range;

/// How many blocks a pack has at most: two hours.
pub const MAX_PACK_BLOCKS: usize = 120;
/// The same of the first version.
const FIRST_BLOCKS: usize = 60;
/// Rows times columns of a pack at most. Two hours of 141 series fit; of the widest rows three blocks.
const MAX_CELLS: usize = 1 << 20;
/// The same of the first version, which is unpacked as a whole.
const FIRST_CELLS: usize = 1 << 19;
/// What `FIRST_CELLS` values can take unpacked: ten bytes each, a bit whether they are there, codes, and schemas.
const FIRST_RAW_BYTES: usize = FIRST_CELLS * 10 + FIRST_CELLS / 8 + (1 << 19);
/// What `MAX_CELLS` values can take before groups are packed, the front included.
const MAX_RAW_BYTES: usize = MAX_CELLS * 8 + (1 << 20);
/// How many bytes an encoded pack can have at most.
pub const MAX_PACK_BYTES: usize = MAX_RAW_BYTES + MAX_RAW_BYTES / 64 + MAX_PACK_BLOCKS * 128 + 512;
const _: () = assert!(MAX_PACK_BLOCKS * WINDOW as usize <= grouped::MAX_ROWS);

const FIRST_VERSION: u8 = 1;
const VERSION: u8 = 2;
/// Blocks that are made again at once to see whether they come out as they went in.
const TRIED: usize = 8;

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
        let mut out = put_heads(VERSION, blocks)?;
        let rows = blocks.iter().map(|block| block.boots().len()).sum();
        let widest = blocks.iter().map(|block| block.sheet.width()).max();
        within(rows, widest.unwrap_or(0), MAX_CELLS)?;
        put_rows(&mut out, blocks);
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        let pack = Self::read(&out)?;
        for some in blocks.chunks(TRIED) {
            let of_some = |head: &Head| some.iter().any(|block| block.head().first == head.first);
            let again = pack.blocks(of_some)?;
            if again
                .iter()
                .map(Block::seal)
                .ne(some.iter().map(Block::seal))
            {
                return Err(FormatError::Invalid("blocks would not come out of a pack"));
            }
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
        let (version, blocks) = read_heads(&mut reader)?;
        let rows = blocks.last().map_or(0, |block| block.rows.end);
        if version != FIRST_VERSION {
            let sheet = Sheet::parse_grouped(reader.rest(), rows)?;
            within(rows, sheet.width(), MAX_CELLS)?;
            return Ok(Self { blocks, sheet });
        }
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
        let sheet = Sheet::parse(unpack(reader.rest(), FIRST_RAW_BYTES)?, rows)?;
        within(rows, sheet.width(), FIRST_CELLS)?;
        Ok(Self { blocks, sheet })
    }

    /// The heads of its blocks, nothing behind them: neither checksum nor rows are looked at.
    pub fn peek(bytes: &[u8]) -> Result<Vec<Head>, FormatError> {
        let (_, blocks) = read_heads(&mut Reader::new(bytes, "a pack"))?;
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
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
            return Ok(Vec::new());
        };
        let span = first.rows.start..last.rows.end;
        let mut columns = vec![vec![Vec::new(); self.sheet.width()]; wanted.len()];
        self.sheet.each(span.clone(), |series, column| {
            for (of_block, block) in columns.iter_mut().zip(&wanted) {
                let rows = block.rows.start - span.start..block.rows.end - span.start;
                of_block[series] = column[rows].to_vec();
            }
        })?;
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

/// Everything before the rows.
pub(crate) fn put_heads(version: u8, blocks: &[Block]) -> Result<Vec<u8>, FormatError> {
    let first = blocks
        .first()
        .filter(|_| blocks.len() <= most_blocks(version))
        .ok_or(FormatError::Invalid("a pack of no blocks, or of too many"))?
        .head();
    let mut out = vec![version];
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

fn read_heads(reader: &mut Reader<'_>) -> Result<(u8, Vec<Packed>), FormatError> {
    let version = reader.u8()?;
    if !(FIRST_VERSION..=VERSION).contains(&version) {
        return Err(FormatError::Version {
            what: "a pack",
            found: version,
            known: VERSION,
        });
    }
    let (log, first, count) = (LogId::read(reader)?, reader.u32_be()?, reader.u8()?);
    if !(1..=most_blocks(version)).contains(&usize::from(count)) {
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
    Ok((version, blocks))
}

fn most_blocks(version: u8) -> usize {
    if version == FIRST_VERSION {
        FIRST_BLOCKS
    } else {
        MAX_PACK_BLOCKS
    }
}

/// Appends the rows of all blocks.
fn put_rows(out: &mut Vec<u8>, blocks: &[Block]) {
    let (runs, boots, clocks) = merged(blocks);
    sheet::write_grouped(out, &runs, &boots, &clocks, |series| {
        let columns = blocks.iter().map(|block| block.sheet.column(series));
        columns.flatten().collect()
    });
}

/// Schemas and times of the rows of all blocks.
fn merged(blocks: &[Block]) -> (Vec<sheet::Run>, Vec<u64>, Vec<Clock>) {
    let mut runs: Vec<sheet::Run> = Vec::new();
    for run in blocks.iter().flat_map(Block::runs) {
        match runs.last_mut() {
            Some(last) if (last.schema, last.width) == (run.schema, run.width) => {
                last.rows += run.rows;
            }
            _ => runs.push(run.clone()),
        }
    }
    let boots = blocks.iter().flat_map(Block::boots).copied().collect();
    let clocks = blocks.iter().flat_map(Block::clocks).copied().collect();
    (runs, boots, clocks)
}

fn within(rows: usize, width: usize, limit: usize) -> Result<(), FormatError> {
    let cells = rows * (width + TIMES);
    if cells > limit {
        return Err(FormatError::Limit {
            what: "values of a pack",
            len: cells,
            limit,
        });
    }
    Ok(())
}

/// As the first version was written.
#[cfg(test)]
pub(crate) fn encode_first(blocks: &[Block]) -> Result<Vec<u8>, FormatError> {
    let mut out = put_heads(FIRST_VERSION, blocks)?;
    let (runs, boots, clocks) = merged(blocks);
    let raw = sheet::write(&runs, &boots, &clocks, |series| {
        let columns = blocks.iter().map(|block| block.sheet.column(series));
        columns.flatten().collect()
    });
    out.push(CODEC_ZSTD);
    out.extend_from_slice(&zstd::bulk::compress(&raw, 9).unwrap());
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    Pack::read(&out).map(|_| out)
}

/// How many rows of `width` series fit into a pack.
pub(crate) fn rows_that_fit(width: usize) -> usize {
    (MAX_CELLS / (width + TIMES)).min(MAX_PACK_BLOCKS * WINDOW as usize)
}

#[cfg(test)]
mod tests;
