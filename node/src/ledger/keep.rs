//! The thread that writes the ledger's file.
//!
//! In: events, and now and then all of them. Out: `Written`, once they are durable: one sync for whatever waited.
//! Only events of this node, which are waited for, are synced at once. Others come back from the peers, and are synced with
//! those or after `SYNC_WITHIN`: what two hundred observers say of one outage is one sync.
//! Bound: `MOST_JOBS` events wait for the disk. One more of another node isn't written, and comes back from the peers after a
//! start; one of this node is told without, see `numbers`.
//! A disk that is full or can't be written: the node goes on with what it has in memory, says so (`Keeper::trouble`), and
//! writes the file anew once it can.
//! Absent: what is in the events.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::event::{Event, Place};
use super::file::LedgerFile;

/// Events that wait for the disk.
const MOST_JOBS: usize = 1_024;
/// How long an event of another node may lie in the file without a sync.
const SYNC_WITHIN: Duration = Duration::from_secs(10);
/// Events that share one sync.
const AT_ONCE: usize = 256;
/// Bytes that the file may hold beyond twice what is held.
const SLACK: u64 = 256 * 1024;
/// Between two attempts to write the file anew on a disk that refused.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Job {
    /// An event, and whether it is waited for.
    Append(Event, bool),
    Rewrite(Vec<Event>),
}

/// What the thread has done: these need not be waited for any more.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) places: Vec<Place>,
}

/// How the file is.
#[derive(Debug, Default)]
struct Condition {
    /// What is wrong, in a sentence.
    trouble: Option<String>,
    /// When that was found last.
    refused_at: Option<Instant>,
    len: u64,
    /// Whether it is being written anew.
    rewriting: bool,
}

/// The near end: given events, it never waits.
#[derive(Debug)]
pub(crate) struct Keeper {
    jobs: SyncSender<Job>,
    condition: Arc<Mutex<Condition>>,
}

/// The far end, to be run on a thread of its own.
#[derive(Debug)]
pub(crate) struct Scribe {
    path: PathBuf,
    file: Option<LedgerFile>,
    jobs: Receiver<Job>,
    condition: Arc<Mutex<Condition>>,
    /// Since when something lies there without a sync.
    unsynced: Option<Instant>,
}

/// Opens the file; what it held comes along. A file that can't be opened is trouble, and no reason not to start.
pub(crate) fn open(path: &Path) -> (Keeper, Scribe, Vec<Event>) {
    let (jobs_in, jobs) = sync_channel(MOST_JOBS);
    let condition = Arc::<Mutex<Condition>>::default();
    let keeper = Keeper {
        jobs: jobs_in,
        condition: Arc::clone(&condition),
    };
    let (file, events) = match LedgerFile::open(path) {
        Ok((file, events)) => (Some(file), events),
        Err(error) => {
            note(&condition, path, &error);
            (None, Vec::new())
        }
    };
    let scribe = Scribe {
        path: path.to_owned(),
        file,
        jobs,
        condition,
        unsynced: None,
    };
    scribe.measure();
    (keeper, scribe, events)
}

impl Keeper {
    /// Has an event written, and synced at once where it is `awaited`; false where too many wait.
    pub(crate) fn append(&self, event: Event, awaited: bool) -> bool {
        !matches!(
            self.jobs.try_send(Job::Append(event, awaited)),
            Err(TrySendError::Full(_))
        )
    }

    /// Whether the file should be written anew: it holds too much that isn't held any more, or lacks what couldn't be written.
    pub(crate) fn wants_all(&self, held_bytes: u64, now: Instant) -> bool {
        let condition = lock(&self.condition);
        let too_long = condition.len > 2 * held_bytes + SLACK;
        let rested = condition.refused_at.is_none_or(|at| now >= at + RETRY);
        !condition.rewriting && rested && (too_long || condition.trouble.is_some())
    }

    /// Has the file written anew with these.
    pub(crate) fn rewrite(&self, events: Vec<Event>) {
        // Before it is handed over: the thread says when it is done, which may be at once.
        lock(&self.condition).rewriting = true;
        if self.jobs.try_send(Job::Rewrite(events)).is_err() {
            lock(&self.condition).rewriting = false;
        }
    }

    /// What is wrong with the file, as a sentence.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.condition).trouble.clone()
    }
}

impl Scribe {
    /// Writes until every keeper is gone.
    pub(crate) fn run(mut self, written: &UnboundedSender<Written>) {
        loop {
            let job = match self.next() {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.sync();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            };
            let (mut events, mut all, mut now) = (Vec::new(), None, false);
            let more = std::iter::from_fn(|| self.jobs.try_recv().ok());
            for job in std::iter::once(job).chain(more.take(AT_ONCE)) {
                match job {
                    Job::Append(event, awaited) => {
                        now |= awaited;
                        events.push(event);
                    }
                    Job::Rewrite(events) => {
                        all = Some(events);
                    }
                }
            }
            let places = events.iter().map(Event::place).collect();
            self.write(&events, all);
            let late = self
                .unsynced
                .is_some_and(|since| since.elapsed() >= SYNC_WITHIN);
            if now || late {
                self.sync();
            }
            // Nobody waits any more once the node stops.
            let _ = written.send(Written { places });
        }
    }

    /// The next job; none comes in time where something waits for a sync.
    fn next(&self) -> Result<Job, RecvTimeoutError> {
        match self.unsynced {
            Some(since) => self
                .jobs
                .recv_timeout(SYNC_WITHIN.saturating_sub(since.elapsed())),
            None => self.jobs.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn sync(&mut self) {
        if self.unsynced.take().is_some()
            && let Some(file) = &self.file
            && let Err(error) = file.sync()
        {
            note(&self.condition, &self.path, &error);
        }
    }

    fn write(&mut self, events: &[Event], all: Option<Vec<Event>>) {
        let troubled = lock(&self.condition).trouble.is_some();
        let rewriting = all.is_some();
        let done = match (&mut self.file, all) {
            // What came before it is in it, and what came after it may be twice.
            (Some(file), Some(all)) => file.rewrite(all.iter().chain(events)),
            (None, Some(all)) => LedgerFile::open(&self.path).and_then(|(mut file, _)| {
                file.rewrite(all.iter().chain(events))?;
                self.file = Some(file);
                Ok(())
            }),
            (Some(file), None) if !troubled => file.append(events.iter()),
            // It lacks something already: it is written anew before anything is added.
            _ => return,
        };
        match done {
            Ok(()) if rewriting => {
                let mut condition = lock(&self.condition);
                condition.refused_at = None;
                if condition.trouble.take().is_some() {
                    tracing::info!("the ledger is on disk again");
                }
            }
            Ok(()) => {
                self.unsynced.get_or_insert_with(Instant::now);
            }
            Err(error) => note(&self.condition, &self.path, &error),
        }
        if rewriting {
            lock(&self.condition).rewriting = false;
        }
        self.measure();
    }

    fn measure(&self) {
        let len = self.file.as_ref().map_or(0, LedgerFile::len);
        lock(&self.condition).len = len;
    }
}

fn note(condition: &Mutex<Condition>, path: &Path, error: &std::io::Error) {
    let mut condition = lock(condition);
    if condition.trouble.is_none() {
        tracing::warn!(path = %path.display(), %error, "the ledger is kept in memory only");
    }
    condition.refused_at = Some(Instant::now());
    condition.trouble = Some(format!(
        "what happened is kept in memory only, and lost here at the next start: write {}: {error}",
        path.display()
    ));
}

fn lock(condition: &Mutex<Condition>) -> std::sync::MutexGuard<'_, Condition> {
    condition.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use outlast_mesh::NodeId;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn event(seq: u64, len: usize) -> Event {
        Event {
            author: NodeId([3; 32]),
            seq,
            wall_ms: 1,
            flags: 0,
            kind: 1,
            body: Bytes::from(vec![0; len]),
            signature: [9; 64],
        }
    }

    /// What the thread says of these, and what is found at the next start.
    fn kept(path: &Path, give: impl FnOnce(&Keeper)) -> (Vec<u64>, Vec<u64>, Option<String>) {
        let (keeper, scribe, _) = open(path);
        let (written_in, mut written) = unbounded_channel();
        let condition = Arc::clone(&keeper.condition);
        give(&keeper);
        drop(keeper);
        scribe.run(&written_in);
        let mut places = Vec::new();
        while let Ok(done) = written.try_recv() {
            places.extend(done.places.into_iter().map(|(_, seq)| seq));
        }
        let trouble = lock(&condition).trouble.clone();
        let found = LedgerFile::open(path).map_or_else(|_| Vec::new(), |(_, events)| events);
        (
            places,
            found.iter().map(|event| event.seq).collect(),
            trouble,
        )
    }

    #[test]
    fn what_is_said_to_be_written_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let give = |keeper: &Keeper| {
            (1..=300).for_each(|seq| assert!(keeper.append(event(seq, 10), seq % 2 == 0)))
        };
        let (said, found, trouble) = kept(&path, give);
        assert_eq!(said, (1..=300).collect::<Vec<_>>());
        assert_eq!((found, trouble), (said, None));
    }

    #[test]
    fn a_directory_that_is_gone_is_said_and_the_file_written_once_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/ledger");
        let (said, found, trouble) = kept(&path, |keeper| {
            assert!(keeper.append(event(1, 10), true));
            let now = Instant::now();
            assert!(!keeper.wants_all(0, now) && keeper.wants_all(0, now + RETRY));
        });
        assert_eq!((said, found), (vec![1], vec![]));
        assert!(
            trouble
                .unwrap()
                .starts_with("what happened is kept in memory only")
        );
        let (_, found, trouble) = kept(&path, |keeper| {
            std::fs::create_dir(dir.path().join("state")).unwrap();
            assert!(keeper.append(event(1, 10), true));
            keeper.rewrite(vec![event(1, 10), event(2, 10)]);
            let later = Instant::now() + RETRY;
            assert!(!keeper.wants_all(0, later), "it is being written");
        });
        found.iter().for_each(|seq| assert!([1, 2].contains(seq)));
        assert_eq!(
            (found.len(), trouble),
            (3, None),
            "the one that came along may be twice"
        );
    }

    #[test]
    fn a_file_that_holds_too_much_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        kept(&path, |keeper| {
            (1..=400).for_each(|seq| assert!(keeper.append(event(seq, 900), false)));
        });
        let (keeper, ..) = open(&path);
        let now = Instant::now();
        assert!(keeper.wants_all(10_000, now) && !keeper.wants_all(400_000, now));
    }

    #[test]
    fn a_queue_that_is_full_says_so_and_waits_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, _scribe, _) = open(&dir.path().join("ledger"));
        let taken = (1..2_000).take_while(|seq| keeper.append(event(*seq, 1), true));
        assert_eq!(taken.count(), MOST_JOBS);
    }
}
