//! Who comes in: one pass over what members vouched for and admins approved, in order of `(hlc, id)`.
//!
//! A Witness counts when its author is a member by then, an invite admits its first `uses` nodes, one that asks for
//! approval admits when both were said. The order is total and looks back only, so there is no circle to resolve. Who is
//! gone is admitted all the same: what it vouched for stands, and its place in an invite stays taken.
//! What stands on ground where its author's log forks comes after all else: a copied key says when, and may not take the
//! place of whom another member let in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::log::Entry;
use super::super::payload::{Invite, Join, Payload};
use super::super::state::{Conflict, InviteState, Pending, Use};
use super::Fold;
use super::logs::{Act, Log};
use crate::id::{MeshId, NodeId, StatementId};
use crate::tunnel::keys::verify;

/// How far a sponsor's clock may be off the admin's for its Witness to count, before and after.
pub const GRACE: Duration = Duration::from_mins(5);

/// Joins that admit nobody any more and count all the same, of each invite: enough to show who
/// passed a token on. A member that holds a token's secret could make them without end.
pub(in crate::trust) const MAX_SURPLUS: usize = 16;

/// Joins that wait for approval and count, of each invite. More wait unseen until some of these are approved or refused.
pub(in crate::trust) const MAX_PENDING: usize = 64;

/// What lets a node in, in order of its time.
#[derive(Debug, Clone, Copy)]
enum Event<'a> {
    Vouched(&'a Arc<Entry>),
    Approved {
        join: &'a Arc<Entry>,
        sponsor: NodeId,
    },
}

/// Where something stands in the pass: whether on ground that forks, when, and what settles a tie.
pub(super) type Turn = (bool, u64, StatementId);

/// What is ahead in the pass.
type Ahead<'a> = BTreeMap<Turn, Event<'a>>;

impl<'a> Fold<'a> {
    pub(super) fn read_invites(&mut self) {
        for said in self.said.clone() {
            match &said.entry.payload {
                Payload::Invite(invite) => {
                    let state = InviteState {
                        invite: invite.clone(),
                        used: Vec::new(),
                        replaces: self.given_place(said.entry.id),
                        revoked: None,
                        waiting: 0,
                        doubtful: said.forked,
                    };
                    self.state.invites.insert(said.entry.id, state);
                }
                Payload::Approve(approve) => {
                    let (at, id) = said.order();
                    let turn = (said.forked, at, id);
                    let first = self.approvals.entry(approve.join).or_insert(turn);
                    *first = turn.min(*first);
                }
                _ => {}
            }
        }
        for said in self.said.clone() {
            if let Payload::Revoke(revoke) = &said.entry.payload {
                self.close_invite(said, revoke);
            }
        }
    }

    pub(super) fn admit(&mut self) {
        let joins: BTreeMap<_, _> = self
            .authors
            .values()
            .flat_map(|authored| &authored.joins)
            .collect();
        let mut ahead = self.vouched_for();
        // By sponsors who do not belong so far.
        let mut early: BTreeMap<NodeId, Vec<(Turn, Event<'a>)>> = BTreeMap::new();
        while let Some((turn, event)) = ahead.pop_first() {
            let newcomer = match event {
                Event::Vouched(entry) => {
                    let sponsor = NodeId(entry.statement.author);
                    let Some(since) = self.admitted.get(&sponsor) else {
                        early.entry(sponsor).or_default().push((turn, event));
                        continue;
                    };
                    let Payload::Witness(witness) = entry.payload else {
                        continue;
                    };
                    match joins.get(&witness.join) {
                        Some(join) if *since < (turn.1, turn.2) => {
                            self.consider(join, sponsor, turn, &mut ahead)
                        }
                        _ => None,
                    }
                }
                Event::Approved { join, sponsor } => self.decide(join, sponsor, turn),
            };
            ahead.extend(
                newcomer
                    .and_then(|id| early.remove(&id))
                    .into_iter()
                    .flatten(),
            );
        }
        for invite in self.state.invites.values_mut() {
            invite.used.sort_by_key(|r#use| r#use.at_ms);
        }
        self.state.conflicts.sort_by_key(|conflict| conflict.at_ms);
    }

    /// Every Witness that acts.
    fn vouched_for(&mut self) -> Ahead<'a> {
        let mut ahead = Ahead::new();
        for (author, authored) in self.authors {
            let node = NodeId(*author);
            if let Some(cut) = self.node_cut(&node) {
                self.node_logs
                    .insert(*author, Log::new(authored, Some(cut)));
            }
            let log = self
                .node_logs
                .get(author)
                .unwrap_or_else(|| &self.logs[author]);
            for Act { entry, at, forked } in
                log.acts(0, |payload| matches!(payload, Payload::Leave(_)))
            {
                match &entry.payload {
                    Payload::Witness(_) => {
                        ahead.insert((forked, at, entry.id), Event::Vouched(entry));
                    }
                    Payload::Leave(leave) => {
                        let first = self.leaves.entry(node).or_insert((at, leave));
                        if at < first.0 {
                            *first = (at, leave);
                        }
                    }
                    _ => {}
                }
            }
        }
        ahead
    }

    /// One Join that `sponsor`, a member, vouched for; who came in by it.
    fn consider(
        &mut self,
        entry: &'a Arc<Entry>,
        sponsor: NodeId,
        turn: Turn,
        ahead: &mut Ahead<'a>,
    ) -> Option<NodeId> {
        let Payload::Join(join) = &entry.payload else {
            return None;
        };
        let invite = self.state.invites.get(&join.invite)?;
        if !admits(&invite.invite, join, turn.1 >> 16)
            || self.decided.contains(&entry.id)
            || !invite_signed(&self.state.mesh, &invite.invite, join, entry)
        {
            return None;
        }
        if !invite.invite.needs_approval {
            return self.decide(entry, sponsor, turn);
        }
        let Some((forked, at, id)) = self.approvals.get(&entry.id).copied() else {
            self.wait(entry, join, sponsor, turn.1);
            return None;
        };
        let is_approved = at <= turn.1;
        let (at, id) = if is_approved {
            (turn.1, turn.2)
        } else {
            (at, id)
        };
        let due = (forked || turn.0, at, id);
        if due <= turn {
            return self.decide(entry, sponsor, turn);
        }
        self.vouched.insert(entry.id);
        let join = entry;
        ahead
            .entry(due)
            .or_insert(Event::Approved { join, sponsor });
        None
    }

    /// A good Join without the approval it needs.
    fn wait(&mut self, entry: &Entry, join: &Join, sponsor: NodeId, hlc: u64) {
        let node = NodeId(entry.statement.author);
        let is_closed = self.closed.get(&join.invite).is_some_and(|at| *at <= hlc);
        let Some(invite) = self.state.invites.get_mut(&join.invite) else {
            return;
        };
        if self.vouched.contains(&entry.id) {
            return;
        }
        // Each that was refused cost an admin a word, and has one Join.
        let is_refused = self.revokes.contains_key(&node);
        let is_over = match is_refused {
            true => self.state.pending.contains_key(&node),
            false => invite.waiting >= MAX_PENDING,
        };
        if is_closed || is_over {
            return;
        }
        if !is_refused {
            invite.waiting += 1;
        }
        self.vouched.insert(entry.id);
        self.state.pending.entry(node).or_insert_with(|| Pending {
            join: entry.id,
            name: join.name.clone(),
            invite: join.invite,
            sponsor,
            at_ms: hlc >> 16,
        });
    }

    /// A Join that nothing is missing from; who came in by it.
    fn decide(&mut self, entry: &Entry, sponsor: NodeId, turn: Turn) -> Option<NodeId> {
        let Payload::Join(join) = &entry.payload else {
            return None;
        };
        let (node, (_forked, at, id)) = (NodeId(entry.statement.author), turn);
        let is_closed = self.closed.get(&join.invite).is_some_and(|end| *end <= at);
        if is_closed || self.decided.contains(&entry.id) {
            return None;
        }
        let known = self.state.members.contains_key(&node);
        let is_open = self.state.invites.get(&join.invite).is_some_and(has_room);
        if (known || !is_open)
            && !self.vouched.contains(&entry.id)
            && !self.is_within_surplus(join.invite)
        {
            return None;
        }
        self.vouched.insert(entry.id);
        self.decided.insert(entry.id);
        if known {
            return None;
        }
        let invite = self.state.invites.get_mut(&join.invite)?;
        let at_ms = at >> 16;
        if is_open {
            let replaced = invite.replaces.filter(|_old| invite.used.is_empty());
            invite.used.push(Use { by: node, at_ms });
            self.welcome(node, &join.name, at_ms, Some(sponsor));
            self.admitted.insert(node, (at, id));
            self.hand_over(replaced, node);
            return Some(node);
        }
        self.state.conflicts.push(Conflict {
            invite: join.invite,
            refused: node,
            refused_name: join.name.clone(),
            sponsor,
            at_ms,
            admitted: invite.used.iter().map(|r#use| r#use.by).collect(),
        });
        None
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

    /// Whether one more Join by an invite counts that lets nobody in.
    fn is_within_surplus(&mut self, invite: StatementId) -> bool {
        let surplus = self.surplus.entry(invite).or_default();
        *surplus += 1;
        *surplus <= MAX_SURPLUS
    }
}

fn has_room(invite: &InviteState) -> bool {
    invite.used.len() < usize::from(invite.invite.uses)
}

/// Whether `invite` lets in a node that asks by `join`, vouched for at `at_ms`.
pub(super) fn admits(invite: &Invite, join: &Join, at_ms: u64) -> bool {
    let grace = GRACE.as_millis() as u64;
    let from = invite.not_before_ms.saturating_sub(grace);
    let until = invite.not_after_ms.saturating_add(grace);
    let named = invite.name.as_ref().is_none_or(|name| *name == join.name);
    named && (from..=until).contains(&at_ms)
}

pub(super) fn invite_signed(mesh: &MeshId, invite: &Invite, join: &Join, entry: &Entry) -> bool {
    *entry.invite_signed.get_or_init(|| {
        let bytes = Join::invite_bytes(mesh, &join.invite, &entry.statement.author, &join.name);
        verify(&invite.public, &bytes, &join.invite_signature)
    })
}
