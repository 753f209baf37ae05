//! Memory and swap from `/proc/meminfo`, paging from `/proc/vmstat`.
//!
//! The parsers are ours: those of crate `procfs` make a map of every line, at twice the cost of
//! each source, and find nothing at all where an older kernel's `/proc/meminfo` lacks a line.

use std::path::Path;

use super::kept::{Buffer, Kept};
use super::scan::{Cursor, lines, number, words};
use super::sheet::{Family, Sheet, Spec};

/// Lines of `/proc/meminfo` that are kept, in the kernel's order.
const MEMORY_KEYS: [&str; 25] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "Unevictable",
    "Mlocked",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "CommitLimit",
    "Committed_AS",
    "AnonHugePages",
];

const MEMORY: [Spec; 25] = [
    bytes("node_memory_MemTotal_bytes"),
    bytes("node_memory_MemFree_bytes"),
    bytes("node_memory_MemAvailable_bytes"),
    bytes("node_memory_Buffers_bytes"),
    bytes("node_memory_Cached_bytes"),
    bytes("node_memory_SwapCached_bytes"),
    bytes("node_memory_Active_bytes"),
    bytes("node_memory_Inactive_bytes"),
    bytes("node_memory_Unevictable_bytes"),
    bytes("node_memory_Mlocked_bytes"),
    bytes("node_memory_SwapTotal_bytes"),
    bytes("node_memory_SwapFree_bytes"),
    bytes("node_memory_Dirty_bytes"),
    bytes("node_memory_Writeback_bytes"),
    bytes("node_memory_AnonPages_bytes"),
    bytes("node_memory_Mapped_bytes"),
    bytes("node_memory_Shmem_bytes"),
    bytes("node_memory_Slab_bytes"),
    bytes("node_memory_SReclaimable_bytes"),
    bytes("node_memory_SUnreclaim_bytes"),
    bytes("node_memory_KernelStack_bytes"),
    bytes("node_memory_PageTables_bytes"),
    bytes("node_memory_CommitLimit_bytes"),
    bytes("node_memory_Committed_AS_bytes"),
    bytes("node_memory_AnonHugePages_bytes"),
];

/// Lines of `/proc/vmstat` that are kept, in the kernel's order.
const PAGING_KEYS: [&str; 7] = [
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    "pgfault",
    "pgmajfault",
    "oom_kill",
];

const PAGING: [Spec; 7] = [
    Spec::counter("node_vmstat_pgpgin", "", 0),
    Spec::counter("node_vmstat_pgpgout", "", 0),
    Spec::counter("node_vmstat_pswpin", "", 0),
    Spec::counter("node_vmstat_pswpout", "", 0),
    Spec::counter("node_vmstat_pgfault", "", 0),
    Spec::counter("node_vmstat_pgmajfault", "", 0),
    Spec::counter("node_vmstat_oom_kill", "", 0),
];

const fn bytes(name: &'static str) -> Spec {
    Spec::gauge(name, "bytes", 0)
}

#[derive(Debug)]
pub(super) struct Memory {
    meminfo: Kept,
    vmstat: Kept,
    memory: Family<25>,
    paging: Family<7>,
}

impl Memory {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            meminfo: Kept::new(root, "proc/meminfo"),
            vmstat: Kept::optional(root, "proc/vmstat"),
            memory: Family::new(MEMORY),
            paging: Family::new(PAGING),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        if let Some(slots) = self.memory.only(sheet) {
            let values = parse_meminfo(self.meminfo.read(buffer).unwrap_or_default());
            slots
                .into_iter()
                .zip(values)
                .for_each(|(slot, value)| sheet.set_some(slot, value));
        }
        if let Some(slots) = self.paging.only(sheet) {
            let values = parse_vmstat(self.vmstat.read(buffer).unwrap_or_default());
            slots
                .into_iter()
                .zip(values)
                .for_each(|(slot, value)| sheet.set_some(slot, value));
        }
    }
}

/// Bytes, in the order of `MEMORY_KEYS`. Older kernels lack `MemAvailable` and others.
pub(super) fn parse_meminfo(text: &[u8]) -> [Option<u64>; 25] {
    let mut values = [None; 25];
    let mut cursor = Cursor::default();
    for line in lines(text) {
        let mut words = words(line);
        let Some(key) = words.next().and_then(|word| word.strip_suffix(b":")) else {
            continue;
        };
        let Some(at) = cursor.find(&MEMORY_KEYS, key) else {
            continue;
        };
        // The kernel writes `kB` and means 1,024 bytes.
        values[at] = words
            .next()
            .and_then(number)
            .and_then(|kib| kib.checked_mul(1024));
    }
    values
}

/// Counts, in the order of `PAGING_KEYS`.
pub(super) fn parse_vmstat(text: &[u8]) -> [Option<u64>; 7] {
    let mut values = [None; 7];
    let mut cursor = Cursor::default();
    // A line is a name, one space and a number.
    for line in lines(text).filter(|line| matches!(line.first(), Some(b'p' | b'o'))) {
        let Some(space) = line.iter().position(|byte| *byte == b' ') else {
            continue;
        };
        let Some(at) = cursor.find(&PAGING_KEYS, &line[..space]) else {
            continue;
        };
        values[at] = number(&line[space + 1..]);
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let values = parse_meminfo(include_bytes!("../../fixtures/here/proc/meminfo"));
        assert_eq!(value(&values, "MemTotal"), Some(24_684_092 * 1024));
        assert_eq!(value(&values, "MemAvailable"), Some(24_157_704 * 1024));
        assert_eq!(value(&values, "Inactive"), Some(6_529_724 * 1024));
        assert_eq!(value(&values, "SwapTotal"), Some(0));
        assert_eq!(value(&values, "AnonHugePages"), Some(0));
        assert!(values.iter().all(Option::is_some));
    }

    #[test]
    fn an_old_kernel_says_nothing_of_available_memory() {
        let values = parse_meminfo(include_bytes!("../../fixtures/odd/meminfo-3.10"));
        assert_eq!(value(&values, "MemAvailable"), None);
        assert_eq!(value(&values, "MemFree"), Some(103_208 * 1024));
        assert_eq!(value(&values, "SwapFree"), Some(2_064_380 * 1024));
    }

    #[test]
    fn paging_is_read() {
        let values = parse_vmstat(include_bytes!("../../fixtures/here/proc/vmstat"));
        let wanted = [4_179_281, 11_304_840, 0, 0, 28_720_029, 1_963, 0];
        assert_eq!(values, wanted.map(Some));
    }

    #[test]
    fn names_and_lines_stand_in_the_same_order() {
        for (spec, key) in MEMORY.iter().zip(MEMORY_KEYS) {
            assert!(
                format!("{spec:?}").contains(&format!("node_memory_{key}_bytes")),
                "{key}"
            );
        }
        for (spec, key) in PAGING.iter().zip(PAGING_KEYS) {
            assert!(
                format!("{spec:?}").contains(&format!("node_vmstat_{key}\"")),
                "{key}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse_meminfo(&text);
            parse_vmstat(&text);
        }

        #[test]
        fn any_words_are_taken(text in "((MemTotal:|pgfault|oom_kill)[ 0-9kB\n]{0,30}){0,8}") {
            parse_meminfo(text.as_bytes());
            parse_vmstat(text.as_bytes());
        }
    }

    fn value(values: &[Option<u64>; 25], key: &str) -> Option<u64> {
        values[MEMORY_KEYS.iter().position(|known| *known == key).unwrap()]
    }
}
