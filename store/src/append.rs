//! The only way rows come in: this node's own ticks, and rows of others.
//!
//! A row is in memory and visible when the call returns; the spool's thread makes it durable. The same row twice is
//! nothing. Two signed contents under one identity: the lower canonical hash stays, so that every node keeps the same one;
//! the other is kept as evidence and counted.
//! Bounds: epochs per origin, bytes of the tail; see `state` and `series`. Own rows are never refused at a bound.
//! Absent: comparing a late row with its sealed block. The seal is its origin's last word on those rows, and a block with
//! another content is noticed when it comes (`seal`).

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::answer::Appended;
use crate::block::{Seal, WINDOW, window_of};
use crate::error::StoreError;
use crate::interval::IntervalSet;
use crate::open::Store;
use crate::retain::make_room;
use crate::row::{Row, SignedRow};
use crate::sample::{Clock, Epoch, LogId, Origin, Seq};
use crate::series::{MAX_EPOCHS, Schema, SchemaDelta, SchemaHash};
use crate::shelf::locked;
use crate::state::{MAX_RANGES, State, TAIL_BYTES, TAIL_BYTES_OF_ONE};

/// The last moment of the year 9999. No clock shows a later one, and no sum of times that are earlier overflows.
const LATEST_MS: u64 = 253_402_300_799_999;

/// A window that nothing joined for so long has been left by its origin.
const IDLE: Duration = Duration::from_secs(3_600);

/// The epoch being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) log: LogId,
    next: Seq,
}

impl Store {
    /// Starts this run's epoch; its id is on disk when this returns. Where the disk refuses even that, the epoch begins all
    /// the same and the health says so: its random half alone keeps it from being used twice.
    pub fn begin_epoch(&self) -> Result<LogId, StoreError> {
        let mut own = locked(&self.shared.own);
        let log = LogId {
            origin: self.shared.keys.origin,
            store: self.shared.id,
            epoch: self.next_epoch(*own)?,
        };
        *own = Some(Own { log, next: 1 });
        Ok(log)
    }

    fn next_epoch(&self, running: Option<Own>) -> Result<Epoch, StoreError> {
        let disk = &self.shared.disk;
        let path = self.shared.dir.join("epoch");
        let failed = |source: io::Error| StoreError::Io {
            what: "draw a random number for",
            path: path.clone(),
            source,
        };
        let written = disk.read(&path).unwrap_or_default();
        let written = String::from_utf8_lossy(&written).into_owned();
        let written = written
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u32>().ok());
        // An unreadable file must not bring an old counter back; the random half keeps even that from meaning anything.
        // The running one was perhaps not written either.
        let running = running.map(|own| own.log.epoch.counter);
        let seen = {
            let state = self.shared.state();
            let own = state.logs_of(&self.shared.keys.origin).map(|(log, _)| log);
            own.filter(|log| log.store == self.shared.id)
                .map(|log| log.epoch.counter)
                .max()
        };
        let epoch = Epoch {
            counter: written
                .max(seen)
                .max(running)
                .unwrap_or(0)
                .saturating_add(1),
            nonce: disk.random().map_err(failed)?,
        };
        let line = format!("{} {:016x}\n", epoch.counter, epoch.nonce);
        let written = disk.replace(&path, line.as_bytes()).or_else(|_full| {
            make_room(disk, &self.shared.dir, 0);
            disk.replace(&path, line.as_bytes())
        });
        let ailments = &mut self.shared.state().ailments;
        match written {
            Ok(()) => drop(ailments.remove("epoch")),
            Err(e) => {
                let why = format!("this run's epoch could not be written: {e}");
                ailments.insert("epoch", why);
            }
        }
        Ok(epoch)
    }

    /// Adds a schema to those of an origin, in memory: it is on disk before any row that needs it. Twice is nothing.
    pub fn define(&self, origin: Origin, delta: SchemaDelta) -> Result<SchemaHash, StoreError> {
        let own = self.shared.keys.is_own(&origin);
        locked(&self.shared.schemas).define(origin, &delta, own, self.shared.now())
    }

    /// The series a schema stands for. None: not known here.
    pub fn schema(&self, hash: &SchemaHash) -> Option<Arc<Schema>> {
        let mut schemas = locked(&self.shared.schemas);
        schemas.touch(hash, self.shared.now());
        schemas.resolve(hash)
    }

    /// Whether a row is its origin's word.
    #[must_use]
    pub fn is_signed(&self, row: &SignedRow) -> bool {
        self.check_row(row).is_ok()
    }

    /// The schema an origin used last, as far as memory knows: from it one that is not known here most likely grew.
    pub fn newest_schema(&self, origin: &Origin) -> Option<SchemaHash> {
        let newest = self.shared.state().latest.get(origin).cloned();
        let schemas = locked(&self.shared.schemas);
        // A damaged disk may have lost it while its rows are still here.
        newest
            .map(|row| row.row.schema)
            .filter(|hash| schemas.width(hash).is_some())
            .or_else(|| schemas.newest_of(origin))
    }

    /// A schema as it travels. None: not known here.
    pub fn schema_delta(&self, hash: &SchemaHash) -> Option<SchemaDelta> {
        locked(&self.shared.schemas).delta(hash)
    }

    /// Appends the next row of this run's epoch; returns the seal when the row ends a window.
    pub fn append_own(
        &self,
        boot_ms: u64,
        clock: Clock,
        schema: SchemaHash,
        values: Vec<Option<i64>>,
    ) -> Result<(Arc<SignedRow>, Option<Seal>), StoreError> {
        self.check_width(&schema, values.len())?;
        let mut own = locked(&self.shared.own);
        let own = own.as_mut().ok_or(StoreError::NoEpoch)?;
        let row = Row {
            log: own.log,
            seq: own.next,
            schema,
            boot_ms,
            clock,
            values,
        };
        let row = Arc::new(row.sign(&*self.shared.keys.sign));
        own.next += 1;
        {
            let mut state = self.shared.state();
            state.insert_row(&row.row, row.encode().into(), self.shared.now(), true);
            state.latest.insert(row.row.log.origin, row.clone());
        }
        let ends = row.row.seq.is_multiple_of(WINDOW);
        let window = window_of(row.row.seq);
        let seal = ends
            .then(|| self.seal_runs(&row.row.log, &window))
            .and_then(|seals| seals.into_iter().last());
        Ok((row, seal))
    }

    /// Appends a row of any origin, if that origin signed it, whoever brought it: a row that is held is handed on,
    /// and whoever hands on what nobody signed passes for the liar.
    pub fn append(&self, row: impl Into<Arc<SignedRow>>) -> Result<Appended, StoreError> {
        let row = row.into();
        let (log, seq) = (row.row.log, row.row.seq);
        if seq == 0 {
            return Err(StoreError::Malformed {
                what: "row",
                why: "seq 0 names no row".to_owned(),
            });
        }
        // Before its schema is asked for: what nobody signed must not use up its origin's limits.
        self.check_row(&row)?;
        self.check_width(&row.row.schema, row.row.values.len())?;
        check_time(row.row.boot_ms, row.row.clock.offset_ms)?;
        let bytes: Arc<[u8]> = row.encode().into();
        let mut state = self.shared.state();
        let held = state.logs.get(&log);
        if held.is_some_and(|held| held.gone.contains(seq) || held.block_at(seq).is_some()) {
            return Ok(Appended::Known);
        }
        if let Some(old) = held.and_then(|held| held.tail.get(&seq).cloned()) {
            return if old == bytes {
                Ok(Appended::Known)
            } else {
                self.settle(&mut state, &old, &row, bytes)
            };
        }
        self.admit(&mut state, &log, &(seq..=seq), bytes.len())?;
        if let Err(e) = self.keep_free(&mut state, &log) {
            // Whoever looks sees it all the same.
            state.offer_latest(&row, self.shared.disk.wall_ms());
            return Err(e);
        }
        state.insert_row(&row.row, bytes, self.shared.now(), true);
        state.offer_latest(&row, self.shared.disk.wall_ms());
        // Where a block is there already the two must be compared: a seal waits until it comes again, off this way.
        let waiting = state.waiting_at(&log, seq);
        let waiting = waiting.filter(|seal| state.is_open(&log, &(seal.first..=seal.last())));
        drop(state);
        if let Some(seal) = waiting {
            // A seal that does not fit its rows stays known as unsealed: whoever asks gets the block.
            let _ = self.apply_seal(seal);
        }
        Ok(Appended::New)
    }

    /// Two contents under one identity; the lower canonical hash stays.
    fn settle(
        &self,
        state: &mut State,
        old: &Arc<[u8]>,
        new: &SignedRow,
        bytes: Arc<[u8]>,
    ) -> Result<Appended, StoreError> {
        let old_row = SignedRow::decode(old).ok();
        // The spool of an earlier release may hold what nobody signed; only what is signed is a second content.
        let old_row = old_row.filter(|old| self.check_row(old).is_ok());
        let Some(old_row) = old_row else {
            state.replace_row(&new.row, bytes, self.shared.now());
            return Ok(Appended::New);
        };
        if old_row.row == new.row {
            return Ok(Appended::Known);
        }
        if new.row.content() < old_row.row.content() {
            state.conflict(old.to_vec());
            state.replace_row(&new.row, bytes, self.shared.now());
        } else {
            state.conflict(bytes.to_vec());
        }
        tracing::debug!(origin = %new.row.log.origin, seq = new.row.seq, "two signed contents under one identity");
        Ok(Appended::Conflict)
    }

    /// Whether the bounds let another row of this log in.
    pub(crate) fn admit(
        &self,
        state: &mut State,
        log: &LogId,
        rows: &RangeInclusive<Seq>,
        bytes: usize,
    ) -> Result<(), StoreError> {
        if self.shared.keys.is_own(&log.origin) {
            return Ok(());
        }
        let known = state.logs.get(log).is_some_and(|log| !log.held.is_empty());
        let refusal = if !known && state.epochs(&log.origin) >= MAX_EPOCHS {
            StoreError::OverLimit {
                what: "epochs",
                origin: log.origin,
                limit: MAX_EPOCHS as u64,
            }
        } else if state.has_many_holes(log, rows) {
            StoreError::OverLimit {
                what: "holes",
                origin: log.origin,
                limit: MAX_RANGES as u64,
            }
        } else if bytes > 0 && state.tail_bytes_of(&log.origin) + bytes > TAIL_BYTES_OF_ONE {
            StoreError::OverLimit {
                what: "unsealed bytes",
                origin: log.origin,
                limit: TAIL_BYTES_OF_ONE as u64,
            }
        } else if state.tail_bytes + bytes > TAIL_BYTES
            && !self.drop_idle_rows(state, &log.origin, bytes)
        {
            StoreError::Busy {
                held: state.tail_bytes as u64,
                limit: TAIL_BYTES as u64,
            }
        } else {
            return Ok(());
        };
        state.refused += 1;
        Err(refusal)
    }

    fn drop_idle_rows(&self, state: &mut State, wanting: &Origin, bytes: usize) -> bool {
        let before = self.shared.now().checked_sub(IDLE);
        let is_own = |origin: &Origin| self.shared.keys.is_own(origin);
        before.is_some_and(|before| state.drop_idle_rows(wanting, bytes, before, is_own))
    }

    /// Refuses rows of others while too little of the disk is free.
    pub(crate) fn keep_free(&self, state: &mut State, log: &LogId) -> Result<(), StoreError> {
        if state.room.copies || self.shared.keys.is_own(&log.origin) {
            return Ok(());
        }
        state.unkept += 1;
        Err(StoreError::NoRoom)
    }

    /// Says which rows of each log every keeper of it has: those go before the others. Of a log that isn't named, as after
    /// its keepers changed, nobody knows that of any.
    pub fn delivered(&self, mut rows: BTreeMap<LogId, IntervalSet>) {
        for (log, state) in &mut self.shared.state().logs {
            state.delivered = rows.remove(log).unwrap_or_default();
        }
    }

    /// What was said last of one log.
    #[must_use]
    pub fn delivered_of(&self, log: &LogId) -> IntervalSet {
        let state = self.shared.state();
        let log = state.logs.get(log);
        log.map(|log| log.delivered.clone()).unwrap_or_default()
    }

    fn check_width(&self, schema: &SchemaHash, values: usize) -> Result<(), StoreError> {
        let width = locked(&self.shared.schemas)
            .touch(schema, self.shared.now())
            .ok_or(StoreError::UnknownSchema(*schema))?;
        if values > width {
            return Err(StoreError::Malformed {
                what: "row",
                why: format!("{values} values for a schema of {width} series"),
            });
        }
        Ok(())
    }

    fn check_row(&self, row: &SignedRow) -> Result<(), StoreError> {
        row.verify(&*self.shared.keys.verify)
            .map_err(|_unsigned| StoreError::BadSignature {
                what: "row",
                log: row.row.log,
                seq: row.row.seq,
            })
    }
}

/// Refuses times that no clock shows.
pub(crate) fn check_time(boot_ms: u64, offset_ms: i64) -> Result<(), StoreError> {
    if boot_ms > LATEST_MS || offset_ms.unsigned_abs() > LATEST_MS {
        return Err(StoreError::Malformed {
            what: "row",
            why: format!(
                "boot time {boot_ms} ms and offset {offset_ms} ms are beyond the year 9999"
            ),
        });
    }
    Ok(())
}
