//! The logs of all authors as far as they hang together, and what of each has an effect.
//!
//! In: what is held by author, the cuts that revocations set. Out: the statements that act.
//! A cut that names a branch makes that branch act whole, whatever rivals a thief adds to it; where it is not held yet, the
//! log acts up to the cut's place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::log::{Authored, Entry};
use super::super::payload::{Cut, Payload, Place};
use super::super::state::Frozen;
use crate::id::StatementId;

/// One author's log.
#[derive(Debug)]
pub(super) struct Log<'a> {
    /// At each place what hangs together with the place before.
    pub(super) places: BTreeMap<u32, Vec<&'a Arc<Entry>>>,
    /// How far it goes if its quota cuts it off.
    pub(super) full: Option<u32>,
    /// The first place with two statements.
    pub(super) frozen: Option<Frozen>,
    /// The branch a cut names, if all of it is held.
    branch: Option<BTreeSet<StatementId>>,
    cut: Option<Cut>,
}

impl<'a> Log<'a> {
    pub(super) fn new(authored: &'a Authored, cut: Option<Cut>) -> Self {
        let branch = cut.and_then(|cut| authored.branch(cut));
        let (places, full) = authored.connected(branch.as_ref());
        let frozen = first_fork(&places);
        Self {
            places,
            full,
            frozen,
            branch,
            cut,
        }
    }

    /// What of it has an effect, up to the first place where its author said its last word.
    pub(super) fn acts(&self, is_last: impl Fn(&Payload) -> bool) -> Vec<&'a Arc<Entry>> {
        let mut acts: Vec<_> = self.standing().collect();
        let last = acts.iter().find(|entry| is_last(&entry.payload));
        if let Some(last) = last.map(|entry| entry.seq()) {
            acts.retain(|entry| entry.seq() <= last);
        }
        acts
    }

    fn standing(&self) -> impl Iterator<Item = &'a Arc<Entry>> {
        let until = self.cut.map_or(u32::MAX, |cut| cut.seq);
        let thawed = self.frozen.as_ref().map_or(u64::MAX, |frozen| frozen.hlc);
        let entries = self.places.values().flatten().copied();
        entries.filter(move |entry| match &self.branch {
            Some(branch) => branch.contains(&entry.id),
            None => entry.seq() <= until && entry.hlc() <= thawed,
        })
    }
}

impl Authored {
    /// The ids from the start of the log to a cut that names its end; `None` when it names none, or not all are held.
    fn branch(&self, cut: Cut) -> Option<BTreeSet<StatementId>> {
        let (mut branch, mut next) = (BTreeSet::new(), cut.id);
        if next == [0; 32] {
            return None;
        }
        for seq in (1..=cut.seq).rev() {
            let entry = self
                .log
                .get(&seq)?
                .iter()
                .find(|entry| entry.id.0 == next)?;
            branch.insert(entry.id);
            next = entry.prev();
        }
        Some(branch)
    }
}

impl Entry {
    /// Its place in the log; 0 for a Join and for what is in none.
    pub(super) const fn seq(&self) -> u32 {
        match self.place {
            Place::Log(header) => header.seq,
            Place::Note { .. } => 0,
        }
    }
}

fn first_fork(log: &BTreeMap<u32, Vec<&Arc<Entry>>>) -> Option<Frozen> {
    log.iter()
        .find_map(|(seq, rivals)| match rivals.as_slice() {
            [a, b, ..] => Some(Frozen {
                seq: *seq,
                statements: [a.id, b.id],
                hlc: a.hlc().max(b.hlc()),
            }),
            _ => None,
        })
}

/// Of several cuts the shortest counts; one that names its branch goes before one that does not.
pub(super) fn shortest(cuts: impl Iterator<Item = Cut>) -> Option<Cut> {
    cuts.min_by_key(|cut| (cut.seq, cut.id == [0; 32], cut.id))
}
