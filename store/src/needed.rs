//! Which schemas what is held still needs; the others leave memory and the file.
//!
//! A row names its schema inside its block only, and a schema may serve several origins, so all blocks and roll-ups are
//! read, a few each turn of the writer. That is begun when the deltas of all, or of one origin, take much and twice what was
//! needed at the last look, and at most once an hour. What a row came with less than an hour before the look stays, for more
//! of them may be on their way; so does what was read from the file at a start so lately.
//! A schema that is needed after all, by a row that comes later, is asked for again like any other.
//! Absent: the file (`schemas`), the bound on what one origin may define.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attic::Place;
use crate::block::Block;
use crate::key::block::BlockKey;
use crate::open::Shared;
use crate::rollup::Rollup;
use crate::row::SignedRow;
use crate::sample::{LogId, Origin};
use crate::schemas::ORIGIN_BYTES;
use crate::series::SchemaHash;
use crate::shelf::locked;
use crate::state::State;

/// Deltas in all that are worth reading blocks for.
const LARGE: usize = 1 << 20;
/// Blocks, or logs with roll-ups, read in one turn of the writer: a few megabytes.
const A_TURN: usize = 128;
/// What was used so lately stays; between two looks.
const LATELY: Duration = Duration::from_secs(3_600);

/// The look that is on its way, and what the last one found.
#[derive(Debug, Default)]
pub(crate) struct Surveys {
    running: Option<Survey>,
    last: Option<Looked>,
}

/// When that was, and how many bytes of each origin's deltas something on disk needed.
#[derive(Debug)]
struct Looked {
    at: Instant,
    needed: BTreeMap<Origin, usize>,
}

#[derive(Debug)]
struct Survey {
    begun: Instant,
    at: At,
    found: BTreeSet<SchemaHash>,
}

/// How far a look has come. Blocks first: one that becomes a roll-up meanwhile is found as either.
#[derive(Debug)]
enum At {
    Blocks(Option<BlockKey>),
    Rolled(Option<LogId>),
    End,
}

impl Shared {
    /// Looks on, and at the end forgets what nothing needs.
    pub(crate) fn look_for_schemas(&self) {
        let mut surveys = locked(&self.surveys);
        let running = surveys.running.take();
        let Some(mut survey) = running.or_else(|| self.next_survey(surveys.last.as_ref())) else {
            return;
        };
        if self.look_on(&mut survey).is_none() {
            // What can't be read at the moment may need any of them: another time, as late as after a whole look.
            let needed = surveys.last.take().map(|last| last.needed);
            surveys.last = Some(Looked {
                at: self.now(),
                needed: needed.unwrap_or_default(),
            });
            return;
        }
        if !matches!(survey.at, At::End) {
            surveys.running = Some(survey);
            return;
        }
        let since = survey.begun.checked_sub(LATELY);
        match self.drop_schemas(&survey.found, since) {
            Ok(saved) => tracing::debug!(saved, "schemas that nothing needs are forgotten"),
            Err(e) => tracing::warn!(error = %e, "the file of schemas stays long"),
        }
        surveys.last = Some(Looked {
            at: self.now(),
            needed: locked(&self.schemas).weights(Some(&survey.found)),
        });
    }

    fn next_survey(&self, last: Option<&Looked>) -> Option<Survey> {
        let now = self.now();
        if last.is_some_and(|last| now.saturating_duration_since(last.at) < LATELY) {
            return None;
        }
        let weights = locked(&self.schemas).weights(None);
        let needed = |origin: &Origin| last.and_then(|last| last.needed.get(origin)).copied();
        let much = |(origin, bytes): (&Origin, &usize)| {
            *bytes > (ORIGIN_BYTES / 2).max(2 * needed(origin).unwrap_or(0))
        };
        let all = last.map_or(0, |last| last.needed.values().sum::<usize>());
        if weights.values().sum::<usize>() <= LARGE.max(2 * all) && !weights.iter().any(much) {
            return None;
        }
        let rows = self.state().all_rows();
        let rows = rows.iter().filter_map(|row| SignedRow::decode(row).ok());
        Some(Survey {
            begun: now,
            at: At::Blocks(None),
            found: rows.map(|row| row.row.schema).collect(),
        })
    }

    /// Reads some. None: something that is held can't be read.
    fn look_on(&self, survey: &mut Survey) -> Option<()> {
        match survey.at {
            At::Blocks(after) => {
                let keys = self.state().blocks_after(after, A_TURN);
                for (key, bytes) in keys.iter().zip(self.fetch(&keys)) {
                    match bytes.map(|bytes| Block::read(&bytes)) {
                        Some(Ok(block)) => survey
                            .found
                            .extend(block.runs().iter().map(|run| run.schema)),
                        _ if self.state().has_block(key) => return None,
                        _ => {}
                    }
                }
                survey.at = keys
                    .last()
                    .map_or(At::Rolled(None), |key| At::Blocks(Some(*key)));
            }
            At::Rolled(after) => {
                let (last, places) = self.state().rolled_after(after, A_TURN);
                for place in places {
                    // One that can't be read answers no question: it needs nothing.
                    let body = locked(&self.attic).read(&place);
                    if let Some(Ok(rollup)) = body.map(|body| Rollup::read(&body)) {
                        survey
                            .found
                            .extend(rollup.runs().iter().map(|run| run.schema));
                    }
                }
                survey.at = last.map_or(At::End, |log| At::Rolled(Some(log)));
            }
            At::End => {}
        }
        Some(())
    }
}

impl State {
    fn all_rows(&self) -> Vec<Arc<[u8]>> {
        let rows = self.logs.values().flat_map(|log| log.tail.values());
        rows.cloned().collect()
    }

    fn has_block(&self, key: &BlockKey) -> bool {
        let log = self.logs.get(&key.log);
        log.is_some_and(|log| log.blocks.contains_key(&key.first))
    }

    fn blocks_after(&self, after: Option<BlockKey>, most: usize) -> Vec<BlockKey> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Included(key.log));
        let logs = self.logs.range((from, Bound::Unbounded));
        let keys = logs.flat_map(|(id, log)| {
            let above = after.filter(|after| after.log == *id);
            let above = above.map_or(Bound::Unbounded, |after| Bound::Excluded(after.first));
            let first = log.blocks.range((above, Bound::Unbounded));
            first.map(|(first, _)| BlockKey {
                log: *id,
                first: *first,
            })
        });
        keys.take(most).collect()
    }

    /// The roll-ups of some logs, and the last of these.
    fn rolled_after(&self, after: Option<LogId>, most: usize) -> (Option<LogId>, Vec<Place>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut last, mut places) = (None, Vec::new());
        for (id, log) in self.logs.range((from, Bound::Unbounded)).take(most) {
            last = Some(*id);
            places.extend(log.rolled.iter().map(|(_, entry)| entry.place));
        }
        (last, places)
    }
}
