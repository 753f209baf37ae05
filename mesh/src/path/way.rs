//! The way in use to one peer: an address, or another member that relays.
//!
//! In: where authentic data came from and what it proves, own proofs, losses. Out: where to send, and since when.
//! Invariants: only authentic data moves it. A probe never does, its answer may: probes promote, nothing demotes a way
//! that works. From a direct way to a relay it goes only by a new handshake through that relay, or once the direct
//! one has been silent for `SILENT`. Where both sides have just proved different addresses, or go through different relays,
//! the lower id's choice stands.
//! Absent: what to probe (`probe`), whom to ask (`relay`), when to knock (`dial`).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::id::NodeId;
use crate::snapshot::Path;
use crate::time::Now;

/// A way that brought nothing for so long gives way to another that does.
const SILENT: Duration = Duration::from_secs(5);

/// So long after an own proof data from elsewhere doesn't move the way, if ours is the choice.
const PROVED: Duration = Duration::from_secs(3);

/// How datagrams travel to a peer, and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Straight to an address.
    Direct(SocketAddr),
    /// Inside the tunnel of a member that hands them on.
    Relay(NodeId),
}

impl Way {
    /// Where the other side was seen; the unspecified address if a relay stands between.
    pub(crate) fn observed(self) -> SocketAddr {
        match self {
            Self::Direct(address) => address,
            Self::Relay(_) => SocketAddr::from(([0_u16; 8], 0)),
        }
    }

    /// The address, unless a relay stands between.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Direct(address) => Some(address),
            Self::Relay(_) => None,
        }
    }

    /// How it is called.
    pub(crate) fn class(self) -> Path {
        match self {
            Self::Direct(address) => super::classify(address),
            Self::Relay(_) => Path::Relay,
        }
    }
}

/// What authentic data proves of the way it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It ends a handshake whose answer went the same way: both directions work.
    Handshake,
    /// The other side sends its data this way.
    Data,
    /// The other side asks whether the way works.
    Probe,
}

/// The way to one peer, and what is known of it.
#[derive(Debug, Default)]
pub(crate) struct Route {
    way: Option<Way>,
    since_ms: Option<u64>,
    heard: Option<Instant>,
    proved: Option<Instant>,
}

/// What authentic data did to the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It came the way in use.
    Same,
    /// It made the way it came the one in use.
    Moved,
    /// It came another way, which is not taken.
    Aside,
}

impl Route {
    /// The way in use. `None`: none is known to work.
    pub(crate) fn way(&self) -> Option<Way> {
        self.way
    }

    /// The address in use, unless a relay stands between.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.way.and_then(Way::address)
    }

    /// Who relays.
    pub(crate) fn relay(&self) -> Option<NodeId> {
        match self.way {
            Some(Way::Relay(relay)) => Some(relay),
            _ => None,
        }
    }

    /// Wall time since which it goes this way, milliseconds.
    pub(crate) fn since_ms(&self) -> Option<u64> {
        self.since_ms
    }

    /// Authentic data came this way. `is_ours` says whether of two choices our own stands.
    pub(crate) fn heard(&mut self, from: Way, proof: Proof, is_ours: bool, now: Now) -> Change {
        if self.way == Some(from) {
            self.heard = Some(now.mono);
            return Change::Same;
        }
        if !self.takes(from, proof, is_ours, now.mono) {
            return Change::Aside;
        }
        self.move_to(from, now);
        Change::Moved
    }

    /// A probe of ours was answered on this way, which is better than the one in use.
    pub(crate) fn prove(&mut self, way: Way, now: Now) {
        self.move_to(way, now);
        self.proved = Some(now.mono);
    }

    /// The way is gone, such as a relay that left.
    pub(crate) fn lose(&mut self) {
        self.way = None;
        self.since_ms = None;
        self.proved = None;
    }

    fn takes(&self, from: Way, proof: Proof, is_ours: bool, now: Instant) -> bool {
        let Some(way) = self.way else {
            return true;
        };
        let within = |at: Option<Instant>, time| at.is_some_and(|at| now < at + time);
        match (proof, way, from) {
            (Proof::Probe, ..) => false,
            (Proof::Handshake, ..) | (Proof::Data, Way::Relay(_), Way::Direct(_)) => true,
            (Proof::Data, Way::Direct(_), Way::Direct(_)) => {
                !(is_ours && within(self.proved, PROVED))
            }
            // Two that begin through different relays would change over to each other's for ever.
            (Proof::Data, Way::Relay(_), Way::Relay(_)) if !is_ours => true,
            (Proof::Data, _, Way::Relay(_)) => !within(self.heard, SILENT),
        }
    }

    fn move_to(&mut self, way: Way, now: Now) {
        self.way = Some(way);
        self.since_ms = Some(now.wall_ms());
        self.heard = Some(now.mono);
        self.proved = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: Way = Way::Relay(NodeId([7; 32]));
    const OTHER_RELAY: Way = Way::Relay(NodeId([8; 32]));

    fn direct(port: u16) -> Way {
        Way::Direct(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn only_what_proves_a_better_way_or_a_dead_one_moves_it() {
        use Change::{Aside, Moved};
        use Proof::{Data, Handshake, Probe};
        // In use, then what comes where and after how many seconds of silence, and what it does.
        let cases = [
            (None, direct(1), Data, 0, Moved),
            (None, RELAY, Data, 0, Moved),
            (Some(direct(1)), direct(2), Data, 0, Moved),
            (Some(direct(1)), direct(2), Probe, 60, Aside),
            (Some(direct(1)), RELAY, Data, 4, Aside),
            (Some(direct(1)), RELAY, Data, 5, Moved),
            (Some(direct(1)), RELAY, Probe, 60, Aside),
            (Some(direct(1)), RELAY, Handshake, 0, Moved),
            (Some(RELAY), direct(1), Data, 0, Moved),
            (Some(RELAY), direct(1), Probe, 60, Aside),
            (Some(RELAY), OTHER_RELAY, Data, 4, Aside),
            (Some(RELAY), OTHER_RELAY, Data, 5, Moved),
            (Some(RELAY), OTHER_RELAY, Handshake, 0, Moved),
        ];
        for (way, from, proof, silence, change) in cases {
            let start = Now::real();
            let mut route = Route::default();
            if let Some(way) = way {
                assert_eq!(route.heard(way, Data, true, start), Moved);
                assert_eq!(route.heard(way, Probe, true, start), Change::Same);
            }
            let now = start.after(Duration::from_secs(silence));
            let got = route.heard(from, proof, true, now);
            assert_eq!(
                got, change,
                "{way:?}: {proof:?} by {from:?} after {silence} s"
            );
        }
    }

    #[test]
    fn of_two_addresses_proved_at_once_both_sides_end_with_the_lower_id_s() {
        let now = Now::real();
        let (mut lower, mut higher) = (Route::default(), Route::default());
        lower.prove(direct(1), now);
        higher.prove(direct(2), now);
        for _ in 0..4 {
            let (from_lower, from_higher) = (lower.way().unwrap(), higher.way().unwrap());
            lower.heard(from_higher, Proof::Data, true, now);
            higher.heard(from_lower, Proof::Data, false, now);
        }
        assert_eq!(
            (lower.way(), higher.way()),
            (Some(direct(1)), Some(direct(1)))
        );

        let later = now.after(PROVED);
        assert_eq!(
            lower.heard(direct(3), Proof::Data, true, later),
            Change::Moved
        );
    }

    #[test]
    fn two_that_go_through_different_relays_end_with_the_lower_id_s() {
        let mut now = Now::real();
        let (mut lower, mut higher) = (Route::default(), Route::default());
        lower.heard(RELAY, Proof::Handshake, true, now);
        higher.heard(OTHER_RELAY, Proof::Handshake, false, now);
        let mut moves = 0;
        for _ in 0..20 {
            now = now.after(Duration::from_secs(2));
            let (from_lower, from_higher) = (lower.way().unwrap(), higher.way().unwrap());
            let changes = [
                lower.heard(from_higher, Proof::Data, true, now),
                higher.heard(from_lower, Proof::Data, false, now),
            ];
            moves += changes
                .iter()
                .filter(|change| **change == Change::Moved)
                .count();
        }
        assert_eq!(
            (lower.way(), higher.way(), moves),
            (Some(RELAY), Some(RELAY), 1)
        );
    }

    #[test]
    fn a_lost_way_leaves_none_and_the_next_data_brings_one() {
        let mut route = Route::default();
        route.heard(RELAY, Proof::Data, true, Now::real());
        assert_eq!(
            (route.relay(), route.address()),
            (Some(NodeId([7; 32])), None)
        );

        route.lose();

        assert_eq!((route.way(), route.since_ms()), (None, None));
        assert_eq!(RELAY.observed().port(), 0);
        route.heard(direct(4), Proof::Data, true, Now::real());
        assert_eq!(route.address(), direct(4).address());
    }
}
