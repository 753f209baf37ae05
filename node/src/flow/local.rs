//! A tick each second: reading, row, store.
//!
//! Two threads, because reading waits for nobody. `sample` wakes at each second of boot time,
//! reads the machine, stamps and counts; `append` defines new series, has the store sign and
//! keep the row, and passes it on to be sent. Between them wait at most `QUEUE` readings; beyond
//! that the newest is dropped and counted, and `taken` shows it as missing.
//! Absent: sending. The flow's task does.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use outlast_mesh::{Mesh, NodeId, Snapshot};
use outlast_store::{
    Clock, Origin, SchemaDelta, SchemaHash, Seal, Series, SignedRow, Store, StoreError,
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::clock::{Belief, PeerClocks, RowClock, SystemClock, majority, measured, trusted_ahead};
use super::gauge::OwnGauges;
use super::shared::Trust;
use super::{Arrival, Shared};
use crate::collect::Tick;
use crate::summary::gauges::Gauges;

/// Readings that may wait for the store: ten minutes.
pub(super) const QUEUE: usize = 600;
/// Pause after the store refused new series (64 changes an hour) or had its hands full.
const RETRY: Duration = Duration::from_secs(60);
const BUSY: Duration = Duration::from_millis(100);

/// A reading with its time.
#[derive(Debug)]
pub(super) struct Sample {
    boot_ms: u64,
    clock: Clock,
    reading: Tick,
}

/// A row of this node, stored and ready to be sent.
#[derive(Debug)]
pub struct OwnRow {
    /// The row.
    pub row: Arc<SignedRow>,
    /// The seal of its window, when it is the last one there.
    pub seal: Option<Seal>,
}

/// Runs until the sender behind `stop` is dropped.
pub(super) fn sample(
    mut reading: impl FnMut(&Snapshot) -> Tick,
    mesh: &Mesh,
    shared: &Shared,
    stop: &Receiver<()>,
    out: &SyncSender<Sample>,
) {
    let mut system = SystemClock::new();
    let mut clock = RowClock::default();
    let mut peer_clocks = PeerClocks::default();
    while let Some(late_ms) = next_second(stop) {
        let boot_ms = SystemClock::boot_ms();
        let snapshot = mesh.snapshot();
        let reading = reading(&snapshot);
        let (offset_ms, belief) = system.offset();
        let mut peers = peer_clocks.ahead(offset_ms, believed_peers(&snapshot, shared));
        let believed_peers = peers.len();
        let doubtful = belief == Belief::Plausible && believed_peers > 1;
        let clock =
            clock.handle_measured(measured(offset_ms, belief, &mut peers), doubtful, boot_ms);
        let ahead_ms = majority(&mut peers);
        crate::when::trust_ahead_ms(trusted_ahead(offset_ms, clock, ahead_ms));
        shared.set_trust(Trust {
            clock,
            belief,
            believed_peers,
            ahead_ms,
        });
        shared.count_taken(&reading, late_ms);
        if out
            .try_send(Sample {
                boot_ms,
                clock,
                reading,
            })
            .is_err()
        {
            shared.refuse("own row: the store is ten minutes behind");
        }
    }
}

/// Waits for the next whole second of boot time; says how late it is. `None`: stop.
fn next_second(stop: &Receiver<()>) -> Option<u64> {
    let target = (SystemClock::boot_ms() / 1_000 + 1) * 1_000;
    loop {
        let ahead = target.saturating_sub(SystemClock::boot_ms());
        if ahead == 0 {
            return Some(SystemClock::boot_ms() - target);
        }
        match stop.recv_timeout(Duration::from_millis(ahead)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn believed_peers(snapshot: &Snapshot, shared: &Shared) -> impl Iterator<Item = (NodeId, i64)> {
    let peers = snapshot.peers.iter();
    peers
        .filter(|peer| shared.is_synced(&peer.id))
        .filter_map(|peer| Some((peer.id, peer.clock_offset_ms?)))
}

/// Runs until `sample` has ended and its last reading is stored.
pub(super) fn append(
    store: &Store,
    origin: Origin,
    shared: &Shared,
    samples: &Receiver<Sample>,
    out: &mpsc::Sender<(OwnRow, Gauges)>,
) {
    let mut numbers = Numbers::default();
    let mut gauge = OwnGauges::default();
    while let Ok(mut sample) = samples.recv() {
        numbers.append(std::mem::take(&mut sample.reading.appended));
        numbers.define(store, origin, shared);
        let Some(schema) = numbers.schema else {
            shared.refuse("own row: no schema yet");
            continue;
        };
        let values = numbers.place(&sample.reading.values);
        match append_when_free(store, &sample, schema, values) {
            Ok((row, seal)) => {
                shared.feed(Arrival {
                    row: Arc::clone(&row),
                    live: true,
                });
                let gauges = gauge.read(store, &row);
                if out.try_send((OwnRow { row, seal }, gauges)).is_err() {
                    shared.refuse("own row: not sent live");
                }
            }
            Err(error) => {
                warn!(%error, "a row of this node was not stored");
                shared.refuse("own row: the store refused it");
            }
        }
    }
}

fn append_when_free(
    store: &Store,
    sample: &Sample,
    schema: SchemaHash,
    values: Vec<Option<i64>>,
) -> Result<(Arc<SignedRow>, Option<Seal>), StoreError> {
    loop {
        match store.append_own(sample.boot_ms, sample.clock, schema, values.clone()) {
            Err(StoreError::Busy { .. }) => std::thread::sleep(BUSY),
            done => return done,
        }
    }
}

/// Which number in the schema each series of the collector has. The two differ when the store
/// refused some: those wait, and their values are left out.
#[derive(Debug, Default)]
struct Numbers {
    schema: Option<SchemaHash>,
    numbers: Vec<Option<usize>>,
    defined: usize,
    waiting: Vec<(usize, Series)>,
    retry: Option<Instant>,
}

impl Numbers {
    fn append(&mut self, series: Vec<Series>) {
        for series in series {
            self.waiting.push((self.numbers.len(), series));
            self.numbers.push(None);
        }
    }

    fn define(&mut self, store: &Store, origin: Origin, shared: &Shared) {
        let resting = self.retry.is_some_and(|at| Instant::now() < at);
        if resting || (self.waiting.is_empty() && self.schema.is_some()) {
            return;
        }
        let appended = self
            .waiting
            .iter()
            .map(|(_, series)| series.clone())
            .collect();
        match store.define(
            origin,
            SchemaDelta {
                parent: self.schema,
                appended,
            },
        ) {
            Ok(schema) => {
                debug!(series = self.waiting.len(), "the schema grew");
                self.schema = Some(schema);
                for (index, _) in self.waiting.drain(..) {
                    self.numbers[index] = Some(self.defined);
                    self.defined += 1;
                }
                self.retry = None;
            }
            Err(error) => {
                warn!(%error, series = self.waiting.len(), "new series were not accepted");
                shared.refuse("own series: the store refused them");
                self.retry = Some(Instant::now() + RETRY);
            }
        }
    }

    fn place(&self, values: &[Option<i64>]) -> Vec<Option<i64>> {
        let mut placed = vec![None; self.defined];
        for (number, value) in self.numbers.iter().zip(values) {
            if let Some(number) = number {
                placed[*number] = *value;
            }
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_refused_series_are_left_out_and_the_others_keep_their_numbers() {
        let numbers = Numbers {
            numbers: vec![Some(0), None, Some(1)],
            defined: 2,
            ..Numbers::default()
        };
        assert_eq!(
            numbers.place(&[Some(10), Some(20), Some(30)]),
            [Some(10), Some(30)]
        );
        assert_eq!(numbers.place(&[Some(10)]), [Some(10), None]);
    }

    #[test]
    fn ticks_come_at_whole_seconds_of_boot_time_and_stop_at_once() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let late = next_second(&stopped).unwrap();
        assert!(late < 500, "{late} ms late");
        assert!(SystemClock::boot_ms() % 1_000 < 600);
        drop(stop);
        assert_eq!(next_second(&stopped), None);
    }
}
