//! What the store says to a job: what came of it, and what is to be counted.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{IntervalSet, LogId, Origin, Parcel, Room, SchemaHash, Seal, Seq, SignedRow};

use super::job::Piece;
use crate::flow::core::StreamId;
use crate::flow::offence::Offence;

/// What the store did with a job.
#[derive(Debug)]
pub struct Note {
    /// What came of it.
    pub outcome: Outcome,
    /// What is to be counted, and against whom.
    pub charge: Option<Charge>,
}

/// A refusal to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// Somebody's fault.
    Blame(NodeId, Offence),
    /// Nobody's.
    Refuse(&'static str),
}

/// What came of a job: one for each kind.
#[derive(Debug)]
pub enum Outcome {
    /// Of a live row.
    Live {
        /// The row.
        row: Arc<SignedRow>,
        /// Who sent it: its origin, or a neighbour.
        from: NodeId,
        /// What became of it.
        outcome: Live,
    },
    /// A row to be shown, and who brought it.
    Shown(Arc<SignedRow>, NodeId),
    /// A row that isn't its origin's word.
    Forged {
        /// Whose it was to be.
        origin: Origin,
        /// Who brought it.
        from: NodeId,
    },
    /// A row that can't be shown until its schema is here.
    Unshown {
        /// Whose.
        origin: Origin,
        /// Who brought it.
        from: NodeId,
        /// The schema that is missing.
        hash: SchemaHash,
        /// One of the same origin that isn't.
        known: Option<SchemaHash>,
    },
    /// Of a piece that was asked for.
    Repaired {
        /// On which stream.
        ask: StreamId,
        /// The piece.
        piece: Piece,
        /// What became of it.
        outcome: Repair,
    },
    /// A seal was taken or refused. `Some`: its window is held with another content, of which the one it seals must stay;
    /// who has it, and the rows.
    Sealed(Option<(NodeId, LogId, RangeInclusive<Seq>)>),
    /// Of schemas that were fetched.
    Defined {
        /// On which stream.
        ask: StreamId,
        /// Whether the one that was asked for is known.
        defined: bool,
    },
    /// What is held and gone.
    Holdings {
        /// Rows that can be read.
        held: BTreeMap<LogId, IntervalSet>,
        /// Rows that retention took.
        gone: BTreeMap<LogId, IntervalSet>,
        /// Whether the sets are complete.
        ready: bool,
        /// What the disk has room for.
        room: Room,
    },
    /// Log and first row of complete windows without a seal.
    Unsealed(Vec<(LogId, Seq)>),
    /// The seals of earlier runs' last windows.
    SealedClosed(Vec<Seal>),
    /// Rows to be sent; `None`: the store can't say.
    Exported {
        /// On which stream.
        stream: StreamId,
        /// In order.
        parcels: Option<Vec<Parcel>>,
    },
    /// Answers to be sent.
    Found {
        /// On which stream.
        stream: StreamId,
        /// Whole frames.
        answers: Vec<Bytes>,
    },
}

/// What became of a live row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// It is held.
    New,
    /// It was held already, or another under its identity is.
    Known,
    /// It can be tried again when this schema is there.
    Unknown {
        /// The schema that is missing.
        hash: SchemaHash,
        /// One of the same origin that isn't.
        known: Option<SchemaHash>,
    },
    /// The store is full or closing: nobody's fault.
    NotNow,
    /// Good, and not held: too little of the disk is free. Whoever looks sees it.
    Unkept,
    /// It is not what it claims to be.
    Refused,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It is held.
    New,
    /// All of it was held already.
    Known,
    /// It can be tried again when this schema is there.
    Unknown {
        /// The schema that is missing.
        hash: SchemaHash,
        /// One of the same origin that isn't.
        known: Option<SchemaHash>,
    },
    /// The store is full or closing: nobody's fault.
    NotNow,
    /// It is not what it claims to be.
    Bad,
}
