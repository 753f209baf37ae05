//! How fast a peer is served: a token bucket whose rate follows the round trip.
//!
//! The burst lets a minute's backlog through at once; a long one runs at the rate, which grows
//! while it is used up and the round trip stays calm, and halves when that doubles: bulk must
//! not be what makes live rows late.

use std::time::{Duration, Instant};

/// Bytes a second at the start.
pub const START_RATE: f64 = 64_000.0;
/// What may be sent at once: 60 s of three nodes with 600 series each, as absolute rows.
pub const BURST: f64 = 512_000.0;
const SLOWEST: f64 = 8_000.0;
const FASTEST: f64 = 4_000_000.0;
const GROWTH: f64 = 1.25;
/// Round trips below this are calm whatever they were before: scheduling, not a queue.
const CALM_MS: f64 = 5.0;

/// The budget for one peer.
#[derive(Debug, Clone)]
pub struct Bucket {
    tokens: f64,
    rate: f64,
    filled: Instant,
    best_rtt_ms: f64,
    exhausted: bool,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            rate: START_RATE,
            filled: now,
            best_rtt_ms: f64::INFINITY,
            exhausted: false,
        }
    }

    /// Takes `bytes` and returns how long to wait before sending them. The bucket may go into
    /// debt by one piece, so that a piece larger than the burst still goes.
    pub fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(BURST);
        self.filled = now.max(self.filled);
        self.tokens -= bytes as f64;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        self.exhausted = true;
        Duration::from_secs_f64(-self.tokens / self.rate)
    }

    /// Follows the live round trip, once a second. `None` changes nothing.
    pub fn handle_rtt(&mut self, rtt_ms: Option<f64>) {
        let Some(rtt) = rtt_ms.filter(|rtt| rtt.is_finite()) else {
            return;
        };
        self.best_rtt_ms = self.best_rtt_ms.min(rtt);
        let calm = rtt <= CALM_MS || rtt < 2.0 * self.best_rtt_ms;
        if !calm {
            self.rate = (self.rate / 2.0).max(SLOWEST);
        } else if std::mem::take(&mut self.exhausted) {
            self.rate = (self.rate * GROWTH).min(FASTEST);
        }
    }

    /// Bytes a second the bucket gives.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_three_nodes_goes_at_once() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        let waits: Vec<_> = (0..3).map(|_| bucket.take(60 * 2_400, now)).collect();
        assert_eq!(waits, [Duration::ZERO; 3]);
    }

    #[test]
    fn beyond_the_burst_the_rate_holds() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        assert_eq!(bucket.take(BURST as usize, now), Duration::ZERO);
        assert_eq!(bucket.take(64_000, now), Duration::from_secs(1));
        assert_eq!(bucket.take(64_000, now), Duration::from_secs(2));
        assert_eq!(bucket.take(0, now + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn the_rate_halves_when_round_trips_double_and_grows_only_when_used_up() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        bucket.handle_rtt(Some(20.0));
        assert_eq!(bucket.rate(), START_RATE);
        bucket.handle_rtt(Some(41.0));
        assert_eq!(bucket.rate(), START_RATE / 2.0);
        bucket.take(BURST as usize * 2, now);
        bucket.handle_rtt(Some(21.0));
        assert_eq!(bucket.rate(), START_RATE / 2.0 * GROWTH);
        bucket.handle_rtt(Some(21.0));
        bucket.handle_rtt(None);
        assert_eq!(bucket.rate(), START_RATE / 2.0 * GROWTH);
    }

    #[test]
    fn a_loopback_round_trip_that_doubles_is_still_calm() {
        let mut bucket = Bucket::new(Instant::now());
        bucket.handle_rtt(Some(0.2));
        bucket.handle_rtt(Some(4.0));
        assert_eq!(bucket.rate(), START_RATE);
    }
}
