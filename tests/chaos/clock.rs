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
    assert_nothing_lost(&world, from);
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
