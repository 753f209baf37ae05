//! What the promise costs, measured on this machine beside what people run today.
//!
//! `make bench` runs all but the long ones, each printing a table: `disk` (bytes a sample, beside
//! Prometheus and VictoriaMetrics), `written` (what a day writes, and its memory), `speed` (samples a second, questions), `cost`
//! (CPU and memory of a node beside node_exporter in the same minute), `wire` and `rest` (bytes
//! between peers, with rows and without), `sessions` (from a start to the first session and row,
//! beside WireGuard), `roam` (a change of address), `ways` (through NATs, off relays, from network to
//! network), `cut` (one or all cut off for 60 s), `replay` (a day that a peer missed), `flood` (what a
//! stranger sends and a node survives), `feed` (a day of rows at speed) and `pair` (memory over minutes).
//! `make bench-long` runs `cut-long` (10 min) and `pair-long` (an hour). Names as arguments choose; a number behind `ways`,
//! `cut` or `rest` alone makes it short: that many starts of each pair, one cut of so many seconds, one mesh of so many.
//! Absent: pass and fail. Figures are read by people; tests don't depend on them.

#![expect(clippy::print_stdout, reason = "figures are what this prints")]

mod allocator;
mod compare;
mod cost;
mod cut;
mod disk;
mod feed;
mod figures;
mod flood;
mod meshes;
mod pair;
mod replay;
mod rest;
mod roam;
mod sessions;
mod speed;
mod ways;
mod wide;
mod wire;
mod wireguard;
mod written;

/// The daemon being measured, in the release profile.
const OUTLAST: &str = env!("CARGO_BIN_EXE_outlast-under-test");

#[global_allocator]
static COUNTED: allocator::Counted = allocator::Counted;

/// What a run without names measures.
const USUAL: [(&str, fn()); 14] = [
    ("disk", disk::measure),
    ("written", written::measure),
    ("speed", speed::measure),
    ("cost", cost::measure),
    ("wire", wire::measure),
    ("rest", rest::measure),
    ("sessions", sessions::measure),
    ("roam", roam::measure),
    ("ways", ways::measure),
    ("cut", cut::minute),
    ("replay", replay::measure),
    ("flood", flood::measure),
    ("feed", feed::measure),
    ("pair", pair::minutes),
];

/// What takes so long that it is asked for by name.
const LONG: [(&str, fn()); 3] = [
    ("cut-long", cut::ten_minutes),
    ("pair-long", pair::hour),
    ("wide", wide::measure),
];

fn main() {
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if let [name, count] = &chosen[..]
        && name == "meshes"
    {
        return meshes::run(count.parse().expect("a count of members"));
    }
    if let [name, dir] = &chosen[..]
        && name == "written-day"
    {
        return written::day(dir.as_ref());
    }
    if let [name, number] = &chosen[..]
        && let Ok(number) = number.parse()
    {
        return short(name, number);
    }
    let wanted = |name: &str| chosen.iter().any(|chosen| chosen == name);
    for (name, measure) in USUAL {
        if chosen.is_empty() || wanted(name) {
            measure();
        }
    }
    for (name, measure) in LONG {
        if wanted(name) {
            measure();
        }
    }
}

/// One measurement, made short.
fn short(name: &str, number: u16) {
    match name {
        "ways" => ways::measure_runs(number.into()),
        "cut" => cut::once(number.into()),
        "rest" => rest::measure_sizes(&[usize::from(number) - 1]),
        _ => panic!("{name} takes no number"),
    }
}
