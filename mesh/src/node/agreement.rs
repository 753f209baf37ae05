//! Trust first: from a peer's greeting to the first word of the application.
//!
//! In: what either side says it holds. Out: `Connected`, once both hold the same statements about
//! who is a member, so that nobody takes a byte from somebody the other side knows to be evicted.
//! Bound: `PATIENCE`. Whoever never agrees is let through then, counted: it is a member by all we
//! know, and harms none but itself.
//! Absent: how the sets are compared (`statements`, `spread::sync`).

use std::time::Duration;

use super::{Node, NodeEvent};
use crate::id::NodeId;
use crate::spread::sync::{self, Roots};
use crate::time::Now;
use crate::wire::message::{self, kind};

/// How long two sides may take to agree before they talk all the same.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    /// What we hold, by its digests.
    pub(super) fn roots(&self) -> Roots {
        Roots {
            all: self.root,
            trust: self.trust,
        }
    }

    /// Who shook hands, said a greeting and was not lost since: statements pass.
    pub(super) fn met(&self) -> impl Iterator<Item = NodeId> {
        let awake = self.wide.awake.iter();
        let peers = awake.filter_map(|id| self.peers.get(id));
        peers.filter(|peer| peer.is_met()).map(|peer| peer.id)
    }

    /// Tells a peer which set we hold.
    pub(super) fn tell_root(&mut self, to: NodeId, now: Now) {
        let summary = sync::root_only(self.root);
        let body = message::encode_with_trust(&summary, &self.trust);
        self.say(to, kind::SUMMARY, &body, now);
    }

    /// Lets the application speak with a peer that holds what we hold.
    pub(super) fn connect_if_agreed(&mut self, id: NodeId, now: Now) {
        let ours = self.roots();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(since) = peer.comparing else {
            return;
        };
        let agrees = peer.sync.agrees(&ours);
        let waits = !agrees && now.mono < since + PATIENCE;
        if waits || self.silent_from.is_some() {
            return;
        }
        peer.comparing = None;
        peer.connected = true;
        if !agrees {
            self.counters.connected_unagreed += 1;
        }
        tracing::info!(peer = %id.short(), agrees, "connected");
        self.emit(NodeEvent::Connected(id));
        self.may_relay_again(id, now);
        self.say_what_waited(id, now);
        self.hand_over_held(id, now);
        self.tell_what_is_said(id, now);
    }

    /// The same for everybody, after our set has changed.
    pub(super) fn connect_agreed(&mut self, now: Now) {
        let met: Vec<NodeId> = self.met().collect();
        for id in met {
            self.connect_if_agreed(id, now);
        }
    }
}
