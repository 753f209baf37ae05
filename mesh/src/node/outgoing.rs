//! The way out: frames gather in a payload, payloads become packets, packets are sealed and wait
//! for the socket.
//!
//! Frames said together leave in one datagram. Bounds: `MOST_OUTGOING` datagrams ready to leave,
//! and what a peer keeps without a session (`Peer::wait`). Absent: what is said, and to whom
//! answers go.

use std::net::SocketAddr;
use std::time::Duration;

use super::{MOST_OUTGOING, Node, Transmit};
use crate::id::NodeId;
use crate::path::way::Way;
use crate::peer::Peer;
use crate::time::Now;
use crate::wire::message::kind;
use crate::wire::{MESSAGE_PORT, NARROW_PACKET, NARROW_RELAYED, WIRE_OLDEST, frame, packet};

impl Node {
    /// Queues a frame for a peer with a session; a full payload leaves first.
    pub(super) fn say(&mut self, to: NodeId, kind: u8, body: &[u8], now: Now) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        self.filled.insert(to);
        // The greeting finds out which version both read, and is read in any.
        let agreed = peer.greeting.version.filter(|_| kind != kind::HELLO);
        let version = agreed.unwrap_or(WIRE_OLDEST);
        if frame::push_as(version, &mut peer.payload, kind, body) {
            return;
        }
        self.flush_payload(to, now);
        let pushed = self
            .peers
            .get_mut(&to)
            .is_some_and(|peer| frame::push_as(version, &mut peer.payload, kind, body));
        self.filled.insert(to);
        if !pushed {
            self.drop_one("oversize frame");
        }
    }

    pub(super) fn flush_payloads(&mut self, now: Now) {
        let filled = std::mem::take(&mut self.filled);
        for id in filled {
            self.flush_payload(id, now);
        }
    }

    pub(super) fn flush_payload(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self
            .peers
            .get_mut(&id)
            .filter(|peer| !peer.payload.is_empty())
        else {
            return;
        };
        let payload = std::mem::take(&mut peer.payload);
        let packet = packet::build(self.address, peer.address, MESSAGE_PORT, &payload);
        self.seal_and_send(id, packet, now);
    }

    /// Sends an inner packet, in halves where the path is too narrow for it.
    pub(super) fn seal_and_send(&mut self, id: NodeId, packet: Vec<u8>, now: Now) {
        let is_relayed = |peer: &Peer| peer.route.relay().is_some();
        let narrow = match self.peers.get(&id).is_some_and(is_relayed) {
            true => NARROW_RELAYED,
            false => NARROW_PACKET,
        };
        if packet.len() > narrow {
            self.send_long(id, packet, now);
        } else {
            self.seal_whole(id, packet, now);
        }
    }

    /// Seals an inner packet and queues it for the way in use; without a session it waits.
    pub(super) fn seal_whole(&mut self, id: NodeId, packet: Vec<u8>, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let sealed = peer
            .session
            .as_mut()
            .and_then(|session| session.seal(&packet));
        match (sealed, peer.route.way()) {
            (Some(bytes), Some(way)) => {
                peer.traffic.tx_bytes += bytes.len() as u64;
                peer.said = Some(now.mono);
                self.dispatch(id, way, bytes, now);
            }
            _ => {
                peer.dial.hurry(Duration::ZERO, now.mono, &mut self.random);
                if peer.wait(packet) {
                    self.drop_one("waiting queue full");
                }
            }
        }
    }

    /// Sends what waited for a session.
    pub(super) fn send_waiting(&mut self, id: NodeId, now: Now) {
        let waiting = self.peers.get_mut(&id).map(Peer::take_waiting);
        for packet in waiting.into_iter().flatten() {
            self.seal_and_send(id, packet, now);
        }
    }

    /// Sends a sealed datagram of a peer's session this way.
    pub(super) fn dispatch(&mut self, id: NodeId, way: Way, bytes: Vec<u8>, now: Now) {
        match way {
            Way::Direct(to) => self.transmit(to, bytes),
            Way::Relay(relay) => self.send_through(relay, id, &bytes, now),
        }
    }

    /// Answers a datagram of a peer's handshake the way it came, which proves nothing yet.
    pub(super) fn answer_along(
        &mut self,
        id: NodeId,
        way: Way,
        brought: &[u8],
        bytes: Vec<u8>,
        now: Now,
    ) {
        match way {
            Way::Direct(to) => self.reply(to, brought, bytes),
            Way::Relay(_) if bytes.len() > brought.len() => {
                self.drop_one("answer longer than its cause");
            }
            Way::Relay(relay) => self.send_through(relay, id, &bytes, now),
        }
    }

    /// Answers a datagram whose source may be made up: never with more than it brought, so nobody
    /// is worth pointing at a victim.
    pub(super) fn reply(&mut self, to: SocketAddr, brought: &[u8], bytes: Vec<u8>) {
        if bytes.len() > brought.len() {
            return self.drop_one("answer longer than its cause");
        }
        self.transmit(to, bytes);
    }

    pub(super) fn transmit(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if self.outgoing.len() >= MOST_OUTGOING {
            self.drop_one("outgoing queue full");
            return;
        }
        self.nat.sends(to.ip());
        self.outgoing.push_back(Transmit { to, bytes });
    }
}
