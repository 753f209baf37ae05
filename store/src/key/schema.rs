//! File `schemas`: what the origins' numbers mean.
//!
//! Key: origin 32, schema hash 32; two origins may have the same schema. Value: an encoded `SchemaDelta`, CRC32C 4.

use super::{with_checksum, without_checksum};
use crate::sample::Origin;
use crate::series::{SchemaDelta, SchemaHash};
use crate::varint::{FormatError, Reader};

/// Names a schema of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaKey {
    /// Whose.
    pub origin: Origin,
    /// Which.
    pub hash: SchemaHash,
}

impl SchemaKey {
    /// How many bytes a key has.
    pub const LEN: usize = 64;

    /// The bytes of the key.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..32].copy_from_slice(&self.origin.0);
        out[32..].copy_from_slice(&self.hash.0);
        out
    }

    /// The inverse of `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "the key of a schema");
        let key = Self {
            origin: Origin(reader.array()?),
            hash: SchemaHash(reader.array()?),
        };
        reader.finish()?;
        Ok(key)
    }
}

/// The bytes of the value.
pub fn encode_value(delta: &SchemaDelta) -> Vec<u8> {
    with_checksum(delta.encode())
}

/// The inverse of `encode_value`; refuses a schema that isn't the one its key names.
pub fn decode_value(key: &SchemaKey, bytes: &[u8]) -> Result<SchemaDelta, FormatError> {
    let delta = SchemaDelta::decode(without_checksum(bytes, "a stored schema")?)?;
    if delta.hash() == key.hash {
        Ok(delta)
    } else {
        Err(FormatError::Invalid(
            "a stored schema lies under another's key",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;
    use proptest::prelude::*;

    #[test]
    fn a_value_has_the_documented_bytes() {
        let schema = given::a_schema(&["a"]);
        let delta = SchemaDelta {
            parent: None,
            appended: schema.series.clone(),
        };
        let body = [1, 0, 1, 1, b'a', 0, 0, 1, 0];
        assert_eq!(
            encode_value(&delta),
            [&body[..], &crc32c::crc32c(&body).to_be_bytes()].concat()
        );
        let key = SchemaKey {
            origin: Origin([7; 32]),
            hash: schema.hash,
        };
        assert_eq!(key.encode().to_vec(), [[7; 32], schema.hash.0].concat());
    }

    proptest! {
        #[test]
        fn keys_and_values_come_back_and_a_flipped_bit_does_not(delta in given::schema_delta(), origin: [u8; 32], bit: usize) {
            let key = SchemaKey { origin: Origin(origin), hash: delta.hash() };
            prop_assert_eq!(SchemaKey::decode(&key.encode()), Ok(key));
            let mut value = encode_value(&delta);
            prop_assert_eq!(decode_value(&key, &value), Ok(delta));
            given::flip(&mut value, bit);
            prop_assert!(decode_value(&key, &value).is_err());
        }
    }
}
