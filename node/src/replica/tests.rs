//! The replica against a plain model of the world, in virtual time.

mod calm;
mod converge;
mod liars;
mod places;
mod restore;
mod world;

use outlast_store::Origin;

fn name(index: usize) -> Origin {
    Origin([index as u8 + 1; 32])
}
