//! What is said about who belongs and who may say so: grants, approvals, revocations, names, farewells.
//!
//! Invariant: a released struct never changes. What a version can't read of these is kept and passed on like a kind it
//! doesn't know, so that versions agree on what is held.

use serde::{Deserialize, Serialize};

use super::is_name;
use crate::id::{NodeId, StatementId};

/// Bytes of a reason at most.
pub const MAX_REASON: usize = 200;

/// Makes an admin. Signed by one of a lower rank; a key granted twice has its best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminGrant {
    /// Its public key.
    pub admin: [u8; 32],
    /// Higher than the granter's: the recovery words have 0, the first admin 1.
    pub rank: u8,
    /// What it is called, a name.
    pub label: String,
}

/// An admin agrees to a Join whose invite asks for it. Its place in the admin's log gives time and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// Which Join.
    pub join: StatementId,
}

/// Takes back what made a member, an invite or an admin. Signed by an admin, of a strictly lower rank where an admin is
/// revoked, or by that admin itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Of what.
    pub target: Target,
    /// How far the log of a member or an admin still counts. Of several the shortest does.
    pub cut: Cut,
    /// In what spirit; [`Manner::Left`] is nobody's to say of another.
    pub manner: Manner,
    /// Why, at most [`MAX_REASON`] bytes without control characters; may be empty.
    pub reason: String,
}

/// What a Revoke takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// A member; its id never belongs to the mesh again.
    Node(NodeId),
    /// An invite; who came in by it before stays.
    Invite(StatementId),
    /// An admin, by its public key.
    Admin([u8; 32]),
}

/// How much of a log is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cut {
    /// So many statements from its start; 0 is none.
    pub seq: u32,
    /// The id of the last of them, so that no other branch slips in. Zeros accept any branch.
    pub id: [u8; 32],
}

/// How a member went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Manner {
    /// An admin threw it out.
    Evicted,
    /// An admin says that its machine is gone.
    Retired,
    /// It said so itself.
    Left,
}

/// What a member is to be called. Signed by an admin; the latest counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// Which member.
    pub node: NodeId,
    /// Its name, if nobody had it earlier.
    pub name: String,
}

/// A member leaves for good. Signed by itself; nothing that its log holds after it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Why, at most [`MAX_REASON`] bytes without control characters; may be empty.
    pub reason: String,
}

impl AdminGrant {
    pub(super) fn is_bounded(&self) -> bool {
        is_name(&self.label)
    }
}

impl Revoke {
    pub(super) fn is_bounded(&self) -> bool {
        is_reason(&self.reason) && self.manner != Manner::Left
    }
}

impl Rename {
    pub(super) fn is_bounded(&self) -> bool {
        is_name(&self.name)
    }
}

impl Leave {
    pub(super) fn is_bounded(&self) -> bool {
        is_reason(&self.reason)
    }
}

impl Cut {
    /// Nothing at all.
    pub const NOTHING: Self = Self {
        seq: 0,
        id: [0; 32],
    };
}

/// Whether `text` may be a reason.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    text.len() <= MAX_REASON && !text.chars().any(char::is_control)
}
