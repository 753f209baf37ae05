//! A world for tests: real daemons, in network namespaces or on loopback, that can be cut off,
//! killed and asked what they hold.
//!
//! `net` makes the namespaces and cuts links, `nat` puts some behind routers, `world` starts and stops nodes, `ledger` compares
//! what two nodes answer, row by row; `stock` is a stock WireGuard machine, `control` and `usage` watch a node without disturbing it; `clock` sets one wrong;
//! `own_store` opens the store of a node that is down; `killed` ends a child with its owner, `ending` waits for one that has to end; `machine` boots one with systemd, users and packages of its own.
//! Invariant: dropping a `World` ends every process and removes every namespace it made.
//! Absent: a simulated network. What is tested here is what a user runs.

pub mod capture;
pub mod clock;
pub mod control;
pub mod ending;
pub mod killed;
pub mod ledger;
pub mod machine;
pub mod nat;
pub mod net;
pub mod own_store;
pub mod recording;
pub mod stock;
pub mod stranger;
pub mod usage;
pub mod world;

pub use control::{Control, Rows};
pub use killed::Killed;
pub use ledger::Ledger;
pub use machine::Machine;
pub use nat::{Nat, Place};
pub use net::Net;
pub use own_store::own_store;
pub use stock::Stock;
pub use usage::{Traffic, Usage};
pub use world::{Node, World};

use std::time::{Duration, Instant};

/// Calls `ready` every 200 ms until it gives a value.
///
/// # Panics
/// With `what` and the last reason, when `within` has passed.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut ready: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match ready() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= deadline => {
                panic!("{what} did not happen within {within:?}: {reason}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let elapsed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("test machines have a clock after 1970");
    i64::try_from(elapsed.as_millis()).expect("fits for the next 292 million years")
}
