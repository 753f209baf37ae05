//! Where a peer may be.
//!
//! Addresses by where they come from, at most `MOST_OF_A_KIND` of each. One that ever worked is
//! part of every attempt; one that never did is tried less and less, down to once an hour.
//! Absent: which one is in use, which is the path's business.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::is_usable;
use crate::trust::{Endpoint, EndpointKind};

/// Addresses kept of each origin; the oldest of that origin goes first.
pub(crate) const MOST_OF_A_KIND: usize = 6;

/// Attempts at an address that never worked before they become rarer.
const PATIENCE: u32 = 10;

/// The longest pause between attempts at an address that never worked.
const RAREST: Duration = Duration::from_secs(3_600);

/// How we know an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Authenticated data came from there, in this run or an earlier one.
    Worked,
    /// Its owner says so.
    Advertised,
    /// One of its interfaces has it.
    Local,
    /// Its other peers see it there.
    Observed,
}

#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    origin: Origin,
    tries: u32,
    next: Option<Instant>,
}

/// The addresses of one peer, the most recent of an origin last.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    all: Vec<Candidate>,
}

impl Candidates {
    /// Takes what the peer publishes instead of what it published before. True if an address is
    /// among it that was not known.
    pub(crate) fn publish(&mut self, endpoints: &[Endpoint]) -> bool {
        let stays = |candidate: &Candidate| {
            candidate.origin == Origin::Worked
                || endpoints.iter().any(|endpoint| {
                    endpoint.addr == candidate.address && origin(endpoint.kind) == candidate.origin
                })
        };
        self.all.retain(stays);
        let mut is_new = false;
        for endpoint in endpoints {
            let known = self.all.iter().any(|known| known.address == endpoint.addr);
            is_new |= !known && is_usable(endpoint.addr);
            self.add(endpoint.addr, origin(endpoint.kind));
        }
        is_new
    }

    /// Whether the peer says that it can be reached there.
    pub(crate) fn is_published(&self, address: SocketAddr) -> bool {
        let mut known = self.all.iter();
        known.any(|known| known.address == address && known.origin != Origin::Worked)
    }

    /// Notes that authenticated data came from there. True if that was not known.
    pub(crate) fn worked(&mut self, address: SocketAddr) -> bool {
        let latest = self.worked_addresses().last();
        if latest == Some(address) {
            return false;
        }
        self.all
            .retain(|candidate| candidate.address != address || candidate.origin != Origin::Worked);
        self.add(address, Origin::Worked);
        true
    }

    /// The addresses that ever worked, the latest last.
    pub(crate) fn worked_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.all
            .iter()
            .filter(|candidate| candidate.origin == Origin::Worked)
            .map(|candidate| candidate.address)
    }

    /// Every address once, those that ever worked among them.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for candidate in &self.all {
            if !addresses.contains(&candidate.address) {
                addresses.push(candidate.address);
            }
        }
        addresses
    }

    /// Where to send the attempt made at this moment: each address once.
    pub(crate) fn attempt(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for candidate in &mut self.all {
            if candidate.next.is_some_and(|next| next > now) {
                continue;
            }
            candidate.tries = candidate.tries.saturating_add(1);
            candidate.next = rest(candidate).map(|rest| now + rest);
            if !addresses.contains(&candidate.address) {
                addresses.push(candidate.address);
            }
        }
        addresses
    }

    /// Makes every address due again.
    pub(crate) fn reset(&mut self) {
        for candidate in &mut self.all {
            candidate.tries = 0;
            candidate.next = None;
        }
    }

    /// How many addresses are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    fn add(&mut self, address: SocketAddr, origin: Origin) {
        let known = self
            .all
            .iter()
            .any(|candidate| candidate.address == address && candidate.origin == origin);
        if known || !is_usable(address) {
            return;
        }
        let of_kind = |candidate: &Candidate| candidate.origin == origin;
        if self
            .all
            .iter()
            .filter(|candidate| of_kind(candidate))
            .count()
            >= MOST_OF_A_KIND
            && let Some(oldest) = self.all.iter().position(of_kind)
        {
            self.all.remove(oldest);
        }
        self.all.push(Candidate {
            address,
            origin,
            tries: 0,
            next: None,
        });
    }
}

/// How long an address rests after an attempt.
fn rest(candidate: &Candidate) -> Option<Duration> {
    if candidate.origin == Origin::Worked || candidate.tries < PATIENCE {
        return None;
    }
    let doublings = (candidate.tries - PATIENCE).min(8);
    Some((Duration::from_secs(30) * 2_u32.pow(doublings)).min(RAREST))
}

fn origin(kind: EndpointKind) -> Origin {
    match kind {
        EndpointKind::Advertised => Origin::Advertised,
        EndpointKind::Local => Origin::Local,
        EndpointKind::Observed => Origin::Observed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn at_most_six_of_a_kind_are_kept_and_the_latest_stay() {
        let mut candidates = Candidates::default();
        for port in 1..=20 {
            assert!(candidates.worked(address(port)));
        }
        assert!(!candidates.worked(address(20)));

        let kept: Vec<_> = candidates
            .worked_addresses()
            .map(|address| address.port())
            .collect();

        assert_eq!(kept, [15, 16, 17, 18, 19, 20]);
    }

    #[test]
    fn what_never_worked_is_tried_once_an_hour_in_the_end() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut candidates = Candidates::default();
        candidates.worked(address(1));
        let published = Endpoint {
            kind: EndpointKind::Local,
            addr: address(2),
        };
        candidates.publish(&[published]);

        let mut tried = [0; 2];
        for second in 0..86_400 {
            for address in candidates.attempt(start + Duration::from_secs(second)) {
                tried[usize::from(address.port()) - 1] += 1;
            }
        }

        assert_eq!(tried[0], 86_400);
        assert!((30..50).contains(&tried[1]), "{} attempts", tried[1]);
        candidates.reset();
        assert_eq!(candidates.attempt(start), [address(1), address(2)]);
    }

    #[test]
    fn nonsense_is_not_tried() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut candidates = Candidates::default();
        candidates.publish(&[
            Endpoint {
                kind: EndpointKind::Local,
                addr: address(0),
            },
            Endpoint {
                kind: EndpointKind::Local,
                addr: "224.0.0.1:9".parse().unwrap(),
            },
        ]);

        assert!(candidates.attempt(start).is_empty());
    }
}
