//! Whether a key may sign as an admin, and the signing itself.
//!
//! In: the key and what is held. Out: its rank, or a sentence that says why nothing it signs would count, or why signing
//! here would put the key in two places.
//! Absent: what is signed, which `invite`, `policy` and `issue` decide.

use serde::Serialize;

use super::{
    log::Statements,
    moment::Moment,
    payload::{Payload, log_body},
    record::Statement,
};
use crate::{id::MeshId, tunnel::keys::AdminKey};

/// Why nothing that an admin key signs counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAuthority {
    /// The key is none of the mesh's admins.
    #[error(
        "this admin key does not administer mesh {0:.8}; use the one that founded it, or one it made an admin"
    )]
    NotAdmin(MeshId),
    /// It was, until somebody took it back.
    #[error("this admin key was revoked by {by} at {}: nothing it signs counts any more", Moment(*at_ms))]
    Revoked {
        /// What that admin is called.
        by: String,
        /// When.
        at_ms: u64,
    },
    /// The key was copied.
    #[error(
        "this admin key signed two different statements as its number {seq}: it is in use in two places; revoke it, by a \
         key above it or with the recovery words"
    )]
    Frozen {
        /// The first place with two statements.
        seq: u32,
    },
    /// It signed more than is held here: with another statement at one place it would be in two places.
    #[error(
        "this admin key signed its number {seq} elsewhere and only {held} are known here: let this node meet one that \
         knows the rest, then say it again"
    )]
    Behind {
        /// The number of what it signed last.
        seq: u32,
        /// How far its log goes here.
        held: u32,
    },
    /// It signed something else under a number than is held here.
    #[error(
        "this admin key signed another number {seq} elsewhere than is known here: it is in use in two places; revoke it, \
         by a key above it or with the recovery words"
    )]
    Parted {
        /// The number.
        seq: u32,
    },
}

/// The rank of an admin whose next word counts.
pub(super) fn check_admin(admin: &AdminKey, statements: &Statements) -> Result<u8, NoAuthority> {
    let state = statements.state();
    let key = admin.public();
    let Some(known) = state.admins.get(&key) else {
        return Err(NoAuthority::NotAdmin(statements.mesh()));
    };
    if let Some(revoked) = &known.revoked {
        return Err(NoAuthority::Revoked {
            by: revoked.by_label.clone(),
            at_ms: revoked.at_ms,
        });
    }
    match state.frozen.get(&key) {
        Some(frozen) => Err(NoAuthority::Frozen { seq: frozen.seq }),
        None => Ok(known.rank),
    }
}

/// Signs what an admin wishes next: later than the last wish on the same that is held, whatever time that claims.
pub(super) fn sign_wish(
    admin: &AdminKey,
    statements: &Statements,
    kind: u8,
    wish: &Payload,
    payload: &impl Serialize,
    now_ms: u64,
) -> Statement {
    let mut header = statements.next_header(&admin.public(), now_ms);
    header.hlc = header.hlc.max(statements.wished(wish).saturating_add(1));
    Statement::sign(kind, &statements.mesh(), admin, log_body(header, payload))
}

/// Signs what an admin says next.
pub(super) fn sign(
    admin: &AdminKey,
    statements: &Statements,
    kind: u8,
    payload: &impl Serialize,
    now_ms: u64,
) -> Statement {
    let header = statements.next_header(&admin.public(), now_ms);
    Statement::sign(kind, &statements.mesh(), admin, log_body(header, payload))
}
