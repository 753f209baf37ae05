//! Bytes a second and time to converge by the size of the mesh: two tables and a plot, written to `RESULTS.md`.
//!
//! Each size runs the same story: calm minutes, half of the mesh cut from the other, and then it heals; the run ends a
//! minute after everybody has everything. The largest mesh is given fewer of those minutes, as the table says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use crate::case::{Case, Kind};
use crate::check::Figures;
use crate::crew::help_others;
use crate::fault::Story;
use crate::run::{run, say};

/// Where nobody asks for others.
const SIZES: [u32; 5] = [10, 50, 200, 1_000, 3_000];
const MINUTES: u32 = 12;
/// From this size on the calm and the cut are shorter: such a mesh costs minutes of a core for each of its own.
const LARGE: u32 = 2_000;

/// Runs every size, two at a time, and writes both files after each. `false`: a run broke, or a file can't be written.
pub(crate) fn make(sizes: &[u32]) -> bool {
    let mut sizes = if sizes.is_empty() {
        SIZES.to_vec()
    } else {
        sizes.to_vec()
    };
    sizes.sort_unstable();
    let (waiting, measured, good) = (Mutex::new(sizes), Mutex::new(Vec::new()), Mutex::new(true));
    let work = || {
        loop {
            // Apart from the match, so that the other thread can take the next one meanwhile.
            let next = held(&waiting).pop();
            let Some(nodes) = next else {
                // The largest, which is begun first, is often the last as well.
                help_others();
                break;
            };
            match run(&case(nodes)) {
                Ok(figures) => {
                    say(format!("{nodes:>6}  {figures}"));
                    let mut measured = held(&measured);
                    measured.push((nodes, figures));
                    measured.sort_by_key(|(nodes, _)| *nodes);
                    *held(&good) &= write(&measured);
                }
                Err(broken) => {
                    say(format!("BROKE {nodes} nodes: {broken}"));
                    *held(&good) = false;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    good.into_inner().expect("no holder of this lock panics")
}

fn held<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().expect("no holder of this lock panics")
}

fn case(nodes: u32) -> Case {
    let (calm, cut) = spans(nodes);
    let mut case = Case::new(Kind::Heal, 1, nodes, MINUTES);
    case.ends_when_equal = true;
    case.told(Story::heal(nodes, calm, cut))
}

/// Calm seconds, and those of the cut.
fn spans(nodes: u32) -> (u64, u64) {
    if nodes < LARGE { (300, 120) } else { (180, 60) }
}

fn write(measured: &[(u32, Figures)]) -> bool {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim");
    let written = std::fs::write(dir.join("RESULTS.md"), table(measured))
        .and_then(|()| std::fs::write(dir.join("results.svg"), plot(measured)));
    if let Err(error) = &written {
        say(format!("write {}: {error}", dir.display()));
    }
    written.is_ok()
}

fn calm(figures: &Figures) -> f64 {
    figures.calm_bytes.unwrap_or(figures.bytes)
}

fn seconds(figures: &Figures) -> f64 {
    figures
        .converged
        .map_or(f64::NAN, |span| span.as_secs_f64())
}

fn table(measured: &[(u32, Figures)]) -> String {
    let mut text = String::from(
        "# What a node costs and how fast a mesh heals, simulated\n\n\
         Made by `make sim-results`; nobody edits it. Rows of three series once a second; the bytes are everything a node\n\
         sends, with IPv4, UDP, WireGuard, IPv6, QUIC, handshakes and signs of life, after the first two minutes. After\n\
         the calm half of the mesh is cut from the other half; converged is when every keeper holds everything that was\n\
         taken before it healed.\n\n\
         ![bytes a second and seconds to converge by nodes](results.svg)\n\n\
         | nodes | calm, s | cut, s | bytes/s a node, calm | converged after, s | live p50, ms | live p99, ms | p99 beside the backlog, ms | believed down within reach, s | rows taken |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (nodes, figures) in measured {
        let (quiet, cut) = spans(*nodes);
        let busy = figures
            .busy_p99
            .map_or_else(|| "–".to_owned(), |span| span.as_millis().to_string());
        let _ = writeln!(
            text,
            "| {nodes} | {quiet} | {cut} | {:.0} | {:.0} | {} | {} | {busy} | {} | {} |",
            calm(figures),
            seconds(figures),
            figures.live_p50.as_millis(),
            figures.live_p99.as_millis(),
            figures.wrongly_down.as_secs(),
            figures.rows
        );
    }
    text.push_str("\nWhat the calm bytes are, a second and node:\n\n| nodes |");
    let kinds = measured
        .iter()
        .flat_map(|(_, figures)| figures.calm_kinds.keys());
    let kinds: BTreeSet<_> = kinds.copied().collect();
    for kind in &kinds {
        let _ = write!(text, " {kind} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(kinds.len()));
    for (nodes, figures) in measured {
        let _ = write!(text, "| {nodes} |");
        for kind in &kinds {
            let bytes = figures.calm_kinds.get(kind).copied().unwrap_or(0.0);
            let _ = write!(text, " {bytes:.0} |");
        }
        text.push('\n');
    }
    text
}

fn plot(measured: &[(u32, Figures)]) -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 300\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"720\" height=\"300\" fill=\"white\"/>\n",
    );
    let bytes: Vec<_> = measured
        .iter()
        .map(|(nodes, figures)| (*nodes, calm(figures) / 1_000.0))
        .collect();
    let heal: Vec<_> = measured
        .iter()
        .map(|(nodes, figures)| (*nodes, seconds(figures)))
        .collect();
    panel(&mut svg, 0.0, "kB/s a node sends, calm", &bytes);
    panel(&mut svg, 360.0, "seconds to converge after a heal", &heal);
    svg.push_str("</svg>\n");
    svg
}

/// One line over a logarithmic axis of nodes.
fn panel(svg: &mut String, left: f64, title: &str, points: &[(u32, f64)]) {
    let top = points
        .iter()
        .map(|(_, value)| *value)
        .fold(0.0, f64::max)
        .max(1.0)
        * 1.2;
    let (low, high) = (
        f64::from(SIZES[0]).ln(),
        f64::from(SIZES[SIZES.len() - 1]).ln(),
    );
    let x = |nodes: u32| left + 50.0 + 280.0 * (f64::from(nodes).ln() - low) / (high - low);
    let y = |value: f64| 250.0 - 200.0 * value / top;
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"24\" font-size=\"14\">{title}</text>",
        left + 50.0
    );
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let (at, from, to) = (y(value), left + 50.0, left + 330.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{from:.0} {at:.1}H{to:.0}\" stroke=\"#ddd\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
            from - 6.0,
            at + 4.0
        );
    }
    let line: Vec<String> = points
        .iter()
        .map(|(nodes, value)| format!("{:.1},{:.1}", x(*nodes), y(*value)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#0969da\" stroke-width=\"2\"/>",
        line.join(" ")
    );
    for (nodes, value) in points {
        let (x, y) = (x(*nodes), y(*value));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#0969da\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.1}</text>",
            y - 8.0
        );
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"268\" text-anchor=\"middle\">{nodes}</text>"
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"288\" text-anchor=\"middle\">nodes</text>",
        left + 190.0
    );
}
