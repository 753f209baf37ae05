//! The configuration, the state directory, and the keys in it.

use super::facts::{Facts, File, Kind, Lock, NodeFacts};
use super::{Finding, quoted};
use crate::state::FORMAT;
use crate::text::visible;

pub(super) fn configuration(facts: &Facts) -> Finding {
    match &facts.config {
        Ok(_) => Finding::ok("configuration", "can be read, and every key in it is known"),
        Err(why) => Finding::fail(
            "configuration",
            why.clone(),
            "correct the file, then: outlast check-config",
        ),
    }
}

pub(super) fn directory(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "state directory";
    let state = &facts.state;
    let (shown, word) = (state.path.display(), quoted(&state.path));
    match &state.kind {
        Kind::Missing => {
            return vec![Finding::ok(
                CHECK,
                format!("{shown} is not there yet; `outlast init` or `outlast join` makes it"),
            )];
        }
        Kind::NotADirectory => {
            return vec![Finding::fail(
                CHECK,
                format!("{shown} is no directory"),
                "name another with --state-dir, or move the file away",
            )];
        }
        Kind::Closed(why) => {
            return vec![Finding::warn(
                CHECK,
                format!("{shown} can't be looked into: {why}"),
                format!("run this as its owner, uid {}, or as root", state.owner),
            )];
        }
        Kind::Directory => {}
    }
    let mut findings = Vec::new();
    if state.owner != facts.uid && facts.uid != 0 {
        findings.push(Finding::warn(
            CHECK,
            format!(
                "{shown} belongs to uid {}, this is uid {}",
                state.owner, facts.uid
            ),
            "run outlast as that user, or name a directory of your own with --state-dir",
        ));
    }
    // Of an empty directory nothing needs to be hidden; the first command makes it private.
    if state.mode & 0o077 != 0 && !state.is_empty {
        findings.push(Finding::fail(
            CHECK,
            format!("{shown} is open to other users (mode {:04o})", state.mode),
            format!("chmod 700 {word}"),
        ));
    }
    findings.extend(format(facts));
    if findings.is_empty() {
        let of = if state.is_member {
            "holds a member of a mesh"
        } else {
            "is ready for `outlast init` or `outlast join`"
        };
        findings.push(Finding::ok(CHECK, format!("{shown} is private and {of}")));
    }
    findings
}

fn format(facts: &Facts) -> Option<Finding> {
    let state = &facts.state;
    let shown = state.path.display();
    match &state.format {
        Some(format) if format == FORMAT || format.is_empty() => None,
        Some(format) => Some(Finding::fail(
            "state directory",
            format!(
                "{shown} has format {:?}, this release knows {:?}",
                visible(format.trim()),
                FORMAT.trim()
            ),
            "install the newer release of outlast; this one changes nothing there",
        )),
        None if state.is_empty => None,
        None => Some(Finding::fail(
            "state directory",
            format!("{shown} has no FORMAT and is not empty: it is no state directory of outlast"),
            "name another with --state-dir",
        )),
    }
}

/// Secrets that others could read, that are empty, or that the node's user can't read.
pub(super) fn keys(facts: &Facts) -> Finding {
    const CHECK: &str = "keys";
    let keys = &facts.state.keys;
    let listed = |bad: &[&File]| -> (String, String) {
        let shown: Vec<_> = bad
            .iter()
            .map(|key| key.path.display().to_string())
            .collect();
        let words: Vec<_> = bad.iter().map(|key| quoted(&key.path)).collect();
        (shown.join(", "), words.join(" "))
    };
    let open: Vec<&File> = keys.iter().filter(|key| key.mode & 0o077 != 0).collect();
    if !open.is_empty() {
        let (shown, words) = listed(&open);
        return Finding::fail(
            CHECK,
            format!("other users can read {shown}"),
            format!("chmod 600 {words}"),
        );
    }
    let empty: Vec<&File> = keys.iter().filter(|key| key.size == 0).collect();
    if !empty.is_empty() {
        let (shown, _) = listed(&empty);
        return Finding::fail(
            CHECK,
            format!("{shown} is empty"),
            "put the file back from a copy; without one, a new state directory joins the mesh with a new token",
        );
    }
    let inside = |key: &&File| key.path.starts_with(&facts.state.path);
    let foreign: Vec<&File> = keys
        .iter()
        .filter(inside)
        .filter(|key| key.owner != facts.state.owner)
        .collect();
    if !foreign.is_empty() {
        let (shown, words) = listed(&foreign);
        return Finding::fail(
            CHECK,
            format!("{shown} belongs to another user than the state directory"),
            format!("sudo chown {} {words}", facts.state.owner),
        );
    }
    match keys.len() {
        0 => Finding::ok(CHECK, "none yet"),
        1 => Finding::ok(CHECK, "1 file, for its owner only"),
        count => Finding::ok(CHECK, format!("{count} files, for their owner only")),
    }
}

/// Whether the directory is locked though no node answers.
pub(super) fn is_orphaned(facts: &Facts) -> bool {
    facts.state.lock == Lock::Held && matches!(facts.node, NodeFacts::Absent)
}
