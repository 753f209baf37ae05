//! A disk that is lost while the keys are kept: everything comes back from the peers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_tests::{Control, World, wait_for};
use serde_json::{Value, json};

use crate::{wait_whole, world};

#[test]
fn a_node_whose_store_is_wiped_gets_its_whole_history_back_and_goes_on_in_a_new_one() {
    let mut world = world("w");
    world.found(&["a", "b", "c"]);
    wait_whole(&world);
    // Each run's start seals what the run before left open, so that blocks come back as well as rows.
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(world.node_mut(0).stop(), Some(0));
        world.node_mut(0).up();
        wait_whole(&world);
    }
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(world.node_mut(0).stop(), Some(0));
    std::thread::sleep(Duration::from_secs(4));
    let before = tallies(&world, 1);
    assert!(
        before.len() >= 5,
        "three runs of a, one of b and of c: {before:?}"
    );

    std::fs::remove_dir_all(world.node(0).state.join("store")).expect("wipe the store");
    let begun = Instant::now();
    world.node_mut(0).up();
    wait_for("everything back at a", Duration::from_secs(60), || {
        let back = tallies(&world, 0);
        let lacks = before.iter().find(|(log, held)| {
            let found = back.get(*log);
            found.is_none_or(|found| found["rows"].as_u64() < held["rows"].as_u64())
        });
        match lacks {
            Some((log, held)) => Err(format!("of {log}, {held}, a holds {:?}", back.get(log))),
            None => Ok(()),
        }
    });
    println!("everything back {:?} after the start", begun.elapsed());
    let cuts: BTreeMap<_, _> = before
        .iter()
        .map(|(log, held)| (log.clone(), held["rows"].clone()))
        .collect();
    let digest = |number| {
        let held = Control::of(world.node(number)).ask(&json!({ "verb": "tally", "cuts": cuts }));
        let of = |log: &String| held[log.as_str()]["digest"].clone();
        cuts.keys().map(of).collect::<Vec<_>>()
    };
    assert_eq!(digest(0), digest(1), "the same rows with the same values");

    let taken = Control::of(world.node(0)).ask(&json!({ "verb": "taken" }));
    let running = taken["log"].as_str().expect("a log");
    assert!(
        !before.contains_key(running),
        "the old log is never written to again"
    );
    // In hexadecimal: origin, store, epoch.
    let store = |log: &str| log[64..80].to_owned();
    let earlier: Vec<_> = before
        .keys()
        .filter(|log| same_origin(log, running))
        .collect();
    assert_eq!(earlier.len(), 3, "all earlier runs of a");
    assert!(
        earlier.iter().all(|log| store(log) != store(running)),
        "and the store is another"
    );
}

fn same_origin(one: &str, other: &str) -> bool {
    one[..64] == other[..64]
}

/// What a node's store holds, by log.
fn tallies(world: &World, number: usize) -> BTreeMap<String, Value> {
    let held = Control::of(world.node(number)).ask(&json!({ "verb": "tally", "cuts": {} }));
    let held = held.as_object().expect("logs").clone();
    held.into_iter().collect()
}
