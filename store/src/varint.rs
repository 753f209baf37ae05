//! The byte primitives every format here is made of: variable-length integers and a reader that cannot be fooled.
//!
//! A varint is little-endian base 128, seven bits a byte, the high bit set on all but the last; at most 10 bytes.
//! Signed numbers are zigzagged first (0, -1, 1, -2 become 0, 1, 2, 3). Exactly one encoding of each number is read:
//! a varint that could be shorter, or is longer than 64 bits, is refused, since signatures depend on the bytes.
//! `Reader` never panics, never reads past its end and never trusts a length before the bytes are there.

use std::fmt;

/// Why bytes from elsewhere were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes end before the value does.
    #[error("bytes end inside {0}")]
    Truncated(&'static str),
    /// A newer (or damaged) version byte.
    #[error("{what} has version {found}, this program reads version {known}")]
    Version {
        /// Which format.
        what: &'static str,
        /// The byte found.
        found: u8,
        /// The byte expected.
        known: u8,
    },
    /// More than a limit allows.
    #[error("{what} of {len} exceeds the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Its size.
        len: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Bytes that no encoder of this format writes.
    #[error("{0}")]
    Invalid(&'static str),
    /// The checksum over the bytes disagrees: damaged on disk or on the way.
    #[error("checksum of {0} does not match")]
    Checksum(&'static str),
    /// Well formed, and not signed by the origin it names.
    #[error("{0} is not signed by the origin it names")]
    Signature(&'static str),
}

/// Appends `value` as a varint.
pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` as a zigzag varint.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Maps small numbers of either sign to small unsigned ones.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of `zigzag`.
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Takes values off the front of a slice.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({}, {} bytes left)", self.what, self.rest.len())
    }
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`, which are said to hold `what`.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// Takes the next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(FormatError::Truncated(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(FormatError::Truncated(self.what))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes a big-endian `u32`.
    pub(crate) fn u32_be(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a big-endian `u64`.
    pub(crate) fn u64_be(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes a varint in its one shortest form.
    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                if (byte == 0 && at > 0) || (at == 9 && byte > 1) {
                    return Err(FormatError::Invalid("a varint is not in its shortest form"));
                }
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        if self.rest.len() < 10 {
            return Err(FormatError::Truncated(self.what));
        }
        Err(FormatError::Invalid("a varint is longer than 64 bits"))
    }

    /// Takes a zigzag varint.
    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.u64().map(unzigzag)
    }

    /// Takes a varint that counts or measures something, no more than `limit`.
    pub(crate) fn count(&mut self, of: &'static str, limit: usize) -> Result<usize, FormatError> {
        let value = self.u64()?;
        match usize::try_from(value) {
            Ok(len) if len <= limit => Ok(len),
            _ => Err(FormatError::Limit {
                what: of,
                len: usize::try_from(value).unwrap_or(usize::MAX),
                limit,
            }),
        }
    }

    /// Passes over `count` varints of any spelling, eight bytes at a time.
    pub(crate) fn skip_varints(&mut self, mut count: usize) -> Result<(), FormatError> {
        // A varint ends at each byte whose high bit is clear.
        while let Some(eight) = self.rest.first_chunk() {
            let ends = (!u64::from_le_bytes(*eight) & 0x8080_8080_8080_8080).count_ones() as usize;
            if ends >= count {
                break;
            }
            count -= ends;
            self.rest = &self.rest[8..];
        }
        while count > 0 {
            count -= usize::from(self.u8()? < 0x80);
        }
        Ok(())
    }

    /// Takes the version byte and compares it.
    pub(crate) fn version(&mut self, known: u8) -> Result<(), FormatError> {
        match self.u8()? {
            found if found == known => Ok(()),
            found => Err(FormatError::Version {
                what: self.what,
                found,
                known,
            }),
        }
    }

    /// Everything not yet taken.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Refuses what is left over.
    pub(crate) fn finish(self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Invalid("bytes follow the end of the value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_the_documented_bytes() {
        for (value, bytes) in [
            (0u64, &[0u8][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            assert_eq!(out, bytes);
        }
        for (value, coded) in [
            (0, 0),
            (-1, 1),
            (1, 2),
            (-2, 3),
            (i64::MAX, u64::MAX - 1),
            (i64::MIN, u64::MAX),
        ] {
            assert_eq!(zigzag(value), coded);
            assert_eq!(unzigzag(coded), value);
        }
    }

    #[test]
    fn a_longer_spelling_of_a_number_is_refused() {
        for bytes in [
            &[0x80u8, 0][..],
            &[0xff, 0x80, 0],
            &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            &[0x80; 11],
        ] {
            assert!(
                matches!(Reader::new(bytes, "x").u64(), Err(FormatError::Invalid(_))),
                "{bytes:?}"
            );
        }
        assert_eq!(
            Reader::new(&[0x80, 0x80], "x").u64(),
            Err(FormatError::Truncated("x"))
        );
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: i64) {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            let mut reader = Reader::new(&out, "x");
            prop_assert_eq!(reader.i64(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes, "x");
            if let Ok(value) = reader.u64() {
                let mut out = Vec::new();
                put_u64(&mut out, value);
                prop_assert_eq!(&bytes[..bytes.len() - reader.rest().len()], &out[..]);
            }
        }
    }
}
