//! How much of something somebody may ask, say or bring about: so much a second, so much at once.
//!
//! In: a cost and the time. Out: whether it is granted; what isn't costs nothing. Absent: what to
//! do about a refusal.

use std::time::Instant;

/// What counts as nothing: sums of fractions of a second miss whole numbers by less.
const NOTHING: f64 = 1e-6;

/// What is left of a budget that fills up as time passes.
#[derive(Debug, Clone)]
pub struct Allowance {
    per_second: f64,
    at_once: f64,
    left: f64,
    filled: Option<Instant>,
}

impl Allowance {
    /// A full budget.
    #[must_use]
    pub fn new(per_second: f64, at_once: f64) -> Self {
        Self {
            per_second,
            at_once,
            left: at_once,
            filled: None,
        }
    }

    /// Takes `cost` if there is so much left.
    pub fn take(&mut self, cost: f64, now: Instant) -> bool {
        let granted = self.has(cost, now);
        if granted {
            self.charge(cost);
        }
        granted
    }

    /// Whether `take` would be granted.
    pub fn has(&mut self, cost: f64, now: Instant) -> bool {
        let filled = self.filled.unwrap_or(now);
        let passed = now.saturating_duration_since(filled).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.at_once);
        self.filled = Some(filled.max(now));
        self.left + NOTHING >= cost
    }

    /// Whether nothing of it is used any more.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.has(self.at_once, now)
    }

    /// Takes `cost` whatever is left; more than there was takes all.
    pub fn charge(&mut self, cost: f64) {
        self.left = (self.left - cost).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_granted_and_then_the_rate() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut allowance = Allowance::new(2.0, 5.0);
        let granted = |allowance: &mut Allowance, at: u64| {
            let now = start + Duration::from_millis(at);
            (0..20).filter(|_| allowance.take(1.0, now)).count()
        };

        assert_eq!(granted(&mut allowance, 0), 5);
        assert_eq!(granted(&mut allowance, 400), 0);
        assert_eq!(granted(&mut allowance, 1_000), 2);
        assert_eq!(granted(&mut allowance, 60_000), 5);
        assert_eq!(
            granted(&mut allowance, 50_000),
            0,
            "time that goes back gives nothing"
        );
    }

    #[test]
    fn a_charge_beyond_what_is_left_takes_all_and_leaves_no_debt() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut allowance = Allowance::new(1.0, 4.0);
        allowance.charge(64.0);
        assert!(!allowance.take(1.0, start));
        assert!(allowance.take(1.0, start + Duration::from_secs(1)));
    }

    #[test]
    fn small_steps_of_time_add_up_to_whole_grants() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut allowance = Allowance::new(0.1, 3.0);
        let granted: Vec<u64> = (0..60)
            .filter(|second| allowance.take(1.0, start + Duration::from_secs(*second)))
            .collect();

        assert_eq!(granted, [0, 1, 2, 10, 20, 30, 40, 50]);
        assert!(!allowance.is_full(start + Duration::from_secs(79)));
        assert!(allowance.is_full(start + Duration::from_secs(80)));
    }
}
