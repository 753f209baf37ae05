//! Which wall time a row's boot time stands for.
//!
//! The offset is held: a new one is taken when the measured offset is more than `STEP_MS` away or
//! its source changed, so the map from boot to wall is a few straight pieces, and a clock that is
//! slewed doesn't put a new number on every row.
//! The source says whether the wall clock is to be believed. The kernel's own word (`adjtimex`) is closed to a service that
//! is kept from setting the clock, reading included, so it is taken from what the time services leave behind:
//! systemd-timesyncd keeps `/run/systemd/timesync/synchronized` since its first answer, and so does whoever waits for
//! another service. chrony and ntpd leave only that they run; without any service a hypervisor or an RTC may have set the
//! clock. Such a clock is believed at or after this release's year, until most believed peers agree that it is wrong:
//! a board without an RTC may boot with last week's time. An unbelieved clock takes the median offset of the peers that
//! are believed; the rows before that follow, for the store moves what was unsynced by the first fix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use outlast_mesh::NodeId;
use outlast_store::{Clock, ClockSource};
use rustix::time::{ClockId, clock_gettime};

use crate::when::{RELEASED_MS, now_ms};

/// How far measured and held may differ.
const STEP_MS: u64 = 50;
/// Clocks that differ by more than this can't both be right, whatever the network does.
pub(super) const FAR_MS: u64 = 600_000;
/// How long such a jump is doubted: a few exchanges with every peer.
const DOUBT_MS: u64 = 10_000;
/// What the held offset may be wrong by: the step, as far as this node can know.
const SYNCED_UNCERTAINTY_MS: u32 = 50;
/// Peers' offsets are measured over round trips.
const PEERS_UNCERTAINTY_MS: u32 = 250;

/// The offset rows are stamped with.
#[derive(Debug, Default)]
pub(super) struct RowClock {
    held: Option<Clock>,
    /// Since when a jump is doubted, boot time.
    doubted: Option<u64>,
}

impl RowClock {
    /// Takes a measurement and returns what rows carry. A `doubtful` clock that jumps far is not followed before its peers
    /// have had `DOUBT_MS` to disagree: their clocks are compared by messages, which come after the jump.
    pub(super) fn handle_measured(
        &mut self,
        measured: Clock,
        doubtful: bool,
        boot_ms: u64,
    ) -> Clock {
        let Some(held) = self.held else {
            return *self.held.insert(measured);
        };
        let moved = held.offset_ms.abs_diff(measured.offset_ms);
        let same = held.source == measured.source;
        if same && moved <= STEP_MS {
            self.doubted = None;
            return held;
        }
        // The boot clock runs on whatever is done to the wall clock: what was known of it in this run stays known.
        if measured.source == ClockSource::Unsynced && !same {
            return held;
        }
        if same && doubtful && moved > FAR_MS {
            let since = *self.doubted.get_or_insert(boot_ms);
            if boot_ms.saturating_sub(since) < DOUBT_MS {
                return held;
            }
        }
        self.doubted = None;
        *self.held.insert(measured)
    }
}

/// Who stands for the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// A time service has set it.
    Vouched,
    /// Nobody says anything against it.
    Plausible,
    /// A time service waits for its first answer, or the year can't be.
    Wrong,
}

/// The clock as measured: the system's word, or the peers' where that isn't believed.
pub(super) fn measured(offset_ms: i64, belief: Belief, peers: &mut [i64]) -> Clock {
    let believed = match belief {
        Belief::Vouched => true,
        Belief::Plausible => !is_outvoted(peers),
        Belief::Wrong => false,
    };
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

/// How far the time of most clocks, this one among them, is ahead of this one's, milliseconds. Of two that disagree
/// nobody knows which is wrong, and ours stands.
pub(super) fn majority(peers: &mut Vec<i64>) -> i64 {
    peers.push(0);
    peers.sort_unstable();
    let (low, high) = (peers[(peers.len() - 1) / 2], peers[peers.len() / 2]);
    if low.unsigned_abs() < high.unsigned_abs() {
        low
    } else {
        high
    }
}

/// How far the time to hold rows against is ahead of a clock that reads `offset_ms` beyond boot time: what rows carry where
/// nobody believes it, the time of most where they are further apart than any network explains, else its own.
pub(super) fn trusted_ahead(offset_ms: i64, carried: Clock, majority_ms: i64) -> i64 {
    match carried.source {
        ClockSource::Peers => carried.offset_ms.saturating_sub(offset_ms),
        _ if majority_ms.unsigned_abs() > FAR_MS => majority_ms,
        _ => 0,
    }
}

/// Whether most of the clocks, this one among them, say that it is wrong.
fn is_outvoted(peers: &[i64]) -> bool {
    majority(&mut peers.to_vec()).unsigned_abs() > FAR_MS
}

/// Whether a system clock that reads `wall_ms` is to be believed.
pub(super) fn belief(run: &Path, wall_ms: i64) -> Belief {
    match is_synchronised(run) {
        _ if wall_ms < RELEASED_MS => Belief::Wrong,
        Some(true) => Belief::Vouched,
        Some(false) => Belief::Wrong,
        None => Belief::Plausible,
    }
}

/// Whether the time service has set the clock. `None`: none that says so runs.
pub(crate) fn is_synchronised(run: &Path) -> Option<bool> {
    let timesync = run.join("systemd/timesync");
    let set = timesync.join("synchronized").exists();
    // Beside chrony or ntpd the directory is what timesyncd left when it was put aside.
    let speaks = set || (timesync.exists() && time_service(run).is_none());
    speaks.then_some(set)
}

/// The time service that runs and doesn't say how far it is, by what it leaves in `/run`.
pub(crate) fn time_service(run: &Path) -> Option<&'static str> {
    let traces = [
        (
            "chrony",
            &["chrony/chronyd.pid", "chrony", "chronyd.pid"][..],
        ),
        ("ntpd", &["ntpd.pid", "ntpsec", "ntpd-rs", "openntpd.pid"]),
    ];
    let found = traces
        .iter()
        .find(|(_, paths)| paths.iter().any(|path| run.join(path).exists()));
    found.map(|(name, _)| *name)
}

/// What peers' clocks read, held against boot time: a clock of ours that is set between two measurements would else seem
/// to move all of theirs.
#[derive(Debug, Default)]
pub(super) struct PeerClocks {
    /// As measured, and how far our clock was beyond boot time when that was first seen.
    seen: BTreeMap<NodeId, (i64, i64)>,
}

impl PeerClocks {
    /// How far each peer's clock is ahead of ours, which reads `offset_ms` beyond boot time.
    pub(super) fn ahead(
        &mut self,
        offset_ms: i64,
        measured: impl Iterator<Item = (NodeId, i64)>,
    ) -> Vec<i64> {
        let mut seen = BTreeMap::new();
        for (peer, ahead_ms) in measured {
            let known = self.seen.get(&peer).filter(|(same, _)| *same == ahead_ms);
            seen.insert(peer, known.copied().unwrap_or((ahead_ms, offset_ms)));
        }
        self.seen = seen;
        let ahead = |(ahead_ms, ours_ms): &(i64, i64)| {
            ahead_ms.saturating_add(ours_ms.saturating_sub(offset_ms))
        };
        self.seen.values().map(ahead).collect()
    }
}

/// This machine's clocks, read by the sampler alone.
#[derive(Debug)]
pub(super) struct SystemClock {
    run: PathBuf,
    /// When, what the offset was, what was found.
    looked: Option<(u64, i64, Belief)>,
}

impl SystemClock {
    /// How long the traces of time services are believed without a look.
    const LOOK_EVERY_MS: u64 = 10_000;

    pub(super) fn new() -> Self {
        Self {
            run: PathBuf::from("/run"),
            looked: None,
        }
    }

    /// Milliseconds since boot, suspend included.
    pub(super) fn boot_ms() -> u64 {
        u64::try_from(read_ms(ClockId::Boottime)).unwrap_or(0)
    }

    /// Wall minus boot, and who stands for it.
    pub(super) fn offset(&mut self) -> (i64, Belief) {
        let before = read_ms(ClockId::Boottime);
        let wall = now_ms();
        let boot = i64::midpoint(before, read_ms(ClockId::Boottime));
        let at = u64::try_from(before).unwrap_or(0);
        let offset_ms = wall - boot;
        let belief = match self.looked {
            // A clock that was set since is another clock.
            Some((looked, then_ms, belief))
                if at < looked + Self::LOOK_EVERY_MS && then_ms.abs_diff(offset_ms) <= FAR_MS =>
            {
                belief
            }
            _ => {
                let found = belief(&self.run, wall);
                self.looked = Some((at, offset_ms, found));
                found
            }
        };
        (offset_ms, belief)
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
    fn a_clock_of_ours_that_is_set_does_not_move_those_of_peers() {
        let mut peers = PeerClocks::default();
        let peer = |ahead_ms| std::iter::once((NodeId([1; 32]), ahead_ms));
        assert_eq!(peers.ahead(1_000, peer(50_000)), [50_000]);
        // Set right, 49 s ahead: the last measurement says 1 s now.
        assert_eq!(peers.ahead(50_000, peer(50_000)), [1_000]);
        assert_eq!(peers.ahead(50_000, peer(1_001)), [1_001], "measured anew");
        assert_eq!(peers.ahead(50_010, std::iter::empty()), [0; 0]);
        assert_eq!(peers.ahead(50_010, peer(1_001)), [1_001], "gone and back");
        assert_eq!(peers.ahead(i64::MIN, peer(i64::MAX)), [i64::MAX]);
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
            assert_eq!(clock.handle_measured(measured, false, 0), held, "{what}");
        }
    }

    #[test]
    fn a_far_jump_is_doubted_for_a_while_where_peers_can_disagree() {
        let (right, month) = (ntp(1_000), ntp(2_592_001_000));
        let mut clock = RowClock::default();
        assert_eq!(clock.handle_measured(right, true, 1_000), right);
        assert_eq!(clock.handle_measured(month, true, 2_000), right);
        assert_eq!(clock.handle_measured(month, true, 11_000), right);
        // Nobody disagreed.
        assert_eq!(clock.handle_measured(month, true, 12_000), month);
        // They disagree, and say the same time as before.
        let peers = Clock {
            source: ClockSource::Peers,
            ..right
        };
        assert_eq!(clock.handle_measured(peers, true, 13_000), peers);
        assert_eq!(clock.handle_measured(month, false, 14_000), month);
    }

    #[test]
    fn a_clock_that_nobody_stands_for_any_more_keeps_the_time_it_had() {
        let mut clock = RowClock::default();
        assert_eq!(clock.handle_measured(ntp(1_000), false, 0), ntp(1_000));
        assert_eq!(clock.handle_measured(unsynced(-9), false, 0), ntp(1_000));
        assert_eq!(clock.handle_measured(ntp(2_000), false, 0), ntp(2_000));
    }

    #[test]
    fn an_unbelieved_clock_takes_the_peers_median() {
        assert_eq!(measured(100, Belief::Vouched, &mut [5_000]), ntp(100));
        assert_eq!(measured(100, Belief::Wrong, &mut []), unsynced(100));
        let peers = measured(100, Belief::Wrong, &mut [9_000_000, 5_000, -3]);
        assert_eq!((peers.offset_ms, peers.source), (5_100, ClockSource::Peers));
    }

    #[test]
    fn a_clock_that_nobody_vouches_for_yields_to_most_of_the_others_and_to_no_single_one() {
        let month = 30 * 24 * 3_600_000;
        let taken = |belief, mut peers: Vec<i64>| {
            let clock = measured(0, belief, &mut peers);
            (clock.offset_ms, clock.source)
        };
        assert_eq!(taken(Belief::Plausible, vec![month]), (0, ClockSource::Ntp));
        assert_eq!(
            taken(Belief::Plausible, vec![month, month + 3]),
            (month + 3, ClockSource::Peers)
        );
        assert_eq!(
            taken(Belief::Plausible, vec![month, -2]),
            (0, ClockSource::Ntp)
        );
        assert_eq!(
            taken(Belief::Plausible, vec![400_000; 5]),
            (0, ClockSource::Ntp)
        );
        assert_eq!(
            taken(Belief::Vouched, vec![month; 5]),
            (0, ClockSource::Ntp)
        );
    }

    #[test]
    fn the_time_of_most_clocks_is_trusted() {
        let table = [
            (vec![], 0),
            (vec![900], 0),
            (vec![900, 800], 800),
            (vec![900, -5], 0),
            (vec![900, 800, -5], 0),
            (vec![900, 800, 700, -5], 700),
            (vec![-900, -800, -700], -700),
        ];
        for (mut peers, trusted) in table {
            let said = format!("{peers:?}");
            assert_eq!(majority(&mut peers), trusted, "{said}");
        }
    }

    #[test]
    fn rows_are_held_against_the_time_of_most_and_never_against_a_clock_nobody_believes() {
        let month = 2_592_000_000;
        let peers = Clock {
            source: ClockSource::Peers,
            ..ntp(1_000 - month)
        };
        assert_eq!(trusted_ahead(1_000, ntp(1_000), 300), 0);
        assert_eq!(trusted_ahead(1_000, ntp(1_000), -month), -month);
        assert_eq!(trusted_ahead(1_000, peers, 0), -month);
    }

    #[test]
    fn a_clock_is_believed_by_its_year_and_by_timesyncd() {
        let run = tempfile::tempdir().unwrap();
        let year_2026 = RELEASED_MS + 1;
        let is = |wall_ms| belief(run.path(), wall_ms);
        assert_eq!(is(year_2026), Belief::Plausible, "the year decides");
        assert_eq!(is(1_000), Belief::Wrong, "a board that boots in 1970");
        let timesync = run.path().join("systemd/timesync");
        std::fs::create_dir_all(&timesync).unwrap();
        assert_eq!(is(year_2026), Belief::Wrong, "timesyncd has no answer yet");
        std::fs::write(timesync.join("synchronized"), "").unwrap();
        assert_eq!(is(year_2026), Belief::Vouched);
        assert_eq!(is(1_000), Belief::Wrong);
    }

    #[test]
    fn chrony_and_ntpd_are_known_by_what_they_leave_and_outrank_a_silent_timesyncd() {
        for (trace, name) in [("chrony/chronyd.pid", "chrony"), ("ntpd.pid", "ntpd")] {
            let run = tempfile::tempdir().unwrap();
            assert_eq!(time_service(run.path()), None);
            std::fs::create_dir_all(run.path().join("systemd/timesync")).unwrap();
            std::fs::create_dir_all(run.path().join(trace).parent().unwrap()).unwrap();
            std::fs::write(run.path().join(trace), "").unwrap();
            assert_eq!(time_service(run.path()), Some(name));
            assert_eq!(is_synchronised(run.path()), None);
            assert_eq!(belief(run.path(), RELEASED_MS + 1), Belief::Plausible);
        }
    }

    #[test]
    fn boot_time_and_offset_give_the_wall_clock() {
        let (offset, _) = SystemClock::new().offset();
        let wall = now_ms();
        assert!((SystemClock::boot_ms() as i64 + offset - wall).abs() < 1_000);
    }
}
