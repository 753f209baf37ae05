//! What members say of each other's lives, byte for byte: fixed length, so that eight fill a frame.
//!
//! `{about 32, by 32, life u64 big-endian, say u8, signature 64}`. Signed is the same without the signature, behind the
//! mesh and what it is. Invariant: bytes that are no word end the walk. Absent: what a word is worth (`spread::lives`).

use crate::id::{MeshId, NodeId};
use crate::spread::lives::{Say, Word};
use crate::tunnel::keys::{NodeKey, verify};
use crate::wire::MAX_MESSAGE;

/// Bytes of one word.
pub(crate) const LENGTH: usize = 32 + 32 + 8 + 1 + 64;

/// So many fill a frame.
pub(crate) const IN_A_FRAME: usize = MAX_MESSAGE / LENGTH;

/// Keeps a word's signature from being taken for anything else's.
const CONTEXT: &[u8] = b"outlast/word/1\0";

/// Says something and signs it.
pub(crate) fn sign(key: &NodeKey, mesh: &MeshId, about: NodeId, life: u64, say: Say) -> Word {
    let mut word = Word {
        about,
        by: key.id(),
        life,
        say,
        signature: [0; 64],
    };
    word.signature = key.sign(&signed(&word, mesh));
    word
}

/// Whether who it says has said it, in this mesh.
pub(crate) fn is_signed(word: &Word, mesh: &MeshId) -> bool {
    verify(&word.by.0, &signed(word, mesh), &word.signature)
}

/// The word's bytes.
pub(crate) fn encode(word: &Word) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH);
    said(word, &mut bytes);
    bytes.extend_from_slice(&word.signature);
    bytes
}

/// The words of a body, one after the other, up to the first bytes that are none. `None` if there are such.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<Word>> {
    let whole = body.len().is_multiple_of(LENGTH);
    let words: Option<Vec<Word>> = body.chunks_exact(LENGTH).map(read).collect();
    words.filter(|_| whole)
}

fn read(bytes: &[u8]) -> Option<Word> {
    let (about, rest) = bytes.split_first_chunk::<32>()?;
    let (by, rest) = rest.split_first_chunk::<32>()?;
    let (life, rest) = rest.split_first_chunk::<8>()?;
    let (say, signature) = rest.split_first()?;
    let say = match say {
        0 => Say::Silent,
        1 => Say::Alive,
        2 => Say::Left,
        _ => return None,
    };
    Some(Word {
        about: NodeId(*about),
        by: NodeId(*by),
        life: u64::from_be_bytes(*life),
        say,
        signature: *signature.first_chunk()?,
    })
}

fn said(word: &Word, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&word.about.0);
    bytes.extend_from_slice(&word.by.0);
    bytes.extend_from_slice(&word.life.to_be_bytes());
    bytes.push(match word.say {
        Say::Silent => 0,
        Say::Alive => 1,
        Say::Left => 2,
    });
}

fn signed(word: &Word, mesh: &MeshId) -> Vec<u8> {
    let mut bytes = [CONTEXT, &mesh.0].concat();
    said(word, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn eight_words_fill_a_frame() {
        assert_eq!(IN_A_FRAME, 8);
    }

    #[test]
    fn a_word_is_believed_only_as_it_was_said_and_where() {
        let key = NodeKey::from_seed(&[1; 32]);
        let (mesh, other) = (MeshId([2; 32]), MeshId([3; 32]));
        let word = sign(&key, &mesh, NodeId([4; 32]), 5, Say::Silent);
        assert!(is_signed(&word, &mesh));
        assert!(!is_signed(&word, &other));
        let changed = Word { life: 6, ..word };
        assert!(!is_signed(&changed, &mesh));
    }

    proptest! {
        #[test]
        fn any_words_survive_the_way(said in proptest::collection::vec(any::<([u8; 32], [u8; 32], u64, u8)>(), 0..8)) {
            let words: Vec<Word> = said
                .into_iter()
                .map(|(about, by, life, say)| Word {
                    about: NodeId(about),
                    by: NodeId(by),
                    life,
                    say: [Say::Silent, Say::Alive, Say::Left][usize::from(say % 3)],
                    signature: [say; 64],
                })
                .collect();
            let body: Vec<u8> = words.iter().flat_map(encode).collect();
            prop_assert_eq!(decode(&body), Some(words));
        }

        #[test]
        fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
