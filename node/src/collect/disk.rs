//! What each whole disk has read, written and waited for, from `/proc/diskstats`.
//!
//! Partitions are left out, their traffic is their disk's; so are loop devices and memory disks.
//! Absent: how full a disk is (`filesystem`).

use std::path::Path;

use super::kept::{Buffer, Kept};
use super::scan::{lines, number, words};
use super::sheet::{Family, Sheet, Spec};

/// Number columns after the name: 11 up to Linux 4.17, 15 with discards, 17 with flushes from 5.5.
const COLUMNS: usize = 17;

/// Fewer mean a partition of Linux 2.6, which has columns of other meanings.
const LEAST_COLUMNS: usize = 11;

/// Bytes of what the kernel calls a sector, whatever the disk calls one.
const SECTOR_BYTES: u64 = 512;

const SPECS: [Spec; COLUMNS] = [
    Spec::counter("node_disk_reads_completed_total", "", 0),
    Spec::counter("node_disk_reads_merged_total", "", 0),
    Spec::counter("node_disk_read_bytes_total", "bytes", 0),
    Spec::counter("node_disk_read_time_seconds_total", "seconds", -3),
    Spec::counter("node_disk_writes_completed_total", "", 0),
    Spec::counter("node_disk_writes_merged_total", "", 0),
    Spec::counter("node_disk_written_bytes_total", "bytes", 0),
    Spec::counter("node_disk_write_time_seconds_total", "seconds", -3),
    Spec::gauge("node_disk_io_now", "", 0),
    Spec::counter("node_disk_io_time_seconds_total", "seconds", -3),
    Spec::counter("node_disk_io_time_weighted_seconds_total", "seconds", -3),
    Spec::counter("node_disk_discards_completed_total", "", 0),
    Spec::counter("node_disk_discards_merged_total", "", 0),
    Spec::counter("node_disk_discarded_bytes_total", "bytes", 0),
    Spec::counter("node_disk_discard_time_seconds_total", "seconds", -3),
    Spec::counter("node_disk_flush_requests_total", "", 0),
    Spec::counter("node_disk_flush_requests_time_seconds_total", "seconds", -3),
];

/// The columns that count sectors.
const SECTORS: [usize; 3] = [2, 6, 13];

#[derive(Debug)]
pub(super) struct Disk {
    file: Kept,
    family: Family<COLUMNS>,
}

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            file: Kept::new(root, "proc/diskstats"),
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        for (disk, values) in parse(self.file.read(buffer).unwrap_or_default()) {
            let Some(slots) = self.family.slots(sheet, disk, &[("device", disk)]) else {
                continue;
            };
            slots
                .into_iter()
                .zip(values)
                .for_each(|(slot, value)| sheet.set_some(slot, value));
        }
    }
}

/// Each whole disk and its values, in the order of `SPECS`.
fn parse(text: &[u8]) -> impl Iterator<Item = (&str, [Option<u64>; COLUMNS])> {
    lines(text).filter_map(|line| {
        let mut words = words(line).skip(2);
        let name = str::from_utf8(words.next()?)
            .ok()
            .filter(|name| is_whole_disk(name))?;
        let mut values = [None; COLUMNS];
        let mut count = 0;
        for (value, word) in values.iter_mut().zip(words) {
            *value = number(word);
            count += 1;
        }
        for column in SECTORS {
            values[column] = values[column].and_then(|sectors| sectors.checked_mul(SECTOR_BYTES));
        }
        (count >= LEAST_COLUMNS).then_some((name, values))
    })
}

fn is_whole_disk(name: &str) -> bool {
    let memory = ["loop", "ram", "zram", "fd", "sr"]
        .iter()
        .any(|kind| is_numbered(name, kind));
    !memory && !is_partition(name)
}

/// `kind` and a number.
fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(is_digits)
}

/// `sda1`, `nvme0n1p1`, `mmcblk0p1`, and the boot areas of a card, `mmcblk0boot0`.
fn is_partition(name: &str) -> bool {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if stem == name {
        return false;
    }
    let lettered = ["sd", "hd", "vd", "xvd"].iter().any(|kind| {
        let letters = stem.strip_prefix(kind).unwrap_or_default();
        !letters.is_empty() && letters.bytes().all(|letter| letter.is_ascii_lowercase())
    });
    let numbered = |suffix: &str| {
        stem.strip_suffix(suffix)
            .is_some_and(|disk| disk.ends_with(|end: char| end.is_ascii_digit()))
    };
    lettered || numbered("p") || numbered("boot")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let found: Vec<_> = parse(include_bytes!("../../fixtures/here/proc/diskstats")).collect();
        let values = [
            59_786,
            9_818,
            8_358_562 * 512,
            33_117,
            38_530,
            77_833,
            22_609_680 * 512,
            99_753,
            0,
            13_856,
            134_600,
            14_050,
            50,
            2_464_360 * 512,
            1_551,
            4_321,
            178,
        ];
        assert_eq!(found, [("vda", values.map(Some))]);
    }

    #[test]
    fn an_old_kernel_counts_no_discards() {
        let found: Vec<_> = parse(include_bytes!("../../fixtures/odd/diskstats-14")).collect();
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["sda", "dm-0"]);
        assert_eq!(found[0].1[10], Some(39_240));
        assert_eq!(found[0].1[11..], [None; 6]);
    }

    #[test]
    fn discards_without_flushes_are_read() {
        let found: Vec<_> = parse(include_bytes!("../../fixtures/odd/diskstats-18")).collect();
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["nvme0n1", "mmcblk0", "md0"]);
        assert_eq!(
            found[0].1[13..],
            [Some(99_120_344 * 512), Some(812), None, None]
        );
    }

    #[test]
    fn columns_keep_their_order() {
        let found: Vec<_> = parse(include_bytes!("../../fixtures/odd/diskstats-20")).collect();
        let mut values: [u64; COLUMNS] = std::array::from_fn(|at| at as u64 + 1);
        SECTORS.iter().for_each(|column| values[*column] *= 512);
        assert_eq!(found, [("sdb", values.map(Some))]);
    }

    #[test]
    fn whole_disks_are_told_from_partitions() {
        for name in [
            "sda", "sdaa", "vdb", "xvda", "nvme0n1", "mmcblk0", "dm-12", "md127", "nbd3", "rbd0",
        ] {
            assert!(is_whole_disk(name), "{name}");
        }
        for name in [
            "sda1",
            "sdaa12",
            "xvda1",
            "nvme0n1p2",
            "mmcblk0p1",
            "mmcblk0boot1",
            "nbd0p1",
        ] {
            assert!(!is_whole_disk(name), "{name}");
        }
        for name in ["loop0", "ram15", "zram0", "fd0", "sr0"] {
            assert!(!is_whole_disk(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text).for_each(drop);
        }

        #[test]
        fn any_words_are_taken(text in "([ 0-9]{0,6}(sda|nvme0n1p|p|boot)[ 0-9\n]{0,60}){0,4}") {
            parse(text.as_bytes()).for_each(drop);
        }
    }
}
