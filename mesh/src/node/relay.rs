//! Handing on what members can't send each other directly, and having it handed on.
//!
//! A datagram of the session between two members travels inside the tunnel that each of them has with the relay,
//! which can't open it. `hand_on` is the relay's part, `handed_on` the other end's, `send_through` the sender's.
//! Invariants: a relay hands on only between two members it has live direct sessions with, so a datagram is relayed
//! once; never if it is metered; never for strangers or those who are gone, who have no such session; never more
//! bytes than came, and within the shares of `path::relay`. Whom it is from is what the relay's own session says. What is handed
//! on is looked at as if it came from a socket, and moves nothing until it decrypts under that very peer's keys.
//! Absent: whom to ask (`path::relay`), when a way is better (`path::way`).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::Node;
use crate::allowance::Allowance;
use crate::id::NodeId;
use crate::path::way::Way;
use crate::peer::Peer;
use crate::quota::Quota;
use crate::reckoning::Offence;
use crate::time::Now;
use crate::trust::Setting;
use crate::tunnel::session::{Kind, Session, Verdict};
use crate::tunnel::table::Owner;
use crate::wire::message::kind;
use crate::wire::relay::{self, Relayed};
use crate::wire::{RELAY_PORT, RELAYED_PORT};

/// A peer dialled in vain for so long is looked for through relays too.
const NO_ANSWER: Duration = Duration::from_secs(1);

/// One with a session, which may merely have lost a datagram or two, once it is silent for so long.
const NO_DIRECT_WAY: Duration = Duration::from_secs(5);

/// In a large mesh signs of life are rarer: one lost doesn't end a way yet.
const NO_DIRECT_WAY_WIDE: Duration = Duration::from_secs(8);

/// A peer heard within this time by a direct way needs no relay.
const JUST_HEARD: Duration = Duration::from_secs(1);

impl Node {
    /// Sends a sealed datagram of a peer's session through a relay. The way is lost if that one is no way itself.
    pub(super) fn send_through(&mut self, by: NodeId, to: NodeId, datagram: &[u8], now: Now) {
        let ends = (self.peers.get(&by), self.peers.get(&to));
        let (Some(relay), Some(peer)) = ends else {
            return;
        };
        if !self.relays_for_us(relay, now) {
            self.drop_one("relay gone");
            return self.leave_way(to, by, now);
        }
        let other = peer.address;
        let relayed = Relayed { other, datagram };
        let packet = relay::build(self.address, relay.address, RELAY_PORT, relayed);
        self.used(by, now);
        self.seal_whole(by, packet, now);
    }

    /// A member asks to hand a datagram on.
    pub(crate) fn hand_on(&mut self, from: NodeId, way: Way, payload: &[u8], now: Now) {
        let Some(Relayed { other, datagram }) = relay::parse(payload) else {
            self.drop_one("relay: malformed");
            return self.blame(from, Offence::Malformed, now);
        };
        let to = self.table.by_address(other).filter(|to| *to != from);
        let refusal = if way.address().is_none() {
            Some("relay: second hop")
        } else if self.is_metered(self.me) {
            Some("relay: metered")
        } else if to.is_none_or(|to| !self.reaches(to, now) && !self.rouse(from, to, now)) {
            Some("relay: no way there")
        } else {
            None
        };
        let (None, Some(to)) = (refusal, to) else {
            self.drop_one(refusal.unwrap_or("relay: no way there"));
            return self.refuse_relaying(from, other, now);
        };
        if !self.reaches(to, now) {
            return self.hold(from, to, datagram, now);
        }
        self.hand_over(from, to, datagram, now);
    }

    /// Hands a datagram on, if the budget of who asks allows.
    pub(super) fn hand_over(&mut self, from: NodeId, to: NodeId, datagram: &[u8], now: Now) {
        let (all, peers) = (&mut self.carries, &mut self.peers);
        let share = peers.get_mut(&from).map(|peer| &mut peer.share);
        if !share.is_some_and(|share| share.take(all, datagram.len(), now.mono)) {
            return self.drop_one("relay: over budget");
        }
        let ends = (self.peers.get(&from), self.peers.get(&to));
        let (Some(asker), Some(peer)) = ends else {
            return;
        };
        let relayed = Relayed {
            other: asker.address,
            datagram,
        };
        let packet = relay::build(self.address, peer.address, RELAYED_PORT, relayed);
        self.counters.relayed_datagrams += 1;
        self.counters.relayed_bytes += datagram.len() as u64;
        // Neither session may rest while others talk through it.
        self.used(from, now);
        self.used(to, now);
        self.seal_whole(to, packet, now);
    }

    /// A member hands on a datagram of another. Neither can be blamed for the other's bytes.
    pub(crate) fn handed_on(&mut self, by: NodeId, way: Way, payload: &[u8], now: Now) {
        let Some(Relayed { other, datagram }) = relay::parse(payload) else {
            self.drop_one("relayed: malformed");
            return self.blame(by, Offence::Malformed, now);
        };
        if way.address().is_none() {
            return self.drop_one("relayed: second hop");
        }
        let Some(id) = self.table.by_address(other).filter(|id| *id != by) else {
            return self.drop_one("relayed: from a stranger");
        };
        let peers = &mut self.peers;
        // The asker's own part first: one that floods doesn't use up what all have through this relay.
        let mut pay = |id, takes: fn(&mut Quota) -> &mut Allowance| {
            let peer = peers.get_mut(&id);
            peer.is_some_and(|peer| takes(&mut peer.quota).take(1.0, now.mono))
        };
        let admit = |_proof| {
            pay(id, |own| &mut own.introduced) && pay(by, |relay| &mut relay.introductions)
        };
        match self.gate.inspect(IpAddr::V6(other), datagram, admit) {
            Verdict::Drop(reason) => self.drop_one(reason),
            // Its source is proved already; there are only too many.
            Verdict::Cookie(_) => self.drop_one("relayed: too many handshakes"),
            Verdict::Initiation(key) if self.table.by_key(key) == Some(id) => {
                self.initiation(id, Way::Relay(by), datagram, now);
            }
            Verdict::Initiation(_) => self.drop_one("relayed: in another's name"),
            Verdict::Session { index, kind } => match self.table.owner(index) {
                Some(Owner::Peer(owner)) if owner == id => {
                    self.open(id, Way::Relay(by), datagram, now);
                }
                Some(_) => self.drop_one("relayed: in another's name"),
                None => {
                    self.drop_one("unknown session");
                    if kind == Kind::Data {
                        self.revive(id, Way::Relay(by), now);
                    }
                }
            },
        }
    }

    /// A relay that was asked can't hand on to this address.
    pub(super) fn unrelayed(&mut self, by: NodeId, body: &[u8], now: Now) -> Option<()> {
        let other = Ipv6Addr::from(*body.first_chunk::<16>()?);
        let to = self.table.by_address(other).filter(|to| *to != by);
        if let Some(to) = to
            && let Some(peer) = self.peers.get_mut(&to)
        {
            peer.asking.refuse(by, now.mono);
            if peer.route.relay() == Some(by) {
                self.leave_way(to, by, now);
            }
        }
        Some(())
    }

    /// Lets an attempt through relays follow a direct one, where none has led there for a while.
    pub(super) fn follow_with_relays(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let quiet_since = peer.dial.quiet_since();
        let silence = now.mono.saturating_duration_since(quiet_since);
        let is_relayed = peer.route.relay().is_some();
        let is_lost = peer.is_live() && peer.route.way().is_none();
        // In a large mesh a pick that doesn't answer is soon left for another.
        let is_sought = !self.wide.on || peer.bond.is_used(now) || self.wide.wants(id);
        let is_unanswered = is_sought && (!peer.is_live() || peer.dial.is_unproved());
        if silence >= NO_DIRECT_WAY || is_relayed || is_lost {
            peer.asking.follow(now.mono, now.mono);
        } else if is_unanswered {
            peer.asking.follow(quiet_since + NO_ANSWER, now.mono);
        }
    }

    /// Begins a handshake through members that may lead there, if it is due and still needed.
    pub(super) fn knock_through_relays(&mut self, id: NodeId, now: Now) {
        if self.is_silent(now) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_due = peer.asking.take_due(now.mono) && peer.bond.may_dial();
        let is_direct = peer.is_live() && peer.route.address().is_some();
        if !is_due || is_direct && peer.liveness.heard_within(JUST_HEARD, now.mono) {
            return;
        }
        let relays = self.choose_relays(id, now);
        self.ensure_session(id, now);
        let Some(peer) = self.peers.get_mut(&id).filter(|_| !relays.is_empty()) else {
            return;
        };
        let dialled = peer.tunnels.dialled(&mut peer.session);
        let Some(initiation) = dialled.and_then(Session::initiate) else {
            return;
        };
        peer.renewal = None;
        peer.dial.knocked(now.mono);
        let ways = relays.iter().map(|relay| Way::Relay(*relay));
        peer.initiated_to.retain(|way| way.address().is_some());
        peer.initiated_to.extend(ways);
        tracing::trace!(peer = %id.short(), relays = relays.len(), "initiate through relays");
        for relay in relays {
            self.send_through(relay, id, &initiation, now);
        }
    }

    /// Whoever relayed through this member has to look for another way: it left, or is no member any more.
    pub(super) fn lose_relay(&mut self, relay: NodeId, now: Now) {
        let through = |peer: &&Peer| peer.route.relay() == Some(relay);
        let lost: Vec<NodeId> = self.peers.values().filter(through).map(|p| p.id).collect();
        for id in lost {
            self.leave_way(id, relay, now);
        }
    }

    /// A member has just connected: what it could not hand on before it may at this moment.
    pub(super) fn may_relay_again(&mut self, relay: NodeId, now: Now) {
        for peer in self.peers.values_mut() {
            peer.asking.forgive(relay, now.mono);
        }
    }

    /// The members that would hand on for us, the nearest first.
    pub(super) fn relays(&self, now: Now) -> Vec<NodeId> {
        let willing = self
            .peers
            .values()
            .filter(|peer| self.relays_for_us(peer, now));
        let mut willing: Vec<_> = willing
            .map(|peer| (peer.liveness.rtt().unwrap_or(Duration::MAX), peer.id))
            .collect();
        willing.sort();
        willing.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether this member pays for each byte: nothing is handed on by it.
    pub(super) fn is_metered(&self, id: NodeId) -> bool {
        self.state.settings.is_on(&id, Setting::Metered)
    }

    fn choose_relays(&mut self, to: NodeId, now: Now) -> Vec<NodeId> {
        let likely = self.wake_likely(to, now);
        let relays = self.relays(now);
        let others = relays.into_iter().filter(|id| *id != to);
        let others: Vec<_> = others
            .map(|id| (id, self.peers.get(&id).and_then(|peer| peer.liveness.rtt())))
            .collect();
        let Some(peer) = self.peers.get_mut(&to) else {
            return Vec::new();
        };
        peer.asking
            .choose(others.into_iter(), &likely, now.mono, &mut self.random)
    }

    /// Whether this member would hand on what we send it.
    fn relays_for_us(&self, peer: &Peer, now: Now) -> bool {
        self.leads_to(peer, now) && !self.is_metered(peer.id) && !self.state.is_replaced(&peer.id)
    }

    fn reaches(&self, id: NodeId, now: Now) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| self.leads_to(peer, now))
    }

    /// Whether there is a session that works with this member, and nobody between.
    fn leads_to(&self, peer: &Peer, now: Now) -> bool {
        let is_direct = peer.connected && peer.route.address().is_some();
        let within = if self.wide.on {
            NO_DIRECT_WAY_WIDE
        } else {
            NO_DIRECT_WAY
        };
        is_direct && peer.is_live() && peer.liveness.heard_within(within, now.mono)
    }

    /// Says that there is no way there, to who asked: a datagram shorter than the one that brought the question.
    fn refuse_relaying(&mut self, asker: NodeId, other: Ipv6Addr, now: Now) {
        if self.grants(asker, |quota| quota.refusals.take(1.0, now.mono)) {
            self.say(asker, kind::UNRELAYED, &other.octets(), now);
        }
    }

    /// Gives up the way through a relay, and looks for another at once.
    fn leave_way(&mut self, id: NodeId, relay: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.route.relay() == Some(relay) {
            peer.route.lose();
            peer.dial.insist(now.mono, &mut self.random);
        }
    }
}
