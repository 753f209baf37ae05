//! Members over a wire in memory, with time that is told. boringtun reads its own clock: a test
//! that waits for a timer of its stands in `ageing`, where that clock is bent to the told one.
//!
//! `World` holds the nodes and carries their datagrams; the files beside this one hold the tests.

mod ageing;
mod agreement;
mod bad;
mod befall;
mod bend;
mod clocks;
mod copies;
mod duties;
mod eviction;
mod growth;
mod joining;
mod lan;
mod landmarks;
mod liar;
mod meeting;
mod members;
mod nat;
mod paths;
mod ping;
mod relay;
mod replaced;
mod rotation;
mod statements;
mod strangers;
mod versions;
mod wide;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::path::way::Way;
use crate::snapshot::PeerState;
use crate::spread::sync;
use crate::trust::{EndpointKind, found};
use crate::tunnel::session::{MAX_DATAGRAM, Opened, Session, Tick};
use crate::wire::{MESSAGE_PORT, WIRE_VERSION, frame, message};
use crate::{AdminKey, NodeKey, TunnelKey};

/// Nodes, the wire between them, and the time.
struct World {
    nodes: Vec<Node>,
    keys: Vec<(NodeKey, TunnelKey)>,
    first: Statements,
    invite: crate::trust::InviteSeed,
    seen: BTreeMap<usize, Vec<NodeEvent>>,
    now: Now,
    cut: bool,
    /// What was sent to addresses where nobody is.
    strayed: Vec<Transmit>,
    /// What was said to node 0, while somebody listens in.
    overheard: Option<Vec<Vec<u8>>>,
    /// Datagrams of this kind from this node are lost.
    muted: Option<(usize, u8)>,
    /// What the wire does to datagrams; without it each arrives once.
    bad: Option<bad::Network>,
    /// This node stands still: it takes nothing in and no timer of its runs.
    frozen: Option<usize>,
    /// Where a node that starts remembers peers to be.
    remembered: BTreeMap<usize, Vec<(NodeId, SocketAddr)>>,
    /// By how many seconds a node's wall clock is wrong.
    wrong_by: BTreeMap<usize, i64>,
    /// When each datagram left, from which node, and its kind.
    sent: Vec<(Duration, usize, u8)>,
    /// Two nodes no datagram passes between, the lower first.
    apart: Option<[usize; 2]>,
    /// The tunnel keys that nodes had before.
    former: BTreeMap<usize, Vec<TunnelKey>>,
    /// Nodes no datagram leaves or reaches but from each other.
    island: BTreeSet<usize>,
    /// From whom no datagram passes to whom.
    walls: BTreeSet<(usize, usize)>,
    /// The routers some nodes stand behind.
    routers: BTreeMap<usize, nat::Router>,
    /// Where each node is; datagrams to anywhere else are lost.
    homes: Vec<SocketAddr>,
    /// Longer datagrams are lost without a word.
    widest: usize,
    /// Whether a node that starts calls on its link.
    calls: bool,
    /// The calls made on the link.
    called: Vec<Transmit>,
    /// Whether a call is heard by all, and not only where its port is somebody's.
    one_port: bool,
}

impl World {
    /// Members of one mesh: node 0 founded it and vouched for the others.
    fn new(count: u8) -> Self {
        bend::begin();
        let now = Now::real();
        let keys: Vec<_> = (1..=count)
            .map(|number| (NodeKey::from_seed(&seed_of(number)), TunnelKey::generate()))
            .collect();
        let (first, invite) = members(&keys, now);
        let mut world = Self {
            nodes: Vec::new(),
            first,
            invite,
            keys,
            seen: BTreeMap::new(),
            now,
            cut: false,
            strayed: Vec::new(),
            overheard: None,
            muted: None,
            bad: None,
            frozen: None,
            remembered: BTreeMap::new(),
            wrong_by: BTreeMap::new(),
            sent: Vec::new(),
            apart: None,
            former: BTreeMap::new(),
            island: BTreeSet::new(),
            walls: BTreeSet::new(),
            routers: BTreeMap::new(),
            homes: (0..usize::from(count)).map(address).collect(),
            widest: usize::MAX,
            calls: false,
            called: Vec::new(),
            one_port: false,
        };
        for at in 0..usize::from(count) {
            let node = world.node(at, u64::from(count));
            world.nodes.push(node);
        }
        world
    }

    fn node(&self, at: usize, seed: u64) -> Node {
        let (node, tunnel) = self.keys[at].clone();
        let mut bytes = [at as u8; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = NodeConfig {
            identity: Identity {
                node,
                tunnel,
                previous: self.former_keys(at),
            },
            statements: self.first.clone(),
            endpoints: vec![Endpoint {
                kind: EndpointKind::Local,
                addr: address(at),
            }],
            udp_port: address(at).port(),
            version: "0.1.0".into(),
            calls: self.calls,
            remembered: self.remembered.get(&at).cloned().unwrap_or_default(),
            seed: bytes,
        };
        let mut node = Node::new(config, self.now_at(at));
        // What it says at its start is on disk.
        node.poll_journal();
        node
    }

    fn former_keys(&self, at: usize) -> Vec<PreviousKey> {
        let replaced_ms = self.now.wall_ms();
        let keys = self.former.get(&at).into_iter().flatten().cloned();
        keys.map(|key| PreviousKey { key, replaced_ms }).collect()
    }

    /// The time by the clocks of this node, boringtun's included where it can be bent.
    fn now_at(&self, at: usize) -> Now {
        let wrong_by = self.wrong_by.get(&at).copied().unwrap_or(0);
        bend::to(self.now, wrong_by);
        let mut now = self.now;
        now.wall_us += wrong_by * 1_000_000;
        now
    }

    /// The machine sleeps: only the clocks that count sleep go on.
    fn sleep(&mut self, time: Duration) {
        let after = self.now.after(time);
        (self.now.boot, self.now.wall_us) = (after.boot, after.wall_us);
    }

    /// The node stops without a word and starts with its first disk.
    fn restart(&mut self, at: usize) {
        let seed = self.sent.len() as u64 + 1_000;
        self.nodes[at] = self.node(at, seed);
    }

    /// The same, but it kept where its peers were heard.
    fn restart_with_memory(&mut self, at: usize) {
        let peers = self.nodes[at].peers.values();
        let known = peers.flat_map(|peer| {
            let addresses = peer.candidates.worked_addresses();
            addresses.map(|address| (peer.id, address))
        });
        let known = known.collect();
        self.remembered.insert(at, known);
        self.restart(at);
    }

    fn run(&mut self, ms: u64) {
        let end = self.now.after(Duration::from_millis(ms));
        loop {
            self.deliver();
            let awake = (0..self.nodes.len()).filter(|at| Some(*at) != self.frozen);
            let due = awake
                .clone()
                .filter_map(|at| self.nodes[at].poll_timeout())
                .map(|(at, _)| at)
                .min();
            let due = due.expect("a node always has a deadline");
            if due > end.mono {
                break;
            }
            self.now = self.now.after(due.saturating_duration_since(self.now.mono));
            for at in awake {
                let now = self.now_at(at);
                self.nodes[at].handle_timeout(now);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.nodes.len() {
                if self.frozen == Some(at) {
                    continue;
                }
                self.nodes[at].poll_journal();
                let now = self.now_at(at);
                while let Some(transmit) = self.nodes[at].poll_transmit(now) {
                    quiet = false;
                    let kind = transmit.bytes[0];
                    self.sent.push((self.now.boot, at, kind));
                    if crate::path::lan::is_call(transmit.to) {
                        self.call(at, transmit);
                        continue;
                    }
                    let Some((place, to)) = self.way_out(at, transmit.to) else {
                        self.strayed.push(transmit);
                        continue;
                    };
                    let walled = self.walls.contains(&(at, to));
                    let apart = walled || self.apart == Some([at.min(to), at.max(to)]);
                    let sea = self.island.contains(&at) != self.island.contains(&to);
                    let cut = self.cut || apart || sea || transmit.bytes.len() > self.widest;
                    let lost = cut || self.muted == Some((at, kind)) || self.frozen == Some(to);
                    if !lost {
                        self.overhear(to, &transmit.bytes);
                        self.pass(place, to, &transmit.bytes);
                    }
                }
                self.collect(at);
            }
            if quiet {
                return;
            }
        }
    }

    /// Carries a call to everybody on the link whose port it names.
    fn call(&mut self, from: usize, transmit: Transmit) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if self.one_port || self.homes[to].port() == transmit.to.port() {
                self.pass(self.homes[from], to, &transmit.bytes);
            }
        }
        self.called.push(transmit);
    }

    /// As whom a datagram to this address arrives, and at which node; none where nobody is.
    fn way_out(&mut self, at: usize, to: SocketAddr) -> Option<(SocketAddr, usize)> {
        let (home, now) = (self.homes[at], self.now.mono);
        let router = self.routers.get_mut(&at);
        let place = router.map_or(home, |router| router.send(to, now));
        let at_home = self.homes.iter().position(|home| *home == to);
        let inside = |at: &usize| self.routers.contains_key(at);
        if let Some(node) = at_home.filter(|node| !inside(node)) {
            return Some((place, node));
        }
        let lets_in = |router: &mut nat::Router| router.lets_in(to, place, now);
        let mut routers = self.routers.iter_mut();
        let (node, _) = routers.find_map(|(node, r)| lets_in(r).then_some((*node, ())))?;
        Some((place, node))
    }

    fn pass(&mut self, place: SocketAddr, to: usize, bytes: &[u8]) {
        let Some(bad) = &mut self.bad else {
            return self.give(to, place, bytes);
        };
        for (to, from, bytes) in bad.pass(place, to, bytes) {
            self.give(to, from, &bytes);
        }
    }

    fn overhear(&mut self, to: usize, bytes: &[u8]) {
        if let (Some(overheard), 0) = (&mut self.overheard, to) {
            overheard.push(bytes.to_vec());
        }
    }

    fn give(&mut self, at: usize, from: SocketAddr, bytes: &[u8]) {
        let now = self.now_at(at);
        self.nodes[at].handle_datagram(from, bytes, now);
        self.nodes[at].conclude(now);
        self.collect(at);
    }

    fn collect(&mut self, at: usize) {
        let events = std::iter::from_fn(|| self.nodes[at].poll_event());
        self.seen.entry(at).or_default().extend(events);
    }

    /// The founder settles that this node pays for each byte, and tells it to node 0.
    fn make_metered(&mut self, at: usize) {
        let (of, held) = (self.nodes[at].me(), self.nodes[0].statements());
        let on = Some("on");
        let at_ms = self.now.wall_ms();
        let policy = crate::trust::issue_policy(
            &admin(),
            held,
            Some(of),
            crate::trust::Setting::Metered,
            on,
            at_ms,
        );
        let now = self.now_at(0);
        self.nodes[0].handle_publish(policy.unwrap(), now).unwrap();
        self.run(500);
    }

    /// Says something small from one node to another.
    fn say(&mut self, from: usize, to: usize, body: &[u8]) -> Result<(), SendError> {
        let (to, now) = (self.nodes[to].me(), self.now_at(from));
        self.nodes[from].handle_message(to, 64, body, now)
    }

    /// How many small messages this node heard.
    fn heard(&self, at: usize) -> usize {
        self.events(at, |event| matches!(event, NodeEvent::Message { .. }))
    }

    /// How many peers this node lost.
    fn disconnected(&self, at: usize) -> usize {
        self.events(at, |event| matches!(event, NodeEvent::Disconnected(_)))
    }

    /// What this node has to say of itself to its owner.
    fn notices(&self, at: usize) -> Vec<String> {
        self.nodes[at].snapshot(self.now_at(at)).notices
    }

    fn events(&self, at: usize, wanted: impl Fn(&NodeEvent) -> bool) -> usize {
        self.seen
            .get(&at)
            .into_iter()
            .flatten()
            .filter(|event| wanted(event))
            .count()
    }

    fn peer(&self, at: usize, of: usize) -> &Peer {
        &self.nodes[at].peers[&self.nodes[of].me()]
    }

    fn state(&self, at: usize, of: usize) -> PeerState {
        self.peer(at, of).liveness.state(self.now.mono)
    }

    /// How often node `at` named node `of` for this.
    fn blamed(&self, at: usize, of: usize, what: Offence) -> u64 {
        let culprit = self.nodes[of].me();
        let tallies = self.nodes[at].reckoning.tallies();
        let mut of_it = tallies.filter(|(peer, offence, _)| (*peer, *offence) == (culprit, what));
        of_it.next().map_or(0, |(.., tally)| tally.count)
    }

    fn dropped(&self, at: usize, reason: &str) -> u64 {
        self.nodes[at]
            .counters
            .dropped
            .get(reason)
            .copied()
            .unwrap_or(0)
    }
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1_000 + at as u16))
}

/// A node's key seed; none is the founder's.
fn seed_of(number: u8) -> [u8; 32] {
    let mut seed = [number; 32];
    seed[31] ^= u8::from(number == 99);
    seed
}

/// Who founded the mesh of the tests.
fn admin() -> AdminKey {
    AdminKey::from_seed(&[99; 32])
}

/// Statements that make all of these members, with their keys and addresses.
fn members(keys: &[(NodeKey, TunnelKey)], now: Now) -> (Statements, crate::trust::InviteSeed) {
    use crate::trust::{self, InviteTerms, NodeInfo, Token};
    let (admin, at_ms) = (admin(), now.wall_ms() - 60_000);
    let (mesh, genesis) = found(&admin, keys[0].0.id(), "n0", "home", None, at_ms);
    let mut statements = Statements::new(mesh);
    statements.insert(genesis).unwrap();
    let terms = InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: 250,
        needs_approval: false,
    };
    let (seed, invite) = trust::issue_invite(&admin, &statements, terms, at_ms).unwrap();
    statements.insert(invite.clone()).unwrap();
    let sponsor = trust::Bootstrap {
        node: keys[0].0.id(),
        tunnel: keys[0].1.public(),
        addrs: vec![address(0)],
    };
    let token = Token::new(seed.clone(), invite, &statements, vec![sponsor]).unwrap();
    for (at, (node, tunnel)) in keys.iter().enumerate() {
        if at > 0 {
            let join = trust::author_join(node, &token, &format!("n{at}")).unwrap();
            let witness = trust::witness(&keys[0].0, &statements, &join, now.wall_ms()).unwrap();
            statements.insert(join).unwrap();
            statements.insert(witness.unwrap()).unwrap();
        }
        let info = NodeInfo {
            incarnation: 1,
            seq: 1,
            tunnel: tunnel.public(),
            tunnel_previous: None,
            endpoints: vec![Endpoint {
                kind: EndpointKind::Local,
                addr: address(at),
            }],
            version: String::new(),
            wire_min: 1,
            wire_max: 1,
            store_format: 1,
        };
        let body = message::encode(&info);
        let info = Statement::sign(trust::kind::NODE_INFO, &mesh, node, body);
        statements.insert(info).unwrap();
    }
    (statements, seed)
}
