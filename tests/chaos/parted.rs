//! Two sides of a cut that decide who belongs, each without hearing of the other.

use std::time::{Duration, Instant};

use outlast_tests::{Node, wait_for};
use serde_json::Value;

use crate::world;

/// Statements reach whoever is there within two seconds; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(40);

#[test]
fn two_sides_that_evict_admit_and_use_one_token_twice_agree_once_they_meet() {
    let mut world = world("pt");
    world.found(&["a", "c"]);
    world.node(0).wait_alive(&["c"], SOON);
    let key = world.dir().join("ann.key");
    let key = key.to_str().expect("a plain path").to_owned();
    world.node(0).run(&["admin", "add", "ann", "--out", &key]);
    // Made while there are but these two, they lead to either side.
    let once = world.node(0).run(&["invite"]);
    let again = world.node(0).run(&["invite"]);
    let two = world.node(0).run(&["invite", "--uses", "2"]);
    for joiner in ["b", "d", "e", "f", "g"] {
        let number = world.add(joiner);
        world.node_mut(number).up();
    }
    join(world.node(2), "b", &two);
    join(world.node(3), "d", &two);
    wait_for("c knowing both invites", SOON, || {
        let open = world.node(1).json(&["status"])["mesh"]["open_invites"].as_u64();
        (open >= Some(2))
            .then_some(())
            .ok_or_else(|| format!("{open:?}"))
    });
    for (at, others) in [(0, ["b", "c", "d"]), (1, ["a", "b", "d"])] {
        world.node(at).wait_alive(&others, SOON);
    }
    // Whoever is evicted is away: what it vouched for unheard would be void, as it should.
    world.node_mut(2).kill();
    world.node_mut(3).kill();

    let east = ["c", "d", "f", "g"];
    world.net.as_ref().expect("in namespaces").part(&east);
    world.node(0).run(&["evict", "d", "--reason", "west"]);
    let by_ann = ["evict", "b", "--reason", "east", "--admin-key", &key];
    world.node(1).run(&by_ann);
    join(world.node(4), "e", &once);
    join(world.node(5), "f", &once);
    join(world.node(6), "g", &again);
    world.net.as_ref().expect("in namespaces").rejoin(&east);

    let healed = Instant::now();
    // Whoever joined first stays.
    let expected = ["a", "b evicted", "c", "d evicted", "e", "g"];
    for at in [0, 1, 4, 6] {
        let node = world.node(at);
        wait_for(&format!("{} agreeing", node.name), SOON, || {
            let listed = members(node);
            (listed == expected)
                .then_some(())
                .ok_or_else(|| format!("{listed:?}"))
        });
    }
    eprintln!("agreed after {:?}", healed.elapsed());
    for at in [0, 1] {
        let alarms = world.node(at).json(&["status"])["alarms"].to_string();
        assert!(alarms.contains("token-twice/"), "{alarms}");
    }
}

fn join(node: &Node, name: &str, token: &str) {
    node.run_with_input(&["join", "--name", name], token);
}

/// The names of all members, of those that are gone with how they went, in order.
fn members(node: &Node) -> Vec<String> {
    let listed = node.json(&["members"]);
    let line = |member: &Value| {
        let text = |key: &str| member[key].as_str().unwrap_or_default();
        match text("state") {
            "evicted" => format!("{} evicted", text("name")),
            _ => text("name").to_owned(),
        }
    };
    let mut lines: Vec<String> = listed.as_array().into_iter().flatten().map(line).collect();
    lines.sort();
    lines
}
