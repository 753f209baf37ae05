//! When to knock at a silent peer again: jittered, capped at a minute, for ever.
//!
//! The pause grows with the silence: a peer last heard 20 s ago is tried about each 2 s, so a
//! healed cut is back at once; one that was away for the weekend each minute. Absent: where to
//! knock (`candidates`) and with what (`tunnel`).

use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The shortest pause between two attempts.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest. A peer that comes back at all initiates by itself at its start, so this bounds
/// only the healing of one-way trouble.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// The pause is this part of the silence.
const PART_OF_SILENCE: u32 = 12;

/// Spread of the first attempts after a start, so that a whole site doesn't fire together.
const SPREAD: Duration = Duration::from_millis(333);

/// Attempts asked for from outside keep this distance.
const SHORTEST_ON_REQUEST: Duration = Duration::from_millis(250);

/// Attempts asked for by every datagram that finds no way keep this one.
const SHORTEST_ON_INSISTENCE: Duration = Duration::from_secs(2);

/// When the next attempt is due, and when the last one was.
#[derive(Debug)]
pub(crate) struct Dial {
    at: Instant,
    last: Option<Instant>,
    quiet_since: Instant,
    wanted: bool,
    /// Nothing was heard since the network changed: a session that seems live may lead nowhere.
    unproved: bool,
}

impl Dial {
    /// A peer nothing was heard of yet; the first attempt comes within the spread.
    pub(crate) fn new(now: Instant, random: &mut ChaCha8Rng) -> Self {
        Self {
            at: now + jitter(random),
            last: None,
            quiet_since: now,
            wanted: false,
            unproved: false,
        }
    }

    /// As for a peer nothing was heard of yet: it was not dialled for long, and on purpose.
    pub(crate) fn begin(&mut self, now: Instant, random: &mut ChaCha8Rng) {
        *self = Self::new(now, random);
    }

    /// When the next attempt is due.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Whether an attempt is due though the peer may seem well: the network or the clock changed
    /// under its session.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether nothing was heard since the network changed.
    pub(crate) fn is_unproved(&self) -> bool {
        self.unproved
    }

    /// When the silence began that the pauses grow with.
    pub(crate) fn quiet_since(&self) -> Instant {
        self.quiet_since
    }

    /// When the last attempt was made.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// An attempt was made.
    pub(crate) fn attempted(&mut self, now: Instant, random: &mut ChaCha8Rng) {
        self.last = Some(now);
        self.wanted = self.unproved;
        let pause = pause(now.saturating_duration_since(self.quiet_since));
        self.at = now + pause.mul_f64(random.random_range(0.7..=1.0));
    }

    /// An attempt outside the order was made: the next one is due when it was.
    pub(crate) fn knocked(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// The peer was heard: its silence begins anew.
    pub(crate) fn heard(&mut self, now: Instant) {
        let attempted = self.last.is_some_and(|last| last >= self.quiet_since);
        if std::mem::take(&mut self.unproved) && attempted {
            self.wanted = false;
        }
        self.quiet_since = now;
    }

    /// Brings the next attempt forward to `wait` from now, within the spread, unless one was made
    /// a moment ago.
    pub(crate) fn hurry(&mut self, wait: Duration, now: Instant, random: &mut ChaCha8Rng) {
        let earliest = self.last.map_or(now, |last| last + SHORTEST_ON_REQUEST);
        self.at = self.at.min((now + wait + jitter(random)).max(earliest));
    }

    /// Asks for an attempt though the peer may still be heard, because the way to it is gone;
    /// nothing happens if one was made a moment ago.
    pub(crate) fn insist(&mut self, now: Instant, random: &mut ChaCha8Rng) {
        let rested = |last| now >= last + SHORTEST_ON_INSISTENCE;
        if self.last.is_none_or(rested) {
            self.wanted = true;
            self.hurry(Duration::ZERO, now, random);
        }
    }

    /// The peer tells that it is elsewhere, though it may still be heard: it comes by itself within
    /// `wait`, unless something in between lets nobody in who wasn't called.
    pub(crate) fn doubt(&mut self, wait: Duration, now: Instant, random: &mut ChaCha8Rng) {
        let rested = |last| now >= last + SHORTEST_ON_INSISTENCE;
        if self.last.is_none_or(rested) {
            self.wanted = true;
            self.hurry(wait, now, random);
        }
    }

    /// A session was made: whatever was doubted is settled.
    pub(crate) fn met(&mut self) {
        self.wanted = false;
        self.unproved = false;
    }

    /// Forgets the silence so far, as after a sleep or a new address: attempts are frequent again,
    /// one at least, and more until the peer is heard.
    pub(crate) fn reset(&mut self, now: Instant, random: &mut ChaCha8Rng) {
        self.quiet_since = now;
        self.wanted = true;
        self.unproved = true;
        self.hurry(Duration::ZERO, now, random);
    }
}

/// The pause after so much silence.
pub(crate) fn pause(silence: Duration) -> Duration {
    (silence / PART_OF_SILENCE).clamp(SHORTEST, LONGEST)
}

/// A random time within the spread.
pub(crate) fn jitter(random: &mut ChaCha8Rng) -> Duration {
    SPREAD.mul_f64(random.random())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_dead_peer_is_dialled_for_ever_at_most_a_minute_apart() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut dial = Dial::new(start, &mut random);
        let mut attempts = Vec::new();

        while dial.at() < start + Duration::from_secs(24 * 3_600) {
            let now = dial.at();
            attempts.push(now);
            dial.attempted(now, &mut random);
        }

        assert!(attempts[0] < start + SPREAD);
        assert!(attempts.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST));
        assert!(
            attempts
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= SHORTEST.mul_f64(0.69))
        );
        let late: Vec<_> = attempts
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .skip(200)
            .collect();
        assert!(late.iter().any(|pause| *pause != late[0]), "no jitter");
        assert!(attempts.len() > 1_400);
    }

    #[test]
    fn a_short_cut_is_tried_often_and_a_request_cannot_flood() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut dial = Dial::new(start, &mut random);
        assert_eq!(pause(Duration::from_secs(30)), Duration::from_millis(2_500));
        assert_eq!(pause(Duration::from_secs(60)), Duration::from_secs(5));

        dial.attempted(start, &mut random);
        dial.hurry(Duration::ZERO, start, &mut random);

        assert!(dial.at() >= start + SHORTEST_ON_REQUEST);
        assert!(dial.at() <= start + SPREAD);
    }

    #[test]
    fn after_a_change_of_network_attempts_go_on_until_the_peer_is_heard() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut dial = Dial::new(start, &mut random);
        dial.heard(start);

        // What is heard before the first attempt may have been on its way already.
        dial.reset(after(10), &mut random);
        dial.heard(after(10));
        assert!(dial.is_wanted());
        dial.attempted(after(10), &mut random);
        assert!(!dial.is_wanted());

        dial.reset(after(20), &mut random);
        for second in 20..25 {
            assert!(dial.is_wanted(), "given up at {second}");
            dial.attempted(after(second), &mut random);
            assert!(dial.at() <= after(second + 1));
        }
        dial.heard(after(25));
        assert!(!dial.is_wanted());
    }

    #[test]
    fn a_way_that_is_gone_brings_an_attempt_and_never_two_within_two_seconds() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut dial = Dial::new(start, &mut random);
        dial.attempted(start, &mut random);
        let mut attempts = Vec::new();

        for tick in 1..=200 {
            let now = start + Duration::from_millis(50) * tick;
            dial.insist(now, &mut random);
            if dial.is_wanted() && dial.at() <= now {
                dial.attempted(now, &mut random);
                attempts.push(now);
            }
        }

        assert!(
            (4..=5).contains(&attempts.len()),
            "{} attempts",
            attempts.len()
        );
        let apart = attempts.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(apart.min() >= Some(SHORTEST_ON_INSISTENCE));
    }
}
