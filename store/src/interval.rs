//! Which rows of a log are meant: a set of sequence numbers kept as ranges.
//!
//! `insert` and `remove` add and take a run, `union`, `subtract` and `intersect` work on whole sets.
//! Kept as a sorted `Vec` of inclusive ranges that neither touch nor overlap. With `n` ranges: `contains` is
//! O(log n), `insert` and `remove` are O(log n) to find the place and O(n) to move what follows (O(1) at the end, where
//! live rows arrive), the set operations are O(n + m), `len` is O(n).
//! On the wire (serde): one flat list of numbers, per range the gap to the end of the one before and its length less one;
//! with postcard that is two varints a range. No more than `MAX_RANGES` are read.
//! Invariant: rebuilt from the keys at open; no cursor file exists that could disagree.
//! Absent: asking. The node compares sets, and talks to the mesh.

use crate::sample::Seq;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::RangeInclusive;

/// How many ranges are read from elsewhere; what has more is refused.
pub const MAX_RANGES: usize = 65_536;

/// A set of sequence numbers.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct IntervalSet {
    ranges: Vec<(Seq, Seq)>,
}

impl IntervalSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds every number of `range`; an empty range adds nothing.
    pub fn insert(&mut self, range: RangeInclusive<Seq>) {
        let (mut first, mut last) = range.into_inner();
        if first > last {
            return;
        }
        // Rows mostly come at the end: there nothing has to move.
        match self.ranges.last_mut() {
            Some(top) if first < top.0 => {}
            Some(top) if top.1.checked_add(1).is_none_or(|next| first <= next) => {
                top.1 = top.1.max(last);
                return;
            }
            _ => return self.ranges.push((first, last)),
        }
        // The ranges that overlap or touch the new one become part of it.
        let from = self
            .ranges
            .partition_point(|&(_, end)| end.checked_add(1).is_some_and(|next| next < first));
        let to = self.ranges.partition_point(|&(start, _)| {
            start.checked_sub(1).is_none_or(|before| before <= last)
        });
        if from < to {
            first = first.min(self.ranges[from].0);
            last = last.max(self.ranges[to - 1].1);
        }
        self.ranges.splice(from..to, [(first, last)]);
    }

    /// Takes every number of `range` out.
    pub fn remove(&mut self, range: RangeInclusive<Seq>) {
        let (first, last) = range.into_inner();
        if first > last {
            return;
        }
        let from = self.ranges.partition_point(|&(_, end)| end < first);
        let to = self.ranges.partition_point(|&(start, _)| start <= last);
        if from >= to {
            return;
        }
        let (start, end) = (self.ranges[from].0, self.ranges[to - 1].1);
        let left = (start < first).then(|| (start, first - 1));
        let right = (end > last).then(|| (last + 1, end));
        self.ranges.splice(from..to, left.into_iter().chain(right));
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        let at = self.ranges.partition_point(|&(_, end)| end < seq);
        self.ranges.get(at).is_some_and(|&(start, _)| start <= seq)
    }

    /// Whether all of `range` is in the set; true of an empty range.
    pub fn covers(&self, range: RangeInclusive<Seq>) -> bool {
        let (first, last) = range.into_inner();
        let at = self.ranges.partition_point(|&(_, end)| end < first);
        first > last
            || self
                .ranges
                .get(at)
                .is_some_and(|&(start, end)| start <= first && last <= end)
    }

    /// The ranges in ascending order; no two touch.
    pub fn ranges(
        &self,
    ) -> impl DoubleEndedIterator<Item = RangeInclusive<Seq>> + ExactSizeIterator + '_ {
        self.ranges.iter().map(|&(first, last)| first..=last)
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.ranges
            .iter()
            .map(|&(first, last)| u64::from(last - first) + 1)
            .sum()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest number.
    pub fn first(&self) -> Option<Seq> {
        self.ranges.first().map(|&(first, _)| first)
    }

    /// The highest number.
    pub fn last(&self) -> Option<Seq> {
        self.ranges.last().map(|&(_, last)| last)
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = Self {
            ranges: Vec::with_capacity(self.ranges.len() + other.ranges.len()),
        };
        let (mut left, mut right) = (
            self.ranges.iter().peekable(),
            other.ranges.iter().peekable(),
        );
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => {
                    if a <= b {
                        left.next()
                    } else {
                        right.next()
                    }
                }
                (Some(_), None) => left.next(),
                (None, _) => right.next(),
            };
            let Some(&(first, last)) = next else {
                return all;
            };
            // Ascending by start, so only the last range can be touched.
            all.insert(first..=last);
        }
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        let mut cuts = other.ranges.iter().peekable();
        for &(mut first, last) in &self.ranges {
            let mut open = true;
            while let Some(&&(start, end)) = cuts.peek() {
                if end < first {
                    cuts.next();
                    continue;
                }
                if start > last {
                    break;
                }
                if start > first {
                    ranges.push((first, start - 1));
                }
                if end >= last {
                    open = false;
                    break;
                }
                first = end + 1;
            }
            if open {
                ranges.push((first, last));
            }
        }
        Self { ranges }
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        let (mut i, mut j) = (0, 0);
        while let (Some(&(a, b)), Some(&(c, d))) = (self.ranges.get(i), other.ranges.get(j)) {
            if a.max(c) <= b.min(d) {
                ranges.push((a.max(c), b.min(d)));
            }
            if b < d { i += 1 } else { j += 1 }
        }
        Self { ranges }
    }
}

impl fmt::Debug for IntervalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ranges()).finish()
    }
}

impl FromIterator<RangeInclusive<Seq>> for IntervalSet {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<Seq>>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

impl Serialize for IntervalSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut at = 0;
        let numbers = self.ranges.iter().flat_map(|&(first, last)| {
            let pair = [first - at, last - first];
            at = last;
            pair
        });
        // A known length: postcard writes it in front.
        serializer.collect_seq(numbers.collect::<Vec<_>>())
    }
}

impl<'de> Deserialize<'de> for IntervalSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Numbers)
    }
}

struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = IntervalSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flat list of gaps and lengths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<IntervalSet, A::Error> {
        let mut ranges: Vec<(Seq, Seq)> = Vec::new();
        while let Some(gap) = numbers.next_element::<u32>()? {
            let more: u32 = numbers
                .next_element()?
                .ok_or_else(|| A::Error::custom("a gap without a length"))?;
            if ranges.len() == MAX_RANGES {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_RANGES} ranges"
                )));
            }
            let before = ranges.last().map(|&(_, last)| last);
            if before.is_some() && gap < 2 {
                return Err(A::Error::custom("ranges touch or overlap"));
            }
            let first = before.unwrap_or(0).checked_add(gap);
            let range = first.and_then(|first| Some((first, first.checked_add(more)?)));
            ranges.push(
                range.ok_or_else(|| A::Error::custom("a range ends beyond the last number"))?,
            );
        }
        Ok(IntervalSet { ranges })
    }
}

#[cfg(test)]
mod tests;
