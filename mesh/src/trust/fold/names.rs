//! Who is called what: each as it asked or an admin said, while nobody who came earlier is called so.
//!
//! Members choose in the order they came in; a successor takes its predecessor's name from it. Who is gone chooses last,
//! so its name is free for others.

use std::collections::{BTreeMap, BTreeSet};

use super::super::payload::{MAX_NAME, Payload};
use super::Fold;
use crate::id::NodeId;

impl Fold<'_> {
    /// Names members, then who is gone, in the order they came in.
    pub(super) fn name_all(&mut self) {
        let mut wishes = BTreeMap::new();
        for said in &self.said {
            // By time: the latest word on a node stays.
            if let Payload::Rename(rename) = &said.entry.payload {
                wishes.insert(rename.node, rename.name.clone());
            }
        }
        let (mut taken, mut named) = (BTreeSet::new(), BTreeSet::new());
        for id in &self.admitted.clone() {
            let Some(member) = self.state.members.get(id) else {
                continue;
            };
            let wish = wishes.get(id).unwrap_or(&member.name).clone();
            if let Some(old) = member.replaces {
                self.make_way(&mut taken, old, &wish);
            }
            let name = unique_name(&taken, &wish, id);
            taken.insert(name.clone());
            if let Some(member) = self.state.members.get_mut(id) {
                member.name = name;
            }
        }
        // Who never came in, because it was refused while it waited, comes after all others.
        let gone: Vec<NodeId> = self.state.gone.keys().copied().collect();
        for id in self.admitted.iter().chain(&gone) {
            if let Some(gone) = self.state.gone.get_mut(id)
                && named.insert(*id)
            {
                let wish = wishes.get(id).unwrap_or(&gone.member.name);
                gone.member.name = unique_name(&taken, wish, id);
                taken.insert(gone.member.name.clone());
            }
        }
    }

    /// The name of a replaced member is free for its successor; it goes on under one with letters of its id.
    fn make_way(&mut self, taken: &mut BTreeSet<String>, old: NodeId, wish: &str) {
        if let Some(old) = self.state.members.get_mut(&old)
            && old.name == wish
        {
            old.name = unique_name(taken, wish, &old.id);
            taken.insert(old.name.clone());
            taken.remove(wish);
        }
    }
}

/// `wish`, or the shortest `wish-xxxx` that nobody has, from the letters of the id.
pub(super) fn unique_name(taken: &BTreeSet<String>, wish: &str, id: &NodeId) -> String {
    let letters = id.to_string();
    let longer = (4..=letters.len()).map(|len| {
        let room = MAX_NAME - 1 - len;
        format!("{}-{}", &wish[..wish.len().min(room)], &letters[..len])
    });
    let mut names = std::iter::once(wish.to_owned()).chain(longer);
    names.find(|name| !taken.contains(name)).unwrap_or(letters)
}
