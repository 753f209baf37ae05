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

/// The task's end of the thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    results: mpsc::Receiver<io::Result<()>>,
    busy: bool,
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
            unwritten: Vec::new(),
            under_way: Vec::new(),
        })
    }

    /// Whether something is being written, so that nothing that rests on it may leave.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether something could not be written.
    pub(super) fn is_behind(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Writes statements and what could not be written before. Only while not busy.
    pub(super) fn append(&mut self, mut statements: Vec<Statement>) {
        self.under_way = std::mem::take(&mut self.unwritten);
        self.under_way.append(&mut statements);
        if !self.under_way.is_empty() {
            self.begin(Job::Append(self.under_way.clone()));
        }
    }

    /// Lets the journal shrink if it has grown a lot. Only while not busy.
    pub(super) fn compact(&mut self, statements: &Statements) {
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
            self.unwritten = under_way;
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
