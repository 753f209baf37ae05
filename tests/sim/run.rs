//! Runs cases: one, or many on as many threads as there are cores; says how each went.
//!
//! A panic of the code under test breaks its case, as does an `error!` event.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::case::Case;
use crate::check::{Broken, Figures};
use crate::crew::help_others;
use crate::shrink::shrink;
use crate::time::Moment;
use crate::world::World;

/// How long a broken case is shrunk: so many times as long as it ran, and between these bounds.
const SHRINKING: u32 = 8;
const LEAST_SHRINKING: Duration = Duration::from_secs(60);
const MOST_SHRINKING: Duration = Duration::from_secs(300);

/// Between two looks for somebody who could be helped.
const PAUSE: Duration = Duration::from_millis(20);

thread_local! {
    static ERRORS: Cell<u32> = const { Cell::new(0) };
    static LAST_WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Errors that this thread has logged since its case began, and what was said last.
pub(crate) fn errors() -> u32 {
    ERRORS.get()
}

pub(crate) fn last_words() -> String {
    LAST_WORDS.with_borrow(Clone::clone)
}

/// Somebody who helps this thread has logged an error.
pub(crate) fn note_error(words: String) {
    ERRORS.set(ERRORS.get() + 1);
    LAST_WORDS.set(words);
}

/// Runs one case to its end.
pub(crate) fn run(case: &Case) -> Result<Figures, Broken> {
    ERRORS.set(0);
    let world = || World::new(case.clone()).run();
    let ran = panic::catch_unwind(AssertUnwindSafe(world));
    let words = last_words;
    let broken = |what, detail| {
        Err(Broken {
            what,
            at: Moment::default(),
            detail,
        })
    };
    match ran {
        Err(_) => broken("nothing panics", words()),
        Ok(Ok(_)) if ERRORS.get() > 0 => broken("no error is logged", words()),
        Ok(ran) => ran,
    }
}

/// Something to be done beside others: says how it went, and whether it went well.
pub(crate) type Task = Box<dyn Fn() -> bool + Send + Sync>;

/// Does everything on as many threads as there are cores, the first ones first; who finds nothing left to begin helps with
/// what others still do. `false`: something did not go well.
pub(crate) fn run_all(tasks: &[Task]) -> bool {
    let (next, good) = (AtomicUsize::new(0), AtomicBool::new(true));
    let done = AtomicUsize::new(0);
    let work = || {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !task() {
                good.store(false, Ordering::Relaxed);
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        while done.load(Ordering::Relaxed) < tasks.len() {
            if !help_others() {
                thread::sleep(PAUSE);
            }
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..cores.min(tasks.len()) {
            scope.spawn(work);
        }
    });
    good.into_inner()
}

/// Runs one case and says how it went.
pub(crate) fn run_and_say(case: &Case) -> bool {
    let begun = Instant::now();
    match run(case) {
        Ok(figures) => {
            say(format!(
                "ok    {case}  ({:.1} s)\n      {figures}",
                begun.elapsed().as_secs_f64()
            ));
            if !figures.blames.is_empty() {
                say(format!("      accused: {:?}", figures.blames));
            }
            true
        }
        Err(broken) => {
            say(format!(
                "BROKE {case}\n      {broken}\n      again: make sim {}",
                again(case)
            ));
            let patience = (begun.elapsed() * SHRINKING).clamp(LEAST_SHRINKING, MOST_SHRINKING);
            let shrunk = Instant::now();
            let (short, broken) = shrink(case, &broken, patience);
            let path = keep(&short);
            say(format!(
                "      shortest story found in {:.0} s: {} of {} faults, {} machines, {} minutes, {broken}\n{}      again: make sim {} STORY={}",
                shrunk.elapsed().as_secs_f64(),
                short.story.0.len(),
                case.story.0.len(),
                short.nodes,
                short.minutes,
                indented(&short.story),
                again(&short),
                path.display()
            ));
            false
        }
    }
}

/// Runs a case by one thread, and once more by two, and compares the logs of events byte for byte.
pub(crate) fn run_twice(case: &Case) -> bool {
    let mut alone = case.clone();
    alone.logged = true;
    let mut helped = alone.clone();
    helped.hands = 1;
    let (Ok(first), Ok(second)) = (run(&alone), run(&helped)) else {
        return run_and_say(case);
    };
    let (one, other) = (&first.log, &second.log);
    if one == other {
        let bytes = size_of_val(&one[..]);
        say(format!(
            "twice {case}: the same {bytes} bytes of events by one thread and by two\n      {first}"
        ));
        return true;
    }
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    let at = at.unwrap_or_else(|| one.len().min(other.len()));
    let [one, other] = [one, other].map(|log| log.get(at));
    say(format!(
        "BROKE {case}: two runs differ from event {at} on: {one:?}, {other:?}\n      again: make sim {}",
        again(case)
    ));
    false
}

fn again(case: &Case) -> String {
    let (seed, nodes, minutes) = (case.seed, case.nodes, case.minutes);
    format!(
        "KIND={} SEED={seed} NODES={nodes} MINUTES={minutes}",
        case.kind.word()
    )
}

fn indented(story: &impl fmt::Display) -> String {
    let lines = story.to_string();
    lines
        .lines()
        .map(|line| format!("        {line}\n"))
        .collect()
}

/// Writes a story where it can be run again.
fn keep(case: &Case) -> PathBuf {
    let dir = std::env::temp_dir().join("outlast-sim");
    let path = dir.join(format!("{}-{}.story", case.kind.word(), case.seed));
    let text = format!("# {case}\n{}", case.story);
    // Where it can't be written it stands on the screen.
    let _ = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, text));
    path
}

pub(crate) fn say(line: impl fmt::Display) {
    // A closed pipe is no reason to stop.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Makes panics quiet and errors counted, for the whole process.
pub(crate) fn listen() {
    panic::set_hook(Box::new(|info| {
        LAST_WORDS.set(info.to_string());
    }));
    // Once: nobody else in this process listens.
    let _ = tracing::subscriber::set_global_default(Errors);
}

/// Notices `error!` events of the thread's run.
struct Errors;

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        LAST_WORDS.set(words.0);
        ERRORS.set(ERRORS.get() + 1);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
