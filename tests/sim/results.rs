//! Bytes a second and time to converge by the size of the mesh: a table and a plot, written to `RESULTS.md`.
//!
//! Each size runs the same story: five calm minutes, half of the mesh cut from the other for two, and then it heals.

use std::fmt::Write as _;
use std::path::Path;

use crate::case::{Case, Kind};
use crate::check::Figures;
use crate::run::{run, say};

/// Where nobody asks for others.
const SIZES: [u32; 5] = [10, 50, 200, 1_000, 3_000];
const MINUTES: u32 = 12;

/// Runs every size and writes both files after each. `false`: a run broke, or a file can't be written.
pub(crate) fn make(sizes: &[u32]) -> bool {
    let mut measured = Vec::new();
    let sizes = if sizes.is_empty() { &SIZES } else { sizes };
    for &nodes in sizes {
        let case = Case::new(Kind::Heal, 1, nodes, MINUTES);
        match run(&case) {
            Ok(figures) => {
                say(format!("{nodes:>6}  {figures}"));
                measured.push((nodes, figures));
                if !write(&measured) {
                    return false;
                }
            }
            Err(broken) => {
                say(format!("BROKE {case}: {broken}"));
                return false;
            }
        }
    }
    true
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
         sends, with IPv4, UDP, WireGuard, IPv6, QUIC, handshakes and signs of life. After five calm minutes half of the\n\
         mesh is cut from the other half for two minutes; converged is when every keeper holds everything that was taken\n\
         before it healed.\n\n\
         ![bytes a second and seconds to converge by nodes](results.svg)\n\n\
         | nodes | bytes/s a node, calm | converged after, s | live p50, ms | live p99, ms | p99 beside the backlog, ms | rows taken |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (nodes, figures) in measured {
        let busy = figures
            .busy_p99
            .map_or_else(|| "–".to_owned(), |span| span.as_millis().to_string());
        let _ = writeln!(
            text,
            "| {nodes} | {:.0} | {:.0} | {} | {} | {busy} | {} |",
            calm(figures),
            seconds(figures),
            figures.live_p50.as_millis(),
            figures.live_p99.as_millis(),
            figures.rows
        );
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
