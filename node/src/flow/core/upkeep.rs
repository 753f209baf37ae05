//! What the store is given to do, what it says, and what is done each second.
//!
//! Live rows and the rest go in two lanes, so that a disk that is slow with a repair delays no live row.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_mesh::NodeId;
use outlast_store::{IntervalSet, LogId, Seal, Seq};
use tracing::debug;

use super::{Core, Effect, MOST_JOBS, TICK};
use crate::flow::STALLED;
use crate::flow::keep::{Charge, Job, Live, Note, Outcome};
use crate::flow::{node_of, origin_of};
use crate::replica::Ask;

/// Ticks between two readings of the store's sets, and between two looks for missing seals.
const HOLDINGS_TICKS: u64 = 10;
const UNSEALED_TICKS: u64 = 5;
/// Ticks between two comparisons of contents with a peer: 20 B/s.
const COMPARE_TICKS: u64 = 120;

/// What the store was given and has not answered.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    live: usize,
    other: usize,
    /// Whether the sets are being read, and what was stored since that began: they may lack it.
    reading: bool,
    since: BTreeMap<LogId, IntervalSet>,
    /// When the store last answered anything but a live row, while something waits.
    answered: Option<Instant>,
    /// Whether that is counted as a stall.
    stalled: bool,
}

impl Jobs {
    /// The store took these rows.
    fn note(&mut self, log: LogId, first: Seq, last: Seq) {
        if self.reading {
            self.since.entry(log).or_default().insert(first..=last);
        }
    }
}

impl Core {
    /// Hands a job over; false when too many wait, and it is dropped and counted.
    pub(super) fn store(&mut self, job: Job) -> bool {
        let live = matches!(job, Job::Live(_) | Job::HandedOn(..));
        let waiting = if live {
            &mut self.jobs.live
        } else {
            &mut self.jobs.other
        };
        // What a request brought is bounded by the requests, and waits.
        let bounded = live || matches!(job, Job::Seal(..) | Job::Show(..));
        if bounded && *waiting >= MOST_JOBS {
            self.refuse("store: its queue is full");
            return false;
        }
        *waiting += 1;
        self.effects.push_back(Effect::Store(job));
        true
    }

    /// A seal that finds the store far behind is asked for again later.
    pub(super) fn store_seal(&mut self, seal: Seal, from: NodeId) {
        self.store(Job::Seal(seal, from));
    }

    /// What the store says of a job.
    pub fn handle_note(&mut self, note: Note, now: Instant) {
        match note.charge {
            Some(Charge::Blame(culprit, what)) => self.blame(culprit, what),
            Some(Charge::Refuse(reason)) => self.refuse(reason),
            None => {}
        }
        if let Outcome::Live { row, from, outcome } = note.outcome {
            self.jobs.live = self.jobs.live.saturating_sub(1);
            if matches!(outcome, Live::New) {
                self.stats.rows_in += 1;
            } else if matches!(outcome, Live::Known) && note.charge.is_none() {
                self.stats.duplicates += 1;
            }
            if matches!(outcome, Live::New) {
                self.jobs.note(row.row.log, row.row.seq, row.row.seq);
            }
            return self.handle_stored_live(row, from, outcome, now);
        }
        self.jobs.other = self.jobs.other.saturating_sub(1);
        self.jobs.answered = (self.jobs.other > 0).then_some(now);
        match note.outcome {
            Outcome::Live { .. } | Outcome::Sealed(None) => {}
            Outcome::Shown(row, from) => self.handle_shown(row.row.log.origin, from),
            Outcome::Forged { origin, from } => self.handle_forged(origin, from, now),
            Outcome::Sealed(Some((peer, log, rows))) => {
                let rows = [rows].into_iter().collect();
                self.ask_beside(peer, Ask::Rows { log, rows }, now);
            }
            Outcome::Unshown {
                origin,
                from,
                hash,
                known,
            } => self.handle_unshown(from, origin, hash, known, now),
            Outcome::Repaired {
                ask,
                piece,
                outcome,
            } => {
                self.handle_repaired(ask, &piece, outcome, now);
            }
            Outcome::Defined { ask, defined } => self.handle_defined(ask, defined, now),
            Outcome::Holdings {
                held,
                gone,
                ready,
                room,
            } => {
                self.replica.handle_room(room);
                self.handle_holdings(held, gone, ready);
            }
            Outcome::Unsealed(windows) => self.replica.handle_unsealed(&windows, now),
            Outcome::SealedClosed(seals) => self.send_seals(&seals),
            Outcome::Exported { stream, parcels } => self.handle_exported(stream, parcels, now),
            Outcome::Found { stream, answers } => self.handle_found(stream, answers, now),
        }
        self.settle(now);
    }

    /// Rows that were asked for are held.
    pub(super) fn handle_stored(&mut self, log: LogId, first: Seq, last: Seq) {
        self.jobs.note(log, first, last);
        self.replica.handle_stored(log, first, last);
        self.earlier_sealed &= log.origin != self.running.origin || log == self.running;
    }

    fn handle_holdings(
        &mut self,
        held: BTreeMap<LogId, IntervalSet>,
        gone: BTreeMap<LogId, IntervalSet>,
        ready: bool,
    ) {
        self.ready = ready;
        let earlier = held
            .keys()
            .filter(|log| log.origin == self.running.origin && **log != self.running);
        self.earlier = earlier.copied().collect();
        self.replica.handle_store(held, gone, ready);
        self.jobs.reading = false;
        for (log, rows) in std::mem::take(&mut self.jobs.since) {
            for rows in rows.ranges() {
                self.replica.handle_held_here(log, rows);
            }
        }
    }

    /// What is due by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            self.handle_tick(now);
        }
        self.expire_asks(now);
        self.serve_on(now);
        self.show_on(now);
        self.ledger.handle_timeout(now);
        self.settle_ledger(now);
        self.settle(now);
    }

    fn handle_tick(&mut self, now: Instant) {
        if (!self.ready || self.ticks.is_multiple_of(HOLDINGS_TICKS)) && !self.jobs.reading {
            self.jobs.reading = true;
            self.store(Job::Holdings(self.replica.delivered()));
        }
        if self.ready && self.ticks.is_multiple_of(UNSEALED_TICKS) {
            self.store(Job::Unsealed);
        }
        if !self.earlier_sealed && self.replica.own_runs_recovered(now) {
            debug!(
                logs = self.earlier.len(),
                "sealing what earlier runs left open"
            );
            self.earlier_sealed = true;
            self.store(Job::SealClosed(self.earlier.clone()));
        }
        if self.ready && self.ticks % COMPARE_TICKS == COMPARE_TICKS / 4 {
            self.compare_contents(now);
        }
        self.ticks += 1;
        self.want();
        if self.jobs.other > 0 && self.jobs.answered.is_none() {
            self.jobs.answered = Some(now);
        }
        let stalled = self.store_silent(now) >= STALLED;
        if stalled && !self.jobs.stalled {
            self.refuse("store: it did not answer for 10 s");
        }
        self.jobs.stalled = stalled;
        let backlog = self.replica.backlog(now).into_iter();
        self.backlog = backlog
            .map(|(peer, samples)| (node_of(peer), samples))
            .collect();
        let parked = self
            .peers
            .values()
            .map(|peer| peer.inward.waiting() + peer.awaiting_schema.len());
        self.stats.parked = parked.sum::<usize>() as u64;
        self.stats.in_flight = self.replica.in_flight() as u64;
    }

    /// Asks one peer after the other for the seals of some windows that both hold: what differs names its origin, and the
    /// lower hash is fetched.
    fn compare_contents(&mut self, now: Instant) {
        let count = self.peers.len().max(1) as u64;
        let turn = usize::try_from(self.ticks / COMPARE_TICKS % count).unwrap_or(0);
        let Some(peer) = self.peers.keys().nth(turn).copied() else {
            return;
        };
        let windows = self.replica.windows_to_compare(&origin_of(peer));
        if !windows.is_empty() {
            self.ask_beside(peer, Ask::Seals { windows }, now);
        }
    }

    /// How long the store has said nothing while it has something to do besides live rows.
    #[must_use]
    pub fn store_silent(&self, now: Instant) -> Duration {
        let since = self.jobs.answered;
        since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// How much waits in each queue, and how much may.
    #[must_use]
    pub fn queues(&self) -> [(&'static str, usize, usize); 5] {
        let parked = self.peers.values().map(|peer| peer.awaiting_schema.len());
        [
            ("live rows for the store", self.jobs.live, MOST_JOBS),
            ("other jobs for the store", self.jobs.other, 2 * MOST_JOBS),
            (
                "streams served",
                self.served.len(),
                super::serve::MOST_SERVED,
            ),
            (
                "streams asked on",
                self.asks.len(),
                8 * self.peers.len().max(1),
            ),
            (
                "rows without a schema, of one peer",
                parked.max().unwrap_or(0),
                64,
            ),
        ]
    }
}
