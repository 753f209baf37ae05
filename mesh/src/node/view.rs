//! What the node shows of itself.

use std::net::SocketAddr;

use super::Node;
use crate::id::NodeId;
use crate::path::nat;
use crate::path::way::Way;
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::snapshot::{Mapping, MemberSnapshot, Nat, Path, PeerSnapshot, PeerState, Snapshot};
use crate::time::Now;
use crate::trust::Setting;
use crate::wire::fragment;

impl Node {
    /// The mesh at this moment.
    pub(crate) fn snapshot(&self, now: Now) -> Snapshot {
        let mut notices = self.clock_notices(now);
        notices.extend(self.cut_off_notice(now));
        notices.extend(self.copy_notices(now));
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
            rotation: self.rotation(),
            peers: self
                .peers
                .values()
                .map(|peer| self.peer(peer, now))
                .collect(),
            nat: self.nat_report(now),
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

    fn nat_report(&self, now: Now) -> Nat {
        let metered = self.is_metered(self.me);
        Nat {
            mapping: self.mapping(now),
            let_in: self.nat.let_in(),
            reflexive: self.nat.reflexive(now.mono),
            relays: self.relays(now),
            relays_nothing: metered.then(|| "this node is metered".into()),
        }
    }

    fn mapping(&self, now: Now) -> Mapping {
        let own: Vec<SocketAddr> = self.own.addresses().collect();
        self.nat.mapping(&own, now.mono)
    }

    fn why_not_direct(
        &self,
        peer: &Peer,
        way: Option<Way>,
        state: PeerState,
        now: Now,
    ) -> Option<String> {
        let is_relayed = peer.route.relay().is_some() && way.is_some();
        if !is_relayed && state != PeerState::Down {
            return None;
        }
        let member = self.state.members.get(&peer.id);
        let info = member.and_then(|member| member.info.as_ref());
        let is_hard = info.is_some_and(|info| nat::is_hard(&info.endpoints));
        let known = peer.candidates.addresses().len();
        let name = self.name_of(peer.id);
        let why = nat::why_not_direct(self.mapping(now), is_hard, known, &name);
        Some(match is_relayed {
            true => why,
            false => format!("{why}; nor is there a member that reaches it and hands on"),
        })
    }

    fn peer(&self, peer: &Peer, now: Now) -> PeerSnapshot {
        let heard = self.peer_state(peer, now);
        let reachable = matches!(heard, PeerState::Alive | PeerState::Stale);
        let has_way = reachable && (peer.is_live() || !self.wide.on);
        let way = peer.route.way().filter(|_| has_way);
        let relay = peer.route.relay();
        let replaced = self.state.is_replaced(&peer.id);
        let state = if replaced { PeerState::Retired } else { heard };
        PeerSnapshot {
            id: peer.id,
            name: self.name_of(peer.id),
            address: peer.address,
            state,
            path: way.map_or(Path::None, Way::class),
            via: relay.filter(|_| way.is_some()),
            endpoint: match relay {
                Some(relay) => self
                    .peers
                    .get(&relay)
                    .and_then(|relay| relay.route.address()),
                None => peer.route.address(),
            },
            path_since_ms: peer.route.since_ms().filter(|_| way.is_some()),
            why_not_direct: self.why_not_direct(peer, way, state, now),
            mtu_at_least: mtu_at_least(peer),
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

/// The longest IP packet known to arrive whole on the way in use.
fn mtu_at_least(peer: &Peer) -> u32 {
    /// What every IPv6 path carries, and all that is sent until a longer one was answered.
    const NARROW: u32 = 1_280;
    /// Around the longest packet: the tunnel's 32 bytes, and those of UDP over IPv4 or IPv6.
    const SEALED: u32 = fragment::MAX_PACKET as u32 + 32;
    let outside = |at: SocketAddr| if at.is_ipv4() { 28 } else { 48 };
    match peer.route.way() {
        Some(Way::Direct(at)) if peer.width.is_wide() => SEALED + outside(at),
        // Through a relay the header of the handing on, and the relay's tunnel, come around that.
        Some(Way::Relay(_)) if peer.width.is_wide() => SEALED + 16 + 48 + 32 + 48,
        _ => NARROW,
    }
}
