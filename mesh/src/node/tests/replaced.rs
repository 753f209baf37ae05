//! A member whose place another machine took: nobody waits for it, and nobody turns it away.

use super::*;
use crate::trust::{self, InviteTerms, Token};

const OLD: usize = 2;

#[test]
fn a_replaced_member_is_dialled_no_more_and_let_in_when_it_comes() {
    let mut world = World::new(3);
    world.run(2_000);
    world.frozen = Some(OLD);
    world.run(20_000);
    let dialled = world.peer(0, OLD).dial.last();
    assert_eq!(shown(&world), PeerState::Down);
    world.run(120_000);
    assert_ne!(
        world.peer(0, OLD).dial.last(),
        dialled,
        "a dead member is dialled for ever"
    );

    replace(&mut world);
    assert_eq!(shown(&world), PeerState::Retired);
    let dialled = world.peer(0, OLD).dial.last();
    world.run(120_000);
    assert_eq!(world.peer(0, OLD).dial.last(), dialled);

    world.frozen = None;
    world.run(90_000);
    let old = world.nodes[OLD].me();
    assert!(world.nodes[0].connected().any(|id| id == old));
    assert_eq!(shown(&world), PeerState::Retired);
}

fn shown(world: &World) -> PeerState {
    let (snapshot, old) = (world.nodes[0].snapshot(world.now), world.nodes[OLD].me());
    let peer = snapshot.peers.iter().find(|peer| peer.id == old);
    peer.expect("it is a member").state
}

/// Another machine takes its place, and node 0 hears of it.
fn replace(world: &mut World) {
    let (now, old) = (world.now, world.nodes[OLD].me());
    let mut held = world.nodes[0].statements().clone();
    let terms = InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: 1,
        needs_approval: false,
    };
    let (seed, invite) = trust::issue_invite(&admin(), &held, terms, now.wall_ms()).unwrap();
    held.insert(invite.clone()).unwrap();
    let of = invite.id(&held.mesh());
    let replace = trust::issue_replace(&admin(), &held, of, old, now.wall_ms()).unwrap();
    held.insert(replace).unwrap();
    let sponsor = trust::Bootstrap {
        node: world.nodes[0].me(),
        tunnel: world.keys[0].1.public(),
        addrs: vec![address(0)],
    };
    let token = Token::new(seed, invite, &held, vec![sponsor]).unwrap();
    let join = trust::author_join(&NodeKey::from_seed(&[77; 32]), &token, "new").unwrap();
    let witness = trust::witness(&world.keys[0].0, &held, &join, now.wall_ms()).unwrap();
    held.insert(join).unwrap();
    held.insert(witness.unwrap()).unwrap();
    let node = &mut world.nodes[0];
    node.root = held.root();
    node.statements = held;
    node.meet_members(now);
}
