//! For how many rows of a stored value their origin vouches.
//!
//! Asked of what lies behind damage in a journal (`record`), where only a signature tells a block from bytes inside one.
//! What passes is what would be taken from a peer. Absent: schemas, which readers look up for themselves.

use super::{checked, is_of_pack};
use crate::append::check_time;
use crate::block::{Block, Pack};
use crate::key::block::BlockKey;
use crate::row::Verifier;

/// 0: the value is damaged, is not what its key says, or somebody else made it up.
pub(super) fn signed_rows(key: &[u8], value: &[u8], verify: &Verifier<'_>) -> u32 {
    let bytes = checked(value).unwrap_or_default();
    let (key, blocks) = if is_of_pack(key) {
        let pack = Pack::read(bytes).and_then(|pack| pack.blocks(|_| true));
        (&key[1..], pack.unwrap_or_default())
    } else {
        let block = Block::decode(bytes, verify);
        (key, block.into_iter().collect())
    };
    let named = BlockKey::decode(key);
    let first = blocks.first().map(Block::head);
    let is_named = named.is_ok_and(|key| first.is_some_and(|first| key.is_of(first)));
    if is_named && blocks.iter().all(|block| is_good(block, verify)) {
        blocks
            .iter()
            .map(|block| u32::from(block.head().count))
            .sum()
    } else {
        0
    }
}

fn is_good(block: &Block, verify: &Verifier<'_>) -> bool {
    let mut times = block.boots().iter().zip(block.clocks());
    times.all(|(boot_ms, clock)| check_time(*boot_ms, clock.offset_ms).is_ok())
        && block.seal().verify(verify).is_ok()
}
