//! What is remembered of rows that went or were lost, by reason.
//!
//! Absent: the file of it (`retain`).

use std::collections::BTreeMap;

use super::{MAX_EMPTY_LOGS, State};
use crate::interval::IntervalSet;
use crate::key::gone::Reason;
use crate::sample::{LogId, Origin};

impl State {
    /// Remembers that rows went and why.
    pub(crate) fn went(&mut self, went: &BTreeMap<LogId, IntervalSet>) {
        for (log, rows) in went {
            let log = self.logs.entry(*log).or_default();
            // One that came again while its generation went is held.
            let rows = rows.subtract(&log.held);
            rows.ranges().for_each(|range| log.gone.insert(range));
            self.went_rows += rows.len();
        }
    }

    /// Remembers rows that were lost here, those of them that aren't held all the same; the writer's next turn notes them.
    pub(crate) fn lose(&mut self, id: LogId, rows: &IntervalSet, reason: Reason) {
        let log = self.logs.entry(id).or_default();
        let rows = rows.subtract(&log.held).subtract(&log.gone);
        let rows = log
            .lost
            .values()
            .fold(rows, |rows, lost| rows.subtract(lost));
        if rows.is_empty() {
            return;
        }
        let unnoted = self.unnoted.entry((id, reason)).or_default();
        let lost = log.lost.entry(reason).or_default();
        for range in rows.ranges() {
            unnoted.insert(range.clone());
            lost.insert(range);
        }
    }

    /// Rows that are gone, by reason.
    pub(crate) fn gone_rows(&self) -> BTreeMap<Reason, u64> {
        let mut rows = BTreeMap::new();
        for (reason, lost) in self.logs.values().flat_map(|log| &log.lost) {
            *rows.entry(*reason).or_default() += lost.len();
        }
        if self.went_rows > 0 {
            rows.insert(Reason::Budget, self.went_rows);
        }
        rows
    }

    /// Rows that went or were lost, by log and reason.
    pub(crate) fn gone_by_log(&self) -> BTreeMap<(LogId, Reason), IntervalSet> {
        let mut all = BTreeMap::new();
        for (id, log) in &self.logs {
            let lost = log.lost.iter().map(|(reason, rows)| (*reason, rows));
            for (reason, rows) in lost.chain([(Reason::Budget, &log.gone)]) {
                if !rows.is_empty() {
                    all.insert((*id, reason), rows.clone());
                }
            }
        }
        all
    }

    /// Forgets the first of too many logs of which nothing is left.
    pub(crate) fn forget_empty_logs(&mut self) {
        let mut empty: BTreeMap<Origin, Vec<LogId>> = BTreeMap::new();
        for (id, log) in &self.logs {
            if log.held.is_empty() && log.rolled.iter().next().is_none() {
                empty.entry(id.origin).or_default().push(*id);
            }
        }
        for (_, logs) in empty {
            let over = logs.len().saturating_sub(MAX_EMPTY_LOGS);
            for id in &logs[..over] {
                let log = self.logs.remove(id);
                let went = log.map_or(0, |log| log.gone.len());
                self.went_rows = self.went_rows.saturating_sub(went);
                self.unnoted.retain(|(log, _), _| log != id);
                self.forgotten += 1;
            }
        }
    }
}
