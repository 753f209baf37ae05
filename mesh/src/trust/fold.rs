//! From a set of statements to what it means.
//!
//! In: everything held, by author. Out: the state, and which statements it rests on. Admission is
//! one pass over the Witnesses in order of `(hlc, id)`: a Witness counts when its author is a
//! member by then, an invite admits its first `uses` nodes. The order is total and looks back only,
//! so there is no circle to resolve.
//! Invariant: a pure function of the set.
//! Absent: admins besides the first, eviction, renaming.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    log::{Authored, Entry, digest},
    payload::{CRITICAL, Genesis, Invite, Join, MAX_NAME, Payload, Place},
    settings::Settings,
    state::{Admin, Conflict, Frozen, InviteState, Member, State, Use},
};
use crate::{
    id::{MeshId, NodeId, StatementId, hash, overlay_address},
    tunnel::keys::verify,
};

/// How far a sponsor's clock may be off the admin's for its Witness to count, before and after.
pub const GRACE: Duration = Duration::from_mins(5);

/// Joins that admit nobody any more and count all the same, of each invite: enough to show who
/// passed a token on. A member that holds a token's secret could make them without end.
const MAX_SURPLUS: usize = 16;

/// What the admins of the Genesis are called.
const RECOVERY: &str = "recovery";
const ADMIN: &str = "admin";

/// What a fold gives: the state, and the statements it rests on.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) state: Arc<State>,
    pub(super) counted: BTreeMap<[u8; 32], Counted>,
    /// The authors, each after who admitted it.
    pub(super) order: Vec<[u8; 32]>,
    pub(super) root: [u8; 32],
    /// Digest of the logs and Joins alone, which membership rests on.
    pub(super) trust: [u8; 32],
    /// The authors whose logs are at their quota, and how far what counts of them reaches.
    pub(super) full: BTreeMap<[u8; 32], u32>,
}

/// What counts of one author.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) joins: Vec<Arc<Entry>>,
    pub(super) log: Vec<Arc<Entry>>,
    pub(super) notes: Vec<Arc<Entry>>,
}

impl Counted {
    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.joins.iter().chain(&self.log).chain(&self.notes)
    }

    /// How far the log goes.
    pub(super) fn seq(&self) -> u32 {
        match self.log.last().map(|entry| entry.place) {
            Some(Place::Log(header)) => header.seq,
            _ => 0,
        }
    }

    /// Whether two statements stand at one place.
    pub(super) fn is_forked(&self) -> bool {
        self.log.len() > self.seq() as usize
    }

    /// The Joins, and the log up to `seq`.
    pub(super) fn up_to(&self, seq: u32) -> impl Iterator<Item = &Arc<Entry>> {
        let early = move |entry: &&Arc<Entry>| matches!(entry.place, Place::Log(header) if header.seq <= seq);
        self.joins.iter().chain(self.log.iter().take_while(early))
    }
}

/// Folds everything held about `mesh`.
pub(super) fn fold(mesh: MeshId, authors: &BTreeMap<[u8; 32], Authored>) -> Folded {
    let mut fold = Fold::new(mesh, authors);
    if let Some(genesis) = fold.genesis() {
        fold.found(genesis);
        fold.read_settings();
        fold.read_invites();
        fold.admit();
        fold.read_notes();
    }
    fold.finish()
}

/// A fold at work.
struct Fold<'a> {
    authors: &'a BTreeMap<[u8; 32], Authored>,
    connected: BTreeMap<[u8; 32], BTreeMap<u32, Vec<&'a Arc<Entry>>>>,
    frozen: BTreeMap<[u8; 32], Frozen>,
    /// Joins that a member vouched for, admitted or not.
    vouched: BTreeSet<StatementId>,
    /// Joins beyond its uses that count of each invite.
    surplus: BTreeMap<StatementId, usize>,
    full: BTreeMap<[u8; 32], u32>,
    names: BTreeSet<String>,
    order: Vec<[u8; 32]>,
    state: State,
}

impl<'a> Fold<'a> {
    fn new(mesh: MeshId, authors: &'a BTreeMap<[u8; 32], Authored>) -> Self {
        let (mut connected, mut full) = (BTreeMap::new(), BTreeMap::new());
        for (author, authored) in authors {
            let (log, cut) = authored.connected();
            connected.insert(*author, log);
            full.extend(cut.map(|seq| (*author, seq)));
        }
        let frozen = connected
            .iter()
            .filter_map(|(author, log)| Some((*author, first_fork(log)?)))
            .collect();
        Self {
            authors,
            connected,
            frozen,
            vouched: BTreeSet::new(),
            surplus: BTreeMap::new(),
            full,
            names: BTreeSet::new(),
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
        let firsts = self
            .connected
            .values()
            .filter_map(|log| log.get(&1))
            .flatten();
        firsts.into_iter().find_map(|entry| match &entry.payload {
            Payload::Genesis(genesis) => Some(genesis.clone()),
            _ => None,
        })
    }

    fn found(&mut self, genesis: Genesis) {
        self.order.push(genesis.admin);
        self.welcome(
            genesis.founder,
            &genesis.founder_name,
            genesis.created_ms,
            None,
        );
        let first = [
            (genesis.recovery, 0, RECOVERY),
            (Some(genesis.admin), 1, ADMIN),
        ];
        for (key, rank, label) in first {
            let admin = Admin {
                rank,
                label: label.to_owned(),
                granted_by: None,
                at_ms: genesis.created_ms,
                revoked: None,
            };
            let admins = &mut self.state.admins;
            key.map(|key| admins.entry(key).or_insert(admin));
        }
        self.state.name.clone_from(&genesis.name);
        self.state.genesis = Some(genesis);
    }

    /// What admins said, by time: of two that say the same thing the later counts.
    fn said_by_admins(&self) -> Vec<&'a Arc<Entry>> {
        let admin = self.state.genesis.as_ref().map(|genesis| genesis.admin);
        let mut said: Vec<_> = admin
            .iter()
            .flat_map(|admin| self.effective(admin))
            .collect();
        said.sort_by_key(|entry| (entry.hlc(), entry.id));
        said
    }

    fn read_settings(&mut self) {
        for entry in self.said_by_admins() {
            if let Payload::Policy(policy) = &entry.payload {
                self.state.settings.take(policy);
            }
        }
    }

    fn read_invites(&mut self) {
        let said = self.said_by_admins();
        for entry in &said {
            if let Payload::Invite(invite) = &entry.payload {
                let state = InviteState {
                    invite: invite.clone(),
                    used: Vec::new(),
                    replaces: None,
                    revoked: None,
                };
                self.state.invites.insert(entry.id, state);
            }
        }
        for entry in said {
            if let Payload::Replace(replace) = &entry.payload
                && let Some(invite) = self.state.invites.get_mut(&replace.invite)
            {
                invite.replaces = Some(replace.node);
            }
        }
    }

    fn admit(&mut self) {
        let mut witnesses: Vec<_> = self
            .connected
            .keys()
            .flat_map(|author| self.effective(author))
            .collect();
        witnesses.retain(|entry| matches!(entry.payload, Payload::Witness(_)));
        witnesses.sort_by_key(|entry| (entry.hlc(), entry.id));
        let joins: BTreeMap<_, _> = self
            .authors
            .values()
            .flat_map(|authored| &authored.joins)
            .collect();
        for entry in witnesses {
            let Payload::Witness(witness) = entry.payload else {
                continue;
            };
            let sponsor = NodeId(entry.statement.author);
            let join = joins
                .get(&witness.join)
                .filter(|_join| self.state.members.contains_key(&sponsor));
            if let Some(join) = join {
                self.consider(join, sponsor, entry.hlc() >> 16);
            }
        }
    }

    /// One Join that `sponsor`, a member, vouched for at `at_ms`.
    fn consider(&mut self, entry: &Entry, sponsor: NodeId, at_ms: u64) {
        let Payload::Join(join) = &entry.payload else {
            return;
        };
        let node = NodeId(entry.statement.author);
        let Some(invite) = self.state.invites.get_mut(&join.invite) else {
            return;
        };
        if !admits(&invite.invite, join, at_ms)
            || !invite_signed(&self.state.mesh, &invite.invite, join, entry)
        {
            return;
        }
        if self.vouched.contains(&entry.id) {
            return;
        }
        let known = self.state.members.contains_key(&node);
        if known || invite.used.len() >= usize::from(invite.invite.uses) {
            let surplus = self.surplus.entry(join.invite).or_default();
            if *surplus >= MAX_SURPLUS {
                return;
            }
            *surplus += 1;
        }
        self.vouched.insert(entry.id);
        if known {
            return;
        }
        if invite.used.len() < usize::from(invite.invite.uses) {
            let replaced = invite.replaces.filter(|_old| invite.used.is_empty());
            invite.used.push(Use { by: node, at_ms });
            if let Some(old) = replaced {
                self.make_way(old, &join.name);
            }
            self.welcome(node, &join.name, at_ms, Some(sponsor));
            return self.hand_over(replaced, node);
        }
        self.state.conflicts.push(Conflict {
            invite: join.invite,
            refused: node,
            refused_name: join.name.clone(),
            sponsor,
            at_ms,
            admitted: invite.used.iter().map(|r#use| r#use.by).collect(),
        });
    }

    /// The name of a replaced member is free for its successor; it goes on under one with letters of its id.
    fn make_way(&mut self, old: NodeId, wish: &str) {
        if let Some(member) = self.state.members.get_mut(&old)
            && member.name == wish
            && member.replaced_by.is_none()
        {
            member.name = unique_name(&self.names, wish, &old);
            self.names.insert(member.name.clone());
            self.names.remove(wish);
        }
    }

    /// Links a member to its successor; only one can be.
    fn hand_over(&mut self, replaced: Option<NodeId>, to: NodeId) {
        let old = replaced.and_then(|old| self.state.members.get_mut(&old));
        let Some(old) = old.filter(|old| old.replaced_by.is_none()) else {
            return;
        };
        old.replaced_by = Some(to);
        let id = old.id;
        if let Some(successor) = self.state.members.get_mut(&to) {
            successor.replaces = Some(id);
        }
    }

    fn welcome(&mut self, id: NodeId, wish: &str, joined_ms: u64, sponsor: Option<NodeId>) {
        let name = unique_name(&self.names, wish, &id);
        self.names.insert(name.clone());
        self.order.push(id.0);
        let address = overlay_address(&self.state.mesh, &id);
        self.state.members.insert(
            id,
            Member {
                id,
                name,
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
        for (id, member) in &mut self.state.members {
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

    /// The log statements of `author` that have an effect.
    fn effective(&self, author: &[u8; 32]) -> Vec<&'a Arc<Entry>> {
        let until = self
            .frozen
            .get(author)
            .map_or(u64::MAX, |frozen| frozen.hlc);
        let log = self
            .connected
            .get(author)
            .into_iter()
            .flat_map(|log| log.values().flatten());
        log.copied().filter(|entry| entry.hlc() <= until).collect()
    }

    fn finish(mut self) -> Folded {
        let known: BTreeSet<_> = self.order.iter().copied().collect();
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
                of_author.log = self.connected[author]
                    .values()
                    .flatten()
                    .copied()
                    .cloned()
                    .collect();
                of_author.notes = authored.notes.values().cloned().collect();
            } else if of_author.joins.is_empty() {
                continue;
            } else {
                self.order.push(*author);
            }
            counted.insert(*author, of_author);
        }
        self.frozen.retain(|author, _frozen| known.contains(author));
        self.state.frozen = self.frozen;
        self.state.unsupported = unsupported(self.state.genesis.as_ref(), &counted);
        let (root, trust) = roots(&counted);
        Folded {
            state: Arc::new(self.state),
            counted,
            order: self.order,
            root,
            trust,
            full: self.full,
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

/// Whether `invite` lets in a node that asks by `join`, vouched for at `at_ms`.
fn admits(invite: &Invite, join: &Join, at_ms: u64) -> bool {
    let grace = GRACE.as_millis() as u64;
    let from = invite.not_before_ms.saturating_sub(grace);
    let until = invite.not_after_ms.saturating_add(grace);
    let named = invite.name.as_ref().is_none_or(|name| *name == join.name);
    named && !invite.needs_approval && (from..=until).contains(&at_ms)
}

fn invite_signed(mesh: &MeshId, invite: &Invite, join: &Join, entry: &Entry) -> bool {
    *entry.invite_signed.get_or_init(|| {
        let bytes = Join::invite_bytes(mesh, &join.invite, &entry.statement.author, &join.name);
        verify(&invite.public, &bytes, &join.invite_signature)
    })
}

/// `wish`, or the shortest `wish-xxxx` that nobody has, from the letters of the id.
fn unique_name(taken: &BTreeSet<String>, wish: &str, id: &NodeId) -> String {
    let letters = id.to_string();
    let longer = (4..=letters.len()).map(|len| {
        let room = MAX_NAME - 1 - len;
        format!("{}-{}", &wish[..wish.len().min(room)], &letters[..len])
    });
    let mut names = std::iter::once(wish.to_owned()).chain(longer);
    names.find(|name| !taken.contains(name)).unwrap_or(letters)
}

fn unsupported(genesis: Option<&Genesis>, counted: &BTreeMap<[u8; 32], Counted>) -> Vec<u8> {
    let admin = genesis.and_then(|genesis| counted.get(&genesis.admin));
    let said = admin
        .into_iter()
        .flat_map(|admin| admin.log.iter().chain(&admin.notes));
    let kinds: BTreeSet<_> = said
        .map(|entry| entry.statement.kind)
        .filter(|kind| *kind >= CRITICAL)
        .collect();
    kinds.into_iter().collect()
}

/// Digests of all that counts, and of the logs and Joins alone.
fn roots(counted: &BTreeMap<[u8; 32], Counted>) -> ([u8; 32], [u8; 32]) {
    let (mut all, mut trust) = (Vec::new(), Vec::new());
    for (author, counted) in counted {
        let log: [u8; 32] = digest(counted.up_to(u32::MAX));
        let notes: [u8; 32] = digest(counted.notes.iter());
        all.extend([*author, log, notes].concat());
        trust.extend([*author, log].concat());
    }
    (hash(&[&all]), hash(&[&trust]))
}

#[cfg(test)]
mod settled;
#[cfg(test)]
mod tests;
