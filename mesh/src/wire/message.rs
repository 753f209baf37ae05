//! What the mesh itself says in frames, kinds 1 to 63.
//!
//! Bodies are postcard, except those that hold signed statements, which stand as they were
//! signed. A released body never changes: a change is a new kind. Bytes behind a body we know are
//! ignored.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::MAX_MESSAGE;
use crate::spread::lives::PARTS_BYTES;
use crate::trust::{AuthorHead, Statement};

/// Frame kinds of the mesh.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const PING: u8 = 2;
    pub(crate) const PONG: u8 = 3;
    pub(crate) const SUMMARY: u8 = 4;
    pub(crate) const STATEMENTS: u8 = 5;
    pub(crate) const WANT: u8 = 6;
    pub(crate) const JOIN: u8 = 7;
    pub(crate) const ADMITTED: u8 = 8;
    pub(crate) const REFUSED: u8 = 9;
    pub(crate) const GOODBYE: u8 = 10;
    /// A number of four bytes, then zeros up to the longest datagram there is.
    pub(crate) const PROBE: u8 = 11;
    /// The number of a `PROBE` that arrived whole.
    pub(crate) const PROBED: u8 = 12;
    /// Whether the sender keeps this session, in a mesh too large to keep all.
    pub(crate) const WISH: u8 = 13;
    /// What members say of each other's lives (`word`).
    pub(crate) const WORDS: u8 = 14;
    /// To a joiner: an admin has to approve of it first. One sentence, as `REFUSED`.
    pub(crate) const WAITING: u8 = 15;
    /// The overlay address of a member the sender was asked to hand on to, and can't.
    pub(crate) const UNRELAYED: u8 = 16;
    /// To a node that runs in two places (`Copied`).
    pub(crate) const COPIED: u8 = 17;
}

/// The longest sentence a refusal carries, in bytes.
const MAX_SENTENCE: usize = 512;

/// Heads in one summary, so that it fits a frame.
pub(crate) const HEADS_PER_SUMMARY: usize = 15;

/// The first thing said after a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The oldest wire version the sender reads.
    pub(crate) wire_min: u8,
    /// The version it speaks.
    pub(crate) wire_max: u8,
    /// Random for each start: a change tells of a restart nobody noticed.
    pub(crate) run: u64,
    /// Digest of every statement the sender holds.
    pub(crate) root: [u8; 32],
    /// Whether the sender has heard our greeting in this session.
    pub(crate) heard: bool,
}

/// Asks for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// Comes back in the answer.
    pub(crate) number: u32,
}

/// Answers a `Ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pong {
    /// The ping's number.
    pub(crate) number: u32,
    /// When the ping arrived, by the sender's wall clock.
    pub(crate) received_us: i64,
    /// When this left.
    pub(crate) sent_us: i64,
    /// Where the ping came from, as seen from outside.
    pub(crate) observed: SocketAddr,
}

/// What the sender holds of the authors in a range; of an author in the range that is not listed
/// it holds nothing. As kind WANT it asks only, as kind SUMMARY it offers too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Digest of every statement the sender holds.
    pub(crate) root: [u8; 32],
    /// First and last author it speaks of. `None` tells the root alone.
    pub(crate) range: Option<([u8; 32], [u8; 32])>,
    /// The heads in the range, by author.
    pub(crate) heads: Vec<AuthorHead>,
}

/// The joiner is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admitted {
    /// Digest of every statement the sponsor holds, the joiner's own among them.
    pub(crate) root: [u8; 32],
}

/// The reader runs elsewhere too, with the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    /// Where the other was heard; `None` where only a relay knows.
    pub(crate) elsewhere: Option<SocketAddr>,
}

/// What the sender makes of this session, in a mesh where nobody has one with everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// Whether it keeps the session: it goes on asking for signs of life, and wants to be asked.
    pub(crate) want: bool,
    /// Digest of what it holds of everybody's life.
    pub(crate) doubts: u64,
}

impl Wish {
    /// The body: the wish, and behind it the digest in parts, which older nodes don't read.
    pub(crate) fn encode(&self, parts: &[u8]) -> Vec<u8> {
        [&encode(self)[..], parts].concat()
    }

    /// A wish and the parts behind it; none if it is an older node's, or it holds nothing.
    pub(crate) fn decode(body: &[u8]) -> Option<(Self, &[u8])> {
        let (wish, parts) = postcard::take_from_bytes(body).ok()?;
        let is_whole = parts.len() == PARTS_BYTES;
        Some((wish, if is_whole { parts } else { &[] }))
    }
}

/// The body of a `Hello` or a `Summary`, and behind it the digest of what membership rests on, which
/// older nodes don't read.
pub(crate) fn encode_with_trust<T: Serialize>(body: &T, trust: &[u8; 32]) -> Vec<u8> {
    [&encode(body)[..], trust].concat()
}

/// A body, and the digest behind it; none if it is an older node's.
pub(crate) fn decode_with_trust<'a, T: Deserialize<'a>>(
    body: &'a [u8],
) -> Option<(T, Option<[u8; 32]>)> {
    if body.len() > MAX_MESSAGE {
        return None;
    }
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    Some((value, rest.try_into().ok()))
}

/// Encodes a postcard body.
///
/// # Panics
/// Never: the bodies above have no type postcard refuses.
pub(crate) fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    postcard::to_stdvec(body).expect("plain structs can be encoded")
}

/// Decodes a postcard body. `None` for bytes that are not one.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    if body.len() > MAX_MESSAGE {
        return None;
    }
    postcard::take_from_bytes(body)
        .ok()
        .map(|(value, _rest)| value)
}

/// Packs statements into as few bodies as their order allows, each at most `MAX_MESSAGE`.
pub(crate) fn pack<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for statement in statements {
        match bodies.last_mut() {
            Some(body) if body.len() + statement.encoded_len() <= MAX_MESSAGE => {
                statement.encode(body);
            }
            _ => {
                let mut body = Vec::with_capacity(statement.encoded_len());
                statement.encode(&mut body);
                bodies.push(body);
            }
        }
    }
    bodies
}

/// Unpacks the statements of a body, up to the first that cannot be read.
pub(crate) fn unpack(mut body: &[u8]) -> Vec<Statement> {
    let mut statements = Vec::new();
    while !body.is_empty() {
        let Ok(statement) = Statement::decode(&mut body) else {
            break;
        };
        statements.push(statement);
    }
    statements
}

/// A refusal's sentence as bytes, cut at a letter's end.
pub(crate) fn sentence(text: &str) -> Vec<u8> {
    let mut end = text.len().min(MAX_SENTENCE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.as_bytes()[..end].to_vec()
}

/// Reads a refusal's sentence. Whoever prints it makes control characters visible first.
pub(crate) fn read_sentence(body: &[u8]) -> String {
    let end = body.len().min(MAX_SENTENCE);
    String::from_utf8_lossy(&body[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fullest_summary_fits_one_frame() {
        let head = AuthorHead {
            author: [0xff; 32],
            seq: u32::MAX,
            log: [0xff; 16],
            notes: [0xff; 8],
        };
        let summary = Summary {
            root: [0xff; 32],
            range: Some(([0; 32], [0xff; 32])),
            heads: vec![head; HEADS_PER_SUMMARY],
        };

        let body = encode_with_trust(&summary, &[7; 32]);

        assert!(body.len() <= MAX_MESSAGE, "{} bytes", body.len());
        // What the first release reads of it.
        assert_eq!(decode(&body).as_ref(), Some(&summary));
        assert_eq!(
            decode_with_trust(&encode(&summary)),
            Some((summary.clone(), None))
        );
        assert_eq!(decode_with_trust(&body), Some((summary, Some([7; 32]))));
    }

    #[test]
    fn statements_are_packed_whole_and_in_order() {
        let statement = |number: u8, len: usize| Statement {
            kind: 16,
            author: [number; 32],
            body: vec![number; len],
            signature: [number; 64],
        };
        let all: Vec<_> = [960, 10, 300, 300, 960, 1]
            .iter()
            .zip(1..)
            .map(|(len, number)| statement(number, *len))
            .collect();

        let bodies = pack(&all);

        assert!(bodies.iter().all(|body| body.len() <= MAX_MESSAGE));
        assert_eq!(bodies.len(), 4);
        let read: Vec<_> = bodies.iter().flat_map(|body| unpack(body)).collect();
        assert_eq!(read, all);
    }

    #[test]
    fn a_long_sentence_is_cut_between_letters() {
        let text = "ü".repeat(400);
        assert_eq!(read_sentence(&sentence(&text)), "ü".repeat(256));
    }

    proptest! {
        #[test]
        fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1_200)) {
            let _ = decode::<Hello>(&bytes);
            let _ = decode::<Ping>(&bytes);
            let _ = decode::<Pong>(&bytes);
            let _ = decode::<Admitted>(&bytes);
            let _ = decode::<Wish>(&bytes);
            let _ = Wish::decode(&bytes);
            if let Some(summary) = decode::<Summary>(&bytes) {
                prop_assert!(summary.heads.len() <= bytes.len());
            }
            prop_assert!(unpack(&bytes).len() <= bytes.len());
            let _ = read_sentence(&bytes);
        }

        #[test]
        fn a_wish_is_read_with_its_parts_and_without(want: bool, doubts: u64, part: u8) {
            let wish = Wish { want, doubts };
            let body = wish.encode(&[part; PARTS_BYTES]);
            prop_assert_eq!(Wish::decode(&body), Some((wish, &[part; PARTS_BYTES][..])));
            // What the first release reads of it.
            prop_assert_eq!(decode::<Wish>(&body), Some(wish));
            for bare in [encode(&wish), wish.encode(&[part; 7])] {
                prop_assert_eq!(Wish::decode(&bare), Some((wish, &[][..])));
            }
        }

        #[test]
        fn a_pong_survives_the_way(number: u32, received_us: i64, sent_us: i64, port: u16, host: u32) {
            let observed = SocketAddr::from((std::net::Ipv4Addr::from(host), port));
            let pong = Pong { number, received_us, sent_us, observed };
            prop_assert_eq!(decode(&encode(&pong)), Some(pong));
        }
    }
}
