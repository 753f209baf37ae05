//! How full each real filesystem is.
//!
//! Asking a dying disk may take for ever, so it is done aside, every 10 s.
//! Absent: filesystems of other machines (their own nodes say), of memory and of the kernel, and
//! all but the shortest mount point of a device.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};

use super::aside::Aside;
use super::kept::{Buffer, read_once};
use super::scan::{lines, words};
use super::sheet::{Family, Sheet, Spec};

/// How often filesystems are measured.
const PERIOD: Duration = Duration::from_secs(10);

/// The most filesystems that are measured; those mounted first count.
const MAX_FILESYSTEMS: usize = 64;

/// Types that have a device of their own and no `/dev/` in its name.
const NAMED: [&str; 3] = ["zfs", "btrfs", "bcachefs"];

const SPECS: [Spec; 6] = [
    Spec::gauge("node_filesystem_size_bytes", "bytes", 0),
    Spec::gauge("node_filesystem_free_bytes", "bytes", 0),
    Spec::gauge("node_filesystem_avail_bytes", "bytes", 0),
    Spec::gauge("node_filesystem_files", "", 0),
    Spec::gauge("node_filesystem_files_free", "", 0),
    Spec::gauge("node_filesystem_readonly", "", 0),
];

#[derive(Debug)]
pub(super) struct Filesystem {
    family: Family<6>,
    measured: Aside<Vec<(Mount, [u64; 6])>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    device: String,
    pub(super) mountpoint: String,
    fstype: String,
}

impl Filesystem {
    pub(super) fn new(root: &Path) -> Self {
        let root = root.to_owned();
        Self {
            family: Family::new(SPECS),
            measured: Aside::each("filesystem", PERIOD, move || measure(&root)),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let Some(filesystems) = self.measured.latest(buffer, now) else {
            return;
        };
        for (mount, values) in filesystems.iter() {
            let labels = [
                ("device", mount.device.as_str()),
                ("fstype", mount.fstype.as_str()),
                ("mountpoint", mount.mountpoint.as_str()),
            ];
            let key = format!("{}\n{}\n{}", mount.device, mount.fstype, mount.mountpoint);
            let Some(slots) = self.family.slots(sheet, &key, &labels) else {
                continue;
            };
            slots
                .into_iter()
                .zip(values)
                .for_each(|(slot, value)| sheet.set(slot, *value));
        }
    }
}

fn measure(root: &Path) -> io::Result<Vec<(Mount, [u64; 6])>> {
    let mounts = parse(&read_once(&root.join("proc/mounts"))?);
    let superblocks = read_once(&root.join("proc/self/mountinfo")).unwrap_or_default();
    let readonly = superblocks_readonly(&superblocks);
    let measured = mounts.into_iter().filter_map(|mount| {
        let path: PathBuf = root.join(mount.mountpoint.trim_start_matches('/'));
        let mut values = values(&statvfs(&path).ok()?);
        if let Some(readonly) = readonly.get(&mount.mountpoint) {
            values[5] = u64::from(*readonly);
        }
        // A size of zero is a filesystem that has none to speak of.
        (values[0] > 0).then_some((mount, values))
    });
    Ok(measured.collect())
}

fn values(stat: &StatVfs) -> [u64; 6] {
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let readonly = stat.f_flag.contains(StatVfsMountFlags::RDONLY);
    [
        bytes(stat.f_blocks),
        bytes(stat.f_bfree),
        bytes(stat.f_bavail),
        stat.f_files,
        stat.f_ffree,
        u64::from(readonly),
    ]
}

/// Which filesystems can't be written, by mount point. The filesystem's own word, not that of this process's
/// mount of it: to a hardened service everything is mounted read-only.
pub(super) fn superblocks_readonly(mountinfo: &[u8]) -> BTreeMap<String, bool> {
    let line = |line: &[u8]| {
        let mountpoint = unescape(words(line).nth(4)?)?;
        // Behind the lone dash: type, device, and the options of the filesystem itself.
        let options = words(line).skip_while(|word| *word != b"-").nth(3)?;
        let readonly = options
            .split(|byte| *byte == b',')
            .any(|option| option == b"ro");
        Some((mountpoint, readonly))
    };
    lines(mountinfo).filter_map(line).take(4_096).collect()
}

/// The mounts that count, one for each device, in the order of their mount points.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    let mut shortest: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in lines(text).filter_map(parse_line) {
        let known = shortest.get(&mount.device);
        let shorter = known.is_some_and(|known| mount.mountpoint.len() < known.mountpoint.len());
        if shorter || (known.is_none() && shortest.len() < MAX_FILESYSTEMS) {
            shortest.insert(mount.device.clone(), mount);
        }
    }
    let mut mounts: Vec<_> = shortest.into_values().collect();
    mounts.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    mounts
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = words(line);
    let mut word = || words.next().and_then(unescape);
    let mount = Mount {
        device: word()?,
        mountpoint: word()?,
        fstype: word()?,
    };
    is_real(&mount).then_some(mount)
}

fn is_real(mount: &Mount) -> bool {
    let fstype = mount.fstype.as_str();
    // An image that can't be written is always full, and says nothing.
    let image = fstype == "squashfs" || fstype == "iso9660";
    let container = fstype == "overlay" && mount.mountpoint == "/";
    (mount.device.starts_with("/dev/") && !image) || NAMED.contains(&fstype) || container
}

/// The kernel writes space, tab, line end and backslash as `\` and three octal digits.
fn unescape(word: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let escaped = octal.and_then(|digits| str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_text_is_read() {
        let found = parse(include_bytes!("../../fixtures/here/proc/mounts"));
        assert_eq!(found, [mount("/dev/vda", "/", "ext4")]);
    }

    #[test]
    fn real_filesystems_are_told_from_the_others() {
        let found = parse(include_bytes!("../../fixtures/odd/mounts"));
        let wanted = [
            mount("/dev/sda2", "/", "ext4"),
            mount("overlay", "/", "overlay"),
            mount("/dev/sda1", "/boot/efi", "vfat"),
            mount("tank/home", "/home", "zfs"),
            mount("/dev/sdb1", "/media/stick", "fuseblk"),
            mount("/dev/mapper/vg-my data", "/srv/my data", "xfs"),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn escapes_are_undone_and_stray_backslashes_kept() {
        let undone = |text: &str| unescape(text.as_bytes()).unwrap();
        assert_eq!(undone(r"a\040b\134c"), r"a b\c");
        assert_eq!(undone(r"\9\04"), r"\9\04");
        assert_eq!(undone(r"\777"), r"\777");
        assert_eq!(unescape(b"\\377"), None);
    }

    #[test]
    fn the_filesystem_of_the_fixture_is_measured() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/here");
        let found = measure(&root).unwrap();
        assert_eq!(found[0].0, mount("/dev/vda", "/", "ext4"));
        let [size, free, avail, ..] = found[0].1;
        assert!(size >= free && free >= avail && size > 0);
        assert!(measure(&root.join("proc")).is_err());
    }

    #[test]
    fn a_measurement_that_stays_away_makes_its_values_absent() {
        let now = Instant::now();
        let measured = vec![(mount("/dev/vda", "/", "ext4"), [6, 5, 4, 3, 2, 1])];
        let mut filesystem = Filesystem {
            family: Family::new(SPECS),
            measured: Aside::holding(measured, now, PERIOD),
        };
        let mut sheet = Sheet::new(now);
        let mut sizes_at = |millis| {
            let now = now + Duration::from_millis(millis);
            sheet.begin(now);
            filesystem.tick(&mut sheet, &mut Buffer::new(), now);
            sheet.finish().values[0]
        };
        assert_eq!(
            [0, 11_000, 11_500].map(&mut sizes_at),
            [Some(6), Some(6), None]
        );
    }

    #[test]
    fn a_filesystem_is_readonly_by_its_own_word_not_by_the_mount() {
        let found = superblocks_readonly(
            b"36 35 98:0 / / ro,relatime master:1 - ext4 /dev/root rw,errors=continue\n\
              37 36 98:1 / /srv/my\\040data ro,relatime shared:2 master:1 - ext4 /dev/sdb ro,errors=remount-ro\n\
              38 36 98:2 / /nothing rw\nbroken\n",
        );
        let expected = [("/".to_owned(), false), ("/srv/my data".to_owned(), true)];
        assert_eq!(found, expected.into_iter().collect());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
            superblocks_readonly(&text);
        }

        #[test]
        fn any_words_are_taken(text in r"((/dev/a|zfs|\\0|\\[0-9]{3}| |\n){0,8}){0,6}") {
            parse(text.as_bytes());
        }
    }

    fn mount(device: &str, mountpoint: &str, fstype: &str) -> Mount {
        let [device, mountpoint, fstype] = [device, mountpoint, fstype].map(str::to_owned);
        Mount {
            device,
            mountpoint,
            fstype,
        }
    }
}
