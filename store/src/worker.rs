//! The one thread that touches engines, under a deadline for each piece of work, and replaced when it hangs.
//!
//! What was left behind may go on when the disk answers after all, while somebody else has the same files: it asks
//! `still_wanted` before each step that lasts, and what it has in its hands is forgotten, since closing an engine writes.
//! Absent: what the work is (`shelf`, `writer`); giving up what it was done to.

use std::cell::OnceCell;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
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
    thread: Mutex<Option<Thread>>,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
struct Thread {
    jobs: mpsc::Sender<Job>,
    left: Arc<AtomicBool>,
}

thread_local! {
    /// Of a thread started here: whether it was left behind.
    static LEFT: OnceCell<Arc<AtomicBool>> = const { OnceCell::new() };
}

/// `Err` on a thread that was left behind.
pub(crate) fn still_wanted() -> io::Result<()> {
    let left = LEFT.with(|left| left.get().is_some_and(|left| left.load(Ordering::SeqCst)));
    if left {
        Err(io::Error::other("it took too long and was left behind"))
    } else {
        Ok(())
    }
}

impl Worker {
    pub(crate) fn new(disk: &Disk) -> Self {
        Self {
            inline: matches!(disk, Disk::Simulated(_)),
            thread: Mutex::default(),
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
        let mut thread = locked(&self.thread);
        // No place to wait in: an answer is either taken, or its sender has it back.
        let (answer, answered) = mpsc::sync_channel(0);
        let job: Job = Box::new(move || {
            if let Err(late) = answer.send(catch_unwind(AssertUnwindSafe(work))) {
                mem::forget(late);
            }
        });
        let Thread { jobs, left } = match thread.take() {
            Some(thread) => thread,
            None => start().map_err(|e| format!("{what}: no thread: {e}"))?,
        };
        jobs.send(job)
            .map_err(|_ended| format!("{what}: the thread has ended"))?;
        match answered.recv_timeout(deadline) {
            Ok(outcome) => {
                *thread = Some(Thread { jobs, left });
                outcome.map_err(|_panic| format!("{what}: panic"))
            }
            Err(_) => {
                left.store(true, Ordering::SeqCst);
                Err(format!("{what}: no answer within {} s", deadline.as_secs()))
            }
        }
    }
}

fn start() -> io::Result<Thread> {
    let (jobs, todo) = mpsc::channel::<Job>();
    let left = Arc::new(AtomicBool::new(false));
    let of_thread = left.clone();
    let thread = thread::Builder::new().name("store-engine".to_owned());
    thread.spawn(move || {
        LEFT.with(|left| left.set(of_thread).ok());
        todo.into_iter().for_each(|job| job());
    })?;
    Ok(Thread { jobs, left })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::engine::{Engine, relink};
    use crate::key::block::BlockKey;

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
    #[test]
    fn work_that_was_left_behind_writes_no_more_into_a_generation() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("gen-000001");
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        engine.put(b"a", b"one").unwrap();
        engine.sync().unwrap();
        engine.put(b"b", b"two").unwrap();
        engine.put_pack(&[7; BlockKey::LEN], &[7; 100_000]).unwrap();
        let worker = Worker::new(&Disk::Real);
        worker
            .within("begin", Duration::from_secs(60), || ())
            .unwrap();
        let left = locked(&worker.thread).as_ref().unwrap().left.clone();
        let (go, wait) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel();
        let hung = worker.within("write", Duration::from_millis(10), move || {
            wait.recv().ok();
            ended.send(engine.sync().map(drop)).ok();
            engine
        });
        assert_eq!(hung.err().as_deref(), Some("write: no answer within 0 s"));
        relink(&Disk::Real, &path).unwrap();
        let before = files_below(&path);
        go.send(()).unwrap();
        let ended = end.recv().unwrap();
        while Arc::strong_count(&left) > 1 {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(files_below(&path) == before, "after {ended:?}");
        assert!(ended.is_err());
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        assert_eq!(engine.get(b"a"), Ok(Some(b"one".to_vec())));
        assert_eq!(engine.get(b"b"), Ok(None));
    }

    fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(files_below(&path));
            } else {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
        files
    }
}
