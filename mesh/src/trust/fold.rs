//! From a set of statements to what it means.
//!
//! In: everything held, by author. Out: the state, and which statements it rests on. `admins` finds in rank order whose
//! words count, `wishes` what they wish, `admission` lets in by time, `departure` takes out, `unseated` finds who came in by what was taken back, `names` names; `logs` says how far each log acts.
//! What counts of a known author is its whole log, also beyond a cut: a revocation that is voided itself takes nothing
//! with it.
//! Invariant: a pure function of the set.
//! Absent: signing, and what a node does by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    log::{Authored, Entry},
    payload::{CRITICAL, Genesis, Leave, Manner, Payload, Revoke, kind},
    settings::Settings,
    state::{Frozen, Gone, Member, State},
};
use crate::id::{MeshId, NodeId, StatementId, overlay_address};

mod counted;

mod logs;

mod admins;

mod wishes;

mod admission;

mod departure;

mod unseated;

mod names;

use admins::Said;
pub use admission::GRACE;
use admission::Turn;
pub(super) use admission::{MAX_PENDING, MAX_SURPLUS};
pub(super) use counted::{Counted, Folded};
use logs::Log;
pub(super) use wishes::Wish;

/// Folds everything held about `mesh`.
pub(super) fn fold(mesh: MeshId, authors: &BTreeMap<[u8; 32], Authored>) -> Folded {
    let mut fold = Fold::new(mesh, authors);
    if let Some(genesis) = fold.genesis() {
        fold.read_admins(&genesis);
        fold.read_wishes();
        fold.read_invites();
        fold.read_revokes();
        fold.found(genesis);
        fold.admit();
        fold.unseat();
        fold.read_notes();
        fold.part();
        fold.name_all();
    }
    fold.finish()
}

/// A fold at work.
struct Fold<'a> {
    authors: &'a BTreeMap<[u8; 32], Authored>,
    /// All logs, whole.
    logs: BTreeMap<[u8; 32], Log<'a>>,
    /// The logs of revoked admins with the cut that those above them set.
    admin_logs: BTreeMap<[u8; 32], Log<'a>>,
    /// The logs of revoked nodes with the cut that admins set.
    node_logs: BTreeMap<[u8; 32], Log<'a>>,
    /// What admins said that counts, by time.
    said: Vec<Said<'a>>,
    /// The last word on each wish, and its time.
    wishes: BTreeMap<Wish, (u64, &'a Payload)>,
    /// The earliest approval of each Join, those on ground that forks behind all others.
    approvals: BTreeMap<StatementId, Turn>,
    /// Since when nobody comes in by an invite any more.
    closed: BTreeMap<StatementId, u64>,
    revokes: BTreeMap<NodeId, Vec<(Said<'a>, &'a Revoke)>>,
    leaves: BTreeMap<NodeId, (u64, &'a Leave)>,
    /// Who came in by what was taken back.
    unseated: BTreeMap<NodeId, Gone>,
    /// Their keys, of which little counts.
    little: BTreeSet<[u8; 32]>,
    /// Joins that a member vouched for, admitted or not.
    vouched: BTreeSet<StatementId>,
    /// Those of them that nothing is missing from.
    decided: BTreeSet<StatementId>,
    /// Joins that let nobody in and count of each invite.
    surplus: BTreeMap<StatementId, usize>,
    /// Who came in, when, and what settles a tie.
    admitted: BTreeMap<NodeId, (u64, StatementId)>,
    order: Vec<[u8; 32]>,
    state: State,
}

impl<'a> Fold<'a> {
    fn new(mesh: MeshId, authors: &'a BTreeMap<[u8; 32], Authored>) -> Self {
        let logs = authors.iter();
        Self {
            authors,
            logs: logs
                .map(|(author, authored)| (*author, Log::new(authored, None)))
                .collect(),
            admin_logs: BTreeMap::new(),
            node_logs: BTreeMap::new(),
            said: Vec::new(),
            wishes: BTreeMap::new(),
            approvals: BTreeMap::new(),
            closed: BTreeMap::new(),
            revokes: BTreeMap::new(),
            leaves: BTreeMap::new(),
            unseated: BTreeMap::new(),
            little: BTreeSet::new(),
            vouched: BTreeSet::new(),
            decided: BTreeSet::new(),
            surplus: BTreeMap::new(),
            admitted: BTreeMap::new(),
            order: Vec::new(),
            state: State {
                mesh,
                name: String::new(),
                genesis: None,
                members: BTreeMap::new(),
                gone: BTreeMap::new(),
                pending: BTreeMap::new(),
                admins: BTreeMap::new(),
                settings: Settings::default(),
                invites: BTreeMap::new(),
                conflicts: Vec::new(),
                frozen: BTreeMap::new(),
                unsupported: Vec::new(),
            },
        }
    }

    /// The Genesis, if held: `insert` takes none but the mesh's own.
    fn genesis(&self) -> Option<Genesis> {
        let firsts = self.logs.values().filter_map(|log| log.places.get(&1));
        firsts.flatten().find_map(|entry| match &entry.payload {
            Payload::Genesis(genesis) => Some(genesis.clone()),
            _ => None,
        })
    }

    fn found(&mut self, genesis: Genesis) {
        self.welcome(
            genesis.founder,
            &genesis.founder_name,
            genesis.created_ms,
            None,
        );
        // Before everybody, whatever clocks say.
        self.admitted
            .insert(genesis.founder, (0, StatementId([0; 32])));
        self.state.name.clone_from(&genesis.name);
        self.state.genesis = Some(genesis);
    }

    fn welcome(&mut self, id: NodeId, wish: &str, joined_ms: u64, sponsor: Option<NodeId>) {
        self.order.push(id.0);
        let address = overlay_address(&self.state.mesh, &id);
        self.state.members.insert(
            id,
            Member {
                id,
                name: wish.to_owned(),
                joined_ms,
                address,
                sponsor,
                info: None,
                replaces: None,
                replaced_by: None,
            },
        );
    }

    fn read_notes(&mut self) {
        let unseated = self.unseated.values_mut().map(|gone| &mut gone.member);
        for member in self.state.members.values_mut().chain(unseated) {
            let id = member.id;
            let notes = self
                .authors
                .get(&id.0)
                .into_iter()
                .flat_map(|authored| authored.notes.values());
            member.info = notes.into_iter().find_map(|note| match &note.payload {
                Payload::NodeInfo(info) => Some(info.clone()),
                _ => None,
            });
        }
    }

    fn finish(mut self) -> Folded {
        let mut known = BTreeSet::new();
        self.order.retain(|author| known.insert(*author));
        let mut counted: BTreeMap<_, Counted> = BTreeMap::new();
        for (author, authored) in self.authors {
            let joins = authored
                .joins
                .values()
                .filter(|join| self.vouched.contains(&join.id))
                .cloned()
                .collect();
            let mut of_author = Counted {
                joins,
                ..Counted::default()
            };
            if known.contains(author) {
                of_author.log = self.whole_log(author);
                of_author.notes = authored.notes.values().cloned().collect();
            }
            if self.little.contains(author) && !self.state.admins.contains_key(author) {
                of_author.log = self.start_of(author).into_iter().cloned().collect();
                let notes = &mut of_author.notes;
                notes.retain(|note| note.statement.kind == kind::NODE_INFO);
            }
            // Of a known author too nothing may count: what is held of it hangs together with nothing.
            if of_author.all().next().is_none() {
                continue;
            }
            if !known.contains(author) {
                self.order.push(*author);
            }
            counted.insert(*author, of_author);
        }
        self.state.frozen = self.frozen();
        self.state.unsupported = self.unsupported(&counted);
        let (root, trust) = counted::roots(&counted);
        let full = self.logs.keys().filter_map(|author| {
            let full = self.logs_of(author).map(|log| log.full);
            let full: Option<Vec<u32>> = full.collect();
            Some((*author, full?.into_iter().max()?))
        });
        Folded {
            full: full.collect(),
            wishes: self.wished(),
            state: Arc::new(self.state),
            counted,
            order: self.order,
            root,
            trust,
        }
    }

    /// A log as it is passed on: with every branch that acts.
    fn whole_log(&self, author: &[u8; 32]) -> Vec<Arc<Entry>> {
        let mut places: BTreeMap<u32, Vec<&Arc<Entry>>> = BTreeMap::new();
        for (seq, rivals) in self.logs_of(author).flat_map(|log| &log.places) {
            places.entry(*seq).or_default().extend(rivals);
        }
        for rivals in places.values_mut() {
            rivals.sort_by_key(|entry| (!entry.is_genesis(), entry.id));
            rivals.dedup_by_key(|entry| entry.id);
        }
        places.into_values().flatten().cloned().collect()
    }

    /// An author's log, whole and as far as revocations accept it.
    fn logs_of(&self, author: &[u8; 32]) -> impl Iterator<Item = &Log<'a>> {
        let logs = [&self.logs, &self.node_logs, &self.admin_logs];
        logs.map(|logs| logs.get(author)).into_iter().flatten()
    }

    /// The members and admins whose keys were copied. Of who was revoked it makes no difference any more; who went by its
    /// own word may still have branches on which it did not.
    fn frozen(&self) -> BTreeMap<[u8; 32], Frozen> {
        let copied = self.logs.iter().filter_map(|(author, log)| {
            let node = NodeId(*author);
            let gone = self.state.gone.get(&node);
            let is_node = self.state.members.contains_key(&node)
                || gone.is_some_and(|gone| gone.manner == Manner::Left);
            let admin = self.state.admins.get(author);
            let revoked = admin.map(|admin| admin.revoked.as_ref());
            let is_admin = revoked.is_some_and(|one| one.is_none_or(|one| one.by == *author));
            Some((
                *author,
                log.frozen.clone().filter(|_frozen| is_node || is_admin)?,
            ))
        });
        copied.collect()
    }

    /// Critical kinds of admins: of one that was revoked only what counts, else all it says.
    fn unsupported(&self, counted: &BTreeMap<[u8; 32], Counted>) -> Vec<u8> {
        let live = self.state.admins.keys().filter_map(|admin| {
            self.state.rank(admin)?;
            counted.get(admin)
        });
        let live = live.flat_map(|admin| admin.log.iter().chain(&admin.notes));
        let said = self.said.iter().map(|said| said.entry);
        let kinds: BTreeSet<_> = live
            .chain(said)
            .map(|entry| entry.statement.kind)
            .filter(|kind| *kind >= CRITICAL)
            .collect();
        kinds.into_iter().collect()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod parted;
#[cfg(test)]
mod ruled;
#[cfg(test)]
mod settled;
#[cfg(test)]
mod stolen;
#[cfg(test)]
mod taken;
#[cfg(test)]
mod tests;
