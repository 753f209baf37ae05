//! What has been asked of whom, and is not answered yet.
//!
//! A row stands in at most one request. A request that makes no progress for `PATIENCE`, or takes
//! `LONGEST` in all, is given up; its peer rests for a while, twice as long each time, until it
//! answers one. One that gives nothing of what it claimed rests as well.
//! Bounds: `PER_PEER` requests a peer, `WINDOWS` windows of 60 rows each.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use outlast_store::{IntervalSet, LogId, Origin, Seq};

/// How long a request may make no progress.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a request may take however it moves: a minute of the slowest budget for each window.
const LONGEST: Duration = Duration::from_secs(300);
/// Requests for rows at one peer at a time.
const PER_PEER: usize = 2;
/// Windows of 60 rows in one request: a cut in the middle costs at most this much again.
const WINDOWS: u32 = 4;
/// The first rest of a peer that failed, doubled up to the longest.
const REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A question to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names the request in what comes back about it.
    pub id: u64,
    /// Whom to ask.
    pub peer: Origin,
    /// What for.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Rows of one log, to be answered newest first.
    Rows {
        /// The log.
        log: LogId,
        /// Which rows.
        rows: IntervalSet,
    },
    /// The full interval sets of these origins.
    Held {
        /// Whose logs.
        origins: Vec<Origin>,
    },
    /// The seals of these windows, each named by log and first row.
    Seals {
        /// Log and first row of each.
        windows: Vec<(LogId, Seq)>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Broken,
    Silent,
    /// It had nothing of what it claimed.
    Hollow,
}

#[derive(Debug, Default)]
pub(super) struct Asks {
    next: u64,
    running: BTreeMap<u64, Running>,
    resting: BTreeMap<Origin, Rest>,
    given_up: VecDeque<u64>,
}

#[derive(Debug)]
struct Running {
    request: Request,
    deadline: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    next: Duration,
}

impl Asks {
    pub(super) fn start(&mut self, peer: Origin, ask: Ask, now: Instant) -> Request {
        self.next += 1;
        let request = Request {
            id: self.next,
            peer,
            ask,
        };
        let running = Running {
            request: request.clone(),
            deadline: now + PATIENCE,
            until: now + LONGEST,
        };
        self.running.insert(request.id, running);
        request
    }

    pub(super) fn progress(&mut self, id: u64, now: Instant) {
        if let Some(running) = self.running.get_mut(&id) {
            running.deadline = (now + PATIENCE).min(running.until);
        }
    }

    pub(super) fn finish(&mut self, id: u64) -> Option<Request> {
        self.running.remove(&id).map(|running| running.request)
    }

    /// The peer gave something of what was asked.
    pub(super) fn answered(&mut self, peer: &Origin) {
        self.resting.remove(peer);
    }

    pub(super) fn fail(&mut self, id: u64, failure: Failure, now: Instant) -> Option<Request> {
        let running = self.running.remove(&id)?;
        self.given_up.push_back(id);
        self.rest(running.request.peer, failure, now);
        Some(running.request)
    }

    /// The peer is left alone for a while.
    pub(super) fn rest(&mut self, peer: Origin, failure: Failure, now: Instant) {
        let rest = self.resting.entry(peer).or_insert(Rest {
            until: now,
            next: REST,
        });
        let pause = if failure == Failure::Silent {
            rest.next * 2
        } else {
            rest.next
        };
        rest.until = now + pause;
        rest.next = (rest.next * 2).min(LONGEST_REST);
    }

    /// A request that must stop: its rows are free to be asked elsewhere.
    pub(super) fn next_given_up(&mut self) -> Option<u64> {
        self.given_up.pop_front()
    }

    /// Requests whose patience is at its end.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Request> {
        let late = |(id, running): (&u64, &Running)| (running.deadline <= now).then_some(*id);
        let late: Vec<_> = self.running.iter().filter_map(late).collect();
        late.into_iter()
            .filter_map(|id| self.fail(id, Failure::Silent, now))
            .collect()
    }

    /// Gives up everything asked of `peer` and returns the logs it was about.
    pub(super) fn drop_peer(&mut self, peer: &Origin, now: Instant) -> Vec<LogId> {
        let theirs =
            |(id, running): (&u64, &Running)| (running.request.peer == *peer).then_some(*id);
        let ids: Vec<_> = self.running.iter().filter_map(theirs).collect();
        let failed = ids
            .into_iter()
            .filter_map(|id| self.fail(id, Failure::Broken, now));
        failed
            .filter_map(|request| match request.ask {
                Ask::Rows { log, .. } => Some(log),
                Ask::Held { .. } | Ask::Seals { .. } => None,
            })
            .collect()
    }

    /// A peer that has just come back starts without a debt.
    pub(super) fn forgive(&mut self, peer: &Origin) {
        self.resting.remove(peer);
    }

    pub(super) fn may_ask(&self, peer: &Origin, now: Instant) -> bool {
        self.load(peer) < PER_PEER && self.rested(peer, now)
    }

    pub(super) fn may_ask_held(&self, peer: &Origin, now: Instant) -> bool {
        let asked = |running: &Running| {
            running.request.peer == *peer && matches!(running.request.ask, Ask::Held { .. })
        };
        self.rested(peer, now) && !self.running.values().any(asked)
    }

    fn rested(&self, peer: &Origin, now: Instant) -> bool {
        self.resting.get(peer).is_none_or(|rest| rest.until <= now)
    }

    pub(super) fn load(&self, peer: &Origin) -> usize {
        let theirs = |running: &&Running| {
            running.request.peer == *peer && !matches!(running.request.ask, Ask::Held { .. })
        };
        self.running.values().filter(theirs).count()
    }

    /// `rows` less what is being asked for already.
    pub(super) fn not_in_flight(&self, log: &LogId, mut rows: IntervalSet) -> IntervalSet {
        for running in self.running.values() {
            if let Ask::Rows {
                log: asked,
                rows: taken,
            } = &running.request.ask
                && asked == log
            {
                rows = rows.subtract(taken);
            }
        }
        rows
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.running
            .values()
            .filter_map(|running| match &running.request.ask {
                Ask::Rows { log, .. } => Some(*log),
                Ask::Held { .. } | Ask::Seals { .. } => None,
            })
    }

    /// When a request runs out of patience or a rest ends, after `now`.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let rests = self.resting.values().map(|rest| rest.until);
        self.running
            .values()
            .map(|running| running.deadline)
            .chain(rests)
            .filter(|at| *at > now)
            .min()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }
}

/// The newest rows of a set that lie in its newest `WINDOWS` windows.
pub(super) fn newest_windows(rows: &IntervalSet) -> IntervalSet {
    let Some(top) = rows.last() else {
        return IntervalSet::default();
    };
    let window = (top.max(1) - 1) / 60;
    let first = window.saturating_sub(WINDOWS - 1) * 60 + 1;
    let mut span = IntervalSet::default();
    span.insert(first..=top);
    rows.intersect(&span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_that_is_over_hides_no_later_deadline() {
        let now = Instant::now();
        let mut asks = Asks::default();
        let ask = || Ask::Held {
            origins: Vec::new(),
        };
        let broken = asks.start(Origin([1; 32]), ask(), now);
        asks.fail(broken.id, Failure::Broken, now);
        asks.start(Origin([2; 32]), ask(), now);
        assert_eq!(asks.deadline(now), Some(now + REST));
        assert_eq!(asks.deadline(now + REST), Some(now + PATIENCE));
        assert_eq!(asks.deadline(now + PATIENCE), None);
    }
}
