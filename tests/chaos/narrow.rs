//! A link of 1,280 bytes that says nothing about it, over IPv4 and over IPv6.

use std::time::Duration;

use outlast_tests::net::Family;
use outlast_tests::{Ledger, World, now_ms, wait_for};

use crate::world;

/// Longer than a block, so that there is one to fetch.
const HISTORY: Duration = Duration::from_secs(70);

#[test]
fn late_joiners_behind_a_narrow_link_join_hear_and_fetch_everything() {
    let mut world = world("n");
    let net = world.net.as_mut().expect("in namespaces");
    net.put_beyond("four", Family::Four);
    net.put_beyond("six", Family::Six);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(3));
    let from = now_ms();
    std::thread::sleep(HISTORY);
    let until = now_ms() - 3_000;
    let before = Ledger::of(world.node(0), from, until);
    assert!(before.samples() > 1_000);

    let token = world.node(0).run(&["invite", "--uses", "2"]);
    for name in ["four", "six"] {
        let late = world.add(name);
        world.node_mut(late).up();
        world
            .node(late)
            .run_with_input(&["join", "--name", name], &token);
    }

    for late in [2, 3] {
        let node = world.node(late);
        wait_for("a and b alive", Duration::from_secs(30), || {
            // The other late one speaks another family; the two meet through a or b.
            let states = node.peer_states();
            let alive = |name: &&str| states.contains(&((*name).into(), "alive".into()));
            match ["a", "b"].iter().all(alive) {
                true => Ok(()),
                false => Err(format!("{states:?}")),
            }
        });
        wait_for(
            &format!("{} holding the history", node.name),
            Duration::from_secs(60),
            || {
                let held = Ledger::of(node, from, until);
                let differences = before.differences(&held);
                match differences.is_empty() {
                    true => Ok(()),
                    false => Err(differences.join("\n")),
                }
            },
        );
        wait_for("live rows both ways", Duration::from_secs(30), || {
            let recent = now_ms() - 10_000;
            for (asked, origin) in [(late, "a"), (0, node.name.as_str())] {
                let rows = Ledger::about(world.node(asked), origin, "node_load1", recent, now_ms());
                if rows.samples() < 5 {
                    return Err(format!("{} rows of {origin}", rows.samples()));
                }
            }
            Ok(())
        });
    }
    for (from, to) in [(2, "six"), (3, "four")] {
        let node = world.node(from);
        wait_for("the two late ones meeting", Duration::from_secs(30), || {
            let status = node.json(&["status"]);
            let peers = status["peers"].as_array().expect("peers");
            let other = peers.iter().find(|peer| peer["name"] == to);
            let other = other.cloned().unwrap_or_default();
            let fine = other["state"] == "alive" && other["path"] == "relay";
            fine.then_some(()).ok_or_else(|| other.to_string())
        });
        node.run(&["ping", to, "-c", "2"]);
    }
    // Without splitting nothing long would have passed.
    for at in [0, 2, 3] {
        assert!(split(&world, at) > 0, "node {at} has split nothing");
    }
}

fn split(world: &World, at: usize) -> u64 {
    let status = world.node(at).json(&["status"]);
    status["traffic"]["split_packets"]
        .as_u64()
        .expect("a counter")
}
