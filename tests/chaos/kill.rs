//! Power cuts: `kill -9` of each node, of all at once, and of the founder for good.

use std::time::Duration;

use outlast_tests::{Ledger, World, now_ms, wait_for};

use crate::cut::converge;
use crate::{wait_whole, world};

#[test]
fn kill_nine_of_each_and_of_all_loses_nothing_that_was_synced_or_heard() {
    let mut world = world("k");
    world.found(&["a", "b", "c"]);
    wait_whole(&world);
    std::thread::sleep(Duration::from_secs(5));
    let from = now_ms();
    std::thread::sleep(Duration::from_secs(8));

    for number in 0..3 {
        let (before, until) = synced_everywhere(&world, from);
        world.node_mut(number).kill();
        std::thread::sleep(Duration::from_secs(3));
        world.node_mut(number).up();
        wait_whole(&world);
        assert_still_there(&world, &before, from, until);
    }

    let (before, until) = synced_everywhere(&world, from);
    for number in 0..3 {
        world.node_mut(number).kill();
    }
    std::thread::sleep(Duration::from_secs(2));
    for number in 0..3 {
        world.node_mut(number).up();
    }
    wait_whole(&world);
    assert_still_there(&world, &before, from, until);
    let now = now_ms() - 2_000;
    let all = converge(&world.nodes().iter().collect::<Vec<_>>(), from, now);
    assert_eq!(all.repeats(), Vec::<String>::new());
}

#[test]
fn the_founder_destroyed_for_good_leaves_a_mesh_that_goes_on_and_grows() {
    let mut world = world("f");
    world.found(&["a", "b", "c"]);
    wait_whole(&world);
    let from = now_ms();
    std::thread::sleep(Duration::from_secs(6));
    let token = world.node(0).run(&["invite"]);
    wait_for("the invite reaching c", Duration::from_secs(10), || {
        let known = world.node(2).json(&["status"])["mesh"]["open_invites"].as_u64();
        if known >= Some(1) {
            Ok(())
        } else {
            Err(format!("c knows {known:?} open invites"))
        }
    });
    let until = now_ms() - 2_000;

    world.node_mut(0).kill();
    std::fs::remove_dir_all(&world.node(0).state).expect("destroy the founder");

    let founder = Ledger::about(world.node(1), "a", "*", from, until);
    assert!(founder.samples() > 0, "b holds nothing of the founder");
    let at_c = Ledger::about(world.node(2), "a", "*", from, until);
    assert_eq!(founder.differences(&at_c), Vec::<String>::new());

    let d = world.add("d");
    world.node_mut(d).up();
    world
        .node(d)
        .run_with_input(&["join", "--name", "d"], &token);
    world
        .node(d)
        .wait_alive(&["b", "c"], Duration::from_secs(15));
    wait_for(
        "d holding the founder's history",
        Duration::from_secs(60),
        || {
            let held = Ledger::about(world.node(d), "a", "*", from, until);
            let differences = founder.differences(&held);
            if differences.is_empty() {
                Ok(())
            } else {
                Err(differences.join("\n"))
            }
        },
    );
    wait_for("a being seen down", Duration::from_secs(20), || {
        let states = world.node(1).peer_states();
        let is_down = states.contains(&("a".to_owned(), "down".to_owned()));
        if is_down {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });
}

#[test]
fn a_node_that_lost_its_own_disk_tail_gets_it_back_from_its_peers() {
    let mut world = world("l");
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], Duration::from_secs(20));
    world.node(1).wait_alive(&["a"], Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(3));
    let from = now_ms();
    std::thread::sleep(Duration::from_secs(8));
    let until = now_ms() - 2_000;
    let before = Ledger::about(world.node(1), "a", "*", from, until);

    // Everything a had not sealed yet is gone, as on a disk that never wrote it.
    world.node_mut(0).kill();
    std::fs::remove_dir_all(world.node(0).state.join("store/spool")).expect("lose the tail");
    world.node_mut(0).up();
    wait_for(
        "a having its own tail back",
        Duration::from_secs(60),
        || {
            let differences =
                before.differences(&Ledger::about(world.node(0), "a", "*", from, until));
            if differences.is_empty() {
                Ok(())
            } else {
                Err(differences.join("\n"))
            }
        },
    );
}

#[test]
fn a_store_that_will_not_open_is_set_aside_and_refilled() {
    let mut world = world("q");
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], Duration::from_secs(20));
    let from = now_ms();
    // Over a minute, so that a block of each is sealed.
    std::thread::sleep(Duration::from_secs(75));
    let until = now_ms() - 3_000;
    let before = Ledger::of(world.node(1), from, until);
    // Only a clean end writes blocks at once; for half a minute they lie in the spool alone.
    assert_eq!(world.node_mut(0).stop(), Some(0));
    let broken = scribble(&world.node(0).state.join("store"));
    assert!(broken > 0, "no files of a generation were found to break");

    world.node_mut(0).up();
    wait_for("a refilled", Duration::from_secs(90), || {
        let differences = before.differences(&Ledger::of(world.node(0), from, until));
        if differences.is_empty() {
            Ok(())
        } else {
            Err(differences.join("\n"))
        }
    });
    let quarantined = std::fs::read_dir(world.node(0).state.join("store/quarantine"));
    assert!(
        quarantined.is_ok_and(|mut dir| dir.next().is_some()),
        "nothing was set aside"
    );
}

/// Overwrites every file of every generation with noise and returns how many there were.
fn scribble(store: &std::path::Path) -> usize {
    let mut broken = 0;
    let mut folders: Vec<_> = std::fs::read_dir(store)
        .expect("the store is there")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("gen-"))
        .map(|entry| entry.path())
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a generation").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                std::fs::write(entry.path(), [0xA5; 4_096]).expect("scribble");
                broken += 1;
            }
        }
    }
    broken
}

/// What everybody agrees on by now, and until when: later rows may not have been synced.
fn synced_everywhere(world: &World, from: i64) -> (Ledger, i64) {
    let until = now_ms() - 3_000;
    (
        converge(&world.nodes().iter().collect::<Vec<_>>(), from, until),
        until,
    )
}

fn assert_still_there(world: &World, before: &Ledger, from: i64, until: i64) {
    for node in world.nodes() {
        wait_for(
            &format!("{} holding what was synced", node.name),
            Duration::from_secs(30),
            || {
                let differences = before.differences(&Ledger::of(node, from, until));
                if differences.is_empty() {
                    Ok(())
                } else {
                    Err(differences.join("\n"))
                }
            },
        );
    }
}
