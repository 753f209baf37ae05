//! What members of a large mesh say of each other's lives, and what is believed of each.
//!
//! Whoever watches a peer and hears it no longer says so to a few others, signed, and they say it on; whoever is called silent
//! refutes it. In: the silences of those watched, words from peers. Out: words, the state shown of each member, and the notice of a
//! node that is cut off. Invariant: a word that changes nothing costs no signature's check, and each speaker and each
//! bringer has a budget. Absent: what words are worth (`spread::lives`), when to speak (`spread::watch`), whom to tell on
//! and when (`spread::telling`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Node;
use super::wide::{ALIVE, WORDS_PAUSE, is_heard};
use crate::id::NodeId;
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::snapshot::PeerState;
use crate::spread::lives::{Belief, Say, Taken, Word};
use crate::time::Now;
use crate::wire::message::kind;
use crate::wire::word;

/// So long after it was heard a peer is merely stale.
const STALE: Duration = Duration::from_secs(10);

/// A peer that fell silent is watched so long; by then its fate is told.
pub(super) const WATCHED: Duration = Duration::from_secs(60);

/// After so long since the start members nobody speaks of are believed to live: whoever watches them would have told.
const SETTLE: Duration = Duration::from_secs(20);

impl Node {
    /// Calls silent who is, as far as can be told from here.
    pub(super) fn watch_peers(&mut self, now: Now) {
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

    pub(super) fn call_silent(&mut self, id: NodeId, now: Now) {
        if self.wide.lives.wants_word(id, self.me)
            && let Some(life) = self.wide.lives.life(id)
        {
            tracing::debug!(peer = %id.short(), "fell silent");
            let word = word::sign(&self.identity.node, &self.mesh, id, life, Say::Silent);
            self.wide.lives.handle_word(word);
            self.wide.telling.handle_news(word, None);
            self.tell_on(now);
        }
    }

    /// Tells what waits to be told, if it is time.
    pub(super) fn tell_on(&mut self, now: Now) {
        if !self.wide.telling.is_due(now.mono) {
            return;
        }
        let connected = self.connected().collect();
        let wide = &mut self.wide;
        let (lives, me) = (&wide.lives, self.me);
        // What this node says of itself isn't held among what is said of others.
        let is_held = |word: &Word| match word.about == me {
            true => lives.life(me) == Some(word.life),
            false => lives.holds(word),
        };
        let telling = &mut wide.telling;
        let said = telling.poll_tell(connected, is_held, now.mono, &mut self.random);
        for (to, words) in said {
            self.say_words(to, &words, now);
        }
    }

    pub(super) fn say_words(&mut self, to: NodeId, words: &[Word], now: Now) {
        for some in words.chunks(word::IN_A_FRAME) {
            let body: Vec<u8> = some.iter().flat_map(word::encode).collect();
            self.say(to, kind::WORDS, &body, now);
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
        let mut outlived = false;
        for word in words {
            match self.wide.lives.weigh(&word) {
                Taken::Known => self.wide.telling.handle_known(&word, from),
                Taken::Outlived => outlived = true,
                Taken::Refused => self.drop_one("word refused"),
                Taken::New if self.is_granted(from, &word, now) => {
                    let before = self.wide.lives.life(word.about);
                    self.wide.lives.handle_word(word);
                    if before.is_some_and(|before| before < word.life) {
                        self.hear_of_return(&word);
                    }
                    self.wide.telling.handle_news(word, Some(from));
                }
                Taken::Refute(life) if self.is_granted(from, &word, now) => self.refute(life, now),
                Taken::New | Taken::Refute(_) => self.drop_one("word refused"),
            }
        }
        if outlived {
            self.say_again(from, now);
        }
        self.tell_on(now);
    }

    /// A peer says what was said of an earlier life of this node: the word that ended it was lost on its way there.
    fn say_again(&mut self, to: NodeId, now: Now) {
        let pauses = |at: Instant| now.mono < at + WORDS_PAUSE;
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        if peer.bond.said_again.is_some_and(pauses) {
            return;
        }
        peer.bond.said_again = Some(now.mono);
        if let Some(life) = self.wide.lives.life(self.me) {
            let (key, mesh) = (&self.identity.node, &self.mesh);
            let word = word::sign(key, mesh, self.me, life, Say::Alive);
            self.say_words(to, &[word], now);
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

    /// This node is called silent, and lives.
    fn refute(&mut self, life: u64, now: Now) {
        if self.wide.refutes.take(1.0, now.mono) {
            self.say_of_myself(life, Say::Alive, now);
        }
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

    /// Says to a few connected peers that this node leaves, for them to tell on.
    pub(super) fn say_farewell(&mut self, now: Now) {
        if self.wide.on
            && let Some(life) = self.wide.lives.life(self.me)
        {
            self.wide.telling.hurry();
            self.say_of_myself(life, Say::Left, now);
        }
    }

    fn say_of_myself(&mut self, life: u64, say: Say, now: Now) {
        let word = word::sign(&self.identity.node, &self.mesh, self.me, life, say);
        self.wide.lives.handle_own(&word);
        self.wide.telling.handle_news(word, None);
        self.tell_on(now);
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

/// Whether its silence says anything: the session is kept, and of its life since it started last.
fn is_watched(peer: &Peer, silence: Duration, now: Now) -> bool {
    let born = peer.bond.born;
    let age = born.map(|at| now.mono.saturating_duration_since(at));
    !peer.bond.resting && age.is_none_or(|age| silence < age)
}
