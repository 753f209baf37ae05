//! What the numbers of a row mean: series, and the schema that numbers them.
//!
//! A schema is a list of series; a row's value `i` belongs to series `i`. It only grows: a `SchemaDelta` names the schema
//! it appends to, and a schema is named by the hash of its last delta, which covers the whole chain through `parent`.
//!
//! A delta, byte by byte (varints as in `varint`):
//! `1` version; `0` no parent or `1` and the parent's hash (32 bytes); varint how many series; then each series:
//! name, varint how many labels, each label's key and value, unit (every text a varint length and UTF-8 bytes);
//! kind `0` counter, `1` gauge; exponent, one signed byte. Hash = BLAKE3("outlast/schema/1\0" + these bytes).
//!
//! Absent: who may define a schema and how often (`append`), and where schemas are kept (`key::schema`).

mod schema;

use crate::varint::{FormatError, Reader, put_bytes, put_u64};
use serde::{Deserialize, Serialize};
use std::fmt;

pub use self::schema::{Schema, SchemaDelta, SchemaHash};

/// How many series one origin may have at a time.
pub const MAX_SERIES: usize = 5_000;
/// How many encoded bytes a whole schema may have, all its deltas together.
pub const MAX_SCHEMA_BYTES: usize = 512 * 1024;
/// How often an origin may change its schema within an hour.
pub const MAX_SCHEMA_CHANGES_PER_HOUR: usize = 64;
/// How many epochs of one origin are kept.
pub const MAX_EPOCHS: usize = 1_000;
/// How many bytes a series' name may have.
pub const MAX_NAME: usize = 128;
/// How many labels a series may have.
pub const MAX_LABELS: usize = 16;
/// How many bytes the value of a label may have; collectors cut what is longer.
pub const MAX_LABEL_VALUE: usize = 512;
/// How many bytes a unit may have.
pub const MAX_UNIT: usize = 32;
/// The largest power of ten, either way, by which stored integers are scaled.
pub const MAX_EXPONENT: i8 = 18;

/// Whether a value is a level or a running total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only grows, except where its source starts again from zero.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One measured quantity of one origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    /// As node_exporter has it where it does: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    pub name: String,
    /// Key and value, sorted by key, each key once.
    pub labels: Vec<(String, String)>,
    /// Such as `bytes`, `seconds`, or empty for a bare number.
    pub unit: String,
    /// Level or running total.
    pub kind: Kind,
    /// A value is its integer times ten to this power.
    pub exponent: i8,
}

impl Series {
    /// Makes a series, sorting its labels; refuses what no decoder would accept.
    pub fn new(
        name: impl Into<String>,
        labels: impl IntoIterator<Item = (String, String)>,
        unit: impl Into<String>,
        kind: Kind,
        exponent: i8,
    ) -> Result<Self, FormatError> {
        let mut labels: Vec<_> = labels.into_iter().collect();
        labels.sort();
        let series = Self {
            name: name.into(),
            labels,
            unit: unit.into(),
            kind,
            exponent,
        };
        series.check()?;
        Ok(series)
    }

    /// The value an integer of this series stands for.
    pub fn value(&self, integer: i64) -> f64 {
        self.scale(integer as f64)
    }

    /// `number` times ten to the series' exponent.
    pub(crate) fn scale(&self, number: f64) -> f64 {
        let power = 10f64.powi(i32::from(self.exponent.unsigned_abs()));
        // Dividing by an exact power of ten gives the double nearest to the decimal; multiplying by 0.1 would not.
        if self.exponent < 0 {
            number / power
        } else {
            number * power
        }
    }

    /// The value of a label, if the series has it.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    fn check(&self) -> Result<(), FormatError> {
        let word = |text: &str, colon: bool| {
            let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_' || (colon && b == b':');
            text.bytes().next().is_some_and(letter)
                && text.bytes().all(|b| letter(b) || b.is_ascii_digit())
        };
        let limit = |what, len, limit| {
            if len > limit {
                Err(FormatError::Limit { what, len, limit })
            } else {
                Ok(())
            }
        };
        limit("series name", self.name.len(), MAX_NAME)?;
        limit("labels of a series", self.labels.len(), MAX_LABELS)?;
        limit("unit", self.unit.len(), MAX_UNIT)?;
        limit(
            "decimal exponent",
            usize::from(self.exponent.unsigned_abs()),
            MAX_EXPONENT as usize,
        )?;
        if !word(&self.name, true) {
            return Err(FormatError::Invalid(
                "a series name is not [a-zA-Z_:][a-zA-Z0-9_:]*",
            ));
        }
        for (key, value) in &self.labels {
            limit("label key", key.len(), MAX_NAME)?;
            limit("label value", value.len(), MAX_LABEL_VALUE)?;
            if !word(key, false) {
                return Err(FormatError::Invalid(
                    "a label key is not [a-zA-Z_][a-zA-Z0-9_]*",
                ));
            }
        }
        if self.labels.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(FormatError::Invalid(
                "label keys are not sorted or occur twice",
            ));
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        put_u64(out, self.labels.len() as u64);
        for (key, value) in &self.labels {
            put_bytes(out, key.as_bytes());
            put_bytes(out, value.as_bytes());
        }
        put_bytes(out, self.unit.as_bytes());
        out.push(match self.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
        });
        out.push(self.exponent as u8);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let name = read_text(reader, "series name", MAX_NAME)?;
        let count = reader.count("labels of a series", MAX_LABELS)?;
        let mut labels = Vec::with_capacity(count);
        for _ in 0..count {
            let key = read_text(reader, "label key", MAX_NAME)?;
            labels.push((key, read_text(reader, "label value", MAX_LABEL_VALUE)?));
        }
        let unit = read_text(reader, "unit", MAX_UNIT)?;
        let kind = match reader.u8()? {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            _ => return Err(FormatError::Invalid("unknown kind of series")),
        };
        let series = Self {
            name,
            labels,
            unit,
            kind,
            exponent: reader.u8()? as i8,
        };
        series.check()?;
        Ok(series)
    }
}

/// `name{key="value",…}`, without braces where there are no labels.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (key, value)) in self.labels.iter().enumerate() {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#);
            write!(f, "{}{key}=\"{value}\"", if i == 0 { '{' } else { ',' })?;
        }
        if self.labels.is_empty() {
            Ok(())
        } else {
            f.write_str("}")
        }
    }
}

fn read_text(
    reader: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
) -> Result<String, FormatError> {
    let len = reader.count(what, limit)?;
    let bytes = reader.take(len)?.to_vec();
    String::from_utf8(bytes).or(Err(FormatError::Invalid("a text of a series is not UTF-8")))
}

#[cfg(test)]
mod tests;
