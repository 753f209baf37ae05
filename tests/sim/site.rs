//! One site: its machines, its part of the network, and a calendar of what is due at them.
//!
//! `run` takes event after event up to a moment. What goes to another site waits in `out` until the world carries it there;
//! on its way it takes `BETWEEN_SITES` at least, so sites can run side by side for as long. Every event goes into a hash, so
//! that two runs can be compared. No clock, thread or map without order is asked.
//! Absent: the faults (`mischief`), the twin of the mesh (`mesh`, `pipes`), what must be true (`check`), other sites'
//! machines (`board` has what is known of them).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outlast::flow::core::{Core, Effect, Job, Lane, Live, Named, Outcome, OwnRow, StreamId, work};
use outlast::ledger::{Draft, Ledger, kind};
use outlast::summary::gauges::{GAUGES, Gauges};
use outlast_mesh::{MemberSnapshot, NodeId, PeerState, overlay_address};
use outlast_store::{Clock, ClockSource, Row, Store};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::board::{Board, Register};
use crate::case::{Case, Flaw, Kind};
use crate::check::{Broken, Watch};
use crate::machine::{self, Machines, Roster, Up, config, keys, node};
use crate::mesh::{Greeting, Small};
use crate::network::{Network, SITES};
use crate::pipes::Piece;
use crate::time::{Calendar, Moment};
use crate::truth::Truth;
use crate::world::SLOW;

const SECOND: Duration = Duration::from_secs(1);
/// A live row that takes longer is told of, where somebody listens.
const LATE: Duration = Duration::from_millis(1_500);
/// What a frozen process finds in its socket when it goes on; the rest was lost.
pub(crate) const UNREAD: usize = 256;
/// How often the core is told who is believed down.
const LOOK_WHO_SECS: u64 = 10;
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
    Greeting(Box<Greeting>),
    Small(Box<Small>),
    /// A peer keeps its session with us no longer.
    LetGo {
        from: u32,
        from_life: u32,
    },
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
}

/// Events for a site, in the order they were entered.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) events: Vec<(Moment, u32, Event)>,
    /// When the first of them is due.
    pub(crate) first: Moment,
}

/// The machines of one site and what they need to run.
pub(crate) struct Site {
    number: u32,
    pub(crate) case: Arc<Case>,
    pub(crate) now: Moment,
    base: Instant,
    pub(crate) rng: ChaCha8Rng,
    calendar: Calendar<(u32, Event)>,
    pub(crate) network: Network,
    pub(crate) machines: Machines,
    pub(crate) register: Arc<Register>,
    pub(crate) board: Board,
    pub(crate) truth: Arc<Truth>,
    pub(crate) watch: Watch,
    pub(crate) broken: Option<Broken>,
    pub(crate) hash: u64,
    pub(crate) log: Vec<Logged>,
    /// By number of identity: a member that is there.
    present: Vec<MemberSnapshot>,
    members: Vec<Known>,
    /// What came from other sites.
    pub(crate) come: Post,
    /// By number of the site: what goes there.
    pub(crate) out: Vec<Post>,
    /// Machines of which the others are to learn something.
    pub(crate) noticed: Vec<u32>,
    /// Machines whose lines streams have filled further.
    pub(crate) busy_lines: Vec<u32>,
}

/// Whether a process started.
pub(crate) enum Started {
    Yes,
    /// It is not to, or something is broken.
    No,
    /// The disk has no room for it: it is to try again.
    Refused,
}

/// Members as somebody knows them, with those believed down.
type Known = (Roster, Arc<BTreeSet<u32>>, Arc<Named>);

/// What is said of one event in a hash of all of them.
pub(crate) const HASH_BEGIN: u64 = 0xcbf2_9ce4_8422_2325;

impl Default for Post {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            first: Moment::NEVER,
        }
    }
}

/// The site of a machine.
pub(crate) fn site_of(m: u32) -> usize {
    (m % SITES) as usize
}

pub(crate) fn hashed(hash: u64, logged: Logged) -> u64 {
    logged.into_iter().fold(hash, |hash, word| {
        (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    })
}

impl Site {
    pub(crate) fn new(number: u32, case: &Arc<Case>, truth: &Arc<Truth>, base: Instant) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(case.seed);
        rng.set_stream(u64::from(number) + 1);
        let mut network = Network::new(ChaCha8Rng::seed_from_u64(rng.random()));
        network.line = case.line();
        network.bulk_first = case.flaw == Some(Flaw::BulkFirst);
        Self {
            number,
            case: Arc::clone(case),
            now: Moment::default(),
            base,
            rng,
            calendar: Calendar::new(),
            network,
            machines: Machines::default(),
            register: Arc::default(),
            board: Board::new(),
            truth: Arc::clone(truth),
            watch: Watch::default(),
            broken: None,
            hash: HASH_BEGIN,
            log: Vec::new(),
            present: Vec::new(),
            members: Vec::new(),
            come: Post::default(),
            out: (0..SITES).map(|_| Post::default()).collect(),
            noticed: Vec::new(),
            busy_lines: Vec::new(),
        }
    }

    /// Everything that is due before `end`.
    pub(crate) fn run(&mut self, end: Moment) {
        self.take_post();
        while let Some((at, (machine, event))) = self.calendar.next_before(end) {
            self.now = at;
            self.record(machine, &event);
            self.handle(machine, event);
            if self.broken.is_some() {
                return;
            }
        }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Moment {
        let next = self.calendar.next().unwrap_or(Moment::NEVER);
        next.min(self.come.first)
    }

    /// Events entered since the beginning.
    pub(crate) fn entered(&self) -> u64 {
        self.calendar.entered()
    }

    fn take_post(&mut self) {
        let come = std::mem::take(&mut self.come);
        for (at, m, event) in come.events {
            self.calendar.enter(at, (m, event));
        }
    }

    pub(crate) fn enter(&mut self, at: Moment, machine: u32, event: Event) {
        let site = site_of(machine);
        if site == self.number as usize {
            return self.calendar.enter(at, (machine, event));
        }
        let post = &mut self.out[site];
        post.first = post.first.min(at);
        post.events.push((at, machine, event));
    }

    /// The others are to learn what this machine is like by now.
    pub(crate) fn notice(&mut self, m: u32) {
        if self.noticed.last() != Some(&m) {
            self.noticed.push(m);
        }
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

    /// One more event of the log, as four numbers.
    fn record(&mut self, machine: u32, event: &Event) {
        let (kind, what) = match event {
            Event::Second { life } => (1, u64::from(*life)),
            Event::Wake { life } => (2, u64::from(*life)),
            Event::Greeting(greeting) => (4, u64::from(greeting.from)),
            Event::Small(small) => (
                5,
                sum(
                    u64::from(small.from) << 8 | u64::from(small.kind),
                    &small.body,
                ),
            ),
            Event::Piece(piece) => {
                let (pipe, bytes) = piece.logged();
                (6, sum(pipe, bytes))
            }
            Event::Written { stream, .. } => (7, *stream),
            Event::Delivered { stream, .. } => (11, *stream),
            Event::LetGo { from, .. } => (12, u64::from(*from)),
        };
        let logged = [self.now.0, u64::from(machine), kind, what];
        if self.case.logged {
            self.log.push(logged);
        }
        self.hash = hashed(self.hash, logged);
    }

    fn handle(&mut self, m: u32, event: Event) {
        if self.machines[m as usize].frozen {
            return self.postpone(m, event);
        }
        match event {
            Event::Second { life } => self.second(m, life),
            Event::Wake { life } => self.wake(m, life),
            Event::Greeting(greeting) => self.handle_greeting(m, &greeting),
            Event::Small(small) => self.handle_small(m, &small),
            Event::LetGo { from, from_life } => self.handle_let_go(m, from, from_life),
            Event::Piece(piece) => self.handle_piece(m, *piece),
            Event::Written { stream, life } => self.handle_written(m, stream, life),
            Event::Delivered { stream, life } => self.handle_delivered(m, stream, life),
        }
    }

    /// What a frozen process doesn't see before it goes on.
    fn postpone(&mut self, m: u32, event: Event) {
        let hoards = self.case.flaw == Some(Flaw::Hoards);
        let machine = &mut self.machines[m as usize];
        match event {
            Event::Greeting(_) | Event::Small(_) if machine.unread.len() >= UNREAD && !hoards => {}
            event => machine.unread.push(event),
        }
    }

    /// The process of a machine starts: its store opens, a new epoch begins. What it lost meanwhile is the
    /// caller's to look at, and then it may `go_on`.
    pub(crate) fn start(&mut self, m: u32) -> Started {
        let instant = self.instant(self.now);
        let (mut seed, jitter) = (self.rng.random(), self.rng.random());
        if self.case.flaw == Some(Flaw::SameDice) {
            seed = 1;
        }
        let (limit, more) = (self.case.limit_bytes(), self.case.more_series());
        let lax = self.case.flaw == Some(Flaw::LaxKeys);
        let machine = &mut self.machines[m as usize];
        if machine.up.is_some() || machine.gone || machine.holds > 0 {
            return Started::No;
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
                self.breaks("the store always starts", format!("machine {m}: {error}"));
                return Started::No;
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
                return Started::Refused;
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
        if !self.truth.begin(log) {
            self.breaks("identities are never reused", format!("machine {m}: {log}"));
            return Started::No;
        }
        self.believe_anew(m);
        self.notice(m);
        Started::Yes
    }

    /// It has started: it hears who is a member, and its seconds begin.
    pub(crate) fn go_on(&mut self, m: u32) {
        let (now, life) = (self.now, self.machines[m as usize].life);
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
        machine.pipes.clear();
        machine.unread.clear();
        machine.frozen = false;
        self.notice(m);
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
                .handle_round_trip(self.register.ids[*peer as usize], Some(ms));
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
        let (roster, absent) = (Arc::clone(&machine.roster), Arc::clone(&machine.absent));
        let members = self.snapshots(&roster, &absent);
        if let Some(up) = &mut self.machines[m as usize].up {
            up.core.handle_named(members, instant);
        }
        self.drain(m);
    }

    fn snapshots(&mut self, roster: &Roster, absent: &Arc<BTreeSet<u32>>) -> Arc<Named> {
        let same = |(of, down, _): &&Known| {
            Arc::ptr_eq(of, roster) && (Arc::ptr_eq(down, absent) || down == absent)
        };
        if let Some((_, _, members)) = self.members.iter().find(same) {
            return Arc::clone(members);
        }
        let sites = self.case.kind == Kind::Sites;
        for who in self.present.len() as u32..self.register.identities() {
            let id = self.register.ids[who as usize];
            self.present.push(member(who, id, sites));
        }
        let states = roster.iter().map(|who| (*who, absent.contains(who)));
        let members = states.map(|(who, down)| {
            let mut member = self.present[who as usize].clone();
            if down {
                member.state = PeerState::Down;
            }
            member
        });
        let last = self.members.last();
        let before = last.map_or_else(Arc::default, |(.., named)| Arc::clone(named));
        let members = Arc::new(Named::after(&before, members.collect()));
        if self.members.len() >= REMEMBERED {
            self.members.remove(0);
        }
        self.members
            .push((Arc::clone(roster), Arc::clone(absent), Arc::clone(&members)));
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
                    if let Some(peer) = self.register.numbers.get(&to).copied() {
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
                    let named = named
                        .iter()
                        .filter_map(|peer| self.register.numbers.get(peer));
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
        let origin = self.register.numbers.get(&NodeId(row.log.origin.0));
        let session = origin.and_then(|origin| machine.sessions.up.get(origin));
        let Some(session) = session else { return };
        let back = &self.board[session.remote as usize].sessions;
        let Some(theirs) = back.get(&machine.who) else {
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
fn member(who: u32, id: NodeId, sites: bool) -> MemberSnapshot {
    MemberSnapshot {
        id,
        name: format!("m{who}"),
        address: overlay_address(&outlast_mesh::MeshId([0; 32]), &id),
        joined_ms: EPOCH_MS,
        state: PeerState::Alive,
        site: sites.then(|| format!("site-{}", who % SITES)),
        metered: sites && who % 10 == 7,
        may_be_off: sites && who % 10 == 3,
        retention_bytes: None,
        replaces: None,
        replaced_by: None,
    }
}
