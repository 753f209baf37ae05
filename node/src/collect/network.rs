//! What each network interface has carried, from `/proc/net/dev`; whether it is up, has a carrier
//! and how fast it is, from `/sys/class/net`.
//!
//! The second may wait for the driver of a card that is being set up: it is measured aside, every 10 s.
//! The parser of `/proc/net/dev` is ours: that of crate `procfs` finds no interface at all where
//! one line is short or has no space after its colon, and loses their order.
//! Absent: `veth` interfaces. Each container has one under a random name, and its traffic is
//! its bridge's; their names alone would use up the numbers of a machine that runs many.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::kept::{Buffer, Kept, read_once};
use super::scan::{lines, number, words};
use super::sheet::{Family, Sheet, Spec};

/// How often the slow values are measured.
const PERIOD: Duration = Duration::from_secs(10);

/// The most interfaces that are measured.
const MAX_INTERFACES: usize = 1_024;

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
    family: Family<11>,
    measured: Aside<BTreeMap<String, [Option<u64>; 3]>>,
}

impl Network {
    pub(super) fn new(root: &Path) -> Self {
        let class = root.join("sys/class/net");
        Self {
            file: Kept::new(root, "proc/net/dev"),
            family: Family::new(SPECS),
            measured: Aside::each("interfaces", PERIOD, move || measure_all(&class)),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let measured = self.measured.latest(buffer, now);
        for (name, values) in parse(self.file.read(buffer).unwrap_or_default()) {
            let Some(slots) = self.family.slots(sheet, name, &[("device", name)]) else {
                continue;
            };
            let slow = measured.as_ref().and_then(|all| all.get(name).copied());
            let values = values.into_iter().chain(slow.unwrap_or_default());
            slots
                .into_iter()
                .zip(values)
                .for_each(|(slot, value)| sheet.set_some(slot, value));
        }
    }
}

fn measure_all(class: &Path) -> io::Result<BTreeMap<String, [Option<u64>; 3]>> {
    let entries = std::fs::read_dir(class)?.take(MAX_INTERFACES);
    let named = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let counted = named.filter(|name| !name.starts_with("veth"));
    Ok(counted
        .map(|name| {
            let values = measure(&class.join(&name));
            (name, values)
        })
        .collect())
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
    fn every_interface_is_measured_but_those_of_containers() {
        let root = tempfile::tempdir().unwrap();
        for name in ["eth0", "veth7a", "lo"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("eth0/speed"), "1000\n").unwrap();
        let found = measure_all(root.path()).unwrap();
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["eth0", "lo"]);
        assert_eq!(found["eth0"], [None, None, Some(125_000_000)]);
        assert!(measure_all(&root.path().join("gone")).is_err());
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
