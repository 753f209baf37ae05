//! How much an author may add: a burst of 60 events and 120 an hour, so that no node fills the others' ledgers.
//!
//! `Own` is what this node keeps: what is over it is counted and told in one event. `Foreign` is what is taken of another:
//! never less than an honest author can bring, everything that is kept of it at once after a long cut included.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_mesh::{Allowance, NodeId};

use super::MOST_EVENTS;
use super::event::Draft;

const BURST: usize = 60;
const AN_HOUR: f64 = 120.0;
/// Tellings of what was held back, an hour: they come out of the same quota.
const TELLINGS: u32 = 6;
const TELL_EVERY: Duration = Duration::from_secs(3_600 / TELLINGS as u64);
/// The first telling waits so long, that it tells of more than one.
const TELL_AFTER: Duration = Duration::from_secs(60);
const RATE: f64 = (AN_HOUR - TELLINGS as f64) / 3_600.0;
/// In so long the burst fills up again.
const REFILL_MS: i64 = (BURST as i64) * 3_600_000 / (AN_HOUR as i64);
/// Authors remembered: members, for others are refused before.
const FOREIGN: f64 = (MOST_EVENTS + BURST + 8) as f64;

/// What this node may publish.
#[derive(Debug)]
pub(super) struct Own {
    allowance: Allowance,
    /// What was held back and is not told yet: how many, and the last of them.
    held: Option<(u64, Draft)>,
    tell_at: Option<Instant>,
    told_at: Option<Instant>,
    total: u64,
}

impl Own {
    pub(super) fn new() -> Self {
        Self {
            allowance: Allowance::new(RATE, BURST as f64),
            held: None,
            tell_at: None,
            told_at: None,
            total: 0,
        }
    }

    /// What the runs before have used of it, by the times on their events: a node that starts again and again has one burst.
    pub(super) fn handle_earlier(&mut self, walls_ms: impl Iterator<Item = i64>, wall_ms: i64) {
        let recent = |at_ms: &i64| (0..REFILL_MS).contains(&wall_ms.saturating_sub(*at_ms));
        self.allowance
            .charge(walls_ms.filter(recent).count() as f64);
    }

    /// Whether one more is granted; otherwise it is counted.
    pub(super) fn take(&mut self, draft: &Draft, now: Instant) -> bool {
        let granted = self.allowance.take(1.0, now);
        if !granted {
            let count = self.held.take().map_or(0, |(count, _)| count);
            self.held = Some((count + 1, draft.clone()));
            self.total += 1;
            let next = self.told_at.map_or(now, |told| told + TELL_EVERY);
            self.tell_at
                .get_or_insert_with(|| next.max(now + TELL_AFTER));
        }
        granted
    }

    /// How many were held back when the last was, where that is due to be told.
    pub(super) fn poll_held(&mut self, now: Instant) -> Option<(u64, Draft)> {
        self.tell_at.filter(|at| *at <= now)?;
        (self.tell_at, self.told_at) = (None, Some(now));
        self.held.take()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.tell_at
    }

    /// Since the start.
    pub(super) fn held_back(&self) -> u64 {
        self.total
    }
}

/// What others may add.
#[derive(Debug, Default)]
pub(super) struct Foreign(BTreeMap<NodeId, Allowance>);

impl Foreign {
    /// Whether another event of this author would be taken.
    pub(super) fn has(&mut self, author: NodeId, now: Instant) -> bool {
        self.of(author).has(1.0, now)
    }

    pub(super) fn take(&mut self, author: NodeId, now: Instant) -> bool {
        self.of(author).take(1.0, now)
    }

    fn of(&mut self, author: NodeId) -> &mut Allowance {
        let fresh = || Allowance::new(AN_HOUR / 3_600.0, FOREIGN);
        self.0.entry(author).or_insert_with(fresh)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn draft(wall_ms: i64) -> Draft {
        Draft::at(1, Bytes::new(), wall_ms, true)
    }

    #[test]
    fn after_a_burst_of_sixty_there_are_at_most_a_hundred_and_twenty_an_hour() {
        let (mut own, start) = (Own::new(), Instant::now());
        let granted = |own: &mut Own, now| (0..100).filter(|_| own.take(&draft(0), now)).count();
        assert_eq!(granted(&mut own, start), BURST);
        let (mut events, mut tellings, mut told) = (0, 0, 0);
        for second in 1..=7_200 {
            let now = start + Duration::from_secs(second);
            events += usize::from(own.take(&draft(second as i64), now));
            if let Some((count, last)) = own.poll_held(now) {
                assert!(last.wall_ms > 0 || second == 60, "second {second}");
                (tellings, told) = (tellings + 1, told + count);
            }
        }
        assert_eq!((events, tellings), (2 * 114, 12));
        assert!(
            own.held_back() - told < 601,
            "{told} of {}",
            own.held_back()
        );
        assert_eq!(own.held_back(), 40 + 7_200 - 2 * 114);
    }

    #[test]
    fn a_node_that_starts_again_and_again_has_one_burst() {
        let (mut own, start, now_ms) = (Own::new(), Instant::now(), 10_000_000_000);
        let walls = (0..200).map(|number| now_ms - number * 60_000);
        own.handle_earlier(walls, now_ms);
        let granted = (0..100).filter(|_| own.take(&draft(0), start)).count();
        assert_eq!(granted, BURST - 30, "thirty in the last half hour");
    }

    #[test]
    fn an_honest_author_is_never_over_what_is_taken_of_it() {
        let (mut foreign, start) = (Foreign::default(), Instant::now());
        let author = NodeId([1; 32]);
        // All that is kept of it after a long cut, its burst, and then its rate.
        let granted = (0..MOST_EVENTS + BURST).all(|_| foreign.take(author, start));
        assert!(granted);
        for event in 1..=500 {
            let now = start + Duration::from_secs(30) * event;
            assert!(foreign.take(author, now), "event {event}");
        }
        let now = start + Duration::from_secs(30) * 500;
        let more = (0..100).filter(|_| foreign.take(author, now)).count();
        assert_eq!(more, 8);
        assert!(
            foreign.has(NodeId([2; 32]), now),
            "another's quota is its own"
        );
    }
}
