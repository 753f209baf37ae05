//! Founding and joining across namespaces, over IPv4 and IPv6.

use std::time::{Duration, Instant};

use outlast_tests::wait_for;

use crate::world;

#[test]
fn three_machines_are_a_mesh_within_ten_seconds() {
    let mut world = world("m");
    let began = Instant::now();
    world.found(&["a", "b", "c"]);
    let names = ["a", "b", "c"];
    for (number, _) in names.iter().enumerate() {
        let others: Vec<_> = names
            .iter()
            .copied()
            .filter(|name| *name != names[number])
            .collect();
        let left = Duration::from_secs(10).saturating_sub(began.elapsed());
        world.node(number).wait_alive(&others, left);
    }
    for node in world.nodes() {
        let members = node.json(&["members"]);
        assert_eq!(members.as_array().map(Vec::len), Some(3), "{members}");
        let status = node.json(&["status"]);
        let lan = status["peers"]
            .as_array()
            .expect("peers")
            .iter()
            .all(|p| p["path"] == "lan");
        assert!(lan, "{status}");
    }
}

#[test]
fn a_mesh_founded_before_its_daemons_run_comes_up_by_itself() {
    let mut world = world("o");
    for name in ["a", "b"] {
        world.add(name);
    }
    let token = world.node(0).run(&["init", "--name", "a", "--invite", "1"]);
    world.node_mut(0).up();
    // No daemon on b: `join` binds the port, joins, and exits.
    world
        .node(1)
        .run_with_input(&["join", "--name", "b"], &token);
    world.node_mut(1).up();
    world.node(0).wait_alive(&["b"], Duration::from_secs(10));
    world.node(1).wait_alive(&["a"], Duration::from_secs(10));
}

#[test]
fn a_used_an_expired_an_altered_and_a_foreign_token_are_each_refused_by_name() {
    let mut world = world("t");
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], Duration::from_secs(10));
    let used = world.node(0).run(&["invite"]);
    let expired = world.node(0).run(&["invite", "--expires", "1s"]);
    let c = world.add("c");
    world
        .node(c)
        .run_with_input(&["join", "--name", "c"], &used);
    std::thread::sleep(Duration::from_secs(2));

    let d = world.add("d");
    let altered = alter(&used);
    for (token, says) in [
        (&used, "used"),
        (&expired, "expired"),
        (&altered, "altered"),
    ] {
        let refused = world.node(d).try_run(&["join", "--name", "d"], token);
        let reason = refused.expect_err("must be refused");
        assert!(
            reason.starts_with("exit Some(1)") && reason.contains(says),
            "{says}: {reason}"
        );
        let left: Vec<_> = std::fs::read_dir(&world.node(d).state)
            .map(|dir| dir.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        let half = left
            .iter()
            .any(|name| name == "statements.log" || name == "node.key");
        assert!(!half, "half joined after {says}: {left:?}");
    }

    let e = world.add("e");
    world.node(e).run(&["init", "--name", "e"]);
    let fresh = world.node(0).run(&["invite"]);
    let reason = world
        .node(e)
        .try_run(&["join", "--name", "e"], &fresh)
        .expect_err("foreign");
    assert!(reason.contains("mesh"), "{reason}");

    // The founder is gone for good; a token it made still opens the door at b.
    let through_b = world.node(0).run(&["invite"]);
    wait_for("the invite reaching b", Duration::from_secs(10), || {
        let known = world.node(1).json(&["status"])["mesh"]["open_invites"].as_u64();
        if known >= Some(2) {
            Ok(())
        } else {
            Err(format!("b knows {known:?} open invites"))
        }
    });
    world.node_mut(0).kill();
    world
        .node(d)
        .run_with_input(&["join", "--name", "d"], &through_b);
    world.node_mut(d).up();
    world.node(d).wait_alive(&["b"], Duration::from_secs(10));
}

/// The token with one letter changed in its middle.
fn alter(token: &str) -> String {
    let middle = token.trim().len() / 2;
    let mut letters: Vec<char> = token.trim().chars().collect();
    letters[middle] = if letters[middle] == 'a' { 'b' } else { 'a' };
    letters.into_iter().collect()
}
