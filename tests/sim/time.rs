//! Virtual time and what is due in it.
//!
//! A `Moment` counts microseconds since the world began; `Calendar` gives events back in order of their moment, those of
//! one moment in the order they were entered. Nothing here reads a clock.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment of the world, microseconds since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) const fn secs(secs: u64) -> Self {
        Self(secs * 1_000_000)
    }

    pub(crate) const fn ms(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    pub(crate) fn as_secs(self) -> f64 {
        self.0 as f64 / 1e6
    }

    pub(crate) const fn as_ms(self) -> u64 {
        self.0 / 1_000
    }

    /// How long after `earlier`; nothing where it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}s", self.as_secs())
    }
}

/// Events by the moment they are due.
#[derive(Debug)]
pub(crate) struct Calendar<E> {
    heap: BinaryHeap<Entry<E>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Moment,
    order: u64,
    event: E,
}

impl<E> Calendar<E> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            entered: 0,
        }
    }

    pub(crate) fn enter(&mut self, at: Moment, event: E) {
        self.entered += 1;
        self.heap.push(Entry {
            at,
            order: self.entered,
            event,
        });
    }

    /// The next event, if it is due before `end`.
    pub(crate) fn next_before(&mut self, end: Moment) -> Option<(Moment, E)> {
        if self.heap.peek()?.at >= end {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Events entered since the beginning.
    pub(crate) fn entered(&self) -> u64 {
        self.entered
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}
