//! A mesh too large for a session with everybody: whom one is kept with.
//!
//! Up to `spread::FULL` members everybody is awake: dialled, asked for signs of life, renewed. Above, a member is
//! kept for one of these reasons: the application wants it, it is one of the view's picks, a message or stream for
//! it or through it is under way, we can be met there alone (`path::relay`); or it keeps us. Each side tells the other whether it keeps it (`WISH`); a session nobody keeps
//! rests: no question, no renewal, until it expires. Everybody else sleeps and costs nothing, and a message wakes it.
//! Bounds: `MOST_AWAKE` members awake, over it a message to a sleeper is refused; `MOST_EARLY` messages wait for a
//! session that begins, the oldest goes first. Whatever is dropped is counted.
//! Absent: how a session is made (`datagram`), what is believed of sleepers (`words`), and everything up to
//! `spread::FULL` members.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::words::WATCHED;
use super::{Node, NodeEvent};
use crate::allowance::Allowance;
use crate::id::NodeId;
use crate::peer::Peer;
use crate::spread::FULL;
use crate::spread::liveness::Pace;
use crate::spread::lives::{Belief, Lives};
use crate::spread::telling::Telling;
use crate::spread::view::View;
use crate::spread::watch::Watch;
use crate::time::Now;
use crate::wire::message::{self, Wish, kind};

/// Members awake at once: several times what view, keepers and viewers come to.
pub(super) const MOST_AWAKE: usize = 512;

/// Messages that wait for a session that begins.
const MOST_EARLY: usize = 64;

/// How long a session begun for a message or a stream is kept after the last of it.
const KEPT_FOR_USE: Duration = Duration::from_secs(15);

/// How long a member whose handshake we answered may take to prove it, while we dial it too.
const PROVING: Duration = Duration::from_secs(5);

/// A wish is told again this often, in case it was lost; with it goes the digest of what is believed.
const WISH_AGAIN: Duration = Duration::from_secs(30);

/// Words held are sent to one peer at most this often, and so many at a time.
pub(super) const WORDS_PAUSE: Duration = Duration::from_secs(5);
const WORDS_AT_ONCE: usize = 32;

/// A peer with a session was heard within this time, or it is no longer alive by our own ears: it is asked after
/// `Pace::rare` and once a second from then on.
pub(super) const ALIVE: Duration = Duration::from_secs(7);

/// How often this node looks which members it is to be met at.
const LANDMARKS_EVERY: Duration = Duration::from_secs(10);

/// How often this node says that it lives when it is called silent.
const REFUTES: (f64, f64) = (0.2, 8.0);

/// What concerns large meshes only.
#[derive(Debug)]
pub(super) struct Wide {
    /// Whether the mesh is too large for a session with everybody.
    pub(super) on: bool,
    /// Up to so many members it is not: `spread::FULL`, but in tests.
    full: usize,
    /// Members with a session, or to be dialled; everybody in a small mesh.
    pub(super) awake: BTreeSet<NodeId>,
    wanted: BTreeSet<NodeId>,
    /// Kept so that others find this node there, and when that was looked at.
    landmarks: Vec<NodeId>,
    landmarks_at: Option<Instant>,
    pub(super) view: View,
    pub(super) lives: Lives,
    pub(super) telling: Telling,
    pub(super) watch: Watch,
    pub(super) refutes: Allowance,
    pub(super) cut_off: bool,
}

/// What holds a session with one member in a large mesh.
#[derive(Debug)]
pub(crate) struct Bond {
    /// Whether we keep it.
    pub(super) kept: bool,
    /// Whether it keeps us, as it said last.
    pub(super) keeps_us: bool,
    /// Nobody keeps the session; it is not used any more.
    pub(super) resting: bool,
    /// What we told last, and when.
    told: Option<(bool, Instant)>,
    /// When the session was last used for what it was begun for.
    used: Option<Instant>,
    /// When a handshake of its was answered that it has not proved.
    pub(super) proving: Option<Instant>,
    /// When it was heard of that it has started again.
    pub(super) born: Option<Instant>,
    /// Messages that wait for the session.
    early: VecDeque<(u8, Bytes)>,
    /// When it was last woken for others that look for it.
    pub(super) roused: Option<Instant>,
    /// What these brought for it, and who.
    pub(super) held: Vec<(NodeId, Vec<u8>)>,
    words_at: Option<Instant>,
    /// When it was told last that this node lives, since it said what was said of an earlier life.
    pub(super) said_again: Option<Instant>,
}

impl Default for Bond {
    fn default() -> Self {
        Self {
            kept: true,
            keeps_us: true,
            resting: false,
            told: None,
            used: None,
            proving: None,
            born: None,
            early: VecDeque::new(),
            roused: None,
            held: Vec::new(),
            words_at: None,
            said_again: None,
        }
    }
}

impl Bond {
    /// Whether we may dial it.
    pub(super) fn may_dial(&self) -> bool {
        self.kept || self.proving.is_some()
    }

    /// A session begins: both sides tell anew what they wish.
    pub(super) fn begin_session(&mut self) {
        self.told = None;
        self.keeps_us = true;
        self.resting = false;
        self.proving = None;
        self.roused = None;
    }

    /// Whether it was used of late for what it was begun for.
    pub(super) fn is_used(&self, now: Now) -> bool {
        self.used.is_some_and(|at| now.mono < at + KEPT_FOR_USE)
    }
}

impl Wide {
    pub(super) fn new(me: NodeId, remembered: &[(NodeId, SocketAddr)], now: Now) -> Self {
        let mut first: Vec<NodeId> = Vec::new();
        for (id, _) in remembered.iter().rev() {
            if !first.contains(id) {
                first.push(*id);
            }
        }
        Self {
            on: false,
            full: FULL,
            awake: BTreeSet::new(),
            wanted: BTreeSet::new(),
            landmarks: Vec::new(),
            landmarks_at: None,
            view: View::new(first, now.mono),
            lives: Lives::new(me),
            telling: Telling::default(),
            watch: Watch::default(),
            refutes: Allowance::new(REFUTES.0, REFUTES.1),
            cut_off: false,
        }
    }

    /// Whether anything but a message under way keeps a session with this peer.
    #[cfg(test)]
    pub(super) fn keeps(&self, id: NodeId, peer: &Peer) -> bool {
        self.wants(id) || self.view.contains(id) || peer.bond.keeps_us
    }

    /// Whether the application wants a session with this member, or it is one of our landmarks.
    pub(super) fn wants(&self, id: NodeId) -> bool {
        self.wanted.contains(&id) || self.landmarks.contains(&id)
    }

    /// A member is gone for good.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.awake.remove(&id);
        self.view.forget(id);
        self.lives.forget(id);
    }
}

impl Node {
    /// Names the members a session is kept with though the mesh is large.
    pub(crate) fn handle_want(&mut self, wanted: BTreeSet<NodeId>, now: Now) {
        self.wide.wanted = wanted;
        self.keep_sessions(now);
    }

    /// Begins a session with a member that sleeps. False if there is no such member or no room.
    pub(crate) fn handle_wake(&mut self, id: NodeId, now: Now) -> bool {
        let has_room = self.wide.awake.len() < MOST_AWAKE || self.wide.awake.contains(&id);
        let known = self.peers.get(&id).is_some_and(|peer| peer.key.is_some());
        if !self.wide.on || !known {
            return false;
        }
        if !has_room {
            self.drop_one("too many sessions");
            return false;
        }
        self.used(id, now);
        self.wake(id, now);
        true
    }

    /// Keeps a message for a session that begins with it.
    pub(super) fn say_early(&mut self, to: NodeId, kind: u8, body: &[u8], now: Now) -> bool {
        if !self.handle_wake(to, now) {
            return false;
        }
        let Some(peer) = self.peers.get_mut(&to) else {
            return false;
        };
        let early = &mut peer.bond.early;
        early.push_back((kind, Bytes::copy_from_slice(body)));
        if early.len() > MOST_EARLY {
            early.pop_front();
            self.drop_one("waiting queue full");
        }
        true
    }

    /// Says what waited for the session.
    pub(super) fn say_what_waited(&mut self, id: NodeId, now: Now) {
        let early = self
            .peers
            .get_mut(&id)
            .map(|peer| std::mem::take(&mut peer.bond.early));
        for (kind, body) in early.into_iter().flatten() {
            self.say(id, kind, &body, now);
        }
    }

    /// A stream's packet passes: its session is kept.
    pub(super) fn used(&mut self, id: NodeId, now: Now) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.bond.used = Some(now.mono);
        }
    }

    /// Lets a small mesh behave as one that is larger than `full`.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn handle_full(&mut self, full: usize) {
        self.wide.full = full;
        self.size_up();
    }

    /// Takes the size of the mesh into account.
    pub(super) fn size_up(&mut self) {
        self.wide.on = self.peers.len() >= self.wide.full;
        if !self.wide.on {
            self.wide.awake = self.peers.keys().copied().collect();
            for peer in self.peers.values_mut().filter(|peer| !peer.bond.kept) {
                peer.bond.kept = true;
                peer.bond.resting = false;
            }
        }
    }

    /// How often a peer is asked for a sign of life: of two sides that would ask at once the lower id asks.
    pub(super) fn pace(&self, peer: &Peer) -> Pace {
        let first = match (peer.bond.kept, peer.bond.keeps_us) {
            _ if !self.wide.on => self.me < peer.id,
            (true, true) => self.me < peer.id,
            (kept, _) => kept,
        };
        match self.wide.on {
            false => Pace::close(first),
            true => Pace::rare(first),
        }
    }

    /// A connected peer silent for so long is dialled besides being asked.
    pub(super) fn dial_after(&self) -> Duration {
        Duration::from_secs(if self.wide.on { 7 } else { 5 })
    }

    /// What is due each second in a large mesh.
    pub(super) fn keep_wide(&mut self, late: bool, now: Now) {
        if !self.wide.on {
            return;
        }
        if late {
            self.wide.watch.handle_late(now.mono);
        }
        self.look_around(now);
        let looked = |at: Instant| now.mono < at + LANDMARKS_EVERY;
        if !self.wide.landmarks_at.is_some_and(looked) {
            self.wide.landmarks_at = Some(now.mono);
            self.wide.landmarks = self.own_landmarks();
        }
        self.keep_sessions(now);
        self.watch_peers(now);
        self.tell_on(now);
        self.tell_wishes(now);
    }

    fn look_around(&mut self, now: Now) {
        let wide = &mut self.wide;
        let peers = &self.peers;
        let heard = |id| peers.get(&id).is_some_and(|peer| is_heard(peer, now));
        let awake_and_heard: BTreeSet<NodeId> =
            wide.awake.iter().copied().filter(|id| heard(*id)).collect();
        for id in &awake_and_heard {
            wide.lives.handle_heard(*id);
        }
        let lives = &wide.lives;
        let state = &self.state;
        let unanswered = wide.view.handle_timeout(
            peers.keys().filter(|id| !state.is_replaced(id)),
            |id| lives.belief(id),
            |id| awake_and_heard.contains(&id),
            now.mono,
            &mut self.random,
        );
        wide.cut_off = wide.view.is_cut_off(now.mono);
        if wide.cut_off {
            return;
        }
        for unanswered in unanswered {
            // One that is known to live may be out of reach for us alone, behind a router that lets nobody in.
            let belief = self.wide.lives.belief(unanswered.0);
            if matches!(belief, Belief::Unsaid | Belief::Suspect) {
                self.call_silent(unanswered.0, now);
            }
        }
    }

    /// Wakes who is to be kept, lets rest whom nobody keeps, forgets sessions that are over.
    fn keep_sessions(&mut self, now: Now) {
        if !self.wide.on {
            return;
        }
        let to_wake: Vec<NodeId> = self
            .wide
            .wanted
            .iter()
            .chain(&self.wide.landmarks)
            .copied()
            .chain(self.wide.view.picks())
            .filter(|id| self.peers.contains_key(id))
            .collect();
        for id in to_wake {
            self.wake(id, now);
        }
        let awake: Vec<NodeId> = self.wide.awake.iter().copied().collect();
        for id in awake {
            self.keep_or_rest(id, now);
        }
    }

    fn wake(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.bond.kept = true;
        let rested = std::mem::take(&mut peer.bond.resting);
        if self.wide.awake.insert(id) || (rested && !peer.is_live()) {
            peer.candidates.reset();
            peer.dial.begin(now.mono, &mut self.random);
        }
    }

    fn keep_or_rest(&mut self, id: NodeId, now: Now) {
        let by_us = self.wide.wants(id) || self.wide.view.contains(id);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let within = |moment: Option<Instant>, time| moment.is_some_and(|at| now.mono < at + time);
        let bond = &mut peer.bond;
        bond.kept = by_us || bond.is_used(now);
        if !within(bond.proving, PROVING) {
            bond.proving = None;
        }
        let watched = !bond.resting && peer.liveness.heard_within(WATCHED, now.mono);
        let keeps_us = bond.keeps_us && watched && !peer.liveness.has_left();
        if peer.bond.may_dial() || keeps_us {
            return;
        }
        if !peer.bond.resting {
            peer.bond.resting = true;
            self.rest(id);
        }
        if self.peers.get(&id).is_some_and(|peer| !peer.is_live()) {
            self.drop_session(id);
            self.wide.awake.remove(&id);
        }
    }

    fn rest(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let unsaid = std::mem::take(&mut peer.bond.early).len();
        let held = std::mem::take(&mut peer.bond.held).len();
        let was_connected = peer.connected;
        peer.disconnect();
        peer.renewal = None;
        if was_connected {
            self.emit(NodeEvent::Disconnected(id));
        }
        for _ in 0..unsaid + held {
            self.drop_one("never reached");
        }
    }

    /// Tells whether sessions are kept, where that changed or was told long ago.
    fn tell_wishes(&mut self, now: Now) {
        let doubts = self.wide.lives.digest();
        let connected: Vec<NodeId> = self.connected().collect();
        for id in connected {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            let want = peer.bond.kept;
            let known = |(told, at): (bool, Instant)| told == want && now.mono < at + WISH_AGAIN;
            if peer.bond.told.is_some_and(known) {
                continue;
            }
            peer.bond.told = Some((want, now.mono));
            let parts = self.wide.lives.parts();
            let wish = Wish { want, doubts };
            self.say(id, kind::WISH, &wish.encode(&parts), now);
        }
    }

    /// A peer says whether it keeps its session with us, and whether it believes what we believe.
    pub(super) fn wish(&mut self, id: NodeId, wish: Wish, parts: &[u8], now: Now) {
        if !self.wide.on {
            return;
        }
        let differs = wish.doubts != self.wide.lives.digest();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.bond.keeps_us = wish.want;
        if wish.want && std::mem::take(&mut peer.bond.resting) {
            peer.greeting.begin(Some(now.mono));
        }
        let rested = peer
            .bond
            .words_at
            .is_none_or(|at| now.mono >= at + WORDS_PAUSE);
        if differs && rested {
            peer.bond.words_at = Some(now.mono);
            let lives = &self.wide.lives;
            let some = lives.words_unlike(parts, WORDS_AT_ONCE, &mut self.random);
            self.say_words(id, &some, now);
        }
    }

    /// A peer says something though the session rests: it did not hear that, or we did not hear that it keeps us.
    pub(super) fn stir_from_rest(&mut self, id: NodeId, now: Now) {
        if let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.bond.resting) {
            peer.bond.begin_session();
            peer.greeting.begin(Some(now.mono));
        }
    }

    /// A peer asks for a sign of life though the session rests: it did not hear that nobody keeps it.
    pub(super) fn tell_rest(&mut self, id: NodeId, now: Now) {
        if self.peers.get(&id).is_some_and(|peer| peer.bond.resting) {
            let doubts = self.wide.lives.digest();
            let wish = Wish {
                want: false,
                doubts,
            };
            self.say(id, kind::WISH, &message::encode(&wish), now);
        }
    }
}

/// Whether there is a session with it that works.
pub(super) fn is_heard(peer: &Peer, now: Now) -> bool {
    peer.is_live() && !peer.bond.resting && peer.liveness.heard_within(ALIVE, now.mono)
}
