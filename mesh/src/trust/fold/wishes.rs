//! What admins wish: settings, names, who takes whose place. The last word on each counts.
//!
//! In: what admins said that counts. Out: the settings, and for names and places the word that counts.
//! Of words of one time that of the lower rank is the last, so that nobody can have the last word for ever over those above
//! by claiming the end of time: they claim it, too.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::payload::Payload;
use super::Fold;
use crate::id::{NodeId, StatementId};

/// What may be wished in this way or that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Wish {
    /// A setting, of one member or of all.
    Set(Option<NodeId>, String),
    /// What a member is called.
    Name(NodeId),
    /// Whose place the first one takes that comes in by an invite.
    Place(StatementId),
}

impl Wish {
    /// What a statement wishes about, if it is a wish.
    pub(in super::super) fn of(payload: &Payload) -> Option<Self> {
        match payload {
            Payload::Policy(policy) => Some(Self::Set(policy.node, policy.key.clone())),
            Payload::Rename(rename) => Some(Self::Name(rename.node)),
            Payload::Replace(replace) => Some(Self::Place(replace.invite)),
            _ => None,
        }
    }
}

impl Fold<'_> {
    /// Finds the last word on everything.
    pub(super) fn read_wishes(&mut self) {
        let mut said = self.said.clone();
        said.sort_by_key(|said| (said.at, Reverse(said.rank), said.entry.seq(), said.entry.id));
        for said in said {
            if let Some(wish) = Wish::of(&said.entry.payload) {
                self.wishes.insert(wish, (said.at, &said.entry.payload));
            }
        }
        for (_at, payload) in self.wishes.values() {
            if let Payload::Policy(policy) = payload {
                self.state.settings.take(policy);
            }
        }
    }

    /// When the last word on each was said.
    pub(super) fn wished(&self) -> BTreeMap<Wish, u64> {
        let wishes = self.wishes.iter();
        wishes.map(|(wish, (at, _))| (wish.clone(), *at)).collect()
    }

    /// The name an admin gave a member.
    pub(super) fn given_name(&self, node: NodeId) -> Option<&str> {
        match self.wishes.get(&Wish::Name(node)) {
            Some((_at, Payload::Rename(rename))) => Some(&rename.name),
            _ => None,
        }
    }

    /// Whose place an invite gives away.
    pub(super) fn given_place(&self, invite: StatementId) -> Option<NodeId> {
        match self.wishes.get(&Wish::Place(invite)) {
            Some((_at, Payload::Replace(replace))) => Some(replace.node),
            _ => None,
        }
    }
}
