//! What a process uses, as the kernel counts it.
//!
//! `Usage::of` reads one moment, `Traffic::of` what crossed the interface of the process's own
//! network namespace. Absent: rates; whoever reads twice makes those.

use std::path::Path;

/// Clock ticks a second in /proc/PID/stat: 100 on every Linux architecture we build for.
const TICKS: f64 = 100.0;

/// One process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time since its start, in seconds.
    pub cpu_s: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: f64,
    /// Times a thread went to sleep by itself since the start.
    pub wakeups: f64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Usage {
    /// Reads a running process of this user.
    pub fn of(pid: u32) -> Self {
        let stat = read(&format!("/proc/{pid}/stat"));
        // The name may hold spaces; fields are counted after its closing bracket.
        let fields: Vec<_> = stat[stat.rfind(')').expect("a name") + 2..]
            .split(' ')
            .collect();
        let number = |index: usize| fields[index].parse::<f64>().expect("a number");
        let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task"))
            .expect("threads")
            .flatten()
            .collect();
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
        Self {
            cpu_s: (number(11) + number(12)) / TICKS,
            resident_bytes: number(21) * rustix::param::page_size() as f64,
            wakeups: tasks
                .iter()
                .map(|task| voluntary_switches(&task.path()))
                .sum(),
            descriptors: descriptors.count(),
            threads: tasks.len(),
        }
    }
}

fn voluntary_switches(task: &Path) -> f64 {
    let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or_default()
}

/// What crossed a network interface, both directions together.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Bytes; Ethernet headers are among them, except on loopback.
    pub bytes: f64,
    /// Packets.
    pub packets: f64,
}

impl Traffic {
    /// Reads the one interface of a node in a namespace, through the process's own view.
    pub fn of(pid: u32) -> Self {
        let text = read(&format!("/proc/{pid}/net/dev"));
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with("eth0:"));
        let fields: Vec<f64> = line
            .expect("the node's interface")
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().expect("a count"))
            .collect();
        Self {
            bytes: fields[0] + fields[8],
            packets: fields[1] + fields[9],
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}
