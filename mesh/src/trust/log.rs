//! The set of statements a node holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    fold::State,
    record::{Refusal, Statement},
};
use crate::id::MeshId;

/// What one holder has of one author, in 60 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorHead {
    /// Whose statements.
    pub author: [u8; 32],
    /// How far the log goes without a gap, 0 for an empty one.
    pub seq: u32,
    /// Digest of the log up to `seq`, and of the author's witnessed Joins.
    pub log: [u8; 16],
    /// Digest of the statements that replace each other, such as NodeInfo.
    pub notes: [u8; 8],
}

impl AuthorHead {
    /// The head of an author of whom nothing is held.
    #[must_use]
    pub const fn none(author: [u8; 32]) -> Self {
        Self {
            author,
            seq: 0,
            log: [0; 16],
            notes: [0; 8],
        }
    }
}

/// All statements held about one mesh.
#[derive(Debug, Clone)]
pub struct Statements {
    mesh: MeshId,
}

impl Statements {
    /// An empty set for `mesh`.
    #[must_use]
    pub fn new(mesh: MeshId) -> Self {
        Self { mesh }
    }

    /// Which mesh it is about.
    #[must_use]
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Takes one statement in; `false` when that changes nothing.
    pub fn insert(&mut self, _statement: Statement) -> Result<bool, Refusal> {
        unimplemented!()
    }

    /// What the set means.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        unimplemented!()
    }

    /// Where `author`'s next log statement goes: its seq, and the id before it.
    #[must_use]
    pub fn head(&self, _author: &[u8; 32]) -> (u32, [u8; 32]) {
        unimplemented!()
    }

    /// One digest of all that counts: equal roots are equal sets and equal states.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        unimplemented!()
    }

    /// What is held of each author, ordered by author.
    #[must_use]
    pub fn summary(&self) -> Vec<AuthorHead> {
        unimplemented!()
    }

    /// What a holder with this head of an author lacks of what is held here.
    #[must_use]
    pub fn beyond(&self, _theirs: &AuthorHead) -> Vec<Statement> {
        unimplemented!()
    }

    /// All that counts, each after what it rests on.
    pub fn iter(&self) -> impl Iterator<Item = &Statement> {
        std::iter::empty()
    }
}
