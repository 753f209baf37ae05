//! More nodes than keep everything: any of them still shows all, by what nodes tell everybody, by looking, and by asking
//! whoever keeps the rows.

use std::time::Duration;

use outlast_tests::{Control, Node, Rows, World, now_ms, wait_for};
use serde_json::{Value, json};

use crate::OUTLAST;

/// Above sixteen a node keeps the rows of few others.
const NODES: usize = 18;

#[test]
fn a_node_shows_others_whose_rows_it_does_not_keep() {
    let names: Vec<String> = (1..=NODES).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::on_loopback(OUTLAST);
    world.found(&names);
    // Nobody ever kept the rows of the last one for being one of sixteen.
    let (last, subject) = (NODES - 1, names[NODES - 1]);
    let chosen = wait_for("a node that doesn't keep its rows", WITHIN, || {
        let others = &world.nodes()[..last];
        let viewer = others
            .iter()
            .position(|node| told(node, subject).is_some_and(|told| told["kept"] == false));
        viewer.ok_or_else(|| "nobody has heard of it".to_owned())
    });
    let viewer = world.node(chosen);
    wait_for("its summary, seconds old", WITHIN, || {
        let age_ms = age_ms(viewer, subject);
        let is_fresh = age_ms.is_some_and(|age_ms| age_ms < 5_000);
        is_fresh
            .then_some(())
            .ok_or_else(|| format!("{age_ms:?} ms"))
    });

    // Somebody looks: live rows come, and none of them is kept.
    let rows = Rows::of(viewer, subject);
    let row = rows.first(WITHIN, |_| true).expect("a live row");
    assert!(row.delay_ms() < 3_000, "{} ms late", row.delay_ms());
    let more = rows.first(WITHIN, |later| later.seq >= row.seq + 8);
    assert!(more.is_some(), "looking goes on");
    let log = Control::of(world.node(last)).ask(&json!({ "verb": "taken" }))["log"].clone();
    let held = Control::of(viewer).ask(&json!({ "verb": "tally", "cuts": {} }));
    let log = log.as_str().expect("the log of its run");
    assert!(held[log].is_null(), "rows kept by looking: {}", held[log]);
    drop(rows);

    let from_ms = now_ms() - 8_000;
    world.node_mut(last).kill();
    let down_ms = now_ms();
    let viewer = world.node(chosen);
    let found = wait_for("its history through a holder", WITHIN, || {
        let from = from_ms.to_string();
        let asked = [
            "query",
            "--node",
            subject,
            "--series",
            "node_load1",
            "--from",
            &from,
        ];
        let found = viewer.json(&asked);
        let values = found["series"][0]["points"].as_array().cloned();
        let values = values.unwrap_or_default();
        let values = values.iter().filter(|point| !point[1].is_null()).count();
        if values >= 6 {
            Ok(found)
        } else {
            Err(found.to_string())
        }
    });
    let holders = found["series"][0]["holders"]
        .as_array()
        .expect("whose word it is");
    assert!(
        !holders.is_empty() && !holders.contains(&Value::from(subject)),
        "{holders:?}"
    );

    wait_for("its summary growing old", WITHIN, || {
        let age_ms = age_ms(viewer, subject).unwrap_or(0);
        let silent_ms = now_ms() - down_ms;
        // What nobody says any more gets older by the second, and is never said to be newer than its end.
        let is_true = age_ms >= silent_ms - 500 && silent_ms > 4_000;
        is_true
            .then_some(())
            .ok_or_else(|| format!("{age_ms} ms after {silent_ms} ms"))
    });
}

const WITHIN: Duration = Duration::from_secs(60);

/// What `node` knows of another by its summary.
fn told(node: &Node, about: &str) -> Option<Value> {
    let status = Control::of(node).status();
    let told = status["summaries"].as_array()?;
    told.iter().find(|told| told["node"] == about).cloned()
}

fn age_ms(node: &Node, about: &str) -> Option<i64> {
    told(node, about)?["age_ms"].as_i64()
}
