//! Founding a mesh and inviting into it.

use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{log::Statements, record::Statement};
use crate::{
    id::{MeshId, NodeId},
    tunnel::keys::{AdminKey, TunnelKey},
};

/// The secret of an invite.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct InviteSeed([u8; 32]);

impl std::fmt::Debug for InviteSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InviteSeed(secret)")
    }
}

impl InviteSeed {
    /// The tunnel key its holder joins with.
    #[must_use]
    pub fn tunnel(&self) -> TunnelKey {
        unimplemented!()
    }
}

/// What an invite allows.
#[derive(Debug, Clone)]
pub struct InviteTerms {
    /// The only name admitted; `None` admits any.
    pub name: Option<String>,
    /// How long it is valid.
    pub lasts: Duration,
    /// How many nodes it admits, at least 1.
    pub uses: u16,
    /// An admin must agree to each node as well.
    pub needs_approval: bool,
}

/// Why no invite is issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// The key does not administer this mesh.
    #[error("this admin key does not administer mesh {0:.8}")]
    NotAdmin(MeshId),
}

/// Founds a mesh: its id and its Genesis.
#[must_use]
pub fn found(
    _admin: &AdminKey,
    _founder: NodeId,
    _founder_name: &str,
    _mesh_name: &str,
    _recovery: Option<[u8; 32]>,
    _now_ms: u64,
) -> (MeshId, Statement) {
    unimplemented!()
}

/// Signs an invite; the caller inserts and spreads it.
pub fn issue_invite(
    _admin: &AdminKey,
    _statements: &Statements,
    _terms: InviteTerms,
    _now_ms: u64,
) -> Result<(InviteSeed, Statement), InviteError> {
    unimplemented!()
}
