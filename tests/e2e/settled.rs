//! What an admin settles: set on one node, known on all, also on one that was off; and what a store does with its bound.

use std::time::Duration;

use outlast_store::{Clock, ClockSource, Kind, SchemaDelta, Series, StoreError};
use outlast_tests::{Control, Node, World, now_ms, own_store, wait_for};
use serde_json::{Value, json};

use crate::OUTLAST;

/// Statements spread within seconds; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn what_is_set_on_one_node_is_known_on_all_and_on_one_that_was_off() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b", "c"]);
    world.node(0).wait_alive(&["b", "c"], SOON);
    assert_eq!(world.node_mut(2).stop(), Some(0));

    let a = world.node(0);
    assert_eq!(
        a.run(&["set", "b", "site=attic", "metered=on"]),
        "b: site=attic\nb: metered=on\n"
    );
    assert_eq!(
        a.run(&["set", "may-be-off=on"]),
        "every node: may-be-off=on\n"
    );
    assert_eq!(
        a.run(&["set", "c", "may-be-off=off"]),
        "c: may-be-off=off\n"
    );
    assert_eq!(
        a.run(&["set", "b", "site=attic"]),
        "b: site=attic already\n",
        "nothing is signed twice"
    );
    let expected = json!([
        { "name": "a", "site": null, "metered": false, "may_be_off": true, "from": { "may_be_off": "mesh" } },
        { "name": "b", "site": "attic", "metered": true, "may_be_off": true,
          "from": { "site": "node", "metered": "node", "may_be_off": "mesh" } },
        { "name": "c", "site": null, "metered": false, "may_be_off": false, "from": { "may_be_off": "node" } },
    ]);
    wait_settled(world.node(1), &expected);
    world.node_mut(2).up();
    wait_settled(world.node(2), &expected);

    assert_eq!(
        world.node(0).run(&["set", "b", "site="]),
        "b: site taken back\n"
    );
    wait_for("the site taken back at c", SOON, || {
        let b = &settled(world.node(2))["nodes"][1];
        b["site"]
            .is_null()
            .then_some(())
            .ok_or_else(|| b.to_string())
    });
    let one = world.node(2).json(&["get", "b"]);
    let names: Vec<_> = one["nodes"].as_array().into_iter().flatten().collect();
    assert_eq!(names.len(), 1, "one node was asked about: {one}");
}

#[test]
fn a_store_shrinks_to_the_retention_that_is_set_and_its_own_configuration_goes_before() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], SOON);
    assert_eq!(world.node_mut(0).stop(), Some(0));
    fill(world.node(0), 84 << 20);
    world.node_mut(0).up();
    let full = wait_for("the store read", Duration::from_secs(120), || {
        let store = store(world.node(0));
        let bytes = store["bytes"].as_u64().filter(|_| store["ready"] == true);
        bytes.ok_or_else(|| store.to_string())
    });
    assert!(full > 80 << 20, "{full} bytes");
    assert_eq!(world.node_mut(1).stop(), Some(0));
    let config = world.dir().join("own.toml");
    std::fs::write(&config, "[store]\nlimit_bytes = 134217728\n").expect("write a configuration");
    let config = config.to_str().expect("a plain path").to_owned();
    world.node_mut(1).up_with(&["--config", &config]);

    world.node(0).run(&["set", "retention=64MiB"]);
    wait_for(
        "the store within its bound",
        Duration::from_secs(120),
        || {
            let store = store(world.node(0));
            let bytes = store["bytes"].as_u64().unwrap_or(u64::MAX);
            // A generation of a bound of 64 MiB has 8.
            let is_small = bytes <= (64 + 8) << 20 && store["limit_from"] == "setting";
            is_small.then_some(()).ok_or_else(|| store.to_string())
        },
    );
    let went = store(world.node(0))["gone_rows"]["budget"].as_u64();
    assert!(went.is_some_and(|rows| rows > 0), "{went:?} rows made room");
    let status = world.node(0).run(&["status"]);
    assert!(
        status.contains("of 64.0 MiB (the mesh's retention)"),
        "{status}"
    );

    wait_for("the setting at b", SOON, || {
        let store = store(world.node(1));
        (store["retention_bytes"] == 64 << 20)
            .then_some(())
            .ok_or_else(|| store.to_string())
    });
    let own = store(world.node(1));
    assert_eq!(
        (own["limit_bytes"].as_u64(), own["limit_from"].as_str()),
        (Some(128 << 20), Some("configuration"))
    );
}

fn settled(node: &Node) -> Value {
    node.json(&["get"])
}

fn wait_settled(node: &Node, expected: &Value) {
    wait_for("what is set", SOON, || {
        let told = settled(node);
        let is_told = |wanted: &Value| {
            let mut nodes = told["nodes"].as_array().into_iter().flatten();
            let found = nodes.find(|node| node["name"] == wanted["name"]);
            let fields = wanted.as_object().expect("a node").iter();
            found.is_some_and(|found| fields.into_iter().all(|(key, value)| found[key] == *value))
        };
        let all = expected.as_array().expect("nodes").iter().all(is_told);
        all.then_some(()).ok_or_else(|| told.to_string())
    });
}

fn store(node: &Node) -> Value {
    Control::of(node).status()["store"].clone()
}

/// Gives a node that is down rows of its own that compression can do little about.
fn fill(node: &Node, bytes: u64) {
    /// As many series as a node may have, so that few rows do.
    const SERIES: usize = 5_000;
    let store = own_store(&node.state);
    // Small generations, so that little more goes than must.
    store.set_limit(128 << 20);
    let log = store.begin_epoch().expect("begin an epoch");
    let series = |number| Series {
        name: format!("noise_{number}"),
        labels: Vec::new(),
        unit: String::new(),
        kind: Kind::Gauge,
        exponent: 0,
    };
    let delta = SchemaDelta {
        parent: None,
        appended: (0..SERIES).map(series).collect(),
    };
    let schema = store.define(log.origin, delta).expect("define the schema");
    let clock = Clock {
        offset_ms: now_ms() - 86_400_000,
        uncertainty_ms: 1,
        source: ClockSource::Ntp,
    };
    let mut random: u64 = 1;
    let mut row = 0;
    loop {
        let noise = (0..SERIES).map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            Some(random.cast_signed())
        });
        let values: Vec<_> = noise.collect();
        while let Err(error) = store.append_own(row * 1_000, clock, schema, values.clone()) {
            assert!(matches!(error, StoreError::Busy { .. }), "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
        row += 1;
        // The blocks of one run would become packs, each value encoded once more.
        if row % 60 == 0 {
            store.begin_epoch().expect("begin an epoch");
        }
        // Each flush costs a sync of everything this machine writes: few of them.
        if row % 240 == 0 {
            store.flush().expect("what is sealed reaches the disk");
            if store.stats().bytes >= bytes {
                break;
            }
        }
        assert!(row < 36_000, "rows take next to no room");
    }
    store.close().expect("close the store");
}
