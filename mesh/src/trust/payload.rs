//! What the statements of each kind say.
//!
//! In: a statement. Out: its place among its author's statements and its checked payload.
//! Invariant: every text and list inside a payload that `read` returns is within its bound, so that
//! a state folded from payloads needs no checks of its own.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

mod standing;

pub use standing::{
    AdminGrant, Approve, Cut, Leave, MAX_REASON, Manner, Rename, Revoke, Target, is_reason,
};

use super::record::{Refusal, Statement};
use crate::{
    id::{MeshId, NodeId, StatementId},
    tunnel::keys::{NodeKey, TunnelPublic},
};

/// Kinds from here on are critical: who does not know one admits nobody.
pub const CRITICAL: u8 = 128;
/// Letters of a name at most, those of a DNS label.
pub const MAX_NAME: usize = 63;
/// Endpoints a node may publish: more than any machine has networks worth trying.
pub const MAX_ENDPOINTS: usize = 16;
/// Bytes of a setting's key and of its value at most.
pub const MAX_VALUE: usize = 128;
/// Letters of a software version at most.
pub const MAX_VERSION: usize = 64;

/// The kinds this version knows or has room for.
pub mod kind {
    /// Founds the mesh.
    pub const GENESIS: u8 = 1;
    /// Makes an admin.
    pub const ADMIN_GRANT: u8 = 2;
    /// Lets a holder of its seed in.
    pub const INVITE: u8 = 3;
    /// A node asks to be let in.
    pub const JOIN: u8 = 4;
    /// A member saw a valid Join.
    pub const WITNESS: u8 = 5;
    /// An admin agrees to a Join.
    pub const APPROVE: u8 = 6;
    /// Takes back what made a member, an invite or an admin.
    pub const REVOKE: u8 = 7;
    /// Renames a member.
    pub const RENAME: u8 = 8;
    /// Sets something for the mesh or one member.
    pub const POLICY: u8 = 9;
    /// Gives a dead member's place to whoever comes in by an invite.
    pub const REPLACE: u8 = 10;
    /// A member leaves.
    pub const LEAVE: u8 = 11;
    /// Where a node is and what it speaks.
    pub const NODE_INFO: u8 = 16;
}

/// Where a statement stands in its author's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHeader {
    /// Counts from 1. A Join has 0: it comes before its author has a log, and may be made again.
    pub seq: u32,
    /// Id of the statement before, zeros for the first.
    pub prev: [u8; 32],
    /// Hybrid logical clock: milliseconds since the Unix epoch, shifted left by 16, plus a counter.
    pub hlc: u64,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Payload {
    /// Kind 1.
    Genesis(Genesis),
    /// Kind 2.
    AdminGrant(AdminGrant),
    /// Kind 3.
    Invite(Invite),
    /// Kind 4.
    Join(Join),
    /// Kind 5.
    Witness(Witness),
    /// Kind 6.
    Approve(Approve),
    /// Kind 7.
    Revoke(Revoke),
    /// Kind 8.
    Rename(Rename),
    /// Kind 9.
    Policy(Policy),
    /// Kind 10.
    Replace(Replace),
    /// Kind 11.
    Leave(Leave),
    /// Kind 16.
    NodeInfo(NodeInfo),
    /// Any other kind.
    Unknown,
}

impl Payload {
    /// Whether it wishes something that a later word may wish otherwise. All else admits, removes or gives a right, and
    /// stands whatever its author says beside it.
    pub(super) const fn is_wish(&self) -> bool {
        matches!(self, Self::Rename(_) | Self::Policy(_) | Self::Replace(_))
    }
}

/// Founds a mesh, whose id is the id of this statement. Signed by the first admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Version of the rules by which statements are folded.
    pub version: u16,
    /// The mesh's name.
    pub name: String,
    /// Makes the mesh's id unlike any other.
    pub nonce: [u8; 16],
    /// Public key of the recovery words; `None` when there are none.
    pub recovery: Option<[u8; 32]>,
    /// Public key of the first admin.
    pub admin: [u8; 32],
    /// The first member.
    pub founder: NodeId,
    /// The first member's name.
    pub founder_name: String,
    /// When, by the founder's clock.
    pub created_ms: u64,
}

/// Lets in who holds the seed of its keys. Signed by an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Ed25519 public key of the seed; signs the Join.
    pub public: [u8; 32],
    /// X25519 public key of the seed; the joiner's first tunnel uses it.
    pub tunnel: TunnelPublic,
    /// The only name it admits; `None` admits any.
    pub name: Option<String>,
    /// Valid from.
    pub not_before_ms: u64,
    /// Valid until.
    pub not_after_ms: u64,
    /// How many nodes it admits.
    pub uses: u16,
    /// An admin must agree to each node as well.
    pub needs_approval: bool,
}

/// Asks to be let in. Signed by the joining node, and inside by the invite's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// By which invite.
    pub invite: StatementId,
    /// The name the node would like.
    pub name: String,
    /// The invite's start: the same node, token and name give the same bytes, however often it
    /// tries.
    pub created_ms: u64,
    /// The invite's key's signature over mesh, invite, node and name.
    #[serde(with = "signature_bytes")]
    pub invite_signature: [u8; 64],
}

/// A member saw a Join and found it valid. Its place in the member's log gives time and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Which Join.
    pub join: StatementId,
}

/// Sets something. Signed by an admin; the latest on a key counts. What a version can't read of it is kept and passed on
/// like a kind it doesn't know, so that versions agree on what is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For which member; `None` for all.
    pub node: Option<NodeId>,
    /// What, at most [`MAX_VALUE`] bytes of `a-z` and `-`.
    pub key: String,
    /// To what, at most [`MAX_VALUE`] bytes; `None` takes it back.
    pub value: Option<String>,
}

/// Gives the place of a member whose machine is gone to the first node that comes in by an invite: its name, its history,
/// its retirement. Signed by an admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replace {
    /// By which invite.
    pub invite: StatementId,
    /// Whose place.
    pub node: NodeId,
}

/// How a node is reached and what it speaks. The highest `(incarnation, seq)` replaces all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Counts the node's starts.
    pub incarnation: u32,
    /// Counts within a start.
    pub seq: u32,
    /// Its tunnel key.
    pub tunnel: TunnelPublic,
    /// The key before, still accepted for who slept through the change.
    pub tunnel_previous: Option<TunnelPublic>,
    /// Where it can be reached, at most [`MAX_ENDPOINTS`].
    pub endpoints: Vec<Endpoint>,
    /// Its software, at most [`MAX_VERSION`] letters.
    pub version: String,
    /// Lowest frame version it speaks.
    pub wire_min: u8,
    /// Highest frame version it speaks.
    pub wire_max: u8,
    /// Format of its store.
    pub store_format: u32,
}

/// One address at which a node may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// How it is known.
    pub kind: EndpointKind,
    /// Where.
    pub addr: SocketAddr,
}

/// How a node came to know an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndpointKind {
    /// The owner said so.
    Advertised,
    /// One of its interfaces has it.
    Local,
    /// Peers saw its datagrams come from there.
    Observed,
}

/// Where a statement stands among those of its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the log, after the one before it.
    Log(LogHeader),
    /// Alone of its kind: the highest replaces the others.
    Note {
        /// Counts the author's starts.
        incarnation: u32,
        /// Counts within a start.
        seq: u32,
    },
}

/// Whether statements of `kind` form a log. The same for kinds this version does not know, so that
/// it can keep and pass them on rightly: the first 16 of each half do, the others replace each
/// other.
pub(super) const fn is_logged(kind: u8) -> bool {
    kind % CRITICAL < kind::NODE_INFO
}

/// The place and the meaning of `statement`.
pub(super) fn read(statement: &Statement) -> Result<(Place, Payload), Refusal> {
    let malformed = |why| Refusal::Malformed {
        kind: statement.kind,
        why,
    };
    if !is_logged(statement.kind) {
        return read_note(statement);
    }
    let (header, rest): (LogHeader, _) = postcard::take_from_bytes(&statement.body)
        .map_err(|_postcard| malformed("it has no log header"))?;
    let payload = match statement.kind {
        kind::GENESIS => Payload::Genesis(whole(statement.kind, rest)?),
        kind::INVITE => Payload::Invite(whole(statement.kind, rest)?),
        kind::JOIN => Payload::Join(whole(statement.kind, rest)?),
        kind::WITNESS => Payload::Witness(whole(statement.kind, rest)?),
        kind => read_later(kind, rest).unwrap_or(Payload::Unknown),
    };
    if (header.seq == 0) != (statement.kind == kind::JOIN) {
        return Err(malformed("its place in the log is not one of its kind"));
    }
    if header.seq <= 1 && header.prev != [0; 32] {
        return Err(malformed("it is a first statement and names one before it"));
    }
    check(statement, &header, &payload).map_err(malformed)?;
    Ok((Place::Log(header), payload))
}

/// What versions learnt to read after the first: what they can't read is kept like a kind they don't know.
fn read_later(kind: u8, bytes: &[u8]) -> Option<Payload> {
    fn bounded<T: DeserializeOwned>(kind: u8, bytes: &[u8], holds: fn(&T) -> bool) -> Option<T> {
        whole(kind, bytes).ok().filter(holds)
    }
    Some(match kind {
        kind::ADMIN_GRANT => Payload::AdminGrant(bounded(kind, bytes, AdminGrant::is_bounded)?),
        kind::APPROVE => Payload::Approve(whole(kind, bytes).ok()?),
        kind::REVOKE => Payload::Revoke(bounded(kind, bytes, Revoke::is_bounded)?),
        kind::RENAME => Payload::Rename(bounded(kind, bytes, Rename::is_bounded)?),
        kind::POLICY => Payload::Policy(bounded(kind, bytes, Policy::is_bounded)?),
        kind::REPLACE => Payload::Replace(whole(kind, bytes).ok()?),
        kind::LEAVE => Payload::Leave(bounded(kind, bytes, Leave::is_bounded)?),
        _ => return None,
    })
}

fn read_note(statement: &Statement) -> Result<(Place, Payload), Refusal> {
    let malformed = |why| Refusal::Malformed {
        kind: statement.kind,
        why,
    };
    if statement.kind == kind::NODE_INFO {
        let info: NodeInfo = whole(statement.kind, &statement.body)?;
        if info.endpoints.len() > MAX_ENDPOINTS || !is_version(&info.version) {
            return Err(malformed("its endpoints or its version exceed their limit"));
        }
        let place = Place::Note {
            incarnation: info.incarnation,
            seq: info.seq,
        };
        return Ok((place, Payload::NodeInfo(info)));
    }
    let ((incarnation, seq), _rest) = postcard::take_from_bytes(&statement.body)
        .map_err(|_postcard| malformed("it has no incarnation and sequence"))?;
    Ok((Place::Note { incarnation, seq }, Payload::Unknown))
}

/// Decodes all of `bytes`: whatever is left over was not said by a statement of this kind.
fn whole<T: DeserializeOwned>(kind: u8, bytes: &[u8]) -> Result<T, Refusal> {
    match postcard::take_from_bytes(bytes) {
        Ok((payload, [])) => Ok(payload),
        Ok(_) => Err(Refusal::Malformed {
            kind,
            why: "it goes on too long",
        }),
        Err(_postcard) => Err(Refusal::Malformed {
            kind,
            why: "it does not say what its kind says",
        }),
    }
}

fn check(statement: &Statement, header: &LogHeader, payload: &Payload) -> Result<(), &'static str> {
    match payload {
        Payload::Genesis(genesis) => {
            if genesis.admin != statement.author || header.seq != 1 {
                return Err("it is not its admin's first statement");
            }
            if !is_name(&genesis.name) || !is_name(&genesis.founder_name) {
                return Err("a name is not 1 to 63 letters of a-z, 0-9 and -");
            }
        }
        Payload::Invite(invite) if invite.name.as_deref().is_some_and(|name| !is_name(name)) => {
            return Err("its name is not 1 to 63 letters of a-z, 0-9 and -");
        }
        Payload::Join(join) if !is_name(&join.name) => {
            return Err("its name is not 1 to 63 letters of a-z, 0-9 and -");
        }
        _ => {}
    }
    Ok(())
}

fn is_version(text: &str) -> bool {
    text.len() <= MAX_VERSION && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The body of a log statement.
pub(super) fn log_body(header: LogHeader, payload: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(&(header, payload)).expect("writing plain data to memory cannot fail")
}

impl NodeInfo {
    /// Signs it; the caller inserts and spreads it.
    #[must_use]
    pub fn sign(&self, node: &NodeKey, mesh: &MeshId) -> Statement {
        let body = postcard::to_stdvec(self).expect("writing plain data to memory cannot fail");
        Statement::sign(kind::NODE_INFO, mesh, node, body)
    }
}

impl Policy {
    fn is_bounded(&self) -> bool {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        let value = self.value.as_deref().unwrap_or_default();
        (1..=MAX_VALUE).contains(&self.key.len())
            && self.key.bytes().all(letter)
            && value.len() <= MAX_VALUE
            && !value.chars().any(char::is_control)
    }
}

impl Join {
    /// What the invite's key signs.
    pub(super) fn invite_bytes(
        mesh: &MeshId,
        invite: &StatementId,
        node: &[u8; 32],
        name: &str,
    ) -> Vec<u8> {
        [
            b"outlast/join/1\0",
            &mesh.0[..],
            &invite.0,
            node,
            name.as_bytes(),
        ]
        .concat()
    }
}

/// Whether `text` may name a node or a mesh: 1 to 63 letters of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(letter)
}

/// A signature as two halves: serde knows arrays up to 32.
mod signature_bytes {
    use serde::{Deserializer, Serializer, de};

    use super::{Deserialize, Serialize};

    pub(super) fn serialize<S: Serializer>(
        signature: &[u8; 64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let halves: (&[u8; 32], &[u8; 32]) = (
            signature[..32].try_into().expect("half of 64 is 32"),
            signature[32..].try_into().expect("half of 64 is 32"),
        );
        halves.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 64], D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        [low, high]
            .concat()
            .try_into()
            .map_err(|_length| de::Error::custom("not 64 bytes"))
    }
}

#[cfg(test)]
mod tests;
