//! Rows on their way to become a block.
//!
//! `Draft::build` puts them into columns; the origin seals these, a keeper attaches the seal it was sent.
//! Everything in it derives from the rows alone, so all who have them build the same bytes.

use super::{Block, DOMAIN, Head, Seal, WINDOW, seal, sheet};
use crate::row::Row;
use crate::varint::FormatError;

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
        let runs = sheet::runs_of(&rows)?;
        let (boots, clocks): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| (row.boot_ms, row.clock)).unzip();
        let column = |series: usize| {
            let value = |row: &&Row| row.values.get(series).copied().flatten();
            rows.iter().map(value).collect()
        };
        let raw = sheet::write(&runs, &boots, &clocks, column);
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

    pub(super) fn finish(self, content: [u8; 32], signature: [u8; 64]) -> Block {
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
