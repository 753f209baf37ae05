//! What a node says of itself: how each of its runs ended, and when it stood still.
//!
//! In: its LIFE events by their numbers, so its own order and not its clock's. Out: intervals with a verdict.
//! A record that said `running` and a boot that changed is a loss of power; the same boot and another run a crash; a run that
//! said that it ends was stopped, shut down or replaced.

use std::collections::BTreeMap;

use outlast_mesh::NodeId;

use super::silence::Cluster;
use super::{Evidence, LOOSE_MS, Outage, Verdict, Words};
use crate::outage::testimony::{Began, Ident, Kills, Last, Life, Reason, State, Telling, Word};

/// How much later than its last record a run may have ended, milliseconds.
const RECORD_MS: u64 = 10_000;

/// An interval a node tells of itself.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// By the node's clock.
    pub(super) from_ms: i64,
    to_ms: Option<i64>,
    /// Whether the clock was right when the interval ended.
    certain: bool,
    verdict: Verdict,
    provisional: bool,
    /// The run that ended, if it is known to have gone on until then without standing still unheard.
    run: Option<Ident>,
    /// Whether it ended without a word, so that the last to hear it knows better when.
    abrupt: bool,
    evidence: Evidence,
}

/// Every interval, in the node's order.
pub(super) fn intervals(words: &Words<'_>) -> Vec<Own> {
    let mut list = Vec::new();
    let mut ended: Option<(&Telling, Ident, &Reason)> = None;
    let mut began: Option<(&Telling, &Began)> = None;
    let mut latest: Option<&Telling> = None;
    let mut stood: BTreeMap<Ident, u32> = BTreeMap::new();
    for telling in words.values() {
        match &telling.word {
            Some(Word::Life(Life::Began(now))) => {
                let said = ended.take();
                list.extend(match &now.before {
                    Some(last) => {
                        let said = said.filter(|(_, run, _)| *run == last.run);
                        let mut own = Own::between(last, now, telling, said.map(|said| said.0));
                        let told = stood.get(&last.run).copied().unwrap_or(0);
                        own.run = own.run.filter(|_| told == last.stood);
                        Some(own)
                    }
                    None => latest.map(|latest| Own::unread(latest, began, said, telling, now)),
                });
                began = Some((telling, now));
            }
            Some(Word::Life(Life::Ends { run, reason })) => ended = Some((telling, *run, reason)),
            Some(Word::Life(Life::Slept {
                run,
                from_ms,
                for_ms,
                machine,
            })) => {
                *stood.entry(*run).or_default() += 1;
                list.push(Own::slept(telling, *run, *from_ms, *for_ms, *machine));
            }
            _ => {}
        }
        latest = Some(telling);
    }
    list.extend(ended.map(|(telling, run, reason)| Own::open(telling, run, reason)));
    list
}

impl Own {
    /// Between two runs.
    fn between(last: &Last, now: &Began, telling: &Telling, said: Option<&Telling>) -> Self {
        let (verdict, failure) = judged(last, now);
        let ended = !matches!(last.state, State::Running);
        let mut evidence = compared(last, now);
        evidence.failure = failure;
        evidence.goodbye_ms = said.map(|said| said.at_ms).filter(|_| ended);
        if last.boot != now.boot {
            let since = i64::try_from(now.boot_ms).unwrap_or(i64::MAX);
            evidence.booted_ms = Some(telling.at_ms.saturating_sub(since));
        }
        Self {
            from_ms: last.wall_ms,
            to_ms: Some(telling.at_ms),
            certain: telling.certain,
            verdict,
            provisional: false,
            run: Some(last.run),
            abrupt: !ended,
            evidence,
        }
    }

    /// A run that began without the record of the one before, which was there: its events are.
    fn unread(
        latest: &Telling,
        began: Option<(&Telling, &Began)>,
        said: Option<(&Telling, Ident, &Reason)>,
        telling: &Telling,
        now: &Began,
    ) -> Self {
        let same_boot = began.map(|(_, before)| before.boot == now.boot);
        let verdict = match (said, same_boot) {
            (Some(_), Some(true)) => Verdict::AgentStopped,
            (Some(_), Some(false)) => Verdict::Shutdown,
            _ => Verdict::Unknown,
        };
        let mut evidence = Evidence {
            goodbye_ms: said.map(|(said, ..)| said.at_ms),
            ..Evidence::default()
        };
        if let Some((_, before)) = began {
            evidence.boots = Some((before.boot, now.boot));
            evidence.runs = Some((before.run, now.run));
            evidence.versions = Some((before.version.clone(), now.version.clone()));
        }
        Self {
            from_ms: latest.at_ms,
            to_ms: Some(telling.at_ms),
            certain: telling.certain,
            verdict,
            provisional: false,
            run: began.map(|(_, before)| before.run),
            abrupt: said.is_none(),
            evidence,
        }
    }

    fn slept(telling: &Telling, run: Ident, from_ms: i64, for_ms: u64, machine: bool) -> Self {
        let length = i64::try_from(for_ms).unwrap_or(i64::MAX);
        Self {
            from_ms,
            to_ms: Some(from_ms.saturating_add(length)),
            certain: telling.certain,
            verdict: Verdict::Suspend,
            provisional: false,
            run: Some(run),
            abrupt: false,
            evidence: Evidence {
                stood: Some((for_ms, machine)),
                runs: Some((run, run)),
                ..Evidence::default()
            },
        }
    }

    /// It said that it ends, and has not been back.
    fn open(telling: &Telling, run: Ident, reason: &Reason) -> Self {
        let (verdict, failure) = match reason {
            Reason::Failed(why) => (Verdict::AgentCrashed, Some(why.clone())),
            Reason::Told | Reason::Departs => (Verdict::AgentStopped, None),
        };
        Self {
            from_ms: telling.at_ms,
            to_ms: None,
            certain: telling.certain,
            verdict,
            provisional: true,
            run: Some(run),
            abrupt: false,
            evidence: Evidence {
                goodbye_ms: Some(telling.at_ms),
                failure,
                left_mesh: *reason == Reason::Departs,
                ..Evidence::default()
            },
        }
    }

    /// Whether it says that this run went on until the interval began.
    pub(super) fn proves_run(&self, run: Ident) -> bool {
        self.run == Some(run)
    }

    /// Whether a silence and this are of the same event.
    pub(super) fn overlaps(&self, cluster: &Cluster) -> bool {
        let ahead = cluster.wrong_by_ms().unwrap_or(0);
        let from = self.from_ms - ahead;
        let to = match self.to_ms {
            Some(to) if self.certain => Some((to - ahead).max(from)),
            // Who knows when that was: it is the silence in which the last record falls.
            Some(_) => Some(from),
            None => None,
        };
        from - LOOSE_MS <= cluster.end_ms.unwrap_or(i64::MAX)
            && to.is_none_or(|to| cluster.start_ms <= to + LOOSE_MS)
    }

    /// When it was over, by the clock the outage is told in.
    pub(super) fn end_ms(&self, cluster: Option<&Cluster>) -> Option<i64> {
        let ahead = cluster.and_then(Cluster::wrong_by_ms).unwrap_or(0);
        let to = self.to_ms? - ahead;
        let seen = cluster.and_then(|cluster| cluster.end_ms);
        if !self.certain || to < self.from_ms - ahead {
            return Some(seen.unwrap_or_else(|| to.max(self.from_ms - ahead)));
        }
        Some(to)
    }

    pub(super) fn outage(&self, node: NodeId, cluster: Option<&Cluster>) -> Outage {
        let ahead = cluster.and_then(Cluster::wrong_by_ms).unwrap_or(0);
        let mut start_ms = self.from_ms - ahead;
        let mut uncertain_ms = if self.abrupt { RECORD_MS } else { 0 };
        let mut evidence = self.evidence.clone();
        let mut end_ms = self.end_ms(cluster);
        if let Some(cluster) = cluster {
            cluster.witness(&mut evidence);
            let heard_after = cluster.start_ms - start_ms;
            if self.abrupt && (0..=LOOSE_MS).contains(&heard_after) {
                start_ms = cluster.start_ms;
                uncertain_ms = 1_000;
            }
            // It was heard after it said that it ends, and its word of the return is still on the way.
            if end_ms.is_none() {
                end_ms = cluster.end_ms;
            }
        }
        let end_ms = end_ms.map(|end| end.max(start_ms));
        Outage {
            node,
            start_ms,
            uncertain_ms: end_ms
                .map_or(uncertain_ms, |end| uncertain_ms.min(end.abs_diff(start_ms))),
            end_ms,
            verdict: self.verdict,
            provisional: self.provisional,
            evidence,
        }
    }
}

/// What ended a run, by what it left and how the next began; and why, where it said so.
fn judged(last: &Last, now: &Began) -> (Verdict, Option<String>) {
    let known = last.boot != Ident::default() && now.boot != Ident::default();
    let same_boot = last.boot == now.boot;
    match &last.state {
        _ if !known => (Verdict::Unknown, None),
        State::Exiting(Reason::Failed(why)) | State::Exited(Reason::Failed(why)) if same_boot => {
            (Verdict::AgentCrashed, Some(why.clone()))
        }
        State::Exiting(_) | State::Exited(_) if !same_boot => (Verdict::Shutdown, None),
        State::Exiting(_) | State::Exited(_) if last.version != now.version => {
            (Verdict::Upgraded, None)
        }
        State::Exiting(_) | State::Exited(_) => (Verdict::AgentStopped, None),
        State::Running if same_boot => (Verdict::AgentCrashed, None),
        State::Running => (Verdict::PowerLoss, None),
    }
}

fn compared(last: &Last, now: &Began) -> Evidence {
    let risen = |of: fn(&Kills) -> Option<u64>| matches!((of(&last.kills), of(&now.kills)), (Some(before), Some(after)) if after > before);
    let same_boot = last.boot == now.boot;
    let killed = same_boot && (risen(|kills| kills.own) || risen(|kills| kills.machine));
    Evidence {
        boots: Some((last.boot, now.boot)),
        runs: Some((last.run, now.run)),
        versions: Some((last.version.clone(), now.version.clone())),
        record_ms: Some(last.wall_ms),
        kills: killed.then_some((last.kills, now.kills)),
        power: Some(last.power).filter(|power| *power != Default::default()),
        ..Evidence::default()
    }
}
