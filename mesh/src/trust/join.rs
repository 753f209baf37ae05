//! Joining: what the joiner signs, and what a member checks before it vouches.

use super::{log::Statements, record::Statement, token::Token};
use crate::{id::NodeId, tunnel::keys::NodeKey};

/// Why a node is not admitted, in the words its owner reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum JoinRefusal {
    /// As often as allowed.
    #[error("the token was already used by {name} ({by:.8}), at {at_ms}")]
    Used {
        /// Who used it last.
        by: NodeId,
        /// That node's name.
        name: String,
        /// When.
        at_ms: u64,
    },
}

/// Signs a Join: the same key, token and name always give the same statement.
pub fn author_join(_node: &NodeKey, _token: &Token, _name: &str) -> Result<Statement, JoinRefusal> {
    unimplemented!()
}

/// Checks a Join as a member and vouches for it; the caller inserts both and spreads them.
/// A node that is a member already gives `Ok(None)`: there is nothing to vouch for.
pub fn witness(
    _node: &NodeKey,
    _statements: &Statements,
    _join: &Statement,
    _now_ms: u64,
) -> Result<Option<Statement>, JoinRefusal> {
    unimplemented!()
}
