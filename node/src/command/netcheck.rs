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
    if let Some(out_of_mesh) = found["out"].as_str() {
        let line = format!(
            "this node is no member any more, so nobody speaks with it or relays for it; it was {}",
            visible(out_of_mesh)
        );
        return out.line(out.toned(Tone::Bad, &line));
    }
    if found["isolated"] == true {
        out.line(out.toned(
            Tone::Bad,
            "isolated: every datagram is dropped (outlast isolate off)",
        ))?;
    }
    addresses(&found, out)?;
    for line in nat(&found["nat"]) {
        out.line(line)?;
    }
    peers(&found, out)
}

/// The router in front of this node, and who relays where it lets nothing through.
fn nat(nat: &Value) -> Vec<String> {
    let mapping = match nat["mapping"].as_str().unwrap_or_default() {
        "none" => "no NAT: peers see an address of this machine",
        "endpoint-independent" => {
            "NAT that shows every peer the same address (endpoint-independent): most peers are reached directly"
        }
        "endpoint-dependent" => {
            "NAT that shows each peer another port (endpoint-dependent): only peers that anybody may reach are reached \
             directly; forward the UDP port to this machine and say so with --endpoint, or the others are relayed"
        }
        _ => "NAT: not known until two peers have said where they see this node",
    };
    let came = &nat["let_in"];
    let filtering = match nat["filtering"].as_str().unwrap_or_default() {
        "endpoint-independent" => format!(
            "anybody is let in: {} came in from {}, where nothing had been sent to",
            shown(&came["name"]),
            shown(&came["address"])
        ),
        _ => "who is let in: not known yet; a member that comes in from an address that nothing was sent to will tell"
            .to_owned(),
    };
    let mut lines = vec![mapping.to_owned()];
    for seen in nat["reflexive"].as_array().into_iter().flatten() {
        let (address, by) = (shown(&seen["address"]), names(&seen["by"]));
        lines.push(format!("  {address:<28} seen by {by}"));
    }
    lines.push(filtering);
    let relays = names(&nat["relays"]);
    lines.push(if relays.is_empty() {
        "nobody would relay for this node at this moment".to_owned()
    } else {
        format!("would relay for this node: {relays}")
    });
    if let Some(why) = nat["relays_nothing"].as_str() {
        lines.push(format!("this node relays nothing: {}", visible(why)));
    }
    lines
}

fn names(list: &Value) -> String {
    let names = list.as_array().into_iter().flatten();
    let mut names: Vec<String> = names.map(shown).collect();
    names.sort_unstable();
    names.join(", ")
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
    let mut rows = vec![Cell::headings([
        "PEER", "STATE", "PATH", "RTT", "MTU", "ENDPOINT",
    ])];
    rows.extend(listed.iter().map(|peer| row(peer)));
    out.line("")?;
    out.table(&rows)?;
    for peer in listed {
        if let Some(why) = peer["why_not_direct"].as_str() {
            out.line(format!("{}: {}", shown(&peer["name"]), visible(why)))?;
        }
    }
    Ok(())
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
        peer["mtu_at_least"].to_string().into(),
        shown(&peer["endpoint"]).into(),
    ]
}

fn shown(value: &Value) -> String {
    visible(value.as_str().unwrap_or("-")).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_router_is_told_with_what_follows() {
        let lines = |mapping: &str| {
            nat(&json!({
                "mapping": mapping,
                "filtering": "endpoint-independent",
                "let_in": { "name": "b\u{1b}", "address": "192.0.2.9:4" },
                "reflexive": [{ "address": "192.0.2.7:51800", "by": ["c\u{1b}", "b"] }],
                "relays": ["b"],
                "relays_nothing": "it is metered",
            }))
        };
        assert_eq!(
            lines("none"),
            [
                "no NAT: peers see an address of this machine",
                "  192.0.2.7:51800              seen by b, c\\u{1b}",
                "anybody is let in: b\\u{1b} came in from 192.0.2.9:4, where nothing had been sent to",
                "would relay for this node: b",
                "this node relays nothing: it is metered",
            ]
        );
        for (mapping, begins) in [
            ("unknown", "NAT: not known"),
            ("endpoint-independent", "NAT that shows every peer the same"),
            ("endpoint-dependent", "NAT that shows each peer another"),
        ] {
            assert!(lines(mapping)[0].starts_with(begins), "{mapping}");
        }
        let alone = nat(&json!({
            "mapping": "unknown", "filtering": "unknown", "let_in": null, "reflexive": [], "relays": [],
        }));
        assert!(alone[1].starts_with("who is let in: not known yet"));
        assert_eq!(
            alone.last().unwrap(),
            "nobody would relay for this node at this moment"
        );
    }
}
