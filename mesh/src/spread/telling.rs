//! What is told on, to whom and when.
//!
//! A single word goes on at once. While many come they wait, up to `PAUSE`, and go together: what a peer brings in that
//! time it has, and need not be told; and a packet holds several. Each word is made known to `FAN_OUT` peers, of whom
//! those count that brought it, and to whoever is meant, so that it can refute it. That reaches all but a few in a
//! thousand; those few hear it when digests are compared (`lives`).
//! In: words that were news here, words that peers brought. Out: for each peer what it is told. Bounds: what waits was
//! taken by `Lives` within `PAUSE`, so it has the bounds of what that holds. Absent: what a word is worth, sending.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::lives::Word;
use crate::id::NodeId;

/// Peers that a word is made known to; with each of them doing the same everybody hears it in a few hops.
pub const FAN_OUT: usize = 6;

/// So long after some words were told the next ones wait for others.
pub const PAUSE: Duration = Duration::from_secs(1);

/// What waits.
#[derive(Debug, Default)]
pub struct Telling {
    /// By whom they are about and who said them: a newer word takes the older one's place.
    waiting: BTreeMap<(NodeId, NodeId), Waiting>,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    word: Word,
    /// Peers that brought it.
    known_to: Vec<NodeId>,
}

impl Telling {
    /// A word was news; `from` a peer that brought it, or from here.
    pub fn handle_news(&mut self, word: Word, from: Option<NodeId>) {
        let known_to = from.into_iter().collect();
        let waiting = Waiting { word, known_to };
        self.waiting.insert((word.about, word.by), waiting);
    }

    /// A peer brought a word that was none.
    pub fn handle_known(&mut self, word: &Word, from: NodeId) {
        let waiting = self.waiting.get_mut(&(word.about, word.by));
        if let Some(waiting) = waiting.filter(|waiting| waiting.word == *word)
            && !waiting.known_to.contains(&from)
        {
            waiting.known_to.push(from);
        }
    }

    /// What waits waits no longer.
    pub fn hurry(&mut self) {
        self.told = None;
    }

    /// What each peer is told, if it is time. `peers` are those with a session; a word that `is_held` no longer is
    /// told to nobody. To be called after each news, and each second.
    pub fn poll_tell(
        &mut self,
        mut peers: Vec<NodeId>,
        is_held: impl Fn(&Word) -> bool,
        now: Instant,
        random: &mut ChaCha8Rng,
    ) -> BTreeMap<NodeId, Vec<Word>> {
        let mut said: BTreeMap<NodeId, Vec<Word>> = BTreeMap::new();
        if !self.is_due(now) {
            return said;
        }
        self.told = Some(now);
        // All go the same way, so that a packet holds several.
        peers.shuffle(random);
        for Waiting { word, known_to } in std::mem::take(&mut self.waiting).into_values() {
            if !is_held(&word) {
                continue;
            }
            let has = |peer: &NodeId| known_to.contains(peer) || *peer == word.by;
            let mut few = FAN_OUT.saturating_sub(known_to.len());
            for peer in peers.iter().filter(|peer| !has(peer)) {
                let is_meant = *peer == word.about;
                if few > 0 || is_meant {
                    said.entry(*peer).or_default().push(word);
                }
                few = few.saturating_sub(usize::from(!is_meant));
            }
        }
        said
    }

    /// Whether anything waits that may go.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        !self.waiting.is_empty() && self.told.is_none_or(|told| now >= told + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;
    use crate::spread::lives::Say;

    fn id(number: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    fn silent(by: u16, about: u16) -> Word {
        Word {
            about: id(about),
            by: id(by),
            life: 1,
            say: Say::Silent,
            signature: [0; 64],
        }
    }

    struct Scene {
        telling: Telling,
        now: Instant,
        random: ChaCha8Rng,
    }

    impl Scene {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
            let now = Instant::now();
            Self {
                telling: Telling::default(),
                now,
                random: ChaCha8Rng::seed_from_u64(4),
            }
        }

        /// What peers 1 to 20 are told so long after the start.
        fn tell(&mut self, after_ms: u64) -> BTreeMap<NodeId, Vec<Word>> {
            let peers = (1..=20).map(id).collect();
            let now = self.now + Duration::from_millis(after_ms);
            let is_held = |word: &Word| word.life == 1;
            self.telling
                .poll_tell(peers, is_held, now, &mut self.random)
        }
    }

    #[test]
    fn a_single_word_goes_at_once_and_many_go_together() {
        let mut scene = Scene::new();
        scene.telling.handle_news(silent(30, 40), Some(id(30)));
        assert_eq!(scene.tell(0).len(), FAN_OUT - 1);
        for by in 31..=38 {
            scene.telling.handle_news(silent(by, 41), None);
            assert_eq!(scene.tell(999).len(), 0);
        }
        let said = scene.tell(1_000);
        assert_eq!(said.len(), FAN_OUT);
        assert!(said.values().all(|words| words.len() == 8));
        assert_eq!(scene.tell(5_000).len(), 0);
    }

    #[test]
    fn who_brought_a_word_or_said_it_is_not_told_and_who_is_meant_always_is() {
        let mut scene = Scene::new();
        let word = silent(1, 2);
        scene.telling.handle_news(word, Some(id(3)));
        for from in [4, 5, 5, 3] {
            scene.telling.handle_known(&word, id(from));
        }
        let told: BTreeSet<NodeId> = scene.tell(0).into_keys().collect();
        assert_eq!(told.len(), FAN_OUT - 3 + 1);
        assert!(told.contains(&id(2)));
        assert!(told.is_disjoint(&[1, 3, 4, 5].map(id).into()), "{told:?}");
    }

    #[test]
    fn a_word_that_is_over_while_it_waits_is_told_to_nobody() {
        let mut scene = Scene::new();
        let over = Word {
            life: 0,
            ..silent(30, 40)
        };
        scene.telling.handle_news(over, None);
        assert_eq!(scene.tell(0).len(), 0);
    }

    #[test]
    fn what_waits_goes_when_there_is_no_more_time() {
        let mut scene = Scene::new();
        for by in [30, 31] {
            scene.telling.handle_news(silent(by, 40), None);
            scene.telling.hurry();
            assert_eq!(scene.tell(by.into()).len(), FAN_OUT);
        }
    }

    /// Everybody with sixteen peers at random.
    #[test]
    fn a_word_reaches_all_but_a_few_of_a_thousand_in_seconds() {
        const COUNT: u16 = 1_000;
        let mut scene = Scene::new();
        let mut peers: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
        for one in 0..COUNT {
            let mut others: Vec<u16> = (0..COUNT).filter(|other| *other != one).collect();
            let (picks, _others) = others.partial_shuffle(&mut scene.random, 8);
            for other in picks {
                peers.entry(one).or_default().insert(*other);
                peers.entry(*other).or_default().insert(one);
            }
        }
        let mut nodes: Vec<Telling> = (0..COUNT).map(|_| Telling::default()).collect();
        let word = silent(COUNT + 1, COUNT + 2);
        let mut reached = BTreeSet::from([0]);
        nodes[0].handle_news(word, None);
        let mut told = 0;
        for second in 0..10 {
            let now = scene.now + second * PAUSE;
            for at in 0..COUNT {
                let around = peers[&at].iter().copied().map(id).collect();
                let node = &mut nodes[usize::from(at)];
                let said = node.poll_tell(around, |_| true, now, &mut scene.random);
                for to in said.keys().map(|to| u16::from_be_bytes([to.0[0], to.0[1]])) {
                    told += 1;
                    match reached.insert(to) {
                        true => nodes[usize::from(to)].handle_news(word, Some(id(at))),
                        false => nodes[usize::from(to)].handle_known(&word, id(at)),
                    }
                }
            }
        }
        let missed = usize::from(COUNT) - reached.len();
        assert!(missed <= 10, "{missed} missed");
        assert!(told < 6 * usize::from(COUNT), "told {told} times");
    }
}
