//! What a block says about itself: whose rows, which, and when they were taken.
//!
//! It stands uncompressed in front (bytes: see `block`), so that a query finds the blocks of a range without unpacking any.
//! Times are as the rows' own clocks had them. Absent: the log's first synced offset, which a caller knows.

use super::seal::{put_run, read_run};
use super::{VERSION, window_of};
use crate::row::{Row, wall_range};
use crate::sample::{Clock, ClockSource, LogId, Seq};
use crate::varint::{FormatError, Reader, put_i64, put_u64};
use std::ops::RangeInclusive;

/// What a block says about itself without being unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The log the rows belong to.
    pub log: LogId,
    /// The seq of the first row.
    pub first: Seq,
    /// How many rows.
    pub count: u8,
    /// Lowest and highest boot time of the rows.
    pub boot_ms: RangeInclusive<u64>,
    /// Lowest and highest clock offset of the rows, synced or not.
    pub offset_ms: RangeInclusive<i64>,
    /// Offset of the first row whose clock was synced. `None`: none was.
    pub synced_ms: Option<i64>,
}

impl Head {
    /// Reads the head of an encoded block, nothing behind it: neither checksum nor seal is checked.
    pub fn peek(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::read(&mut Reader::new(bytes, "a block"))
    }

    /// The seq of the last row.
    pub fn last(&self) -> Seq {
        self.first
            .saturating_add(u32::from(self.count).saturating_sub(1))
    }

    /// Wall times that enclose those of all rows. `synced_ms` is the offset that unsynced rows take, if there is one.
    pub fn wall_ms(&self, synced_ms: Option<i64>) -> RangeInclusive<i64> {
        let (boot_ms, offset_ms) = (self.boot_ms.clone(), self.offset_ms.clone());
        wall_range(boot_ms.into_inner(), offset_ms.into_inner(), synced_ms)
    }

    pub(super) fn of(rows: &[&Row]) -> Result<Self, FormatError> {
        let first = rows
            .first()
            .ok_or(FormatError::Invalid("a block of no rows"))?;
        let window = window_of(first.seq);
        let inside = rows
            .iter()
            .zip(first.seq..=*window.end())
            .filter(|(row, seq)| row.seq == *seq && row.log == first.log);
        if first.seq == 0 || inside.count() != rows.len() {
            return Err(FormatError::Invalid(
                "rows of a block are not a run inside one window",
            ));
        }
        let (boots, clocks): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| (row.boot_ms, row.clock)).unzip();
        Ok(Self::of_times(first.log, first.seq, &boots, &clocks))
    }

    /// The head of a run of at most a window's rows, of which there is one at least.
    pub(super) fn of_times(log: LogId, first: Seq, boots: &[u64], clocks: &[Clock]) -> Self {
        let (low, high) = boots
            .iter()
            .fold((u64::MAX, 0), |(l, h), &boot| (boot.min(l), boot.max(h)));
        let offsets = clocks.iter().map(|clock| clock.offset_ms);
        let (least, most) = offsets.fold((i64::MAX, i64::MIN), |(l, h), offset| {
            (offset.min(l), offset.max(h))
        });
        let synced = clocks
            .iter()
            .find(|clock| clock.source != ClockSource::Unsynced);
        Self {
            log,
            first,
            count: boots.len() as u8,
            boot_ms: low..=high,
            offset_ms: least..=most,
            synced_ms: synced.map(|clock| clock.offset_ms),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_run(out, &self.log, self.first, self.count);
        put_u64(out, *self.boot_ms.start());
        self.write_rest(out, 0);
    }

    /// Everything behind the lowest boot time; the lowest offset as what it differs from `base`.
    pub(super) fn write_rest(&self, out: &mut Vec<u8>, base: i64) {
        put_u64(out, self.boot_ms.end() - self.boot_ms.start());
        let least = *self.offset_ms.start();
        put_i64(out, least.wrapping_sub(base));
        put_u64(out, self.offset_ms.end().wrapping_sub(least) as u64);
        out.push(u8::from(self.synced_ms.is_some()));
        if let Some(synced) = self.synced_ms {
            put_u64(out, synced.wrapping_sub(least) as u64);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        reader.version(VERSION)?;
        let run = read_run(reader)?;
        let low = reader.u64()?;
        Self::read_rest(reader, run, low, 0)
    }

    /// The inverse of `write_rest`.
    pub(super) fn read_rest(
        reader: &mut Reader<'_>,
        (log, first, count): (LogId, Seq, u8),
        low: u64,
        base: i64,
    ) -> Result<Self, FormatError> {
        let overflow = FormatError::Invalid("a block's times are beyond 64 bits");
        let high = low.checked_add(reader.u64()?).ok_or(overflow)?;
        let least = base.wrapping_add(reader.i64()?);
        let most = least.checked_add_unsigned(reader.u64()?).ok_or(overflow)?;
        let synced_ms = match reader.u8()? {
            0 => None,
            1 => Some(least.checked_add_unsigned(reader.u64()?).ok_or(overflow)?),
            _ => {
                return Err(FormatError::Invalid(
                    "a block's mark for synced clocks is neither 0 nor 1",
                ));
            }
        };
        Ok(Self {
            log,
            first,
            count,
            boot_ms: low..=high,
            offset_ms: least..=most,
            synced_ms,
        })
    }
}
