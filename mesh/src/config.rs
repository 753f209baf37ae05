//! What a running mesh is told at its start.
//!
//! Values are meanings already: the daemon parses its file and flags, this crate reads neither.
//! Absent: key files and the statement journal, which are opened by the caller and handed over.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tunnel::keys::{NodeKey, PreviousKey, TunnelKey};

/// The UDP port a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 51_800;

/// The keys a node is known by.
#[derive(Debug)]
pub struct Identity {
    /// Who this node is; signs its statements.
    pub node: NodeKey,
    /// What its tunnels are encrypted to.
    pub tunnel: TunnelKey,
    /// The tunnel keys before, the latest first, which who slept through the change still uses.
    pub previous: Vec<PreviousKey>,
}

/// How a node takes part in its mesh.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// UDP address to listen on. `None` means `[::]:51800`, dual-stack, `0.0.0.0` where IPv6 is
    /// off; port 0 takes a free one, that of the last run where it can.
    pub listen: Option<SocketAddr>,
    /// Further addresses others may reach this node at, such as a forwarded port: `HOST:PORT`,
    /// names looked up again as long as it runs.
    pub advertise: Vec<String>,
    /// Whether members that are nowhere to be found are called on the own link, by multicast.
    /// Nobody is, and nobody hears such a call, where `listen` names one address.
    pub calls: bool,
    /// Where the last good endpoints of peers are remembered.
    pub state_dir: PathBuf,
    /// The software's version, shown to the other members.
    pub version: String,
}
