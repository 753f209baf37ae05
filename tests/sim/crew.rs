//! Threads that run the sites of one world side by side.
//!
//! The world's own thread gives the sites out for a span of virtual time and takes them back when all have come through
//! it; whoever helps takes some of them. What a site does depends on nothing outside it meanwhile, so the world is the
//! same however many help. Whoever has nothing else to do helps (`help_others`), and is let go when a world ends.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use crate::network::SITES;
use crate::run::{errors, last_words};
use crate::site::Site;
use crate::time::Moment;

/// So often somebody who waits looks before he lets others have the core.
const LOOKS: u32 = 3_000;

/// Worlds that somebody could help with.
static WORLDS: Mutex<Vec<Arc<Crew>>> = Mutex::new(Vec::new());

/// The sites of one world while they run.
pub(crate) struct Crew {
    slots: Vec<Slot>,
    /// The number of the span, and when it ends.
    span: AtomicU64,
    end: AtomicU64,
    done: AtomicUsize,
    over: AtomicBool,
    hands: AtomicUsize,
    errors: AtomicU64,
    /// What somebody who helped said last, before he panicked or of an error.
    words: Mutex<Option<String>>,
    panicked: AtomicBool,
}

struct Slot {
    /// In which span it was taken last.
    taken: AtomicU64,
    site: Mutex<Option<Site>>,
}

/// A world's hold on its crew: when it goes, they do.
pub(crate) struct Hold(Arc<Crew>);

impl Crew {
    fn new() -> Self {
        let slot = |_| Slot {
            taken: AtomicU64::new(0),
            site: Mutex::new(None),
        };
        Self {
            slots: (0..SITES).map(slot).collect(),
            span: AtomicU64::new(0),
            end: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            hands: AtomicUsize::new(0),
            errors: AtomicU64::new(0),
            words: Mutex::new(None),
            panicked: AtomicBool::new(false),
        }
    }

    /// Runs sites until the world is over, if there are not as many hands as sites already.
    pub(crate) fn help(&self) {
        let beside = self.hands.fetch_add(1, Ordering::AcqRel);
        let mut last = self.span.load(Ordering::Acquire);
        while beside + 1 < self.slots.len() && !self.over.load(Ordering::Acquire) {
            wait(|| self.span.load(Ordering::Acquire) != last || self.over.load(Ordering::Acquire));
            let span = self.span.load(Ordering::Acquire);
            if span != last {
                last = span;
                self.work(span, self.slots.iter().rev());
            }
        }
        self.hands.fetch_sub(1, Ordering::AcqRel);
    }

    fn work<'a>(&self, span: u64, slots: impl Iterator<Item = &'a Slot>) {
        for slot in slots {
            let free =
                slot.taken
                    .compare_exchange(span - 1, span, Ordering::AcqRel, Ordering::Relaxed);
            if free.is_err() {
                continue;
            }
            let end = Moment(self.end.load(Ordering::Acquire));
            let before = errors();
            let ran = panic::catch_unwind(AssertUnwindSafe(|| {
                if let Some(site) = held(&slot.site).as_mut() {
                    site.run(end);
                }
            }));
            let more = errors() - before;
            if ran.is_err() || more > 0 {
                *held(&self.words) = Some(last_words());
                self.errors.fetch_add(more.into(), Ordering::AcqRel);
                self.panicked.fetch_or(ran.is_err(), Ordering::AcqRel);
            }
            self.done.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Hold {
    /// A crew of whoever likes to help.
    pub(crate) fn open() -> Self {
        let crew = Arc::new(Crew::new());
        held(&WORLDS).push(Arc::clone(&crew));
        Self(crew)
    }

    /// Who helps by this, helps nobody else.
    pub(crate) fn crew(&self) -> &Arc<Crew> {
        &self.0
    }

    /// A crew of those who are told of it.
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Crew::new()))
    }

    /// Brings all sites to the end of a span.
    pub(crate) fn run(&self, sites: &mut Vec<Site>, end: Moment) {
        let crew = &self.0;
        if crew.hands.load(Ordering::Acquire) == 0 {
            return sites.iter_mut().for_each(|site| site.run(end));
        }
        for (slot, site) in crew.slots.iter().zip(sites.drain(..)) {
            *held(&slot.site) = Some(site);
        }
        crew.end.store(end.0, Ordering::Release);
        crew.done.store(0, Ordering::Release);
        let span = crew.span.fetch_add(1, Ordering::AcqRel) + 1;
        let before = errors();
        crew.work(span, crew.slots.iter());
        let own = errors() - before;
        wait(|| crew.done.load(Ordering::Acquire) == crew.slots.len());
        let back = crew.slots.iter().map(|slot| held(&slot.site).take());
        sites.extend(back.flatten());
        let others = crew.errors.swap(0, Ordering::AcqRel) - u64::from(own);
        let words = held(&crew.words).take();
        if crew.panicked.load(Ordering::Acquire) {
            panic!("{}", words.unwrap_or_default());
        }
        if let Some(words) = words.filter(|_| others > 0) {
            crate::run::note_error(words);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        held(&WORLDS).retain(|crew| !Arc::ptr_eq(crew, &self.0));
    }
}

/// Helps with whatever world is large enough to be helped with. `false`: there is none.
pub(crate) fn help_others() -> bool {
    let crew = held(&WORLDS).first().cloned();
    match &crew {
        Some(crew) => crew.help(),
        None => return false,
    }
    true
}

fn wait(is_so: impl Fn() -> bool) {
    let looks = Cell::new(0);
    while !is_so() {
        if looks.get() < LOOKS {
            looks.set(looks.get() + 1);
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Who panicked while a site was in his hands has said so.
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
