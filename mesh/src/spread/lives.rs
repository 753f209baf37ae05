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

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::SliceRandom;

use crate::id::{NodeId, hash};

/// Members that have to call another silent before it is down.
pub const QUORUM: usize = 3;

/// In so many parts two nodes compare what they hold, two bytes each.
const PARTS: usize = 128;
/// Bytes of all parts.
pub const PARTS_BYTES: usize = 2 * PARTS;

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
    /// It calls this node silent in a life that is over: whoever brings it has not heard of this one.
    Outlived,
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
    /// The parts of all lives, kept up to date with each change: it is asked for each second.
    digest: u64,
    /// The same by whom the words are about.
    sums: [u16; PARTS],
    /// Words taken so far.
    taken: u64,
}

#[derive(Debug, Default)]
struct Life {
    number: u64,
    /// Its part of the digest. 0 = no word is held.
    part: u64,
    /// How many words had been taken when the last of these was.
    taken: u64,
    /// Whether it was heard of since this node's start.
    vouched: bool,
    /// The last word of its own in this life.
    own: Option<Word>,
    /// `QUORUM` words at most, by who said them: a map would take two kilobytes for its first.
    silent: Vec<Word>,
}

/// The first life of a start, by the number of starts its statements tell of.
#[must_use]
pub fn life_of_start(incarnation: u32) -> u64 {
    u64::from(incarnation) << 32
}

fn part_of(about: &NodeId) -> usize {
    usize::from(about.0[0]) % PARTS
}

impl Lives {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            mine: 0,
            of: BTreeMap::new(),
            digest: 0,
            sums: [0; PARTS],
            taken: 0,
        }
    }

    /// Puts a part into the digest, or takes it out again.
    fn toggle(&mut self, about: &NodeId, part: u64) {
        self.digest ^= part;
        self.sums[part_of(about)] ^= part as u16;
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
            let part = life.part;
            *life = Life {
                number,
                vouched: fresh,
                ..Life::default()
            };
            self.toggle(&id, part);
        }
        again
    }

    /// Forgets somebody who is no member any more, and what it said.
    pub fn forget(&mut self, id: NodeId) {
        let mut of = std::mem::take(&mut self.of);
        if let Some(life) = of.remove(&id) {
            self.toggle(&id, life.part);
        }
        for (about, life) in &mut of {
            if life.is_said_by(&id) {
                life.silent.retain(|word| word.by != id);
                self.toggle(about, life.part);
                life.part = life.digest(about);
                self.toggle(about, life.part);
            }
        }
        self.of = of;
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
            self.taken += 1;
            let before = life.part;
            life.take(word, self.taken);
            let change = before ^ life.part;
            self.toggle(&word.about, change);
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
            return match word.life.cmp(&self.mine) {
                _ if of_itself => Taken::Known,
                Ordering::Less => Taken::Outlived,
                Ordering::Equal => Taken::Refute(self.mine + 1),
                Ordering::Greater => Taken::Known,
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
            !gone && !life.is_said_by(&by)
        })
    }

    /// Every word held, by whom it is about.
    pub fn words(&self) -> impl Iterator<Item = &Word> {
        self.of.values().flat_map(Life::words)
    }

    /// Whether a word is held: a newer one has not ended it.
    #[must_use]
    pub fn holds(&self, word: &Word) -> bool {
        let mut about = self.words_about(word.about);
        about.any(|held| held == word)
    }

    /// The digest in parts, by whom the words are about: two nodes see by it where they differ. Empty = no word is held.
    #[must_use]
    pub fn parts(&self) -> Vec<u8> {
        if self.digest == 0 {
            return Vec::new();
        }
        let sums = self.sums.iter();
        sums.flat_map(|sum| sum.to_be_bytes()).collect()
    }

    /// So many of the words for a peer that holds others, whose `parts` these are; at random, since several answer it.
    /// Where it told none, or none differs, half are those taken last: a difference is most likely among them.
    pub fn words_unlike(&self, theirs: &[u8], count: usize, random: &mut impl Rng) -> Vec<Word> {
        if theirs.len() != PARTS_BYTES || self.digest == 0 {
            return self.some_words(count, random);
        }
        let pairs = self.sums.iter().zip(theirs.chunks_exact(2));
        let differs: Vec<bool> = pairs
            .map(|(ours, theirs)| ours.to_be_bytes() != theirs)
            .collect();
        let unlike = self.of.iter().filter(|(id, _)| differs[part_of(id)]);
        let mut words: Vec<Word> = unlike.flat_map(|(_, life)| life.words()).copied().collect();
        if words.is_empty() {
            // Sums of sixteen bits agree by chance once in 65,536 times.
            return self.some_words(count, random);
        }
        words.partial_shuffle(random, count).0.to_vec()
    }

    fn some_words(&self, count: usize, random: &mut impl Rng) -> Vec<Word> {
        let mut told: Vec<(u64, &Life)> = self.of.values().map(|life| (life.taken, life)).collect();
        told.retain(|(_, life)| life.part != 0);
        if told.len() > count / 2 {
            told.select_nth_unstable_by_key(count / 2, |(taken, _)| Reverse(*taken));
        }
        let words = told.iter().flat_map(|(_, life)| life.words());
        let mut words: Vec<Word> = words.copied().collect();
        let newest = (count / 2).min(words.len());
        let (some, _others) = words[newest..].partial_shuffle(random, count - newest);
        let some = some.to_vec();
        words.truncate(newest);
        words.extend(some);
        words
    }

    /// Who is believed to be down.
    pub fn down(&self) -> impl Iterator<Item = NodeId> {
        let down = self
            .of
            .iter()
            .filter(|(_, life)| life.belief() == Belief::Down);
        down.map(|(id, _)| *id)
    }

    /// The words about one member.
    pub fn words_about(&self, id: NodeId) -> impl Iterator<Item = &Word> {
        self.of.get(&id).into_iter().flat_map(Life::words)
    }

    /// The same for two nodes that believe the same for the same reasons; which of more than `QUORUM` said it first
    /// is no reason.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl Life {
    fn is_news(&self, word: &Word) -> bool {
        let is_this = word.life == self.number;
        let has_left = self.belief() == Belief::Left;
        match word.say {
            Say::Silent => {
                let said = self.is_said_by(&word.by);
                is_this && !has_left && !said && self.silent.len() < QUORUM
            }
            // What its statements tell of a start needs no word, but one passes it on.
            Say::Alive => word.life > self.number || (is_this && self.own.is_none()),
            Say::Left => word.life > self.number || (is_this && !has_left),
        }
    }

    fn take(&mut self, word: Word, taken: u64) {
        match word.say {
            Say::Silent => {
                let at = self.silent.partition_point(|said| said.by < word.by);
                self.silent.reserve_exact(1);
                self.silent.insert(at, word);
            }
            // Nothing that was said of this very life is over.
            Say::Alive if word.life == self.number => self.own = Some(word),
            Say::Alive | Say::Left => {
                *self = Self {
                    number: word.life,
                    vouched: true,
                    own: Some(word),
                    ..Self::default()
                };
            }
        }
        self.taken = taken;
        self.part = self.digest(&word.about);
    }

    fn is_said_by(&self, by: &NodeId) -> bool {
        self.silent.iter().any(|word| word.by == *by)
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
        self.own.iter().chain(&self.silent)
    }

    fn digest(&self, id: &NodeId) -> u64 {
        if self.own.is_none() && self.silent.is_empty() {
            return 0;
        }
        let own = [self.own.map_or(0, |own| own.say as u8)];
        let number = self.number.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![&id.0, &number, &own];
        match self.silent.len() {
            0..QUORUM => parts.extend(self.silent.iter().map(|word| &word.by.0[..])),
            _ => parts.push(b"down"),
        }
        let whole = hash(&parts);
        let first = whole.first_chunk().copied();
        u64::from_be_bytes(first.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

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
    fn who_has_started_again_is_told_of_by_those_who_met_it_first() {
        let mut lives = lives();
        lives.handle_start(id(2), 6, true);
        let again = word(2, 2, 6 << 32, Say::Alive);
        let silent = word(3, 2, 6 << 32, Say::Silent);
        let taken = [again, again, silent, again].map(|word| lives.handle_word(word));
        use Taken::{Known, New};
        assert_eq!(taken, [New, Known, New, Known]);
        assert_eq!(lives.belief(id(2)), Belief::Suspect);
    }

    #[test]
    fn a_word_that_comes_late_ends_nothing_said_of_the_same_life() {
        let mut lives = lives();
        for by in 3..=5 {
            lives.handle_word(word(by, 2, FIRST, Say::Silent));
        }
        let late = word(2, 2, FIRST, Say::Alive);
        assert_eq!(lives.handle_word(late), Taken::New);
        assert_eq!(lives.belief(id(2)), Belief::Down);
        lives.handle_word(word(2, 2, FIRST + 1, Say::Alive));
        assert_eq!(lives.belief(id(2)), Belief::Alive);
        assert!(!lives.holds(&late));
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
        // Its word may have been lost, and whoever says this would go on believing it.
        assert_eq!(lives.handle_word(silent), Taken::Outlived);
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

    #[test]
    fn the_digest_is_that_of_whoever_learnt_the_same_another_way() {
        let (mut ours, mut theirs) = (lives(), lives());
        let silent = word(3, 2, FIRST, Say::Silent);
        let alive = word(2, 2, FIRST + 1, Say::Alive);
        for word in [silent, word(4, 5, FIRST, Say::Silent), alive] {
            ours.handle_word(word);
        }
        theirs.handle_word(alive);
        assert_ne!(ours.digest(), theirs.digest());
        ours.forget(id(4));
        assert_eq!(ours.digest(), theirs.digest());
        for lives in [&mut ours, &mut theirs] {
            lives.handle_start(id(2), 6, true);
        }
        assert_eq!((ours.digest(), theirs.digest()), (0, 0));
    }

    #[test]
    fn what_was_learnt_last_is_among_the_words_for_whoever_tells_no_parts() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut lives = lives();
        assert_eq!(lives.words_unlike(&[], 8, &mut random), []);
        for about in [9, 8, 7, 6, 5, 4, 2] {
            lives.handle_word(word(about, about, FIRST + 1, Say::Alive));
        }
        assert_eq!(lives.words_unlike(&[], 8, &mut random).len(), 7);
        let mut others = BTreeSet::new();
        for _ in 0..50 {
            let some = lives.words_unlike(&[], 4, &mut random);
            let some: BTreeSet<NodeId> = some.iter().map(|word| word.about).collect();
            assert_eq!(some.len(), 4);
            assert!(some.is_superset(&[2, 4].map(id).into()), "{some:?}");
            others.extend(some);
        }
        assert_eq!(others.len(), 7);
    }

    #[test]
    fn the_one_word_that_another_lacks_is_found_among_many() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut lives = Lives::new(id(1));
        let mut theirs = Lives::new(id(2));
        for about in 3..=250 {
            for lives in [&mut lives, &mut theirs] {
                lives.handle_start(id(about), 5, true);
                lives.handle_word(word(about, about, FIRST + 1, Say::Alive));
            }
        }
        // Whoever answers knows that the digests differ: parts that agree do so by chance.
        let some = lives.words_unlike(&theirs.parts(), 8, &mut random);
        assert_eq!(some.len(), 8);
        let lacking = word(77, 77, FIRST + 2, Say::Alive);
        lives.handle_word(lacking);
        let words = lives.words_unlike(&theirs.parts(), 8, &mut random);
        assert!(words.contains(&lacking), "{words:?}");
        for word in words {
            theirs.handle_word(word);
        }
        assert_eq!(lives.parts(), theirs.parts());
        assert_eq!(lives.parts().len(), PARTS_BYTES);
    }
}
