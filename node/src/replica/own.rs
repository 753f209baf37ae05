//! Whether this node's own earlier runs are back from its peers.

use std::time::{Duration, Instant};

use outlast_store::LogId;

use super::Replica;

/// After this long without any keeper, a restarted node seals what it has of its earlier runs.
const ALONE: Duration = Duration::from_secs(60);

impl Replica {
    /// Whether the rows of earlier runs that peers held are back, so that their short last
    /// windows can be sealed.
    #[must_use]
    pub fn own_runs_recovered(&self, now: Instant) -> bool {
        let asked = self.own_compared || now.duration_since(self.started) >= ALONE;
        self.ready && asked && !self.own_missing(now)
    }

    fn own_missing(&self, now: Instant) -> bool {
        let earlier = |log: &&LogId| log.origin == self.me && Some(**log) != self.running;
        self.suspects.iter().filter(earlier).any(|log| {
            !self
                .missing_at(log, now, |peer| !peer.is_hollow())
                .is_empty()
        }) || self
            .asks
            .logs()
            .any(|log| log.origin == self.me && Some(log) != self.running)
            || self
                .holdings
                .pending_logs()
                .any(|log| log.origin == self.me && Some(*log) != self.running)
    }
}
