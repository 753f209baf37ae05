//! Windows whose contents two holders compare now and then.
//!
//! Interval sets say that both hold a row, not that they hold the same one. An origin whose key was copied signs two
//! contents under one identity, and each half of a mesh may have got another: its seals tell them apart.
//! At most `WINDOWS` in one comparison, half of them the newest of a log.
//! Absent: asking, and what follows from a difference (`flow::core`).

use std::ops::RangeInclusive;

use outlast_store::{LogId, Origin, Seq, window_of};
use rand::Rng as _;

use super::Replica;

/// 155 B each in the answer.
const WINDOWS: usize = 16;

impl Replica {
    /// Complete windows that `peer` and this node both hold, each by log and first row; none where bytes cost money.
    pub fn windows_to_compare(&mut self, peer: &Origin) -> Vec<(LogId, Seq)> {
        if self.roster.is_metered(peer) || self.roster.is_metered(&self.me) {
            return Vec::new();
        }
        let Some(known) = self.peers.get(peer) else {
            return Vec::new();
        };
        let held = self.holdings.held();
        let both = known.logs.iter();
        let both = both.filter_map(|(log, theirs)| {
            let rows = held.get(log)?.intersect(&theirs.held);
            let windows: Vec<_> = rows.ranges().filter_map(complete).collect();
            (!windows.is_empty()).then_some((*log, windows))
        });
        let both: Vec<(LogId, Vec<RangeInclusive<Seq>>)> = both.collect();
        if both.is_empty() {
            return Vec::new();
        }
        let mut windows: Vec<(LogId, Seq)> = Vec::new();
        for number in 0..WINDOWS {
            let (log, runs) = &both[self.rng.random_range(0..both.len())];
            let run = if number % 2 == 0 {
                runs.len() - 1
            } else {
                self.rng.random_range(0..runs.len())
            };
            let (first, last) = (*runs[run].start(), *runs[run].end());
            let count = (last - first) / 60 + 1;
            let nth = if number % 2 == 0 {
                count - 1
            } else {
                self.rng.random_range(0..count)
            };
            windows.push((*log, first + nth * 60));
        }
        windows.sort_unstable();
        windows.dedup();
        windows
    }
}

/// The complete windows of a run, by the first rows of the first and the last of them.
fn complete(run: RangeInclusive<Seq>) -> Option<RangeInclusive<Seq>> {
    let (first, last) = run.into_inner();
    let window = window_of(first.max(1));
    let from = if *window.start() == first {
        first
    } else {
        window.end().checked_add(1)?
    };
    let end = window_of(last);
    let to = if *end.end() == last {
        *end.start()
    } else {
        end.start().checked_sub(60)?
    };
    (from <= to).then_some(from..=to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_windows_are_compared() {
        let table = [
            (1..=59, None),
            (1..=60, Some(1..=1)),
            (2..=119, None),
            (2..=120, Some(61..=61)),
            (1..=200, Some(1..=121)),
            (u32::MAX - 10..=u32::MAX, None),
        ];
        for (run, windows) in table {
            assert_eq!(complete(run.clone()), windows, "{run:?}");
        }
    }
}
