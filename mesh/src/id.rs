//! Who is who: the ids of meshes, nodes and statements, and the overlay address that follows from
//! them.
//!
//! A node's id is its Ed25519 public key, a statement's the BLAKE3 of what was signed, a mesh's the
//! id of its Genesis. Each has a text form of 52 base32 letters; any unique prefix of it names the
//! thing to a person.
//! Absent: names. They are labels that `trust::fold` hands out.

use std::{cmp::Ordering, fmt, net::Ipv6Addr, str::FromStr};

use data_encoding::Encoding;
use serde::{Deserialize, Serialize};

/// Letters of the short form of an id: 40 bits, enough to tell the nodes of one mesh apart at a
/// glance.
pub const SHORT_LETTERS: usize = 8;

/// A node: its Ed25519 public key. Displayed as the base32 of the key's BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 32]);

/// A mesh: the id of its Genesis statement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeshId(pub [u8; 32]);

/// A statement: BLAKE3 of its signed bytes, which never include the signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StatementId(pub [u8; 32]);

/// As the bytes are. Nearly all ids differ in the first eight, which are compared without a call: maps by id are gone through
/// for each message.
impl Ord for NodeId {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let begins = |id: &Self| id.0.first_chunk().copied().map(u64::from_be_bytes);
        let first = begins(self).cmp(&begins(other));
        first.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for NodeId {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl NodeId {
    /// The first [`SHORT_LETTERS`] letters of the text form.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT_LETTERS);
        text
    }
}

/// The address of `node` inside `mesh`: `fd`, 40 bits of the mesh, 80 bits of the node.
///
/// Nobody allocates it, nobody else can claim it, and it survives a change of tunnel key.
#[must_use]
pub fn overlay_address(mesh: &MeshId, node: &NodeId) -> Ipv6Addr {
    let network = hash(&[b"ula", &mesh.0]);
    let host = hash(&[b"addr", &mesh.0, &node.0]);
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&network[..5]);
    octets[6..].copy_from_slice(&host[..10]);
    Ipv6Addr::from(octets)
}

/// BLAKE3 of the parts, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Lower-case base32 without padding; upper case is not read, so that one thing has one text.
pub(crate) fn base32() -> &'static Encoding {
    static LOWER: std::sync::OnceLock<Encoding> = std::sync::OnceLock::new();
    LOWER.get_or_init(|| {
        let mut spec = data_encoding::Specification::new();
        spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        spec.encoding()
            .expect("the alphabet has 32 distinct letters")
    })
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32().encode(&hash(&[&self.0])))
    }
}

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32().encode(&self.0))
    }
}

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32().encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self:.8})")
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshId({self:.8})")
    }
}

impl fmt::Debug for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatementId({self:.8})")
    }
}

/// A text that is not the id of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mesh id: 52 letters of a-z and 2-7 are needed")]
pub struct NotAMeshId;

impl FromStr for MeshId {
    type Err = NotAMeshId;

    fn from_str(text: &str) -> Result<Self, NotAMeshId> {
        let bytes = base32()
            .decode(text.as_bytes())
            .map_err(|_invalid| NotAMeshId)?;
        let bytes = bytes.try_into().map_err(|_wrong_length| NotAMeshId)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::array::uniform32;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_overlay_address_is_the_documented_one() {
        let (mesh, node) = (MeshId([1; 32]), NodeId([2; 32]));
        let address = overlay_address(&mesh, &node).octets();
        assert_eq!(address[0], 0xfd);
        assert_eq!(address[1..6], hash(&[b"ula", &[1; 32]])[..5]);
        assert_eq!(address[6..], hash(&[b"addr", &[1; 32], &[2; 32]])[..10]);
    }

    #[test]
    fn a_node_has_another_address_in_another_mesh() {
        let node = NodeId([2; 32]);
        assert_ne!(
            overlay_address(&MeshId([1; 32]), &node),
            overlay_address(&MeshId([3; 32]), &node)
        );
    }

    #[test]
    fn the_short_form_is_the_start_of_the_long() {
        let node = NodeId([2; 32]);
        assert_eq!(node.to_string().len(), 52);
        assert_eq!(node.short(), node.to_string()[..8]);
    }

    proptest! {
        #[test]
        fn mesh_ids_survive_their_text(bytes: [u8; 32]) {
            prop_assert_eq!(MeshId(bytes).to_string().parse(), Ok(MeshId(bytes)));
        }

        #[test]
        fn other_texts_are_no_mesh_ids(text in "[a-z2-7]{0,51}|[A-Z2-7]{52}|.{0,60}") {
            prop_assume!(text.len() != 52 || text.contains(|letter: char| !letter.is_ascii_lowercase()));
            if let Ok(id) = text.parse::<MeshId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn nodes_that_begin_alike_sort_as_their_bytes(
            a in uniform32(0..2_u8),
            b in uniform32(0..2_u8),
            alike in 0..=32_usize,
        ) {
            let mut b = b;
            b[..alike].copy_from_slice(&a[..alike]);
            prop_assert_eq!(NodeId(a).cmp(&NodeId(b)), a.cmp(&b));
        }
    }
}
