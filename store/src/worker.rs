//! The one thread that touches engines, under a deadline for each piece of work, and replaced when it hangs.
//!
//! Absent: what the work is (`shelf`, `writer`); giving up what it was done to.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::disk::Disk;
use crate::shelf::locked;

/// One thread, because each thread has a heap of its own: with a thread per call what sled leaves lying about in each of them
/// came to three times the memory.
/// Over a simulated disk, where nothing hangs, the caller's thread does the work.
#[derive(Debug)]
pub(crate) struct Worker {
    inline: bool,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Worker {
    pub(crate) fn new(disk: &Disk) -> Self {
        Self {
            inline: matches!(disk, Disk::Simulated(_)),
            jobs: Mutex::default(),
        }
    }

    /// Runs `work` there once earlier work is done; leaves thread and work behind when it takes longer than `deadline`.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        if self.inline {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            return outcome.map_err(|_panic| format!("{what}: panic"));
        }
        let mut worker = locked(&self.jobs);
        let (answer, answered) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // A receiver that gave up drops what comes late.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
        });
        let jobs = match worker.take() {
            Some(jobs) => jobs,
            None => start().map_err(|e| format!("{what}: no thread: {e}"))?,
        };
        jobs.send(job)
            .map_err(|_ended| format!("{what}: the thread has ended"))?;
        match answered.recv_timeout(deadline) {
            Ok(outcome) => {
                *worker = Some(jobs);
                outcome.map_err(|_panic| format!("{what}: panic"))
            }
            Err(_) => Err(format!("{what}: no answer within {} s", deadline.as_secs())),
        }
    }
}

fn start() -> io::Result<mpsc::Sender<Job>> {
    let (jobs, todo) = mpsc::channel::<Job>();
    let thread = thread::Builder::new().name("store-engine".to_owned());
    thread.spawn(move || todo.into_iter().for_each(|job| job()))?;
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_hangs_or_panics_is_left_behind_and_the_next_is_done() {
        let worker = Worker::new(&Disk::Real);
        let long = Duration::from_secs(60);
        let hung = worker.within("read", Duration::from_millis(10), thread::park);
        assert_eq!(hung, Err("read: no answer within 0 s".to_owned()));
        let panicked = worker.within("read", long, || panic!("on purpose"));
        assert_eq!(panicked, Err::<(), _>("read: panic".to_owned()));
        assert_eq!(worker.within("read", long, || 7), Ok(7));
    }
}
