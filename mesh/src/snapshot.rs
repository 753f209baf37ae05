//! What the mesh shows of itself: members, peers, paths and counters at one moment.
//!
//! Plain values, made by the core on every change and once a second, read by anybody.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use crate::id::{MeshId, NodeId};
use crate::reckoning::Refused;

/// The mesh as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Which mesh.
    pub mesh: MeshId,
    /// Its name.
    pub mesh_name: String,
    /// This node.
    pub me: NodeId,
    /// This node's name in the mesh.
    pub my_name: String,
    /// This node's address in the overlay.
    pub address: Ipv6Addr,
    /// The UDP port that is bound.
    pub udp_port: u16,
    /// Whether every datagram is dropped, both ways.
    pub isolated: bool,
    /// Every member, this node included, by id.
    pub members: Vec<MemberSnapshot>,
    /// Every member but this node, by id.
    pub peers: Vec<PeerSnapshot>,
    /// Everybody who was a member: evicted, retired, or gone by itself.
    pub gone: Vec<GoneSnapshot>,
    /// Why this node is a member no more, in a sentence such as "evicted by admin at …: stolen". It
    /// dials nobody and no application speaks. `None` while it is one.
    pub evicted: Option<String>,
    /// The router in front of this node, and who relays.
    pub nat: Nat,
    /// How far a change of this node's tunnel key has come. `None`: none within 30 days.
    pub rotation: Option<Rotation>,
    /// Traffic and what was dropped since the start.
    pub counters: Counters,
    /// What members did that was refused, by culprit.
    pub refused: Vec<Refused>,
    /// Sentences a person should read, such as a clock that went back.
    pub notices: Vec<String>,
}

impl Snapshot {
    /// Everybody who is or was a member, by id. Of those who are gone the rows
    /// are kept as before, and they keep none. Whoever left for good is retired here; a member in state `Left` comes back.
    #[must_use]
    pub fn everybody(&self) -> Vec<MemberSnapshot> {
        let gone = self.gone.iter().map(|gone| MemberSnapshot {
            id: gone.id,
            name: gone.name.clone(),
            address: gone.address,
            joined_ms: gone.joined_ms,
            state: match gone.state {
                PeerState::Left => PeerState::Retired,
                state => state,
            },
            site: None,
            metered: false,
            may_be_off: false,
            retention_bytes: None,
            replaces: None,
            replaced_by: None,
        });
        let mut everybody: Vec<_> = self.members.iter().cloned().chain(gone).collect();
        everybody.sort_by_key(|member| member.id);
        everybody
    }
}

/// One member of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSnapshot {
    /// Who.
    pub id: NodeId,
    /// The name it goes by, unique in the mesh.
    pub name: String,
    /// Its address in the overlay.
    pub address: Ipv6Addr,
    /// When it was admitted, milliseconds since the Unix epoch.
    pub joined_ms: i64,
    /// Whether it is heard; this node itself is alive.
    pub state: PeerState,
    /// The site it stands at, if one is named for it.
    pub site: Option<String>,
    /// Whether each byte to it costs money: it gets summaries and sealed blocks only.
    pub metered: bool,
    /// Whether it may be off without anything being wrong: nobody counts on it.
    pub may_be_off: bool,
    /// Bytes its store may take. `None`: its own choice.
    pub retention_bytes: Option<u64>,
    /// The dead machine whose history it carries on.
    pub replaces: Option<NodeId>,
    /// Who carries on its history; it is retired.
    pub replaced_by: Option<NodeId>,
}

/// A change of this node's tunnel key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// When the key before was replaced, milliseconds since the Unix epoch.
    pub replaced_ms: u64,
    /// Connected peers whose tunnel still uses the key before.
    pub unmoved: Vec<NodeId>,
}

/// Somebody who was a member. Its history stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneSnapshot {
    /// Who.
    pub id: NodeId,
    /// The name it went by.
    pub name: String,
    /// Its address in the overlay.
    pub address: Ipv6Addr,
    /// `Evicted`, `Retired` or `Left`.
    pub state: PeerState,
    /// When it was admitted, milliseconds since the Unix epoch.
    pub joined_ms: i64,
    /// When it went, by the clock of who said so.
    pub at_ms: i64,
    /// What the admin who said so is called; empty if it went by itself.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// One peer and the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSnapshot {
    /// Who.
    pub id: NodeId,
    /// The name it goes by.
    pub name: String,
    /// Its address in the overlay.
    pub address: Ipv6Addr,
    /// Whether it is heard.
    pub state: PeerState,
    /// Which way datagrams take.
    pub path: Path,
    /// Who relays, if anybody.
    pub via: Option<NodeId>,
    /// Where datagrams are sent; the relay's address if one stands between.
    pub endpoint: Option<SocketAddr>,
    /// Wall time since which it goes this way, milliseconds. `None` while no way is known.
    pub path_since_ms: Option<u64>,
    /// One sentence saying why the way is not direct, or why there is none to a peer that is down.
    pub why_not_direct: Option<String>,
    /// The longest IP packet that is known to arrive whole on this way: 1,280 until a longer one did.
    pub mtu_at_least: u32,
    /// Smoothed round trip. `None` until one was measured in this session.
    pub rtt_ms: Option<f64>,
    /// Wall time of the last authenticated data. `None` = not heard since the start.
    pub last_heard_ms: Option<u64>,
    /// Wall time of the last handshake. `None` = none since the start.
    pub last_handshake_ms: Option<u64>,
    /// Bytes sent to it, as datagrams on the wire.
    pub tx_bytes: u64,
    /// Bytes accepted from it.
    pub rx_bytes: u64,
    /// Its wall clock minus ours. `None` until measured.
    pub clock_offset_ms: Option<i64>,
    /// Whether it was last known to hold the same statements about who is a member: what was
    /// settled here, an eviction say, has reached it.
    pub agrees: bool,
}

/// Whether a peer is heard. Ages are those of the last authenticated data. In a mesh of more than 64
/// members not everybody has a session with everybody; then others' words count too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// Heard within 3 s. In a large mesh: within 7 s, or by those that watch it.
    Alive,
    /// Heard within 10 s.
    Stale,
    /// Others still hear it, or too few were asked to tell.
    Suspect,
    /// Not heard for 10 s or more. In a large mesh: three of those that watched it say so.
    Down,
    /// It said goodbye.
    Left,
    /// Removed in peace by an administrator, or replaced by another machine.
    Retired,
    /// Evicted by an administrator.
    Evicted,
}

impl PeerState {
    /// The word shown to people and scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Stale => "stale",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
            Self::Retired => "retired",
            Self::Evicted => "evicted",
        }
    }
}

/// Which way datagrams take to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Through the local network.
    Lan,
    /// Straight to an address beyond it.
    Direct,
    /// Through another member.
    Relay,
    /// No way is known to work.
    None,
}

impl Path {
    /// The word shown to people and scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::None => "none",
        }
    }
}

/// What is known of the router in front of this node, and of relaying.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nat {
    /// What the router does with this node's address.
    pub mapping: Mapping,
    /// Whose datagram was let in from an address that nothing had been sent to, and which: then anybody's are. `None` until
    /// one came; that none came says nothing.
    pub let_in: Option<(NodeId, SocketAddr)>,
    /// Where peers see this node, by address.
    pub reflexive: Vec<Reflexive>,
    /// Members that would hand on datagrams for this node at this moment, the nearest first.
    pub relays: Vec<NodeId>,
    /// Why this node hands on nothing for others. `None` if it does.
    pub relays_nothing: Option<String>,
}

/// An address of this node as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflexive {
    /// Which.
    pub addr: SocketAddr,
    /// The peers that see it.
    pub by: Vec<NodeId>,
}

/// Whether the router in front shows every peer the same address of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mapping {
    /// Fewer than two peers have told.
    #[default]
    Unknown,
    /// Peers see the machine's own address: there is no such router on the way to them.
    None,
    /// The same for all: a direct way can be found to most peers.
    EndpointIndependent,
    /// Another port for each: a direct way can be found only to peers that let anybody in.
    EndpointDependent,
}

impl Mapping {
    /// The word shown to people and scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::EndpointIndependent => "endpoint-independent",
            Self::EndpointDependent => "endpoint-dependent",
        }
    }
}

/// Traffic since the start, on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes of sent datagrams.
    pub tx_bytes: u64,
    /// Bytes of received datagrams, dropped ones included.
    pub rx_bytes: u64,
    /// Sent datagrams.
    pub tx_datagrams: u64,
    /// Received datagrams, dropped ones included.
    pub rx_datagrams: u64,
    /// Packets sent in two halves, because the path may be too narrow.
    pub split_packets: u64,
    /// Packets joined from two halves.
    pub joined_packets: u64,
    /// What was dropped, by reason. A reason that never happened is absent.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Completed handshakes.
    pub handshakes: u64,
    /// Connections begun without both sides holding the same statements, because it took too long.
    pub connected_unagreed: u64,
    /// Datagrams handed on between other members.
    pub relayed_datagrams: u64,
    /// Their bytes.
    pub relayed_bytes: u64,
}
