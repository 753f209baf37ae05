//! A machine in the place of a dead one, where not everybody keeps everything.

use std::time::Duration;

use outlast_mesh::{MemberSnapshot, PeerState};

use super::world::{World, id, snapshot};

const COUNT: usize = 20;
const OLD: usize = 1;

#[test]
fn a_successor_pulls_the_whole_history_of_the_dead_and_nobody_waits_for_the_dead() {
    let mut world = World::new(31, &[5; COUNT]);
    world.live(90);
    let heir = (2..COUNT).rfind(|index| world.rows(*index, OLD) == 0);
    let heir = heir.expect("somebody who keeps none of its rows");
    let held = (0..COUNT).map(|index| world.rows(index, OLD));
    let whole = held.max().expect("members");
    assert!(whole >= 88, "{whole} rows");

    world.part(OLD);
    let members: Vec<_> = (0..COUNT).map(|index| after(index, heir)).collect();
    let now = world.now;
    for index in (0..COUNT).filter(|index| *index != OLD) {
        world.members[index].core.handle_members(&members, now);
    }
    world.pass(Duration::from_secs(60));

    let copies = (0..COUNT).filter(|index| *index != OLD && world.rows(*index, OLD) > 0);
    let copies: Vec<_> = copies
        .map(|index| (index, world.rows(index, OLD)))
        .collect();
    assert!(
        copies.contains(&(heir, whole)),
        "heir {heir} of {whole}: {copies:?}"
    );
    for index in (0..COUNT).filter(|index| *index != OLD) {
        let core = &world.members[index].core;
        assert!(!core.wanted().contains(&id(OLD)), "{index} waits for it");
        assert!(
            !core.backlog().contains_key(&id(OLD)),
            "{index} counts what it lacks"
        );
    }
}

fn after(index: usize, heir: usize) -> MemberSnapshot {
    let mut member = snapshot(index);
    if index == OLD {
        (member.state, member.replaced_by) = (PeerState::Retired, Some(id(heir)));
    }
    if index == heir {
        member.replaces = Some(id(OLD));
    }
    member
}
