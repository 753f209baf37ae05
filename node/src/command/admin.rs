//! `admin`: the keys that may invite, set and evict: who has one, who gets one, whose is taken back.
//!
//! In: labels, public keys, files. Out: sentences; a public key on standard output, alone.
//! Invariant: a secret key goes to a file of its owner alone and nowhere else.
//! Absent: the recovery words; `recover` has those.

use std::path::Path;

use outlast_mesh::AdminKey;
use outlast_mesh::trust::{self, Manner, Revocation, State, Target, issue_grant, issue_revoke};
use serde_json::Value;

use super::sign::{Desk, Signer, now_ms};
use super::{admin_key, fallout};
use crate::cli::{AdminArgs, AdminCommand, Global};
use crate::failure::Failure;
use crate::membership::public;
use crate::text::{self, Cell, Printer, aside, visible};

pub(super) fn run(
    global: &Global,
    arguments: &AdminArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    match &arguments.command {
        AdminCommand::Key(arguments) => admin_key::run(global, arguments, out),
        AdminCommand::Add {
            label,
            public,
            out: file,
            rank,
            sign,
        } => {
            let whose = match (public, file) {
                (Some(text), _) => Whose::Theirs(public::read(text).map_err(Failure::usage)?),
                (None, Some(file)) => Whose::Made(Box::new(AdminKey::generate()), file),
                (None, None) => {
                    return Err(Failure::usage(
                        "whose key? give its public half, or --out FILE to make one",
                    ));
                }
            };
            add(
                Desk::open(global, Signer::Owner(sign))?,
                label,
                &whose,
                *rank,
                out,
            )
        }
        AdminCommand::Revoke {
            admin,
            reason,
            since,
            sign,
        } => {
            let mut desk = Desk::anywhere(global, Signer::Owner(sign))?;
            let taken = revoke(
                &mut desk,
                admin,
                reason.as_deref().unwrap_or_default(),
                *since,
            )?;
            desk.still_member()?;
            let mut told = desk.publish()?;
            let confirmed = told.confirmed()?;
            taken.show(out)?;
            confirmed.show(out)?;
            told.remark(out)
        }
        AdminCommand::List { json } => list(global, *json, out),
    }
}

/// Who has the secret half of a key that is granted rights.
enum Whose<'a> {
    Theirs([u8; 32]),
    Made(Box<AdminKey>, &'a Path),
}

fn add(
    mut desk: Desk,
    label: &str,
    whose: &Whose<'_>,
    rank: Option<u8>,
    out: &mut Printer,
) -> Result<(), Failure> {
    if desk.statements.state().rank(&desk.admin.key.public()) == Some(u8::MAX) {
        return Err(Failure::new(
            "this key makes no admins, for there is no rank below its own, 255; ask one with a smaller number",
        ));
    }
    let public = match whose {
        Whose::Theirs(public) => *public,
        Whose::Made(key, _) => key.public(),
    };
    let grant = issue_grant(
        &desk.admin.key,
        &desk.statements,
        public,
        rank,
        label,
        now_ms(),
    );
    desk.sign(grant.map_err(anyhow::Error::from)?)?;
    if let Whose::Made(key, file) = whose {
        // On disk before anybody trusts it.
        key.store(file).map_err(anyhow::Error::from)?;
    }
    let folded = desk.statements.state();
    let rank = folded.rank(&public).ok_or_else(|| {
        Failure::new(format!(
            "what this key grants to {label} counts for nothing"
        ))
    })?;
    let mesh = desk.statements.mesh();
    let told = desk.publish()?;
    out.line(format!("{label} decides from now on, with rank {rank}"))?;
    told.remark(out)?;
    if let Whose::Made(_, file) = whose {
        let name = format!("{mesh}.key");
        aside(format!(
            "its key is in {}: move it to ~/.config/outlast/admin/{name} of its owner, or use it with --admin-key",
            file.display()
        ));
    }
    Ok(())
}

/// What became of a key that was taken back.
pub(super) struct Taken {
    label: String,
    /// What falls with it.
    lines: Vec<String>,
}

impl Taken {
    pub(super) fn show(&self, out: &mut Printer) -> Result<(), Failure> {
        out.line(format!("{} decides no more", visible(&self.label)))?;
        self.lines.iter().try_for_each(|line| out.line(line))
    }
}

/// Signs that a key decides no more.
pub(super) fn revoke(
    desk: &mut Desk,
    typed: &str,
    reason: &str,
    since_ms: Option<i64>,
) -> Result<Taken, Failure> {
    let folded = desk.statements.state();
    let key = find(&folded, typed)?;
    let (label, forked) = (
        folded.admins[&key].label.clone(),
        folded.frozen.contains_key(&key),
    );
    if let Some(revoked) = &folded.admins[&key].revoked
        && since_ms.is_none()
        && !forked
    {
        let (label, by) = (visible(&label), visible(&revoked.by_label));
        let at = text::moment(i64::try_from(revoked.at_ms).unwrap_or(i64::MAX));
        return Err(Failure::new(format!(
            "{label} was revoked already, by {by} at {at}; to void what it signed before that as well, give --since"
        )));
    }
    let revocation = Revocation {
        target: Target::Admin(key),
        manner: Manner::Evicted,
        cut: desk.cut(key, since_ms)?,
        reason,
    };
    let revoke = issue_revoke(&desk.admin.key, &desk.statements, &revocation, now_ms());
    let revoke = revoke.map_err(anyhow::Error::from)?;
    let falls = trust::fallout(&desk.statements, &revoke).map_err(anyhow::Error::from)?;
    desk.sign(revoke)?;
    let lines = fallout::lines(&falls, &folded);
    Ok(Taken { label, lines })
}

/// Letters of a public key that nobody types by mistake: what each begins with, and four.
const SURE: usize = 7;

/// The one key meant: by its label, or by the beginning of its public text. Of several with one label those in force.
fn find(folded: &State, typed: &str) -> Result<[u8; 32], Failure> {
    let mut found: Vec<_> = folded
        .admins
        .iter()
        .filter(|(_, admin)| admin.label == typed)
        .collect();
    if found.iter().any(|(_, admin)| admin.revoked.is_none()) {
        found.retain(|(_, admin)| admin.revoked.is_none());
    }
    if found.is_empty() && typed.len() >= SURE {
        let begins = |key: &[u8; 32]| public::show(key).starts_with(typed);
        found = folded
            .admins
            .iter()
            .filter(|(key, _)| begins(key))
            .collect();
    }
    match found[..] {
        [(key, _)] => Ok(*key),
        [] => Err(Failure::usage(format!(
            "no admin is called \"{}\" and no key begins so; `outlast admin list` shows all",
            visible(typed)
        ))),
        _ => {
            let listed = found
                .iter()
                .map(|(key, admin)| format!("{} ({})", visible(&admin.label), public::show(key)));
            Err(Failure::usage(format!(
                "{} means more than one admin: {}; type more of the key",
                visible(typed),
                listed.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

fn list(global: &Global, as_json: bool, out: &mut Printer) -> Result<(), Failure> {
    let trusted = super::trusted(global)?;
    let admins = &trusted["admins"];
    if as_json {
        return out.json(admins);
    }
    let mut rows = vec![Cell::headings([
        "LABEL",
        "KEY",
        "RANK",
        "GRANTED BY",
        "SINCE",
        "STATE",
    ])];
    rows.extend(admins.as_array().into_iter().flatten().map(row));
    out.table(&rows)
}

fn row(admin: &Value) -> Vec<Cell> {
    let field = |name: &str| visible(admin[name].as_str().unwrap_or("-")).into_owned();
    let key: String = field("key").chars().take(11).collect();
    let since = admin["at_ms"].as_i64();
    let since = since.map_or_else(|| "-".to_owned(), text::minute);
    vec![
        field("label").into(),
        key.into(),
        admin["rank"].to_string().into(),
        field("granted_by").into(),
        since.into(),
        standing(admin).into(),
    ]
}

fn standing(admin: &Value) -> String {
    let revoked = &admin["revoked"];
    if revoked.is_null() {
        let twice = admin["in_two_places"] == true;
        let word = if twice {
            "in two places: revoke it"
        } else {
            "in force"
        };
        return word.to_owned();
    }
    let by = visible(revoked["by"].as_str().unwrap_or("-")).into_owned();
    let at = revoked["at_ms"].as_i64();
    let at = at.map_or_else(|| "-".to_owned(), text::minute);
    match revoked["reason"].as_str().unwrap_or_default() {
        "" => format!("revoked by {by} at {at}"),
        reason => format!("revoked by {by} at {at}: {}", visible(reason)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_in_two_places_is_not_in_force() {
        let of = |twice: bool| standing(&json!({ "revoked": null, "in_two_places": twice }));
        assert_eq!(of(false), "in force");
        assert_eq!(of(true), "in two places: revoke it");
    }
}
