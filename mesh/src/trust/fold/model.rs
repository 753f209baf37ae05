//! The rules again, slow and plain, for logs that are whole and have at most two statements at a place; and the fold
//! against them.
//!
//! Where the fold goes through ranks and times in order, this asks backwards: does this statement count, and for that,
//! did that one?

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::payload::{Cut, Invite, Join, Manner, Payload, Place, Target, read};
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
    prev: Key,
    hlc: u64,
    id: StatementId,
    payload: Payload,
}

struct Model {
    words: Vec<Word>,
    first_admin: Key,
    recovery: Option<Key>,
    created: u64,
}

/// When something lets a node in: what stands where its author's log forks comes after all else.
type Turn = (bool, Order);

/// What both must agree on.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    admins: BTreeMap<Key, (u8, bool)>,
    /// Their names and when they came in.
    members: BTreeMap<NodeId, (String, u64)>,
    gone: BTreeMap<NodeId, (Manner, u64)>,
    pending: BTreeMap<NodeId, StatementId>,
    used: BTreeMap<StatementId, BTreeSet<NodeId>>,
    sites: BTreeMap<Option<NodeId>, String>,
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
        let sites = state.settings.iter();
        Self {
            sites: sites
                .map(|(node, _key, value)| (node, value.to_owned()))
                .collect(),
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
        let mut created = 0;
        for statement in said.iter().filter(|one| seen.insert(scene.id_of(one))) {
            let (place, payload) = read(statement).unwrap();
            if let Payload::Genesis(genesis) = &payload {
                created = genesis.created_ms << 16;
            }
            if let Place::Log(header) = place {
                words.push(Word {
                    by: statement.author,
                    seq: header.seq,
                    prev: header.prev,
                    hlc: header.hlc,
                    id: scene.id_of(statement),
                    payload,
                });
            }
        }
        Self {
            words,
            first_admin: scene.admin.public(),
            recovery: Some(scene.nth_admin(1).public()),
            created,
        }
    }

    /// The words of a log that lead to one, itself the last.
    fn up_to(&self, word: &Word) -> Vec<&Word> {
        let mut way = Vec::new();
        let mut next = word.id.0;
        while let Some(word) = self
            .words
            .iter()
            .find(|one| one.id.0 == next && one.seq > 0)
        {
            way.insert(0, word);
            next = word.prev;
        }
        way
    }

    /// The first place of a log that two words stand at.
    fn fork(&self, by: Key) -> Option<u32> {
        let places = self
            .words
            .iter()
            .filter(|word| word.by == by && word.seq > 0);
        let places: Vec<u32> = places.map(|word| word.seq).collect();
        let twice = |seq: &u32| places.iter().filter(|one| *one == seq).count() > 1;
        places.iter().copied().filter(twice).min()
    }

    /// Whether a cut accepts a word; and whether that settles of which branch it is.
    fn accepts(&self, cut: Option<Cut>, word: &Word) -> (bool, bool) {
        let Some(cut) = cut else {
            return (true, false);
        };
        match self.words.iter().find(|one| one.id.0 == cut.id) {
            Some(end) => (self.up_to(end).iter().any(|one| one.id == word.id), true),
            None => (word.seq <= cut.seq, false),
        }
    }

    /// Whether a word stands where its author's log forks, and nobody settled which branch counts.
    fn is_forked(&self, word: &Word, cut: Option<Cut>) -> bool {
        let (_accepted, settled) = self.accepts(cut, word);
        !settled && self.fork(word.by).is_some_and(|seq| seq <= word.seq)
    }

    /// When a word was said: not before what precedes it, except that wishes put off wishes alone.
    fn at(&self, word: &Word, since: u64) -> u64 {
        let way = self.up_to(word);
        let before = way.iter().filter(|one| is_wish(word) || !is_wish(one));
        before.map(|one| one.hlc).fold(since, u64::max)
    }

    /// The grants of a key that count, the one that makes it what it is first: of the best rank, not forked, early.
    fn grants(&self, key: Key, limit: u16) -> Vec<(u16, bool, u64, StatementId)> {
        let mut grants = Vec::new();
        let born = [(self.recovery, 0), (Some(self.first_admin), 1)];
        for (_, rank) in born.iter().filter(|(born, _)| *born == Some(key)) {
            grants.push((*rank, false, self.created, StatementId([0; 32])));
        }
        for word in &self.words {
            if let Payload::AdminGrant(grant) = &word.payload
                && grant.admin == key
                && u16::from(grant.rank) < limit
                && let Some(by) = self.rank(word.by, u16::from(grant.rank))
                && self.is_within(word, by)
            {
                let forked = self.is_forked(word, self.cut(word.by, by));
                let at = self.said_at(word, by);
                grants.push((u16::from(grant.rank), forked, at, word.id));
            }
        }
        grants.retain(|(rank, ..)| *rank < limit);
        grants.sort_unstable();
        grants
    }

    /// When an admin of this rank said a word: not before it became one.
    fn said_at(&self, word: &Word, rank: u16) -> u64 {
        let since = self
            .grants(word.by, rank + 1)
            .first()
            .map_or(0, |first| first.2);
        self.at(word, since)
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

    /// Whether a word counts of an admin of this rank: it is accepted, not said behind a resignation, and no wish from where
    /// the log forks on.
    fn is_within(&self, word: &Word, rank: u16) -> bool {
        let cut = self.cut(word.by, rank);
        let (accepted, _settled) = self.accepts(cut, word);
        let own = Some(Target::Admin(word.by));
        let resigned = self
            .up_to(word)
            .into_iter()
            .any(|one| one.id != word.id && target(one) == own);
        accepted && !resigned && !(is_wish(word) && self.is_forked(word, cut))
    }

    fn cut(&self, key: Key, rank: u16) -> Option<Cut> {
        let cuts = self.words.iter().filter_map(|word| {
            let Payload::Revoke(revoke) = &word.payload else {
                return None;
            };
            if revoke.target != Target::Admin(key) {
                return None;
            }
            let by = self.rank(word.by, rank)?;
            self.is_within(word, by).then_some(revoke.cut)
        });
        least(cuts)
    }

    /// What admins said that counts, by time.
    fn said(&self) -> Vec<Said<'_>> {
        let counts = |word: &'_ &Word| {
            self.rank(word.by, 256)
                .is_some_and(|rank| self.is_within(word, rank))
        };
        let mut said: Vec<_> = self
            .words
            .iter()
            .filter(counts)
            .map(|word| {
                let rank = self.rank(word.by, 256).unwrap();
                Said {
                    word,
                    rank,
                    order: (self.said_at(word, rank), word.id),
                    forked: self.is_forked(word, self.cut(word.by, rank)),
                }
            })
            .collect();
        said.sort_by_key(|said| said.order);
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
                    && self.accepts(cut, word).0
                    && target(word) == Some(Target::Admin(key))
            });
            (key, (rank as u8, cut.is_some() || resigned))
        };
        ranked.map(state).collect()
    }

    /// Nodes that admins revoked, members or not.
    fn revoked(&self) -> BTreeSet<NodeId> {
        let said = self.said();
        let targets = said.iter().filter_map(|said| target(said.word));
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
            sites: BTreeMap::new(),
        };
        let mut wishes: Vec<&Said<'_>> = said.iter().filter(|said| is_wish(said.word)).collect();
        wishes.sort_by_key(|said| {
            (
                said.order.0,
                Reverse(said.rank),
                said.word.seq,
                said.word.id,
            )
        });
        for said in &wishes {
            if let Payload::Policy(policy) = &said.word.payload {
                let value = policy.value.clone().unwrap();
                outcome.sites.insert(policy.node, value);
            }
        }
        let mut taken = BTreeSet::new();
        came.admitted.sort_by_key(|(_node, _wish, order)| *order);
        for (node, wish, order) in &came.admitted {
            if let Some(gone) = came.why_gone(*node) {
                outcome.gone.insert(*node, gone);
                continue;
            }
            let renamed = wishes
                .iter()
                .rev()
                .find_map(|said| match &said.word.payload {
                    Payload::Rename(rename) if rename.node == *node => Some(&rename.name),
                    _ => None,
                });
            let wish = renamed.unwrap_or(wish).clone();
            let longer = format!("{wish}-{}", &node.to_string()[..4]);
            let name = if taken.contains(&wish) { longer } else { wish };
            taken.insert(name.clone());
            let at_ms = if *order == FOUNDED {
                self.created
            } else {
                order.0
            } >> 16;
            outcome.members.insert(*node, (name, at_ms));
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

/// What an admin said that counts.
struct Said<'a> {
    word: &'a Word,
    rank: u16,
    order: Order,
    forked: bool,
}

/// Before everybody.
const FOUNDED: Order = (0, StatementId([0; 32]));

fn target(word: &Word) -> Option<Target> {
    match &word.payload {
        Payload::Revoke(revoke) => Some(revoke.target),
        _ => None,
    }
}

fn is_wish(word: &Word) -> bool {
    matches!(
        word.payload,
        Payload::Rename(_) | Payload::Policy(_) | Payload::Replace(_)
    )
}

/// Of several cuts the shortest, one that names its branch first.
fn least(cuts: impl Iterator<Item = Cut>) -> Option<Cut> {
    cuts.min_by_key(|cut| (cut.seq, cut.id == [0; 32], cut.id))
}

/// Who came in so far.
struct Came<'a> {
    model: &'a Model,
    said: &'a [Said<'a>],
    admitted: Vec<(NodeId, String, Order)>,
    decided: BTreeSet<StatementId>,
    used: BTreeMap<StatementId, BTreeSet<NodeId>>,
}

impl<'a> Came<'a> {
    fn new(model: &'a Model, said: &'a [Said<'a>]) -> Self {
        let genesis = model.words.iter().find_map(|word| match &word.payload {
            Payload::Genesis(genesis) => Some(genesis),
            _ => None,
        });
        let genesis = genesis.unwrap();
        let mut came = Self {
            model,
            said,
            admitted: vec![(genesis.founder, genesis.founder_name.clone(), FOUNDED)],
            decided: BTreeSet::new(),
            used: BTreeMap::new(),
        };
        for said in said {
            if let Payload::Invite(_) = &said.word.payload {
                came.used.insert(said.word.id, BTreeSet::new());
            }
        }
        came
    }

    fn joins(&self) -> Vec<(&'a Word, &'a Join)> {
        let words = self.model.words.iter();
        let joins = words.filter_map(|word| match &word.payload {
            Payload::Join(join) => Some((word, join)),
            _ => None,
        });
        joins.collect()
    }

    /// Decides the Join whose turn it is; false when none is left.
    fn next(&mut self) -> bool {
        let joins = self.joins().into_iter();
        let open = joins.filter(|(word, _join)| !self.decided.contains(&word.id));
        let chances = open.filter_map(|(word, join)| Some((self.chance(word, join)?, word, join)));
        let Some(((_forked, order), word, join)) = chances.min_by_key(|(turn, ..)| *turn) else {
            return false;
        };
        self.decided.insert(word.id);
        let node = NodeId(word.by);
        let uses = usize::from(self.invite(join.invite).unwrap().uses);
        let used = self.used.get_mut(&join.invite).unwrap();
        if used.len() < uses && self.admitted.iter().all(|(id, ..)| *id != node) {
            used.insert(node);
            self.admitted.push((node, join.name.clone(), order));
        }
        true
    }

    /// The first turn of a Join, by who is a member so far.
    fn chance(&self, word: &Word, join: &Join) -> Option<Turn> {
        let invite = self.invite(join.invite)?;
        let mut turns = self.seen(word, join, invite);
        if invite.needs_approval {
            let approvals = self
                .said
                .iter()
                .filter_map(|said| match &said.word.payload {
                    Payload::Approve(approve) if approve.join == word.id => {
                        Some((said.forked, said.order))
                    }
                    _ => None,
                });
            let (forked, approved) = approvals.min()?;
            for turn in &mut turns {
                let later = if approved.0 > turn.1.0 {
                    approved
                } else {
                    turn.1
                };
                *turn = (turn.0 || forked, later);
            }
        }
        turns.retain(|(_forked, order)| self.closed(join.invite).is_none_or(|end| order.0 < end));
        turns.into_iter().min()
    }

    /// The turns of the members that vouch for a Join, as far as that counts.
    fn seen(&self, word: &Word, join: &Join, invite: &Invite) -> Vec<Turn> {
        let grace = GRACE.as_millis() as u64;
        let times = invite.not_before_ms - grace..=invite.not_after_ms + grace;
        let mut turns = Vec::new();
        for one in &self.model.words {
            let sponsor = NodeId(one.by);
            let order = (self.model.at(one, 0), one.id);
            let of_it =
                matches!(&one.payload, Payload::Witness(witness) if witness.join == word.id);
            let since = self.admitted.iter().find(|(id, ..)| *id == sponsor);
            if of_it
                && since.is_some_and(|(.., since)| *since < order)
                && times.contains(&(order.0 >> 16))
                && self.counts(one)
                && invite.name.as_ref().is_none_or(|name| *name == join.name)
            {
                turns.push((self.model.is_forked(one, self.end(sponsor)), order));
            }
        }
        turns
    }

    /// Whether what a node said counts: it is accepted, and not said behind its farewell.
    fn counts(&self, word: &Word) -> bool {
        let way = self.model.up_to(word);
        let mut before = way.iter().filter(|one| one.id != word.id);
        let left = before.any(|one| matches!(one.payload, Payload::Leave(_)));
        self.model.accepts(self.end(NodeId(word.by)), word).0 && !left
    }

    /// How much of a node's log admins accept.
    fn end(&self, node: NodeId) -> Option<Cut> {
        let cuts = self
            .said
            .iter()
            .filter_map(|said| match &said.word.payload {
                Payload::Revoke(revoke) if revoke.target == Target::Node(node) => Some(revoke.cut),
                _ => None,
            });
        least(cuts)
    }

    fn invite(&self, id: StatementId) -> Option<&'a Invite> {
        self.said.iter().find_map(|said| match &said.word.payload {
            Payload::Invite(invite) if said.word.id == id => Some(invite),
            _ => None,
        })
    }

    /// Since when nobody comes in by an invite. A word from where a log forks is heeded by who lets in, and puts out nobody.
    fn closed(&self, invite: StatementId) -> Option<u64> {
        let revoked = self
            .said
            .iter()
            .filter(|said| target(said.word) == Some(Target::Invite(invite)) && !said.forked);
        revoked.map(|said| said.order.0).min()
    }

    fn revoked(&self, node: NodeId) -> Option<(Manner, u64)> {
        let words = self
            .said
            .iter()
            .filter_map(|said| match &said.word.payload {
                Payload::Revoke(revoke) if revoke.target == Target::Node(node) => {
                    Some((revoke.manner, said.order))
                }
                _ => None,
            });
        words.min().map(|(manner, order)| (manner, order.0 >> 16))
    }

    fn why_gone(&self, node: NodeId) -> Option<(Manner, u64)> {
        let left = self.model.words.iter().filter(|word| {
            word.by == node.0 && matches!(word.payload, Payload::Leave(_)) && self.counts(word)
        });
        let left = left
            .map(|word| (Manner::Left, self.model.at(word, 0) >> 16))
            .min();
        self.revoked(node).or(left)
    }

    /// Who has a good Join and no approval; the first that it got a turn for, and its invite.
    fn waited(&self) -> BTreeMap<NodeId, (Turn, StatementId, StatementId)> {
        let mut waited = BTreeMap::new();
        for (word, join) in self.joins() {
            let invite = self.invite(join.invite).filter(|one| one.needs_approval);
            let mut turns = invite.map_or_else(Vec::new, |invite| self.seen(word, join, invite));
            turns.retain(|(_, order)| self.closed(join.invite).is_none_or(|end| order.0 < end));
            let approved = self.said.iter().any(
                |said| matches!(&said.word.payload, Payload::Approve(approve) if approve.join == word.id),
            );
            if let Some(turn) = turns.into_iter().min().filter(|_turn| !approved) {
                let waits = (turn, word.id, join.invite);
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
            let revoked = Some(Target::Invite(*invite));
            let is_revoked = self.said.iter().any(|said| target(said.word) == revoked);
            let is_open = self.used[invite].len() < uses && !is_revoked;
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

    #[test]
    fn the_fold_says_of_forked_logs_what_the_plain_rules_say(happenings in prop::collection::vec(happening(), 1..60)) {
        let scene = Scene::founded();
        let said = history_at(2, &scene, &happenings);
        let state = scene.holder(&said).state();
        let model = Model::new(&scene, &said);
        let outcome = model.outcome();
        prop_assert_eq!(Outcome::of(&state, &outcome, &model.revoked()), outcome);
    }
}
