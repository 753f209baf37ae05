//! Shapes of rows, series and queries; replaced file by file as the codecs arrive.
#![allow(
    missing_docs,
    reason = "each type moves to the file that carries its codec and its words"
)]

use serde::{Deserialize, Serialize};

pub type Seq = u32;
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin(pub [u8; 32]);
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub u64);
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    pub counter: u32,
    pub nonce: u64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    pub origin: Origin,
    pub store: StoreId,
    pub epoch: Epoch,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClockSource {
    Unsynced,
    Ntp,
    Peers,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clock {
    pub offset_ms: i64,
    pub uncertainty_ms: u32,
    pub source: ClockSource,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    Counter,
    Gauge,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub unit: String,
    pub kind: Kind,
    pub exponent: i8,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaHash(pub [u8; 32]);
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDelta {
    pub parent: Option<SchemaHash>,
    pub appended: Vec<Series>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub hash: SchemaHash,
    pub series: Vec<Series>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub log: LogId,
    pub seq: Seq,
    pub schema: SchemaHash,
    pub boot_ms: u64,
    pub clock: Clock,
    pub values: Vec<Option<i64>>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRow {
    pub row: Row,
    pub signature: [u8; 64],
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub log: LogId,
    pub first: Seq,
    pub count: u8,
    pub content: [u8; 32],
    pub signature: [u8; 64],
}
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalSet {
    ranges: Vec<(Seq, Seq)>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Raw,
    S10,
    M1,
    H1,
}
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    pub origins: Option<Vec<Origin>>,
    pub series: String,
    pub from_ms: i64,
    pub to_ms: i64,
    pub step: Step,
}
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPoints {
    pub origin: Origin,
    pub series: Series,
    pub step_ms: u64,
    pub points: Vec<(i64, Option<f64>)>,
}
