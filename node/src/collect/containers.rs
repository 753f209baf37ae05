//! What each container uses: processor, memory, disk, processes; by its control group, of version 1 and 2.
//!
//! A container is a group whose name says so: docker, podman, containerd, LXC and nspawn each have their way. Nobody's API is
//! asked, so containers go by the first twelve digits of their id, or their name where the group has one. Measured aside,
//! every 10 s. Those that stay get series. Bounds: `MAX_GROUPS` groups are walked, `MAX_CONTAINERS` containers measured.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::{Aside, Measured};
use super::kept::{Buffer, read_once};
use super::scan::{lines, number, words};
use super::sheet::{Family, Sheet, Spec};
use super::steady::Steady;

/// The shortest and the longest time between two looks, and which part of the time they may take.
const OFTEN: Duration = Duration::from_secs(10);
const SELDOM: Duration = Duration::from_mins(1);
const SHARE: u32 = 1_000;

const MAX_GROUPS: usize = 4_096;
const MAX_DEPTH: usize = 8;
const MAX_CONTAINERS: usize = 256;

/// The most containers that have series in one run.
const MAX_SERIES: usize = 64;

/// A limit beyond this is none: version 1 writes the largest number of pages.
const NO_LIMIT: u64 = 1 << 60;

const SPECS: [Spec; 8] = [
    Spec::counter("container_cpu_usage_seconds_total", "seconds", -6),
    Spec::counter("container_cpu_cfs_throttled_seconds_total", "seconds", -6),
    Spec::gauge("container_memory_usage_bytes", "bytes", 0),
    Spec::gauge("container_spec_memory_limit_bytes", "bytes", 0),
    Spec::counter("container_oom_events_total", "", 0),
    Spec::counter("container_fs_reads_bytes_total", "bytes", 0),
    Spec::counter("container_fs_writes_bytes_total", "bytes", 0),
    Spec::gauge("container_processes", "", 0),
];

#[derive(Debug)]
pub(super) struct Containers {
    measured: Aside<Vec<Container>>,
    seen: Option<Arc<Vec<Container>>>,
    steady: Steady,
    family: Family<8>,
}

/// One container; values in the order of `SPECS`, times in microseconds.
#[derive(Debug, PartialEq, Eq)]
struct Container {
    runtime: &'static str,
    name: String,
    values: [Option<u64>; 8],
}

impl Containers {
    pub(super) fn new(root: &Path) -> Self {
        let top = root.join("sys/fs/cgroup");
        let measured = Aside::start("containers", move || {
            let began = Instant::now();
            let found = measure(&top);
            let again = (began.elapsed() * SHARE).clamp(OFTEN, SELDOM);
            Measured { found, again }
        });
        Self {
            measured,
            seen: None,
            steady: Steady::new(MAX_SERIES),
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let Some(found) = self.measured.latest(buffer, now) else {
            return;
        };
        let is_new = |seen: &Arc<Vec<Container>>| !Arc::ptr_eq(seen, &found);
        if self.seen.as_ref().is_none_or(is_new) {
            let names = found.iter().map(|one| one.name.as_str());
            self.steady.look(names, now);
            self.seen = Some(Arc::clone(&found));
        }
        for one in found.iter().filter(|one| self.steady.has(&one.name)) {
            let labels = [("container", one.name.as_str()), ("runtime", one.runtime)];
            if let Some(slots) = self.family.slots(sheet, &one.name, &labels) {
                sheet.set_all(slots, one.values);
            }
        }
    }
}

fn measure(top: &Path) -> io::Result<Vec<Container>> {
    let unified = top.join("cgroup.controllers").exists();
    // Of version 1 each kind has a tree of its own, and a container stands at the same place in each.
    let walked = if unified {
        top.to_owned()
    } else {
        ["memory", "pids", "cpuacct"]
            .map(|tree| top.join(tree))
            .into_iter()
            .find(|tree| tree.is_dir())
            .ok_or(io::ErrorKind::NotFound)?
    };
    let mut found = Vec::new();
    for (group, runtime, name) in groups(&walked) {
        let values = if unified {
            values_of_two(&group)
        } else {
            let Ok(place) = group.strip_prefix(&walked) else {
                continue;
            };
            values_of_one(&|tree: &str, file: &str| {
                read_once(&top.join(tree).join(place).join(file)).ok()
            })
        };
        found.push(Container {
            runtime,
            name,
            values,
        });
    }
    if found.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    Ok(found)
}

/// The groups that are containers. What is inside one is its own.
fn groups(top: &Path) -> Vec<(PathBuf, &'static str, String)> {
    let mut found = Vec::new();
    let mut ahead = vec![(top.to_owned(), 0)];
    let mut walked = 0;
    while let Some((dir, depth)) = ahead.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        let parent = dir.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let dirs = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in dirs {
            walked += 1;
            if walked > MAX_GROUPS || found.len() == MAX_CONTAINERS {
                return found;
            }
            let group = entry.file_name();
            match group.to_str().and_then(|group| container(parent, group)) {
                Some((runtime, name)) => found.push((entry.path(), runtime, name)),
                None if depth < MAX_DEPTH => ahead.push((entry.path(), depth + 1)),
                None => {}
            }
        }
    }
    found
}

/// Which container a group is, by its name and that of the group around it.
pub(super) fn container(parent: &str, group: &str) -> Option<(&'static str, String)> {
    let scope = group.strip_suffix(".scope").unwrap_or(group);
    let scopes = [
        ("docker-", "docker"),
        ("libpod-", "podman"),
        ("cri-containerd-", "containerd"),
        ("crio-", "cri-o"),
    ];
    for (prefix, runtime) in scopes {
        if let Some(id) = scope.strip_prefix(prefix).and_then(short) {
            return Some((runtime, id));
        }
    }
    let named = |name: &str| {
        let fits = !name.is_empty() && name.len() <= 64 && !name.contains(char::is_control);
        fits.then(|| name.to_owned())
    };
    let lxc = scope.strip_prefix("lxc.payload.");
    let lxc = lxc.or_else(|| (parent == "lxc").then_some(scope));
    if let Some(name) = lxc.and_then(named) {
        return Some(("lxc", name));
    }
    let nspawn = scope
        .strip_prefix("systemd-nspawn@")
        .and_then(|name| name.strip_suffix(".service"));
    if let Some(name) = nspawn.and_then(named) {
        return Some(("nspawn", name));
    }
    match parent {
        "docker" => Some(("docker", short(scope)?)),
        _ if parent.starts_with("pod") => Some(("containerd", short(scope)?)),
        _ => None,
    }
}

/// The part of an id that people know a container by.
fn short(id: &str) -> Option<String> {
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| id[..12].to_owned())
}

fn values_of_two(group: &Path) -> [Option<u64>; 8] {
    let read = |file: &str| read_once(&group.join(file)).ok();
    let plain = |file: &str| number(read(file)?.trim_ascii());
    let cpu = read("cpu.stat").unwrap_or_default();
    let events = read("memory.events").unwrap_or_default();
    let io = io_of_two(&read("io.stat").unwrap_or_default());
    [
        keyed(&cpu, b"usage_usec"),
        keyed(&cpu, b"throttled_usec"),
        plain("memory.current"),
        // Without a limit it says `max`.
        plain("memory.max"),
        keyed(&events, b"oom_kill"),
        io.map(|[read, _]| read),
        io.map(|[_, written]| written),
        plain("pids.current"),
    ]
}

fn values_of_one(read: &impl Fn(&str, &str) -> Option<Vec<u8>>) -> [Option<u64>; 8] {
    let plain = |tree: &str, file: &str| number(read(tree, file)?.trim_ascii());
    let key = |tree: &str, file: &str, key: &[u8]| keyed(&read(tree, file)?, key);
    let io = read("blkio", "blkio.throttle.io_service_bytes");
    let io = io.as_deref().map(io_of_one);
    [
        plain("cpuacct", "cpuacct.usage").map(|nanos| nanos / 1_000),
        key("cpu", "cpu.stat", b"throttled_time").map(|nanos| nanos / 1_000),
        plain("memory", "memory.usage_in_bytes"),
        plain("memory", "memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT),
        key("memory", "memory.oom_control", b"oom_kill"),
        io.map(|[read, _]| read),
        io.map(|[_, written]| written),
        plain("pids", "pids.current"),
    ]
}

/// The number behind a word at the start of a line.
pub(super) fn keyed(text: &[u8], key: &[u8]) -> Option<u64> {
    let mut found = lines(text).filter_map(|line| {
        let mut words = words(line);
        (words.next()? == key).then(|| words.next().and_then(number))
    });
    found.next().flatten()
}

/// Bytes read and written of all disks: lines `8:0 rbytes=1 wbytes=2 rios=…`. `None` where no disk was used.
pub(super) fn io_of_two(text: &[u8]) -> Option<[u64; 2]> {
    let mut sums = None;
    for word in words(text) {
        let [read, written] = sums.get_or_insert([0_u64, 0]);
        if let Some(bytes) = word.strip_prefix(b"rbytes=").and_then(number) {
            *read = read.saturating_add(bytes);
        } else if let Some(bytes) = word.strip_prefix(b"wbytes=").and_then(number) {
            *written = written.saturating_add(bytes);
        }
    }
    sums
}

/// The same of lines `8:0 Read 1`.
pub(super) fn io_of_one(text: &[u8]) -> [u64; 2] {
    let sum = |kind: &[u8]| {
        let of = |line: &[u8]| {
            let mut words = words(line).skip(1);
            (words.next()? == kind).then(|| words.next().and_then(number))?
        };
        lines(text).filter_map(of).fold(0, u64::saturating_add)
    };
    [sum(b"Read"), sum(b"Write")]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn containers_of_version_two_are_measured() {
        let found = measure(&fixture("linux-6.12-laptop")).unwrap();
        let wanted = [
            Container {
                runtime: "podman",
                name: "0123456789ab".to_owned(),
                values: [
                    Some(1_500_000),
                    Some(20_000),
                    Some(52_428_800),
                    Some(104_857_600),
                    Some(2),
                    Some(4_096 + 512),
                    Some(8_192),
                    Some(7),
                ],
            },
            Container {
                runtime: "lxc",
                name: "mail".to_owned(),
                values: [Some(9), None, Some(1_000), None, None, None, None, None],
            },
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn containers_of_version_one_stand_at_the_same_place_in_every_tree() {
        let found = measure(&fixture("linux-3.10-server")).unwrap();
        let wanted = Container {
            runtime: "docker",
            name: "0123456789ab".to_owned(),
            values: [
                Some(2_000_000),
                Some(3_000),
                Some(9_000_000),
                None,
                None,
                Some(700),
                Some(30),
                None,
            ],
        };
        assert_eq!(found, [wanted]);
        let none = measure(&fixture("linux-5.10-pi")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn groups_are_told_from_containers_by_their_names() {
        let id = "0123456789ab";
        let cases = [
            (
                "system.slice",
                format!("docker-{ID}.scope"),
                Some(("docker", id)),
            ),
            ("docker", ID.to_owned(), Some(("docker", id))),
            (
                "machine.slice",
                format!("libpod-{ID}.scope"),
                Some(("podman", id)),
            ),
            (
                "kubepods-pod1.slice",
                format!("cri-containerd-{ID}.scope"),
                Some(("containerd", id)),
            ),
            ("pod12-34", ID.to_owned(), Some(("containerd", id))),
            ("lxc", "web".to_owned(), Some(("lxc", "web"))),
            ("", "lxc.payload.web".to_owned(), Some(("lxc", "web"))),
            (
                "machine.slice",
                "systemd-nspawn@web.service".to_owned(),
                Some(("nspawn", "web")),
            ),
            ("machine.slice", format!("libpod-conmon-{ID}.scope"), None),
            ("system.slice", "docker.service".to_owned(), None),
            ("docker", "buildkit".to_owned(), None),
            ("user.slice", ID.to_owned(), None),
            ("", "lxc.payload.".to_owned(), None),
        ];
        for (parent, group, wanted) in cases {
            let wanted = wanted.map(|(runtime, name)| (runtime, name.to_owned()));
            assert_eq!(container(parent, &group), wanted, "{parent}/{group}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>, parent: String, group: String) {
            keyed(&text, b"oom_kill");
            io_of_two(&text);
            io_of_one(&text);
            container(&parent, &group);
        }
    }

    fn fixture(tree: &str) -> PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        fixtures.join(tree).join("sys/fs/cgroup")
    }
}
