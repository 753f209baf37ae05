//! A mesh too large for a session with everybody: whom a session is kept with, and what is believed of the rest.
//!
//! Up to `spread::FULL` members everybody is awake: dialled, asked for signs of life, renewed. Above, a member is
//! kept for one of these reasons: the application wants it, it is one of the view's picks, a message or stream for
//! it is under way; or it keeps us. Each side tells the other whether it keeps it (`WISH`); a session nobody keeps
//! rests: no question, no renewal, until it expires. Everybody else sleeps and costs nothing, and a message wakes it.
//! What sleepers are believed to be comes from those that watch them (`spread::lives`).
//! Bounds: `MOST_AWAKE` members awake, over it a message to a sleeper is refused; `MOST_EARLY` messages wait for a session
//! that begins, the oldest goes first; words are told to `FAN_OUT` peers. Whatever is dropped is counted.
//! Absent: how a session is made (`datagram`), and everything up to `spread::FULL` members.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::seq::SliceRandom;

use super::{Node, NodeEvent};
use crate::allowance::Allowance;
use crate::id::NodeId;
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::snapshot::PeerState;
use crate::spread::FULL;
use crate::spread::liveness::Pace;
use crate::spread::lives::{Belief, Lives, Say, Taken, Word};
use crate::spread::sync;
use crate::spread::view::View;
use crate::spread::watch::Watch;
use crate::time::Now;
use crate::wire::message::{self, Wish, kind};
use crate::wire::word;

/// Members awake at once: several times what view, keepers and viewers come to.
const MOST_AWAKE: usize = 512;

/// Messages that wait for a session that begins.
const MOST_EARLY: usize = 64;

/// How long a session begun for a message or a stream is kept after the last of it.
const KEPT_FOR_USE: Duration = Duration::from_secs(15);

/// How long a member whose handshake we answered may take to prove it, while we dial it too.
const PROVING: Duration = Duration::from_secs(5);

/// A wish is told again this often, in case it was lost; with it goes the digest of what is believed.
const WISH_AGAIN: Duration = Duration::from_secs(30);

/// Words held are sent to one peer at most this often, and so many at a time.
const WORDS_PAUSE: Duration = Duration::from_secs(5);
const WORDS_AT_ONCE: usize = 32;

/// Peers a new word is told to; with each of them doing the same everybody hears it in a few hops.
const FAN_OUT: usize = 8;

/// A peer with a session was heard within this time, or it is no longer alive by our own ears: it is asked after
/// `Pace::rare` and once a second from then on.
const ALIVE: Duration = Duration::from_secs(7);

/// So long after it was heard a peer is merely stale.
const STALE: Duration = Duration::from_secs(10);

/// A peer that fell silent is watched so long; by then its fate is told.
const WATCHED: Duration = Duration::from_secs(60);

/// After so long since the start members nobody speaks of are believed to live: whoever watches them would have told.
const SETTLE: Duration = Duration::from_secs(20);

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
    view: View,
    pub(super) lives: Lives,
    watch: Watch,
    refutes: Allowance,
    cut_off: bool,
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
    born: Option<Instant>,
    /// Messages that wait for the session.
    early: VecDeque<(u8, Bytes)>,
    words_at: Option<Instant>,
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
            words_at: None,
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
            view: View::new(first, now.mono),
            lives: Lives::new(me),
            watch: Watch::default(),
            refutes: Allowance::new(REFUTES.0, REFUTES.1),
            cut_off: false,
        }
    }

    /// Whether anything but a message under way keeps a session with this peer.
    #[cfg(test)]
    pub(super) fn keeps(&self, id: NodeId, peer: &Peer) -> bool {
        self.wanted.contains(&id) || self.view.contains(id) || peer.bond.keeps_us
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

    /// How often sets of statements are compared with each connected peer.
    pub(super) fn compare_every(&self) -> Duration {
        match self.wide.on {
            false => sync::COMPARE_EVERY,
            true => sync::COMPARE_RARELY,
        }
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
        self.keep_sessions(now);
        self.watch_peers(now);
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
        let unanswered = wide.view.handle_timeout(
            peers.keys(),
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
        let by_us = self.wide.wanted.contains(&id) || self.wide.view.contains(id);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let within = |moment: Option<Instant>, time| moment.is_some_and(|at| now.mono < at + time);
        let bond = &mut peer.bond;
        bond.kept = by_us || within(bond.used, KEPT_FOR_USE);
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
        let was_connected = peer.connected;
        peer.disconnect();
        peer.renewal = None;
        if was_connected {
            self.emit(NodeEvent::Disconnected(id));
        }
        for _ in 0..unsaid {
            self.drop_one("never reached");
        }
    }

    /// Calls silent who is, as far as can be told from here.
    fn watch_peers(&mut self, now: Now) {
        let silence = |id: &NodeId| {
            let peer = self.peers.get(id)?;
            let silence = peer.liveness.silence(now.mono)?;
            let watched = is_watched(peer, silence, now) && !peer.liveness.has_left();
            (watched && silence < WATCHED).then_some((*id, silence))
        };
        let silences: BTreeMap<NodeId, Duration> =
            self.wide.awake.iter().filter_map(silence).collect();
        let silent = self.wide.watch.judge(&silences, now.mono, &mut self.random);
        for id in silent {
            self.call_silent(id, now);
        }
    }

    fn call_silent(&mut self, id: NodeId, now: Now) {
        if self.wide.lives.wants_word(id, self.me)
            && let Some(life) = self.wide.lives.life(id)
        {
            tracing::debug!(peer = %id.short(), "fell silent");
            let word = word::sign(&self.identity.node, &self.mesh, id, life, Say::Silent);
            self.wide.lives.handle_word(word);
            self.tell(&[word], None, now);
        }
    }

    /// Tells a few connected peers, at random, but not who brought it; and always who is meant.
    fn tell(&mut self, words: &[Word], but: Option<NodeId>, now: Now) {
        let connected = self.connected().filter(|id| Some(*id) != but);
        let mut connected: Vec<NodeId> = connected.collect();
        let (some, _others) = connected.partial_shuffle(&mut self.random, FAN_OUT);
        let mut to: BTreeSet<NodeId> = some.iter().copied().collect();
        let meant = words.iter().map(|word| word.about);
        to.extend(meant.filter(|id| self.peers.get(id).is_some_and(|peer| peer.connected)));
        for id in to {
            self.say_words(id, words, now);
        }
    }

    fn say_words(&mut self, to: NodeId, words: &[Word], now: Now) {
        for word in words {
            self.say(to, kind::WORDS, &word::encode(word), now);
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
            self.say(
                id,
                kind::WISH,
                &message::encode(&Wish { want, doubts }),
                now,
            );
        }
    }

    /// A peer says whether it keeps its session with us, and whether it believes what we believe.
    pub(super) fn wish(&mut self, id: NodeId, wish: Wish, now: Now) {
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
            let mut words: Vec<Word> = self.wide.lives.words().copied().collect();
            let (some, _others) = words.partial_shuffle(&mut self.random, WORDS_AT_ONCE);
            let some = some.to_vec();
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

    /// A session with this peer is up: it hears what is said of it, so that it can refute it.
    pub(super) fn tell_what_is_said(&mut self, id: NodeId, now: Now) {
        if self.wide.on {
            let said: Vec<Word> = self.wide.lives.words_about(id).copied().collect();
            self.say_words(id, &said, now);
        }
    }

    /// Takes words a peer brings. Only those that change something cost a signature's check.
    pub(super) fn words(&mut self, from: NodeId, words: Vec<Word>, now: Now) {
        if !self.wide.on {
            return;
        }
        let mut news = Vec::new();
        for word in words {
            match self.wide.lives.weigh(&word) {
                Taken::Known => {}
                Taken::Refused => self.drop_one("word refused"),
                Taken::New if self.is_granted(from, &word, now) => {
                    self.wide.lives.handle_word(word);
                    self.hear_of_return(&word);
                    news.push(word);
                }
                Taken::Refute(life) if self.is_granted(from, &word, now) => self.refute(life, now),
                Taken::New | Taken::Refute(_) => self.drop_one("word refused"),
            }
        }
        if !news.is_empty() {
            self.tell(&news, Some(from), now);
        }
    }

    /// Whether a word is its speaker's, and neither it nor its bringer says too much.
    fn is_granted(&mut self, from: NodeId, word: &Word, now: Now) -> bool {
        if !self.grants(from, |quota| quota.brought.take(1.0, now.mono)) {
            self.blame(from, Offence::Words, now);
            return false;
        }
        if !word::is_signed(word, &self.mesh) {
            self.blame(from, Offence::ForgedWord, now);
            return false;
        }
        // What this node said before it started again comes back from the others.
        let spoken =
            word.by == self.me || self.grants(word.by, |quota| quota.spoken.take(1.0, now.mono));
        if !spoken {
            self.blame(word.by, Offence::Words, now);
        }
        spoken
    }

    /// Whoever said goodbye to us and lives again need not have come here first.
    fn hear_of_return(&mut self, word: &Word) {
        if word.say == Say::Alive
            && let Some(peer) = self.peers.get_mut(&word.about)
        {
            peer.liveness.returned();
        }
    }

    /// Its statements say how often a member has started.
    pub(super) fn hear_of_start(&mut self, id: NodeId, incarnation: u32, now: Now) {
        let fresh = now.mono > self.started;
        let again = self.wide.lives.handle_start(id, incarnation, fresh);
        if let Some(peer) = self.peers.get_mut(&id).filter(|_| again && self.wide.on) {
            peer.liveness.returned();
            peer.bond.born = fresh.then_some(now.mono);
        }
    }

    /// This node is called silent, and lives.
    fn refute(&mut self, life: u64, now: Now) {
        if self.wide.refutes.take(1.0, now.mono) {
            self.say_of_myself(life, Say::Alive, now);
        }
    }

    /// Says to all connected peers that this node leaves.
    pub(super) fn say_farewell(&mut self, now: Now) {
        if self.wide.on
            && let Some(life) = self.wide.lives.life(self.me)
        {
            self.say_of_myself(life, Say::Left, now);
        }
    }

    fn say_of_myself(&mut self, life: u64, say: Say, now: Now) {
        let word = word::sign(&self.identity.node, &self.mesh, self.me, life, say);
        self.wide.lives.handle_own(&word);
        self.tell(&[word], None, now);
    }

    /// Whether a peer is there: by our own ears where it has a session, else by what is said.
    pub(super) fn peer_state(&self, peer: &Peer, now: Now) -> PeerState {
        if !self.wide.on {
            return peer.liveness.state(now.mono);
        }
        let belief = self.wide.lives.belief(peer.id);
        let silence = peer.liveness.silence(now.mono);
        let awake = self.wide.awake.contains(&peer.id)
            && silence.is_some_and(|silence| is_watched(peer, silence, now));
        match silence {
            _ if peer.liveness.has_left() => PeerState::Left,
            Some(silence) if silence <= ALIVE => PeerState::Alive,
            Some(silence) if awake && silence <= STALE => PeerState::Stale,
            Some(silence) if awake && silence <= WATCHED => match belief {
                Belief::Down => PeerState::Down,
                Belief::Left => PeerState::Left,
                Belief::Alive | Belief::Unsaid | Belief::Suspect => PeerState::Suspect,
            },
            _ => self.sleeper_state(belief, now),
        }
    }

    fn sleeper_state(&self, belief: Belief, now: Now) -> PeerState {
        let starting = now.mono < self.started + SETTLE;
        match belief {
            Belief::Down => PeerState::Down,
            Belief::Left => PeerState::Left,
            Belief::Suspect => PeerState::Suspect,
            Belief::Alive | Belief::Unsaid if self.wide.cut_off => PeerState::Suspect,
            Belief::Unsaid if starting => PeerState::Suspect,
            Belief::Alive | Belief::Unsaid => PeerState::Alive,
        }
    }

    /// What a node has to say that hears next to nobody.
    pub(super) fn cut_off_notice(&self, now: Now) -> Option<String> {
        let heard = self.peers.values().filter(|peer| is_heard(peer, now));
        (self.wide.on && self.wide.cut_off).then(|| {
            format!(
                "this node hears {} of {} members and seems cut off from the rest: what it shows of them is what it last knew",
                heard.count() + 1,
                self.peers.len() + 1
            )
        })
    }
}

/// Whether there is a session with it that works.
fn is_heard(peer: &Peer, now: Now) -> bool {
    peer.is_live() && !peer.bond.resting && peer.liveness.heard_within(ALIVE, now.mono)
}

/// Whether its silence says anything: the session is kept, and of its life since it started last.
fn is_watched(peer: &Peer, silence: Duration, now: Now) -> bool {
    let born = peer.bond.born;
    let age = born.map(|at| now.mono.saturating_duration_since(at));
    !peer.bond.resting && age.is_none_or(|age| silence < age)
}
