//! Packs in pieces, in a tree of sled of their own.
//!
//! The pieces of a pack are numbered behind its key, so that they lie one after another.
//! Absent: whole packs, as an earlier release put them (`body`).

use std::io;

use super::body::Tree;

/// The tree of packs in pieces, which are numbered behind the key.
pub(super) const PIECES: &str = "pieces";
/// Two pieces in a leaf fill a slot of 64 KiB with what sled adds, so that next to nothing of a pack's place is spare, and
/// only its last leaf is written again with the next pack.
const PIECE_BYTES: usize = (64 << 10) / 2 - 200;
/// Bytes of a piece's number.
const NUMBER: usize = 2;

/// The first key that a piece of a pack can have, and the first that none has.
pub(super) fn of_pack(key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (
        [key, &[0; NUMBER]].concat(),
        [key, &[0xff; NUMBER]].concat(),
    )
}

/// Puts all pieces of a pack; what one under the same key had more goes.
pub(super) fn put(pieces: &Tree, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut number: u16 = 0;
    for piece in value.chunks(PIECE_BYTES) {
        pieces.insert([key, &number.to_be_bytes()].concat(), piece)?;
        number += 1;
    }
    let rest = [key, &number.to_be_bytes()].concat()..of_pack(key).1;
    let stale: Vec<_> = pieces.range(rest).keys().collect::<Result<_, _>>()?;
    for key in stale {
        pieces.remove(key)?;
    }
    Ok(())
}

/// The last pack that has a piece below `below`: its key, and its pieces joined.
pub(super) fn last(pieces: &Tree, below: &[u8]) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let Some(last) = pieces.range(..below.to_vec()).next_back() else {
        return Ok(None);
    };
    let mut key = last?.0.to_vec();
    key.truncate(key.len().saturating_sub(NUMBER));
    let (from, to) = of_pack(&key);
    let mut value = Vec::new();
    for piece in pieces.range(from..to) {
        value.extend_from_slice(&piece?.1);
    }
    Ok(Some((key, value)))
}

/// Every key of a pack and its pieces joined, in order.
pub(super) fn scan(pieces: &Tree, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    let mut open: Option<(Vec<u8>, Vec<u8>)> = None;
    for piece in pieces.iter() {
        let (key, bytes) = piece?;
        let key = &key[..key.len().saturating_sub(NUMBER)];
        match &mut open {
            Some((of, value)) if of == key => value.extend_from_slice(&bytes),
            _ => {
                if let Some((of, value)) = open.replace((key.to_vec(), bytes.to_vec())) {
                    each(&of, &value);
                }
            }
        }
    }
    if let Some((of, value)) = open {
        each(&of, &value);
    }
    Ok(())
}
