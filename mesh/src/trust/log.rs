//! The set of statements a node holds, and the digests by which two holders find their difference.
//!
//! In: statements from anywhere, in any order. Out: what they mean (by `fold`), what another holder
//! lacks. Each author has a log, where a statement names the one before it, notes that replace each
//! other, and Joins, which come before a log.
//! Invariant: what counts depends on the set alone; equal roots are equal sets.
//! Absent: files. Who must not forget appends to the journal what `insert` took.

mod authored;

mod cuts;

pub(super) use authored::{Authored, Entry};

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use super::{
    fold::{Counted, Folded, Wish, fold},
    payload::{LogHeader, Payload, Place, kind, read},
    record::{MAX_BODY, Refusal, Statement},
    state::State,
};
use crate::id::{MeshId, StatementId, hash};

/// Statements one author's log may hold. A sponsor of 10,000 nodes fits; who says more is refused,
/// whatever the order, so that all holders refuse the same.
pub const MAX_LOG: u32 = 16_384;
/// Bytes of bodies that count of one author's log: 11,000 Witnesses fit; a quarter as much again of a second branch
/// where its key was copied. What goes beyond is held as little as a stranger's words, and refused once the author is
/// known to be over it. The start of a log counts whatever comes later, so that all holders cut it at the same place.
pub const MAX_LOG_BYTES: usize = 1 << 20;
/// Statements that do not count (yet) and are kept all the same, because what they rest on may
/// still come: a Join before its Witness, a log with a hole, a stranger's. Over it the oldest
/// quarter goes, 4 MiB at most are held; a holder of something that counts offers it again.
pub const MAX_WAITING: usize = 4_096;
/// What one holder has of one author, in at most 61 bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorHead {
    /// Whose statements.
    pub author: [u8; 32],
    /// How far the log goes without a hole, 0 for an empty one.
    pub seq: u32,
    /// Digest of the log up to `seq`, and of the author's witnessed Joins.
    pub log: [u8; 16],
    /// Digest of the statements that replace each other, such as NodeInfo.
    pub notes: [u8; 8],
}

/// All statements held about one mesh. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Statements {
    mesh: MeshId,
    authors: BTreeMap<[u8; 32], Authored>,
    /// What came since it was last looked through for what counts, oldest first.
    waiting: VecDeque<Arc<Entry>>,
    /// How far the logs reach that are at their quota, as of the last fold.
    full: BTreeMap<[u8; 32], u32>,
    /// How many came.
    arrivals: u64,
    folded: OnceLock<Arc<Folded>>,
}

/// A statement that was found good and is not held yet.
#[derive(Debug)]
pub(crate) struct Checked(Arc<Entry>);

impl Checked {
    /// Notes when it came here, by this holder's clock.
    pub(crate) fn received(&self, at_ms: u64) {
        let _first = self.0.received_ms.set(at_ms);
    }

    /// Whether it replaces what its author said before.
    pub(crate) fn is_note(&self) -> bool {
        matches!(self.0.place, Place::Note { .. })
    }
}

impl AuthorHead {
    /// The head of an author of whom nothing is held.
    #[must_use]
    pub fn none(author: [u8; 32]) -> Self {
        Self {
            author,
            seq: 0,
            log: digest(std::iter::empty()),
            notes: digest(std::iter::empty()),
        }
    }

    fn of(author: [u8; 32], counted: &Counted) -> Self {
        Self {
            author,
            seq: counted.seq(),
            log: digest(counted.up_to(u32::MAX)),
            notes: digest(counted.notes.iter()),
        }
    }
}

impl Statements {
    /// An empty set for `mesh`.
    #[must_use]
    pub fn new(mesh: MeshId) -> Self {
        Self {
            mesh,
            authors: BTreeMap::new(),
            waiting: VecDeque::new(),
            full: BTreeMap::new(),
            arrivals: 0,
            folded: OnceLock::new(),
        }
    }

    /// Which mesh it is about.
    #[must_use]
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Takes one statement in; `false` when it is held already, or something newer is.
    pub fn insert(&mut self, statement: Statement) -> Result<bool, Refusal> {
        let checked = self.check(statement)?;
        Ok(checked.map(|checked| self.take(checked)).is_some())
    }

    /// Checks one statement, its signature last. `None` when it is held already, or something
    /// newer is.
    pub(crate) fn check(&self, statement: Statement) -> Result<Option<Checked>, Refusal> {
        if statement.body.len() > MAX_BODY {
            return Err(Refusal::TooLong {
                len: statement.body.len(),
            });
        }
        let (place, payload) = read(&statement)?;
        let id = statement.id(&self.mesh);
        if statement.kind == kind::GENESIS && id.0 != self.mesh.0 {
            return Err(Refusal::Foreign(MeshId(id.0)));
        }
        let authored = self.authors.get(&statement.author);
        if authored.is_some_and(|authored| !authored.wants(&id, place, statement.kind)) {
            return Ok(None);
        }
        if !statement.is_signed(&self.mesh) {
            return Err(Refusal::Signature {
                kind: statement.kind,
            });
        }
        // Last, because it accuses the author, who must have signed it.
        let limit = self.full.get(&statement.author).copied();
        let limit = limit.unwrap_or(MAX_LOG).min(MAX_LOG);
        if let Place::Log(header) = place
            && header.seq > limit
        {
            return Err(Refusal::Quota {
                seq: header.seq,
                limit,
            });
        }
        Ok(Some(Checked(Arc::new(Entry {
            id,
            place,
            payload,
            statement,
            invite_signed: OnceLock::new(),
            received_ms: OnceLock::new(),
            arrival: OnceLock::new(),
        }))))
    }

    /// Takes a checked statement in, and gives it back as it is kept.
    pub(crate) fn take(&mut self, checked: Checked) -> Statement {
        let entry = checked.0;
        let statement = entry.statement.clone();
        self.arrivals += 1;
        let _first = entry.arrival.set(self.arrivals);
        self.authors
            .entry(statement.author)
            .or_default()
            .take(Arc::clone(&entry));
        if let Some(folded) = self.folded.take() {
            self.full.clone_from(&folded.full);
        }
        self.waiting.push_back(entry);
        self.bound_waiting();
        statement
    }

    /// Whether a held statement counts, by what else is held.
    pub(crate) fn counts(&self, statement: &Statement) -> bool {
        let Some(counted) = self.folded().counted.get(&statement.author) else {
            return false;
        };
        let id = statement.id(&self.mesh);
        // What was asked about last came last.
        let mut entries = counted.log.iter().rev().chain(counted.all());
        entries.any(|entry| entry.id == id)
    }

    /// What the set means.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.folded().state)
    }

    /// Where `author`'s next log statement goes: its seq, and the id before it.
    #[must_use]
    pub fn head(&self, author: &[u8; 32]) -> (u32, [u8; 32]) {
        self.last(author)
            .map_or((1, [0; 32]), |(seq, entry)| (seq + 1, entry.id.0))
    }

    /// The header of `author`'s next log statement, its clock not before the last one's.
    pub(super) fn next_header(&self, author: &[u8; 32], now_ms: u64) -> LogHeader {
        let (seq, prev) = self.head(author);
        LogHeader {
            seq,
            prev,
            hlc: (now_ms << 16).max(self.last_hlc(author).saturating_add(1)),
        }
    }

    /// The latest clock in `author`'s log, wishes left out, whose clocks may run ahead to be the last word; 0 when there is
    /// none.
    pub(super) fn last_hlc(&self, author: &[u8; 32]) -> u64 {
        let log = self
            .authors
            .get(author)
            .map(|authored| authored.connected(None).0);
        let entries = log.into_iter().flat_map(BTreeMap::into_values).flatten();
        let lasting = entries.filter(|entry| !entry.payload.is_wish());
        lasting.map(|entry| entry.hlc()).max().unwrap_or_default()
    }

    /// The clock of the wish that counts on what `payload` wishes; 0 when there is none.
    pub(super) fn wished(&self, payload: &Payload) -> u64 {
        let wish = Wish::of(payload);
        let at = wish.and_then(|wish| self.folded().wishes.get(&wish).copied());
        at.unwrap_or_default()
    }

    /// One digest of all that counts: equal roots are equal sets and equal states.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        self.folded().root
    }

    /// One digest of the logs and Joins that count, which decide who is a member. What nodes say of
    /// themselves, such as their addresses, is left out.
    #[must_use]
    pub fn trust_root(&self) -> [u8; 32] {
        self.folded().trust
    }

    /// What is held of each author that counts, ordered by author.
    #[must_use]
    pub fn summary(&self) -> Vec<AuthorHead> {
        let counted = self.folded().counted.iter();
        counted
            .map(|(author, counted)| AuthorHead::of(*author, counted))
            .collect()
    }

    /// The heads between two authors, each after who admitted its author: whoever takes them in
    /// this order can count each statement as it comes.
    pub(crate) fn heads_by_admission(
        &self,
        first: [u8; 32],
        last: [u8; 32],
    ) -> impl Iterator<Item = AuthorHead> {
        let folded = self.folded();
        let within = folded
            .order
            .iter()
            .filter(move |author| (first..=last).contains(*author));
        within.filter_map(|author| Some(AuthorHead::of(*author, folded.counted.get(author)?)))
    }

    /// What a holder with this head of an author lacks of what counts here. Nothing of the log when
    /// it is ahead: then it sends first, and the next comparison finds what is left. A forked log
    /// may shrink by what it learns, so being ahead says nothing there.
    #[must_use]
    pub fn beyond(&self, theirs: &AuthorHead) -> Vec<Statement> {
        let Some(counted) = self.folded().counted.get(&theirs.author) else {
            return Vec::new();
        };
        let same_notes = digest::<8>(counted.notes.iter()) == theirs.notes;
        let notes = counted.notes.iter().filter(|_note| !same_notes);
        let same_start = digest::<16>(counted.up_to(theirs.seq)) == theirs.log;
        let log = counted.joins.iter().chain(&counted.log).filter(|entry| {
            match (same_start, entry.place) {
                (true, Place::Log(header)) => header.seq > theirs.seq,
                // Of an author that is known there and only waits here its Joins may be all that is lacking.
                (false, Place::Log(header)) if header.seq == 0 => true,
                (false, _) => theirs.seq <= counted.seq() || counted.is_forked(),
                (true, Place::Note { .. }) => false,
            }
        });
        as_they_came(log.chain(notes))
            .map(|entry| entry.statement.clone())
            .collect()
    }

    /// All that counts, each after what it rests on.
    pub fn iter(&self) -> impl Iterator<Item = &Statement> {
        self.entries().map(|entry| &entry.statement)
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let folded = self.folded();
        let counted = folded
            .order
            .iter()
            .filter_map(|author| folded.counted.get(author));
        let logs = counted
            .clone()
            .flat_map(|counted| as_they_came(counted.joins.iter().chain(&counted.log)));
        logs.chain(counted.flat_map(|counted| &counted.notes))
    }

    /// All that is held: first what [`iter`](Self::iter) gives, then what does not count yet.
    pub fn all(&self) -> impl Iterator<Item = &Statement> {
        self.all_received().map(|(statement, _at_ms)| statement)
    }

    /// All that is held, and when it came here where that is known.
    pub(crate) fn all_received(&self) -> impl Iterator<Item = (&Statement, Option<u64>)> {
        let counted = self.counted_ids();
        let held = self.authors.values().flat_map(Authored::all);
        let waiting = held.filter(move |entry| !counted.contains(&entry.id));
        let entries = self.entries().chain(waiting);
        entries.map(|entry| (&entry.statement, entry.received_ms.get().copied()))
    }

    fn counted_ids(&self) -> BTreeSet<StatementId> {
        self.folded()
            .counted
            .values()
            .flat_map(Counted::all)
            .map(|entry| entry.id)
            .collect()
    }

    /// Whether nothing came since the last fold.
    #[cfg(test)]
    pub(crate) fn is_folded(&self) -> bool {
        self.folded.get().is_some()
    }

    fn folded(&self) -> &Folded {
        self.folded
            .get_or_init(|| Arc::new(fold(self.mesh, &self.authors)))
    }

    fn last(&self, author: &[u8; 32]) -> Option<(u32, &Arc<Entry>)> {
        let (log, _cut) = self.authors.get(author)?.connected(None);
        let (seq, rivals) = log.into_iter().next_back()?;
        Some((seq, rivals.into_iter().next()?))
    }

    fn bound_waiting(&mut self) {
        if self.waiting.len() <= MAX_WAITING {
            return;
        }
        let counted = self.counted_ids();
        self.waiting.retain(|entry| !counted.contains(&entry.id));
        while self.waiting.len() > MAX_WAITING / 4 * 3 {
            let oldest = self
                .waiting
                .pop_front()
                .expect("a queue over its bound is not empty");
            let author = oldest.statement.author;
            let authored = self.authors.entry(author).or_default();
            authored.drop(&oldest);
            if authored.is_empty() {
                self.authors.remove(&author);
            }
        }
    }
}

/// Of statements in order of their places those of one place as they came here, so that they come there in that order.
fn as_they_came<'a>(
    entries: impl Iterator<Item = &'a Arc<Entry>>,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    let mut entries: Vec<_> = entries.enumerate().collect();
    entries.sort_by_key(|(at, entry)| match entry.place {
        Place::Log(header) if header.seq > 0 => {
            (0, header.seq, !entry.is_genesis(), entry.came(), *at)
        }
        Place::Log(_) => (-1, 0, false, None, *at),
        Place::Note { .. } => (1, 0, false, None, *at),
    });
    entries.into_iter().map(|(_at, entry)| entry)
}

/// The first bytes of the BLAKE3 of the ids, in order.
pub(super) fn digest<'a, const N: usize>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> [u8; N] {
    let ids: Vec<u8> = entries.flat_map(|entry| entry.id.0).collect();
    let digest = hash(&[&ids]);
    *digest
        .first_chunk()
        .expect("no digest here is longer than 32 bytes")
}

#[cfg(test)]
mod tests;
