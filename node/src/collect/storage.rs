//! Whether what holds the data is sound: RAID arrays, ZFS pools, errors of Btrfs and ext4, wear of eMMC, state of NVMe.
//!
//! Only what any user may read, every 30 s, aside: a dying disk holds up whoever asks after it. Absent: SMART, which takes a
//! command to the disk and so privilege.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::kept::{Buffer, read_once};
use super::scan::{hex, lines, number, words};
use super::sheet::{Family, Sheet, Spec};

const PERIOD: Duration = Duration::from_secs(30);

/// The most entries of one directory that are looked at.
const MAX_ENTRIES: usize = 64;

const ARRAY: [Spec; 7] = [
    Spec::gauge("node_md_disks_required", "", 0),
    Spec::gauge("node_md_disks", "", 0).with("state", "active"),
    Spec::gauge("node_md_disks", "", 0).with("state", "failed"),
    Spec::gauge("node_md_disks", "", 0).with("state", "spare"),
    Spec::gauge("node_md_blocks", "", 0),
    Spec::gauge("node_md_blocks_synced", "", 0),
    Spec::gauge("node_md_state", "", 0).with("state", "active"),
];

const POOL_STATES: [&str; 7] = [
    "online",
    "degraded",
    "faulted",
    "offline",
    "removed",
    "unavail",
    "suspended",
];

const POOL: [Spec; 7] = [
    pool("online"),
    pool("degraded"),
    pool("faulted"),
    pool("offline"),
    pool("removed"),
    pool("unavail"),
    pool("suspended"),
];

const BTRFS_KINDS: [&str; 5] = [
    "write_errs",
    "read_errs",
    "flush_errs",
    "corruption_errs",
    "generation_errs",
];

const BTRFS: [Spec; 5] = [
    errors("write"),
    errors("read"),
    errors("flush"),
    errors("corruption"),
    errors("generation"),
];

const EXT4: [Spec; 1] = [Spec::counter("outlast_ext4_errors_total", "", 0)];
const NVME: [Spec; 1] = [Spec::gauge("outlast_nvme_live", "", 0)];

const EMMC: [Spec; 3] = [
    // The card tells tenths: this is the end of the tenth it is in.
    Spec::gauge("outlast_emmc_life_used_percent", "percent", 0).with("type", "a"),
    Spec::gauge("outlast_emmc_life_used_percent", "percent", 0).with("type", "b"),
    // 1: normal, 2: four fifths of the spare blocks are gone, 3: nine tenths.
    Spec::gauge("outlast_emmc_pre_eol", "", 0),
];

const fn pool(state: &'static str) -> Spec {
    Spec::gauge("node_zfs_zpool_state", "", 0).with("state", state)
}

const fn errors(kind: &'static str) -> Spec {
    Spec::counter("node_btrfs_device_errors_total", "", 0).with("type", kind)
}

#[derive(Debug)]
pub(super) struct Storage {
    measured: Aside<Found>,
    array: Family<7>,
    pool: Family<7>,
    btrfs: Family<5>,
    ext4: Family<1>,
    nvme: Family<1>,
    emmc: Family<3>,
}

/// Each kind by name, in the order of its specs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    arrays: Vec<(String, [Option<u64>; 7])>,
    pools: Vec<(String, [Option<u64>; 7])>,
    /// By file system and number of the device.
    btrfs: Vec<(String, String, [Option<u64>; 5])>,
    ext4: Vec<(String, [Option<u64>; 1])>,
    nvme: Vec<(String, [Option<u64>; 1])>,
    emmc: Vec<(String, [Option<u64>; 3])>,
}

impl Storage {
    pub(super) fn new(root: &Path) -> Self {
        let root = root.to_owned();
        Self {
            measured: Aside::each("storage", PERIOD, move || measure(&root)),
            array: Family::new(ARRAY),
            pool: Family::new(POOL),
            btrfs: Family::new(BTRFS),
            ext4: Family::new(EXT4),
            nvme: Family::new(NVME),
            emmc: Family::new(EMMC),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let Some(found) = self.measured.latest(buffer, now) else {
            return;
        };
        set(sheet, &mut self.array, "device", &found.arrays);
        set(sheet, &mut self.pool, "zpool", &found.pools);
        set(sheet, &mut self.ext4, "device", &found.ext4);
        set(sheet, &mut self.nvme, "device", &found.nvme);
        set(sheet, &mut self.emmc, "device", &found.emmc);
        for (uuid, device, values) in &found.btrfs {
            let labels = [("device", device.as_str()), ("uuid", uuid)];
            let key = format!("{uuid}\n{device}");
            if let Some(slots) = self.btrfs.slots(sheet, &key, &labels) {
                sheet.set_all(slots, *values);
            }
        }
    }
}

fn set<const N: usize>(
    sheet: &mut Sheet,
    family: &mut Family<N>,
    label: &str,
    all: &[(String, [Option<u64>; N])],
) {
    for (name, values) in all {
        if let Some(slots) = family.slots(sheet, name, &[(label, name)]) {
            sheet.set_all(slots, *values);
        }
    }
}

fn measure(root: &Path) -> io::Result<Found> {
    let sys = root.join("sys");
    let arrays = read_once(&root.join("proc/mdstat")).unwrap_or_default();
    let pools = root.join("proc/spl/kstat/zfs");
    let pools = each(&pools, |pool| {
        Some(pool_state(
            &read_once(&pools.join(pool).join("state")).ok()?,
        ))
    });
    let btrfs = sys.join("fs/btrfs");
    let devices = each(&btrfs, |uuid| {
        let devices = btrfs.join(uuid).join("devinfo");
        Some(each(&devices, |device| {
            let text = read_once(&devices.join(device).join("error_stats")).ok()?;
            Some(btrfs_errors(&text))
        }))
    });
    let btrfs = devices.into_iter().flat_map(|(uuid, devices)| {
        let named = move |(device, values)| (uuid.clone(), device, values);
        devices.into_iter().map(named)
    });
    let ext4 = sys.join("fs/ext4");
    let ext4 = each(&ext4, |device| {
        let text = read_once(&ext4.join(device).join("errors_count")).ok()?;
        Some([Some(number(text.trim_ascii())?)])
    });
    let nvme = sys.join("class/nvme");
    let nvme = each(&nvme, |device| {
        let state = read_once(&nvme.join(device).join("state")).ok()?;
        Some([Some(u64::from(state.trim_ascii() == b"live"))])
    });
    let block = sys.join("block");
    let emmc = each(&block, |device| {
        let card = block.join(device).join("device");
        let life = read_once(&card.join("life_time")).ok()?;
        let end = read_once(&card.join("pre_eol_info")).unwrap_or_default();
        Some(wear(&life, &end))
    });
    let found = Found {
        arrays: parse_arrays(&arrays),
        pools,
        btrfs: btrfs.collect(),
        ext4,
        nvme,
        emmc,
    };
    if found == Found::default() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(found)
}

/// What `read` makes of each entry of a directory, by name; entries of which it makes nothing are left out.
fn each<T>(dir: &Path, read: impl Fn(&str) -> Option<T>) -> Vec<(String, T)> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = entries.take(MAX_ENTRIES);
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<_> = names
        .filter_map(|name| {
            let made = read(&name)?;
            Some((name, made))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The arrays of `/proc/mdstat`, in the order of `ARRAY`.
pub(super) fn parse_arrays(text: &[u8]) -> Vec<(String, [Option<u64>; 7])> {
    let mut arrays: Vec<(String, [Option<u64>; 7])> = Vec::new();
    for line in lines(text) {
        let mut all = words(line);
        let (Some(first), Some(second)) = (all.next(), all.next()) else {
            continue;
        };
        if second == b":" && first.starts_with(b"md") && !line.starts_with(b" ") {
            if arrays.len() == MAX_ENTRIES {
                break;
            }
            let name = String::from_utf8_lossy(first.get(..64).unwrap_or(first)).into_owned();
            let active = all.next() == Some(&b"active"[..]);
            let marked = |mark: &[u8]| words(line).filter(|word| word.ends_with(mark)).count();
            let mut values = [None; 7];
            values[2] = Some(marked(b"(F)") as u64);
            values[3] = Some(marked(b"(S)") as u64);
            values[6] = Some(u64::from(active));
            arrays.push((name, values));
            continue;
        }
        let Some((_, values)) = arrays.last_mut() else {
            continue;
        };
        if second == b"blocks" {
            values[4] = number(first);
            // `[2/1]`: how many disks there should be, and how many are.
            let disks = words(line).find_map(pair);
            values[0] = disks.map(|[wanted, _]| wanted);
            values[1] = disks.map(|[_, active]| active);
            // In step, unless a line about mending follows.
            values[5] = values[4];
        } else if line.windows(3).any(|letters| letters == b"% (") {
            // `(37043392/292945152)`: blocks that are done.
            values[5] = words(line).find_map(pair).map(|[done, _]| done);
        }
    }
    arrays
}

/// Two numbers as `[2/1]` or `(2/1)`.
fn pair(word: &[u8]) -> Option<[u64; 2]> {
    let inner = word.get(1..word.len().checked_sub(1)?)?;
    let slash = inner.iter().position(|byte| *byte == b'/')?;
    Some([number(&inner[..slash])?, number(&inner[slash + 1..])?])
}

/// Which state a pool is in: one of `POOL_STATES` is 1. All are absent where it is none of them.
pub(super) fn pool_state(text: &[u8]) -> [Option<u64>; 7] {
    let said = text.trim_ascii().to_ascii_lowercase();
    let known = POOL_STATES.iter().any(|state| state.as_bytes() == said);
    POOL_STATES.map(|state| known.then(|| u64::from(state.as_bytes() == said)))
}

/// Errors of a device of Btrfs, in the order of `BTRFS`.
pub(super) fn btrfs_errors(text: &[u8]) -> [Option<u64>; 5] {
    BTRFS_KINDS.map(|kind| super::containers::keyed(text, kind.as_bytes()))
}

/// Wear of an eMMC in the order of `EMMC`: `0x01 0x02`, and `0x01`. 0 means that the card doesn't tell.
pub(super) fn wear(life: &[u8], end: &[u8]) -> [Option<u64>; 3] {
    let told = |word: &[u8]| {
        let value = hex(word.strip_prefix(b"0x")?)?;
        (1..=11).contains(&value).then_some(value)
    };
    let mut lives = words(life).map(told);
    let mut percent = || lives.next().flatten().map(|tenths| tenths * 10);
    [percent(), percent(), told(end.trim_ascii())]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arrays_that_are_whole_degraded_and_mending_are_told_apart() {
        let found = parse_arrays(include_bytes!(
            "../../fixtures/linux-3.10-server/proc/mdstat"
        ));
        let wanted = [
            // Whole; degraded with a disk that failed; mending onto a spare; stopped.
            (
                "md0",
                [
                    Some(2),
                    Some(2),
                    Some(0),
                    Some(0),
                    Some(1_048_512),
                    Some(1_048_512),
                    Some(1),
                ],
            ),
            (
                "md1",
                [
                    Some(2),
                    Some(1),
                    Some(1),
                    Some(0),
                    Some(8_384_448),
                    Some(8_384_448),
                    Some(1),
                ],
            ),
            (
                "md2",
                [
                    Some(3),
                    Some(2),
                    Some(0),
                    Some(1),
                    Some(292_945_152),
                    Some(37_043_392),
                    Some(1),
                ],
            ),
            (
                "md127",
                [
                    None,
                    None,
                    Some(0),
                    Some(2),
                    Some(2_096),
                    Some(2_096),
                    Some(0),
                ],
            ),
        ];
        let wanted: Vec<_> = wanted
            .map(|(name, values)| (name.to_owned(), values))
            .into();
        assert_eq!(found, wanted);
        let none = b"Personalities : [raid1] \nunused devices: <none>\n";
        assert_eq!(parse_arrays(none), []);
    }

    #[test]
    fn pools_errors_and_wear_of_the_fixtures_are_measured() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let laptop = measure(&fixtures.join("linux-6.12-laptop")).unwrap();
        assert_eq!(
            laptop.pools,
            [("tank".to_owned(), [0, 1, 0, 0, 0, 0, 0].map(Some))]
        );
        let errors = [1, 0, 0, 3, 0].map(Some);
        let uuid = "11111111-2222-3333-4444-555555555555".to_owned();
        assert_eq!(laptop.btrfs, [(uuid, "1".to_owned(), errors)]);
        assert_eq!(
            laptop.nvme,
            [
                ("nvme0".to_owned(), [Some(1)]),
                ("nvme1".to_owned(), [Some(0)])
            ]
        );
        let board = measure(&fixtures.join("linux-4.19-board")).unwrap();
        assert_eq!(
            board.emmc,
            [("mmcblk0".to_owned(), [Some(10), Some(30), Some(1)])]
        );
        assert_eq!(board.ext4, [("mmcblk0p2".to_owned(), [Some(4)])]);
        let none = measure(&fixtures.join("linux-5.10-pi")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_card_or_a_pool_does_not_tell_is_absent() {
        assert_eq!(wear(b"0x00 0x0b\n", b"0x00\n"), [None, Some(110), None]);
        assert_eq!(wear(b"0x0c", b""), [None, None, None]);
        assert_eq!(pool_state(b"ONLINE\n")[0], Some(1));
        assert_eq!(pool_state(b"WHATEVER\n"), [None; 7]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse_arrays(&text);
            pool_state(&text);
            btrfs_errors(&text);
            wear(&text, &text);
        }

        #[test]
        fn any_words_are_taken(text in r"((md[0-9] : active| [0-9]{1,4} blocks|sda\[0\]\(F\)|\[[0-9]/[0-9]\]|12% \(|/|\)| |\n){0,8}\n){0,5}") {
            parse_arrays(text.as_bytes());
        }
    }
}
