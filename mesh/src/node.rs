//! One member of the mesh, as a pure state machine: datagrams, messages and time go in;
//! datagrams, events, statements to store and the next deadline come out.
//!
//! The shell in `io` owns one `Node`, calls `handle_…` for all that came, `conclude` once, then
//! drains `poll_journal`, `poll_transmit` and `poll_event`. Invariants: no path, liveness or queue
//! moves but by authenticated data; what a datagram of an unconfirmed source brings about is one
//! answer to it, no longer than itself; application frames pass only from the moment both sides hold the same
//! statements about who is a member to the loss of the peer; what was said here is durable before it leaves (`owes_write`, `poll_journal`); a member is
//! never forgotten because it is silent. Absent: sockets, clocks, files; streams (`io::quic`)
//! are datagrams here.

mod agreement;
mod clocks;
pub(crate) mod copies;
mod datagram;
mod departed;
mod guests;
pub(crate) mod members;
mod messages;
mod outgoing;
mod pieces;
mod ping;
mod probe;
mod relay;
pub(crate) mod rotation;
mod rouse;
mod statements;
mod timers;
mod view;
pub(crate) mod wide;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use x25519_dalek::StaticSecret;

use crate::admission::desk::Desk;
use crate::allowance::Allowance;
use crate::config::Identity;
use crate::error::SendError;
use crate::id::{MeshId, NodeId, overlay_address};
use crate::path::lan;
use crate::path::nat::Seen;
use crate::path::relay as relaying;
use crate::peer::Peer;
use crate::quota::Quota;
use crate::reckoning::{Offence, Reckoning};
use crate::snapshot::Counters;
use crate::time::Now;
use crate::trust::{Endpoint, Refusal, State, Statement, Statements};
use crate::tunnel::keys::PreviousKey;
use crate::tunnel::limiter::Limiter;
use crate::tunnel::session::Gate;
use crate::tunnel::table::Table;
use crate::wire::message::kind;
use crate::wire::{FIRST_APPLICATION_KIND, MAX_MESSAGE, MAX_STREAM_PACKET, STREAM_PORT, packet};

/// The timers run this often; boringtun encrypts with expired keys when they rest longer.
const TICK: Duration = Duration::from_millis(250);

/// Datagrams ready to leave; a full queue drops the newest, counted.
const MOST_OUTGOING: usize = 2_048;

/// Cookies wait for the way out only in front of a queue this short: they never displace what
/// members are owed.
const MOST_BEFORE_COOKIE: usize = 256;

/// Events nobody has fetched; a full queue drops messages and stream packets, counted, but never
/// a change of members or connections.
const MOST_EVENTS: usize = 2_048;

/// What a node is made of.
pub(crate) struct NodeConfig {
    pub(crate) identity: Identity,
    pub(crate) statements: Statements,
    /// Addresses others may reach us at, those of our interfaces and those we are told of.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) udp_port: u16,
    pub(crate) version: String,
    /// Whether members that are nowhere to be found are called on the own link.
    pub(crate) calls: bool,
    /// Where peers were last heard in earlier runs, the latest last.
    pub(crate) remembered: Vec<(NodeId, SocketAddr)>,
    /// From the system's randomness; jitter, indices and ping numbers follow from it, keys don't.
    pub(crate) seed: [u8; 32],
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Why the machine would not send a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendFailure {
    /// It is longer than the interface takes.
    TooLong,
    /// No interface or address leads there at this moment.
    NoRoute,
    /// Anything else, such as a firewall's veto.
    Other,
}

/// What the shell passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeEvent {
    Connected(NodeId),
    Disconnected(NodeId),
    Message {
        from: NodeId,
        kind: u8,
        body: Bytes,
    },
    StreamPacket {
        from: Ipv6Addr,
        bytes: Bytes,
    },
    MembersChanged,
    Removed(NodeId),
    /// An answer to `handle_ping`.
    Pong {
        number: u32,
        took: Duration,
    },
}

/// The state machine.
pub(crate) struct Node {
    identity: Identity,
    secret: StaticSecret,
    /// The tunnel keys before, still accepted, the latest first.
    previous: Vec<PreviousKey>,
    me: NodeId,
    mesh: MeshId,
    address: Ipv6Addr,
    udp_port: u16,
    version: String,
    run: u64,
    random: ChaCha8Rng,
    gate: Gate,
    limiter: Limiter,
    table: Table,
    statements: Statements,
    state: Arc<State>,
    /// Digest of what counts, as of the last `conclude`.
    root: [u8; 32],
    /// The same of what membership rests on.
    trust: [u8; 32],
    inbox: statements::Inbox,
    own: members::OwnInfo,
    peers: BTreeMap<NodeId, Peer>,
    desk: Desk,
    departed: departed::Departed,
    /// What may be said to former members.
    proofs: Allowance,
    /// Who said that this node runs in two places, where the other is, and when.
    copied: Option<(NodeId, Option<SocketAddr>, Instant)>,
    /// Since when, or from when on, this node is silent because it is no member any more.
    silent_from: Option<Instant>,
    /// Whether its sessions were ended for that.
    hushed: bool,
    asked: ping::Asked,
    /// Peers with frames that wait for their datagram.
    filled: BTreeSet<NodeId>,
    outgoing: VecDeque<Transmit>,
    events: VecDeque<NodeEvent>,
    journal: Vec<Statement>,
    /// Whether the journal holds something that was said here.
    owes_write: bool,
    counters: Counters,
    reckoning: Reckoning<Offence>,
    notices: BTreeMap<String, String>,
    isolated: bool,
    started: Instant,
    /// Where peers see this node.
    nat: Seen,
    /// What all members together may have handed on.
    carries: Allowance,
    clocks: Now,
    next_tick: Instant,
    /// Boot time of the last tick: sleep counts.
    ticked: Duration,
    next_second: Instant,
    /// Whether some peer was once seen to hold the same statements, or there was none at the start.
    settled: bool,
    endpoints_changed: bool,
    wide: wide::Wide,
    /// How many calls on the own link are left. `None` while none are made.
    calls: Option<Allowance>,
}

impl Node {
    /// A node that begins to dial every member. It must be a member itself, or have been one: then
    /// it only listens.
    pub(crate) fn new(config: NodeConfig, now: Now) -> Self {
        let mut random = ChaCha8Rng::from_seed(config.seed);
        let secret = config.identity.tunnel.secret();
        let me = config.identity.node.id();
        let mesh = config.statements.mesh();
        let state = config.statements.state();
        let (root, trust) = (config.statements.root(), config.statements.trust_root());
        let mut node = Self {
            gate: Gate::new(&secret),
            secret,
            previous: Vec::new(),
            me,
            mesh,
            address: overlay_address(&mesh, &me),
            udp_port: config.udp_port,
            version: config.version,
            run: random.random(),
            limiter: Limiter::default(),
            table: Table::default(),
            statements: config.statements,
            own: members::OwnInfo::new(config.endpoints),
            state,
            root,
            trust,
            inbox: statements::Inbox::default(),
            peers: BTreeMap::new(),
            desk: Desk::default(),
            departed: departed::Departed::new(),
            proofs: departed::proofs(),
            copied: None,
            silent_from: None,
            hushed: false,
            asked: ping::Asked::default(),
            filled: BTreeSet::new(),
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
            journal: Vec::new(),
            owes_write: false,
            counters: Counters::default(),
            reckoning: Reckoning::default(),
            notices: BTreeMap::new(),
            isolated: false,
            started: now.mono,
            nat: Seen::new(now.mono),
            carries: relaying::all(),
            clocks: now,
            next_tick: now.mono,
            ticked: now.boot,
            next_second: now.mono,
            settled: false,
            endpoints_changed: false,
            wide: wide::Wide::new(me, &config.remembered, now),
            calls: config
                .calls
                .then(|| Allowance::new(lan::CALLS.0, lan::CALLS.1)),
            identity: config.identity,
            random,
        };
        node.begin(config.remembered, now);
        node
    }

    fn begin(&mut self, remembered: Vec<(NodeId, SocketAddr)>, now: Now) {
        let previous = std::mem::take(&mut self.identity.previous);
        self.accept_previous(previous);
        self.face_own_state(now);
        if self.silent_from.is_none() {
            self.publish_own_info(now);
        }
        self.meet_members(now);
        // Who starts alone has nobody to hear its own log from, also when members join it later.
        self.settled = self.peers.is_empty();
        for (id, address) in remembered {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.candidates.worked(address);
                self.table.settle(address, id);
            }
        }
    }

    /// This node.
    #[cfg(test)]
    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    /// This node's address in the overlay.
    #[cfg(test)]
    pub(crate) fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// Every statement held.
    pub(crate) fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Whether application frames pass to and from this peer.
    pub(crate) fn connected(&self) -> impl Iterator<Item = NodeId> {
        let awake = self.wide.awake.iter();
        let peers = awake.filter_map(|id| self.peers.get(id));
        peers.filter(|peer| peer.connected).map(|peer| peer.id)
    }

    /// Whether the mesh is so large that a message begins a session where there is none.
    pub(crate) fn begins_sessions(&self) -> bool {
        self.wide.on
    }

    /// Queues an application frame; it leaves with the next datagram to that peer. In a large mesh it
    /// begins a session where there is none, and waits for it.
    pub(crate) fn handle_message(
        &mut self,
        to: NodeId,
        kind: u8,
        body: &[u8],
        now: Now,
    ) -> Result<(), SendError> {
        if kind < FIRST_APPLICATION_KIND {
            return Err(SendError::ReservedKind(kind));
        }
        if body.len() > MAX_MESSAGE {
            return Err(SendError::TooLong {
                len: body.len(),
                limit: MAX_MESSAGE,
            });
        }
        self.catch_up(now);
        if !self.peers.get(&to).is_some_and(|peer| peer.connected) {
            if self.say_early(to, kind, body, now) {
                return Ok(());
            }
            self.drop_one("not connected");
            return Err(SendError::NotConnected(to));
        }
        self.say(to, kind, body, now);
        Ok(())
    }

    /// Carries one datagram of the stream layer to a connected peer, or drops it.
    pub(crate) fn handle_stream_packet(&mut self, to: Ipv6Addr, bytes: &[u8], now: Now) {
        self.catch_up(now);
        let peer = self.table.by_address(to);
        let connected = peer.filter(|id| self.peers.get(id).is_some_and(|peer| peer.connected));
        match connected {
            Some(id) if bytes.len() <= MAX_STREAM_PACKET => {
                self.used(id, now);
                let packet = packet::build(self.address, to, STREAM_PORT, bytes);
                self.seal_and_send(id, packet, now);
            }
            Some(_) => self.drop_one("oversize stream packet"),
            None => self.drop_one("not connected"),
        }
    }

    /// Takes a statement from this node's owner: stored first, then told to every live peer.
    pub(crate) fn handle_publish(&mut self, statement: Statement, now: Now) -> Result<(), Refusal> {
        self.take_statements(vec![statement], now).1
    }

    /// Drops every datagram, both ways, while on.
    pub(crate) fn handle_isolate(&mut self, on: bool) {
        self.isolated = on;
    }

    /// Says goodbye to every live peer. The shell sends what is polled and stops.
    pub(crate) fn handle_shutdown(&mut self, now: Now) {
        self.say_farewell(now);
        let live: Vec<NodeId> = self.met().collect();
        for id in live {
            self.say(id, kind::GOODBYE, &[], now);
        }
        self.flush_payloads(now);
    }

    /// The next datagram to send. `None` too while `poll_journal` would give something that was
    /// said here.
    pub(crate) fn poll_transmit(&mut self, now: Now) -> Option<Transmit> {
        self.conclude(now);
        if self.owes_write {
            return None;
        }
        self.flush_payloads(now);
        if self.isolated {
            for _ in 0..self.outgoing.len() {
                self.drop_one("isolated");
            }
            self.outgoing.clear();
        }
        let transmit = self.outgoing.pop_front()?;
        self.counters.tx_datagrams += 1;
        self.counters.tx_bytes += transmit.bytes.len() as u64;
        Some(transmit)
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// Whether `poll_journal` would give something that was said here: it must be durable before
    /// anything is polled that leaves.
    pub(crate) fn owes_write(&self) -> bool {
        self.owes_write
    }

    /// Statements to keep.
    pub(crate) fn poll_journal(&mut self) -> Vec<Statement> {
        self.owes_write = false;
        std::mem::take(&mut self.journal)
    }

    /// When `handle_timeout` is due, and why.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let awake = self.wide.awake.iter();
        let awake = awake.filter_map(|id| self.peers.get(id));
        let dial = awake
            .clone()
            .filter(|peer| peer.dial.at() < self.next_tick)
            .filter(|peer| peer.key.is_some() && peer.bond.may_dial())
            .filter(|peer| !peer.is_live() || peer.dial.is_wanted())
            .filter(|_peer| self.silent_from.is_none_or(|from| self.next_tick < from))
            .map(|peer| (peer.dial.at(), "dial"));
        let renewals = awake.filter_map(|peer| peer.renewal.as_ref());
        dial.chain(renewals.map(|(at, _)| (*at, "renewal")))
            .filter(|(at, _)| *at < self.next_tick)
            .min()
            .or(Some((self.next_tick, "tick")))
    }

    /// Queues an event; what may be lost is dropped when nobody fetches.
    fn emit(&mut self, event: NodeEvent) {
        let lossy = matches!(
            event,
            NodeEvent::Message { .. } | NodeEvent::StreamPacket { .. } | NodeEvent::Pong { .. }
        );
        if lossy && self.events.len() >= MOST_EVENTS {
            self.drop_one("event queue full");
            return;
        }
        self.events.push_back(event);
    }

    /// Counts something the shell had to drop.
    pub(crate) fn count_drop(&mut self, reason: &'static str) {
        self.drop_one(reason);
    }

    /// Counts more stream connections than are kept, which the shell sees.
    pub(crate) fn blame_connections(&mut self, peer: NodeId, now: Now) {
        self.blame(peer, Offence::Connections, now);
    }

    /// Names whoever is at fault. This node itself never is: what is said in its name by others is
    /// theirs, and a disk from yesterday is no lie.
    fn blame(&mut self, culprit: NodeId, what: Offence, now: Now) {
        if culprit != self.me {
            tracing::debug!(peer = %culprit.short(), what = what.as_str(), "refused");
            self.reckoning.note(culprit, what, now.wall_ms());
        }
    }

    /// Whether a peer's budget allows something; nobody has no budget.
    fn grants(&mut self, peer: NodeId, take: impl FnOnce(&mut Quota) -> bool) -> bool {
        self.peers
            .get_mut(&peer)
            .is_some_and(|peer| take(&mut peer.quota))
    }

    fn drop_one(&mut self, reason: &'static str) {
        tracing::trace!(reason, "dropped");
        *self.counters.dropped.entry(reason).or_default() += 1;
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("me", &self.me)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}
