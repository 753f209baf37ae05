//! What every node should know of the others: signed events, spread to everyone, so that a node's story outlives the node.
//!
//! In: drafts of this node's events, messages of peers, who is a member. Out: every author's events in its own order,
//! messages, events to be written down, and who did what no honest node does. Whoever drives it owns clocks, sockets and the
//! file: `flow` does.
//! An event of this node is numbered (`numbers`), signed, written down, and only then held and told: to every peer at once,
//! and in a mesh where not everybody has a session with everybody they hand it on. What is lost on the way, or happened
//! during a cut, is found by comparing sets (`sync`).
//! Invariant: equal inputs in equal order give equal outputs; nodes that have heard the same events hold the same (`set`).
//! Bounds: per author (`set`, `quota`), per peer and second (`peer`); `MOST_DRAFTS` wait to be numbered.
//! Absent: what events mean (`outage`, `alarm`, `guard`). Their times are the author's word, and may be wrong by decades.

mod event;
mod file;
mod handle;
mod keep;
mod numbers;
mod peer;
mod quota;
mod set;
mod span;
mod sync;
#[cfg(test)]
mod tests;
mod word;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{MeshId, NodeId};
use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub use event::{Draft, Event, MAX_BODY, Place, kind};
pub(crate) use file::{FILE, stored};
pub(crate) use handle::{Desk, Submitted, channel};
pub use handle::{Events, LedgerHandle, PublishError};
pub(crate) use keep::{Keeper, Scribe, Written, open};
use numbers::Numbers;
use peer::Peer;
use quota::{Foreign, Own};
use set::{Put, Set};
use word::Word;

/// Events of one author that are kept, the newest.
pub const MOST_EVENTS: usize = 512;
/// Events that wait for their number while a starting node asks for the last it used.
const MOST_DRAFTS: usize = 64;
/// An event whose disk doesn't answer for so long is told without having been written: its number comes never again, see
/// `numbers`.
const DISK_WITHIN: Duration = Duration::from_secs(5);
/// Peers that are told of a new event at once.
const TOLD_AT_ONCE: usize = 64;
/// Peers to whom an event is handed on where not everybody has a session with everybody: all of 10,000 have it
/// after some five hands with a chance of 0.998, the rest by comparing.
const HANDED_ON: usize = 6;
/// At a meeting both sides could speak: the later of two within so long finds that it needn't.
const GREET_WITHIN_MS: u64 = 500;

/// Signs in this node's name.
pub type Sign = Box<dyn Fn(&[u8]) -> [u8; 64] + Send + Sync>;

/// Makes and checks signatures.
pub struct Keys {
    /// The mesh whose events these are.
    pub mesh: MeshId,
    /// Signs in this node's name; `None`: it only reads and passes on.
    pub sign: Option<Sign>,
    /// Checks what others signed.
    pub verify: fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("mesh", &self.mesh)
            .finish_non_exhaustive()
    }
}

/// The node has published more than its quota, or can't sign: it is counted, and told later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack;

/// What no honest node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// Bytes that are no message.
    Unreadable,
    /// More messages than sets that differ need.
    Words,
    /// An event that its author did not sign so.
    Forged,
    /// More events than an author may add.
    Quota,
    /// Two signed contents at one place.
    TwoContents,
}

/// Who is a member or was one.
#[derive(Debug, Clone, Default)]
pub struct Authors {
    /// All of them, those who are gone too.
    pub ever: Arc<BTreeSet<NodeId>>,
    /// How many are there.
    pub there: usize,
}

/// Counters for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LedgerStats {
    /// Events held.
    pub events: u64,
    /// Authors of them.
    pub authors: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Events of this node that were over its quota since the start.
    pub held_back: u64,
    /// Events and messages of others that were refused since the start.
    pub refused: u64,
}

/// The pure half.
#[derive(Debug)]
pub struct Ledger {
    me: NodeId,
    keys: Keys,
    rng: ChaCha8Rng,
    set: Set,
    numbers: Numbers,
    own: Own,
    foreign: Foreign,
    authors: Authors,
    peers: BTreeMap<NodeId, Peer>,
    /// What was asked for: whom, and until when it may come.
    asked: BTreeMap<Place, (NodeId, Instant)>,
    drafts: VecDeque<(u64, Draft)>,
    /// Own events that are being written, and when they go on without.
    unwritten: VecDeque<(u64, Event, Instant)>,
    last_ticket: u64,
    messages: VecDeque<(NodeId, Bytes)>,
    records: VecDeque<Event>,
    told: VecDeque<(u64, Place)>,
    offences: VecDeque<(NodeId, Offence)>,
    due: Instant,
    refused: u64,
}

impl Ledger {
    /// A ledger that knows nobody yet. `seed` must come from the system: no two starts may jump alike.
    #[must_use]
    pub fn new(me: NodeId, keys: Keys, seed: u64, now: Instant) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // A stream of its own: nothing else depends on what is drawn here.
        rng.set_stream(2);
        Self {
            me,
            keys,
            rng,
            set: Set::default(),
            numbers: Numbers::new(now),
            own: Own::new(),
            foreign: Foreign::default(),
            authors: Authors::default(),
            peers: BTreeMap::new(),
            asked: BTreeMap::new(),
            drafts: VecDeque::new(),
            unwritten: VecDeque::new(),
            last_ticket: 0,
            messages: VecDeque::new(),
            records: VecDeque::new(),
            told: VecDeque::new(),
            offences: VecDeque::new(),
            due: now,
            refused: 0,
        }
    }

    /// What the disk holds of the runs before, believed as it is: nobody else writes there.
    #[must_use]
    pub fn with_earlier(mut self, events: Vec<Event>, wall_ms: i64) -> Self {
        for event in events {
            self.set.put(event);
        }
        let all = self.set.events().values();
        let mine = all.filter(|event| event.author == self.me);
        self.own
            .handle_earlier(mine.map(|event| event.wall_ms), wall_ms);
        self
    }

    /// Everybody who is or was a member.
    pub fn handle_members(&mut self, authors: Authors, now: Instant) {
        self.set.handle_authors(authors.ever.len());
        self.peers.retain(|peer, _| authors.ever.contains(peer));
        self.authors = authors;
        if self.authors.there <= 1 && self.authors.ever.contains(&self.me) {
            // There is nobody to be asked.
            self.decide(now);
        }
    }

    /// A peer is there, or there again.
    pub fn handle_connected(&mut self, peer: NodeId, now: Instant) {
        let wait = Duration::from_millis(self.rng.random_range(0..GREET_WITHIN_MS));
        let entry = self.peers.entry(peer).or_insert_with(|| Peer::new(now));
        (entry.connected, entry.tell_at) = (true, now + wait);
        self.due = self.due.min(now + wait);
        if !self.numbers.is_decided() {
            self.send(peer, &Word::AsksLast);
        }
    }

    /// A peer is gone.
    pub fn handle_disconnected(&mut self, peer: NodeId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.connected = false;
        }
    }

    /// Something happened here. What comes back names it in `poll_told`.
    pub fn handle_own(&mut self, draft: Draft, now: Instant) -> Result<u64, HeldBack> {
        let full = self.keys.sign.is_none() || self.drafts.len() >= MOST_DRAFTS;
        if full || !self.own.take(&draft, now) {
            return Err(HeldBack);
        }
        self.last_ticket += 1;
        self.drafts.push_back((self.last_ticket, draft));
        self.number(now);
        Ok(self.last_ticket)
    }

    /// An event of this node is on disk, or can't be written: it is told from here on.
    pub fn handle_written(&mut self, place: Place) {
        let is_it = |(_, event, _): &(_, Event, _)| event.place() == place;
        if let Some(at) = self.unwritten.iter().position(is_it) {
            // The disk writes in order.
            let done: Vec<_> = self.unwritten.drain(..=at).collect();
            for (ticket, event, _) in done {
                self.publish(ticket, event);
            }
        }
    }

    /// A message of a peer.
    pub fn handle_message(&mut self, from: NodeId, body: &[u8], now: Instant) {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.connected) else {
            self.refused += 1;
            return;
        };
        if !peer.may_speak(now) {
            return self.blame(from, Offence::Words);
        }
        match Word::decode(body) {
            Some(word) => self.handle_word(from, word, now),
            None => self.blame(from, Offence::Unreadable),
        }
    }

    /// What is due by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.numbers.due().is_some_and(|due| due <= now) {
            self.decide(now);
        }
        while self
            .unwritten
            .front()
            .is_some_and(|(_, _, due)| *due <= now)
        {
            if let Some((ticket, event, _)) = self.unwritten.pop_front() {
                self.publish(ticket, event);
            }
        }
        if let Some((count, last)) = self.own.poll_held(now) {
            let body = postcard::to_stdvec(&count).expect("plain data always serialises");
            let draft = Draft {
                kind: kind::HELD_BACK,
                body: body.into(),
                ..last
            };
            self.last_ticket += 1;
            self.drafts.push_back((self.last_ticket, draft));
            self.number(now);
        }
        self.asked.retain(|_, (_, until)| *until > now);
        self.tell_roots(now);
    }

    /// The next message, and for whom.
    pub fn poll_transmit(&mut self) -> Option<(NodeId, Bytes)> {
        self.messages.pop_front()
    }

    /// The next event to be written down. Of those of this node `handle_written` is waited for.
    pub fn poll_record(&mut self) -> Option<Event> {
        self.records.pop_front()
    }

    /// The next event of this node that is told from here on, by what `handle_own` named it.
    pub fn poll_told(&mut self) -> Option<(u64, Place)> {
        self.told.pop_front()
    }

    /// The next offence, and whose it is.
    pub fn poll_offence(&mut self) -> Option<(NodeId, Offence)> {
        self.offences.pop_front()
    }

    /// When `handle_timeout` is due, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let some_peer = self.peers.values().any(|peer| peer.connected);
        let unwritten = self.unwritten.front().map(|(_, _, due)| *due);
        let due = [
            some_peer.then_some((self.due, "telling what the ledger holds")),
            self.numbers.due().map(|at| (at, "numbering events")),
            unwritten.map(|at| (at, "an event the disk doesn't take")),
            self.own.due().map(|at| (at, "telling what was held back")),
        ];
        due.into_iter().flatten().min()
    }

    /// Everything that is held.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        self.set.events()
    }

    /// Everything that belongs on disk: what is held, and what is being written.
    pub(crate) fn on_disk(&self) -> impl Iterator<Item = &Event> {
        let unwritten = self.unwritten.iter().map(|(_, event, _)| event);
        self.set.events().values().chain(unwritten)
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> LedgerStats {
        LedgerStats {
            events: self.set.events().len() as u64,
            authors: self.set.authors() as u64,
            bytes: self.set.bytes() as u64,
            held_back: self.own.held_back(),
            refused: self.refused,
        }
    }

    /// Numbers go on above what is known to have been used.
    fn decide(&mut self, now: Instant) {
        let last = self.set.newest(&self.me);
        self.numbers.handle_last(last, &mut self.rng);
        self.number(now);
    }

    fn number(&mut self, now: Instant) {
        while self.numbers.is_decided()
            && let Some((ticket, draft)) = self.drafts.pop_front()
        {
            let (Some(sign), Some(seq)) = (&self.keys.sign, self.numbers.take()) else {
                self.refused += 1;
                continue;
            };
            let event = draft.sign(&self.keys.mesh, (self.me, seq), sign);
            self.records.push_back(event.clone());
            self.unwritten.push_back((ticket, event, now + DISK_WITHIN));
        }
    }

    /// An event of this node is held, and told to whoever is there.
    fn publish(&mut self, ticket: u64, event: Event) {
        let place = event.place();
        self.set.put(event.clone());
        let connected = self.connected(None).into_iter().take(TOLD_AT_ONCE);
        for peer in connected.collect::<Vec<_>>() {
            self.tell(peer, std::slice::from_ref(&event));
        }
        self.told.push_back((ticket, place));
    }

    /// Where a mesh is too large for its author to reach everybody, whoever hears of an event hands it on.
    fn hand_on(&mut self, event: &Event, from: NodeId, now: Instant) {
        if self.authors.there <= outlast_mesh::spread::FULL {
            return;
        }
        let others = self.connected(Some(from)).into_iter();
        let others = others.filter(|peer| *peer != event.author);
        let chosen = others.choose_multiple(&mut self.rng, HANDED_ON);
        for word in Word::tells(std::iter::once(event)) {
            for peer in &chosen {
                self.answer(*peer, &word, now);
            }
        }
    }

    /// What an event of somebody else came to.
    fn take(&mut self, from: NodeId, event: Event, now: Instant) {
        let (place, author) = (event.place(), event.author);
        let asked = self.asked.get(&place).is_some_and(|(of, _)| *of == from);
        if asked {
            self.asked.remove(&place);
        }
        let hash = event.hash();
        let held = self.set.hash_at(&place);
        if held.is_some_and(|held| hash.starts_with(&held))
            || !self.set.has_room(&place, event.encoded_len())
        {
            return;
        }
        if !self.authors.ever.contains(&author) {
            self.refused += 1;
            return;
        }
        let signed = event.signed_bytes(&self.keys.mesh);
        if !(self.keys.verify)(&author.0, &signed, &event.signature) {
            return self.blame(from, Offence::Forged);
        }
        if held.is_some() {
            self.blame(author, Offence::TwoContents);
        }
        if author != self.me && !self.foreign.has(author, now) {
            return self.blame(author, Offence::Quota);
        }
        if !matches!(self.set.put(event.clone()), Put::New | Put::Replaced) {
            return;
        }
        if author != self.me {
            self.foreign.take(author, now);
        }
        if author == self.me && self.numbers.is_decided() {
            self.decide(now);
        }
        if asked {
            // There may be more where it came from.
            self.tell_by(from, now + Duration::from_secs(1));
        } else {
            self.hand_on(&event, from, now);
        }
        self.records.push_back(event);
    }

    fn connected(&self, without: Option<NodeId>) -> Vec<NodeId> {
        let peers = self.peers.iter();
        let peers = peers.filter(|(id, peer)| peer.connected && Some(**id) != without);
        peers.map(|(id, _)| *id).collect()
    }

    fn tell(&mut self, to: NodeId, events: &[Event]) {
        for word in Word::tells(events.iter()) {
            self.send(to, &word);
        }
    }

    fn send(&mut self, to: NodeId, word: &Word) {
        self.messages.push_back((to, word.encode()));
    }

    /// Sends what a peer brought about, as far as its budget goes; the rest comes at the next comparison.
    fn answer(&mut self, to: NodeId, word: &Word, now: Instant) -> bool {
        let bytes = word.encode();
        let granted = self
            .peers
            .get_mut(&to)
            .is_some_and(|peer| peer.may_be_answered(bytes.len(), now));
        if granted {
            self.messages.push_back((to, bytes));
        }
        granted
    }

    fn blame(&mut self, culprit: NodeId, what: Offence) {
        self.refused += 1;
        if culprit != self.me {
            self.offences.push_back((culprit, what));
        }
    }
}
