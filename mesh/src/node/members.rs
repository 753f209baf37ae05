//! Who the peers are: one for each other member of the folded state, and what we say of ourselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Node, NodeEvent};
use crate::allowance::Allowance;
use crate::id::NodeId;
use crate::path;
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::time::Now;
use crate::trust::{Endpoint, EndpointKind, MAX_ENDPOINTS, MAX_VERSION, NodeInfo, Statement, kind};
use crate::wire::{WIRE_OLDEST, WIRE_VERSION};

/// The store format this release writes, told to the other members.
pub(crate) const STORE_FORMAT: u32 = 1;

/// An address others see us at is published at most this often.
const OBSERVED_PAUSE: Duration = Duration::from_secs(30);

/// How long a peer that has moved may take to come by itself.
const AFTER_NEWS: Duration = Duration::from_millis(500);

/// Changes of our own addresses that are followed, by a statement to everybody and a dial of
/// everybody: one each 10 s, three at once. An interface may flap for days.
const MOVES: (f64, f64) = (0.1, 3.0);

/// The same for whatever else happens to the machine's network, which makes silent peers due: one
/// each 10 min. A machine that starts and stops containers all day stirs without end.
const STIRS: (f64, f64) = (1.0 / 600.0, 3.0);

/// What others know of us is overtaken at most this often; two nodes with one key would race.
const OVERTAKE_PAUSE: Duration = Duration::from_secs(10);

/// Addresses seen from outside that are published.
const MOST_OBSERVED: usize = 4;

/// What this node publishes of itself.
#[derive(Debug)]
pub(crate) struct OwnInfo {
    endpoints: Vec<Endpoint>,
    /// The addresses the machine has, which `endpoints` follow.
    latest: Vec<Endpoint>,
    moved: bool,
    moves: Allowance,
    stirred: bool,
    stirs: Allowance,
    observed: BTreeMap<NodeId, SocketAddr>,
    observed_at: Option<Instant>,
    incarnation: u32,
    seq: u32,
    said: Option<NodeInfo>,
    overtaken: Option<Instant>,
}

impl OwnInfo {
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            latest: endpoints.clone(),
            endpoints,
            moved: false,
            moves: Allowance::new(MOVES.0, MOVES.1),
            stirred: false,
            stirs: Allowance::new(STIRS.0, STIRS.1),
            observed: BTreeMap::new(),
            observed_at: None,
            incarnation: 0,
            seq: 0,
            said: None,
            overtaken: None,
        }
    }

    /// The addresses the machine has, and those it is told of.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.latest.iter().map(|endpoint| endpoint.addr)
    }

    /// What is published: what we are told, our interfaces, then how others see us.
    fn published(&self) -> Vec<Endpoint> {
        let mut all = self.endpoints.clone();
        for addr in self.observed.values() {
            let known = all.iter().any(|endpoint| endpoint.addr == *addr);
            let observed = all
                .iter()
                .filter(|e| e.kind == EndpointKind::Observed)
                .count();
            if !known && observed < MOST_OBSERVED {
                all.push(Endpoint {
                    kind: EndpointKind::Observed,
                    addr: *addr,
                });
            }
        }
        all.truncate(MAX_ENDPOINTS);
        all
    }
}

impl Node {
    /// Takes the addresses this machine has and is told of. When they changed everybody is told and
    /// dialled, heard or not: a path that works from the old address may not from the new one.
    pub(crate) fn handle_endpoints(&mut self, endpoints: Vec<Endpoint>, now: Now) {
        self.own.moved |= self.own.latest != endpoints;
        self.own.latest = endpoints;
        self.follow_network(now);
    }

    /// Something happened to the machine's network, such as a cable put back: silent peers are due.
    pub(crate) fn handle_stir(&mut self, now: Now) {
        self.own.stirred = true;
        self.follow_network(now);
    }

    /// Does what the network's changes ask for, as often as is allowed.
    pub(super) fn follow_network(&mut self, now: Now) {
        if self.own.moved && self.own.moves.take(1.0, now.mono) {
            self.own.moved = false;
            self.own.stirred = false;
            self.adopt_addresses(now);
            self.redial_everyone(now);
        }
        if self.own.stirred && self.own.stirs.take(1.0, now.mono) {
            self.own.stirred = false;
            for peer in self.peers.values_mut().filter(|p| !p.is_heard(now.mono)) {
                peer.candidates.reset();
                peer.calls.reset();
                peer.dial.reset(now.mono, &mut self.random);
            }
        }
    }

    fn adopt_addresses(&mut self, now: Now) {
        let is_near = |endpoint: &Endpoint| endpoint.addr.ip().is_loopback();
        let lost = self.own.latest.iter().all(is_near) && !self.own.endpoints.iter().all(is_near);
        tracing::info!(
            addresses = self.own.latest.len(),
            lost,
            "own addresses changed"
        );
        self.own.observed.clear();
        self.nat.forget(now.mono);
        self.own.observed_at = None;
        // With no address left there is nobody to tell; the next one is worth telling.
        if !lost && self.own.endpoints != self.own.latest {
            self.own.endpoints.clone_from(&self.own.latest);
            self.publish_own_info(now);
        }
    }

    /// A peer tells where our datagrams come from; an address nobody else reports is published.
    pub(super) fn seen_from_outside(&mut self, by: NodeId, at: SocketAddr, now: Now) {
        let at = path::plain(at);
        if !path::is_usable(at) || self.own.observed.get(&by) == Some(&at) {
            return;
        }
        let rested = self
            .own
            .observed_at
            .is_none_or(|last| now.mono >= last + OBSERVED_PAUSE);
        if !rested {
            return;
        }
        let before = self.own.published();
        self.own.observed.insert(by, at);
        if self.own.published() != before {
            self.own.observed_at = Some(now.mono);
            self.publish_own_info(now);
        }
    }

    /// How often this node has spoken of itself in this run.
    #[cfg(test)]
    pub(super) fn own_seq(&self) -> u32 {
        self.own.seq
    }

    /// Publishes a NodeInfo newer than any known of us.
    pub(super) fn publish_own_info(&mut self, now: Now) {
        let known = self
            .state
            .members
            .get(&self.me)
            .and_then(|member| member.info.as_ref());
        let highest = known.map_or(0, |info| info.incarnation);
        if self.own.incarnation == 0 || self.is_overtaken() {
            self.own.incarnation = highest.saturating_add(1);
            self.own.seq = 0;
        }
        self.own.seq += 1;
        let mut version = self.version.clone();
        version.truncate(MAX_VERSION);
        let info = NodeInfo {
            incarnation: self.own.incarnation,
            seq: self.own.seq,
            tunnel: self.identity.tunnel.public(),
            tunnel_previous: self.previous.first().map(|previous| previous.key.public()),
            endpoints: self.own.published(),
            version,
            wire_min: WIRE_OLDEST,
            wire_max: WIRE_VERSION,
            store_format: STORE_FORMAT,
        };
        let body = crate::wire::message::encode(&info);
        self.own.said = Some(info);
        let statement = Statement::sign(kind::NODE_INFO, &self.mesh, &self.identity.node, body);
        let (_new, taken) = self.take_statements(vec![statement], now);
        if let Err(refusal) = taken {
            tracing::warn!(%refusal, "own addresses not published");
        }
    }

    /// Brings the peers in step with the folded state.
    pub(super) fn meet_members(&mut self, now: Now) {
        let state = self.statements.state();
        let before = std::mem::replace(&mut self.state, Arc::clone(&state));
        let gone: Vec<NodeId> = self
            .peers
            .keys()
            .filter(|id| !state.members.contains_key(id))
            .copied()
            .collect();
        let told = self.own.published();
        for id in gone {
            self.part_from(id, now);
        }
        self.free_invites_keys();
        let me = self.me;
        for (id, member) in state.members.iter().filter(|(id, _)| **id != me) {
            if !self.peers.contains_key(id) {
                self.table.claim_address(member.address, *id);
                let peer = Peer::new(*id, member.address, now.mono, &mut self.random);
                self.peers.insert(*id, peer);
            }
            if let Some(info) = &member.info {
                self.hear_of_start(*id, info.incarnation, now);
                self.follow(*id, info, now);
            }
        }
        self.hear_of_start(me, self.own.incarnation, now);
        self.size_up();
        self.know_departed();
        let names = |state: &crate::trust::State| -> Vec<(NodeId, String)> {
            let members = state.members.values();
            members
                .map(|member| (member.id, member.name.clone()))
                .collect()
        };
        if names(&before) != names(&state) {
            self.emit(NodeEvent::MembersChanged);
        }
        let rested = self
            .own
            .overtaken
            .is_none_or(|at| now.mono >= at + OVERTAKE_PAUSE);
        let overtaken = rested && self.is_overtaken();
        if overtaken {
            self.own.overtaken = Some(now.mono);
        }
        // What one that is gone reported may never have been so.
        let reported = self.own.said.is_some() && self.own.published() != told;
        if (overtaken || reported) && state.members.contains_key(&me) {
            self.publish_own_info(now);
        }
    }

    /// Whether the mesh knows something of us that we did not say in this run: our disk was older.
    fn is_overtaken(&self) -> bool {
        let Some(said) = &self.own.said else {
            return false;
        };
        let member = self.state.members.get(&self.me);
        let known = member.and_then(|member| member.info.as_ref());
        known.is_some_and(|info| {
            info != said && (info.incarnation, info.seq) >= (said.incarnation, said.seq)
        })
    }

    /// Takes over what a peer published: its key, then where it may be.
    fn follow(&mut self, id: NodeId, info: &NodeInfo, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        // Whoever has moved tells those that still hear it; the others learn it from them.
        let lived = peer.lives_where_it_says();
        if peer.candidates.publish(&info.endpoints) {
            peer.probes.hurry();
            if !peer.is_heard(now.mono) {
                peer.dial.hurry(AFTER_NEWS, now.mono, &mut self.random);
            } else if lived && !peer.lives_where_it_says() {
                peer.dial.doubt(AFTER_NEWS, now.mono, &mut self.random);
            }
        }
        let is_known = peer.key == Some(info.tunnel);
        if is_known && peer.tunnels.previous == info.tunnel_previous {
            return;
        }
        if !self.claim_keys(id, info) {
            return self.notice_key(id);
        }
        let Some(peer) = self.peers.get_mut(&id).filter(|_| !is_known) else {
            return;
        };
        peer.key = Some(info.tunnel);
        peer.dial.reset(now.mono, &mut self.random);
        // What is in use goes on until there is a tunnel to the new key.
        match peer.is_live() {
            true => self.move_if_replaced(id, now),
            false => self.drop_session(id),
        }
        self.notices.remove(&about_key(id));
    }

    fn notice_key(&mut self, id: NodeId) {
        let name = id.short();
        let text = format!("{name} publishes a tunnel key another member has; it is not dialled");
        self.notice(about_key(id), text);
    }

    /// Gives the key that leads to `wrong` to `owner`, if that one publishes it too. Only for data
    /// that decrypted by this key with `owner` as its source: who sent it holds the key's secret,
    /// and whoever else publishes the key lies.
    pub(super) fn give_key_back(&mut self, wrong: NodeId, owner: NodeId, now: Now) -> bool {
        let state = Arc::clone(&self.state);
        let Some(info) = state.members.get(&owner).and_then(|m| m.info.as_ref()) else {
            return false;
        };
        let keys = self
            .peers
            .get(&wrong)
            .map(|peer| [peer.key, peer.tunnels.previous]);
        if !keys.is_some_and(|keys| keys.contains(&Some(info.tunnel))) {
            return false;
        }
        self.blame(wrong, Offence::ForeignKey, now);
        self.drop_session(wrong);
        if let Some(peer) = self.peers.get_mut(&wrong) {
            peer.tunnels.previous = None;
            peer.key = peer.key.filter(|key| *key != info.tunnel);
            if peer.connected {
                peer.disconnect();
                self.emit(NodeEvent::Disconnected(wrong));
            }
        }
        self.table.release_key(info.tunnel);
        self.notice_key(wrong);
        self.follow(owner, info, now);
        true
    }

    /// Ends everything with somebody who is no member any more. What was said to it before, its own
    /// eviction last, still leaves.
    fn part_from(&mut self, id: NodeId, now: Now) {
        self.flush_payload(id, now);
        self.drop_session(id);
        self.lose_relay(id, now);
        self.nat.part(id);
        self.own.observed.remove(&id);
        self.wide.forget(id);
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        self.notices.remove(&about_key(id));
        self.notices.remove(&about_version(id));
        self.table.release_address(peer.address);
        for key in [peer.key, peer.tunnels.previous].into_iter().flatten() {
            self.release_key_of(id, key);
        }
        if peer.connected {
            self.emit(NodeEvent::Disconnected(id));
        }
        self.emit(NodeEvent::Removed(id));
    }
}

/// What a notice about a peer's tunnel key is kept by.
fn about_key(id: NodeId) -> String {
    format!("key {id}")
}

/// What a notice about a peer's versions is kept by.
pub(super) fn about_version(id: NodeId) -> String {
    format!("version {id}")
}
