//! `set`: settles something for the mesh or for one node, with the admin key.
//!
//! Invariant: every word is understood before anything is signed, and what is set so already is not signed again.

use std::collections::BTreeSet;

use outlast_mesh::NodeId;
use outlast_mesh::trust::{Setting, SettingError, Settings, issue_policy};

use super::sign::{Desk, Signer, now_ms};
use crate::cli::{Global, SetArgs};
use crate::failure::Failure;
use crate::nodes;
use crate::text::{Printer, nearest, visible};

pub(super) fn run(global: &Global, arguments: &SetArgs, out: &mut Printer) -> Result<(), Failure> {
    let asked = Asked::read(arguments)?;
    let mut desk = Desk::open(global, Signer::Owner(&arguments.sign))?;
    let folded = desk.statements.state();
    let names = folded.names();
    let node = asked
        .node
        .map(|typed| nodes::member(&folded, typed))
        .transpose()?;
    let whose = match node {
        Some(node) => visible(&names[&node]).into_owned(),
        None => "every node".to_owned(),
    };
    let now_ms = now_ms();
    let mut lines = Vec::new();
    for (setting, value) in &asked.settings {
        let before = said(&folded.settings, node, *setting);
        if before == *value {
            lines.push(match value {
                Some(value) => format!("{whose}: {}={value} already", setting.as_str()),
                None => format!("{whose}: {} was not set", setting.as_str()),
            });
            continue;
        }
        let statement = issue_policy(
            &desk.admin.key,
            &desk.statements,
            node,
            *setting,
            *value,
            now_ms,
        );
        desk.sign(statement.map_err(anyhow::Error::from)?)?;
        lines.push(match (value, before) {
            (Some(value), Some(before)) => {
                let before = visible(before);
                format!("{whose}: {}={value}, was {before}", setting.as_str())
            }
            (Some(value), None) => format!("{whose}: {}={value}", setting.as_str()),
            (None, _) => format!("{whose}: {} taken back", setting.as_str()),
        });
    }
    let told = desk.publish()?;
    for line in lines {
        out.line(line)?;
    }
    told.remark(out)
}

/// What was typed: whose settings, and which.
struct Asked<'a> {
    node: Option<&'a str>,
    settings: Vec<(Setting, Option<&'a str>)>,
}

impl<'a> Asked<'a> {
    fn read(arguments: &'a SetArgs) -> Result<Self, Failure> {
        let words = arguments.settings.iter();
        // A first word that sets something is no node's: names have no =.
        let (node, first) = match arguments.node.as_deref() {
            Some(word) if word.contains('=') => (None, Some(word)),
            node => (node, None),
        };
        let mut settings: Vec<(Setting, Option<&str>)> = Vec::new();
        let mut seen = BTreeSet::new();
        for word in first.into_iter().chain(words.map(String::as_str)) {
            let (setting, value) = read(word)?;
            if !seen.insert(setting) {
                return Err(Failure::usage(format!("{} is set twice", setting.as_str())));
            }
            settings.push((setting, value));
        }
        if settings.is_empty() {
            let whose = node.map_or_else(String::new, |node| format!("{} ", visible(node)));
            return Err(Failure::usage(format!(
                "nothing to set: outlast set {whose}KEY=VALUE, with one of {}; `outlast get` shows what is set",
                keys().join(", ")
            )));
        }
        Ok(Self { node, settings })
    }
}

fn read(word: &str) -> Result<(Setting, Option<&str>), Failure> {
    let Some((key, value)) = word.split_once('=') else {
        return Err(Failure::usage(format!(
            "\"{}\" sets nothing: outlast set [NODE] KEY=VALUE…, with the node first",
            visible(word)
        )));
    };
    let setting: Setting = key.parse().map_err(|error: SettingError| {
        let said = match nearest(key, &keys()) {
            Some(meant) => format!("there is no setting \"{key}\"; did you mean {meant}?"),
            None => error.to_string(),
        };
        Failure::usage(visible(&said).into_owned())
    })?;
    if value.is_empty() {
        return Ok((setting, None));
    }
    setting
        .check(value)
        .map_err(|error| Failure::usage(visible(&error.to_string()).into_owned()))?;
    Ok((setting, Some(value)))
}

fn keys() -> [&'static str; Setting::ALL.len()] {
    Setting::ALL.map(Setting::as_str)
}

/// What was said for this node, or for all, and for nobody else.
fn said(settings: &Settings, node: Option<NodeId>, setting: Setting) -> Option<&str> {
    let mut said = settings.iter();
    let found = said.find(|(of, key, _)| *of == node && *key == setting.as_str());
    found.map(|(_, _, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::SignArgs;

    fn asked(words: &[&str]) -> Result<(Option<String>, usize), String> {
        let mut words = words.iter().map(|word| (*word).to_owned());
        let arguments = SetArgs {
            node: words.next(),
            settings: words.collect(),
            sign: SignArgs::default(),
        };
        let asked = Asked::read(&arguments).map_err(|failure| failure.message)?;
        Ok((asked.node.map(str::to_owned), asked.settings.len()))
    }

    #[test]
    fn the_node_may_be_left_out() {
        assert_eq!(asked(&["site=home"]), Ok((None, 1)));
        assert_eq!(asked(&["site=home", "metered=on"]), Ok((None, 2)));
        assert_eq!(
            asked(&["attic", "site="]),
            Ok((Some("attic".to_owned()), 1))
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() {
        let cases: [(&[&str], &str); 7] = [
            (
                &[],
                "nothing to set: outlast set KEY=VALUE, with one of site, metered, may-be-off, retention; `outlast get` shows what is set",
            ),
            (
                &["attic"],
                "nothing to set: outlast set attic KEY=VALUE, with one of site, metered, may-be-off, retention; `outlast get` shows what is set",
            ),
            (
                &["meterd=on"],
                "there is no setting \"meterd\"; did you mean metered?",
            ),
            (
                &["colour=blue"],
                "there is no setting \"colour\"; there are site, metered, may-be-off, retention",
            ),
            (&["metered=yes"], "metered takes on or off, not \"yes\""),
            (
                &["retention=5GB"],
                "retention takes 64MiB or more, such as 512MiB or 2GiB, not \"5GB\"",
            ),
            (&["site=a", "site=b"], "site is set twice"),
        ];
        for (words, said) in cases {
            assert_eq!(asked(words), Err(said.to_owned()), "{words:?}");
        }
        assert!(
            asked(&["site=a", "attic"])
                .unwrap_err()
                .contains("the node first")
        );
    }
}
