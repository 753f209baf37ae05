//! This machine's own addresses, for a token that is made before the node runs.
//!
//! In: the kernel's tables under `/proc/net`. Out: addresses others may reach, IPv4 first.
//! Absent: link-local and temporary ones, which are of no use in a token; and what NAT makes of any of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Config;

/// Where this node will be reached once it runs as configured. Empty: it can't be told before.
pub(crate) fn own(config: &Config) -> Vec<SocketAddr> {
    let listen = config.listen;
    let port = listen.map_or(outlast_mesh::config::DEFAULT_PORT, |address| address.port());
    let mut addresses = config.resolve_endpoints();
    if port == 0 {
        return addresses;
    }
    match listen {
        Some(address) if !address.ip().is_unspecified() => addresses.push(address),
        _ => {
            let v4_only = listen.is_some_and(|address| address.is_ipv4());
            let local = local().into_iter().filter(|ip| ip.is_ipv4() || !v4_only);
            addresses.extend(local.map(|ip| SocketAddr::new(ip, port)));
        }
    }
    addresses.truncate(super::MOST_ADDRESSES);
    addresses
}

fn local() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut addresses: Vec<IpAddr> = v4(&read("/proc/net/fib_trie"))
        .into_iter()
        .map(IpAddr::V4)
        .collect();
    addresses.extend(v6(&read("/proc/net/if_inet6")).into_iter().map(IpAddr::V6));
    addresses
}

/// The `/32 host LOCAL` leaves of the kernel's routing trie, each once, loopback left out.
fn v4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last.take()
            && !address.is_loopback()
            && !address.is_link_local()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// Addresses of global scope that are neither temporary, tentative nor deprecated.
fn v6(if_inet6: &str) -> Vec<Ipv6Addr> {
    const GLOBAL: &str = "00";
    const TEMPORARY: u8 = 0x01;
    const DEPRECATED: u8 = 0x20;
    const TENTATIVE: u8 = 0x40;
    if_inet6
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [address, _, _, scope, flags, _] = fields[..] else {
                return None;
            };
            let flags = u8::from_str_radix(flags, 16).ok()?;
            let usable = scope == GLOBAL && flags & (TEMPORARY | DEPRECATED | TENTATIVE) == 0;
            let address = u128::from_str_radix(address, 16).ok()?;
            usable.then(|| Ipv6Addr::from(address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_from_the_kernels_tables() {
        let trie = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.77.0.0/24 2 0 2
        |-- 10.77.0.1
           /32 host LOCAL
        |-- 10.77.0.255
           /32 link BROADCAST
Local:
        |-- 10.77.0.1
           /32 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
";
        assert_eq!(v4(trie), vec![Ipv4Addr::new(10, 77, 0, 1)]);
        let inet6 = "\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 02 40 20 80     eth0
fd770000000000000000000000000001 02 40 00 82     eth0
fd770000000000000000000000000002 02 40 00 01     eth0
";
        assert_eq!(v6(inet6), vec!["fd77::1".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn a_node_that_listens_on_one_address_is_reached_there() {
        let config =
            Config::parse("listen = \"192.0.2.1:7000\"\nendpoints = [\"198.51.100.1:7001\"]")
                .unwrap();
        let expected = [
            "198.51.100.1:7001".parse().unwrap(),
            "192.0.2.1:7000".parse().unwrap(),
        ];
        assert_eq!(own(&config), expected);
        let config = Config::parse("listen = \"127.0.0.1:0\"").unwrap();
        assert_eq!(own(&config), []);
    }
}
