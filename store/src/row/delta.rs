//! A row told by what differs from an earlier one: how live rows travel.
//!
//! A delta, byte by byte, against an earlier row of the same log, the key row: `2` version; varint seq of the key row; the first 4
//! bytes of BLAKE3(its canonical bytes), so that another row is never taken for it; varint seq less the key row's, not 0;
//! zigzag of the boot time less the key row's less 1,000 ms per seq; flags `1` schema, `2` clock, `4` number of values
//! differ from the key row's, then in this order what differs: schema hash 32; zigzag offset difference, varint
//! uncertainty, source 1; varint number of values. Then a bitmap (bit `i % 8` of byte `i / 8`) of the values that differ
//! from the key row's, and a varint for each: where the key row has a value, `0` for none or the zigzag difference;
//! where it has none, the zigzagged value. Then the signature, 64. Where a delta would be no shorter, or the key row isn't
//! an earlier one of the log, the signed row itself stands in its place: the version byte tells them apart.
//!
//! Absent: which row is a key row, and how a receiver that lacks it gets it.

use super::{Row, SignedRow, VERSION};
use crate::sample::{ClockSource, Seq};
use crate::series::{MAX_SERIES, SchemaHash};
use crate::varint::{FormatError, Reader, put_i64, put_u64, zigzag};

const DELTA_VERSION: u8 = 2;
const TICK_MS: u64 = 1_000;
const SCHEMA_DIFFERS: u8 = 1;
const CLOCK_DIFFERS: u8 = 2;
const WIDTH_DIFFERS: u8 = 4;

impl SignedRow {
    /// The row relative to an earlier row of its log; whole where that is no use.
    pub fn delta(&self, key: &Row) -> Vec<u8> {
        let whole = self.encode();
        if key.log != self.row.log || key.seq >= self.row.seq {
            return whole;
        }
        let delta = self.delta_to(key);
        if delta.len() < whole.len() {
            delta
        } else {
            whole
        }
    }

    /// Reads what `delta` wrote. A whole row needs no key; a delta is refused with any key row but its own.
    pub fn from_delta(key: &Row, bytes: &[u8]) -> Result<Self, FormatError> {
        if delta_key(bytes)?.is_none() {
            return Self::decode(bytes);
        }
        let mut reader = Reader::new(bytes, "a delta row");
        reader.version(DELTA_VERSION)?;
        let (key_seq, check) = (reader.u64()?, reader.array::<4>()?);
        if key_seq != u64::from(key.seq) || check != key.content()[..4] {
            return Err(FormatError::Invalid(
                "a delta row belongs to another key row",
            ));
        }
        let row = read_delta(&mut reader, key)?;
        let signature = reader.array()?;
        reader.finish()?;
        Ok(Self { row, signature })
    }

    fn delta_to(&self, key: &Row) -> Vec<u8> {
        let row = &self.row;
        let mut out = Vec::with_capacity(256);
        out.push(DELTA_VERSION);
        put_u64(&mut out, u64::from(key.seq));
        out.extend_from_slice(&key.content()[..4]);
        put_u64(&mut out, u64::from(row.seq - key.seq));
        put_i64(
            &mut out,
            row.boot_ms.wrapping_sub(expected_boot_ms(key, row.seq)) as i64,
        );
        let flag = |differs, flag| if differs { flag } else { 0 };
        out.push(
            flag(row.schema != key.schema, SCHEMA_DIFFERS)
                | flag(row.clock != key.clock, CLOCK_DIFFERS)
                | flag(row.values.len() != key.values.len(), WIDTH_DIFFERS),
        );
        if row.schema != key.schema {
            out.extend_from_slice(&row.schema.0);
        }
        if row.clock != key.clock {
            put_i64(
                &mut out,
                row.clock.offset_ms.wrapping_sub(key.clock.offset_ms),
            );
            put_u64(&mut out, u64::from(row.clock.uncertainty_ms));
            out.push(row.clock.source.to_byte());
        }
        if row.values.len() != key.values.len() {
            put_u64(&mut out, row.values.len() as u64);
        }
        put_changes(&mut out, &row.values, &key.values);
        out.extend_from_slice(&self.signature);
        out
    }
}

/// The seq of the key row that `bytes`, written by `SignedRow::delta`, need; `None` for a whole row.
pub fn delta_key(bytes: &[u8]) -> Result<Option<Seq>, FormatError> {
    let mut reader = Reader::new(bytes, "a delta row");
    match reader.u8()? {
        VERSION => Ok(None),
        DELTA_VERSION => match Seq::try_from(reader.u64()?) {
            Ok(seq) if seq > 0 => Ok(Some(seq)),
            _ => Err(FormatError::Invalid(
                "a key row's seq is 0 or beyond 32 bits",
            )),
        },
        found => Err(FormatError::Version {
            what: "a delta row",
            found,
            known: DELTA_VERSION,
        }),
    }
}

fn expected_boot_ms(key: &Row, seq: Seq) -> u64 {
    key.boot_ms.wrapping_add(TICK_MS * u64::from(seq - key.seq))
}

fn put_changes(out: &mut Vec<u8>, values: &[Option<i64>], key: &[Option<i64>]) {
    let before = |i: usize| key.get(i).copied().flatten();
    let map_at = out.len();
    out.resize(map_at + values.len().div_ceil(8), 0);
    for (i, &value) in values.iter().enumerate() {
        let code = match (before(i), value) {
            (old, new) if old == new => continue,
            (_, None) => 0,
            (None, Some(new)) => zigzag(new),
            (Some(old), Some(new)) => zigzag(new.wrapping_sub(old)),
        };
        out[map_at + i / 8] |= 1 << (i % 8);
        put_u64(out, code);
    }
}

fn read_changes(
    reader: &mut Reader<'_>,
    width: usize,
    key: &[Option<i64>],
) -> Result<Vec<Option<i64>>, FormatError> {
    let map = reader.take(width.div_ceil(8))?;
    if !width.is_multiple_of(8) && map[width / 8] >> (width % 8) != 0 {
        return Err(FormatError::Invalid(
            "a delta row marks values beyond its last",
        ));
    }
    let mut values: Vec<_> = (0..width).map(|i| key.get(i).copied().flatten()).collect();
    for (i, value) in values.iter_mut().enumerate() {
        if map[i / 8] >> (i % 8) & 1 == 1 {
            let code = reader.i64()?;
            *value = match *value {
                Some(_) if code == 0 => None,
                Some(old) => Some(old.wrapping_add(code)),
                None => Some(code),
            };
        }
    }
    Ok(values)
}

pub(super) fn read_delta(reader: &mut Reader<'_>, key: &Row) -> Result<Row, FormatError> {
    let ahead = reader.count("seqs after the key row", (Seq::MAX - key.seq) as usize)?;
    if ahead == 0 {
        return Err(FormatError::Invalid("a delta row is its own key row"));
    }
    let mut row = Row {
        seq: key.seq + ahead as Seq,
        values: Vec::new(),
        ..*key
    };
    row.boot_ms = expected_boot_ms(key, row.seq).wrapping_add(reader.i64()? as u64);
    let flags = reader.u8()?;
    if flags & !(SCHEMA_DIFFERS | CLOCK_DIFFERS | WIDTH_DIFFERS) != 0 {
        return Err(FormatError::Invalid("a delta row has unknown flags"));
    }
    if flags & SCHEMA_DIFFERS != 0 {
        row.schema = SchemaHash(reader.array()?);
    }
    if flags & CLOCK_DIFFERS != 0 {
        row.clock.offset_ms = key.clock.offset_ms.wrapping_add(reader.i64()?);
        row.clock.uncertainty_ms = reader.count("a clock's uncertainty", u32::MAX as usize)? as u32;
        row.clock.source = ClockSource::from_byte(reader.u8()?)?;
    }
    let mut width = key.values.len();
    if flags & WIDTH_DIFFERS != 0 {
        width = reader.count("values of a row", MAX_SERIES)?;
    }
    row.values = read_changes(reader, width, &key.values)?;
    let differs = [
        row.schema != key.schema,
        row.clock != key.clock,
        width != key.values.len(),
    ];
    let said = [SCHEMA_DIFFERS, CLOCK_DIFFERS, WIDTH_DIFFERS].map(|flag| flags & flag != 0);
    if differs != said {
        return Err(FormatError::Invalid(
            "a delta row repeats what its key row says",
        ));
    }
    Ok(row)
}
