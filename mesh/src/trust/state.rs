//! What a set of statements means: the members, who is gone, the admins, the invites, and what is wrong.
//!
//! Plain data, the same on every node that holds the same statements. `fold` makes it, everybody
//! else reads it.

use std::{collections::BTreeMap, net::Ipv6Addr};

use super::moment::Moment;
use super::payload::{Cut, Genesis, Invite, Manner, NodeInfo};
use super::settings::Settings;
use crate::id::{MeshId, NodeId, StatementId};

/// What a set of statements means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The mesh.
    pub mesh: MeshId,
    /// Its name; empty until its Genesis is held.
    pub name: String,
    /// Its Genesis; `None` until it is held.
    pub genesis: Option<Genesis>,
    /// Who belongs to it.
    pub members: BTreeMap<NodeId, Member>,
    /// Who belonged to it and does no more.
    pub gone: BTreeMap<NodeId, Gone>,
    /// Who came by a good token that asks for an admin's approval, and has none yet.
    pub pending: BTreeMap<NodeId, Pending>,
    /// Who administers it by public key, the revoked ones too.
    pub admins: BTreeMap<[u8; 32], Admin>,
    /// What admins settled for the mesh and for single members.
    pub settings: Settings,
    /// Every invite an admin signed.
    pub invites: BTreeMap<StatementId, InviteState>,
    /// Tokens used more often than they allow, by time.
    pub conflicts: Vec<Conflict>,
    /// Authors who said two things at one place of their log: somebody else has their key.
    pub frozen: BTreeMap<[u8; 32], Frozen>,
    /// Critical kinds signed by an admin that this version does not know. If any, it must be
    /// upgraded. A mere member's do not show: it could stop the mesh from admitting anybody.
    pub unsupported: Vec<u8>,
}

impl State {
    /// Who is called what.
    #[must_use]
    pub fn names(&self) -> BTreeMap<NodeId, String> {
        let members = self.members.values();
        members
            .map(|member| (member.id, member.name.clone()))
            .collect()
    }

    /// A member, or one that is gone.
    #[must_use]
    pub fn ever(&self, id: &NodeId) -> Option<&Member> {
        let gone = || self.gone.get(id).map(|gone| &gone.member);
        self.members.get(id).or_else(gone)
    }

    /// The rank of an admin whose word counts: 0 for the recovery words, 1 for the first admin. `None` for everybody
    /// else, also for one that was revoked.
    #[must_use]
    pub fn rank(&self, admin: &[u8; 32]) -> Option<u8> {
        let admin = self.admins.get(admin)?;
        admin.revoked.is_none().then_some(admin.rank)
    }

    /// In a sentence, why somebody belongs to the mesh no more: `evicted by admin at 2026-11-23 22:10 UTC: stolen`.
    /// `None` for members and strangers.
    #[must_use]
    pub fn why_gone(&self, id: &NodeId) -> Option<String> {
        self.gone.get(id).map(Gone::sentence)
    }

    /// Why somebody is no member, to follow "it was": how it went, else what it tried in vain. `None`: it is one.
    #[must_use]
    pub fn why_out(&self, id: &NodeId) -> Option<String> {
        if self.members.contains_key(id) {
            return None;
        }
        let is_second = self.conflicts.iter().any(|one| one.refused == *id);
        let unsaid = match is_second {
            true => "refused, for its token had admitted another",
            false => "let in by nobody whose word counts",
        };
        Some(self.why_gone(id).unwrap_or_else(|| unsaid.to_owned()))
    }

    /// Whether another machine carries on what this member was.
    #[must_use]
    pub fn is_replaced(&self, id: &NodeId) -> bool {
        let member = self.ever(id);
        member.is_some_and(|member| member.replaced_by.is_some())
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name, unique in the mesh: the earliest keeps it, a later one gets letters of its id
    /// added.
    pub name: String,
    /// When it was admitted, by its sponsor's clock.
    pub joined_ms: u64,
    /// Its address in the overlay.
    pub address: Ipv6Addr,
    /// Who admitted it; `None` for the founder.
    pub sponsor: Option<NodeId>,
    /// What it last said about itself.
    pub info: Option<NodeInfo>,
    /// The member whose history it carries on.
    pub replaces: Option<NodeId>,
    /// Who carries on its history: it is retired, and never anybody's keeper again.
    pub replaced_by: Option<NodeId>,
}

/// Somebody who was a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// What it was. A member may have its name by now; then it shows with letters of its id.
    pub member: Member,
    /// How it went: of several words on it an eviction, else a retirement, else its own.
    pub manner: Manner,
    /// The admin who said so, by public key; `None`: itself.
    pub by: Option<[u8; 32]>,
    /// What that admin is called; empty: itself.
    pub by_label: String,
    /// When, by the clock of who said so.
    pub at_ms: u64,
    /// Why; may be empty.
    pub reason: String,
    /// Nobody revoked its id, only what let it in; it may come back by another token.
    pub may_return: bool,
}

impl Gone {
    pub(super) fn sentence(&self) -> String {
        let how = match self.manner {
            Manner::Evicted => "evicted by ",
            Manner::Retired => "retired by ",
            Manner::Left => "left",
        };
        let when = Moment(self.at_ms);
        match self.reason.as_str() {
            "" => format!("{how}{} at {when}", self.by_label),
            reason => format!("{how}{} at {when}: {reason}", self.by_label),
        }
    }
}

/// Somebody who waits for an admin's approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its Join, which an Approve names.
    pub join: StatementId,
    /// The name it asks for.
    pub name: String,
    /// By which invite.
    pub invite: StatementId,
    /// Which member saw it.
    pub sponsor: NodeId,
    /// When, by the sponsor's clock.
    pub at_ms: u64,
}

/// An admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// 0 for the recovery words, 1 for the first admin, more for whom they granted it.
    pub rank: u8,
    /// What it is called.
    pub label: String,
    /// The admin who granted it; `None`: the Genesis names it.
    pub granted_by: Option<[u8; 32]>,
    /// Since when, by the granter's clock.
    pub at_ms: u64,
    /// Who took it back; `None` while its word counts.
    pub revoked: Option<Revoked>,
}

/// That an admin or an invite was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The admin who said so, by public key.
    pub by: [u8; 32],
    /// What that admin is called.
    pub by_label: String,
    /// When, by its clock.
    pub at_ms: u64,
    /// How much of an admin's log still counts.
    pub cut: Cut,
    /// Why; may be empty.
    pub reason: String,
}

/// An invite and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteState {
    /// The invite.
    pub invite: Invite,
    /// Who it admitted, by time.
    pub used: Vec<Use>,
    /// The member whose place its first user takes.
    pub replaces: Option<NodeId>,
    /// Who took it back; nobody is admitted by it since.
    pub revoked: Option<Revoked>,
    /// Joins by it that wait for approval.
    pub waiting: usize,
    /// It stands where its admin's log forks: the key that made it is in two places, so nobody vouches by it.
    pub doubtful: bool,
}

/// One use of an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Who came in.
    pub by: NodeId,
    /// When, by the sponsor's clock.
    pub at_ms: u64,
}

/// A token used once more than it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The token's invite.
    pub invite: StatementId,
    /// Who was too late and is not a member by it.
    pub refused: NodeId,
    /// The name it asked for.
    pub refused_name: String,
    /// Who had sponsored it.
    pub sponsor: NodeId,
    /// When, by the sponsor's clock.
    pub at_ms: u64,
    /// Whom the token admitted instead.
    pub admitted: Vec<NodeId>,
}

/// An author who said two things at one place of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The first place with two statements.
    pub seq: u32,
    /// The two.
    pub statements: [StatementId; 2],
    /// The later clock of the two, to show: a thief chooses it, so nothing depends on it. What the author admitted,
    /// removed and granted stands on both branches, so that nobody loses membership over a copied key; what it wishes
    /// from this place on does not count. A revocation by somebody above says which branch is the author's.
    pub hlc: u64,
}

impl InviteState {
    /// Whether it still admits somebody.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.revoked.is_none()
            && self.used.len() < usize::from(self.invite.uses)
            && now_ms <= self.invite.not_after_ms
    }

    /// When it closed or will close: at its last use or when it was revoked, else when its time is over.
    #[must_use]
    pub fn closes_ms(&self) -> u64 {
        let last = self
            .used
            .last()
            .filter(|_last| self.used.len() >= usize::from(self.invite.uses));
        let used = last.map_or(u64::MAX, |last| last.at_ms);
        let revoked = self
            .revoked
            .as_ref()
            .map_or(u64::MAX, |revoked| revoked.at_ms);
        self.invite.not_after_ms.min(used).min(revoked)
    }
}
