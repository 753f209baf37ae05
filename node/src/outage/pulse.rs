//! What this node's clocks tell of itself: that it slept, stood still, or had its clock set.
//!
//! In: three clocks, at least once a second. Out: LIFE and CLOCK words.
//! The machine slept where the time since boot ran ahead of that which leaves sleep out; the process stood still where both
//! ran and it didn't; the wall clock was set where it ran apart from the time since boot.
//! Absent: reading clocks.

use super::testimony::{Ident, Life, Stepped, Word};

/// A sleep at least as long is told, milliseconds.
const SLEPT_MS: u64 = 5_000;

/// So long without a look the process stood still: peers then count it as down.
const STOOD_MS: u64 = 10_000;

/// A wall clock set by at least so much is told, milliseconds: smaller steps are how services keep it.
const STEPPED_MS: i64 = 1_000;

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// Milliseconds since the Unix epoch.
    pub(crate) wall_ms: i64,
    /// Since the boot, sleep included, milliseconds.
    pub(crate) boot_ms: u64,
    /// Since the boot, sleep left out, milliseconds.
    pub(crate) mono_ms: u64,
}

/// The clocks at the last look.
#[derive(Debug)]
pub(crate) struct Pulse {
    run: Ident,
    last: Clocks,
}

impl Pulse {
    pub(crate) const fn new(run: Ident, now: Clocks) -> Self {
        Self { run, last: now }
    }

    /// Looks at the clocks.
    pub(crate) fn handle_look(&mut self, now: Clocks) -> Vec<Word> {
        let before = std::mem::replace(&mut self.last, now);
        let elapsed = now.boot_ms.saturating_sub(before.boot_ms);
        let asleep = elapsed.saturating_sub(now.mono_ms.saturating_sub(before.mono_ms));
        let machine = asleep >= SLEPT_MS;
        let mut said = Vec::new();
        if machine || elapsed >= STOOD_MS {
            let for_ms = if machine { asleep } else { elapsed };
            said.push(Word::Life(Life::Slept {
                run: self.run,
                from_ms: before.wall_ms,
                for_ms,
                machine,
            }));
        }
        let run_on = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let by_ms = now
            .wall_ms
            .saturating_sub(before.wall_ms.saturating_add(run_on));
        if by_ms.abs() >= STEPPED_MS {
            said.push(Word::Clock(Stepped {
                run: self.run,
                by_ms,
            }));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Ident = [3; 16];
    const START: Clocks = Clocks {
        wall_ms: 1_800_000_000_000,
        boot_ms: 50_000,
        mono_ms: 40_000,
    };

    fn after(wall: i64, boot: u64, mono: u64) -> Vec<Word> {
        Pulse::new(RUN, START).handle_look(Clocks {
            wall_ms: START.wall_ms + wall,
            boot_ms: START.boot_ms + boot,
            mono_ms: START.mono_ms + mono,
        })
    }

    fn slept(for_ms: u64, machine: bool) -> Word {
        let from_ms = START.wall_ms;
        Word::Life(Life::Slept {
            run: RUN,
            from_ms,
            for_ms,
            machine,
        })
    }

    #[test]
    fn sleep_standstill_and_steps_are_told_apart() {
        let step = |by_ms| Word::Clock(Stepped { run: RUN, by_ms });
        let cases: [((i64, u64, u64), Vec<Word>); 8] = [
            ((1_000, 1_000, 1_000), vec![]),
            ((9_999, 9_999, 9_999), vec![]),
            ((3_600_000, 3_600_000, 700), vec![slept(3_599_300, true)]),
            ((4_900, 4_900, 0), vec![]),
            ((22_000, 22_000, 22_000), vec![slept(22_000, false)]),
            ((31_000, 1_000, 1_000), vec![step(30_000)]),
            ((-86_399_000, 1_000, 1_000), vec![step(-86_400_000)]),
            (
                (7_200_000, 3_600_000, 0),
                vec![slept(3_600_000, true), step(3_600_000)],
            ),
        ];
        for ((wall, boot, mono), said) in cases {
            assert_eq!(after(wall, boot, mono), said, "{wall} {boot} {mono}");
        }
    }

    #[test]
    fn a_clock_that_is_slewed_is_not_set() {
        let mut pulse = Pulse::new(RUN, START);
        for second in 1..10_000 {
            let now = Clocks {
                wall_ms: START.wall_ms + second * 1_000 + second / 2,
                boot_ms: START.boot_ms + second as u64 * 1_000,
                mono_ms: START.mono_ms + second as u64 * 1_000,
            };
            assert_eq!(pulse.handle_look(now), []);
        }
    }
}
