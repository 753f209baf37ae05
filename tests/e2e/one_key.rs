//! One owner, one admin key, several nodes: what is said on any of them stands in one line, whoever was down.

use std::time::Duration;

use outlast_tests::{World, wait_for};
use serde_json::json;

use crate::OUTLAST;

/// Statements reach whoever is there within two seconds; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn what_was_said_on_a_node_that_is_down_and_then_on_another_freezes_nobody() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], SOON);
    assert_eq!(world.node_mut(1).stop(), Some(0));
    assert_eq!(
        world.node(1).run(&["set", "site=one"]),
        "every node: site=one\n"
    );
    assert_eq!(
        world.node(0).run(&["set", "site=two"]),
        "every node: site=two, was one\n"
    );
    world.node_mut(1).up();
    for node in [0, 1] {
        let node = world.node(node);
        wait_for("the later word everywhere", SOON, || {
            let site = node.json(&["get"])["mesh"]["site"].clone();
            (site == "two")
                .then_some(())
                .ok_or_else(|| site.to_string())
        });
        assert_eq!(node.json(&["status"])["alarms"], json!([]));
        let admins = node.json(&["admin", "list"]);
        assert_eq!(admins[0]["in_two_places"], false, "{admins}");
    }
}
