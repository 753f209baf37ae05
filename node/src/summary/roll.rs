//! The members by the beginnings of their ids.
//!
//! A beginning that two members share means neither: they go by a longer one.

use outlast_mesh::NodeId;

use super::message::ShortId;

/// Who is called what, and where each member stands among all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Roll {
    /// By id.
    members: Vec<NodeId>,
    /// The first bytes of each: a place is found in a few lines of memory.
    begins: Vec<u32>,
    /// `None`: another begins alike for eight bytes.
    called: Vec<Option<ShortId>>,
}

impl Roll {
    pub(super) fn new(members: impl Iterator<Item = NodeId>) -> Self {
        let mut members: Vec<NodeId> = members.collect();
        members.sort_unstable();
        members.dedup();
        Self {
            begins: members.iter().map(|node| begin(&node.0, 0)).collect(),
            called: (0..members.len()).map(|at| called(&members, at)).collect(),
            members,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The place of a member; `None` for strangers.
    pub(super) fn place(&self, node: &NodeId) -> Option<usize> {
        self.alike(&node.0).next()
    }

    pub(super) fn at(&self, place: usize) -> NodeId {
        self.members[place]
    }

    /// What to call a member; `None` where it begins as another for eight bytes.
    pub(super) fn called(&self, place: usize) -> Option<ShortId> {
        self.called[place]
    }

    /// Whom an id means: nobody, if two begin with it.
    pub(super) fn find(&self, id: ShortId) -> Option<usize> {
        let mut alike = match &id {
            ShortId::Short(id) => self.alike(id),
            ShortId::Long(id) => self.alike(id),
        };
        let found = alike.next()?;
        alike.next().is_none().then_some(found)
    }

    /// The places of all that begin with these bytes, of which there are three at least.
    fn alike<'a>(&'a self, with: &'a [u8]) -> impl Iterator<Item = usize> + use<'a> {
        let (low, high) = (begin(with, 0), begin(with, u8::MAX));
        let first = self.begins.partition_point(|begin| *begin < low);
        let near = (first..self.len()).take_while(move |place| self.begins[*place] <= high);
        // Four bytes are compared by then.
        let whole = with.len() <= size_of::<u32>();
        near.filter(move |place| whole || self.members[*place].0.starts_with(with))
    }
}

/// The first four bytes, with those that are not there as `fill`.
fn begin(bytes: &[u8], fill: u8) -> u32 {
    let mut four = [fill; 4];
    four.iter_mut()
        .zip(bytes)
        .for_each(|(to, byte)| *to = *byte);
    u32::from_be_bytes(four)
}

fn called(members: &[NodeId], at: usize) -> Option<ShortId> {
    let node = &members[at];
    let near = [at.checked_sub(1), at.checked_add(1)].into_iter().flatten();
    let near = near.filter_map(|place| members.get(place));
    let alike = |other: &NodeId| {
        node.0
            .iter()
            .zip(other.0)
            .take_while(|(a, b)| **a == *b)
            .count()
    };
    match near.map(alike).max().unwrap_or(0) {
        0..3 => node.0.first_chunk().copied().map(ShortId::Short),
        3..8 => node.0.first_chunk().copied().map(ShortId::Long),
        _ => None,
    }
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
        let id = |node: &NodeId| roll.called(roll.place(node)?);
        assert_eq!(id(&members[0]), Some(ShortId::Short([1, 7, 7])));
        let long = ShortId::Long([2, 7, 7, 0, 7, 7, 7, 7]);
        assert_eq!(id(&members[1]), Some(long));
        assert_eq!((id(&members[2]), id(&members[3])), (None, None));
        assert_eq!(roll.find(long).map(|at| roll.at(at)), Some(members[1]));
        let other = ShortId::Long([2, 7, 7, 1, 7, 7, 7, 7]);
        assert_eq!(roll.find(other), None, "two begin alike for eight bytes");
        assert_eq!(roll.find(ShortId::Short([2, 7, 7])), None);
        assert_eq!(id(&node(9, 0, 0)), None);
        assert_eq!(
            id(&node(1, 0, 9)),
            None,
            "a stranger that begins like a member"
        );
    }
}
