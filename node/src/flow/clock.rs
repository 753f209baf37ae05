//! Which wall time a row's boot time stands for.
//!
//! The offset is held: a new one is taken when the measured offset is more than `STEP_MS` away or
//! its source changed, so the map from boot to wall is a few straight pieces, and a clock that is
//! slewed doesn't put a new number on every row.
//! The source says whether the wall clock is to be believed. The kernel's own word (`adjtimex`)
//! has no safe interface here, so it is read from what the time services leave behind:
//! systemd-timesyncd keeps `/run/systemd/timesync/synchronized` since its first answer. Where
//! timesyncd doesn't run, a clock at or after this release's year is believed (chrony, ntpd, a
//! hypervisor or an RTC set it), an earlier one isn't: that is a board without an RTC.
//! An unbelieved clock takes the median offset of the peers that are believed.

use std::path::{Path, PathBuf};

use outlast_store::{Clock, ClockSource};
use rustix::time::{ClockId, clock_gettime};

use crate::when::RELEASED_MS;

/// How far measured and held may differ.
const STEP_MS: u64 = 50;
/// What the held offset may be wrong by: the step, as far as this node can know.
const SYNCED_UNCERTAINTY_MS: u32 = 50;
/// Peers' offsets are measured over round trips.
const PEERS_UNCERTAINTY_MS: u32 = 250;

/// The offset rows are stamped with.
#[derive(Debug, Default)]
pub(super) struct RowClock {
    held: Option<Clock>,
}

impl RowClock {
    /// Takes a measurement and returns what rows carry.
    pub(super) fn handle_measured(&mut self, measured: Clock) -> Clock {
        match self.held {
            Some(held)
                if held.source == measured.source
                    && held.offset_ms.abs_diff(measured.offset_ms) <= STEP_MS =>
            {
                held
            }
            _ => *self.held.insert(measured),
        }
    }
}

/// The clock as measured: the system's word, or the peers' where that isn't believed.
pub(super) fn measured(offset_ms: i64, believed: bool, peers: &mut [i64]) -> Clock {
    if believed {
        return Clock {
            offset_ms,
            uncertainty_ms: SYNCED_UNCERTAINTY_MS,
            source: ClockSource::Ntp,
        };
    }
    peers.sort_unstable();
    match peers.get(peers.len() / 2) {
        Some(median) => Clock {
            offset_ms: offset_ms.saturating_add(*median),
            uncertainty_ms: PEERS_UNCERTAINTY_MS,
            source: ClockSource::Peers,
        },
        None => Clock {
            offset_ms,
            uncertainty_ms: u32::MAX,
            source: ClockSource::Unsynced,
        },
    }
}

/// Whether a system clock that reads `wall_ms` is to be believed.
pub(super) fn is_believed(run: &Path, wall_ms: i64) -> bool {
    wall_ms >= RELEASED_MS && is_synchronised(run) != Some(false)
}

/// Whether the time service has set the clock. `None` = the one we know doesn't run.
pub(crate) fn is_synchronised(run: &Path) -> Option<bool> {
    let timesync = run.join("systemd/timesync");
    timesync
        .exists()
        .then(|| timesync.join("synchronized").exists())
}

/// This machine's clocks, read by the sampler alone.
#[derive(Debug)]
pub(super) struct SystemClock {
    run: PathBuf,
    believed: Option<(u64, bool)>,
}

impl SystemClock {
    /// How long the traces of time services are believed without a look.
    const LOOK_EVERY_MS: u64 = 10_000;

    pub(super) fn new() -> Self {
        Self {
            run: PathBuf::from("/run"),
            believed: None,
        }
    }

    /// Milliseconds since boot, suspend included.
    pub(super) fn boot_ms() -> u64 {
        u64::try_from(read_ms(ClockId::Boottime)).unwrap_or(0)
    }

    /// Wall minus boot, and whether it is to be believed.
    pub(super) fn offset(&mut self) -> (i64, bool) {
        let before = read_ms(ClockId::Boottime);
        let wall = read_ms(ClockId::Realtime);
        let boot = i64::midpoint(before, read_ms(ClockId::Boottime));
        let at = u64::try_from(before).unwrap_or(0);
        let believed = match self.believed {
            Some((looked, believed)) if at < looked + Self::LOOK_EVERY_MS => believed,
            _ => is_believed(&self.run, wall),
        };
        if self
            .believed
            .is_none_or(|(looked, _)| at >= looked + Self::LOOK_EVERY_MS)
        {
            self.believed = Some((at, believed));
        }
        (wall - boot, believed)
    }
}

fn read_ms(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntp(offset_ms: i64) -> Clock {
        Clock {
            offset_ms,
            uncertainty_ms: SYNCED_UNCERTAINTY_MS,
            source: ClockSource::Ntp,
        }
    }

    fn unsynced(offset_ms: i64) -> Clock {
        Clock {
            offset_ms,
            uncertainty_ms: u32::MAX,
            source: ClockSource::Unsynced,
        }
    }

    #[test]
    fn the_offset_moves_only_by_a_step_or_a_new_source() {
        let table = [
            ("the first is taken", unsynced(1_000), unsynced(1_000)),
            ("jitter is not a step", unsynced(1_050), unsynced(1_000)),
            ("51 ms are", unsynced(1_051), unsynced(1_051)),
            ("a new source is taken at once", ntp(1_052), ntp(1_052)),
            ("slewing is held up to the step", ntp(1_102), ntp(1_052)),
            ("and then followed", ntp(1_103), ntp(1_103)),
            ("backwards too", ntp(1_052), ntp(1_052)),
            ("a month at once", ntp(2_592_001_052), ntp(2_592_001_052)),
            ("and extremes without a panic", ntp(i64::MIN), ntp(i64::MIN)),
            ("either way", ntp(i64::MAX), ntp(i64::MAX)),
        ];
        let mut clock = RowClock::default();
        for (what, measured, held) in table {
            assert_eq!(clock.handle_measured(measured), held, "{what}");
        }
    }

    #[test]
    fn an_unbelieved_clock_takes_the_peers_median() {
        assert_eq!(measured(100, true, &mut [5_000]), ntp(100));
        assert_eq!(measured(100, false, &mut []), unsynced(100));
        let peers = measured(100, false, &mut [9_000_000, 5_000, -3]);
        assert_eq!((peers.offset_ms, peers.source), (5_100, ClockSource::Peers));
    }

    #[test]
    fn a_clock_is_believed_by_its_year_and_by_timesyncd() {
        let run = tempfile::tempdir().unwrap();
        let year_2026 = RELEASED_MS + 1;
        assert!(
            is_believed(run.path(), year_2026),
            "no timesyncd: the year decides"
        );
        assert!(
            !is_believed(run.path(), 1_000),
            "a board that boots in 1970"
        );
        let timesync = run.path().join("systemd/timesync");
        std::fs::create_dir_all(&timesync).unwrap();
        assert!(
            !is_believed(run.path(), year_2026),
            "timesyncd has no answer yet"
        );
        std::fs::write(timesync.join("synchronized"), "").unwrap();
        assert!(is_believed(run.path(), year_2026));
        assert!(!is_believed(run.path(), 1_000));
    }

    #[test]
    fn boot_time_and_offset_give_the_wall_clock() {
        let (offset, _) = SystemClock::new().offset();
        let wall = read_ms(ClockId::Realtime);
        assert!((SystemClock::boot_ms() as i64 + offset - wall).abs() < 1_000);
    }
}
