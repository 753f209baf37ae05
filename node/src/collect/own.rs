//! What the daemon itself costs: its processor time and memory.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::kept::{Buffer, Kept};
use super::scan::{number, words};
use super::sheet::{Family, Sheet, Spec};

const SPECS: [Spec; 3] = [
    Spec::counter("process_cpu_seconds_total", "seconds", -6),
    Spec::gauge("process_resident_memory_bytes", "bytes", 0),
    Spec::gauge("process_virtual_memory_bytes", "bytes", 0),
];

#[derive(Debug)]
pub(super) struct Own {
    file: Kept,
    page_bytes: u64,
    family: Family<3>,
}

impl Own {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            file: Kept::new(root, "proc/self/statm"),
            page_bytes: rustix::param::page_size() as u64,
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        let Some([cpu, resident, total]) = self.family.only(sheet) else {
            return;
        };
        // The clock counts nanoseconds, where /proc/self/stat counts hundredths of a second.
        let time = clock_gettime(ClockId::ProcessCPUTime);
        sheet.set(cpu, time.tv_sec * 1_000_000 + time.tv_nsec / 1_000);
        let pages = parse(self.file.read(buffer).unwrap_or_default());
        let [total_bytes, resident_bytes] =
            pages.map(|pages| pages.and_then(|pages| pages.checked_mul(self.page_bytes)));
        sheet.set_some(resident, resident_bytes);
        sheet.set_some(total, total_bytes);
    }
}

/// Pages of address space, and pages of it in memory.
pub(super) fn parse(text: &[u8]) -> [Option<u64>; 2] {
    let mut words = words(text);
    [words.next().and_then(number), words.next().and_then(number)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let found = parse(include_bytes!("../../fixtures/here/proc/self/statm"));
        assert_eq!(found, [Some(52_541), Some(4_136)]);
        assert_eq!(parse(b"x 4"), [None, Some(4)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
        }
    }
}
