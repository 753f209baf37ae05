//! The rules again, slow and plain, for logs that are whole and without rivals; and the fold against them.
//!
//! Where the fold goes through ranks and times in order, this asks backwards: does this statement count, and for that,
//! did that one?

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::payload::{Invite, Join, Manner, Payload, Place, Target, read};
use super::super::state::State;
use super::admission::GRACE;
use crate::id::{NodeId, StatementId};
use crate::trust::Statement;
use crate::trust::history::{happening, history_at};
use crate::trust::scene::Scene;

type Key = [u8; 32];
type Order = (u64, StatementId);

/// A statement taken apart.
struct Word {
    by: Key,
    seq: u32,
    order: Order,
    payload: Payload,
}

struct Model {
    words: Vec<Word>,
    first_admin: Key,
    recovery: Option<Key>,
}

/// What both must agree on.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    admins: BTreeMap<Key, (u8, bool)>,
    /// Their names and when they came in.
    members: BTreeMap<NodeId, (String, u64)>,
    gone: BTreeMap<NodeId, (Manner, u64)>,
    pending: BTreeMap<NodeId, StatementId>,
    used: BTreeMap<StatementId, Vec<NodeId>>,
}

impl Outcome {
    /// What the fold says. Of those who came in by what was taken back, which the model knows nothing about, only that
    /// nobody else is among them is looked at.
    fn of(state: &State, model: &Self, revoked: &BTreeSet<NodeId>) -> Self {
        let members = state.members.values();
        let gone = state.gone.iter().filter(|(id, gone)| {
            let may_be_void = gone.may_return || revoked.contains(*id);
            model.gone.contains_key(*id) || !may_be_void
        });
        let pending = state.pending.iter();
        let admins = state.admins.iter();
        let used = state.invites.iter().map(|(id, invite)| {
            let used = invite.used.iter().map(|one| one.by).collect();
            (*id, used)
        });
        Self {
            admins: admins
                .map(|(key, admin)| (*key, (admin.rank, admin.revoked.is_some())))
                .collect(),
            members: members
                .map(|member| (member.id, (member.name.clone(), member.joined_ms)))
                .collect(),
            gone: gone
                .map(|(id, gone)| (*id, (gone.manner, gone.at_ms)))
                .collect(),
            pending: pending.map(|(id, pending)| (*id, pending.join)).collect(),
            used: used.collect(),
        }
    }
}

impl Model {
    fn new(scene: &Scene, said: &[Statement]) -> Self {
        let mut seen = BTreeSet::new();
        let mut words = Vec::new();
        for statement in said.iter().filter(|one| seen.insert(scene.id_of(one))) {
            let (place, payload) = read(statement).unwrap();
            if let Place::Log(header) = place {
                words.push(Word {
                    by: statement.author,
                    seq: header.seq,
                    order: (header.hlc, scene.id_of(statement)),
                    payload,
                });
            }
        }
        Self {
            words,
            first_admin: scene.admin.public(),
            recovery: Some(scene.nth_admin(1).public()),
        }
    }

    /// The best rank of a key, if it is better than `limit`.
    fn rank(&self, key: Key, limit: u16) -> Option<u16> {
        (0..limit).find(|rank| {
            let born = (*rank == 0 && self.recovery == Some(key))
                || (*rank == 1 && self.first_admin == key);
            born || self.words.iter().any(|word| {
                let Payload::AdminGrant(grant) = &word.payload else {
                    return false;
                };
                grant.admin == key
                    && u16::from(grant.rank) == *rank
                    && self
                        .rank(word.by, *rank)
                        .is_some_and(|by| self.is_within(word, by))
            })
        })
    }

    /// Whether a word stands before its author, an admin of this rank, was cut off.
    fn is_within(&self, word: &Word, rank: u16) -> bool {
        self.cut(word.by, rank).is_none_or(|cut| word.seq <= cut) && !self.resigned_before(word)
    }

    fn resigned_before(&self, word: &Word) -> bool {
        self.words.iter().any(|one| {
            one.by == word.by && one.seq < word.seq && target(one) == Some(Target::Admin(word.by))
        })
    }

    fn cut(&self, key: Key, rank: u16) -> Option<u32> {
        let cuts = self.words.iter().filter_map(|word| {
            let Payload::Revoke(revoke) = &word.payload else {
                return None;
            };
            let by = self.rank(word.by, rank)?;
            let hits = revoke.target == Target::Admin(key) && self.is_within(word, by);
            hits.then_some(revoke.cut.seq)
        });
        cuts.min()
    }

    /// What admins said that counts.
    fn said(&self) -> Vec<&Word> {
        let counts = |word: &&Word| {
            self.rank(word.by, 256)
                .is_some_and(|rank| self.is_within(word, rank))
        };
        let mut said: Vec<_> = self.words.iter().filter(counts).collect();
        said.sort_by_key(|word| word.order);
        said
    }

    fn admins(&self) -> BTreeMap<Key, (u8, bool)> {
        let granted = self.words.iter().filter_map(|word| match &word.payload {
            Payload::AdminGrant(grant) => Some(grant.admin),
            _ => None,
        });
        let keys = granted.chain([self.first_admin]).chain(self.recovery);
        let ranked = keys.filter_map(|key| Some((key, self.rank(key, 256)?)));
        let state = |(key, rank): (Key, u16)| {
            let cut = self.cut(key, rank);
            let resigned = self.words.iter().any(|word| {
                word.by == key
                    && cut.is_none_or(|cut| word.seq <= cut)
                    && target(word) == Some(Target::Admin(key))
            });
            (key, (rank as u8, cut.is_some() || resigned))
        };
        ranked.map(state).collect()
    }

    /// Nodes that admins revoked, members or not.
    fn revoked(&self) -> BTreeSet<NodeId> {
        let said = self.said();
        let targets = said.iter().filter_map(|word| target(word));
        targets
            .filter_map(|target| match target {
                Target::Node(node) => Some(node),
                _ => None,
            })
            .collect()
    }

    fn outcome(&self) -> Outcome {
        let said = self.said();
        let mut came = Came::new(self, &said);
        while came.next() {}
        let mut outcome = Outcome {
            admins: self.admins(),
            members: BTreeMap::new(),
            gone: BTreeMap::new(),
            pending: came.waiting(),
            used: came.used.clone(),
        };
        let mut taken = BTreeSet::new();
        for (node, wish, order) in &came.admitted {
            if let Some(gone) = came.why_gone(*node) {
                outcome.gone.insert(*node, gone);
                continue;
            }
            let renamed = said.iter().rev().find_map(|word| match &word.payload {
                Payload::Rename(rename) if rename.node == *node => Some(&rename.name),
                _ => None,
            });
            let wish = renamed.unwrap_or(wish).clone();
            let longer = format!("{wish}-{}", &node.to_string()[..4]);
            let name = if taken.contains(&wish) { longer } else { wish };
            taken.insert(name.clone());
            outcome.members.insert(*node, (name, order.0 >> 16));
        }
        for node in came.waited().into_keys() {
            if let Some(gone) = came.revoked(node)
                && !outcome.gone.contains_key(&node)
            {
                outcome.gone.insert(node, gone);
            }
        }
        outcome
    }
}

fn target(word: &Word) -> Option<Target> {
    match &word.payload {
        Payload::Revoke(revoke) => Some(revoke.target),
        _ => None,
    }
}

/// Who came in so far.
struct Came<'a> {
    model: &'a Model,
    said: &'a [&'a Word],
    admitted: Vec<(NodeId, String, Order)>,
    decided: BTreeSet<StatementId>,
    used: BTreeMap<StatementId, Vec<NodeId>>,
}

impl<'a> Came<'a> {
    fn new(model: &'a Model, said: &'a [&'a Word]) -> Self {
        let genesis = model.words.iter().find_map(|word| match &word.payload {
            Payload::Genesis(genesis) => Some(genesis),
            _ => None,
        });
        let genesis = genesis.unwrap();
        let founded = (genesis.created_ms << 16, StatementId([0; 32]));
        let mut came = Self {
            model,
            said,
            admitted: vec![(genesis.founder, genesis.founder_name.clone(), founded)],
            decided: BTreeSet::new(),
            used: BTreeMap::new(),
        };
        for word in said {
            if let Payload::Invite(_) = &word.payload {
                came.used.insert(word.order.1, Vec::new());
            }
        }
        came
    }

    /// Decides the earliest Join that can be; false when none is left.
    fn next(&mut self) -> bool {
        let joins = self
            .model
            .words
            .iter()
            .filter_map(|word| match &word.payload {
                Payload::Join(join) => Some((word, join)),
                _ => None,
            });
        let open = joins.filter(|(word, _join)| !self.decided.contains(&word.order.1));
        let chances = open.filter_map(|(word, join)| Some((self.chance(word, join)?, word, join)));
        let Some((order, word, join)) = chances.min_by_key(|(order, ..)| *order) else {
            return false;
        };
        self.decided.insert(word.order.1);
        let node = NodeId(word.by);
        let uses = usize::from(self.invite(join.invite).unwrap().uses);
        let is_closed = self.closed(join.invite).is_some_and(|at| at <= order.0);
        let used = self.used.get_mut(&join.invite).unwrap();
        if !is_closed && used.len() < uses && self.admitted.iter().all(|(id, ..)| *id != node) {
            used.push(node);
            self.admitted.push((node, join.name.clone(), order));
        }
        true
    }

    /// When a Join is decided, by who is a member so far.
    fn chance(&self, word: &Word, join: &Join) -> Option<Order> {
        let invite = self.invite(join.invite)?;
        let seen = self.seen(word, join, invite)?;
        if !invite.needs_approval {
            return Some(seen);
        }
        let approvals = self.said.iter().filter_map(|one| match &one.payload {
            Payload::Approve(approve) if approve.join == word.order.1 => Some(one.order),
            _ => None,
        });
        let approved = approvals.min()?;
        Some(if approved.0 > seen.0 { approved } else { seen })
    }

    /// The earliest Witness of a member that counts.
    fn seen(&self, word: &Word, join: &Join, invite: &Invite) -> Option<Order> {
        let grace = GRACE.as_millis() as u64;
        let times = invite.not_before_ms - grace..=invite.not_after_ms + grace;
        let witnesses = self.model.words.iter().filter(|one| {
            let of_it =
                matches!(&one.payload, Payload::Witness(witness) if witness.join == word.order.1);
            let sponsor = NodeId(one.by);
            let member =
                |(id, _, since): &(NodeId, String, Order)| *id == sponsor && *since < one.order;
            of_it
                && self.admitted.iter().any(member)
                && times.contains(&(one.order.0 >> 16))
                && one.seq <= self.end(sponsor)
        });
        let named = invite.name.as_ref().is_none_or(|name| *name == join.name);
        witnesses.map(|one| one.order).min().filter(|_at| named)
    }

    /// The last statement of a node that counts.
    fn end(&self, node: NodeId) -> u32 {
        let cuts = self.said.iter().filter_map(|word| match &word.payload {
            Payload::Revoke(revoke) if revoke.target == Target::Node(node) => Some(revoke.cut.seq),
            _ => None,
        });
        let cut = cuts.min().unwrap_or(u32::MAX);
        let left = self.model.words.iter().filter(|word| {
            word.by == node.0 && matches!(word.payload, Payload::Leave(_)) && word.seq <= cut
        });
        left.map(|word| word.seq).min().unwrap_or(cut)
    }

    fn invite(&self, id: StatementId) -> Option<&'a Invite> {
        self.said.iter().find_map(|word| match &word.payload {
            Payload::Invite(invite) if word.order.1 == id => Some(invite),
            _ => None,
        })
    }

    fn closed(&self, invite: StatementId) -> Option<u64> {
        let revoked = self
            .said
            .iter()
            .filter(|word| target(word) == Some(Target::Invite(invite)));
        revoked.map(|word| word.order.0).min()
    }

    fn revoked(&self, node: NodeId) -> Option<(Manner, u64)> {
        let words = self.said.iter().filter_map(|word| match &word.payload {
            Payload::Revoke(revoke) if revoke.target == Target::Node(node) => {
                Some((revoke.manner, word.order))
            }
            _ => None,
        });
        words.min().map(|(manner, order)| (manner, order.0 >> 16))
    }

    fn why_gone(&self, node: NodeId) -> Option<(Manner, u64)> {
        let left = self.model.words.iter().filter(|word| {
            word.by == node.0
                && matches!(word.payload, Payload::Leave(_))
                && word.seq <= self.end(node)
        });
        let left = left.map(|word| (Manner::Left, word.order.0 >> 16)).min();
        self.revoked(node).or(left)
    }

    /// Who has a good Join and no approval, and its earliest such Join.
    fn waited(&self) -> BTreeMap<NodeId, (Order, StatementId, StatementId)> {
        let mut waited = BTreeMap::new();
        for word in &self.model.words {
            let Payload::Join(join) = &word.payload else {
                continue;
            };
            let invite = self.invite(join.invite).filter(|one| one.needs_approval);
            let seen = invite.and_then(|invite| self.seen(word, join, invite));
            let id = word.order.1;
            let approved = self
                .said
                .iter()
                .any(|one| matches!(&one.payload, Payload::Approve(approve) if approve.join == id));
            let is_closed = |at: &Order| self.closed(join.invite).is_some_and(|end| end <= at.0);
            if let Some(seen) = seen.filter(|at| !approved && !is_closed(at)) {
                let waits = (seen, id, join.invite);
                let known = waited.entry(NodeId(word.by)).or_insert(waits);
                *known = waits.min(*known);
            }
        }
        waited
    }

    fn waiting(&self) -> BTreeMap<NodeId, StatementId> {
        let waits = self.waited().into_iter().filter(|(node, (_, _, invite))| {
            let uses = usize::from(self.invite(*invite).unwrap().uses);
            let came = self.admitted.iter().any(|(id, ..)| id == node);
            let is_open = self.used[invite].len() < uses && self.closed(*invite).is_none();
            is_open && !came && self.revoked(*node).is_none()
        });
        waits.map(|(node, (_, join, _))| (node, join)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_fold_says_what_the_plain_rules_say(happenings in prop::collection::vec(happening(), 1..80)) {
        let scene = Scene::founded();
        let said = history_at(1, &scene, &happenings);
        let state = scene.holder(&said).state();
        prop_assert!(state.frozen.is_empty(), "one site forks no log");
        let model = Model::new(&scene, &said);
        let outcome = model.outcome();
        prop_assert_eq!(Outcome::of(&state, &outcome, &model.revoked()), outcome);
    }
}
