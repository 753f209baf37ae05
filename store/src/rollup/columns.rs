//! Buckets of one log and tier as columns: the body of a record in `rollup/`.
//!
//! Byte by byte (big-endian; varints as in `varint`): `1` version; tier (`1` ten rows, `2` sixty, `3` 3,600); log 52; first
//! seq 4; last seq 4; varint number of buckets; boot time of the rows: the lowest as a varint and how far the highest is
//! above it; clock offsets the same, the lowest zigzagged; `0`, or `1` and the offset of the first row with a synced clock,
//! zigzagged; codec `1`: one zstd frame, level 3, that names its size. The record around it has the checksum.
//!
//! The frame: varint number of schema runs, for each its number of buckets as a varint, its hash 32 and its number of series
//! as a varint; then a table (see `block::column`) with a row for each bucket: first seq, number of rows, boot time of the
//! first row less a second for each seq before it, how much later the last row was, the clock's offset, uncertainty and
//! source, the first synced offset (missing where there is none); then for each series of the widest schema how many rows
//! have no value, after these for each series the mean rounded down, then what is left of the sum, then how far the lowest
//! value is below the mean, then how far the highest is above it, then how far the last value is below the highest. All
//! six are missing where no row of the bucket has a value. Of a counter most of these never change.
//!
//! The rows of one follow each other without a hole, so its head says just which rows it stands for.
//! Bounds: `MAX_BUCKETS` a rollup and `MAX_CELLS` of them times series; a rollup that would not fit in a record is cut in two.

use std::ops::RangeInclusive;

use super::{Bucket, Span, Summary};
use crate::block::column::{self, Columns};
use crate::block::{full, unpack};
use crate::query::Step;
use crate::record::MAX_BODY;
use crate::sample::{Clock, ClockSource, LogId, Seq};
use crate::series::{MAX_SERIES, SchemaHash};
use crate::varint::{FormatError, Reader, put_i64, put_u64};

const VERSION: u8 = 1;
const CODEC_ZSTD: u8 = 1;
const LEVEL: i32 = 3;
/// Buckets a rollup: an hour of ten rows each.
const MAX_BUCKETS: usize = 360;
/// Buckets times series a rollup; one bucket of `MAX_SERIES` always fits.
const MAX_CELLS: usize = 98_304;
/// So many cells are worth a roll-up of their own.
pub(crate) const HALF_FULL: usize = MAX_CELLS / 2;
/// Columns before those of the series.
const TIMES: usize = 8;
/// Columns a series has.
const PARTS: usize = 6;
/// What the columns may unpack to: ten bytes a number, ten for its column's code and first value.
const MAX_RAW: usize = PARTS * (MAX_CELLS * 11 + MAX_SERIES * (20 + MAX_BUCKETS / 8)) + (1 << 18);
const TICK_MS: u64 = 1_000;

/// What a rollup says about itself without being unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RollupHead {
    pub(crate) tier: Step,
    pub(crate) log: LogId,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    buckets: usize,
    pub(crate) boot_ms: RangeInclusive<u64>,
    pub(crate) offset_ms: RangeInclusive<i64>,
    /// The offset of the first row whose clock was synced. `None`: none was.
    pub(crate) synced_ms: Option<i64>,
}

/// Buckets of one log, by ascending seq; values are decoded when they are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Rollup {
    head: RollupHead,
    spans: Vec<Span>,
    runs: Vec<Run>,
    /// Series of the widest schema.
    width: usize,
    columns: Columns,
}

/// Buckets after one another that share a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) buckets: usize,
    pub(crate) schema: SchemaHash,
    pub(crate) width: usize,
}

/// The bodies of as many rollups as the buckets of a log need.
pub(crate) fn rollups(log: &LogId, tier: Step, buckets: &[Bucket]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let mut rest = buckets;
    while !rest.is_empty() {
        let mut cells = 0;
        let fits = |bucket: &&Bucket| {
            cells += bucket.values.len().max(1);
            cells <= MAX_CELLS
        };
        let most = rest.iter().take(MAX_BUCKETS).take_while(fits).count();
        let follows =
            |pair: &[Bucket]| pair[0].span.last().checked_add(1) == Some(pair[1].span.first);
        let most = 1 + rest[..most.max(1)]
            .windows(2)
            .take_while(|pair| follows(pair))
            .count();
        // Series that only some of the buckets have take their place in all of them.
        let count = (1..=most)
            .rev()
            .find(|count| widest(&rest[..*count]) * count <= MAX_CELLS)
            .unwrap_or(1);
        let (these, others) = rest.split_at(count);
        cut_to_fit(log, tier, these, &mut bodies);
        rest = others;
    }
    bodies
}

fn widest(buckets: &[Bucket]) -> usize {
    buckets.iter().map(|b| b.values.len()).max().unwrap_or(0)
}

fn cut_to_fit(log: &LogId, tier: Step, buckets: &[Bucket], bodies: &mut Vec<Vec<u8>>) {
    let body = encode(log, tier, buckets);
    if body.len() <= MAX_BODY || buckets.len() == 1 {
        // One bucket of the most series there are, incompressible, is below 350 KB.
        bodies.push(body);
    } else {
        let (left, right) = buckets.split_at(buckets.len() / 2);
        cut_to_fit(log, tier, left, bodies);
        cut_to_fit(log, tier, right, bodies);
    }
}

fn encode(log: &LogId, tier: Step, buckets: &[Bucket]) -> Vec<u8> {
    let mut raw = Vec::new();
    let runs: Vec<&[Bucket]> = buckets
        .chunk_by(|a, b| a.schema == b.schema && a.values.len() == b.values.len())
        .collect();
    put_u64(&mut raw, runs.len() as u64);
    for run in runs {
        put_u64(&mut raw, run.len() as u64);
        raw.extend_from_slice(&run[0].schema.0);
        put_u64(&mut raw, run[0].values.len() as u64);
    }
    column::encode(&mut raw, &table(buckets));
    let mut out = Vec::new();
    head_of(log, tier, buckets).write(&mut out);
    out.push(CODEC_ZSTD);
    let packed =
        zstd::bulk::compress(&raw, LEVEL).expect("memory to memory, with room for the worst case");
    out.extend_from_slice(&packed);
    out
}

fn table(buckets: &[Bucket]) -> Vec<Vec<Option<i64>>> {
    let spans = || buckets.iter().map(|bucket| &bucket.span);
    let mut table: Vec<Vec<Option<i64>>> = vec![
        spans().map(|span| Some(i64::from(span.first))).collect(),
        spans().map(|span| Some(i64::from(span.rows))).collect(),
        spans()
            .map(|span| Some(span.boot_ms.0.wrapping_sub(ticks(span.first)) as i64))
            .collect(),
        spans()
            .map(|span| Some(span.boot_ms.1.wrapping_sub(span.boot_ms.0) as i64))
            .collect(),
        spans().map(|span| Some(span.clock.offset_ms)).collect(),
        spans()
            .map(|span| Some(i64::from(span.clock.uncertainty_ms)))
            .collect(),
        spans()
            .map(|span| Some(i64::from(span.clock.source.to_byte())))
            .collect(),
        spans().map(|span| span.synced_ms).collect(),
    ];
    let width = widest(buckets);
    for part in 0..PARTS {
        for series in 0..width {
            let cell = |bucket: &Bucket| {
                let value = bucket.values.get(series).copied().flatten()?;
                Some(parts(&value, bucket.span.rows)[part])
            };
            table.push(buckets.iter().map(cell).collect());
        }
    }
    table
}

fn ticks(first: Seq) -> u64 {
    TICK_MS * u64::from(first)
}

fn parts(value: &Summary, rows: u32) -> [i64; PARTS] {
    let count = i128::from(value.count);
    // Between the lowest and the highest value.
    let mean = value.sum.div_euclid(count) as i64;
    [
        i64::from(rows - value.count),
        mean,
        value.sum.rem_euclid(count) as i64,
        mean.wrapping_sub(value.min),
        value.max.wrapping_sub(mean),
        value.max.wrapping_sub(value.last),
    ]
}

/// The inverse of `parts`; `None` where no rows have such values.
fn joined(parts: [i64; PARTS], rows: u32) -> Option<Summary> {
    let [missing, mean, rest, below, above, fell] = parts;
    let count = rows.checked_sub(u32::try_from(missing).ok()?)?;
    let sum = i128::from(mean) * i128::from(count) + i128::from(rest);
    let (min, max) = (mean.wrapping_sub(below), mean.wrapping_add(above));
    let last = max.wrapping_sub(fell);
    let good = (0..i64::from(count)).contains(&rest)
        && min <= mean
        && mean <= max
        && min <= last
        && last <= max;
    good.then_some(Summary {
        count,
        min,
        max,
        sum,
        last,
    })
}

fn head_of(log: &LogId, tier: Step, buckets: &[Bucket]) -> RollupHead {
    let spans = || buckets.iter().map(|bucket| &bucket.span);
    let boots = || spans().flat_map(|span| [span.boot_ms.0, span.boot_ms.1]);
    let offsets = || {
        spans()
            .flat_map(|span| [Some(span.clock.offset_ms), span.synced_ms])
            .flatten()
    };
    RollupHead {
        tier,
        log: *log,
        first: spans().next().map_or(1, |span| span.first),
        last: spans().next_back().map_or(1, Span::last),
        buckets: buckets.len(),
        boot_ms: boots().min().unwrap_or(0)..=boots().max().unwrap_or(0),
        offset_ms: offsets().min().unwrap_or(0)..=offsets().max().unwrap_or(0),
        synced_ms: spans().find_map(|span| span.synced_ms),
    }
}

impl RollupHead {
    /// Reads the head of a body and nothing behind it.
    pub(crate) fn peek(body: &[u8]) -> Result<Self, FormatError> {
        Self::read(&mut Reader::new(body, "a roll-up"))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(match self.tier {
            Step::Raw => 0,
            Step::S10 => 1,
            Step::M1 => 2,
            Step::H1 => 3,
        });
        out.extend_from_slice(&self.log.to_bytes());
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.last.to_be_bytes());
        put_u64(out, self.buckets as u64);
        put_u64(out, *self.boot_ms.start());
        put_u64(out, self.boot_ms.end() - self.boot_ms.start());
        let least = *self.offset_ms.start();
        put_i64(out, least);
        put_u64(out, self.offset_ms.end().wrapping_sub(least) as u64);
        out.push(u8::from(self.synced_ms.is_some()));
        if let Some(synced) = self.synced_ms {
            put_i64(out, synced);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        reader.version(VERSION)?;
        let tier = match reader.u8()? {
            1 => Step::S10,
            2 => Step::M1,
            3 => Step::H1,
            _ => return Err(FormatError::Invalid("a roll-up of an unknown tier")),
        };
        let (log, first, last) = (LogId::read(reader)?, reader.u32_be()?, reader.u32_be()?);
        if first == 0 || first > last {
            return Err(FormatError::Invalid("a roll-up of no rows"));
        }
        let buckets = reader.count("buckets of a roll-up", MAX_BUCKETS)?;
        let overflow = FormatError::Invalid("a roll-up's times are beyond 64 bits");
        let low = reader.u64()?;
        let high = low.checked_add(reader.u64()?).ok_or(overflow)?;
        let least = reader.i64()?;
        let most = least.checked_add_unsigned(reader.u64()?).ok_or(overflow)?;
        let synced_ms = match reader.u8()? {
            0 => None,
            1 => Some(reader.i64()?),
            _ => {
                return Err(FormatError::Invalid(
                    "a roll-up's mark for synced clocks is neither 0 nor 1",
                ));
            }
        };
        Ok(Self {
            tier,
            log,
            first,
            last,
            buckets,
            boot_ms: low..=high,
            offset_ms: least..=most,
            synced_ms,
        })
    }
}

impl Rollup {
    /// Reads a body; whatever it holds, every bucket in it is one that rows could have.
    pub(crate) fn read(body: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(body, "a roll-up");
        let head = RollupHead::read(&mut reader)?;
        let codec = reader.u8()?;
        if codec != CODEC_ZSTD {
            return Err(FormatError::Version {
                what: "the codec of a roll-up",
                found: codec,
                known: CODEC_ZSTD,
            });
        }
        let raw = unpack(reader.rest(), MAX_RAW)?;
        Self::parse(head, raw)
    }

    fn parse(head: RollupHead, raw: Vec<u8>) -> Result<Self, FormatError> {
        let mut reader = Reader::new(&raw, "a roll-up's columns");
        let count = reader.count("schema runs of a roll-up", head.buckets)?;
        let (mut runs, mut left, mut width) = (Vec::with_capacity(count), head.buckets, 0);
        for _ in 0..count {
            let buckets = reader.count("buckets of a schema run", left)?;
            let (schema, wide) = (
                SchemaHash(reader.array()?),
                reader.count("values of a bucket", MAX_SERIES)?,
            );
            left -= buckets;
            width = width.max(wide);
            runs.push(Run {
                buckets,
                schema,
                width: wide,
            });
        }
        if left > 0 || width * head.buckets > MAX_CELLS {
            return Err(FormatError::Invalid(
                "a roll-up has too many values, or buckets without a schema",
            ));
        }
        let at = raw.len() - reader.rest().len();
        let most = TIMES + PARTS * width;
        let columns = Columns::parse(raw, at, head.buckets, most)?;
        if columns.len() != most {
            return Err(FormatError::Invalid(
                "a roll-up has not as many columns as its schemas",
            ));
        }
        let spans = spans(&columns)?;
        let ends = spans
            .first()
            .map(|span| span.first)
            .zip(spans.last().map(Span::last));
        let ascend = spans
            .windows(2)
            .all(|pair| pair[0].last().checked_add(1) == Some(pair[1].first));
        let rollup = Self {
            head,
            spans,
            runs,
            width,
            columns,
        };
        if ends != Some((rollup.head.first, rollup.head.last)) || !ascend || !rollup.is_sound() {
            return Err(FormatError::Invalid("a roll-up of rows that cannot be"));
        }
        Ok(rollup)
    }

    /// Whether every value can come from as many rows as its bucket has.
    fn is_sound(&self) -> bool {
        let spans = self.spans.iter().all(|span| {
            let whole = self.head.tier.span_of(span.first);
            span.first > 0
                && span.rows > 0
                && whole.contains(&span.last())
                && span.last() - span.first + 1 == span.rows
        });
        spans
            && (0..self.width).all(|series| {
                let present = self.part(series, 0);
                let values = self.values(series);
                let alike = (1..PARTS).all(|part| {
                    let cells = self.part(series, part);
                    cells
                        .iter()
                        .zip(&present)
                        .all(|(a, b)| a.is_some() == b.is_some())
                });
                alike
                    && present
                        .iter()
                        .zip(&values)
                        .all(|(cell, value)| cell.is_some() == value.is_some())
            })
    }

    pub(crate) fn head(&self) -> &RollupHead {
        &self.head
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What one series comes to in each bucket; all `None` where no bucket has that series.
    pub(crate) fn values(&self, series: usize) -> Vec<Option<Summary>> {
        if series >= self.width {
            return vec![None; self.spans.len()];
        }
        let parts: Vec<_> = (0..PARTS).map(|part| self.part(series, part)).collect();
        let value = |(at, span): (usize, &Span)| {
            let mut all = [0; PARTS];
            for (place, part) in all.iter_mut().zip(&parts) {
                *place = part[at]?;
            }
            joined(all, span.rows)
        };
        self.spans.iter().enumerate().map(value).collect()
    }

    /// All buckets, as they were before they became columns.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = Vec::with_capacity(self.spans.len());
        for run in &self.runs {
            for _ in 0..run.buckets {
                buckets.push(Bucket {
                    span: self.spans[buckets.len()],
                    schema: run.schema,
                    values: vec![None; run.width],
                });
            }
        }
        for series in 0..self.width {
            for (bucket, value) in buckets.iter_mut().zip(self.values(series)) {
                if let Some(place) = bucket.values.get_mut(series) {
                    *place = value;
                }
            }
        }
        buckets
    }

    fn part(&self, series: usize, part: usize) -> Vec<Option<i64>> {
        self.columns.column(TIMES + part * self.width + series)
    }
}

fn spans(columns: &Columns) -> Result<Vec<Span>, FormatError> {
    let wrong = FormatError::Invalid("a roll-up's times are out of range");
    let small = |value: i64| u32::try_from(value).map_err(|_range| wrong);
    let (first, rows) = (full(columns, 0)?, full(columns, 1)?);
    let (boot, later) = (full(columns, 2)?, full(columns, 3)?);
    let (offset, uncertainty, source) = (full(columns, 4)?, full(columns, 5)?, full(columns, 6)?);
    let synced = columns.column(7);
    let span = |at: usize| {
        let first = small(first[at])?;
        let boot = (boot[at] as u64).wrapping_add(ticks(first));
        let source = u8::try_from(source[at]).map_err(|_range| wrong)?;
        Ok(Span {
            first,
            rows: small(rows[at])?,
            boot_ms: (boot, boot.wrapping_add(later[at] as u64)),
            clock: Clock {
                offset_ms: offset[at],
                uncertainty_ms: small(uncertainty[at])?,
                source: ClockSource::from_byte(source)?,
            },
            synced_ms: synced[at],
        })
    };
    (0..first.len()).map(span).collect()
}

/// A body made of its head and unpacked columns, one after the other. `None` without a head in front.
#[cfg(any(test, fuzzing))]
pub(crate) fn pack(inside: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(inside, "a roll-up");
    let head = RollupHead::read(&mut reader).ok()?;
    let mut out = Vec::new();
    head.write(&mut out);
    out.push(CODEC_ZSTD);
    out.extend_from_slice(&zstd::bulk::compress(reader.rest(), LEVEL).ok()?);
    Some(out)
}

/// What `pack` takes, of a body.
#[cfg(any(test, fuzzing))]
pub(crate) fn inside(body: &[u8]) -> Vec<u8> {
    let rollup = Rollup::read(body).expect("a body");
    let mut out = Vec::new();
    rollup.head.write(&mut out);
    out.extend_from_slice(rollup.columns.bytes());
    out
}
