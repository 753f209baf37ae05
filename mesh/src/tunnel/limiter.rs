//! How many handshakes one source may begin.
//!
//! A bucket for each source address, between the gate's check of `mac1` and its Diffie-Hellman. Bound: `MOST_SOURCES`
//! buckets; when they are all in use, sources without one share the last. Absent: the limit over
//! all sources, which is the gate's and answers with cookies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Handshakes a source may begin at once. Wide enough for sixteen members behind one address
/// that all come back together.
const BURST: u32 = 32;

/// What a source gets back each second.
const PER_SECOND: u32 = 20;

/// Sources told apart at a time.
const MOST_SOURCES: usize = 1_024;

/// The buckets.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    buckets: BTreeMap<IpAddr, Bucket>,
    shared: Bucket,
}

#[derive(Debug, Default)]
struct Bucket {
    used: u32,
    since: Option<Instant>,
}

impl Limiter {
    /// Whether this source may begin one more handshake.
    pub(crate) fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        let known = self.buckets.contains_key(&prefix(source));
        if !known && self.buckets.len() >= MOST_SOURCES {
            return self.shared.take(now);
        }
        self.buckets.entry(prefix(source)).or_default().take(now)
    }

    /// Forgets the sources whose buckets are full again.
    pub(crate) fn begin_second(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| {
            bucket.refill(now);
            bucket.used > 0
        });
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.used >= BURST {
            return false;
        }
        self.used += 1;
        true
    }

    fn refill(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let back =
            (now.saturating_duration_since(since).as_millis() * u128::from(PER_SECOND)) / 1_000;
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        if back > 0 {
            self.used = self.used.saturating_sub(back);
            self.since = Some(
                since + Duration::from_millis(1_000 / u64::from(PER_SECOND)) * back.min(1_000_000),
            );
        }
    }
}

/// One host's share of the address space: an IPv6 source owns a whole /64.
fn prefix(source: IpAddr) -> IpAddr {
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
    use super::*;

    #[test]
    fn a_flooding_source_is_held_back_and_another_is_not() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut limiter = Limiter::default();
        let (loud, quiet) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));

        let admitted = (0..1_000).filter(|_| limiter.admit(loud, start)).count();

        assert_eq!(admitted, BURST as usize);
        assert!(limiter.admit(quiet, start));
        assert!(limiter.admit(loud, start + Duration::from_millis(51)));
        assert!(!limiter.admit(loud, start + Duration::from_millis(51)));
    }

    #[test]
    fn the_sources_are_bounded_and_forgotten_when_they_rest() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut limiter = Limiter::default();
        for number in 0..5_000_u32 {
            limiter.admit(IpAddr::from(number.to_be_bytes()), start);
        }
        assert_eq!(limiter.buckets.len(), MOST_SOURCES);

        limiter.begin_second(start + Duration::from_secs(1));

        assert_eq!(limiter.buckets.len(), 0);
    }
}
