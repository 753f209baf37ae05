//! A table of integers, some missing, as columns in groups that are compressed by themselves.
//!
//! What a pack of hours has in place of `column`'s table, so that one series is read without the rest, and long columns
//! pack well: their differences lie byte by byte, all lowest bytes first, which zstd packs better than varints (45 recorded
//! minutes in one frame at level 9: 0.403 B/sample, as varints 0.419). A group is up to 128 KiB of columns that stand next
//! to one another and so resemble each other: each column by itself takes 5 % more, all in one frame no less.
//! Level 15 costs 0.1 s for an hour or two of 140 series, 3 % smaller than level 9. Measured and left out: `pco` (nothing
//! gained within groups), differences of differences (an eighth more).
//!
//! The front, unpacked: parts 1 to 3 as in `column`; for each column whose values aren't all equal, in order, how many bytes
//! a difference takes, 1 to 8; varint number of groups, and for each as varints how many of those columns it holds and how
//! many bytes it takes packed. Behind it each group as one zstd frame that names its size: of each column all lowest bytes of the
//! differences in order, then all second lowest, and so on; differences as in `column`, scaled and zigzagged.
//!
//! Bounds: `GROUP_BYTES` of a group unpacked, so reading takes no more than that beside the packed bytes and the answer.
//! `parse` checks that all parts are there and that groups hold what their columns need, not yet the groups' insides: what
//! doesn't unpack then is an error, which a checksum around it all makes no case to plan for.

use super::column::{Column, Front, read_front};
use super::unpack;
use crate::varint::{FormatError, Reader, put_u64};
use std::fmt;
use std::ops::Range;

/// How many bytes a group has unpacked at most.
const GROUP_BYTES: usize = 128 << 10;
/// How many values a column can have: at eight bytes it fits into a group.
pub(super) const MAX_ROWS: usize = GROUP_BYTES / 8;
const LEVEL: i32 = 15;

/// A parsed table that owns its bytes, packed but for the front.
#[derive(Clone, Debug)]
pub(super) struct Grouped {
    front: Vec<u8>,
    rows: usize,
    columns: Vec<Column>,
    /// Of each column: its group and how its differences lie there.
    places: Vec<Place>,
    packed: Vec<u8>,
    groups: Vec<Group>,
}

/// Where the differences of a column lie, beside where they begin.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    group: usize,
    /// Bytes a difference.
    width: usize,
    /// How many differences.
    count: usize,
}

/// Columns that are packed together.
#[derive(Clone, Debug)]
struct Group {
    packed: Range<usize>,
    /// Unpacked.
    bytes: usize,
}

/// A table on its way: no more than a group of it lies in memory unpacked.
pub(super) struct Writer {
    front: Front,
    widths: Vec<u8>,
    groups: Vec<u8>,
    count: u64,
    packed: Vec<u8>,
    /// The group being filled, and how many columns it has.
    open: (Vec<u8>, u64),
    zstd: zstd::bulk::Compressor<'static>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} groups)", self.count)
    }
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            front: Front::default(),
            widths: Vec::new(),
            groups: Vec::new(),
            count: 0,
            packed: Vec::new(),
            open: (Vec::new(), 0),
            zstd: zstd::bulk::Compressor::new(LEVEL).expect("a level zstd has"),
        }
    }

    /// Adds a column with one entry for every row, `MAX_ROWS` at most.
    pub(super) fn add(&mut self, column: &[Option<i64>]) {
        let coded = self.front.add(column);
        let highest = coded.iter().fold(0, |all, one| all | one);
        if highest == 0 {
            return;
        }
        let width = (u64::BITS - highest.leading_zeros()).div_ceil(8);
        if self.open.0.len() + coded.len() * width as usize > GROUP_BYTES {
            self.close_group();
        }
        self.widths.push(width as u8);
        for byte in 0..width {
            let plane = coded.iter().map(|coded| (coded >> (8 * byte)) as u8);
            self.open.0.extend(plane);
        }
        self.open.1 += 1;
    }

    /// The next column begins a group.
    pub(super) fn close_group(&mut self) {
        let (raw, columns) = std::mem::take(&mut self.open);
        if columns == 0 {
            return;
        }
        let frame = self.compress(&raw);
        put_u64(&mut self.groups, columns);
        put_u64(&mut self.groups, frame.len() as u64);
        self.packed.extend_from_slice(&frame);
        self.count += 1;
    }

    /// Appends the length of the packed front, the front behind `before`, and the groups.
    pub(super) fn finish(mut self, mut before: Vec<u8>, out: &mut Vec<u8>) {
        self.close_group();
        self.front.write(&mut before);
        before.extend_from_slice(&self.widths);
        put_u64(&mut before, self.count);
        before.extend_from_slice(&self.groups);
        let front = self.compress(&before);
        put_u64(out, front.len() as u64);
        out.extend_from_slice(&front);
        out.extend_from_slice(&self.packed);
    }

    fn compress(&mut self, raw: &[u8]) -> Vec<u8> {
        let packed = self.zstd.compress(raw);
        packed.expect("memory to memory, with room for the worst case")
    }
}

impl Grouped {
    /// Finds the columns of a table of `rows` rows: its front in `front` from `at` on, its groups in all of `packed`.
    pub(super) fn parse(
        front: Vec<u8>,
        at: usize,
        packed: Vec<u8>,
        rows: usize,
        most: usize,
    ) -> Result<Self, FormatError> {
        let mut reader = Reader::new(front.get(at..).unwrap_or_default(), "columns");
        let mut columns = read_front(&mut reader, front.len(), rows, most)?;
        let mut places = vec![Place::default(); columns.len()];
        for (column, place) in columns.iter().zip(&mut places) {
            if column.changes() {
                place.count = column.present(&front, rows).saturating_sub(1);
                place.width = usize::from(reader.u8()?);
                if !(1..=8).contains(&place.width) {
                    return Err(FormatError::Invalid(
                        "a difference takes no, or over 8, bytes",
                    ));
                }
            }
        }
        let mut changing = columns
            .iter_mut()
            .zip(&mut places)
            .filter(|(column, _)| column.changes());
        let (mut groups, mut end) = (Vec::new(), 0);
        for group in 0..reader.count("groups of columns", most)? {
            let mut bytes = 0;
            for _ in 0..reader.count("columns of a group", most)? {
                let (column, place) = changing
                    .next()
                    .ok_or(FormatError::Invalid("a group of columns that aren't there"))?;
                column.body_at = bytes as u32;
                place.group = group;
                bytes += place.count * place.width;
                if bytes > GROUP_BYTES {
                    return Err(FormatError::Limit {
                        what: "bytes of a group of columns",
                        len: bytes,
                        limit: GROUP_BYTES,
                    });
                }
            }
            let start = end;
            end += reader.count("bytes of a group, packed,", packed.len() - start)?;
            groups.push(Group {
                packed: start..end,
                bytes,
            });
        }
        if changing.next().is_some() || end != packed.len() {
            return Err(FormatError::Invalid("groups are not of just their columns"));
        }
        reader.finish()?;
        Ok(Self {
            front,
            rows,
            columns,
            places,
            packed,
            groups,
        })
    }

    /// How many columns there are.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// How many values are present in the columns of `range`.
    pub(super) fn present(&self, range: Range<usize>) -> u64 {
        self.columns[range]
            .iter()
            .map(|column| column.present(&self.front, self.rows) as u64)
            .sum()
    }

    /// Gives for each of `wanted` its place there and an entry for each of `rows`, all missing where there is no such
    /// column. Each group is unpacked once. The order is that of the groups.
    pub(super) fn each(
        &self,
        wanted: &[usize],
        rows: Range<usize>,
        mut take: impl FnMut(usize, Vec<Option<i64>>),
    ) -> Result<(), FormatError> {
        let rows = rows.start.min(self.rows)..rows.end.min(self.rows);
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        let group_of = |at: &usize| self.places.get(wanted[*at]).map_or(0, |place| place.group);
        order.sort_by_key(group_of);
        let mut open: Option<(usize, Vec<u8>)> = None;
        for at in order {
            let Some((column, place)) = self.column(wanted[at]) else {
                take(at, vec![None; rows.len()]);
                continue;
            };
            let body = if column.changes() {
                let raw = match open.take() {
                    Some((group, raw)) if group == place.group => raw,
                    _ => self.unpacked(place.group)?,
                };
                let body = &open.insert((place.group, raw)).1[column.body_at as usize..];
                &body[..place.count * place.width]
            } else {
                &[]
            };
            take(at, self.decode(column, place, body, rows.clone()));
        }
        Ok(())
    }

    fn column(&self, index: usize) -> Option<(&Column, Place)> {
        let column = self.columns.get(index)?;
        column.first()?;
        Some((column, self.places[index]))
    }

    fn unpacked(&self, group: usize) -> Result<Vec<u8>, FormatError> {
        let Group { packed, bytes } = &self.groups[group];
        let raw = unpack(&self.packed[packed.clone()], *bytes)?;
        if raw.len() == *bytes {
            Ok(raw)
        } else {
            Err(FormatError::Invalid("a group is not of just its columns"))
        }
    }

    /// The entries of some rows of a column whose differences are `body`.
    fn decode(
        &self,
        column: &Column,
        place: Place,
        body: &[u8],
        rows: Range<usize>,
    ) -> Vec<Option<i64>> {
        let difference = |number: usize| {
            let mut coded = 0;
            for byte in 0..place.width {
                coded |= u64::from(body[byte * place.count + number]) << (8 * byte);
            }
            column.difference(coded)
        };
        let first = column.first().unwrap_or_default();
        // How many values come before; the last of them is known by the differences up to it.
        let mut before = column.present(&self.front, rows.start);
        let passed = before.saturating_sub(1).min(place.count);
        let mut value = (0..passed).fold(first, |value, at| value.wrapping_add(difference(at)));
        let mut entry = |row: usize| {
            if !column.has(&self.front, row) {
                return None;
            }
            if before > 0 && before <= place.count {
                value = value.wrapping_add(difference(before - 1));
            }
            before += 1;
            Some(value)
        };
        rows.map(&mut entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;
    use proptest::prelude::*;

    #[test]
    fn a_table_has_the_documented_bytes() {
        let mut writer = Writer::new();
        writer.add(&[Some(5), Some(5), Some(5)]);
        writer.add(&[Some(0), Some(8), Some(4_000)]);
        writer.close_group();
        writer.add(&[None, Some(5), Some(2)]);
        let mut out = Vec::new();
        writer.finish(vec![9], &mut out);
        let len = usize::from(out[0]);
        let front = unpack(&out[1..=len], 100).unwrap();
        let packed = &out[1 + len..];
        let groups = [packed.len() - 10, 10].map(|bytes| bytes as u8);
        assert_eq!(
            front,
            [
                9,                   // what stands before
                3,                   // columns
                1,                   // all rows, constant
                8 << 3 | 1,          // all rows, scale 8, unsigned
                3 << 3 | 1 << 2 | 2, // some rows, scale 3, signed
                10,
                0,
                10,    // firsts 5, 0, 5
                0b110, // rows 1 and 2
                2,
                1, // bytes a difference
                2, // groups
                1,
                groups[0],
                1,
                groups[1], // a column each, and its bytes
            ]
        );
        let (first, second) = packed.split_at(packed.len() - 10);
        assert_eq!(unpack(first, 100).unwrap(), [1, 243, 0, 1], "+8, +3,992");
        assert_eq!(unpack(second, 100).unwrap(), [1], "-3");
    }

    #[test]
    fn columns_that_never_change_are_in_no_group() {
        let mut writer = Writer::new();
        for _ in 0..100 {
            writer.add(&vec![Some(7); MAX_ROWS]);
        }
        let mut out = Vec::new();
        writer.finish(Vec::new(), &mut out);
        assert!(out.len() < 30, "{} B", out.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_part_of_every_column_comes_back(columns in given::table(ROWS), from in 0usize..=ROWS, to in 0usize..=ROWS, gap: u8) {
            let mut writer = Writer::new();
            for (column, number) in columns.iter().zip(0..) {
                writer.add(column);
                if number == gap % 16 {
                    writer.close_group();
                }
            }
            let mut out = Vec::new();
            writer.finish(vec![9, 9], &mut out);
            let table = parsed(&out, 2, ROWS).unwrap();
            prop_assert_eq!(table.len(), columns.len());
            let wanted: Vec<usize> = (0..=columns.len()).rev().collect();
            let rows = from.min(to)..from.max(to);
            let mut found = vec![Vec::new(); wanted.len()];
            table.each(&wanted, rows.clone(), |at, column| found[at] = column).unwrap();
            for (index, found) in wanted.iter().zip(found) {
                let expected = columns.get(*index).map_or_else(|| vec![None; rows.len()], |c| c[rows.clone()].to_vec());
                prop_assert_eq!(found, expected);
            }
            let present = columns.iter().flatten().flatten().count() as u64;
            prop_assert_eq!(table.present(0..columns.len()), present);
        }

        #[test]
        fn any_bytes_are_read_or_refused(front in proptest::collection::vec(any::<u8>(), 0..60), packed in proptest::collection::vec(any::<u8>(), 0..60), rows in 1usize..=60) {
            if let Ok(table) = Grouped::parse(front, 0, packed, rows, 100) {
                for index in 0..=table.len() {
                    let _ = table.each(&[index], 1..rows, |_, column| assert_eq!(column.len(), rows - 1));
                }
            }
        }
    }

    const ROWS: usize = 150;

    fn parsed(bytes: &[u8], at: usize, rows: usize) -> Result<Grouped, FormatError> {
        let mut reader = Reader::new(bytes, "a table");
        let len = reader.count("bytes", bytes.len())?;
        let front = unpack(reader.take(len)?, 1 << 20)?;
        Grouped::parse(front, at, reader.rest().to_vec(), rows, 100)
    }
}
