//! `query`: history, from the running node or from the store itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tail::series_of;
use super::{Doer, reader};
use crate::cli::{Global, QueryArgs};
use crate::config::Config;
use crate::control::{History, Request};
use crate::daemon;
use crate::failure::Failure;
use crate::membership::Membership;
use crate::state::StateDir;
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
    let mut shape = Shape::of(arguments);
    match reader(&state)? {
        Doer::Node(mut client) => {
            client.stream(&Request::Query(asked), |part| shape.part(part, out))?;
        }
        Doer::Ourselves(_lock) => stored(&state, &config, &asked, |part| shape.part(part, out))?,
    }
    shape.end(out)
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
    each: impl FnMut(Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let membership = Membership::load(state)?
        .ok_or_else(|| Failure::new(format!("no mesh at {}", state.path().display())))?;
    let folded = membership.statements.state();
    let names = folded
        .members
        .values()
        .map(|member| (member.id, member.name.clone()))
        .collect();
    let store = daemon::open_store(state, config.store_limit(state.path()), None)?;
    let deadline = Instant::now() + OPENING;
    while !store.ready() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let answered = daemon::offline(&store, &names, asked, each);
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

    fn end(self, out: &mut Printer) -> Result<(), Failure> {
        match self {
            Self::Json(series) => out.json(&json!({ "series": series })),
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

fn put_together(series: &mut Vec<Value>, mut part: Value) {
    let same = |last: &Value| {
        ["node_id", "name", "labels"]
            .iter()
            .all(|field| last[field] == part[field])
    };
    if let Some(last) = series.last_mut().filter(|last| same(last))
        && let (Some(points), Some(more)) =
            (last["points"].as_array_mut(), part["points"].as_array_mut())
    {
        points.append(more);
        return;
    }
    series.push(part);
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
    let heading = format!("{node} {}", series_of(part));
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
