//! Which node is meant: a name, the beginning of an id, or by `meant` a glob over names.
//!
//! In: what was typed, who is called what. Out: one node, or the sentence that asks for more letters.

use std::collections::BTreeMap;

use globset::Glob;
use outlast_mesh::NodeId;
use outlast_mesh::trust::State;

use crate::failure::Failure;
use crate::text::visible;

/// Finds the one node meant; a name goes before the beginning of an id.
pub(crate) fn find(names: &BTreeMap<NodeId, String>, typed: &str) -> Result<NodeId, Failure> {
    one_of(names, typed)?.ok_or_else(|| {
        Failure::usage(if typed.is_empty() {
            "no node is called by an empty name; `outlast members` lists them".to_owned()
        } else {
            format!(
                "no node is called {} and no id begins so; `outlast members` lists them",
                visible(typed)
            )
        })
    })
}

/// What makes a name a glob; no name or id has any of them.
const GLOB_LETTERS: [char; 4] = ['*', '?', '[', '{'];

/// All that a glob over names means, by id, or the one that a name or the beginning of an id names.
pub(crate) fn meant(names: &BTreeMap<NodeId, String>, typed: &str) -> Result<Vec<NodeId>, Failure> {
    if !typed.contains(GLOB_LETTERS) {
        return Ok(vec![find(names, typed)?]);
    }
    let glob = Glob::new(typed)
        .map_err(|error| Failure::usage(format!("--node {}: {}", visible(typed), error.kind())))?;
    let glob = glob.compile_matcher();
    let meant = names.iter().filter(|(_, name)| glob.is_match(&**name));
    Ok(meant.map(|(id, _)| *id).collect())
}

/// Finds the one member meant; of one that is gone it says so.
pub(crate) fn member(folded: &State, typed: &str) -> Result<NodeId, Failure> {
    let names = folded.names();
    if let Some(id) = one_of(&names, typed)? {
        return Ok(id);
    }
    let gone = folded.gone.iter();
    let gone: BTreeMap<_, _> = gone
        .map(|(id, gone)| (*id, gone.member.name.clone()))
        .collect();
    match one_of(&gone, typed)? {
        Some(id) => Err(is_gone(folded, &id, &gone[&id])),
        None => find(&names, typed),
    }
}

/// That a node is no member any more, by whom and when.
pub(crate) fn is_gone(folded: &State, id: &NodeId, name: &str) -> Failure {
    let why = folded.why_gone(id).unwrap_or_default();
    Failure::new(format!("{} is gone, {}", visible(name), visible(&why)))
}

/// The one node meant; `None`: none of these is.
pub(crate) fn one_of(
    names: &BTreeMap<NodeId, String>,
    typed: &str,
) -> Result<Option<NodeId>, Failure> {
    match called(names, typed)? {
        Some(id) => Ok(Some(id)),
        None => beginning_so(names, typed),
    }
}

/// The one meant where a mistake can't be undone: by name, or by `SURE` letters of its id at least. A word that was
/// somebody's name yesterday is the beginning of anybody's id.
pub(crate) fn surely_one_of(
    names: &BTreeMap<NodeId, String>,
    typed: &str,
) -> Result<Option<NodeId>, Failure> {
    if let Some(id) = called(names, typed)? {
        return Ok(Some(id));
    }
    let found = beginning_so(names, typed)?;
    if found.is_some() && typed.len() < SURE {
        return Err(Failure::usage(format!(
            "no node is called {}; of an id {SURE} letters are needed here, since this can't be taken back",
            visible(typed)
        )));
    }
    Ok(found)
}

/// Letters of an id that nobody types by mistake.
const SURE: usize = 4;

fn called(names: &BTreeMap<NodeId, String>, typed: &str) -> Result<Option<NodeId>, Failure> {
    one(names, typed, |_id, name| name == typed)
}

fn beginning_so(names: &BTreeMap<NodeId, String>, typed: &str) -> Result<Option<NodeId>, Failure> {
    one(names, typed, |id, _name| {
        !typed.is_empty() && id.to_string().starts_with(typed)
    })
}

fn one(
    names: &BTreeMap<NodeId, String>,
    typed: &str,
    is_meant: impl Fn(&NodeId, &str) -> bool,
) -> Result<Option<NodeId>, Failure> {
    let found = names.iter().filter(|(id, name)| is_meant(id, name));
    let found: Vec<&NodeId> = found.map(|(id, _)| id).collect();
    match found[..] {
        [] => Ok(None),
        [id] => Ok(Some(*id)),
        _ => {
            let listed: Vec<String> = found
                .iter()
                .map(|id| format!("{} ({id})", visible(&names[id])))
                .collect();
            Err(Failure::usage(format!(
                "{} means more than one node: {}; type more of the id",
                visible(typed),
                listed.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    #[test]
    fn a_node_is_found_by_name_and_by_the_beginning_of_its_id() {
        let names = BTreeMap::from([(id(1), "attic".to_owned()), (id(2), "cellar".to_owned())]);
        assert_eq!(find(&names, "attic"), Ok(id(1)));
        let whole = id(2).to_string();
        assert_eq!(find(&names, &whole), Ok(id(2)));
        assert_eq!(find(&names, &whole[..12]), Ok(id(2)));
    }

    #[test]
    fn an_ambiguous_node_is_a_usage_error_that_lists_both() {
        // Two ids are found that share a first letter; with 33 ids over 32 letters two always do.
        let names: BTreeMap<_, _> = (0..33).map(|byte| (id(byte), format!("n{byte}"))).collect();
        let mut by_letter: BTreeMap<char, Vec<NodeId>> = BTreeMap::new();
        for id in names.keys() {
            let letter = id.to_string().chars().next().unwrap();
            by_letter.entry(letter).or_default().push(*id);
        }
        let (letter, twins) = by_letter.iter().find(|(_, ids)| ids.len() > 1).unwrap();
        let failure = find(&names, &letter.to_string()).unwrap_err();
        assert_eq!(failure.exit, crate::failure::USAGE);
        for twin in twins {
            assert!(failure.message.contains(&twin.to_string()), "{failure}");
        }
    }

    #[test]
    fn what_can_t_be_taken_back_takes_a_name_or_four_letters_of_an_id() {
        let names = BTreeMap::from([(id(1), "attic".to_owned())]);
        let whole = id(1).to_string();
        for (typed, found) in [
            ("attic", Ok(Some(id(1)))),
            (&whole[..4], Ok(Some(id(1)))),
            ("c1", Ok(None)),
        ] {
            assert_eq!(surely_one_of(&names, typed), found, "{typed}");
        }
        let short = &whole[..3];
        let failure = surely_one_of(&names, short).unwrap_err();
        assert_eq!(failure.exit, crate::failure::USAGE);
        assert!(
            failure
                .message
                .starts_with(&format!("no node is called {short}; of an id 4 letters")),
            "{failure}"
        );
        assert_eq!(one_of(&names, short), Ok(Some(id(1))));
    }

    #[test]
    fn a_node_that_is_gone_is_told_as_such() {
        use outlast_mesh::AdminKey;
        use outlast_mesh::trust::{Gone, Manner, Statements, found};
        let (mesh, genesis) = found(&AdminKey::generate(), id(1), "attic", "home", None, 1);
        let mut held = Statements::new(mesh);
        held.insert(genesis).unwrap();
        let mut folded = State::clone(&held.state());
        assert_eq!(member(&folded, "attic"), Ok(id(1)));
        let mut lost = folded.members[&id(1)].clone();
        lost.name = "roof".to_owned();
        let gone = Gone {
            member: lost,
            manner: Manner::Evicted,
            by: None,
            by_label: "admin".to_owned(),
            at_ms: 2,
            reason: "stolen".to_owned(),
            may_return: false,
        };
        folded.gone.insert(id(2), gone);
        let failure = member(&folded, "roof").unwrap_err();
        assert!(
            failure
                .message
                .starts_with("roof is gone, evicted by admin at "),
            "{failure}"
        );
        assert!(
            member(&folded, "shed").is_err_and(|failure| failure.exit == crate::failure::USAGE)
        );
    }

    #[test]
    fn an_unknown_node_is_named() {
        let failure = find(&BTreeMap::new(), "at\u{1b}tic").unwrap_err();
        assert_eq!(
            failure.message,
            "no node is called at\\u{1b}tic and no id begins so; `outlast members` lists them"
        );
    }
}
