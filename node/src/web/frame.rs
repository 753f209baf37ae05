//! Binary frames of `outlast.v1`: numbers on their way to the page, little-endian.
//!
//! `TICK`: `u8 1, u8 columns, u16 nodes, u32 0, f64 now_ms`, then for each node
//! `u16 index, u16 source` (0: its rows, 1: its summary), `u32 age_ms` (`0xffffffff` = nothing is known of it) and an `f32` a column.
//! `COLUMNS`: `u8 2, u8 0, u16 0, u32 request, u32 header_len, u32 0`, a JSON header (`api::ColumnsHeader`)
//! padded with spaces to `header_len`, a multiple of 8, then `f64` times and `f64` columns.
//! `LIVE`: `u8 3, u8 0, u16 0, u32 request, f64 at_ms`, then an `f64` a series.
//! Not-a-number is a value that isn't there. The `f64` all lie at multiples of 8, so that a page
//! can look at them in place.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::api::ColumnsHeader;
use super::table::Table;
use crate::summary::columns::COLUMNS;

const TICK: u8 = 1;
const COLUMN_FRAME: u8 = 2;
const LIVE: u8 = 3;

/// Bytes before a TICK's nodes.
const TICK_HEAD: usize = 16;

/// Bytes of one node in a TICK.
const TICK_NODE: usize = 8 + 4 * COLUMNS.len();

/// One node in a TICK.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NodeTick {
    pub(super) index: u16,
    /// How old the values are; `None` where there never were any.
    pub(super) age_ms: Option<u64>,
    pub(super) columns: [f64; COLUMNS.len()],
    /// Whether the node said so in a summary, since its rows aren't here.
    pub(super) by_summary: bool,
}

/// The overview at one moment, the same bytes for every page.
pub(super) fn tick(now_ms: i64, nodes: &[NodeTick]) -> Bytes {
    let count = u16::try_from(nodes.len()).unwrap_or(u16::MAX);
    let mut out = BytesMut::with_capacity(TICK_HEAD + TICK_NODE * nodes.len());
    out.put_u8(TICK);
    out.put_u8(COLUMNS.len() as u8);
    out.put_u16_le(count);
    out.put_u32_le(0);
    out.put_f64_le(now_ms as f64);
    for node in nodes.iter().take(usize::from(count)) {
        out.put_u16_le(node.index);
        out.put_u16_le(u16::from(node.by_summary));
        // An age beyond 49 days is as good as the largest that fits.
        let age_ms = node
            .age_ms
            .map(|age_ms| age_ms.min(u64::from(u32::MAX - 1)) as u32);
        out.put_u32_le(age_ms.unwrap_or(u32::MAX));
        node.columns
            .iter()
            .for_each(|value| out.put_f32_le(*value as f32));
    }
    out.freeze()
}

/// A piece of the past.
pub(super) fn columns(request: u32, header: &ColumnsHeader, table: &Table) -> Bytes {
    let mut json = serde_json::to_vec(header).expect("a header has only string keys");
    json.resize(json.len().next_multiple_of(8), b' ');
    let values = table.times.len() * (1 + table.columns.len());
    let mut out = BytesMut::with_capacity(16 + json.len() + 8 * values);
    put_head(&mut out, COLUMN_FRAME, request);
    out.put_u32_le(u32::try_from(json.len()).expect("a header is far below 4 GiB"));
    out.put_u32_le(0);
    out.put_slice(&json);
    table
        .times
        .iter()
        .for_each(|time| out.put_f64_le(*time as f64));
    table
        .columns
        .iter()
        .flatten()
        .for_each(|value| out.put_f64_le(*value));
    out.freeze()
}

/// One row of a watched node.
pub(super) fn live(request: u32, at_ms: i64, values: &[f64]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + 8 * values.len());
    put_head(&mut out, LIVE, request);
    out.put_f64_le(at_ms as f64);
    values.iter().for_each(|value| out.put_f64_le(*value));
    out.freeze()
}

fn put_head(out: &mut BytesMut, kind: u8, request: u32) {
    out.put_u8(kind);
    out.put_u8(0);
    out.put_u16_le(0);
    out.put_u32_le(request);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_these_bytes() {
        let known = NodeTick {
            index: 1,
            age_ms: Some(258),
            columns: [0.5, f64::NAN, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            by_summary: true,
        };
        let unknown = NodeTick {
            index: 0x0203,
            age_ms: None,
            columns: [f64::NAN; 8],
            by_summary: false,
        };
        let bytes = tick(1_000, &[known, unknown]);
        let mut wanted = vec![1, 8, 2, 0, 0, 0, 0, 0];
        wanted.extend(1000.0_f64.to_le_bytes());
        wanted.extend([1, 0, 1, 0, 2, 1, 0, 0]);
        wanted.extend([0, 0, 0, 0x3f, 0, 0, 0xc0, 0x7f]);
        [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]
            .iter()
            .for_each(|value| wanted.extend(value.to_le_bytes()));
        wanted.extend([3, 2, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        (0..8).for_each(|_| wanted.extend([0, 0, 0xc0, 0x7f]));
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn two_hundred_nodes_tick_in_eight_kilobytes() {
        let node = NodeTick {
            index: 0,
            age_ms: Some(u64::MAX),
            columns: [0.0; 8],
            by_summary: false,
        };
        let bytes = tick(0, &[node; 200]);
        assert_eq!(bytes.len(), 8_016);
        assert_eq!(bytes[20..24], [0xfe, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn columns_are_these_bytes() {
        let header = ColumnsHeader {
            node: 3,
            from_ms: 0,
            to_ms: 2_000,
            step_ms: 1_000,
            n: 2,
            series: vec![],
        };
        let table = Table {
            times: vec![1_000, 2_000],
            columns: vec![vec![1.5, f64::NAN]],
        };
        let bytes = columns(0x0102_0304, &header, &table);
        let json = r#"{"node":3,"from_ms":0,"to_ms":2000,"step_ms":1000,"n":2,"series":[]}"#;
        assert_eq!(json.len(), 68);
        let mut wanted = vec![2, 0, 0, 0, 4, 3, 2, 1, 72, 0, 0, 0, 0, 0, 0, 0];
        wanted.extend(json.as_bytes());
        wanted.extend(b"    ");
        wanted.extend(1000.0_f64.to_le_bytes());
        wanted.extend(2000.0_f64.to_le_bytes());
        wanted.extend(1.5_f64.to_le_bytes());
        wanted.extend([0, 0, 0, 0, 0, 0, 0xf8, 0x7f]);
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn a_live_row_is_these_bytes() {
        let mut wanted = vec![3, 0, 0, 0, 9, 0, 0, 0];
        wanted.extend(1_795_407_280_123.0_f64.to_le_bytes());
        wanted.extend(0.25_f64.to_le_bytes());
        wanted.extend(f64::NAN.to_le_bytes());
        assert_eq!(live(9, 1_795_407_280_123, &[0.25, f64::NAN]), wanted);
    }
}
