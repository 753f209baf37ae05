//! How fast a peer is served: a token bucket whose rate follows the round trip and the goodput.
//!
//! The burst lets a minute's backlog through at once; a long one runs at the rate, which grows while it is used up and
//! the round trip stays calm, halves when that doubles, and stays below a quarter of what the way was seen to carry:
//! bulk must not be what makes live rows late.

use std::time::{Duration, Instant};

/// Bytes a second at the start.
pub const START_RATE: f64 = 64_000.0;
/// What may be sent at once: 60 s of three nodes with 600 series each, as absolute rows.
pub const BURST: f64 = 512_000.0;
const SLOWEST: f64 = 8_000.0;
const FASTEST: f64 = 4_000_000.0;
const GROWTH: f64 = 1.25;
/// The part of the measured goodput that bulk may take.
const SHARE: f64 = 0.25;
/// Goodput is measured over so long.
const WINDOW: Duration = Duration::from_secs(1);
/// How long a measured goodput counts: a way that got wider shows only to who tries again.
const GOODPUT_FOR: Duration = Duration::from_secs(60);
/// A write that takes longer waited for the network, not for a scheduler.
const WAITED: Duration = Duration::from_millis(5);
/// Round trips below this are calm whatever they were before: scheduling, not a queue.
const CALM_MS: f64 = 5.0;
/// Round trips, one a second, after which the best of those before is forgotten: a way that is longer for good, by a
/// relay, is as calm as the short one was.
const BEST_OF: u32 = 60;

/// Whether budgets hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// Bulk leaves room for everything else.
    #[default]
    Polite,
    /// Bulk takes what it gets: for measuring, and for a network that is there for nothing else.
    Unlimited,
}

/// The budget for one peer.
#[derive(Debug, Clone)]
pub struct Bucket {
    pace: Pace,
    tokens: f64,
    rate: f64,
    filled: Instant,
    best_rtt_ms: Best,
    exhausted: bool,
    written: Written,
    goodput: Option<(f64, Instant)>,
}

/// The least of the last one to two minutes.
#[derive(Debug, Clone)]
struct Best {
    current: f64,
    before: f64,
    seen: u32,
}

/// What was written lately, and how long that waited for the network.
#[derive(Debug, Clone)]
struct Written {
    since: Instant,
    bytes: usize,
    waited: Duration,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            tokens: BURST,
            rate: START_RATE,
            filled: now,
            best_rtt_ms: Best {
                current: f64::INFINITY,
                before: f64::INFINITY,
                seen: 0,
            },
            exhausted: false,
            written: Written::new(now),
            goodput: None,
        }
    }

    /// Takes `bytes` and returns how long to wait before sending them. The bucket may go into
    /// debt by one piece, so that a piece larger than the burst still goes.
    pub fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        if self.pace == Pace::Unlimited {
            return Duration::ZERO;
        }
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
        let calm = rtt <= CALM_MS || rtt < 2.0 * self.best_rtt_ms.with(rtt);
        if !calm {
            self.rate = (self.rate / 2.0).max(SLOWEST);
        } else if std::mem::take(&mut self.exhausted) {
            self.rate = (self.rate * GROWTH).min(self.most());
        }
    }

    /// So many bytes went out, and took so long to do so: where that is long, they went as fast as the way carries.
    pub fn handle_written(&mut self, bytes: usize, took: Duration, now: Instant) {
        if self
            .goodput
            .is_some_and(|(_, at)| now.saturating_duration_since(at) >= GOODPUT_FOR)
        {
            self.goodput = None;
        }
        self.written.bytes += bytes;
        if took >= WAITED {
            self.written.waited += took;
        }
        let elapsed = now.saturating_duration_since(self.written.since);
        if elapsed < WINDOW {
            return;
        }
        let written = std::mem::replace(&mut self.written, Written::new(now));
        if written.waited * 2 >= elapsed {
            let goodput = written.bytes as f64 / elapsed.as_secs_f64();
            self.goodput = Some((goodput, now));
            self.rate = self.rate.min(self.most());
        }
    }

    /// Bytes a second the bucket gives.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    fn most(&self) -> f64 {
        let share = self.goodput.map_or(FASTEST, |(goodput, _)| SHARE * goodput);
        share.clamp(SLOWEST, FASTEST)
    }
}

impl Best {
    /// The best so far, one more counted.
    fn with(&mut self, rtt_ms: f64) -> f64 {
        if self.seen >= BEST_OF {
            (self.before, self.current, self.seen) = (self.current, rtt_ms, 0);
        }
        self.seen += 1;
        self.current = self.current.min(rtt_ms);
        self.current.min(self.before)
    }
}

impl Written {
    fn new(since: Instant) -> Self {
        Self {
            since,
            bytes: 0,
            waited: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_three_nodes_goes_at_once() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Pace::Polite, now);
        let waits: Vec<_> = (0..3).map(|_| bucket.take(60 * 2_400, now)).collect();
        assert_eq!(waits, [Duration::ZERO; 3]);
    }

    #[test]
    fn beyond_the_burst_the_rate_holds() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Pace::Polite, now);
        assert_eq!(bucket.take(BURST as usize, now), Duration::ZERO);
        assert_eq!(bucket.take(64_000, now), Duration::from_secs(1));
        assert_eq!(bucket.take(64_000, now), Duration::from_secs(2));
        assert_eq!(bucket.take(0, now + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn the_rate_halves_when_round_trips_double_and_grows_only_when_used_up() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Pace::Polite, now);
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
        let mut bucket = Bucket::new(Pace::Polite, Instant::now());
        bucket.handle_rtt(Some(0.2));
        bucket.handle_rtt(Some(4.0));
        assert_eq!(bucket.rate(), START_RATE);
    }

    #[test]
    fn bulk_takes_a_quarter_of_what_the_way_carries_until_it_may_carry_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Pace::Polite, start);
        // A way of 100 kB/s, full for two seconds.
        for tenth in 1..=20 {
            let took = Duration::from_millis(100);
            bucket.handle_written(10_000, took, start + took * tenth);
        }
        assert!(
            (bucket.rate() - 25_000.0).abs() < 1_000.0,
            "{}",
            bucket.rate()
        );
        let grow = |bucket: &mut Bucket| {
            bucket.take(BURST as usize * 2, start);
            bucket.handle_rtt(Some(20.0));
        };
        grow(&mut bucket);
        assert!(bucket.rate() < 26_000.0, "it grows no further");

        let later = start + Duration::from_secs(63);
        bucket.handle_written(1_000, Duration::ZERO, later);
        grow(&mut bucket);
        assert!(bucket.rate() > 30_000.0, "{}", bucket.rate());
    }

    #[test]
    fn writes_that_wait_for_nothing_measure_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Pace::Polite, start);
        for second in 1..10 {
            bucket.handle_written(
                500,
                Duration::from_millis(1),
                start + Duration::from_secs(second),
            );
        }
        assert_eq!(bucket.rate(), START_RATE);
    }

    #[test]
    fn a_way_that_is_longer_for_good_is_calm_after_two_minutes() {
        let mut bucket = Bucket::new(Pace::Polite, Instant::now());
        bucket.handle_rtt(Some(10.0));
        (0..119).for_each(|_| bucket.handle_rtt(Some(50.0)));
        let slow = bucket.rate();
        assert_eq!(slow, SLOWEST);
        bucket.take(BURST as usize * 2, Instant::now());
        (0..2).for_each(|_| bucket.handle_rtt(Some(50.0)));
        assert!(bucket.rate() > slow);
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Pace::Unlimited, now);
        assert_eq!(bucket.take(1 << 30, now), Duration::ZERO);
        assert_eq!(bucket.take(1 << 30, now), Duration::ZERO);
    }
}
