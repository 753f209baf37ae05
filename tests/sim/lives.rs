//! Who lives, as each machine believes: what mesh does above the tunnel, over mesh's own pure parts.
//!
//! Up to `FULL` members everybody goes by its own ears. Above, `View` picks whom a session is kept with, `Watch` says who of
//! those fell silent, words about that go from one to the next, and `Lives` says what follows from them.
//! Otherwise than in mesh's `node/wide`: both ends of a session nobody keeps learn so at once (the wish is sent and counted
//! all the same), signatures are believed, a view draws from some of the members instead of all, and who starts again says so by
//! a word, where in life its statements tell of it.
//! Absent: whether a belief is true (`check`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outlast_mesh::spread::FULL;
use outlast_mesh::spread::lives::{Belief, Lives, Say, Taken, Word, life_of_start};
use outlast_mesh::spread::telling::Telling;
use outlast_mesh::spread::view::View;
use outlast_mesh::spread::watch::Watch;
use outlast_mesh::{Allowance, NodeId};
use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::case::Flaw;
use crate::site::{Event, Site};
use crate::time::Moment;

/// Small messages up to this kind are the mesh's own.
pub(crate) const LAST_OF_MESH: u8 = 63;
const WORDS: u8 = 40;
const WISH: u8 = 41;
/// Bytes of a word as mesh encodes it; here the first of them are enough.
const WORD_BYTES: usize = 137;
/// As many as fit a frame, and a packet.
const WORDS_IN_A_FRAME: usize = 8;
/// Everybody a view may draw from at once, beside those it knows.
const DRAWN: usize = 64;

const HEARD: Duration = Duration::from_secs(7);
const WATCHED: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(5);
const ANNOUNCED: Duration = Duration::from_secs(30);
const WISH_AGAIN: Duration = Duration::from_secs(30);
const WORDS_PAUSE: Duration = Duration::from_secs(5);
const WORDS_AT_ONCE: usize = 32;
/// A second, and at once: as mesh's budgets have it.
const REFUTES: (f64, f64) = (0.2, 8.0);
const BROUGHT: (f64, f64) = (64.0, 1_024.0);
const SPOKEN: (f64, f64) = (0.5, 64.0);

/// What one process believes of the others' lives.
#[derive(Debug)]
pub(crate) struct Beliefs {
    view: View,
    watch: Watch,
    lives: Lives,
    telling: Telling,
    random: ChaCha8Rng,
    pub(crate) since: Moment,
    /// When each peer whose session is kept was heard last, until its fate is told.
    heard: BTreeMap<u32, Moment>,
    told: BTreeMap<u32, Moment>,
    words_at: BTreeMap<u32, Moment>,
    said_again: BTreeMap<u32, Moment>,
    refutes: Allowance,
    brought: BTreeMap<u32, Allowance>,
    spoken: BTreeMap<NodeId, Allowance>,
}

impl Site {
    /// A process begins: it believes nothing yet.
    pub(crate) fn believe_anew(&mut self, m: u32) {
        let mut random = ChaCha8Rng::seed_from_u64(self.case.seed ^ 0x11f3);
        random.set_stream(u64::from(m) << 32 | u64::from(self.machines[m as usize].life));
        let (now, instant) = (self.now, self.instant(self.now));
        let machine = &mut self.machines[m as usize];
        let me = self.register.ids[machine.who as usize];
        let mut lives = Lives::new(me);
        lives.handle_start(me, machine.life, true);
        machine.beliefs = Some(Box::new(Beliefs {
            view: View::new(Vec::new(), instant),
            watch: Watch::default(),
            lives,
            telling: Telling::default(),
            random,
            since: now,
            heard: BTreeMap::new(),
            told: BTreeMap::new(),
            words_at: BTreeMap::new(),
            said_again: BTreeMap::new(),
            refutes: Allowance::new(REFUTES.0, REFUTES.1),
            brought: BTreeMap::new(),
            spoken: BTreeMap::new(),
        }));
    }

    /// What a large mesh does each second: whom to know, whom to let go, whom to call silent.
    pub(crate) fn look_around(&mut self, m: u32) {
        if self.machines[m as usize].roster.len() <= FULL {
            return;
        }
        let Some(mut beliefs) = self.machines[m as usize].beliefs.take() else {
            return;
        };
        let silent = self.watch_and_pick(m, &mut beliefs);
        for about in silent {
            self.call_silent(m, &mut beliefs, about);
        }
        self.tell_on(m, &mut beliefs);
        self.tell_wishes(m, &mut beliefs);
        self.machines[m as usize].beliefs = Some(beliefs);
        self.rest(m);
    }

    fn watch_and_pick(&mut self, m: u32, beliefs: &mut Beliefs) -> Vec<NodeId> {
        let (now, instant) = (self.now, self.instant(self.now));
        let machine = &mut self.machines[m as usize];
        if now.since(machine.thawed) < Duration::from_secs(1) && machine.thawed.0 > 0 {
            beliefs.watch.handle_late(instant);
        }
        for (peer, session) in &machine.sessions.up {
            beliefs.heard.insert(*peer, session.heard);
        }
        beliefs.heard.retain(|_, heard| now.since(*heard) < WATCHED);
        let mut heard = BTreeSet::new();
        for peer in machine.sessions.up.keys() {
            if now.since(beliefs.heard[peer]) <= HEARD {
                let id = self.register.ids[*peer as usize];
                beliefs.lives.handle_heard(id);
                heard.insert(id);
            }
        }
        let mut some: BTreeSet<u32> = machine.sessions.up.keys().copied().collect();
        for _ in 0..DRAWN {
            let drawn = beliefs.random.random_range(0..self.register.identities());
            let all = machine.roster.len() == self.register.identities() as usize;
            if drawn != machine.who && (all || machine.roster.contains(&drawn)) {
                some.insert(drawn);
            }
        }
        some.extend(
            machine
                .absent
                .iter()
                .choose_multiple(&mut beliefs.random, 8),
        );
        let some: Vec<NodeId> = some
            .into_iter()
            .map(|who| self.register.ids[who as usize])
            .collect();
        let lives = &beliefs.lives;
        let unanswered = beliefs.view.handle_timeout(
            some.iter(),
            |id| lives.belief(id),
            |id| heard.contains(&id),
            instant,
            &mut beliefs.random,
        );
        let mut wanted: BTreeSet<u32> = machine.sessions.named.clone();
        let picks = beliefs.view.picks();
        wanted.extend(
            picks
                .filter_map(|id| self.register.numbers.get(&id))
                .copied(),
        );
        wanted.extend(machine.sessions.waited_for(now));
        wanted.remove(&machine.who);
        if machine.sessions.wanted != wanted {
            machine.sessions.wanted = wanted;
            self.notice(m);
        }

        let silences: BTreeMap<NodeId, Duration> = beliefs
            .heard
            .iter()
            .map(|(peer, heard)| (self.register.ids[*peer as usize], now.since(*heard)))
            .collect();
        let mut silent = beliefs.watch.judge(&silences, instant, &mut beliefs.random);
        if !beliefs.view.is_cut_off(instant) {
            silent.extend(unanswered.into_iter().map(|pick| pick.0).filter(|id| {
                matches!(beliefs.lives.belief(*id), Belief::Unsaid | Belief::Suspect)
            }));
        }
        silent
    }

    fn call_silent(&mut self, m: u32, beliefs: &mut Beliefs, about: NodeId) {
        let me = self.register.ids[self.machines[m as usize].who as usize];
        if beliefs.lives.life(about).is_none() {
            // What its statements tell of its starts.
            let home = self.register.homes[self.register.numbers[&about] as usize];
            let starts = self.board[home as usize].life;
            beliefs.lives.handle_start(about, starts, false);
        }
        if beliefs.lives.wants_word(about, me)
            && let Some(life) = beliefs.lives.life(about)
        {
            let word = word(about, me, life, Say::Silent);
            beliefs.lives.handle_word(word);
            beliefs.telling.handle_news(word, None);
            self.tell_on(m, beliefs);
        }
    }

    /// Tells what waits to be told, if it is time.
    fn tell_on(&mut self, m: u32, beliefs: &mut Beliefs) {
        let now = self.instant(self.now);
        if !beliefs.telling.is_due(now) {
            return;
        }
        let machine = &self.machines[m as usize];
        let me = self.register.ids[machine.who as usize];
        let up = machine.sessions.up.keys();
        let up = up.map(|peer| self.register.ids[*peer as usize]).collect();
        let Beliefs {
            lives,
            telling,
            random,
            ..
        } = beliefs;
        let is_held = |word: &Word| match word.about == me {
            true => lives.life(me) == Some(word.life),
            false => lives.holds(word),
        };
        for (to, words) in telling.poll_tell(up, is_held, now, random) {
            self.say_words(m, self.register.numbers[&to], &words);
        }
    }

    fn say_words(&mut self, m: u32, peer: u32, words: &[Word]) {
        for some in words.chunks(WORDS_IN_A_FRAME) {
            let mut body = Vec::with_capacity(some.len() * WORD_BYTES);
            for word in some {
                let begins = body.len();
                body.extend_from_slice(&word.about.0);
                body.extend_from_slice(&word.by.0);
                body.extend_from_slice(&word.life.to_be_bytes());
                body.push(word.say as u8);
                body.resize(begins + WORD_BYTES, 0);
            }
            self.send(m, peer, WORDS, body.into());
        }
    }

    /// A session begins: whoever is spoken of hears it, and who has started again says so.
    pub(crate) fn tell_what_is_said(&mut self, m: u32, peer: u32, starts: u32) {
        if self.machines[m as usize].roster.len() <= FULL {
            return;
        }
        let (now, life) = (self.now, self.machines[m as usize].life);
        let me = self.register.ids[self.machines[m as usize].who as usize];
        let id = self.register.ids[peer as usize];
        let Some(beliefs) = &mut self.machines[m as usize].beliefs else {
            return;
        };
        beliefs.lives.handle_start(id, starts, true);
        beliefs.heard.insert(peer, now);
        beliefs.told.remove(&peer);
        let mut said: Vec<Word> = beliefs.lives.words_about(id).copied().collect();
        if life > 1 && now.since(beliefs.since) < ANNOUNCED {
            said.push(word(me, me, life_of_start(life), Say::Alive));
        }
        self.say_words(m, peer, &said);
    }

    /// Tells each half a minute what sum of all words is held: who has another is told words.
    fn tell_wishes(&mut self, m: u32, beliefs: &mut Beliefs) {
        let now = self.now;
        let due = |told: Option<&Moment>| told.is_none_or(|at| now.since(*at) >= WISH_AGAIN);
        let up = self.machines[m as usize].sessions.up.keys();
        let due: Vec<u32> = up
            .filter(|peer| due(beliefs.told.get(peer)))
            .copied()
            .collect();
        if due.is_empty() {
            return;
        }
        let sum = beliefs.lives.digest().to_be_bytes();
        let body = Bytes::from([&sum, &beliefs.lives.parts()[..]].concat());
        for peer in due {
            beliefs.told.insert(peer, now);
            self.send(m, peer, WISH, body.clone());
        }
    }

    /// A small message of the mesh's own.
    pub(crate) fn handle_of_mesh(&mut self, m: u32, from: u32, kind: u8, body: &Bytes) {
        let Some(mut beliefs) = self.machines[m as usize].beliefs.take() else {
            return;
        };
        match kind {
            WORDS => self.handle_words(m, &mut beliefs, from, body),
            _ => self.handle_wish(m, &mut beliefs, from, body),
        }
        self.machines[m as usize].beliefs = Some(beliefs);
    }

    fn handle_wish(&mut self, m: u32, beliefs: &mut Beliefs, from: u32, body: &Bytes) {
        let now = self.now;
        let same = body.first_chunk::<8>() == Some(&beliefs.lives.digest().to_be_bytes());
        let paused = beliefs.words_at.get(&from);
        if same || paused.is_some_and(|at| now.since(*at) < WORDS_PAUSE) {
            return;
        }
        beliefs.words_at.insert(from, now);
        let parts = body.get(8..).unwrap_or_default();
        let lives = &beliefs.lives;
        let some = lives.words_unlike(parts, WORDS_AT_ONCE, &mut beliefs.random);
        self.say_words(m, from, &some);
    }

    fn handle_words(&mut self, m: u32, beliefs: &mut Beliefs, from: u32, body: &Bytes) {
        let me = self.register.ids[self.machines[m as usize].who as usize];
        let bringer = self.register.ids[from as usize];
        for word in body.chunks_exact(WORD_BYTES).filter_map(read) {
            if word.about != me && beliefs.lives.life(word.about).is_none() {
                let starts = (word.life >> 32) as u32;
                beliefs.lives.handle_start(word.about, starts, false);
            }
            match beliefs.lives.weigh(&word) {
                Taken::New if self.is_granted(beliefs, from, word.by) => {
                    beliefs.lives.handle_word(word);
                    if word.say == Say::Alive {
                        // Its silence was that of an earlier life.
                        beliefs.heard.remove(&self.register.numbers[&word.about]);
                    }
                    beliefs.telling.handle_news(word, Some(bringer));
                }
                Taken::Refute(life) if self.is_granted(beliefs, from, word.by) => {
                    self.refute(m, beliefs, life);
                }
                Taken::Outlived => self.say_again(m, beliefs, from),
                Taken::Known => beliefs.telling.handle_known(&word, bringer),
                _ => {}
            }
        }
        self.tell_on(m, beliefs);
    }

    fn is_granted(&self, beliefs: &mut Beliefs, from: u32, by: NodeId) -> bool {
        let now = self.instant(self.now);
        let brought = beliefs.brought.entry(from);
        let brought = brought.or_insert_with(|| Allowance::new(BROUGHT.0, BROUGHT.1));
        let spoken = beliefs.spoken.entry(by);
        let spoken = spoken.or_insert_with(|| Allowance::new(SPOKEN.0, SPOKEN.1));
        brought.take(1.0, now) && spoken.take(1.0, now)
    }

    fn refute(&mut self, m: u32, beliefs: &mut Beliefs, life: u64) {
        let instant = self.instant(self.now);
        if self.case.flaw == Some(Flaw::Slander) || !beliefs.refutes.take(1.0, instant) {
            return;
        }
        let me = self.register.ids[self.machines[m as usize].who as usize];
        let word = word(me, me, life, Say::Alive);
        beliefs.lives.handle_own(&word);
        beliefs.telling.handle_news(word, None);
        self.tell_on(m, beliefs);
    }

    /// A peer says what was said of an earlier life: the word that ended it was lost on its way there.
    fn say_again(&mut self, m: u32, beliefs: &mut Beliefs, to: u32) {
        let now = self.now;
        let last = beliefs.said_again.get(&to);
        let paused = last.is_some_and(|at| now.since(*at) < WORDS_PAUSE);
        let me = self.register.ids[self.machines[m as usize].who as usize];
        let life = beliefs.lives.life(me).filter(|_| !paused);
        if let Some(life) = life.filter(|_| self.case.flaw != Some(Flaw::Slander)) {
            beliefs.said_again.insert(to, now);
            self.say_words(m, to, &[word(me, me, life, Say::Alive)]);
        }
    }

    /// Lets sessions go that neither end keeps.
    fn rest(&mut self, m: u32) {
        let now = self.now;
        let machine = &self.machines[m as usize];
        let (who, life) = (machine.who, machine.life);
        let mut resting = Vec::new();
        for (peer, session) in &machine.sessions.up {
            let ours = machine.sessions.wanted.contains(peer);
            if ours || now.since(session.since) < SETTLED {
                continue;
            }
            let remote = &self.board[session.remote as usize];
            let theirs = remote.wanted.contains(&who);
            let back = remote.sessions.get(&who);
            let both = back.is_some_and(|back| (back.remote, back.remote_life) == (m, life));
            if !theirs && remote.runs && both {
                resting.push((*peer, session.remote));
            }
        }
        for (peer, remote) in resting {
            self.let_go(m, peer, remote);
            let at = now + self.network.way(m, remote);
            let gone = Event::LetGo {
                from: m,
                from_life: life,
            };
            self.enter(at, remote, gone);
        }
    }

    /// The other end keeps its session with us no longer.
    pub(crate) fn handle_let_go(&mut self, m: u32, from: u32, from_life: u32) {
        let peer = self.register.whose[from as usize];
        let session = self.machines[m as usize].sessions.up.get(&peer);
        if session.is_some_and(|session| (session.remote, session.remote_life) == (from, from_life))
        {
            self.let_go(m, peer, from);
        }
    }

    fn let_go(&mut self, m: u32, peer: u32, remote: u32) {
        let instant = self.instant(self.now);
        let machine = &mut self.machines[m as usize];
        machine.sessions.let_go(self.now, peer);
        if let Some(beliefs) = &mut machine.beliefs {
            beliefs.heard.remove(&peer);
        }
        self.noticed.push(m);
        if let Some(up) = &mut machine.up {
            up.core
                .handle_disconnected(self.register.ids[peer as usize], instant);
        }
        self.drain(m);
        self.break_pipes(m, remote);
    }

    /// Tells the core whom this machine believes to be down, where that changed.
    pub(crate) fn look_who_is_down(&mut self, m: u32) {
        let down = self.believed_down(m);
        self.look_at_beliefs(m, &down);
        if down == *self.machines[m as usize].absent {
            return;
        }
        self.machines[m as usize].absent = self.shared_absent(down);
        self.tell_members(m);
    }

    fn believed_down(&self, m: u32) -> BTreeSet<u32> {
        let machine = &self.machines[m as usize];
        let others = machine.roster.iter().filter(|who| **who != machine.who);
        let beliefs = machine.beliefs.as_ref();
        let Some(beliefs) = beliefs.filter(|_| self.case.flaw != Some(Flaw::Deathless)) else {
            return BTreeSet::new();
        };
        if machine.roster.len() <= FULL {
            let is_silent = |who: &&u32| !machine.sessions.up.contains_key(who);
            return others.filter(is_silent).copied().collect();
        }
        let heard = |who: &u32| {
            let heard = beliefs.heard.get(who);
            heard.is_some_and(|at| self.now.since(*at) <= HEARD)
        };
        let down = beliefs.lives.down();
        let down = down
            .filter_map(|id| self.register.numbers.get(&id))
            .copied();
        down.filter(|who| machine.roster.contains(who) && !heard(who))
            .collect()
    }

    fn shared_absent(&self, down: BTreeSet<u32>) -> Arc<BTreeSet<u32>> {
        let machines = self.machines.iter().take(64);
        let mut absent = machines.map(|machine| &machine.absent);
        let same = absent.find(|absent| ***absent == down);
        same.map_or_else(|| Arc::new(down), Arc::clone)
    }
}

fn word(about: NodeId, by: NodeId, life: u64, say: Say) -> Word {
    Word {
        about,
        by,
        life,
        say,
        signature: [0; 64],
    }
}

fn read(bytes: &[u8]) -> Option<Word> {
    let (about, rest) = bytes.split_first_chunk::<32>()?;
    let (by, rest) = rest.split_first_chunk::<32>()?;
    let (life, rest) = rest.split_first_chunk::<8>()?;
    let say = match rest.first()? {
        0 => Say::Silent,
        1 => Say::Alive,
        _ => Say::Left,
    };
    let life = u64::from_be_bytes(*life);
    Some(word(NodeId(*about), NodeId(*by), life, say))
}
