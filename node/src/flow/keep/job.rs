//! What the store is asked to do, and in which lane that waits.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{
    Head, IntervalSet, LogId, Origin, SchemaDelta, SchemaHash, Seal, Seq, SignedRow,
};

use crate::flow::core::StreamId;
use crate::flow::points::PointsAsked;

/// Something for the store.
#[derive(Debug)]
pub enum Job {
    /// A live row from its origin.
    Live(Arc<SignedRow>),
    /// A live row that is shown and not kept, and who brought it.
    Show(Arc<SignedRow>, NodeId),
    /// A live row that a neighbour of its origin's keepers handed on, and who.
    HandedOn(Arc<SignedRow>, NodeId),
    /// A row or block that was asked for, and who brought it.
    Repair {
        /// On which stream.
        ask: StreamId,
        /// What came.
        piece: Piece,
        /// From whom.
        from: NodeId,
    },
    /// A seal, and who brought it.
    Seal(Seal, NodeId),
    /// Schemas of an origin, oldest first.
    Define {
        /// On which stream they came.
        ask: StreamId,
        /// Whose they are.
        origin: Origin,
        /// The one that was asked for.
        hash: SchemaHash,
        /// It and those before it.
        deltas: Vec<SchemaDelta>,
    },
    /// Read again what is held and gone; these rows every keeper has.
    Holdings(BTreeMap<LogId, IntervalSet>),
    /// Which complete windows lack a seal.
    Unsealed,
    /// Seal the short last windows of this node's earlier runs.
    SealClosed(Vec<LogId>),
    /// Rows of a range, to be sent.
    Export {
        /// On which stream.
        stream: StreamId,
        /// Of which log.
        log: LogId,
        /// Which.
        rows: RangeInclusive<Seq>,
    },
    /// Points of one origin's history, as answers.
    Points {
        /// On which stream.
        stream: StreamId,
        /// Which.
        asked: PointsAsked,
    },
    /// The seals of these windows, as answers.
    Seals {
        /// On which stream.
        stream: StreamId,
        /// Log and first row of each.
        windows: Vec<(LogId, Seq)>,
    },
    /// A schema with its parents up to one of those known, oldest first, as answers.
    Schema {
        /// On which stream.
        stream: StreamId,
        /// Which.
        hash: SchemaHash,
        /// What the peer has.
        known: Vec<SchemaHash>,
    },
}

/// Which jobs may not overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Live rows: never waits for a disk.
    Live,
    /// What changes the store.
    Stored,
    /// What only reads: in any order, some at a time.
    Read,
}

impl Job {
    /// Where it queues.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Live(_) | Self::HandedOn(..) | Self::Show(..) => Lane::Live,
            Self::Points { .. }
            | Self::Export { .. }
            | Self::Seals { .. }
            | Self::Schema { .. } => Lane::Read,
            _ => Lane::Stored,
        }
    }
}

/// A row or block from a holder.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A single row.
    Row(Arc<SignedRow>),
    /// A sealed block and its head.
    Block(Bytes, Head),
}

impl Piece {
    /// Which rows it has.
    #[must_use]
    pub fn span(&self) -> (LogId, Seq, Seq) {
        match self {
            Self::Row(row) => (row.row.log, row.row.seq, row.row.seq),
            Self::Block(_, head) => (head.log, head.first, head.last()),
        }
    }
}

impl From<SignedRow> for Piece {
    fn from(row: SignedRow) -> Self {
        Self::Row(Arc::new(row))
    }
}
