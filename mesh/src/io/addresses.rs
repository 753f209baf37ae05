//! The addresses this machine can be reached at.
//!
//! Read from `/proc/net`, which needs no privilege: the local routes of IPv4 and the interface
//! list of IPv6. Link-local addresses mean nothing elsewhere and are left out; loopback is told
//! only when nothing else exists or the socket listens there. Absent: addresses behind a router,
//! which peers report.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::path::candidates::MOST_OF_A_KIND;
use crate::trust::{Endpoint, EndpointKind};

/// The endpoints to publish for a socket bound to `local`, those of `advertise` first.
pub(crate) fn endpoints(local: SocketAddr, advertise: &[SocketAddr]) -> Vec<Endpoint> {
    let told = advertise.iter().take(MOST_OF_A_KIND).map(|addr| Endpoint {
        kind: EndpointKind::Advertised,
        addr: *addr,
    });
    let own = reachable(local.ip(), interfaces())
        .into_iter()
        .take(MOST_OF_A_KIND)
        .map(|ip| Endpoint {
            kind: EndpointKind::Local,
            addr: SocketAddr::new(ip, local.port()),
        });
    told.chain(own).collect()
}

/// Which of the machine's addresses lead to a socket bound to `bound`.
fn reachable(bound: IpAddr, interfaces: Vec<IpAddr>) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let fits = |ip: &IpAddr| bound.is_ipv6() || ip.is_ipv4();
    let (loopback, mut others): (Vec<IpAddr>, Vec<IpAddr>) = interfaces
        .into_iter()
        .filter(fits)
        .partition(IpAddr::is_loopback);
    others.sort();
    others.dedup();
    if !others.is_empty() {
        return others;
    }
    match loopback.first() {
        Some(_) => loopback,
        None => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
    }
}

fn interfaces() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut all: Vec<IpAddr> = Vec::new();
    all.extend(
        ipv4(&read("/proc/net/fib_trie"))
            .into_iter()
            .map(IpAddr::V4),
    );
    all.extend(
        ipv6(&read("/proc/net/if_inet6"))
            .into_iter()
            .map(IpAddr::V6),
    );
    all
}

fn ipv4(trie: &str) -> Vec<Ipv4Addr> {
    let mut addresses = every_ipv4(trie);
    addresses.retain(|address| !address.is_link_local());
    addresses
}

/// Local addresses in the kernel's routing trie: a leaf line `|-- ADDRESS` followed by a line
/// `/32 host LOCAL`.
pub(super) fn every_ipv4(trie: &str) -> Vec<Ipv4Addr> {
    let mut leaf = None;
    let mut addresses = Vec::new();
    for line in trie.lines() {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = leaf
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Addresses of the interface list: 32 hexadecimal digits, then index, length, scope, flags and
/// name. Tentative, deprecated and temporary ones are left out: they go away by themselves.
fn ipv6(list: &str) -> Vec<Ipv6Addr> {
    const UNSTABLE: u32 = 0x01 | 0x08 | 0x20 | 0x40;
    list.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let address = u128::from_str_radix(fields.next()?, 16).ok()?;
            let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
            let address = Ipv6Addr::from(address);
            (flags & UNSTABLE == 0 && !address.is_unicast_link_local()).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.17
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
     |-- 169.254.9.9
        /32 host LOCAL
";

    const LIST: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000017 02 40 00 80     eth0
20010db80000000000000000000000aa 02 40 00 01     eth0
fe800000000000000000000000000017 02 40 20 80     eth0
";

    #[test]
    fn stable_addresses_are_read_and_link_local_ones_left_out() {
        assert_eq!(
            ipv4(TRIE),
            [Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 17)]
        );
        assert_eq!(
            ipv6(LIST),
            [
                Ipv6Addr::LOCALHOST,
                "2001:db8::17".parse::<Ipv6Addr>().unwrap()
            ]
        );
    }

    #[test]
    fn loopback_is_told_only_when_nothing_else_leads_here() {
        let outside: IpAddr = "192.0.2.17".parse().unwrap();
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

        assert_eq!(reachable(everywhere, vec![loopback, outside]), [outside]);
        assert_eq!(reachable(everywhere, vec![loopback]), [loopback]);
        assert_eq!(reachable(everywhere, vec![]), [loopback]);
        assert_eq!(reachable(loopback, vec![loopback, outside]), [loopback]);
        let six: IpAddr = "2001:db8::17".parse().unwrap();
        let four_only = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert_eq!(reachable(four_only, vec![six, outside]), [outside]);
    }
}
