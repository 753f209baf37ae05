//! The schemas this node knows, of all origins.
//!
//! A delta is synced to `schemas` before `define` returns; a row is only taken when its schema is known. Kept encoded in
//! memory; the last few asked for are kept resolved.
//! Bounds: a schema's own (`series`), 8 MiB of deltas per origin, and of this node's own at most 64 new ones an hour; what
//! exceeds them is refused and named.
//! Absent: asking others for a schema.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::schema::{SchemaKey, decode_value, encode_value};
use crate::ledger::Ledger;
use crate::sample::Origin;
use crate::series::{MAX_SCHEMA_CHANGES_PER_HOUR, Schema, SchemaDelta, SchemaHash};

const DELTA: u8 = 1;
/// All deltas of one origin; the whole of a schema has its own bound of 512 KiB.
const ORIGIN_BYTES: usize = 8 << 20;
const RESOLVED: usize = 16;
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Known {
    origin: Origin,
    value: Box<[u8]>,
    /// Series of the whole schema.
    width: usize,
}

/// Every known delta, and where they are stored.
#[derive(Debug)]
pub(crate) struct Schemas {
    ledger: Ledger,
    known: BTreeMap<SchemaHash, Known>,
    resolved: VecDeque<Arc<Schema>>,
    changes: VecDeque<Instant>,
}

impl Schemas {
    /// Reads the file; says how many records were of no use.
    pub(crate) fn open(disk: &Disk, dir: &Path) -> io::Result<(Self, u64)> {
        let (ledger, records) = Ledger::open(disk, dir.join("schemas"))?;
        let mut schemas = Self {
            ledger,
            known: BTreeMap::new(),
            resolved: VecDeque::new(),
            changes: VecDeque::new(),
        };
        let mut damaged = 0;
        for (_, body) in records {
            damaged += u64::from(schemas.recall(&body).is_none());
        }
        Ok((schemas, damaged))
    }

    fn recall(&mut self, body: &[u8]) -> Option<()> {
        let (key, value) = body.split_at_checked(SchemaKey::LEN)?;
        let key = SchemaKey::decode(key).ok()?;
        let delta = decode_value(&key, value).ok()?;
        let before = match &delta.parent {
            Some(parent) => self.width(parent)?,
            None => 0,
        };
        self.remember(key, value, before + delta.appended.len());
        Some(())
    }

    fn remember(&mut self, key: SchemaKey, value: &[u8], width: usize) {
        let known = Known {
            origin: key.origin,
            value: value.into(),
            width,
        };
        self.known.insert(key.hash, known);
    }

    /// Takes a delta in. `own`: it is this node's, so the hourly bound holds too.
    pub(crate) fn define(
        &mut self,
        origin: Origin,
        delta: &SchemaDelta,
        own: bool,
        now: Instant,
    ) -> Result<SchemaHash, StoreError> {
        let key = SchemaKey {
            origin,
            hash: delta.hash(),
        };
        if self.known.contains_key(&key.hash) {
            return Ok(key.hash);
        }
        let parent = match &delta.parent {
            Some(parent) => Some(
                self.resolve(parent)
                    .ok_or(StoreError::UnknownSchema(*parent))?,
            ),
            None => None,
        };
        let schema =
            Schema::extend(parent.as_deref(), delta).map_err(|e| StoreError::Malformed {
                what: "schema",
                why: e.to_string(),
            })?;
        let value = encode_value(delta);
        self.within_bounds(origin, value.len(), own, now)?;
        let body = [&key.encode()[..], &value].concat();
        self.ledger
            .append([(DELTA, &body[..])])
            .map_err(|source| StoreError::Io {
                what: "write schema",
                path: self.ledger.path().to_owned(),
                source,
            })?;
        self.remember(key, &value, schema.series.len());
        self.cache(Arc::new(schema));
        Ok(key.hash)
    }

    fn within_bounds(
        &mut self,
        origin: Origin,
        more: usize,
        own: bool,
        now: Instant,
    ) -> Result<(), StoreError> {
        let all = self.known.values().filter(|known| known.origin == origin);
        if all.map(|known| known.value.len()).sum::<usize>() + more > ORIGIN_BYTES {
            return Err(StoreError::OverLimit {
                what: "schema bytes",
                origin,
                limit: ORIGIN_BYTES as u64,
            });
        }
        if !own {
            return Ok(());
        }
        self.changes
            .retain(|at| now.saturating_duration_since(*at) < HOUR);
        if self.changes.len() >= MAX_SCHEMA_CHANGES_PER_HOUR {
            return Err(StoreError::OverLimit {
                what: "schema changes an hour",
                origin,
                limit: MAX_SCHEMA_CHANGES_PER_HOUR as u64,
            });
        }
        self.changes.push_back(now);
        Ok(())
    }

    /// How many series the schema has. None: not known here.
    pub(crate) fn width(&self, hash: &SchemaHash) -> Option<usize> {
        self.known.get(hash).map(|known| known.width)
    }

    pub(crate) fn delta(&self, hash: &SchemaHash) -> Option<SchemaDelta> {
        let known = self.known.get(hash)?;
        let key = SchemaKey {
            origin: known.origin,
            hash: *hash,
        };
        decode_value(&key, &known.value).ok()
    }

    pub(crate) fn resolve(&mut self, hash: &SchemaHash) -> Option<Arc<Schema>> {
        if let Some(schema) = self.resolved.iter().find(|schema| schema.hash == *hash) {
            return Some(schema.clone());
        }
        let mut chain = vec![self.delta(hash)?];
        while let Some(parent) = chain.last().and_then(|delta| delta.parent) {
            chain.push(self.delta(&parent)?);
        }
        // Checked when they were taken in; here they are only joined.
        let series = chain
            .into_iter()
            .rev()
            .flat_map(|delta| delta.appended)
            .collect();
        let schema = Arc::new(Schema {
            hash: *hash,
            series,
        });
        self.cache(schema.clone());
        Some(schema)
    }

    fn cache(&mut self, schema: Arc<Schema>) {
        self.resolved.push_front(schema);
        self.resolved.truncate(RESOLVED);
    }
}
