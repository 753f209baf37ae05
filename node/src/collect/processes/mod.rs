//! What runs here: processes by state, and which programs take processor, memory and disk.
//!
//! A look reads one small file a process, aside, the more rarely the more there are. Programs are told by `comm`, never by
//! arguments or environment; all processes of one name are one. The names that lead by processor, memory or I/O get series,
//! and keep them. The heaviest processes themselves are on a `Board`, for people.
//! Absent: I/O of others' processes, where the kernel shows it to root alone.

mod groups;
mod look;
pub(super) mod stat;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::{Aside, Measured};
use super::board::Board;
use super::kept::Buffer;
use super::sheet::{Family, Sheet, Spec};
use groups::Group;
use look::{Look, Looker};

/// The shortest and the longest time between two looks.
const OFTEN: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_mins(1);

/// A look may take one part in so many of the time.
const SHARE: u32 = 1_000;

/// By letter, as the kernel tells states.
const STATES: [Spec; 6] = [
    state("D"),
    state("I"),
    state("R"),
    state("S"),
    state("T"),
    state("Z"),
];

const LIMITS: [Spec; 2] = [
    Spec::gauge("node_processes_max_processes", "", 0),
    Spec::gauge("node_processes_max_threads", "", 0),
];

const PROGRAM: [Spec; 5] = [
    Spec::gauge("outlast_process_count", "", 0),
    // The unit of /proc/PID/stat is 1/USER_HZ s, and USER_HZ is 100 on every machine this builds for.
    Spec::counter("outlast_process_cpu_seconds_total", "seconds", -2),
    Spec::gauge("outlast_process_resident_bytes", "bytes", 0),
    Spec::counter("outlast_process_read_bytes_total", "bytes", 0),
    Spec::counter("outlast_process_written_bytes_total", "bytes", 0),
];

const fn state(letter: &'static str) -> Spec {
    Spec::gauge("node_processes_state", "", 0).with("state", letter)
}

/// One of the heaviest processes.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel keeps it: at most 15 bytes of the program's file name.
    pub comm: String,
    /// Its state, by the kernel's letter.
    pub state: char,
    /// How many threads it has.
    pub threads: u64,
    /// Share of one core since the look before. `None`: it was not there then.
    pub cpu_percent: Option<f64>,
    /// Memory that is its own or shared.
    pub resident_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Processes {
    measured: Aside<Look>,
    heaviest: Board<Vec<Process>>,
    states: Family<6>,
    limits: Family<2>,
    program: Family<5>,
}

impl Processes {
    pub(super) fn new(root: &Path) -> Self {
        let mut looker = Looker::new(root);
        let measured = Aside::start("processes", move || {
            let began = Instant::now();
            let found = looker.look(began);
            let again = (began.elapsed() * SHARE).clamp(OFTEN, SELDOM);
            Measured { found, again }
        });
        Self {
            measured,
            heaviest: Board::new(),
            states: Family::new(STATES),
            limits: Family::new(LIMITS),
            program: Family::new(PROGRAM),
        }
    }

    /// The heaviest processes as of the last look.
    pub(super) fn heaviest(&self) -> Board<Vec<Process>> {
        self.heaviest.clone()
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let Some(look) = self.measured.latest(buffer, now) else {
            return self.heaviest.show(None);
        };
        self.heaviest.show(Some(Arc::clone(&look.heaviest)));
        self.states.put(sheet, look.states);
        self.limits.put(sheet, look.limits);
        for (comm, group) in &look.programs {
            if let Some(slots) = self.program.slots(sheet, comm, &[("comm", comm)]) {
                sheet.set_all(slots, values(group));
            }
        }
    }
}

/// In the order of `PROGRAM`.
fn values(group: &Group) -> [Option<u64>; 5] {
    [
        Some(group.count),
        Some(group.cpu_ticks),
        Some(group.resident_bytes),
        group.io.map(|[read, _]| read),
        group.io.map(|[_, written]| written),
    ]
}
