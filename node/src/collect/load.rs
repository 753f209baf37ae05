//! How busy the machine is: load averages, and how many threads and processes there are.
//!
//! Reads `/proc/loadavg`, and the names in `/proc`: one number for all processes, none of their
//! files. Crate `procfs` parses the first. Threads that run or are blocked come from `/proc/stat`, which `cpu` has read.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use procfs::{FromRead as _, LoadAverage};
use rustix::fs::{RawDir, SeekFrom, seek};

use super::cpu::Stat;
use super::kept::{Buffer, Kept};
use super::scan::{number, to_hundredths};
use super::sheet::{Family, Sheet, Spec};

const SPECS: [Spec; 7] = [
    Spec::gauge("node_load1", "", -2),
    Spec::gauge("node_load5", "", -2),
    Spec::gauge("node_load15", "", -2),
    Spec::gauge("node_processes_threads", "", 0),
    Spec::gauge("node_processes_pids", "", 0),
    Spec::gauge("node_procs_running", "", 0),
    Spec::gauge("node_procs_blocked", "", 0),
];

/// Room for the names of a few hundred processes; the kernel is asked again for more.
const NAMES_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Load {
    file: Kept,
    processes: Processes,
    family: Family<7>,
}

/// The directory whose numbered entries are the processes, open between ticks.
#[derive(Debug)]
struct Processes {
    path: PathBuf,
    dir: Option<File>,
    names: Vec<u8>,
}

impl Load {
    pub(super) fn new(root: &Path) -> Self {
        let names = Vec::with_capacity(NAMES_BYTES);
        Self {
            file: Kept::new(root, "proc/loadavg"),
            processes: Processes {
                path: root.join("proc"),
                dir: None,
                names,
            },
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, stat: &Stat) {
        let load = self.file.read_as(buffer, parse);
        let [one, five, fifteen, threads] = load.unwrap_or_default();
        let Some(slots) = self.family.only(sheet) else {
            return;
        };
        let processes = self.processes.count();
        let values = [
            one,
            five,
            fifteen,
            threads,
            processes,
            stat.running,
            stat.blocked,
        ];
        for (slot, value) in slots.into_iter().zip(values) {
            sheet.set_some(slot, value);
        }
    }
}

impl Processes {
    fn count(&mut self) -> Option<u64> {
        let count = self.try_count().ok();
        if count.is_none() {
            self.dir = None;
        }
        count
    }

    fn try_count(&mut self) -> std::io::Result<u64> {
        let dir = match &self.dir {
            Some(dir) => dir,
            None => self.dir.insert(File::open(&self.path)?),
        };
        seek(dir, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(dir.as_fd(), self.names.spare_capacity_mut());
        let mut count = 0;
        while let Some(entry) = entries.next() {
            count += u64::from(number(entry?.file_name().to_bytes()).is_some());
        }
        Ok(count)
    }
}

/// Three load averages in hundredths, and the number of threads.
pub(super) fn parse(text: &[u8]) -> Option<[Option<u64>; 4]> {
    let load = LoadAverage::from_read(text).ok()?;
    // 32 bits hold the two decimals that the kernel writes of any load below 83,886.
    let [one, five, fifteen] = [load.one, load.five, load.fifteen].map(to_hundredths);
    Some([one, five, fifteen, Some(load.max.into())])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let found = parse(include_bytes!("../../fixtures/here/proc/loadavg"));
        assert_eq!(found, Some([Some(39), Some(74), Some(64), Some(99)]));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"0.10 x 0.30 7"), None);
        let odd = parse(b"0.00 -0.10 nan 0/0 0");
        assert_eq!(odd, Some([Some(0), None, None, Some(0)]));
    }

    #[test]
    fn processes_are_the_numbered_entries() {
        let dir = tempfile::tempdir().unwrap();
        let mut processes = Processes {
            path: dir.path().join("proc"),
            dir: None,
            names: Vec::with_capacity(NAMES_BYTES),
        };
        assert_eq!(processes.count(), None);
        for name in ["1", "22", "333", "self", "4x", "-5"] {
            std::fs::create_dir_all(dir.path().join("proc").join(name)).unwrap();
        }
        assert_eq!(processes.count(), Some(3));
        std::fs::remove_dir(dir.path().join("proc/22")).unwrap();
        assert_eq!(processes.count(), Some(2));
    }

    #[test]
    fn this_machine_runs_at_least_this_process() {
        let mut load = Load::new(Path::new("/"));
        assert!(load.processes.count().unwrap() > 0);
    }

    proptest! {
        #[test]
        fn loads_keep_their_hundredths(load in 0_u64..8_388_608) {
            let text = format!("{}.{:02} 0.00 0.00 1/2 3\n", load / 100, load % 100);
            prop_assert_eq!(parse(text.as_bytes()).unwrap()[0], Some(load));
        }

        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
        }

        #[test]
        fn any_words_are_taken(text in "[0-9./ -]{0,40}") {
            parse(text.as_bytes());
        }
    }
}
