//! QUIC between overlay addresses.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;

use crate::{
    id::{MeshId, NodeId},
    tunnel::keys::NodeKey,
};

/// A UDP socket that exists only in memory.
#[derive(Debug)]
pub struct VirtualSocket;

impl VirtualSocket {
    /// A socket bound to `local`, an overlay address.
    #[must_use]
    pub fn new(_local: SocketAddr) -> Arc<Self> {
        unimplemented!()
    }

    /// Hands a datagram in; `false` when the queue was full and it was dropped and counted.
    pub fn deliver(&self, _from: SocketAddr, _datagram: Bytes) -> bool {
        unimplemented!()
    }

    /// The next datagram to send and where to, when there is one.
    pub fn take_outward(&self) -> Option<(SocketAddr, Bytes)> {
        unimplemented!()
    }

    /// Waits for the next datagram to send. One task only; cancelling loses nothing.
    pub async fn outward(&self) -> (SocketAddr, Bytes) {
        std::future::pending().await
    }

    /// Datagrams dropped because the inward queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        unimplemented!()
    }
}

/// The QUIC side of a node.
#[derive(Debug, Clone)]
pub struct Streams;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection was not set up.
    #[error("connect to {0:?}: {1}")]
    Refused(NodeId, quinn::ConnectionError),
}

/// Makes the QUIC side of the node with `key` over `socket`. Needs a tokio runtime.
pub fn endpoint(_key: &NodeKey, _mesh: MeshId, _socket: Arc<VirtualSocket>) -> io::Result<Streams> {
    unimplemented!()
}

impl Streams {
    /// Connects to `peer`; the connection is with the holder of its key, or fails.
    pub async fn connect(&self, _peer: NodeId) -> Result<quinn::Connection, ConnectError> {
        std::future::pending().await
    }

    /// The next connection from a peer whose key gives its address; `None` once closed.
    /// Not cancel-safe to poll from several tasks: one owner.
    pub async fn accept(&self) -> Option<(NodeId, quinn::Connection)> {
        std::future::pending().await
    }

    /// Closes all connections at once.
    pub fn close(&self) {
        unimplemented!()
    }
}
