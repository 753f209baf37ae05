//! Which seals are missing, and when each is asked for again.
//!
//! A window that its origin never sealed stays here with growing pauses. Bound: `MAX_WINDOWS`,
//! over it the rest waits until some of these have come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outlast_store::{LogId, Seq};

/// Windows in one request: 155 B each in the answer.
pub(super) const MAX_ASKED: usize = 64;
const MAX_WINDOWS: usize = 4_096;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct SealAsks {
    windows: BTreeMap<(LogId, Seq), Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    next: Duration,
}

impl SealAsks {
    /// The windows that lack a seal, all of them.
    pub(super) fn replace(&mut self, windows: &[(LogId, Seq)], now: Instant) {
        let mut known = std::mem::take(&mut self.windows);
        for window in windows.iter().rev().take(MAX_WINDOWS) {
            let pause = known.remove(window).unwrap_or(Pause {
                until: now,
                next: FIRST_PAUSE,
            });
            self.windows.insert(*window, pause);
        }
    }

    /// Those to ask for, newest log and window first.
    pub(super) fn due(&self, now: Instant) -> Vec<(LogId, Seq)> {
        let windows = self.windows.iter().rev();
        windows
            .filter(|(_, pause)| pause.until <= now)
            .map(|(window, _)| *window)
            .collect()
    }

    /// Nobody is there to be asked for those of these logs: they are looked at again before long.
    pub(super) fn put_off(&mut self, logs: &BTreeSet<LogId>, now: Instant) {
        let mut windows = self.windows.iter_mut();
        if !logs.is_empty() {
            windows
                .by_ref()
                .filter(|((log, _), _)| logs.contains(log))
                .for_each(|(_, pause)| pause.until = pause.until.max(now + FIRST_PAUSE));
        }
    }

    pub(super) fn asked(&mut self, windows: &[(LogId, Seq)], now: Instant) {
        for window in windows {
            if let Some(pause) = self.windows.get_mut(window) {
                pause.until = now + pause.next;
                pause.next = (pause.next * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// When the next pause ends, after `now`.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let ends = self.windows.values().map(|pause| pause.until);
        ends.filter(|at| *at > now).min()
    }
}
