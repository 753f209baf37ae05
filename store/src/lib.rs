//! Samples on disk: a spool for fresh rows, sealed blocks in sled, interval sets, queries.
//!
//! Knows no other crate of ours; is given a signer and a verifier.
//!
//! | what | is durable when |
//! |---|---|
//! | an epoch's id | the call that made it has returned (it also begins on a disk that refuses it) |
//! | a schema | before the first row or block that needs it |
//! | a row | the spool has synced it: at most `sync_every` later; `synced` says how far |
//! | a sealed block | its generation was synced: about half a minute later; until then the spool keeps its rows |
//! | a block brought by others | the same; before that it is simply asked for again |
//! | what retention took, and the roll-up of it | before its generation is deleted |
//!
//! Always true: one content per identity; `held` is rebuilt from what is on disk, there is no cursor; the store starts
//! whatever is damaged; nothing that calls `append` waits for a disk; every bound is a constant with what happens at it.
//!
//! Everything the store asks of its machine goes through `disk`: the real one, or a simulated one (`SimDisk`) that loses
//! power, fills, stalls and rots, on told time and without threads (`step`).
//!
//! The way of a row: `append` -> `state` (tail, in memory) -> `spooler` -> `tail` (spool file); at the end of its window
//! `seal` -> `state` (pending) -> `writer` -> `shelf` -> `engine` (a journal), with others of its log into a pack (`packer`) in sled; back through `read` and `ask`. When there is too much:
//! `plan` -> `evict` -> `rollup` -> `attic` (files of roll-ups), and back through `ask` too.

mod answer;
mod append;
mod ask;
mod attic;
pub mod block;
mod clocks;
mod config;
mod disk;
mod engine;
mod error;
mod evict;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod given;
pub mod interval;
pub mod key;
mod ledger;
mod needed;
mod open;
mod packer;
mod plan;
pub mod query;
mod read;
mod record;
mod retain;
mod rolled;
mod rollup;
pub mod row;
pub mod sample;
mod schemas;
mod seal;
pub mod series;
mod shelf;
mod spooler;
mod state;
mod step;
mod tail;
#[cfg(test)]
mod tests;
mod varint;
mod worker;
mod writer;

pub use answer::{Appended, LogTally, Parcel, Quarantined, Sealed, Stats, Tier};
pub use block::{Block, Draft, Head, Seal, WINDOW, window_of};
pub use clocks::ClockChange;
pub use config::{Check, Keys, Sign, StoreConfig, Verify};
#[doc(hidden)]
pub use disk::simulated::SimDisk;
pub use error::{OpenError, StoreError};
pub use interval::IntervalSet;
pub use key::gone::Reason;
pub use open::Store;
pub use query::{Extent, Pattern, Query, QueryError, SeriesPoints, Step, TierSpan, Told, rates};
pub use retain::Room;
pub use row::{Row, SignedRow, delta_key};
pub use sample::{Clock, ClockSource, Epoch, LogId, Origin, Seq, StoreId};
pub use series::{
    Kind, MAX_EPOCHS, MAX_SCHEMA_BYTES, MAX_SCHEMA_CHANGES_PER_HOUR, MAX_SERIES, Schema,
    SchemaDelta, SchemaHash, Series,
};
pub use shelf::verify_generation;
pub use varint::FormatError;
