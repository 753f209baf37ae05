//! Three machines on a network of their own: they meet, are cut off, killed and destroyed, and
//! nothing is lost. Needs root, for network namespaces.

mod clock;
mod cut;
mod kill;
mod meet;
mod strangers;

use outlast_tests::World;

/// A world in namespaces.
///
/// # Panics
/// Without root: what these tests prove can't be seen without it.
fn world(tag: &str) -> World {
    World::in_namespaces(env!("CARGO_BIN_EXE_outlast-under-test"), tag)
        .expect("network namespaces take root; run `make test` as root or in a container that is")
}
