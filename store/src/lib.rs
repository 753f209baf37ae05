//! Samples on disk: a spool for fresh rows, sealed blocks in sled, interval sets, queries.
//!
//! Knows no other crate of ours; is given a signer and a verifier.

pub mod block;
mod error;
#[cfg(test)]
mod given;
pub mod interval;
pub mod key;
mod open;
pub mod query;
pub mod row;
pub mod sample;
pub mod series;
mod varint;

pub use block::{Block, Draft, Head, Seal, WINDOW, window_of};
pub use error::{OpenError, StoreError};
pub use interval::IntervalSet;
pub use open::{
    Appended, Check, Keys, LogTally, Parcel, Quarantined, Sealed, Sign, Source, Stats, Store,
    StoreConfig, Verify,
};
pub use query::{Evaluation, Pattern, Query, QueryError, SeriesPoints, Step, rates};
pub use row::{Row, SignedRow, delta_key};
pub use sample::{Clock, ClockSource, Epoch, LogId, Origin, Seq, StoreId};
pub use series::{Kind, Schema, SchemaDelta, SchemaHash, Series};
pub use varint::FormatError;
