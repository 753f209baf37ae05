//! Waking who sleeps for the sake of a relay, in a mesh too large for a session with everybody.
//!
//! A relay wakes whom it is asked for, and says that there is no way only if that one doesn't come; who asks wakes the relays
//! that most likely lead there; a member that others can't begin a session with keeps one with its landmarks.
//! Bounds: who asks has members woken by its budget of introductions; none is woken for others above `MOST_FOR_OTHERS`, nor
//! twice within `ROUSE_AGAIN`; `MOST_HELD` handshakes wait for each. What is refused or dropped is counted.
//! Absent: handing on (`relay`), who is kept awake else (`wide`).

use std::time::Duration;

use super::Node;
use super::wide::MOST_AWAKE;
use crate::id::NodeId;
use crate::path::landmarks;
use crate::spread::lives::Belief::{Down, Left};
use crate::time::Now;
use crate::trust::Member;

/// How long a relay waits for a member that it wakes, before it says that there is no way there.
const ROUSING: Duration = Duration::from_secs(3);

/// A member that didn't wake is left asleep for so long.
const ROUSE_AGAIN: Duration = Duration::from_secs(60);

/// Members awake at a relay above which none is woken for others: as many are left for what it wants itself.
const MOST_FOR_OTHERS: usize = MOST_AWAKE / 2;

/// Handshakes that wait for one member to wake; a further one is dropped, and comes again.
const MOST_HELD: usize = 4;

impl Node {
    /// Wakes a member that sleeps, for another that looks for it. True while it may be about to answer.
    pub(super) fn rouse(&mut self, asker: NodeId, to: NodeId, now: Now) -> bool {
        let is_gone = matches!(self.wide.lives.belief(to), Down | Left);
        let Some(peer) = self.peers.get(&to).filter(|_| self.wide.on && !is_gone) else {
            return false;
        };
        let within = |time| peer.bond.roused.is_some_and(|at| now.mono < at + time);
        if within(ROUSING) && !peer.connected {
            return true;
        }
        if within(ROUSE_AGAIN) || peer.connected {
            return false;
        }
        if self.wide.awake.len() >= MOST_FOR_OTHERS {
            self.drop_one("relay: too many awake");
            return false;
        }
        // As many as it may introduce itself to.
        let affords = self.grants(asker, |quota| quota.introductions.take(1.0, now.mono));
        if !affords || !self.handle_wake(to, now) {
            return false;
        }
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.bond.roused = Some(now.mono);
        }
        true
    }

    /// Keeps a handshake for a member that is being woken.
    pub(super) fn hold(&mut self, from: NodeId, to: NodeId, datagram: &[u8], now: Now) {
        self.used(from, now);
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let is_initiation = datagram.first() == Some(&1);
        if !is_initiation || peer.bond.held.len() >= MOST_HELD {
            return self.drop_one("relay: not awake yet");
        }
        peer.bond.held.push((from, datagram.to_vec()));
    }

    /// Hands on what waited for this member to wake.
    pub(super) fn hand_over_held(&mut self, to: NodeId, now: Now) {
        let peer = self.peers.get_mut(&to);
        let held = peer.map(|peer| std::mem::take(&mut peer.bond.held));
        if held.as_ref().is_some_and(|held| !held.is_empty()) {
            // It takes nothing from a relay before it has heard its greeting.
            self.flush_payload(to, now);
        }
        for (from, datagram) in held.into_iter().flatten() {
            self.hand_over(from, to, &datagram, now);
        }
    }

    /// The members most likely to lead there. In a large mesh those among them that sleep are woken, and asked once they
    /// have.
    pub(super) fn wake_likely(&mut self, to: NodeId, now: Now) -> Vec<NodeId> {
        let Some(peer) = self.peers.get(&to) else {
            return Vec::new();
        };
        let mut likely: Vec<NodeId> = peer.asking.led().into_iter().collect();
        if !self.wide.on {
            return likely;
        }
        likely.extend(self.landmarks(to));
        let refused = |id: &NodeId| *id == to || peer.asking.has_refused(*id);
        likely.retain(|id| !refused(id) && !self.is_metered(*id));
        for id in &likely {
            self.handle_wake(*id, now);
        }
        likely
    }

    /// Where a member is met that others can't begin a session with: two members that anybody reaches. None where these
    /// would have to keep too many sessions; then such a member is found by chance.
    pub(super) fn landmarks(&self, of: NodeId) -> Vec<NodeId> {
        let is_there = |id| !matches!(self.wide.lives.belief(id), Down | Left);
        let members = self.state.members.values();
        let open: Vec<NodeId> = members
            .filter(|member| is_open(member) && member.replaced_by.is_none())
            .filter(|member| is_there(member.id) && !self.is_metered(member.id))
            .map(|member| member.id)
            .collect();
        // Of what a landmark may have awake for others, at most half stays awake for good.
        let kept = self.state.members.len() * landmarks::LANDMARKS;
        if kept > open.len().saturating_mul(MOST_FOR_OTHERS / 2) {
            return Vec::new();
        }
        landmarks::chosen(of, open.into_iter())
    }

    /// The landmarks of this node, if it needs some.
    pub(super) fn own_landmarks(&self) -> Vec<NodeId> {
        match self.state.members.get(&self.me) {
            Some(me) if !is_open(me) => self.landmarks(self.me),
            _ => Vec::new(),
        }
    }
}

/// Whether anybody can begin a session with this member.
fn is_open(member: &Member) -> bool {
    let info = member.info.as_ref();
    info.is_some_and(|info| landmarks::is_open(&info.endpoints))
}
