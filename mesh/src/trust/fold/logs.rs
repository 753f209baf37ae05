//! The logs of all authors as far as they hang together, and what of each has an effect.
//!
//! In: what is held by author, the cuts that revocations set. Out: the statements that act, and their times.
//! A cut that names a branch makes that branch act whole, whatever rivals a thief adds to it; where it is not held yet, the
//! log acts up to the cut's place.
//! Where a log forks, nobody can tell which branch is a thief's. So its statements before the fork act, and of those from
//! there on, of both branches, all that admits, removes or gives a right: a fork un-says nothing. Wishes from there on
//! don't act, or two hands would fight over them. Which statement stands before the fork is settled by its place, never by
//! the time it claims.

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

/// A statement that has an effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act<'a> {
    pub(super) entry: &'a Arc<Entry>,
    /// Its clock, and not before that of what precedes it in its log. A wish may claim a time ahead to be the last word
    /// and dates nothing behind it but wishes.
    pub(super) at: u64,
    /// It stands on ground where its log forks.
    pub(super) forked: bool,
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

    /// What of it has an effect, in order of places, dated not before `since`. Where its author said its last word nothing
    /// behind that on the same branch has any.
    pub(super) fn acts(&self, since: u64, is_last: impl Fn(&Payload) -> bool) -> Vec<Act<'a>> {
        let mut acts = Vec::new();
        let mut ended = BTreeSet::new();
        // Of each statement the latest clock up to it, of all and without wishes.
        let mut times: BTreeMap<[u8; 32], (u64, u64)> = BTreeMap::new();
        for entry in self.places.values().flatten().copied() {
            let (mut all, mut lasting) = *times.get(&entry.prev()).unwrap_or(&(since, since));
            all = all.max(entry.hlc());
            if !entry.payload.is_wish() {
                lasting = lasting.max(entry.hlc());
            }
            times.insert(entry.id.0, (all, lasting));
            let is_after = ended.contains(&entry.prev());
            if is_after || is_last(&entry.payload) {
                ended.insert(entry.id.0);
            }
            let forked = self.is_forked_at(entry.seq());
            if !is_after && self.stands(entry, forked) {
                let at = if entry.payload.is_wish() {
                    all
                } else {
                    lasting
                };
                acts.push(Act { entry, at, forked });
            }
        }
        acts
    }

    fn stands(&self, entry: &Entry, forked: bool) -> bool {
        match &self.branch {
            Some(branch) => branch.contains(&entry.id),
            None => {
                let is_within = self.cut.is_none_or(|cut| entry.seq() <= cut.seq);
                is_within && !(forked && entry.payload.is_wish())
            }
        }
    }

    /// A branch that a revocation names is settled, forked or not.
    fn is_forked_at(&self, seq: u32) -> bool {
        let forks = |frozen: &Frozen| self.branch.is_none() && frozen.seq <= seq;
        self.frozen.as_ref().is_some_and(forks)
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
