//! What each whole disk has read, written and waited for, from `/proc/diskstats`.
//!
//! Crate `procfs` parses each line; one that makes no sense to it costs that disk alone.
//! Partitions are left out, their traffic is their disk's; so are loop devices and memory disks.
//! Absent: how full a disk is (`filesystem`).

use std::path::Path;

use procfs::DiskStat;

use super::kept::{Buffer, Kept};
use super::scan::lines;
use super::sheet::{Family, Sheet, Spec};

/// Numbers of a disk: 11 up to Linux 4.17, 15 with discards, 17 with flushes from 5.5.
const COLUMNS: usize = 17;

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

#[derive(Debug)]
pub(super) struct Disk {
    file: Kept,
    family: Family<COLUMNS>,
}

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            file: Kept::optional(root, "proc/diskstats"),
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        for disk in parse(self.file.read(buffer).unwrap_or_default()) {
            let labels = [("device", disk.name.as_str())];
            let Some(slots) = self.family.slots(sheet, &disk.name, &labels) else {
                continue;
            };
            slots
                .into_iter()
                .zip(values(&disk))
                .for_each(|(slot, value)| sheet.set_some(slot, value));
        }
    }
}

/// The whole disks, in the order of their lines.
pub(super) fn parse(text: &[u8]) -> impl Iterator<Item = DiskStat> {
    // A line with fewer than 11 numbers is no disk: a partition of Linux 2.6 has four.
    lines(text)
        .filter_map(|line| DiskStat::from_line(str::from_utf8(line).ok()?).ok())
        .filter(|disk| is_whole_disk(&disk.name))
}

/// In the order of `SPECS`.
pub(super) fn values(disk: &DiskStat) -> [Option<u64>; COLUMNS] {
    let bytes = |sectors: u64| sectors.checked_mul(SECTOR_BYTES);
    [
        Some(disk.reads),
        Some(disk.merged),
        bytes(disk.sectors_read),
        Some(disk.time_reading),
        Some(disk.writes),
        Some(disk.writes_merged),
        bytes(disk.sectors_written),
        Some(disk.time_writing),
        Some(disk.in_progress),
        Some(disk.time_in_progress),
        Some(disk.weighted_time_in_progress),
        disk.discards,
        disk.discards_merged,
        disk.sectors_discarded.and_then(bytes),
        disk.time_discarding,
        disk.flushes,
        disk.time_flushing,
    ]
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
        let found = read(include_bytes!("../../fixtures/here/proc/diskstats"));
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
        assert_eq!(found, [("vda".to_owned(), values.map(Some))]);
    }

    #[test]
    fn an_old_kernel_counts_no_discards() {
        let found = read(include_bytes!("../../fixtures/odd/diskstats-14"));
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sda", "dm-0"]);
        assert_eq!(found[0].1[10], Some(39_240));
        assert_eq!(found[0].1[11..], [None; 6]);
    }

    #[test]
    fn discards_without_flushes_are_read() {
        let found = read(include_bytes!("../../fixtures/odd/diskstats-18"));
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["nvme0n1", "mmcblk0", "md0"]);
        assert_eq!(
            found[0].1[13..],
            [Some(99_120_344 * 512), Some(812), None, None]
        );
    }

    #[test]
    fn columns_keep_their_order() {
        let found = read(include_bytes!("../../fixtures/odd/diskstats-20"));
        let mut values: [u64; COLUMNS] = std::array::from_fn(|at| at as u64 + 1);
        for column in [2, 6, 13] {
            values[column] *= 512;
        }
        assert_eq!(found, [("sdb".to_owned(), values.map(Some))]);
    }

    #[test]
    fn a_line_without_sense_costs_no_other() {
        let text = b"8 0 sda 1 2 3 x\n\xff\n8 16 sdb 1 2 3 4 5 6 7 8 9 10 11\n8 1 sdc 1 2 3 4\n";
        let names: Vec<_> = parse(text).map(|disk| disk.name).collect();
        assert_eq!(names, ["sdb"]);
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
            read(&text);
        }

        #[test]
        fn any_words_are_taken(text in "([ 0-9]{0,6}(sda|nvme0n1p|p|boot)[ 0-9\n]{0,60}){0,4}") {
            read(text.as_bytes());
        }
    }

    fn read(text: &[u8]) -> Vec<(String, [Option<u64>; COLUMNS])> {
        parse(text)
            .map(|disk| (disk.name.clone(), values(&disk)))
            .collect()
    }
}
