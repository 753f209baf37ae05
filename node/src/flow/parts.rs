//! Live rows put together again from their datagrams.
//!
//! Per peer: at most `MAX_OPEN` rows in the making; one more and the oldest is given up and
//! counted. What is given up is missing, and repaired like anything missing.
//! Absent: what the bytes mean.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use outlast_store::{Epoch, Seq, StoreId};

use super::wire::Part;

/// Rows in the making.
const MAX_OPEN: usize = 8;
/// Finished rows remembered, so that a datagram that comes twice starts nothing.
const MAX_DONE: usize = 32;

type Key = (StoreId, Epoch, Seq);

/// The rows of one peer that are in the making.
#[derive(Debug, Default)]
pub(super) struct Parts {
    open: BTreeMap<Key, Slots>,
    age: VecDeque<Key>,
    done: VecDeque<Key>,
}

#[derive(Debug)]
struct Slots {
    count: u8,
    parts: BTreeMap<u8, Bytes>,
}

/// What a part led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// More parts are needed.
    Open,
    /// The row is whole: its bytes.
    Whole(Bytes),
    /// This part, or its row, was there already.
    Again,
    /// It disagrees with earlier parts of its row.
    Odd,
    /// More parts are needed, and the oldest row in the making was given up.
    Pushed,
}

impl Parts {
    pub(super) fn put(&mut self, part: Part) -> Put {
        let key = (part.store, part.epoch, part.seq);
        if self.done.contains(&key) {
            return Put::Again;
        }
        if part.count == 1 {
            self.finish(key);
            return Put::Whole(part.body);
        }
        let full = self.open.len() >= MAX_OPEN && !self.open.contains_key(&key);
        if full && let Some(oldest) = self.age.pop_front() {
            self.open.remove(&oldest);
        }
        let slots = self.open.entry(key).or_insert_with(|| {
            self.age.push_back(key);
            Slots {
                count: part.count,
                parts: BTreeMap::new(),
            }
        });
        if slots.count != part.count {
            return Put::Odd;
        }
        if slots.parts.insert(part.index, part.body).is_some() {
            return Put::Again;
        }
        if slots.parts.len() < usize::from(slots.count) {
            return if full { Put::Pushed } else { Put::Open };
        }
        let mut whole = BytesMut::new();
        slots
            .parts
            .values()
            .for_each(|body| whole.extend_from_slice(body));
        self.finish(key);
        Put::Whole(whole.freeze())
    }

    fn finish(&mut self, key: Key) {
        self.open.remove(&key);
        self.age.retain(|open| *open != key);
        if self.done.len() >= MAX_DONE {
            self.done.pop_front();
        }
        self.done.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    use outlast_store::{LogId, Origin};
    use rand::seq::SliceRandom as _;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn cut(seq: Seq, row: &[u8]) -> Vec<Part> {
        let log = LogId {
            origin: Origin([1; 32]),
            store: StoreId(2),
            epoch: Epoch {
                counter: 3,
                nonce: 4,
            },
        };
        let parts = Part::cut(&log, seq, row).unwrap();
        parts
            .iter()
            .map(|bytes| Part::decode(bytes).unwrap())
            .collect()
    }

    #[test]
    fn shuffled_and_doubled_parts_give_each_row_once() {
        for seed in 0..50 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut parts = Parts::default();
            let mut whole = Vec::new();
            for seq in 1..=40u32 {
                let row: Vec<u8> = (0..rng.random_range(1..8_000))
                    .map(|_| rng.random())
                    .collect();
                let mut sent = cut(seq, &row);
                sent.extend(cut(seq, &row));
                sent.shuffle(&mut rng);
                let got: Vec<_> = sent
                    .into_iter()
                    .filter_map(|part| match parts.put(part) {
                        Put::Whole(bytes) => Some(bytes),
                        _ => None,
                    })
                    .collect();
                assert_eq!(got, [Bytes::from(row)], "seed {seed} seq {seq}");
                whole.extend(got);
            }
            assert_eq!(whole.len(), 40);
            assert!(parts.open.is_empty() && parts.age.is_empty());
        }
    }

    #[test]
    fn lost_parts_keep_at_most_eight_rows_waiting() {
        let mut parts = Parts::default();
        let mut pushed = 0;
        for seq in 1..=100 {
            let first = cut(seq, &[7; 3_000]).remove(0);
            pushed += u32::from(parts.put(first) == Put::Pushed);
        }
        assert_eq!(
            (parts.open.len(), parts.age.len(), pushed),
            (MAX_OPEN, MAX_OPEN, 92)
        );
    }

    #[test]
    fn a_part_that_disagrees_about_the_count_is_odd() {
        let mut parts = Parts::default();
        assert_eq!(parts.put(cut(1, &[7; 3_000]).remove(0)), Put::Open);
        assert_eq!(parts.put(cut(1, &[7; 4_000]).remove(1)), Put::Odd);
    }
}
