//! `query`: history, from the running node or from the store itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tail::series_of;
use super::{Doer, reader};
use crate::cli::{Global, QueryArgs};
use crate::config::Config;
use crate::control::{History, Request};
use crate::daemon;
use crate::failure::Failure;
use crate::membership::{self, Membership};
use crate::state::StateDir;
use crate::succession::Succession;
use crate::text::{self, Printer, Tone, aside, csv_cell, visible};
use crate::when;

/// How long a store that no node has open may take to read its generations.
const OPENING: Duration = Duration::from_secs(60);

/// The columns of `--csv`; there even when no row is.
const CSV_HEADER: &str = "time_ms,time,node,series,unit,value";

pub(super) fn run(
    global: &Global,
    arguments: &QueryArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let asked = asked(arguments, when::now_ms())?;
    let config = Config::load(global.config.as_deref())?;
    let state = StateDir::resolve(global)?;
    let (mut shape, mut source) = (Shape::of(arguments), Source::default());
    let mut take = |part: Value| {
        if source.take(&part) {
            return Ok(());
        }
        shape.part(part, out)
    };
    match reader(&state)? {
        Doer::Node(mut client) => client.stream(&Request::Query(asked), take).map(drop)?,
        Doer::Ourselves(_lock) => stored(&state, &config, &asked, &mut take)?,
    }
    shape.end(out, &source)?;
    source.tell();
    Ok(())
}

/// What the answer was read from, over all series.
#[derive(Default)]
struct Source {
    /// First and last point from each tier, the finest first.
    tiers: BTreeMap<Tier, (i64, i64)>,
    /// Rows left out because they are stamped ahead of now.
    ahead_rows: u64,
    /// Machines that were replaced and whose rows are in the answer: under which name, and until when.
    formers: BTreeMap<String, (String, i64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Raw,
    S10,
    M1,
    H1,
}

impl Source {
    /// Notes what a part says of itself; whether that is all there is in it.
    fn take(&mut self, part: &Value) -> bool {
        if let Some(rows) = part["ahead_rows"].as_u64() {
            self.ahead_rows += rows;
            return true;
        }
        if let (Some(former), Some(until_ms)) = (
            part["former"]["name"].as_str(),
            part["former"]["until_ms"].as_i64(),
        ) {
            let name = part["node"].as_str().unwrap_or_default().to_owned();
            self.formers.insert(former.to_owned(), (name, until_ms));
        }
        for span in part["tiers"].as_array().into_iter().flatten() {
            let tier = match span["tier"].as_str() {
                Some("raw") => Tier::Raw,
                Some("10s") => Tier::S10,
                Some("1m") => Tier::M1,
                Some("1h") => Tier::H1,
                _ => continue,
            };
            if let (Some(from_ms), Some(to_ms)) = (span["from_ms"].as_i64(), span["to_ms"].as_i64())
            {
                let seen = self.tiers.entry(tier).or_insert((from_ms, to_ms));
                *seen = (seen.0.min(from_ms), seen.1.max(to_ms));
            }
        }
        false
    }

    /// One line on stderr for each: people see what is coarser than they may think.
    fn tell(&self) {
        for (tier, (from_ms, to_ms)) in self.tiers.iter().rev() {
            let what = match tier {
                Tier::Raw => "rows as they were sampled",
                Tier::S10 => "what is left of older rows, 10 s in one",
                Tier::M1 => "what is left of older rows, 1 min in one",
                Tier::H1 => "what is left of older rows, 1 h in one",
            };
            let (from, to) = (text::moment(*from_ms), text::moment(*to_ms));
            aside(format!("from {from} to {to}: {what}"));
        }
        for (former, (name, until_ms)) in &self.formers {
            let (former, name, until) = (visible(former), visible(name), text::moment(*until_ms));
            aside(format!(
                "{name} took the place of {former} at {until}: rows of both are shown under {name}"
            ));
        }
        if self.ahead_rows > 0 {
            let rows = self.ahead_rows;
            aside(format!(
                "{rows} rows are stamped more than 10 min ahead of now and left out"
            ));
        }
    }
}

fn asked(arguments: &QueryArgs, now_ms: i64) -> Result<History, Failure> {
    let moment = |flag: &str, text: &str| {
        when::moment(text, now_ms).map_err(|why| Failure::usage(format!("{flag}: {why}")))
    };
    let (from_ms, to_ms) = (
        moment("--from", &arguments.from)?,
        moment("--to", &arguments.to)?,
    );
    if from_ms > to_ms {
        return Err(Failure::usage(format!(
            "--from {} is later than --to {}",
            visible(&arguments.from),
            visible(&arguments.to)
        )));
    }
    outlast_store::Pattern::parse(&arguments.series)
        .map_err(|error| Failure::usage(format!("--series: {error}")))?;
    Ok(History {
        series: arguments.series.clone(),
        node: arguments.node.clone(),
        from_ms,
        to_ms,
        step: arguments.step,
    })
}

fn stored(
    state: &StateDir,
    config: &Config,
    asked: &History,
    each: &mut dyn FnMut(Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let membership = Membership::of_mesh(state)?;
    let folded = membership.statements.state();
    let names = folded.names();
    let lines = Succession::stored(folded.members.values());
    let me = membership::me(state)?;
    let retention = me.and_then(|me| folded.settings.retention_bytes(&me));
    let bound = config.store_bound(state.path(), retention);
    let store = daemon::open_store(state, bound.bytes, None)?;
    let deadline = Instant::now() + OPENING;
    while !store.ready() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let answered = daemon::offline(&store, &names, &lines, asked, each);
    store.close().map_err(anyhow::Error::from)?;
    answered
}

/// How the answer is written.
enum Shape {
    /// Everything in one object; parts of one series are put together again.
    Json(Vec<Value>),
    Csv {
        begun: bool,
    },
    Table {
        shown: usize,
    },
}

impl Shape {
    fn of(arguments: &QueryArgs) -> Self {
        if arguments.json {
            Self::Json(Vec::new())
        } else if arguments.csv {
            Self::Csv { begun: false }
        } else {
            Self::Table { shown: 0 }
        }
    }

    fn part(&mut self, part: Value, out: &mut Printer) -> Result<(), Failure> {
        match self {
            Self::Json(series) => {
                put_together(series, part);
                Ok(())
            }
            Self::Csv { begun } => {
                if !std::mem::replace(begun, true) {
                    out.line(CSV_HEADER)?;
                }
                csv(&part, out)
            }
            Self::Table { shown } => {
                *shown += 1;
                table(&part, out)
            }
        }
    }

    fn end(self, out: &mut Printer, source: &Source) -> Result<(), Failure> {
        match self {
            Self::Json(series) => {
                out.json(&json!({ "series": series, "ahead_rows": source.ahead_rows }))
            }
            Self::Table { shown: 0 } => {
                aside(
                    "nothing is held of such series, nodes and times; `outlast tail` shows what there is",
                );
                Ok(())
            }
            Self::Csv { begun: false } => out.line(CSV_HEADER),
            Self::Csv { .. } | Self::Table { .. } => Ok(()),
        }
    }
}

/// Joins a part to what came of its series before; parts of several series may take turns.
fn put_together(series: &mut Vec<Value>, mut part: Value) {
    let same = |last: &&mut Value| {
        ["node_id", "name", "labels", "unit", "kind"]
            .iter()
            .all(|field| last[field] == part[field])
    };
    let Some(last) = series.iter_mut().rev().find(same) else {
        series.push(part);
        return;
    };
    let count = |part: &Value| part["points"].as_array().map_or(0, Vec::len);
    if last["extents"].is_array() || part["extents"].is_array() {
        // A part that has none is of samples alone.
        for side in [&mut *last, &mut part] {
            if !side["extents"].is_array() {
                side["extents"] = vec![Value::Null; count(side)].into();
            }
        }
        append(&mut last["extents"], &mut part["extents"]);
    }
    append(&mut last["points"], &mut part["points"]);
    append(&mut last["tiers"], &mut part["tiers"]);
    if let Some(tiers) = last["tiers"].as_array_mut() {
        tiers.dedup_by(|next, kept| {
            let same = next["tier"] == kept["tier"];
            if same {
                kept["to_ms"] = next["to_ms"].take();
            }
            same
        });
    }
}

fn append(to: &mut Value, more: &mut Value) {
    if let (Some(to), Some(more)) = (to.as_array_mut(), more.as_array_mut()) {
        to.append(more);
    }
}

fn points(part: &Value) -> impl Iterator<Item = (i64, Option<&Value>)> {
    part["points"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|point| {
            let value = &point[1];
            Some((point[0].as_i64()?, (!value.is_null()).then_some(value)))
        })
}

fn csv(part: &Value, out: &mut Printer) -> Result<(), Failure> {
    let node = csv_cell(part["node"].as_str().unwrap_or_default());
    let series = csv_cell(&series_of(part));
    let unit = csv_cell(part["unit"].as_str().unwrap_or_default());
    for (at_ms, value) in points(part) {
        let value = value.map_or_else(String::new, Value::to_string);
        out.line(format!(
            "{at_ms},{},{node},{series},{unit},{value}",
            text::moment(at_ms)
        ))?;
    }
    Ok(())
}

fn table(part: &Value, out: &mut Printer) -> Result<(), Failure> {
    let node = visible(part["node"].as_str().unwrap_or("-")).into_owned();
    let unit = visible(part["unit"].as_str().unwrap_or_default()).into_owned();
    let former = part["former"]["name"].as_str();
    let former = former.map_or_else(String::new, |name| format!(" (from {})", visible(name)));
    let heading = format!("{node} {}{former}", series_of(part));
    out.line(out.toned(Tone::Strong, &heading))?;
    for (at_ms, value) in points(part) {
        let value = match value {
            Some(value) => format!("{value} {unit}"),
            None => out.toned(Tone::Doubtful, "(gap)"),
        };
        out.line(format!("  {}  {}", text::moment(at_ms), value.trim_end()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_series_become_one_again() {
        let part = |name: &str, points: Value| json!({ "node_id": "x", "name": name, "labels": {}, "points": points });
        let mut series = Vec::new();
        put_together(&mut series, part("a", json!([[1, 1.0]])));
        put_together(&mut series, part("a", json!([[2, null]])));
        put_together(&mut series, part("b", json!([])));
        assert_eq!(series.len(), 2);
        assert_eq!(series[0]["points"], json!([[1, 1.0], [2, null]]));
    }

    #[test]
    fn what_points_came_from_is_joined_as_they_are() {
        let part = |points: Value, extents: Value, tier: &str| {
            let tiers = json!([{ "tier": tier, "from_ms": points[0][0], "to_ms": points[0][0] }]);
            let mut part = json!({ "name": "a", "points": points, "tiers": tiers });
            if !extents.is_null() {
                part["extents"] = extents;
            }
            part
        };
        let mut series = Vec::new();
        put_together(
            &mut series,
            part(json!([[1, 1.5]]), json!([[1.0, 2.0, 2]]), "10s"),
        );
        put_together(
            &mut series,
            part(json!([[11, 1.5]]), json!([[1.0, 2.0, 2]]), "10s"),
        );
        put_together(&mut series, part(json!([[21, 3.0]]), Value::Null, "raw"));
        assert_eq!(series.len(), 1);
        assert_eq!(
            series[0]["extents"],
            json!([[1.0, 2.0, 2], [1.0, 2.0, 2], null])
        );
        let tiers = json!([{ "tier": "10s", "from_ms": 1, "to_ms": 11 }, { "tier": "raw", "from_ms": 21, "to_ms": 21 }]);
        assert_eq!(series[0]["tiers"], tiers);
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_wrong_usage() {
        use clap::Parser;
        let line = [
            "outlast", "query", "--series", "a", "--from", "now", "--to", "-1h",
        ];
        let cli = crate::cli::Cli::try_parse_from(line).unwrap();
        let crate::cli::Command::Query(arguments) = cli.command else {
            panic!("not a query")
        };
        let failure = asked(&arguments, 1_000_000_000).unwrap_err();
        assert_eq!(failure, Failure::usage("--from now is later than --to -1h"));
    }
}
