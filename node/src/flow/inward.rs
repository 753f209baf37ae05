//! Live rows of one peer: parts become rows, and deltas find their key row.
//!
//! In: parts, in any order, some twice, some never. Out: rows, each once, requests for a key row
//! that is missing, and reasons for what was dropped. At most `MAX_WAITING` deltas wait for a key
//! row; the oldest goes first, and comes back by repair.
//! Absent: believing rows. They came through their origin's tunnel; the store has the last word.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_store::{LogId, Origin, Seq, SignedRow, delta_key};

use super::parts::{Parts, Put};
use super::wire::{KeyRow, Part};

const MAX_WAITING: usize = 32;
/// Key rows remembered.
const KEYS: usize = 3;
/// Between two requests for a key row.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The live rows of one peer.
#[derive(Debug, Default)]
pub(super) struct Inward {
    parts: Parts,
    keys: VecDeque<SignedRow>,
    waiting: VecDeque<Delta>,
    asked: Option<Instant>,
}

/// A row that can't be read without its key row.
#[derive(Debug)]
struct Delta {
    log: LogId,
    seq: Seq,
    key: Seq,
    bytes: Bytes,
}

/// What a part led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Row(Box<SignedRow>),
    /// This key row should be sent again.
    Ask(KeyRow),
    /// No encoder writes this.
    Unreadable,
    Refused(&'static str),
}

impl Inward {
    pub(super) fn handle_part(&mut self, origin: Origin, part: Part, now: Instant) -> Vec<Got> {
        let (log, seq) = (part.log(origin), part.seq);
        match self.parts.put(part) {
            Put::Whole(bytes) => self.whole(log, seq, bytes, now),
            Put::Again => vec![Got::Refused("row part: twice")],
            Put::Odd => vec![Got::Unreadable],
            Put::Pushed => vec![Got::Refused("row: a part is missing")],
            Put::Open => Vec::new(),
        }
    }

    /// Rows that wait for a key row.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn whole(&mut self, log: LogId, seq: Seq, bytes: Bytes, now: Instant) -> Vec<Got> {
        match delta_key(&bytes) {
            Ok(None) => self.key_row(log, seq, &bytes),
            Ok(Some(key)) => self
                .delta(
                    Delta {
                        log,
                        seq,
                        key,
                        bytes,
                    },
                    now,
                )
                .into_iter()
                .collect(),
            Err(_) => vec![Got::Unreadable],
        }
    }

    /// Any whole row may be a key row: deltas that waited for it go on.
    fn key_row(&mut self, log: LogId, seq: Seq, bytes: &Bytes) -> Vec<Got> {
        let row = SignedRow::decode(bytes).ok();
        let Some(row) = row.filter(|row| (row.row.log, row.row.seq) == (log, seq)) else {
            return vec![Got::Unreadable];
        };
        if self.keys.len() >= KEYS {
            self.keys.pop_front();
        }
        let mut got = vec![Got::Row(Box::new(row.clone()))];
        let (ready, waiting): (VecDeque<_>, _) = self
            .waiting
            .drain(..)
            .partition(|delta| (delta.log, delta.key) == (log, seq));
        self.waiting = waiting;
        got.extend(ready.iter().map(|delta| read(&row, delta)));
        self.keys.push_back(row);
        got
    }

    fn delta(&mut self, delta: Delta, now: Instant) -> Option<Got> {
        let is_key = |row: &&SignedRow| (row.row.log, row.row.seq) == (delta.log, delta.key);
        if let Some(key) = self.keys.iter().find(is_key) {
            return Some(read(key, &delta));
        }
        let wanted = KeyRow {
            store: delta.log.store,
            epoch: delta.log.epoch,
            seq: delta.key,
        };
        let full = self.waiting.len() >= MAX_WAITING;
        if full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(delta);
        if self
            .asked
            .is_none_or(|at| now.duration_since(at) >= ASK_EVERY)
        {
            self.asked = Some(now);
            return Some(Got::Ask(wanted));
        }
        full.then_some(Got::Refused("row: its key row didn't come"))
    }
}

fn read(key: &SignedRow, delta: &Delta) -> Got {
    match SignedRow::from_delta(&key.row, &delta.bytes) {
        Ok(row) if (row.row.log, row.row.seq) == (delta.log, delta.seq) => Got::Row(Box::new(row)),
        _ => Got::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use outlast_store::{Clock, ClockSource, Epoch, Row, SchemaHash, StoreId};
    use rand::seq::SliceRandom as _;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::flow::live::LiveRows;

    const LOG: LogId = LogId {
        origin: Origin([1; 32]),
        store: StoreId(2),
        epoch: Epoch {
            counter: 3,
            nonce: 4,
        },
    };

    #[test]
    fn every_row_whose_parts_arrive_is_read_once_and_exactly() {
        for seed in 0..30 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut live, mut inward) = (LiveRows::default(), Inward::default());
            let mut air: Vec<(Seq, Bytes)> = Vec::new();
            let mut rows = BTreeMap::new();
            let mut read = BTreeMap::new();
            let mut arrived: BTreeMap<Seq, BTreeSet<Bytes>> = BTreeMap::new();
            let mut sent: BTreeMap<Seq, usize> = BTreeMap::new();
            let now = Instant::now();
            let mut values = vec![Some(0i64); 900];
            for seq in 1..=60u32 {
                values.iter_mut().for_each(|value| {
                    *value = rng.random_bool(0.95).then(|| rng.random_range(0..1 << 30))
                });
                let row = Arc::new(row(seq, values.clone()));
                rows.insert(seq, Arc::clone(&row));
                let parts = live.parts_of(row).unwrap();
                sent.insert(seq, parts.len());
                for part in parts {
                    let copies = if rng.random_bool(0.05) {
                        0
                    } else {
                        1 + usize::from(rng.random_bool(0.1))
                    };
                    (0..copies).for_each(|_| air.push((seq, part.clone())));
                }
                air.shuffle(&mut rng);
                let stay = air.len().min(rng.random_range(0..6));
                for (of, part) in air.split_off(stay) {
                    arrived.entry(of).or_default().insert(part.clone());
                    let at = now + Duration::from_secs(seq.into());
                    let mut got = inward.handle_part(LOG.origin, Part::decode(&part).unwrap(), at);
                    while let Some(one) = got.pop() {
                        match one {
                            Got::Row(row) => {
                                assert_eq!(*row, **rows.get(&row.row.seq).unwrap(), "seed {seed}");
                                read.entry(row.row.seq).and_modify(|n| *n += 1).or_insert(1);
                            }
                            Got::Ask(key) => {
                                for part in live.parts_of_key(&LOG, key.seq) {
                                    arrived.entry(key.seq).or_default().insert(part.clone());
                                    got.extend(inward.handle_part(
                                        LOG.origin,
                                        Part::decode(&part).unwrap(),
                                        at,
                                    ));
                                }
                            }
                            Got::Unreadable | Got::Refused(_) => {}
                        }
                    }
                }
            }
            assert!(
                read.values().all(|times| *times == 1),
                "seed {seed}: {read:?}"
            );
            let whole = sent.iter().filter(|(seq, count)| {
                arrived.get(seq).is_some_and(|parts| parts.len() == **count)
            });
            let late: Vec<_> = whole
                .map(|(seq, _)| *seq)
                .filter(|seq| !read.contains_key(seq))
                .collect();
            assert!(
                late.len() <= 10 && read.len() > 25,
                "seed {seed}: whole and unread {late:?}, read {}",
                read.len()
            );
        }
    }

    #[test]
    fn deltas_without_their_key_row_wait_within_a_bound_and_ask_once_a_second() {
        let (mut live, now) = (LiveRows::default(), Instant::now());
        live.parts_of(Arc::new(row(1, vec![Some(1); 50])));
        let deltas: Vec<_> = (2..=9)
            .flat_map(|seq| {
                live.parts_of(Arc::new(row(seq, vec![Some(1); 50])))
                    .unwrap()
            })
            .collect();
        let mut inward = Inward::default();
        let mut asks = 0;
        for part in &deltas {
            let got = inward.handle_part(LOG.origin, Part::decode(part).unwrap(), now);
            asks += got
                .iter()
                .filter(|got| matches!(got, Got::Ask(key) if key.seq == 1))
                .count();
        }
        assert_eq!((asks, inward.waiting()), (1, 8));
        let key = live.parts_of_key(&LOG, 1);
        let got = inward.handle_part(LOG.origin, Part::decode(&key[0]).unwrap(), now);
        let seqs: Vec<_> = got
            .iter()
            .filter_map(|got| {
                if let Got::Row(row) = got {
                    Some(row.row.seq)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(seqs, (1..=9).collect::<Vec<_>>());
        assert_eq!(inward.waiting(), 0);
    }

    #[test]
    fn a_row_in_ten_goes_whole_and_a_new_schema_at_once() {
        let mut live = LiveRows::default();
        let whole = |live: &mut LiveRows, row: SignedRow| {
            let parts = live.parts_of(Arc::new(row)).unwrap();
            delta_key(&Part::decode(&parts[0]).unwrap().body)
                .unwrap()
                .is_none()
        };
        let kinds: Vec<_> = (1..=21)
            .map(|seq| whole(&mut live, row(seq, vec![Some(1); 50])))
            .collect();
        let keys: Vec<_> = kinds
            .iter()
            .enumerate()
            .filter(|(_, whole)| **whole)
            .map(|(index, _)| index + 1)
            .collect();
        assert_eq!(keys, [1, 11, 21]);
        let mut grown = row(22, vec![Some(1); 51]);
        grown.row.schema = SchemaHash([9; 32]);
        assert!(whole(&mut live, grown));
    }

    fn row(seq: Seq, values: Vec<Option<i64>>) -> SignedRow {
        let clock = Clock {
            offset_ms: 1_700_000_000_000,
            uncertainty_ms: 50,
            source: ClockSource::Ntp,
        };
        let row = Row {
            log: LOG,
            seq,
            schema: SchemaHash([5; 32]),
            boot_ms: 1_000 * u64::from(seq),
            clock,
            values,
        };
        row.sign(&|_| [7; 64])
    }
}
