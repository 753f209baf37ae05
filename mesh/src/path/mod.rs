//! Which way to a peer: where it may be, when to knock, who else could hand on what is for it.
//!
//! `candidates` holds the addresses and how often each was tried, `dial` says when the next
//! attempt is due, `way` the way in use, moved only by authenticated datagrams; `probe` asks whether
//! a better one works, `relay` whom to ask where none does, `landmarks` where
//! members of a large mesh meet that can't begin sessions with each other, `nat` what the router in front does.
//! `width` says whether the way carries long datagrams, `halves` joins those that were split; `lan`
//! calls on the own link whoever is nowhere to be found.

pub(crate) mod candidates;
pub(crate) mod dial;
pub(crate) mod halves;
pub(crate) mod lan;
pub(crate) mod landmarks;
pub(crate) mod nat;
pub(crate) mod probe;
pub(crate) mod relay;
pub(crate) mod way;
pub(crate) mod width;

use std::net::{IpAddr, SocketAddr};

use crate::snapshot::Path;

/// How a way to this address is called.
pub(crate) fn classify(address: SocketAddr) -> Path {
    match is_near(address.ip()) {
        true => Path::Lan,
        false => Path::Direct,
    }
}

/// Whether nothing on the way there translates addresses, as far as the address tells.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether a datagram may be sent there at all.
pub(crate) fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // Told by others, or from a file, it names no interface and leads nowhere.
    let unscoped = matches!(address, SocketAddr::V6(six) if six.ip().is_unicast_link_local() && six.scope_id() == 0);
    !unscoped && address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// An IPv4 address in IPv6 clothes, as a dual-stack socket reports it, undressed.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddr::from((ip, address.port())),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}
