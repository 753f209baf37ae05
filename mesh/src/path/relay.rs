//! Whom to ask to hand on datagrams for a peer no direct way leads to, and how much is handed on for others.
//!
//! `Asking` belongs to the peer that can't be reached: of the willing members it picks two, those most likely to lead there
//! and then the nearest, and one at random, so that a mesh where these have no way there is searched; who said no is left
//! alone for `REFUSED_FOR`. Most likely is whoever led there last, then the peer's landmarks. `Share` is one member's part of what this node hands on. Bounds: `MOST_REFUSED` refusals
//! remembered, the oldest goes first; bytes a second by `SMALL_SHARE`, `SHARE` and `ALL`, over which datagrams are dropped
//! and counted. What is small has a budget of its own, so bulk never costs a peer its signs of life.
//! Absent: who is willing (`node::relay`), what stands in the packets (`wire::relay`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::allowance::Allowance;
use crate::id::NodeId;

/// Asked at a time because they are likely or near; one more is asked at random.
const BEST: usize = 2;

/// How long a member that can't hand on is not asked again.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Refusals remembered for one peer.
const MOST_REFUSED: usize = 64;

/// A handshake through relays begins so long after the direct one, so that each can be answered: of the two handshakes
/// that may be under way at a time one goes each way.
const AFTER_DIRECT: Duration = Duration::from_millis(500);

/// Datagrams up to this length are small: handshakes, signs of life, questions, most live rows.
const SMALL: usize = 400;

/// Bytes a second, and at once, of small datagrams handed on for one member.
const SMALL_SHARE: (f64, f64) = (32_000.0, 64_000.0);

/// The same of all others.
const SHARE: (f64, f64) = (256_000.0, 512_000.0);

/// The same for all members together, the small ones apart.
const ALL: (f64, f64) = (1_000_000.0, 2_000_000.0);

/// The search for a relay to one peer.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    due: Option<Instant>,
    /// An attempt was due and nobody there to ask.
    is_starved: bool,
    /// Who led there last.
    led: Option<NodeId>,
    refused: BTreeMap<NodeId, Instant>,
}

impl Asking {
    /// A direct attempt was made; one through relays follows, not before `earliest`.
    pub(crate) fn follow(&mut self, earliest: Instant, now: Instant) {
        let due = earliest.max(now + AFTER_DIRECT);
        self.due.get_or_insert(due);
    }

    /// The direct attempt was answered.
    pub(crate) fn settle(&mut self) {
        self.due = None;
        self.is_starved = false;
    }

    /// A way leads there through this one.
    pub(crate) fn lead(&mut self, relay: NodeId) {
        self.led = Some(relay);
    }

    /// Who led there last.
    pub(crate) fn led(&self) -> Option<NodeId> {
        self.led
    }

    /// Whether the attempt is due; counts it as made.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| now >= *due).is_some()
    }

    /// Whom to ask, of the willing ones with their round trips; the `likely` ones first.
    pub(crate) fn choose(
        &mut self,
        willing: impl Iterator<Item = (NodeId, Option<Duration>)>,
        likely: &[NodeId],
        now: Instant,
        random: &mut ChaCha8Rng,
    ) -> Vec<NodeId> {
        self.refused.retain(|_, at| now < *at + REFUSED_FOR);
        let asked = willing.filter(|(id, _)| !self.has_refused(*id));
        let mut asked: Vec<_> = asked
            .map(|(id, rtt)| (!likely.contains(&id), rtt.unwrap_or(Duration::MAX), id))
            .collect();
        asked.sort();
        let mut chosen: Vec<NodeId> = asked.iter().map(|(.., id)| *id).collect();
        let others = chosen.split_off(BEST.min(chosen.len()));
        if !others.is_empty() {
            chosen.push(others[random.random_range(0..others.len())]);
        }
        self.is_starved = chosen.is_empty();
        chosen
    }

    /// Whether this one said of late that it can't hand on to the peer.
    pub(crate) fn has_refused(&self, relay: NodeId) -> bool {
        self.refused.contains_key(&relay)
    }

    /// This one can't hand on to the peer.
    pub(crate) fn refuse(&mut self, relay: NodeId, now: Instant) {
        if self.refused.len() >= MOST_REFUSED
            && let Some((_, oldest)) = self.refused.iter().map(|(id, at)| (*at, *id)).min()
        {
            self.refused.remove(&oldest);
        }
        self.refused.insert(relay, now);
    }

    /// This one may be asked again: it has just connected. It is at once, if there was nobody to ask.
    pub(crate) fn forgive(&mut self, relay: NodeId, now: Instant) {
        self.refused.remove(&relay);
        if std::mem::take(&mut self.is_starved) {
            self.due.get_or_insert(now);
        }
    }
}

/// What one member may have handed on.
#[derive(Debug)]
pub(crate) struct Share {
    small: Allowance,
    large: Allowance,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            small: Allowance::new(SMALL_SHARE.0, SMALL_SHARE.1),
            large: Allowance::new(SHARE.0, SHARE.1),
        }
    }
}

impl Share {
    /// Takes a datagram out of this share, and out of what all have together.
    pub(crate) fn take(&mut self, all: &mut Allowance, length: usize, now: Instant) -> bool {
        let cost = length as f64;
        if length <= SMALL && self.small.take(cost, now) {
            return true;
        }
        let granted = self.large.has(cost, now) && all.take(cost, now);
        if granted {
            self.large.charge(cost);
        }
        granted
    }
}

/// What all members together may have handed on.
pub(crate) fn all() -> Allowance {
    Allowance::new(ALL.0, ALL.1)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        Instant::now()
    }

    fn willing(count: u8) -> impl Iterator<Item = (NodeId, Option<Duration>)> {
        // The later the nearer; the first was never measured.
        (0..count).map(move |number| {
            let rtt = (number > 0).then(|| Duration::from_millis(u64::from(count - number)));
            (NodeId([number; 32]), rtt)
        })
    }

    #[test]
    fn the_two_nearest_are_asked_and_in_time_everybody() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut asking, now) = (Asking::default(), start());
        let mut asked = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let chosen = asking.choose(willing(9), &[], now, &mut random);
            assert_eq!(chosen[..2], [NodeId([8; 32]), NodeId([7; 32])]);
            assert_eq!(chosen.len(), 3);
            asked.extend(chosen);
        }
        assert_eq!(asked.len(), 9);
        assert_eq!(asking.choose(willing(1), &[], now, &mut random).len(), 1);
        assert!(asking.choose(willing(0), &[], now, &mut random).is_empty());
    }

    #[test]
    fn the_likely_ones_are_asked_before_nearer_ones() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut asking, now) = (Asking::default(), start());
        let likely = [NodeId([0; 32]), NodeId([77; 32])];
        let chosen = asking.choose(willing(9), &likely, now, &mut random);
        assert_eq!(chosen[..2], [NodeId([0; 32]), NodeId([8; 32])]);
    }

    #[test]
    fn who_found_nobody_to_ask_asks_the_first_that_comes() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut asking, now) = (Asking::default(), start());
        asking.forgive(NodeId([1; 32]), now);
        assert!(!asking.take_due(now));
        for is_settled in [false, true] {
            assert!(asking.choose(willing(0), &[], now, &mut random).is_empty());
            if is_settled {
                asking.settle();
            }
            asking.forgive(NodeId([1; 32]), now);
            assert_eq!(asking.take_due(now), !is_settled);
        }
    }

    #[test]
    fn who_refused_is_left_alone_for_a_minute_or_until_it_connects_again() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut asking, now) = (Asking::default(), start());
        asking.refuse(NodeId([2; 32]), now);
        asking.refuse(NodeId([1; 32]), now);
        assert_eq!(
            asking.choose(willing(3), &[], now, &mut random),
            [NodeId([0; 32])]
        );
        asking.forgive(NodeId([1; 32]), now);
        assert_eq!(asking.choose(willing(3), &[], now, &mut random).len(), 2);
        let later = now + REFUSED_FOR;
        assert_eq!(asking.choose(willing(3), &[], later, &mut random).len(), 3);

        for number in 0..=u8::MAX {
            asking.refuse(NodeId([number; 32]), later);
        }
        assert_eq!(asking.refused.len(), MOST_REFUSED);
    }

    #[test]
    fn an_attempt_through_relays_follows_the_direct_one_once() {
        let (mut asking, now) = (Asking::default(), start());
        assert!(!asking.take_due(now));
        asking.follow(now, now);
        asking.follow(now, now + AFTER_DIRECT / 2);
        assert!(!asking.take_due(now + AFTER_DIRECT / 2));
        assert!(asking.take_due(now + AFTER_DIRECT));
        assert!(!asking.take_due(now + AFTER_DIRECT * 9));
    }

    /// Bytes granted of datagrams of this length, tried each millisecond for `seconds` by so many members.
    fn granted(members: usize, length: usize, seconds: u64) -> f64 {
        let (mut all, now) = (all(), start());
        let mut shares: Vec<Share> = (0..members).map(|_| Share::default()).collect();
        let mut sum = 0;
        for ms in 0..seconds * 1_000 {
            for share in &mut shares {
                let took = share.take(&mut all, length, now + Duration::from_millis(ms));
                sum += usize::from(took) * length;
            }
        }
        sum as f64
    }

    #[test]
    fn one_member_and_all_together_are_bounded_in_bytes() {
        let one = granted(1, 1_280, 10);
        let bound = SHARE.1 + 10.0 * SHARE.0;
        assert!((0.98 * bound..=bound).contains(&one), "{one}");
        let many = granted(20, 1_280, 10);
        let bound = ALL.1 + 10.0 * ALL.0;
        assert!((0.98 * bound..=bound).contains(&many), "{many}");
    }

    #[test]
    fn bulk_leaves_what_is_small_its_own_budget() {
        let (mut all, now, mut share) = (all(), start(), Share::default());
        while share.take(&mut all, 1_280, now) {}
        let small = (0..1_000)
            .filter(|_| share.take(&mut all, 128, now))
            .count();
        assert!(small as f64 * 128.0 >= SMALL_SHARE.1 - 128.0, "{small}");
    }
}
