//! Whom a member of a large mesh keeps a session with for the mesh's sake: a few, at random, slowly changing.
//!
//! Each picks `SIZE` others; with those that picked it, it has about twice as many. That many random ways keep the mesh
//! in one piece, carry what everyone should know, and watch each other. One pick is swapped each `SWAP_EVERY`, so the
//! cost of a handshake stays rare and everybody is met in time.
//! In: who is a member, what is believed of each, who is heard. Out: the picks, what became of each, and whether this
//! node is cut off from most. While next to nobody is heard more are tried, up to `MOST`; one pick in `RARELY` goes to a member
//! that is believed gone, so nobody is given up for ever.
//! Absent: sessions, and the members the application wants (`Mesh::want`).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use super::lives::Belief;
use crate::id::NodeId;

/// Picks held while all is well.
pub const SIZE: usize = 8;

/// Picks at once while nobody answers.
pub const MOST: usize = 64;

/// One pick is swapped for another at most this often.
const SWAP_EVERY: Duration = Duration::from_secs(20);

/// How long a pick may take to answer before another is tried instead.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// A pick that was heard and is silent for so long is replaced.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// While fewer than this are heard, more are tried.
const ENOUGH: usize = 4;

/// How often the number tried doubles.
const GROW_EVERY: Duration = Duration::from_secs(5);

/// One pick in so many is somebody believed to be gone, if there is one.
const RARELY: u32 = 8;

/// Picks whose outcome says how much of the mesh is within reach at this moment.
const RECENT: usize = 8;

/// Outcomes before a usual part is known.
const LEARNT: u32 = 16;

/// A part of the usual below which this node is cut off.
const CUT_OFF: f64 = 1.0 / 3.0;

/// The weight of one outcome in what is usual.
const WEIGHT: f64 = 1.0 / 64.0;

/// How long a start may take before a node says that it is cut off.
const SETTLE: Duration = Duration::from_secs(20);

/// The picks.
#[derive(Debug)]
pub struct View {
    picks: BTreeMap<NodeId, Pick>,
    /// Tried before anybody at random: where sessions worked in earlier runs.
    first: VecDeque<NodeId>,
    started: Instant,
    swap_at: Instant,
    grow_at: Instant,
    aim: usize,
    recent: VecDeque<bool>,
    usual: f64,
    outcomes: u32,
    heard: usize,
}

#[derive(Debug)]
struct Pick {
    since: Instant,
    /// When it was last seen to be heard. `None` before it answered.
    heard: Option<Instant>,
    /// Whether its answer says anything of the mesh: it was believed to be there.
    telling: bool,
}

/// A pick that did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered(pub NodeId);

impl View {
    /// No picks yet; the first are made at the next timeout, half of them from `first`.
    #[must_use]
    pub fn new(first: Vec<NodeId>, now: Instant) -> Self {
        Self {
            picks: BTreeMap::new(),
            first: first.into(),
            started: now,
            swap_at: now + SWAP_EVERY,
            grow_at: now + GROW_EVERY,
            aim: SIZE,
            recent: VecDeque::new(),
            usual: 1.0,
            outcomes: 0,
            heard: 0,
        }
    }

    /// Does what is due; to be called each second. `members` are all others; `belief` says what is held of one, and
    /// `is_heard` whether a session with it works, whoever began it. Returns the picks given up because nobody answered.
    pub fn handle_timeout<'a>(
        &mut self,
        members: impl Iterator<Item = &'a NodeId> + Clone,
        belief: impl Fn(NodeId) -> Belief,
        is_heard: impl Fn(NodeId) -> bool,
        now: Instant,
        random: &mut ChaCha8Rng,
    ) -> Vec<Unanswered> {
        self.heard = members.clone().filter(|id| is_heard(**id)).count();
        let unanswered = self.look(&is_heard, now);
        self.grow(now);
        if now >= self.swap_at {
            self.swap_at = now + SWAP_EVERY.mul_f64(random.random_range(1.0..1.5));
            self.drop_oldest();
        }
        while self.picks.len() < self.aim {
            let free = members
                .clone()
                .filter(|id| !self.picks.contains_key(id) && !is_heard(**id));
            let free: Vec<NodeId> = free.copied().collect();
            let Some((id, telling)) = self.choose(&free, &belief, random) else {
                break;
            };
            let pick = Pick {
                since: now,
                heard: None,
                telling,
            };
            self.picks.insert(id, pick);
        }
        unanswered
    }

    /// Forgets somebody who is no member any more.
    pub fn forget(&mut self, id: NodeId) {
        self.picks.remove(&id);
    }

    /// Whether this member is a pick.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.picks.contains_key(&id)
    }

    /// The picks, by id.
    pub fn picks(&self) -> impl Iterator<Item = NodeId> {
        self.picks.keys().copied()
    }

    /// Whether most of the mesh is out of reach from here: far fewer picks answer than usual, or next to nobody is
    /// heard at all. Then what this node thinks of the others is worth little.
    #[must_use]
    pub fn is_cut_off(&self, now: Instant) -> bool {
        let settled = now >= self.started + SETTLE;
        let few = settled && self.heard < ENOUGH.div_ceil(2) + 1;
        let learnt = self.outcomes >= LEARNT && self.recent.len() == RECENT;
        let answered = self.recent.iter().filter(|answered| **answered).count() as f64;
        few || (learnt && answered / (RECENT as f64) < self.usual * CUT_OFF)
    }

    /// Notes who answered, and gives up who doesn't.
    fn look(&mut self, is_heard: impl Fn(NodeId) -> bool, now: Instant) -> Vec<Unanswered> {
        let (mut outcomes, mut unanswered) = (Vec::new(), Vec::new());
        let spare = self.picks.len().saturating_sub(SIZE);
        let mut over = if self.heard >= ENOUGH { spare } else { 0 };
        self.picks.retain(|id, pick| {
            if is_heard(*id) {
                if pick.heard.is_none() && pick.telling {
                    outcomes.push(true);
                }
                pick.heard = Some(now);
                return true;
            }
            match pick.heard {
                Some(last) => now < last + LOST_AFTER,
                None if over > 0 => {
                    over -= 1;
                    false
                }
                None if now < pick.since + ANSWER_WITHIN => true,
                None => {
                    if pick.telling {
                        outcomes.push(false);
                    }
                    unanswered.push(Unanswered(*id));
                    false
                }
            }
        });
        for answered in outcomes {
            self.note(answered, now);
        }
        unanswered
    }

    fn note(&mut self, answered: bool, now: Instant) {
        self.recent.push_back(answered);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        // What is usual is learnt while things are.
        if !self.is_cut_off(now) {
            let part = if answered { 1.0 } else { 0.0 };
            self.usual += (part - self.usual) * WEIGHT;
            self.outcomes = self.outcomes.saturating_add(1);
        }
    }

    fn grow(&mut self, now: Instant) {
        if self.heard >= ENOUGH {
            self.aim = SIZE;
            self.grow_at = now + GROW_EVERY;
        } else if now >= self.grow_at {
            self.aim = (self.aim * 2).min(MOST);
            self.grow_at = now + GROW_EVERY;
        }
    }

    /// Whoever has been a pick for longest makes room, if as many answer as should.
    fn drop_oldest(&mut self) {
        let answered = self.picks.iter().filter(|(_, pick)| pick.heard.is_some());
        if answered.clone().count() >= SIZE
            && let Some((oldest, _)) = answered.min_by_key(|(_, pick)| pick.since)
        {
            let oldest = *oldest;
            self.picks.remove(&oldest);
        }
    }

    /// Somebody to try, and whether its answer says anything of the mesh.
    fn choose(
        &mut self,
        free: &[NodeId],
        belief: impl Fn(NodeId) -> Belief,
        random: &mut ChaCha8Rng,
    ) -> Option<(NodeId, bool)> {
        while self.picks.len() < SIZE / 2
            && let Some(id) = self.first.pop_front()
        {
            if free.contains(&id) {
                return Some((id, false));
            }
        }
        let is_gone = |id: &&NodeId| matches!(belief(**id), Belief::Down | Belief::Left);
        let gone = random
            .random_ratio(1, RARELY)
            .then(|| free.iter().filter(is_gone).choose(random))
            .flatten();
        if let Some(&id) = gone {
            return Some((id, false));
        }
        let there = free.iter().filter(|id| !is_gone(id)).choose(random);
        match there {
            Some(id) => Some((*id, belief(*id) == Belief::Alive)),
            None => free.iter().choose(random).map(|id| (*id, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    fn id(number: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    /// Runs a view for some seconds; who of `members` is `up` answers a pick at once.
    struct Scene {
        view: View,
        members: BTreeSet<NodeId>,
        up: BTreeSet<NodeId>,
        gone: BTreeSet<NodeId>,
        now: Instant,
        random: ChaCha8Rng,
        tried: Vec<NodeId>,
    }

    impl Scene {
        fn new(count: u16) -> Self {
            #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
            let now = Instant::now();
            let members: BTreeSet<_> = (1..=count).map(id).collect();
            Self {
                view: View::new(Vec::new(), now),
                up: members.clone(),
                members,
                gone: BTreeSet::new(),
                now,
                random: ChaCha8Rng::seed_from_u64(7),
                tried: Vec::new(),
            }
        }

        fn run(&mut self, seconds: u64) -> usize {
            let mut unanswered = 0;
            for _ in 0..seconds {
                self.now += Duration::from_secs(1);
                let before: BTreeSet<_> = self.view.picks().collect();
                let belief = |id| match self.gone.contains(&id) {
                    true => Belief::Down,
                    false => Belief::Alive,
                };
                let heard = |id| before.contains(&id) && self.up.contains(&id);
                let given_up = self.view.handle_timeout(
                    self.members.iter(),
                    belief,
                    heard,
                    self.now,
                    &mut self.random,
                );
                unanswered += given_up.len();
                self.tried
                    .extend(self.view.picks().filter(|id| !before.contains(id)));
            }
            unanswered
        }
    }

    #[test]
    fn a_few_are_picked_and_one_is_swapped_now_and_then() {
        let mut scene = Scene::new(1_000);
        scene.run(10);
        assert_eq!(scene.view.picks().count(), SIZE);
        let first = scene.tried.len();

        scene.run(3_600);

        let swaps = scene.tried.len() - first;
        assert!((120..=180).contains(&swaps), "{swaps} swaps in an hour");
        assert_eq!(scene.view.picks().count(), SIZE);
        assert!(!scene.view.is_cut_off(scene.now));
    }

    #[test]
    fn who_hears_nobody_tries_ever_more_and_rests_when_heard() {
        let mut scene = Scene::new(1_000);
        scene.up.clear();
        scene.run(60);
        assert_eq!(scene.view.picks().count(), MOST);
        assert!(scene.view.is_cut_off(scene.now));
        let tried: BTreeSet<_> = scene.tried.iter().collect();
        assert!(tried.len() > 300, "{} tried in a minute", tried.len());

        scene.up = scene.members.clone();
        scene.run(300);

        assert!(!scene.view.is_cut_off(scene.now));
        assert!(scene.view.picks().count() <= MOST);
    }

    #[test]
    fn who_is_gone_is_tried_rarely_and_for_ever() {
        let mut scene = Scene::new(200);
        let gone = id(50);
        scene.up.remove(&gone);
        scene.gone.insert(gone);
        scene.run(6 * 3_600);

        let tries = scene.tried.iter().filter(|tried| **tried == gone).count();
        assert!((60..220).contains(&tries), "{tries} tries in six hours");
    }

    #[test]
    fn when_far_fewer_answer_than_usual_this_node_is_cut_off() {
        let mut scene = Scene::new(200);
        scene.run(900);
        assert!(!scene.view.is_cut_off(scene.now));

        scene.up = (1..=20).map(id).collect();
        scene.run(60);

        assert!(scene.view.is_cut_off(scene.now));
        scene.up = scene.members.clone();
        scene.run(300);
        assert!(!scene.view.is_cut_off(scene.now));
    }
}
