//! Which number this node's next event gets: never one that it used before, also when its disk was lost or came back from
//! an old image.
//!
//! Each start goes on above what is known here by a jump nobody makes twice: `LEAST_JUMP`, which is more than
//! a year of events, and a random part. So no number is used again even where nothing and nobody knows what was used. For the
//! order's sake a starting node first asks its peers for the last it used, and waits `WAIT` for the first who answers.
//! Absent: the events; the ledger says what it has seen of its own.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::event::MAX_SEQ;

/// How long a starting node waits for a peer to say what it used last.
pub(super) const WAIT: Duration = Duration::from_secs(3);
const LEAST_JUMP: u64 = 1 << 20;
const RANDOM_JUMP: u64 = 1 << 32;

#[derive(Debug)]
pub(super) struct Numbers {
    /// `None` while a peer is waited for.
    next: Option<u64>,
    decide_at: Instant,
}

impl Numbers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: None,
            decide_at: now + WAIT,
        }
    }

    pub(super) fn is_decided(&self) -> bool {
        self.next.is_some()
    }

    /// When the node goes on without an answer.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.is_none().then_some(self.decide_at)
    }

    /// This number was used before, by an event this node signed; numbers go on above it. The first word decides.
    pub(super) fn handle_last(&mut self, last: u64, rng: &mut ChaCha8Rng) {
        if self.next.is_none_or(|next| next <= last) {
            let jump = LEAST_JUMP + rng.random_range(0..RANDOM_JUMP);
            self.next = Some(last.saturating_add(jump));
        }
    }

    /// The next number. `None`: it isn't decided, or somebody with this node's key has used up all there are.
    pub(super) fn take(&mut self) -> Option<u64> {
        let next = self.next.filter(|next| *next <= MAX_SEQ)?;
        self.next = Some(next + 1);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn starts(seed: u64, last: u64) -> Numbers {
        let mut numbers = Numbers::new(Instant::now());
        numbers.handle_last(last, &mut ChaCha8Rng::seed_from_u64(seed));
        numbers
    }

    #[test]
    fn every_start_from_one_image_counts_from_elsewhere() {
        let firsts: std::collections::BTreeSet<_> = (0..1_000)
            .filter_map(|seed| starts(seed, 7).take())
            .collect();
        assert_eq!(firsts.len(), 1_000);
        assert!(
            firsts
                .iter()
                .all(|first| *first > 7 + 365 * 24 * 120 - 7_000)
        );
    }

    #[test]
    fn a_number_that_turns_out_to_be_used_is_left_behind() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut numbers = starts(1, 0);
        let first = numbers.take().unwrap();
        numbers.handle_last(first, &mut rng);
        assert_eq!(
            numbers.take(),
            Some(first + 1),
            "its own last changes nothing"
        );
        numbers.handle_last(first + 500, &mut rng);
        assert!(numbers.take().unwrap() > first + 500);
    }

    #[test]
    fn where_a_thief_used_up_all_numbers_there_are_none() {
        assert_eq!(starts(1, MAX_SEQ).take(), None);
        assert_eq!(starts(1, u64::MAX).take(), None);
    }
}
