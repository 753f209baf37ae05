//! What each network interface has carried, from `/proc/net/dev`; whether it is up, has a carrier
//! and how fast it is, from `/sys/class/net`.
//!
//! The second is slow: measured every 10 s, and the measurement stands for its own
//! 10 s. A measurement that fails makes the value absent at once.
//! The parser of `/proc/net/dev` is ours: that of crate `procfs` finds no interface at all where
//! one line is short or has no space after its colon, and loses their order.
//! Absent: `veth` interfaces. Each container has one under a random name, and its traffic is
//! its bridge's; their names alone would use up the numbers of a machine that runs many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::kept::{Buffer, Kept, read_once};
use super::scan::{lines, number, words};
use super::sheet::{Family, Sheet, Spec};

/// How often the slow values are measured.
const SLOW_EVERY: Duration = Duration::from_secs(10);

/// Ticks come a little early or late.
const JITTER: Duration = Duration::from_millis(500);

/// Eight that are read in every tick, then three that are measured slowly.
const SPECS: [Spec; 11] = [
    Spec::counter("node_network_receive_bytes_total", "bytes", 0),
    Spec::counter("node_network_receive_packets_total", "", 0),
    Spec::counter("node_network_receive_errs_total", "", 0),
    Spec::counter("node_network_receive_drop_total", "", 0),
    Spec::counter("node_network_transmit_bytes_total", "bytes", 0),
    Spec::counter("node_network_transmit_packets_total", "", 0),
    Spec::counter("node_network_transmit_errs_total", "", 0),
    Spec::counter("node_network_transmit_drop_total", "", 0),
    Spec::gauge("node_network_up", "", 0),
    Spec::gauge("node_network_carrier", "", 0),
    Spec::gauge("node_network_speed_bytes", "bytes/s", 0),
];

/// Where the first eight stand after an interface's name.
const COLUMNS: [usize; 8] = [0, 1, 2, 3, 8, 9, 10, 11];

#[derive(Debug)]
pub(super) struct Network {
    file: Kept,
    class: PathBuf,
    family: Family<11>,
    /// What was last measured of each present interface.
    measured: BTreeMap<String, [Option<u64>; 3]>,
    measured_at: Option<Instant>,
}

impl Network {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            file: Kept::new(root, "proc/net/dev"),
            class: root.join("sys/class/net"),
            family: Family::new(SPECS),
            measured: BTreeMap::new(),
            measured_at: None,
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let due = self
            .measured_at
            .is_none_or(|at| now.duration_since(at) >= SLOW_EVERY - JITTER);
        if due {
            self.measured_at = Some(now);
            self.measured.clear();
        }
        for (name, values) in parse(self.file.read(buffer).unwrap_or_default()) {
            if due {
                self.measured
                    .insert(name.to_owned(), measure(&self.class.join(name)));
            }
            let Some(slots) = self.family.slots(sheet, name, &[("device", name)]) else {
                continue;
            };
            let slow = self.measured.get(name).copied().unwrap_or_default();
            let values = values.into_iter().chain(slow);
            slots
                .into_iter()
                .zip(values)
                .for_each(|(slot, value)| sheet.set_some(slot, value));
        }
    }
}

/// Each interface and its values, in the order of `SPECS`.
pub(super) fn parse(text: &[u8]) -> impl Iterator<Item = (&str, [Option<u64>; 8])> {
    lines(text).filter_map(|line| {
        // A long number may follow the colon without a space. Names may hold colons, numbers don't.
        let colon = line.iter().rposition(|byte| *byte == b':')?;
        let name = str::from_utf8(line[..colon].trim_ascii()).ok()?;
        if name.is_empty() || name.contains(['|', '/']) || name.starts_with("veth") {
            return None;
        }
        let mut all = [None; 16];
        for (value, word) in all.iter_mut().zip(words(&line[colon + 1..])) {
            *value = number(word);
        }
        Some((name, COLUMNS.map(|column| all[column])))
    })
}

/// Up, carrier, and speed in bytes per second. `None` = not said: an interface that is down has no
/// carrier to speak of, and most virtual ones have no speed.
fn measure(class: &Path) -> [Option<u64>; 3] {
    let read = |name: &str| read_once(&class.join(name)).ok();
    let read_number = |name| read(name).and_then(|text| number(text.trim_ascii()));
    let up = read("operstate").map(|state| u64::from(state.trim_ascii() == b"up"));
    let megabits = read_number("speed");
    [
        up,
        read_number("carrier"),
        megabits.and_then(|speed| speed.checked_mul(125_000)),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let found: Vec<_> = parse(include_bytes!("../../fixtures/here/proc/net/dev")).collect();
        let wanted = [
            ("lo", [3_193, 29, 0, 0, 3_193, 29, 0, 0].map(Some)),
            ("ifb0", [Some(0); 8]),
            (
                "eth0",
                [450_135_494, 13_863, 0, 2, 911_014, 8_608, 0, 1].map(Some),
            ),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn odd_lines_are_read_as_far_as_they_go() {
        let found: Vec<_> = parse(include_bytes!("../../fixtures/odd/net-dev")).collect();
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["wlan0", "eth0.100", "short"]);
        assert_eq!(found[0].1, [u64::MAX, 4, 5, 6, 7, 8, 9, 10].map(Some));
        assert_eq!(found[2].1[..4], [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn state_and_speed_are_measured() {
        let class = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/here/sys/class/net");
        assert_eq!(measure(&class.join("eth0")), [Some(1), Some(1), None]);
        assert_eq!(measure(&class.join("ifb0")), [Some(0), None, None]);
        assert_eq!(measure(&class.join("gone")), [None; 3]);
    }

    #[test]
    fn a_measured_value_stands_for_its_ten_seconds_and_no_longer() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("sys/class/net/eth0");
        fs::create_dir_all(&class).unwrap();
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        fs::write(root.path().join("proc/net/dev"), "eth0: 1 2 3\n").unwrap();
        fs::write(class.join("speed"), "1000\n").unwrap();
        let start = Instant::now();
        let (mut network, mut sheet) = (Network::new(root.path()), Sheet::new(start));
        let mut speed_at = |second| {
            let now = start + Duration::from_secs(second);
            sheet.begin(now);
            network.tick(&mut sheet, &mut Buffer::new(), now);
            sheet.finish().values[10]
        };
        assert_eq!(speed_at(0), Some(125_000_000));
        fs::remove_file(class.join("speed")).unwrap();
        assert_eq!(speed_at(9), Some(125_000_000));
        assert_eq!(speed_at(10), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text).for_each(drop);
        }

        #[test]
        fn any_words_are_taken(text in "([ a-z0-9]{0,6}:[ 0-9:\n]{0,60}){0,4}") {
            parse(text.as_bytes()).for_each(drop);
        }
    }
}
