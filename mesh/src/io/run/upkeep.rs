//! What the shell does from time to time: looking at the machine's addresses, remembering where
//! peers are, keeping the journal short.
//!
//! News of the network brings a look forward. Absent: what follows from another address, which is
//! the node's matter.

use std::time::{Duration, Instant};

use super::super::{addresses, endpoints, now};
use super::Shell;
use crate::time::Now;

/// A fresh snapshot at least this often.
pub(super) const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// The machine's addresses are looked at this often where the system doesn't tell of changes, and
/// where it does, in case it forgot one.
const ADDRESSES_EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// How long news of the network settles: an address comes with its routes, and often goes just
/// before it comes back.
const SETTLE: Duration = Duration::from_millis(300);

/// It settles so many times as long as the last look took, though never longer than without news:
/// a router with a million routes tells without end, and one look takes it a second.
const IDLE_PART: u32 = 20;

/// Where peers are is written at most this often, and what could not be written is tried again.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(10);

/// The journal may shrink this often, and whenever it has grown by much.
const COMPACT_EVERY: Duration = Duration::from_secs(3_600);

/// When the shell does its own things next.
#[derive(Debug)]
pub(super) struct Deadlines {
    pub(super) snapshot: Instant,
    addresses: Instant,
    /// How long the next news of the network settles.
    settle: Duration,
    endpoints: Instant,
    compact: Instant,
}

impl Deadlines {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            snapshot: now + SNAPSHOT_EVERY,
            addresses: now + ADDRESSES_EVERY.0,
            settle: SETTLE,
            endpoints: now + Duration::from_secs(1),
            compact: now + COMPACT_EVERY,
        }
    }
}

impl Shell {
    /// What the shell itself does from time to time.
    pub(super) fn keep_time(&mut self) {
        let now = now();
        if now.mono >= self.due.addresses {
            self.look_at_addresses(now);
        }
        if now.mono >= self.due.endpoints {
            self.due.endpoints = now.mono + ENDPOINTS_EVERY;
            self.remember_endpoints();
            if self.writer.is_behind() && !self.writer.is_busy() {
                self.writer.append(Vec::new(), false);
            }
        }
        let full = now.mono >= self.due.compact || self.writer.has_grown();
        if full && !self.writer.is_busy() {
            self.due.compact = now.mono + COMPACT_EVERY;
            self.writer.compact(self.node.statements());
        }
    }

    /// The system told of a change of the network: it is looked at when it has settled.
    pub(super) fn stir(&mut self) {
        self.stirred = true;
        let settled = now().mono + self.due.settle;
        self.due.addresses = self.due.addresses.min(settled);
    }

    /// What is advertised stands for other addresses, or the socket is broken.
    pub(super) fn look_again(&mut self) {
        self.due.addresses = now().mono;
    }

    fn look_at_addresses(&mut self, now: Now) {
        let (by_ourselves, in_case) = ADDRESSES_EVERY;
        let told = self.watch.is_listening();
        self.due.addresses = now.mono + if told { in_case } else { by_ourselves };
        let began = Instant::now();
        self.udp.keep_up();
        let endpoints = addresses::endpoints(self.udp.local(), &self.names.addresses());
        let took = began.elapsed();
        self.due.settle = settle_after(took);
        self.node.handle_endpoints(endpoints, now);
        if std::mem::take(&mut self.stirred) {
            self.names.hurry();
            self.node.handle_stir(now);
        }
    }

    fn remember_endpoints(&mut self) {
        if let Some(list) = self.node.take_endpoints() {
            let file = self.endpoints_file.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = endpoints::write(&file, &list) {
                    tracing::debug!(%error, "endpoints not remembered");
                }
            });
        }
    }
}

/// How long news settles when the last look took so long.
fn settle_after(took: Duration) -> Duration {
    let (longest, _in_case) = ADDRESSES_EVERY;
    took.saturating_mul(IDLE_PART).clamp(SETTLE, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_settles_longer_where_looking_takes_long() {
        let settles = [0, 1, 100, 1_000].map(|ms| settle_after(Duration::from_millis(ms)));
        assert_eq!(
            settles.map(|time| time.as_millis()),
            [300, 300, 2_000, 10_000]
        );
    }
}
