//! A machine that takes a dead one's place: its name, its history, and nobody waits for the dead one any more.

use std::time::Duration;

use outlast_tests::{Control, Ledger, Node, World, now_ms, wait_for};
use serde_json::Value;

use crate::OUTLAST;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_machine_in_the_place_of_a_dead_one_has_its_name_and_its_whole_history() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b", "c"]);
    world.node(0).wait_alive(&["b", "c"], SOON);
    let alive = world.node(0).try_run(&["invite", "--replaces", "c"], "");
    let alive = alive.expect_err("c is there");
    assert!(
        alive.contains("c is alive: stop it first, or give --force"),
        "{alive}"
    );

    let from_ms = now_ms();
    std::thread::sleep(Duration::from_secs(12));
    world.node_mut(2).kill();
    let killed_ms = now_ms();
    std::fs::remove_dir_all(&world.node(2).state).expect("destroy its disk");
    let about = |node: &Node| Ledger::about(node, "c", "*", from_ms, killed_ms);
    let before = wait_for("the same of c at a and b", SOON, || {
        let (a, b) = (about(world.node(0)), about(world.node(1)));
        let differences = a.differences(&b);
        differences
            .is_empty()
            .then_some(a)
            .ok_or(format!("{differences:?}"))
    });
    assert!(
        before.points("node_load1").len() >= 8,
        "rows of c: {}",
        before.samples()
    );
    assert_eq!(before.nodes(), ["c"]);

    let token = wait_for("c to be given up", SOON, || {
        world.node(0).try_run(&["invite", "--replaces", "c"], "")
    });
    let d = world.add("d");
    world.node_mut(d).up();
    let joined = world.node(d).run_with_input(&["join"], &token);
    assert!(joined.contains(" as c; members: a, b, c, c-"), "{joined}");

    let e = world.add("e");
    world.node_mut(e).up();
    let again = world.node(e).try_run(&["join"], &token);
    let again = again.expect_err("a token for one machine");
    assert!(
        again.contains("the token was used already, by c ("),
        "{again}"
    );

    for number in [d, 0, 1] {
        wait_for("the history of c under its name", SOON, || {
            let differences = before.differences(&about(world.node(number)));
            differences
                .is_empty()
                .then_some(())
                .ok_or(format!("{differences:?}"))
        });
    }
    let load = world.node(d).json(&[
        "query",
        "--series",
        "node_load1",
        "--node",
        "c",
        "--from",
        &from_ms.to_string(),
    ]);
    let series = load["series"].as_array().expect("series");
    assert_eq!(series.len(), 2, "one of each machine: {load}");
    let former = series[0]["former"]["name"].as_str().unwrap_or_default();
    assert!(former.starts_with("c-"), "{load}");
    assert!(series[1]["former"].is_null(), "{load}");
    let until_ms = series[0]["former"]["until_ms"].as_i64();
    assert!(
        until_ms.is_some_and(|until| until > killed_ms),
        "{until_ms:?} after {killed_ms}"
    );

    for number in [0, 1, d] {
        let node = world.node(number);
        let shown = wait_for("c retired", SOON, || {
            let members = node.json(&["members"]);
            let found = named(&members, former).cloned();
            found
                .filter(|old| old["state"] == "retired")
                .ok_or_else(|| members.to_string())
        });
        assert_eq!(shown["replaced_by"], "c");
        let members = node.json(&["members"]);
        let new = named(&members, "c").expect("who took its place");
        assert_eq!(new["replaces"], former, "{members}");
        let status = Control::of(node).status();
        let old = named(&status["peers"], former).expect("a peer that was");
        assert_eq!(
            (old["state"].as_str(), old["backlog_samples"].as_u64()),
            (Some("retired"), Some(0)),
            "nobody waits for it: {old}"
        );
    }
    let twice = world.node(0).try_run(&["invite", "--replaces", former], "");
    let twice = twice.expect_err("it has a successor");
    assert!(
        twice.contains(&format!("{former} was replaced already, by c")),
        "{twice}"
    );
}

fn named<'a>(listed: &'a Value, name: &str) -> Option<&'a Value> {
    listed.as_array()?.iter().find(|one| one["name"] == name)
}
