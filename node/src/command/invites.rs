//! `invite --list` and `--revoke`: the tokens that were made, and closing one that is in wrong hands.
//!
//! Absent: the tokens themselves; nobody but who was given one has it.

use outlast_mesh::StatementId;
use outlast_mesh::trust::{Manner, Revocation, State, Target, issue_revoke};
use serde_json::Value;

use super::sign::{Desk, Signer, now_ms};
use crate::cli::{Global, SignArgs};
use crate::failure::Failure;
use crate::text::{self, Cell, Printer, aside, visible};

/// Letters of an invite's id that nobody types by mistake.
const SURE: usize = 4;

/// Letters of an invite's id that people are shown.
const SHORT: usize = 8;

pub(super) fn list(global: &Global, as_json: bool, out: &mut Printer) -> Result<(), Failure> {
    let trusted = super::trusted(global)?;
    let invites = &trusted["invites"];
    if as_json {
        return out.json(invites);
    }
    let listed = invites.as_array().map_or(&[][..], Vec::as_slice);
    if listed.is_empty() {
        aside("no token was made yet; `outlast invite` makes one");
        return Ok(());
    }
    let mut rows = vec![Cell::headings([
        "INVITE", "STATE", "USED", "EXPIRES", "FOR",
    ])];
    rows.extend(listed.iter().map(row));
    out.table(&rows)
}

fn row(invite: &Value) -> Vec<Cell> {
    let field = |name: &str| visible(invite[name].as_str().unwrap_or("-")).into_owned();
    let id: String = field("id").chars().take(SHORT).collect();
    let used: Vec<_> = invite["used_by"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| Some(visible(name.as_str()?)))
        .collect();
    let by = match &used[..] {
        [] => String::new(),
        names => format!(": {}", names.join(", ")),
    };
    let expires = invite["expires_ms"].as_i64();
    vec![
        id.into(),
        standing(invite).into(),
        format!("{} of {}{by}", used.len(), invite["uses"]).into(),
        expires.map_or_else(|| "-".to_owned(), text::minute).into(),
        whom(invite).into(),
    ]
}

fn standing(invite: &Value) -> String {
    match (invite["revoked"]["by"].as_str(), invite["open"] == true) {
        (Some(by), _) => format!("revoked by {}", visible(by)),
        (None, true) => "open".to_owned(),
        (None, false) if invite["doubtful"] == true => {
            "void: its admin key is in two places".to_owned()
        }
        (None, false) if invite["expired"] == true => "expired".to_owned(),
        (None, false) => "used up".to_owned(),
    }
}

/// Whom it admits, and on which terms.
fn whom(invite: &Value) -> String {
    let name = |field: &str| invite[field].as_str().map(visible);
    let whom = match (name("replaces"), name("name")) {
        (Some(old), _) => format!("the place of {old}"),
        (None, Some(name)) => name.into_owned(),
        (None, None) => "anybody".to_owned(),
    };
    if invite["approve"] == true {
        format!("{whom}, once approved")
    } else {
        whom
    }
}

pub(super) fn revoke(
    global: &Global,
    sign: &SignArgs,
    typed: &str,
    out: &mut Printer,
) -> Result<(), Failure> {
    let mut desk = Desk::open(global, Signer::Owner(sign))?;
    let id = find(&desk.statements.state(), typed)?;
    let revocation = Revocation {
        target: Target::Invite(id),
        manner: Manner::Evicted,
        cut: None,
        reason: "",
    };
    let revoke = issue_revoke(&desk.admin.key, &desk.statements, &revocation, now_ms());
    desk.sign(revoke.map_err(anyhow::Error::from)?)?;
    let mut told = desk.publish()?;
    let confirmed = told.confirmed()?;
    let short: String = id.to_string().chars().take(SHORT).collect();
    out.line(format!("the token of invite {short} admits nobody more"))?;
    confirmed.show(out)?;
    told.remark(out)
}

/// The one invite whose id begins so.
fn find(folded: &State, typed: &str) -> Result<StatementId, Failure> {
    let begins = |id: &&StatementId| !typed.is_empty() && id.to_string().starts_with(typed);
    let mut found = folded.invites.keys().filter(begins);
    match (found.next(), found.next()) {
        (Some(_), _) if typed.len() < SURE => Err(Failure::usage(format!(
            "{SURE} letters of an invite's id are needed here, since this can't be taken back; `outlast invite --list` \
             shows them"
        ))),
        (Some(id), None) => Ok(*id),
        (Some(one), Some(other)) => Err(Failure::usage(format!(
            "{} means more than one invite: {one}, {other}; type more of the id",
            visible(typed)
        ))),
        (None, _) => Err(Failure::usage(format!(
            "no invite has an id that begins \"{}\"; `outlast invite --list` shows them",
            visible(typed)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn why_a_token_admits_nobody_is_told_apart() {
        let of = |open: bool, expired: bool, revoked: Value| {
            standing(&json!({ "open": open, "expired": expired, "revoked": revoked }))
        };
        assert_eq!(of(true, false, Value::Null), "open");
        assert_eq!(of(false, true, Value::Null), "expired");
        assert_eq!(of(false, false, Value::Null), "used up");
        assert_eq!(of(false, true, json!({ "by": "ann" })), "revoked by ann");
        let doubtful =
            json!({ "open": false, "expired": false, "revoked": null, "doubtful": true });
        assert_eq!(standing(&doubtful), "void: its admin key is in two places");
    }
}
