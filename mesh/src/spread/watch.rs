//! Who of those with a session has fallen silent, in the eyes of an observer that doubts itself first.
//!
//! In: how long each watched peer was not heard, and how late this process ran. Out: whom to call silent. The more of
//! the peers are silent at once the longer each is waited for, and when most are, the trouble is here and
//! nobody is blamed. A process that stood still listens anew before it says anything. Observers of one peer speak up to
//! `SPREAD` apart, so that the later ones find it said.
//! Absent: asking a silent peer for a sign of life (`liveness`), and what comes of the words (`lives`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::id::NodeId;

/// A silence that speaks against a peer: it was asked three times by then.
pub const PATIENCE: Duration = Duration::from_secs(7);

/// The observers of one peer speak this far apart.
const SPREAD: Duration = Duration::from_millis(1_500);

/// Fewer than this many watched peers say nothing of this node's own trouble.
const FEW: usize = 4;

/// The part of silent peers above which the trouble is here.
const MOST: f64 = 0.75;

/// What the observer remembers.
#[derive(Debug, Default)]
pub struct Watch {
    /// When each silent peer is spoken of; `None` once it was.
    due: BTreeMap<NodeId, Option<Instant>>,
    listening: Option<Instant>,
}

impl Watch {
    /// This process stood still: what it did not hear in that time speaks against nobody.
    pub fn handle_late(&mut self, now: Instant) {
        self.due.clear();
        self.listening = Some(now + PATIENCE);
    }

    /// Takes how long each watched peer was not heard, and returns whom to call silent. To be called each second.
    pub fn judge(
        &mut self,
        silences: &BTreeMap<NodeId, Duration>,
        now: Instant,
        random: &mut ChaCha8Rng,
    ) -> Vec<NodeId> {
        let silent = silences.values().filter(|time| **time > PATIENCE).count();
        let part = silent as f64 / silences.len().max(1) as f64;
        let ours = silences.len() >= FEW && part > MOST;
        if ours || self.listening.is_some_and(|until| now < until) {
            self.due.retain(|_, due| due.is_none());
            return Vec::new();
        }
        let patience = PATIENCE.mul_f64(1.0 + part);
        let is_silent = |id: &NodeId| silences.get(id).is_some_and(|time| *time > patience);
        self.due.retain(|id, _| is_silent(id));
        for id in silences.keys().filter(|id| is_silent(id)) {
            let spoken = now + SPREAD.mul_f64(random.random());
            self.due.entry(*id).or_insert(Some(spoken));
        }
        let mut said = Vec::new();
        for (id, due) in &mut self.due {
            if due.take_if(|at| now >= *at).is_some() {
                said.push(*id);
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn id(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    /// Judges each second while `silent` of 16 peers are; says at which silence each was called so.
    fn judge(silent: u8, late_at: Option<u64>) -> Vec<u64> {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (mut watch, mut said) = (Watch::default(), Vec::new());
        for second in 0..40 {
            let now = start + Duration::from_secs(second);
            if late_at == Some(second) {
                watch.handle_late(now);
            }
            let time = |number| match number <= silent {
                true => Duration::from_secs(second),
                false => Duration::ZERO,
            };
            let silences = (1..=16).map(|number| (id(number), time(number))).collect();
            let blamed = watch.judge(&silences, now, &mut random);
            said.extend(blamed.iter().map(|_| second));
        }
        said
    }

    #[test]
    fn a_silent_peer_is_spoken_of_once_and_within_ten_seconds() {
        let said = judge(1, None);
        assert_eq!(said.len(), 1);
        assert!((8..=10).contains(&said[0]), "{said:?}");
    }

    #[test]
    fn the_more_are_silent_the_longer_each_is_waited_for() {
        let said = judge(8, None);
        assert_eq!(said.len(), 8);
        assert!(said.iter().all(|at| (11..=13).contains(at)), "{said:?}");
    }

    #[test]
    fn when_most_are_silent_the_trouble_is_here() {
        assert_eq!(judge(13, None), [0; 0]);
    }

    #[test]
    fn a_process_that_stood_still_listens_before_it_speaks() {
        let said = judge(1, Some(9));
        assert!(said.iter().all(|at| *at >= 9 + 7), "{said:?}");
    }
}
