//! The nodes as pages know them: a number each, a state, what is held of them.
//!
//! In: the mesh's snapshot, backlogs, newest rows. Out: the `nodes` message.
//! Bound: 65,535 nodes; later ones aren't shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use outlast_mesh::{GoneSnapshot, MemberSnapshot, NodeId, Path, PeerSnapshot, PeerState, Snapshot};

use super::api;
use crate::succession::Succession;

/// Which number each node has. Numbers are never given twice.
#[derive(Debug, Default)]
pub(super) struct Roster {
    numbers: BTreeMap<NodeId, u16>,
    nodes: Vec<NodeId>,
}

/// What the store says of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) last_ms: Option<i64>,
    pub(super) oldest_ms: Option<i64>,
    pub(super) series: u32,
    pub(super) repairs: u32,
}

impl Roster {
    /// The number of a node, given now if it has none. `None` where there are too many.
    pub(super) fn number(&mut self, node: NodeId) -> Option<u16> {
        if let Some(number) = self.numbers.get(&node) {
            return Some(*number);
        }
        let number = u16::try_from(self.nodes.len())
            .ok()
            .filter(|number| *number < u16::MAX)?;
        self.numbers.insert(node, number);
        self.nodes.push(node);
        Some(number)
    }

    /// The node behind a number.
    pub(super) fn node(&self, number: u16) -> Option<NodeId> {
        self.nodes.get(usize::from(number)).copied()
    }

    /// Every member and everybody who was one, in the order of numbers.
    pub(super) fn list(
        &mut self,
        snapshot: &Snapshot,
        backlog: &BTreeMap<NodeId, u64>,
        held: impl Fn(NodeId) -> Held,
    ) -> Vec<api::Node> {
        let peers: BTreeMap<NodeId, &PeerSnapshot> =
            snapshot.peers.iter().map(|peer| (peer.id, peer)).collect();
        let lines = Succession::shown(&snapshot.members);
        let name = |id: NodeId| {
            let mut members = snapshot.members.iter();
            Some(members.find(|member| member.id == id)?.name.clone())
        };
        let mut nodes: Vec<api::Node> = Vec::with_capacity(snapshot.members.len());
        for member in &snapshot.members {
            let Some(index) = self.number(member.id) else {
                continue;
            };
            let peer = peers.get(&member.id).copied();
            let formers = lines.formers(member.id);
            let reaches = formers.iter().map(|former| held(former.id).oldest_ms);
            let past_ms = reaches.flatten().min();
            let held = held(member.id);
            nodes.push(api::Node {
                index,
                id: member.id.to_string(),
                name: member.name.clone(),
                state: state(member, snapshot.me),
                path: peer
                    .map_or(Path::None, |peer| peer.path)
                    .as_str()
                    .to_owned(),
                rtt_ms: peer.and_then(|peer| peer.rtt_ms),
                last_ms: held.last_ms,
                oldest_ms: past_ms.into_iter().chain(held.oldest_ms).min(),
                former: member.replaces.and_then(name),
                successor: member.replaced_by.and_then(name),
                backlog_samples: backlog.get(&member.id).copied().unwrap_or(0),
                address: member.address.to_string(),
                series: held.series,
                repairs: held.repairs,
            });
        }
        for gone in &snapshot.gone {
            let Some(index) = self.number(gone.id) else {
                continue;
            };
            nodes.push(past(gone, index, held(gone.id), snapshot.me));
        }
        nodes.sort_by_key(|node| node.index);
        nodes
    }
}

/// One that was a member: nothing is heard of it, and its history stays.
fn past(gone: &GoneSnapshot, index: u16, held: Held, me: NodeId) -> api::Node {
    api::Node {
        index,
        id: gone.id.to_string(),
        name: gone.name.clone(),
        state: if gone.id == me {
            api::NodeState::Me
        } else {
            shown(gone.state)
        },
        path: Path::None.as_str().to_owned(),
        rtt_ms: None,
        last_ms: held.last_ms,
        oldest_ms: held.oldest_ms,
        former: None,
        successor: None,
        backlog_samples: 0,
        address: gone.address.to_string(),
        series: held.series,
        repairs: held.repairs,
    }
}

/// Whether pages need to hear of it: everything but times that only go on and round trips that
/// tremble, which TICK frames or the next message tell.
pub(super) fn has_changed(before: &[api::Node], now: &[api::Node]) -> bool {
    let steady = |nodes: &[api::Node]| -> Vec<api::Node> {
        let calm = |node: &api::Node| api::Node {
            rtt_ms: node.rtt_ms.map(|rtt_ms| rtt_ms.max(0.01).log2().round()),
            last_ms: node.last_ms.map(|_| 0),
            ..node.clone()
        };
        nodes.iter().map(calm).collect()
    };
    steady(before) != steady(now)
}

fn state(member: &MemberSnapshot, me: NodeId) -> api::NodeState {
    if member.id == me {
        return api::NodeState::Me;
    }
    shown(member.state)
}

fn shown(state: PeerState) -> api::NodeState {
    match state {
        PeerState::Alive => api::NodeState::Alive,
        PeerState::Stale => api::NodeState::Stale,
        PeerState::Suspect => api::NodeState::Suspect,
        PeerState::Down => api::NodeState::Down,
        PeerState::Left => api::NodeState::Left,
        PeerState::Retired => api::NodeState::Retired,
        PeerState::Evicted => api::NodeState::Evicted,
    }
}

/// The `nodes` message and what tells pages that a gap was filled.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    pub(super) json: Arc<str>,
    /// By number.
    pub(super) repairs: BTreeMap<u16, u32>,
}

impl Board {
    pub(super) fn new(nodes: &[api::Node]) -> Self {
        let repairs = nodes
            .iter()
            .map(|node| (node.index, node.repairs))
            .collect();
        let message = api::ServerMessage::Nodes {
            nodes: nodes.to_vec(),
        };
        let json = serde_json::to_string(&message).expect("a message has only string keys");
        Self {
            json: json.into(),
            repairs,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use outlast_mesh::{Counters, MeshId, Nat};

    use super::*;

    #[test]
    fn a_node_keeps_its_number_and_nobody_gets_it_again() {
        let mut roster = Roster::default();
        let before = list(&mut roster, &[(2, PeerState::Alive), (3, PeerState::Alive)]);
        assert_eq!(
            before.iter().map(|node| node.index).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        let now = list(&mut roster, &[(1, PeerState::Alive), (3, PeerState::Down)]);
        let found: Vec<_> = now.iter().map(|node| (node.index, node.state)).collect();
        use api::NodeState::{Alive, Down, Me};
        assert_eq!(found, [(0, Me), (2, Down), (3, Alive)]);
        assert_eq!(roster.node(1), Some(NodeId([2; 32])));
        assert_eq!(roster.node(4), None);
    }

    #[test]
    fn trembling_round_trips_are_no_news() {
        let mut roster = Roster::default();
        let before = list(&mut roster, &[(2, PeerState::Alive)]);
        let mut now = before.clone();
        now[1].rtt_ms = Some(0.45);
        now[1].last_ms = Some(9);
        assert!(!has_changed(&before, &now));
        now[1].rtt_ms = Some(4.5);
        assert!(has_changed(&before, &now));
        let mut now = before.clone();
        now[1].backlog_samples = 1;
        assert!(has_changed(&before, &now));
        assert!(has_changed(&before, &before[..1]));
    }

    #[test]
    fn a_board_is_one_message_for_all_pages() {
        let mut roster = Roster::default();
        let board = Board::new(&list(&mut roster, &[]));
        assert!(
            board
                .json
                .starts_with(r#"{"type":"nodes","nodes":[{"index":0,"id":""#)
        );
        assert!(
            board
                .json
                .contains(r#""state":"self","path":"none","rtt_ms":null,"last_ms":7"#)
        );
        assert_eq!(board.repairs, [(0, 2)].into());
    }

    /// Node 0 is this one.
    fn list(roster: &mut Roster, others: &[(u8, PeerState)]) -> Vec<api::Node> {
        let member = |number: u8, state| MemberSnapshot {
            id: NodeId([number; 32]),
            name: number.to_string(),
            address: Ipv6Addr::LOCALHOST,
            joined_ms: 0,
            state,
            site: None,
            metered: false,
            may_be_off: false,
            retention_bytes: None,
            replaces: None,
            replaced_by: None,
        };
        let peer = |number: u8, state| PeerSnapshot {
            id: NodeId([number; 32]),
            name: number.to_string(),
            address: Ipv6Addr::LOCALHOST,
            state,
            path: Path::Lan,
            via: None,
            endpoint: None,
            path_since_ms: None,
            why_not_direct: None,
            mtu_at_least: 1_280,
            rtt_ms: Some(0.4),
            last_heard_ms: None,
            last_handshake_ms: None,
            tx_bytes: 0,
            rx_bytes: 0,
            clock_offset_ms: None,
            agrees: true,
        };
        let me = member(0, PeerState::Alive);
        let members = others.iter().map(|(number, state)| member(*number, *state));
        let snapshot = Snapshot {
            mesh: MeshId([9; 32]),
            mesh_name: "m".into(),
            me: me.id,
            my_name: "0".into(),
            address: Ipv6Addr::LOCALHOST,
            udp_port: 1,
            isolated: false,
            gone: vec![],
            evicted: None,
            rotation: None,
            members: std::iter::once(me).chain(members).collect(),
            peers: others
                .iter()
                .map(|(number, state)| peer(*number, *state))
                .collect(),
            nat: Nat::default(),
            counters: Counters::default(),
            refused: vec![],
            notices: vec![],
        };
        let held = Held {
            last_ms: Some(7),
            oldest_ms: None,
            series: 0,
            repairs: 2,
        };
        roster.list(&snapshot, &BTreeMap::new(), |_| held)
    }
}
