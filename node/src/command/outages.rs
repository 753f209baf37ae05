//! `outages`: why nodes were silent, from the running node or from what is on disk.

use anyhow::Context as _;
use serde_json::Value;

use super::{Doer, reader};
use crate::cli::{Global, OutagesArgs};
use crate::control::Request;
use crate::failure::Failure;
use crate::membership::Membership;
use crate::outage::Told;
use crate::state::StateDir;
use crate::text::{Printer, Tone, aside, visible};
use crate::{ledger, when};

pub(super) fn run(
    global: &Global,
    arguments: &OutagesArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let now_ms = when::now_ms();
    let moment = |flag: &str, text: &Option<String>| {
        let read = text.as_deref().map(|text| when::moment(text, now_ms));
        read.transpose()
            .map_err(|why| Failure::usage(format!("{flag}: {why}")))
    };
    let span = (
        moment("--from", &arguments.from)?,
        moment("--to", &arguments.to)?,
    );
    let state = StateDir::resolve(global)?;
    let mut outages = match reader(&state)? {
        Doer::Node(mut client) => {
            let mut list = Vec::new();
            let asked = Request::Outages {
                node: arguments.node.clone(),
            };
            client.stream(&asked, |part| {
                list.push(part);
                Ok(())
            })?;
            list
        }
        Doer::Ourselves(_lock) => stored(&state, &arguments.node)?,
    };
    outages.retain(|outage| is_within(outage, span));
    if arguments.json {
        return out.json(&Value::Array(outages));
    }
    if outages.is_empty() {
        aside("no outage is known of such nodes and times");
    }
    for outage in &outages {
        let line = visible(outage["words"].as_str().unwrap_or_default()).into_owned();
        let provisional = outage["provisional"] == true;
        let tone = if provisional {
            Tone::Doubtful
        } else {
            Tone::Strong
        };
        let shown = if outage["end_ms"].is_null() || provisional {
            out.toned(tone, &line)
        } else {
            line
        };
        out.line(shown)?;
    }
    Ok(())
}

/// Whether any of an outage falls into a span.
fn is_within(outage: &Value, (from, to): (Option<i64>, Option<i64>)) -> bool {
    let ended_before = from.zip(outage["end_ms"].as_i64());
    let began_after = to.zip(outage["start_ms"].as_i64());
    ended_before.is_none_or(|(from, end)| end >= from)
        && began_after.is_none_or(|(to, start)| start <= to)
}

/// What a stopped node's directory holds.
fn stored(state: &StateDir, node: &str) -> Result<Vec<Value>, Failure> {
    let folded = Membership::of_mesh(state)?.statements.state();
    let path = state.join(ledger::FILE);
    let events = ledger::stored(&path).with_context(|| format!("read {}", path.display()))?;
    Told::of(&events, &folded).list(node)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outage_is_within_a_span_that_any_of_it_touches() {
        let outage = |end: Option<i64>| json!({ "start_ms": 100, "end_ms": end });
        let cases = [
            (Some(200), (None, None), true),
            (Some(200), (Some(200), None), true),
            (Some(200), (Some(201), None), false),
            (Some(200), (None, Some(99)), false),
            (Some(200), (Some(120), Some(130)), true),
            (None, (Some(5_000), None), true),
        ];
        for (end, span, within) in cases {
            assert_eq!(is_within(&outage(end), span), within, "{end:?} {span:?}");
        }
    }
}
