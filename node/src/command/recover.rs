//! `recover`: a new admin key by the 24 recovery words, when the old one is lost or in wrong hands; or the words themselves.
//!
//! In: the words, from the terminal, a file or standard input. Out: an admin key in its owner's configuration directory.
//! Invariant: the new key is on disk before anybody trusts it; the words are nowhere but in memory.
//! Absent: what becomes of the machines; `evict` and `retire` do that, with the new key.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use outlast_mesh::AdminKey;
use outlast_mesh::trust::{State, issue_grant};
use zeroize::Zeroizing;

use super::sign::{Desk, Signer, now_ms};
use super::{admin as admins, init, reader};
use crate::cli::{Global, RecoverArgs, SignArgs};
use crate::failure::Failure;
use crate::membership::{admin, passphrase, recovery};
use crate::state::{self, StateDir};
use crate::terminal::Terminal;
use crate::text::{Printer, aside, visible};

/// Far more than 24 words take; a larger file is something else.
const LONGEST: u64 = 4 * 1024;

/// What the key of words is called that were made later than the mesh.
const SETUP_LABEL: &str = "recovery";

pub(super) fn run(
    global: &Global,
    arguments: &RecoverArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    if arguments.setup {
        setup(global, arguments, out)
    } else {
        recover(global, arguments, out)
    }
}

fn recover(global: &Global, arguments: &RecoverArgs, out: &mut Printer) -> Result<(), Failure> {
    if arguments.admin_key.is_some() {
        return Err(Failure::usage(
            "the recovery words sign here, and no admin key: --admin-key goes with --setup",
        ));
    }
    // Before anybody types their words for nothing.
    drop(reader(&StateDir::resolve(global)?)?);
    let words = recovery::key(&words(arguments.words_file.as_deref())?)?;
    let mut desk = Desk::anywhere(global, Signer::Words(Box::new(words)))?;
    let folded = desk.statements.state();
    let words_key = desk.admin.key.public();
    let home = state::config_home()?;
    let (key, path, mesh) = (
        AdminKey::generate(),
        admin::path(&home, &desk.statements.mesh()),
        desk.statements.mesh(),
    );
    if path.exists() {
        return Err(Failure::new(format!(
            "{} holds an admin key of this mesh already; move it elsewhere first, if it is not the one to use",
            path.display()
        )));
    }
    let label = free_label(&arguments.label, |label| {
        folded.admins.values().any(|admin| admin.label == label)
    });
    let grant = issue_grant(
        &desk.admin.key,
        &desk.statements,
        key.public(),
        None,
        &label,
        now_ms(),
    );
    desk.sign(grant.map_err(anyhow::Error::from)?)?;
    let mut revoked = Vec::new();
    for typed in &arguments.revoke {
        revoked.push(admins::revoke(&mut desk, typed, "", arguments.since)?);
    }
    desk.still_member()?;
    let passphrase = passphrase::wanted(
        arguments.passphrase,
        arguments.passphrase_file.as_deref(),
        "new admin key",
    )?;
    let others = still_decide(&desk.statements.state(), &[words_key, key.public()]);
    admin::store(&home, &mesh, &key, passphrase.as_ref())?;
    let told = desk.publish()?;
    out.line(format!(
        "new admin key {label} of mesh {}: {}",
        visible(&folded.name),
        path.display()
    ))?;
    revoked.iter().try_for_each(|taken| taken.show(out))?;
    told.remark(out)?;
    if revoked.is_empty() && !others.is_empty() {
        aside(format!(
            "still in force: {}; `outlast admin list` shows who they are, `outlast admin revoke LABEL` takes rights back",
            visible(&others.join(", "))
        ));
    }
    Ok(())
}

/// Who else decides, by label.
fn still_decide(folded: &State, ours: &[[u8; 32]]) -> Vec<String> {
    let others = folded.admins.iter();
    let others = others.filter(|(key, admin)| admin.revoked.is_none() && !ours.contains(*key));
    others.map(|(_, admin)| admin.label.clone()).collect()
}

/// The words of the terminal, of a file, or of standard input.
fn words(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = file {
        let context = || format!("open the words in {}", path.display());
        return read(std::fs::File::open(path).with_context(context)?);
    }
    if let Some(terminal) = Terminal::of_reader() {
        return recovery::ask(&terminal);
    }
    read(std::io::stdin())
}

fn read(source: impl Read) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    source
        .take(LONGEST)
        .read_to_string(&mut text)
        .context("read the recovery words")?;
    Ok(text)
}

/// The label wished for, with a number where it is taken.
fn free_label(wished: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number: u32| format!("{wished}-{number}"));
    let mut labels = std::iter::once(wished.to_owned()).chain(numbered);
    labels
        .find(|label| !is_taken(label))
        .expect("there are more numbers than admins")
}

/// Words for a mesh that has none: their key becomes an admin of the rank below the one that signs.
fn setup(global: &Global, arguments: &RecoverArgs, out: &mut Printer) -> Result<(), Failure> {
    let sign = SignArgs {
        admin_key: arguments.admin_key.clone(),
        passphrase_file: arguments.passphrase_file.clone(),
    };
    let mut desk = Desk::open(global, Signer::Owner(&sign))?;
    let folded = desk.statements.state();
    let from_start = folded.genesis.as_ref().and_then(|genesis| genesis.recovery);
    let set_up = folded.admins.values();
    let mut set_up = set_up.filter(|admin| admin.label == SETUP_LABEL && admin.revoked.is_none());
    if from_start.is_some() || set_up.next().is_some() {
        return Err(Failure::new(
            "the mesh has recovery words; lost ones are replaced after `outlast admin revoke recovery`",
        ));
    }
    let Some(public) = init::recovery_words(arguments.recovery_out.as_deref())? else {
        return Err(Failure::usage(
            "nobody is here to write the words down: run this on a terminal, or give --recovery-out FILE",
        ));
    };
    let label = free_label(SETUP_LABEL, |label| {
        folded.admins.values().any(|admin| admin.label == label)
    });
    let grant = issue_grant(
        &desk.admin.key,
        &desk.statements,
        public,
        None,
        &label,
        now_ms(),
    );
    desk.sign(grant.map_err(anyhow::Error::from)?)?;
    let told = desk.publish()?;
    out.line(format!("the mesh has recovery words now, called {label}"))?;
    told.remark(out)?;
    aside(
        "they make a new admin key, and invite and evict by it; unlike words made by `outlast init` they take no rights \
         from the key that made them",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_taken_gets_a_number() {
        let taken = ["recovered", "recovered-2"];
        let label = |wished| free_label(wished, |label| taken.contains(&label));
        assert_eq!(label("recovered"), "recovered-3");
        assert_eq!(label("ann"), "ann");
    }
}
