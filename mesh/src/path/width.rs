//! Whether the live path carries our longest datagrams whole.
//!
//! A path is narrow until a full-size probe inside the session is answered: what the network says
//! of its width may be filtered or forged, an answer can't be. Probes go out only beside long
//! packets that are on their way anyway, so an idle peer costs nothing. Two unanswered ones make
//! the path narrow again, and so does a new address.
//! Absent: splitting (`wire::fragment`), sending (`node::pieces`).

use std::time::{Duration, Instant};

/// A path proved wide is proved again after this much use.
const PROVE_AGAIN: Duration = Duration::from_secs(15);

/// How long an answer may take before a probe is repeated; doubles while the path is narrow.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The longest pause between probes of a path that stays narrow.
const RAREST: Duration = Duration::from_secs(60);

/// Unanswered probes in a row that make a wide path narrow.
const PATIENCE: u32 = 2;

/// What is known of one path.
#[derive(Debug, Default)]
pub(crate) struct Width {
    wide: bool,
    last: Option<Probe>,
    /// Probes in a row that nobody answered.
    misses: u32,
}

#[derive(Debug)]
struct Probe {
    number: u32,
    sent: Instant,
    answered: bool,
}

impl Width {
    /// Whether long packets go whole.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// Notes that a probe of this number leaves, if one is due beside a long packet.
    pub(crate) fn take_probe_due(&mut self, number: u32, now: Instant) -> bool {
        let resting = self
            .last
            .as_ref()
            .is_some_and(|last| now < last.sent + self.pause(last));
        if resting {
            return false;
        }
        if self.last.as_ref().is_some_and(|last| !last.answered) {
            self.misses = self.misses.saturating_add(1);
            self.wide &= self.misses < PATIENCE;
        }
        self.last = Some(Probe {
            number,
            sent: now,
            answered: false,
        });
        true
    }

    /// A probe of this number arrived whole on the other side. Only the last one counts.
    pub(crate) fn answered(&mut self, number: u32) {
        if let Some(last) = self.last.as_mut().filter(|last| last.number == number) {
            last.answered = true;
            self.wide = true;
            self.misses = 0;
        }
    }

    /// The machine itself refused a datagram for its length: narrow without further proof.
    pub(crate) fn refused(&mut self) {
        self.wide = false;
    }

    fn pause(&self, last: &Probe) -> Duration {
        if last.answered {
            return PROVE_AGAIN;
        }
        if self.wide {
            return ANSWER_WITHIN;
        }
        (ANSWER_WITHIN * 2_u32.pow(self.misses.min(6))).min(RAREST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends long packets each 100 ms for `seconds`; answers come when `answers` says so. Returns
    /// how many probes left and how many packets went whole.
    fn use_path(width: &mut Width, now: &mut Instant, seconds: u32, answers: bool) -> (u32, u32) {
        let (mut probes, mut whole) = (0, 0);
        for number in 0..seconds * 10 {
            *now += Duration::from_millis(100);
            if width.take_probe_due(number, *now) {
                probes += 1;
                if answers {
                    width.answered(number);
                }
            }
            whole += u32::from(width.is_wide());
        }
        (probes, whole)
    }

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        Instant::now()
    }

    #[test]
    fn a_path_is_narrow_until_a_probe_is_answered_and_proved_again_in_use() {
        let (mut width, mut now) = (Width::default(), start());
        assert!(!width.is_wide());
        assert_eq!(use_path(&mut width, &mut now, 60, true), (4, 600));
    }

    #[test]
    fn a_narrow_path_is_probed_ever_more_slowly() {
        let (mut width, mut now) = (Width::default(), start());
        let (probes, whole) = use_path(&mut width, &mut now, 3_600, false);
        assert_eq!(whole, 0);
        assert!((60..70).contains(&probes), "{probes} probes in an hour");

        // The first answer after all that silence is believed.
        let (_, whole) = use_path(&mut width, &mut now, 61, true);
        assert!(whole > 0);
    }

    #[test]
    fn two_unanswered_probes_make_it_narrow_and_one_does_not() {
        let (mut width, mut now) = (Width::default(), start());
        use_path(&mut width, &mut now, 1, true);
        now += PROVE_AGAIN;

        let mut unanswered = 0;
        while width.is_wide() {
            unanswered += use_path(&mut width, &mut now, 1, false).0;
        }

        // The third leaves when the second has been given up.
        assert_eq!(unanswered, 3);
    }

    #[test]
    fn an_answer_to_an_older_probe_or_to_none_proves_nothing() {
        let (mut width, now) = (Width::default(), start());
        width.answered(0);
        assert!(width.take_probe_due(1, now));
        assert!(width.take_probe_due(2, now + 2 * ANSWER_WITHIN));
        width.answered(1);
        assert!(!width.is_wide());
        width.answered(2);
        assert!(width.is_wide());
        width.refused();
        assert!(!width.is_wide());
    }
}
