//! Founding a mesh and inviting into it: what the owner's admin key signs.
//!
//! In: the key, the terms, the time. Out: a statement the caller inserts, stores and spreads.
//! Absent: the token's text, which is `token`, and using an invite, which is `join`.

use std::{fmt, time::Duration};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    authority::{NoAuthority, check_admin, sign},
    log::Statements,
    payload::{Genesis, Invite, LogHeader, is_name, kind, log_body},
    record::Statement,
};
use crate::{
    id::{MeshId, NodeId},
    tunnel::keys::{AdminKey, NodeKey, TunnelKey, random_secret},
};

/// Version of the rules by which this code folds statements.
const FOLD_VERSION: u16 = 1;

/// The secret of an invite. Whoever holds it may join.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct InviteSeed([u8; 32]);

/// What an invite allows.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Nothing that the key signs counts.
    #[error(transparent)]
    NoAuthority(#[from] NoAuthority),
    /// No node may have this name.
    #[error("\"{0}\" is not a name: 1 to 63 letters of a-z, 0-9 and - are needed")]
    Name(String),
    /// It would admit nobody.
    #[error("an invite with 0 uses admits nobody")]
    NoUses,
}

impl InviteSeed {
    /// A new seed from the system's randomness.
    pub(super) fn generate() -> Self {
        Self(*random_secret())
    }

    /// The seed with these bytes.
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the token.
    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The tunnel key its holder joins with.
    #[must_use]
    pub fn tunnel(&self) -> TunnelKey {
        TunnelKey::from_bytes(&blake3::derive_key(
            "outlast/1 tunnel key of an invite",
            &self.0,
        ))
    }

    /// The key that signs a Join by it.
    pub(super) fn signer(&self) -> NodeKey {
        NodeKey::from_seed(&self.0)
    }
}

impl fmt::Debug for InviteSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSeed(secret)")
    }
}

/// Founds a mesh: its id and its Genesis. The names must satisfy [`is_name`], or no node will take
/// it.
#[must_use]
pub fn found(
    admin: &AdminKey,
    founder: NodeId,
    founder_name: &str,
    mesh_name: &str,
    recovery: Option<[u8; 32]>,
    now_ms: u64,
) -> (MeshId, Statement) {
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&random_secret()[..16]);
    let genesis = Genesis {
        version: FOLD_VERSION,
        name: mesh_name.to_owned(),
        nonce,
        recovery,
        admin: admin.public(),
        founder,
        founder_name: founder_name.to_owned(),
        created_ms: now_ms,
    };
    let body = log_body(
        LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc: now_ms << 16,
        },
        &genesis,
    );
    // The id of a Genesis is made without a mesh id, and then is the mesh's.
    let nowhere = MeshId([0; 32]);
    let statement = Statement::sign(kind::GENESIS, &nowhere, admin, body);
    (MeshId(statement.id(&nowhere).0), statement)
}

/// Signs an invite; the caller inserts, stores and spreads it.
pub fn issue_invite(
    admin: &AdminKey,
    statements: &Statements,
    terms: InviteTerms,
    now_ms: u64,
) -> Result<(InviteSeed, Statement), InviteError> {
    check_admin(admin, statements)?;
    if let Some(name) = terms.name.as_ref().filter(|name| !is_name(name)) {
        return Err(InviteError::Name(name.clone()));
    }
    if terms.uses == 0 {
        return Err(InviteError::NoUses);
    }
    let seed = InviteSeed::generate();
    let lasts_ms = u64::try_from(terms.lasts.as_millis()).unwrap_or(u64::MAX);
    let invite = Invite {
        public: seed.signer().public(),
        tunnel: seed.tunnel().public(),
        name: terms.name,
        not_before_ms: now_ms,
        not_after_ms: now_ms.saturating_add(lasts_ms),
        uses: terms.uses,
        needs_approval: terms.needs_approval,
    };
    let said = sign(admin, statements, kind::INVITE, &invite, now_ms);
    Ok((seed, said))
}
