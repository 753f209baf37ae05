//! The encrypted overlay: every node meets every other through its own userspace WireGuard
//! tunnels, on one UDP port, and carries opaque bytes for whoever sits above.
//!
//! What it promises:
//! - Nothing leaves or is believed but through a tunnel; whoever doesn't know a node's tunnel key
//!   hears nothing from it, and who does hears at most a cookie or, with an invite, the bounded
//!   joining tunnel.
//! - `Mesh::send` never waits: a small message goes out at once or is lost and counted. Streams
//!   are reliable while the peer is connected and yield to messages.
//! - Members are never forgotten because they are silent, and are dialled for ever. A peer is
//!   `Connected` once a session is up and both sides hold the same statements about who is a
//!   member: nobody takes a byte from somebody the other side knows to be evicted.
//! - Whoever is evicted is told by whom and why, in its last session or when it knocks, and falls
//!   silent. A node's tunnel key is replaced without losing a packet (`Mesh::rotate`). A node that
//!   runs in two places is named.
//! - Up to 48 members everybody keeps a session with everybody. Above, a node keeps those its
//!   application wants (`Mesh::want`), a few at random and whoever keeps it, at a cost that doesn't
//!   grow with the mesh; a message to anybody else begins a session, and `Disconnected` only says
//!   that one ended. Who is there is in the snapshot: down takes the word of three observers.
//! - Where no direct way leads to a member, another that reaches both hands on what is sealed: one
//!   hop, never a metered one, within a budget of bytes. Both sides go on trying each other's
//!   addresses, and leave the relay when one answers. The snapshot says which way, and why. Above 48 members a
//!   relay wakes whom it is asked for, and a member that others can't begin a session with is met at two that they can.
//! - A clock that is wrong, steps or stops costs seconds and no peer; the snapshot's notices say
//!   whose it is and what to do.
//! - What this node or its owner says is durable before anybody hears of it, and every member
//!   holds it in the end.
//! - Every queue has a bound; what is dropped at it is counted by reason in the snapshot.
//!
//! How it is made: `node` is a pure state machine that is told the time; `io` owns it in one task
//! with the socket. Inside, `tunnel` is WireGuard, `wire` what stands in its packets, `trust` who
//! is a member and why, `admission` how one becomes a member, `path` which way to a peer,
//! `spread` what everyone should know and who is there. Absent: samples, files but the mesh's
//! own, commands of any kind: nothing a peer says makes this machine run anything.

pub mod config;
pub mod error;
pub mod id;
pub mod snapshot;

mod allowance;
mod quota;
mod reckoning;

pub mod trust;
pub mod tunnel;
mod wire;

mod admission;
mod path;
#[doc(hidden)]
pub mod spread;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

mod node;
mod peer;
mod time;

pub mod io;

pub use allowance::Allowance;
pub use config::{Identity, MeshConfig};
pub use error::{
    JoinError, PingError, PublishError, RotateError, SendError, StartError, StreamError,
};
pub use id::{MeshId, NodeId, StatementId, overlay_address};
pub use io::journal::Journal;
pub use io::{Event, Mesh, join};
pub use reckoning::{Reckoning, Refused, Tally};
pub use snapshot::{
    Counters, GoneSnapshot, Mapping, MemberSnapshot, Nat, Path, PeerSnapshot, PeerState, Reflexive,
    Snapshot,
};
pub use tunnel::keys::{AdminKey, KeyError, NodeKey, PreviousKey, TunnelKey, TunnelPublic, verify};
pub use wire::MAX_MESSAGE;
