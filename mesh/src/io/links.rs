//! The links of this machine that members are called on, and where calls are heard.
//!
//! A call leaves once by every IPv4 address and once by every interface with an IPv6 link-local
//! address, at most `MOST` of each; groups are joined on the same ones. Interfaces come and go:
//! `follow` joins again what it finds, and joining twice is no error worth telling.
//! Absent: whom to call, and when; see `path::lan`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};

use socket2::{SockAddr, SockRef};
use tokio::net::UdpSocket;

use crate::path::lan::{GROUP_V4, GROUP_V6};

/// Links of each family that are used; a machine full of containers has hundreds.
const MOST: usize = 8;

/// The links as last looked at.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// By an address of theirs.
    four: Vec<Ipv4Addr>,
    /// By their index.
    six: Vec<u32>,
}

impl Links {
    /// Looks at the machine's links and listens on each.
    pub(super) fn follow(&mut self, socket: &UdpSocket) {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        self.four = super::addresses::every_ipv4(&read("/proc/net/fib_trie"));
        self.four.retain(|address| !address.is_loopback());
        self.four.truncate(MOST);
        self.six = indices(&read("/proc/net/if_inet6"));
        self.six.truncate(MOST);
        let socket = SockRef::from(socket);
        // Known already, or not of a kind that can be called on: the others remain.
        for address in &self.four {
            let _ = socket.join_multicast_v4(&GROUP_V4, address);
        }
        for index in &self.six {
            let _ = socket.join_multicast_v6(&GROUP_V6, *index);
        }
    }

    /// Whether there is nobody to call.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.four.is_empty() && self.six.is_empty()
    }

    /// Sends a call on every link. What doesn't leave is lost: the next call comes.
    pub(super) fn call(&self, socket: &UdpSocket, port: u16, dual: bool, bytes: &[u8]) {
        let socket = SockRef::from(socket);
        let group = match dual {
            true => SocketAddr::from((GROUP_V4.to_ipv6_mapped(), port)),
            false => SocketAddr::from((GROUP_V4, port)),
        };
        for address in &self.four {
            if socket.set_multicast_if_v4(address).is_ok() {
                let _ = socket.send_to(bytes, &SockAddr::from(group));
            }
        }
        if !dual {
            return;
        }
        for index in &self.six {
            let group = SocketAddrV6::new(GROUP_V6, port, 0, *index);
            let _ = socket.send_to(bytes, &SockAddr::from(group));
        }
    }
}

/// Interfaces of the kernel's list that have a link-local address: 32 hexadecimal digits, index,
/// length, scope, flags and name, a line each.
fn indices(list: &str) -> Vec<u32> {
    const LINK_SCOPE: &str = "20";
    let index = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, index, _, LINK_SCOPE, ..] = fields[..] else {
            return None;
        };
        u32::from_str_radix(index, 16).ok()
    };
    let mut indices: Vec<u32> = list.lines().filter_map(index).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_with_a_link_local_address_are_called_on_each_once() {
        let list = "\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000017 02 40 00 80     eth0
fe800000000000000000000000000017 02 40 20 80     eth0
fe800000000000000000000000000018 0c 40 20 80     wlan0
fe800000000000000000000000000019 0c 40 20 80     wlan0
nonsense
";
        assert_eq!(indices(list), [2, 12]);
    }
}
