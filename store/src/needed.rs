//! Which schemas what is held still needs; the others leave memory and the file.
//!
//! A row names its schema inside its block only, so the blocks of an origin are read, a few each turn of the writer.
//! Looked at are origins of which nothing is held, and those whose deltas take more than `LARGE`: these again after an
//! hour when they take twice what was needed. What a row came with in the last hour stays, for more of them may be on their way.
//! A schema that was needed after all, by a row that comes later, is asked for again like any other.
//! Absent: the file (`schemas`), the bound on what one origin may define.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attic::Place;
use crate::block::Block;
use crate::key::block::BlockKey;
use crate::open::Shared;
use crate::rollup::Rollup;
use crate::row::SignedRow;
use crate::sample::Origin;
use crate::series::SchemaHash;
use crate::shelf::locked;
use crate::state::{PENDING, State};

/// Deltas of an origin that are worth reading its blocks for.
const LARGE: usize = 1 << 20;
/// Blocks and roll-ups read in one turn of the writer: a few megabytes.
const A_TURN: usize = 128;
/// What was used so lately stays.
const LATELY: Duration = Duration::from_secs(3_600);

/// The origin that is looked at, and the last look at each.
#[derive(Debug, Default)]
pub(crate) struct Surveys {
    running: Option<Survey>,
    looked: BTreeMap<Origin, Looked>,
}

/// The last look at an origin: when, and how many bytes of its deltas something on disk needed.
#[derive(Debug)]
struct Looked {
    at: Instant,
    needed: usize,
}

/// One origin's blocks and roll-ups that are still to be read, and the schemas found.
#[derive(Debug)]
struct Survey {
    origin: Origin,
    begun: Instant,
    blocks: Vec<BlockKey>,
    rolled: Vec<Place>,
    found: BTreeSet<SchemaHash>,
}

impl Shared {
    /// Looks on, and forgets what nothing needs.
    pub(crate) fn look_for_schemas(&self) {
        let mut surveys = locked(&self.surveys);
        self.forget_departed();
        let running = surveys.running.take();
        let Some(mut survey) = running.or_else(|| self.next_survey(&surveys.looked)) else {
            return;
        };
        self.look_on(&mut survey);
        if !survey.blocks.is_empty() || !survey.rolled.is_empty() {
            surveys.running = Some(survey);
            return;
        }
        let (needed, unneeded) = {
            let schemas = locked(&self.schemas);
            let since = survey.begun.checked_sub(LATELY);
            let unneeded = |since| schemas.unneeded(&survey.origin, &survey.found, since);
            let strictly = unneeded(Some(self.now() + LATELY));
            let all = schemas.weights().remove(&survey.origin).unwrap_or(0);
            (all - schemas.bytes_of(&strictly), unneeded(since))
        };
        self.drop_these(&unneeded);
        let at = self.now();
        let looked = Looked { at, needed };
        surveys.looked.insert(survey.origin, looked);
    }

    /// Origins of which nothing is held, and no row came lately.
    fn forget_departed(&self) {
        let since = self.now().checked_sub(LATELY);
        let weights = locked(&self.schemas).weights();
        let departed: Vec<Origin> = {
            let state = self.state();
            let origins = weights.into_keys();
            origins.filter(|origin| !state.has_any(origin)).collect()
        };
        let unneeded = {
            let (schemas, nothing) = (locked(&self.schemas), BTreeSet::new());
            let unneeded = departed
                .iter()
                .flat_map(|origin| schemas.unneeded(origin, &nothing, since));
            unneeded.collect()
        };
        self.drop_these(&unneeded);
    }

    fn drop_these(&self, unneeded: &BTreeSet<SchemaHash>) {
        if unneeded.is_empty() {
            return;
        }
        match self.drop_schemas(unneeded) {
            Ok(saved) => {
                tracing::debug!(
                    schemas = unneeded.len(),
                    saved,
                    "schemas nothing needs are forgotten"
                );
            }
            Err(e) => tracing::warn!(error = %e, "the file of schemas stays long"),
        }
    }

    fn next_survey(&self, looked: &BTreeMap<Origin, Looked>) -> Option<Survey> {
        let (weights, now) = (locked(&self.schemas).weights(), self.now());
        let worth = |(origin, bytes): &(Origin, usize)| {
            let last = looked.get(origin);
            *bytes > LARGE.max(last.map_or(0, |last| 2 * last.needed))
                && last.is_none_or(|last| now.saturating_duration_since(last.at) >= LATELY)
        };
        let (origin, _) = weights.into_iter().find(worth)?;
        let (blocks, rolled, rows) = self.state().all_of(&origin);
        let rows = rows.iter().filter_map(|row| SignedRow::decode(row).ok());
        Some(Survey {
            origin,
            begun: self.now(),
            blocks,
            rolled,
            found: rows.map(|row| row.row.schema).collect(),
        })
    }

    /// Reads some. What is held and cannot be read at the moment comes last.
    fn look_on(&self, survey: &mut Survey) {
        let keys = survey
            .blocks
            .split_off(survey.blocks.len().saturating_sub(A_TURN));
        for (key, bytes) in keys.iter().zip(self.fetch(&keys)) {
            match bytes.map(|bytes| Block::read(&bytes)) {
                Some(Ok(block)) => {
                    survey
                        .found
                        .extend(block.runs().iter().map(|run| run.schema));
                }
                _ if self.state().has_block(key) => survey.blocks.insert(0, *key),
                _ => {}
            }
        }
        if !survey.blocks.is_empty() {
            return;
        }
        let places = survey
            .rolled
            .split_off(survey.rolled.len().saturating_sub(A_TURN));
        for place in places {
            // One that can't be read answers no question: it needs nothing.
            let body = locked(&self.attic).read(&place);
            if let Some(Ok(rollup)) = body.map(|body| Rollup::read(&body)) {
                survey
                    .found
                    .extend(rollup.runs().iter().map(|run| run.schema));
            }
        }
    }
}

impl State {
    /// Whether any row or roll-up of an origin is here.
    fn has_any(&self, origin: &Origin) -> bool {
        self.logs_of(origin)
            .any(|(_, log)| !log.held.is_empty() || log.rolled.iter().next().is_some())
    }

    fn has_block(&self, key: &BlockKey) -> bool {
        let log = self.logs.get(&key.log);
        log.and_then(|log| log.blocks.get(&key.first))
            .is_some_and(|meta| meta.generation != PENDING || self.pending.contains_key(key))
    }

    /// The blocks, roll-ups and tail rows of an origin.
    fn all_of(&self, origin: &Origin) -> (Vec<BlockKey>, Vec<Place>, Vec<Arc<[u8]>>) {
        let (mut blocks, mut rolled, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (id, log) in self.logs_of(origin) {
            let first = log.blocks.keys();
            blocks.extend(first.map(|first| BlockKey {
                log: *id,
                first: *first,
            }));
            rolled.extend(log.rolled.iter().map(|(_, entry)| entry.place));
            rows.extend(log.tail.values().cloned());
        }
        (blocks, rolled, rows)
    }
}
