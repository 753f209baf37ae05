//! What a fuzzer may throw at the parsers of kernel files.
//!
//! Containers, FUSE and old kernels write files that look like the kernel's; the worst they may do is be absent.
//! Absent from releases.

use super::{
    conntrack, containers, cpu, disk, filesystem, load, memory, network, own, power, pressure,
    processes, protocols, reach, sockets, storage, ups, uptime,
};

/// A kernel file behind one byte that says which.
pub(crate) fn kernel(bytes: &[u8]) -> bool {
    let Some((which, text)) = bytes.split_first() else {
        return false;
    };
    let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
    match which % 10 {
        0 => {
            let mut stat = cpu::Stat::default();
            stat.read(text);
            stat.read(text);
            stat.boot_time.is_some()
        }
        1 => memory::parse_meminfo(text).iter().any(Option::is_some),
        2 => memory::parse_vmstat(text).iter().any(Option::is_some),
        3 => {
            let found: Vec<_> = disk::parse(text).map(|disk| disk::values(&disk)).collect();
            assert!(found.len() <= lines);
            !found.is_empty()
        }
        4 => {
            let found: Vec<_> = network::parse(text).collect();
            assert!(found.len() <= lines);
            assert!(
                found
                    .iter()
                    .all(|(name, _)| !name.contains('/') && !name.is_empty())
            );
            !found.is_empty()
        }
        5 => {
            let found = filesystem::parse(text);
            assert!(found.len() <= lines.min(64));
            !found.is_empty()
        }
        6 => load::parse(text).is_some(),
        7 => uptime::parse(text).is_some(),
        8 => own::parse(text).iter().all(Option::is_some),
        _ => {
            let found = filesystem::superblocks_readonly(text);
            assert!(found.len() <= lines);
            !found.is_empty()
        }
    }
}

/// A table of counters or an answer of the kernel, behind one byte that says which.
pub(crate) fn counters(bytes: &[u8]) -> bool {
    let Some((which, text)) = bytes.split_first() else {
        return false;
    };
    match which % 32 {
        0 => {
            let mut layout = protocols::Layout::default();
            let (mut first, mut again) = ([None; 49], [None; 49]);
            layout.read(text, &mut first);
            layout.read(text, &mut again);
            assert_eq!(first, again, "a layout that is kept reads the same");
            first.iter().any(Option::is_some)
        }
        1 => protocols::parse_six(text).iter().any(Option::is_some),
        2 => {
            let mut values = [None; 9];
            protocols::parse_in_use(text, &mut values);
            values.iter().any(Option::is_some)
        }
        3 => protocols::parse_softnet(text).iter().any(Option::is_some),
        4 => pressure::parse(text).iter().any(Option::is_some),
        5 => conntrack::parse(text).iter().any(Option::is_some),
        6 => {
            let mut sockets = 0;
            sockets::diag::parse(text, &mut |_| {
                sockets += 1;
                true
            });
            assert!(sockets <= text.len() / 88);
            sockets > 0
        }
        7 => {
            processes::stat::parse_io(text);
            processes::stat::parse(text).is_some()
        }
        8 => power::parse(text).is_some(),
        9 => {
            let text = String::from_utf8_lossy(text);
            let names = ups::names(&text);
            assert!(names.len() <= 8);
            !names.is_empty() | !ups::variables(&text, "cellar").is_empty()
        }
        10 => reach::gateway_four(text).is_some(),
        11 => reach::gateway_six(text).is_some(),
        12 => {
            let keyed = containers::keyed(text, b"usage_usec").is_some();
            let [read, written] = containers::io_of_one(text);
            keyed | containers::io_of_two(text).is_some() | (read > 0) | (written > 0)
        }
        13 => {
            let found = storage::parse_arrays(text);
            assert!(found.len() <= 64);
            !found.is_empty()
        }
        14 => {
            let errors = storage::btrfs_errors(text).iter().any(Option::is_some);
            let wear = storage::wear(text, text).iter().any(Option::is_some);
            errors | wear | storage::pool_state(text)[0].is_some()
        }
        _ => false,
    }
}

/// The recorded counters of one machine.
#[cfg(test)]
pub(crate) fn counter_seeds() -> Vec<Vec<u8>> {
    let files = [
        (0, "proc/net/snmp"),
        (0, "proc/net/netstat"),
        (1, "proc/net/snmp6"),
        (2, "proc/net/sockstat"),
        (3, "proc/net/softnet_stat"),
        (4, "proc/pressure/io"),
        (5, "proc/net/stat/nf_conntrack"),
        (6, "sock_diag"),
        (7, "proc/1/stat"),
        (8, "../linux-6.12-laptop/sys/class/power_supply/BAT0/uevent"),
        (9, "../odd/nut-variables"),
        (10, "proc/net/route"),
        (11, "proc/net/ipv6_route"),
        (
            12,
            "../linux-6.12-laptop/sys/fs/cgroup/lxc.payload.mail/cpu.stat",
        ),
        (13, "../linux-3.10-server/proc/mdstat"),
        (14, "../linux-6.12-laptop/proc/spl/kstat/zfs/tank/state"),
        (14, "../linux-4.19-board/sys/block/mmcblk0/device/life_time"),
    ];
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/here");
    let read = |(which, file): (u8, &str)| {
        let text = std::fs::read(here.join(file)).expect("a fixture is there");
        [&[which][..], &text].concat()
    };
    files.into_iter().map(read).collect()
}

/// The recorded files of one machine.
#[cfg(test)]
pub(crate) fn kernel_seeds() -> Vec<Vec<u8>> {
    let files = [
        "stat",
        "meminfo",
        "vmstat",
        "diskstats",
        "net/dev",
        "mounts",
        "loadavg",
        "uptime",
        "self/statm",
    ];
    let proc = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/here/proc");
    let read = |(which, file): (u8, &str)| {
        let text = std::fs::read(proc.join(file)).expect("a fixture is there");
        [&[which][..], &text].concat()
    };
    (0..).zip(files).map(read).collect()
}
