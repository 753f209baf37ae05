//! An event: something that happened to a node, as that node says it, signed.
//!
//! In: author, number, time, kind and body. Out: the bytes that travel and lie on disk, and back.
//! Encoding: `u8 1`, author (32 bytes), seq as a varint, wall clock (8, little-endian), flags, kind, body, signature (64).
//! Identity is `(author, seq)`. Invariant: one form only; what is decoded is encoded the same.
//! Absent: what a body means. Whoever publishes a kind reads it; kinds and flags that aren't known are kept and passed on.

use bytes::{BufMut as _, Bytes, BytesMut};
use outlast_mesh::{MeshId, NodeId};

/// The longest body: with what stands around it an event fits one small message.
pub const MAX_BODY: usize = 960;
/// The longest event.
pub(super) const MAX_EVENT: usize = HEAD + MAX_SEQ_BYTES + TAIL_OF_HEAD + MAX_BODY + SIGNATURE;
/// No honest node gets so far: with 120 events an hour and a jump at each start that takes longer than machines exist.
pub(super) const MAX_SEQ: u64 = 1 << 62;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 32;
const MAX_SEQ_BYTES: usize = 9;
const TAIL_OF_HEAD: usize = 8 + 1 + 1;
const SIGNATURE: usize = 64;
/// What is signed besides the event: an event of one mesh is none in another.
const CONTEXT: &[u8] = b"outlast ledger event 1";
const SYNCED: u8 = 1;

/// What kinds of events there are.
pub mod kind {
    /// A run began or ended, the machine slept.
    pub const LIFE: u8 = 1;
    /// Another node was lost from sight, or found again.
    pub const SIGHT: u8 = 2;
    /// An alarm was raised, amended or cleared.
    pub const ALARM: u8 = 3;
    /// A notification was sent.
    pub const SENT: u8 = 4;
    /// Somebody wants quiet for a time.
    pub const SILENCE: u8 = 5;
    /// Something that looks like an attack.
    pub const SECURITY: u8 = 6;
    /// Mains, battery, UPS.
    pub const POWER: u8 = 7;
    /// The clock was set.
    pub const CLOCK: u8 = 8;
    /// The author held back events over its quota: the body is how many, a varint.
    pub const HELD_BACK: u8 = 9;
}

/// What an event is called everywhere.
pub type Place = (NodeId, u64);

/// Something that happened, by its author's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who says so.
    pub author: NodeId,
    /// The author's own count, from 1, with gaps; never used twice. Events of one author are in its order.
    pub seq: u64,
    /// The author's wall clock, milliseconds since the Unix epoch; may be wrong by decades.
    pub wall_ms: i64,
    /// How sure the author is of its clock; see `is_synced`.
    pub flags: u8,
    /// One of `kind`, or of a later release.
    pub kind: u8,
    /// At most `MAX_BODY` bytes.
    pub body: Bytes,
    /// The author's, over everything above.
    pub signature: [u8; 64],
}

/// An event before it has a number and a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// One of `kind`.
    pub kind: u8,
    /// At most `MAX_BODY` bytes.
    pub body: Bytes,
    /// The wall clock when it happened.
    pub wall_ms: i64,
    /// Whether that clock was kept by others.
    pub synced: bool,
}

impl Draft {
    /// The event, signed by `sign`.
    pub(super) fn sign(
        self,
        mesh: &MeshId,
        place: Place,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Event {
        let mut event = Event {
            author: place.0,
            seq: place.1,
            wall_ms: self.wall_ms,
            flags: if self.synced { SYNCED } else { 0 },
            kind: self.kind,
            body: self.body,
            signature: [0; 64],
        };
        event.signature = sign(&event.signed_bytes(mesh));
        event
    }
}

impl Event {
    /// Author and number.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.author, self.seq)
    }

    /// Whether the author's clock was kept by a time service or agreed with its peers'.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.flags & SYNCED != 0
    }

    /// What tells two contents apart: the lower one stays where both are known. The signature is not in it.
    pub(super) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.content()).as_bytes()
    }

    /// What the author signs.
    pub(super) fn signed_bytes(&self, mesh: &MeshId) -> Vec<u8> {
        [CONTEXT, &mesh.0, &self.content()].concat()
    }

    /// Bytes of `encode`.
    pub(super) fn encoded_len(&self) -> usize {
        HEAD + seq_len(self.seq) + TAIL_OF_HEAD + self.body.len() + SIGNATURE
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = self.content();
        out.put_slice(&self.signature);
        out.freeze()
    }

    /// The inverse of `encode`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (author, rest) = rest.split_first_chunk::<32>()?;
        let (seq, used) = seq_of(rest)?;
        let (wall, rest) = rest.get(used..)?.split_first_chunk::<8>()?;
        let (&[flags, kind], rest) = rest.split_first_chunk::<2>()?;
        let (body, signature) = rest.split_last_chunk::<SIGNATURE>()?;
        if version != VERSION || body.len() > MAX_BODY {
            return None;
        }
        Some(Self {
            author: NodeId(*author),
            seq,
            wall_ms: i64::from_le_bytes(*wall),
            flags,
            kind,
            body: Bytes::copy_from_slice(body),
            signature: *signature,
        })
    }

    fn content(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_u8(VERSION);
        out.put_slice(&self.author.0);
        let mut left = self.seq;
        while left >= 0x80 {
            out.put_u8(left as u8 | 0x80);
            left >>= 7;
        }
        out.put_u8(left as u8);
        out.put_i64_le(self.wall_ms);
        out.put_u8(self.flags);
        out.put_u8(self.kind);
        out.put_slice(&self.body);
        out
    }
}

fn seq_len(seq: u64) -> usize {
    (64 - (seq | 1).leading_zeros() as usize).div_ceil(7)
}

/// A number from 1 to `MAX_SEQ` in its shortest form, and how many bytes that is.
fn seq_of(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = 1 + bytes
        .iter()
        .take(MAX_SEQ_BYTES)
        .position(|byte| byte & 0x80 == 0)?;
    let low = |value: u64, (at, byte): (usize, &u8)| value | u64::from(byte & 0x7f) << (7 * at);
    let seq = bytes[..len].iter().enumerate().fold(0, low);
    ((1..=MAX_SEQ).contains(&seq) && seq_len(seq) == len).then_some((seq, len))
}

#[cfg(test)]
mod tests {
    use outlast_mesh::MAX_MESSAGE;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = Event> {
        let heads = any::<([u8; 32], i64, u8, u8)>();
        let seqs = prop_oneof![1..300_u64, 1..=MAX_SEQ];
        (heads, seqs, vec(any::<u8>(), 0..=MAX_BODY)).prop_map(
            |((author, wall_ms, flags, kind), seq, body)| Event {
                author: NodeId(author),
                seq,
                wall_ms,
                flags,
                kind,
                body: body.into(),
                signature: [kind; 64],
            },
        )
    }

    proptest! {
        #[test]
        fn events_survive_the_wire(event in event()) {
            let bytes = event.encode();
            prop_assert_eq!(bytes.len(), event.encoded_len());
            prop_assert!(bytes.len() <= MAX_EVENT);
            prop_assert_eq!(Event::decode(&bytes), Some(event));
        }

        #[test]
        fn whatever_is_read_is_written_the_same(bytes in vec(any::<u8>(), 100..200)) {
            let bytes = [&[VERSION][..], &bytes].concat();
            if let Some(event) = Event::decode(&bytes) {
                prop_assert_eq!(event.encode(), bytes);
            }
        }

        #[test]
        fn an_event_cut_short_is_none(event in event(), cut in 1..140_usize) {
            let bytes = event.encode();
            let cut = bytes.len().saturating_sub(cut + event.body.len());
            prop_assert_eq!(Event::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn the_longest_event_fits_a_message_with_what_stands_around_it() {
        const { assert!(MAX_EVENT + 16 <= MAX_MESSAGE) };
    }

    #[test]
    fn the_mesh_and_every_field_but_the_signature_are_signed() {
        let draft = Draft {
            kind: kind::LIFE,
            body: Bytes::from_static(b"began"),
            wall_ms: 5,
            synced: true,
        };
        let (here, there) = (MeshId([1; 32]), MeshId([2; 32]));
        let event = draft.sign(&here, (NodeId([3; 32]), 7), |_| [9; 64]);
        assert!(event.is_synced());
        assert_ne!(event.signed_bytes(&here), event.signed_bytes(&there));
        let mut other = event.clone();
        other.signature = [8; 64];
        assert_eq!(other.hash(), event.hash());
        other.flags = 0;
        assert_ne!(other.hash(), event.hash());
    }

    #[test]
    fn numbers_have_one_form_and_begin_at_one() {
        assert_eq!(seq_of(&[1]), Some((1, 1)));
        assert_eq!(seq_of(&[0]), None);
        assert_eq!(seq_of(&[0x81, 0]), None, "a longer form of 1");
        assert_eq!(seq_of(&[0x80, 1]), Some((128, 2)));
        assert_eq!(seq_of(&[0xff; 12]), None);
        assert_eq!(seq_of(&[]), None);
    }
}
