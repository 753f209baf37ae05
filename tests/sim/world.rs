//! The world: sites with their machines, and what happens to all of them at once.
//!
//! `run` lets the sites run side by side, by as many threads as there are (`crew`), for as long as nothing of one can reach
//! another; then it carries what goes between them. Faults, starts and looks at what must be true are `Affair`s of the
//! whole world: while one goes on no site runs. One seed makes everything, and the same seed twice gives the same events,
//! however many threads there are.
//! Absent: what happens within a site (`site`), the faults (`mischief`), what must be true (`check`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use outlast_store::{LogId, SimDisk};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::board::{Notice, Register};
use crate::case::Case;
use crate::check::{Broken, Figures, Watch};
use crate::crew::Hold;
use crate::machine::{Machine, Roster};
use crate::network::{BETWEEN_SITES, Network, SITES, Tally};
use crate::run::say;
use crate::site::{HASH_BEGIN, Logged, Site, Started, hashed, site_of};
use crate::time::{Calendar, Moment};
use crate::truth::Truth;

/// From so many machines on a run takes long enough to say how far it is, and to be helped with.
pub(crate) const SLOW: u32 = 500;
/// A disk without room for a schema is tried again.
const START_AGAIN: Duration = Duration::from_secs(5);

/// Something that is due for the whole world.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Affair {
    /// A process starts.
    Start(u32),
    /// A fault begins.
    Begin(usize),
    End(usize),
    /// The invariants are looked at.
    Look,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) case: Arc<Case>,
    pub(crate) now: Moment,
    base: Instant,
    pub(crate) rng: ChaCha8Rng,
    affairs: Calendar<Affair>,
    pub(crate) sites: Vec<Site>,
    pub(crate) register: Arc<Register>,
    pub(crate) truth: Arc<Truth>,
    pub(crate) watch: Watch,
    /// By number of the fault: disks as they were when it began.
    pub(crate) images: BTreeMap<usize, SimDisk>,
    /// By number of the fault: the machine it made.
    pub(crate) made: BTreeMap<usize, u32>,
    pub(crate) broken: Option<Broken>,
    hash: u64,
    log: Vec<Logged>,
}

impl World {
    pub(crate) fn new(case: Case) -> Self {
        let (case, base) = (Arc::new(case), Instant::now());
        let truth = Arc::new(Truth::default());
        let site = |number| Site::new(number, &case, &truth, base);
        let mut world = Self {
            now: Moment::default(),
            base,
            rng: ChaCha8Rng::seed_from_u64(case.seed),
            affairs: Calendar::new(),
            sites: (0..SITES).map(site).collect(),
            register: Arc::default(),
            truth: Arc::clone(&truth),
            watch: Watch::default(),
            images: BTreeMap::new(),
            made: BTreeMap::new(),
            broken: None,
            hash: HASH_BEGIN,
            log: Vec::new(),
            case: Arc::clone(&case),
        };
        let all: Roster = Arc::new((0..case.nodes).collect());
        for _ in 0..case.nodes {
            let who = world.new_identity();
            let disk = SimDisk::new(case.disk_bytes());
            let machine = Machine::new(who, disk, Arc::clone(&all), Moment::default());
            let m = world.add_machine(machine);
            let at = Moment::ms(world.rng.random_range(0..2_000));
            world.affairs.enter(at, Affair::Start(m));
        }
        for (number, fault) in case.story.0.iter().enumerate() {
            world.affairs.enter(fault.at, Affair::Begin(number));
            let end = Moment(fault.at.0 + fault.lasts.0);
            world.affairs.enter(end, Affair::End(number));
        }
        world.affairs.enter(Moment::secs(1), Affair::Look);
        world.meet();
        world
    }

    pub(crate) fn new_identity(&mut self) -> u32 {
        Arc::make_mut(&mut self.register).add_identity()
    }

    pub(crate) fn add_machine(&mut self, machine: Machine) -> u32 {
        let m = Arc::make_mut(&mut self.register).add_machine(machine.who);
        let notice = Arc::new(Notice::of(&machine));
        for site in &mut self.sites {
            site.network.add_machine();
            site.board.push(Arc::clone(&notice));
        }
        self.sites[site_of(m)].machines.insert(m, machine);
        m
    }

    /// Runs the case to its end, or to the first broken invariant.
    pub(crate) fn run(mut self) -> Result<Figures, Broken> {
        let hands = self.case.hands;
        let hold = match hands {
            0 if self.case.nodes >= SLOW => Hold::open(),
            _ => Hold::closed(),
        };
        thread::scope(|scope| {
            for _ in 0..hands {
                let crew = Arc::clone(hold.crew());
                scope.spawn(move || crew.help());
            }
            // Gone when this ends, so that whoever helps doesn't wait for more.
            let hold = hold;
            self.run_with(&hold)
        })?;
        self.look_at_the_end();
        self.note_broken();
        match self.broken.take() {
            Some(broken) => Err(broken),
            None => Ok(self.figures()),
        }
    }

    fn run_with(&mut self, hold: &Hold) -> Result<(), Broken> {
        let mut end = Moment::secs(u64::from(self.case.minutes) * 60);
        loop {
            if let Some(at) = self.watch.converged.filter(|_| self.case.ends_when_equal) {
                end = end.min(at + Duration::from_secs(60));
            }
            let affair = self.affairs.next().unwrap_or(Moment::NEVER);
            let next = self.sites.iter().map(Site::next).min();
            let next = next.unwrap_or(Moment::NEVER);
            if affair.min(next) >= end {
                break;
            }
            if affair <= next {
                self.attend(end);
            } else {
                let until = (next + BETWEEN_SITES).min(affair).min(end);
                hold.run(&mut self.sites, until);
            }
            self.meet();
            self.note_broken();
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        self.be_at(end);
        Ok(())
    }

    /// Does what is due for all.
    fn attend(&mut self, end: Moment) {
        let Some((at, affair)) = self.affairs.next_before(end) else {
            return;
        };
        self.be_at(at);
        let (kind, what) = match affair {
            Affair::Start(m) => (3, u64::from(m)),
            Affair::Begin(number) => (8, number as u64),
            Affair::End(number) => (9, number as u64),
            Affair::Look => (10, 0),
        };
        let logged = [at.0, 0, kind, what];
        if self.case.logged {
            self.log.push(logged);
        }
        self.hash = hashed(self.hash, logged);
        match affair {
            Affair::Start(m) => self.start(m),
            Affair::Begin(number) => self.begin(number),
            Affair::End(number) => self.end(number),
            Affair::Look => {
                self.look();
                self.enter(at + Duration::from_secs(1), Affair::Look);
                self.tell_progress();
                if self.case.until.is_some_and(|until| Instant::now() >= until) {
                    self.breaks("there was time for it", self.case.to_string());
                }
            }
        }
    }

    fn be_at(&mut self, now: Moment) {
        self.now = now;
        for site in &mut self.sites {
            site.now = now;
        }
    }

    /// Carries what goes from site to site, and what each is to know of the others.
    pub(crate) fn meet(&mut self) {
        for from in 0..self.sites.len() {
            for to in 0..self.sites.len() {
                let post = &mut self.sites[from].out[to];
                if post.events.is_empty() {
                    continue;
                }
                let first = std::mem::replace(&mut post.first, Moment::NEVER);
                let mut events = std::mem::take(&mut post.events);
                let come = &mut self.sites[to].come;
                come.first = come.first.min(first);
                come.events.append(&mut events);
                // With the room it had.
                self.sites[from].out[to].events = events;
            }
        }
        for from in 0..self.sites.len() {
            let site = &mut self.sites[from];
            let noticed = std::mem::take(&mut site.noticed);
            let lines = std::mem::take(&mut site.busy_lines);
            for m in noticed {
                let notice = Arc::new(Notice::of(&self.sites[from].machines[m as usize]));
                for site in &mut self.sites {
                    site.board[m as usize] = Arc::clone(&notice);
                }
            }
            for m in lines {
                let free = self.sites[from].network.bulk_free(m);
                for site in &mut self.sites {
                    site.network.note_bulk(m, free);
                }
            }
        }
        for site in &mut self.sites {
            if !Arc::ptr_eq(&site.register, &self.register) {
                site.register = Arc::clone(&self.register);
            }
        }
    }

    pub(crate) fn enter(&mut self, at: Moment, affair: Affair) {
        self.affairs.enter(at, affair);
    }

    fn start(&mut self, m: u32) {
        match self.sites[site_of(m)].start(m) {
            Started::Yes => {
                self.look_what_was_lost(m);
                self.sites[site_of(m)].go_on(m);
            }
            Started::Refused => {
                self.watch.starts_refused += 1;
                self.enter(self.now + START_AGAIN, Affair::Start(m));
            }
            Started::No => {}
        }
    }

    pub(crate) fn machine(&self, m: u32) -> &Machine {
        &self.sites[site_of(m)].machines[m as usize]
    }

    /// The site and the machine, of which the others learn that something changed.
    pub(crate) fn machine_mut(&mut self, m: u32) -> &mut Machine {
        let site = &mut self.sites[site_of(m)];
        site.notice(m);
        &mut site.machines[m as usize]
    }

    pub(crate) fn count(&self) -> u32 {
        self.register.whose.len() as u32
    }

    /// All machines by their numbers.
    pub(crate) fn machines(&self) -> impl Iterator<Item = (u32, &Machine)> {
        (0..self.count()).map(|m| (m, self.machine(m)))
    }

    /// The weather and the walls, which are the same at every site.
    pub(crate) fn network(&self) -> &Network {
        &self.sites[0].network
    }

    /// Does the same to the network of every site.
    pub(crate) fn everywhere(&mut self, what: impl Fn(&mut Network)) {
        for site in &mut self.sites {
            what(&mut site.network);
        }
    }

    /// Bytes sent at all sites, by what they are.
    pub(crate) fn tally(&self) -> Tally {
        let mut all = Tally::new();
        for (what, bytes) in self.sites.iter().flat_map(|site| site.network.tally()) {
            *all.entry(*what).or_default() += bytes;
        }
        all
    }

    /// Of what takes minutes, now and then how far it is.
    fn tell_progress(&self) {
        let (secs, every) = (self.now.0 / 1_000_000, 5 * 60);
        if self.case.nodes >= SLOW && secs > 0 && secs.is_multiple_of(every) {
            let (minutes, took) = (secs / 60, self.base.elapsed().as_secs());
            say(format!(
                "      {}: {minutes} minutes of it in {took} s",
                self.case
            ));
        }
    }

    /// Remembers the first broken invariant.
    pub(crate) fn breaks(&mut self, what: &'static str, detail: String) {
        let at = self.now;
        self.broken.get_or_insert(Broken { what, at, detail });
    }

    /// The first that broke at a site, if none did before.
    fn note_broken(&mut self) {
        let broken = self.sites.iter_mut().filter_map(|site| site.broken.take());
        let first = broken.min_by_key(|broken| broken.at);
        if self.broken.is_none() {
            self.broken = first;
        }
    }

    /// A line of the story as it is told.
    pub(crate) fn tell(&self, what: &str) {
        self.sites[0].tell(what);
    }

    /// The log a machine writes to.
    pub(crate) fn running(&self, m: u32) -> Option<LogId> {
        self.machine(m).up.as_ref().map(|up| up.log)
    }

    fn figures(&mut self) -> Figures {
        let events = self.sites.iter().map(Site::entered).sum::<u64>();
        let events = events + self.affairs.entered();
        let hashes = self.sites.iter().map(|site| [site.hash, 0, 0, 0]);
        let hash = hashes.fold(self.hash, hashed);
        let logs = self.sites.iter_mut();
        let mut log = std::mem::take(&mut self.log);
        logs.for_each(|site| log.append(&mut site.log));
        let figures = self.figures_of(hash, events);
        Figures { log, ..figures }
    }
}
