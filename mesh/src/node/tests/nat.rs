//! Members behind routers that translate addresses: who meets directly, who needs a relay, and what each is told.

use super::*;
use crate::snapshot::{Mapping, Path, PeerSnapshot};

/// How long a router keeps a way open that nobody uses.
const REMEMBERED: Duration = Duration::from_secs(30);

/// What a router does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One port for all, open to all.
    FullCone,
    /// One port for all, open to the addresses it was used towards.
    PortRestricted,
    /// Another port for each address.
    Symmetric,
}

/// A router with one node behind it.
#[derive(Debug)]
pub(super) struct Router {
    kind: Kind,
    outside: std::net::IpAddr,
    /// Ports outside, by where they are used towards: one entry where it is the same for all.
    ports: BTreeMap<Option<SocketAddr>, u16>,
    /// When a port was last used towards an address.
    used: BTreeMap<(u16, SocketAddr), Instant>,
    next: u16,
}

impl Router {
    pub(super) fn new(kind: Kind, number: u8) -> Self {
        Self {
            kind,
            outside: [198, 51, 100, number].into(),
            ports: BTreeMap::new(),
            used: BTreeMap::new(),
            next: 20_000,
        }
    }

    /// The address a datagram from inside has outside.
    pub(super) fn send(&mut self, to: SocketAddr, now: Instant) -> SocketAddr {
        let towards = (self.kind == Kind::Symmetric).then_some(to);
        let next = &mut self.next;
        let port = *self.ports.entry(towards).or_insert_with(|| {
            *next += 1;
            *next
        });
        self.used.insert((port, to), now);
        SocketAddr::new(self.outside, port)
    }

    /// Whether a datagram from outside passes to the node.
    pub(super) fn lets_in(&mut self, to: SocketAddr, from: SocketAddr, now: Instant) -> bool {
        let is_ours = to.ip() == self.outside && self.ports.values().any(|port| *port == to.port());
        let used = self.used.get(&(to.port(), from));
        let is_open = used.is_some_and(|at| now <= *at + REMEMBERED);
        is_ours && (self.kind == Kind::FullCone || is_open)
    }
}

/// Nodes 0 and 3 are public, 1 and 2 behind routers of these kinds.
fn sites(kinds: [Kind; 2]) -> World {
    let mut world = World::new(4);
    for (kind, at) in kinds.into_iter().zip([1, 2]) {
        world.routers.insert(at, Router::new(kind, at as u8));
    }
    world
}

fn shown(world: &World, at: usize, of: usize) -> PeerSnapshot {
    let id = world.nodes[of].me();
    let peers = world.nodes[at].snapshot(world.now).peers;
    peers.into_iter().find(|peer| peer.id == id).unwrap()
}

#[test]
fn two_behind_routers_meet_directly_unless_one_shows_each_another_port_and_the_other_is_closed() {
    use Kind::{FullCone, PortRestricted, Symmetric};
    let kinds = [FullCone, PortRestricted, Symmetric];
    for kinds in kinds
        .iter()
        .flat_map(|one| kinds.map(|other| [*one, other]))
    {
        let hard = kinds.contains(&Symmetric) && !kinds.contains(&FullCone);
        let expected = if hard { Path::Relay } else { Path::Direct };
        let mut world = sites(kinds);

        // Relayed after 6 s at most, then what the routers allow within 30 s.
        world.run(7_000);
        assert_eq!(world.state(1, 2), PeerState::Alive, "{kinds:?}");
        world.run(30_000);

        for (at, of) in [(1, 2), (2, 1)] {
            let peer = shown(&world, at, of);
            assert_eq!(peer.path, expected, "{kinds:?}");
            assert_eq!(peer.via.is_some(), hard, "{kinds:?}");
            assert_eq!(peer.why_not_direct.is_some(), hard, "{kinds:?}");
        }
        // And so it stays: nobody loses anybody, nothing flaps.
        let since = shown(&world, 1, 2).path_since_ms;
        world.run(180_000);
        assert_eq!(shown(&world, 1, 2).path_since_ms, since, "{kinds:?}");
        assert_eq!(
            (world.disconnected(1), world.disconnected(2)),
            (0, 0),
            "{kinds:?}"
        );
    }
}

#[test]
fn two_peers_tell_what_the_router_does_and_the_reason_is_an_honest_sentence() {
    let mut world = sites([Kind::Symmetric, Kind::Symmetric]);
    world.run(90_000);
    let nat = world.nodes[1].snapshot(world.now).nat;
    assert_eq!(nat.mapping, Mapping::EndpointDependent);
    assert_eq!(nat.reflexive.len(), 2, "{nat:?}");
    assert_eq!(nat.relays.len(), 2);
    let why = shown(&world, 1, 2).why_not_direct.unwrap();
    assert!(
        why.contains("both sides") && why.contains("--endpoint"),
        "{why}"
    );

    // Nobody hands on: the two are out of reach, and are told so.
    world.make_metered(0);
    world.make_metered(3);
    world.run(30_000);
    let peer = shown(&world, 1, 2);
    assert_eq!((peer.state, peer.path), (PeerState::Down, Path::None));
    let why = peer.why_not_direct.unwrap();
    assert!(
        why.contains("both sides") && why.contains("nor is there a member"),
        "{why}"
    );

    let mut world = sites([Kind::PortRestricted, Kind::Symmetric]);
    world.run(90_000);
    let mapping = |at: usize| world.nodes[at].snapshot(world.now).nat.mapping;
    assert_eq!(mapping(1), Mapping::EndpointIndependent);
    assert_eq!(mapping(2), Mapping::EndpointDependent);
    assert_eq!(mapping(0), Mapping::None);
    let why = shown(&world, 1, 2).why_not_direct.unwrap();
    assert!(why.starts_with("the router of n2"), "{why}");
    let why = shown(&world, 2, 1).why_not_direct.unwrap();
    assert!(why.starts_with("the router here"), "{why}");
}

#[test]
fn a_router_that_lets_anybody_in_is_told_by_who_comes_from_elsewhere_and_a_closed_one_never() {
    for (kind, is_told) in [(Kind::FullCone, true), (Kind::PortRestricted, false)] {
        let mut world = World::new(3);
        world.routers.insert(1, Router::new(kind, 1));
        world.run(400_000);
        assert_eq!(world.nodes[1].snapshot(world.now).nat.let_in, None);

        // It moves where nobody has ever sent anything.
        let there = SocketAddr::from(([203, 0, 113, 9], 7));
        world.homes[2] = there;
        world.say(2, 1, b"from elsewhere").unwrap();
        world.run(60_000);

        let came = world.nodes[1].snapshot(world.now).nat.let_in;
        let expected = is_told.then(|| (world.nodes[2].me(), there));
        assert_eq!(came, expected, "{kind:?}");
        assert_eq!(world.state(1, 2), PeerState::Alive);
    }
}

#[test]
fn the_public_node_dies_and_the_direct_way_it_helped_to_find_stays() {
    let mut world = World::new(3);
    for at in [1, 2] {
        world
            .routers
            .insert(at, Router::new(Kind::PortRestricted, at as u8));
    }
    world.run(40_000);
    assert_eq!(shown(&world, 1, 2).path, Path::Direct);

    world.frozen = Some(0);
    world.run(120_000);

    assert_eq!(world.state(1, 2), PeerState::Alive);
    assert_eq!(shown(&world, 2, 1).path, Path::Direct);
}

#[test]
fn a_router_that_forgets_everything_costs_seconds() {
    let mut world = sites([Kind::PortRestricted, Kind::PortRestricted]);
    world.run(40_000);
    assert_eq!(shown(&world, 1, 2).path, Path::Direct);
    let router = world.routers.get_mut(&1).unwrap();
    router.ports.clear();
    router.used.clear();

    world.run(9_000);
    assert_eq!(world.state(1, 2), PeerState::Alive);
    world.run(60_000);

    assert_eq!(shown(&world, 1, 2).path, Path::Direct);
    assert_eq!(world.disconnected(1) + world.disconnected(2), 0);
}
