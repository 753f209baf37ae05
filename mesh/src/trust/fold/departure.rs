//! Who belongs no more: nodes that were revoked or left, invites that were taken back.
//!
//! A revocation holds whenever it was said: a revoked id never returns. It cuts the node's own log, so that nobody comes in
//! by what was made with its key later, and the invite's time, so that nobody comes in by it later.

use super::super::payload::{Cut, Leave, Manner, Payload, Revoke, Target};
use super::super::state::{Gone, Member, Pending};
use super::Fold;
use super::admins::Said;
use super::logs::shortest;
use crate::id::{NodeId, overlay_address};

impl<'a> Fold<'a> {
    /// Collects what admins took back from nodes.
    pub(super) fn read_revokes(&mut self) {
        for said in &self.said {
            if let Payload::Revoke(revoke) = &said.entry.payload
                && let Target::Node(node) = revoke.target
            {
                self.revokes.entry(node).or_default().push((*said, revoke));
            }
        }
    }

    /// How far the log of a node counts that admins revoked.
    pub(super) fn node_cut(&self, node: &NodeId) -> Option<Cut> {
        let revokes = self.revokes.get(node)?.iter();
        shortest(revokes.map(|(_said, revoke)| revoke.cut))
    }

    /// Of several words on a node the one that shows: an eviction, else a retirement, the earliest.
    pub(super) fn first_word(&self, node: &NodeId) -> Option<(Said<'a>, &'a Revoke)> {
        let words = self.revokes.get(node)?.iter().copied();
        words.min_by_key(|(said, revoke)| (revoke.manner, said.order()))
    }

    /// Takes an invite back; of several words on it the earliest counts. One on ground that forks puts out nobody, whatever
    /// time it claims; those who let nodes in heed it.
    pub(super) fn close_invite(&mut self, said: Said<'a>, revoke: &Revoke) {
        let Target::Invite(id) = revoke.target else {
            return;
        };
        let revoked = self.revocation(said, revoke, Cut::NOTHING);
        if let Some(invite) = self.state.invites.get_mut(&id) {
            invite.revoked.get_or_insert(revoked);
            if !said.forked {
                self.closed.entry(id).or_insert(said.at);
            }
        }
    }

    /// Parts those that are gone from the members, and from who waits.
    pub(super) fn part(&mut self) {
        let revoked: Vec<NodeId> = self.revokes.keys().copied().collect();
        for node in revoked {
            let waits = self.state.pending.remove(&node);
            let waits = waits.map(|pending| self.never_came(node, &pending));
            let void = self.unseated.remove(&node).map(|gone| gone.member);
            let member = self.state.members.remove(&node).or(void).or(waits);
            let first = self.first_word(&node);
            if let (Some(member), Some((said, revoke))) = (member, first) {
                let gone = Gone {
                    member,
                    manner: revoke.manner,
                    by: Some(said.by),
                    by_label: self.label(&said.by),
                    at_ms: said.at >> 16,
                    reason: revoke.reason.clone(),
                    may_return: false,
                };
                self.state.gone.insert(node, gone);
            }
        }
        for (node, (hlc, leave)) in std::mem::take(&mut self.leaves) {
            if let Some(member) = self.state.members.remove(&node) {
                self.state.gone.insert(node, left(member, hlc, leave));
            }
        }
        self.state.gone.append(&mut self.unseated);
        let (members, gone) = (&self.state.members, &self.state.gone);
        let invites = &self.state.invites;
        self.state.pending.retain(|node, pending| {
            let invite = &invites[&pending.invite];
            let is_full = invite.used.len() >= usize::from(invite.invite.uses);
            let came = members.contains_key(node) || gone.contains_key(node);
            !came && !is_full && invite.revoked.is_none()
        });
    }

    /// What a node that still waited would have been.
    fn never_came(&self, id: NodeId, pending: &Pending) -> Member {
        Member {
            id,
            name: pending.name.clone(),
            joined_ms: pending.at_ms,
            address: overlay_address(&self.state.mesh, &id),
            sponsor: Some(pending.sponsor),
            info: None,
            replaces: None,
            replaced_by: None,
        }
    }
}

fn left(member: Member, hlc: u64, leave: &Leave) -> Gone {
    Gone {
        member,
        manner: Manner::Left,
        by: None,
        by_label: String::new(),
        at_ms: hlc >> 16,
        reason: leave.reason.clone(),
        may_return: false,
    }
}
