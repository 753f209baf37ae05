//! What can go wrong at the mesh's edge, a variant for each thing a caller does differently.
//!
//! A peer's bad bytes are never an error here: they are counted in `Snapshot::counters`.

use std::net::SocketAddr;
use std::time::Duration;

use crate::id::NodeId;

/// Why a mesh did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The UDP address could not be bound.
    #[error("listen on UDP {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The statements at hand do not admit this node.
    #[error("node {node} is not a member of mesh {mesh}")]
    NotAMember {
        /// This node.
        node: NodeId,
        /// The mesh of the statements.
        mesh: crate::id::MeshId,
    },
    /// The journal could not be written.
    #[error("write the statement journal")]
    Journal(#[source] std::io::Error),
    /// The stream endpoint could not be made.
    #[error("start streams: {0}")]
    Streams(String),
}

/// Why a small message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer has no live session, so nobody would hear it.
    #[error("{0} is not connected")]
    NotConnected(NodeId),
    /// The body does not fit into one datagram.
    #[error("message of {len} bytes exceeds the limit of {limit} bytes")]
    TooLong {
        /// The body's length.
        len: usize,
        /// `MAX_MESSAGE`.
        limit: usize,
    },
    /// Kinds below 64 belong to the mesh itself.
    #[error("message kind {0} is reserved, applications use 64 and above")]
    ReservedKind(u8),
    /// The queue to the mesh is full; the message is dropped and counted.
    #[error("the queue of outgoing messages is full")]
    Full,
    /// The mesh has been shut down.
    #[error("the mesh is shut down")]
    Closed,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The id is not a member's.
    #[error("{0} is not a member")]
    NotAMember(NodeId),
    /// The peer has no live session.
    #[error("{0} is not connected")]
    NotConnected(NodeId),
    /// The connection failed or was closed.
    #[error("stream to {node}: {reason}")]
    Failed {
        /// The other side.
        node: NodeId,
        /// What QUIC said.
        reason: String,
    },
    /// The mesh has been shut down.
    #[error("the mesh is shut down")]
    Closed,
}

/// Why a peer was not pinged, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// The id is this node's own.
    #[error("this is the node itself")]
    Ourselves,
    /// The id is not a member's.
    #[error("{0} is not a member")]
    NotAMember(NodeId),
    /// The peer has no live session.
    #[error("{0} is not connected")]
    NotConnected(NodeId),
    /// Too many pings are out already.
    #[error("too many pings are out already; wait for some to be answered")]
    Busy,
    /// Nothing came back in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Silence(Duration),
    /// The mesh has been shut down.
    #[error("the mesh is shut down")]
    Closed,
}

/// Why a tunnel key was not replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// The last change has not reached everybody.
    #[error(
        "{peers} of the connected peers still use the tunnel key before this one; try again when they have changed over"
    )]
    UnderWay {
        /// How many.
        peers: usize,
    },
    /// Nobody has used the present key yet.
    #[error(
        "no peer has used the present tunnel key since it was last replaced; try again once one is connected"
    )]
    Unknown,
    /// It is the key in use.
    #[error("this is the tunnel key in use")]
    Same,
    /// The mesh has been shut down.
    #[error("the mesh is shut down")]
    Closed,
}

/// Why a statement was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The statement does not hold.
    #[error("{0}")]
    Refused(String),
    /// The journal could not be written, so nothing was sent.
    #[error("write the statement journal")]
    Journal(#[source] std::io::Error),
    /// The mesh has been shut down.
    #[error("the mesh is shut down")]
    Closed,
}

/// Why a node was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The UDP address could not be bound.
    #[error("listen on UDP {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A member answered and said why not.
    #[error("{by} refused to admit this node: {reason}")]
    Refused {
        /// Who answered.
        by: SocketAddr,
        /// Its sentence.
        reason: String,
    },
    /// Nobody answered in time.
    #[error(
        "no member answered within {} s at {}; is one of them running, and is its UDP port reachable from here?",
        .waited.as_secs(),
        list(.tried)
    )]
    NoAnswer {
        /// Every address an attempt was sent to.
        tried: Vec<SocketAddr>,
        /// For how long.
        waited: Duration,
    },
    /// The token holds no address to try.
    #[error("the token names no address of a member; make a new one on a node that is running")]
    NoAddress,
    /// What the member sent does not prove the mesh the token names.
    #[error("what {by} sent does not prove the token's mesh: {reason}")]
    Unproven {
        /// Who answered.
        by: SocketAddr,
        /// What does not hold.
        reason: String,
    },
    /// This node's part of the exchange could not be made.
    #[error("{0}")]
    Token(String),
    /// The clock reads a time before 1970.
    #[error("the clock reads a time before 1970; set it and try again")]
    Clock,
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(", ")
}
