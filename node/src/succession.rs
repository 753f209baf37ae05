//! Who carries on whose history: machines that took a dead one's place, one after another.
//!
//! In: the members, who replaced whom and when. Out: under whose name a node's rows are shown, and whose rows belong to a node.
//! Invariant: a node stands in one line at most; a line that leads back to its start ends there.
//! Absent: whose rows are kept where; the keeper rule follows the same links.

use std::collections::BTreeMap;

use outlast_mesh::trust::Member;
use outlast_mesh::{MemberSnapshot, NodeId};

/// The lines of all members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Succession {
    /// Who took a node's place, and when, in milliseconds since the Unix epoch.
    after: BTreeMap<NodeId, (NodeId, i64)>,
    before: BTreeMap<NodeId, NodeId>,
}

/// One that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) id: NodeId,
    /// When its successor came in, in milliseconds since the Unix epoch.
    pub(crate) until_ms: i64,
}

impl Succession {
    /// As the running mesh has it.
    pub(crate) fn shown<'a>(members: impl IntoIterator<Item = &'a MemberSnapshot>) -> Self {
        let took = |member: &MemberSnapshot| Some((member.replaces?, member.id, member.joined_ms));
        Self::new(members.into_iter().filter_map(took))
    }

    /// As the statements on disk have it.
    pub(crate) fn stored<'a>(members: impl IntoIterator<Item = &'a Member>) -> Self {
        let took = |member: &Member| {
            let joined_ms = i64::try_from(member.joined_ms).unwrap_or(i64::MAX);
            Some((member.replaces?, member.id, joined_ms))
        };
        Self::new(members.into_iter().filter_map(took))
    }

    fn new(took: impl Iterator<Item = (NodeId, NodeId, i64)>) -> Self {
        let mut lines = Self::default();
        for (old, new, at_ms) in took {
            lines.after.insert(old, (new, at_ms));
            lines.before.insert(new, old);
        }
        lines
    }

    /// Who carries on the history of a node: itself, if nobody took its place.
    pub(crate) fn heir(&self, node: NodeId) -> NodeId {
        let mut heir = node;
        for _ in 0..self.after.len() {
            match self.after.get(&heir) {
                Some((next, _)) => heir = *next,
                None => break,
            }
        }
        heir
    }

    /// When a node was replaced. `None`: it wasn't.
    pub(crate) fn replaced_ms(&self, node: &NodeId) -> Option<i64> {
        self.after.get(node).map(|(_, at_ms)| *at_ms)
    }

    /// Whose history a node carries on, the oldest first.
    pub(crate) fn formers(&self, node: NodeId) -> Vec<Former> {
        let mut formers = Vec::new();
        let mut at = node;
        while let Some(id) = self
            .before
            .get(&at)
            .filter(|_| formers.len() < self.before.len())
        {
            let until_ms = self.replaced_ms(id).unwrap_or(i64::MAX);
            formers.push(Former { id: *id, until_ms });
            at = *id;
        }
        formers.reverse();
        formers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const C: NodeId = NodeId([3; 32]);

    #[test]
    fn a_line_of_successors_is_one_history_the_oldest_first() {
        let lines = Succession::new([(A, B, 10), (B, C, 20)].into_iter());
        assert_eq!([A, B, C].map(|node| lines.heir(node)), [C, C, C]);
        let former = |id, until_ms| Former { id, until_ms };
        assert_eq!(lines.formers(C), [former(A, 10), former(B, 20)]);
        assert_eq!(lines.formers(B), [former(A, 10)]);
        assert_eq!(
            (lines.replaced_ms(&B), lines.replaced_ms(&C)),
            (Some(20), None)
        );
    }

    #[test]
    fn links_in_a_circle_end() {
        let lines = Succession::new([(A, B, 10), (B, A, 20)].into_iter());
        assert_eq!(lines.heir(A), A);
        assert_eq!(lines.formers(A).len(), 2);
    }
}
