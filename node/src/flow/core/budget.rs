//! What one peer may send and ask, a second and at once.
//!
//! Budgets last as long as the daemon, so that coming back buys nothing. An honest peer never finds its own used up: not
//! after a cut, not while its schema can't be fetched, not when a question overtakes the news that the last was answered.
//! Absent: counting and naming; the flow's task does that.

use std::time::Instant;

use outlast_mesh::Allowance;
use outlast_store::{MAX_SCHEMA_CHANGES_PER_HOUR, SchemaHash};

/// Live rows: one a second, and what a frozen node catches up with.
pub(super) const LIVE: (f64, f64) = (4.0, 64.0);
/// Digests: some a second while things change, several messages each in a large mesh.
const DIGESTS: (f64, f64) = (8.0, 64.0);
/// Seals of its own windows: one a minute, and at a start those of the runs before, of which one with many holes has many.
const SEALS: (f64, f64) = (1.0, 256.0);
/// Windows whose seals are asked for, each of which may be a look at the disk: what a cut of hours left unsealed.
const SEALS_ASKED: (f64, f64) = (8.0, 1_024.0);
const KEY_ROWS: (f64, f64) = (2.0, 16.0);
/// Subscriptions: one each ten seconds, and at once when somebody looks.
const SUBSCRIPTIONS: (f64, f64) = (1.0, 16.0);
/// Questions: two at a time at the speed of a local network, as long as a backlog lasts.
const QUESTIONS: (f64, f64) = (100.0, 400.0);
/// A question that finds all its peer's places taken costs as much as so many others.
const CROWDED: f64 = 20.0;
/// Schemas that live rows bring up: as many as an origin may make.
const SCHEMAS: (f64, f64) = (
    MAX_SCHEMA_CHANGES_PER_HOUR as f64 / 3_600.0,
    MAX_SCHEMA_CHANGES_PER_HOUR as f64,
);

#[derive(Debug)]
pub(super) struct Budget {
    live: Allowance,
    digests: Allowance,
    seals: Allowance,
    seals_asked: Allowance,
    key_rows: Allowance,
    subscriptions: Allowance,
    questions: Allowance,
    schemas: Allowance,
    /// The schema that was last paid for.
    schema: Option<SchemaHash>,
}

impl Default for Budget {
    fn default() -> Self {
        let allow = |(per_second, at_once)| Allowance::new(per_second, at_once);
        Self {
            live: allow(LIVE),
            digests: allow(DIGESTS),
            seals: allow(SEALS),
            seals_asked: allow(SEALS_ASKED),
            key_rows: allow(KEY_ROWS),
            subscriptions: allow(SUBSCRIPTIONS),
            questions: allow(QUESTIONS),
            schemas: allow(SCHEMAS),
            schema: None,
        }
    }
}

impl Budget {
    pub(super) fn live(&mut self, now: Instant) -> bool {
        self.live.take(1.0, now)
    }

    pub(super) fn digest(&mut self, now: Instant) -> bool {
        self.digests.take(1.0, now)
    }

    pub(super) fn seal(&mut self, now: Instant) -> bool {
        self.seals.take(1.0, now)
    }

    /// A question for the seals of so many windows.
    pub(super) fn seals_asked(&mut self, windows: usize, now: Instant) -> bool {
        self.seals_asked.take(windows as f64, now)
    }

    pub(super) fn key_row(&mut self, now: Instant) -> bool {
        self.key_rows.take(1.0, now)
    }

    pub(super) fn subscription(&mut self, now: Instant) -> bool {
        self.subscriptions.take(1.0, now)
    }

    /// `crowded`: all places of its peer are taken, so that it won't be answered.
    pub(super) fn question(&mut self, crowded: bool, now: Instant) -> bool {
        let cost = if crowded { CROWDED } else { 1.0 };
        self.questions.take(cost, now)
    }

    /// Fetching a schema for a live row. Again for the same one is free: each row brings it up until it is here, and
    /// that it didn't come may be the network's doing.
    pub(super) fn schema(&mut self, hash: SchemaHash, now: Instant) -> bool {
        let granted = self.schema == Some(hash) || self.schemas.take(1.0, now);
        if granted {
            self.schema = Some(hash);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn seals_of_a_start_s_earlier_runs_are_taken_and_the_same_one_for_ever_is_not() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let granted = (0..1_000).take_while(|_| budget.seal(start));
        assert_eq!(granted.count(), 256);
        let later = start + Duration::from_secs(60);
        let granted = (0..1_000).take_while(|_| budget.seal(later));
        assert_eq!(granted.count(), 60);
        let granted = (0..100).take_while(|_| budget.seals_asked(256, start));
        assert_eq!(granted.count(), 4);
    }

    #[test]
    fn a_schema_that_does_not_come_is_paid_for_once_and_others_each() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let hash = |number| SchemaHash([number; 32]);
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            assert!(budget.schema(hash(1), now), "after {second} s");
        }
        let now = start + Duration::from_secs(600);
        let mut others = 2..=255;
        let granted = others
            .by_ref()
            .take_while(|number| budget.schema(hash(*number), now));
        assert_eq!(granted.count(), MAX_SCHEMA_CHANGES_PER_HOUR);
    }

    #[test]
    fn a_peer_that_overtakes_our_news_of_it_is_not_accused_and_one_that_crowds_is() {
        let (mut honest, mut crowding, start) =
            (Budget::default(), Budget::default(), Instant::now());
        // A minute of a backlog; one question in fifty comes before the news that the last was answered.
        for at in 0..4_000_u32 {
            let now = start + Duration::from_millis(15) * at;
            assert!(honest.question(at.is_multiple_of(50), now), "question {at}");
        }
        let granted = (0..100).take_while(|_| crowding.question(true, start));
        assert_eq!(granted.count(), 20);
    }
}
