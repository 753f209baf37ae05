//! What is remembered of a peer: when it is told what is held here, and what it may say and ask.
//!
//! Budgets last as long as the daemon, so that coming back buys nothing.

use std::time::{Duration, Instant};

use outlast_mesh::Allowance;

/// Between two tellings of what is held here, of a pair: whoever was told the same needn't tell it.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(30);
/// Messages an honest peer sends: what its own bound on answers leaves, its burst of events, and its greetings.
const WORDS: (f64, f64) = (80.0, 512.0);
/// Bytes of answers and of what is handed on: a ledger never takes from a live row what that needs.
const ANSWERS: (f64, f64) = (16_384.0, 65_536.0);
/// Messages that make this node compare: what two that differ in everything say in a second, twice.
const COMPARES: (f64, f64) = (32.0, 128.0);
/// What an answer costs at least.
const LEAST_COST: usize = 256;
/// What a datagram has around it.
const AROUND: usize = 112;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// When it is told what is held here.
    pub(super) tell_at: Instant,
    words: Allowance,
    answers: Allowance,
    compares: Allowance,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            connected: false,
            tell_at: now,
            words: Allowance::new(WORDS.0, WORDS.1),
            answers: Allowance::new(ANSWERS.0, ANSWERS.1),
            compares: Allowance::new(COMPARES.0, COMPARES.1),
        }
    }

    /// Whether another message of it is read.
    pub(super) fn may_speak(&mut self, now: Instant) -> bool {
        self.words.take(1.0, now)
    }

    /// Whether stretches are looked through for it; what isn't comes at the next telling.
    pub(super) fn may_compare(&mut self, now: Instant) -> bool {
        self.compares.take(1.0, now)
    }

    /// Whether an answer of so many bytes goes to it now.
    pub(super) fn may_be_answered(&mut self, len: usize, now: Instant) -> bool {
        let cost = (len + AROUND).max(LEAST_COST);
        self.answers.take(cost as f64, now)
    }
}
