//! Since when the machine is up, and for how long, whatever its wall clock says.
//!
//! Reads `/proc/uptime`, which crate `procfs` parses; the boot time comes from `/proc/stat`, which `cpu` has read.

use std::path::Path;

use procfs::FromRead as _;

use super::cpu::Stat;
use super::kept::{Buffer, Kept};
use super::scan::to_hundredths;
use super::sheet::{Family, Sheet, Spec};

const SPECS: [Spec; 2] = [
    Spec::gauge("node_boot_time_seconds", "seconds", 0),
    Spec::gauge("outlast_uptime_seconds", "seconds", -2),
];

#[derive(Debug)]
pub(super) struct Uptime {
    file: Kept,
    family: Family<2>,
}

impl Uptime {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            file: Kept::new(root, "proc/uptime"),
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, stat: &Stat) {
        let Some([boot_time, uptime]) = self.family.only(sheet) else {
            return;
        };
        sheet.set_some(boot_time, stat.boot_time);
        sheet.set_some(uptime, self.file.read_as(buffer, parse));
    }
}

/// Hundredths of a second.
pub(super) fn parse(text: &[u8]) -> Option<u64> {
    to_hundredths(procfs::Uptime::from_read(text).ok()?.uptime)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        assert_eq!(
            parse(include_bytes!("../../fixtures/here/proc/uptime")),
            Some(130_471)
        );
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
        }
    }
}
