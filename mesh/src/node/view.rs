//! What the node shows of itself.

use std::net::SocketAddr;

use super::Node;
use crate::id::NodeId;
use crate::path;
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::snapshot::{MemberSnapshot, Path, PeerSnapshot, PeerState, Snapshot};
use crate::time::Now;
use crate::trust::Setting;

impl Node {
    /// The mesh at this moment.
    pub(crate) fn snapshot(&self, now: Now) -> Snapshot {
        let mut notices = self.clock_notices(now);
        notices.extend(self.cut_off_notice(now));
        notices.extend(self.notices.values().cloned());
        let me = self.state.members.get(&self.me);
        if let Some(successor) = me.and_then(|member| member.replaced_by) {
            notices.push(format!(
                "this node was replaced by {}: it keeps nothing for others any more",
                self.name_of(successor)
            ));
        }
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
            gone: self.gone_snapshots(),
            evicted: self.evicted(),
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
            .ever(&id)
            .map(|member| member.name.clone())
            .unwrap_or_default()
    }

    fn member(&self, id: NodeId, now: Now) -> Option<MemberSnapshot> {
        let member = self.state.members.get(&id)?;
        let state = match self.peers.get(&id) {
            _ if member.replaced_by.is_some() => PeerState::Retired,
            Some(peer) => self.peer_state(peer, now),
            None => PeerState::Alive,
        };
        let settings = &self.state.settings;
        Some(MemberSnapshot {
            id,
            name: member.name.clone(),
            address: member.address,
            joined_ms: i64::try_from(member.joined_ms).unwrap_or(i64::MAX),
            state,
            site: settings.site(&id).map(str::to_owned),
            metered: settings.is_on(&id, Setting::Metered),
            may_be_off: settings.is_on(&id, Setting::MayBeOff),
            retention_bytes: settings.retention_bytes(&id),
            replaces: member.replaces,
            replaced_by: member.replaced_by,
        })
    }

    fn peer(&self, peer: &Peer, now: Now) -> PeerSnapshot {
        let heard = self.peer_state(peer, now);
        let reachable = matches!(heard, PeerState::Alive | PeerState::Stale);
        let has_way = reachable && (peer.is_live() || !self.wide.on);
        let endpoint = peer.endpoint.filter(|_| has_way);
        let replaced = self.state.is_replaced(&peer.id);
        let state = if replaced { PeerState::Retired } else { heard };
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
            agrees: peer.sync.agrees(&self.roots()),
        }
    }
}
