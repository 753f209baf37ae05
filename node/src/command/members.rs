//! `members`: who belongs to the mesh; without a running node from what is on disk.

use outlast_mesh::NodeId;
use serde_json::{Value, json};

use super::{Doer, reader};
use crate::cli::{Global, JsonArgs};
use crate::control::Request;
use crate::failure::Failure;
use crate::membership::Membership;
use crate::state::StateDir;
use crate::text::{self, Cell, Printer, visible};

pub(super) fn run(global: &Global, arguments: &JsonArgs, out: &mut Printer) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let mut members = match reader(&state)? {
        Doer::Node(mut client) => client.call(&Request::Members)?,
        Doer::Ourselves(_lock) => stored(&state)?,
    };
    if let Some(members) = members.as_array_mut() {
        // The mesh keeps them by id, which says nothing to a reader.
        members.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    }
    if arguments.json {
        return out.json(&members);
    }
    let listed = members.as_array().map_or(&[][..], Vec::as_slice);
    let any_replaced = listed
        .iter()
        .any(|member| member["replaced_by"].is_string());
    let mut rows = vec![Cell::headings(["NAME", "ID", "ADDRESS", "STATE", "JOINED"])];
    if any_replaced {
        rows[0].push("HISTORY".to_owned().into());
    }
    for member in listed {
        let field = |name: &str| visible(member[name].as_str().unwrap_or("-")).into_owned();
        let id: String = field("id").chars().take(8).collect();
        let joined = member["joined_ms"]
            .as_i64()
            .map_or_else(|| "-".to_owned(), text::moment);
        let mut row: Vec<Cell> = vec![
            field("name").into(),
            id.into(),
            field("address").into(),
            Cell::state(member["state"].as_str().unwrap_or("-")),
            joined.into(),
        ];
        if any_replaced {
            row.push(history(member).into());
        }
        rows.push(row);
    }
    out.table(&rows)
}

/// Whose history a member carries on, and who carries on its own.
fn history(member: &Value) -> String {
    let name = |field: &str| member[field].as_str().map(visible);
    match (name("replaced_by"), name("replaces")) {
        (Some(by), _) => format!("carried on by {by}"),
        (None, Some(old)) => format!("and that of {old}"),
        (None, None) => "-".to_owned(),
    }
}

/// The members on disk; whether they are up is unknown while no node runs here.
fn stored(state: &StateDir) -> Result<Value, Failure> {
    let membership = Membership::of_mesh(state)?;
    let folded = membership.statements.state();
    let name = |id: Option<NodeId>| Some(&folded.members.get(&id?)?.name);
    let members = folded.members.values().map(|member| {
        json!({
            "id": member.id.to_string(),
            "name": member.name,
            "address": member.address,
            "joined_ms": member.joined_ms,
            "state": if member.replaced_by.is_some() { "retired" } else { "unknown" },
            "replaces": name(member.replaces),
            "replaced_by": name(member.replaced_by),
        })
    });
    Ok(members.collect())
}
