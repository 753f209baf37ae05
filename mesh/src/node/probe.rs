//! Trying other addresses of a peer inside its session, and answering its tries the way they came.
//!
//! A try is a PING on a port of its own: it and its answer move nothing on the side that is asked, so both sides may try
//! many addresses of each other while their data goes the way it went. Absent: which addresses, and what an answer is worth
//! (`path::probe`).

use rand::Rng;

use super::Node;
use crate::id::NodeId;
use crate::path::probe;
use crate::path::way::Way;
use crate::time::Now;
use crate::wire::message::{self, Ping, Pong, kind};
use crate::wire::{WAY_PORT, frame, packet};

impl Node {
    /// Tries the addresses whose turn it is.
    pub(super) fn probe_ways(&mut self, id: NodeId, now: Now) {
        let is_first = self.me < id;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let may = peer.is_met() && peer.is_live() && !peer.bond.resting;
        let Some(way) = peer.route.way().filter(|_| may) else {
            return;
        };
        let is_relayed = way.address().is_none();
        if !(is_relayed || is_first) || !peer.probes.take_round(is_relayed, now.mono) {
            return;
        }
        let mut targets = peer.probes.targets(&peer.candidates.addresses(), way);
        // Its owner may have published somebody else's addresses.
        let quota = &mut peer.quota;
        targets.retain(|_| quota.dials.take(1.0, now.mono));
        for at in targets {
            self.try_address(id, at, now);
        }
    }

    fn try_address(&mut self, id: NodeId, at: std::net::SocketAddr, now: Now) {
        let number: u32 = self.random.random();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.probes.asked(number, at, now.mono);
        let mut payload = Vec::new();
        let ping = message::encode(&Ping { number });
        frame::write(&mut payload, kind::PING, &ping);
        self.send_along(id, Way::Direct(at), &payload, now);
    }

    /// A peer tries a way, or answers a try of ours.
    pub(crate) fn ask_or_answer(&mut self, id: NodeId, from: Way, payload: &[u8], now: Now) {
        if !self.grants(id, |quota| quota.talk.take(1.0, now.mono)) {
            return self.drop_one("talks too much");
        }
        let read = match frame::frames(payload).next() {
            Some(Ok(frame)) if frame.kind == kind::PING => {
                message::decode(frame.body).map(|ping| self.tried(id, from, ping, now))
            }
            Some(Ok(frame)) if frame.kind == kind::PONG => {
                message::decode(frame.body).map(|pong| self.try_answered(id, from, &pong, now))
            }
            _ => None,
        };
        if read.is_none() {
            self.drop_one("frame malformed");
        }
    }

    /// Answers where the question came from; it is no proof that data should go there.
    fn tried(&mut self, id: NodeId, from: Way, ping: Ping, now: Now) {
        let pong = Pong {
            number: ping.number,
            received_us: now.wall_us,
            sent_us: now.wall_us,
            observed: from.observed(),
        };
        let mut payload = Vec::new();
        frame::write(&mut payload, kind::PONG, &message::encode(&pong));
        self.send_along(id, from, &payload, now);
    }

    /// An address of the peer's answers: it is gone there, if that is better than the way in use.
    fn try_answered(&mut self, id: NodeId, from: Way, pong: &Pong, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(at) = from.address() else {
            return;
        };
        let Some(took) = peer.probes.answered(pong.number, at, now.mono) else {
            return self.drop_one("answer nobody asked for");
        };
        let rtt = peer.liveness.rtt();
        let better = |way| probe::is_better(at, took, way, rtt);
        if peer.route.way().is_none_or(better) {
            tracing::info!(peer = %id.short(), at = %at, took = ?took, "better way found");
            peer.route.prove(from, now);
            peer.moved();
        }
        self.nat.note(id, pong.observed, now.mono);
    }

    /// Seals a payload of the try port and sends it this very way.
    fn send_along(&mut self, id: NodeId, way: Way, payload: &[u8], now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let packet = packet::build(self.address, peer.address, WAY_PORT, payload);
        let sealed = peer
            .session
            .as_mut()
            .and_then(|session| session.seal(&packet));
        if let Some(bytes) = sealed {
            peer.traffic.tx_bytes += bytes.len() as u64;
            self.dispatch(id, way, bytes, now);
        }
    }
}
