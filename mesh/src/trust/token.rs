//! The token: all that a new node needs to find a mesh, believe it, and be let in, as one line of
//! text.
//!
//! The text is `ol1` and base32 of: length of the payload (u16, big-endian), payload, 8 bytes of
//! its BLAKE3. The payload is the invite's seed and the nodes to ask, then the statements from
//! Genesis to the Invite. In and out: text.
//! Invariant: a token that `parse` returns leads from its Genesis to its invite, and its seed is
//! the invite's.
//! Absent: whether it is still good, which only a member can say.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    invite::InviteSeed,
    log::Statements,
    payload::{Genesis, Invite, Payload, read},
    record::Statement,
};
use crate::{
    id::{MeshId, NodeId, StatementId, base32, hash},
    tunnel::keys::{TunnelKey, TunnelPublic},
};

/// Nodes a token names at most.
pub const MAX_BOOTSTRAPS: usize = 3;
/// Addresses of one such node at most.
pub const MAX_ADDRS: usize = 8;
/// Bytes of a payload at most: three nodes and a chain with the grants of [`MAX_GRANTS`] fit.
const MAX_PAYLOAD: usize = 8_192;
/// Grants of a chain at most: with them a payload stays within its bound.
const MAX_GRANTS: usize = 16;
const PREFIX: &str = "ol1";
const CHECKSUM: usize = 8;
/// Letters that hold the length: 5 bytes, the first whole group of base32.
const LENGTH_LETTERS: usize = 8;

/// All that a new node needs. Whoever holds it may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    mesh: MeshId,
    genesis: Genesis,
    invite: Invite,
    invite_id: StatementId,
    seed: InviteSeed,
    chain: Vec<Statement>,
    bootstraps: Vec<Bootstrap>,
}

/// A node that a joiner may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Who.
    pub node: NodeId,
    /// Its tunnel key.
    pub tunnel: TunnelPublic,
    /// Where it may be, at most [`MAX_ADDRS`].
    pub addrs: Vec<SocketAddr>,
}

/// Why a text is no usable token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else altogether.
    #[error("not a token: it must begin with \"{PREFIX}\"")]
    NotAToken,
    /// From another version of the program.
    #[error("the token begins with \"ol{0}\", this version reads \"{PREFIX}\"; upgrade to join")]
    Version(char),
    /// Its end is missing.
    #[error("the token is truncated: {have} of its {want} letters are there; copy it whole")]
    Truncated {
        /// Letters there.
        have: usize,
        /// Letters it says it has.
        want: usize,
    },
    /// Some of it is not as it was made.
    #[error("the token was altered: its checksum does not fit; copy it again")]
    Altered,
    /// Whole, but no admin of the mesh it names stands behind it.
    #[error("the token is not signed by an admin of the mesh it names")]
    Unsigned,
    /// Its inviter is too far from the Genesis for one text.
    #[error(
        "{0} grants lead to the admin who invites, a token holds {MAX_GRANTS}; let a senior admin invite"
    )]
    TooDeep(usize),
}

impl Token {
    /// The token of `invite`, as [`issue_invite`](super::issue_invite) gave both. Of the nodes to
    /// ask the first [`MAX_BOOTSTRAPS`] are named, of each the first [`MAX_ADDRS`] addresses.
    pub fn new(
        seed: InviteSeed,
        invite: Statement,
        statements: &Statements,
        mut bootstraps: Vec<Bootstrap>,
    ) -> Result<Self, TokenError> {
        bootstraps.truncate(MAX_BOOTSTRAPS);
        bootstraps
            .iter_mut()
            .for_each(|bootstrap| bootstrap.addrs.truncate(MAX_ADDRS));
        let mut chain = statements.chain_of(&invite.author);
        chain.push(invite);
        Self::checked(seed, chain, bootstraps)
    }

    /// Its text.
    #[must_use]
    pub fn encode(&self) -> String {
        let known = (self.seed.as_bytes(), &self.bootstraps);
        let mut payload =
            postcard::to_stdvec(&known).expect("writing plain data to memory cannot fail");
        self.chain
            .iter()
            .for_each(|statement| statement.encode(&mut payload));
        sealed(&payload)
    }

    /// Reads a text. White space anywhere in it is ignored: mail and terminals break long lines.
    /// Capitals stand for small letters: a QR code of capitals is a third smaller.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut text: String = text.split_ascii_whitespace().collect();
        text.make_ascii_lowercase();
        let payload = open(&text)?;
        // The checksum fits from here on: what does not decode was never a token.
        let ((seed, bootstraps), mut rest): (([u8; 32], Vec<Bootstrap>), _) =
            postcard::take_from_bytes(&payload).map_err(|_postcard| TokenError::Altered)?;
        let mut chain = Vec::new();
        while !rest.is_empty() {
            chain.push(Statement::decode(&mut rest).map_err(|_refusal| TokenError::Altered)?);
        }
        if bootstraps.len() > MAX_BOOTSTRAPS
            || bootstraps.iter().any(|node| node.addrs.len() > MAX_ADDRS)
        {
            return Err(TokenError::Altered);
        }
        Self::checked(InviteSeed::from_bytes(seed), chain, bootstraps)
    }

    /// Into which mesh.
    #[must_use]
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The mesh's name.
    #[must_use]
    pub fn mesh_name(&self) -> &str {
        &self.genesis.name
    }

    /// The invite.
    #[must_use]
    pub const fn invite(&self) -> &Invite {
        &self.invite
    }

    /// The invite's id.
    #[must_use]
    pub const fn invite_id(&self) -> StatementId {
        self.invite_id
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

    pub(super) const fn seed(&self) -> &InviteSeed {
        &self.seed
    }

    /// A token of these statements that names nobody to ask.
    #[cfg(test)]
    pub(super) fn of_chain(seed: InviteSeed, chain: Vec<Statement>) -> Result<Self, TokenError> {
        Self::checked(seed, chain, Vec::new())
    }

    fn checked(
        seed: InviteSeed,
        chain: Vec<Statement>,
        bootstraps: Vec<Bootstrap>,
    ) -> Result<Self, TokenError> {
        let [first, granted @ .., last] = chain.as_slice() else {
            return Err(TokenError::Unsigned);
        };
        if granted.len() > MAX_GRANTS {
            return Err(TokenError::TooDeep(granted.len()));
        }
        let mesh = MeshId(first.id(&MeshId([0; 32])).0);
        let signed = chain.iter().all(|statement| statement.is_signed(&mesh));
        let (Ok((_, Payload::Genesis(genesis))), Ok((_, Payload::Invite(invite)))) =
            (read(first), read(last))
        else {
            return Err(TokenError::Unsigned);
        };
        let ours =
            invite.public == seed.signer().public() && invite.tunnel == seed.tunnel().public();
        if !signed || !ours || !leads(&genesis, granted, last.author) {
            return Err(TokenError::Unsigned);
        }
        let invite_id = last.id(&mesh);
        Ok(Self {
            mesh,
            genesis,
            invite,
            invite_id,
            seed,
            chain,
            bootstraps,
        })
    }
}

/// Whether each grant was signed by who was made an admin before it, from the Genesis' admins to `author`. That none was
/// revoked since, the members say.
fn leads(genesis: &Genesis, granted: &[Statement], author: [u8; 32]) -> bool {
    let mut admins = vec![(genesis.admin, 1)];
    admins.extend(genesis.recovery.map(|key| (key, 0)));
    for statement in granted {
        let Ok((_, Payload::AdminGrant(grant))) = read(statement) else {
            return false;
        };
        let by = admins.iter().find(|(key, _)| *key == statement.author);
        if by.is_none_or(|(_, rank)| grant.rank <= *rank) {
            return false;
        }
        admins = vec![(grant.admin, grant.rank)];
    }
    admins.iter().any(|(key, _)| *key == author)
}

/// The text around a payload.
pub(super) fn sealed(payload: &[u8]) -> String {
    let len = (payload.len() as u16).to_be_bytes();
    let bytes = [&len[..], payload, &checksum(payload)].concat();
    format!("{PREFIX}{}", base32().encode(&bytes))
}

/// The payload of a token's text, when the text is whole.
fn open(text: &str) -> Result<Vec<u8>, TokenError> {
    let Some(letters) = text.strip_prefix(PREFIX) else {
        let version = text.strip_prefix("ol").and_then(|rest| rest.chars().next());
        return Err(version
            .filter(char::is_ascii_digit)
            .map_or(TokenError::NotAToken, TokenError::Version));
    };
    let letters = letters.as_bytes();
    let start = letters.get(..LENGTH_LETTERS);
    let start = start.ok_or(TokenError::Truncated {
        have: text.len(),
        want: PREFIX.len() + LENGTH_LETTERS,
    })?;
    let start = base32()
        .decode(start)
        .map_err(|_letter| TokenError::Altered)?;
    let len = usize::from(u16::from_be_bytes([start[0], start[1]]));
    let want = ((2 + len + CHECKSUM) * 8).div_ceil(5);
    if len > MAX_PAYLOAD || letters.len() > want {
        return Err(TokenError::Altered);
    }
    if letters.len() < want {
        return Err(TokenError::Truncated {
            have: text.len(),
            want: PREFIX.len() + want,
        });
    }
    let bytes = base32()
        .decode(letters)
        .map_err(|_letter| TokenError::Altered)?;
    let (payload, sum) = bytes[2..].split_at(len);
    if *sum != checksum(payload) {
        return Err(TokenError::Altered);
    }
    Ok(payload.to_vec())
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM] {
    let digest = hash(&[b"outlast/1 token", payload]);
    *digest.first_chunk().expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests;
