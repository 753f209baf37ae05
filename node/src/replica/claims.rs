//! What one peer says it has of each log, and how many ranges that makes.
//!
//! Read as a map. Every change goes through `change` and `forget`, which keep the count, so that a full answer with
//! thousands of logs costs a look at each of them once.
//! Absent: how many there may be (`peer`).

use std::collections::BTreeMap;
use std::ops::Deref;

use outlast_store::{LogId, Origin};

use super::digest;
use super::holdings::{Coverage, span};

#[derive(Debug, Default)]
pub(super) struct Claims {
    logs: BTreeMap<LogId, Coverage>,
    /// Ranges in the logs of each origin that has some.
    ranges: BTreeMap<Origin, usize>,
    all: usize,
}

impl Deref for Claims {
    type Target = BTreeMap<LogId, Coverage>;

    fn deref(&self) -> &Self::Target {
        &self.logs
    }
}

impl Claims {
    /// How many ranges there are.
    pub(super) fn ranges(&self) -> usize {
        self.all
    }

    /// How many of them are in the logs of an origin.
    pub(super) fn ranges_of(&self, origin: &Origin) -> usize {
        self.ranges.get(origin).copied().unwrap_or(0)
    }

    /// Changes what is said of a log, which is added if there is room for it. False at the bound of `digest::MAX_LOGS`.
    pub(super) fn change(&mut self, log: LogId, change: impl FnOnce(&mut Coverage)) -> bool {
        if self.logs.len() >= digest::MAX_LOGS && !self.logs.contains_key(&log) {
            return false;
        }
        let known = self.logs.entry(log).or_default();
        let before = known.ranges();
        change(known);
        let after = known.ranges();
        let of_origin = self.ranges.entry(log.origin).or_default();
        *of_origin = *of_origin + after - before;
        self.all = self.all + after - before;
        true
    }

    /// Forgets the logs of an origin.
    pub(super) fn forget(&mut self, origin: &Origin) {
        let logs: Vec<LogId> = self.logs.range(span(origin)).map(|(log, _)| *log).collect();
        for log in logs {
            self.logs.remove(&log);
        }
        self.all -= self.ranges.remove(origin).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use outlast_store::{Epoch, StoreId};
    use proptest::prelude::*;

    use super::*;
    use crate::replica::peer::Peer;

    fn log(of: u8, counter: u32) -> LogId {
        LogId {
            origin: Origin([of; 32]),
            store: StoreId(1),
            epoch: Epoch { counter, nonce: 7 },
        }
    }

    proptest! {
        #[test]
        fn the_count_of_an_origin_s_ranges_is_that_of_its_logs_and_no_other_log_is_waited_for(
            told in proptest::collection::vec((0..6u8, 0..3u8, 1..4u32, 1..200u32, 0..9u32), 1..80),
        ) {
            let now = Instant::now();
            let mut peer = Peer::new(now);
            for (kind, of, counter, first, more) in told {
                let log = log(of, counter);
                let held = [first..=first + more].into_iter().collect();
                let gone = [first + more + 2..=first + 2 * more + 2].into_iter().collect();
                match kind {
                    0 => drop(peer.learn(log, Coverage { held, gone }, now)),
                    1 => peer.agree([(log, held)].into()),
                    2 => drop(peer.sent_live(log, first, now)),
                    3 => peer.forget(&log.origin),
                    4 => drop(peer.logs.change(log, |known| {
                        known.held = known.held.subtract(&held);
                    })),
                    _ => peer.has(log, first, first + more),
                }
                for of in 0..3 {
                    let origin = Origin([of; 32]);
                    let logs = peer.logs.range(span(&origin));
                    let ranges: usize = logs.map(|(_, known)| known.ranges()).sum();
                    prop_assert_eq!(peer.logs.ranges_of(&origin), ranges);
                }
                let all: usize = peer.logs.values().map(Coverage::ranges).sum();
                prop_assert_eq!(peer.logs.ranges(), all);
                prop_assert!(peer.settle.keys().all(|log| peer.logs.contains_key(log)));
            }
        }
    }
}
