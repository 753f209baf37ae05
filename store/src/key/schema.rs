//! skeleton
use crate::sample::Origin;
use crate::series::{SchemaDelta, SchemaHash};
use crate::varint::FormatError;
/// Key: origin 32 + schema hash 32. Value: the delta and a CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaKey {
    pub origin: Origin,
    pub hash: SchemaHash,
}
impl SchemaKey {
    pub const LEN: usize = 64;
    pub fn encode(&self) -> [u8; Self::LEN] {
        unimplemented!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        unimplemented!()
    }
}
pub fn encode_value(delta: &SchemaDelta) -> Vec<u8> {
    unimplemented!()
}
/// Refuses a delta that isn't the one its key names.
pub fn decode_value(key: &SchemaKey, bytes: &[u8]) -> Result<SchemaDelta, FormatError> {
    unimplemented!()
}
