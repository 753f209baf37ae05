//! Schemas that a piece of an answer, or a live row, lacks: each is asked for on a stream of its own.
//!
//! What comes must lead to the schema that was asked for, each delta the parent of the next, and fit; silent for `PATIENCE`
//! or longer than `LONGEST` in all, it is given up. The piece it was for waits meanwhile, and goes to the store again after.
//! Absent: keeping schemas (`store`); live rows that wait for one (`super::rows`).

use std::time::{Duration, Instant};

use outlast_mesh::NodeId;
use outlast_store::{MAX_SCHEMA_BYTES, MAX_SERIES, Origin, SchemaDelta, SchemaHash};

use super::{Asking, PATIENCE, Step, What};
use crate::flow::core::{Core, Effect, Offence, StreamId};
use crate::flow::keep::Job;
use crate::flow::wire::{Answer, Question};

/// How long a schema may take in all: twice the largest at the slowest rate.
const LONGEST: Duration = Duration::from_secs(300);
/// Bytes of the deltas in one schema answer: the largest schema there may be, grown by one series at a time.
pub(super) const MAX_DELTA_BYTES: usize = MAX_SCHEMA_BYTES + MAX_SERIES * DELTA_HEAD;
/// What a delta has beside its series: marks, its parent, a count.
const DELTA_HEAD: usize = 40;

/// A schema that is fetched.
#[derive(Debug)]
pub(super) struct Wanted {
    origin: Origin,
    hash: SchemaHash,
    deltas: Vec<SchemaDelta>,
    size: usize,
    /// All of it came, and the store has it in hand.
    pub(super) complete: bool,
    /// The request whose piece waits for it; `None`: live rows do.
    pub(super) piece_of: Option<StreamId>,
    pub(super) silent: Instant,
    pub(super) until: Instant,
}

impl Core {
    pub(in crate::flow::core) fn fetch_schema_for_parked(
        &mut self,
        peer: NodeId,
        origin: Origin,
        hash: SchemaHash,
        known: Option<SchemaHash>,
        now: Instant,
    ) {
        self.fetch_schema(peer, origin, hash, known, None, now);
    }

    pub(super) fn fetch_schema(
        &mut self,
        peer: NodeId,
        origin: Origin,
        hash: SchemaHash,
        known: Option<SchemaHash>,
        piece_of: Option<StreamId>,
        now: Instant,
    ) {
        let wanted = Wanted {
            origin,
            hash,
            deltas: Vec::new(),
            size: 0,
            complete: false,
            piece_of,
            silent: now + PATIENCE,
            until: now + LONGEST,
        };
        let question = Question::Schema(hash, known.into_iter().collect());
        self.open(peer, &question, What::Schema(Box::new(wanted)));
    }

    pub(super) fn take_schema(
        &mut self,
        stream: StreamId,
        wanted: &mut Wanted,
        answer: Answer,
    ) -> Step {
        match answer {
            Answer::Schema(bytes) if wanted.deltas.len() < MAX_SERIES => {
                wanted.size += bytes.len();
                let delta = SchemaDelta::decode(&bytes);
                match delta {
                    Ok(delta) if wanted.size <= MAX_DELTA_BYTES => wanted.deltas.push(delta),
                    _ => return Step::Broken(Some(Offence::Schemas)),
                }
                Step::Next
            }
            // It does not have the schema.
            Answer::End if wanted.deltas.is_empty() => Step::Broken(None),
            Answer::End if is_chain(&wanted.deltas, wanted.hash) => {
                wanted.complete = true;
                self.effects.push_back(Effect::Close(stream));
                self.store(Job::Define {
                    ask: stream,
                    origin: wanted.origin,
                    hash: wanted.hash,
                    deltas: std::mem::take(&mut wanted.deltas),
                });
                Step::Wait
            }
            _ => Step::Broken(Some(Offence::Unasked)),
        }
    }

    /// The store's word on a schema that was fetched.
    pub(in crate::flow::core) fn handle_defined(
        &mut self,
        stream: StreamId,
        defined: bool,
        now: Instant,
    ) {
        let Some(asking) = self.asks.remove(&stream) else {
            return;
        };
        if let What::Schema(wanted) = asking.what {
            self.end_schema(&wanted, defined, now);
        }
    }

    pub(super) fn end_schema(&mut self, wanted: &Wanted, defined: bool, now: Instant) {
        let Some(stream) = wanted.piece_of else {
            return self.handle_schema(wanted.hash, defined);
        };
        let Some(asking) = self.asks.remove(&stream) else {
            return;
        };
        let What::Request(requested) = &asking.what else {
            return;
        };
        match requested.piece.clone() {
            Some(piece) if defined => {
                self.store(Job::Repair {
                    ask: stream,
                    piece,
                    from: asking.peer,
                });
                self.asks.insert(stream, asking);
            }
            _ => self.broke_off(stream, asking, None, now),
        }
    }

    pub(super) fn stop_fetching_for(&mut self, piece: StreamId) {
        let for_it =
            |asking: &Asking| matches!(&asking.what, What::Schema(w) if w.piece_of == Some(piece));
        let schemas = self.asks.iter().filter(|(_, asking)| for_it(asking));
        let schemas: Vec<_> = schemas.map(|(stream, _)| *stream).collect();
        for stream in schemas {
            self.asks.remove(&stream);
            self.effects.push_back(Effect::Close(stream));
        }
    }
}

/// Whether these lead to the schema that was asked for, each the parent of the next: nothing else
/// may count against the limits of its origin. Nothing at all leads nowhere.
fn is_chain(deltas: &[SchemaDelta], hash: SchemaHash) -> bool {
    let hashes: Vec<_> = deltas.iter().map(SchemaDelta::hash).collect();
    let parents = deltas.iter().skip(1).map(|delta| delta.parent);
    hashes.last() == Some(&hash) && hashes.iter().zip(parents).all(|(h, p)| p == Some(*h))
}

#[cfg(test)]
mod tests {
    use outlast_store::{Kind, Schema, Series};

    use super::*;

    fn delta(parent: Option<SchemaHash>, name: &str) -> SchemaDelta {
        let series = Series::new(name, [], "", Kind::Gauge, 0).unwrap();
        SchemaDelta {
            parent,
            appended: vec![series],
        }
    }

    #[test]
    fn only_the_chain_of_the_schema_that_was_asked_for_is_taken() {
        let first = delta(None, "a");
        let second = delta(Some(first.hash()), "b");
        let other = delta(None, "c");
        let wanted = second.hash();

        assert!(is_chain(&[first.clone(), second.clone()], wanted));
        assert!(
            is_chain(std::slice::from_ref(&second), wanted),
            "the first is known"
        );
        assert!(!is_chain(&[], wanted));
        assert!(!is_chain(&[second.clone(), first.clone()], wanted));
        assert!(!is_chain(&[other, first.clone(), second], wanted));
        assert!(!is_chain(&[first], wanted));
    }

    #[test]
    fn the_longest_chain_an_origin_may_make_fits_into_an_answer() {
        let first = delta(None, "a");
        let series_bytes = Schema::extend(None, &first).unwrap().size_bytes();
        let next = delta(Some(first.hash()), "a");
        let head = next.encode().len() - series_bytes;
        assert!(MAX_SCHEMA_BYTES + MAX_SERIES * head <= MAX_DELTA_BYTES);
    }
}
