//! What a fuzzer may throw at this crate: one function a parser of foreign bytes.
//!
//! Each says whether the bytes were taken, and asserts what must hold of whatever was: it is encoded again to the same
//! bytes (or, where a format leaves a choice, to bytes that read the same), and is within its bounds.
//! In tests every target runs over the inputs kept in `tests/fuzz/corpus/store`. Absent from releases.

use std::path::PathBuf;

use crate::block::{MAX_RAW_BYTES, Pack};
use crate::disk::Disk;
use crate::interval::MAX_RANGES;
use crate::key::{block::BlockKey, gone, schema};
use crate::record::{self, Records};
use crate::retain::GoneLedger;
use crate::rollup::Rollup;
use crate::schemas::Schemas;
use crate::series::{MAX_SCHEMA_BYTES, MAX_SERIES};
use crate::tail::Spool;
use crate::{
    Block, Clock, ClockSource, Epoch, Head, IntervalSet, LogId, Origin, Pattern, Row, SchemaDelta,
    SchemaHash, Seal, Seq, Series, SignedRow, StoreId, delta_key,
};

/// A name, and what runs over the bytes: true if they were taken.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every parser of this crate that reads what others wrote.
pub const TARGETS: &[Target] = &[
    ("row", row),
    ("delta", delta),
    ("block", block),
    ("columns", columns),
    ("pack", pack),
    ("seal", seal),
    ("rollup", rollup),
    ("rollup-columns", rollup_columns),
    ("schema", schema),
    ("intervals", intervals),
    ("bitmap", bitmap),
    ("records", records),
    ("files", files),
    ("keys", keys),
    ("pattern", pattern),
];

/// A signed row as others send it and the spool keeps it.
fn row(bytes: &[u8]) -> bool {
    let Ok(row) = SignedRow::decode(bytes) else {
        return false;
    };
    assert_eq!(row.encode(), bytes, "a row has one encoding");
    assert!(row.row.values.len() <= MAX_SERIES);
    assert_eq!(delta_key(bytes), Ok(None));
    let _ = row.row.wall_ms();
    true
}

/// A live row relative to a fixed key row.
fn delta(bytes: &[u8]) -> bool {
    let key = key_row();
    let needs = delta_key(bytes);
    let Ok(row) = SignedRow::from_delta(&key, bytes) else {
        return false;
    };
    assert!(needs.is_ok_and(|seq| seq.is_none_or(|seq| seq == key.seq)));
    assert!(row.row.values.len() <= MAX_SERIES);
    if row.row.log == key.log && row.row.seq > key.seq {
        let again = SignedRow::from_delta(&key, &row.delta(&key));
        assert_eq!(again.as_ref(), Ok(&row), "a delta reads back");
    }
    true
}

/// A block as it is stored and sent; its checksum is set right first, which no mutation would.
fn block(bytes: &[u8]) -> bool {
    let mut whole = bytes.to_vec();
    whole.extend_from_slice(&crc32c::crc32c(bytes).to_be_bytes());
    let Ok(block) = Block::decode(&whole, &|_, _, _| true) else {
        return false;
    };
    survives(&block);
    true
}

/// The inside of a block: its head, then its columns before they were packed.
fn columns(bytes: &[u8]) -> bool {
    let Some(whole) = crate::block::pack(bytes) else {
        return false;
    };
    let Ok(block) = Block::decode(&whole, &|_, _, _| true) else {
        return false;
    };
    assert_eq!(block.encode(), whole, "a block has one encoding");
    survives(&block);
    true
}

/// A pack as the disk keeps it; its checksum is set right first.
fn pack(bytes: &[u8]) -> bool {
    let mut whole = bytes.to_vec();
    whole.extend_from_slice(&crc32c::crc32c(bytes).to_be_bytes());
    let Ok(pack) = Pack::read(&whole) else {
        return false;
    };
    let heads: Vec<Head> = pack.heads().cloned().collect();
    assert_eq!(Pack::peek(&whole).as_ref(), Ok(&heads));
    let Ok(blocks) = pack.blocks(|_| true) else {
        return false;
    };
    assert!(blocks.iter().map(Block::head).eq(&heads));
    let samples: u64 = blocks.iter().map(Block::samples).sum();
    assert!(
        samples <= pack.sheet().samples(),
        "nothing comes out that is not in"
    );
    let rows: usize = heads.iter().map(|head| usize::from(head.count)).sum();
    let columns = pack.sheet().columns_of(&[0, MAX_SERIES], 1..rows);
    assert!(columns.iter().all(|column| column.len() == rows - 1));
    true
}

fn survives(block: &Block) {
    let rows = block.rows();
    assert_eq!(rows.len(), usize::from(block.head().count));
    assert!(rows.len() <= 60 && rows.iter().all(|row| row.values.len() <= MAX_SERIES));
    let samples: usize = rows.iter().map(Row::samples).sum();
    assert_eq!(block.samples(), samples as u64);
    assert_eq!(Head::peek(&block.encode()).as_ref(), Ok(block.head()));
    assert_eq!(Seal::decode(&block.seal().encode()), Ok(block.seal()));
    let again = Block::decode(&block.encode(), &|_, _, _| true).expect("what was read is written");
    assert_eq!(again.rows(), rows);
    assert_eq!(block.columns(&[0, MAX_SERIES, usize::MAX]).len(), 3);
    let _ = block.head().wall_ms(None);
}

/// The word of an origin that a block is complete.
fn seal(bytes: &[u8]) -> bool {
    let Ok(seal) = Seal::decode(bytes) else {
        return false;
    };
    assert_eq!(seal.encode(), bytes, "a seal has one encoding");
    assert!(seal.first >= 1 && (1..=60).contains(&seal.count));
    assert!(seal.last() >= seal.first);
    true
}

/// The body of a record of roll-ups.
fn rollup(bytes: &[u8]) -> bool {
    let Ok(rollup) = Rollup::read(bytes) else {
        return false;
    };
    sums_up(&rollup);
    true
}

/// The inside of one: its head, then its columns before they were packed.
fn rollup_columns(bytes: &[u8]) -> bool {
    crate::rollup::pack(bytes).is_some_and(|body| rollup(&body))
}

fn sums_up(rollup: &Rollup) {
    let (head, buckets) = (rollup.head(), rollup.buckets());
    let rows: u64 = buckets
        .iter()
        .map(|bucket| u64::from(bucket.span.rows))
        .sum();
    assert_eq!(
        rows,
        u64::from(head.last - head.first) + 1,
        "without a hole"
    );
    for bucket in &buckets {
        assert!(bucket.values.len() <= MAX_SERIES && bucket.span.rows <= head.tier.rows());
        for value in bucket.values.iter().flatten() {
            let count = i128::from(value.count);
            assert!((1..=bucket.span.rows).contains(&value.count));
            assert!(i128::from(value.min) * count <= value.sum);
            assert!(value.sum <= i128::from(value.max) * count);
            assert!(value.min <= value.last && value.last <= value.max);
        }
    }
    let again: Vec<_> = crate::rollup::rollups(&head.log, head.tier, &buckets)
        .iter()
        .flat_map(|body| {
            Rollup::read(body)
                .expect("what was read is written")
                .buckets()
        })
        .collect();
    assert_eq!(again, buckets);
}

/// Series appended to a schema.
fn schema(bytes: &[u8]) -> bool {
    let Ok(delta) = SchemaDelta::decode(bytes) else {
        return false;
    };
    assert_eq!(delta.encode(), bytes, "a schema has one encoding");
    assert!((1..=MAX_SERIES).contains(&delta.appended.len()) && bytes.len() <= MAX_SCHEMA_BYTES);
    for series in &delta.appended {
        let printed = series.to_string();
        if let Ok(pattern) = Pattern::parse(&printed) {
            assert!(
                pattern.matches(series),
                "a printed series is a pattern for itself"
            );
        } else {
            assert!(
                printed.len() > 4_096,
                "only its length keeps a series from being a pattern"
            );
        }
    }
    true
}

/// An interval set in a digest or an answer.
fn intervals(bytes: &[u8]) -> bool {
    let Ok((set, _rest)) = postcard::take_from_bytes::<IntervalSet>(bytes) else {
        return false;
    };
    let ranges: Vec<_> = set.ranges().collect();
    assert!(ranges.len() <= MAX_RANGES);
    assert!(
        ranges
            .windows(2)
            .all(|pair| pair[0].end() + 1 < *pair[1].start()),
        "sorted, and no two touch"
    );
    let again = postcard::to_stdvec(&set).expect("plain data can be written");
    assert_eq!(
        postcard::from_bytes::<IntervalSet>(&again).as_ref(),
        Ok(&set)
    );
    assert!(again.len() <= bytes.len());
    let rebuilt: IntervalSet = ranges.into_iter().rev().collect();
    assert_eq!(rebuilt, set);
    assert!(set.subtract(&set).is_empty());
    assert_eq!((set.union(&set), set.intersect(&set)), (set.clone(), set));
    true
}

/// Two interval sets made by the bytes as a list of steps, beside two bitmaps. A step is three bytes: which set and
/// whether to add or take, the first number, how many more.
fn bitmap(bytes: &[u8]) -> bool {
    let mut sets = [IntervalSet::new(), IntervalSet::new()];
    let mut maps = [[false; 512], [false; 512]];
    for step in bytes.chunks_exact(3).take(200) {
        let which = usize::from(step[0] & 1);
        let (first, last) = (Seq::from(step[1]), Seq::from(step[1]) + Seq::from(step[2]));
        let adds = step[0] & 2 == 0;
        if adds {
            sets[which].insert(first..=last);
        } else {
            sets[which].remove(first..=last);
        }
        maps[which][first as usize..=last as usize].fill(adds);
    }
    let [a, b] = &sets;
    let made = [
        (a.clone(), maps[0]),
        (
            a.union(b),
            std::array::from_fn(|i| maps[0][i] || maps[1][i]),
        ),
        (
            a.intersect(b),
            std::array::from_fn(|i| maps[0][i] && maps[1][i]),
        ),
        (
            a.subtract(b),
            std::array::from_fn(|i| maps[0][i] && !maps[1][i]),
        ),
    ];
    for (set, map) in &made {
        let bits = map.iter().filter(|bit| **bit).count();
        assert_eq!(set.len(), bits as u64);
        assert!((0..512).all(|seq| set.contains(seq) == map[seq as usize]));
        assert!(set.ranges().all(|range| set.covers(range)));
        let bytes = postcard::to_stdvec(set).expect("plain data can be written");
        assert_eq!(
            postcard::from_bytes::<IntervalSet>(&bytes).as_ref(),
            Ok(set)
        );
    }
    bytes.len() >= 3
}

/// An append-only file after a crash. The bytes are damage laid over a whole file: each three are a place and what is
/// turned over there, a last odd byte cuts the file.
fn records(bytes: &[u8]) -> bool {
    let row = key_row().sign(&|_| [7; 64]).encode();
    let bodies = [&b"first"[..], &row, b"", b"olol", &row[..60]];
    let mut file = Vec::new();
    let mut ends = Vec::new();
    for body in bodies {
        record::put(&mut file, 1, body);
        ends.push(file.len());
    }
    let mut hit = vec![false; file.len()];
    for damage in bytes.chunks_exact(3) {
        let at = usize::from(damage[0]) << 8 | usize::from(damage[1]);
        if let Some(byte) = file.get_mut(at) {
            *byte ^= damage[2];
            hit[at] |= damage[2] != 0;
        }
    }
    if let [cut] | [.., cut] = bytes.chunks_exact(3).remainder() {
        file.truncate(file.len().saturating_sub(usize::from(*cut)));
    }
    let mut walk = Records::new(&file);
    let found: Vec<Vec<u8>> = walk.by_ref().map(|(_, body)| body.to_vec()).collect();
    assert!(walk.good_end <= file.len());
    let mut start = 0;
    for (body, end) in bodies.iter().zip(ends) {
        if end <= file.len() && !hit[start..end].contains(&true) {
            assert!(
                found.iter().any(|one| one == body),
                "damage elsewhere cost {body:?}"
            );
        }
        start = end;
    }
    !found.is_empty()
}

/// The bytes as the spool's segment, as `schemas` and as `gone`, behind one good record each.
fn files(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    let dir = &scratch.0;
    let spool = dir.join("spool");
    let row = key_row().sign(&|_| [7; 64]);
    let written = std::fs::create_dir_all(&spool).and_then(|()| {
        let mut file = Vec::new();
        record::put(&mut file, 1, &row.encode());
        file.extend_from_slice(bytes);
        std::fs::write(spool.join("00000001"), &file)?;
        std::fs::write(dir.join("schemas"), bytes)?;
        std::fs::write(dir.join("gone"), bytes)
    });
    written.expect("a temporary directory can be written");
    let (_spool, recovered) =
        Spool::open(&Disk::Real, &spool, 1 << 20, &|_| true).expect("damage is no error");
    assert_eq!(recovered.rows.first(), Some(&row));
    assert!(recovered.rows.len() + recovered.damaged as usize <= bytes.len() + 1);
    let (_schemas, _file, useless) = Schemas::open(&Disk::Real, dir).expect("damage is no error");
    let (_gone, ranges) = GoneLedger::open(&Disk::Real, dir).expect("damage is no error");
    recovered.rows.len() > 1 || !ranges.0.is_empty() || useless > 0
}

/// Keys and small values; the first byte says of which kind.
fn keys(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else {
        return false;
    };
    match kind % 5 {
        0 => BlockKey::decode(bytes).is_ok_and(|key| {
            assert_eq!(key.encode(), bytes);
            true
        }),
        1 => gone::GoneKey::decode(bytes).is_ok_and(|key| {
            assert_eq!(key.encode(), bytes);
            true
        }),
        2 => schema::SchemaKey::decode(bytes).is_ok_and(|key| {
            assert_eq!(key.encode(), bytes);
            true
        }),
        3 => {
            let mut value = bytes.to_vec();
            value.extend_from_slice(&crc32c::crc32c(bytes).to_be_bytes());
            gone::Gone::decode(&value).is_ok_and(|gone| {
                assert_eq!(gone.encode(), value);
                true
            })
        }
        _ => {
            let Ok(delta) = SchemaDelta::decode(bytes) else {
                return false;
            };
            let key = schema::SchemaKey {
                origin: Origin([7; 32]),
                hash: delta.hash(),
            };
            assert_eq!(
                schema::decode_value(&key, &schema::encode_value(&delta)),
                Ok(delta)
            );
            true
        }
    }
}

/// A pattern for series, as people and pages send it.
fn pattern(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(pattern) = Pattern::parse(&text) else {
        return false;
    };
    let _ = pattern.matches(&a_series());
    true
}

/// The key row that deltas are relative to.
pub(crate) fn key_row() -> Row {
    Row {
        log: LogId {
            origin: Origin([7; 32]),
            store: StoreId(0x0102_0304_0506_0708),
            epoch: Epoch {
                counter: 3,
                nonce: 9,
            },
        },
        seq: 61,
        schema: SchemaHash([8; 32]),
        boot_ms: 61_000,
        clock: Clock {
            offset_ms: 1_700_000_000_000,
            uncertainty_ms: 50,
            source: ClockSource::Ntp,
        },
        values: vec![Some(1), None, Some(-3), Some(i64::MAX), Some(5)],
    }
}

/// A series with two labels.
pub(crate) fn a_series() -> Series {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let labels = [label("cpu", "0"), label("mode", "idle")];
    Series::new(
        "node_cpu_seconds_total",
        labels,
        "seconds",
        crate::Kind::Counter,
        -2,
    )
    .expect("a series as collectors make them")
}

/// A directory of this thread's, in memory where that is possible; it goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        let (process, thread) = (std::process::id(), std::thread::current().id());
        Self(base.join(format!("outlast-fuzz-{process}-{thread:?}")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const _: () = assert!(
    MAX_RAW_BYTES < 4 << 20,
    "what a block unpacks to is bounded"
);

#[cfg(test)]
#[path = "../../tests/fuzz/kept.rs"]
mod kept;

#[cfg(test)]
#[path = "../../tests/released/pinned.rs"]
mod pinned;

#[cfg(test)]
mod tests;
