//! What peers sent goes to the store, and what they asked for comes from it: one `Job`, one `Note`.
//!
//! `work` is the whole of it, without a thread; `keep` does it on one, in the order the jobs came. A live row only touches
//! memory; everything else may wait for the disk, a damaged one up to the store's own deadlines. So there are three
//! lanes: live rows; what is stored; what is read, which may run side by side. The core bounds how many jobs wait.
//! Absent: whose turn it is (`core`), and what counts as a lie (`offence`).

mod give;
mod job;
mod note;
mod take;
#[cfg(test)]
mod tests;

use std::time::Duration;

use outlast_store::{Origin, Store};
use tokio::sync::mpsc;

use super::node_of;
use super::wire::Answer;
pub use job::{Job, Lane, Piece};
pub use note::{Charge, Live, Note, Outcome, Repair};

/// How long a complete window waits for its seal before a holder is asked.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);
/// One export: a window of the largest rows fits.
const EXPORT_BYTES: usize = 2 * 1024 * 1024;

/// Runs until every sender of jobs is gone.
pub(super) fn keep(
    store: &Store,
    me: Origin,
    jobs: &mut mpsc::UnboundedReceiver<Job>,
    notes: &mpsc::Sender<Note>,
) {
    while let Some(job) = jobs.blocking_recv() {
        if notes.blocking_send(work(store, me, job)).is_err() {
            return;
        }
    }
}

/// Does one job. `me` is the origin of this node's own rows.
#[must_use]
pub fn work(store: &Store, me: Origin, job: Job) -> Note {
    let (outcome, charge) = match job {
        Job::Show(row, from) => give::show(store, row, from),
        Job::Points { stream, asked } => {
            let answers = give::points(store, &asked);
            (Outcome::Found { stream, answers }, None)
        }
        Job::Live(row) => {
            let origin = node_of(row.row.log.origin);
            take::live(store, row, origin)
        }
        Job::HandedOn(row, from) => take::live(store, row, from),
        Job::Repair { ask, piece, from } => take::repair(store, ask, piece, from),
        Job::Seal(seal, from) => take::apply(store, seal, from),
        Job::Define {
            ask,
            origin,
            hash,
            deltas,
        } => take::define(store, ask, origin, hash, deltas),
        Job::Holdings(delivered) => {
            store.delivered(delivered);
            // `ready` first: sets read after it are complete.
            let ready = store.ready();
            let (held, gone) = (store.held(), store.gone());
            let room = store.room();
            let outcome = Outcome::Holdings {
                held,
                gone,
                ready,
                room,
            };
            (outcome, None)
        }
        Job::Unsealed => (Outcome::Unsealed(give::unsealed(store, me)), None),
        Job::SealClosed(logs) => {
            let seals = logs.iter().flat_map(|log| store.seal_closed(log));
            (Outcome::SealedClosed(seals.collect()), None)
        }
        Job::Export { stream, log, rows } => {
            let parcels = store.export(&log, rows, EXPORT_BYTES).ok();
            (Outcome::Exported { stream, parcels }, None)
        }
        Job::Seals { stream, windows } => {
            let seals = windows
                .iter()
                .filter_map(|(log, first)| store.seal_of(log, *first));
            let answers = seals.map(|seal| Answer::Seal(seal.encode().into()).encode());
            let answers = answers.collect();
            (Outcome::Found { stream, answers }, None)
        }
        Job::Schema {
            stream,
            hash,
            known,
        } => {
            let answers = give::schema(store, hash, &known);
            (Outcome::Found { stream, answers }, None)
        }
    };
    Note { outcome, charge }
}
