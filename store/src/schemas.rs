//! The schemas this node knows, of all origins.
//!
//! A row is only taken when its schema is known. Taking one in touches memory alone, so that no live row waits for the disk
//! behind it; whoever makes rows durable writes first what `write` has (`Shared::write_schemas`), so that no row is on disk
//! without its schema. Kept encoded in memory; the last few asked for are kept resolved.
//! Bounds: a schema's own (`series`), 8 MiB of deltas per origin, and of this node's own at most 64 new ones an hour; what
//! exceeds them is refused and named. While the disk takes nothing 8 MiB wait for it, others' beyond that are refused.
//! Absent: asking others for a schema; which ones are needed no longer (`needed`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::schema::{SchemaKey, decode_value, encode_value};
use crate::ledger::Ledger;
use crate::open::Shared;
use crate::sample::Origin;
use crate::series::{MAX_SCHEMA_CHANGES_PER_HOUR, Schema, SchemaDelta, SchemaHash};
use crate::shelf::locked;

const DELTA: u8 = 1;
/// All deltas of one origin; the whole of a schema has its own bound of 512 KiB.
pub(crate) const ORIGIN_BYTES: usize = 8 << 20;
/// Deltas that wait for the disk.
const UNWRITTEN_BYTES: usize = 8 << 20;
const RESOLVED: usize = 16;
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Known {
    origin: Origin,
    value: Box<[u8]>,
    /// Series of the whole schema.
    width: usize,
    /// When it was read or taken in, or a row came with it.
    used: Instant,
}

/// Every known delta.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    known: BTreeMap<SchemaHash, Known>,
    resolved: VecDeque<Arc<Schema>>,
    changes: VecDeque<Instant>,
    /// Those the file lacks, in the order they came.
    unwritten: VecDeque<SchemaHash>,
    unwritten_bytes: usize,
}

/// Where they are stored.
#[derive(Debug)]
pub(crate) struct SchemaFile(Ledger);

impl Shared {
    /// Writes and syncs the schemas that the file lacks: before any row or block that may need them.
    pub(crate) fn write_schemas(&self) -> io::Result<()> {
        let mut file = locked(&self.schema_file);
        let bodies = locked(&self.schemas).unwritten();
        file.0
            .append(bodies.iter().map(|body| (DELTA, &body[..])))?;
        locked(&self.schemas).written(bodies.len());
        Ok(())
    }

    /// Forgets the schemas that are neither `needed` nor came with a row since `since`, nor grew into one of those, and
    /// writes the file anew without them; says how many bytes that saved. After a failure they are forgotten until the
    /// next start.
    pub(crate) fn drop_schemas(
        &self,
        needed: &BTreeSet<SchemaHash>,
        since: Option<Instant>,
    ) -> io::Result<u64> {
        let mut file = locked(&self.schema_file);
        let (bodies, waiting) = {
            let mut schemas = locked(&self.schemas);
            schemas.forget_all_but(needed, since);
            // What comes from here on waits for the next write.
            (schemas.bodies(), schemas.unwritten.len())
        };
        let before = file.0.len();
        file.0
            .rewrite(bodies.iter().map(|body| (DELTA, &body[..])))?;
        locked(&self.schemas).written(waiting);
        Ok(before.saturating_sub(file.0.len()))
    }
}

impl Schemas {
    /// Reads the file; says how many records were of no use.
    pub(crate) fn open(disk: &Disk, dir: &Path) -> io::Result<(Self, SchemaFile, u64)> {
        let (ledger, records) = Ledger::open(disk, dir.join("schemas"))?;
        let mut schemas = Self::default();
        let mut damaged = 0;
        for (_, body) in records {
            damaged += u64::from(schemas.recall(&body, disk.now()).is_none());
        }
        Ok((schemas, SchemaFile(ledger), damaged))
    }

    fn recall(&mut self, body: &[u8], at: Instant) -> Option<()> {
        let (key, value) = body.split_at_checked(SchemaKey::LEN)?;
        let key = SchemaKey::decode(key).ok()?;
        let delta = decode_value(&key, value).ok()?;
        let before = match &delta.parent {
            Some(parent) => self.width(parent)?,
            None => 0,
        };
        self.remember(key, value, before + delta.appended.len(), at);
        Some(())
    }

    fn remember(&mut self, key: SchemaKey, value: &[u8], width: usize, used: Instant) {
        let known = Known {
            origin: key.origin,
            value: value.into(),
            width,
            used,
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
        if self.touch(&key.hash, now).is_some() {
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
        self.unwritten.push_back(key.hash);
        self.unwritten_bytes += value.len();
        self.remember(key, &value, schema.series.len(), now);
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
            let held = self.unwritten_bytes;
            return if held + more > UNWRITTEN_BYTES {
                Err(StoreError::Busy {
                    held: held as u64,
                    limit: UNWRITTEN_BYTES as u64,
                })
            } else {
                Ok(())
            };
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

    /// The same for a row that is about to be held: its schema stays for a while though nothing on disk needs it yet.
    pub(crate) fn touch(&mut self, hash: &SchemaHash, now: Instant) -> Option<usize> {
        let known = self.known.get_mut(hash)?;
        known.used = now;
        Some(known.width)
    }

    /// The schema of an origin that a row came with last, or that was made last.
    pub(crate) fn newest_of(&self, origin: &Origin) -> Option<SchemaHash> {
        let known = self.known.iter();
        let theirs = known.filter(|(_, known)| known.origin == *origin);
        let newest = theirs.max_by_key(|(_, known)| (known.used, known.width));
        newest.map(|(hash, _)| *hash)
    }

    /// The bytes of each origin's deltas, of all or of those that are needed.
    pub(crate) fn weights(&self, needed: Option<&BTreeSet<SchemaHash>>) -> BTreeMap<Origin, usize> {
        let needed = needed.map(|needed| self.with_parents(needed.iter().copied()));
        let mut weights = BTreeMap::new();
        for (hash, known) in &self.known {
            if needed.as_ref().is_none_or(|needed| needed.contains(hash)) {
                *weights.entry(known.origin).or_default() += known.value.len();
            }
        }
        weights
    }

    /// These and what they grew from, as far as known.
    fn with_parents(&self, hashes: impl Iterator<Item = SchemaHash>) -> BTreeSet<SchemaHash> {
        let mut all = BTreeSet::new();
        for hash in hashes {
            let mut next = Some(hash);
            while let Some(hash) = next.filter(|hash| all.insert(*hash)) {
                next = self.delta(&hash).and_then(|delta| delta.parent);
            }
        }
        all
    }

    fn forget_all_but(&mut self, needed: &BTreeSet<SchemaHash>, since: Option<Instant>) {
        let lately = |known: &Known| since.is_none_or(|since| known.used >= since);
        let used = self.known.iter().filter(|(_, known)| lately(known));
        let used = used.map(|(hash, _)| *hash);
        let stay = self.with_parents(used.chain(needed.iter().copied()));
        self.known.retain(|hash, _| stay.contains(hash));
        self.resolved.retain(|schema| stay.contains(&schema.hash));
        self.unwritten.retain(|hash| stay.contains(hash));
    }

    /// Every record, a schema after the one it grew from.
    fn bodies(&self) -> Vec<Vec<u8>> {
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_by_key(|(_, known)| known.width);
        known
            .into_iter()
            .map(|(hash, known)| known.body(*hash))
            .collect()
    }

    fn unwritten(&self) -> Vec<Vec<u8>> {
        let unwritten = self.unwritten.iter();
        let known = unwritten.filter_map(|hash| Some(self.known.get(hash)?.body(*hash)));
        known.collect()
    }

    /// The oldest `count` of those that waited are in the file.
    fn written(&mut self, count: usize) {
        self.unwritten.drain(..count);
        let left = self.unwritten.iter();
        let left = left.filter_map(|hash| self.known.get(hash));
        self.unwritten_bytes = left.map(|known| known.value.len()).sum();
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

impl Known {
    fn body(&self, hash: SchemaHash) -> Vec<u8> {
        let key = SchemaKey {
            origin: self.origin,
            hash,
        };
        [&key.encode()[..], &self.value].concat()
    }
}
