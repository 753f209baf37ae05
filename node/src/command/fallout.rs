//! What falls with a revocation besides what it is about, as sentences.
//!
//! In: the difference that the mesh's statements make. Out: a line for each kind of thing that changes.
//! Bound: `MOST` names a line; the rest is counted.
//! Absent: deciding it; the fold does that.

use outlast_mesh::trust::{Changed, Fallout, State};

use crate::text::visible;

/// Names of a line at most.
const MOST: usize = 16;

/// Letters of an invite's id that people are shown.
const SHORT: usize = 8;

/// What changes, against how it was `before`.
pub(super) fn lines(fallout: &Fallout, before: &State) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |what: &str, names: Vec<&str>| {
        if !names.is_empty() {
            lines.push(format!("{what}: {}", listed(&names)));
        }
    };
    let names = |some: &'_ [(outlast_mesh::NodeId, String)]| -> Vec<String> {
        some.iter().map(|(_, name)| name.clone()).collect()
    };
    let labels = |some: &'_ [([u8; 32], String)]| -> Vec<String> {
        some.iter().map(|(_, label)| label.clone()).collect()
    };
    let tokens: Vec<String> = fallout
        .tokens
        .iter()
        .map(|id| id.to_string().chars().take(SHORT).collect())
        .collect();
    for (what, named) in [
        (
            "members no more, for what let them in counts no more",
            names(&fallout.members),
        ),
        (
            "members again, for what threw them out counts no more",
            names(&fallout.back),
        ),
        ("wait for approval no more", names(&fallout.pending)),
        ("tokens that admit nobody more", tokens),
        ("decide no more either", labels(&fallout.admins)),
        ("decide again", labels(&fallout.admins_back)),
    ] {
        say(what, named.iter().map(String::as_str).collect());
    }
    lines.extend(fallout.settings.iter().map(|one| changed(one, before)));
    let renamed = fallout.renamed.iter();
    lines.extend(renamed.map(|(_, old, new)| {
        let (old, new) = (visible(old), visible(new));
        format!("{old} is called {new} again")
    }));
    lines
}

fn changed(one: &Changed, before: &State) -> String {
    let node = one.node.map(|id| {
        let member = before.ever(&id);
        member.map_or_else(|| id.short(), |member| member.name.clone())
    });
    let node = node.as_deref().unwrap_or("every node");
    let value = |value: &Option<String>| match value.as_deref() {
        None => "not set".to_owned(),
        Some(value) => visible(value).into_owned(),
    };
    format!(
        "{}: {} is {}, no longer {}",
        visible(node),
        visible(&one.key),
        value(&one.after),
        value(&one.before)
    )
}

fn listed(names: &[&str]) -> String {
    let mut shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|name| visible(name).into_owned())
        .collect();
    if names.len() > MOST {
        shown.push(format!("{} more", names.len() - MOST));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use outlast_mesh::trust::{Statements, found};
    use outlast_mesh::{AdminKey, NodeId, StatementId};

    use super::*;

    #[test]
    fn everything_that_falls_is_named() {
        let founder = NodeId([7; 32]);
        let (mesh, genesis) = found(&AdminKey::generate(), founder, "attic", "home", None, 1);
        let mut held = Statements::new(mesh);
        held.insert(genesis).unwrap();
        let node = |byte: u8, name: &str| (NodeId([byte; 32]), name.to_owned());
        let id = StatementId([1; 32]);
        let fallout = Fallout {
            members: vec![node(1, "b"), node(2, "c\u{1b}")],
            back: vec![node(3, "d")],
            pending: vec![node(4, "e")],
            tokens: vec![id],
            admins: vec![([5; 32], "ann".to_owned())],
            admins_back: vec![([6; 32], "bob".to_owned())],
            settings: vec![
                Changed {
                    node: Some(founder),
                    key: "site".to_owned(),
                    before: Some("thief".to_owned()),
                    after: Some("mine".to_owned()),
                },
                Changed {
                    node: None,
                    key: "metered".to_owned(),
                    before: Some("on".to_owned()),
                    after: None,
                },
            ],
            renamed: vec![(founder, "roof".to_owned(), "attic".to_owned())],
        };
        let short: String = id.to_string().chars().take(8).collect();
        assert_eq!(
            lines(&fallout, &held.state()),
            [
                "members no more, for what let them in counts no more: b, c\\u{1b}",
                "members again, for what threw them out counts no more: d",
                "wait for approval no more: e",
                &format!("tokens that admit nobody more: {short}"),
                "decide no more either: ann",
                "decide again: bob",
                "attic: site is mine, no longer thief",
                "every node: metered is not set, no longer on",
                "roof is called attic again",
            ]
        );
        assert_eq!(lines(&Fallout::default(), &held.state()), [""; 0]);
    }
}
