//! Halves of split packets that wait for each other.
//!
//! `take` gives the whole packet when both halves are there. Bounds: `MOST` halves a peer, the
//! oldest goes first; one waits at most `LONGEST`. What is given up is told, to be counted.
//! Absent: what the packet is; it passes the same checks as one that came whole.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::fragment::Half;

/// Halves of one peer that wait at a time.
pub(crate) const MOST: usize = 64;

/// How long one waits.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// The halves of one peer, the one that has waited longest first.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: u32,
    is_first: bool,
    bytes: Vec<u8>,
    since: Instant,
}

/// What came of one half.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The packet, if the other half was there.
    pub(crate) whole: Option<Vec<u8>>,
    /// Halves given up to make room, or because this one came again.
    pub(crate) lost: u64,
}

impl Halves {
    /// Takes a half; one that came before in this place is replaced.
    pub(crate) fn take(&mut self, half: Half<'_>, now: Instant) -> Taken {
        let mut lost = self.expire(now);
        let same = self.waiting.iter().position(|other| other.id == half.id);
        if let Some(other) = same.and_then(|at| self.waiting.remove(at)) {
            if other.is_first != half.is_first {
                let whole = Some(join(&other, half));
                return Taken { whole, lost };
            }
            lost += 1;
        }
        if self.waiting.len() >= MOST {
            self.waiting.pop_front();
            lost += 1;
        }
        self.waiting.push_back(Waiting {
            id: half.id,
            is_first: half.is_first,
            bytes: half.bytes.to_vec(),
            since: now,
        });
        Taken { whole: None, lost }
    }

    /// Gives up what has waited too long; says how many.
    pub(crate) fn expire(&mut self, now: Instant) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|half| now <= half.since + LONGEST);
        (before - self.waiting.len()) as u64
    }
}

fn join(waiting: &Waiting, half: Half<'_>) -> Vec<u8> {
    if waiting.is_first {
        [&waiting.bytes, half.bytes].concat()
    } else {
        [half.bytes, &waiting.bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::fragment;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        Instant::now()
    }

    fn half(id: u32, is_first: bool) -> Half<'static> {
        let bytes = if is_first { b"one " } else { b"half" };
        Half {
            id,
            is_first,
            bytes,
        }
    }

    #[test]
    fn halves_meet_in_either_order_within_a_second_and_not_later() {
        let (start, mut halves) = (start(), Halves::default());
        for first in [true, false] {
            assert_eq!(halves.take(half(7, first), start), Taken::default());
            let whole = halves.take(half(7, !first), start + LONGEST).whole;
            assert_eq!(whole.as_deref(), Some(&b"one half"[..]));
        }

        halves.take(half(8, true), start);
        let late = halves.take(half(8, false), start + LONGEST + Duration::from_millis(1));

        assert_eq!((late.whole, late.lost), (None, 1));
    }

    #[test]
    fn the_sixty_fifth_half_costs_the_oldest() {
        let (start, mut halves) = (start(), Halves::default());
        let lost: u64 = (0..66)
            .map(|id| halves.take(half(id, true), start).lost)
            .sum();

        assert_eq!(lost, 2);
        assert_eq!(halves.take(half(1, false), start).whole, None);
        assert!(halves.take(half(65, false), start).whole.is_some());
        assert_eq!(halves.expire(start + 2 * LONGEST), 63);
    }

    /// What arrives: a half of packet `.0`, the first if `.1`; or a pause of `.0` ms.
    #[derive(Debug, Clone)]
    enum Step {
        Half(usize, bool),
        Pause(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..100_usize, any::<bool>()).prop_map(|(id, first)| Step::Half(id, first)),
            1 => (1..700_u64).prop_map(Step::Pause),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        /// Any order, loss, duplicates, foreign ids: the same as a map of what waits, and every
        /// half is either in a whole packet, given up and counted, or still waiting.
        #[test]
        fn whatever_arrives_is_joined_counted_or_waiting(steps in steps()) {
            let packets: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; 2 + 11 * usize::from(n)]).collect();
            let (mut now, mut halves) = (start(), Halves::default());
            let mut model: BTreeMap<usize, (bool, Instant, usize)> = BTreeMap::new();
            let (mut taken, mut joined, mut lost) = (0, 0, 0);
            for (number, step) in steps.into_iter().enumerate() {
                let (id, first) = match step {
                    Step::Pause(ms) => {
                        now += Duration::from_millis(ms);
                        continue;
                    }
                    Step::Half(id, first) => (id, first),
                };
                taken += 1;
                model.retain(|_, (_, since, _)| now <= *since + LONGEST);
                let payloads = fragment::split(id as u32, &packets[id]);
                let payload = &payloads[usize::from(!first)];
                let result = halves.take(fragment::parse(payload).unwrap(), now);
                lost += result.lost;
                let expected = model.remove(&id).is_some_and(|(other, ..)| other != first);
                prop_assert_eq!(result.whole.is_some(), expected);
                if let Some(whole) = result.whole {
                    prop_assert_eq!(&whole, &packets[id]);
                    joined += 2;
                } else {
                    if model.len() >= MOST {
                        let oldest = *model.iter().min_by_key(|(_, (_, _, number))| *number).unwrap().0;
                        model.remove(&oldest);
                    }
                    model.insert(id, (first, now, number));
                }
                prop_assert_eq!(halves.waiting.len(), model.len());
                prop_assert!(halves.waiting.len() <= MOST);
            }
            prop_assert_eq!(taken, joined + lost + halves.waiting.len() as u64);
        }
    }
}
