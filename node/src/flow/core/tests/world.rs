//! Cores over simulated stores on virtual time, with streams as plain queues: nothing is lost unless a test says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{MemberSnapshot, NodeId, PeerState};
use outlast_store::{
    Clock, ClockSource, Keys, Kind, LogId, Origin, SchemaDelta, SchemaHash, Series, SimDisk, Store,
    StoreConfig,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::flow::core::{Core, Effect, Job, Offence, Outcome, OwnRow, StreamId, work};
use crate::flow::wire::Question;
use crate::flow::{node_of, origin_of};

pub(super) const CLOCK: Clock = Clock {
    offset_ms: 1_767_300_000_000,
    uncertainty_ms: 50,
    source: ClockSource::Ntp,
};

/// One node.
pub(super) struct Member {
    pub(super) core: Core,
    pub(super) store: Store,
    pub(super) log: LogId,
    pub(super) schema: SchemaHash,
    width: usize,
    taken: u64,
    /// Small messages and stream bytes of it come through.
    pub(super) reachable: bool,
    /// Jobs stay where they are while its disk hangs.
    pub(super) stalled: bool,
    jobs: VecDeque<Job>,
    disk: SimDisk,
}

/// The near end of a stream.
#[derive(Default)]
struct End {
    far: Option<(usize, StreamId)>,
    come: VecDeque<Bytes>,
    reads: bool,
    ended: bool,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) members: Vec<Member>,
    ends: BTreeMap<(usize, StreamId), End>,
    /// Streams are opened and lead nowhere: the test answers.
    pub(super) hold_streams: bool,
    held_streams: Vec<(usize, StreamId, Bytes)>,
    pub(super) blames: Vec<(usize, NodeId, Offence)>,
    pub(super) log: Vec<String>,
    /// Rows that were shown and not kept: where and whose.
    pub(super) shown: Vec<(usize, usize)>,
    /// Small messages: from, to and kind.
    pub(super) sent: Vec<(usize, usize, u8)>,
    /// Messages and bytes of each kind of small message; what goes over streams is under zero.
    pub(super) traffic: BTreeMap<u8, (u64, u64)>,
    /// The last `Effect::Want` of each.
    pub(super) wanted: Vec<BTreeSet<NodeId>>,
    /// Whether effects are kept in `log` and `sent`.
    pub(super) recorded: bool,
    /// No step of `pass` is shorter.
    pub(super) least_step: Duration,
}

pub(super) fn id(index: usize) -> NodeId {
    node_of(Origin([index as u8 + 1; 32]))
}

impl World {
    /// So many nodes, each with its own number of series, connected.
    pub(super) fn new(seed: u64, widths: &[usize]) -> Self {
        let mut world = Self::apart(seed, widths);
        for index in 0..widths.len() {
            world.connect(index);
        }
        world
    }

    /// The same, and nobody has met.
    pub(super) fn apart(seed: u64, widths: &[usize]) -> Self {
        let now = Instant::now();
        let members = widths.iter().enumerate();
        let members = members.map(|(index, width)| member(index, *width, seed, now));
        let mut world = Self {
            now,
            members: members.collect(),
            ends: BTreeMap::new(),
            hold_streams: false,
            held_streams: Vec::new(),
            blames: Vec::new(),
            log: Vec::new(),
            shown: Vec::new(),
            sent: Vec::new(),
            traffic: BTreeMap::new(),
            wanted: vec![BTreeSet::new(); widths.len()],
            recorded: true,
            least_step: Duration::from_millis(1),
        };
        let all: Vec<_> = (0..widths.len()).map(snapshot).collect();
        for index in 0..widths.len() {
            world.members[index].core.handle_members(&all, now);
        }
        world
    }

    /// `index` and everybody meet.
    pub(super) fn connect(&mut self, index: usize) {
        self.members[index].reachable = true;
        for other in (0..self.members.len()).filter(|other| *other != index) {
            self.members[other]
                .core
                .handle_connected(id(index), self.now);
            self.members[index]
                .core
                .handle_connected(id(other), self.now);
        }
        self.drain();
    }

    /// Two of them have a session, or none.
    pub(super) fn session(&mut self, one: usize, other: usize, on: bool) {
        for (at, peer) in [(one, other), (other, one)] {
            self.members[at].reachable = true;
            let core = &mut self.members[at].core;
            if on {
                core.handle_connected(id(peer), self.now);
            } else {
                core.handle_disconnected(id(peer), self.now);
            }
        }
        self.drain();
    }

    /// Everybody notices that `index` is gone.
    pub(super) fn part(&mut self, index: usize) {
        self.members[index].reachable = false;
        for other in (0..self.members.len()).filter(|other| *other != index) {
            self.members[other]
                .core
                .handle_disconnected(id(index), self.now);
            self.members[index]
                .core
                .handle_disconnected(id(other), self.now);
        }
        self.drain();
    }

    /// A node that is apart starts again, over a disk on which rot took the schema of another and left its rows.
    pub(super) fn restart_without_schema(&mut self, index: usize, of: usize) {
        let (lost, origin) = (self.members[of].schema, origin_of(id(of)));
        let Member { disk, width, .. } = &self.members[index];
        let rotten = (0..2_000).find_map(|seed| {
            let rotten = disk.image();
            rotten.rot(&mut ChaCha8Rng::seed_from_u64(seed));
            let store = store(index, seed, rotten.image(), self.now);
            let hit = store.schema(&lost).is_none() && store.latest(&origin).is_some();
            hit.then_some(rotten)
        });
        let rotten = rotten.expect("one flip in hundreds hits so small a file");
        self.members[index] = started(index, *width, 77, rotten, self.now);
        let all: Vec<_> = (0..self.members.len()).map(snapshot).collect();
        self.members[index].core.handle_members(&all, self.now);
    }

    /// One row of a node, taken and sent.
    pub(super) fn take(&mut self, index: usize) {
        let member = &mut self.members[index];
        member.taken += 1;
        let boot_ms = member.taken * 1_000;
        let values = (0..member.width as i64).map(|n| Some(n * member.taken as i64));
        let values = values.collect();
        let taken = member
            .store
            .append_own(boot_ms, CLOCK, member.schema, values);
        let (row, seal) = taken.unwrap();
        member.core.handle_own(&OwnRow { row, seal }, self.now);
        self.drain();
    }

    /// Lets so much time pass, in steps no longer than a quarter of a second.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let due = self
                .members
                .iter()
                .map(|member| member.core.poll_timeout().0);
            let next = due.min().unwrap_or(until).max(self.now + self.least_step);
            self.now = next.min(self.now + Duration::from_millis(250)).min(until);
            for index in 0..self.members.len() {
                let member = &mut self.members[index];
                if !member.stalled {
                    member.store.step(self.now);
                }
                if member.core.poll_timeout().0 <= self.now {
                    member.core.handle_timeout(self.now);
                }
            }
            self.drain();
        }
    }

    /// The same, with a row of everybody each second.
    pub(super) fn live(&mut self, seconds: u32) {
        for _ in 0..seconds {
            (0..self.members.len()).for_each(|index| self.take(index));
            self.pass(Duration::from_secs(1));
        }
    }

    pub(super) fn rows(&self, at: usize, of: usize) -> u64 {
        let held = self.members[at].store.held_of(&origin_of(id(of)));
        held.values().map(outlast_store::IntervalSet::len).sum()
    }

    /// The stream on which a node asked for hundreds of rows last, while streams are held.
    pub(super) fn asked_for_rows(&self, index: usize) -> Option<StreamId> {
        let asked = self.held_streams.iter().rev();
        let rows = |question: &Bytes| {
            matches!(
                Question::decode(&question.slice(4..)),
                Some(Question::Rows(_, rows)) if rows.len() > 100
            )
        };
        let mut asked = asked.filter(|(of, _, question)| *of == index && rows(question));
        asked.next().map(|(_, stream, _)| *stream)
    }

    pub(super) fn queue(&self, at: usize, name: &str) -> usize {
        let queues = self.members[at].core.queues();
        let queue = queues.iter().find(|(queue, ..)| *queue == name);
        queue.unwrap().1
    }

    /// Until nothing more happens at this moment.
    fn drain(&mut self) {
        while let Some((index, effect)) = self.next_effect() {
            if self.recorded {
                self.log.push(format!("{index} {effect:?}"));
            }
            self.carry_out(index, effect);
        }
    }

    fn next_effect(&mut self) -> Option<(usize, Effect)> {
        for (index, member) in self.members.iter_mut().enumerate() {
            if !member.stalled
                && let Some(job) = member.jobs.pop_front()
            {
                let note = work(&member.store, member.log.origin, job);
                if let Outcome::Shown(row, _) = &note.outcome {
                    self.shown.push((index, at(node_of(row.row.log.origin))));
                }
                member.core.handle_note(note, self.now);
            }
            if let Some(effect) = member.core.poll_effect() {
                return Some((index, effect));
            }
        }
        let waits = self
            .members
            .iter()
            .any(|member| !member.stalled && !member.jobs.is_empty());
        waits.then(|| self.next_effect()).flatten()
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let now = self.now;
        match effect {
            Effect::Send { to, kind, body } => {
                let to = at(to);
                self.count(kind, &body);
                if self.recorded {
                    self.sent.push((index, to, kind));
                }
                if self.members[to].reachable && self.members[index].reachable {
                    self.members[to]
                        .core
                        .handle_message(id(index), kind, &body, now);
                }
            }
            Effect::Store(job) => self.members[index].jobs.push_back(job),
            Effect::Open {
                stream,
                peer,
                question,
            } if self.hold_streams => {
                let _nobody = peer;
                self.held_streams.push((index, stream, question));
            }
            Effect::Open {
                stream,
                peer,
                question,
            } => {
                self.count(0, &question);
                self.open(index, stream, at(peer), question);
            }
            Effect::Read(stream) => {
                self.ends.entry((index, stream)).or_default().reads = true;
                self.bring(index, stream);
            }
            Effect::Write { stream, bytes } => {
                self.count(0, &bytes);
                if let Some(far) = self.ends.get(&(index, stream)).and_then(|end| end.far) {
                    self.ends.entry(far).or_default().come.push_back(bytes);
                    self.members[index].core.handle_written(stream, now);
                    self.bring(far.0, far.1);
                }
            }
            Effect::Finish(stream) | Effect::Close(stream) => self.end(index, stream),
            Effect::Want(peers) => self.wanted[index] = peers,
            Effect::Blame(who, what) => self.blames.push((index, who, what)),
            // These nodes say nothing of their own.
            Effect::Record(_) | Effect::Told(..) => {}
        }
    }

    fn count(&mut self, kind: u8, bytes: &Bytes) {
        let traffic = self.traffic.entry(kind).or_default();
        *traffic = (traffic.0 + 1, traffic.1 + bytes.len() as u64);
    }

    pub(super) fn open(&mut self, index: usize, stream: StreamId, to: usize, question: Bytes) {
        let there = self.members[to].reachable && self.members[index].reachable;
        let theirs = if there {
            self.members[to].core.handle_stream(id(index), self.now)
        } else {
            None
        };
        let Some(theirs) = theirs else {
            return self.members[index].core.handle_broken(stream, self.now);
        };
        self.ends.entry((index, stream)).or_default().far = Some((to, theirs));
        let far = self.ends.entry((to, theirs)).or_default();
        far.far = Some((index, stream));
        far.come.push_back(question);
        self.bring(to, theirs);
    }

    fn bring(&mut self, index: usize, stream: StreamId) {
        let Some(end) = self.ends.get_mut(&(index, stream)) else {
            return;
        };
        if !end.reads {
            return;
        }
        if let Some(bytes) = end.come.pop_front() {
            end.reads = false;
            self.members[index]
                .core
                .handle_read(stream, &bytes, self.now);
        } else if end.ended {
            end.reads = false;
            self.members[index].core.handle_broken(stream, self.now);
        }
    }

    fn end(&mut self, index: usize, stream: StreamId) {
        let far = self.ends.remove(&(index, stream)).and_then(|end| end.far);
        if let Some(far) = far
            && let Some(end) = self.ends.get_mut(&far)
        {
            end.ended = true;
            self.bring(far.0, far.1);
        }
    }
}

pub(super) fn at(node: NodeId) -> usize {
    usize::from(node.0[0]) - 1
}

/// Two of the same number and seed are a machine and its copy: their runs have one name.
pub(super) fn member(index: usize, width: usize, seed: u64, now: Instant) -> Member {
    let (disk, seed) = (SimDisk::new(1 << 30), seed * 100 + index as u64);
    started(index, width, seed, disk, now)
}

/// A process that starts over a disk.
fn started(index: usize, width: usize, seed: u64, disk: SimDisk, now: Instant) -> Member {
    let store = store(index, seed, disk.clone(), now);
    let log = store.begin_epoch().unwrap();
    let series = |number: usize| {
        let name = format!("a_series_with_a_name_as_long_as_those_of_others_{number}");
        Series::new(name, [], "", Kind::Gauge, 0).unwrap()
    };
    let appended = (0..width).map(series).collect();
    let parent = None;
    let delta = SchemaDelta { parent, appended };
    let schema = store.define(log.origin, delta).unwrap();
    Member {
        core: Core::new(log, seed, now),
        store,
        log,
        schema,
        width,
        taken: 0,
        reachable: false,
        stalled: false,
        jobs: VecDeque::new(),
        disk,
    }
}

fn store(index: usize, seed: u64, disk: SimDisk, now: Instant) -> Store {
    let origin = Origin([index as u8 + 1; 32]);
    let config = StoreConfig {
        dir: PathBuf::from("/store"),
        limit_bytes: 64 << 20,
        sync_every: Duration::from_secs(1),
        check: None,
    };
    let keys = Keys {
        origin,
        sign: Box::new(move |message| signature(&origin, message)),
        verify: Box::new(|origin, message, signed| signature(origin, message) == *signed),
    };
    Store::simulated(disk, config, keys, now, seed).unwrap()
}

pub(super) fn snapshot(index: usize) -> MemberSnapshot {
    MemberSnapshot {
        id: id(index),
        name: format!("n{index}"),
        address: Ipv6Addr::LOCALHOST,
        joined_ms: 0,
        state: PeerState::Alive,
        site: None,
        metered: false,
        may_be_off: false,
        retention_bytes: None,
        replaces: None,
        replaced_by: None,
    }
}

/// Stands in for a signature: another for each origin and message.
pub(super) fn signature(origin: &Origin, message: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    let hash = blake3::keyed_hash(&origin.0, message);
    signature[..32].copy_from_slice(hash.as_bytes());
    signature
}
