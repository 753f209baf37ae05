//! Statements: what somebody signed about the mesh, and what each kind says.
//!
//! In: the bytes of a statement, or a payload and a key. Out: the statement, its id, its checked payload.
//! Invariant: a statement is kept and passed on as it was received; nothing is ever encoded again.
//! Absent: what a set of statements means. That is `fold`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    id::{MeshId, NodeId, StatementId, hash},
    tunnel::keys::{Author, TunnelPublic, verify},
};

/// Bytes of a body at most, so that a whole statement is one small message.
pub const MAX_BODY: usize = 960;
/// Bytes of an encoded statement besides its body: kind, author, length, signature.
pub const OVERHEAD: usize = 1 + 32 + 2 + 64;
/// Kinds from here on are critical: who does not know one admits nobody.
pub const CRITICAL: u8 = 128;
/// Letters of a name at most, those of a DNS label.
pub const MAX_NAME: usize = 63;
/// Endpoints a node may publish: more than any machine has networks worth trying.
pub const MAX_ENDPOINTS: usize = 16;
/// Letters of a software version at most.
pub const MAX_VERSION: usize = 64;

/// The kinds this version knows or has room for.
pub mod kind {
    /// Founds the mesh.
    pub const GENESIS: u8 = 1;
    /// Makes an admin. Kept, passed on, not yet read.
    pub const ADMIN_GRANT: u8 = 2;
    /// Lets a holder of its seed in.
    pub const INVITE: u8 = 3;
    /// A node asks to be let in.
    pub const JOIN: u8 = 4;
    /// A member saw a valid Join.
    pub const WITNESS: u8 = 5;
    /// An admin agrees to a Join. Kept, passed on, not yet read.
    pub const APPROVE: u8 = 6;
    /// Evicts. Kept, passed on, not yet read.
    pub const REVOKE: u8 = 7;
    /// Renames a member. Kept, passed on, not yet read.
    pub const RENAME: u8 = 8;
    /// Sets something for the mesh. Kept, passed on, not yet read.
    pub const POLICY: u8 = 9;
    /// Where a node is and what it speaks.
    pub const NODE_INFO: u8 = 16;
}

/// Something signed. Only [`Statements::insert`](super::Statements::insert) checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// One of [`kind`], or one this version does not know.
    pub kind: u8,
    /// Ed25519 public key of who signed.
    pub author: [u8; 32],
    /// What was said, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
    /// Ed25519 signature of the signed bytes.
    pub signature: [u8; 64],
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
pub enum Payload {
    /// Kind 1.
    Genesis(Genesis),
    /// Kind 3.
    Invite(Invite),
    /// Kind 4.
    Join(Join),
    /// Kind 5.
    Witness(Witness),
    /// Kind 16.
    NodeInfo(NodeInfo),
    /// Any other kind.
    Unknown,
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
    /// The invite's start: the same node, token and name give the same bytes, however often it tries.
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

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too long.
    #[error("statement body of {len} bytes exceeds the limit of {MAX_BODY} bytes")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The bytes end early, go on too long, or say something no statement of this kind says.
    #[error("statement of kind {kind} is malformed: {why}")]
    Malformed {
        /// Its kind.
        kind: u8,
        /// What is wrong.
        why: &'static str,
    },
    /// The signature is not its author's, or it was made for another mesh.
    #[error("statement of kind {kind} does not bear its author's signature for this mesh")]
    Signature {
        /// Its kind.
        kind: u8,
    },
    /// A Genesis of another mesh.
    #[error("genesis of mesh {0:.8} belongs to another mesh")]
    Foreign(MeshId),
    /// The author said too much.
    #[error("statement {seq} of one author exceeds the limit of {limit}")]
    Quota {
        /// Its place in the author's log.
        seq: u32,
        /// The limit.
        limit: u32,
    },
}

impl Statement {
    /// Signs `body` for `mesh`. For a Genesis, pass a mesh id of zeros.
    pub(crate) fn sign(kind: u8, mesh: &MeshId, author: &impl Author, body: Vec<u8>) -> Self {
        let mut statement = Self {
            kind,
            author: author.public(),
            body,
            signature: [0; 64],
        };
        statement.signature = author.sign(&statement.signed_bytes(mesh));
        statement
    }

    /// Its id within `mesh`.
    #[must_use]
    pub fn id(&self, mesh: &MeshId) -> StatementId {
        StatementId(hash(&[&self.signed_bytes(mesh)]))
    }

    /// Whether its author signed it for `mesh`.
    #[must_use]
    pub fn is_signed(&self, mesh: &MeshId) -> bool {
        verify(&self.author, &self.signed_bytes(mesh), &self.signature)
    }

    /// Appends its encoding: kind, author, length of the body (big-endian), body, signature.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind);
        out.extend_from_slice(&self.author);
        out.extend_from_slice(&(self.body.len() as u16).to_be_bytes());
        out.extend_from_slice(&self.body);
        out.extend_from_slice(&self.signature);
    }

    /// Bytes that [`encode`](Self::encode) appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        OVERHEAD + self.body.len()
    }

    /// Takes one statement off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, Refusal> {
        let mut rest = *bytes;
        let kind = take::<1>(&mut rest, 0)?[0];
        let author = take(&mut rest, kind)?;
        let len = usize::from(u16::from_be_bytes(take(&mut rest, kind)?));
        if len > MAX_BODY {
            return Err(Refusal::TooLong { len });
        }
        let (body, mut rest) = rest.split_at_checked(len).ok_or(cut_short(kind))?;
        let signature = take(&mut rest, kind)?;
        *bytes = rest;
        Ok(Self {
            kind,
            author,
            body: body.to_vec(),
            signature,
        })
    }

    fn signed_bytes(&self, mesh: &MeshId) -> Vec<u8> {
        let mesh = if self.kind == kind::GENESIS {
            &[0; 32]
        } else {
            &mesh.0
        };
        let mut bytes = Vec::with_capacity(80 + self.body.len());
        bytes.extend_from_slice(b"outlast/1\0");
        bytes.push(self.kind);
        bytes.extend_from_slice(mesh);
        bytes.extend_from_slice(&self.author);
        bytes.extend_from_slice(&(self.body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn take<const N: usize>(bytes: &mut &[u8], kind: u8) -> Result<[u8; N], Refusal> {
    let (head, rest) = bytes.split_first_chunk().ok_or(cut_short(kind))?;
    *bytes = rest;
    Ok(*head)
}

const fn cut_short(kind: u8) -> Refusal {
    Refusal::Malformed {
        kind,
        why: "it ends early",
    }
}

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

/// Whether `text` may name a node or a mesh: 1 to 63 letters of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(letter)
}
