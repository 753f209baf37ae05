//! Statements: that somebody signed something about the mesh.
//!
//! In: bytes from elsewhere, or a body and a key. Out: the statement, its id, whether its author
//! signed it.
//! Invariant: the signed bytes are kept and passed on as they were received; no body is ever
//! encoded again.
//! Absent: what a body says, which is `payload`, and what a set of statements means, which is
//! `fold`.

use super::payload::kind;
use crate::{
    id::{MeshId, StatementId, hash},
    tunnel::keys::{Author, verify},
};

/// Bytes of a body at most, so that a whole statement is one small message.
pub const MAX_BODY: usize = 960;
/// Bytes of an encoded statement besides its body: kind, author, length, signature.
pub const OVERHEAD: usize = 1 + 32 + 2 + 64;

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
        let (body, mut rest) = rest.split_at_checked(len).ok_or_else(|| cut_short(kind))?;
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
    let (head, rest) = bytes.split_first_chunk().ok_or_else(|| cut_short(kind))?;
    *bytes = rest;
    Ok(*head)
}

const fn cut_short(kind: u8) -> Refusal {
    Refusal::Malformed {
        kind,
        why: "it ends early",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tunnel::keys::NodeKey;

    const MESH: MeshId = MeshId([7; 32]);

    fn signed(kind: u8, body: Vec<u8>) -> Statement {
        Statement::sign(kind, &MESH, &NodeKey::from_seed(&[1; 32]), body)
    }

    #[test]
    fn the_signed_bytes_are_the_documented_ones() {
        let statement = signed(kind::WITNESS, vec![1, 2, 3]);
        let mut expected = b"outlast/1\0\x05".to_vec();
        expected.extend([7; 32]);
        expected.extend(statement.author);
        expected.extend([0, 3, 1, 2, 3]);
        assert_eq!(
            statement.id(&MESH),
            StatementId(blake3::hash(&expected).into())
        );
        assert!(verify(&statement.author, &expected, &statement.signature));
    }

    #[test]
    fn the_id_does_not_depend_on_the_signature() {
        let statement = signed(kind::WITNESS, vec![1]);
        let other = Statement {
            signature: [0; 64],
            ..statement.clone()
        };
        assert_eq!(statement.id(&MESH), other.id(&MESH));
        assert!(!other.is_signed(&MESH));
    }

    #[test]
    fn a_statement_counts_in_its_own_mesh_only() {
        let statement = signed(kind::WITNESS, vec![1]);
        assert!(statement.is_signed(&MESH));
        assert!(!statement.is_signed(&MeshId([8; 32])));
    }

    #[test]
    fn a_body_over_the_limit_is_refused_unread() {
        let mut bytes = Vec::new();
        signed(kind::POLICY, vec![0; MAX_BODY + 1]).encode(&mut bytes);
        let refusal = Statement::decode(&mut bytes.as_slice());
        assert_eq!(refusal, Err(Refusal::TooLong { len: MAX_BODY + 1 }));
    }

    proptest! {
        #[test]
        fn statements_survive_the_wire(
            kind: u8,
            body in prop::collection::vec(any::<u8>(), 0..=MAX_BODY),
            tail in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let statement = signed(kind, body);
            let mut bytes = Vec::new();
            statement.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), statement.encoded_len());
            bytes.extend(&tail);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(Statement::decode(&mut rest), Ok(statement));
            prop_assert_eq!(rest, tail);
        }

        #[test]
        fn a_statement_cut_anywhere_is_refused(body in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = Vec::new();
            signed(kind::POLICY, body).encode(&mut bytes);
            for len in 0..bytes.len() {
                prop_assert!(Statement::decode(&mut &bytes[..len]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..1_200)) {
            let mut rest = bytes.as_slice();
            if let Ok(statement) = Statement::decode(&mut rest) {
                prop_assert_eq!(statement.encoded_len(), bytes.len() - rest.len());
            }
        }
    }
}
