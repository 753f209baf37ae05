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
    let alive = refused(world.node(0), &["invite", "--replaces", "c"], "");
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
        same(about(world.node(0)), &about(world.node(1)))
    });
    let rows = before.points("node_load1").len();
    assert!(rows >= 8, "{rows} rows of c");
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
    let again = refused(world.node(e), &["join"], &token);
    assert!(
        again.contains("the token was used already, by c ("),
        "{again}"
    );

    for number in [d, 0, 1] {
        wait_for("the history of c under its name", SOON, || {
            same(about(world.node(number)), &before)
        });
    }
    let former = told_apart(world.node(d), from_ms, killed_ms);
    for number in [0, 1, d] {
        wait_retired(world.node(number), &former);
    }
    let twice = refused(world.node(0), &["invite", "--replaces", &former], "");
    assert!(
        twice.contains(&format!("{former} was replaced already, by c")),
        "{twice}"
    );
}

/// The answer, if it is the same as another.
fn same(answer: Ledger, other: &Ledger) -> Result<Ledger, String> {
    let differences = answer.differences(other);
    match differences.is_empty() {
        true => Ok(answer),
        false => Err(format!("{differences:?}")),
    }
}

/// What a node says that doesn't do something.
fn refused(node: &Node, arguments: &[&str], input: &str) -> String {
    let done = node.try_run(arguments, input);
    done.expect_err("it is refused")
}

/// Series of both machines come under one name, and say which is whose; the name of the dead one.
fn told_apart(node: &Node, from_ms: i64, killed_ms: i64) -> String {
    let from = from_ms.to_string();
    let load = [
        "query",
        "--series",
        "node_load1",
        "--node",
        "c",
        "--from",
        &from,
    ];
    let load = node.json(&load);
    let series = load["series"].as_array().expect("series");
    assert_eq!(series.len(), 2, "one of each machine: {load}");
    assert!(series.iter().all(|one| one["node"] == "c"), "{load}");
    assert!(series[1]["former"].is_null(), "{load}");
    let former = &series[0]["former"];
    let until_ms = former["until_ms"].as_i64();
    assert!(until_ms.is_some_and(|until| until > killed_ms), "{load}");
    let name = former["name"].as_str().unwrap_or_default();
    assert!(name.starts_with("c-"), "{load}");
    name.to_owned()
}

/// The dead one is retired, its successor is named, and nobody counts what it lacks.
fn wait_retired(node: &Node, former: &str) {
    let members = wait_for("c retired", SOON, || {
        let members = node.json(&["members"]);
        match named(&members, former).is_some_and(|old| old["state"] == "retired") {
            true => Ok(members),
            false => Err(members.to_string()),
        }
    });
    let (old, new) = (named(&members, former), named(&members, "c"));
    let (old, new) = (old.expect("the dead"), new.expect("its successor"));
    assert_eq!(
        (&old["replaced_by"], &new["replaces"]),
        (&Value::from("c"), &Value::from(former))
    );
    let status = Control::of(node).status();
    let old = named(&status["peers"], former).expect("a peer that was");
    assert_eq!(
        (old["state"].as_str(), old["backlog_samples"].as_u64()),
        (Some("retired"), Some(0)),
        "nobody waits for it: {old}"
    );
}

fn named<'a>(listed: &'a Value, name: &str) -> Option<&'a Value> {
    listed.as_array()?.iter().find(|one| one["name"] == name)
}
