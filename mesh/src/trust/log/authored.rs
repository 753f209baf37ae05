//! What is held of one author, and how far its log hangs together.
//!
//! Invariant: of the statements at one place the same are chosen whatever order they came in, unless it is known when
//! each came: then the one that came first is among them, so that who copied a key cannot displace by more statements
//! what everybody has held for long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::super::payload::{Payload, Place, kind};
use super::super::record::Statement;
use super::MAX_LOG_BYTES;
use crate::id::StatementId;

/// Statements that count at one place of a log: two prove that the author's key was copied, more
/// prove no more. The one that came first counts, where that is known, then the lowest ids.
const MAX_RIVALS: usize = 2;
/// Bytes of bodies that count beside the first ones at each place: 3,000 Witnesses of a second branch fit. From where
/// they are used up one statement a place counts.
pub(super) const MAX_BESIDE_BYTES: usize = 1 << 18;

/// What is held of one author.
#[derive(Debug, Clone, Default)]
pub(in crate::trust) struct Authored {
    pub(in crate::trust) log: BTreeMap<u32, Vec<Arc<Entry>>>,
    pub(in crate::trust) joins: BTreeMap<StatementId, Arc<Entry>>,
    pub(in crate::trust) notes: BTreeMap<u8, Arc<Entry>>,
}

/// A log by place, and where its bytes cut it off.
pub(in crate::trust) type Connected<'a> = (BTreeMap<u32, Vec<&'a Arc<Entry>>>, Option<u32>);

/// A statement whose signature and form were checked.
#[derive(Debug)]
pub(in crate::trust) struct Entry {
    pub(in crate::trust) id: StatementId,
    pub(in crate::trust) place: Place,
    pub(in crate::trust) payload: Payload,
    pub(in crate::trust) statement: Statement,
    /// Whether the invite's key signed this Join; found out once.
    pub(in crate::trust) invite_signed: OnceLock<bool>,
    /// When it came here, by this holder's clock, where that is known.
    pub(in crate::trust) received_ms: OnceLock<u64>,
    /// The how manieth it was to come here.
    pub(super) arrival: OnceLock<u64>,
}

impl Authored {
    /// The log as far as it goes without a hole and within its bytes: at each seq the statements,
    /// ordered by id behind a Genesis, whose predecessor is there too; those of `branch` go before rivals, of which
    /// only the first place that has some counts then.
    /// Second, where the bytes cut it off. Of each place the first one's count for that, rivals have bytes of their
    /// own: who forges enough of them would cut off what everybody holds.
    pub(in crate::trust) fn connected(
        &self,
        branch: Option<&BTreeSet<StatementId>>,
    ) -> Connected<'_> {
        let (mut log, mut bytes, mut beside) = (BTreeMap::new(), 0, 0);
        let mut is_forked = false;
        let mut before = vec![[0; 32]];
        let on_it = |entry: &Arc<Entry>| branch.is_some_and(|branch| branch.contains(&entry.id));
        for (expected, (seq, rivals)) in (1..).zip(&self.log) {
            let linked = rivals.iter().filter(|entry| before.contains(&entry.prev()));
            let mut linked: Vec<_> = linked.collect();
            if *seq != expected || linked.is_empty() {
                break;
            }
            let first = linked.iter().map(|entry| entry.came()).min();
            linked.sort_by_key(|entry| {
                let is_first = Some(entry.came()) == first;
                (!entry.is_genesis(), !on_it(entry), !is_first, entry.id)
            });
            let is_settled = is_forked && linked.iter().any(|entry| on_it(entry));
            let is_over = beside > MAX_BESIDE_BYTES;
            linked.truncate(if is_settled || is_over { 1 } else { MAX_RIVALS });
            is_forked |= linked.len() > 1;
            let mut weights = linked.iter().map(|entry| entry.statement.body.len());
            bytes += weights.next().unwrap_or_default();
            beside += weights.sum::<usize>();
            if bytes > MAX_LOG_BYTES {
                return (log, Some(seq - 1));
            }
            linked.sort_by_key(|entry| (!entry.is_genesis(), entry.id));
            before = linked.iter().map(|entry| entry.id.0).collect();
            log.insert(*seq, linked);
        }
        (log, None)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.joins
            .values()
            .chain(self.log.values().flatten())
            .chain(self.notes.values())
    }

    pub(super) fn wants(&self, id: &StatementId, place: Place, kind: u8) -> bool {
        match place {
            Place::Log(header) if kind == kind::JOIN => {
                header.seq == 0 && !self.joins.contains_key(id)
            }
            Place::Log(header) => self
                .log
                .get(&header.seq)
                .is_none_or(|rivals| rivals.iter().all(|held| held.id != *id)),
            Place::Note { incarnation, seq } => self.notes.get(&kind).is_none_or(|held| {
                let Place::Note {
                    incarnation: i,
                    seq: s,
                } = held.place
                else {
                    return true;
                };
                (incarnation, seq, *id) > (i, s, held.id)
            }),
        }
    }

    pub(super) fn take(&mut self, entry: Arc<Entry>) {
        match entry.place {
            Place::Log(_) if entry.statement.kind == kind::JOIN => {
                self.joins.insert(entry.id, entry);
            }
            Place::Log(header) => {
                let rivals = self.log.entry(header.seq).or_default();
                rivals.push(entry);
                // No rival displaces the Genesis: without it nobody is a member.
                rivals.sort_by_key(|entry| (!entry.is_genesis(), entry.id));
            }
            Place::Note { .. } => {
                self.notes.insert(entry.statement.kind, entry);
            }
        }
    }

    pub(super) fn drop(&mut self, entry: &Entry) {
        match entry.place {
            Place::Log(_) if entry.statement.kind == kind::JOIN => {
                self.joins.remove(&entry.id);
            }
            Place::Log(header) => {
                let rivals = self.log.entry(header.seq).or_default();
                rivals.retain(|held| held.id != entry.id);
                if rivals.is_empty() {
                    self.log.remove(&header.seq);
                }
            }
            Place::Note { .. } => {
                if self
                    .notes
                    .get(&entry.statement.kind)
                    .is_some_and(|held| held.id == entry.id)
                {
                    self.notes.remove(&entry.statement.kind);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.joins.is_empty() && self.notes.is_empty()
    }
}

impl Entry {
    /// Its hybrid clock; notes have none.
    pub(in crate::trust) const fn hlc(&self) -> u64 {
        match self.place {
            Place::Log(header) => header.hlc,
            Place::Note { .. } => 0,
        }
    }

    /// What comes first came here first: by the order of arrival, for clocks are set. `None`, so before all others, what
    /// came at an unknown time.
    pub(in crate::trust) fn came(&self) -> Option<u64> {
        let _known = self.received_ms.get()?;
        self.arrival.get().copied()
    }

    /// Whether it founds the mesh.
    pub(in crate::trust) fn is_genesis(&self) -> bool {
        self.statement.kind == kind::GENESIS
    }

    pub(in crate::trust) fn prev(&self) -> [u8; 32] {
        match self.place {
            Place::Log(header) => header.prev,
            Place::Note { .. } => [0; 32],
        }
    }
}
