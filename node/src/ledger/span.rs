//! A stretch of places: all events of the authors between two, and of those two a part.

use std::ops::{Bound, RangeInclusive};

use outlast_mesh::NodeId;
use serde::{Deserialize, Serialize};

use super::event::Place;

/// From `from` on, up to but not with `to`. `to` of `None`: to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) from: Place,
    pub(super) to: Option<Place>,
}

impl Span {
    /// Every place there can be.
    pub(super) const ALL: Self = Self {
        from: (NodeId([0; 32]), 0),
        to: None,
    };

    /// Whether anything can be in it.
    pub(super) fn is_sane(&self) -> bool {
        self.to.is_none_or(|to| self.from < to)
    }

    pub(super) fn contains(&self, place: &Place) -> bool {
        self.from <= *place && self.to.is_none_or(|to| *place < to)
    }

    /// The authors of whom something may be in it.
    pub(super) fn authors(&self) -> (Bound<NodeId>, Bound<NodeId>) {
        let last = match self.to {
            // Of an author at whose first place it ends it holds nothing.
            Some((author, _)) => Bound::Included(author.max(self.from.0)),
            None => Bound::Unbounded,
        };
        (Bound::Included(self.from.0), last)
    }

    /// The numbers of an author that are in it; an empty range is `1..=0`.
    pub(super) fn seqs_of(&self, author: &NodeId) -> RangeInclusive<u64> {
        let first = if *author == self.from.0 {
            self.from.1
        } else {
            0
        };
        let last = match self.to {
            Some((end, 0)) if *author == end => return EMPTY,
            Some((end, seq)) if *author == end => seq - 1,
            _ => u64::MAX,
        };
        // A range may not be asked for backwards.
        if first <= last { first..=last } else { EMPTY }
    }

    pub(super) fn holds_all_of(&self, author: &NodeId) -> bool {
        self.seqs_of(author) == (0..=u64::MAX)
    }
}

#[expect(
    clippy::reversed_empty_ranges,
    reason = "nothing is in it, which is its meaning"
)]
const EMPTY: RangeInclusive<u64> = 1..=0;
