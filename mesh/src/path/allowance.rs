//! How often something may happen: a few times at once, then once in a while.

use std::time::{Duration, Instant};

/// What may happen at once, and how long each takes to be allowed again.
#[derive(Debug)]
pub(crate) struct Allowance {
    at_once: u32,
    every: Duration,
    used: u32,
    since: Option<Instant>,
}

impl Allowance {
    /// Nothing used yet.
    pub(crate) const fn new(at_once: u32, every: Duration) -> Self {
        Self {
            at_once,
            every,
            used: 0,
            since: None,
        }
    }

    /// Whether it may happen at this moment; counts it.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let rested = now.saturating_duration_since(since).as_nanos() / self.every.as_nanos();
        let back = u32::try_from(rested).unwrap_or(u32::MAX);
        self.since = Some(if back >= self.used {
            now
        } else {
            since + self.every * back
        });
        self.used = self.used.saturating_sub(back);
        let allowed = self.used < self.at_once;
        self.used += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_then_one_in_a_while() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut allowance = Allowance::new(3, Duration::from_secs(10));
        let mut allowed = Vec::new();
        for second in 0..60 {
            if allowance.take(start + Duration::from_secs(second)) {
                allowed.push(second);
            }
        }
        assert_eq!(allowed, [0, 1, 2, 10, 20, 30, 40, 50]);

        let later = start + Duration::from_secs(3_600);
        assert_eq!((0..9).filter(|_| allowance.take(later)).count(), 3);
    }
}
