//! What really happened: every row that was taken, under which identity, and what of it may be lost.
//!
//! Written by the sampler before anybody else sees the row. Losses are excused only when they happen: what one machine
//! lost and nobody else had at that moment.

use std::collections::BTreeMap;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use outlast_store::{IntervalSet, LogId, Origin, Row, Seq};

use crate::time::Moment;

/// The ledger of everything taken. Sites that run at once share it: each writes about its own machines, and what one reads
/// of another's was written a way between sites ago.
#[derive(Debug)]
pub(crate) struct Truth {
    /// By the first byte of the origin: so seldom two want the same.
    logs: Vec<RwLock<Logs>>,
}

type Logs = BTreeMap<LogId, Taken>;

/// One log as its origin wrote it.
#[derive(Debug)]
struct Taken {
    /// By seq, from 1: when it was taken.
    at: Vec<Moment>,
    /// By seq, from 1: a short hash of its canonical bytes.
    content: Vec<u64>,
    excused: IntervalSet,
}

impl Truth {
    /// A run begins. `false`: its identity was used before.
    #[must_use]
    pub(crate) fn begin(&self, log: LogId) -> bool {
        let taken = Taken {
            at: Vec::new(),
            content: Vec::new(),
            excused: IntervalSet::new(),
        };
        self.write(&log.origin).insert(log, taken).is_none()
    }

    /// A row was taken. `false`: not the next of its log.
    #[must_use]
    pub(crate) fn took(&self, now: Moment, row: &Row) -> bool {
        let content = short(&row.canonical());
        let mut logs = self.write(&row.log.origin);
        let Some(taken) = logs.get_mut(&row.log) else {
            return false;
        };
        let next = taken.at.len() as Seq + 1;
        taken.at.push(now);
        taken.content.push(content);
        row.seq == next
    }

    /// When a row was taken. `None`: nobody took it.
    pub(crate) fn taken_at(&self, log: &LogId, seq: Seq) -> Option<Moment> {
        let index = seq.checked_sub(1)? as usize;
        self.read(&log.origin).get(log)?.at.get(index).copied()
    }

    /// Whether a row is what its origin took. `None`: nobody took it.
    pub(crate) fn is_true(&self, row: &Row) -> Option<bool> {
        let index = row.seq.checked_sub(1)? as usize;
        let content = short(&row.canonical());
        let logs = self.read(&row.log.origin);
        let taken = logs.get(&row.log)?.content.get(index)?;
        Some(*taken == content)
    }

    /// What was lost where nobody else had it.
    pub(crate) fn excuse(&self, log: &LogId, rows: &IntervalSet) {
        if let Some(taken) = self.write(&log.origin).get_mut(log) {
            taken.excused = taken.excused.union(rows);
        }
    }

    pub(crate) fn excused(&self) -> u64 {
        self.sum(|taken| taken.excused.len())
    }

    pub(crate) fn rows(&self) -> u64 {
        self.sum(|taken| taken.at.len() as u64)
    }

    fn sum(&self, what: impl Fn(&Taken) -> u64) -> u64 {
        let of = |logs: &RwLock<Logs>| -> u64 {
            let logs = logs.read().expect("no holder of this lock panics");
            logs.values().map(&what).sum()
        };
        self.logs.iter().map(of).sum()
    }

    /// The rows of an origin's logs taken before a moment.
    pub(crate) fn before(&self, origin: &Origin, moment: Moment) -> BTreeMap<LogId, IntervalSet> {
        let logs = self.read(origin);
        let own = logs.iter().filter(|(log, _)| log.origin == *origin);
        let rows = own.map(|(log, taken)| {
            let top = taken.at.partition_point(|at| *at < moment) as Seq;
            let all: IntervalSet = (top > 0).then_some(1..=top).into_iter().collect();
            (*log, all.subtract(&taken.excused))
        });
        rows.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    fn read(&self, origin: &Origin) -> RwLockReadGuard<'_, Logs> {
        let logs = self.logs[usize::from(origin.0[0])].read();
        logs.expect("no holder of this lock panics")
    }

    fn write(&self, origin: &Origin) -> RwLockWriteGuard<'_, Logs> {
        let logs = self.logs[usize::from(origin.0[0])].write();
        logs.expect("no holder of this lock panics")
    }
}

impl Default for Truth {
    fn default() -> Self {
        let logs = (0..=u8::MAX).map(|_| RwLock::default()).collect();
        Self { logs }
    }
}

/// FNV-1a: who would bend rows on purpose isn't in this world.
fn short(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
