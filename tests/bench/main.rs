//! What the promise costs, measured on this machine beside what people run today.
//!
//! `make bench` runs them all and prints one table each: `cost` (CPU and memory of a node beside
//! node_exporter in the same minute), `wire` (bytes between two peers), `disk` (bytes a sample), `flood`
//! (what a stranger sends and a node survives).
//! Absent: pass and fail. Figures are read by people; tests don't depend on them.

#![expect(clippy::print_stdout, reason = "figures are what this prints")]

mod cost;
mod disk;
mod flood;
mod wire;

/// The daemon being measured, in the release profile.
const OUTLAST: &str = env!("CARGO_BIN_EXE_outlast-under-test");

fn main() {
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    for (name, measure) in [
        ("disk", disk::measure as fn()),
        ("cost", cost::measure),
        ("wire", wire::measure),
        ("flood", flood::measure),
    ] {
        if chosen.is_empty() || chosen.iter().any(|wanted| wanted == name) {
            measure();
        }
    }
}
