//! File `gone`: what this node held, or never wrote, and can no longer give.
//!
//! Key: log 52, first seq 4. Value: `1` version, last seq 4, reason 1, CRC32C 4. It speaks for this node's copy alone.

use super::{LOG_AND_SEQ, log_and_seq, read_log_and_seq, with_checksum, without_checksum};
use crate::sample::{LogId, Seq};
use crate::varint::{FormatError, Reader};

const VERSION: u8 = 1;

/// Names a range that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoneKey {
    /// The log it belongs to.
    pub log: LogId,
    /// The first seq of the range.
    pub first: Seq,
}

/// Where the range ends, and why it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gone {
    /// The last seq of the range, included.
    pub last: Seq,
    /// Why.
    pub reason: Reason,
}

/// Why rows are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// They made room: the store's bound in bytes.
    Budget,
    /// They failed their check here, and nobody has brought them again.
    Damaged,
    /// They never reached this disk, and nobody has brought them again.
    Unwritten,
}

impl GoneKey {
    /// How many bytes a key has.
    pub const LEN: usize = LOG_AND_SEQ;

    /// The bytes of the key.
    pub fn encode(&self) -> [u8; Self::LEN] {
        log_and_seq(&self.log, self.first)
    }

    /// The inverse of `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (log, first) = read_log_and_seq(bytes, "the key of a range that is gone")?;
        Ok(Self { log, first })
    }
}

impl Gone {
    /// The bytes of the value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.last.to_be_bytes());
        out.push(match self.reason {
            Reason::Budget => 0,
            Reason::Damaged => 1,
            Reason::Unwritten => 2,
        });
        with_checksum(out)
    }

    /// The inverse of `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(
            without_checksum(bytes, "a range that is gone")?,
            "a range that is gone",
        );
        reader.version(VERSION)?;
        let last = reader.u32_be()?;
        let reason = match reader.u8()? {
            0 => Reason::Budget,
            1 => Reason::Damaged,
            2 => Reason::Unwritten,
            _ => return Err(FormatError::Invalid("unknown reason why rows are gone")),
        };
        reader.finish()?;
        Ok(Self { last, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;
    use proptest::prelude::*;

    #[test]
    fn a_value_has_the_documented_bytes() {
        let gone = Gone {
            last: 0x0102_0304,
            reason: Reason::Damaged,
        };
        assert_eq!(gone.encode(), [1, 1, 2, 3, 4, 1, 0x69, 0xa3, 0x79, 0x12]);
    }

    proptest! {
        #[test]
        fn keys_and_values_come_back_and_a_flipped_bit_does_not(log in given::log(), first: u32, last: u32, reason in 0..3, bit: usize) {
            let key = GoneKey { log, first };
            prop_assert_eq!(GoneKey::decode(&key.encode()), Ok(key));
            let reason = [Reason::Budget, Reason::Damaged, Reason::Unwritten][reason as usize];
            let gone = Gone { last, reason };
            let mut bytes = gone.encode();
            prop_assert_eq!(Gone::decode(&bytes), Ok(gone));
            given::flip(&mut bytes, bit);
            prop_assert!(Gone::decode(&bytes).is_err());
        }
    }
}
