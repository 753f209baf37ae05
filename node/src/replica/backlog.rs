//! Rows that have only just been sent: a connected peer most likely has them.
//!
//! Nothing acknowledges a live row; the next digest does. Until then counting it as backlog
//! would show a number that is never zero.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use outlast_store::{IntervalSet, LogId, Seq};

/// A digest interval and the settling after it.
const FRESH_FOR: Duration = Duration::from_secs(12);
/// 16 origins for `FRESH_FOR`, twice over; beyond it the oldest count as backlog at once.
const MAX_FRESH: usize = 400;

#[derive(Debug, Default)]
pub(super) struct Fresh {
    rows: VecDeque<(Instant, LogId, Seq)>,
}

impl Fresh {
    pub(super) fn push(&mut self, now: Instant, log: LogId, seq: Seq) {
        while self.rows.len() >= MAX_FRESH
            || self
                .rows
                .front()
                .is_some_and(|(at, ..)| now.duration_since(*at) > FRESH_FOR)
        {
            self.rows.pop_front();
        }
        self.rows.push_back((now, log, seq));
    }

    /// Fresh rows of `log` that arrived after `since`.
    pub(super) fn of(&self, log: &LogId, since: Instant, now: Instant) -> IntervalSet {
        let mut rows = IntervalSet::default();
        for (at, of, seq) in &self.rows {
            if of == log && *at >= since && now.duration_since(*at) <= FRESH_FOR {
                rows.insert(*seq..=*seq);
            }
        }
        rows
    }
}
