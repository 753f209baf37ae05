//! What the node shows of itself.

use std::net::SocketAddr;

use super::Node;
use crate::id::NodeId;
use crate::path;
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::snapshot::{MemberSnapshot, Path, PeerSnapshot, PeerState, Snapshot};
use crate::time::Now;

impl Node {
    /// The mesh at this moment.
    pub(crate) fn snapshot(&self, now: Now) -> Snapshot {
        let mut notices = self.clock_notices(now);
        notices.extend(self.cut_off_notice(now));
        notices.extend(self.notices.values().cloned());
        if !self.state.unsupported.is_empty() {
            notices.push(
                "the mesh uses statements this version does not know: upgrade this node".into(),
            );
        }
        Snapshot {
            mesh: self.mesh,
            mesh_name: self.state.name.clone(),
            me: self.me,
            my_name: self.name_of(self.me),
            address: self.address,
            udp_port: self.udp_port,
            isolated: self.isolated,
            members: self
                .state
                .members
                .keys()
                .filter_map(|id| self.member(*id, now))
                .collect(),
            peers: self
                .peers
                .values()
                .map(|peer| self.peer(peer, now))
                .collect(),
            counters: self.counters.clone(),
            refused: self.reckoning.shown(Offence::as_str),
            notices,
        }
    }

    /// Where each peer was last heard, the latest last; `None` when nothing changed since asked.
    pub(crate) fn take_endpoints(&mut self) -> Option<Vec<(NodeId, SocketAddr)>> {
        std::mem::take(&mut self.endpoints_changed).then(|| {
            let peers = self.peers.values();
            peers
                .flat_map(|peer| peer.candidates.worked_addresses().map(|at| (peer.id, at)))
                .collect()
        })
    }

    pub(super) fn name_of(&self, id: NodeId) -> String {
        self.state
            .members
            .get(&id)
            .map(|member| member.name.clone())
            .unwrap_or_default()
    }

    fn member(&self, id: NodeId, now: Now) -> Option<MemberSnapshot> {
        let member = self.state.members.get(&id)?;
        let state = match self.peers.get(&id) {
            Some(peer) => self.peer_state(peer, now),
            None => PeerState::Alive,
        };
        Some(MemberSnapshot {
            id,
            name: member.name.clone(),
            address: member.address,
            joined_ms: i64::try_from(member.joined_ms).unwrap_or(i64::MAX),
            state,
        })
    }

    fn peer(&self, peer: &Peer, now: Now) -> PeerSnapshot {
        let state = self.peer_state(peer, now);
        let reachable = matches!(state, PeerState::Alive | PeerState::Stale);
        let has_way = reachable && (peer.is_live() || !self.wide.on);
        let endpoint = peer.endpoint.filter(|_| has_way);
        PeerSnapshot {
            id: peer.id,
            name: self.name_of(peer.id),
            address: peer.address,
            state,
            path: endpoint.map_or(Path::None, path::classify),
            via: None,
            endpoint: peer.endpoint,
            rtt_ms: peer.liveness.rtt().map(|rtt| rtt.as_secs_f64() * 1_000.0),
            last_heard_ms: peer.liveness.heard_ms(),
            last_handshake_ms: peer.traffic.handshake_ms,
            tx_bytes: peer.traffic.tx_bytes,
            rx_bytes: peer.traffic.rx_bytes,
            clock_offset_ms: peer.liveness.offset_ms(),
        }
    }
}
