//! What peers brought, on its way into the store: live rows, pieces, seals, schemas.
//!
//! Each is taken, held already, or refused, and a refusal is somebody's fault or nobody's.
//! Invariant: `live` touches memory only.

use std::sync::Arc;

use outlast_mesh::NodeId;
use outlast_store::{
    Appended, Origin, SchemaDelta, SchemaHash, Seal, Sealed, SignedRow, Store, StoreError,
};
use tracing::debug;

use super::job::Piece;
use super::note::{Charge, Live, Outcome, Repair};
use crate::flow::core::StreamId;
use crate::flow::node_of;
use crate::flow::offence::{self, Fault, Offence};

pub(super) fn live(store: &Store, row: Arc<SignedRow>, from: NodeId) -> (Outcome, Option<Charge>) {
    let origin = row.row.log.origin;
    let (outcome, charge) = match store.append(Arc::clone(&row)) {
        Ok(Appended::New) => (Live::New, None),
        Ok(Appended::Known) => (Live::Known, None),
        Ok(Appended::Conflict) => (Live::Known, Some(two_contents(origin))),
        Err(StoreError::UnknownSchema(hash)) => {
            let known = store.newest_schema(&origin);
            (Live::Unknown { hash, known }, None)
        }
        Err(error @ StoreError::NoRoom) => {
            let charge = refusal(&error, node_of(origin), origin);
            (Live::Unkept, Some(charge))
        }
        Err(error) => {
            debug!(%error, seq = row.row.seq, "a live row was refused");
            let charge = refusal(&error, from, origin);
            let passing = is_passing(&error);
            (
                if passing { Live::NotNow } else { Live::Refused },
                Some(charge),
            )
        }
    };
    (Outcome::Live { row, from, outcome }, charge)
}

pub(super) fn repair(
    store: &Store,
    ask: StreamId,
    piece: Piece,
    from: NodeId,
) -> (Outcome, Option<Charge>) {
    let (log, first, last) = piece.span();
    let stored = match &piece {
        Piece::Row(row) => store.append(Arc::clone(row)),
        Piece::Block(bytes, _) => store.insert_block(bytes),
    };
    let (outcome, charge) = match stored {
        Ok(Appended::New) => (Repair::New, None),
        Ok(Appended::Known) => (Repair::Known, None),
        // Its rows are not those held, and not all of them are: the other holders have others.
        Ok(Appended::Conflict) if !store.holds(&log, first..=last) => {
            (Repair::Bad, Some(two_contents(log.origin)))
        }
        Ok(Appended::Conflict) => (Repair::Known, Some(two_contents(log.origin))),
        Err(StoreError::UnknownSchema(hash)) => {
            let known = store.newest_schema(&log.origin);
            (Repair::Unknown { hash, known }, None)
        }
        Err(error) if is_passing(&error) => (Repair::NotNow, None),
        Err(error) => {
            debug!(%error, "a repaired piece was refused");
            (Repair::Bad, Some(refusal(&error, from, log.origin)))
        }
    };
    let outcome = Outcome::Repaired {
        ask,
        piece,
        outcome,
    };
    (outcome, charge)
}

fn two_contents(origin: Origin) -> Charge {
    Charge::Blame(node_of(origin), Offence::TwoContents)
}

pub(super) fn apply(store: &Store, seal: Seal, from: NodeId) -> (Outcome, Option<Charge>) {
    let (log, rows) = (seal.log, seal.first..=seal.last());
    match store.apply_seal(seal) {
        Ok(Sealed::Done | Sealed::Known | Sealed::Waiting) => (Outcome::Sealed(None), None),
        Ok(Sealed::Contradicted { wins }) => {
            let fetch = wins.then_some((from, log, rows));
            (Outcome::Sealed(fetch), Some(two_contents(log.origin)))
        }
        Err(error) => {
            debug!(%error, "a seal was refused");
            (
                Outcome::Sealed(None),
                Some(refusal(&error, from, log.origin)),
            )
        }
    }
}

pub(super) fn define(
    store: &Store,
    ask: StreamId,
    origin: Origin,
    hash: SchemaHash,
    deltas: Vec<SchemaDelta>,
) -> (Outcome, Option<Charge>) {
    let defined = deltas
        .into_iter()
        .try_for_each(|delta| store.define(origin, delta).map(drop));
    let charge = defined.as_ref().err().map(|error| {
        debug!(%error, "a peer's schema was refused");
        // Who brought it had no choice: its hash is the one the origin's row names.
        refusal(error, node_of(origin), origin)
    });
    let defined = defined.is_ok() && store.schema(&hash).is_some();
    (Outcome::Defined { ask, defined }, charge)
}

/// Names whose fault a refusal is, if it is anybody's.
fn refusal(error: &StoreError, from: NodeId, origin: Origin) -> Charge {
    match offence::of(error) {
        Some((what, Fault::Bringer)) => Charge::Blame(from, what),
        Some((what, Fault::Origin)) => Charge::Blame(node_of(origin), what),
        None => Charge::Refuse(reason(error)),
    }
}

/// Whether the same piece may be welcome later: it says nothing against whoever sent it.
fn is_passing(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy { .. }
            | StoreError::NoRoom
            | StoreError::NotDurable { .. }
            | StoreError::Io { .. }
    )
}

/// The reason a refusal is counted under.
fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::UnknownSchema(_) => "schema: unknown",
        StoreError::BadSignature { .. }
        | StoreError::Malformed { .. }
        | StoreError::OverLimit { .. } => "somebody's fault",
        StoreError::Busy { .. } => "store: waiting for the disk",
        StoreError::NoRoom => "store: too little of the disk is free",
        StoreError::NoEpoch => "store: no epoch",
        StoreError::Opening => "store: still opening",
        StoreError::Query(_) => "store: not a question",
        StoreError::Io { .. } | StoreError::NotDurable { .. } => "store: input or output failed",
    }
}
