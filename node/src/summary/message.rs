//! Summaries as they travel: one datagram, 15 bytes a node.
//!
//! `u8 1`, `u8` (bit 0: answer me), then entries by growing age: `u8` (bit 7: a long id; the others: marks), 3 or 8 bytes
//! of the node's id, `u16` tick, the age in tenths of a second beyond the entry before as a varint, 8 gauges.
//! Little-endian. Bytes left over make a message unreadable.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use outlast_mesh::MAX_MESSAGE;

use super::gauges::{GAUGES, Gauges};

/// The node's clock is set by others it trusts.
pub const SYNCED: u8 = 1;

const VERSION: u8 = 1;
#[cfg(test)]
const HEAD: usize = 2;
const SHORT: usize = 3;
const LONG: usize = 8;
const LONG_ID: u8 = 0x80;
const ANSWER: u8 = 1;
/// An age takes up to five bytes, and an id eight: no message of so many entries is too long.
const LONGEST_ENTRY: usize = 1 + LONG + 2 + 5 + GAUGES;
const SHORTEST_ENTRY: usize = 1 + SHORT + 2 + 1 + GAUGES;
/// Entries of the shortest and usual length that fit.
#[cfg(test)]
const MOST_ENTRIES: usize = (MAX_MESSAGE - HEAD) / SHORTEST_ENTRY;
/// Ages are whole tenths of a second.
const UNIT_MS: u128 = 100;

/// How a message calls a node: the beginning of its id, longer where two members begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShortId {
    /// Three bytes.
    Short([u8; SHORT]),
    /// Eight bytes.
    Long([u8; LONG]),
}

/// One node in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which node.
    pub id: ShortId,
    /// Its own count of its summaries, modulo 65,536.
    pub tick: u16,
    /// `SYNCED`; unknown marks are passed on. Below 128.
    pub marks: u8,
    /// How old it is, at least; whole tenths of a second.
    pub age: Duration,
    /// What it measured.
    pub gauges: Gauges,
}

/// A small message of kind 68.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whether the sender, which is metered, wants a message in return.
    pub answer: bool,
    /// By growing age.
    pub entries: Vec<Entry>,
}

impl Message {
    /// The bytes; entries that don't fit are left out, the oldest first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(MAX_MESSAGE + LONGEST_ENTRY);
        out.put_u8(VERSION);
        out.put_u8(if self.answer { ANSWER } else { 0 });
        let mut before = 0;
        for entry in &self.entries {
            let age = units(entry.age).max(before);
            let begins = out.len();
            entry.encode(age - before, &mut out);
            if out.len() > MAX_MESSAGE {
                out.truncate(begins);
                break;
            }
            before = age;
        }
        out.freeze()
    }

    /// The inverse of `encode`.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, flags], mut rest) = bytes.split_first_chunk()?;
        if version != VERSION || flags & !ANSWER != 0 || bytes.len() > MAX_MESSAGE {
            return None;
        }
        let mut entries = Vec::with_capacity(rest.len() / SHORTEST_ENTRY);
        let mut age = 0_u32;
        while !rest.is_empty() {
            entries.push(Entry::decode(&mut rest, &mut age)?);
        }
        Some(Self {
            answer: flags & ANSWER != 0,
            entries,
        })
    }
}

impl Entry {
    fn encode(&self, older: u32, out: &mut BytesMut) {
        match self.id {
            ShortId::Short(id) => {
                out.put_u8(self.marks & !LONG_ID);
                out.put_slice(&id);
            }
            ShortId::Long(id) => {
                out.put_u8(self.marks | LONG_ID);
                out.put_slice(&id);
            }
        }
        out.put_u16_le(self.tick);
        let mut left = older;
        while left >= 0x80 {
            out.put_u8(left as u8 | 0x80);
            left >>= 7;
        }
        out.put_u8(left as u8);
        out.put_slice(&self.gauges.0);
    }

    fn decode(rest: &mut &[u8], age: &mut u32) -> Option<Self> {
        let [head] = take(rest)?;
        let id = if head & LONG_ID == 0 {
            ShortId::Short(take(rest)?)
        } else {
            ShortId::Long(take(rest)?)
        };
        let tick = u16::from_le_bytes(take(rest)?);
        *age = age.checked_add(varint(rest)?)?;
        Some(Self {
            id,
            tick,
            marks: head & !LONG_ID,
            age: Duration::from_millis(u64::from(*age) * UNIT_MS as u64),
            gauges: Gauges(take(rest)?),
        })
    }
}

/// Rounded up: an age that is passed on a thousand times may grow, and never shrinks.
fn units(age: Duration) -> u32 {
    u32::try_from(age.as_millis().div_ceil(UNIT_MS)).unwrap_or(u32::MAX)
}

/// The shortest form only.
fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let [byte] = take(rest)?;
        let bits = u32::from(byte & 0x7f);
        value |= bits.checked_shl(shift).filter(|v| v >> shift == bits)?;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let id = prop_oneof![
            any::<[u8; 3]>().prop_map(ShortId::Short),
            any::<[u8; 8]>().prop_map(ShortId::Long)
        ];
        (id, any::<u16>(), 0..128u8, 0..=u32::MAX, any::<[u8; 8]>()).prop_map(
            |(id, tick, marks, age, gauges)| Entry {
                id,
                tick,
                marks,
                age: Duration::from_millis(u64::from(age) * 100),
                gauges: Gauges(gauges),
            },
        )
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire(answer in any::<bool>(), mut entries in vec(entry(), 0..44)) {
            entries.sort_by_key(|entry| entry.age);
            let message = Message { answer, entries };
            let bytes = message.encode();
            prop_assert!(bytes.len() <= MAX_MESSAGE);
            prop_assert_eq!(Message::decode(&bytes), Some(message));
        }

        #[test]
        fn what_does_not_fit_is_left_out_at_the_old_end(mut entries in vec(entry(), 44..90)) {
            entries.sort_by_key(|entry| entry.age);
            let bytes = Message { answer: false, entries: entries.clone() }.encode();
            let read = Message::decode(&bytes).unwrap();
            prop_assert!(bytes.len() <= MAX_MESSAGE);
            prop_assert_eq!(&read.entries[..], &entries[..read.entries.len()]);
        }

        #[test]
        fn whatever_is_read_is_written_the_same(bytes in vec(any::<u8>(), 0..200)) {
            if let Some(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }

    #[test]
    fn an_age_is_rounded_up() {
        let entry = |age_ms| Entry {
            id: ShortId::Short([1, 2, 3]),
            tick: 0x0405,
            marks: SYNCED,
            age: Duration::from_millis(age_ms),
            gauges: Gauges([9; 8]),
        };
        let message = Message {
            answer: true,
            entries: vec![entry(1), entry(12_900)],
        };
        let bytes = message.encode();
        let one = [1, 1, 2, 3, 5, 4, 1, 9, 9, 9, 9, 9, 9, 9, 9];
        let two = [1, 1, 2, 3, 5, 4, 0x80, 1, 9, 9, 9, 9, 9, 9, 9, 9];
        assert_eq!(bytes, [&[1, 1][..], &one, &two].concat());
        let ages = Message::decode(&bytes).unwrap().entries;
        let ages: Vec<_> = ages.iter().map(|entry| entry.age.as_millis()).collect();
        assert_eq!(ages, [100, 12_900]);
    }

    #[test]
    fn what_is_said_at_once_fits_however_long_its_entries_are() {
        assert_eq!(MOST_ENTRIES, 72);
        const { assert!(HEAD + super::super::AT_ONCE * LONGEST_ENTRY <= MAX_MESSAGE) };
    }
}
