//! What happened to whom: a pure fold of everything that was told.
//!
//! In: the ledger's events and where members stand. Out: outages, sorted by their start and node.
//! A node's own words come first (`own`): the record a run left behind says how it ended. What others saw (`silence`) tells the
//! rest: when it was heard last, whether it was cut off, and, while it lasts, a provisional verdict. Nodes of one site that
//! went together are told as such (`site`).
//! Invariant: equal sets of events give equal lists, in whatever order they came. A verdict is provisional until the node's own
//! word settles it; from then on more events change it only into that of its whole site.
//! Absent: sentences (`words`), and clocks: nothing here ends by itself.

mod own;
mod silence;
mod site;

use std::collections::BTreeMap;

use outlast_mesh::NodeId;

use super::testimony::{Ident, Kills, Power, Telling, Word};
use own::Own;
use silence::{Cluster, Sightings};

/// Times told by two nodes are compared this loosely, milliseconds: a record is up to 10 s older than the end of its run.
const LOOSE_MS: i64 = 15_000;

/// A node that is back may take so long until all see it, milliseconds.
const RETURN_MS: i64 = 30_000;

/// A clock further ahead or behind than this is not gone by, milliseconds.
const WRONG_MS: i64 = 10_000;

/// How the ledger calls what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The machine went down without a word.
    PowerLoss,
    /// The machine was shut down, or started anew.
    Shutdown,
    /// The agent was told to stop; the machine ran on.
    AgentStopped,
    /// The agent ended without a word; the machine ran on.
    AgentCrashed,
    /// The agent was replaced by another release.
    Upgraded,
    /// The agent ran on and was not reached.
    Partition,
    /// All of a site lost power together.
    SitePower,
    /// All of a site was cut off together.
    SiteLink,
    /// The machine slept, or the process stood still.
    Suspend,
    /// The wall clock was set.
    ClockStep,
    /// Nobody has said yet, or nothing can be known.
    Unknown,
}

impl Verdict {
    /// The word for scripts.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::PowerLoss => "power-loss",
            Self::Shutdown => "shutdown",
            Self::AgentStopped => "agent-stopped",
            Self::AgentCrashed => "agent-crashed",
            Self::Upgraded => "upgraded",
            Self::Partition => "partition",
            Self::SitePower => "site-power",
            Self::SiteLink => "site-link",
            Self::Suspend => "suspend",
            Self::ClockStep => "clock-step",
            Self::Unknown => "unknown",
        }
    }
}

/// One outage of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outage {
    /// Whose.
    pub(crate) node: NodeId,
    /// The last moment it is known to have been well, milliseconds since the Unix epoch.
    pub(crate) start_ms: i64,
    /// How much later it may have begun, milliseconds.
    pub(crate) uncertain_ms: u64,
    /// When it was over. `None`: it lasts.
    pub(crate) end_ms: Option<i64>,
    /// What it was.
    pub(crate) verdict: Verdict,
    /// Whether the node's own word is still awaited.
    pub(crate) provisional: bool,
    /// What the verdict rests on.
    pub(crate) evidence: Evidence,
}

/// What a verdict rests on; what is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Boot before and after.
    pub(crate) boots: Option<(Ident, Ident)>,
    /// Run before and after.
    pub(crate) runs: Option<(Ident, Ident)>,
    /// Release before and after.
    pub(crate) versions: Option<(String, String)>,
    /// The last record of the run before, milliseconds.
    pub(crate) record_ms: Option<i64>,
    /// When the machine had booted again, milliseconds.
    pub(crate) booted_ms: Option<i64>,
    /// When it said that it ends, milliseconds.
    pub(crate) goodbye_ms: Option<i64>,
    /// What made it end, in its own words.
    pub(crate) failure: Option<String>,
    /// Whether the kernel ended processes for want of memory meanwhile, and whether in its control group.
    pub(crate) kills: Option<(Kills, Kills)>,
    /// What it ran on just before.
    pub(crate) power: Option<Power>,
    /// Who lost it, when each heard it last, and when again.
    pub(crate) lost_by: Vec<Seen>,
    /// How many heard each other when the first of them told.
    pub(crate) sees: Option<u16>,
    /// What it saw itself while it was cut off.
    pub(crate) alone: Option<Alone>,
    /// For how long it stood still, and whether the whole machine did.
    pub(crate) stood: Option<(u64, bool)>,
    /// By how much its clock was set, milliseconds.
    pub(crate) stepped_ms: Option<i64>,
    /// How far its clock was ahead of the observers', milliseconds, where times are theirs.
    pub(crate) clock_ahead_ms: Option<i64>,
    /// The site that went as a whole, and who stands there.
    pub(crate) site: Option<(String, Vec<NodeId>)>,
    /// It went when it left the mesh, or was thrown out.
    pub(crate) left_mesh: bool,
}

/// One observer's silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// Who.
    pub(crate) by: NodeId,
    /// Milliseconds.
    pub(crate) last_heard_ms: i64,
    /// Milliseconds. `None`: not yet.
    pub(crate) again_ms: Option<i64>,
}

/// What a node that was cut off saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alone {
    /// Whom it still heard, at most 16.
    pub(crate) sees: Vec<NodeId>,
    /// How many, itself counted.
    pub(crate) count: u16,
    /// Of how many.
    pub(crate) of: u16,
}

/// Where a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its site, where one is named.
    pub(crate) site: Option<String>,
    /// When it left the mesh, milliseconds. `None`: it is a member.
    pub(crate) gone_ms: Option<i64>,
}

/// Everybody who is or was a member.
pub(crate) type Places = BTreeMap<NodeId, Place>;

/// Every outage that the events tell of.
pub(crate) fn outages(tellings: &[Telling], places: &Places) -> Vec<Outage> {
    let mut by_author: BTreeMap<NodeId, BTreeMap<u64, &Telling>> = BTreeMap::new();
    for telling in tellings {
        by_author
            .entry(telling.author)
            .or_default()
            .insert(telling.seq, telling);
    }
    let sightings = Sightings::of(&by_author);
    let nothing = BTreeMap::new();
    let mut list = Vec::new();
    let nodes: std::collections::BTreeSet<NodeId> =
        by_author.keys().copied().chain(sightings.nodes()).collect();
    for node in nodes {
        let words = by_author.get(&node).unwrap_or(&nothing);
        let mut of_node = of_node(node, words, sightings.clusters(node));
        let gone_ms = places.get(&node).and_then(|place| place.gone_ms);
        if let Some(gone_ms) = gone_ms {
            of_node.retain(|outage| outage.start_ms < gone_ms - LOOSE_MS);
            for outage in of_node.iter_mut().filter(|outage| outage.end_ms.is_none()) {
                outage.end_ms = Some(gone_ms);
                outage.evidence.left_mesh = true;
            }
        }
        list.append(&mut of_node);
    }
    site::roll_up(&mut list, places);
    list.sort_by(|a, b| {
        (a.start_ms, a.node, a.verdict, a.end_ms).cmp(&(b.start_ms, b.node, b.verdict, b.end_ms))
    });
    list
}

/// One author's events by their numbers.
type Words<'a> = BTreeMap<u64, &'a Telling>;

fn of_node(node: NodeId, words: &Words<'_>, clusters: Vec<Cluster>) -> Vec<Outage> {
    let own = own::intervals(words);
    let mut list: Vec<Outage> = own
        .iter()
        .map(|one| one.outage(node, clusters.iter().find(|cluster| one.overlaps(cluster))))
        .collect();
    for cluster in &clusters {
        let over: Vec<&Own> = own.iter().filter(|one| one.overlaps(cluster)).collect();
        list.extend(cluster.left_by(&over, node, words));
    }
    list.extend(words.values().filter_map(|telling| stepped(node, telling)));
    list
}

/// A clock that was set: an outage of no length.
fn stepped(node: NodeId, telling: &Telling) -> Option<Outage> {
    let Some(Word::Clock(stepped)) = &telling.word else {
        return None;
    };
    Some(Outage {
        node,
        start_ms: telling.at_ms,
        uncertain_ms: 0,
        end_ms: Some(telling.at_ms),
        verdict: Verdict::ClockStep,
        provisional: false,
        evidence: Evidence {
            stepped_ms: Some(stepped.by_ms),
            ..Evidence::default()
        },
    })
}

#[cfg(test)]
mod tests;
