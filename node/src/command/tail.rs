//! `tail`: live samples as lines, until Ctrl-C.

use serde_json::Value;

use crate::cli::{Global, TailArgs};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::{self, Printer, Tone, aside, series_name, visible};

pub(super) fn run(global: &Global, arguments: TailArgs, out: &mut Printer) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let mut client = Client::require(state.socket_dir())?;
    let (node, series) = meant(arguments.node, arguments.series);
    let waiting = waiting(node.as_deref(), series.as_deref());
    let request = Request::Tail { node, series };
    let as_json = arguments.json;
    client.stream(&request, |part| {
        if let Some(rows) = part["skipped_rows"].as_u64() {
            aside(format!(
                "outlast: this terminal is too slow, {rows} rows were skipped"
            ));
            return Ok(());
        }
        if part["waiting"].as_bool() == Some(true) {
            aside(&waiting);
            return Ok(());
        }
        if part.is_null() {
            return Ok(());
        }
        if as_json {
            out.json(&part)?
        } else {
            lines(&part, out)?
        }
        out.flush()
    })?;
    Ok(())
}

/// Node and series as they were meant: one argument alone that can't be a name or an id is a series.
fn meant(node: Option<String>, series: Option<String>) -> (Option<String>, Option<String>) {
    let is_series = |text: &String| text.contains(['*', '?', '_', ':', '{']);
    match (node, series) {
        (Some(only), None) if is_series(&only) => (None, Some(only)),
        both => both,
    }
}

/// What to say while nothing comes: for what this waits, and where to look whether it can come.
fn waiting(node: Option<&str>, series: Option<&str>) -> String {
    let of = node.map_or_else(|| "any node".to_owned(), |node| visible(node).into_owned());
    match series {
        None => format!(
            "outlast: waiting for samples of {of}; `outlast status` says whether it is heard"
        ),
        Some(series) => format!(
            "outlast: waiting for samples of {of} that match {}; `outlast query --series '*'` lists what there is",
            visible(series)
        ),
    }
}

fn lines(part: &Value, out: &mut Printer) -> Result<(), Failure> {
    let at = part["at_ms"]
        .as_i64()
        .map_or_else(String::new, text::moment);
    let at = out.toned(Tone::Faint, &at);
    let node = visible(part["node"].as_str().unwrap_or("-")).into_owned();
    for sample in part["samples"].as_array().into_iter().flatten() {
        let unit = visible(sample["unit"].as_str().unwrap_or_default()).into_owned();
        let series = series_of(sample);
        out.line(format!("{at} {node} {series} {} {unit}", sample["value"]).trim_end())?;
    }
    Ok(())
}

/// Name and labels of a series in an answer.
pub(super) fn series_of(sample: &Value) -> String {
    let labels = sample["labels"].as_object();
    let labels = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
    series_name(sample["name"].as_str().unwrap_or("-"), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_alone_is_not_taken_for_a_node() {
        let text = |text: &str| Some(text.to_owned());
        let alone = text("node_load*");
        assert_eq!(meant(alone.clone(), None), (None, alone.clone()));
        assert_eq!(meant(text("attic-2"), None), (text("attic-2"), None));
        assert_eq!(meant(text("a"), alone.clone()), (text("a"), alone));
        assert_eq!(meant(None, None), (None, None));
    }
}
