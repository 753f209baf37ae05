//! Who came in by a word that was taken back: nobody threw it out, yet it is no member.
//!
//! While a mesh was parted, one side may admit by a member, an invite or an admin that the other revokes. Such a node is
//! among those that are gone, with the reason, so that it is told; its id may come back by another token.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::log::Entry;
use super::super::payload::{Invite, Join, Manner, Payload};
use super::super::state::{Gone, Member};
use super::Fold;
use super::admission::{admits, invite_signed};
use crate::id::{NodeId, StatementId, overlay_address};

/// Nodes that are told so, the earliest, of all sponsors together; more are strangers. Each may have vouched for more of
/// them, so a bound for each sponsor alone would be none.
pub(super) const MAX_UNSEATED: usize = 64;

/// Places of the log of one of them that count, for whom it let in itself.
const MAX_PLACES: u32 = 16;

/// The invites of all admins, in force or not, and who signed them.
type Invites<'a> = BTreeMap<StatementId, ([u8; 32], &'a Invite)>;

impl<'a> Fold<'a> {
    /// Finds them, in the order they came in.
    pub(super) fn unseat(&mut self) {
        let is_untouched = self
            .state
            .admins
            .values()
            .all(|admin| admin.revoked.is_none());
        if is_untouched && self.revokes.is_empty() && self.closed.is_empty() {
            return;
        }
        let invites = self.every_invite();
        let joins: BTreeMap<_, _> = self.authors.values().flat_map(|one| &one.joins).collect();
        for entry in self.every_witness() {
            if self.unseated.len() >= MAX_UNSEATED {
                break;
            }
            let Payload::Witness(vouched) = &entry.payload else {
                continue;
            };
            if let Some(join) = joins.get(&vouched.join)
                && let Some(gone) = self.void(entry, join, &invites)
            {
                self.vouched.insert(join.id);
                self.little.insert(gone.member.id.0);
                self.order.push(gone.member.id.0);
                self.unseated.insert(gone.member.id, gone);
            }
        }
    }

    fn every_invite(&self) -> Invites<'a> {
        let mut invites = Invites::new();
        for admin in self.state.admins.keys() {
            let logs = [self.logs.get(admin), self.admin_logs.get(admin)];
            let logs = logs.into_iter().flatten();
            for entry in logs.flat_map(|log| log.places.values().flatten()) {
                if let Payload::Invite(invite) = &entry.payload {
                    invites.insert(entry.id, (*admin, invite));
                }
            }
        }
        invites
    }

    /// What all nodes vouched for, with or without effect, by time.
    fn every_witness(&self) -> Vec<&'a Arc<Entry>> {
        let whole = |author: &[u8; 32]| {
            let is_member = self.state.members.contains_key(&NodeId(*author));
            match self.node_logs.get(author).filter(|_log| is_member) {
                Some(log) => log.places.values().flatten().copied().collect(),
                None if is_member => self.logs[author]
                    .places
                    .values()
                    .flatten()
                    .copied()
                    .collect(),
                None => self.start_of(author),
            }
        };
        let mut witnesses: Vec<_> = self.authors.keys().flat_map(whole).collect();
        witnesses.retain(|entry| matches!(entry.payload, Payload::Witness(_)));
        witnesses.sort_by_key(|entry| (entry.hlc(), entry.id));
        witnesses
    }

    /// What counts of the log of who came in by a word that was taken back. It is passed on, whether it has an effect or
    /// not, so that all come to hold the same; and is as little as that all may carry it for a stranger.
    pub(super) fn start_of(&self, author: &[u8; 32]) -> Vec<&'a Arc<Entry>> {
        let places = self.logs[author].places.range(..=MAX_PLACES);
        places.flat_map(|(_seq, rivals)| rivals).copied().collect()
    }

    /// The node that came in by a Witness and is no member, if what let it in was taken back.
    fn void(&self, witness: &Entry, entry: &Entry, invites: &Invites<'a>) -> Option<Gone> {
        let Payload::Join(join) = &entry.payload else {
            return None;
        };
        let (node, sponsor) = (
            NodeId(entry.statement.author),
            NodeId(witness.statement.author),
        );
        let (members, waits) = (&self.state.members, &self.state.pending);
        let known = |id| members.contains_key(id) || self.unseated.contains_key(id);
        let is_told = waits.contains_key(&node) || known(&node);
        if is_told || !known(&sponsor) || self.vouched.contains(&entry.id) {
            return None;
        }
        let (admin, invite) = invites.get(&join.invite)?;
        let was_good = admits(invite, join, witness.hlc() >> 16)
            && (!invite.needs_approval || self.approvals.contains_key(&entry.id))
            && invite_signed(&self.state.mesh, invite, join, entry);
        let (by, at_ms, reason) = was_good.then(|| self.taken_back(witness, join, admin))??;
        Some(Gone {
            member: Member {
                id: node,
                name: join.name.clone(),
                joined_ms: witness.hlc() >> 16,
                address: overlay_address(&self.state.mesh, &node),
                sponsor: Some(sponsor),
                info: None,
                replaces: None,
                replaced_by: None,
            },
            manner: Manner::Evicted,
            by: Some(by),
            by_label: self.label(&by),
            at_ms,
            reason: reason.to_owned(),
            may_return: true,
        })
    }

    /// Who took back what a node came in by, when, and in words what it was.
    fn taken_back(
        &self,
        witness: &Entry,
        join: &Join,
        admin: &[u8; 32],
    ) -> Option<([u8; 32], u64, &'static str)> {
        let sponsor = NodeId(witness.statement.author);
        let Some(invite) = self.state.invites.get(&join.invite) else {
            let revoked = self.state.admins.get(admin)?.revoked.as_ref()?;
            return Some((
                revoked.by,
                revoked.at_ms,
                "the admin who invited it was revoked",
            ));
        };
        if let Some(revoked) = &invite.revoked
            && let Some(closed) = self.closed.get(&join.invite)
            && *closed <= witness.hlc()
        {
            return Some((revoked.by, revoked.at_ms, "its token was revoked by then"));
        }
        if let Some(gone) = self.unseated.get(&sponsor) {
            return Some((gone.by?, gone.at_ms, "who let it in was no member"));
        }
        let (said, _revoke) = self.first_word(&sponsor)?;
        let log = self.node_logs.get(&sponsor.0)?;
        let acts = log.acts(0, |_payload| false);
        let is_cut = acts.iter().all(|act| act.entry.id != witness.id);
        let why = "who let it in was evicted or retired by then";
        is_cut.then_some((said.by, said.at >> 16, why))
    }
}
