//! The encrypted overlay: every node meets every other through its own userspace WireGuard
//! tunnels, on one UDP port, and carries opaque bytes for whoever sits above.

pub mod id;

pub mod config;
pub mod error;
pub mod snapshot;
pub mod trust;
pub mod tunnel;

pub mod io;

pub use config::{Identity, MeshConfig};
pub use error::{JoinError, PublishError, SendError, StartError, StreamError};
pub use id::{MeshId, NodeId, StatementId, overlay_address};
pub use io::journal::Journal;
pub use io::{Event, Mesh, join};
pub use snapshot::{Counters, MemberSnapshot, Path, PeerSnapshot, PeerState, Snapshot};
pub use tunnel::keys::{AdminKey, KeyError, NodeKey, TunnelKey, TunnelPublic, verify};

/// The longest body of one small message, in bytes.
pub const MAX_MESSAGE: usize = 1_096;
