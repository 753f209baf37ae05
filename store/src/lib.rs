//! Samples on disk: a spool for fresh rows, sealed blocks in sled, interval sets, queries.

mod error;
mod formats;
mod open;

pub use error::{OpenError, StoreError};
pub use formats::*;
pub use open::{
    Appended, Check, Keys, LogTally, Parcel, Quarantined, Sealed, Sign, Source, Stats, Store,
    StoreConfig, Verify,
};
