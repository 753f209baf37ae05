//! The token: all that a new node needs to find a mesh, believe it, and be let in.

use std::net::SocketAddr;

use super::{
    invite::InviteSeed,
    log::Statements,
    record::{Invite, Statement},
};
use crate::{
    id::{MeshId, NodeId, StatementId},
    tunnel::keys::{TunnelKey, TunnelPublic},
};

/// Nodes a token names at most.
pub const MAX_BOOTSTRAPS: usize = 3;

/// All that a new node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    mesh: MeshId,
    seed: InviteSeed,
    chain: Vec<Statement>,
    bootstraps: Vec<Bootstrap>,
}

/// A node that a joiner may ask.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bootstrap {
    /// Who.
    pub node: NodeId,
    /// Its tunnel key.
    pub tunnel: TunnelPublic,
    /// Where it may be.
    pub addrs: Vec<SocketAddr>,
}

/// Why a text is no usable token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("not a token: it must begin with \"ol1\"")]
    NotAToken,
}

impl Token {
    /// A token for `invite`, which `statements` may not hold yet.
    #[must_use]
    pub fn new(
        _seed: InviteSeed,
        _invite: Statement,
        _statements: &Statements,
        _bootstraps: Vec<Bootstrap>,
    ) -> Self {
        unimplemented!()
    }

    /// Its text.
    #[must_use]
    pub fn encode(&self) -> String {
        unimplemented!()
    }

    /// Reads a text.
    pub fn parse(_text: &str) -> Result<Self, TokenError> {
        unimplemented!()
    }

    /// Into which mesh.
    #[must_use]
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The mesh's name.
    #[must_use]
    pub fn mesh_name(&self) -> String {
        unimplemented!()
    }

    /// The invite.
    #[must_use]
    pub fn invite(&self) -> Invite {
        unimplemented!()
    }

    /// The invite's id.
    #[must_use]
    pub fn invite_id(&self) -> StatementId {
        unimplemented!()
    }

    /// The tunnel key to join with.
    #[must_use]
    pub fn tunnel(&self) -> TunnelKey {
        self.seed.tunnel()
    }

    /// Genesis, then what leads from it to the invite, the invite last.
    #[must_use]
    pub fn chain(&self) -> &[Statement] {
        &self.chain
    }

    /// Whom to ask.
    #[must_use]
    pub fn bootstraps(&self) -> &[Bootstrap] {
        &self.bootstraps
    }
}
