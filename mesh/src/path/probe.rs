//! Which addresses of a peer to try inside the session, and what an answer is worth.
//!
//! While a relay stands between, every address it may be at is tried: three times within 1.5 s, then each
//! `WHILE_RELAYED`. Both sides do so, and each try opens the own router for the other's: that is all hole punching
//! is. Over a direct way one other address is tried each `AT_REST`, by the side with the lower id alone.
//! Invariant: an answer counts once, from the very address that was asked. Bound: `MOST_OUT` questions out, the oldest
//! goes first. Absent: sending, and the addresses (`candidates`).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::way::Way;
use crate::snapshot::Path;

/// The first pauses while a relay stands between.
const FIRST: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1_000)];

/// The pause after them: two of them are shorter than the 30 s for which the shortest-lived router keeps a way
/// open, so tries of both sides meet, and a direct way is found within 30 s of its opening.
const WHILE_RELAYED: Duration = Duration::from_secs(12);

/// The pause while the way is direct.
const AT_REST: Duration = Duration::from_secs(120);

/// Questions without an answer that are remembered.
const MOST_OUT: usize = 64;

/// A later answer says nothing of the way as it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A direct way is left for another of its kind that is better by the larger of these.
const BETTER_BY: Duration = Duration::from_millis(10);
const BETTER_BY_PART: f64 = 0.2;

/// The tries at one peer's addresses.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    is_relayed: bool,
    rounds: usize,
    next: Option<Instant>,
    turn: usize,
    out: VecDeque<(u32, SocketAddr, Instant)>,
}

impl Probes {
    /// Whether a round is due over a way of this kind; counts it as begun.
    pub(crate) fn take_round(&mut self, is_relayed: bool, now: Instant) -> bool {
        if self.is_relayed != is_relayed {
            self.is_relayed = is_relayed;
            self.hurry();
        }
        if !is_relayed && self.next.is_none() {
            self.next = Some(now + AT_REST);
        }
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        let pause = match is_relayed {
            true => FIRST.get(self.rounds).copied().unwrap_or(WHILE_RELAYED),
            false => AT_REST,
        };
        self.rounds += 1;
        self.next = Some(now + pause);
        true
    }

    /// Something changed: the first tries come at once again, if a relay stands between.
    pub(crate) fn hurry(&mut self) {
        self.rounds = 0;
        self.next = None;
    }

    /// The addresses of this round.
    pub(crate) fn targets(&mut self, known: &[SocketAddr], way: Way) -> Vec<SocketAddr> {
        let others = known
            .iter()
            .copied()
            .filter(|at| Some(*at) != way.address());
        if self.is_relayed {
            return others.collect();
        }
        // Nothing worse than what is in use is worth asking after.
        let others: Vec<_> = others
            .filter(|at| rank(Way::Direct(*at).class()) >= rank(way.class()))
            .collect();
        self.turn = self.turn.wrapping_add(1);
        let one = others.get(self.turn % others.len().max(1));
        one.copied().into_iter().collect()
    }

    /// A question of this number left.
    pub(crate) fn asked(&mut self, number: u32, at: SocketAddr, now: Instant) {
        self.out.push_back((number, at, now));
        if self.out.len() > MOST_OUT {
            self.out.pop_front();
        }
    }

    /// An answer came from there: how long it took. `None` if that was not asked there, or long ago.
    pub(crate) fn answered(
        &mut self,
        number: u32,
        from: SocketAddr,
        now: Instant,
    ) -> Option<Duration> {
        let asked = |(asked, at, _): &(u32, SocketAddr, Instant)| (*asked, *at) == (number, from);
        let (_, _, sent) = self.out.remove(self.out.iter().position(asked)?)?;
        let took = now.saturating_duration_since(sent);
        (took <= ANSWER_WITHIN).then_some(took)
    }
}

/// Whether an address that answered so fast is to take the place of the way in use.
pub(crate) fn is_better(at: SocketAddr, took: Duration, way: Way, rtt: Option<Duration>) -> bool {
    let (new, old) = (rank(Way::Direct(at).class()), rank(way.class()));
    let margin = |rtt: Duration| BETTER_BY.max(rtt.mul_f64(BETTER_BY_PART));
    let is_faster = rtt.is_some_and(|rtt| took + margin(rtt) < rtt);
    new > old || new == old && is_faster
}

fn rank(class: Path) -> u8 {
    match class {
        Path::Lan => 3,
        Path::Direct => 2,
        Path::Relay => 1,
        Path::None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    const RELAY: Way = Way::Relay(NodeId([7; 32]));

    fn far(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn near(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        Instant::now()
    }

    /// The tenths of a second at which rounds begin.
    fn rounds(probes: &mut Probes, is_relayed: bool, from: Instant, tenths: u32) -> Vec<u32> {
        let at = |tenth| from + Duration::from_millis(100) * tenth;
        let due = |tenth: &u32| probes.take_round(is_relayed, at(*tenth));
        (0..tenths).filter(due).collect()
    }

    #[test]
    fn while_relayed_tries_are_three_at_once_and_then_each_twelve_seconds() {
        let (mut probes, now) = (Probes::default(), start());
        assert_eq!(
            rounds(&mut probes, true, now, 400),
            [0, 5, 15, 135, 255, 375]
        );
        probes.hurry();
        let later = now + Duration::from_secs(41);
        assert_eq!(rounds(&mut probes, true, later, 20), [0, 5, 15]);
    }

    #[test]
    fn a_direct_way_is_compared_with_one_other_address_each_two_minutes() {
        let (mut probes, now) = (Probes::default(), start());
        assert_eq!(
            rounds(&mut probes, false, now, 4_000),
            [1_200, 2_400, 3_600]
        );
        let known = [far(1), far(2), near(3), far(4)];
        let direct = Way::Direct(far(1));
        let mut tried: Vec<_> = (0..3)
            .flat_map(|_| probes.targets(&known, direct))
            .collect();
        tried.sort();
        assert_eq!(tried, [near(3), far(2), far(4)]);
        assert!(probes.targets(&known, Way::Direct(near(3))).is_empty());
        assert_eq!(rounds(&mut probes, true, now, 10), [0, 5]);
        assert_eq!(probes.targets(&known, RELAY), known);
    }

    #[test]
    fn an_answer_counts_once_from_where_it_was_asked_and_in_time() {
        let (mut probes, now) = (Probes::default(), start());
        let later = |ms| now + Duration::from_millis(ms);
        probes.asked(1, far(1), now);
        assert_eq!(probes.answered(1, far(2), now), None);
        assert_eq!(probes.answered(2, far(1), now), None);
        assert_eq!(
            probes.answered(1, far(1), later(80)),
            Some(Duration::from_millis(80))
        );
        assert_eq!(probes.answered(1, far(1), later(80)), None);
        probes.asked(3, far(1), now);
        assert_eq!(probes.answered(3, far(1), later(5_001)), None);
        for number in 0..1_000 {
            probes.asked(number, far(1), now);
        }
        assert_eq!(probes.out.len(), MOST_OUT);
    }

    #[test]
    fn nearer_wins_and_within_a_kind_only_what_is_faster_by_far() {
        let ms = Duration::from_millis;
        let direct = Way::Direct(far(9));
        for (at, took, way, rtt, better) in [
            (far(1), 900, RELAY, Some(20), true),
            (near(1), 900, direct, Some(20), true),
            (far(1), 1, Way::Direct(near(9)), Some(500), false),
            (far(1), 29, direct, Some(40), true),
            (far(1), 31, direct, Some(40), false),
            (far(1), 79, direct, Some(100), true),
            (far(1), 81, direct, Some(100), false),
            (far(1), 1, direct, None, false),
        ] {
            let got = is_better(at, ms(took), way, rtt.map(ms));
            assert_eq!(
                got, better,
                "{at} in {took} ms instead of {way:?} in {rtt:?} ms"
            );
        }
    }
}
