//! The flow's task: the shell around `core`.
//!
//! One task owns the core, gives it what comes from the mesh, the store's threads and the streams, and carries out its
//! effects. It never touches the disk and never waits for the network: jobs go to the lanes of `keep`, streams to tasks
//! of their own (`pipe`), and all of them report back here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::{Event, Mesh, NodeId};
use outlast_store::Store;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ask::{Look, Whereabouts};
use super::clerk::Clerk;
use super::clock::SystemClock;
use super::core::{Core, Effect, OwnRow, StreamId, marks_of};
use super::keep::{Job, Lane, Live, Note, Outcome, Piece, Repair, work};
use super::pipe::{ORDERS, Order, Pipe, Said};
use super::{Arrival, Shared};
use crate::ledger::{Submitted, Written};
use crate::summary::gauges::Gauges;

/// Between two looks at the mesh's round trips.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What two clocks differ by less is no sleep.
const LEAST_SLEEP: Duration = Duration::from_millis(500);

/// Everything the task reads from.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) own: mpsc::Receiver<(OwnRow, Gauges)>,
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) said: mpsc::Receiver<Said>,
    /// Whom somebody looks at.
    pub(super) looks: mpsc::Receiver<Look>,
    /// What this node publishes.
    pub(super) drafts: mpsc::Receiver<Submitted>,
    /// What is in the ledger's file.
    pub(super) written: mpsc::UnboundedReceiver<Written>,
}

/// Where the task writes to.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) live: mpsc::UnboundedSender<Job>,
    pub(super) stored: mpsc::UnboundedSender<Job>,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) said: mpsc::Sender<Said>,
}

/// The task's own data.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) mesh: Mesh,
    pub(super) store: Store,
    pub(super) shared: Arc<Shared>,
    pub(super) core: Core,
    pub(super) out: Outbox,
    pub(super) pipes: BTreeMap<StreamId, (mpsc::Sender<Order>, AbortHandle)>,
    /// Every stream's task and every read of the store: they end with this one.
    pub(super) tasks: JoinSet<()>,
    pub(super) clerk: Clerk,
    /// The same moment by the clock that counts sleep and by the one that doesn't.
    pub(super) awake: (u64, Instant),
}

impl Remote {
    /// Runs until told to stop, or until the mesh has ended.
    pub(super) async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.name_members();
        loop {
            self.carry_out();
            let (due, _why) = self.core.poll_timeout();
            tokio::select! {
                () = stop.cancelled() => return,
                Some((own, gauges)) = inbox.own.recv() => self.handle_own(&own, gauges),
                Some(look) = inbox.looks.recv() => self.handle_look(look),
                event = inbox.events.recv() => match event {
                    Some(event) => self.handle_event(event),
                    None => return,
                },
                Some(note) = inbox.notes.recv() => self.handle_note(note),
                Some(said) = inbox.said.recv() => self.handle_said(said),
                Some(draft) = inbox.drafts.recv() => {
                    self.clerk.handle_submitted(draft, &mut self.core);
                }
                Some(written) = inbox.written.recv() => self.handle_written(&written),
                _ = look.tick() => self.look(),
                () = tokio::time::sleep_until(due.into()) => {
                    self.core.handle_timeout(Instant::now());
                    self.publish();
                }
            }
        }
    }

    fn handle_own(&mut self, own: &OwnRow, gauges: Gauges) {
        let now = Instant::now();
        self.core.handle_own(own, now);
        let marks = marks_of(&own.row);
        self.core
            .handle_own_gauges(own.row.row.seq, marks, gauges, now);
    }

    fn handle_look(&mut self, look: Look) {
        match look {
            Look::At(node) => self.core.handle_look(node, Instant::now()),
            Look::Kept(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.core.kept());
            }
            Look::Find(node, reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(Whereabouts {
                    kept: self.core.keeps(&node),
                    holders: self.core.handle_search(&node, Instant::now()),
                });
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(peer) => {
                if !self.core.is_member(&peer) {
                    self.name_members();
                }
                self.core.handle_connected(peer, now);
            }
            Event::Disconnected(peer) => self.core.handle_disconnected(peer, now),
            Event::Message { from, kind, body } => {
                self.core.handle_message(from, kind, &body, now);
            }
            Event::Stream { from, send, recv } => self.handle_stream(from, send, recv),
            Event::MembersChanged => self.name_members(),
        }
    }

    fn name_members(&mut self) {
        let snapshot = self.mesh.snapshot();
        self.core
            .handle_members(&snapshot.everybody(), Instant::now());
    }

    fn handle_stream(
        &mut self,
        from: NodeId,
        mut send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) {
        let Some(stream) = self.core.handle_stream(from, Instant::now()) else {
            // Already closed by the peer: nothing to reset.
            let _ = send.reset(1u8.into());
            return;
        };
        let (pipe, orders) = self.pipe(stream);
        let task = self.tasks.spawn(pipe.serve(send, recv));
        self.pipes.insert(stream, (orders, task));
    }

    fn pipe(&self, stream: StreamId) -> (Pipe, mpsc::Sender<Order>) {
        let (orders_in, orders) = mpsc::channel(ORDERS);
        let said = self.out.said.clone();
        let pipe = Pipe {
            stream,
            orders,
            said,
        };
        (pipe, orders_in)
    }

    fn handle_said(&mut self, said: Said) {
        let now = Instant::now();
        match said {
            Said::Read(stream, bytes) => self.core.handle_read(stream, &bytes, now),
            Said::Written(stream) => self.core.handle_written(stream, now),
            Said::Delivered(stream) => self.core.handle_delivered(stream, now),
            Said::Broken(stream) => {
                self.pipes.remove(&stream);
                self.core.handle_broken(stream, now);
            }
        }
    }

    fn handle_note(&mut self, note: Note) {
        match &note.outcome {
            Outcome::Live {
                row,
                outcome: Live::New | Live::Unkept,
                ..
            } => self.feed(row, true),
            Outcome::Repaired {
                piece: Piece::Row(row),
                outcome: Repair::New,
                ..
            } => self.feed(row, false),
            Outcome::Shown(row, _) => self.feed(row, true),
            _ => {}
        }
        self.core.handle_note(note, Instant::now());
    }

    fn handle_written(&mut self, written: &Written) {
        let (me, now) = (self.mesh.me(), Instant::now());
        for place in written.places.iter().filter(|place| place.0 == me) {
            self.core.handle_recorded(*place, now);
        }
    }

    fn feed(&self, row: &Arc<outlast_store::SignedRow>, live: bool) {
        let row = Arc::clone(row);
        self.shared.feed(Arrival { row, live });
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Send { to, kind, body } => {
                    // A small message may be lost; one that can't even be sent is only counted.
                    if self.mesh.send(to, kind, body).is_err() {
                        self.shared.refuse("small message: not sent");
                    }
                }
                Effect::Store(job) => self.store(job),
                Effect::Open {
                    stream,
                    peer,
                    question,
                } => self.open(stream, peer, question),
                Effect::Read(stream) => self.order(stream, Order::Read),
                Effect::Write { stream, bytes } => self.order(stream, Order::Write(bytes)),
                Effect::Finish(stream) => {
                    self.order(stream, Order::Finish);
                    self.pipes.remove(&stream);
                }
                Effect::Close(stream) => {
                    if let Some((_, task)) = self.pipes.remove(&stream) {
                        task.abort();
                    }
                }
                Effect::Want(peers) => self.mesh.want(peers),
                Effect::Blame(culprit, what) => self.shared.blame(culprit, what),
                Effect::Record(event) => {
                    let place = event.place();
                    let own = place.0 == self.mesh.me();
                    if !self.clerk.record(event, own) {
                        self.core.handle_recorded(place, Instant::now());
                    }
                }
                Effect::Told(ticket, place) => self.clerk.handle_told(ticket, place),
            }
        }
        self.clerk.show(&self.core);
        self.shared.set_core_stats(self.core.stats());
    }

    fn store(&mut self, job: Job) {
        let lane = match job.lane() {
            Lane::Live => &self.out.live,
            Lane::Stored => &self.out.stored,
            Lane::Read => {
                let (store, notes) = (self.store.clone(), self.out.notes.clone());
                let me = super::origin_of(self.mesh.me());
                self.tasks.spawn_blocking(move || {
                    // The task may have ended: then nobody waits for the answer.
                    let _ = notes.blocking_send(work(&store, me, job));
                });
                return;
            }
        };
        // A lane ends after this task only.
        let _ = lane.send(job);
    }

    fn open(&mut self, stream: StreamId, peer: NodeId, question: Bytes) {
        let (pipe, orders) = self.pipe(stream);
        let task = self
            .tasks
            .spawn(pipe.ask(self.mesh.clone(), peer, question));
        self.pipes.insert(stream, (orders, task));
    }

    /// A stream whose task has ended has said so, and the core hears of it.
    fn order(&self, stream: StreamId, order: Order) {
        if let Some((orders, _)) = self.pipes.get(&stream) {
            let _ = orders.try_send(order);
        }
    }

    fn look(&mut self) {
        self.count_sleep();
        self.clerk.look(&self.core);
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a stream's task panicked");
            }
        }
        let snapshot = self.mesh.snapshot();
        // Who is silent, and for how long, decides who keeps what.
        self.core
            .handle_members(&snapshot.everybody(), Instant::now());
        for peer in &snapshot.peers {
            self.core.handle_round_trip(peer.id, peer.rtt_ms);
        }
    }

    fn count_sleep(&mut self) {
        let (boot_ms, now) = (SystemClock::boot_ms(), Instant::now());
        let lived = Duration::from_millis(boot_ms.saturating_sub(self.awake.0));
        let slept = lived.saturating_sub(now.saturating_duration_since(self.awake.1));
        if slept >= LEAST_SLEEP {
            self.core.handle_slept(slept);
            self.awake = (boot_ms, now);
        }
    }

    fn publish(&self) {
        let now = Instant::now();
        self.shared.set_seen(self.core.seen(now), now);
        self.shared
            .set_ledger(self.core.ledger_stats(), self.clerk.trouble());
        self.shared.set_backlog(self.core.backlog().clone());
        self.shared.set_synced(self.core.synced().clone());
        self.shared
            .set_silent(self.core.store_silent(Instant::now()));
    }
}
