//! Who lives, as several observers say and not one.
//!
//! Members say three things, each signed: "he is silent" of a peer whose session they had, and of themselves "I live" and "I
//! leave". `QUORUM` different members have to say it before somebody is down; fewer make him suspect. Each word names the life
//! it speaks of: a start, and within it the number of times he had to say that he lives; a newer life ends all that was
//! said of an older one, so whoever is called silent refutes it for everybody by one word.
//! In: words whose signatures were checked, the lives that statements tell of, who is heard. Out: what is believed, what to
//! pass on, what to refute, and a digest by which two nodes see that they hold the same.
//! Bounds: `QUORUM` words and one of its own for each member. Absent: probing. A member is watched by whoever has a session with
//! it (`view`), at no cost beyond the session's. SWIM by the crate `foca` was looked at and left: each of its
//! probes goes to a random member, which without a session costs a handshake, and one probe a second keeps every session
//! of 200 members warm; its periods are fixed at the start, so no node could stretch its own; and one
//! observer's word decides, for whoever forges it as well.

use std::collections::BTreeMap;

use crate::id::{NodeId, hash};

/// Members that have to call another silent before it is down.
pub const QUORUM: usize = 3;

/// What one member says of another, or of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Say {
    /// It is not heard any more.
    Silent,
    /// I live: what was said of an earlier life is over.
    Alive,
    /// I leave in peace.
    Left,
}

/// One thing said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Of whom.
    pub about: NodeId,
    /// By whom.
    pub by: NodeId,
    /// Of which of its lives.
    pub life: u64,
    /// What.
    pub say: Say,
    /// The speaker's, checked by whoever brings the word here.
    pub signature: [u8; 64],
}

/// What a word was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It changed something: to be passed on.
    New,
    /// Nothing new, or of a life that is over or not heard of yet.
    Known,
    /// It calls this node silent: a word of this life refutes it.
    Refute(u64),
    /// Nobody may say this of another, or it is of no member.
    Refused,
}

/// What is believed of a member without a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It was heard of since this node's start, and nobody calls it silent.
    Alive,
    /// Nothing was heard of it since this node's start.
    Unsaid,
    /// Some call it silent, too few to tell.
    Suspect,
    /// `QUORUM` call it silent.
    Down,
    /// It said that it leaves.
    Left,
}

/// What is held of everybody.
#[derive(Debug)]
pub struct Lives {
    me: NodeId,
    mine: u64,
    of: BTreeMap<NodeId, Life>,
}

#[derive(Debug, Default)]
struct Life {
    number: u64,
    /// Whether it was heard of since this node's start.
    vouched: bool,
    /// The last word of its own in this life.
    own: Option<Word>,
    silent: BTreeMap<NodeId, Word>,
}

/// The first life of a start, by the number of starts its statements tell of.
#[must_use]
pub fn life_of_start(incarnation: u32) -> u64 {
    u64::from(incarnation) << 32
}

impl Lives {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            mine: 0,
            of: BTreeMap::new(),
        }
    }

    /// A member started so many times, as its statements say; `fresh` if that was heard just now. True if it is
    /// once more than was known.
    pub fn handle_start(&mut self, id: NodeId, incarnation: u32, fresh: bool) -> bool {
        let number = life_of_start(incarnation);
        if id == self.me {
            self.mine = self.mine.max(number);
            return false;
        }
        let life = self.of.entry(id).or_default();
        let again = number > life.number;
        if again {
            *life = Life {
                number,
                vouched: fresh,
                ..Life::default()
            };
        }
        again
    }

    /// Forgets somebody who is no member any more, and what it said.
    pub fn forget(&mut self, id: NodeId) {
        self.of.remove(&id);
        for life in self.of.values_mut() {
            life.silent.remove(&id);
        }
    }

    /// A member was heard here.
    pub fn handle_heard(&mut self, id: NodeId) {
        if let Some(life) = self.of.get_mut(&id) {
            life.vouched = true;
        }
    }

    /// Takes a word.
    pub fn handle_word(&mut self, word: Word) -> Taken {
        let worth = self.weigh(&word);
        if let (Taken::New, Some(life)) = (worth, self.of.get_mut(&word.about)) {
            life.take(word);
        }
        worth
    }

    /// What a word would be worth: only one that changes something is worth checking its signature.
    #[must_use]
    pub fn weigh(&self, word: &Word) -> Taken {
        let of_itself = word.by == word.about;
        if of_itself == (word.say == Say::Silent) {
            return Taken::Refused;
        }
        if word.about == self.me {
            let refutes = word.say == Say::Silent && word.life == self.mine;
            return match refutes {
                true => Taken::Refute(self.mine + 1),
                false => Taken::Known,
            };
        }
        match self.of.get(&word.about) {
            None => Taken::Refused,
            Some(life) if life.is_news(word) => Taken::New,
            Some(_) => Taken::Known,
        }
    }

    /// This node says of itself that it lives, or leaves.
    pub fn handle_own(&mut self, word: &Word) {
        self.mine = self.mine.max(word.life);
    }

    /// The life of a member that is held to be its last; this node's own for itself.
    #[must_use]
    pub fn life(&self, id: NodeId) -> Option<u64> {
        match id == self.me {
            true => Some(self.mine),
            false => self.of.get(&id).map(|life| life.number),
        }
    }

    /// What is believed of a member.
    #[must_use]
    pub fn belief(&self, id: NodeId) -> Belief {
        self.of.get(&id).map_or(Belief::Unsaid, Life::belief)
    }

    /// Whether one more word would add to what is believed: nobody has to say what enough have said.
    #[must_use]
    pub fn wants_word(&self, about: NodeId, by: NodeId) -> bool {
        self.of.get(&about).is_some_and(|life| {
            let gone = matches!(life.belief(), Belief::Down | Belief::Left);
            !gone && !life.silent.contains_key(&by)
        })
    }

    /// Every word held, by whom it is about.
    pub fn words(&self) -> impl Iterator<Item = &Word> {
        self.of.values().flat_map(Life::words)
    }

    /// The words about one member.
    pub fn words_about(&self, id: NodeId) -> impl Iterator<Item = &Word> {
        self.of.get(&id).into_iter().flat_map(Life::words)
    }

    /// The same for two nodes that believe the same for the same reasons; which of more than `QUORUM` said it first
    /// is no reason.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let parts = self.of.iter().filter_map(|(id, life)| life.digest(id));
        parts.fold(0, |all, part| all ^ part)
    }
}

impl Life {
    fn is_news(&self, word: &Word) -> bool {
        let is_this = word.life == self.number;
        let has_left = self.belief() == Belief::Left;
        match word.say {
            Say::Silent => {
                let said = self.silent.contains_key(&word.by);
                is_this && !has_left && !said && self.silent.len() < QUORUM
            }
            Say::Alive => word.life > self.number,
            Say::Left => word.life > self.number || (is_this && !has_left),
        }
    }

    fn take(&mut self, word: Word) {
        if word.say == Say::Silent {
            self.silent.insert(word.by, word);
            return;
        }
        *self = Self {
            number: word.life,
            vouched: true,
            own: Some(word),
            silent: BTreeMap::new(),
        };
    }

    fn belief(&self) -> Belief {
        match self.silent.len() {
            _ if self.own.is_some_and(|own| own.say == Say::Left) => Belief::Left,
            0 if self.vouched => Belief::Alive,
            0 => Belief::Unsaid,
            1..QUORUM => Belief::Suspect,
            _ => Belief::Down,
        }
    }

    fn words(&self) -> impl Iterator<Item = &Word> {
        self.own.iter().chain(self.silent.values())
    }

    fn digest(&self, id: &NodeId) -> Option<u64> {
        if self.own.is_none() && self.silent.is_empty() {
            return None;
        }
        let own = [self.own.map_or(0, |own| own.say as u8)];
        let number = self.number.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![&id.0, &number, &own];
        match self.silent.len() {
            0..QUORUM => parts.extend(self.silent.keys().map(|by| &by.0[..])),
            _ => parts.push(b"down"),
        }
        let whole = hash(&parts);
        let first = whole.first_chunk::<8>()?;
        Some(u64::from_be_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    fn word(by: u8, about: u8, life: u64, say: Say) -> Word {
        Word {
            about: id(about),
            by: id(by),
            life,
            say,
            signature: [0; 64],
        }
    }

    fn lives() -> Lives {
        let mut lives = Lives::new(id(1));
        for number in 1..=9 {
            lives.handle_start(id(number), 5, true);
        }
        lives
    }

    const FIRST: u64 = 5 << 32;

    #[test]
    fn three_observers_make_a_member_down_and_fewer_make_it_suspect() {
        let mut lives = lives();
        let mut seen = vec![lives.belief(id(2))];
        for by in 3..=6 {
            lives.handle_word(word(by, 2, FIRST, Say::Silent));
            lives.handle_word(word(by, 2, FIRST, Say::Silent));
            seen.push(lives.belief(id(2)));
        }
        use Belief::{Alive, Down, Suspect};
        assert_eq!(seen, [Alive, Suspect, Suspect, Down, Down]);
        assert!(!lives.wants_word(id(2), id(1)));
        assert_eq!(lives.words().count(), QUORUM);
    }

    #[test]
    fn a_newer_life_ends_what_was_said_of_the_older_and_nothing_brings_it_back() {
        let mut lives = lives();
        for by in 3..=5 {
            lives.handle_word(word(by, 2, FIRST, Say::Silent));
        }
        let taken = lives.handle_word(word(2, 2, FIRST + 1, Say::Alive));
        assert_eq!((taken, lives.belief(id(2))), (Taken::New, Belief::Alive));
        assert_eq!(
            lives.handle_word(word(6, 2, FIRST, Say::Silent)),
            Taken::Known
        );

        lives.handle_word(word(2, 2, FIRST + 1, Say::Left));
        assert_eq!(lives.belief(id(2)), Belief::Left);
        lives.handle_start(id(2), 6, true);
        assert_eq!(lives.belief(id(2)), Belief::Alive);
        assert_eq!(lives.words().count(), 0);
    }

    #[test]
    fn a_life_nobody_has_heard_of_is_not_spoken_of() {
        let mut lives = lives();
        assert_eq!(
            lives.handle_word(word(3, 2, u64::MAX, Say::Silent)),
            Taken::Known
        );
        assert_eq!(lives.belief(id(2)), Belief::Alive);
    }

    #[test]
    fn whoever_is_called_silent_refutes_it_with_the_next_life() {
        let mut lives = lives();
        let silent = word(3, 1, FIRST, Say::Silent);
        assert_eq!(lives.handle_word(silent), Taken::Refute(FIRST + 1));
        lives.handle_own(&word(1, 1, FIRST + 1, Say::Alive));
        assert_eq!(lives.handle_word(silent), Taken::Known);
        let nonsense = word(3, 1, u64::MAX, Say::Silent);
        assert_eq!(lives.handle_word(nonsense), Taken::Known);
    }

    #[test]
    fn nobody_speaks_for_another() {
        let mut lives = lives();
        for (by, say) in [(3, Say::Alive), (3, Say::Left), (2, Say::Silent)] {
            assert_eq!(
                lives.handle_word(word(by, 2, FIRST + 1, say)),
                Taken::Refused
            );
        }
        let of_a_stranger = word(3, 77, FIRST, Say::Silent);
        assert_eq!(lives.handle_word(of_a_stranger), Taken::Refused);
    }

    #[test]
    fn the_digest_agrees_when_the_beliefs_do() {
        let (mut ours, mut theirs) = (lives(), lives());
        assert_eq!(ours.digest(), theirs.digest());
        ours.handle_word(word(3, 2, FIRST, Say::Silent));
        assert_ne!(ours.digest(), theirs.digest());
        for by in [4, 5] {
            ours.handle_word(word(by, 2, FIRST, Say::Silent));
        }
        for by in [6, 7, 8] {
            theirs.handle_word(word(by, 2, FIRST, Say::Silent));
        }
        assert_eq!(ours.digest(), theirs.digest());
    }
}
