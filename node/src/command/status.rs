//! `status`: this node, its peers, the way to each, what they lack, and the store.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::cli::{Global, StatusArgs};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::losses;
use crate::state::StateDir;
use crate::text::{self, Cell, Printer, Tone, visible};
use crate::when;

/// Between two pictures of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(
    global: &Global,
    arguments: &StatusArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let mut client = Client::require(state.socket_dir())?;
    loop {
        let status = client.call(&Request::Status)?;
        if arguments.watch && out.is_terminal() && !arguments.json {
            out.raw("\u{1b}[H\u{1b}[2J")?;
        }
        if arguments.json {
            out.json(&status)?
        } else {
            show(&status, out)?
        }
        out.flush()?;
        if !arguments.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn show(status: &Value, out: &mut Printer) -> Result<(), Failure> {
    let node = &status["node"];
    let mesh = &status["mesh"];
    if mesh.is_null() {
        out.line(format!("no mesh yet; waiting (process {})", node["pid"]))?;
    } else {
        out.line(format!(
            "{} in mesh {}, {} {}",
            out.toned(Tone::Strong, &shown(&node["name"])),
            out.toned(Tone::Strong, &shown(&mesh["name"])),
            mesh["members"],
            if mesh["members"] == 1 {
                "member"
            } else {
                "members"
            }
        ))?;
    }
    facts(status, out)?;
    peers(status, out)?;
    refused(status, out)?;
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        let line = format!("! {}: {}", shown(&alarm["node"]), shown(&alarm["title"]));
        out.line(out.toned(Tone::Bad, &line))?;
    }
    let notices = status["notices"].as_array().into_iter().flatten();
    for notice in notices.map(shown).chain(not_measured(status)) {
        out.line(out.toned(Tone::Doubtful, &format!("! {notice}")))?;
    }
    Ok(())
}

/// A sentence for each source of measurements that fails.
fn not_measured(status: &Value) -> impl Iterator<Item = String> {
    let sources = status["sources"].as_array().into_iter().flatten();
    let failed = sources.filter(|source| source["ok"] == false);
    failed.map(|source| {
        let (name, error) = (shown(&source["name"]), shown(&source["error"]));
        format!("{name} is not measured: {error}")
    })
}

fn facts(status: &Value, out: &mut Printer) -> Result<(), Failure> {
    let node = &status["node"];
    let uptime = text::duration(node["uptime_ms"].as_u64().unwrap_or(0));
    out.line(format!(
        "  up {uptime}, version {}",
        shown(&node["version"])
    ))?;
    if status["mesh"].is_null() {
        return Ok(());
    }
    out.line(format!(
        "  id {}, address {}",
        shown(&node["id"]),
        shown(&node["address"])
    ))?;
    for page in node["dashboard"].as_array().into_iter().flatten() {
        out.line(format!(
            "  UDP port {}, page {} (log in: outlast dashboard)",
            node["udp_port"],
            shown(page)
        ))?;
    }
    let store = &status["store"];
    out.line(format!(
        "  store {} of {}{}, {} series, {}",
        text::size(store["bytes"].as_u64().unwrap_or(0)),
        text::size(store["limit_bytes"].as_u64().unwrap_or(0)),
        losses::bound(store).map_or_else(String::new, |by| format!(" ({by})")),
        text::count(store["series"].as_u64().unwrap_or(0)),
        reach(store)
    ))?;
    went(store, out)?;
    if node["isolated"].as_bool() == Some(true) {
        out.line(out.toned(
            Tone::Bad,
            "  isolated: every datagram is dropped (outlast isolate off)",
        ))?;
    }
    Ok(())
}

/// What the store let go, lost or set aside; nothing where nothing was.
fn went(store: &Value, out: &mut Printer) -> Result<(), Failure> {
    for line in losses::let_go(store) {
        out.line(format!("    {line}"))?;
    }
    for line in losses::lost(store) {
        out.line(out.toned(Tone::Bad, &format!("    {line}")))?;
    }
    for generation in losses::set_aside(store) {
        let line = format!("    damaged and set aside: {generation}");
        out.line(out.toned(Tone::Bad, &line))?;
    }
    Ok(())
}

fn reach(store: &Value) -> String {
    match store["oldest_ms"].as_i64() {
        Some(oldest) => {
            let back = u64::try_from(when::now_ms() - oldest).unwrap_or(0);
            format!("reaches {} back", text::duration(back))
        }
        None => "nothing in it yet".to_owned(),
    }
}

fn peers(status: &Value, out: &mut Printer) -> Result<(), Failure> {
    let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
    if peers.is_empty() {
        return Ok(());
    }
    let heading = [
        "PEER", "STATE", "PATH", "RTT", "HEARD", "LACKS", "SENT", "RECEIVED", "ENDPOINT",
    ];
    let mut peers: Vec<&Value> = peers.iter().collect();
    peers.sort_by_key(|peer| peer["name"].as_str());
    let mut rows = vec![Cell::headings(heading)];
    let summaries = status["summaries"].as_array();
    let summary_of = |peer: &Value| {
        let mut all = summaries.into_iter().flatten();
        all.find(|summary| summary["id"] == peer["id"])
    };
    let row = |peer: &Value| peer_row(peer, summary_of(peer));
    rows.extend(peers.into_iter().map(row));
    out.line("")?;
    out.table(&rows)?;
    silent(status, out)
}

/// Why each peer that isn't heard is silent.
fn silent(status: &Value, out: &mut Printer) -> Result<(), Failure> {
    for peer in status["peers"].as_array().into_iter().flatten() {
        if let Some(why) = peer["why"].as_str() {
            let line = format!("! {}: {}", shown(&peer["name"]), visible(why));
            out.line(out.toned(Tone::Doubtful, &line))?;
        }
    }
    Ok(())
}

/// One line for each culprit, the gravest count first: "mallory: 312 altered rows, 4 unreadable
/// messages refused, last 3 s ago".
fn refused(status: &Value, out: &mut Printer) -> Result<(), Failure> {
    let mut by_culprit: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for line in status["refused"].as_array().into_iter().flatten() {
        let culprit = line["peer"].as_str().unwrap_or("-");
        by_culprit.entry(culprit).or_default().push(line);
    }
    for (peer, mut lines) in by_culprit {
        lines.sort_by_key(|line| Reverse(line["count"].as_u64()));
        let of = |line: &&Value| {
            let count = text::count(line["count"].as_u64().unwrap_or(0));
            format!("{count} {}", shown(&line["what"]))
        };
        let what: Vec<String> = lines.iter().map(of).collect();
        let last = lines
            .iter()
            .filter_map(|line| line["last_ms"].as_i64())
            .max();
        let ago = u64::try_from(when::now_ms() - last.unwrap_or(0)).unwrap_or(0);
        let short = peer.get(..8).unwrap_or(peer);
        let name = lines[0]["name"].as_str().unwrap_or(short);
        out.line(out.toned(
            Tone::Bad,
            &format!(
                "! {}: {} refused, last {} ago",
                visible(name),
                what.join(", "),
                text::duration(ago)
            ),
        ))?;
    }
    Ok(())
}

fn peer_row(peer: &Value, summary: Option<&Value>) -> Vec<Cell> {
    let path = match peer["via"].as_str() {
        Some(via) => format!("relay through {}", visible(via)),
        None => shown(&peer["path"]),
    };
    let rtt = peer["rtt_ms"]
        .as_f64()
        .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let backlog = match peer["backlog_samples"].as_u64().unwrap_or(0) {
        0 => "nothing".to_owned(),
        samples => format!("{} samples", text::count(samples)),
    };
    let name = match peer["replaced_by"].as_str() {
        Some(by) => format!("{} (replaced by {})", shown(&peer["name"]), visible(by)),
        None => shown(&peer["name"]),
    };
    vec![
        name.into(),
        Cell::state(peer["state"].as_str().unwrap_or("-")),
        path.into(),
        rtt.into(),
        heard(peer, summary, when::now_ms()).into(),
        backlog.into(),
        text::size(peer["tx_bytes"].as_u64().unwrap_or(0)).into(),
        text::size(peer["rx_bytes"].as_u64().unwrap_or(0)).into(),
        shown(&peer["endpoint"]).into(),
    ]
}

/// When a peer was last heard; where its rows are kept elsewhere, also how old what it says of itself is.
fn heard(peer: &Value, summary: Option<&Value>, now_ms: i64) -> String {
    let heard = peer["last_heard_ms"].as_i64().map_or_else(
        || "never".to_owned(),
        |at| {
            let ago = u64::try_from(now_ms - at).unwrap_or(0);
            format!("{} ago", text::duration(ago))
        },
    );
    let elsewhere = summary.filter(|summary| summary["kept"] == false);
    match elsewhere.and_then(|summary| summary["age_ms"].as_u64()) {
        Some(age) => format!("{heard}, summary {} old", text::duration(age)),
        None => heard,
    }
}

fn shown(value: &Value) -> String {
    visible(value.as_str().unwrap_or("-")).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_source_that_fails_is_named_with_its_reason() {
        let status = json!({ "sources": [
            { "name": "cpu", "ok": true, "error": null },
            { "name": "disk", "ok": false, "error": "/proc/diskstats: permission\u{1b} denied" },
        ] });
        let said: Vec<_> = not_measured(&status).collect();
        assert_eq!(
            said,
            ["disk is not measured: /proc/diskstats: permission\\u{1b} denied"]
        );
        assert_eq!(not_measured(&json!({})).count(), 0);
    }

    #[test]
    fn of_a_node_that_is_kept_elsewhere_the_age_of_its_summary_shows() {
        let peer = json!({ "last_heard_ms": 1_000 });
        let summary = |kept| json!({ "age_ms": 2_300, "kept": kept });
        let heard = |summary: Option<&Value>| heard(&peer, summary, 61_000);
        assert_eq!(heard(Some(&summary(false))), "60 s ago, summary 2 s old");
        assert_eq!(heard(Some(&summary(true))), "60 s ago");
        assert_eq!(heard(None), "60 s ago");
    }
}
