//! What of everything held counts, by author: what holders compare, pass on and keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::log::{Entry, digest};
use super::super::payload::Place;
use super::super::state::State;
use super::Wish;
use crate::id::hash;

/// What a fold gives: the state, and the statements it rests on.
#[derive(Debug)]
pub(in super::super) struct Folded {
    pub(in super::super) state: Arc<State>,
    pub(in super::super) counted: BTreeMap<[u8; 32], Counted>,
    /// The authors, each after who admitted it.
    pub(in super::super) order: Vec<[u8; 32]>,
    pub(in super::super) root: [u8; 32],
    /// Digest of the logs and Joins alone, which membership rests on.
    pub(in super::super) trust: [u8; 32],
    /// The authors whose logs are at their quota, and how far what counts of them reaches.
    pub(in super::super) full: BTreeMap<[u8; 32], u32>,
    /// When the last word on each wish was said.
    pub(in super::super) wishes: BTreeMap<Wish, u64>,
}

/// What counts of one author.
#[derive(Debug, Default)]
pub(in super::super) struct Counted {
    pub(in super::super) joins: Vec<Arc<Entry>>,
    pub(in super::super) log: Vec<Arc<Entry>>,
    pub(in super::super) notes: Vec<Arc<Entry>>,
}

impl Counted {
    /// All of it.
    pub(in super::super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.joins.iter().chain(&self.log).chain(&self.notes)
    }

    /// How far the log goes.
    pub(in super::super) fn seq(&self) -> u32 {
        match self.log.last().map(|entry| entry.place) {
            Some(Place::Log(header)) => header.seq,
            _ => 0,
        }
    }

    /// Whether two statements stand at one place.
    pub(in super::super) fn is_forked(&self) -> bool {
        self.log.len() > self.seq() as usize
    }

    /// The Joins, and the log up to `seq`.
    pub(in super::super) fn up_to(&self, seq: u32) -> impl Iterator<Item = &Arc<Entry>> {
        let early = move |entry: &&Arc<Entry>| matches!(entry.place, Place::Log(header) if header.seq <= seq);
        self.joins.iter().chain(self.log.iter().take_while(early))
    }
}

/// Digests of all that counts, and of the logs and Joins alone.
pub(super) fn roots(counted: &BTreeMap<[u8; 32], Counted>) -> ([u8; 32], [u8; 32]) {
    let (mut all, mut trust) = (Vec::new(), Vec::new());
    for (author, counted) in counted {
        let log: [u8; 32] = digest(counted.up_to(u32::MAX));
        let notes: [u8; 32] = digest(counted.notes.iter());
        all.extend([*author, log, notes].concat());
        trust.extend([*author, log].concat());
    }
    (hash(&[&all]), hash(&[&trust]))
}
