//! What the machine says that a verdict may rest on: mains, battery, and kills for want of memory.
//!
//! In: what the collector found last, and a few files of /proc and /sys. Out: what they say; what a machine lacks is absent.

use std::fs;
use std::path::{Path, PathBuf};

use super::testimony::{Kills, Power};
use crate::collect::{self, Board, Ups};

/// Where what feeds the machine is seen.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    /// Its own supplies.
    pub(crate) power: Board<collect::Power>,
    /// The UPSes before it.
    pub(crate) upses: Board<Vec<Ups>>,
}

impl Feed {
    /// What feeds it at this moment; `mains_off_ms` is for whoever watches.
    pub(crate) fn look(&self) -> Power {
        let (power, upses) = (self.power.latest(), self.upses.latest());
        fed(power.as_deref(), upses.as_ref().map_or(&[], |upses| upses))
    }
}

/// What feeds a machine that has these. A UPS that feeds from its battery means that mains are away, whatever the plug says.
fn fed(power: Option<&collect::Power>, upses: &[Ups]) -> Power {
    let drained = upses.iter().filter_map(|ups| ups.on_battery).max();
    let own = power.and_then(|power| power.mains);
    let mains = match drained {
        Some(true) => Some(false),
        Some(false) => own.or(Some(true)),
        None => own,
    };
    let left = upses.iter().filter_map(|ups| ups.battery_permille);
    let left = left.map(|permille| u8::try_from(permille / 10).unwrap_or(100));
    let own = power.and_then(|power| power.battery_percent);
    Power {
        mains,
        battery: left.chain(own).min(),
        mains_off_ms: None,
    }
}

/// Kills for want of memory.
#[derive(Debug)]
pub(crate) struct KillCount {
    own: Option<PathBuf>,
    machine: PathBuf,
}

impl KillCount {
    /// Finds the files that count them for this process.
    pub(crate) fn find(root: &Path) -> Self {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let file = |line: &str| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let path = path.trim_start_matches('/');
            let base = root.join("sys/fs/cgroup");
            match controllers {
                "" => [
                    base.join(path).join("memory.events"),
                    base.join("unified").join(path).join("memory.events"),
                ]
                .into_iter()
                .find(|file| file.exists()),
                all if all.split(',').any(|one| one == "memory") => {
                    Some(base.join("memory").join(path).join("memory.oom_control"))
                        .filter(|file| file.exists())
                }
                _ => None,
            }
        };
        Self {
            own: groups.lines().find_map(file),
            machine: root.join("proc/vmstat"),
        }
    }

    /// The counts at this moment.
    pub(crate) fn read(&self) -> Kills {
        Kills {
            own: self.own.as_deref().and_then(counted),
            machine: counted(&self.machine),
        }
    }
}

/// The number behind `oom_kill`.
fn counted(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn mains_are_away_where_a_plug_or_any_ups_says_so() {
        let own = |mains, battery_percent| collect::Power {
            mains,
            battery_percent,
            seconds_left: None,
        };
        let ups = |on_battery, battery_permille| Ups {
            on_battery,
            battery_permille,
            ..Ups::default()
        };
        let of = |mains, battery| Power {
            mains,
            battery,
            mains_off_ms: None,
        };
        assert_eq!(fed(None, &[]), Power::default());
        let laptop = own(Some(true), Some(83));
        assert_eq!(fed(Some(&laptop), &[]), of(Some(true), Some(83)));
        let two = [ups(Some(false), Some(1_000)), ups(Some(true), Some(405))];
        assert_eq!(fed(Some(&laptop), &two), of(Some(false), Some(40)));
        assert_eq!(fed(None, &two[..1]), of(Some(true), Some(100)));
        assert_eq!(fed(None, &[ups(None, None)]), Power::default());
    }

    #[test]
    fn kills_are_counted_in_the_group_of_either_version_and_on_the_machine() {
        let vmstat = ("proc/vmstat", "pgfault 9\noom_kill 7\n");
        let first = machine(&[
            vmstat,
            ("proc/self/cgroup", "6:memory:/box\n0::/\n"),
            (
                "sys/fs/cgroup/memory/box/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
        ]);
        let kills = |own, machine| Kills { own, machine };
        assert_eq!(
            KillCount::find(first.path()).read(),
            kills(Some(2), Some(7))
        );
        let second = machine(&[
            vmstat,
            ("proc/self/cgroup", "0::/system.slice/outlast.service\n"),
            (
                "sys/fs/cgroup/system.slice/outlast.service/memory.events",
                "low 0\noom 5\noom_kill 3\noom_group_kill 0\n",
            ),
        ]);
        assert_eq!(
            KillCount::find(second.path()).read(),
            kills(Some(3), Some(7))
        );
        assert_eq!(
            KillCount::find(machine(&[]).path()).read(),
            Kills::default()
        );
    }
}
