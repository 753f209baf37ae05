//! A day that a peer missed, replayed: two real processes over the real tunnel.
//!
//! Node a is given a day of rows before it starts: 45 recorded minutes looped to 24 h, stamped with the day that has just
//! passed, through the store's own API. Then it starts beside b, which has none of them, and both go on sampling. Timed
//! from a's first row that is live at b until b lacks nothing of a's; bytes are those of b's interface from a's start on, Ethernet
//! headers included, less what it sends and gets at rest. With the budgets as they are and without any; over a veth, which carries all
//! there is, and over an uplink of 8 Mbit/s with a queue of 100 ms.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use outlast_store::{Clock, ClockSource, SchemaDelta, StoreError};
use outlast_tests::recording::{self, Tick};
use outlast_tests::{Control, Node, Rows, Traffic, World, now_ms, own_store};
use serde_json::json;

use crate::OUTLAST;
use crate::figures::{Figures, heads};

/// Rows in the backlog: a day.
const DAY: u32 = 86_400;

/// How long the two are watched with nothing to replay.
const CALM: Duration = Duration::from_secs(20);

/// How long a replay may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn measure() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/rows-45min.zst");
    let ticks = recording::load(&file).expect("read the recorded rows");
    let unlimited = "[repair]\nunlimited = true\n";
    for (name, tag, settings, uplink) in [
        ("with the budgets as they are", "ra", "", None),
        ("without a budget", "rb", unlimited, None),
        ("with the budgets, over 8 Mbit/s", "rc", "", Some(8)),
        ("without a budget, over 8 Mbit/s", "rd", unlimited, Some(8)),
    ] {
        let Some(world) = World::in_namespaces(OUTLAST, tag) else {
            println!("\nreplay: not measured, namespaces take root");
            return;
        };
        replay(world, name, settings, uplink, &ticks);
    }
}

/// Lets a node send no faster than so many Mbit/s, over a queue of 100 ms that drops what is more.
fn narrow(node: &Node, mbit: u32) {
    let rate = format!("{mbit}mbit");
    let namespace = node.namespace().expect("a node in a namespace");
    let status = Command::new("ip")
        .args(["netns", "exec", namespace])
        .args(["tc", "qdisc", "add", "dev", "eth0", "root", "tbf"])
        .args(["rate", &rate, "burst", "16kb", "latency", "100ms"])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "tc refuses {rate}"
    );
}

fn replay(mut world: World, name: &str, settings: &str, uplink: Option<u32>, ticks: &[Tick]) {
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], Duration::from_secs(30));
    if let Some(mbit) = uplink {
        narrow(world.node(0), mbit);
    }
    std::thread::sleep(Duration::from_secs(5));
    let (at_rest, calm) = rest(&world);
    assert_eq!(world.node_mut(0).stop(), Some(0));
    let (log, samples) = backlog(&world.node(0).state, ticks);

    let config = world.dir().join("outlast.toml");
    std::fs::write(&config, settings).expect("write the configuration");
    let config = config.to_string_lossy().into_owned();
    let before = Traffic::of(world.node(1).pid().expect("up"));
    let rows = Rows::of(world.node(1), "a");
    world.node_mut(0).up_with(&["--config", &config]);
    let first = rows.first(Duration::from_secs(60), |_| true);
    first.expect("a row of a lives at b");
    let began = Instant::now();
    let usage = outlast_tests::Usage::of(world.node(1).pid().expect("up"));
    while held(&world, &log) < u64::from(DAY) {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = outlast_tests::Usage::of(world.node(1).pid().expect("up")).cpu_s - usage.cpu_s;
    let crossed = Traffic::of(world.node(1).pid().expect("up")).bytes - before.bytes;
    let delays = Figures::of(rows.so_far().iter().map(|row| row.delay_ms() as f64));

    println!("{}", heads(&format!("a day replayed {name}")));
    println!("{:54} {seconds:>10.1}", "until b lacks nothing, s");
    println!(
        "{:54} {:>10.3}",
        "bytes on the wire per sample",
        (crossed - at_rest * seconds) / samples
    );
    println!("{:54} {samples:>10.0}", "samples");
    if let Some(mbit) = uplink {
        let share = crossed * 8.0 / seconds / (f64::from(mbit) * 1e6);
        let name = "of the uplink, both directions counted, %";
        println!("{name:54} {:>10.1}", 100.0 * share);
    }
    println!(
        "{:54} {:>10.1}",
        "b's processor meanwhile, % of a core",
        100.0 * cpu / seconds
    );
    for (name, delays) in [("before", calm), ("meanwhile", delays)] {
        let name = format!("a's live rows at b {name}: delay, ms");
        println!("{name:54} {delays}   p99 {:.0}", delays.quantile(0.99));
    }
}

/// Bytes a second at b's interface, and the delays of a's rows, while nothing is replayed.
fn rest(world: &World) -> (f64, Figures) {
    let b = world.node(1).pid().expect("up");
    let (before, rows) = (Traffic::of(b), Rows::of(world.node(1), "a"));
    std::thread::sleep(CALM);
    let bytes = Traffic::of(b).bytes - before.bytes;
    let delays = rows.so_far();
    let delays = Figures::of(delays.iter().map(|row| row.delay_ms() as f64));
    (bytes / CALM.as_secs_f64(), delays)
}

/// Rows of a's earlier run that b holds, by a's own knowledge of it.
fn held(world: &World, log: &str) -> u64 {
    let status = Control::of(world.node(0)).status();
    let lacking = &status["peers"][0]["backlog_samples"];
    if lacking != 0 {
        return 0;
    }
    let counted = Control::of(world.node(1)).ask(&json!({ "verb": "tally", "cuts": {} }));
    counted[log]["rows"].as_u64().unwrap_or(0)
}

/// Fills a's store with a day of rows up to this moment; says which log they are in and how many samples they have.
fn backlog(state: &Path, ticks: &[Tick]) -> (String, f64) {
    let store = own_store(state);
    let log = store.begin_epoch().expect("begin an epoch");
    let clock = Clock {
        offset_ms: now_ms() - i64::from(DAY + 30) * 1_000,
        uncertainty_ms: 1,
        source: ClockSource::Ntp,
    };
    let (mut schema, mut series, mut samples) = (None, 0, 0);
    for number in 0..DAY {
        let tick = &ticks[number as usize % ticks.len()];
        if (number as usize) < ticks.len() && !tick.appended.is_empty() {
            let appended = tick.appended.clone();
            series += appended.len();
            let delta = SchemaDelta {
                parent: schema,
                appended,
            };
            schema = Some(store.define(log.origin, delta).expect("define the schema"));
        }
        let mut values = tick.values.clone();
        values.resize(series, None);
        samples += values.iter().flatten().count();
        let schema = schema.expect("the first tick numbers its series");
        let boot_ms = u64::from(number) * 1_000;
        while let Err(error) = store.append_own(boot_ms, clock, schema, values.clone()) {
            assert!(matches!(error, StoreError::Busy { .. }), "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    store.close().expect("close the store");
    let name = log
        .to_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    (name, samples as f64)
}
