//! Calling members on the same link when nothing known of their addresses is true any more.
//!
//! A call is the initiation an attempt makes anyway, sent to a multicast group as well. Only the
//! member it is meant for can tell whom it names; it answers from where it lives. Whoever listens
//! sees that somebody here speaks WireGuard, as it sees of every other datagram.
//! Bounds: the first attempt calls nobody, then a member is called each 2 s, each time twice as
//! long after, at most each 5 min; a node makes `CALLS` of them. What is over waits for the next
//! attempt and is counted.
//! Absent: interfaces and groups' members, which are the shell's; whoever listens at one address
//! only neither calls nor is called.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::DEFAULT_PORT;
use crate::trust::{Endpoint, EndpointKind};

/// The group on IPv4: of local scope, left to everybody's choice by RFC 2365.
pub(crate) const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 51, 80);

/// The group on IPv6: transient, and of link scope, so that no router carries it further.
pub(crate) const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0x6f75, 0x746c, 0x6173);

/// Calls of a node: so many a second, so many at once.
pub(crate) const CALLS: (f64, f64) = (4.0, 24.0);

/// The pause after a member's first call.
const SHORTEST: Duration = Duration::from_secs(2);

/// The longest pause. Whoever comes back calls by itself.
const LONGEST: Duration = Duration::from_secs(300);

/// Ports of one member that are called.
const MOST_PORTS: usize = 2;

/// When a member was last called.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    tried: bool,
    calls: u32,
    next: Option<Instant>,
}

impl Calls {
    /// An attempt at a member nobody hears is made. Whether it is to be called too.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        // Most members are where they were; that is tried alone first.
        std::mem::replace(&mut self.tried, true) && self.next.is_none_or(|next| now >= next)
    }

    /// It was called.
    pub(crate) fn called(&mut self, now: Instant) {
        let pause = SHORTEST.saturating_mul(2_u32.saturating_pow(self.calls.min(16)));
        self.calls = self.calls.saturating_add(1);
        self.next = Some(now + pause.min(LONGEST));
    }

    /// It was heard, or our own network is another one.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Where a member with these addresses is called: at the ports its interfaces had last.
pub(crate) fn groups(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    let mut groups: Vec<SocketAddr> = Vec::new();
    let local = |endpoint: &&Endpoint| endpoint.kind == EndpointKind::Local;
    for endpoint in endpoints.iter().filter(local) {
        let group = SocketAddr::from((GROUP_V4, endpoint.addr.port()));
        let fits = group.port() != 0 && groups.len() < MOST_PORTS;
        if fits && !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        groups.push(SocketAddr::from((GROUP_V4, DEFAULT_PORT)));
    }
    groups
}

/// Whether a datagram to there is a call. The core says the group of IPv4 and means both.
pub(crate) fn is_call(to: SocketAddr) -> bool {
    to.ip() == GROUP_V4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: EndpointKind, addr: &str) -> Endpoint {
        let addr = addr.parse().unwrap();
        Endpoint { kind, addr }
    }

    #[test]
    fn a_member_is_called_from_the_second_attempt_on_and_ever_less() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut calls = Calls::default();
        let mut called = Vec::new();

        for second in 0..3_600 {
            let now = start + Duration::from_secs(second);
            if calls.is_due(now) {
                calls.called(now);
                called.push(second);
            }
        }

        assert_eq!(called[..6], [1, 3, 7, 15, 31, 63]);
        let pauses = called.windows(2).map(|pair| pair[1] - pair[0]);
        assert_eq!(pauses.max(), Some(LONGEST.as_secs()));
        calls.reset();
        assert!(!calls.is_due(start));
        assert!(calls.is_due(start));
    }

    #[test]
    fn a_member_is_called_at_the_ports_it_listens_on_and_never_at_a_forwarded_one() {
        let endpoints = [
            at(EndpointKind::Advertised, "192.0.2.1:4000"),
            at(EndpointKind::Local, "10.0.0.1:7000"),
            at(EndpointKind::Local, "[fd00::1]:7000"),
            at(EndpointKind::Local, "10.0.0.1:0"),
            at(EndpointKind::Observed, "192.0.2.1:4001"),
        ];
        let ports = |endpoints: &[Endpoint]| -> Vec<u16> {
            let groups = groups(endpoints).into_iter();
            groups.map(|group| group.port()).collect()
        };
        assert_eq!(ports(&endpoints), [7000]);
        assert_eq!(ports(&[]), [DEFAULT_PORT]);
        assert!(groups(&endpoints).into_iter().all(is_call));
        let many: Vec<_> = (1..9)
            .map(|port| at(EndpointKind::Local, &format!("10.0.0.1:{port}")))
            .collect();
        assert_eq!(ports(&many), [1, 2]);
    }
}
