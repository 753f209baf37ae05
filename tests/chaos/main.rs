//! Machines on a network of their own: they meet, are cut off, moved, killed and destroyed, and
//! nothing is lost. Needs root, for network namespaces.

mod clock;
mod cut;
mod evicted;
mod kill;
mod lan;
mod meet;
mod moved;
mod narrow;
mod nat;
mod outage;
mod parted;
mod stack;
mod strangers;
mod wiped;

use std::time::Duration;

use outlast_tests::World;

/// A world in namespaces.
///
/// # Panics
/// Without root: what these tests prove can't be seen without it.
fn world(tag: &str) -> World {
    World::in_namespaces(env!("CARGO_BIN_EXE_outlast-under-test"), tag)
        .expect("network namespaces take root; run `make test` as root or in a container that is")
}

/// Waits until everybody sees everybody.
fn wait_whole(world: &World) {
    for (number, others) in [(0, ["b", "c"]), (1, ["a", "c"]), (2, ["a", "b"])] {
        world
            .node(number)
            .wait_alive(&others, Duration::from_secs(30));
    }
}
