//! What a fuzzer may throw at the parsers of kernel files.
//!
//! Containers, FUSE and old kernels write files that look like the kernel's; the worst they may do is be absent.
//! Absent from releases.

use super::{cpu, disk, filesystem, load, memory, network, own, uptime};

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
