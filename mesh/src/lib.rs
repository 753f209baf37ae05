//! The encrypted overlay: every node meets every other through its own userspace WireGuard
//! tunnels, on one UDP port, and carries opaque bytes for whoever sits above.

pub mod config;
pub mod error;
pub mod io;
pub mod snapshot;

pub use config::{Identity, MeshConfig};
pub use error::{JoinError, PublishError, SendError, StartError, StreamError};
pub use id::{MeshId, NodeId, StatementId, overlay_address};
pub use io::journal::Journal;
pub use io::{Event, Mesh, join};
pub use snapshot::{Counters, MemberSnapshot, Path, PeerSnapshot, PeerState, Snapshot};

/// The longest body of one small message, in bytes.
pub const MAX_MESSAGE: usize = 1_096;

// The blocks below stand in for files that arrive with the trust layer; each is replaced by
// `pub mod NAME;`.

pub mod id {
    //! Stand-in.
    use std::fmt;
    use std::net::Ipv6Addr;

    macro_rules! id {
        ($name:ident, $what:literal) => {
            #[doc = $what]
            #[derive(
                Clone,
                Copy,
                PartialEq,
                Eq,
                PartialOrd,
                Ord,
                Hash,
                serde::Serialize,
                serde::Deserialize,
            )]
            pub struct $name(pub [u8; 32]);
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&data_encoding::BASE32_NOPAD.encode(&self.0).to_lowercase())
                }
            }
            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "{self}")
                }
            }
        };
    }
    id!(NodeId, "Who a node is.");
    id!(MeshId, "Which mesh.");
    id!(StatementId, "Which statement.");

    /// The address of a node in the overlay.
    #[must_use]
    pub fn overlay_address(_mesh: &MeshId, _node: &NodeId) -> Ipv6Addr {
        unimplemented!()
    }
}

pub mod trust {
    //! Stand-in.
    /// The key of a node.
    #[derive(Debug)]
    pub struct NodeKey;
    /// A signed statement.
    #[derive(Debug, Clone)]
    pub struct Statement;
    /// A set of statements.
    #[derive(Debug, Clone)]
    pub struct Statements;
    /// An invitation.
    #[derive(Debug, Clone)]
    pub struct Token;
}

pub mod tunnel {
    //! Stand-in.
    pub mod keys {
        //! Stand-in.
        /// The key of a node's tunnels.
        #[derive(Debug)]
        pub struct TunnelKey;
    }
}
