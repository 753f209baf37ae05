//! What peers asked for, out of the store: points, schemas, and which rows can be shown.

use std::sync::Arc;

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{LogId, MAX_SERIES, Origin, SchemaHash, Seq, SignedRow, Store};

use super::SEAL_PATIENCE;
use super::note::{Charge, Outcome};
use crate::flow::offence::Offence;
use crate::flow::points::{Covered, MOST_POINT_BYTES, Page, PointsAsked};
use crate::flow::wire::Answer;

/// A row that is only shown is checked like one that is kept: a keeper may have brought it.
pub(super) fn show(store: &Store, row: Arc<SignedRow>, from: NodeId) -> (Outcome, Option<Charge>) {
    let (origin, hash) = (row.row.log.origin, row.row.schema);
    if !store.is_signed(&row) {
        let charge = Charge::Blame(from, Offence::Altered);
        return (Outcome::Forged { origin, from }, Some(charge));
    }
    let outcome = match store.schema(&hash) {
        Some(schema) if row.row.values.len() <= schema.series.len() => Outcome::Shown(row, from),
        _ => Outcome::Unshown {
            origin,
            from,
            hash,
            known: store.newest_schema(&origin),
        },
    };
    (outcome, None)
}

/// Pages, then what they cover. Without the latter the answer is not whole: it was too large, or the store can't say.
pub(super) fn points(store: &Store, asked: &PointsAsked) -> Vec<Bytes> {
    let found = asked.query().map(|query| store.query(&query));
    let Some(Ok(found)) = found else {
        return Vec::new();
    };
    let mut answers = Vec::new();
    let mut size = 0;
    for page in found.iter().flat_map(Page::cut) {
        let answer = Answer::Points(page.encode().into()).encode();
        size += answer.len();
        if size > MOST_POINT_BYTES {
            return answers;
        }
        answers.push(answer);
    }
    answers.push(Answer::Covered(Covered::of(&found)).encode());
    answers
}

pub(super) fn schema(store: &Store, hash: SchemaHash, known: &[SchemaHash]) -> Vec<Bytes> {
    let mut deltas = Vec::new();
    let mut next = Some(hash);
    while let Some(hash) = next.filter(|hash| !known.contains(hash) && deltas.len() < MAX_SERIES) {
        let Some(delta) = store.schema_delta(&hash) else {
            break;
        };
        next = delta.parent;
        deltas.push(delta);
    }
    let oldest_first = deltas.into_iter().rev();
    oldest_first
        .map(|delta| Answer::Schema(delta.encode().into()).encode())
        .collect()
}

pub(super) fn unsealed(store: &Store, me: Origin) -> Vec<(LogId, Seq)> {
    let windows = store.unsealed(SEAL_PATIENCE).into_iter();
    windows
        .filter(|(log, ..)| log.origin != me)
        .map(|(log, first, _)| (log, first))
        .collect()
}
