//! One tick of one origin: its values, the bytes that are signed, and how it travels.
//!
//! **A row**, byte by byte (big-endian; varints as in `varint`); these are its canonical bytes:
//! `1` version; log 52 (see `sample`); seq 4, not 0; schema hash 32; boot time in ms 8; clock: offset in ms 8, uncertainty
//! in ms 4, source 1 (`0` unsynced, `1` NTP, `2` peers); varint number of values, then varint lengths of runs of values
//! that are present, absent, present … until all are named (only the first may be 0); then each present value as a
//! zigzag varint. Values are absolute, so a row stands alone. The origin signs "outlast/row/1\0" + these bytes.
//!
//! **A signed row**: the canonical bytes and the signature, 64.
//!
//! **A delta** against an earlier row: see `delta`.
//!
//! Every decoder refuses any other spelling of the same row. Absent: what the values mean (`series`).

mod delta;

use std::ops::RangeInclusive;

use crate::sample::{Clock, ClockSource, LogId, Origin, Seq};
use crate::series::{MAX_SERIES, SchemaHash};
use crate::varint::{FormatError, Reader, put_i64, put_u64};

pub use self::delta::delta_key;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"outlast/row/1\0";

/// One tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The log it belongs to.
    pub log: LogId,
    /// Its position there, from 1.
    pub seq: Seq,
    /// What its values mean.
    pub schema: SchemaHash,
    /// When it was taken: milliseconds since the machine's boot, suspend included.
    pub boot_ms: u64,
    /// How boot time mapped to wall time then.
    pub clock: Clock,
    /// By number of series, at most `MAX_SERIES`; `None`: the source wasn't there.
    pub values: Vec<Option<i64>>,
}

/// Says whether a signature over a message is by an origin.
pub type Verifier<'a> = dyn Fn(&Origin, &[u8], &[u8; 64]) -> bool + 'a;

/// A row with its origin's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRow {
    /// The row.
    pub row: Row,
    /// By the origin, over `Row::message`.
    pub signature: [u8; 64],
}

impl Row {
    /// The bytes that say everything about the row, the same on every node.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + 3 * self.values.len());
        out.push(VERSION);
        out.extend_from_slice(&self.log.to_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.schema.0);
        out.extend_from_slice(&self.boot_ms.to_be_bytes());
        out.extend_from_slice(&self.clock.offset_ms.to_be_bytes());
        out.extend_from_slice(&self.clock.uncertainty_ms.to_be_bytes());
        out.push(self.clock.source.to_byte());
        put_values(&mut out, &self.values);
        out
    }

    /// Reads canonical bytes and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "a row");
        let row = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(row)
    }

    /// The bytes the origin signs.
    pub fn message(&self) -> Vec<u8> {
        [DOMAIN, &self.canonical()].concat()
    }

    /// The hash of the canonical bytes. Of two signed contents under one identity the lower one stays.
    pub fn content(&self) -> [u8; 32] {
        *blake3::hash(&self.canonical()).as_bytes()
    }

    /// Adds the signature.
    pub fn sign(self, sign: &dyn Fn(&[u8]) -> [u8; 64]) -> SignedRow {
        let signature = sign(&self.message());
        SignedRow {
            row: self,
            signature,
        }
    }

    /// Wall time by the row's own clock, whoever set it.
    pub fn wall_ms(&self) -> i64 {
        wall_ms(self.boot_ms, self.clock.offset_ms)
    }

    /// How many values are present.
    pub fn samples(&self) -> usize {
        self.values.iter().flatten().count()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        reader.version(VERSION)?;
        let log = LogId::read(reader)?;
        let seq = reader.u32_be()?;
        if seq == 0 {
            return Err(FormatError::Invalid("a row has seq 0"));
        }
        let schema = SchemaHash(reader.array()?);
        let boot_ms = reader.u64_be()?;
        let clock = Clock {
            offset_ms: reader.u64_be()? as i64,
            uncertainty_ms: reader.u32_be()?,
            source: ClockSource::from_byte(reader.u8()?)?,
        };
        Ok(Self {
            log,
            seq,
            schema,
            boot_ms,
            clock,
            values: read_values(reader)?,
        })
    }
}

impl SignedRow {
    /// Whether the origin signed it.
    pub fn verify(&self, verify: &Verifier<'_>) -> Result<(), FormatError> {
        let good = verify(&self.row.log.origin, &self.row.message(), &self.signature);
        if good {
            Ok(())
        } else {
            Err(FormatError::Signature("a row"))
        }
    }

    /// The row by itself, as the spool keeps it and other holders pass it on.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.row.canonical();
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads one signed row and nothing else; the signature is the caller's to check.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "a signed row");
        let row = Row::read(&mut reader)?;
        let signature = reader.array()?;
        reader.finish()?;
        Ok(Self { row, signature })
    }
}

/// When an encoded row was taken by its own clock, and whether that was synced. None: too short for a row.
pub(crate) fn peek_times(bytes: &[u8]) -> Option<(u64, Clock)> {
    let mut reader = Reader::new(bytes.get(1 + LogId::LEN + 4 + 32..)?, "a row");
    let boot_ms = reader.u64_be().ok()?;
    let clock = Clock {
        offset_ms: reader.u64_be().ok()? as i64,
        uncertainty_ms: reader.u32_be().ok()?,
        source: ClockSource::from_byte(reader.u8().ok()?).ok()?,
    };
    Some((boot_ms, clock))
}

/// Boot time moved to the wall; saturating, since both numbers may come from a stranger.
pub(crate) fn wall_ms(boot_ms: u64, offset_ms: i64) -> i64 {
    i64::try_from(boot_ms)
        .unwrap_or(i64::MAX)
        .saturating_add(offset_ms)
}

/// The wall times between two boot times at offsets between two others, when unsynced rows take `fix`: never narrower than
/// the truth.
pub(crate) fn wall_range(
    boot_ms: (u64, u64),
    offset_ms: (i64, i64),
    fix: Option<i64>,
) -> RangeInclusive<i64> {
    let low = offset_ms.0.min(fix.unwrap_or(i64::MAX));
    let high = offset_ms.1.max(fix.unwrap_or(i64::MIN));
    wall_ms(boot_ms.0, low)..=wall_ms(boot_ms.1, high)
}

fn put_values(out: &mut Vec<u8>, values: &[Option<i64>]) {
    put_u64(out, values.len() as u64);
    let (mut at, mut present) = (0, true);
    while at < values.len() {
        let run = values[at..]
            .iter()
            .take_while(|value| value.is_some() == present)
            .count();
        put_u64(out, run as u64);
        at += run;
        present = !present;
    }
    values
        .iter()
        .flatten()
        .for_each(|&value| put_i64(out, value));
}

fn read_values(reader: &mut Reader<'_>) -> Result<Vec<Option<i64>>, FormatError> {
    let count = reader.count("values of a row", MAX_SERIES)?;
    // At most MAX_SERIES marks, whatever the bytes claim.
    let mut values = Vec::new();
    let mut present = true;
    while values.len() < count {
        let run = reader.count("a run of values", count - values.len())?;
        if run == 0 && !(present && values.is_empty()) {
            return Err(FormatError::Invalid("a run of values is empty"));
        }
        values.resize(values.len() + run, present.then_some(0));
        present = !present;
    }
    for value in values.iter_mut().flatten() {
        *value = reader.i64()?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
