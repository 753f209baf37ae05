//! What every node says of itself to everybody, and passes on of others: eight gauges and how old they are.
//!
//! In: this node's own gauges each second, messages of peers, who is a member and connected. Out: messages for random
//! connected peers (`poll_message`), and what is known of each member (`seen`).
//! Bounds: one summary a member; `BUDGET` bytes a second on their way out, in messages of `AT_ONCE`, what was learnt
//! last first, so that beyond so many members freshness falls and cost doesn't grow. Lost ones aren't repeated.
//! Invariants: an age is never less than the times the summary was held on its way, and goes on while the machine
//! sleeps; no clock of another machine is believed. A node's own word stands against hearsay about it.
//! Absent: rows and proof. A summary isn't signed; who needs certainty asks for signed rows.

pub(crate) mod columns;
pub mod gauges;
pub mod message;

mod roll;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{Allowance, NodeId};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use self::gauges::Gauges;
use self::message::{Entry, Message};
use self::roll::Roll;
pub use self::table::Seen;
use self::table::{Table, Verdict};

/// Bytes a second, with what a datagram has around it: a member of fifty sends what one of a thousand does.
pub const BUDGET: u32 = 3_000;

/// What a datagram has around a message: IPv4 and UDP, WireGuard, IPv6 and UDP inside, and the mesh's own head.
const AROUND: u32 = 112;

/// Summaries in a message. Half of what fits, twice as often, reaches everybody sooner for the same bytes.
pub const AT_ONCE: usize = 36;

/// Between two messages while rows go to everybody anyway: summaries then serve who is cut off.
const IDLE_EVERY: Duration = Duration::from_secs(1);
/// Between two messages in a larger mesh at least; from `AT_ONCE` members on the budget makes it more.
const BUSY_EVERY: Duration = Duration::from_millis(200);
/// Between two messages of a metered member, each of which is answered with one.
const METERED_EVERY: Duration = Duration::from_secs(10);

/// Messages of one peer, a second and at once: twice what an honest one sends to all others together, and what a frozen
/// node catches up with.
const HEARD: (f64, f64) = (8.0, 128.0);
/// Answers to one metered peer.
const ANSWERED: (f64, f64) = (0.2, 2.0);

/// How a member stands towards summaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it pays for what it gets: it is only answered.
    pub metered: bool,
}

/// Why a message, or part of one, was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Bytes that are no message.
    Unreadable,
    /// More messages than an honest peer sends.
    TooOften,
}

/// What came of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Summaries that were news.
    pub news: u32,
    /// Summaries that say something else of a moment than what is held: somebody on the way lies.
    pub disputed: u32,
    /// Summaries about nobody who is a member here, or about two.
    pub unknown: u32,
}

/// The members as summaries see them. One of these serves all who know the same members.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Members {
    standing: BTreeMap<NodeId, Standing>,
    roll: Roll,
}

impl Members {
    /// Everybody whose summaries are held and passed on.
    #[must_use]
    pub fn new(standing: BTreeMap<NodeId, Standing>) -> Self {
        let roll = Roll::new(standing.keys().copied());
        Self { standing, roll }
    }

    /// Whether they are those who stand so.
    #[must_use]
    pub fn are(&self, standing: &BTreeMap<NodeId, Standing>) -> bool {
        self.standing == *standing
    }
}

/// The summaries a node holds, and whom it tells: pure, owned by one task.
#[derive(Debug)]
pub struct Summaries {
    me: NodeId,
    rng: ChaCha8Rng,
    started: Instant,
    slept: Duration,
    everybody: usize,
    members: Arc<Members>,
    /// How this node itself stands.
    metered: bool,
    /// Where it does in the roll.
    place: Option<usize>,
    table: Table,
    connected: BTreeMap<NodeId, Peer>,
    /// Metered peers that are owed an answer.
    owed: BTreeSet<NodeId>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    /// `None`: no member.
    standing: Option<Standing>,
    heard: Allowance,
    answered: Allowance,
}

impl Peer {
    fn new(standing: Option<Standing>) -> Self {
        Self {
            standing,
            heard: Allowance::new(HEARD.0, HEARD.1),
            answered: Allowance::new(ANSWERED.0, ANSWERED.1),
        }
    }
}

impl Summaries {
    /// Knows nobody yet. Up to `everybody` members all get all rows, and summaries are few.
    #[must_use]
    pub fn new(me: NodeId, everybody: usize, rng: ChaCha8Rng, now: Instant) -> Self {
        Self {
            me,
            rng,
            started: now,
            slept: Duration::ZERO,
            everybody,
            members: Arc::default(),
            metered: false,
            place: None,
            table: Table::default(),
            connected: BTreeMap::new(),
            owed: BTreeSet::new(),
            due: None,
        }
    }

    /// Everybody whose summaries are held and passed on; who isn't in it any more is forgotten.
    pub fn handle_members(&mut self, members: Arc<Members>) {
        if Arc::ptr_eq(&self.members, &members) || self.members == members {
            return;
        }
        let moved = |place| members.roll.place(&self.members.roll.at(place));
        self.table.handle_roll(members.roll.len(), moved);
        self.place = members.roll.place(&self.me);
        for (peer, known) in &mut self.connected {
            known.standing = members.standing.get(peer).copied();
        }
        self.members = members;
        self.metered = self.is_metered(&self.me);
    }

    /// A tunnel to `peer` is up.
    pub fn handle_connected(&mut self, peer: NodeId) {
        let standing = self.members.standing.get(&peer).copied();
        let new = || Peer::new(standing);
        self.connected.entry(peer).or_insert_with(new);
    }

    /// The tunnel to `peer` is gone.
    pub fn handle_disconnected(&mut self, peer: NodeId) {
        self.connected.remove(&peer);
        self.owed.remove(&peer);
    }

    /// The machine slept so long, which `Instant` doesn't count: everything held is so much older.
    pub fn handle_slept(&mut self, slept: Duration) {
        self.slept += slept;
    }

    /// This node's own gauges, taken now. `run` and `seq` count its runs and the rows of each.
    pub fn handle_own(&mut self, run: u32, seq: u32, marks: u8, gauges: Gauges, now: Instant) {
        let at_ms = self.clock_ms(now);
        let tick = (run.wrapping_mul(4_096)).wrapping_add(seq) as u16;
        if let Some(place) = self.place {
            self.table.own(place, tick, marks, gauges, at_ms);
        }
    }

    /// A message of a connected peer.
    pub fn handle_message(
        &mut self,
        from: NodeId,
        body: &[u8],
        now: Instant,
    ) -> Result<Taken, Fault> {
        if let Some(peer) = self.connected.get_mut(&from)
            && !peer.heard.take(1.0, now)
        {
            return Err(Fault::TooOften);
        }
        let message = Message::decode(body).ok_or(Fault::Unreadable)?;
        let at_ms = self.clock_ms(now);
        let mut taken = Taken::default();
        let roll = &self.members.roll;
        // What a stranger tells is nobody's word.
        let teller = roll.place(&from);
        for entry in message.entries {
            match (roll.find(entry.id), teller) {
                (Some(place), _) if Some(place) == self.place => {}
                (Some(place), Some(from)) => match self.table.hear(place, from, &entry, at_ms) {
                    Verdict::News => taken.news += 1,
                    Verdict::Disputed => taken.disputed += 1,
                    Verdict::Known => {}
                },
                _ => taken.unknown += 1,
            }
        }
        if message.answer
            && let Some(peer) = self.connected.get_mut(&from)
            && peer.answered.take(1.0, now)
        {
            self.owed.insert(from);
        }
        Ok(taken)
    }

    /// The next message that is due, and for whom.
    pub fn poll_message(&mut self, now: Instant) -> Option<(NodeId, Bytes)> {
        if let Some(to) = self.owed.pop_first() {
            return Some((to, self.message_for(to, now)));
        }
        let due = *self.due.get_or_insert(now);
        if due > now {
            return None;
        }
        let to = self.target();
        let message = to.map(|to| (to, self.message_for(to, now)));
        let len = message.as_ref().map_or(0, |(_, message)| message.len());
        let every = self.every(len);
        // Nodes must not speak in step.
        let jittered = every.mul_f64(self.rng.random_range(0.94..1.06));
        let from = due.max(now.checked_sub(every).unwrap_or(due));
        self.due = Some(from + jittered);
        message
    }

    /// When the next message is due.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, &'static str)> {
        if !self.owed.is_empty() {
            return Some((now, "an answer to a metered member"));
        }
        (!self.connected.is_empty()).then(|| (self.due.unwrap_or(now), "summaries"))
    }

    /// What is known of a member; `None` where nothing ever came.
    #[must_use]
    pub fn seen(&self, node: NodeId, now: Instant) -> Option<Seen> {
        let roll = &self.members.roll;
        self.table
            .seen(roll.place(&node)?, roll, self.clock_ms(now))
    }

    /// What is known of every other member.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = (NodeId, Seen)> + '_ {
        let (roll, at_ms) = (&self.members.roll, self.clock_ms(now));
        let others = (0..roll.len()).filter(|place| Some(*place) != self.place);
        others.filter_map(move |place| {
            let seen = self.table.seen(place, roll, at_ms)?;
            Some((roll.at(place), seen))
        })
    }

    /// How long to wait after a message of so many bytes.
    fn every(&self, len: usize) -> Duration {
        if self.metered {
            METERED_EVERY
        } else if self.members.roll.len() <= self.everybody {
            IDLE_EVERY
        } else {
            let bytes = len as f64 + f64::from(AROUND);
            BUSY_EVERY.max(Duration::from_secs_f64(bytes / f64::from(BUDGET)))
        }
    }

    fn is_metered(&self, node: &NodeId) -> bool {
        self.members
            .standing
            .get(node)
            .is_some_and(|member| member.metered)
    }

    /// Any connected member; a metered one only if there are no others.
    fn target(&mut self) -> Option<NodeId> {
        let of = |metered: bool| {
            let stands = move |peer: &Peer| peer.standing.is_some_and(|s| s.metered == metered);
            self.connected.iter().filter(move |(_, peer)| stands(peer))
        };
        let metered = self.metered && of(false).next().is_none();
        let count = of(metered).count();
        let at = (count > 0).then(|| self.rng.random_range(0..count))?;
        of(metered).nth(at).map(|(peer, _)| *peer)
    }

    fn message_for(&mut self, to: NodeId, now: Instant) -> Bytes {
        let at_ms = self.clock_ms(now);
        let answer = self.metered && !self.is_metered(&to);
        let roll = &self.members.roll;
        let told = roll.place(&to);
        let learnt = self.table.newest_learnt(at_ms);
        let news = learnt.filter(|(place, _, from)| Some(*place) != told && Some(*from) != told);
        let news = news.filter(|(place, ..)| roll.called(*place).is_some());
        let news = news.map(|(place, age, _)| (age, place));
        // What was learnt last is likeliest to be news, and of that what is youngest.
        let mut news: Vec<(Duration, usize)> = news.take(2 * AT_ONCE).collect();
        news.sort_by_key(|(age, _)| *age);
        news.truncate(AT_ONCE);
        let entry = |(_, place)| {
            let seen = self.table.seen(place, roll, at_ms)?;
            Some(Entry {
                id: roll.called(place)?,
                tick: seen.tick,
                marks: seen.marks,
                age: seen.age,
                gauges: seen.gauges,
            })
        };
        let entries = news.into_iter().filter_map(entry).collect();
        Message { answer, entries }.encode()
    }

    /// Milliseconds of this machine's life since the start, sleep included.
    fn clock_ms(&self, now: Instant) -> i64 {
        let lived = now.saturating_duration_since(self.started) + self.slept;
        i64::try_from(lived.as_millis()).unwrap_or(i64::MAX)
    }
}
