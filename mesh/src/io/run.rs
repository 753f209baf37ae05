//! The one task that owns the node.
//!
//! It waits for the socket, the handles, the stream layer, the journal's thread and the node's
//! next deadline; hands what came to the node, then drains it: statements to the journal first,
//! and until what was said here is written no datagram leaves. What others said doesn't wait for
//! the disk: they hold it, and a slow card must not look like a dead node. Bounds: `BATCH` of
//! a kind for each wake-up. `news` is what the application hears, `upkeep` what is done from time
//! to time.

mod news;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use upkeep::Deadlines;

use super::journal::Journal;
use super::names::Names;
use super::netlink::Watch;
use super::quic::{self, VirtualSocket};
use super::streams::Connections;
use super::udp::{Sent, Udp};
use super::writer::Writer;
use super::{
    COMMANDS, Command, Connected, EVENTS, Event, Mesh, Within, addresses, endpoints, now, seed,
};
use crate::config::{Identity, MeshConfig};
use crate::error::{PingError, PublishError, StartError};
use crate::id::NodeId;
use crate::node::{Node, NodeConfig, Transmit};
use crate::snapshot::Snapshot;
use crate::time::Now;
use crate::trust::{EndpointKind, Refusal, State, Statements};
use crate::wire::STREAM_PORT;

/// Commands and stream packets taken for each wake-up.
const BATCH: usize = 64;

pub(super) fn start(
    config: MeshConfig,
    identity: Identity,
    journal: Journal,
    statements: Statements,
) -> Result<(Mesh, mpsc::Receiver<Event>), StartError> {
    let (mesh, me) = (statements.mesh(), identity.node.id());
    // Who was a member or asked to be one starts too, and says why it is none.
    if statements.state().ever(&me).is_none() && !statements.has_asked(&me) {
        return Err(StartError::NotAMember { node: me, mesh });
    }
    let started = now();
    let udp = bind(config.listen, &statements.state(), me)
        .map_err(|(address, source)| StartError::Listen { address, source })?;
    let writer = Writer::start(journal).map_err(StartError::Journal)?;
    let overlay = crate::id::overlay_address(&mesh, &me);
    let socket = VirtualSocket::new(SocketAddr::new(IpAddr::V6(overlay), STREAM_PORT));
    let streams = quic::endpoint(&identity.node, mesh, Arc::clone(&socket))
        .map_err(|error| StartError::Streams(error.to_string()))?;

    let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (events, event_queue) = mpsc::channel(EVENTS);
    let (isolation, isolated) = watch::channel(false);
    let (want, wanted) = watch::channel(BTreeSet::new());
    let connections = Connections::start(streams, events.clone(), stop.clone());
    let endpoints_file = endpoints::file(&config.state_dir);
    let names = Names::start(config.advertise.clone(), stop.clone());
    let node = node(&config, identity, statements, (&udp, &names), started);
    let connected: Connected = Arc::new(RwLock::new(Within::of(&node)));
    tracing::info!(%me, %mesh, listen = %udp.local(), "mesh started");
    let (snapshots, snapshot) = watch::channel(Arc::new(node.snapshot(started)));
    let shell = Shell {
        node,
        udp,
        watch: Watch::start(),
        stirred: false,
        socket,
        writer,
        commands: command_queue,
        isolated,
        wanted,
        events,
        pending: VecDeque::new(),
        snapshots,
        connected: Arc::clone(&connected),
        connections: connections.clone(),
        unsent: None,
        publishing: Vec::new(),
        being_written: Vec::new(),
        pings: BTreeMap::new(),
        names,
        endpoints_file,
        stop: stop.clone(),
        changed: false,
        due: Deadlines::new(started.mono),
    };
    tokio::spawn(shell.run(stopped.clone()));
    let handle = Mesh {
        me,
        commands,
        isolation: Arc::new(isolation),
        wanted: Arc::new(want),
        connected,
        snapshot,
        streams: connections,
        stop,
        stopped,
    };
    Ok((handle, event_queue))
}

fn node(
    config: &MeshConfig,
    identity: Identity,
    statements: Statements,
    (udp, names): (&Udp, &Names),
    started: Now,
) -> Node {
    let config = NodeConfig {
        identity,
        statements,
        endpoints: addresses::endpoints(udp.local(), &names.addresses()),
        udp_port: udp.local().port(),
        version: config.version.clone(),
        calls: config.calls && udp.hears_calls(),
        remembered: endpoints::read(&endpoints::file(&config.state_dir)),
        seed: seed(),
    };
    Node::new(config, started)
}

/// Binds `listen`. Where the system chooses the port it is the one of the last run, if that is
/// free: nodes that were all down at once look for each other where they were.
fn bind(
    listen: Option<SocketAddr>,
    state: &State,
    me: NodeId,
) -> Result<Udp, (SocketAddr, std::io::Error)> {
    let last = || {
        let info = state.members.get(&me)?.info.as_ref()?;
        let mut endpoints = info.endpoints.iter();
        let local = endpoints.find(|endpoint| endpoint.kind == EndpointKind::Local)?;
        Some(SocketAddr::new(listen?.ip(), local.addr.port()))
    };
    let free = listen.filter(|address| address.port() == 0);
    let again = free
        .and_then(|_any| last())
        .and_then(|address| Udp::bind(Some(address)).ok());
    again.map_or_else(|| Udp::bind(listen), Ok)
}

/// Everything the task owns.
struct Shell {
    node: Node,
    udp: Udp,
    watch: Watch,
    /// The system told of a change that was not looked at yet.
    stirred: bool,
    socket: Arc<VirtualSocket>,
    writer: Writer,
    commands: mpsc::Receiver<Command>,
    isolated: watch::Receiver<bool>,
    wanted: watch::Receiver<BTreeSet<NodeId>>,
    events: mpsc::Sender<Event>,
    pending: VecDeque<Event>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    connected: Connected,
    connections: Connections,
    unsent: Option<Transmit>,
    /// Who waits for a statement that goes with the next write.
    publishing: Vec<oneshot::Sender<Result<(), PublishError>>>,
    /// Who waits for the write under way.
    being_written: Vec<oneshot::Sender<Result<(), PublishError>>>,
    /// Who waits for an answer to a ping, by its number; the node bounds them.
    pings: BTreeMap<u32, oneshot::Sender<Result<Duration, PingError>>>,
    names: Names,
    endpoints_file: PathBuf,
    stop: CancellationToken,
    /// Something happened that the snapshot should show at once.
    changed: bool,
    due: Deadlines,
}

/// Why the task woke.
enum Woken {
    Stop,
    Datagrams,
    Writable,
    Command(Command),
    Stream((SocketAddr, Bytes)),
    Isolate,
    Want,
    Written(std::io::Result<()>),
    EventTaken,
    Network,
    Names,
    Time,
}

impl Shell {
    async fn run(mut self, stopped: CancellationToken) {
        loop {
            match self.wait().await {
                Woken::Stop => break,
                woken => self.handle(woken),
            }
            self.take_commands();
            self.take_stream_packets();
            self.drain();
            self.keep_time();
        }
        self.close().await;
        stopped.cancel();
    }

    async fn wait(&mut self) -> Woken {
        let node_due = self.node.poll_timeout().map(|(at, _reason)| at);
        let due = node_due.map_or(self.due.snapshot, |at| at.min(self.due.snapshot));
        let may_leave = self.may_leave();
        let may_send = self.unsent.is_none() && may_leave;
        tokio::select! {
            () = self.stop.cancelled() => Woken::Stop,
            command = self.commands.recv() => command.map_or(Woken::Stop, Woken::Command),
            result = self.writer.finished(), if self.writer.is_busy() => Woken::Written(result),
            Ok(()) = self.isolated.changed() => Woken::Isolate,
            Ok(()) = self.wanted.changed() => Woken::Want,
            Ok(permit) = self.events.reserve(), if !self.pending.is_empty() => {
                if let Some(event) = self.pending.pop_front() {
                    permit.send(event);
                }
                Woken::EventTaken
            }
            // Not while the way out is held: a writable socket would wake us without end.
            _ = self.udp.writable(), if self.unsent.is_some() && may_leave => Woken::Writable,
            _ = self.udp.readable() => Woken::Datagrams,
            // Not while earlier news settles: a busy router tells without end.
            () = self.watch.changed(), if !self.stirred => Woken::Network,
            () = self.names.changed() => Woken::Names,
            packet = self.socket.outward(), if may_send => Woken::Stream(packet),
            () = tokio::time::sleep_until(due.into()) => Woken::Time,
        }
    }

    fn handle(&mut self, woken: Woken) {
        match woken {
            Woken::Datagrams => {
                // One moment for the batch: three clocks cost as much as dropping a datagram.
                let (node, now) = (&mut self.node, now());
                self.udp
                    .receive(|from, bytes| node.handle_datagram(from, bytes, now));
                if self.udp.is_broken() {
                    self.look_again();
                }
            }
            Woken::Command(command) => self.command(command),
            Woken::Stream((to, bytes)) => self.stream_packet(to, &bytes),
            Woken::Isolate => {
                let on = *self.isolated.borrow_and_update();
                tracing::info!(on, "isolation");
                self.node.handle_isolate(on);
                self.changed = true;
            }
            Woken::Want => {
                let wanted = self.wanted.borrow_and_update().clone();
                self.node.handle_want(wanted, now());
            }
            Woken::Written(result) => self.written(&result),
            Woken::Network => self.stir(),
            Woken::Names => self.look_again(),
            Woken::Time | Woken::Stop | Woken::Writable | Woken::EventTaken => {}
        }
        let now = now();
        if self
            .node
            .poll_timeout()
            .is_some_and(|(at, _reason)| at <= now.mono)
        {
            self.node.handle_timeout(now);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send { to, kind, body } => {
                // The peer may have gone since the handle looked; that is counted.
                let _lossy = self.node.handle_message(to, kind, &body, now());
            }
            Command::Publish { statement, done } => {
                match self.node.handle_publish(statement, now()) {
                    Ok(()) => self.publishing.push(done),
                    Err(refusal) => {
                        let _gone = done.send(Err(refused(&refusal)));
                    }
                }
            }
            Command::Rotate { key, done } => {
                let rotated = match key {
                    Some(key) => self.node.handle_rotate(key, now()),
                    None => self.node.may_rotate(now()),
                };
                let _gone = done.send(rotated);
            }
            Command::Wake { to } => {
                let _known = self.node.handle_wake(to, now());
            }
            Command::Statements { copy } => {
                let _gone = copy.send(self.node.statements().clone());
            }
            Command::Ping { to, took } => self.ping(to, took),
        }
    }

    fn ping(&mut self, to: NodeId, took: oneshot::Sender<Result<Duration, PingError>>) {
        // Who gave up waiting has let go of the other end.
        self.pings.retain(|_, waiting| !waiting.is_closed());
        match self.node.handle_ping(to, now()) {
            Ok(number) => {
                self.pings.insert(number, took);
            }
            Err(error) => {
                let _gone = took.send(Err(error));
            }
        }
    }

    fn stream_packet(&mut self, to: SocketAddr, bytes: &[u8]) {
        if let IpAddr::V6(to) = to.ip() {
            self.node.handle_stream_packet(to, bytes, now());
        }
    }

    fn take_commands(&mut self) {
        for _ in 0..BATCH {
            match self.commands.try_recv() {
                Ok(command) => self.command(command),
                Err(_) => return,
            }
        }
    }

    /// Small messages were queued before: streams get what is left.
    fn take_stream_packets(&mut self) {
        for _ in 0..BATCH {
            if self.unsent.is_some() || !self.may_leave() {
                return;
            }
            match self.socket.take_outward() {
                Some((to, bytes)) => self.stream_packet(to, &bytes),
                None => return,
            }
        }
    }

    fn written(&mut self, result: &std::io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, "statements not written, trying again");
        }
        for done in self.being_written.drain(..) {
            let outcome = match result {
                Ok(()) => Ok(()),
                Err(error) => Err(PublishError::Journal(std::io::Error::new(
                    error.kind(),
                    error.to_string(),
                ))),
            };
            let _gone = done.send(outcome);
        }
    }

    fn drain(&mut self) {
        self.node.conclude(now());
        self.write_journal();
        self.transmit();
        self.take_events();
        self.show();
        self.hand_over();
    }

    fn write_journal(&mut self) {
        if self.writer.is_busy() {
            return;
        }
        let ours = self.node.owes_write();
        let statements = self.node.poll_journal();
        self.being_written.append(&mut self.publishing);
        if !statements.is_empty() {
            self.writer.append(statements, ours);
        } else if !self.being_written.is_empty() {
            // What was published was known already, so it has long been written.
            self.written(&Ok(()));
        }
    }

    fn transmit(&mut self) {
        while self.may_leave() {
            let now = now();
            let next = self.unsent.take().or_else(|| self.node.poll_transmit(now));
            let Some(transmit) = next else {
                return;
            };
            match self.udp.send(transmit.to, &transmit.bytes) {
                Sent::Done => {}
                Sent::Full => {
                    self.unsent = Some(transmit);
                    return;
                }
                Sent::Failed(why) => self.node.handle_send_failure(transmit.to, why, now),
            }
        }
    }

    /// Whether everything said here is on disk, or was found impossible to write.
    fn may_leave(&self) -> bool {
        !self.writer.holds() && !self.node.owes_write()
    }

    /// Stops taking in, says goodbye, and leaves nothing unwritten.
    async fn close(mut self) {
        self.connections.close_all();
        self.stop.cancel();
        for _ in 0..BATCH {
            // The stream layer tells its peers that it closes.
            tokio::task::yield_now().await;
            self.take_stream_packets();
        }
        self.drain();
        while self.writer.is_busy() {
            let result = self.writer.finished().await;
            self.written(&result);
            self.drain();
        }
        self.writer.close().await;
        self.node.handle_shutdown(now());
        self.transmit();
        if let Some(list) = self.node.take_endpoints()
            && let Err(error) = endpoints::write(&self.endpoints_file, &list)
        {
            tracing::debug!(%error, "endpoints not remembered");
        }
        self.connected
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .connected
            .clear();
        tracing::info!("mesh closed");
    }
}

fn refused(refusal: &Refusal) -> PublishError {
    PublishError::Refused(refusal.to_string())
}
