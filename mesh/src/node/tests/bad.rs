//! A network at its worst: it loses, repeats, and brings old datagrams again from other places.

use std::collections::VecDeque;

use super::*;

/// Datagrams remembered for a replay.
const MOST_REMEMBERED: usize = 64;

/// What decides about each datagram.
pub(super) struct Network {
    random: ChaCha8Rng,
    /// To whom, and what; those that were lost too.
    passed: VecDeque<(usize, Vec<u8>)>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            passed: VecDeque::new(),
        }
    }

    /// What arrives when this datagram is sent: at whom, from where, and what. A third is lost, a
    /// tenth comes twice, and with a tenth comes an old one from where it never was.
    pub(super) fn pass(
        &mut self,
        from: SocketAddr,
        to: usize,
        bytes: &[u8],
    ) -> Vec<(usize, SocketAddr, Vec<u8>)> {
        let mut arrives = Vec::new();
        if self.random.random_ratio(2, 3) {
            arrives.push((to, from, bytes.to_vec()));
        }
        if self.random.random_ratio(1, 10) {
            arrives.push((to, from, bytes.to_vec()));
        }
        self.passed.push_back((to, bytes.to_vec()));
        if self.passed.len() > MOST_REMEMBERED {
            self.passed.pop_front();
        }
        if self.random.random_ratio(1, 10) {
            let (to, bytes) = self.passed[self.random.random_range(0..self.passed.len())].clone();
            let elsewhere = address(self.random.random_range(60..70));
            arrives.push((to, elsewhere, bytes));
        }
        arrives
    }
}
