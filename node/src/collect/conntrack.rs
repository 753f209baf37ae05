//! How full the table of tracked connections is, and what it dropped.
//!
//! Reads `/proc/sys/net/netfilter` and `/proc/net/stat/nf_conntrack`, which are there while the kernel tracks connections.
//! The second is root's on most machines: closed to us, its series are absent.

use std::path::Path;

use super::kept::{Buffer, Kept};
use super::scan::{hex, lines, number, words};
use super::sheet::{Family, Sheet, Spec};

const TABLE: [Spec; 2] = [
    Spec::gauge("node_nf_conntrack_entries", "", 0),
    Spec::gauge("node_nf_conntrack_entries_limit", "", 0),
];

const TITLES: [&str; 6] = [
    "found",
    "invalid",
    "insert_failed",
    "drop",
    "early_drop",
    "search_restart",
];

const STAT: [Spec; 6] = [
    Spec::counter("node_nf_conntrack_stat_found", "", 0),
    Spec::counter("node_nf_conntrack_stat_invalid", "", 0),
    Spec::counter("node_nf_conntrack_stat_insert_failed", "", 0),
    Spec::counter("node_nf_conntrack_stat_drop", "", 0),
    Spec::counter("node_nf_conntrack_stat_early_drop", "", 0),
    Spec::counter("node_nf_conntrack_stat_search_restart", "", 0),
];

#[derive(Debug)]
pub(super) struct Conntrack {
    count: Kept,
    limit: Kept,
    stat: Kept,
    table_family: Family<2>,
    stat_family: Family<6>,
}

impl Conntrack {
    pub(super) fn new(root: &Path) -> Self {
        let setting =
            |name| Kept::optional(root, &format!("proc/sys/net/netfilter/nf_conntrack_{name}"));
        Self {
            count: setting("count"),
            limit: setting("max"),
            stat: Kept::guarded(root, "proc/net/stat/nf_conntrack"),
            table_family: Family::new(TABLE),
            stat_family: Family::new(STAT),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        let setting = |text: &[u8]| number(text.trim_ascii());
        let count = self.count.read_as(buffer, setting);
        let limit = self.limit.read_as(buffer, setting);
        self.table_family.put(sheet, [count, limit]);
        let stat = parse(self.stat.read(buffer).unwrap_or_default());
        self.stat_family.put(sheet, stat);
    }
}

/// Sums over all cores, in the order of `TITLES`: a line of titles, then a line of hexadecimal numbers for each core.
pub(super) fn parse(text: &[u8]) -> [Option<u64>; TITLES.len()] {
    let mut all = lines(text);
    let titles = all.next().unwrap_or_default();
    let column = |title: &str| words(titles).position(|word| word == title.as_bytes());
    let columns = TITLES.map(column);
    let mut sums = [None; TITLES.len()];
    for line in all {
        for (sum, column) in sums.iter_mut().zip(columns) {
            let word = column.and_then(|column| words(line).nth(column));
            if let Some(value) = word.and_then(hex) {
                *sum = sum.unwrap_or(0_u64).checked_add(value);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cores_are_summed_under_their_titles() {
        let text = b"entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n\
            0000000a  00000000 00000001 00000000 00000002 00000000 00000000 00000000 00000000 00000003 00000004 00000005 00000000  00000000 00000000 00000000 00000006\n\
            0000000a  00000000 00000010 00000000 00000020 00000000 00000000 00000000 00000000 00000030 00000040 00000050 00000000  00000000 00000000 00000000 00000060\n";
        assert_eq!(parse(text), [17, 34, 51, 68, 85, 102].map(Some));
    }

    #[test]
    fn a_title_that_is_not_there_is_absent() {
        assert_eq!(
            parse(b"entries drop\n1 f\n"),
            [None, None, None, Some(15), None, None]
        );
        assert_eq!(parse(b"drop\n"), [None; 6]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            parse(&text);
        }

        #[test]
        fn any_words_are_taken(text in "((drop|found|[0-9a-f]{1,17}| ){0,8}\n){0,5}") {
            parse(text.as_bytes());
        }
    }
}
