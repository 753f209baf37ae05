//! What the flow's threads and its handle share: counters, the feed, and who has a good clock.
//!
//! Every lock is held for a few assignments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use outlast_mesh::{NodeId, Reckoning, Refused};
use outlast_store::{Clock, LogId};
use tokio::sync::broadcast;

use super::clock::Belief;
use super::offence::Offence;
use super::{Arrival, FlowStats, TakenCount};
use crate::collect::Tick;
use crate::ledger::LedgerStats;
use crate::summary::Seen;
use crate::when::now_ms;

/// Arrivals a reader may be behind: 16 nodes for 15 s.
const FEED: usize = 256;

/// What is known of the time, by the last tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust {
    /// What rows carry.
    pub(super) clock: Clock,
    pub(super) belief: Belief,
    /// Peers whose clock is kept and compared with ours.
    pub(super) believed_peers: usize,
    /// How far the time of most clocks is ahead of this machine's.
    pub(super) ahead_ms: i64,
}

#[derive(Debug)]
pub(super) struct Shared {
    feed: broadcast::Sender<Arc<Arrival>>,
    taken: Mutex<TakenCount>,
    /// What the threads here count, and what the core counted when it was last asked.
    stats: Mutex<FlowStats>,
    core_stats: Mutex<FlowStats>,
    /// Whom the refusals are the fault of.
    reckoning: Mutex<Reckoning<Offence>>,
    backlog: Mutex<BTreeMap<NodeId, u64>>,
    synced: Mutex<BTreeSet<NodeId>>,
    /// How long the store has not answered the flow.
    silent: Mutex<Duration>,
    /// Counters of the ledger, and what is wrong with its file.
    ledger: Mutex<(LedgerStats, Option<String>)>,
    seen: Mutex<(BTreeMap<NodeId, Seen>, Instant)>,
    trust: Mutex<Option<Trust>>,
}

impl Shared {
    pub(super) fn new(running: LogId) -> Self {
        Self {
            feed: broadcast::Sender::new(FEED),
            taken: Mutex::new(TakenCount {
                log: running,
                rows: 0,
                samples: 0,
            }),
            stats: Mutex::default(),
            core_stats: Mutex::default(),
            reckoning: Mutex::default(),
            backlog: Mutex::default(),
            synced: Mutex::default(),
            silent: Mutex::default(),
            ledger: Mutex::default(),
            seen: Mutex::new((BTreeMap::new(), Instant::now())),
            trust: Mutex::default(),
        }
    }

    pub(super) fn feed(&self, arrival: Arrival) {
        // Nobody listening is fine.
        let _ = self.feed.send(Arc::new(arrival));
    }

    pub(super) fn set_seen(&self, seen: BTreeMap<NodeId, Seen>, now: Instant) {
        *lock(&self.seen) = (seen, now);
    }

    /// By summaries, each as old as it is by now.
    pub(super) fn seen(&self) -> BTreeMap<NodeId, Seen> {
        let (mut seen, at) = lock(&self.seen).clone();
        let since = at.elapsed();
        seen.values_mut().for_each(|seen| seen.age += since);
        seen
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Arrival>> {
        self.feed.subscribe()
    }

    pub(super) fn count_taken(&self, reading: &Tick, late_ms: u64) {
        let samples = reading.values.iter().flatten().count() as u64;
        let mut taken = lock(&self.taken);
        taken.rows += 1;
        taken.samples += samples;
        drop(taken);
        self.stats(|stats| {
            stats.lag_ms = late_ms;
            stats.missed_ticks += late_ms / 1_000;
        });
    }

    pub(super) fn taken(&self) -> TakenCount {
        *lock(&self.taken)
    }

    pub(super) fn stats(&self, change: impl FnOnce(&mut FlowStats)) {
        change(&mut lock(&self.stats));
    }

    pub(super) fn refuse(&self, reason: &'static str) {
        self.stats(|stats| *stats.refused.entry(reason).or_default() += 1);
    }

    /// Names whose fault a refusal is, which is counted already.
    pub(super) fn blame(&self, culprit: NodeId, what: Offence) {
        tracing::debug!(peer = %culprit.short(), what = what.as_str(), "refused");
        lock(&self.reckoning).note(culprit, what, u64::try_from(now_ms()).unwrap_or(0));
    }

    pub(super) fn reckoned(&self) -> Vec<Refused> {
        lock(&self.reckoning).shown(Offence::as_str)
    }

    pub(super) fn set_core_stats(&self, stats: &FlowStats) {
        lock(&self.core_stats).clone_from(stats);
    }

    pub(super) fn counted(&self) -> FlowStats {
        let mut all = lock(&self.core_stats).clone();
        let here = lock(&self.stats);
        (all.missed_ticks, all.lag_ms) = (here.missed_ticks, here.lag_ms);
        for (reason, count) in &here.refused {
            *all.refused.entry(reason).or_default() += count;
        }
        all
    }

    pub(super) fn set_backlog(&self, backlog: BTreeMap<NodeId, u64>) {
        *lock(&self.backlog) = backlog;
    }

    pub(super) fn backlog(&self) -> BTreeMap<NodeId, u64> {
        lock(&self.backlog).clone()
    }

    pub(super) fn set_synced(&self, peers: BTreeSet<NodeId>) {
        *lock(&self.synced) = peers;
    }

    pub(super) fn set_silent(&self, silent: Duration) {
        *lock(&self.silent) = silent;
    }

    pub(super) fn silent(&self) -> Duration {
        *lock(&self.silent)
    }

    pub(super) fn set_ledger(&self, stats: LedgerStats, trouble: Option<String>) {
        *lock(&self.ledger) = (stats, trouble);
    }

    pub(super) fn ledger(&self) -> (LedgerStats, Option<String>) {
        lock(&self.ledger).clone()
    }

    pub(super) fn set_trust(&self, trust: Trust) {
        *lock(&self.trust) = Some(trust);
    }

    /// `None` before the first tick.
    pub(super) fn trust(&self) -> Option<Trust> {
        *lock(&self.trust)
    }

    pub(super) fn is_synced(&self, peer: &NodeId) -> bool {
        lock(&self.synced).contains(peer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}
