//! How many handshakes others may begin.
//!
//! Asked between the gate's check of `mac1` and its Diffie-Hellman. Bounds, each so many a second
//! and so many at once: `UNPROVED` for all initiations whose source nothing proves, beyond which
//! the gate asks for cookies; for a source proved by its cookie `SOURCE`, and where no member was
//! ever heard there `STRANGERS` for all such sources together, with `MOST_SOURCES` told apart.
//! Cookies themselves are sent at `COOKIES`, to where members were heard and to elsewhere each.
//! Invariant: an initiation with a made-up source takes nothing from anybody with a cookie, so
//! no flood keeps a member out that can reach us from where it was heard before; whoever comes
//! from a new place shares with the strangers.
//! Absent: making and checking cookies, which is the gate's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::allowance::Allowance;

/// Handshakes by sources that prove nothing: a mesh of two hundred that starts all at once
/// needs no cookie, and a flood costs one core in a hundred.
const UNPROVED: (f64, f64) = (200.0, 200.0);

/// Handshakes by one proved source: a member's address, or a stranger's whole network. Wide enough
/// for sixteen members behind one address that all come back together.
const SOURCE: (f64, f64) = (20.0, 32.0);

/// Handshakes by proved sources where no member was ever heard: many hosts, or one host with a
/// large share of the IPv6 addresses, may have a cookie for each.
const STRANGERS: (f64, f64) = (200.0, 200.0);

/// Cookies sent. One costs four times what reading an initiation does, and while it is sent the
/// socket's buffer runs over with what members say; beyond this the flood is only read. A member
/// may then have to ask several times, or be dialled: answers to us take no cookie.
const COOKIES: (f64, f64) = (5_000.0, 500.0);

/// Proved sources told apart; one beyond that is refused. Only so many have an unpaid handshake
/// at a time, since `STRANGERS` bounds those of strangers.
const MOST_SOURCES: usize = 1_024;

/// What is known of an initiation's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing: it may be made up.
    None,
    /// It holds the cookie that was sent there.
    Cookie,
}

/// The budgets.
#[derive(Debug)]
pub(crate) struct Limiter {
    unproved: Allowance,
    strangers: Allowance,
    cookies_home: Allowance,
    cookies_elsewhere: Allowance,
    sources: BTreeMap<IpAddr, Allowance>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            unproved: allow(UNPROVED),
            strangers: allow(STRANGERS),
            cookies_home: allow(COOKIES),
            cookies_elsewhere: allow(COOKIES),
            sources: BTreeMap::new(),
        }
    }
}

impl Limiter {
    /// Whether one more handshake is afforded. `is_home` says whether a member was heard at an
    /// address, and is asked for a proved one.
    pub(crate) fn admit(
        &mut self,
        source: IpAddr,
        proof: Proof,
        is_home: impl FnOnce(IpAddr) -> bool,
        now: Instant,
    ) -> bool {
        match proof {
            Proof::None => self.unproved.take(1.0, now),
            Proof::Cookie => self.admit_proved(source, is_home(source), now),
        }
    }

    fn admit_proved(&mut self, source: IpAddr, is_home: bool, now: Instant) -> bool {
        // A neighbour in a member's network has no part of what the member has.
        let source = if is_home { source } else { prefix(source) };
        let has_room = is_home || self.sources.len() < MOST_SOURCES;
        let own = match self.sources.get_mut(&source) {
            Some(share) => share.has(1.0, now),
            None => has_room,
        };
        if !own || !(is_home || self.strangers.take(1.0, now)) {
            return false;
        }
        let share = self.sources.entry(source);
        share.or_insert_with(|| allow(SOURCE)).take(1.0, now)
    }

    /// Whether one more cookie is sent.
    pub(crate) fn affords_cookie(&mut self, is_home: bool, now: Instant) -> bool {
        let budget = if is_home {
            &mut self.cookies_home
        } else {
            &mut self.cookies_elsewhere
        };
        budget.take(1.0, now)
    }

    /// Forgets the sources whose share is whole again.
    pub(crate) fn begin_second(&mut self, now: Instant) {
        self.sources.retain(|_, share| !share.is_full(now));
    }

    /// How many sources are told apart.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }
}

/// A budget of so many a second, and so many at once.
fn allow((per_second, at_once): (f64, f64)) -> Allowance {
    Allowance::new(per_second, at_once)
}

/// One host's share of the address space: an IPv6 source owns a whole /64.
pub(crate) fn prefix(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn unproved_sources_share_one_rate_however_many_they_are() {
        let (mut limiter, start) = (Limiter::default(), start());

        let admitted = |limiter: &mut Limiter, at| {
            let sources = (0..100_000_u32).map(|number| IpAddr::from(number.to_be_bytes()));
            sources
                .filter(|source| limiter.admit(*source, Proof::None, is_home, at))
                .count()
        };

        assert_eq!(admitted(&mut limiter, start), 200);
        assert_eq!(
            admitted(&mut limiter, start + Duration::from_millis(500)),
            100
        );
        assert_eq!(limiter.sources(), 0, "nothing is kept of them");
    }

    #[test]
    fn cookies_for_members_homes_are_not_used_up_by_a_flood_from_elsewhere() {
        let (mut limiter, start) = (Limiter::default(), start());

        let sent = (0..100_000).filter(|_| limiter.affords_cookie(false, start));

        assert_eq!(sent.count(), 500);
        assert!(limiter.affords_cookie(true, start));
        let later = start + Duration::from_millis(1);
        let sent = (0..100).filter(|_| limiter.affords_cookie(false, later));
        assert_eq!(sent.count(), 5);
    }

    #[test]
    fn a_proved_source_has_its_own_share_whatever_claims_its_address() {
        let (mut limiter, start) = (Limiter::default(), start());
        for _ in 0..100_000 {
            limiter.admit(HOME, Proof::None, is_home, start);
        }

        let proved = (0..100).filter(|_| limiter.admit(HOME, Proof::Cookie, is_home, start));

        assert_eq!(proved.count(), 32);
        let later = start + Duration::from_millis(51);
        assert!(limiter.admit(HOME, Proof::Cookie, is_home, later));
        assert!(!limiter.admit(HOME, Proof::Cookie, is_home, later));
    }

    #[test]
    fn neighbours_in_a_members_network_use_up_nothing_of_its_own() {
        let (mut limiter, start) = (Limiter::default(), start());
        let member: IpAddr = "2001:db8::2".parse().unwrap();
        let is_home = |source| source == member;
        for host in 3_u128..1_000 {
            let neighbour = IpAddr::from((0x2001_0db8_u128 << 96 | host).to_be_bytes());
            limiter.admit(neighbour, Proof::Cookie, is_home, start);
        }

        let admitted = (0..100).filter(|_| limiter.admit(member, Proof::Cookie, is_home, start));

        assert_eq!(admitted.count(), 32);
        assert_eq!(limiter.sources(), 2);
    }

    #[test]
    fn ever_so_many_proved_strangers_leave_a_member_its_share_and_the_table_small() {
        let (mut limiter, start) = (Limiter::default(), start());
        for second in 0..20 {
            let now = start + Duration::from_secs(second);
            limiter.begin_second(now);
            for network in 0..50_000_u64 {
                let address = u128::from(0x2001_0db8_0000_0000 + network) << 64 | 7;
                let source = IpAddr::from(address.to_be_bytes());
                limiter.admit(source, Proof::Cookie, is_home, now);
            }
            assert!(limiter.sources() <= 401, "{} sources", limiter.sources());
            assert!(limiter.admit(HOME, Proof::Cookie, is_home, now));
        }

        limiter.begin_second(start + Duration::from_secs(60));

        assert_eq!(limiter.sources(), 0);
    }

    fn is_home(source: IpAddr) -> bool {
        source == HOME
    }

    #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
    fn start() -> Instant {
        Instant::now()
    }
}
