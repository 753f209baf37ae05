//! How long work has waited for processor, memory, disks and interrupts, from `/proc/pressure` (Linux 4.20).
//!
//! The kernel's sums of microseconds are kept, its averages aren't: whoever reads two sums has any average.

use std::path::Path;

use super::kept::{Buffer, Kept};
use super::scan::{lines, number, words};
use super::sheet::{Family, Sheet, Spec};

const SPECS: [Spec; 6] = [
    waited("node_pressure_cpu_waiting_seconds_total"),
    waited("node_pressure_memory_waiting_seconds_total"),
    waited("node_pressure_memory_stalled_seconds_total"),
    waited("node_pressure_io_waiting_seconds_total"),
    waited("node_pressure_io_stalled_seconds_total"),
    waited("node_pressure_irq_stalled_seconds_total"),
];

const fn waited(name: &'static str) -> Spec {
    Spec::counter(name, "seconds", -6)
}

#[derive(Debug)]
pub(super) struct Pressure {
    files: [Kept; 4],
    family: Family<6>,
}

impl Pressure {
    pub(super) fn new(root: &Path) -> Self {
        let file = |name| Kept::optional(root, &format!("proc/pressure/{name}"));
        Self {
            files: ["cpu", "memory", "io", "irq"].map(file),
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        let [cpu, memory, io, irq] = self
            .files
            .each_mut()
            .map(|file| parse(file.read(buffer).unwrap_or_default()));
        let values = [cpu[0], memory[0], memory[1], io[0], io[1], irq[1]];
        self.family.put(sheet, values);
    }
}

/// Microseconds that some work waited, and that all of it did.
pub(super) fn parse(text: &[u8]) -> [Option<u64>; 2] {
    let total = |kind: &[u8]| {
        let mut found = lines(text).filter(|line| words(line).next() == Some(kind));
        let total = words(found.next()?).find_map(|word| word.strip_prefix(b"total="));
        total.and_then(number)
    };
    [total(b"some"), total(b"full")]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let found = parse(include_bytes!("../../fixtures/here/proc/pressure/io"));
        assert_eq!(found, [Some(70_475_146), Some(16_019_731)]);
    }

    #[test]
    fn the_first_kernels_say_nothing_of_a_processor_that_all_wait_for() {
        let found = parse(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
        assert_eq!(found, [Some(7), None]);
        assert_eq!(parse(b"full avg10=0.00 total=x\n"), [None, None]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
        }

        #[test]
        fn any_words_are_taken(text in "((some|full|total=[0-9]{0,22}| |\n){0,6}){0,4}") {
            parse(text.as_bytes());
        }
    }
}
