//! skeleton
use crate::sample::{LogId, Seq};
use crate::varint::FormatError;
/// Key: log 52 + first seq 4. Value: version, last seq, reason, CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoneKey {
    pub log: LogId,
    pub first: Seq,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /** made room */
    Budget,
    /** failed its check */
    Damaged,
    /** never reached the disk */
    Unwritten,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gone {
    pub last: Seq,
    pub reason: Reason,
}
impl GoneKey {
    pub const LEN: usize = LogId::LEN + 4;
    pub fn encode(&self) -> [u8; Self::LEN] {
        unimplemented!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
}
impl Gone {
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
}
