//! One process as the kernel writes it: `/proc/PID/stat`, and what it read and wrote: `/proc/PID/io`.

use super::super::scan::{lines, number, words};

/// The flag of threads that belong to the kernel.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What is kept of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::collect) struct Stat {
    /// The name under which it counts.
    pub(super) comm: String,
    pub(super) state: u8,
    pub(super) is_kernel: bool,
    /// User and system time, in hundredths of a second.
    pub(super) cpu_ticks: u64,
    pub(super) threads: u64,
    /// When it began, in hundredths of a second since boot: with its number, who it is.
    pub(super) started: u64,
    pub(super) resident_pages: u64,
}

/// `None` where a text is no such line.
pub(in crate::collect) fn parse(text: &[u8]) -> Option<Stat> {
    // A name may hold spaces and brackets; no number after it does.
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = text.get(open + 1..close)?;
    let mut fields = words(&text[close + 1..]);
    let state = *fields.next()?.first()?;
    // Behind the state: ppid, pgrp, session, tty, tpgid, flags.
    let flags = fields.nth(5).and_then(number)?;
    // minflt, cminflt, majflt, cmajflt, utime, stime.
    let user = fields.nth(4).and_then(number)?;
    let system = fields.next().and_then(number)?;
    // cutime, cstime, priority, nice, threads; all but the last may be below zero.
    let threads = fields.nth(4).and_then(number)?;
    let started = fields.nth(1).and_then(number)?;
    // vsize, rss; the second was seen below zero for a moment.
    let resident_pages = fields.nth(1).and_then(number).unwrap_or(0);
    let is_kernel = flags & PF_KTHREAD != 0;
    Some(Stat {
        comm: name(comm, is_kernel),
        state,
        is_kernel,
        cpu_ticks: user.saturating_add(system),
        threads,
        started,
        resident_pages,
    })
}

/// Threads of the kernel are named for what they do at the moment, `kworker/0:1-events`: the first word counts.
fn name(comm: &[u8], is_kernel: bool) -> String {
    let text = String::from_utf8_lossy(comm.get(..64).unwrap_or(comm));
    match text.split_once(['/', ':']) {
        Some((first, _)) if is_kernel && !first.is_empty() => first.to_owned(),
        _ => text.into_owned(),
    }
}

/// Bytes that came from and went to disks.
pub(in crate::collect) fn parse_io(text: &[u8]) -> Option<[u64; 2]> {
    let value = |key: &[u8]| {
        let mut found = lines(text).filter_map(|line| line.strip_prefix(key));
        found.next().and_then(|rest| number(rest.trim_ascii()))
    };
    let read = value(b"read_bytes:")?;
    let written = value(b"write_bytes:")?;
    // What was written and thrown away before a disk saw it.
    let cancelled = value(b"cancelled_write_bytes:").unwrap_or(0);
    Some([read, written.saturating_sub(cancelled)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_line_is_read() {
        let stat = parse(include_bytes!("../../../fixtures/here/proc/1/stat")).unwrap();
        let wanted = Stat {
            comm: "process (api)".to_owned(),
            state: b'S',
            is_kernel: false,
            cpu_ticks: 54_983,
            threads: 12,
            started: 29,
            resident_pages: 5_399,
        };
        assert_eq!(stat, wanted);
    }

    #[test]
    fn threads_of_the_kernel_count_by_what_they_are_for() {
        let line = |comm: &str, flags: u32| {
            let text = format!("7 ({comm}) I 2 0 0 0 -1 {flags} 0 0 0 0 0 3 0 0 0 -20 1 0 17 0 0");
            parse(text.as_bytes()).map(|stat| stat.comm)
        };
        for (comm, name) in [
            ("kworker/0:1-events", "kworker"),
            ("ksoftirqd/1", "ksoftirqd"),
            ("irq/24-nvme0q0", "irq"),
            ("kthreadd", "kthreadd"),
            ("/odd", "/odd"),
        ] {
            assert_eq!(line(comm, 0x0020_8040).as_deref(), Some(name));
        }
    }

    #[test]
    fn names_may_hold_anything() {
        let comm = |name: &[u8]| {
            let line = [
                b"9 (",
                name,
                b") R 1 9 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 250\n",
            ];
            parse(&line.concat()).map(|stat| stat.comm)
        };
        assert_eq!(comm(b") R 1 (").as_deref(), Some(") R 1 ("));
        assert_eq!(comm(b"").as_deref(), Some(""));
        assert_eq!(comm(b"\xff\x1b").as_deref(), Some("\u{fffd}\u{1b}"));
        assert_eq!(comm(b"a/b").as_deref(), Some("a/b"));
    }

    #[test]
    fn what_was_never_written_is_not_counted_as_written() {
        let text = b"rchar: 9\nwchar: 8\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 12288\ncancelled_write_bytes: 8192\n";
        assert_eq!(parse_io(text), Some([4_096, 4_096]));
        assert_eq!(parse_io(b"read_bytes: 1\n"), None);
        assert_eq!(
            parse_io(b"read_bytes: 1\nwrite_bytes: 1\ncancelled_write_bytes: 2"),
            Some([1, 0])
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
            parse_io(&text);
        }

        #[test]
        fn any_words_are_taken(text in r"[0-9]{1,3} \([a-z()/: ]{0,8}\)?( [-0-9RSDZ]{1,22}){0,26}") {
            parse(text.as_bytes());
        }
    }
}
