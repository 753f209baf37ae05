//! The thread that writes statements to the journal, so that the mesh's task never waits for the
//! disk.
//!
//! One write is under way at a time; what waits behind it goes with the next. A failed write is
//! tried again with the next one and every few seconds: the mesh goes on with a full disk, and
//! says so.

use std::io;

use tokio::sync::mpsc;

use super::journal::Journal;
use crate::trust::{Statement, Statements};

/// Bytes after whose appending the journal may shrink before its hour: statements that replace or
/// crowd out each other come as fast as a member sends them.
const GROWN: usize = 16 << 20;

/// The task's end of the thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    results: mpsc::Receiver<io::Result<()>>,
    busy: bool,
    holds: bool,
    /// Bytes appended since the journal was last asked to shrink.
    appended: usize,
    unwritten: Vec<Statement>,
    under_way: Vec<Statement>,
}

#[derive(Debug)]
enum Job {
    Append(Vec<Statement>),
    Compact(Box<Statements>),
}

impl Writer {
    /// Begins the thread.
    pub(super) fn start(mut journal: Journal) -> io::Result<Self> {
        let (jobs, mut work) = mpsc::channel::<Job>(2);
        let (done, results) = mpsc::channel(2);
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                while let Some(job) = work.blocking_recv() {
                    let result = match job {
                        Job::Append(statements) => journal.append(&statements),
                        Job::Compact(statements) => journal.compact(&statements).map(|_| ()),
                    };
                    if done.blocking_send(result).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            jobs: Some(jobs),
            results,
            busy: false,
            holds: false,
            appended: 0,
            unwritten: Vec::new(),
            under_way: Vec::new(),
        })
    }

    /// Whether something is being written.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether what is being written was said here, so that nothing may leave before it is safe.
    pub(super) fn holds(&self) -> bool {
        self.busy && self.holds
    }

    /// Whether something could not be written.
    pub(super) fn is_behind(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Whether so much was appended that the journal should shrink out of turn.
    pub(super) fn has_grown(&self) -> bool {
        self.appended >= GROWN
    }

    /// Writes statements, `ours` if some were said here, and what could not be written before. Only
    /// while not busy.
    pub(super) fn append(&mut self, mut statements: Vec<Statement>, ours: bool) {
        self.holds = ours;
        self.under_way = std::mem::take(&mut self.unwritten);
        self.under_way.append(&mut statements);
        self.appended += self
            .under_way
            .iter()
            .map(Statement::encoded_len)
            .sum::<usize>();
        if !self.under_way.is_empty() {
            self.begin(Job::Append(self.under_way.clone()));
        }
    }

    /// Lets the journal shrink if it has grown a lot. Only while not busy.
    pub(super) fn compact(&mut self, statements: &Statements) {
        self.holds = false;
        self.appended = 0;
        self.begin(Job::Compact(Box::new(statements.clone())));
    }

    /// Waits for the end of the write under way.
    pub(super) async fn finished(&mut self) -> io::Result<()> {
        let result = self.results.recv().await;
        self.busy = false;
        let under_way = std::mem::take(&mut self.under_way);
        let result =
            result.unwrap_or_else(|| Err(io::Error::other("the journal's thread is gone")));
        if result.is_err() {
            self.unwritten.extend(under_way);
        }
        result
    }

    /// Waits for the write under way and ends the thread.
    pub(super) async fn close(&mut self) {
        if self.busy {
            let _reported = self.finished().await;
        }
        self.jobs = None;
    }

    fn begin(&mut self, job: Job) {
        let sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.try_send(job).is_ok());
        self.busy = sent;
        if !sent {
            self.unwritten = std::mem::take(&mut self.under_way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_was_said_here_holds_the_way_out_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _none) = Journal::open(&dir.path().join("statements.log")).unwrap();
        let mut writer = Writer::start(journal).unwrap();
        let statement = Statement {
            kind: 16,
            author: [1; 32],
            body: vec![1; 40],
            signature: [1; 64],
        };

        writer.append(vec![statement.clone()], false);
        assert_eq!((writer.is_busy(), writer.holds()), (true, false));
        writer.finished().await.unwrap();
        writer.append(vec![statement], true);
        assert_eq!((writer.is_busy(), writer.holds()), (true, true));
        writer.finished().await.unwrap();

        assert_eq!((writer.is_busy(), writer.holds()), (false, false));
    }

    #[tokio::test]
    async fn a_flood_of_statements_makes_the_journal_shrink_out_of_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("statements.log");
        let (journal, _none) = Journal::open(&path).unwrap();
        let mut writer = Writer::start(journal).unwrap();
        let statement = Statement {
            kind: 16,
            author: [1; 32],
            body: vec![1; 900],
            signature: [1; 64],
        };
        for _ in 0..17 {
            assert!(!writer.has_grown());
            writer.append(vec![statement.clone(); 1_000], false);
            writer.finished().await.unwrap();
        }
        assert!(writer.has_grown());

        // A rewriting that fails forgets nothing that still waits to be written.
        std::fs::create_dir(path.with_extension("log.new")).unwrap();
        writer.unwritten = vec![statement];
        writer.compact(&Statements::new(crate::MeshId([1; 32])));
        assert!(writer.finished().await.is_err());
        assert!(writer.is_behind());
        std::fs::remove_dir(path.with_extension("log.new")).unwrap();

        writer.compact(&Statements::new(crate::MeshId([1; 32])));
        writer.finished().await.unwrap();

        assert!(!writer.has_grown());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}
