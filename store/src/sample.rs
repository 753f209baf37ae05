//! What a sample is named by and when it was taken: origins, stores, epochs, logs, clocks.
//!
//! A row's identity is `(origin, store id, epoch, seq)`. It is never used twice: the store id is random when a store is
//! made, an epoch is a counter with 64 random bits chosen before the first sample of a run, seq counts its ticks from 1.
//! Encoded big-endian, so that bytes sort as values do: origin 32, store 8, epoch counter 4, epoch nonce 8: 52 bytes.
//! Absent: values (`row`) and what they mean (`series`).

use crate::varint::{FormatError, Reader};
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt};

/// The position of a row in its log. The first is 1; 0 names no row.
pub type Seq = u32;

/// The node that took a sample: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin(pub [u8; 32]);

/// As the bytes are. Nearly all origins differ in the first eight, which are compared without a call: maps by origin and by
/// log are gone through for each row.
impl Ord for Origin {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let begins = |origin: &Self| origin.0.first_chunk().copied().map(u64::from_be_bytes);
        let first = begins(self).cmp(&begins(other));
        first.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Origin {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Drawn at random when a store is made, so that a wiped disk never continues an old log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub u64);

/// One run of the sampler. Newer epochs of a store compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// One more than that of the run before.
    pub counter: u32,
    /// Random, so that a store brought back from an old image never repeats an epoch.
    pub nonce: u64,
}

/// One append-only sequence of rows: one run of one origin on one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// Who took the samples.
    pub origin: Origin,
    /// On which store.
    pub store: StoreId,
    /// In which run.
    pub epoch: Epoch,
}

/// How a row's boot time maps to wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clock {
    /// Wall time (ms since the Unix epoch) = boot time + this.
    pub offset_ms: i64,
    /// How wrong the offset may be, in milliseconds; `u32::MAX` means unknown.
    pub uncertainty_ms: u32,
    /// Who says so.
    pub source: ClockSource,
}

/// Where a wall clock has its time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClockSource {
    /// Nobody yet: the offset is whatever the machine started with.
    Unsynced,
    /// The kernel says that NTP keeps it.
    Ntp,
    /// The median of the peers' clocks.
    Peers,
}

impl Origin {
    /// The text form of the node's id: 52 lower-case base32 letters of BLAKE3(public key).
    fn text(&self) -> String {
        BASE32_NOPAD
            .encode(blake3::hash(&self.0).as_bytes())
            .to_ascii_lowercase()
    }
}

/// The whole id; `{:.8}` prints its short form.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({:.8})", self.text())
    }
}

/// Origin, store and epoch, each short enough for a log line.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.8}/{:016x}/{}-{:016x}",
            self.origin, self.store.0, self.epoch.counter, self.epoch.nonce
        )
    }
}

impl LogId {
    /// How many bytes a log id takes in keys and rows.
    pub const LEN: usize = 52;

    /// Big-endian bytes that sort as log ids do.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..32].copy_from_slice(&self.origin.0);
        out[32..40].copy_from_slice(&self.store.0.to_be_bytes());
        out[40..44].copy_from_slice(&self.epoch.counter.to_be_bytes());
        out[44..].copy_from_slice(&self.epoch.nonce.to_be_bytes());
        out
    }

    /// The inverse of `to_bytes`.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self::read(&mut Reader::new(bytes, "a log id")).expect("52 bytes are there")
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            origin: Origin(reader.array()?),
            store: StoreId(reader.u64_be()?),
            epoch: Epoch {
                counter: reader.u32_be()?,
                nonce: reader.u64_be()?,
            },
        })
    }
}

impl ClockSource {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::Unsynced => 0,
            Self::Ntp => 1,
            Self::Peers => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            0 => Ok(Self::Unsynced),
            1 => Ok(Self::Ntp),
            2 => Ok(Self::Peers),
            _ => Err(FormatError::Invalid("unknown clock source")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;
    use proptest::array::uniform32;
    use proptest::prelude::*;

    #[test]
    fn an_origin_is_printed_as_its_node_is() {
        let text = Origin([7; 32]).to_string();
        let bytes = BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .unwrap();
        assert_eq!(bytes, blake3::hash(&[7; 32]).as_bytes());
        assert_eq!(format!("{:.8}", Origin([7; 32])), text[..8]);
        assert_eq!(
            given::a_log().to_string(),
            format!("{}/0102030405060708/3-0000000000000009", &text[..8])
        );
    }

    proptest! {
        #[test]
        fn log_ids_come_back_and_sort_as_their_bytes(a in given::log(), b in given::log()) {
            prop_assert_eq!(LogId::from_bytes(&a.to_bytes()), a);
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }

        #[test]
        fn origins_that_begin_alike_sort_as_their_bytes(
            a in uniform32(0..2_u8),
            b in uniform32(0..2_u8),
            alike in 0..=32_usize,
        ) {
            let mut b = b;
            b[..alike].copy_from_slice(&a[..alike]);
            prop_assert_eq!(Origin(a).cmp(&Origin(b)), a.cmp(&b));
        }
    }
}
