//! What two nodes use while time passes: resident memory, processor, descriptors and threads of
//! each, in windows of 30 s; two real processes in namespaces, 1 Hz, no page open.

use std::time::{Duration, Instant};

use outlast_tests::{Usage, World};

use crate::OUTLAST;
use crate::figures::Figures;

/// One window.
const WINDOW: Duration = Duration::from_secs(30);

/// How long everything runs first.
const SETTLING: Duration = Duration::from_secs(60);

pub(crate) fn minutes() {
    measure(10, 1);
}

pub(crate) fn hour() {
    measure(120, 10);
}

/// Watches so many windows and prints each `shown`th.
fn measure(windows: usize, shown: usize) {
    let Some(mut world) = World::in_namespaces(OUTLAST, "p") else {
        println!("\npair: not measured, namespaces take root");
        return;
    };
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], Duration::from_secs(30));
    std::thread::sleep(SETTLING);
    let pids = [0, 1].map(|number| world.node(number).pid().expect("up"));

    println!(
        "\ntwo nodes, windows of 30 s     resident KiB a, b      cpu % of a core a, b   descriptors   threads"
    );
    let began = Instant::now();
    let mut seen = vec![(0.0, pids.map(Usage::of))];
    for number in 1..=windows {
        let due = began + WINDOW * u32::try_from(number).expect("few windows");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        seen.push((began.elapsed().as_secs_f64(), pids.map(Usage::of)));
        if number % shown == 0 {
            row(&seen[number - 1], &seen[number]);
        }
    }
    for (at, name) in ["a", "b"].iter().enumerate() {
        summary(name, &seen, at);
    }
}

fn row(before: &(f64, [Usage; 2]), after: &(f64, [Usage; 2])) {
    let seconds = after.0 - before.0;
    let [a, b] = after.1;
    let cpu = [0, 1].map(|at| (after.1[at].cpu_s - before.1[at].cpu_s) / seconds * 100.0);
    println!(
        "{:>22.0} s {:12.0} {:8.0} {:14.2} {:7.2} {:10} {:3} {:6} {:2}",
        after.0,
        a.resident_bytes / 1_024.0,
        b.resident_bytes / 1_024.0,
        cpu[0],
        cpu[1],
        a.descriptors,
        b.descriptors,
        a.threads,
        b.threads,
    );
}

/// Slopes after the first quarter, when what is filled at the start is full.
fn summary(name: &str, seen: &[(f64, [Usage; 2])], at: usize) {
    let late = &seen[seen.len() / 4..];
    let of = |pick: fn(&Usage) -> f64| -> Vec<(f64, f64)> {
        late.iter()
            .map(|(time, usage)| (*time, pick(&usage[at])))
            .collect()
    };
    let cpu = Figures::of(late.windows(2).map(|two| {
        let used = two[1].1[at].cpu_s - two[0].1[at].cpu_s;
        used / (two[1].0 - two[0].0) * 100.0
    }));
    println!(
        "{name} after the first quarter: resident {:+.0} KiB an hour, descriptors {:+.1}, threads {:+.1}; cpu median {:.2} % ({:.2} to {:.2})",
        slope(&of(|usage| usage.resident_bytes / 1_024.0)) * 3_600.0,
        slope(&of(|usage| usage.descriptors as f64)) * 3_600.0,
        slope(&of(|usage| usage.threads as f64)) * 3_600.0,
        cpu.median(),
        cpu.quantile(0.0),
        cpu.quantile(1.0),
    );
}

/// The least-squares slope through points of time and value.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    over / under
}
