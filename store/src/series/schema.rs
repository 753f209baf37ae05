//! The list of series that numbers an origin's values, and how it grows.
//!
//! Bytes: see `series`. Invariant: a schema's name covers all series in it, in order, through the chain of parents.
//! Absent: who may define one, and how often.

use super::{MAX_SCHEMA_BYTES, MAX_SERIES, Series};
use crate::varint::{FormatError, Reader, put_u64};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"outlast/schema/1\0";

/// The name of a schema: the hash of its last delta.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaHash(pub [u8; 32]);

/// Series appended to a schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDelta {
    /// The schema that grows; `None` starts a new one.
    pub parent: Option<SchemaHash>,
    /// At least one.
    pub appended: Vec<Series>,
}

/// A whole schema, resolved along its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub hash: SchemaHash,
    /// Series by number.
    pub series: Vec<Series>,
}

impl SchemaDelta {
    /// The bytes that are hashed, stored and sent. Only a delta that `check` accepts can be read back.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.parent.is_some())];
        if let Some(parent) = &self.parent {
            out.extend_from_slice(&parent.0);
        }
        put_u64(&mut out, self.appended.len() as u64);
        for series in &self.appended {
            series.write(&mut out);
        }
        out
    }

    /// Reads one delta and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        within_bytes(bytes.len())?;
        let mut reader = Reader::new(bytes, "a schema");
        reader.version(VERSION)?;
        let parent = match reader.u8()? {
            0 => None,
            1 => Some(SchemaHash(reader.array()?)),
            _ => {
                return Err(FormatError::Invalid(
                    "a schema's parent mark is neither 0 nor 1",
                ));
            }
        };
        let count = reader.count("series of a schema", MAX_SERIES)?;
        if count == 0 {
            return Err(FormatError::Invalid("a schema delta appends nothing"));
        }
        // Growing as the bytes are read: a claimed count alone allocates nothing.
        let mut appended = Vec::new();
        for _ in 0..count {
            appended.push(Series::read(&mut reader)?);
        }
        reader.finish()?;
        Ok(Self { parent, appended })
    }

    /// The name of the schema this delta makes.
    pub fn hash(&self) -> SchemaHash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN).update(&self.encode());
        SchemaHash(*hasher.finalize().as_bytes())
    }

    /// Whether `decode` would accept what `encode` writes.
    pub fn check(&self) -> Result<(), FormatError> {
        Self::decode(&self.encode()).map(drop)
    }
}

impl Schema {
    /// The schema `delta` makes out of the one it names as its parent.
    ///
    /// Refuses a parent that isn't the named one, a series that is there already, and what is over the limits.
    pub fn extend(parent: Option<&Self>, delta: &SchemaDelta) -> Result<Self, FormatError> {
        delta.check()?;
        if parent.map(|schema| schema.hash) != delta.parent {
            return Err(FormatError::Invalid(
                "a schema delta was applied to another schema than it names",
            ));
        }
        let mut series = parent
            .map(|schema| schema.series.clone())
            .unwrap_or_default();
        series.extend(delta.appended.iter().cloned());
        let schema = Self {
            hash: delta.hash(),
            series,
        };
        if schema.series.len() > MAX_SERIES {
            let len = schema.series.len();
            return Err(FormatError::Limit {
                what: "series of a schema",
                len,
                limit: MAX_SERIES,
            });
        }
        within_bytes(schema.size_bytes())?;
        let mut names = BTreeSet::new();
        if !schema
            .series
            .iter()
            .all(|s| names.insert((&s.name, &s.labels)))
        {
            return Err(FormatError::Invalid("a schema names a series twice"));
        }
        Ok(schema)
    }

    /// The encoded size of all its series.
    pub fn size_bytes(&self) -> usize {
        let mut out = Vec::new();
        self.series.iter().for_each(|series| series.write(&mut out));
        out.len()
    }
}

impl fmt::Display for SchemaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SchemaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SchemaHash({:02x}{:02x}{:02x}{:02x})",
            self.0[0], self.0[1], self.0[2], self.0[3]
        )
    }
}

fn within_bytes(len: usize) -> Result<(), FormatError> {
    if len > MAX_SCHEMA_BYTES {
        return Err(FormatError::Limit {
            what: "bytes of a schema",
            len,
            limit: MAX_SCHEMA_BYTES,
        });
    }
    Ok(())
}
