//! The shell around the core: the handle everybody holds, and the one task that owns the node.
//!
//! `run` is that task, `udp` its socket, `links` where it calls and hears calls, `names` what it advertises, `netlink` its ear for changes of the network, `writer` the
//! thread of the journal, `streams` and `quic` what goes over streams, `join` the task of a node
//! that is not a member yet, `addresses` and `endpoints` what is read from and kept on this
//! machine. The only place of this crate with sockets, clocks, files, tasks and threads.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the shell: it reads the clocks and runs the tasks for the core"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::MAX_MESSAGE;
use crate::config::{Identity, MeshConfig};
use crate::error::{PingError, PublishError, RotateError, SendError, StartError, StreamError};
use crate::id::NodeId;
use crate::node::Node;
use crate::snapshot::Snapshot;
use crate::time::Now;
use crate::trust::{Statement, Statements};
use crate::tunnel::keys::TunnelKey;
use crate::wire::FIRST_APPLICATION_KIND;
use journal::Journal;

pub use join::join;

mod addresses;
pub(crate) mod endpoints;
mod join;
pub mod journal;
mod links;
mod names;
mod netlink;
pub mod quic;
mod run;
mod streams;
mod udp;
mod writer;

#[cfg(test)]
mod tests;

/// Messages on their way from the handles to the node; a full queue refuses the message.
const COMMANDS: usize = 2_048;

/// Events on their way to the application; while it is full, connections and members wait in the
/// task and messages are dropped and counted.
const EVENTS: usize = 1_024;

/// How long a stream waits for a session that begins with it.
const BEGIN_LIMIT: Duration = Duration::from_secs(5);

/// How long a shutdown may take, goodbyes and files included.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// What happened in the mesh.
#[derive(Debug)]
pub enum Event {
    /// A session with a peer is up and both sides hold the same statements about who is a member.
    Connected(NodeId),
    /// The peer is no longer heard, or left, or is no member any more.
    Disconnected(NodeId),
    /// A small message arrived.
    Message {
        /// Who sent it.
        from: NodeId,
        /// Its kind, 64 or above.
        kind: u8,
        /// What it holds.
        body: Bytes,
    },
    /// A peer opened a stream.
    Stream {
        /// Who opened it.
        from: NodeId,
        /// What we write.
        send: quinn::SendStream,
        /// What we read.
        recv: quinn::RecvStream,
    },
    /// Who is a member, or what a member is called, has changed.
    MembersChanged,
}

/// A running mesh. Cloned freely; it runs until `shutdown` or until the last clone is gone.
#[derive(Debug, Clone)]
pub struct Mesh {
    me: NodeId,
    commands: mpsc::Sender<Command>,
    isolation: Arc<watch::Sender<bool>>,
    wanted: Arc<watch::Sender<BTreeSet<NodeId>>>,
    connected: Connected,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    streams: streams::Connections,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// Who is within reach, shared between the task and the handles.
type Connected = Arc<RwLock<Within>>;

/// Whom the handles may send to.
#[derive(Debug)]
struct Within {
    connected: BTreeSet<NodeId>,
    /// Whether a message to any other member begins a session.
    begins: bool,
}

impl Within {
    fn of(node: &Node) -> Self {
        Self {
            connected: node.connected().collect(),
            begins: node.begins_sessions(),
        }
    }
}

/// What a handle asks of the task.
#[derive(Debug)]
enum Command {
    Send {
        to: NodeId,
        kind: u8,
        body: Bytes,
    },
    Publish {
        statement: Statement,
        done: oneshot::Sender<Result<(), PublishError>>,
    },
    Wake {
        to: NodeId,
    },
    Rotate {
        /// `None` asks whether it may.
        key: Option<TunnelKey>,
        done: oneshot::Sender<Result<(), RotateError>>,
    },
    Statements {
        copy: oneshot::Sender<Statements>,
    },
    Ping {
        to: NodeId,
        took: oneshot::Sender<Result<Duration, PingError>>,
    },
}

impl Mesh {
    /// Binds the socket and begins to talk to every member. Runs on the current tokio runtime.
    #[expect(
        clippy::unused_async,
        reason = "starting needs a runtime, which a future says best"
    )]
    pub async fn start(
        config: MeshConfig,
        identity: Identity,
        journal: Journal,
        statements: Statements,
    ) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        run::start(config, identity, journal, statements)
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Sends one small message, at most `MAX_MESSAGE` bytes, kind 64 or above. It may be lost; it
    /// never waits behind streams. In a mesh of more than 48 members it begins a session where there is none.
    pub fn send(&self, to: NodeId, kind: u8, body: Bytes) -> Result<(), SendError> {
        if kind < FIRST_APPLICATION_KIND {
            return Err(SendError::ReservedKind(kind));
        }
        if body.len() > MAX_MESSAGE {
            return Err(SendError::TooLong {
                len: body.len(),
                limit: MAX_MESSAGE,
            });
        }
        if !self.is_connected(to) && !self.begins_sessions() {
            return Err(SendError::NotConnected(to));
        }
        let sent = self.commands.try_send(Command::Send { to, kind, body });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// Opens a stream to a connected peer, at a lower priority than messages. The peer learns of
    /// it with the first byte.
    pub async fn open_stream(
        &self,
        to: NodeId,
    ) -> Result<(quinn::SendStream, quinn::RecvStream), StreamError> {
        if self.stop.is_cancelled() {
            return Err(StreamError::Closed);
        }
        if !self.reach(to, BEGIN_LIMIT).await {
            let snapshot = self.snapshot();
            let member = snapshot.members.iter().any(|member| member.id == to);
            return Err(match member {
                true => StreamError::NotConnected(to),
                false => StreamError::NotAMember(to),
            });
        }
        self.streams.open(to).await
    }

    /// Stores a statement durably, then tells every live peer.
    pub async fn publish(&self, statement: Statement) -> Result<(), PublishError> {
        let (done, published) = oneshot::channel();
        let command = Command::Publish { statement, done };
        if self.commands.send(command).await.is_err() {
            return Err(PublishError::Closed);
        }
        published.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Takes a new tunnel key into use, stored by the caller before: peers change over without
    /// losing a packet, which `Snapshot::rotation` shows.
    pub async fn rotate(&self, key: TunnelKey) -> Result<(), RotateError> {
        self.ask_to_rotate(Some(key)).await
    }

    /// Whether `rotate` would take a key: asked before the files change.
    pub async fn may_rotate(&self) -> Result<(), RotateError> {
        self.ask_to_rotate(None).await
    }

    async fn ask_to_rotate(&self, key: Option<TunnelKey>) -> Result<(), RotateError> {
        let (done, rotated) = oneshot::channel();
        let command = Command::Rotate { key, done };
        if self.commands.send(command).await.is_err() {
            return Err(RotateError::Closed);
        }
        rotated.await.unwrap_or(Err(RotateError::Closed))
    }

    /// Measures one round trip to a connected peer through its tunnel, waiting at most `patience`.
    pub async fn ping(&self, to: NodeId, patience: Duration) -> Result<Duration, PingError> {
        self.reach(to, patience).await;
        let (took, answer) = oneshot::channel();
        if self
            .commands
            .send(Command::Ping { to, took })
            .await
            .is_err()
        {
            return Err(PingError::Closed);
        }
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_closed)) => Err(PingError::Closed),
            Err(_elapsed) => Err(PingError::Silence(patience)),
        }
    }

    /// A copy of every statement this node holds; an empty set after the shutdown.
    pub async fn statements(&self) -> Statements {
        let (copy, copied) = oneshot::channel();
        let _closed = self.commands.send(Command::Statements { copy }).await;
        let mesh = self.snapshot.borrow().mesh;
        copied.await.unwrap_or_else(|_closed| Statements::new(mesh))
    }

    /// The mesh at this moment; at most a second old.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Follows the snapshots: one on every change and each second.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Drops every datagram at the socket, both ways, until switched off.
    pub fn isolate(&self, on: bool) {
        self.isolation.send_replace(on);
    }

    /// Names the peers a session is kept with, instead of those named before: in a mesh of more than
    /// 48 members nobody keeps one with everybody. Up to 48 members it changes nothing.
    pub fn want(&self, peers: BTreeSet<NodeId>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != peers;
            *wanted = peers;
            changed
        });
    }

    /// Says goodbye to live peers and closes.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.stopped.cancelled())
            .await
            .is_err()
        {
            tracing::warn!("the mesh did not close in time");
        }
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        let connected = self.connected.read();
        connected
            .unwrap_or_else(PoisonError::into_inner)
            .connected
            .contains(&peer)
    }

    fn begins_sessions(&self) -> bool {
        let within = self.connected.read();
        within.unwrap_or_else(PoisonError::into_inner).begins
    }

    /// Whether a peer is connected, after some patience if a session has to begin for it.
    async fn reach(&self, to: NodeId, patience: Duration) -> bool {
        if self.is_connected(to) || !self.begins_sessions() {
            return self.is_connected(to);
        }
        let woken = self.commands.send(Command::Wake { to }).await;
        let mut snapshots = self.snapshot.clone();
        let connects = snapshots.wait_for(|_| self.is_connected(to));
        woken.is_ok() && matches!(tokio::time::timeout(patience, connects).await, Ok(Ok(_)))
    }
}

/// This moment.
fn now() -> Now {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    };
    Now {
        mono: Instant::now(),
        boot: Duration::new(
            u64::try_from(boot.tv_sec).unwrap_or(0),
            u32::try_from(boot.tv_nsec).unwrap_or(0),
        ),
        wall_us: wall,
    }
}

/// A seed from the system's randomness.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has randomness");
    seed
}
