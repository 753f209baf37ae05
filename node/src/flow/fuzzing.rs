//! What a fuzzer may throw at a flow: what peers send in small messages and on streams.
//!
//! Absent from releases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{MAX_MESSAGE, NodeId};
use outlast_store::Origin;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::core::Subscribe;
use super::inward::{Got, Inward};
use super::points::{Page, Union};
use super::wire::{Answer, HandedOn, KeyRow, MAX_PARTS, Part, Question, from_small, small};
use crate::replica::digest::Entry;
use crate::summary::message::Message;
use crate::summary::{Members, Standing, Summaries};

const PEER: Origin = Origin([1; 32]);

/// Parts of live rows from one peer, each behind its length (two bytes, big-endian), a second apart.
pub(crate) fn live(bytes: &[u8]) -> bool {
    let (mut inward, start) = (Inward::default(), Instant::now());
    let mut now = start;
    let (mut asked, mut taken) = (0, false);
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (part, after) = after.split_at(len);
        rest = after;
        now += Duration::from_secs(1);
        let Some(part) = Part::decode(&Bytes::copy_from_slice(part)) else {
            continue;
        };
        assert!(usize::from(part.count) <= MAX_PARTS && part.index < part.count);
        let of = (part.log(PEER), part.seq);
        let got = inward.handle_part(PEER, part, now);
        for one in &got {
            match one {
                Got::Row(row) => {
                    assert_eq!(row.row.log.origin, PEER, "a peer speaks for itself");
                    taken = true;
                }
                Got::Ask(_) => asked += 1,
                Got::Refused(_) | Got::Unreadable => {}
            }
        }
        let first = got.iter().find_map(|one| match one {
            Got::Row(row) => Some((row.row.log, row.row.seq)),
            _ => None,
        });
        assert!(first.is_none_or(|first| first == of));
        assert!(inward.waiting() <= 32);
    }
    assert!(asked <= now.duration_since(start).as_secs());
    taken
}

/// A part of a row with its origin, as it crosses to another site.
pub(crate) fn handed(bytes: &[u8]) -> bool {
    let Some(handed) = HandedOn::decode(&Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let (log, part) = (handed.part.log(handed.origin), &handed.part);
    assert!(usize::from(part.count) <= MAX_PARTS && part.index < part.count);
    if part.count == 1
        && let Some(again) = HandedOn::cut(&log, part.seq, &part.body)
    {
        assert_eq!(again.len(), 1);
        assert_eq!(HandedOn::decode(&again[0]), Some(handed));
    }
    true
}

/// A digest or a request for a key row.
pub(crate) fn digest(bytes: &[u8]) -> bool {
    let mut taken = false;
    if let Some(entries) = from_small::<Vec<Entry>>(bytes) {
        assert!(entries.len() <= bytes.len());
        let again = small(&entries);
        assert_eq!(from_small::<Vec<Entry>>(&again), Some(entries));
        assert!(again.len() <= bytes.len(), "a shorter form exists");
        taken = true;
    }
    if let Some(wanted) = from_small::<KeyRow>(bytes) {
        assert_eq!(from_small::<KeyRow>(&small(&wanted)), Some(wanted));
        taken = true;
    }
    taken
}

/// Summaries, and a request for live rows.
pub(crate) fn summary(bytes: &[u8]) -> bool {
    let mut taken = false;
    if let Some(message) = Message::decode(bytes) {
        assert_eq!(message.encode(), bytes, "one form only");
        assert!(message.entries.is_sorted_by_key(|entry| entry.age));
        let (me, peer) = (NodeId([0; 32]), NodeId(PEER.0));
        let (now, rng) = (Instant::now(), ChaCha8Rng::seed_from_u64(0));
        let mut summaries = Summaries::new(me, 16, rng, now);
        let members = [me, peer, NodeId([2; 32])].map(|node| (node, Standing::default()));
        summaries.handle_members(Arc::new(Members::new(members.into())));
        summaries.handle_connected(peer);
        assert!(summaries.handle_message(peer, bytes, now).is_ok());
        assert!(
            summaries.all(now).count() <= 2,
            "members, and never this node"
        );
        taken = true;
    }
    if let Some(asked) = from_small::<Subscribe>(bytes) {
        assert_eq!(small(&asked), bytes);
        taken = true;
    }
    taken
}

/// A question on a stream.
pub(crate) fn question(bytes: &[u8]) -> bool {
    let Some(question) = Question::decode(&Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let again = question.encode().slice(4..);
    assert!(again.len() <= bytes.len(), "a shorter form exists");
    assert_eq!(Question::decode(&again), Some(question));
    true
}

/// A frame of an answer on a stream.
pub(crate) fn answer(bytes: &[u8]) -> bool {
    let Some(answer) = Answer::decode(&Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let again = answer.encode().slice(4..);
    assert_eq!(Answer::decode(&again).as_ref(), Some(&answer));
    assert!(again.len() <= bytes.len().max(MAX_MESSAGE));
    if let Answer::Points(bytes) = &answer
        && let Some(page) = Page::decode(bytes)
    {
        let mut union = Union::default();
        union.add_page(&page);
        for series in union.into_series(PEER, 0..=1_000_000) {
            assert!(series.points.is_sorted_by_key(|(at_ms, _)| *at_ms));
        }
    }
    if let Answer::Held(held) = answer {
        let logs = held.logs();
        assert!(
            logs.keys()
                .all(|log| log.origin == logs.keys().next().expect("not empty").origin)
        );
    }
    true
}

#[cfg(test)]
fn page() -> Page {
    use outlast_store::{Kind, Series, SeriesPoints};

    let labels = [("cpu".to_owned(), "0".to_owned())];
    let series = Series::new(
        "node_cpu_seconds_total",
        labels,
        "seconds",
        Kind::Counter,
        -2,
    );
    let points = [(1_000, Some(1.5)), (2_000, None), (9_000, Some(2.25))];
    let found = SeriesPoints {
        origin: PEER,
        series: series.unwrap(),
        step_ms: 1_000,
        points: points.into(),
        extents: Vec::new(),
        tiers: Vec::new(),
    };
    Page::cut(&found).remove(0)
}

#[cfg(test)]
#[expect(clippy::too_many_lines, reason = "a flat table, one entry a target")]
pub(crate) fn flow_seeds(target: &str) -> Vec<Vec<u8>> {
    use super::live::LiveRows;
    use super::points::{Covered, PointsAsked};
    use super::wire::HeldAnswer;
    use crate::replica::digest::{Coverage, Open};
    use crate::summary::gauges::Gauges;
    use crate::summary::message::{Entry as Entry68, SYNCED, ShortId};
    use outlast_store::{Clock, ClockSource, Epoch, LogId, Row, SchemaHash, StoreId};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    let log = LogId {
        origin: PEER,
        store: StoreId(2),
        epoch: Epoch {
            counter: 3,
            nonce: 4,
        },
    };
    let coverage = Coverage {
        held: [1..=60, 70..=99].into_iter().collect(),
        gone: [61..=61].into_iter().collect(),
    };
    match target {
        "live" => {
            let mut rows = LiveRows::default();
            let mut parts = Vec::new();
            for seq in 1..=3 {
                let row = Row {
                    log,
                    seq,
                    schema: SchemaHash([5; 32]),
                    boot_ms: u64::from(seq) * 1_000,
                    clock: Clock {
                        offset_ms: 1_700_000_000_000,
                        uncertainty_ms: 50,
                        source: ClockSource::Ntp,
                    },
                    values: (0..30)
                        .map(|i| (i % 7 > 0).then_some(i * 1_000_003))
                        .collect(),
                };
                parts.extend(rows.parts_of(Arc::new(row.sign(&|_| [7; 64]))).unwrap());
            }
            let framed = |part: &Bytes| [&(part.len() as u16).to_be_bytes()[..], part].concat();
            let late: Vec<u8> = parts.iter().rev().flat_map(framed).collect();
            vec![parts.iter().flat_map(framed).collect(), late]
        }
        "handed" => {
            let cut = |row: &[u8]| HandedOn::cut(&log, 7, row).expect("short enough");
            let parts = [cut(&[8; 40]), cut(&[9; 2_000])].concat();
            parts.iter().map(|part| part.to_vec()).collect()
        }
        "digest" => {
            let entry = |open| Entry {
                origin: PEER,
                closed: [9; 16],
                open,
            };
            let open = |coverage| {
                Some(Open {
                    store: log.store,
                    epoch: log.epoch,
                    coverage,
                })
            };
            let wanted = KeyRow {
                store: log.store,
                epoch: log.epoch,
                seq: 5,
            };
            let entries = vec![entry(None), entry(open(None)), entry(open(Some(coverage)))];
            vec![small(&entries).to_vec(), small(&wanted).to_vec()]
        }
        "summary" => {
            let entry = |id, age_ms| Entry68 {
                id,
                tick: 0x1234,
                marks: SYNCED,
                age: Duration::from_millis(age_ms),
                gauges: Gauges::pack(&[0.25, 0.5, 1e6, 2e3, 0.0, f64::NAN, 1.5, 0.9]),
            };
            let entries = vec![
                entry(ShortId::Short([1; 3]), 900),
                entry(ShortId::Long([2; 8]), 700_000),
            ];
            let message = Message {
                answer: true,
                entries,
            };
            let asked = Subscribe { origin: PEER };
            vec![message.encode().to_vec(), small(&asked).to_vec()]
        }
        "question" => [
            Question::Held(vec![PEER, Origin([2; 32])]),
            Question::Rows(log, coverage.held),
            Question::Seals(vec![(log, 1), (log, 61)]),
            Question::Schema(SchemaHash([5; 32]), vec![SchemaHash([6; 32])]),
            Question::Points(PointsAsked {
                origin: PEER,
                series: "node_load*".into(),
                from_ms: 1_700_000_000_000,
                to_ms: 1_700_000_600_000,
                step_s: 10,
            }),
        ]
        .map(|question| question.encode().slice(4..).to_vec())
        .into(),
        _ => [
            Answer::End,
            Answer::Held(HeldAnswer::new(PEER, BTreeMap::from([(log, coverage)]))),
            Answer::Row(Bytes::from_static(b"row")),
            Answer::Block(Bytes::from_static(b"block")),
            Answer::Seal(Bytes::from_static(b"seal")),
            Answer::Schema(Bytes::from_static(b"schema")),
            Answer::Points(page().encode().into()),
            Answer::Covered(Covered {
                runs: vec![(1_000, 2_000), (9_000, 9_000)],
                tiers: vec![(10, 1_000, 9_000)],
            }),
        ]
        .map(|answer| answer.encode().slice(4..).to_vec())
        .into(),
    }
}
