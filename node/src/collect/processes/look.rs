//! One walk over `/proc`: a small file a process.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::super::kept::read_once;
use super::super::scan::number;
use super::groups::{Group, Groups, MAX_PROCESSES, One};
use super::{Process, stat};

/// How many processes people are shown, the heaviest by processor and as many by memory.
const SHOWN: usize = 20;

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// By state: D, I, R, S, T, Z.
    pub(super) states: [Option<u64>; 6],
    /// The most processes and threads the kernel allows.
    pub(super) limits: [Option<u64>; 2],
    pub(super) programs: Vec<(String, Group)>,
    pub(super) heaviest: Arc<Vec<Process>>,
}

#[derive(Debug)]
pub(super) struct Looker {
    proc: PathBuf,
    page_bytes: u64,
    groups: Groups,
    last: Option<Instant>,
    room: Vec<u8>,
}

impl Looker {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            proc: root.join("proc"),
            page_bytes: rustix::param::page_size() as u64,
            groups: Groups::new(),
            last: None,
            room: vec![0; 4_096],
        }
    }

    pub(super) fn look(&mut self, now: Instant) -> io::Result<Look> {
        let seconds = self
            .last
            .map(|last| now.saturating_duration_since(last).as_secs_f64());
        self.last = Some(now);
        // Who may read of the first process what it reads and writes, may read it of all.
        let shows_io = self.read("1/io").is_some();
        self.groups.begin();
        let mut counts = [0; 6];
        let mut all = Vec::new();
        for pid in pids(&self.proc)? {
            let Some(found) = self.read(&format!("{pid}/stat")).and_then(stat::parse) else {
                continue;
            };
            if let Some(at) = place(found.state) {
                counts[at] += 1;
            }
            let io = (shows_io && !found.is_kernel)
                .then(|| self.read(&format!("{pid}/io")).and_then(stat::parse_io));
            let one = One {
                pid,
                started: found.started,
                cpu_ticks: found.cpu_ticks,
                resident_bytes: found.resident_pages.saturating_mul(self.page_bytes),
                io: io.flatten(),
            };
            let ticks = self.groups.add(&found.comm, &one);
            let percent = |ticks: u64| {
                let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
                Some(ticks as f64 / seconds)
            };
            all.push(Process {
                pid,
                comm: found.comm,
                state: char::from(found.state),
                threads: found.threads,
                cpu_percent: ticks.and_then(percent),
                resident_bytes: one.resident_bytes,
            });
        }
        if all.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let limit = |name| {
            let text = read_once(&self.proc.join("sys/kernel").join(name)).ok()?;
            number(text.trim_ascii())
        };
        Ok(Look {
            states: counts.map(Some),
            limits: ["pid_max", "threads-max"].map(limit),
            programs: self.groups.end(now),
            heaviest: Arc::new(heaviest(all)),
        })
    }

    /// A file below `/proc`, as much of it as fits. One that ended since is gone.
    fn read(&mut self, path: &str) -> Option<&[u8]> {
        let mut file = File::open(self.proc.join(path)).ok()?;
        let len = file.read(&mut self.room).ok()?;
        Some(&self.room[..len])
    }
}

fn pids(proc: &Path) -> io::Result<Vec<u32>> {
    let numbered = std::fs::read_dir(proc)?.filter_map(|entry| {
        let pid = number(entry.ok()?.file_name().as_encoded_bytes())?;
        u32::try_from(pid).ok()
    });
    Ok(numbered.take(MAX_PROCESSES).collect())
}

/// Where a state is counted. A process that is traced stands still as one that was stopped.
fn place(state: u8) -> Option<usize> {
    let state = state.to_ascii_uppercase();
    b"DIRSTZ".iter().position(|letter| *letter == state)
}

/// The first by processor, then the first by memory that aren't among them.
fn heaviest(mut all: Vec<Process>) -> Vec<Process> {
    let cpu = |process: &Process| process.cpu_percent.unwrap_or(0.0);
    all.sort_by(|a, b| cpu(b).total_cmp(&cpu(a)).then(a.pid.cmp(&b.pid)));
    let mut by_memory = all.split_off(all.len().min(SHOWN));
    by_memory.sort_by(|a, b| {
        let bytes = b.resident_bytes.cmp(&a.resident_bytes);
        bytes.then(a.pid.cmp(&b.pid))
    });
    by_memory.truncate(SHOWN);
    all.append(&mut by_memory);
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn this_process_is_among_those_of_this_machine() {
        let mut looker = Looker::new(Path::new("/"));
        let (mut spun, start) = (0_u64, Instant::now());
        looker.look(start).unwrap();
        while start.elapsed() < Duration::from_millis(300) {
            spun = std::hint::black_box(spun + 1);
        }
        let look = looker.look(Instant::now()).unwrap();
        let own = std::process::id();
        let mine = look.heaviest.iter().find(|process| process.pid == own);
        let mine = mine.expect("it was busy");
        assert!(
            mine.cpu_percent > Some(0.0) && mine.resident_bytes > 0,
            "{mine:?}"
        );
        assert!(look.states.iter().flatten().sum::<u64>() > 0);
        assert!(look.limits.iter().all(Option::is_some));
    }

    #[test]
    fn a_recorded_tree_is_counted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/linux-4.19-board");
        let look = Looker::new(&root).look(Instant::now()).unwrap();
        assert_eq!(look.states, [1, 1, 0, 2, 0, 1].map(Some));
        let names: Vec<_> = look
            .programs
            .iter()
            .map(|(comm, _)| comm.as_str())
            .collect();
        assert_eq!(names, ["init", "my (odd) app"]);
        assert_eq!(look.limits, [Some(32_768), None]);
    }

    #[test]
    fn a_machine_that_hides_its_processes_lacks_them() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let refused = Looker::new(root.path()).look(Instant::now()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_heaviest_are_those_that_work_and_those_that_are_large() {
        let process = |pid, percent, resident_bytes| Process {
            pid,
            comm: String::new(),
            state: 'S',
            threads: 1,
            cpu_percent: percent,
            resident_bytes,
        };
        let mut all: Vec<_> = (0..100)
            .map(|pid| process(pid, None, u64::from(pid)))
            .collect();
        all[3].cpu_percent = Some(7.0);
        let shown = heaviest(all);
        assert_eq!(shown.len(), 2 * SHOWN);
        assert_eq!((shown[0].pid, shown[SHOWN].pid), (3, 99));
    }
}
