//! Rows as columns, unpacked: what a block and a pack of blocks have in common.
//!
//! The bytes: varint number of schema runs, for each the number of its rows as a varint, its hash 32 and its number of
//! series as a varint; then a table of boot time less 1,000 ms per row, clock offset, uncertainty, source
//! (`0` unsynced, `1` NTP, `2` peers), and then each series of the widest schema, missing where a row has no such series.
//! The table is one whole (see `column`), or of hours, in groups (see `grouped`), where times are a group of their own.
//!
//! In: bytes that were unpacked, or rows' times and columns one by one. Out: times, and the columns that are asked for.
//! Absent: whose rows these are and which (`head`), who signed them (`seal`), compression.

use super::column::{Columns, MAX_COLUMNS, Table};
use super::grouped::{Grouped, Writer};
use super::unpack;
use crate::row::Row;
use crate::sample::{Clock, ClockSource};
use crate::series::{MAX_SERIES, SchemaHash};
use crate::varint::{FormatError, Reader, put_u64};
use std::ops::Range;

const TICK_MS: u64 = 1_000;
/// Columns before those of the series: boot time, offset, uncertainty, source.
pub(super) const TIMES: usize = 4;

/// Rows after one another that share a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many rows.
    pub rows: usize,
    /// Their schema.
    pub schema: SchemaHash,
    /// How many values each has.
    pub width: usize,
}

/// Rows as columns; only the columns asked for are decoded.
#[derive(Clone, Debug)]
pub struct Sheet {
    runs: Vec<Run>,
    boots: Vec<u64>,
    clocks: Vec<Clock>,
    columns: Body,
}

/// The table behind the runs.
#[derive(Clone, Debug)]
enum Body {
    Whole(Columns),
    Grouped(Grouped),
}

/// What a front can take unpacked: schemas of every row, maps, codes.
const MAX_FRONT_BYTES: usize = 1 << 20;

impl Sheet {
    /// Reads all of `raw` as the columns of `rows` rows.
    pub(super) fn parse(raw: Vec<u8>, rows: usize) -> Result<Self, FormatError> {
        let mut reader = Reader::new(&raw, "columns");
        let (runs, width) = read_runs(&mut reader, rows)?;
        let at = raw.len() - reader.rest().len();
        let columns = Columns::parse(raw, at, rows, MAX_COLUMNS)?;
        Self::of(runs, width, Body::Whole(columns))
    }

    /// Reads all of `bytes` as the columns in groups of `rows` rows.
    pub(super) fn parse_grouped(bytes: &[u8], rows: usize) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "columns in groups");
        let len = reader.count("bytes of a front", bytes.len())?;
        let front = unpack(reader.take(len)?, MAX_FRONT_BYTES)?;
        let groups = reader.rest().to_vec();
        let mut reader = Reader::new(&front, "columns");
        let (runs, width) = read_runs(&mut reader, rows)?;
        let at = front.len() - reader.rest().len();
        let columns = Grouped::parse(front, at, groups, rows, MAX_COLUMNS)?;
        Self::of(runs, width, Body::Grouped(columns))
    }

    fn of(runs: Vec<Run>, width: usize, columns: Body) -> Result<Self, FormatError> {
        if columns.len() != TIMES + width {
            return Err(FormatError::Invalid(
                "a block has not as many columns as its schemas",
            ));
        }
        let rows = runs.iter().map(|run| run.rows).sum();
        let mut times = vec![Vec::new(); TIMES];
        columns.each(&[0, 1, 2, 3], 0..rows, |at, column| times[at] = column)?;
        let [boots, offsets, uncertainties, sources] = &mut times[..] else {
            return Err(FormatError::Invalid("a block has no times"));
        };
        let boots = all_there(std::mem::take(boots))?;
        let boots = boots
            .iter()
            .zip(0..)
            .map(|(&boot, i)| (boot as u64).wrapping_add(TICK_MS * i))
            .collect();
        let clocks = [offsets, uncertainties, sources].map(|c| all_there(std::mem::take(c)));
        let clocks = read_clocks(clocks)?;
        Ok(Self {
            runs,
            boots,
            clocks,
            columns,
        })
    }

    /// The bytes it was read from; none of one in groups, whose bytes are its own.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.columns {
            Body::Whole(columns) => columns.bytes(),
            Body::Grouped(_) => &[],
        }
    }

    /// The schemas of its rows, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Boot time of each row.
    pub fn boots(&self) -> &[u64] {
        &self.boots
    }

    /// Clock of each row.
    pub fn clocks(&self) -> &[Clock] {
        &self.clocks
    }

    /// The values of some series, by their number, an entry for each row; all `None` where no row has that series.
    pub fn columns(&self, series: &[usize]) -> Vec<Vec<Option<i64>>> {
        self.columns_of(series, 0..self.boots.len())
    }

    /// The same of some rows only.
    pub fn columns_of(&self, series: &[usize], rows: Range<usize>) -> Vec<Vec<Option<i64>>> {
        let rows = rows.start.min(self.boots.len())..rows.end.min(self.boots.len());
        let mut columns = vec![vec![None; rows.len()]; series.len()];
        self.visit(series, rows, |at, column| columns[at] = column);
        columns
    }

    /// Gives for each of `series` its place there and its values, an entry for each of `rows`, one after the other in any
    /// order. In a pack only the groups that hold these series are unpacked, each once; one that is damaged behind its
    /// checksum is as if no row had its series.
    pub(crate) fn visit(
        &self,
        series: &[usize],
        rows: Range<usize>,
        take: impl FnMut(usize, Vec<Option<i64>>),
    ) {
        if let Err(e) = self.each_of(series, rows, take) {
            tracing::warn!(error = %e, "a group of columns in a pack is damaged");
        }
    }

    /// Gives the values of each series by its number, an entry for each of `rows`; the order is any.
    pub(super) fn each(
        &self,
        rows: Range<usize>,
        take: impl FnMut(usize, Vec<Option<i64>>),
    ) -> Result<(), FormatError> {
        let all: Vec<usize> = (0..self.width()).collect();
        self.each_of(&all, rows, take)
    }

    fn each_of(
        &self,
        series: &[usize],
        rows: Range<usize>,
        take: impl FnMut(usize, Vec<Option<i64>>),
    ) -> Result<(), FormatError> {
        let columns = series.iter().map(|series| TIMES.saturating_add(*series));
        self.columns.each(&columns.collect::<Vec<_>>(), rows, take)
    }

    /// The values of one series of a block, by its number.
    pub(super) fn column(&self, series: usize) -> Vec<Option<i64>> {
        self.columns(&[series]).pop().unwrap_or_default()
    }

    /// How many series the widest schema has.
    pub(crate) fn width(&self) -> usize {
        self.columns.len() - TIMES
    }

    /// How many values are present in all rows.
    pub fn samples(&self) -> u64 {
        self.columns.present(TIMES..self.columns.len())
    }

    /// The schema runs of some of its rows.
    pub(super) fn runs_of(&self, rows: Range<usize>) -> Vec<Run> {
        let (mut from, mut cut) = (0, Vec::new());
        for run in &self.runs {
            let (start, end) = (from.max(rows.start), (from + run.rows).min(rows.end));
            from += run.rows;
            if start < end {
                cut.push(Run {
                    rows: end - start,
                    ..run.clone()
                });
            }
        }
        cut
    }
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Whole(columns) => columns.len(),
            Self::Grouped(columns) => columns.len(),
        }
    }

    fn present(&self, range: Range<usize>) -> u64 {
        match self {
            Self::Whole(columns) => columns.present(range),
            Self::Grouped(columns) => columns.present(range),
        }
    }

    fn each(
        &self,
        wanted: &[usize],
        rows: Range<usize>,
        mut take: impl FnMut(usize, Vec<Option<i64>>),
    ) -> Result<(), FormatError> {
        match self {
            Self::Whole(columns) => {
                for (at, index) in wanted.iter().enumerate() {
                    let mut column = columns.column(*index);
                    column.truncate(rows.end);
                    column.drain(..rows.start.min(column.len()));
                    take(at, column);
                }
                Ok(())
            }
            Self::Grouped(columns) => columns.each(wanted, rows, take),
        }
    }
}

/// The runs of rows after one another that share a schema, which must have one number of values.
pub(super) fn runs_of(rows: &[&Row]) -> Result<Vec<Run>, FormatError> {
    let runs = rows.chunk_by(|a, b| a.schema == b.schema).map(|run| {
        let width = run[0].values.len();
        if width > MAX_SERIES {
            return Err(FormatError::Limit {
                what: "values of a row",
                len: width,
                limit: MAX_SERIES,
            });
        }
        if run.iter().any(|row| row.values.len() != width) {
            return Err(FormatError::Invalid(
                "rows of one schema differ in how many values they have",
            ));
        }
        Ok(Run {
            rows: run.len(),
            schema: run[0].schema,
            width,
        })
    });
    runs.collect()
}

/// The bytes of a sheet; `column` gives the values of a series by its number.
pub(super) fn write(
    runs: &[Run],
    boots: &[u64],
    clocks: &[Clock],
    mut column: impl FnMut(usize) -> Vec<Option<i64>>,
) -> Vec<u8> {
    let mut out = Vec::new();
    put_runs(&mut out, runs);
    let mut table = Table::default();
    for column in times(boots, clocks) {
        table.add(&column);
    }
    (0..width_of(runs)).for_each(|series| table.add(&column(series)));
    table.write(&mut out);
    out
}

/// Appends a sheet in groups, of `grouped::MAX_ROWS` rows at most.
pub(super) fn write_grouped(
    out: &mut Vec<u8>,
    runs: &[Run],
    boots: &[u64],
    clocks: &[Clock],
    mut column: impl FnMut(usize) -> Vec<Option<i64>>,
) {
    let mut before = Vec::new();
    put_runs(&mut before, runs);
    let mut table = Writer::new();
    for column in times(boots, clocks) {
        table.add(&column);
    }
    table.close_group();
    (0..width_of(runs)).for_each(|series| table.add(&column(series)));
    table.finish(before, out);
}

fn width_of(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.width).max().unwrap_or(0)
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    put_u64(out, runs.len() as u64);
    for run in runs {
        put_u64(out, run.rows as u64);
        out.extend_from_slice(&run.schema.0);
        put_u64(out, run.width as u64);
    }
}

/// The columns that tell the time.
fn times(boots: &[u64], clocks: &[Clock]) -> [Vec<Option<i64>>; TIMES] {
    let even = |(boot, i): (&u64, u64)| Some(boot.wrapping_sub(TICK_MS * i) as i64);
    let of_clocks =
        |value: fn(&Clock) -> i64| clocks.iter().map(|clock| Some(value(clock))).collect();
    [
        boots.iter().zip(0..).map(even).collect(),
        of_clocks(|clock| clock.offset_ms),
        of_clocks(|clock| i64::from(clock.uncertainty_ms)),
        of_clocks(|clock| i64::from(clock.source.to_byte())),
    ]
}

fn read_runs(reader: &mut Reader<'_>, rows: usize) -> Result<(Vec<Run>, usize), FormatError> {
    let count = reader.count("schema runs of a block", rows)?;
    let (mut runs, mut left, mut widest) = (Vec::new(), rows, 0);
    for _ in 0..count {
        let run = reader.count("rows of a schema run", left)?;
        let (schema, width) = (
            SchemaHash(reader.array()?),
            reader.count("values of a row", MAX_SERIES)?,
        );
        left -= run;
        widest = widest.max(width);
        runs.push(Run {
            rows: run,
            schema,
            width,
        });
    }
    if left > 0 {
        Err(FormatError::Invalid("a block has rows without a schema"))
    } else {
        Ok((runs, widest))
    }
}

fn read_clocks(columns: [Result<Vec<i64>, FormatError>; 3]) -> Result<Vec<Clock>, FormatError> {
    let [offsets, uncertainties, sources] = columns;
    let (offsets, uncertainties, sources) = (offsets?, uncertainties?, sources?);
    let clocks = offsets.into_iter().zip(uncertainties).zip(sources).map(
        |((offset_ms, uncertainty), source)| {
            let wide = FormatError::Invalid("a clock's uncertainty or source is out of range");
            let uncertainty_ms = u32::try_from(uncertainty).or(Err(wide))?;
            let source = ClockSource::from_byte(u8::try_from(source).or(Err(wide))?)?;
            Ok(Clock {
                offset_ms,
                uncertainty_ms,
                source,
            })
        },
    );
    clocks.collect()
}

/// A column that every row must have.
pub(crate) fn full(columns: &Columns, index: usize) -> Result<Vec<i64>, FormatError> {
    all_there(columns.column(index))
}

fn all_there(column: Vec<Option<i64>>) -> Result<Vec<i64>, FormatError> {
    let column: Option<Vec<i64>> = column.into_iter().collect();
    column.ok_or(FormatError::Invalid("a row of a block has no time"))
}
