//! QUIC between overlay addresses: streams for bulk, over a socket that exists only in memory.
//!
//! In: a node's key, datagrams that arrived through its tunnels. Out: connections, each with the
//! holder of the key that gives the address it came from, and datagrams to send. The tunnel has
//! encrypted and authenticated all of it already; the keys are checked here again because QUIC
//! insists on TLS, and two locks beat one.
//! Absent: who is a member. A peer without a tunnel has no way here; whoever evicts closes the
//! connections.

mod identity;
mod socket;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, ConnectionError, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::{sync::Mutex, task::JoinSet};

use crate::{
    id::{MeshId, NodeId, overlay_address},
    tunnel::keys::NodeKey,
};

pub use socket::{QUEUE, VirtualSocket};

/// UDP port of QUIC inside the overlay.
pub const STREAM_PORT: u16 = 5_183;
/// Bytes of a QUIC packet: the least that QUIC allows, so that it fits every path a tunnel does.
pub const PACKET: u16 = 1_200;
/// Streams a peer may have open towards us at once; it waits with the next. Repair needs a few.
pub const MAX_STREAMS: u32 = 32;
/// Bytes a peer may have under way to us on one stream, and on all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;
/// A connection without a packet for so long is closed; the next request opens another.
const IDLE: Duration = Duration::from_secs(30);
/// Handshakes of incoming connections under way at once; further ones are ignored and tried again
/// by their side.
const MAX_HANDSHAKES: usize = 64;

const CLOSED: VarInt = VarInt::from_u32(0);
const WRONG_KEY: VarInt = VarInt::from_u32(1);

/// The QUIC side of a node.
#[derive(Debug, Clone)]
pub struct Streams {
    endpoint: quinn::Endpoint,
    mesh: MeshId,
    handshakes: Arc<Mutex<JoinSet<Option<Admitted>>>>,
}

/// A peer and the connection it opened.
type Admitted = (NodeId, Connection);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing may be opened any more, or too much is open.
    #[error("open a connection to {0:.8}: {1}")]
    Start(NodeId, quinn::ConnectError),
    /// The peer did not answer, or refused, or showed another key.
    #[error("connect to {0:.8}: {1}")]
    Refused(NodeId, ConnectionError),
    /// It showed another key that gives the same address.
    #[error("connect to {0:.8}: it showed another key")]
    WrongKey(NodeId),
}

/// Makes the QUIC side of the node with `key` over `socket`. Needs a tokio runtime.
pub fn endpoint(key: &NodeKey, mesh: MeshId, socket: Arc<VirtualSocket>) -> io::Result<Streams> {
    let transport = Arc::new(transport());
    let mut server = quinn::ServerConfig::with_crypto(identity::server(key)?);
    server
        .transport_config(Arc::clone(&transport))
        .migration(false)
        .max_incoming(MAX_HANDSHAKES);
    let mut client = quinn::ClientConfig::new(identity::client(key, mesh)?);
    client.transport_config(transport);
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(PACKET)
        .map_err(io::Error::other)?;
    let mut endpoint = quinn::Endpoint::new_with_abstract_socket(
        config,
        Some(server),
        socket,
        Arc::new(TokioRuntime),
    )?;
    endpoint.set_default_client_config(client);
    Ok(Streams {
        endpoint,
        mesh,
        handshakes: Arc::default(),
    })
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IDLE.try_into().expect("30 s fit a QUIC time");
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(None)
        .initial_mtu(PACKET)
        .min_mtu(PACKET)
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW));
    transport
}

impl Streams {
    /// Connects to `peer`; the connection is with the holder of its key, or fails.
    pub async fn connect(&self, peer: NodeId) -> Result<Connection, ConnectError> {
        let address = overlay_address(&self.mesh, &peer);
        let to = SocketAddr::new(IpAddr::V6(address), STREAM_PORT);
        let connecting = self.endpoint.connect(to, &address.to_string());
        let connecting = connecting.map_err(|error| ConnectError::Start(peer, error))?;
        let connection = connecting
            .await
            .map_err(|error| ConnectError::Refused(peer, error))?;
        if identity::peer(&connection) != Some(peer) {
            connection.close(WRONG_KEY, b"wrong key");
            return Err(ConnectError::WrongKey(peer));
        }
        Ok(connection)
    }

    /// The next connection from a peer whose key gives its address; `None` once closed. Cancelling
    /// loses nothing.
    pub async fn accept(&self) -> Option<Admitted> {
        let mut handshakes = self.handshakes.lock().await;
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => match incoming? {
                    incoming if handshakes.len() < MAX_HANDSHAKES => {
                        handshakes.spawn(admit(self.mesh, incoming));
                    }
                    incoming => incoming.ignore(),
                },
                Some(done) = handshakes.join_next() => if let Ok(Some(admitted)) = done {
                    return Some(admitted);
                },
            }
        }
    }

    /// Closes all connections at once and accepts no more.
    pub fn close(&self) {
        self.endpoint.close(CLOSED, b"closed");
    }

    /// Waits until every peer was told, at most a few round trips.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// Completes one incoming connection, if the peer's key gives the address it comes from.
async fn admit(mesh: MeshId, incoming: quinn::Incoming) -> Option<Admitted> {
    let connection = incoming.await.ok()?;
    let address = connection.remote_address().ip();
    let peer = identity::peer(&connection)
        .filter(|peer| address == IpAddr::V6(overlay_address(&mesh, peer)));
    if peer.is_none() {
        tracing::warn!(%address, "a connection showed a key that does not give its address");
        connection.close(WRONG_KEY, b"wrong key");
    }
    Some((peer?, connection))
}

#[cfg(test)]
mod tests;
