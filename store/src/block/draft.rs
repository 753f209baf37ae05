//! Rows on their way to become a block.
//!
//! `Draft::build` puts them into columns; the origin seals these, a keeper attaches the seal it was sent.
//! Everything in it derives from the rows alone, so all who have them build the same bytes.

use super::{Block, DOMAIN, Head, Seal, TICK_MS, TIMES, WINDOW, column, seal};
use crate::row::Row;
use crate::series::MAX_SERIES;
use crate::varint::{FormatError, put_u64};

/// Columns without a seal yet: the origin seals them, a keeper attaches the seal it was sent.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(super) head: Head,
    pub(super) raw: Vec<u8>,
}

impl Draft {
    /// Puts rows into columns; they must be a run of one log without a hole, inside one window.
    pub fn build<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Result<Self, FormatError> {
        // One more than a block has is enough to refuse.
        let rows: Vec<&Row> = rows.into_iter().take(WINDOW as usize + 1).collect();
        let head = Head::of(&rows)?;
        let mut raw = Vec::new();
        let width = put_runs(&mut raw, &rows)?;
        let mut table: Vec<Vec<Option<i64>>> = Vec::with_capacity(TIMES + width);
        let mut add = |value: &dyn Fn(usize, &Row) -> Option<i64>| {
            table.push(
                rows.iter()
                    .enumerate()
                    .map(|(i, row)| value(i, row))
                    .collect(),
            );
        };
        add(&|i, row| Some(row.boot_ms.wrapping_sub(TICK_MS * i as u64) as i64));
        add(&|_, row| Some(row.clock.offset_ms));
        add(&|_, row| Some(i64::from(row.clock.uncertainty_ms)));
        add(&|_, row| Some(i64::from(row.clock.source.to_byte())));
        for series in 0..width {
            add(&|_, row| row.values.get(series).copied().flatten());
        }
        column::encode(&mut raw, &table);
        Ok(Self { head, raw })
    }

    /// What the block says about itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The hash of everything in the block.
    pub fn content(&self) -> [u8; 32] {
        content(&self.head, &self.raw)
    }

    /// Seals the columns as their origin.
    pub fn seal(self, sign: &dyn Fn(&[u8]) -> [u8; 64]) -> Block {
        let content = self.content();
        let signature = sign(&seal::message(
            &self.head.log,
            self.head.first,
            self.head.count,
            &content,
        ));
        self.finish(content, signature)
    }

    /// Attaches a seal that is for just this content. Its signature is the caller's to check.
    pub fn attach(self, seal: &Seal) -> Result<Block, FormatError> {
        let content = self.content();
        let head = &self.head;
        if (head.log, head.first, head.count, content)
            != (seal.log, seal.first, seal.count, seal.content)
        {
            return Err(FormatError::Invalid("a seal is for other rows"));
        }
        Ok(self.finish(content, seal.signature))
    }

    fn finish(self, content: [u8; 32], signature: [u8; 64]) -> Block {
        Block::parse(self.head, self.raw, content, signature)
            .expect("columns just written can be read")
    }
}

/// The hash that a seal is for.
pub(super) fn content(head: &Head, raw: &[u8]) -> [u8; 32] {
    let mut bytes = DOMAIN.to_vec();
    head.write(&mut bytes);
    *blake3::Hasher::new()
        .update(&bytes)
        .update(raw)
        .finalize()
        .as_bytes()
}

fn put_runs(out: &mut Vec<u8>, rows: &[&Row]) -> Result<usize, FormatError> {
    let runs: Vec<&[&Row]> = rows.chunk_by(|a, b| a.schema == b.schema).collect();
    put_u64(out, runs.len() as u64);
    let mut widest = 0;
    for run in runs {
        let width = run[0].values.len();
        if width > MAX_SERIES {
            return Err(FormatError::Limit {
                what: "values of a row",
                len: width,
                limit: MAX_SERIES,
            });
        }
        if run.iter().any(|row| row.values.len() != width) {
            return Err(FormatError::Invalid(
                "rows of one schema differ in how many values they have",
            ));
        }
        put_u64(out, run.len() as u64);
        out.extend_from_slice(&run[0].schema.0);
        put_u64(out, width as u64);
        widest = widest.max(width);
    }
    Ok(widest)
}
