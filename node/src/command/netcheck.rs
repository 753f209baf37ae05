//! `netcheck`: how this node is reached, which way goes to each peer, and what is in the way of a better one.

use serde_json::Value;

use crate::cli::{Global, JsonArgs};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::{Cell, Printer, Tone, visible};

pub(super) fn run(global: &Global, arguments: &JsonArgs, out: &mut Printer) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let mut client = Client::require(state.socket_dir())?;
    let found = client.call(&Request::Netcheck)?;
    if arguments.json {
        return out.json(&found);
    }
    out.line(format!("UDP port {}", found["udp_port"]))?;
    if found["isolated"] == true {
        out.line(out.toned(
            Tone::Bad,
            "isolated: every datagram is dropped (outlast isolate off)",
        ))?;
    }
    addresses(&found, out)?;
    peers(&found, out)
}

/// Where others are told to look for this node.
fn addresses(found: &Value, out: &mut Printer) -> Result<(), Failure> {
    let told = found["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    if told.is_empty() {
        return out.line("no address of this machine is known that others could use");
    }
    let from = |word: &str| match word {
        "advertised" => "as its owner says",
        "local" => "of this machine",
        _ => "as peers see it",
    };
    for endpoint in told {
        out.line(format!(
            "  {:<28} {}",
            shown(&endpoint["address"]),
            from(endpoint["from"].as_str().unwrap_or_default())
        ))?;
    }
    Ok(())
}

fn peers(found: &Value, out: &mut Printer) -> Result<(), Failure> {
    let mut listed: Vec<&Value> = found["peers"].as_array().into_iter().flatten().collect();
    if listed.is_empty() {
        return out.line("no peers yet");
    }
    listed.sort_by_key(|peer| peer["name"].as_str());
    let mut rows = vec![Cell::headings(["PEER", "STATE", "PATH", "RTT", "ENDPOINT"])];
    rows.extend(listed.into_iter().map(row));
    out.line("")?;
    out.table(&rows)
}

fn row(peer: &Value) -> Vec<Cell> {
    let path = match peer["via"].as_str() {
        Some(via) => format!("relay through {}", visible(via)),
        None => shown(&peer["path"]),
    };
    let rtt = peer["rtt_ms"].as_f64();
    vec![
        shown(&peer["name"]).into(),
        Cell::state(peer["state"].as_str().unwrap_or("-")),
        path.into(),
        rtt.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
            .into(),
        shown(&peer["endpoint"]).into(),
    ]
}

fn shown(value: &Value) -> String {
    visible(value.as_str().unwrap_or("-")).into_owned()
}
