//! Where members meet that can't begin sessions with each other, in a mesh too large for a session with everybody.
//!
//! In: who anybody reaches. Out: the two of them that a member keeps a session with if others can't begin one with it, and
//! that whoever looks for it asks. Nobody has to say which they are. Absent: keeping the sessions (`node::wide`), and waking
//! (`node::rouse`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::id::NodeId;
use crate::trust::{Endpoint, EndpointKind};

/// Landmarks that a member keeps a session with, if others can't begin one.
pub(crate) const LANDMARKS: usize = 2;

/// Of those that anybody reaches, the members that this one keeps a session with if nobody reaches it, which everybody works
/// out alike: by rendezvous hashing (Thaler and Ravishankar, 1998), so that all have their even part.
pub(crate) fn chosen(of: NodeId, open: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut all: BTreeSet<([u8; 32], NodeId)> = BTreeSet::new();
    for id in open.filter(|id| *id != of) {
        let weight = blake3::Hasher::new().update(&of.0).update(&id.0).finalize();
        all.insert((*weight.as_bytes(), id));
        if all.len() > LANDMARKS {
            all.pop_last();
        }
    }
    all.into_iter().map(|(_, id)| id).collect()
}

/// Whether anybody can begin a session with a member that publishes these: it was told of an address, or has a public one
/// itself. Of IPv6 that says little, for many routers let nobody in.
pub(crate) fn is_open(published: &[Endpoint]) -> bool {
    published.iter().any(|endpoint| match endpoint.kind {
        EndpointKind::Advertised => true,
        EndpointKind::Local => is_public_v4(endpoint.addr.ip()),
        EndpointKind::Observed => false,
    })
}

fn is_public_v4(ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else {
        return false;
    };
    // 100.64.0.0/10 is what providers translate, as RFC 6598 has it.
    let [first, second, ..] = ip.octets();
    let is_shared = first == 100 && second & 0xc0 == 64;
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn everybody_works_out_the_same_two_landmarks_and_all_have_their_part() {
        let id = |number: usize| {
            let hash = blake3::hash(&number.to_le_bytes());
            NodeId(*hash.as_bytes())
        };
        let open: Vec<NodeId> = (0..10).map(id).collect();
        let mut met = BTreeMap::new();
        for number in 0..1_000 {
            let of = id(number);
            let two = chosen(of, open.iter().copied());
            let again = chosen(of, open.iter().rev().copied());
            assert_eq!(two, again);
            assert!(two.len() == 2 && !two.contains(&of));
            for landmark in two {
                *met.entry(landmark).or_insert(0) += 1;
            }
        }
        // Two hundred each, were they spread as evenly as can be.
        assert!(
            met.len() == 10 && met.values().all(|met| (150..250).contains(met)),
            "{met:?}"
        );
        assert!(chosen(open[0], [open[0]].into_iter()).is_empty());
    }

    #[test]
    fn who_has_a_public_address_or_is_told_of_one_is_open() {
        use EndpointKind::{Advertised, Local, Observed};
        let open = |kind, addr: &str| {
            let addr = addr.parse().unwrap();
            is_open(&[Endpoint { kind, addr }])
        };
        assert!(open(Local, "198.51.100.7:1"));
        assert!(open(Advertised, "10.0.0.1:1"));
        assert!(!open(Observed, "198.51.100.7:1"));
        for inside in [
            "10.0.0.1:1",
            "100.64.0.1:1",
            "169.254.0.1:1",
            "[2001:db8::1]:1",
        ] {
            assert!(!open(Local, inside), "{inside}");
        }
        assert!(!is_open(&[]));
    }
}
