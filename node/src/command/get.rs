//! `get`: what is set for the mesh and for each node, and where it comes from.

use outlast_mesh::trust::Setting;
use serde_json::{Value, json};

use super::{Doer, reader};
use crate::cli::{GetArgs, Global};
use crate::config::Config;
use crate::control::Request;
use crate::failure::Failure;
use crate::membership::{self, Membership};
use crate::nodes;
use crate::settled;
use crate::state::StateDir;
use crate::text::{self, Cell, Printer, aside, visible};

pub(super) fn run(global: &Global, arguments: &GetArgs, out: &mut Printer) -> Result<(), Failure> {
    let config = Config::load(global.config.as_deref())?;
    let state = StateDir::resolve(global)?;
    let node = arguments.node.as_deref();
    let settled = match reader(&state)? {
        Doer::Node(mut client) => client.call(&Request::Settings {
            node: node.map(str::to_owned),
        })?,
        Doer::Ourselves(_lock) => stored(&state, &config, node)?,
    };
    if arguments.json {
        return out.json(&settled);
    }
    match node {
        Some(_) => one(&settled["nodes"][0], out)?,
        None => all(&settled, out)?,
    }
    here(&settled);
    Ok(())
}

/// What is set by the statements on disk.
fn stored(state: &StateDir, config: &Config, node: Option<&str>) -> Result<Value, Failure> {
    let membership = Membership::of_mesh(state)?;
    let folded = membership.statements.state();
    let names = folded.names();
    let only = node.map(|typed| nodes::find(&names, typed)).transpose()?;
    let mut settled = settled::shown(&folded, only);
    if let Some(me) = membership::me(state)? {
        let retention = folded.settings.retention_bytes(&me);
        let bound = config.store_bound(state.path(), retention);
        settled["here"] = settled::here(me, bound, retention);
    }
    Ok(settled)
}

/// A table of everything that holds; in brackets what comes from the mesh.
fn all(settled: &Value, out: &mut Printer) -> Result<(), Failure> {
    let mut rows = vec![Cell::headings([
        "NODE",
        "SITE",
        "METERED",
        "MAY-BE-OFF",
        "RETENTION",
    ])];
    let mesh = &settled["mesh"];
    let mut row: Vec<Cell> = vec!["(every node)".to_owned().into()];
    row.extend(
        Setting::ALL.map(|setting| Cell::from(value(setting, &mesh[settled::field(setting)]))),
    );
    rows.push(row);
    for node in settled["nodes"].as_array().into_iter().flatten() {
        let mut row: Vec<Cell> = vec![
            visible(node["name"].as_str().unwrap_or("-"))
                .into_owned()
                .into(),
        ];
        row.extend(Setting::ALL.map(|setting| Cell::from(in_force(node, setting))));
        rows.push(row);
    }
    out.table(&rows)
}

fn in_force(node: &Value, setting: Setting) -> String {
    let field = settled::field(setting);
    match node["from"][field].as_str() {
        Some("node") => value(setting, &node[field]),
        Some(_) => format!("({})", value(setting, &node[field])),
        None => "-".to_owned(),
    }
}

/// A line for each setting of one node, with where it comes from.
fn one(node: &Value, out: &mut Printer) -> Result<(), Failure> {
    for setting in Setting::ALL {
        let field = settled::field(setting);
        let from = match node["from"][field].as_str() {
            Some("node") => "set for this node",
            Some(_) => "set for every node",
            None => "not set",
        };
        let value = value(setting, &node[field]);
        out.line(format!("{:<11} {value:<12} {from}", setting.as_str()))?;
    }
    Ok(())
}

fn value(setting: Setting, value: &Value) -> String {
    match (setting, value) {
        (_, Value::Null) => "-".to_owned(),
        (_, Value::Bool(on)) => if *on { "on" } else { "off" }.to_owned(),
        (Setting::Retention, value) => text::size(value.as_u64().unwrap_or(0)),
        (_, value) => visible(value.as_str().unwrap_or("-")).into_owned(),
    }
}

/// Says where this machine's own configuration goes before what is set.
fn here(settled: &Value) {
    let here = &settled["here"];
    let (Some(limit), Some(retention)) = (
        here["limit_bytes"].as_u64(),
        here["retention_bytes"].as_u64(),
    ) else {
        return;
    };
    let me = |node: &&Value| node["id"] == here["id"];
    let mut shown = settled["nodes"].as_array().into_iter().flatten();
    if let Some(node) = shown.find(me)
        && here["limit_from"] == json!("configuration")
    {
        let name = visible(node["name"].as_str().unwrap_or("-")).into_owned();
        aside(format!(
            "on {name} store.limit_bytes of its configuration goes before retention: {} and not {}",
            text::size(limit),
            text::size(retention)
        ));
    }
}
