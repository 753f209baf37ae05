//! skeleton
use crate::sample::{LogId, Seq};
use crate::varint::FormatError;
/// Key: log 52 + first seq 4, big-endian. Value: the encoded block (with its own CRC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    pub log: LogId,
    pub first: Seq,
}
impl BlockKey {
    pub const LEN: usize = LogId::LEN + 4;
    pub fn encode(&self) -> [u8; Self::LEN] {
        unimplemented!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
}
