//! The sealed rows of all logs: single blocks in sled's default tree, many as one in its tree `packs`.
//!
//! Key: log 52, first seq 4. Value: an encoded `Block`, or under the key of its first block an encoded `Pack`; each has a
//! CRC32C of its own.

use super::{LOG_AND_SEQ, log_and_seq, read_log_and_seq};
use crate::block::Head;
use crate::sample::{LogId, Seq};
use crate::varint::FormatError;

/// Names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The log it belongs to.
    pub log: LogId,
    /// The seq of its first row.
    pub first: Seq,
}

impl BlockKey {
    /// How many bytes a key has.
    pub const LEN: usize = LOG_AND_SEQ;

    /// The bytes of the key.
    pub fn encode(&self) -> [u8; Self::LEN] {
        log_and_seq(&self.log, self.first)
    }

    /// Whether it names the block that has this head.
    pub(crate) fn is_of(&self, head: &Head) -> bool {
        (self.log, self.first) == (head.log, head.first)
    }

    /// The inverse of `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (log, first) = read_log_and_seq(bytes, "the key of a block")?;
        Ok(Self { log, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;
    use proptest::prelude::*;

    #[test]
    fn a_key_has_the_documented_bytes() {
        let key = BlockKey {
            log: given::a_log(),
            first: 61,
        };
        let log = [
            &[7; 32][..],
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[0, 0, 0, 3],
            &[0, 0, 0, 0, 0, 0, 0, 9],
        ]
        .concat();
        assert_eq!(key.encode().to_vec(), [&log[..], &[0, 0, 0, 61]].concat());
    }

    proptest! {
        #[test]
        fn keys_come_back_and_sort_as_their_bytes(a in given::log(), b in given::log(), first: u32, other: u32) {
            let (a, b) = (BlockKey { log: a, first }, BlockKey { log: b, first: other });
            prop_assert_eq!(BlockKey::decode(&a.encode()), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
            prop_assert!(BlockKey::decode(&a.encode()[1..]).is_err());
        }
    }
}
