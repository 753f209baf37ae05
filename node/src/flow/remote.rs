//! The flow's task: what comes from peers, what goes to them, and the asking in between.
//!
//! One task owns the replica and everything per peer; it never touches the disk and never waits
//! for the network. Rows go to the store through `keep`, questions through `fetch`, answers
//! through `serve`, and all three report back here.
//! Bounds per peer: see the constants; what is over them is dropped, counted and repaired.

mod budget;
mod rows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{Event, Mesh, NodeId, PeerState};
use outlast_store::{LogId, SchemaHash, Seal, SignedRow};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::budget::Budget;
use super::fetch::{Fetcher, Progress};
use super::inward::Inward;
use super::keep::{Job, Note};
use super::live::LiveRows;
use super::local::OwnRow;
use super::offence::Offence;
use super::serve::{Inquiry, PER_PEER, Server};
use super::wire::{self, DIGEST, HeldAnswer, KEYROW, KeyRow, Part, ROW, SEAL};
use super::{Shared, node_of, origin_of};
use crate::replica::digest::Entry;
use crate::replica::{self, Replica};

/// Streams served at a time, all peers together.
const MAX_SERVED: usize = 48;
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two readings of the store's sets, and between two looks for missing seals.
const HOLDINGS_TICKS: u64 = 10;
const UNSEALED_TICKS: u64 = 5;

/// Everything the task reads from.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) own: mpsc::Receiver<OwnRow>,
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) progress: mpsc::Receiver<Progress>,
    pub(super) inquiries: mpsc::Receiver<Inquiry>,
}

/// The task's own data.
#[derive(Debug)]
pub(super) struct Remote {
    mesh: Mesh,
    shared: Arc<Shared>,
    replica: Replica,
    jobs: mpsc::Sender<Job>,
    fetcher: Fetcher,
    server: Server,
    running: LogId,
    live: LiveRows,
    peers: BTreeMap<NodeId, Remembered>,
    /// The budgets of members that are away.
    spent: BTreeMap<NodeId, Budget>,
    fetches: BTreeMap<u64, AbortHandle>,
    /// Every stream's task: they end with this one.
    tasks: JoinSet<()>,
    ticks: u64,
    ready: bool,
    earlier_sealed: bool,
    earlier: Vec<LogId>,
}

/// What is remembered of a connected peer.
#[derive(Debug)]
struct Remembered {
    inward: Inward,
    awaiting_schema: VecDeque<(SchemaHash, SignedRow)>,
    fetching: BTreeSet<SchemaHash>,
    key_answered: Option<Instant>,
    served: usize,
    budget: Budget,
}

impl Remembered {
    fn new(budget: Budget) -> Self {
        Self {
            inward: Inward::default(),
            awaiting_schema: VecDeque::new(),
            fetching: BTreeSet::new(),
            key_answered: None,
            served: 0,
            budget,
        }
    }
}

impl Remote {
    pub(super) fn new(
        mesh: Mesh,
        shared: Arc<Shared>,
        replica: Replica,
        jobs: mpsc::Sender<Job>,
        fetcher: Fetcher,
        server: Server,
        running: LogId,
    ) -> Self {
        Self {
            mesh,
            shared,
            replica,
            jobs,
            fetcher,
            server,
            running,
            live: LiveRows::default(),
            peers: BTreeMap::new(),
            spent: BTreeMap::new(),
            fetches: BTreeMap::new(),
            tasks: JoinSet::new(),
            ticks: 0,
            ready: false,
            earlier_sealed: false,
            earlier: Vec::new(),
        }
    }

    /// Runs until told to stop, or until the mesh has ended.
    pub(super) async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.handle_members();
        loop {
            let deadline = self.replica.poll_timeout(Instant::now()).map(|(at, _)| at);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(own) = inbox.own.recv() => self.handle_own(&own),
                event = inbox.events.recv() => match event {
                    Some(event) => self.handle_event(event),
                    None => return,
                },
                Some(note) = inbox.notes.recv() => self.handle_note(note),
                Some(progress) = inbox.progress.recv() => {
                    // What a request brought is noted before the request ends.
                    while let Ok(note) = inbox.notes.try_recv() {
                        self.handle_note(note);
                    }
                    self.handle_progress(progress);
                }
                Some(inquiry) = inbox.inquiries.recv() => self.handle_inquiry(inquiry),
                _ = tick.tick() => self.handle_tick(),
                () = until(deadline) => {}
            }
            self.drain();
        }
    }

    fn drain(&mut self) {
        let now = Instant::now();
        while let Some((peer, entries)) = self.replica.poll_digest(now) {
            for message in wire::digests(entries) {
                self.send(node_of(peer), DIGEST, message);
            }
        }
        while let Some(id) = self.replica.poll_given_up(now) {
            if let Some(fetch) = self.fetches.remove(&id) {
                fetch.abort();
            }
        }
        while let Some((peer, offence)) = self.replica.poll_offence() {
            let what = match offence {
                replica::Offence::Hollow => Offence::Hollow,
                replica::Offence::Claims => Offence::Claims,
            };
            self.shared.blame(node_of(peer), what);
        }
        while let Some(request) = self.replica.poll_request(now) {
            let id = request.id;
            let fetch = self.tasks.spawn(self.fetcher.clone().run(request));
            self.fetches.insert(id, fetch);
        }
    }

    /// A small message may be lost; one that can't even be sent is only counted.
    fn send(&self, to: NodeId, kind: u8, body: Bytes) -> bool {
        let sent = self.mesh.send(to, kind, body);
        if sent.is_err() {
            self.shared.refuse("small message: not sent");
        }
        sent.is_ok()
    }

    fn handle_own(&mut self, own: &OwnRow) {
        let row = &own.row;
        self.replica.handle_row(
            row.row.log,
            row.row.seq,
            row.row.samples() as u64,
            Instant::now(),
        );
        self.replica
            .handle_fresh(row.row.log, row.row.seq, Instant::now());
        match self.live.parts_of(Arc::clone(row)) {
            Some(parts) => self.send_live(&parts),
            None => {
                self.shared.refuse("own row: too long to be sent live");
                self.replica.hasten(Instant::now());
            }
        }
        if let Some(seal) = &own.seal {
            self.send_seals(std::slice::from_ref(seal));
        }
    }

    fn send_live(&self, parts: &[Bytes]) {
        for peer in self.keepers() {
            let sent = parts
                .iter()
                .filter(|part| self.send(peer, ROW, (*part).clone()))
                .count();
            if sent == parts.len() {
                self.shared.stats(|stats| stats.rows_out += 1);
            }
        }
    }

    fn send_seals(&self, seals: &[Seal]) {
        for seal in seals {
            let body = Bytes::from(seal.encode());
            for peer in self.keepers() {
                self.send(peer, SEAL, body.clone());
            }
        }
    }

    fn keepers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers
            .keys()
            .copied()
            .filter(|peer| self.replica.is_keeper_of_mine(&origin_of(*peer)))
    }

    fn handle_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(peer) => {
                self.handle_members();
                self.forget(peer);
                let budget = self.spent.remove(&peer).unwrap_or_default();
                self.peers.insert(peer, Remembered::new(budget));
                self.replica.handle_connected(origin_of(peer), now);
                if self.replica.is_keeper_of_mine(&origin_of(peer)) {
                    for part in self.live.key_parts() {
                        self.send(peer, ROW, part);
                    }
                }
            }
            Event::Disconnected(peer) => {
                self.forget(peer);
                self.shared.set_synced(peer, false);
                self.replica.handle_disconnected(origin_of(peer), now);
            }
            Event::Message { from, kind, body } => self.handle_message(from, kind, &body, now),
            Event::Stream { from, send, recv } => self.handle_stream(from, send, recv),
            Event::MembersChanged => self.handle_members(),
        }
    }

    /// Rows that waited for something from this peer are missing again.
    fn forget(&mut self, peer: NodeId) {
        let Some(forgotten) = self.peers.remove(&peer) else {
            return;
        };
        self.spent.insert(peer, forgotten.budget);
        for (_, row) in forgotten.awaiting_schema {
            self.replica
                .handle_refused(None, row.row.log, row.row.seq, row.row.seq);
        }
    }

    fn handle_members(&mut self) {
        let snapshot = self.mesh.snapshot();
        let all: BTreeSet<_> = snapshot
            .members
            .iter()
            .map(|member| origin_of(member.id))
            .collect();
        let keeping = snapshot
            .members
            .iter()
            .filter(|member| !matches!(member.state, PeerState::Retired | PeerState::Evicted));
        let keepers = keeping.map(|member| origin_of(member.id)).collect();
        self.spent.retain(|peer, _| all.contains(&origin_of(*peer)));
        self.replica.handle_members(all, keepers);
    }

    fn handle_stream(
        &mut self,
        from: NodeId,
        mut send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) {
        let all_busy = self.served() >= MAX_SERVED;
        match self.peers.get_mut(&from) {
            Some(peer) => {
                let crowded = peer.served >= PER_PEER;
                if !peer.budget.question(crowded, Instant::now()) {
                    self.shared.blame(from, Offence::Questions);
                } else if crowded || all_busy {
                    self.shared.refuse("question: too many at a time");
                } else {
                    peer.served += 1;
                    self.tasks
                        .spawn(self.server.clone().serve(from, send, recv));
                    return;
                }
            }
            // Connections outlast a greeting: it asked before it went, or asks before it has greeted us again.
            None => self
                .shared
                .refuse("question: from a peer that is not there"),
        }
        // Already closed by the peer: nothing to reset.
        let _ = send.reset(1u8.into());
    }

    fn served(&self) -> usize {
        self.peers.values().map(|peer| peer.served).sum()
    }

    fn handle_message(&mut self, from: NodeId, kind: u8, body: &Bytes, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return self
                .shared
                .refuse("small message: from a peer that is not there");
        };
        match kind {
            ROW => match Part::decode(body) {
                Some(part) => self.handle_part(from, part, now),
                None => self.shared.blame(from, Offence::Unreadable),
            },
            SEAL => self.handle_seal(from, body),
            DIGEST if !peer.budget.digest(now) => {
                self.shared.blame(from, Offence::Digests);
            }
            DIGEST => match wire::from_small::<Vec<Entry>>(body) {
                Some(entries) => self.replica.handle_digest(origin_of(from), entries, now),
                None => self.shared.blame(from, Offence::Unreadable),
            },
            KEYROW if !peer.budget.key_row(now) => {
                self.shared.blame(from, Offence::KeyRows);
            }
            KEYROW => match wire::from_small::<KeyRow>(body) {
                Some(key) => self.handle_key_request(from, key, now),
                None => self.shared.blame(from, Offence::Unreadable),
            },
            _ => self.shared.refuse("small message: unknown kind"),
        }
    }

    fn handle_seal(&mut self, from: NodeId, body: &Bytes) {
        match Seal::decode(body) {
            Ok(seal) if seal.log.origin == origin_of(from) => {
                self.store_soon(Job::Seal(seal, from));
            }
            Ok(_) => self.shared.blame(from, Offence::Foreign),
            Err(_) => self.shared.blame(from, Offence::Unreadable),
        }
    }

    /// Hands a job over without waiting; a full queue costs the job, and repair brings it back.
    fn store_soon(&self, job: Job) {
        if self.jobs.try_send(job).is_err() {
            self.shared.refuse("store: its queue is full");
        }
    }

    fn handle_note(&mut self, note: Note) {
        let now = Instant::now();
        match note {
            Note::Live { log, seq, outcome } => self.handle_stored_live(log, seq, outcome, now),
            Note::Stored { log, first, last } => {
                self.replica.handle_stored(log, first, last);
                self.earlier_sealed &= log.origin != self.running.origin || log == self.running;
            }
            Note::Holdings { held, gone, ready } => {
                self.ready = ready;
                let earlier = held
                    .keys()
                    .filter(|log| log.origin == self.running.origin && **log != self.running);
                self.earlier = earlier.copied().collect();
                self.replica.handle_store(held, gone, ready);
            }
            Note::Unsealed(windows) => self.replica.handle_unsealed(&windows, now),
            Note::Sealed(seals) => self.send_seals(&seals),
        }
    }

    fn handle_progress(&mut self, progress: Progress) {
        let now = Instant::now();
        match progress {
            Progress::Moved(id) => self.replica.handle_progress(id, now),
            Progress::Held(id, peer, held) => {
                let origin = held.origin;
                self.replica
                    .handle_held(id, origin_of(peer), origin, held.logs(), now);
            }
            Progress::Bad(peer, log, first, last) => {
                self.replica
                    .handle_refused(Some(origin_of(peer)), log, first, last);
            }
            Progress::Done(id) => {
                self.fetches.remove(&id);
                self.replica.handle_done(id, now);
            }
            Progress::Failed(id) => {
                self.fetches.remove(&id);
                self.replica.handle_failed(id, now);
            }
            Progress::Schema(hash, defined) => self.handle_schema(hash, defined),
        }
    }

    fn handle_inquiry(&mut self, inquiry: Inquiry) {
        match inquiry {
            Inquiry::Held(origins, reply) => {
                let answer = |origin| HeldAnswer::new(origin, self.replica.held(&origin));
                // The stream that asked may be gone.
                let _ = reply.send(origins.into_iter().map(answer).collect());
            }
            Inquiry::Delivered(peer, log, first, last) => {
                self.replica
                    .handle_peer_has(origin_of(peer), log, first, last);
            }
            Inquiry::Ended(peer) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.served = peer.served.saturating_sub(1);
                }
            }
        }
    }

    fn handle_tick(&mut self) {
        let now = Instant::now();
        if !self.ready || self.ticks.is_multiple_of(HOLDINGS_TICKS) {
            self.store_soon(Job::Holdings);
        }
        if self.ready && self.ticks.is_multiple_of(UNSEALED_TICKS) {
            self.store_soon(Job::Unsealed);
        }
        if !self.earlier_sealed && self.replica.own_runs_recovered(now) {
            debug!(
                logs = self.earlier.len(),
                "sealing what earlier runs left open"
            );
            self.earlier_sealed = true;
            self.store_soon(Job::SealClosed(self.earlier.clone()));
        }
        self.ticks += 1;
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a stream's task panicked");
            }
        }
        self.follow_round_trips();
        self.publish(now);
    }

    fn follow_round_trips(&self) {
        let snapshot = self.mesh.snapshot();
        let mut buckets = self
            .server
            .buckets
            .lock()
            .expect("no holder of this lock panics");
        buckets.retain(|peer, _| snapshot.members.iter().any(|member| member.id == *peer));
        for peer in &snapshot.peers {
            if let Some(bucket) = buckets.get_mut(&peer.id) {
                bucket.handle_rtt(peer.rtt_ms);
            }
        }
    }

    fn publish(&self, now: Instant) {
        let backlog = self.replica.backlog(now).into_iter();
        self.shared.set_backlog(
            backlog
                .map(|(peer, samples)| (node_of(peer), samples))
                .collect(),
        );
        let parked = self
            .peers
            .values()
            .map(|peer| peer.inward.waiting() + peer.awaiting_schema.len());
        let (parked, in_flight) = (
            parked.sum::<usize>() as u64,
            self.replica.in_flight() as u64,
        );
        self.shared
            .stats(|stats| (stats.parked, stats.in_flight) = (parked, in_flight));
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
