//! Who is called what: each as it asked or an admin said, while nobody who came earlier is called so.
//!
//! Members choose in the order they came in; a successor takes its predecessor's name from it. Who is gone chooses last,
//! so its name is free for others.

use std::collections::BTreeSet;

use super::super::payload::MAX_NAME;
use super::Fold;
use crate::id::NodeId;

impl Fold<'_> {
    /// Names members, then who is gone, in the order they came in.
    pub(super) fn name_all(&mut self) {
        let (mut taken, mut named) = (BTreeSet::new(), BTreeSet::new());
        let admitted = self.by_admission();
        for id in &admitted {
            let Some(member) = self.state.members.get(id) else {
                continue;
            };
            let wish = self.given_name(*id).unwrap_or(&member.name).to_owned();
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
        for id in admitted.iter().chain(&gone) {
            let Some(gone) = self.state.gone.get(id).filter(|_gone| named.insert(*id)) else {
                continue;
            };
            let wish = self.given_name(*id).unwrap_or(&gone.member.name);
            let name = unique_name(&taken, wish, id);
            taken.insert(name.clone());
            if let Some(gone) = self.state.gone.get_mut(id) {
                gone.member.name = name;
            }
        }
    }

    /// Who came in, by the times of what let them in: that a sponsor's log forks changes nobody's name.
    fn by_admission(&self) -> Vec<NodeId> {
        let mut admitted: Vec<NodeId> = self.admitted.keys().copied().collect();
        admitted.sort_by_key(|id| self.admitted[id]);
        admitted
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
