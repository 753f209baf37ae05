//! What time alone brings about: session timers, redial, signs of life, comparisons.

use std::time::Duration;

use super::{Node, NodeEvent, TICK};
use crate::id::NodeId;
use crate::snapshot::PeerState;
use crate::spread::sync;
use crate::time::Now;
use crate::tunnel::session::{Session, Tick};
use crate::wire::message::{self, Ping, kind};

/// A connected peer silent for so long is dialled besides being asked.
const DIAL_AFTER: Duration = Duration::from_secs(5);

/// Two clocks that part by more than this have stepped or slept.
const CLOCK_STEP: Duration = Duration::from_secs(2);

impl Node {
    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if now.mono >= self.next_second {
            self.next_second = now.mono + Duration::from_secs(1);
            self.limiter.begin_second(now.mono);
            self.watch_clocks(now);
            self.expire_guests(now);
        }
        let ticks = now.mono >= self.next_tick;
        if ticks {
            self.next_tick = now.mono + TICK;
        }
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in ids {
            if ticks {
                self.tick_session(id);
                self.tick_talk(id, now);
            }
            self.dial_if_due(id, now);
        }
    }

    fn tick_session(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let live = peer.is_live();
        let tick = peer.session.as_mut().map_or(Tick::Idle, Session::tick);
        match (tick, peer.endpoint) {
            (Tick::Initiation(bytes) | Tick::Keepalive(bytes), Some(to)) if live => {
                peer.traffic.tx_bytes += bytes.len() as u64;
                self.transmit(to, bytes);
            }
            // Without a live session the own redial decides when and where; what boringtun would
            // repeat each 5 s for 90 s is left out.
            _ => {}
        }
    }

    fn tick_talk(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.connected && peer.liveness.state(now.mono) == PeerState::Down {
            tracing::info!(peer = %id.short(), "no longer heard");
            peer.disconnect();
            self.emit(NodeEvent::Disconnected(id));
        }
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_live()) else {
            return;
        };
        if peer.greeting.take_due(now.mono) {
            self.greet(id, now);
            return self.flush_payload(id, now);
        }
        if let Some(number) = peer.liveness.ask(now) {
            self.say(id, kind::PING, &message::encode(&Ping { number }), now);
        }
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.connected) else {
            return;
        };
        if peer.sync.take_compare_due(now.mono) {
            let summary = sync::root_only(self.root);
            self.say(id, kind::SUMMARY, &message::encode(&summary), now);
        }
        self.summarise_if_due(id, now);
    }

    fn dial_if_due(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let silent = peer
            .liveness
            .silence(now.mono)
            .is_none_or(|silence| silence > DIAL_AFTER);
        let wanted = peer.key.is_some() && (!peer.is_live() || silent);
        if wanted && now.mono >= peer.dial.at() {
            self.initiate(id, None, now);
        }
    }

    /// After a sleep, or when the wall clock stepped, silence means nothing: everybody is dialled
    /// anew, and sessions that are not live take their stamps from the new clock.
    fn watch_clocks(&mut self, now: Now) {
        let mono = now.mono.saturating_duration_since(self.clocks.mono);
        let boot = now.boot.saturating_sub(self.clocks.boot);
        let wall_us = now.wall_us.saturating_sub(self.clocks.wall_us);
        self.clocks = now;
        let slept = boot.saturating_sub(mono) > CLOCK_STEP;
        let boot_us = i64::try_from(boot.as_micros()).unwrap_or(i64::MAX);
        let stepped = wall_us.abs_diff(boot_us) > CLOCK_STEP.as_micros() as u64;
        if !slept && !stepped {
            return;
        }
        tracing::info!(slept, stepped, "clock jumped, dialling everybody");
        let idle: Vec<NodeId> = self
            .peers
            .values()
            .filter(|peer| !peer.is_live())
            .map(|peer| peer.id)
            .collect();
        for id in idle {
            self.drop_session(id);
        }
        self.redial_everyone(now);
    }

    /// Makes every peer and candidate due at once, within the spread.
    pub(super) fn redial_everyone(&mut self, now: Now) {
        for peer in self.peers.values_mut() {
            peer.candidates.reset();
            peer.dial.reset(now.mono, &mut self.random);
        }
    }
}
