//! The members by the beginnings of their ids.
//!
//! A beginning that two members share means neither: they go by a longer one.

use std::collections::BTreeMap;

use outlast_mesh::NodeId;

use super::message::ShortId;

/// Who is called what.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// `None`: more than one.
    short: BTreeMap<[u8; 3], Option<NodeId>>,
    long: BTreeMap<[u8; 8], Option<NodeId>>,
}

impl Roll {
    pub(super) fn new(members: impl Iterator<Item = NodeId>) -> Self {
        let mut roll = Self::default();
        for node in members {
            let one = |held: &mut Option<NodeId>| *held = None;
            let (short, long) = (short(&node), long(&node));
            roll.short
                .entry(short)
                .and_modify(one)
                .or_insert(Some(node));
            roll.long.entry(long).and_modify(one).or_insert(Some(node));
        }
        roll
    }

    /// What to call a member; `None` for strangers and for members that begin alike for eight bytes.
    pub(super) fn id(&self, node: &NodeId) -> Option<ShortId> {
        let (short, long) = (short(node), long(node));
        if let Some(Some(found)) = self.short.get(&short) {
            return (found == node).then_some(ShortId::Short(short));
        }
        let found = self.long.get(&long).copied().flatten();
        (found.as_ref() == Some(node)).then_some(ShortId::Long(long))
    }

    pub(super) fn find(&self, id: ShortId) -> Option<NodeId> {
        match id {
            ShortId::Short(id) => self.short.get(&id).copied().flatten(),
            ShortId::Long(id) => self.long.get(&id).copied().flatten(),
        }
    }
}

fn short(node: &NodeId) -> [u8; 3] {
    *node.0.first_chunk().expect("an id has 32 bytes")
}

fn long(node: &NodeId) -> [u8; 8] {
    *node.0.first_chunk().expect("an id has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_begin_alike_go_by_longer_ids_or_not_at_all() {
        let node = |a: u8, b: u8, c: u8| {
            let mut id = [7; 32];
            (id[0], id[3], id[31]) = (a, b, c);
            NodeId(id)
        };
        let members = [node(1, 0, 0), node(2, 0, 0), node(2, 1, 0), node(2, 1, 1)];
        let roll = Roll::new(members.into_iter());
        assert_eq!(roll.id(&members[0]), Some(ShortId::Short([1, 7, 7])));
        let long = ShortId::Long([2, 7, 7, 0, 7, 7, 7, 7]);
        assert_eq!(roll.id(&members[1]), Some(long));
        assert_eq!((roll.id(&members[2]), roll.id(&members[3])), (None, None));
        assert_eq!(roll.find(long), Some(members[1]));
        assert_eq!(roll.find(ShortId::Short([2, 7, 7])), None);
        assert_eq!(roll.id(&node(9, 0, 0)), None);
        assert_eq!(
            roll.id(&node(1, 0, 9)),
            None,
            "a stranger that begins like a member"
        );
    }
}
