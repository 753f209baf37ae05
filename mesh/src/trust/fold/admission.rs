//! Who comes in: one pass over what members vouched for and admins approved, in order of `(hlc, id)`.
//!
//! A Witness counts when its author is a member by then, an invite admits its first `uses` nodes, one that asks for
//! approval admits when both were said. The order is total and looks back only, so there is no circle to resolve. Who is
//! gone is admitted all the same: what it vouched for stands, and its place in an invite stays taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::log::Entry;
use super::super::payload::{Invite, Join, Payload};
use super::super::state::{Conflict, InviteState, Pending, Use};
use super::Fold;
use super::logs::Log;
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

/// What is ahead in the pass.
type Ahead<'a> = BTreeMap<(u64, StatementId), Event<'a>>;

impl<'a> Fold<'a> {
    pub(super) fn read_invites(&mut self) {
        for said in self.said.clone() {
            match &said.entry.payload {
                Payload::Invite(invite) => {
                    let state = InviteState {
                        invite: invite.clone(),
                        used: Vec::new(),
                        replaces: None,
                        revoked: None,
                        waiting: 0,
                    };
                    self.state.invites.insert(said.entry.id, state);
                }
                Payload::Approve(approve) => {
                    let first = self.approvals.entry(approve.join);
                    first.or_insert_with(|| said.order());
                }
                _ => {}
            }
        }
        for said in self.said.clone() {
            match &said.entry.payload {
                Payload::Replace(replace) => {
                    if let Some(invite) = self.state.invites.get_mut(&replace.invite) {
                        invite.replaces = Some(replace.node);
                    }
                }
                Payload::Revoke(revoke) => self.close_invite(said, revoke),
                _ => {}
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
        while let Some(((hlc, _id), event)) = ahead.pop_first() {
            match event {
                Event::Vouched(entry) => {
                    let sponsor = NodeId(entry.statement.author);
                    let Payload::Witness(witness) = entry.payload else {
                        continue;
                    };
                    if let Some(join) = joins.get(&witness.join)
                        && self.state.members.contains_key(&sponsor)
                    {
                        self.consider(join, sponsor, hlc, &mut ahead);
                    }
                }
                Event::Approved { join, sponsor } => self.decide(join, sponsor, hlc),
            }
        }
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
            for entry in log.acts(|payload| matches!(payload, Payload::Leave(_))) {
                match &entry.payload {
                    Payload::Witness(_) => {
                        ahead.insert((entry.hlc(), entry.id), Event::Vouched(entry));
                    }
                    Payload::Leave(leave) => {
                        self.leaves
                            .entry(node)
                            .or_insert_with(|| (entry.hlc(), leave));
                    }
                    _ => {}
                }
            }
        }
        ahead
    }

    /// One Join that `sponsor`, a member, vouched for.
    fn consider(
        &mut self,
        entry: &'a Arc<Entry>,
        sponsor: NodeId,
        hlc: u64,
        ahead: &mut Ahead<'a>,
    ) {
        let Payload::Join(join) = &entry.payload else {
            return;
        };
        let Some(invite) = self.state.invites.get(&join.invite) else {
            return;
        };
        if !admits(&invite.invite, join, hlc >> 16)
            || self.vouched.contains(&entry.id)
            || !invite_signed(&self.state.mesh, &invite.invite, join, entry)
        {
            return;
        }
        if !invite.invite.needs_approval {
            return self.decide(entry, sponsor, hlc);
        }
        match self.approvals.get(&entry.id) {
            Some((approved, _id)) if *approved <= hlc => self.decide(entry, sponsor, hlc),
            Some(at) => {
                self.vouched.insert(entry.id);
                ahead.insert(
                    *at,
                    Event::Approved {
                        join: entry,
                        sponsor,
                    },
                );
            }
            None => self.wait(entry, join, sponsor, hlc),
        }
    }

    /// A good Join without the approval it needs.
    fn wait(&mut self, entry: &Entry, join: &Join, sponsor: NodeId, hlc: u64) {
        let node = NodeId(entry.statement.author);
        let is_closed = self.closed.get(&join.invite).is_some_and(|at| *at <= hlc);
        let Some(invite) = self.state.invites.get_mut(&join.invite) else {
            return;
        };
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

    /// A Join that nothing is missing from.
    fn decide(&mut self, entry: &Entry, sponsor: NodeId, hlc: u64) {
        let Payload::Join(join) = &entry.payload else {
            return;
        };
        let node = NodeId(entry.statement.author);
        if self.closed.get(&join.invite).is_some_and(|at| *at <= hlc) {
            return;
        }
        let known = self.state.members.contains_key(&node);
        let is_open = self.state.invites.get(&join.invite).is_some_and(has_room);
        if (known || !is_open)
            && !self.vouched.contains(&entry.id)
            && !self.is_within_surplus(join.invite)
        {
            return;
        }
        self.vouched.insert(entry.id);
        if known {
            return;
        }
        let Some(invite) = self.state.invites.get_mut(&join.invite) else {
            return;
        };
        let at_ms = hlc >> 16;
        if is_open {
            let replaced = invite.replaces.filter(|_old| invite.used.is_empty());
            invite.used.push(Use { by: node, at_ms });
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
