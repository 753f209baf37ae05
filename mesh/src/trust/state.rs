//! What a set of statements means: the members, the invites, and what is wrong.
//!
//! Plain data, the same on every node that holds the same statements. `fold` makes it, everybody
//! else reads it.

use std::{collections::BTreeMap, net::Ipv6Addr};

use super::payload::{Genesis, Invite, NodeInfo};
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

    /// Whether another machine carries on what this member was.
    #[must_use]
    pub fn is_replaced(&self, id: &NodeId) -> bool {
        let member = self.members.get(id);
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

/// An invite and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteState {
    /// The invite.
    pub invite: Invite,
    /// Who it admitted, by time.
    pub used: Vec<Use>,
    /// The member whose place its first user takes.
    pub replaces: Option<NodeId>,
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
    /// The later clock of the two. What the author signed until then stands, so that nobody loses
    /// membership over a restored disk; what it signed after counts for nothing. Whoever stole the
    /// key chooses its own clocks and can undo what the author vouched for; eviction answers that.
    pub hlc: u64,
}

impl InviteState {
    /// Whether it still admits somebody.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.used.len() < usize::from(self.invite.uses) && now_ms <= self.invite.not_after_ms
    }

    /// When it closed or will close: at its last use, else when its time is over.
    #[must_use]
    pub fn closes_ms(&self) -> u64 {
        let last = self
            .used
            .last()
            .filter(|_last| self.used.len() >= usize::from(self.invite.uses));
        last.map_or(self.invite.not_after_ms, |last| {
            last.at_ms.min(self.invite.not_after_ms)
        })
    }
}
