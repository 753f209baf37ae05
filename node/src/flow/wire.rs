//! What flows say to each other: small messages, and questions on streams.
//!
//! Small messages (kinds 64 to 67, and 70) fit one datagram each; a live row is cut into at most
//! `MAX_PARTS`. Streams carry one question and its answers as frames: `length u32, version u8,
//! tag u8, body`, little-endian. Every decoder is bounded by what it is given and returns `None`
//! for anything this version doesn't write.
//! Absent: what rows, blocks and seals look like inside. The store encodes and checks those.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use outlast_mesh::MAX_MESSAGE;
use outlast_store::{Epoch, IntervalSet, LogId, Origin, SchemaHash, Seq, StoreId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::points::{Covered, PointsAsked};
use crate::replica::digest::{Coverage, Entry};

/// A part of a live row.
pub(super) const ROW: u8 = 64;
/// A seal, as the store encodes it.
pub(super) const SEAL: u8 = 65;
/// What the sender holds.
pub(super) const DIGEST: u8 = 66;
/// A request for a key row that didn't arrive.
pub(super) const KEYROW: u8 = 67;
/// Summaries (`summary::message`).
pub(super) const SUMMARIES: u8 = 68;
/// A request for live rows to be shown.
pub(super) const SUBSCRIBE: u8 = 69;
/// A part of a live row with its origin: from the origin, to be handed on to its other keepers in the
/// receiver's site; from anybody else, handed on.
pub(super) const HANDED_ON: u8 = 70;

/// What ledgers say to each other (`ledger::word`).
pub(super) const LEDGER: u8 = 71;

const VERSION: u8 = 1;
/// Parts of one live row.
pub(super) const MAX_PARTS: usize = 8;
const PART_HEAD: usize = 26;
const PART_BODY: usize = MAX_MESSAGE - PART_HEAD;

/// One datagram's worth of a live row. The origin is whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) store: StoreId,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) index: u8,
    pub(super) count: u8,
    pub(super) body: Bytes,
}

impl Part {
    /// Cuts an encoded row; `None` when it is longer than `MAX_PARTS` datagrams.
    pub(super) fn cut(log: &LogId, seq: Seq, row: &[u8]) -> Option<Vec<Bytes>> {
        let parts = Self::cut_to(PART_BODY, log, seq, row)?;
        Some(parts.iter().map(Self::encode).collect())
    }

    /// Whether a row can be cut.
    pub(super) fn fits(row: &[u8]) -> bool {
        (1..=MAX_PARTS * PART_BODY).contains(&row.len())
    }

    fn cut_to(body: usize, log: &LogId, seq: Seq, row: &[u8]) -> Option<Vec<Self>> {
        let count = row.len().div_ceil(body);
        if !(1..=MAX_PARTS).contains(&count) {
            return None;
        }
        let part = |(index, body): (usize, &[u8])| Self {
            store: log.store,
            epoch: log.epoch,
            seq,
            index: index as u8,
            count: count as u8,
            body: Bytes::copy_from_slice(body),
        };
        Some(row.chunks(body).enumerate().map(part).collect())
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(PART_HEAD + self.body.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(self.index << 4 | self.count);
        bytes.put_u64_le(self.store.0);
        bytes.put_u32_le(self.epoch.counter);
        bytes.put_u64_le(self.epoch.nonce);
        bytes.put_u32_le(self.seq);
        bytes.put_slice(&self.body);
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let head: &[u8; PART_HEAD] = bytes.first_chunk()?;
        let (index, count) = (head[1] >> 4, head[1] & 0x0f);
        let known = head[0] == VERSION;
        let sane =
            (1..=MAX_PARTS as u8).contains(&count) && index < count && bytes.len() <= MAX_MESSAGE;
        if !known || !sane || bytes.len() == PART_HEAD {
            return None;
        }
        Some(Self {
            store: StoreId(u64::from_le_bytes(*head[2..].first_chunk()?)),
            epoch: Epoch {
                counter: u32::from_le_bytes(*head[10..].first_chunk()?),
                nonce: u64::from_le_bytes(*head[14..].first_chunk()?),
            },
            seq: u32::from_le_bytes(*head[22..].first_chunk()?),
            index,
            count,
            body: bytes.slice(PART_HEAD..),
        })
    }

    /// The log the part claims to be of, when `origin` sent it.
    pub(super) fn log(&self, origin: Origin) -> LogId {
        LogId {
            origin,
            store: self.store,
            epoch: self.epoch,
        }
    }
}

/// A part of a live row that says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HandedOn {
    pub(super) origin: Origin,
    pub(super) part: Part,
}

impl HandedOn {
    const HEAD: usize = 33;

    /// Cuts an encoded row; `None` when it is longer than `MAX_PARTS` datagrams.
    pub(super) fn cut(log: &LogId, seq: Seq, row: &[u8]) -> Option<Vec<Bytes>> {
        let parts = Part::cut_to(PART_BODY - Self::HEAD, log, seq, row)?;
        let encode = |part: Part| {
            let part = part.encode();
            let mut bytes = BytesMut::with_capacity(Self::HEAD + part.len());
            bytes.put_u8(VERSION);
            bytes.put_slice(&log.origin.0);
            bytes.put_slice(&part);
            bytes.freeze()
        };
        Some(parts.into_iter().map(encode).collect())
    }

    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let (&version, head) = bytes.split_first()?;
        let origin = Origin(*head.first_chunk()?);
        if version != VERSION || bytes.len() > MAX_MESSAGE {
            return None;
        }
        let part = Part::decode(&bytes.slice(Self::HEAD..))?;
        Some(Self { origin, part })
    }
}

/// Asks the origin for one of its rows in full, as a live row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyRow {
    pub(super) store: StoreId,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
}

/// A small message with the version in front.
pub(super) fn small<T: Serialize>(value: &T) -> Bytes {
    let bytes = vec![VERSION];
    let bytes = postcard::to_extend(value, bytes).expect("plain data always serialises");
    Bytes::from(bytes)
}

/// The inverse of `small`. Bytes left over make it unreadable.
pub(super) fn from_small<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (&version, body) = bytes.split_first()?;
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    (version == VERSION && rest.is_empty()).then_some(value)
}

/// Packs entries into as few messages as their order allows. An entry that is too long for one
/// goes without its ranges: the receiver then asks for them on a stream.
pub(super) fn digests(entries: Vec<Entry>) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut batch: Vec<Entry> = Vec::new();
    for mut entry in entries {
        if small(&vec![&entry]).len() > MAX_MESSAGE
            && let Some(open) = &mut entry.open
        {
            open.coverage = None;
        }
        batch.push(entry);
        if small(&batch).len() > MAX_MESSAGE {
            let last = batch.pop();
            messages.push(small(&batch));
            batch = last.into_iter().collect();
        }
    }
    if !batch.is_empty() {
        messages.push(small(&batch));
    }
    messages
}

/// The longest question: 60 windows of scattered single rows stay far below.
pub(super) const MAX_QUESTION: usize = 64 * 1024;
/// The longest answer: a block of 60 rows of 5,000 series, 10 B each, is 3 MB before compression.
pub(super) const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The longest full answer about one origin: 1,000 epochs take 40 kB.
pub(super) const MAX_HELD: usize = 256 * 1024;

/// Ranges of one log in it, the newest: a fifth of it held, a fifth gone.
const MAX_RANGES_TOLD: usize = 5_000;

/// What is asked on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Question {
    /// Full interval sets of these origins; answered by one `Held` each.
    Held(Vec<Origin>),
    /// Rows of a log, answered newest window first by `Row` and `Block`.
    Rows(LogId, IntervalSet),
    /// Seals of these windows; unknown ones are left out.
    Seals(Vec<(LogId, Seq)>),
    /// A schema with its parents up to one of those known, oldest first.
    Schema(SchemaHash, Vec<SchemaHash>),
    /// Points of one origin's history, answered by `Points` and at last `Covered`.
    Points(PointsAsked),
}

/// One frame of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Everything about one origin.
    Held(HeldAnswer),
    /// A signed row.
    Row(Bytes),
    /// A sealed block.
    Block(Bytes),
    /// A seal.
    Seal(Bytes),
    /// A schema delta.
    Schema(Bytes),
    /// A page of points.
    Points(Bytes),
    /// What the pages before it cover.
    Covered(Covered),
    /// Nothing more follows.
    End,
}

/// What somebody holds of one origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldAnswer {
    pub(super) origin: Origin,
    logs: Vec<(StoreId, Epoch, Coverage)>,
}

impl HeldAnswer {
    /// The newest logs that fit. Of one with many holes its newest ranges stand there, so that it never takes the place of
    /// all the others.
    pub(super) fn new(origin: Origin, logs: BTreeMap<LogId, Coverage>) -> Self {
        let mut size = 0;
        let mut fits = |coverage: &Coverage| {
            let more = 32 + 10 * (coverage.held.ranges().len() + coverage.gone.ranges().len());
            let fits = size + more <= MAX_HELD - 64;
            size += if fits { more } else { 0 };
            fits
        };
        let logs = logs
            .into_iter()
            .rev()
            .map(|(log, coverage)| (log, coverage.newest(MAX_RANGES_TOLD)));
        let logs = logs.filter(|(_, coverage)| fits(coverage));
        let logs = logs.map(|(log, coverage)| (log.store, log.epoch, coverage));
        Self {
            origin,
            logs: logs.collect(),
        }
    }

    pub(super) fn logs(self) -> BTreeMap<LogId, Coverage> {
        let origin = self.origin;
        let log = |(store, epoch, coverage)| {
            (
                LogId {
                    origin,
                    store,
                    epoch,
                },
                coverage,
            )
        };
        self.logs.into_iter().map(log).collect()
    }
}

impl Question {
    pub(super) fn encode(&self) -> Bytes {
        frame(
            0,
            &postcard::to_stdvec(self).expect("plain data always serialises"),
        )
    }

    /// A frame's inside, without its length.
    pub(super) fn decode(inside: &Bytes) -> Option<Self> {
        let (0, body) = open(inside)? else {
            return None;
        };
        let (question, rest) = postcard::take_from_bytes(&body).ok()?;
        rest.is_empty().then_some(question)
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Self::End => frame(0, &[]),
            Self::Held(held) => frame(
                1,
                &postcard::to_stdvec(held).expect("plain data always serialises"),
            ),
            Self::Row(bytes) => frame(2, bytes),
            Self::Block(bytes) => frame(3, bytes),
            Self::Seal(bytes) => frame(4, bytes),
            Self::Schema(bytes) => frame(5, bytes),
            Self::Points(bytes) => frame(6, bytes),
            Self::Covered(covered) => frame(
                7,
                &postcard::to_stdvec(covered).expect("plain data always serialises"),
            ),
        }
    }

    /// A frame's inside, without its length.
    pub(super) fn decode(inside: &Bytes) -> Option<Self> {
        let (tag, body) = open(inside)?;
        Some(match tag {
            0 if body.is_empty() => Self::End,
            1 => Self::Held(postcard::from_bytes(&body).ok()?),
            2 => Self::Row(body),
            3 => Self::Block(body),
            4 => Self::Seal(body),
            5 => Self::Schema(body),
            6 => Self::Points(body),
            7 => Self::Covered(postcard::from_bytes(&body).ok()?),
            _ => return None,
        })
    }
}

fn frame(tag: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(6 + body.len());
    bytes.put_u32_le(2 + body.len() as u32);
    bytes.put_u8(VERSION);
    bytes.put_u8(tag);
    bytes.put_slice(body);
    bytes.freeze()
}

fn open(inside: &Bytes) -> Option<(u8, Bytes)> {
    let &[version, tag] = inside.first_chunk()?;
    (version == VERSION).then(|| (tag, inside.slice(2..)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::replica::digest::Open;

    fn log() -> impl Strategy<Value = LogId> {
        any::<([u8; 32], u64, u32, u64)>().prop_map(|(origin, store, counter, nonce)| LogId {
            origin: Origin(origin),
            store: StoreId(store),
            epoch: Epoch { counter, nonce },
        })
    }

    fn rows() -> impl Strategy<Value = IntervalSet> {
        vec((1..100_000u32, 0..500u32), 0..40).prop_map(|runs| {
            runs.into_iter()
                .map(|(first, more)| first..=first + more)
                .collect()
        })
    }

    fn coverage() -> impl Strategy<Value = Coverage> {
        (rows(), rows()).prop_map(|(held, gone)| Coverage { held, gone })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        (
            log(),
            any::<[u8; 16]>(),
            proptest::option::of(proptest::option::of(coverage())),
        )
            .prop_map(|(log, closed, open)| Entry {
                origin: log.origin,
                closed,
                open: open.map(|coverage| Open {
                    store: log.store,
                    epoch: log.epoch,
                    coverage,
                }),
            })
    }

    fn question() -> impl Strategy<Value = Question> {
        prop_oneof![
            vec(any::<[u8; 32]>().prop_map(Origin), 0..16).prop_map(Question::Held),
            (log(), rows()).prop_map(|(log, rows)| Question::Rows(log, rows)),
            vec((log(), any::<u32>()), 0..64).prop_map(Question::Seals),
            (
                any::<[u8; 32]>(),
                vec(any::<[u8; 32]>().prop_map(SchemaHash), 0..8)
            )
                .prop_map(|(hash, known)| Question::Schema(SchemaHash(hash), known)),
            (log(), any::<(i64, i64, u16)>()).prop_map(|(log, (from_ms, to_ms, step_s))| {
                Question::Points(PointsAsked {
                    origin: log.origin,
                    series: "*".into(),
                    from_ms,
                    to_ms,
                    step_s,
                })
            }),
        ]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let bytes = || vec(any::<u8>(), 0..2_000).prop_map(Bytes::from);
        prop_oneof![
            Just(Answer::End),
            (log(), coverage()).prop_map(|(log, coverage)| {
                Answer::Held(HeldAnswer::new(
                    log.origin,
                    BTreeMap::from([(log, coverage)]),
                ))
            }),
            bytes().prop_map(Answer::Row),
            bytes().prop_map(Answer::Block),
            bytes().prop_map(Answer::Seal),
            bytes().prop_map(Answer::Schema),
            bytes().prop_map(Answer::Points),
            vec(any::<(i64, i64)>(), 0..9).prop_map(|runs| {
                let tiers = vec![(10, 1, 2)];
                Answer::Covered(Covered { runs, tiers })
            }),
        ]
    }

    #[test]
    fn a_log_with_many_holes_leaves_room_for_the_others_in_a_full_answer() {
        let origin = Origin([1; 32]);
        let log = |counter| LogId {
            origin,
            store: StoreId(1),
            epoch: Epoch { counter, nonce: 1 },
        };
        let coverage = |stretches: u32| Coverage {
            held: (1..=stretches).map(|at| 2 * at..=2 * at).collect(),
            gone: IntervalSet::new(),
        };
        let holed = (10..=18).map(|counter| (log(counter), coverage(30_000)));
        let logs = holed.chain([(log(1), coverage(1))]).collect();
        let answer = HeldAnswer::new(origin, logs);
        let bytes = Answer::Held(answer.clone()).encode();
        let told = answer.logs();
        assert_eq!(told[&log(1)], coverage(1));
        assert_eq!(told[&log(18)].held.last(), Some(60_000));
        assert!(
            told.len() > 4 && bytes.len() <= MAX_HELD,
            "{} logs in {} bytes",
            told.len(),
            bytes.len()
        );
    }

    proptest! {
        #[test]
        fn a_row_of_any_length_is_cut_and_put_together(log in log(), seq in any::<u32>(), row in vec(any::<u8>(), 1..9_000)) {
            let Some(parts) = Part::cut(&log, seq, &row) else {
                prop_assert!(row.len() > MAX_PARTS * PART_BODY);
                return Ok(());
            };
            let mut whole = Vec::new();
            for (index, bytes) in parts.iter().enumerate() {
                prop_assert!(bytes.len() <= MAX_MESSAGE);
                let part = Part::decode(bytes).unwrap();
                prop_assert_eq!((part.index as usize, part.count as usize), (index, parts.len()));
                prop_assert_eq!((part.log(log.origin), part.seq), (log, seq));
                whole.extend_from_slice(&part.body);
            }
            prop_assert_eq!(whole, row);
        }

        #[test]
        fn a_row_that_is_handed_on_is_cut_with_its_origin(log in log(), seq in any::<u32>(), row in vec(any::<u8>(), 1..9_000)) {
            let Some(parts) = HandedOn::cut(&log, seq, &row) else {
                prop_assert!(row.len() > MAX_PARTS * (PART_BODY - HandedOn::HEAD));
                return Ok(());
            };
            let mut whole = Vec::new();
            for bytes in &parts {
                prop_assert!(bytes.len() <= MAX_MESSAGE);
                let handed = HandedOn::decode(bytes).unwrap();
                prop_assert_eq!((handed.part.log(handed.origin), handed.part.seq), (log, seq));
                whole.extend_from_slice(&handed.part.body);
            }
            prop_assert_eq!(whole, row);
        }

        #[test]
        fn questions_survive_the_wire(question in question()) {
            prop_assert_eq!(Question::decode(&question.encode().slice(4..)), Some(question));
        }

        #[test]
        fn answers_survive_the_wire(answer in answer()) {
            prop_assert_eq!(Answer::decode(&answer.encode().slice(4..)), Some(answer));
        }

        #[test]
        fn every_entry_of_a_digest_arrives_in_messages_that_fit(entries in vec(entry(), 0..40)) {
            let messages = digests(entries.clone());
            prop_assert!(messages.iter().all(|message| message.len() <= MAX_MESSAGE));
            let arrived: Vec<Entry> = messages.iter().flat_map(|message| from_small::<Vec<Entry>>(message).unwrap()).collect();
            prop_assert_eq!(arrived.len(), entries.len());
            for (sent, got) in entries.iter().zip(&arrived) {
                prop_assert_eq!((sent.origin, sent.closed, sent.open_log()), (got.origin, got.closed, got.open_log()));
            }
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in vec(any::<u8>(), 0..1_200)) {
            let bytes = Bytes::from(bytes);
            if let Some(part) = Part::decode(&bytes) {
                prop_assert_eq!(part.encode(), bytes.clone());
            }
            let _ = from_small::<Vec<Entry>>(&bytes);
            let _ = from_small::<KeyRow>(&bytes);
            let _ = Question::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }

        #[test]
        fn altered_messages_are_refused_or_read_without_a_panic(question in question(), answer in answer(), at in any::<usize>(), bit in 0..8u8) {
            for frame in [question.encode(), answer.encode()] {
                let mut bytes = frame.slice(4..).to_vec();
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
                let bytes = Bytes::from(bytes);
                let _ = Question::decode(&bytes);
                let _ = Answer::decode(&bytes);
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = small(&KeyRow {
            store: StoreId(1),
            epoch: Epoch {
                counter: 1,
                nonce: 2,
            },
            seq: 3,
        })
        .to_vec();
        assert!(from_small::<KeyRow>(&bytes).is_some());
        bytes[0] = 2;
        assert_eq!(from_small::<KeyRow>(&bytes), None);
    }
}
