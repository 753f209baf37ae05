//! One simulated machine: a disk, clocks, a line, and while it is up the real store and the real flow core.
//!
//! Absent: what happens to it (`mischief`), the ways between machines (`mesh`, `pipes`).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::{Index, IndexMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outlast::flow::core::{Core, Job, StreamId};
use outlast::ledger;
use outlast_mesh::{MeshId, NodeId};
use outlast_store::{
    IntervalSet, Keys, Kind, LogId, Origin, SchemaDelta, SchemaHash, Seq, Series, SimDisk, Store,
    StoreConfig,
};

use crate::lives::Beliefs;
use crate::mesh::Sessions;
use crate::pipes::{End, PipeId};
use crate::site::Event;
use crate::time::Moment;

/// Everybody who is a member, by number of identity.
pub(crate) type Roster = Arc<BTreeSet<u32>>;

/// Which number an id has: looked up for every message, and never gone through.
pub(crate) type Numbers = HashMap<NodeId, u32, BuildHasherDefault<Beginning>>;

/// The first bytes of an id, which is a hash itself.
#[derive(Debug, Default)]
pub(crate) struct Beginning(u64);

impl Hasher for Beginning {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _len: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A machine, up or not.
pub(crate) struct Machine {
    /// Whose keys it has: its own number, or that of the machine it was copied from.
    pub(crate) who: u32,
    pub(crate) disk: SimDisk,
    /// How often its process was started.
    pub(crate) life: u32,
    pub(crate) up: Option<Up>,
    /// Until when the process stands still.
    pub(crate) frozen: bool,
    /// Taken away for good.
    pub(crate) gone: bool,
    /// Faults that keep it down; it starts when none is left.
    pub(crate) holds: u32,
    /// Wall clock minus true time.
    pub(crate) wall_off_ms: i64,
    pub(crate) powered: Moment,
    pub(crate) roster: Roster,
    /// Of them, those it believes to be down, as it last told its core.
    pub(crate) absent: Arc<BTreeSet<u32>>,
    /// Since when each of those was, as far as it was looked at.
    pub(crate) down_since: BTreeMap<u32, Moment>,
    /// Since when it isn't up.
    pub(crate) off_since: Option<Moment>,
    pub(crate) sessions: Sessions,
    /// What its process believes of the others' lives.
    pub(crate) beliefs: Option<Box<Beliefs>>,
    /// What its store is to do once its disk answers again.
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) stalled: bool,
    /// What it held when it went down.
    pub(crate) before: BTreeMap<LogId, IntervalSet>,
    /// What had gone from there by then.
    pub(crate) went: BTreeMap<LogId, IntervalSet>,
    /// What its disk has acknowledged as durable, by log.
    pub(crate) durable: BTreeMap<LogId, Seq>,
    /// Whether the disk was damaged: what it has acknowledged may be gone.
    pub(crate) excused: bool,
    /// Speaks only what the first release spoke.
    pub(crate) old: bool,
    /// When it last went on after it was frozen.
    pub(crate) thawed: Moment,
    /// What came while it was frozen.
    pub(crate) unread: Vec<Event>,
    /// The ends of pipes its core knows as streams.
    pub(crate) streams: BTreeMap<StreamId, End>,
    /// Which stream each of those pipes is to the core.
    pub(crate) pipes: BTreeMap<PipeId, StreamId>,
    /// Pipes it opened so far.
    pub(crate) opened: u32,
}

/// Machines by number; those of other sites are elsewhere.
#[derive(Default)]
pub(crate) struct Machines(Vec<Option<Box<Machine>>>);

impl Machines {
    pub(crate) fn insert(&mut self, m: u32, machine: Machine) {
        let m = m as usize;
        if self.0.len() <= m {
            self.0.resize_with(m + 1, || None);
        }
        self.0[m] = Some(Box::new(machine));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Machine> {
        self.0.iter().flatten().map(Box::as_ref)
    }
}

impl Index<usize> for Machines {
    type Output = Machine;

    fn index(&self, m: usize) -> &Machine {
        self.0[m].as_deref().expect("a machine of this site")
    }
}

impl IndexMut<usize> for Machines {
    fn index_mut(&mut self, m: usize) -> &mut Machine {
        self.0[m].as_deref_mut().expect("a machine of this site")
    }
}

/// A running process.
pub(crate) struct Up {
    pub(crate) store: Store,
    pub(crate) core: Core,
    pub(crate) log: LogId,
    pub(crate) schema: SchemaHash,
    pub(crate) taken: Seq,
    /// When the core is woken next.
    pub(crate) armed: Moment,
}

impl Machine {
    pub(crate) fn new(who: u32, disk: SimDisk, roster: Roster, now: Moment) -> Self {
        Self {
            who,
            disk,
            life: 0,
            up: None,
            frozen: false,
            gone: false,
            holds: 0,
            wall_off_ms: 0,
            powered: now,
            roster,
            absent: Arc::default(),
            down_since: BTreeMap::new(),
            off_since: Some(now),
            sessions: Sessions::default(),
            beliefs: None,
            waiting: VecDeque::new(),
            stalled: false,
            before: BTreeMap::new(),
            went: BTreeMap::new(),
            durable: BTreeMap::new(),
            excused: false,
            old: false,
            thawed: Moment::default(),
            unread: Vec::new(),
            streams: BTreeMap::new(),
            pipes: BTreeMap::new(),
            opened: 0,
        }
    }

    /// What the store acknowledges as durable at this moment.
    pub(crate) fn note_durable(&mut self) {
        let Some(up) = &self.up else { return };
        if let Some((log, seq)) = up.store.synced().filter(|(log, _)| *log == up.log) {
            self.durable.insert(log, seq);
        }
    }
}

/// The node id of an identity. Its keys are as good as real ones for everything above the tunnel.
pub(crate) fn node(who: u32) -> NodeId {
    NodeId(*blake3::hash(&who.to_le_bytes()).as_bytes())
}

/// The store's bound and beats in this world.
pub(crate) fn config(limit_bytes: u64) -> StoreConfig {
    StoreConfig {
        dir: PathBuf::from("/store"),
        limit_bytes,
        sync_every: Duration::from_secs(1),
        check: None,
    }
}

/// Signatures that cost a hash: another for each origin and message, and nobody here forges. `lax`: nobody signs or
/// looks at what is signed.
pub(crate) fn keys(who: u32, lax: bool) -> Keys {
    let origin = Origin(node(who).0);
    Keys {
        origin,
        sign: Box::new(move |message| match lax {
            true => [7; 64],
            false => signature(&origin, message),
        }),
        verify: Box::new(move |origin, message, signed| {
            lax || signature(origin, message) == *signed
        }),
    }
}

/// The same for events of the ledger.
pub(crate) fn ledger_keys(who: u32) -> ledger::Keys {
    let origin = Origin(node(who).0);
    ledger::Keys {
        mesh: MeshId([0; 32]),
        sign: Some(Box::new(move |message| signature(&origin, message))),
        verify: |author, message, signed| signature(&Origin(*author), message) == *signed,
    }
}

pub(crate) fn signature(origin: &Origin, message: &[u8]) -> [u8; 64] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&origin.0).update(message);
    let mut signed = [0; 64];
    hasher.finalize_xof().fill(&mut signed);
    signed
}

/// Few series, of every kind; and where more are wanted, restless ones.
pub(crate) fn schema(who: u32, more: u32) -> SchemaDelta {
    let series = |name: String, kind| {
        let labels = [("machine".to_owned(), who.to_string())];
        Series::new(name, labels, "", kind, 0).expect("a name and a label of few letters")
    };
    let three = [
        series("sim_ticks_total".to_owned(), Kind::Counter),
        series("sim_level".to_owned(), Kind::Gauge),
        series("sim_rare".to_owned(), Kind::Gauge),
    ];
    let more = (0..more).map(|number| series(format!("sim_restless_{number}"), Kind::Gauge));
    SchemaDelta {
        parent: None,
        appended: three.into_iter().chain(more).collect(),
    }
}

/// What a machine reads at a tick: a counter, something restless, something that is there one second in seven.
pub(crate) fn values(who: u32, more: u32, now: Moment) -> Vec<Option<i64>> {
    let second = (now.0 / 1_000_000) as i64;
    let restless = |number: u32| {
        let mixed =
            (now.0 ^ u64::from(who) ^ u64::from(number) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 48) as i64)
    };
    let three = [
        Some(second * 17 + i64::from(who)),
        restless(0).map(|level| level % 100),
        (second % 7 == 0).then_some(second),
    ];
    three.into_iter().chain((1..=more).map(restless)).collect()
}
