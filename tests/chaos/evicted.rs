//! A member that is evicted while some can't hear of it: who knows when, and what it still gets.

use std::time::{Duration, Instant};

use outlast_tests::{Ledger, Nat, Place, Rows, World, now_ms, wait_for};

use crate::world;

/// Everybody within reach knows within 2 s where nobody else uses the machine.
const KNOWN: Duration = Duration::from_secs(10);

/// How long finding each other again may take once a site's uplink is back.
const BACK: Duration = Duration::from_secs(40);

#[test]
fn an_eviction_reaches_all_in_reach_at_once_and_a_site_that_was_cut_off_at_its_first_contact() {
    let mut world = world("ev");
    let net = world.net.as_mut().expect("in namespaces");
    net.stand("p", Place::Public);
    for site in ["west", "east"] {
        net.build_site(site, Some(Nat::PortRestricted));
    }
    // The one that will have to go stands beside w.
    for (host, site) in [("e", "east"), ("w", "west"), ("thief", "west")] {
        net.stand(host, Place::site(site));
    }
    let names = ["p", "e", "w", "thief"];
    world.found(&names);
    for (at, name) in names.iter().enumerate() {
        let others: Vec<_> = names.iter().copied().filter(|n| n != name).collect();
        world.node(at).wait_alive(&others, BACK);
    }

    world
        .net
        .as_ref()
        .expect("in namespaces")
        .cut_uplink("west");
    wait_down(&world, 0, &["w", "thief"]);
    let evicted = Instant::now();
    let said = world.node(0).run(&["evict", "thief", "--reason", "stolen"]);
    wait_gone(&world, 1, KNOWN);
    eprintln!("e knows after {:?}; p said: {said}", evicted.elapsed());
    // w can't know, and hears it as before.
    let rows = Rows::of(world.node(2), "thief");
    assert!(
        rows.first(KNOWN, |row| row.at_ms > now_ms() - 2_000)
            .is_some()
    );
    assert_eq!(state(&world, 2, "thief").as_deref(), Some("alive"));

    let mended = now_ms();
    world
        .net
        .as_ref()
        .expect("in namespaces")
        .mend_uplink("west");
    wait_gone(&world, 2, BACK);
    let known = now_ms();
    eprintln!("w knows {} ms after the way was open", known - mended);
    wait_for("w at p again", BACK, || {
        match state(&world, 0, "w").as_deref() {
            Some("alive") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    // From then on nothing of it is taken, and it knows why.
    std::thread::sleep(Duration::from_secs(3));
    let late = rows
        .so_far()
        .into_iter()
        .filter(|row| row.arrived_ms > known);
    assert_eq!(late.count(), 0, "rows of an evicted node were taken");
    // Nor is one that it took since then anywhere, by way of whomever; what it took before stays.
    for (at, name) in names.iter().enumerate().take(3) {
        let since = Ledger::about(world.node(at), "thief", "node_load1", known, now_ms());
        assert_eq!(since.samples(), 0, "rows of it at {name}");
        let before = Ledger::about(world.node(at), "thief", "node_load1", 0, known);
        assert!(before.samples() > 0, "its history at {name}");
    }
    wait_for("the evicted one knowing why", BACK, || {
        let said = world.node(3).try_run(&["status"], "");
        let said = said.unwrap_or_else(|refused| refused);
        let knows = said.contains("evicted") && said.contains("stolen");
        knows.then_some(()).ok_or(said)
    });
    for at in 0..3 {
        wait_gone(&world, at, KNOWN);
    }
}

/// Waits until this node counts the thief among those that are gone.
fn wait_gone(world: &World, at: usize, within: Duration) {
    let what = format!("{} knowing of the eviction", world.node(at).name);
    wait_for(&what, within, || {
        let members = world.node(at).json(&["members"]);
        let members = members.as_array().cloned().unwrap_or_default();
        let thief = members.iter().find(|member| member["name"] == "thief");
        match thief.and_then(|thief| thief["state"].as_str()) {
            Some("evicted") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn wait_down(world: &World, at: usize, peers: &[&str]) {
    wait_for("the others being missed", BACK, || {
        let states: Vec<_> = peers.iter().map(|peer| state(world, at, peer)).collect();
        let down = states.iter().all(|state| state.as_deref() == Some("down"));
        down.then_some(()).ok_or_else(|| format!("{states:?}"))
    });
}

/// The state of a peer by name; `None` when it is none.
fn state(world: &World, at: usize, peer: &str) -> Option<String> {
    let states = world.node(at).peer_states();
    let found = states.into_iter().find(|(name, _)| name == peer);
    found.map(|(_, state)| state)
}
