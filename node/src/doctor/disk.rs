//! The file system below the state directory.

use super::Finding;
use super::facts::{Disk, Facts};
use crate::text::size;

/// Below the lesser of a tenth and this the store keeps no more copies of others' history.
const COPIES_STOP: (u64, u64) = (10, 2 << 30);

/// Below the lesser of a twentieth and this it keeps nothing of its own either.
const OWN_STOPS: (u64, u64) = (20, 512 << 20);

/// Files the store may want to make within a day: generations, segments, what replaces them.
const FILES: u64 = 1_000;

pub(super) fn space(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "disk";
    let Some(disk) = &facts.disk else {
        return Vec::new();
    };
    let shown = facts.state.path.display();
    if disk.read_only {
        return vec![Finding::fail(
            CHECK,
            format!("{shown} is on a read-only file system"),
            "mount it writable, or name another directory with --state-dir",
        )];
    }
    let floor = |(part, most): (u64, u64)| (disk.total / part).min(most);
    let free = format!(
        "{} of {} free for {shown}",
        size(disk.free),
        size(disk.total)
    );
    let mut findings = Vec::new();
    if disk.free < floor(OWN_STOPS) {
        findings.push(Finding::fail(
            CHECK,
            format!(
                "{free}: below {} this node keeps no history",
                size(floor(OWN_STOPS))
            ),
            "make room there, or set store.limit_bytes lower",
        ));
    } else if disk.free < floor(COPIES_STOP) {
        findings.push(Finding::warn(
            CHECK,
            format!(
                "{free}: below {} it keeps no copies for the others",
                size(floor(COPIES_STOP))
            ),
            "make room there, or set store.limit_bytes lower",
        ));
    }
    if disk.files > 0 && disk.free_files < FILES {
        let says = format!(
            "room for only {} more files on the file system of {shown}",
            disk.free_files
        );
        findings.push(Finding::fail(
            CHECK,
            says,
            "remove files there; `df -i` counts them",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, free));
    }
    findings
}

/// File systems that don't keep what they are told to.
pub(super) fn kind(facts: &Facts) -> Option<Finding> {
    let (name, why) = doubtful(facts.disk.as_ref()?)?;
    Some(Finding::warn(
        "file system",
        format!("{} is on {name}: {why}", facts.state.path.display()),
        "name a directory on a disk of this machine with --state-dir",
    ))
}

fn doubtful(disk: &Disk) -> Option<(&'static str, &'static str)> {
    let elsewhere = "a power cut or a lost connection can take what was written";
    match disk.magic {
        0x0102_1994 => Some((
            "tmpfs",
            "keys and history are gone when the machine restarts",
        )),
        0x6969 => Some(("NFS", elsewhere)),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Some(("a Windows share", elsewhere)),
        0x0102_1997 => Some(("a 9p share", elsewhere)),
        0x6573_5546 => Some(("FUSE", "whether it syncs depends on the program behind it")),
        0x4d44 => Some((
            "FAT",
            "it knows no permissions, so every user can read the keys",
        )),
        _ => None,
    }
}
