//! `approve`: an admin agrees to a node that joins, or sees who waits for that.
//!
//! Invariant: a node is told by its id as well as by its name, for anybody with the token may ask for any name.

use std::collections::BTreeMap;

use outlast_mesh::NodeId;
use outlast_mesh::trust::{State, issue_approve};
use serde_json::Value;

use super::sign::{Desk, Signer, now_ms};
use crate::cli::{ApproveArgs, Global};
use crate::failure::Failure;
use crate::nodes;
use crate::text::{self, Cell, Printer, aside, visible};

pub(super) fn run(
    global: &Global,
    arguments: &ApproveArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    match &arguments.node {
        Some(typed) => approve(global, arguments, typed, out),
        None => list(global, arguments.json, out),
    }
}

fn approve(
    global: &Global,
    arguments: &ApproveArgs,
    typed: &str,
    out: &mut Printer,
) -> Result<(), Failure> {
    let mut desk = Desk::open(global, Signer::Owner(&arguments.sign))?;
    let folded = desk.statements.state();
    let id = waiting(&folded, typed)?;
    let approve = issue_approve(&desk.admin.key, &desk.statements, id, now_ms());
    desk.sign(approve.map_err(anyhow::Error::from)?)?;
    let names = desk.statements.state().names();
    let told = desk.publish()?;
    let Some(name) = names.get(&id) else {
        return Err(Failure::new(format!(
            "the token by which {} joins admits nobody more; it stays out, make it another with `outlast invite`",
            visible(&folded.pending[&id].name)
        )));
    };
    out.line(format!("{} ({}) is a member", visible(name), id.short()))?;
    told.remark(out)
}

/// Which of those that wait is meant.
fn waiting(folded: &State, typed: &str) -> Result<NodeId, Failure> {
    let pending = folded.pending.iter();
    let names: BTreeMap<_, _> = pending.map(|(id, one)| (*id, one.name.clone())).collect();
    let asks: Vec<_> = names.iter().filter(|(_, name)| *name == typed).collect();
    if !asks.is_empty() && folded.names().values().any(|name| name == typed) {
        let ids: Vec<_> = asks.iter().map(|(id, _)| id.short()).collect();
        return Err(Failure::usage(format!(
            "{} is the name of a member, and who waits asks for it too: look whether that is the machine you mean, then \
             say its id ({})",
            visible(typed),
            ids.join(", ")
        )));
    }
    if let Some(id) = nodes::surely_one_of(&names, typed)? {
        return Ok(id);
    }
    let typed_shown = visible(typed);
    Err(match nodes::surely_one_of(&folded.names(), typed) {
        Ok(Some(_)) => Failure::new(format!("{typed_shown} is a member already")),
        _ => Failure::usage(format!(
            "nobody called \"{typed_shown}\" waits, and no id begins so; `outlast approve` lists those that wait"
        )),
    })
}

fn list(global: &Global, as_json: bool, out: &mut Printer) -> Result<(), Failure> {
    let trusted = super::trusted(global)?;
    let waiting = &trusted["waiting"];
    if as_json {
        return out.json(waiting);
    }
    let listed = waiting.as_array().map_or(&[][..], Vec::as_slice);
    if listed.is_empty() {
        aside("nobody waits to be approved");
        return Ok(());
    }
    let mut rows = vec![Cell::headings(["NAME", "ID", "SEEN BY", "SINCE"])];
    rows.extend(listed.iter().map(row));
    out.table(&rows)
}

fn row(one: &Value) -> Vec<Cell> {
    let field = |name: &str| visible(one[name].as_str().unwrap_or("-")).into_owned();
    let id: String = field("id").chars().take(8).collect();
    let since = one["at_ms"].as_i64();
    let since = since.map_or_else(|| "-".to_owned(), text::minute);
    vec![
        field("name").into(),
        id.into(),
        field("sponsor").into(),
        since.into(),
    ]
}

#[cfg(test)]
mod tests {
    use outlast_mesh::trust::{Pending, found};
    use outlast_mesh::{AdminKey, StatementId};

    use super::*;

    #[test]
    fn a_name_that_a_member_has_already_is_no_machine_that_waits() {
        let founder = NodeId([7; 32]);
        let admin = AdminKey::generate();
        let (mesh, genesis) = found(&admin, founder, "attic", "home", None, 1);
        let mut held = outlast_mesh::trust::Statements::new(mesh);
        held.insert(genesis).unwrap();
        let mut folded = State::clone(&held.state());
        let mut wait = |byte: u8, name: &str| {
            let pending = Pending {
                join: StatementId([1; 32]),
                name: name.to_owned(),
                invite: StatementId([2; 32]),
                sponsor: founder,
                at_ms: 2,
            };
            folded.pending.insert(NodeId([byte; 32]), pending);
        };
        wait(3, "attic");
        wait(4, "cellar");
        let (other, cellar) = (NodeId([3; 32]), NodeId([4; 32]));
        assert_eq!(waiting(&folded, "cellar"), Ok(cellar));
        assert_eq!(waiting(&folded, &other.short()), Ok(other));
        let failure = waiting(&folded, "attic").unwrap_err();
        assert_eq!(failure.exit, crate::failure::USAGE);
        assert!(failure.message.contains(&other.short()), "{failure}");
    }
}
