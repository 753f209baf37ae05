//! A node's addresses change while it runs: how long until its peers store rows again that were
//! taken after the change, and it theirs.
//!
//! Three machines on one switch; b loses its IPv4 and IPv6 addresses and gets others at once, as
//! from a new lease. Its process isn't told. Rows are taken each second, so half a second of each
//! figure is waiting for the next; the changes are spread over the second.

use std::time::Duration;

use outlast_tests::{Control, Rows, World, now_ms, wait_for};

use crate::OUTLAST;
use crate::figures::{Figures, heads};

/// Changes of address.
const MOVES: usize = 10;

/// How long a row may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two changes: everything has settled.
const REST: Duration = Duration::from_secs(6);

pub(crate) fn measure() {
    let Some(mut world) = World::in_namespaces(OUTLAST, "r") else {
        println!("\nroam: not measured, namespaces take root");
        return;
    };
    world.found(&["a", "b", "c"]);
    world.node(0).wait_alive(&["b", "c"], PATIENCE);
    world.node(1).wait_alive(&["a", "c"], PATIENCE);
    let moves: Vec<_> = (0..MOVES).map(|number| change(&world, number)).collect();

    println!("{}", heads("b's addresses change, ms from the new one"));
    let of = |pick: fn(&Moved) -> f64| Figures::of(moves.iter().map(pick));
    println!(
        "{:54} {}",
        "a row of b stored at a and at c, the later",
        of(|m| m.outward)
    );
    println!("{:54} {}", "a row of a stored at b", of(|m| m.inward));
    println!(
        "{:54} {}",
        "rows of b that a got by repair, not live",
        of(|m| m.missed)
    );
}

/// What one change cost.
struct Moved {
    outward: f64,
    inward: f64,
    missed: f64,
}

fn change(world: &World, number: usize) -> Moved {
    std::thread::sleep(REST + Duration::from_millis(1_000 * number as u64 / MOVES as u64));
    let at_a = Rows::of(world.node(0), "b");
    let at_c = Rows::of(world.node(2), "b");
    let at_b = Rows::of(world.node(1), "a");
    let before = at_a.first(PATIENCE, |_| true).expect("rows come");
    // Somewhere else than where the phase of the rows has just put us.
    std::thread::sleep(Duration::from_millis(1_000 * number as u64 / MOVES as u64));

    let host = 101 + number;
    let mut seqs: Vec<_> = at_a.so_far().iter().map(|row| row.seq).collect();
    world
        .net
        .as_ref()
        .expect("in namespaces")
        .move_to("b", host);
    let moved = now_ms();

    let after = |rows: &Rows| rows.first(PATIENCE, |row| row.at_ms >= moved);
    let [a, c, b] = [&at_a, &at_c, &at_b].map(|rows| after(rows).expect("rows come again"));
    assert_heard_at(world, host);
    seqs.push(before.seq);
    let last = seqs.into_iter().max().expect("one at least");
    Moved {
        outward: (a.arrived_ms.max(c.arrived_ms) - moved) as f64,
        inward: (b.arrived_ms - moved) as f64,
        missed: (a.seq - last - 1) as f64,
    }
}

/// The rows must have come from the new address, or something else was measured. A status is up
/// to a second old.
fn assert_heard_at(world: &World, host: usize) {
    let new = [format!("10.77.0.{host}:"), format!("[fd77::{host}]:")];
    let mut control = Control::of(world.node(0));
    wait_for(
        "a hearing b at its new address",
        Duration::from_secs(3),
        || {
            let status = control.status();
            let peers = status["peers"].as_array().expect("peers");
            let b = peers.iter().find(|peer| peer["name"] == "b");
            let endpoint = b.expect("b is a peer")["endpoint"]
                .as_str()
                .unwrap_or_default();
            let moved = new
                .iter()
                .any(|address| endpoint.starts_with(address.as_str()));
            moved.then_some(()).ok_or_else(|| endpoint.to_owned())
        },
    );
}
