//! The world: machines, the network between them, and one calendar of everything that is due.
//!
//! `run` takes event after event until the end of the case, or until an invariant is broken. Every event goes into a
//! hash, so that two runs of one case can be compared. One seed makes everything; no clock, thread or map without order is
//! asked.
//! Absent: the faults (`mischief`), the twin of the mesh (`mesh`, `pipes`), what must be true (`check`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outlast::flow::core::{Core, Effect, Job, Lane, Live, Named, Outcome, OwnRow, StreamId, work};
use outlast::ledger::{Draft, Ledger, kind};
use outlast::summary::gauges::{GAUGES, Gauges};
use outlast_mesh::{MemberSnapshot, NodeId, PeerState, overlay_address};
use outlast_store::{Clock, ClockSource, LogId, Row, SimDisk, Store};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::case::{Case, Flaw, Kind};
use crate::check::{Broken, Figures, Watch};
use crate::machine::{self, Machine, Numbers, Roster, Up, config, keys, node};
use crate::mesh::{Greeting, Small};
use crate::network::{Network, SITES};
use crate::pipes::{Passing, Piece, Pipe};
use crate::run::say;
use crate::time::{Calendar, Moment};
use crate::truth::Truth;

const SECOND: Duration = Duration::from_secs(1);
/// A live row that takes longer is told of, where somebody listens.
const LATE: Duration = Duration::from_millis(1_500);
/// What a frozen process finds in its socket when it goes on; the rest was lost.
pub(crate) const UNREAD: usize = 256;
/// How often the core is told who is believed down.
const LOOK_WHO_SECS: u64 = 10;
/// From so many machines on a run takes long enough to say how far it is.
const SLOW: u32 = 500;
/// Lists of members that are shared by whoever knows the same.
const REMEMBERED: usize = 32;
/// Rows of a machine between two of its events in the ledger.
const EVENT_EVERY: u32 = 600;
/// Where wall clocks stand at the beginning: the middle of 2026.
const EPOCH_MS: i64 = 1_780_000_000_000;

/// An event as it is compared: when, at which machine, of which kind, and what was in it.
pub(crate) type Logged = [u64; 4];

/// Something that is due at a machine.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The sampler's second, and the mesh's.
    Second {
        life: u32,
    },
    /// The core wanted to be woken.
    Wake {
        life: u32,
    },
    /// A process starts.
    Start,
    Greeting(Box<Greeting>),
    Small(Box<Small>),
    Piece(Box<Piece>),
    /// The line has taken what a stream wrote.
    Written {
        stream: StreamId,
        life: u32,
    },
    /// The other end has everything a stream wrote.
    Delivered {
        stream: StreamId,
        life: u32,
    },
    /// A fault begins; the machine means nothing.
    Begin(usize),
    End(usize),
    /// The invariants are looked at.
    Look,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) case: Case,
    pub(crate) now: Moment,
    base: Instant,
    pub(crate) rng: ChaCha8Rng,
    calendar: Calendar<(u32, Event)>,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) pipes: BTreeMap<u64, Pipe>,
    pub(crate) last_pipe: u64,
    /// The number of each identity.
    pub(crate) numbers: Numbers,
    pub(crate) ids: Vec<NodeId>,
    /// By number of identity: the machine that had its keys first.
    pub(crate) homes: Vec<u32>,
    pub(crate) identities: u32,
    pub(crate) truth: Truth,
    pub(crate) watch: Watch,
    /// By number of the fault: disks as they were when it began.
    pub(crate) images: BTreeMap<usize, SimDisk>,
    /// By number of the fault: the machine it made.
    pub(crate) made: BTreeMap<usize, u32>,
    pub(crate) broken: Option<Broken>,
    hash: u64,
    log: Vec<Logged>,
    members: Vec<Known>,
}

/// Members as somebody knows them, with those believed down.
type Known = (Roster, Rc<BTreeSet<u32>>, Arc<Named>);

impl World {
    pub(crate) fn new(case: Case) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(case.seed);
        let mut network = Network::new(ChaCha8Rng::seed_from_u64(rng.random()));
        network.line = case.line();
        network.bulk_first = case.flaw == Some(Flaw::BulkFirst);
        let mut world = Self {
            now: Moment::default(),
            base: Instant::now(),
            rng,
            calendar: Calendar::new(),
            network,
            machines: Vec::new(),
            pipes: BTreeMap::new(),
            last_pipe: 0,
            numbers: Numbers::default(),
            ids: Vec::new(),
            homes: Vec::new(),
            identities: 0,
            truth: Truth::default(),
            watch: Watch::default(),
            images: BTreeMap::new(),
            made: BTreeMap::new(),
            broken: None,
            hash: 0xcbf2_9ce4_8422_2325,
            log: Vec::new(),
            members: Vec::new(),
            case,
        };
        let all: Roster = Rc::new((0..world.case.nodes).collect());
        for _ in 0..world.case.nodes {
            let who = world.new_identity();
            let disk = SimDisk::new(world.case.disk_bytes());
            let m = world.add_machine(Machine::new(who, disk, Rc::clone(&all), Moment::default()));
            let at = Moment::ms(world.rng.random_range(0..2_000));
            world.enter(at, m, Event::Start);
        }
        for (number, fault) in world.case.story.0.clone().into_iter().enumerate() {
            world.enter(fault.at, 0, Event::Begin(number));
            world.enter(Moment(fault.at.0 + fault.lasts.0), 0, Event::End(number));
        }
        world.enter(Moment::secs(1), 0, Event::Look);
        world
    }

    pub(crate) fn new_identity(&mut self) -> u32 {
        let who = self.identities;
        self.identities += 1;
        self.ids.push(node(who));
        self.numbers.insert(node(who), who);
        who
    }

    pub(crate) fn add_machine(&mut self, machine: Machine) -> u32 {
        if machine.who as usize >= self.homes.len() {
            self.homes.push(self.machines.len() as u32);
        }
        self.machines.push(machine);
        self.network.add_machine();
        self.machines.len() as u32 - 1
    }

    /// Runs the case to its end, or to the first broken invariant.
    pub(crate) fn run(mut self) -> Result<Figures, Broken> {
        let mut end = Moment::secs(u64::from(self.case.minutes) * 60);
        while let Some((at, (machine, event))) = self.calendar.next_before(end) {
            self.now = at;
            self.record(machine, &event);
            let looks = matches!(event, Event::Look);
            if let Some(at) = self.watch.converged.filter(|_| self.case.ends_when_equal) {
                end = end.min(at + 60 * SECOND);
            }
            self.handle(machine, event);
            if looks {
                self.tell_progress();
            }
            if looks && self.case.until.is_some_and(|until| Instant::now() >= until) {
                self.breaks("there was time for it", self.case.to_string());
            }
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        self.now = end;
        self.look_at_the_end();
        match self.broken.take() {
            Some(broken) => Err(broken),
            None => {
                let log = std::mem::take(&mut self.log);
                let figures = self.figures(self.hash, self.calendar.entered());
                Ok(Figures { log, ..figures })
            }
        }
    }

    pub(crate) fn enter(&mut self, at: Moment, machine: u32, event: Event) {
        self.calendar.enter(at, (machine, event));
    }

    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        self.base + Duration::from_micros(moment.0)
    }

    fn moment(&self, instant: Instant) -> Moment {
        let micros = instant
            .saturating_duration_since(self.base)
            .as_nanos()
            .div_ceil(1_000);
        Moment(u64::try_from(micros).unwrap_or(u64::MAX))
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

    /// One more event of the log, as four numbers.
    fn record(&mut self, machine: u32, event: &Event) {
        let (kind, what) = match event {
            Event::Second { life } => (1, u64::from(*life)),
            Event::Wake { life } => (2, u64::from(*life)),
            Event::Start => (3, 0),
            Event::Greeting(greeting) => (4, u64::from(greeting.from)),
            Event::Small(small) => (
                5,
                sum(
                    u64::from(small.from) << 8 | u64::from(small.kind),
                    &small.body,
                ),
            ),
            Event::Piece(piece) => {
                let end = piece.pipe * 2 + piece.to as u64;
                match &piece.what {
                    Passing::Bytes(bytes) => (6, sum(end, bytes)),
                    Passing::End | Passing::Reset => (6, end),
                }
            }
            Event::Written { stream, .. } => (7, *stream),
            Event::Begin(number) => (8, *number as u64),
            Event::End(number) => (9, *number as u64),
            Event::Look => (10, 0),
            Event::Delivered { stream, .. } => (11, *stream),
        };
        let logged = [self.now.0, u64::from(machine), kind, what];
        if self.case.logged {
            self.log.push(logged);
        }
        for word in logged {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
        }
    }

    fn handle(&mut self, m: u32, event: Event) {
        if self.machines[m as usize].frozen && self.postpone(m, &event) {
            return;
        }
        match event {
            Event::Second { life } => self.second(m, life),
            Event::Wake { life } => self.wake(m, life),
            Event::Start => self.start(m),
            Event::Greeting(greeting) => self.handle_greeting(m, &greeting),
            Event::Small(small) => self.handle_small(m, &small),
            Event::Piece(piece) => self.handle_piece(m, *piece),
            Event::Written { stream, life } => self.handle_written(m, stream, life),
            Event::Delivered { stream, life } => self.handle_delivered(m, stream, life),
            Event::Begin(number) => self.begin(number),
            Event::End(number) => self.end(number),
            Event::Look => self.look(),
        }
    }

    /// What a frozen process doesn't see before it goes on. `false`: it isn't its business.
    fn postpone(&mut self, m: u32, event: &Event) -> bool {
        let hoards = self.case.flaw == Some(Flaw::Hoards);
        let machine = &mut self.machines[m as usize];
        match event {
            Event::Begin(_) | Event::End(_) | Event::Look | Event::Start => return false,
            Event::Greeting(_) | Event::Small(_) if machine.unread.len() >= UNREAD && !hoards => {}
            _ => machine.unread.push(event.clone()),
        }
        true
    }

    /// The process of a machine starts: its store opens, a new epoch begins.
    pub(crate) fn start(&mut self, m: u32) {
        let (now, instant) = (self.now, self.instant(self.now));
        let (mut seed, jitter) = (self.rng.random(), self.rng.random());
        if self.case.flaw == Some(Flaw::SameDice) {
            seed = 1;
        }
        let (limit, more) = (self.case.limit_bytes(), self.case.more_series());
        let lax = self.case.flaw == Some(Flaw::LaxKeys);
        let machine = &mut self.machines[m as usize];
        if machine.up.is_some() || machine.gone || machine.holds > 0 {
            return;
        }
        let opened = Store::simulated(
            machine.disk.clone(),
            config(limit),
            keys(machine.who, lax),
            instant,
            seed,
        );
        let store = match opened {
            Ok(store) => store,
            Err(error) => {
                return self.breaks("the store always starts", format!("machine {m}: {error}"));
            }
        };
        machine.life += 1;
        let begun = store.begin_epoch().and_then(|log| {
            let schema = store.define(log.origin, machine::schema(machine.who, more))?;
            Ok((log, schema))
        });
        let (log, schema) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                // A disk without room for its own schema: it tries again.
                drop(store);
                machine.life += 1;
                self.watch.starts_refused += 1;
                if !self.disk_is_troubled(m) {
                    self.breaks("the store always starts", format!("machine {m}: {error}"));
                }
                return self.enter(now + 5 * SECOND, m, Event::Start);
            }
        };
        // Its file is tried elsewhere: here every start is one after which the peers know more than the disk.
        let keys = machine::ledger_keys(machine.who);
        let ledger = Ledger::new(node(machine.who), keys, log.epoch.nonce, instant);
        let core = Core::new(log, jitter, instant).with_ledger(ledger);
        machine.off_since = None;
        machine.up = Some(Up {
            store,
            core,
            log,
            schema,
            taken: 0,
            armed: Moment::NEVER,
        });
        let life = machine.life;
        if !self.truth.begin(log) {
            return self.breaks("identities are never reused", format!("machine {m}: {log}"));
        }
        self.believe_anew(m);
        self.look_what_was_lost(m);
        self.tell_members(m);
        let phase = u64::from(m).wrapping_mul(7_919) % 1_000_000;
        let first = Moment((now.0 / 1_000_000 + 1) * 1_000_000 + phase);
        self.enter(first, m, Event::Second { life });
    }

    /// The process of a machine ends; what its disk does then is the caller's business.
    pub(crate) fn stop(&mut self, m: u32) {
        let machine = &mut self.machines[m as usize];
        machine.note_durable();
        if let Some(up) = machine.up.take() {
            machine.off_since = Some(self.now);
            machine.before = up.store.held();
            machine.went = up.store.gone();
        }
        machine.sessions = crate::mesh::Sessions::default();
        machine.beliefs = None;
        machine.waiting.clear();
        machine.streams.clear();
        machine.unread.clear();
        machine.frozen = false;
    }

    fn second(&mut self, m: u32, life: u32) {
        let (now, instant) = (self.now, self.instant(self.now));
        let machine = &mut self.machines[m as usize];
        let Some(up) = machine.up.as_mut().filter(|_| machine.life == life) else {
            return;
        };
        up.store.step(instant);
        let clock = Clock {
            offset_ms: EPOCH_MS + machine.powered.as_ms() as i64 + machine.wall_off_ms,
            uncertainty_ms: 50,
            source: ClockSource::Ntp,
        };
        let boot_ms = now.since(machine.powered).as_millis() as u64;
        let values = machine::values(machine.who, self.case.more_series(), now);
        match up.store.append_own(boot_ms, clock, up.schema, values) {
            Ok((row, seal)) => {
                up.taken += 1;
                let (next, log) = (up.taken, up.log);
                let mut taken = row.row.clone();
                if self.case.flaw == Some(Flaw::Alters) && next.is_multiple_of(50) {
                    taken.boot_ms += 1;
                }
                let right =
                    self.truth.took(now, &taken) && (row.row.log, row.row.seq) == (log, next);
                let own = OwnRow { row, seal };
                let machine = &mut self.machines[m as usize];
                if let Some(up) = &mut machine.up {
                    let gauges = Gauges([machine.who as u8; GAUGES]);
                    up.core.handle_own(&own, instant);
                    up.core.handle_own_gauges(next, 0, gauges, instant);
                    if next % EVENT_EVERY == u32::from(machine.who as u8) {
                        let draft = Draft::at(kind::LIFE, next.to_le_bytes().to_vec(), 0, false);
                        // One held back is counted, and nothing here waits for it.
                        let _ = up.core.handle_event(draft, instant);
                    }
                }
                if !right {
                    self.breaks(
                        "identities are never reused",
                        format!("machine {m} took {log} {next}"),
                    );
                }
            }
            Err(error) => {
                self.watch.refused_own += 1;
                if !self.disk_is_troubled(m) {
                    self.breaks("own rows are taken", format!("machine {m}: {error}"));
                }
            }
        }
        self.round_trips(m);
        self.drain(m);
        self.mesh_second(m);
        self.talk_too_much(m);
        self.drain(m);
        if (now.0 / 1_000_000 + u64::from(m)).is_multiple_of(LOOK_WHO_SECS) {
            self.look_who_is_down(m);
        }
        self.enter(now + SECOND, m, Event::Second { life });
    }

    /// Each second, and in large meshes each `LOOK_WHO_SECS`: only how fast backlogs go depends on it.
    fn round_trips(&mut self, m: u32) {
        let now = self.now;
        let seldom = self.case.nodes >= SLOW;
        if seldom && !(now.0 / 1_000_000 + u64::from(m)).is_multiple_of(LOOK_WHO_SECS) {
            return;
        }
        let machine = &mut self.machines[m as usize];
        let Some(up) = &mut machine.up else { return };
        for (peer, session) in &machine.sessions.up {
            let ms = self
                .network
                .round_trip(now, m, session.remote)
                .as_secs_f64()
                * 1_000.0;
            up.core
                .handle_round_trip(self.ids[*peer as usize], Some(ms));
        }
    }

    fn wake(&mut self, m: u32, life: u32) {
        let (now, instant) = (self.now, self.instant(self.now));
        let machine = &mut self.machines[m as usize];
        let Some(up) = machine.up.as_mut().filter(|_| machine.life == life) else {
            return;
        };
        if up.armed <= now {
            up.armed = Moment::NEVER;
        }
        if up.core.poll_timeout().0 <= instant {
            up.core.handle_timeout(instant);
        }
        self.drain(m);
    }

    /// The members as one machine knows them.
    pub(crate) fn tell_members(&mut self, m: u32) {
        let instant = self.instant(self.now);
        let machine = &self.machines[m as usize];
        let (roster, absent) = (Rc::clone(&machine.roster), Rc::clone(&machine.absent));
        let members = self.snapshots(&roster, &absent);
        if let Some(up) = &mut self.machines[m as usize].up {
            up.core.handle_named(members, instant);
        }
        self.drain(m);
    }

    fn snapshots(&mut self, roster: &Roster, absent: &Rc<BTreeSet<u32>>) -> Arc<Named> {
        let same = |(of, down, _): &&Known| {
            Rc::ptr_eq(of, roster) && (Rc::ptr_eq(down, absent) || down == absent)
        };
        if let Some((_, _, members)) = self.members.iter().find(same) {
            return Arc::clone(members);
        }
        let sites = self.case.kind == Kind::Sites;
        let states = roster.iter().map(|who| (*who, absent.contains(who)));
        let members = states.map(|(who, down)| member(who, self.ids[who as usize], down, sites));
        let members = Arc::new(Named::new(members.collect()));
        if self.members.len() >= REMEMBERED {
            self.members.remove(0);
        }
        self.members
            .push((Rc::clone(roster), Rc::clone(absent), Arc::clone(&members)));
        members
    }

    /// Carries out what a core wants, and enters when it wants to be woken.
    pub(crate) fn drain(&mut self, m: u32) {
        loop {
            let machine = &mut self.machines[m as usize];
            let Some(up) = &mut machine.up else {
                return;
            };
            let Some(effect) = up.core.poll_effect() else {
                break;
            };
            match effect {
                Effect::Send { to, kind, body } => {
                    if let Some(peer) = self.numbers.get(&to).copied() {
                        self.send(m, peer, kind, body);
                    }
                }
                Effect::Store(job) if machine.stalled && job.lane() != Lane::Live => {
                    machine.waiting.push_back(job);
                }
                Effect::Store(job) => self.work(m, job),
                Effect::Open {
                    stream,
                    peer,
                    question,
                } => self.open_pipe(m, stream, peer, question),
                Effect::Read(stream) => self.read_pipe(m, stream),
                Effect::Write { stream, bytes } => self.write_pipe(m, stream, bytes),
                Effect::Finish(stream) => self.finish_pipe(m, stream),
                Effect::Close(stream) => self.close_pipe(m, stream),
                Effect::Want(named) => {
                    let named = named.iter().filter_map(|peer| self.numbers.get(peer));
                    self.machines[m as usize].sessions.named = named.copied().collect();
                }
                Effect::Blame(culprit, offence) => self.blamed(m, culprit, offence),
                Effect::Record(event) => {
                    let instant = self.instant(self.now);
                    if let Some(up) = &mut self.machines[m as usize].up {
                        up.core.handle_recorded(event.place(), instant);
                    }
                }
                Effect::Told(..) => {}
            }
        }
        self.arm(m);
    }

    /// The store does a job, and the core hears of it.
    fn work(&mut self, m: u32, job: Job) {
        let instant = self.instant(self.now);
        let Some(up) = &mut self.machines[m as usize].up else {
            return;
        };
        let note = work(&up.store, up.log.origin, job);
        let live = match &note.outcome {
            Outcome::Live {
                row,
                outcome: Live::New,
                ..
            } => Some(row.clone()),
            _ => None,
        };
        let busy = up.core.stats().in_flight > 0;
        up.core.handle_note(note, instant);
        if let Some(live) = live {
            self.came_live(m, &live.row, busy);
        }
    }

    /// What waited for a disk is done.
    pub(crate) fn catch_up(&mut self, m: u32) {
        for job in std::mem::take(&mut self.machines[m as usize].waiting) {
            self.work(m, job);
        }
        self.drain(m);
    }

    fn arm(&mut self, m: u32) {
        let now = self.now;
        let Some(due) = self.machines[m as usize]
            .up
            .as_ref()
            .map(|up| up.core.poll_timeout().0)
        else {
            return;
        };
        let due = self.moment(due).max(now);
        let machine = &mut self.machines[m as usize];
        let life = machine.life;
        if let Some(up) = &mut machine.up
            && due < up.armed
        {
            up.armed = due;
            self.enter(due, m, Event::Wake { life });
        }
    }

    /// A row came to a keeper as it was taken.
    fn came_live(&mut self, m: u32, row: &Row, busy: bool) {
        let Some(taken) = self.truth.taken_at(&row.log, row.seq) else {
            return self.breaks(
                "one content per identity",
                format!("nobody took {} {}", row.log, row.seq),
            );
        };
        self.note_delay(m, row, taken, busy);
        if self.truth.is_true(row) != Some(true) {
            let what = format!(
                "{} {} at machine {m} is not what was taken",
                row.log, row.seq
            );
            self.breaks("one content per identity", what);
        }
    }

    /// Notes how long a live row took. Live is a row that was taken in fair weather, while its origin and the keeper had a
    /// session and the keeper's process ran: what was taken before was lost or never sent to it, comes later by a key
    /// row or a repair, and is judged by whether keepers hold the same. A row that waits here, at either side, is late.
    fn note_delay(&mut self, m: u32, row: &Row, taken: Moment, asks: bool) {
        let machine = &self.machines[m as usize];
        let origin = self.numbers.get(&NodeId(row.log.origin.0));
        let session = origin.and_then(|origin| machine.sessions.up.get(origin));
        let Some(session) = session else { return };
        let back = &self.machines[session.remote as usize].sessions;
        let Some(theirs) = back.up.get(&machine.who) else {
            return;
        };
        let from = [
            self.network.rough,
            machine.thawed,
            session.since,
            theirs.since,
        ];
        if from.into_iter().any(|from| taken <= from) {
            return;
        }
        let delay = self.now.since(taken);
        let busy = asks || self.network.bulk_free(session.remote) > taken;
        self.watch.came_live(delay, busy);
        if delay > LATE {
            let (log, seq, ms) = (row.log, row.seq, delay.as_millis());
            self.tell(&format!("machine {m} gets {log} {seq} after {ms} ms"));
        }
    }

    /// Remembers the first broken invariant.
    pub(crate) fn breaks(&mut self, what: &'static str, detail: String) {
        let at = self.now;
        self.broken.get_or_insert(Broken { what, at, detail });
    }

    /// The log a machine writes to.
    pub(crate) fn running(&self, m: u32) -> Option<LogId> {
        self.machines[m as usize].up.as_ref().map(|up| up.log)
    }
}

/// Eight bytes at a time.
fn sum(begin: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(begin, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23)
    })
}

/// `sites`: where sites are named, one in ten is metered and one may be off.
fn member(who: u32, id: NodeId, down: bool, sites: bool) -> MemberSnapshot {
    MemberSnapshot {
        id,
        name: format!("m{who}"),
        address: overlay_address(&outlast_mesh::MeshId([0; 32]), &id),
        joined_ms: EPOCH_MS,
        state: if down {
            PeerState::Down
        } else {
            PeerState::Alive
        },
        site: sites.then(|| format!("site-{}", who % SITES)),
        metered: sites && who % 10 == 7,
        may_be_off: sites && who % 10 == 3,
        retention_bytes: None,
        replaces: None,
        replaced_by: None,
    }
}
