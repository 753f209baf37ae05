//! `members`: who belongs to the mesh, and who did; without a running node from what is on disk.

use serde_json::Value;

use super::{Doer, reader};
use crate::cli::{Global, JsonArgs};
use crate::control::Request;
use crate::failure::Failure;
use crate::membership::Membership;
use crate::state::StateDir;
use crate::text::{self, Cell, Printer, visible};
use crate::trusted;

/// The column that goes where the screen is too narrow for all.
const ADDRESS: usize = 2;

pub(super) fn run(global: &Global, arguments: &JsonArgs, out: &mut Printer) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let mut members = match reader(&state)? {
        Doer::Node(mut client) => client.call(&Request::Members)?,
        Doer::Ourselves(_lock) => stored(&state)?,
    };
    if let Some(members) = members.as_array_mut() {
        // The mesh keeps them by id, which says nothing to a reader.
        let key = |member: &Value| (member["gone_ms"].is_u64(), member["name"].to_string());
        members.sort_by_key(key);
    }
    if arguments.json {
        return out.json(&members);
    }
    let listed = members.as_array().map_or(&[][..], Vec::as_slice);
    let is_past = |member: &Value| member["replaced_by"].is_string() || member["gone_ms"].is_u64();
    let any_past = listed.iter().any(is_past);
    let mut rows = vec![Cell::headings(["NAME", "ID", "ADDRESS", "STATE", "JOINED"])];
    if any_past {
        rows[0].push("HISTORY".to_owned().into());
    }
    for member in listed {
        let field = |name: &str| visible(member[name].as_str().unwrap_or("-")).into_owned();
        let id: String = field("id").chars().take(8).collect();
        let joined = member["joined_ms"]
            .as_i64()
            .map_or_else(|| "-".to_owned(), text::minute);
        let mut row: Vec<Cell> = vec![
            field("name").into(),
            id.into(),
            field("address").into(),
            Cell::state(word(member)),
            joined.into(),
        ];
        if any_past {
            row.push(history(member).into());
        }
        rows.push(row);
    }
    if out.is_narrower_than(Printer::width_of(&rows)) {
        // `--json` has them; nobody types an overlay address.
        rows.iter_mut().for_each(|row| drop(row.remove(ADDRESS)));
    }
    out.table(&rows)
}

/// How a member is. The same word for a machine that was shut down and one that left the mesh would mislead.
fn word(member: &Value) -> &str {
    match member["state"].as_str().unwrap_or("-") {
        "left" if member["final"] == true => "left for good",
        "left" => "left (is off)",
        state => state,
    }
}

/// Whose history a member carries on, and who carries on its own; of one that is gone who said so, when and why.
fn history(member: &Value) -> String {
    let name = |field: &str| member[field].as_str().map(visible);
    if let Some(at_ms) = member["gone_ms"].as_i64() {
        let by = name("by").map_or_else(String::new, |by| format!("by {by} "));
        let at = text::minute(at_ms);
        return match name("reason").as_deref() {
            None | Some("") => format!("{by}at {at}"),
            Some(reason) => format!("{by}at {at}: {reason}"),
        };
    }
    match (name("replaced_by"), name("replaces")) {
        (Some(by), _) => format!("carried on by {by}"),
        (None, Some(old)) => format!("and that of {old}"),
        (None, None) => "-".to_owned(),
    }
}

/// The members on disk; whether they are up is unknown while no node runs here.
fn stored(state: &StateDir) -> Result<Value, Failure> {
    let membership = Membership::of_mesh(state)?;
    Ok(trusted::members(
        &membership.statements.state(),
        |_id| "unknown",
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_that_was_shut_down_has_not_left_for_good() {
        let cases = [
            ("left", false, "left (is off)"),
            ("left", true, "left for good"),
            ("alive", false, "alive"),
            ("evicted", true, "evicted"),
        ];
        for (state, is_final, shown) in cases {
            assert_eq!(word(&json!({ "state": state, "final": is_final })), shown);
        }
    }
}
