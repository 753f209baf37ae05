//! What time alone brings about: session timers, redial, signs of life, comparisons.

use std::time::{Duration, Instant};

use super::{Node, NodeEvent, TICK};
use crate::id::NodeId;
use crate::path::dial;
use crate::peer::Peer;
use crate::snapshot::PeerState;
use crate::spread::liveness::Pace;
use crate::time::Now;
use crate::tunnel::session::{Session, Tick};
use crate::wire::message::{self, Ping, kind};

impl Node {
    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let late = self.is_late(now);
        if late || now.mono >= self.next_second {
            self.next_second = now.mono + Duration::from_secs(1);
            self.limiter.begin_second(now.mono);
            self.expire_guests(now);
            self.expire_halves(now);
            self.follow_network(now);
            self.keep_wide(late, now);
            self.fall_silent_if_due(now);
            self.forget_previous_if_due(now);
        }
        let ticks = late || now.mono >= self.next_tick;
        if ticks {
            self.next_tick = now.mono + TICK;
            self.ticked = now.boot;
            self.watch_clocks(now);
        }
        let ids: Vec<NodeId> = self.wide.awake.iter().copied().collect();
        for id in ids {
            if ticks {
                self.tick_session(id, now);
                self.tick_beside(id, now);
                self.tick_talk(id, now);
                self.probe_ways(id, now);
            }
            self.renew_if_due(id, now);
            self.dial_if_due(id, now);
            self.knock_through_relays(id, now);
        }
    }

    fn tick_session(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let live = peer.is_live() && !peer.bond.resting;
        let tick = peer.session.as_mut().map_or(Tick::Idle, Session::tick);
        match (tick, peer.route.way()) {
            (Tick::Keepalive(bytes), Some(way)) if live => {
                peer.traffic.tx_bytes += bytes.len() as u64;
                self.dispatch(id, way, bytes, now);
            }
            // Sessions that began together would all be renewed in one moment.
            (Tick::Initiation(bytes), Some(_)) if live => {
                peer.renewal = Some((now.mono + dial::jitter(&mut self.random), bytes));
            }
            // Without a live session the own redial decides when and where; what boringtun would
            // repeat each 5 s for 90 s is left out.
            _ => {}
        }
    }

    /// Sends the initiation that renews a live session, once its jitter is over.
    fn renew_if_due(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let due = |(at, _): &mut (Instant, Vec<u8>)| now.mono >= *at;
        let renewal = peer.renewal.take_if(due);
        if let (Some((_, bytes)), Some(way)) = (renewal, peer.route.way()) {
            peer.traffic.tx_bytes += bytes.len() as u64;
            self.dispatch(id, way, bytes, now);
        }
    }

    fn tick_talk(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.is_met() && peer.liveness.state(now.mono) == PeerState::Down {
            tracing::info!(peer = %id.short(), "no longer heard");
            let lost = peer.connected;
            peer.disconnect();
            if lost {
                self.emit(NodeEvent::Disconnected(id));
            }
        }
        let close = || Pace::close(true);
        let pace = self
            .peers
            .get(&id)
            .map_or_else(close, |peer| self.pace(peer));
        let ours = self.roots();
        let is_up = |peer: &&mut Peer| peer.is_live() && !peer.bond.resting;
        let Some(peer) = self.peers.get_mut(&id).filter(is_up) else {
            return;
        };
        if peer.greeting.take_due(now.mono) {
            self.greet(id, now);
            return self.flush_payload(id, now);
        }
        let compares = peer.is_met() && peer.sync.take_compare_due(&ours, now.mono);
        if let Some(number) = peer.liveness.ask(pace, compares, now) {
            self.say(id, kind::PING, &message::encode(&Ping { number }), now);
        }
        if compares {
            self.tell_root(id, now);
        }
        self.connect_if_agreed(id, now);
        if self.peers.get(&id).is_some_and(Peer::is_met) {
            self.summarise_if_due(id, now);
            self.give_sign_of_life(id, pace, now);
        }
    }

    /// Sends a peer nothing, in its session, if it has heard nothing else for a while.
    fn give_sign_of_life(&mut self, id: NodeId, pace: Pace, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_silent = peer.payload.is_empty() && pace.is_give_due(peer.said, now.mono);
        if is_silent && peer.route.way().is_some() {
            self.seal_whole(id, Vec::new(), now);
        }
    }

    fn dial_if_due(&mut self, id: NodeId, now: Now) {
        if self.is_silent(now) {
            return;
        }
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let silent = peer
            .liveness
            .silence(now.mono)
            .is_none_or(|silence| silence > self.dial_after());
        // Whoever was replaced is most likely gone for good. Should it come back, it dials, and hands over what it has.
        let may = peer.key.is_some() && peer.bond.may_dial() && !self.state.is_replaced(&id);
        let restless = silent || peer.dial.is_wanted() || peer.tunnels.is_moving();
        let wanted = may && (!peer.is_live() || restless);
        if wanted && now.mono >= peer.dial.at() {
            self.initiate(id, None, now);
            self.follow_with_relays(id, now);
        }
    }

    /// Makes every peer and candidate due at once, within the spread, heard or not.
    pub(super) fn redial_everyone(&mut self, now: Now) {
        for peer in self.peers.values_mut() {
            peer.candidates.reset();
            peer.calls.reset();
            peer.dial.reset(now.mono, &mut self.random);
            peer.probes.hurry();
        }
    }
}
