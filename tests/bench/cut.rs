//! A node cut off for 60 s, or for 10 min: what happens once the way is open again.
//!
//! Three machines on one switch, all sampling. Either c's cable is pulled, so that its own link
//! goes down and up, or the way is cut beyond it and no machine is told, or the switch is off and
//! nobody reaches anybody. Timed from the heal: the first live row each way, nothing left to send
//! (`backlog_samples` 0 at all three), and equal stores: for every log the digest over all rows taken
//! until the heal is the same at all three, and nothing is missing in it. Bytes are those of c's interface from the heal until the stores
//! were equal, less what it sends and gets at rest in that time, Ethernet headers included. All
//! kinds run side by side, three nodes each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_tests::{Control, Rows, Traffic, World, now_ms};
use serde_json::{Value, json};

use crate::OUTLAST;
use crate::figures::{Figures, heads};

/// How long everything runs first.
const SETTLING: Duration = Duration::from_secs(20);

/// How long the wire is watched before the cut, to know what isn't repair.
const CALM: Duration = Duration::from_secs(30);

/// How long live rows are watched on once the stores are equal.
const AFTER: Duration = Duration::from_secs(30);

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Cuts of the short kind.
const SHORT_CUTS: usize = 3;

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// c's own link.
    Cable,
    /// The way beyond it.
    Beyond,
    /// The switch between them all.
    Everybody,
}

pub(crate) fn minute() {
    measure(Duration::from_secs(60), SHORT_CUTS);
}

pub(crate) fn ten_minutes() {
    measure(Duration::from_secs(600), 1);
}

pub(crate) fn once(seconds: u64) {
    measure(Duration::from_secs(seconds), 1);
}

fn measure(cut: Duration, times: usize) {
    let worlds = ["u", "v", "x"].map(|tag| World::in_namespaces(OUTLAST, tag));
    let [Some(one), Some(other), Some(third)] = worlds else {
        println!("\ncut: not measured, namespaces take root");
        return;
    };
    let beside = std::thread::spawn(move || cuts(other, Kind::Beyond, cut, times));
    let all = std::thread::spawn(move || cuts(third, Kind::Everybody, cut, times));
    let cable = cuts(one, Kind::Cable, cut, times);
    let beyond = beside.join().expect("the other kind is measured too");
    report(&format!("c's cable pulled for {} s", cut.as_secs()), &cable);
    let title = format!("c cut off beyond its cable for {} s", cut.as_secs());
    report(&title, &beyond);
    let everybody = all.join().expect("and the third");
    let title = format!("everybody cut off from everybody for {} s", cut.as_secs());
    report(&title, &everybody);
}

fn cuts(mut world: World, kind: Kind, cut: Duration, times: usize) -> Vec<Healed> {
    world.found(&["a", "b", "c"]);
    world.node(0).wait_alive(&["b", "c"], PATIENCE);
    world.node(2).wait_alive(&["a", "b"], PATIENCE);
    std::thread::sleep(SETTLING);
    let at_rest = calm(&world);
    (0..times)
        .map(|_| heal(&world, kind, cut, at_rest))
        .collect()
}

fn report(title: &str, healed: &[Healed]) {
    println!("{}", heads(title));
    let line = |name: &str, pick: fn(&Healed) -> f64| {
        println!("{name:54} {}", Figures::of(healed.iter().map(pick)));
    };
    line("the first row of c live at a, ms", |h| h.live_out);
    line("the first row of a live at c, ms", |h| h.live_in);
    line("backlog 0 everywhere, ms", |h| h.no_backlog);
    line("equal stores, ms (looked at each 0.1 s)", |h| h.equal);
    line("samples repaired, all nodes together", |h| h.samples);
    println!(
        "{:54} {:.2}",
        "bytes on the wire per repaired sample",
        Figures::of(healed.iter().map(|h| h.bytes / h.samples))
    );
    let names = ["b's rows at a", "c's rows at a", "a's rows at c"];
    for (at, name) in names.iter().enumerate() {
        let delays = Figures::of(healed.iter().flat_map(|h| h.delays[at].iter().copied()));
        let skipped: u64 = healed.iter().map(|h| h.skipped[at]).sum();
        let name = format!("{name}: delay once live again, ms");
        let p99 = delays.quantile(0.99);
        println!("{name:54} {delays}   p99 {p99:.0}; {skipped} more came by repair");
    }
}

/// One cut and its heal.
struct Healed {
    live_out: f64,
    live_in: f64,
    no_backlog: f64,
    equal: f64,
    samples: f64,
    bytes: f64,
    delays: [Vec<f64>; 3],
    /// Rows after the first live one that did not come live.
    skipped: [u64; 3],
}

fn heal(world: &World, kind: Kind, cut: Duration, bytes_at_rest: f64) -> Healed {
    let net = world.net.as_ref().expect("in namespaces");
    let c = world.node(2).pid().expect("up");
    match kind {
        Kind::Cable => net.pull("c"),
        Kind::Beyond => net.sever("c"),
        Kind::Everybody => net.turn_off(),
    }
    std::thread::sleep(cut);
    let mut controls: Vec<_> = world.nodes().iter().map(Control::of).collect();
    let follow = |at: usize, origin| Rows::of(world.node(at), origin);
    let followed = [follow(0, "b"), follow(0, "c"), follow(2, "a")];
    let traffic = Traffic::of(c);
    match kind {
        Kind::Cable => net.push_back("c"),
        Kind::Beyond => net.mend("c"),
        Kind::Everybody => net.turn_on(),
    }
    let (began, healed_ms) = (Instant::now(), now_ms());
    let taken = taken(&mut controls);
    let before = held(&mut controls, &taken);

    let no_backlog = until(began, || no_backlog(&mut controls));
    let equal = until(began, || equal_stores(&mut controls, &taken));
    let seconds = began.elapsed().as_secs_f64();
    let crossed = Traffic::of(c).bytes - traffic.bytes;
    let samples = held(&mut controls, &taken) - before;
    std::thread::sleep(AFTER);

    let rows = followed.map(|rows| {
        let mut rows = rows.so_far();
        rows.retain(|row| row.at_ms >= healed_ms);
        rows
    });
    let first = |at: usize| {
        let arrived = rows[at].iter().map(|row| row.arrived_ms).min();
        (arrived.expect("rows come again") - healed_ms) as f64
    };
    Healed {
        live_out: first(1),
        live_in: first(2),
        no_backlog,
        equal,
        samples,
        bytes: crossed - bytes_at_rest * seconds,
        delays: rows
            .each_ref()
            .map(|rows| rows.iter().map(|row| row.delay_ms() as f64).collect()),
        skipped: rows.each_ref().map(|rows| {
            let span = rows.last().zip(rows.first());
            span.map_or(0, |(last, first)| {
                last.seq - first.seq + 1 - rows.len() as u64
            })
        }),
    }
}

/// Bytes a second at c's interface while nothing is wrong.
fn calm(world: &World) -> f64 {
    let c = world.node(2).pid().expect("up");
    let before = Traffic::of(c);
    std::thread::sleep(CALM);
    (Traffic::of(c).bytes - before.bytes) / CALM.as_secs_f64()
}

/// Milliseconds from `began` until it holds.
fn until(began: Instant, mut holds: impl FnMut() -> bool) -> f64 {
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    began.elapsed().as_secs_f64() * 1_000.0
}

/// Rows each sampler has taken in this run, by log.
fn taken(controls: &mut [Control]) -> BTreeMap<String, u64> {
    let answers = controls
        .iter_mut()
        .map(|control| control.ask(&json!({ "verb": "taken" })));
    answers
        .map(|taken| {
            let log = taken["log"].as_str().expect("a log").to_owned();
            (log, taken["rows"].as_u64().expect("rows"))
        })
        .collect()
}

/// Nobody lacks anything that another has, as far as they know, and they have compared: both
/// sides of the cut see each other.
fn no_backlog(controls: &mut [Control]) -> bool {
    controls.iter_mut().all(|control| {
        let status = control.status();
        let peers = status["peers"].as_array().expect("peers");
        peers
            .iter()
            .all(|peer| peer["backlog_samples"] == 0 && peer["state"] == "alive")
    })
}

/// Every store holds every row of `taken`, with the same content.
fn equal_stores(controls: &mut [Control], taken: &BTreeMap<String, u64>) -> bool {
    let held = tallies(controls, taken);
    taken.iter().all(|(log, rows)| {
        let first = &held[0][log]["digest"];
        held.iter()
            .all(|store| store[log]["rows"] == *rows && store[log]["digest"] == *first)
    })
}

/// Samples of the rows of `taken` that the stores hold, all three together.
fn held(controls: &mut [Control], taken: &BTreeMap<String, u64>) -> f64 {
    let held = tallies(controls, taken);
    let of = |store: &Value| -> f64 {
        let logs = taken.keys();
        logs.filter_map(|log| store[log]["samples"].as_f64()).sum()
    };
    held.iter().map(of).sum()
}

/// What each store holds of each log, up to the rows of `taken`.
fn tallies(controls: &mut [Control], taken: &BTreeMap<String, u64>) -> Vec<Value> {
    let question = json!({ "verb": "tally", "cuts": taken });
    let answers = controls.iter_mut().map(|control| control.ask(&question));
    answers.collect()
}
