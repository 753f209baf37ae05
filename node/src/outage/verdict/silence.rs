//! What observers saw: silences, put together where they are of one event.
//!
//! In: everybody's SIGHT events. Out: clusters of a node's silences that enough of its observers agree on, and outages of
//! what the node's own words leave unexplained of them.
//! Invariant: a silence ends when anybody hears the node again; who still doesn't has another reason.

use std::collections::{BTreeMap, BTreeSet};

use outlast_mesh::NodeId;

use super::own::Own;
use super::{Alone, Evidence, LOOSE_MS, Outage, RETURN_MS, Seen, Verdict, WRONG_MS, Words};
use crate::outage::sight::OBSERVERS;
use crate::outage::testimony::{Ident, Lost, Power, Sight, Telling, Word};

/// Mains that failed so long before a silence have to do with it, milliseconds.
const MAINS_BEFORE_MS: i64 = 30 * 60_000;

/// All silences, by whom they are of.
#[derive(Debug, Default)]
pub(super) struct Sightings(BTreeMap<NodeId, Vec<Silence>>);

/// One observer's silence of one node.
#[derive(Debug, Clone)]
struct Silence {
    by: NodeId,
    again_ms: Option<i64>,
    lost: Lost,
}

/// Silences of one node that overlap.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    silences: Vec<Silence>,
    /// When enough of them had heard it last.
    pub(super) start_ms: i64,
    /// When it was heard again by anybody.
    pub(super) end_ms: Option<i64>,
}

impl Sightings {
    pub(super) fn of(by_author: &BTreeMap<NodeId, Words<'_>>) -> Self {
        let mut silences: BTreeMap<NodeId, Vec<Silence>> = BTreeMap::new();
        for (by, words) in by_author {
            for (node, silence) in seen_by(*by, words) {
                silences.entry(node).or_default().push(silence);
            }
        }
        for list in silences.values_mut() {
            list.sort_by_key(|one| (one.lost.last_heard_ms, one.by, one.again_ms));
        }
        Self(silences)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }

    /// What happened to a node as far as its observers agree.
    pub(super) fn clusters(&self, node: NodeId) -> Vec<Cluster> {
        let mut clusters: Vec<Cluster> = Vec::new();
        for silence in self.0.get(&node).into_iter().flatten() {
            let last = clusters.last_mut();
            match last.filter(|cluster| cluster.takes(silence)) {
                Some(cluster) => cluster.push(silence.clone()),
                None => clusters.push(Cluster::new(silence.clone())),
            }
        }
        clusters.retain_mut(Cluster::agree);
        clusters
    }
}

/// The silences one author tells of, in the order it told.
fn seen_by(by: NodeId, words: &Words<'_>) -> Vec<(NodeId, Silence)> {
    let mut open: BTreeMap<NodeId, Silence> = BTreeMap::new();
    let mut closed = Vec::new();
    for telling in words.values() {
        match &telling.word {
            Some(Word::Sight(Sight::Lost(lost))) if lost.node != by => {
                open.entry(lost.node).or_insert_with(|| Silence {
                    by,
                    again_ms: None,
                    lost: lost.clone(),
                });
            }
            Some(Word::Sight(Sight::Found { node, .. })) => {
                if let Some(mut silence) = open.remove(node) {
                    silence.again_ms = Some(telling.at_ms.max(silence.lost.last_heard_ms));
                    closed.push((*node, silence));
                }
            }
            _ => {}
        }
    }
    closed.extend(open);
    closed
}

impl Cluster {
    fn new(silence: Silence) -> Self {
        Self {
            start_ms: silence.lost.last_heard_ms,
            end_ms: silence.again_ms,
            silences: vec![silence],
        }
    }

    /// Whether a silence that began later is of the same event.
    fn takes(&self, silence: &Silence) -> bool {
        self.end_ms
            .is_none_or(|end| silence.lost.last_heard_ms < end)
    }

    fn push(&mut self, silence: Silence) {
        if let Some(again) = silence.again_ms {
            self.end_ms = Some(self.end_ms.map_or(again, |end| end.min(again)));
        }
        self.silences.push(silence);
    }

    /// Whether more than half of those that could tell did, or it said goodbye to one of them. It began when enough of them
    /// had heard it last.
    fn agree(&mut self) -> bool {
        let by: BTreeSet<NodeId> = self.silences.iter().map(|one| one.by).collect();
        let least = self
            .silences
            .iter()
            .map(|one| one.lost.sees)
            .min()
            .unwrap_or(0);
        let enough = usize::from(least).min(OBSERVERS) / 2 + 1;
        let last = self
            .silences
            .get(enough - 1)
            .or_else(|| self.silences.last());
        if let Some(last) = last {
            self.start_ms = last.lost.last_heard_ms;
        }
        by.len() >= enough || self.said_goodbye()
    }

    fn said_goodbye(&self) -> bool {
        self.silences.iter().any(|one| one.lost.goodbye)
    }

    /// How far the node's clock is ahead of the observers', where that is too much to go by it.
    pub(super) fn wrong_by_ms(&self) -> Option<i64> {
        let ahead = self.silences.iter().filter_map(|one| one.lost.ahead_ms);
        let mut ahead: Vec<i64> = ahead.collect();
        ahead.sort_unstable();
        let median = *ahead.get(ahead.len() / 2)?;
        (median.abs() >= WRONG_MS).then_some(median)
    }

    /// The node's last run that the observers knew of.
    pub(super) fn run(&self) -> Option<Ident> {
        self.silences.iter().rev().find_map(|one| one.lost.run)
    }

    /// What observers add to any verdict.
    pub(super) fn witness(&self, evidence: &mut Evidence) {
        evidence.lost_by = self
            .silences
            .iter()
            .map(|one| Seen {
                by: one.by,
                last_heard_ms: one.lost.last_heard_ms,
                again_ms: one.again_ms,
            })
            .collect();
        evidence.sees = self.silences.iter().map(|one| one.lost.sees).min();
        evidence.clock_ahead_ms = self.wrong_by_ms();
    }

    /// Outages for what is left of the silence beside what the node's own words explain.
    pub(super) fn left_by(&self, over: &[&Own], node: NodeId, words: &Words<'_>) -> Vec<Outage> {
        let ahead = self.wrong_by_ms().unwrap_or(0);
        let mut list = Vec::new();
        let mut from = self.start_ms;
        let mut loose = LOOSE_MS;
        let mut run = self.run();
        for one in over {
            let until = one.from_ms - ahead;
            if until - from >= loose {
                // The run that ended then had gone on until there, as its last record says.
                let proven = run.is_some_and(|run| one.proves_run(run));
                list.push(self.unreached(node, words, (from, Some(until)), run, proven));
            }
            let Some(to) = one.end_ms(Some(self)) else {
                return list;
            };
            from = from.max(to);
            loose = RETURN_MS;
            run = None;
        }
        if over.is_empty() || self.end_ms.is_none_or(|end| end - from >= loose) {
            list.push(self.unreached(node, words, (from, self.end_ms), run, false));
        }
        list
    }

    /// A stretch of silence in which the node ran, as far as is known.
    fn unreached(
        &self,
        node: NodeId,
        words: &Words<'_>,
        (start_ms, end_ms): (i64, Option<i64>),
        run: Option<Ident>,
        is_proven: bool,
    ) -> Outage {
        let mut evidence = Evidence::default();
        self.witness(&mut evidence);
        let ahead = self.wrong_by_ms().unwrap_or(0);
        evidence.alone = alone(words, start_ms + ahead, end_ms.map(|end| end + ahead));
        let goodbye = end_ms.is_none() && self.said_goodbye();
        let (verdict, provisional) = match end_ms {
            _ if is_proven => (Verdict::Partition, false),
            Some(end) if ran_on(words, start_ms + ahead, end + ahead, run) => {
                (Verdict::Partition, false)
            }
            None if goodbye => {
                evidence.goodbye_ms = Some(self.start_ms);
                (Verdict::AgentStopped, true)
            }
            None if let Some(power) = failing(words, start_ms + ahead) => {
                evidence.power = Some(power);
                (Verdict::PowerLoss, true)
            }
            _ => (Verdict::Unknown, true),
        };
        if verdict == Verdict::Partition {
            evidence.runs = run.map(|run| (run, run));
        }
        Outage {
            node,
            start_ms,
            uncertain_ms: 0,
            end_ms,
            verdict,
            provisional,
            evidence,
        }
    }
}

/// What the node saw itself meanwhile.
fn alone(words: &Words<'_>, start_ms: i64, end_ms: Option<i64>) -> Option<Alone> {
    words
        .values()
        .rev()
        .find_map(|telling| match &telling.word {
            Some(Word::Sight(Sight::Alone {
                since_ms,
                sees,
                count,
                of,
                ..
            })) if *since_ms >= start_ms - LOOSE_MS
                && end_ms.is_none_or(|end| *since_ms <= end + LOOSE_MS) =>
            {
                Some(Alone {
                    sees: sees.clone(),
                    count: *count,
                    of: *of,
                })
            }
            _ => None,
        })
}

/// Whether the node's own words show that one run went on from before a silence until after it: it says something in that
/// run afterwards, and none of its words between is missing here.
fn ran_on(words: &Words<'_>, start_ms: i64, end_ms: i64, run: Option<Ident>) -> bool {
    let said_after = |telling: &&Telling| {
        telling.at_ms >= end_ms - LOOSE_MS
            && telling.word.as_ref().and_then(|word| word.run()).is_some()
    };
    let said_in = |one: &&Telling| one.word.as_ref().and_then(|word| word.run());
    let before = words.values().rev().find(|one| one.at_ms <= start_ms);
    let Some(first) = before.map(|one| one.seq) else {
        return false;
    };
    let mut later = words.range(first + 1..).map(|(_, one)| *one);
    let Some(after) = later.find(said_after) else {
        return false;
    };
    let whole = words.range(first..=after.seq).count() as u64 == after.seq - first + 1;
    let known = run.or_else(|| words.get(&first).and_then(said_in));
    let same = words
        .range(first + 1..=after.seq)
        .filter_map(|(_, one)| said_in(one))
        .all(|later| Some(later) == known);
    whole && same
}

/// Mains that had failed when the node was heard last.
fn failing(words: &Words<'_>, at_ms: i64) -> Option<Power> {
    let last = words
        .values()
        .rev()
        .find_map(|telling| match &telling.word {
            Some(Word::Power(power)) if telling.at_ms <= at_ms + LOOSE_MS => {
                Some((telling.at_ms, *power))
            }
            _ => None,
        });
    let (told_ms, power) = last?;
    (power.mains == Some(false) && told_ms >= at_ms - MAINS_BEFORE_MS).then_some(power)
}
