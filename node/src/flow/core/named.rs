//! The members as they were named last, and what follows from that for whoever they are named to.
//!
//! Made once for all who know the same: in a simulated mesh of thousands that is most of what a node would remember.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outlast_mesh::{MemberSnapshot, NodeId, PeerState};

use crate::summary::{Members, Standing};

/// Everybody who is or was a member.
#[derive(Debug, Default)]
pub struct Named {
    snapshots: Vec<MemberSnapshot>,
    ids: Arc<BTreeSet<NodeId>>,
    there: usize,
    within_reach: BTreeSet<NodeId>,
    summarised: Arc<Members>,
}

impl Named {
    /// From the members as the mesh knows them. Who merely went or came leaves those whose summaries are held as they were
    /// `before`.
    #[must_use]
    pub fn after(before: &Self, snapshots: Vec<MemberSnapshot>) -> Self {
        let standing = standing(&snapshots);
        let summarised = if before.summarised.are(&standing) {
            Arc::clone(&before.summarised)
        } else {
            Arc::new(Members::new(standing))
        };
        Self {
            ids: Arc::new(snapshots.iter().map(|member| member.id).collect()),
            there: snapshots.iter().filter(|member| is_there(member)).count(),
            within_reach: within_reach(&snapshots),
            summarised,
            snapshots,
        }
    }

    pub(super) fn snapshots(&self) -> &[MemberSnapshot] {
        &self.snapshots
    }

    pub(super) fn is_of(&self, members: &[MemberSnapshot]) -> bool {
        self.snapshots == members
    }

    pub(super) fn contains(&self, node: &NodeId) -> bool {
        self.ids.contains(node)
    }

    /// Everybody, those who are gone too.
    pub(super) fn ever(&self) -> &Arc<BTreeSet<NodeId>> {
        &self.ids
    }

    /// How many are members.
    pub(super) fn there(&self) -> usize {
        self.there
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &NodeId> {
        self.ids.iter()
    }

    /// Whether a session with this member can be begun at any time.
    pub(super) fn is_within_reach(&self, node: &NodeId) -> bool {
        self.within_reach.contains(node)
    }

    /// Those whose summaries are held.
    pub(super) fn summarised(&self) -> &Arc<Members> {
        &self.summarised
    }
}

/// With up to `spread::FULL` members who isn't connected can't be reached. Above that a session begins when it is
/// needed, with everybody who isn't known to be away.
fn within_reach(members: &[MemberSnapshot]) -> BTreeSet<NodeId> {
    let there = || members.iter().filter(|member| is_there(member));
    if there().count() <= outlast_mesh::spread::FULL {
        return BTreeSet::new();
    }
    let here = there().filter(|member| !matches!(member.state, PeerState::Down | PeerState::Left));
    here.map(|member| member.id).collect()
}

fn standing(members: &[MemberSnapshot]) -> BTreeMap<NodeId, Standing> {
    let there = members.iter().filter(|member| is_there(member));
    let standing = |member: &MemberSnapshot| {
        let metered = member.metered;
        (member.id, Standing { metered })
    };
    there.map(standing).collect()
}

fn is_there(member: &MemberSnapshot) -> bool {
    !matches!(member.state, PeerState::Retired | PeerState::Evicted)
}
