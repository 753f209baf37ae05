//! From the start of a process to its first authenticated session and its first row of the peer,
//! between two machines on one switch; beside it a pair of stock WireGuard, userspace like ours.
//!
//! Every start is a fresh process with the state directory of a member. The clock runs from just
//! before the process is spawned, so loading, opening the store and binding are in it; for
//! WireGuard so are the two commands that configure it. Rows are taken at whole seconds: a session
//! waits up to a second for the next, and the pauses before the starts are spread over a second.

use std::time::Duration;

use outlast_tests::{Control, Rows, World, now_ms, wait_for};

use crate::OUTLAST;
use crate::figures::{Figures, heads};
use crate::wireguard;

/// Starts of each kind.
const RUNS: usize = 10;

/// How long a session or a row may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What went before the start of b.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    /// It said goodbye.
    Stopped,
    /// Its process was killed; a still believes in the session.
    Killed,
    /// Both were killed and both start, as after a power cut of the whole site.
    BothKilled,
}

/// Milliseconds from the start.
struct Times {
    session: f64,
    row_here: f64,
    row_there: f64,
}

pub(crate) fn measure() {
    let Some(mut world) = World::in_namespaces(OUTLAST, "s") else {
        println!("\nsessions: not measured, namespaces take root");
        return;
    };
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], PATIENCE);
    world.node(1).wait_alive(&["a"], PATIENCE);

    println!("{}", heads("start of b, a known and up, ms from spawning"));
    let mut medians = Vec::new();
    for (before, name) in [
        (Before::Stopped, "b had said goodbye"),
        (Before::Killed, "b was killed (-9) 1-2 s before"),
        (
            Before::BothKilled,
            "both were killed, both start (the earlier)",
        ),
    ] {
        let times: Vec<_> = (0..RUNS)
            .map(|run| start(&mut world, before, run))
            .collect();
        let session = Figures::of(times.iter().map(|times| times.session));
        let here = Figures::of(times.iter().map(|times| times.row_here));
        let there = Figures::of(times.iter().map(|times| times.row_there));
        println!(
            "{name}\n{:54} {session}",
            "  b's first authenticated session"
        );
        println!("{:54} {here}", "  the first row of a stored at b");
        println!("{:54} {there}", "  the first new row of b stored at a");
        medians.push(session.median());
    }
    drop(world);

    let peer = Figures::of(wireguard::handshakes(RUNS));
    println!(
        "wireguard-go + wg, b was killed (-9) 1-2 s before\n{:54} {peer}",
        "  b's first handshake"
    );
    println!(
        "ratio of medians, session after kill -9 to WireGuard's: {:.2}",
        medians[1] / peer.median()
    );
}

fn start(world: &mut World, before: Before, run: usize) -> Times {
    let spread = Duration::from_millis(1_000 + 1_000 * run as u64 / RUNS as u64);
    let there = end(world, before);
    std::thread::sleep(spread);
    let began = now_ms();
    world.node_mut(1).start(&[]);
    if before == Before::BothKilled {
        world.node_mut(0).start(&[]);
    }
    let here = Rows::of(world.node(1), "a");
    let there = there.unwrap_or_else(|| Rows::of(world.node(0), "b"));

    let session = first_session(world, began);
    let since = |row: Option<outlast_tests::control::Arrived>| {
        (row.expect("rows come").arrived_ms - began) as f64
    };
    let times = Times {
        session,
        row_here: since(here.first(PATIENCE, |_| true)),
        row_there: since(there.first(PATIENCE, |row| row.at_ms >= began)),
    };
    world.node(0).wait_alive(&["b"], PATIENCE);
    times
}

/// Ends what `before` says; where a goes on, the rows it will hear of b are followed from here.
fn end(world: &mut World, before: Before) -> Option<Rows> {
    match before {
        Before::Stopped => {
            world.node_mut(1).stop();
            wait_for("a knowing that b left", PATIENCE, || {
                let states = world.node(0).peer_states();
                let left = states.iter().any(|(_, state)| state == "left");
                left.then_some(()).ok_or_else(|| format!("{states:?}"))
            });
        }
        Before::Killed => world.node_mut(1).kill(),
        Before::BothKilled => {
            world.node_mut(0).kill();
            world.node_mut(1).kill();
            return None;
        }
    }
    Some(Rows::of(world.node(0), "b"))
}

/// The time its own status gives for the first handshake of this run, after `began`.
fn first_session(world: &World, began: i64) -> f64 {
    let mut control = Control::of(world.node(1));
    let deadline = now_ms() + PATIENCE.as_millis() as i64;
    loop {
        let at = control.status()["peers"][0]["last_handshake_ms"].as_i64();
        if let Some(at) = at {
            return (at - began) as f64;
        }
        assert!(now_ms() < deadline, "no session within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
