//! What arrives from the network: from the gate to the session it belongs to.
//!
//! Invariant: an address is confirmed when data decrypted from there, under keys whose making
//! took an answer sent there or a member's own. Towards any other, what is sent because of a
//! datagram from there is one message and no longer: a cookie (64 bytes) or an answer (92) for an
//! initiation (148), or for one with an old stamp an initiation of ours (148) and no answer. What
//! we send to the addresses in members' signed statements is our own dialling, with its own
//! bounds (`path`); an accepted initiation may bring the next attempt forward, not aim it.

use std::net::SocketAddr;
use std::time::Duration;

use super::{MOST_BEFORE_COOKIE, Node, NodeEvent};
use crate::id::NodeId;
use crate::path;
use crate::path::candidates::MOST_OF_A_KIND;
use crate::path::lan;
use crate::path::way::{Change, Proof, Way};
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::time::Now;
use crate::tunnel::session::{Kind, Opened, Session, Verdict};
use crate::tunnel::table::Owner;
use crate::wire::{
    FRAGMENT_PORT, MESSAGE_PORT, RELAY_PORT, RELAYED_PORT, STREAM_PORT, WAY_PORT, packet,
};

/// An initiation of ours this fresh wins over one from where it went, if our id is the lower.
const CROSSING: Duration = Duration::from_millis(300);

/// A peer that lost its session is initiated to at most this often because of that.
const REVIVE_PAUSE: Duration = Duration::from_secs(5);

/// A session is rebuilt for a peer whose clock went back at most this often.
const REBUILD_PAUSE: Duration = Duration::from_secs(60);

/// How long after an accepted initiation an older one is merely a duplicate.
const DUPLICATE: Duration = Duration::from_secs(5);

/// How long an accepted initiation may stay unproved before we initiate ourselves.
const PROOF: Duration = Duration::from_millis(600);

impl Node {
    /// Takes one datagram from the socket. `from` decides nothing until its data is authentic.
    pub(crate) fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8], now: Now) {
        self.counters.rx_datagrams += 1;
        self.counters.rx_bytes += datagram.len() as u64;
        if self.isolated {
            return self.drop_one("isolated");
        }
        self.catch_up(now);
        let from = path::plain(from);
        let way = Way::Direct(from);
        let (limiter, table) = (&mut self.limiter, &self.table);
        let is_home = |host| table.is_home(host);
        let admit = |proof| limiter.admit(from.ip(), proof, is_home, now.mono);
        match self.gate.inspect(from.ip(), datagram, admit) {
            Verdict::Drop(reason) => self.drop_one(reason),
            Verdict::Cookie(cookie) => self.demand_cookie(from, datagram, cookie, now),
            Verdict::Initiation(key) => match self.table.by_key(key) {
                Some(id) => self.initiation(id, way, datagram, now),
                None => self.guest_initiation(from, key, datagram, now),
            },
            Verdict::Session { index, kind } => match self.table.owner(index) {
                Some(Owner::Peer(id)) => self.open(id, way, datagram, now),
                Some(Owner::Guest(number)) => self.open_guest(number, from, datagram, now),
                None => self.unknown_session(from, kind, now),
            },
        }
    }

    fn demand_cookie(&mut self, from: SocketAddr, datagram: &[u8], cookie: Vec<u8>, now: Now) {
        self.drop_one("under load");
        let is_home = self.table.is_home(from.ip());
        let has_room = self.outgoing.len() < MOST_BEFORE_COOKIE;
        if has_room && self.limiter.affords_cookie(is_home, now.mono) {
            self.reply(from, datagram, cookie);
        }
    }

    /// Somebody with this member's key, or who repeats what it sent, begins a handshake.
    pub(super) fn initiation(&mut self, id: NodeId, from: Way, datagram: &[u8], now: Now) {
        if self.me < id
            && self
                .peers
                .get_mut(&id)
                .is_some_and(|peer| crosses(peer, from, now))
        {
            return self.drop_one("crossing initiation");
        }
        self.ensure_session(id, now);
        self.open(id, from, datagram, now);
    }

    pub(super) fn open(&mut self, id: NodeId, from: Way, datagram: &[u8], now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let source = match from {
            Way::Direct(address) => address.ip(),
            Way::Relay(_) => peer.address.into(),
        };
        let opened = match peer.tunnels.open(&mut peer.session, source, datagram) {
            Some((index, opened)) if opened != Opened::Refused => Some((index, opened)),
            refused => self.open_in_another(id, source, datagram, now).or(refused),
        };
        let Some((index, opened)) = opened else {
            return;
        };
        if is_proof(&opened) {
            self.proved(id, index, now);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if matches!(
            opened,
            Opened::Established(_) | Opened::Inner { .. } | Opened::Keepalive { .. }
        ) {
            peer.traffic.rx_bytes += datagram.len() as u64;
        }
        match opened {
            Opened::Answer(answer) => {
                if let Way::Direct(at) = from {
                    self.nat.came(id, at, now.mono);
                }
                peer.accepted = Some(now.mono);
                // The peer renews the session itself.
                peer.renewal = None;
                if !peer.is_live() {
                    peer.bond.proving = Some(now.mono);
                    peer.dial.hurry(PROOF, now.mono, &mut self.random);
                }
                self.answer_along(id, from, datagram, answer, now);
            }
            Opened::Established(keepalive) => {
                self.answer_along(id, from, datagram, keepalive, now);
                self.heard(id, from, Proof::Handshake, now);
            }
            Opened::Inner { packet, fresh } => {
                let asks = packet::port(&packet) == Some(WAY_PORT);
                self.heard(id, from, proof(fresh, asks), now);
                self.inner(id, from, &packet, false, now);
            }
            Opened::Keepalive { fresh } => self.heard(id, from, proof(fresh, false), now),
            Opened::CookieStored => {
                peer.dial.hurry(Duration::ZERO, now.mono, &mut self.random);
            }
            Opened::NoSession => {
                self.drop_one("session gone");
                self.revive(id, from, now);
            }
            Opened::OldStamp => self.old_stamp(id, from, datagram, now),
            Opened::Refused => self.drop_one("not authentic"),
        }
    }

    /// Authenticated data came from there: the only thing that moves path and liveness.
    fn heard(&mut self, id: NodeId, from: Way, proof: Proof, now: Now) {
        let is_ours = self.me < id;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.liveness.heard(now);
        peer.dial.heard(now.mono);
        peer.crossed = false;
        let change = peer.route.heard(from, proof, is_ours, now);
        if change == Change::Moved {
            tracing::debug!(peer = %id.short(), way = ?from, ?proof, "goes another way");
            peer.moved();
        }
        if let Way::Direct(at) = from {
            self.nat.came(id, at, now.mono);
        }
        let fresh = proof == Proof::Handshake;
        // One datagram alone may be an old one, sent on from where the peer never was: enough to
        // answer there, not to remember the place and forget another.
        let sure = fresh || change == Change::Same;
        if let Some(at) = from.address().filter(|_| sure)
            && peer.candidates.worked(at)
        {
            self.endpoints_changed = true;
            self.settle(id, at);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if fresh {
            // What was tried in vain before says nothing about its next absence.
            peer.candidates.reset();
            peer.calls.reset();
            peer.dial.met();
            match from {
                Way::Direct(_) => peer.asking.settle(),
                Way::Relay(relay) => peer.asking.lead(relay),
            }
            peer.liveness.returned();
            peer.liveness.begin_session();
            peer.traffic.handshake_ms = Some(now.wall_ms());
            peer.greeting.begin(Some(now.mono));
            peer.bond.begin_session();
            self.counters.handshakes += 1;
        }
        let greets = !peer.liveness.has_left() && !peer.bond.resting;
        if greets && peer.greeting.take_due(now.mono) {
            self.greet(id, now);
            self.flush_payload(id, now);
        }
        if fresh {
            self.send_waiting(id, now);
        }
    }

    /// A decrypted packet, or one `joined` from halves: the source must be this very peer, the
    /// destination us.
    pub(super) fn inner(&mut self, id: NodeId, from: Way, bytes: &[u8], joined: bool, now: Now) {
        let Some(packet) = packet::parse(bytes) else {
            self.drop_one("inner packet malformed");
            return self.blame(id, Offence::Malformed, now);
        };
        let source = self.table.by_address(packet.source);
        if source != Some(id) {
            self.drop_one("inner source spoofed");
            if let Some(owner) = source.filter(|owner| self.give_key_back(id, *owner, now)) {
                return self.initiate_back(owner, from, now);
            }
            return self.blame(id, Offence::Spoofed, now);
        }
        if packet.destination != self.address {
            return self.drop_one("inner destination not us");
        }
        let connected = self.peers.get(&id).is_some_and(|peer| peer.connected);
        // Statements come before the connection, and may be long for a way through a relay.
        let met = self.peers.get(&id).is_some_and(Peer::is_met);
        match packet.destination_port {
            MESSAGE_PORT => self.frames(id, from, packet.payload, now),
            STREAM_PORT if connected => {
                if !self.grants(id, |quota| quota.packets.take(1.0, now.mono)) {
                    self.drop_one("stream packets too many");
                    return self.blame(id, Offence::StreamPackets, now);
                }
                self.used(id, now);
                let bytes = bytes::Bytes::copy_from_slice(packet.payload);
                self.emit(NodeEvent::StreamPacket {
                    from: packet.source,
                    bytes,
                });
            }
            FRAGMENT_PORT if joined => self.drop_one("fragment within a fragment"),
            FRAGMENT_PORT if met => self.half(id, from, packet.payload, now),
            RELAY_PORT | RELAYED_PORT | WAY_PORT if joined => {
                self.drop_one("fragment of what is never split");
            }
            RELAY_PORT if connected => self.hand_on(id, from, packet.payload, now),
            RELAYED_PORT if connected => self.handed_on(id, from, packet.payload, now),
            WAY_PORT if met => self.ask_or_answer(id, from, packet.payload, now),
            STREAM_PORT | FRAGMENT_PORT | RELAY_PORT | RELAYED_PORT | WAY_PORT => {
                self.drop_one("before the greeting");
            }
            _ => self.drop_one("inner port closed"),
        }
    }

    /// Notes where a member lives; forgets homes that were left, now and then.
    fn settle(&mut self, id: NodeId, home: SocketAddr) {
        self.table.settle(home, id);
        let peers = &self.peers;
        let limit = 2 * MOST_OF_A_KIND * peers.len();
        self.table.clear_homes(limit, |peer, home| {
            peers.get(&peer).is_some_and(|peer| peer.lives_at(home))
        });
    }

    /// Data for a session we do not know: if it comes from where a peer lives, we have restarted
    /// and the peer has not noticed.
    fn unknown_session(&mut self, from: SocketAddr, kind: Kind, now: Now) {
        self.drop_one("unknown session");
        if let (Kind::Data, Some(id)) = (kind, self.table.by_home(from)) {
            self.revive(id, Way::Direct(from), now);
        }
    }

    /// Initiates to a peer that still uses a session we have lost, where it lives. One that is
    /// heard uses a session we have, so somebody else borrows its address.
    pub(super) fn revive(&mut self, id: NodeId, from: Way, now: Now) {
        let lives_there = |peer: &Peer| {
            let is_known = from.address().is_none_or(|address| peer.lives_at(address));
            is_known && !peer.is_heard(now.mono)
        };
        if self.peers.get(&id).is_some_and(lives_there) {
            self.initiate_back(id, from, now);
        }
    }

    /// Sends one initiation to where a datagram of the peer seems to have come from.
    fn initiate_back(&mut self, id: NodeId, from: Way, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let rested = peer
            .revived
            .is_none_or(|revived| now.mono >= revived + REVIVE_PAUSE);
        if rested {
            peer.revived = Some(now.mono);
            self.initiate(id, Some(from), now);
        }
    }

    /// A true initiation with a stamp we have passed: a duplicate, a replay, or a clock that went
    /// back. Where no session is live the stamp may be forgotten, once a minute; otherwise ours,
    /// which is as long, is what its sender can answer.
    fn old_stamp(&mut self, id: NodeId, from: Way, datagram: &[u8], now: Now) {
        self.drop_one("old stamp");
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let duplicate = peer
            .accepted
            .is_some_and(|accepted| now.mono < accepted + DUPLICATE);
        if peer.is_heard(now.mono) || duplicate {
            return;
        }
        let rested = peer
            .rebuilt
            .is_none_or(|rebuilt| now.mono >= rebuilt + REBUILD_PAUSE);
        if peer.is_live() || !rested {
            return self.initiate_back(id, from, now);
        }
        peer.rebuilt = Some(now.mono);
        self.drop_session(id);
        self.ensure_session(id, now);
        self.open(id, from, datagram, now);
    }

    /// Makes the peer's session if it has a key and none; not while the clock reads before 1970,
    /// which boringtun cannot express.
    pub(super) fn ensure_session(&mut self, id: NodeId, now: Now) {
        if now.wall_us < 0 {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if let (None, Some(key)) = (&peer.session, peer.key) {
            let index = self.table.allocate(Owner::Peer(id), &mut self.random);
            peer.session = Some(Session::new(&self.secret, key, index));
            self.wide.awake.insert(id);
        }
    }

    /// Drops the peer's session and frees its index.
    pub(super) fn drop_session(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.renewal = None;
        for session in peer
            .session
            .take()
            .into_iter()
            .chain(peer.tunnels.take_all())
        {
            self.table.free(session.index());
        }
    }

    /// Sends an initiation one way, or to every candidate that is due. One that goes one way
    /// neither replaces nor puts off the regular attempts, or whoever repeats an old datagram
    /// could keep us from dialling where the peer is.
    pub(super) fn initiate(&mut self, id: NodeId, only: Option<Way>, now: Now) {
        if self.is_silent(now) {
            return;
        }
        self.ensure_session(id, now);
        self.take_turns(id, now);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let targets = if let Some(way) = only {
            peer.dial.knocked(now.mono);
            vec![way]
        } else {
            peer.dial.attempted(now.mono, &mut self.random);
            let mut targets = peer.candidates.attempt(now.mono);
            let (candidates, quota) = (&peer.candidates, &mut peer.quota);
            // Its owner may have published somebody else's addresses.
            targets.retain(|address| {
                let known = candidates.worked_addresses().any(|known| known == *address);
                known || quota.dials.take(1.0, now.mono)
            });
            targets.into_iter().map(Way::Direct).collect()
        };
        peer.initiated_to.clone_from(&targets);
        peer.renewal = None;
        let groups = match only {
            Some(_) => Vec::new(),
            None => self.call(id, now),
        };
        if targets.is_empty() && groups.is_empty() {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let dialled = peer.tunnels.dialled(&mut peer.session);
        let Some(initiation) = dialled.and_then(Session::initiate) else {
            return;
        };
        tracing::trace!(peer = %id.short(), candidates = targets.len(), "initiate");
        for way in targets
            .into_iter()
            .chain(groups.into_iter().map(Way::Direct))
        {
            self.dispatch(id, way, initiation.clone(), now);
        }
    }

    /// The groups in which a member that isn't heard is called on the own link, if that is due.
    fn call(&mut self, id: NodeId, now: Now) -> Vec<SocketAddr> {
        let (Some(budget), Some(peer)) = (&mut self.calls, self.peers.get_mut(&id)) else {
            return Vec::new();
        };
        if peer.is_heard(now.mono) || !peer.calls.is_due(now.mono) {
            return Vec::new();
        }
        if !budget.take(1.0, now.mono) {
            self.drop_one("calls on the link too many");
            return Vec::new();
        }
        peer.calls.called(now.mono);
        let info = self.state.members.get(&id).and_then(|m| m.info.as_ref());
        lan::groups(info.map_or(&[], |info| &info.endpoints))
    }

    pub(super) fn notice(&mut self, about: String, text: String) {
        /// Notices kept; further ones are dropped, the first tell enough.
        const MOST_NOTICES: usize = 32;
        if self.notices.len() < MOST_NOTICES || self.notices.contains_key(&about) {
            self.notices.insert(about, text);
        }
    }
}

/// Whether a tunnel is up by this.
fn is_proof(opened: &Opened) -> bool {
    match opened {
        Opened::Established(_) => true,
        Opened::Inner { fresh, .. } | Opened::Keepalive { fresh } => *fresh,
        _ => false,
    }
}

/// What decrypted data proves of the way it came.
fn proof(fresh: bool, asks: bool) -> Proof {
    match (fresh, asks) {
        (true, _) => Proof::Handshake,
        (false, true) => Proof::Probe,
        (false, false) => Proof::Data,
    }
}

/// Whether this initiation crosses ours, which the peer will answer; the first since it was heard,
/// for a peer that finds our stamps old cannot answer, and its own come when ours do.
fn crosses(peer: &mut Peer, from: Way, now: Now) -> bool {
    let last = peer.dial.last();
    let is_fresh = last.is_some_and(|last| now.mono < last + CROSSING);
    let crosses = !peer.is_live() && is_fresh && peer.initiated_to.contains(&from);
    crosses && !std::mem::replace(&mut peer.crossed, true)
}
