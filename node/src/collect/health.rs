//! How each source fared in the last tick: whether it works, what is wrong, how long it took.
//!
//! A `Round` runs one source after the other. In: what a source reports through the `Buffer`. Out: series, and a list
//! for `status` that `Sources` shares. A source that panics is switched off until the next start and says so; the others
//! go on. Ticks beyond `BUDGET` are counted.
//! Absent: logging, which happens where something fails (`kept`, `aside`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::error;

use super::kept::Buffer;
use super::sheet::{Family, Sheet, Spec};

/// What all sources together may take: beyond it the next tick is late.
const BUDGET: Duration = Duration::from_secs(1);

const SOURCE: [Spec; 2] = [
    Spec::gauge("outlast_source_ok", "", 0),
    // In whole milliseconds: most sources take a tenth of one, and two dozen numbers that never are the same twice would be
    // a good part of every row.
    Spec::gauge("outlast_source_duration_seconds", "seconds", -3),
];

const WHOLE: [Spec; 3] = [
    Spec::gauge("outlast_collect_duration_seconds", "seconds", -6),
    Spec::counter("outlast_collect_overruns_total", "", 0),
    Spec::gauge("outlast_series_refused", "", 0),
];

/// Why a source has no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The machine has no such thing: neither good nor bad.
    Lacks,
    /// It is there and can't be read, or makes no sense.
    Failed(String),
}

/// What a source says of its last reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The gravest fault, where there was one.
    pub(super) fault: Option<Fault>,
    /// How long it took where it wasn't the tick that read.
    pub(super) took: Option<Duration>,
    /// Its first measurement isn't there yet.
    pub(super) pending: bool,
}

/// One source as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// Its name, as in the label `source`.
    pub name: &'static str,
    /// What is wrong with it. `None`: nothing.
    pub error: Option<String>,
    /// How long its last reading took.
    pub took: Duration,
}

/// The sources this machine has, as of the last tick; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sources(Arc<Mutex<Vec<SourceState>>>);

impl Sources {
    /// Each source that has something to read here, in the order in which they are read.
    #[must_use]
    pub fn list(&self) -> Vec<SourceState> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What is known of all sources.
#[derive(Debug)]
pub(super) struct Health {
    sources: Sources,
    /// Of this tick, until it is over.
    states: Vec<SourceState>,
    /// Names of those that panicked.
    off: Vec<&'static str>,
    source: Family<2>,
    whole: Family<3>,
    overruns: u64,
    /// How many sources have yet to find anything.
    pub(super) pending: usize,
}

/// One tick's run through the sources.
pub(super) struct Round<'a> {
    pub(super) sheet: &'a mut Sheet,
    pub(super) buffer: &'a mut Buffer,
    pub(super) health: &'a mut Health,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            sources: Sources::default(),
            states: Vec::new(),
            off: Vec::new(),
            source: Family::new(SOURCE),
            whole: Family::new(WHOLE),
            overruns: 0,
            pending: 0,
        }
    }

    pub(super) fn sources(&self) -> Sources {
        self.sources.clone()
    }

    fn note(&mut self, sheet: &mut Sheet, state: SourceState) {
        let labels = [("source", state.name)];
        if let Some([ok, duration]) = self.source.slots(sheet, state.name, &labels) {
            sheet.set(ok, i64::from(state.error.is_none()));
            sheet.set(duration, state.took.as_millis());
        }
        self.states.push(state);
    }

    fn finish(&mut self, sheet: &mut Sheet, took: Duration) {
        self.overruns += u64::from(took > BUDGET);
        if let Some([duration, overruns, refused]) = self.whole.only(sheet) {
            sheet.set(duration, took.as_micros());
            sheet.set(overruns, self.overruns);
            sheet.set(refused, sheet.refused());
        }
        let mut shown = self
            .sources
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *shown, &mut self.states);
        drop(shown);
        self.states.clear();
    }
}

impl Round<'_> {
    /// Runs one source and notes how it fared.
    pub(super) fn run(&mut self, name: &'static str, tick: impl FnOnce(&mut Sheet, &mut Buffer)) {
        let began = Instant::now();
        let Report {
            mut fault,
            took,
            pending,
        } = if self.health.off.contains(&name) {
            Report::default()
        } else {
            let (sheet, buffer) = (&mut *self.sheet, &mut *self.buffer);
            let ran = catch_unwind(AssertUnwindSafe(|| tick(sheet, buffer)));
            if ran.is_err() {
                error!(source = name, "a source panicked and is off");
                self.health.off.push(name);
            }
            self.buffer.take_report()
        };
        if self.health.off.contains(&name) {
            fault = Some(Fault::Failed("it panicked and is off".to_owned()));
        }
        self.health.pending += usize::from(pending);
        let error = match fault {
            None if pending => return,
            Some(Fault::Lacks) => return,
            Some(Fault::Failed(why)) => Some(why),
            None => None,
        };
        let took = took.unwrap_or_else(|| began.elapsed());
        let state = SourceState { name, error, took };
        self.health.note(self.sheet, state);
    }

    /// Ends the tick that began at `began`.
    pub(super) fn finish(self, began: Instant) {
        self.health.finish(self.sheet, began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_a_source_says_of_itself_is_shown() {
        let mut bench = Bench::new();
        let found = bench.tick(|round| {
            round.run("good", |_, _| {});
            round.run("bad", |_, buffer| {
                buffer.fail(&io::ErrorKind::PermissionDenied.into());
            });
            round.run("none", |_, buffer| buffer.lack());
            round.run("half", |_, buffer| {
                buffer.found();
                buffer.lack();
            });
            round.run("aside", |_, buffer| buffer.took(Duration::from_secs(7)));
        });
        let said = |name| found.iter().find(|state| state.name == name);
        assert_eq!(said("good").unwrap().error, None);
        assert_eq!(
            said("bad").unwrap().error.as_deref(),
            Some("permission denied")
        );
        assert_eq!(said("none"), None);
        assert_eq!(said("half").unwrap().error, None);
        assert_eq!(said("aside").unwrap().took, Duration::from_secs(7));
        let ok: Vec<_> = bench
            .values
            .iter()
            .filter(|(name, _)| name.starts_with("outlast_source_ok"))
            .map(|(_, value)| *value)
            .collect();
        assert_eq!(ok, [Some(1), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn a_fault_stays_with_its_source_and_ends_with_it() {
        let mut bench = Bench::new();
        let fail = |_: &mut Sheet, buffer: &mut Buffer| buffer.fail(&io::ErrorKind::Other.into());
        let first = bench.tick(|round| {
            round.run("a", fail);
            round.run("b", |_, _| {});
        });
        let broken: Vec<_> = first.iter().map(|state| state.error.is_some()).collect();
        assert_eq!(broken, [true, false]);
        let second = bench.tick(|round| round.run("a", |_, _| {}));
        assert_eq!((second.len(), &second[0].error), (1, &None));
    }

    #[test]
    fn of_two_faults_the_graver_is_told() {
        let mut bench = Bench::new();
        let found = bench.tick(|round| {
            round.run("a", |_, buffer| {
                buffer.lack();
                buffer.fail(&io::ErrorKind::TimedOut.into());
                buffer.lack();
            });
        });
        assert_eq!(found[0].error.as_deref(), Some("timed out"));
    }

    #[test]
    fn a_source_that_panics_is_off_and_the_others_go_on() {
        let mut bench = Bench::new();
        let mut runs = 0;
        for _ in 0..3 {
            let found = bench.tick(|round| {
                round.run("a", |_, _| {
                    runs += 1;
                    panic!("a source of a test");
                });
                round.run("b", |_, _| {});
            });
            assert_eq!(found[0].error.as_deref(), Some("it panicked and is off"));
            assert_eq!(found[1].error, None);
        }
        assert_eq!(runs, 1);
    }

    #[test]
    fn only_what_exceeds_the_second_counts_as_an_overrun() {
        let mut bench = Bench::new();
        for (millis, overruns) in [(999, 0), (1_000, 0), (1_001, 1), (2, 1), (5_000, 2)] {
            bench.sheet.begin(Instant::now());
            let took = Duration::from_millis(millis);
            bench.health.finish(&mut bench.sheet, took);
            bench.sheet.finish();
            assert_eq!(bench.health.overruns, overruns, "after {took:?}");
        }
    }

    /// A sheet, a buffer and the health over them.
    struct Bench {
        sheet: Sheet,
        buffer: Buffer,
        health: Health,
        values: Vec<(String, Option<i64>)>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                sheet: Sheet::new(Instant::now()),
                buffer: Buffer::new(),
                health: Health::new(),
                values: Vec::new(),
            }
        }

        fn tick(&mut self, run: impl FnOnce(&mut Round<'_>)) -> Vec<SourceState> {
            let now = Instant::now();
            self.sheet.begin(now);
            let mut round = Round {
                sheet: &mut self.sheet,
                buffer: &mut self.buffer,
                health: &mut self.health,
            };
            run(&mut round);
            round.finish(now);
            let tick = self.sheet.finish();
            let names = tick.appended.iter().map(ToString::to_string);
            self.values = names.zip(tick.values).collect();
            self.health.sources().list()
        }
    }
}
