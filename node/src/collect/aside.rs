//! A measurement on a thread of its own, for sources that are slow or may hang for ever.
//!
//! The tick takes the last finding, which stands for the time until the next one is due and `GRACE` more; then it is
//! absent. One thread each, so that a disk that never answers costs its own values alone. The thread sleeps between two
//! measurements and ends when its `Aside` is dropped, or with the process where it hangs.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::kept::{Buffer, is_lack};

/// What a measurement may be late before the one before it is absent.
const GRACE: Duration = Duration::from_millis(1_500);

/// A thread that measures again and again.
#[derive(Debug)]
pub(super) struct Aside<T> {
    name: &'static str,
    last: Arc<Mutex<Last<T>>>,
    /// The thread ends when this is dropped.
    _running: mpsc::Sender<()>,
}

/// What a measurement came to, and when the next one is wanted.
#[derive(Debug)]
pub(super) struct Measured<T> {
    /// `NotFound` means that the machine has no such thing.
    pub(super) found: io::Result<T>,
    pub(super) again: Duration,
}

#[derive(Debug)]
struct Last<T> {
    found: Option<Result<Arc<T>, Failure>>,
    took: Duration,
    /// When it was there, and when it is too old.
    at: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Failure {
    lacks: bool,
    error: String,
}

impl<T: Send + Sync + 'static> Aside<T> {
    /// Starts measuring at once.
    pub(super) fn start(
        name: &'static str,
        mut measure: impl FnMut() -> Measured<T> + Send + 'static,
    ) -> Self {
        let (running, stop) = mpsc::channel();
        let last = Arc::new(Mutex::new(Last::nothing(Instant::now())));
        let shared = Arc::clone(&last);
        let work = move || measure_until(&stop, name, &mut measure, &shared);
        if let Err(error) = Builder::new().name(name.into()).spawn(work) {
            warn!(source = name, %error, "a source has no thread, its values are absent");
        }
        Self {
            name,
            last,
            _running: running,
        }
    }

    /// As `start`, each `period` after the last one has ended.
    pub(super) fn each(
        name: &'static str,
        period: Duration,
        mut measure: impl FnMut() -> io::Result<T> + Send + 'static,
    ) -> Self {
        Self::start(name, move || Measured {
            found: measure(),
            again: period,
        })
    }

    /// The last finding, unless it is too old. What went wrong is reported.
    pub(super) fn latest(&self, buffer: &mut Buffer, now: Instant) -> Option<Arc<T>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.took(last.took);
        if now >= last.until {
            let since = now.saturating_duration_since(last.at).as_secs();
            buffer.fail(&io::Error::other(format!(
                "{} has not answered for {since} s",
                self.name
            )));
            return None;
        }
        let Some(found) = &last.found else {
            buffer.pend();
            return None;
        };
        match found {
            Ok(found) => {
                buffer.found();
                Some(Arc::clone(found))
            }
            Err(failure) if failure.lacks => {
                buffer.lack();
                None
            }
            Err(failure) => {
                buffer.fail(&io::Error::other(failure.error.clone()));
                None
            }
        }
    }

    /// One that found `value` at `at` and never measures again.
    #[cfg(test)]
    pub(super) fn holding(value: T, at: Instant, again: Duration) -> Self {
        let mut last = Last::nothing(at);
        last.put(Ok(value), at, Duration::ZERO, again);
        Self {
            name: "test",
            last: Arc::new(Mutex::new(last)),
            _running: mpsc::channel().0,
        }
    }
}

impl<T> Last<T> {
    /// The first measurement may take as long as any to be late.
    fn nothing(now: Instant) -> Self {
        Self {
            found: None,
            took: Duration::ZERO,
            at: now,
            until: now + Duration::from_secs(10) + GRACE,
        }
    }

    fn put(&mut self, found: io::Result<T>, now: Instant, took: Duration, again: Duration) {
        self.found = Some(found.map(Arc::new).map_err(|error| Failure {
            lacks: is_lack(&error),
            error: error.to_string(),
        }));
        self.took = took;
        self.at = now;
        // The next one is allowed what this one needed.
        self.until = now + again + took + GRACE;
    }
}

fn measure_until<T>(
    stop: &mpsc::Receiver<()>,
    name: &'static str,
    measure: &mut impl FnMut() -> Measured<T>,
    last: &Mutex<Last<T>>,
) {
    let mut failing = false;
    loop {
        let began = Instant::now();
        let Measured { found, again } = measure();
        let now = Instant::now();
        match &found {
            Err(error) if !is_lack(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(source = name, %error, "a source can't be read, its values are absent");
                }
            }
            _ => {
                if std::mem::take(&mut failing) {
                    info!(source = name, "a source can be read again");
                }
            }
        }
        last.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(found, now, now - began, again);
        if stop.recv_timeout(again) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::health::Fault;
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    #[test]
    fn a_finding_stands_until_the_next_is_overdue() {
        let start = Instant::now();
        let aside = Aside::holding(7, start, PERIOD);
        let at = |millis| {
            let mut buffer = Buffer::new();
            let found = aside.latest(&mut buffer, start + Duration::from_millis(millis));
            (found.map(|found| *found), buffer.take_report().fault)
        };
        assert_eq!(at(0), (Some(7), None));
        assert_eq!(at(11_499), (Some(7), None));
        let late = Fault::Failed("test has not answered for 11 s".to_owned());
        assert_eq!(at(11_500), (None, Some(late)));
    }

    #[test]
    fn a_slow_measurement_is_given_the_time_it_took_before() {
        let start = Instant::now();
        let mut last = Last::nothing(start);
        last.put(Ok(7), start, Duration::from_secs(3), PERIOD);
        assert_eq!(last.until - start, PERIOD + Duration::from_secs(3) + GRACE);
    }

    #[test]
    fn what_is_not_there_is_lacking_and_what_fails_says_why() {
        let start = Instant::now();
        let aside = Aside::holding((), start, PERIOD);
        let told = |error: io::Error| {
            let mut last = aside.last.lock().unwrap();
            last.put(Err(error), start, Duration::ZERO, PERIOD);
            drop(last);
            let mut buffer = Buffer::new();
            assert_eq!(aside.latest(&mut buffer, start), None);
            buffer.take_report().fault
        };
        assert_eq!(told(io::ErrorKind::NotFound.into()), Some(Fault::Lacks));
        let why = Some(Fault::Failed("timed out".to_owned()));
        assert_eq!(told(io::ErrorKind::TimedOut.into()), why);
    }

    #[test]
    fn before_the_first_finding_nothing_is_wrong_until_it_is_overdue() {
        let start = Instant::now();
        let mut aside = Aside::<()>::holding((), start, PERIOD);
        aside.last = Arc::new(Mutex::new(Last::nothing(start)));
        let at = |millis| {
            let mut buffer = Buffer::new();
            aside.latest(&mut buffer, start + Duration::from_millis(millis));
            let report = buffer.take_report();
            (report.pending, report.fault.is_some())
        };
        assert_eq!(
            [0, 11_499, 11_500].map(at),
            [(true, false), (true, false), (false, true)]
        );
    }

    #[test]
    fn it_measures_again_and_ends_when_it_is_dropped() {
        let (count, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(()));
        let (counted, alive) = (Arc::clone(&count), Arc::downgrade(&ended));
        let aside = Aside::each("test", Duration::from_millis(1), move || {
            let _alive = &ended;
            Ok(counted.fetch_add(1, Ordering::Relaxed))
        });
        wait(|| count.load(Ordering::Relaxed) > 2);
        drop(aside);
        wait(|| alive.upgrade().is_none());
    }

    fn wait(done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "it did not happen within 20 s");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
