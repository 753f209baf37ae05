//! Whose a datagram is: by tunnel key, by session index, by overlay address, by where it came from.
//!
//! Four maps kept in step. Invariant: an index or an address leads to at most one owner, so a
//! peer cannot use another's address. Indices are random, which says nothing about how many there
//! are. Homes, the addresses where members were authentically heard, are a hint and may be
//! shared. Absent: the sessions themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::keys::TunnelPublic;
use crate::id::NodeId;

/// Whose session an index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A member's.
    Peer(NodeId),
    /// A guest's in the joining tunnel, by its number.
    Guest(u64),
}

/// The maps.
#[derive(Debug, Default)]
pub(crate) struct Table {
    indices: BTreeMap<u32, Owner>,
    keys: BTreeMap<TunnelPublic, NodeId>,
    addresses: BTreeMap<Ipv6Addr, NodeId>,
    homes: BTreeMap<SocketAddr, NodeId>,
}

impl Table {
    /// Finds an unused random 24-bit index for `owner`.
    pub(crate) fn allocate(&mut self, owner: Owner, random: &mut ChaCha8Rng) -> u32 {
        loop {
            let index = random.random_range(0..1 << 24);
            if let std::collections::btree_map::Entry::Vacant(free) = self.indices.entry(index) {
                free.insert(owner);
                return index;
            }
        }
    }

    /// Frees an index.
    pub(crate) fn free(&mut self, index: u32) {
        self.indices.remove(&index);
    }

    /// Whose session this is.
    pub(crate) fn owner(&self, index: u32) -> Option<Owner> {
        self.indices.get(&index).copied()
    }

    /// Lets a tunnel key lead to a member. False if another member already claims the key, which
    /// keeps it.
    pub(crate) fn claim_key(&mut self, key: TunnelPublic, peer: NodeId) -> bool {
        *self.keys.entry(key).or_insert(peer) == peer
    }

    /// Forgets a tunnel key.
    pub(crate) fn release_key(&mut self, key: TunnelPublic) {
        self.keys.remove(&key);
    }

    /// The member that has this tunnel key.
    pub(crate) fn by_key(&self, key: TunnelPublic) -> Option<NodeId> {
        self.keys.get(&key).copied()
    }

    /// Lets an overlay address lead to a member.
    pub(crate) fn claim_address(&mut self, address: Ipv6Addr, peer: NodeId) {
        self.addresses.insert(address, peer);
    }

    /// Forgets an overlay address.
    pub(crate) fn release_address(&mut self, address: Ipv6Addr) {
        self.addresses.remove(&address);
    }

    /// The member that has this overlay address.
    pub(crate) fn by_address(&self, address: Ipv6Addr) -> Option<NodeId> {
        self.addresses.get(&address).copied()
    }

    /// Notes where a member was heard; the last one heard there is the one found.
    pub(crate) fn settle(&mut self, home: SocketAddr, peer: NodeId) {
        self.homes.insert(home, peer);
    }

    /// Forgets the homes nobody lives at, once there are more than `limit`.
    pub(crate) fn clear_homes(
        &mut self,
        limit: usize,
        lives_there: impl Fn(NodeId, SocketAddr) -> bool,
    ) {
        if self.homes.len() > limit {
            self.homes.retain(|home, peer| lives_there(*peer, *home));
        }
    }

    /// How many indices, keys, addresses and homes there are.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 4] {
        let (indices, keys) = (self.indices.len(), self.keys.len());
        [indices, keys, self.addresses.len(), self.homes.len()]
    }

    /// The member last heard there.
    pub(crate) fn by_home(&self, home: SocketAddr) -> Option<NodeId> {
        self.homes.get(&home).copied()
    }

    /// Whether a member was heard at this address, from whichever port.
    pub(crate) fn is_home(&self, host: IpAddr) -> bool {
        let ports = SocketAddr::new(host, 0)..=SocketAddr::new(host, u16::MAX);
        self.homes.range(ports).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn indices_are_unused_and_stay_below_24_bits() {
        let mut table = Table::default();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..10_000 {
            let index = table.allocate(Owner::Guest(number), &mut random);
            assert!(index < 1 << 24);
            assert!(seen.insert(index));
            assert_eq!(table.owner(index), Some(Owner::Guest(number)));
        }
    }

    #[test]
    fn a_home_is_found_by_address_and_its_host_by_any_port() {
        let mut table = Table::default();
        let home = |text: &str| text.parse::<SocketAddr>().unwrap();
        table.settle(home("192.0.2.1:51800"), NodeId([1; 32]));
        table.settle(home("[2001:db8::1]:65535"), NodeId([2; 32]));

        assert_eq!(
            table.by_home(home("192.0.2.1:51800")),
            Some(NodeId([1; 32]))
        );
        assert_eq!(table.by_home(home("192.0.2.1:51801")), None);
        assert!(table.is_home(home("192.0.2.1:9").ip()));
        assert!(table.is_home(home("[2001:db8::1]:9").ip()));
        assert!(!table.is_home(home("192.0.2.2:9").ip()));

        table.clear_homes(1, |peer, _home| peer == NodeId([2; 32]));
        assert!(!table.is_home(home("192.0.2.1:9").ip()));
    }

    #[test]
    fn a_claimed_key_stays_with_the_first_who_claimed_it() {
        let mut table = Table::default();
        let key = TunnelPublic([7; 32]);

        assert!(table.claim_key(key, NodeId([1; 32])));
        assert!(!table.claim_key(key, NodeId([2; 32])));

        assert_eq!(table.by_key(key), Some(NodeId([1; 32])));
    }
}
