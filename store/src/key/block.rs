//! Tree `block`: the sealed rows of all logs.
//!
//! Key: log 52, first seq 4. Value: an encoded `Block`, whose own CRC32C is its checksum.

use crate::sample::{LogId, Seq};
use crate::varint::{FormatError, Reader};

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
    pub const LEN: usize = LogId::LEN + 4;

    /// The bytes of the key.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..LogId::LEN].copy_from_slice(&self.log.to_bytes());
        out[LogId::LEN..].copy_from_slice(&self.first.to_be_bytes());
        out
    }

    /// The inverse of `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "the key of a block");
        let key = Self {
            log: LogId::read(&mut reader)?,
            first: reader.u32_be()?,
        };
        reader.finish()?;
        Ok(key)
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
