//! Nodes of one site that went together.
//!
//! In: outages of single nodes and who stands where. Out: the same, told as the site's where all its members went within
//! `TOGETHER_MS` of each other for one reason.
//! Absent: sites of one member; there is nothing to tell apart.

use std::collections::{BTreeMap, BTreeSet};

use outlast_mesh::NodeId;

use super::{Outage, Places, Verdict};

/// Two beats, and what a last record may be older than the end, milliseconds.
const TOGETHER_MS: i64 = 15_000;

/// Gives outages of a whole site its verdict.
pub(super) fn roll_up(list: &mut [Outage], places: &Places) {
    let mut sites: BTreeMap<&str, BTreeSet<NodeId>> = BTreeMap::new();
    for (node, place) in places {
        if let (Some(site), None) = (&place.site, place.gone_ms) {
            sites.entry(site).or_default().insert(*node);
        }
    }
    for (site, members) in sites {
        if members.len() < 2 {
            continue;
        }
        for verdict in [Verdict::PowerLoss, Verdict::Partition, Verdict::Unknown] {
            for group in together(list, &members, verdict) {
                for at in group {
                    let outage = &mut list[at];
                    outage.verdict = of_site(verdict);
                    outage.evidence.site =
                        Some((site.to_owned(), members.iter().copied().collect()));
                }
            }
        }
    }
}

const fn of_site(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::PowerLoss => Verdict::SitePower,
        Verdict::Partition => Verdict::SiteLink,
        other => other,
    }
}

/// Outages of this verdict in which every member takes part, by their places in the list.
fn together(list: &[Outage], members: &BTreeSet<NodeId>, verdict: Verdict) -> Vec<Vec<usize>> {
    let mut of_site: Vec<usize> = (0..list.len())
        .filter(|at| list[*at].verdict == verdict && members.contains(&list[*at].node))
        .collect();
    of_site.sort_by_key(|at| (list[*at].start_ms, list[*at].node));
    let mut groups = Vec::new();
    let mut rest = &of_site[..];
    while let Some(first) = rest.first() {
        let until = list[*first].start_ms.saturating_add(TOGETHER_MS);
        let near = rest.partition_point(|at| list[*at].start_ms <= until);
        let nodes: BTreeSet<NodeId> = rest[..near].iter().map(|at| list[*at].node).collect();
        if nodes.len() == members.len() {
            groups.push(rest[..near].to_vec());
            rest = &rest[near..];
        } else {
            rest = &rest[1..];
        }
    }
    groups
}
