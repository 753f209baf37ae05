//! Machines whose clock is wrong, and one that stands still for a while: they are connected within
//! moments, nothing is lost, and `status` says what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use outlast_tests::{Control, Ledger, Node, World, now_ms, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cut::converge;
use crate::world;

const DAY: i64 = 24 * 3_600;

#[test]
fn a_node_that_starts_before_1970_waits_for_its_clock_and_heals_without_a_restart() {
    let mut world = pair("e");
    let from = now_ms();
    world.node_mut(1).stop();
    let since_1970 = now_ms() / 1_000;
    world.node_mut(1).set_clock(-since_1970 - DAY);

    world.node_mut(1).up();

    wait_for_notice(world.node(1), &["before 1970", "timedatectl"]);
    let taken = samples_taken(world.node(1));
    std::thread::sleep(Duration::from_secs(4));
    assert!(samples_taken(world.node(1)) > taken, "it goes on measuring");
    assert_eq!(
        world.node(1).peer_states(),
        [("a".to_owned(), "down".to_owned())]
    );
    // A clock may be set in steps, and some are right only in the end.
    world.node_mut(1).set_clock(-since_1970 + 10);
    wait_for_notice(world.node(1), &["behind the founding"]);
    assert_whole(&world);
    world.node_mut(1).set_clock(0);
    wait_for("nothing left to say", Duration::from_secs(40), || {
        let said = [notices(world.node(0)), notices(world.node(1))].concat();
        if said.is_empty() {
            Ok(())
        } else {
            Err(said.join("\n"))
        }
    });

    assert_whole(&world);
    // The clock goes back before 1970 under live tunnels: they hold, and new streams are opened.
    world.node_mut(1).set_clock(-since_1970 - DAY);
    world.node_mut(0).kill();
    std::thread::sleep(Duration::from_secs(3));
    world.node_mut(0).up();
    assert_whole(&world);
    assert_nothing_lost(&world, from);
    set_right(&mut world, from);
}

#[test]
fn a_member_thirty_days_back_is_connected_again_and_loses_nothing() {
    let mut world = pair("y");
    let from = now_ms();
    std::thread::sleep(Duration::from_secs(3));
    world.node_mut(1).kill();
    world.node_mut(1).set_clock(-30 * DAY);

    world.node_mut(1).up();

    assert_whole(&world);
    wait_for_notice(world.node(0), &["the clock of b is 30 days behind"]);
    wait_for_notice(world.node(1), &["this machine's clock", "timedatectl"]);
    // Of two clocks nobody knows which is wrong: its rows bear its own time.
    wait_for_rows_of_b(&world, -30 * DAY);
    wait_for_all_of_b(&world);
    // Set right at last, and started again: newer stamps than ever.
    set_right(&mut world, from);
}

#[test]
fn a_process_that_stands_still_for_a_while_is_back_and_has_everything() {
    let world = pair("z");
    let from = now_ms();
    std::thread::sleep(Duration::from_secs(3));
    let stopped = Pid::from_raw(i32::try_from(world.node(1).pid().expect("up")).expect("a pid"));
    let stopped = stopped.expect("a pid");
    kill_process(stopped, Signal::STOP).expect("stop the daemon");
    wait_for("a missing b", Duration::from_secs(40), || {
        match world.node(0).peer_states().as_slice() {
            [(_, state)] if state == "down" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    kill_process(stopped, Signal::CONT).expect("let the daemon go on");

    world.node(0).wait_alive(&["b"], Duration::from_secs(20));
    world.node(1).wait_alive(&["a"], Duration::from_secs(20));
    assert_nothing_lost(&world, from);
}

#[test]
fn a_clock_that_is_set_thirty_days_ahead_and_back_again_changes_no_identity_and_is_told_by_its_keeper()
 {
    let mut world = pair("st");
    let from = now_ms();
    let logs: Vec<_> = tally(world.node(1)).into_keys().collect();

    world.node_mut(1).set_clock(30 * DAY);
    wait_for_change(&world, 30 * DAY * 1_000);
    wait_for_rows_of_b_taken(&world);
    // Rows from the future are held, and in nobody's chart.
    let ahead = now_ms() + 30 * DAY * 1_000;
    let hidden = Ledger::about(
        world.node(0),
        "b",
        "node_load1",
        ahead - 60_000,
        ahead + 60_000,
    );
    assert_eq!(hidden.samples(), 0, "{hidden:?}");
    world.node_mut(1).set_clock(0);
    wait_for_change(&world, -30 * DAY * 1_000);

    world.node_mut(1).set_clock(-30 * DAY);
    wait_for_change(&world, -30 * DAY * 1_000);
    wait_for_rows_of_b(&world, -30 * DAY);
    world.node_mut(1).set_clock(0);
    wait_for_change(&world, 30 * DAY * 1_000);
    wait_for_rows_of_b(&world, 0);

    let after: Vec<_> = tally(world.node(1)).into_keys().collect();
    assert_eq!(after, logs, "no step begins a run");
    assert_whole(&world);
    wait_for_all_of_b(&world);
    let moved: Vec<_> = changes(world.node(0))
        .iter()
        .map(|change| days(*change))
        .collect();
    assert_eq!(
        moved,
        [30, -30, -30, 30],
        "each step once, in the order of the rows"
    );
    assert_eq!(changes(world.node(1)), changes(world.node(0)));
    assert!(tally(world.node(0)).len() >= 2 && now_ms() > from);
}

#[test]
fn a_wrong_clock_among_three_bears_the_time_of_the_two_others() {
    let mut world = world("mj");
    for name in ["a", "b", "c"] {
        world.add(name);
    }
    world.node_mut(1).set_clock(0);
    for number in 0..3 {
        world.node_mut(number).up();
    }
    let token = world.node(0).run(&["init", "--name", "a", "--invite", "2"]);
    world
        .node(1)
        .run_with_input(&["join", "--name", "b"], &token);
    world
        .node(2)
        .run_with_input(&["join", "--name", "c"], &token);
    crate::wait_whole(&world);
    wait_for(
        "two clocks to compare with",
        Duration::from_secs(30),
        || {
            let clock = Control::of(world.node(1)).status()["clock"].clone();
            if clock["believed_peers"] == 2 {
                Ok(())
            } else {
                Err(clock.to_string())
            }
        },
    );

    for wrong_by in [30 * DAY, -30 * DAY] {
        world.node_mut(1).set_clock(wrong_by);
        wait_for_source(world.node(1), "peers");
        wait_for_rows_of_b(&world, 0);
        assert_eq!(
            changes(world.node(0)),
            Vec::<i64>::new(),
            "no row bore another time"
        );
        wait_for_notice(
            world.node(1),
            &["this machine's clock is 30 days", "timedatectl"],
        );
    }
    world.node_mut(1).set_clock(0);
    wait_for_source(world.node(1), "ntp");
    wait_for_all_of_b(&world);
}

/// The clock of b is set right while b is down; everything since `from` is there then.
fn set_right(world: &mut World, from: i64) {
    world.node_mut(1).stop();
    world.node_mut(1).set_clock(0);
    world.node_mut(1).up();
    assert_whole(world);
    assert_nothing_lost(world, from);
}

/// Two nodes that know each other well, the second with a clock that can be set wrong.
fn pair(tag: &str) -> World {
    let mut world = world(tag);
    for name in ["a", "b"] {
        world.add(name);
    }
    world.node_mut(1).set_clock(0);
    for number in 0..2 {
        world.node_mut(number).up();
    }
    let token = world.node(0).run(&["init", "--name", "a", "--invite", "1"]);
    let join = ["join", "--name", "b"];
    world.node(1).run_with_input(&join, &token);
    assert_whole(&world);
    std::thread::sleep(Duration::from_secs(4));
    world
}

/// Both see each other within the time the promise gives a wrong clock.
fn assert_whole(world: &World) {
    world.node(0).wait_alive(&["b"], Duration::from_secs(90));
    world.node(1).wait_alive(&["a"], Duration::from_secs(90));
}

/// Rows go both ways, and both hold the same of everything since `from`, each once.
fn assert_nothing_lost(world: &World, from: i64) {
    let began = now_ms();
    for (asked, origin) in [(0, "b"), (1, "a")] {
        let what = format!("fresh rows of {origin}");
        wait_for(&what, Duration::from_secs(30), || {
            let fresh = Ledger::about(world.node(asked), origin, "node_load1", began, now_ms());
            if fresh.samples() >= 2 {
                Ok(())
            } else {
                Err(format!("{} samples", fresh.samples()))
            }
        });
    }
    let both: Vec<&Node> = world.nodes().iter().collect();
    let held = converge(&both, from, now_ms() - 3_000);
    assert_eq!(held.repeats(), Vec::<String>::new());
    wait_for_all_of_b(world);
}

/// a holds every row that b has.
fn wait_for_all_of_b(world: &World) {
    let taken = tally(world.node(1));
    wait_for("a holding all of b", Duration::from_secs(60), || {
        let held = tally(world.node(0));
        let lacking: Vec<_> = taken
            .iter()
            .filter(|(log, rows)| held.get(*log) < Some(*rows))
            .collect();
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(format!("lacking {lacking:?}"))
        }
    });
}

/// Rows of b come to a that bear a time so many seconds from the true one.
fn wait_for_rows_of_b(world: &World, wrong_by: i64) {
    let began = now_ms() + wrong_by * 1_000;
    wait_for("fresh rows of b", Duration::from_secs(40), || {
        let until = began + 60_000;
        let fresh = Ledger::about(world.node(0), "b", "node_load1", began, until);
        if fresh.samples() >= 2 {
            Ok(())
        } else {
            Err(format!("{} samples", fresh.samples()))
        }
    });
}

/// b takes three more rows, whatever time they bear.
fn wait_for_rows_of_b_taken(world: &World) {
    let rows = |node| tally(node).values().sum::<u64>();
    let before = rows(world.node(0));
    wait_for("more rows", Duration::from_secs(20), || {
        let now = rows(world.node(0));
        if now >= before + 6 {
            Ok(())
        } else {
            Err(format!("{} rows more", now - before))
        }
    });
}

/// How far b's clock was moved each time, as a node tells, milliseconds.
fn changes(node: &Node) -> Vec<i64> {
    let status = Control::of(node).status();
    let mut changes = status["clock_changes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    changes.retain(|change| change["node"] == "b" && change["kind"] == "step");
    changes.sort_by_key(|change| change["seq"].as_u64());
    changes
        .iter()
        .filter_map(|change| change["moved_ms"].as_i64())
        .collect()
}

fn days(ms: i64) -> i64 {
    (ms as f64 / (DAY * 1_000) as f64).round() as i64
}

/// a tells of a clock that was set by so much last, but for what it ran on meanwhile.
fn wait_for_change(world: &World, moved_ms: i64) {
    let what = format!("a clock moved by {moved_ms} ms");
    wait_for(&what, Duration::from_secs(40), || {
        let found = changes(world.node(0));
        match found.last() {
            Some(last) if last.abs_diff(moved_ms) < 5_000 => Ok(()),
            _ => Err(format!("{found:?}")),
        }
    });
}

fn wait_for_source(node: &Node, source: &str) {
    let what = format!("{} going by {source}", node.name);
    wait_for(&what, Duration::from_secs(60), || {
        let clock = Control::of(node).status()["clock"].clone();
        if clock["source"] == source {
            Ok(())
        } else {
            Err(clock.to_string())
        }
    });
}

/// Rows held of each log.
fn tally(node: &Node) -> BTreeMap<String, u64> {
    let counts = Control::of(node).ask(&json!({ "verb": "tally" }));
    let logs = counts.as_object().expect("counts by log").iter();
    logs.map(|(log, count)| (log.clone(), count["rows"].as_u64().expect("a number")))
        .collect()
}

fn samples_taken(node: &Node) -> u64 {
    let taken = Control::of(node).ask(&json!({ "verb": "taken" }));
    taken["samples"].as_u64().expect("a number")
}

fn notices(node: &Node) -> Vec<String> {
    let status = Control::of(node).status();
    let said = status["notices"].as_array().cloned().unwrap_or_default();
    // Nothing here makes a recovery key, and `status` reminds of it.
    said.iter()
        .filter_map(Value::as_str)
        .filter(|said| said.contains("clock"))
        .map(ToOwned::to_owned)
        .collect()
}

fn wait_for_notice(node: &Node, words: &[&str]) {
    let what = format!("{} saying {words:?}", node.name);
    wait_for(&what, Duration::from_secs(40), || {
        let said = notices(node);
        let found = said
            .iter()
            .any(|said| words.iter().all(|word| said.contains(word)));
        if found {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
}
