//! A minute without a cable, or without the way beyond it, and what everybody holds afterwards.

use std::time::{Duration, Instant};

use outlast_tests::{Ledger, Node, Rows, now_ms, wait_for};

use crate::world;

/// As long as the promise says.
const CUT: Duration = Duration::from_secs(60);

/// How late the others' rows may be while one is cut off and while its backlog runs.
const LATEST_MS: i64 = 2_000;

#[test]
fn a_minute_of_cut_leaves_everyone_with_every_sample_once() {
    let mut world = world("c");
    world.found(&["a", "b", "c"]);
    for (number, others) in [(0, ["b", "c"]), (1, ["a", "c"]), (2, ["a", "b"])] {
        world
            .node(number)
            .wait_alive(&others, Duration::from_secs(20));
    }
    // The first rows are still being told: the comparison begins a little later.
    std::thread::sleep(Duration::from_secs(5));
    let from = now_ms();
    let live = Rows::of(world.node(0), "b");

    world.net.as_ref().expect("in namespaces").pull("c");
    let pulled = Instant::now();
    wait_for("a noticing", Duration::from_secs(20), || {
        let states = world.node(0).peer_states();
        let gone = states
            .iter()
            .any(|(name, state)| name == "c" && state != "alive");
        if gone {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });
    std::thread::sleep(CUT.saturating_sub(pulled.elapsed()));
    world.net.as_ref().expect("in namespaces").push_back("c");
    world
        .node(0)
        .wait_alive(&["b", "c"], Duration::from_secs(30));
    std::thread::sleep(Duration::from_secs(5));
    let to = now_ms();

    let ledgers = converge(&world.nodes().iter().collect::<Vec<_>>(), from, to);
    let seconds = usize::try_from((to - from) / 1_000).expect("positive");
    for origin in ["a", "b", "c"] {
        let points = ledgers.points(&format!("\"{origin}\" \"node_load1\""));
        assert!(
            points.len() >= seconds - 1,
            "{origin}: {} rows of {seconds}",
            points.len()
        );
        assert_eq!(
            ledgers.holes(origin, "node_load1"),
            Vec::<i64>::new(),
            "holes in {origin}"
        );
    }
    assert_eq!(ledgers.repeats(), Vec::<String>::new());
    // As the receiving daemon stamped them.
    let live = live.so_far();
    assert!(
        live.len() as u64 >= CUT.as_secs(),
        "only {} rows came live",
        live.len()
    );
    let late = live.iter().map(|row| row.arrived_ms - row.at_ms);
    let latest = late.max().expect("more than one");
    assert!(
        latest <= LATEST_MS,
        "b's rows reached a up to {latest} ms late"
    );
}

#[test]
fn a_cut_that_no_machine_is_told_of_heals_by_itself() {
    let mut world = world("n");
    world.found(&["a", "b", "c"]);
    for (number, others) in [(0, ["b", "c"]), (2, ["a", "b"])] {
        world
            .node(number)
            .wait_alive(&others, Duration::from_secs(20));
    }
    std::thread::sleep(Duration::from_secs(5));
    let from = now_ms();
    let net = world.net.as_ref().expect("in namespaces");

    // Every link stays up: only silence tells.
    net.sever("c");
    wait_for("c seen down", Duration::from_secs(30), || {
        let states = world.node(0).peer_states();
        let down = states.contains(&("c".to_owned(), "down".to_owned()));
        down.then_some(()).ok_or_else(|| format!("{states:?}"))
    });
    std::thread::sleep(Duration::from_secs(8));
    net.mend("c");
    world
        .node(0)
        .wait_alive(&["b", "c"], Duration::from_secs(30));
    std::thread::sleep(Duration::from_secs(3));
    let to = now_ms();

    let ledgers = converge(&world.nodes().iter().collect::<Vec<_>>(), from, to);
    for origin in ["a", "b", "c"] {
        let holes = ledgers.holes(origin, "node_load1");
        assert_eq!(holes, Vec::<i64>::new(), "holes in {origin}");
    }
    assert_eq!(ledgers.repeats(), Vec::<String>::new());
}

/// Waits until all nodes answer the same for the stretch, and returns that answer.
pub(crate) fn converge(nodes: &[&Node], from: i64, to: i64) -> Ledger {
    wait_for(
        "every node holding the same",
        Duration::from_secs(60),
        || {
            let answers: Vec<_> = nodes
                .iter()
                .map(|node| Ledger::of(node, from, to))
                .collect();
            for answer in &answers[1..] {
                let differences = answers[0].differences(answer);
                if !differences.is_empty() {
                    return Err(differences.join("\n"));
                }
            }
            let spoken_of = answers[0].nodes().len();
            if spoken_of < nodes.len() {
                return Err(format!("samples of only {spoken_of} nodes"));
            }
            Ok(answers[0].clone())
        },
    )
}
