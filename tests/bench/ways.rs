//! How long two machines behind NATs take to find a way, and a better one.
//!
//! A machine of each kind of site and a public one, all members. One is killed and started again:
//! from spawning its process to the first session with the other, whichever way it goes, and to
//! the way the two NATs allow. Then two sites are kept apart, so that a public machine relays, and
//! the way between them opens: until it is used. And a machine moves from network to network: until
//! a row of it, taken there, is stored by the other two. Rows are taken each second, so half a second
//! of that is waiting for the next.

use std::time::Duration;

use outlast_tests::{Control, Nat, Place, Rows, World, now_ms};

use crate::OUTLAST;
use crate::figures::{Figures, heads};

/// Starts of each pair, openings, and moves to each network.
const RUNS: usize = 5;

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two sites, and the way that should be found between them.
const PAIRS: [(Nat, Nat, &str); 4] = [
    (Nat::FullCone, Nat::FullCone, "direct"),
    (Nat::PortRestricted, Nat::PortRestricted, "direct"),
    (Nat::FullCone, Nat::Symmetric, "direct"),
    (Nat::Symmetric, Nat::Symmetric, "relay"),
];

pub(crate) fn measure() {
    measure_runs(RUNS);
}

/// The same with so many runs of each.
pub(crate) fn measure_runs(runs: usize) {
    let Some(world) = World::in_namespaces(OUTLAST, "y") else {
        println!("\nways: not measured, namespaces take root");
        return;
    };
    drop(world);
    println!(
        "{}",
        heads("w behind a NAT starts, e behind another, ms from spawning")
    );
    for (number, (west, east, expected)) in PAIRS.into_iter().enumerate() {
        let mut world = sites(&format!("y{number}"), west, east);
        let starts: Vec<_> = (0..runs)
            .map(|run| start(&mut world, run, expected))
            .collect();
        println!("{west:?} and {east:?}");
        let first = Figures::of(starts.iter().map(|(first, _)| *first));
        println!("{:54} {first}", "  the first session, any way");
        let settled = Figures::of(starts.iter().map(|(_, settled)| *settled));
        println!("{:54} {settled}", format!("  the way is {expected}"));
    }
    let mut world = sites("yo", Nat::PortRestricted, Nat::PortRestricted);
    let left = Figures::of((0..runs).map(|_| open(&mut world)));
    println!(
        "{}",
        heads("a way opens between two sites that were relayed, ms")
    );
    println!("{:54} {left}", "w and e both use it");
    println!(
        "{}",
        heads("w moves to another network, ms from plugging it in")
    );
    for (place, name) in [
        (Place::site("east"), "into e's LAN"),
        (Place::Public, "to a public address"),
        (Place::site("west"), "behind a NAT of its own"),
    ] {
        let moved = Figures::of((0..runs).map(|run| go(&mut world, &place, run)));
        println!(
            "{:54} {moved}",
            format!("{name}: a row of w at p and e, the later")
        );
    }
}

/// A public machine p, and w and e behind routers of these kinds.
fn sites(tag: &str, west: Nat, east: Nat) -> World {
    let mut world = World::in_namespaces(OUTLAST, tag).expect("namespaces take root");
    let net = world.net.as_mut().expect("in namespaces");
    net.stand("p", Place::Public);
    for (host, site, nat) in [("w", "west", west), ("e", "east", east)] {
        net.build_site(site, Some(nat));
        net.stand(host, Place::site(site));
    }
    world.found(&["p", "w", "e"]);
    for (at, others) in [(0, ["e", "w"]), (1, ["e", "p"]), (2, ["p", "w"])] {
        world.node(at).wait_alive(&others, PATIENCE);
    }
    world
}

/// w is killed and starts again: ms to its first session with e, and to the way expected.
fn start(world: &mut World, run: usize, expected: &str) -> (f64, f64) {
    // Longer than it takes to be missed, so that nothing is left of the session before.
    std::thread::sleep(Duration::from_millis(
        2_000 + 1_000 * run as u64 / RUNS as u64,
    ));
    world.node_mut(1).kill();
    std::thread::sleep(Duration::from_secs(12));
    let began = now_ms();
    world.node_mut(1).start(&[]);
    let mut control = Control::of(world.node(1));
    let first = until(began, || way(&mut control, "e").is_some());
    let settled = until(began, || {
        way(&mut control, "e").as_deref() == Some(expected)
    });
    (first, settled)
}

/// The two sites are kept apart until they are relayed; ms from the opening until neither is.
fn open(world: &mut World) -> f64 {
    let net = world.net.as_ref().expect("in namespaces");
    net.forbid("west", "east");
    let mut ends = [Control::of(world.node(1)), Control::of(world.node(2))];
    let mut both = |expected: &str| {
        let others = ["e", "w"];
        let mut ends = ends.iter_mut().zip(others);
        ends.all(|(end, other)| way(end, other).as_deref() == Some(expected))
    };
    let _cut = until(now_ms(), || both("relay"));
    std::thread::sleep(Duration::from_secs(5));
    net.allow("west");
    until(now_ms(), || both("direct"))
}

/// w goes there from a public address or, if that is where it goes, from its own site; ms until a
/// row taken since is stored at p and at e.
fn go(world: &mut World, place: &Place, run: usize) -> f64 {
    let from = match place {
        Place::Public => Place::site("west"),
        Place::Site(_) => Place::Public,
    };
    let net = world.net.as_mut().expect("in namespaces");
    net.move_over("w", from);
    std::thread::sleep(Duration::from_millis(
        8_000 + 1_000 * run as u64 / RUNS as u64,
    ));
    let rows = [Rows::of(world.node(0), "w"), Rows::of(world.node(2), "w")];
    let net = world.net.as_mut().expect("in namespaces");
    net.move_over("w", place.clone());
    let moved = now_ms();
    let came = rows.map(|rows| rows.first(PATIENCE, |row| row.at_ms >= moved));
    let came = came.map(|row| row.expect("rows come again").arrived_ms - moved);
    came.into_iter().max().expect("two") as f64
}

/// The path to a peer that is heard.
fn way(control: &mut Control, peer: &str) -> Option<String> {
    let status = control.status();
    let peers = status["peers"].as_array()?;
    let found = peers.iter().find(|known| known["name"] == peer)?;
    let path = found["path"].as_str().filter(|path| *path != "none")?;
    (found["state"] == "alive").then(|| path.to_owned())
}

/// Milliseconds from `began` until it holds.
fn until(began: i64, mut holds: impl FnMut() -> bool) -> f64 {
    while !holds() {
        assert!(
            now_ms() - began < PATIENCE.as_millis() as i64,
            "not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    (now_ms() - began) as f64
}
