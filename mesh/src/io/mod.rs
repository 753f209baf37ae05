//! The shell around the core: the handle everybody holds, and the one task that owns the node.

#![expect(unused_variables, reason = "skeleton")]

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::config::{Identity, MeshConfig};
use crate::error::{JoinError, PublishError, SendError, StartError, StreamError};
use crate::id::NodeId;
use crate::snapshot::Snapshot;
use crate::trust::{Statement, Statements, Token};
use journal::Journal;

pub mod journal;
pub mod quic;

/// What happened in the mesh.
#[derive(Debug)]
pub enum Event {
    /// A session with a peer is up and both sides have said which statements they hold.
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

/// A running mesh. Cloned freely; the mesh runs until `shutdown` or until the last clone is gone.
#[derive(Debug, Clone)]
pub struct Mesh {
    me: NodeId,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl Mesh {
    /// Binds the socket and starts talking to every member.
    pub async fn start(
        config: MeshConfig,
        identity: Identity,
        journal: Journal,
        statements: Statements,
    ) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        unimplemented!()
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Sends one small message, at most `MAX_MESSAGE` bytes, kind 64 or above. It may be lost; it
    /// never waits behind streams.
    pub fn send(&self, to: NodeId, kind: u8, body: Bytes) -> Result<(), SendError> {
        unimplemented!()
    }

    /// Opens a stream to a connected peer, at a lower priority than messages.
    pub async fn open_stream(
        &self,
        to: NodeId,
    ) -> Result<(quinn::SendStream, quinn::RecvStream), StreamError> {
        unimplemented!()
    }

    /// Stores a statement, then tells every live peer.
    pub async fn publish(&self, statement: Statement) -> Result<(), PublishError> {
        unimplemented!()
    }

    /// A copy of every statement this node holds.
    pub async fn statements(&self) -> Statements {
        unimplemented!()
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
        unimplemented!()
    }

    /// Says goodbye to live peers and closes.
    pub async fn shutdown(self) {
        unimplemented!()
    }
}

/// Joins the mesh a token names, over the joining tunnel. Returns every statement of the mesh,
/// this node's own Join and its Witness included, all verified. The same node key may try again.
pub async fn join(
    listen: Option<std::net::SocketAddr>,
    token: &Token,
    identity: &Identity,
    name: &str,
) -> Result<Vec<Statement>, JoinError> {
    unimplemented!()
}
