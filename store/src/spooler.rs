//! The thread that makes the tail durable: once every `sync_every`, one write and one fdatasync.
//!
//! It takes what was queued, writes it, schemas first, and says how far this node's own epoch would survive a power cut. When the disk
//! refuses, the rows stay queued (bounded, see `state`), the ballast is freed, and the next beat tries a new segment.
//! It also deletes what no longer needs the spool, and keeps the evidence of conflicts: 1 MiB of it, the rest is only
//! counted.

use std::io;
use std::sync::PoisonError;
use std::time::Instant;

use crate::ledger::Ledger;
use crate::open::Shared;
use crate::retain::{OWN_FLOOR, make_room};
use crate::shelf::locked;
use crate::state::{Queued, State};
use crate::tail::Spool;

const EVIDENCE_BYTES: u64 = 1 << 20;
const EVIDENCE: u8 = 1;

/// The spool, and what waits for it.
#[derive(Debug)]
pub(crate) struct Spooler {
    spool: Spool,
    evidence: Ledger,
    rest: Vec<Queued>,
}

/// Runs until the store is closed.
pub(crate) fn run(shared: &Shared, mut spooler: Spooler) {
    loop {
        let (asked, stop) = wait(shared);
        while spooler.beat(shared, stop) {}
        locked(&shared.orders).sync_done = asked;
        shared.ordered.notify_all();
        if stop {
            return;
        }
    }
}

/// Until the next beat, or until somebody asks: the number asked for, and whether this is the last one.
fn wait(shared: &Shared) -> (u64, bool) {
    let deadline = Instant::now() + shared.sync_every;
    let mut orders = locked(&shared.orders);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if orders.stop || orders.sync_asked > orders.sync_done || left.is_zero() {
            return (orders.sync_asked, orders.stop);
        }
        let waited = shared.ordered.wait_timeout(orders, left);
        orders = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Spooler {
    pub(crate) fn new(spool: Spool, evidence: Ledger) -> Self {
        Self {
            spool,
            evidence,
            rest: Vec::new(),
        }
    }

    /// Writes and syncs what waits. `all`: what nobody needs goes even from the segment being written. Says whether
    /// another beat is due at once, for rows that had left a full queue.
    pub(crate) fn beat(&mut self, shared: &Shared, all: bool) -> bool {
        let Self {
            spool,
            evidence,
            rest,
        } = self;
        if !shared.state().room.own {
            shared.look_for_room();
        }
        let running = locked(&shared.own).map(|own| own.log);
        let has_room;
        {
            let mut state = shared.state();
            state.queue_bytes = 0;
            let queue = std::mem::take(&mut state.queue);
            rest.extend(queue.into_iter().filter(|row| !state.is_safe(row)));
            state.spooling = Some(shared.now());
            has_room = state.room.own;
        }
        let written = if rest.is_empty() {
            shared.write_schemas()
        } else if has_room {
            shared.write_schemas().and_then(|()| spool.write(rest))
        } else {
            Err(io::Error::other(OWN_FLOOR))
        };
        let mut state = shared.state();
        state.spooling = None;
        let again = match written {
            Ok(()) => {
                state.ailments.remove("spool");
                // Rows of an earlier epoch may come back from peers; only the running one is told.
                let again = state.spooled(rest, running);
                rest.clear();
                again
            }
            // What was released and what is evidence waits in the state for a beat that succeeds.
            Err(e) => {
                let why = format!("fresh rows are in memory only: {e}");
                state.ailments.insert("spool", why);
                put_back(&mut state, rest);
                drop(state);
                make_room(&shared.disk, &shared.dir, 0);
                return false;
            }
        };
        let released = state.take_released();
        let conflicts = std::mem::take(&mut state.evidence);
        drop(state);
        for (log, range) in released {
            spool.release(&log, &range);
        }
        carry(shared, spool);
        spool.sweep(all);
        if evidence.len() < EVIDENCE_BYTES
            && let Err(e) = evidence.append(conflicts.iter().map(|body| (EVIDENCE, &body[..])))
        {
            tracing::warn!(error = %e, "evidence of a conflict is lost");
        }
        again
    }
}

/// The rows wait for the next beat, in front of what came meanwhile.
fn put_back(state: &mut State, rest: &mut Vec<Queued>) {
    state.queue_bytes += rest.iter().map(|row| row.bytes.len()).sum::<usize>();
    for row in rest.drain(..).rev() {
        state.queue.push_front(row);
    }
}

/// Writes what the oldest segment still holds again at the end, so that old segments can go.
fn carry(shared: &Shared, spool: &mut Spool) {
    let Some((name, needed)) = spool.leftovers() else {
        return;
    };
    let mut rows = Vec::new();
    {
        let state = shared.state();
        for (id, set) in needed {
            for seq in set.ranges().flatten() {
                let bytes = state
                    .logs
                    .get(&id)
                    .and_then(|log| log.tail.get(&seq).cloned());
                // A row that left the tail is in a block that sled has not synced: then the segment has to wait.
                let Some(bytes) = bytes else { return };
                rows.push(Queued {
                    log: id,
                    seq,
                    bytes,
                });
            }
        }
    }
    if spool.write(&rows).is_ok() {
        spool.carried(name);
    }
}
