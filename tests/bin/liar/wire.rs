//! What goes over the wire between nodes, written from its description.
//!
//! Small messages: 64 a part of a row, 65 a seal, 66 a digest, 67 a request for a key row. Streams:
//! frames of `length u32 little-endian, version 1, tag, body`; one question, then answers.

use bytes::Bytes;
use outlast_store::{Epoch, IntervalSet, LogId, Origin, SchemaHash, Seq, SignedRow, StoreId};
use serde::{Deserialize, Serialize};

pub(crate) const ROW: u8 = 64;
pub(crate) const SEAL: u8 = 65;
pub(crate) const DIGEST: u8 = 66;
pub(crate) const KEY_ROW: u8 = 67;

const VERSION: u8 = 1;
const PART: usize = outlast_mesh::MAX_MESSAGE - 26;

#[derive(Serialize)]
struct Entry {
    origin: Origin,
    closed: [u8; 16],
    open: Option<Open>,
}

#[derive(Serialize)]
struct Open {
    store: StoreId,
    epoch: Epoch,
    coverage: Option<(IntervalSet, IntervalSet)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Question {
    Held(Vec<Origin>),
    Rows(LogId, IntervalSet),
    Seals(Vec<(LogId, Seq)>),
    Schema(SchemaHash, Vec<SchemaHash>),
}

pub(crate) enum Answer {
    End,
    Row(Vec<u8>),
    Block(Vec<u8>),
    Schema(Vec<u8>),
    /// Rows of one log of an origin that are said to be gone.
    Gone(LogId, IntervalSet),
}

/// The parts of a live row.
pub(crate) fn parts(row: &SignedRow) -> Vec<Bytes> {
    let (log, bytes) = (row.row.log, row.encode());
    let count = bytes.len().div_ceil(PART) as u8;
    let part = |(index, body): (usize, &[u8])| {
        let mut part = vec![VERSION, (index as u8) << 4 | count];
        part.extend(log.store.0.to_le_bytes());
        part.extend(log.epoch.counter.to_le_bytes());
        part.extend(log.epoch.nonce.to_le_bytes());
        part.extend(row.row.seq.to_le_bytes());
        part.extend(body);
        Bytes::from(part)
    };
    bytes.chunks(PART).enumerate().map(part).collect()
}

/// A digest that claims these rows of one log, held and gone.
pub(crate) fn digest(log: LogId, held: IntervalSet, gone: IntervalSet) -> Bytes {
    let open = Open {
        store: log.store,
        epoch: log.epoch,
        coverage: Some((held, gone)),
    };
    small(&vec![Entry {
        origin: log.origin,
        closed: [0; 16],
        open: Some(open),
    }])
}

/// A digest that claims no more than a hash over all logs of an origin.
pub(crate) fn hash_of_all(origin: Origin, closed: [u8; 16]) -> Bytes {
    let open = None;
    small(&vec![Entry {
        origin,
        closed,
        open,
    }])
}

pub(crate) fn key_row(log: LogId, seq: Seq) -> Bytes {
    small(&(log.store, log.epoch, seq))
}

fn small<T: Serialize>(value: &T) -> Bytes {
    let bytes = postcard::to_extend(value, vec![VERSION]).expect("plain data serialises");
    Bytes::from(bytes)
}

impl Question {
    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(
            0,
            &postcard::to_stdvec(self).expect("plain data serialises"),
        )
    }

    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        postcard::from_bytes(frame.get(6..)?).ok()
    }
}

impl Answer {
    pub(crate) fn frame(&self) -> Vec<u8> {
        match self {
            Self::End => frame(0, &[]),
            Self::Row(bytes) => frame(2, bytes),
            Self::Block(bytes) => frame(3, bytes),
            Self::Schema(bytes) => frame(5, bytes),
            Self::Gone(log, rows) => {
                let coverage = (IntervalSet::new(), rows.clone());
                let held = (log.origin, vec![(log.store, log.epoch, coverage)]);
                frame(
                    1,
                    &postcard::to_stdvec(&held).expect("plain data serialises"),
                )
            }
        }
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32 + 2).to_le_bytes().to_vec();
    frame.extend([VERSION, tag]);
    frame.extend(body);
    frame
}
