//! How fast a peer is served: a token bucket whose rate follows the round trip and the goodput.
//!
//! The burst lets a minute's backlog through at once, and shows what the way carries: answers that went out without a pause,
//! by the time until the other side had them. A long backlog runs at a quarter of that. What the way carries is looked at
//! again each minute, by a burst that was saved up for, so that the average stays a quarter. The rate halves when the round
//! trip doubles: bulk must not be what makes live rows late. Where nothing was measured the rate grows while it is used up
//! and the round trip stays calm.

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
/// How long a measured goodput counts before it is measured again: a way that got wider shows only to who tries.
const GOODPUT_FOR: Duration = Duration::from_secs(60);
/// What is saved up for to be sent at once, to see how fast it goes.
const PROBE: f64 = 192_000.0;
/// Delivered without a pause, so much says how fast the way is.
const ENOUGH: usize = 80_000;
/// An answer shorter than this says more of round trips and acknowledgements than of the way.
const TELLING: usize = 4_096;
/// Of the measurements so close together the best counts: what disturbs one makes it less.
const TOGETHER: Duration = Duration::from_secs(3);
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
    last_rtt_ms: Option<f64>,
    exhausted: bool,
    written: Written,
    delivered: Delivered,
    goodput: Option<(f64, Instant)>,
}

/// The least of the last one to two minutes.
#[derive(Debug, Clone)]
struct Best {
    current: f64,
    before: f64,
    seen: u32,
}

/// What was delivered lately without a pause, and how long the way was busy with it.
#[derive(Debug, Clone, Copy, Default)]
struct Delivered {
    bytes: usize,
    busy: Duration,
    until: Option<Instant>,
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
            last_rtt_ms: None,
            exhausted: false,
            written: Written::new(now),
            delivered: Delivered::default(),
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
        let old = |(_, at): &(f64, Instant)| now.saturating_duration_since(*at) >= GOODPUT_FOR;
        let saved = if self.goodput.as_ref().is_some_and(old) {
            PROBE
        } else {
            0.0
        };
        Duration::from_secs_f64((saved - self.tokens) / self.rate)
    }

    /// Follows the live round trip, once a second. `None` changes nothing.
    pub fn handle_rtt(&mut self, rtt_ms: Option<f64>) {
        let Some(rtt) = rtt_ms.filter(|rtt| rtt.is_finite()) else {
            return;
        };
        let calm = rtt <= CALM_MS || rtt < 2.0 * self.best_rtt_ms.with(rtt);
        // Round trips are measured more rarely than they are told.
        let is_news = self.last_rtt_ms.replace(rtt) != Some(rtt);
        if !calm && is_news {
            self.rate = (self.rate / 2.0).max(SLOWEST);
        } else if !calm {
            self.exhausted = false;
        } else if std::mem::take(&mut self.exhausted) {
            self.rate = (self.rate * GROWTH).min(self.most());
        }
    }

    /// So many bytes went out, and took so long to do so: where that is long, they went as fast as the way carries.
    pub fn handle_written(&mut self, bytes: usize, took: Duration, now: Instant) {
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

    /// The other side has so many bytes, which began to go out at `began` and never had to wait for this bucket.
    pub fn handle_delivered(&mut self, bytes: usize, began: Instant, now: Instant) {
        if bytes < TELLING {
            return;
        }
        let seen = &mut self.delivered;
        if seen.until.is_some_and(|until| began > until + WINDOW) {
            *seen = Delivered::default();
        }
        let from = seen.until.map_or(began, |until| began.max(until));
        seen.until = Some(now);
        seen.bytes += bytes;
        // The last of it was there half a round trip ago, and the first took as long to begin.
        let trip = Duration::from_secs_f64(self.best_rtt_ms.known() / 1_000.0);
        seen.busy += now.saturating_duration_since(from).saturating_sub(trip);
        if seen.bytes < ENOUGH {
            return;
        }
        let measured = seen.bytes as f64 / seen.busy.as_secs_f64().max(1e-6);
        (seen.bytes, seen.busy) = (0, Duration::ZERO);
        let close = |(_, at): &(f64, Instant)| now.saturating_duration_since(*at) < TOGETHER;
        let before = self
            .goodput
            .filter(close)
            .map_or(0.0, |(goodput, _)| goodput);
        self.goodput = Some((measured.max(before), now));
        self.rate = self.most();
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
    /// The best so far; nothing where none was seen.
    fn known(&self) -> f64 {
        let best = self.current.min(self.before);
        if best.is_finite() { best } else { 0.0 }
    }

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
    fn bulk_takes_a_quarter_of_what_a_way_that_makes_it_wait_carries() {
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

    /// Two answers at a time over a line of so many bytes a second that buffers all it is given, for so many seconds;
    /// says how much was sent by the end of each.
    fn backlog(
        bucket: &mut Bucket,
        line: impl Fn(u64) -> f64,
        seconds: u64,
        start: Instant,
    ) -> Vec<usize> {
        const ANSWER: usize = 24_000;
        let end = start + Duration::from_secs(seconds);
        let mut free = start;
        // When each of the two places goes on, and whether it has paid and waited by then.
        let mut places = [(start, false); 2];
        let mut sent = vec![0; seconds as usize];
        loop {
            let place = usize::from(places[1].0 < places[0].0);
            let (now, waited) = places[place];
            if now >= end {
                return sent;
            }
            if !waited {
                let wait = bucket.take(ANSWER, now);
                if !wait.is_zero() {
                    places[place] = (now + wait, true);
                    continue;
                }
            }
            let rate = line((now - start).as_secs());
            free = free.max(now) + Duration::from_secs_f64(ANSWER as f64 / rate);
            if !waited {
                bucket.handle_delivered(ANSWER, now, free);
            }
            places[place] = (free, false);
            let second = (free - start).as_secs() as usize;
            sent.iter_mut()
                .skip(second)
                .for_each(|sent| *sent += ANSWER);
        }
    }

    #[test]
    fn a_backlog_takes_its_burst_and_a_quarter_of_a_line_that_never_makes_it_wait() {
        for line in [100_000.0, 1_000_000.0, 6_000_000.0] {
            let start = Instant::now();
            let mut bucket = Bucket::new(Pace::Polite, start);
            let sent = backlog(&mut bucket, |_| line, 300, start);
            for (second, sent) in sent.into_iter().enumerate().skip(20) {
                let part = (sent as f64 - BURST) / (line * (second + 1) as f64);
                assert!(
                    (0.17..=0.26).contains(&part),
                    "{part} of {line} B/s after {second} s"
                );
            }
        }
    }

    #[test]
    fn a_way_that_gets_wider_or_narrower_is_noticed_within_two_minutes() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Pace::Polite, start);
        let line = |second| match second {
            0..150 => 1_000_000.0,
            150..300 => 4_000_000.0,
            _ => 400_000.0,
        };
        let sent = backlog(&mut bucket, line, 450, start);
        let rate = |from: usize, to: usize| (sent[to] - sent[from]) as f64 / (to - from) as f64;
        for (from, to, wanted) in [(10, 149, 250e3), (270, 299, 1_000e3), (420, 449, 100e3)] {
            let rate = rate(from, to);
            assert!(
                (0.8..=1.1).contains(&(rate / wanted)),
                "{rate} from {from} s on"
            );
        }
    }

    #[test]
    fn a_round_trip_that_is_told_again_is_no_second_reason_to_slow_down() {
        let mut bucket = Bucket::new(Pace::Polite, Instant::now());
        bucket.handle_rtt(Some(10.0));
        (0..9).for_each(|_| bucket.handle_rtt(Some(50.0)));
        assert_eq!(bucket.rate(), START_RATE / 2.0);
    }

    #[test]
    fn a_way_that_is_longer_for_good_is_calm_after_two_minutes() {
        let mut bucket = Bucket::new(Pace::Polite, Instant::now());
        bucket.handle_rtt(Some(10.0));
        (0..119).for_each(|second| bucket.handle_rtt(Some(50.0 + f64::from(second) / 1_000.0)));
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
