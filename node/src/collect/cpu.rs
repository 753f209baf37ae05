//! What each core did with its time, and how often the kernel switched, forked and was interrupted.
//!
//! Reads `/proc/stat`, whose other lines `load` and `uptime` take from here. The parser is ours: that
//! of crate `procfs` doesn't say which core a line is of, so the ones after an offline core would
//! take each other's place, and leaves out the interrupts.

use std::path::Path;

use super::kept::{Buffer, Kept};
use super::scan::{lines, number, words};
use super::sheet::{Family, Sheet, Spec};

/// Time columns of a `cpu` line, in the kernel's order. Older kernels have fewer.
const MODES: usize = 10;

const CORE: [Spec; MODES] = [
    mode("user"),
    mode("nice"),
    mode("system"),
    mode("idle"),
    mode("iowait"),
    mode("irq"),
    mode("softirq"),
    mode("steal"),
    guest("user"),
    guest("nice"),
];

const WHOLE: [Spec; 3] = [
    Spec::counter("node_context_switches_total", "", 0),
    Spec::counter("node_forks_total", "", 0),
    Spec::counter("node_intr_total", "", 0),
];

// The unit of /proc/stat is 1/USER_HZ s, and USER_HZ is 100 on every machine this builds for.
const fn mode(mode: &'static str) -> Spec {
    Spec::counter("node_cpu_seconds_total", "seconds", -2).with("mode", mode)
}

/// Guest time is part of user and nice time, so it is a series of its own.
const fn guest(mode: &'static str) -> Spec {
    Spec::counter("node_cpu_guest_seconds_total", "seconds", -2).with("mode", mode)
}

#[derive(Debug)]
pub(super) struct Cpu {
    file: Kept,
    stat: Stat,
    core: Family<MODES>,
    whole: Family<3>,
}

/// What `/proc/stat` says. `None` = it doesn't say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// Number of each core that is online, and its times.
    cores: Vec<(u32, [Option<u64>; MODES])>,
    context_switches: Option<u64>,
    forks: Option<u64>,
    interrupts: Option<u64>,
    /// Seconds since the Unix epoch.
    pub(super) boot_time: Option<u64>,
    /// Threads on a run queue.
    pub(super) running: Option<u64>,
    /// Threads that wait for a disk.
    pub(super) blocked: Option<u64>,
}

impl Cpu {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            file: Kept::new(root, "proc/stat"),
            stat: Stat::default(),
            core: Family::new(CORE),
            whole: Family::new(WHOLE),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        self.stat.read(self.file.read(buffer).unwrap_or_default());
        for (core, times) in &self.stat.cores {
            let core = core.to_string();
            let Some(slots) = self.core.slots(sheet, &core, &[("cpu", &core)]) else {
                continue;
            };
            for (slot, time) in slots.into_iter().zip(times) {
                sheet.set_some(slot, *time);
            }
        }
        if let Some([switches, forks, interrupts]) = self.whole.only(sheet) {
            sheet.set_some(switches, self.stat.context_switches);
            sheet.set_some(forks, self.stat.forks);
            sheet.set_some(interrupts, self.stat.interrupts);
        }
    }

    /// What the last tick read.
    pub(super) fn stat(&self) -> &Stat {
        &self.stat
    }
}

impl Stat {
    /// Takes a text in, in place of what was there; the room for cores is used again.
    pub(super) fn read(&mut self, text: &[u8]) {
        let mut cores = std::mem::take(&mut self.cores);
        cores.clear();
        *self = Self {
            cores,
            ..Self::default()
        };
        for line in lines(text) {
            self.read_line(line);
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        let mut words = words(line);
        let Some(key) = words.next() else { return };
        if let Some(core) = key.strip_prefix(b"cpu") {
            let core = number(core).and_then(|core| u32::try_from(core).ok());
            // The line without a number is the sum of the others.
            let Some(core) = core else { return };
            let mut times = [None; MODES];
            for (time, word) in times.iter_mut().zip(words) {
                *time = number(word);
            }
            return self.cores.push((core, times));
        }
        // Only the first number of `intr` is the sum; a thousand others may follow.
        let mut value = || words.next().and_then(number);
        match key {
            b"ctxt" => self.context_switches = value(),
            b"processes" => self.forks = value(),
            b"intr" => self.interrupts = value(),
            b"btime" => self.boot_time = value(),
            b"procs_running" => self.running = value(),
            b"procs_blocked" => self.blocked = value(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let stat = stat(include_bytes!("../../fixtures/here/proc/stat"));
        let times = |times: [u64; MODES]| times.map(Some);
        let cores = vec![
            (
                0,
                times([26_581, 10_758, 7_329, 85_047, 190, 0, 21, 25, 0, 0]),
            ),
            (
                1,
                times([31_552, 9_848, 8_078, 80_008, 374, 0, 109, 20, 0, 0]),
            ),
        ];
        let wanted = Stat {
            cores,
            context_switches: Some(899_127),
            forks: Some(49_870),
            interrupts: Some(559_868),
            boot_time: Some(1_795_407_280),
            running: Some(2),
            blocked: Some(0),
        };
        assert_eq!(stat, wanted);
    }

    #[test]
    fn a_virtual_machines_host_and_an_offline_core_are_read() {
        let stat = stat(include_bytes!("../../fixtures/odd/stat-guest"));
        let cores: Vec<u32> = stat.cores.iter().map(|(core, _)| *core).collect();
        assert_eq!(cores, [0, 2, 3]);
        let (_, times) = stat.cores[1];
        assert_eq!((times[8], times[9]), (Some(40_211), Some(17)));
    }

    #[test]
    fn an_old_kernel_has_fewer_columns() {
        let stat = stat(b"cpu  1 2 3 4\ncpu0 1 2 3 4\nctxt x\n");
        let mut times = [None; MODES];
        times[..4].copy_from_slice(&[Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(
            stat,
            Stat {
                cores: vec![(0, times)],
                ..Stat::default()
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            stat(&text);
        }

        #[test]
        fn any_words_are_taken(text in "((cpu|cpu0|intr|ctxt|btime)[ 0-9\n]{0,30}){0,8}") {
            stat(text.as_bytes());
        }
    }

    fn stat(text: &[u8]) -> Stat {
        let mut stat = Stat::default();
        stat.read(text);
        stat
    }
}
