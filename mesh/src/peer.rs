//! All that is known of one other member: its session, the way to it, what was said.
//!
//! Plain state with small mutations; `node` decides when each happens. Bounds: `MOST_WAITING`
//! inner packets wait while a session is being renewed, the oldest goes first and is counted.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use crate::id::NodeId;
use crate::node::copies::Runs;
use crate::node::rotation::Tunnels;
use crate::node::wide::Bond;
use crate::path::candidates::Candidates;
use crate::path::dial::Dial;
use crate::path::halves::Halves;
use crate::path::lan::Calls;
use crate::path::probe::Probes;
use crate::path::relay::{Asking, Share};
use crate::path::way::{Route, Way};
use crate::path::width::Width;
use crate::quota::Quota;
use crate::snapshot::PeerState;
use crate::spread::liveness::Liveness;
use crate::spread::sync::Sync;
use crate::tunnel::keys::TunnelPublic;
use crate::tunnel::session::Session;

/// Inner packets kept while a connected peer's session is renewed.
const MOST_WAITING: usize = 64;

/// A greeting that got no answer is repeated after this time.
const GREET_AGAIN: Duration = Duration::from_secs(1);

/// One other member.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) address: Ipv6Addr,
    /// Its tunnel key. `None` until it published one.
    pub(crate) key: Option<TunnelPublic>,
    pub(crate) session: Option<Session>,
    /// Tunnels beside it, while a key is replaced.
    pub(crate) tunnels: Tunnels,
    /// The way in use to it.
    pub(crate) route: Route,
    /// Whether the way there carries long datagrams; begins anew with each way.
    pub(crate) width: Width,
    /// Halves of its packets that wait for each other.
    pub(crate) halves: Halves,
    pub(crate) candidates: Candidates,
    pub(crate) dial: Dial,
    /// When it was called on the own link, being nowhere else.
    pub(crate) calls: Calls,
    /// Tries at other addresses of its.
    pub(crate) probes: Probes,
    /// The search for somebody who hands on what is for it.
    pub(crate) asking: Asking,
    /// What it may have handed on.
    pub(crate) share: Share,
    pub(crate) liveness: Liveness,
    pub(crate) greeting: Greeting,
    /// Its starts.
    pub(crate) runs: Runs,
    pub(crate) sync: Sync,
    pub(crate) quota: Quota,
    /// Whether the application speaks with it: it greeted, agreed, and was not lost since.
    pub(crate) connected: bool,
    /// Since when it has greeted and both sides find out whether they hold the same statements.
    pub(crate) comparing: Option<Instant>,
    /// Frames that leave with the next datagram.
    pub(crate) payload: Vec<u8>,
    pub(crate) traffic: Traffic,
    /// When something sealed last left for it.
    pub(crate) said: Option<Instant>,
    /// Where our last initiation went.
    pub(crate) initiated_to: Vec<Way>,
    /// Whether an initiation of its was left unanswered because it crossed ours.
    pub(crate) crossed: bool,
    /// The initiation that renews a live session, and when it leaves.
    pub(crate) renewal: Option<(Instant, Vec<u8>)>,
    /// When an unknown session last made us initiate.
    pub(crate) revived: Option<Instant>,
    /// When the session was last rebuilt because of an old stamp.
    pub(crate) rebuilt: Option<Instant>,
    /// When an initiation was last accepted.
    pub(crate) accepted: Option<Instant>,
    /// What holds its session in a large mesh.
    pub(crate) bond: Bond,
    waiting: VecDeque<Vec<u8>>,
}

/// How far the greetings of this session have come.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    /// The other side's start, from its greeting.
    run: Option<u64>,
    /// The wire version both sides read. `None` until its greeting was heard in this session.
    pub(crate) version: Option<u8>,
    /// Its greeting was heard in this session.
    pub(crate) heard: bool,
    /// It has heard ours.
    pub(crate) answered: bool,
    /// Our last greeting said that we had heard.
    pub(crate) told: bool,
    /// When another start was last believed.
    changed: Option<Instant>,
    due: Option<Instant>,
}

/// What went over the wire with one peer.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) tx_bytes: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) handshake_ms: Option<u64>,
}

impl Peer {
    /// A member of whom nothing was heard yet.
    pub(crate) fn new(
        id: NodeId,
        address: Ipv6Addr,
        now: Instant,
        random: &mut ChaCha8Rng,
    ) -> Self {
        Self {
            id,
            address,
            key: None,
            session: None,
            tunnels: Tunnels::default(),
            route: Route::default(),
            width: Width::default(),
            halves: Halves::default(),
            candidates: Candidates::default(),
            dial: Dial::new(now, random),
            calls: Calls::default(),
            probes: Probes::default(),
            asking: Asking::default(),
            share: Share::default(),
            liveness: Liveness::default(),
            greeting: Greeting::default(),
            runs: Runs::default(),
            sync: Sync::default(),
            quota: Quota::default(),
            connected: false,
            comparing: None,
            payload: Vec::new(),
            traffic: Traffic::default(),
            said: None,
            initiated_to: Vec::new(),
            crossed: false,
            renewal: None,
            revived: None,
            rebuilt: None,
            accepted: None,
            bond: Bond::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether something sealed would be understood.
    pub(crate) fn is_live(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_live)
    }

    /// Whether statements pass: it greeted and was not lost since.
    pub(crate) fn is_met(&self) -> bool {
        self.connected || self.comparing.is_some()
    }

    /// Whether it is live and was heard a moment ago.
    pub(crate) fn is_heard(&self, now: Instant) -> bool {
        self.is_live() && self.liveness.state(now) == PeerState::Alive
    }

    /// Whether authenticated data of it came from this address.
    pub(crate) fn lives_at(&self, address: SocketAddr) -> bool {
        self.candidates
            .worked_addresses()
            .any(|worked| worked == address)
    }

    /// Whether the way in use leads to an address that it publishes.
    pub(crate) fn lives_where_it_says(&self) -> bool {
        let address = self.route.address();
        address.is_some_and(|address| self.candidates.is_published(address))
    }

    /// Keeps an inner packet until the session is renewed. True if another was dropped for it.
    pub(crate) fn wait(&mut self, packet: Vec<u8>) -> bool {
        self.waiting.push_back(packet);
        self.waiting.len() > MOST_WAITING && self.waiting.pop_front().is_some()
    }

    /// How many packets wait.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> usize {
        self.waiting.len()
    }

    /// It goes another way: what was known of the old one says nothing of this.
    pub(crate) fn moved(&mut self) {
        self.width = Width::default();
        self.liveness.moved();
    }

    /// The packets that waited, oldest first.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.waiting)
    }

    /// Forgets what belongs to a connection: the peer is down, left, or started anew.
    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        self.comparing = None;
        self.greeting.begin(None);
        self.payload.clear();
        self.waiting.clear();
    }
}

impl Greeting {
    /// A new session: both sides greet again, ours is due at once.
    pub(crate) fn begin(&mut self, now: Option<Instant>) {
        self.version = None;
        self.heard = false;
        self.answered = false;
        self.told = false;
        self.due = now;
    }

    /// Takes the start a greeting names. `Some(true)` if it is another than before, `None` if it
    /// changed a moment ago: whoever really started again greets again.
    pub(crate) fn take_run(&mut self, run: u64, now: Instant) -> Option<bool> {
        let restarted = self.run.is_some_and(|known| known != run);
        if restarted {
            if self.changed.is_some_and(|last| now < last + GREET_AGAIN) {
                return None;
            }
            self.changed = Some(now);
        }
        self.run = Some(run);
        Some(restarted)
    }

    /// Whether our greeting is due; counts it as sent.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        if (self.heard && self.answered) || self.due.is_some_and(|due| now < due) {
            return false;
        }
        self.due = Some(now + GREET_AGAIN);
        true
    }
}
