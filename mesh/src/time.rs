//! What time it is, as a value: the core is told, it never looks.

use std::time::{Duration, Instant};

/// One moment by three clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For deadlines; stands still while the machine sleeps.
    pub(crate) mono: Instant,
    /// Since the machine's start, sleep included.
    pub(crate) boot: Duration,
    /// Microseconds since the Unix epoch by the wall clock; negative before 1970.
    pub(crate) wall_us: i64,
}

impl Now {
    /// Wall time in milliseconds, 0 before 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        u64::try_from(self.wall_us / 1_000).unwrap_or(0)
    }
}

#[cfg(any(test, fuzzing))]
impl Now {
    /// The real clocks, for tests over boringtun, which reads them itself.
    pub(crate) fn real() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "boringtun reads the real clock in tests too"
        )]
        let (mono, wall) = (Instant::now(), std::time::SystemTime::now());
        let wall = wall
            .duration_since(std::time::UNIX_EPOCH)
            .expect("tests run after 1970");
        Self {
            mono,
            boot: wall,
            wall_us: i64::try_from(wall.as_micros()).expect("before the year 294246"),
        }
    }
}

#[cfg(test)]
impl Now {
    /// This moment, later.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self {
            mono: self.mono + time,
            boot: self.boot + time,
            wall_us: self.wall_us + i64::try_from(time.as_micros()).expect("tests are short"),
        }
    }
}
