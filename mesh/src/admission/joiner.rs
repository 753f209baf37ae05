//! The joiner's side: knocks at every node the token names, asks one, takes everything it has.
//!
//! Pure: datagrams and time in; datagrams and at last an outcome out. Nothing is kept until the
//! whole set of statements is here, verified, and holds this node as a member, so a join that
//! fails leaves nothing half done, and the same node key may try again. Absent: sockets, files.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use x25519_dalek::StaticSecret;

use super::{JOINER, SPONSOR};
use crate::config::Identity;
use crate::error::JoinError;
use crate::id::NodeId;
use crate::node::Transmit;
use crate::node::members::STORE_FORMAT;
use crate::path;
use crate::spread::sync::Sync;
use crate::time::Now;
use crate::trust::{self, NodeInfo, Statement, Statements, Token};
use crate::tunnel::keys::TunnelPublic;
use crate::tunnel::session::{Gate, Opened, Session, Verdict};
use crate::wire::message::{self, Admitted, Summary, kind};
use crate::wire::{MESSAGE_PORT, WIRE_OLDEST, WIRE_VERSION, frame, packet};

/// How long the whole exchange may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Pause between two initiations to the same nodes.
const KNOCK_EVERY: Duration = Duration::from_secs(1);

/// Pause between two questions in an open tunnel.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Pause before asking again where an admin has to approve first.
const WAIT_AGAIN: Duration = Duration::from_secs(4);

/// A sponsor silent for so long is given up for the next one that opened its tunnel.
const PATIENCE: Duration = Duration::from_secs(5);

/// A joiner.
pub(crate) struct Joiner {
    gate: Gate,
    secret: StaticSecret,
    random: ChaCha8Rng,
    doors: Vec<Door>,
    statements: Statements,
    me: NodeId,
    request: Vec<u8>,
    asking: Option<Asking>,
    admitted: Option<[u8; 32]>,
    refused: bool,
    /// It is known here and waits for an admin's approval.
    waits: bool,
    /// What the last sponsor said of that, until it is fetched.
    told_to_wait: Option<String>,
    sync: Sync,
    outgoing: VecDeque<Transmit>,
    outcome: Option<Result<Vec<Statement>, JoinError>>,
    started: Instant,
    knock_at: Instant,
    ask_at: Instant,
}

/// A node the token names.
struct Door {
    key: TunnelPublic,
    session: Session,
    addresses: Vec<SocketAddr>,
    open_at: Option<SocketAddr>,
    tired: bool,
}

/// Whom we are asking, when it was last heard, and whether it said in this tunnel that we are in.
struct Asking {
    door: usize,
    heard: Instant,
    admits: bool,
}

impl Joiner {
    /// A joiner with this token, under this name.
    pub(crate) fn new(
        token: &Token,
        identity: &Identity,
        name: &str,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, JoinError> {
        if now.wall_us < 0 {
            return Err(JoinError::Clock);
        }
        let mut random = ChaCha8Rng::from_seed(seed);
        let secret = token.tunnel().secret();
        let mut doors = Vec::new();
        let mut index = random.random_range(0..1 << 23);
        for bootstrap in token.bootstraps() {
            let usable = bootstrap
                .addrs
                .iter()
                .copied()
                .filter(|at| path::is_usable(*at));
            let addresses: Vec<SocketAddr> = usable.collect();
            if !addresses.is_empty() {
                index += 1;
                let session = Session::new(&secret, bootstrap.tunnel, index);
                doors.push(Door {
                    key: bootstrap.tunnel,
                    session,
                    addresses,
                    open_at: None,
                    tired: false,
                });
            }
        }
        if doors.is_empty() {
            return Err(JoinError::NoAddress);
        }
        let mut statements = Statements::new(token.mesh());
        for statement in token.chain() {
            statements
                .insert(statement.clone())
                .map_err(|refusal| JoinError::Token(refusal.to_string()))?;
        }
        let join = trust::author_join(&identity.node, token, name)
            .map_err(|refusal| JoinError::Token(refusal.to_string()))?;
        let mut request = Vec::new();
        join.encode(&mut request);
        first_info(token, identity).encode(&mut request);
        Ok(Self {
            gate: Gate::new(&secret),
            secret,
            random,
            doors,
            statements,
            me: identity.node.id(),
            request,
            asking: None,
            admitted: None,
            refused: false,
            waits: false,
            told_to_wait: None,
            sync: Sync::default(),
            outgoing: VecDeque::new(),
            outcome: None,
            started: now.mono,
            knock_at: now.mono,
            ask_at: now.mono,
        })
    }

    /// Takes one datagram from the socket.
    pub(crate) fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8], now: Now) {
        let from = path::plain(from);
        let Verdict::Session { index, .. } = self.gate.inspect(from.ip(), datagram, |_proof| false)
        else {
            return;
        };
        let found = self
            .doors
            .iter()
            .position(|door| door.session.index() == index);
        let Some(number) = found else {
            return;
        };
        let door = &mut self.doors[number];
        match door.session.open(from.ip(), datagram) {
            Opened::Established(keepalive) => {
                tracing::info!(%from, "a member opened the joining tunnel");
                door.open_at = Some(from);
                self.outgoing.push_back(Transmit {
                    to: from,
                    bytes: keepalive,
                });
                if self.asking.is_none() {
                    self.ask(number, now);
                }
            }
            Opened::Inner { packet, .. } => {
                door.open_at = Some(from);
                self.inner(number, from, &packet, now);
            }
            Opened::CookieStored => self.knock_at = now.mono,
            _ => {}
        }
    }

    /// Knocks, asks and gives up when it is time to.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.outcome.is_some() {
            return;
        }
        let waited = now.mono.saturating_duration_since(self.started);
        if waited >= LIMIT && !self.waits {
            let tried = self
                .doors
                .iter()
                .flat_map(|door| door.addresses.clone())
                .collect();
            self.outcome = Some(Err(JoinError::NoAnswer { tried, waited }));
            return;
        }
        if now.mono >= self.knock_at && self.knocks() {
            self.knock_at = now.mono + KNOCK_EVERY;
            self.knock();
        }
        self.change_door(now);
        if now.mono >= self.ask_at {
            self.ask_at = now.mono + ASK_EVERY;
            self.say_what_is_due(now);
        }
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// When `handle_timeout` is due, and why.
    pub(crate) fn poll_timeout(&self) -> (Instant, &'static str) {
        if self.knock_at < self.ask_at && self.knocks() {
            (self.knock_at, "knock")
        } else {
            (self.ask_at, "ask")
        }
    }

    /// What a sponsor says where an admin has to approve first, each time it says so.
    pub(crate) fn poll_wait(&mut self) -> Option<String> {
        self.told_to_wait.take()
    }

    /// Whether tunnels are still wanted: before it is admitted, and when its sponsor fell silent.
    fn knocks(&self) -> bool {
        self.admitted.is_none() || self.asking.is_none()
    }

    /// How it ended, once it did.
    pub(crate) fn poll_outcome(&mut self) -> Option<Result<Vec<Statement>, JoinError>> {
        self.outcome.take()
    }

    fn knock(&mut self) {
        for door in self.doors.iter_mut().filter(|door| !door.session.is_live()) {
            let Some(initiation) = door.session.initiate() else {
                continue;
            };
            for to in &door.addresses {
                let bytes = initiation.clone();
                self.outgoing.push_back(Transmit { to: *to, bytes });
            }
        }
    }

    /// Gives up a sponsor that fell silent, for another whose tunnel is open.
    fn change_door(&mut self, now: Now) {
        let silent = self
            .asking
            .as_ref()
            .is_some_and(|asking| now.mono >= asking.heard + PATIENCE);
        if !silent {
            return;
        }
        if let Some(asking) = self.asking.take() {
            self.doors[asking.door].tired = true;
            self.close(asking.door);
        }
        let next = self
            .doors
            .iter()
            .position(|door| door.session.is_live() && !door.tired);
        match next {
            Some(door) => self.ask(door, now),
            None => self.doors.iter_mut().for_each(|door| door.tired = false),
        }
    }

    /// Forgets a tunnel, whose other end may be gone; the next knock makes another.
    fn close(&mut self, door: usize) {
        let taken: Vec<u32> = self.doors.iter().map(|door| door.session.index()).collect();
        let index = loop {
            let index = self.random.random_range(0..1 << 24);
            if !taken.contains(&index) {
                break index;
            }
        };
        let door = &mut self.doors[door];
        door.session = Session::new(&self.secret, door.key, index);
        door.open_at = None;
    }

    fn ask(&mut self, door: usize, now: Now) {
        self.asking = Some(Asking {
            door,
            heard: now.mono,
            admits: false,
        });
        self.ask_at = now.mono + ASK_EVERY;
        self.say_what_is_due(now);
    }

    fn say_what_is_due(&mut self, now: Now) {
        let Some(asking) = &self.asking else {
            let open = self.doors.iter().position(|door| door.session.is_live());
            if let Some(door) = open {
                self.asking = Some(Asking {
                    door,
                    heard: now.mono,
                    admits: false,
                });
                self.say(door, kind::JOIN, &self.request.clone());
            }
            return;
        };
        let door = asking.door;
        if !asking.admits {
            return self.say(door, kind::JOIN, &self.request.clone());
        }
        for summary in self.sync.summary(&self.statements) {
            self.say(door, kind::SUMMARY, &message::encode(&summary));
        }
    }

    fn say(&mut self, door: usize, kind: u8, body: &[u8]) {
        let door = &mut self.doors[door];
        let mut payload = Vec::new();
        frame::push(&mut payload, kind, body);
        let packet = packet::build(JOINER, SPONSOR, MESSAGE_PORT, &payload);
        if let (Some(to), Some(bytes)) = (door.open_at, door.session.seal(&packet)) {
            self.outgoing.push_back(Transmit { to, bytes });
        }
    }

    fn inner(&mut self, door: usize, from: SocketAddr, bytes: &[u8], now: Now) {
        let Some(packet) = packet::parse(bytes) else {
            return;
        };
        let ends = (packet.source, packet.destination, packet.destination_port);
        if ends != (SPONSOR, JOINER, MESSAGE_PORT) {
            return;
        }
        match &mut self.asking {
            Some(asking) if asking.door == door => asking.heard = now.mono,
            _ => return,
        }
        for frame in frame::frames(packet.payload).flatten() {
            match frame.kind {
                kind::ADMITTED => self.was_admitted(from, message::decode(frame.body), now),
                kind::REFUSED => self.was_refused(from, frame.body),
                kind::WAITING => return self.was_told_to_wait(frame.body, now),
                kind::STATEMENTS => self.take(from, message::unpack(frame.body)),
                kind::SUMMARY => self.compare(from, message::decode(frame.body), now),
                _ => {}
            }
        }
    }

    fn was_admitted(&mut self, from: SocketAddr, admitted: Option<Admitted>, now: Now) {
        let Some(Admitted { root }) = admitted else {
            return;
        };
        self.admitted = Some(root);
        let Some(asking) = &mut self.asking else {
            return;
        };
        if !std::mem::replace(&mut asking.admits, true) {
            tracing::info!(%from, "admitted, fetching the statements of the mesh");
            self.say_what_is_due(now);
        }
    }

    fn was_refused(&mut self, from: SocketAddr, body: &[u8]) {
        if self.admitted.is_none() && self.outcome.is_none() && !self.refused {
            self.refused = true;
            let reason = message::read_sentence(body);
            self.outcome = Some(Err(JoinError::Refused { by: from, reason }));
        }
    }

    /// An admin has to approve first: lets go of its place and comes back later.
    fn was_told_to_wait(&mut self, body: &[u8], now: Now) {
        if self.admitted.is_some() || self.outcome.is_some() {
            return;
        }
        self.waits = true;
        self.told_to_wait = Some(message::read_sentence(body));
        self.asking = None;
        for door in 0..self.doors.len() {
            self.say(door, kind::GOODBYE, &[]);
            self.close(door);
        }
        self.knock_at = now.mono + WAIT_AGAIN;
        self.ask_at = self.knock_at;
    }

    fn take(&mut self, from: SocketAddr, statements: Vec<Statement>) {
        if self.outcome.is_some() {
            return;
        }
        for statement in statements {
            if let Err(refusal) = self.statements.insert(statement) {
                let reason = refusal.to_string();
                self.outcome = Some(Err(JoinError::Unproven { by: from, reason }));
                return;
            }
        }
        self.finish_if_whole();
    }

    /// The sponsor told its root after answering: done if it is ours, ask on if it is not.
    fn compare(&mut self, _from: SocketAddr, theirs: Option<Summary>, now: Now) {
        if let (Some(summary), Some(_)) = (theirs, self.admitted) {
            self.admitted = Some(summary.root);
            self.finish_if_whole();
            if self.outcome.is_none() && self.ask_at > now.mono + ASK_EVERY / 5 {
                self.ask_at = now.mono + ASK_EVERY / 5;
            }
        }
    }

    fn finish_if_whole(&mut self) {
        let whole = self.admitted == Some(self.statements.root());
        if !whole || !self.statements.state().members.contains_key(&self.me) {
            return;
        }
        if let Some(asking) = &self.asking {
            self.say(asking.door, kind::GOODBYE, &[]);
        }
        self.outcome = Some(Ok(self.statements.iter().cloned().collect()));
    }
}

/// The joiner's first word about itself: its tunnel key, so that members can answer its first
/// initiation. Addresses follow when it starts.
fn first_info(token: &Token, identity: &Identity) -> Statement {
    let info = NodeInfo {
        incarnation: 1,
        seq: 1,
        tunnel: identity.tunnel.public(),
        tunnel_previous: None,
        endpoints: Vec::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        wire_min: WIRE_OLDEST,
        wire_max: WIRE_VERSION,
        store_format: STORE_FORMAT,
    };
    let body = message::encode(&info);
    Statement::sign(trust::kind::NODE_INFO, &token.mesh(), &identity.node, body)
}
