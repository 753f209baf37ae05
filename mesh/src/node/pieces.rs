//! Packets that are too long for the path: split on the way out, joined on the way in, and the
//! probes that say when that isn't needed.

use std::net::SocketAddr;

use rand::Rng;

use super::{Node, SendFailure};
use crate::id::NodeId;
use crate::path;
use crate::path::halves::Taken;
use crate::path::way::Way;
use crate::peer::Peer;
use crate::reckoning::Offence;
use crate::time::Now;
use crate::wire::message::kind;
use crate::wire::{FRAGMENT_PORT, MAX_STREAM_PACKET, MESSAGE_PORT, fragment, frame, packet};

impl Node {
    /// Sends an inner packet that only a wide path carries, whole or in two halves.
    pub(super) fn send_long(&mut self, id: NodeId, packet: Vec<u8>, now: Now) {
        self.probe_if_due(id, now);
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        // Without a session it waits whole: the path may be another by then.
        if peer.width.is_wide() || !peer.is_live() {
            return self.seal_whole(id, packet, now);
        }
        let to = peer.address;
        self.counters.split_packets += 1;
        for payload in fragment::split(self.random.random(), &packet) {
            let half = packet::build(self.address, to, FRAGMENT_PORT, &payload);
            self.seal_whole(id, half, now);
        }
    }

    /// Asks whether a datagram as long as any of ours arrives whole.
    fn probe_if_due(&mut self, id: NodeId, now: Now) {
        let number: u32 = self.random.random();
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_live()) else {
            return;
        };
        if !peer.width.take_probe_due(number, now.mono) {
            return;
        }
        let mut body = vec![0; MAX_STREAM_PACKET - frame::HEADER];
        body[..4].copy_from_slice(&number.to_be_bytes());
        let mut payload = Vec::with_capacity(MAX_STREAM_PACKET);
        frame::write(&mut payload, kind::PROBE, &body);
        let probe = packet::build(self.address, peer.address, MESSAGE_PORT, &payload);
        self.seal_whole(id, probe, now);
    }

    /// A probe arrived whole: its number goes back.
    pub(super) fn probe(&mut self, id: NodeId, body: &[u8], now: Now) -> Option<()> {
        let number = body.first_chunk::<4>()?;
        self.say(id, kind::PROBED, number, now);
        Some(())
    }

    /// The other side had our probe whole.
    pub(super) fn probed(&mut self, id: NodeId, body: &[u8]) -> Option<()> {
        let number = u32::from_be_bytes(*body.first_chunk::<4>()?);
        self.peers.get_mut(&id)?.width.answered(number);
        Some(())
    }

    /// The machine would not send a datagram there. Nothing but that datagram is lost; a path it
    /// is too long for is narrow, one that has no route is looked for anew.
    pub(crate) fn handle_send_failure(&mut self, to: SocketAddr, failure: SendFailure, now: Now) {
        self.drop_one(match failure {
            SendFailure::TooLong => "too long for the machine",
            SendFailure::NoRoute => "no route",
            SendFailure::Other => "send failed",
        });
        let to = path::plain(to);
        let at = |peer: &&mut Peer| peer.route.address() == Some(to);
        for peer in self.peers.values_mut().filter(at) {
            match failure {
                SendFailure::TooLong => peer.width.refused(),
                // Once it is silent the redial goes on by itself.
                SendFailure::NoRoute if peer.is_heard(now.mono) => {
                    peer.dial.insist(now.mono, &mut self.random);
                }
                SendFailure::NoRoute | SendFailure::Other => {}
            }
        }
    }

    /// Half of a packet; with the other half it is a packet like any other.
    pub(super) fn half(&mut self, id: NodeId, from: Way, payload: &[u8], now: Now) {
        let Some(half) = fragment::parse(payload) else {
            self.drop_one("fragment malformed");
            return self.blame(id, Offence::Malformed, now);
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Taken { whole, lost } = peer.halves.take(half, now.mono);
        self.lost_halves(lost);
        if let Some(packet) = whole {
            self.counters.joined_packets += 1;
            self.inner(id, from, &packet, true, now);
        }
    }

    /// Gives up halves whose other half did not come.
    pub(super) fn expire_halves(&mut self, now: Now) {
        let peers = self.peers.values_mut();
        let lost = peers.map(|peer| peer.halves.expire(now.mono)).sum();
        self.lost_halves(lost);
    }

    fn lost_halves(&mut self, count: u64) {
        if count > 0 {
            *self.counters.dropped.entry("fragment alone").or_default() += count;
        }
    }
}
