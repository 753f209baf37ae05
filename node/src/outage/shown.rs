//! The list of outages as `outages --json` gives it, from a running node or from a directory; and why a peer is silent.
//!
//! In: the ledger's events, the folded statements. Out: JSON of one outage each, the earliest first.
//! Absent: which of them are wanted; the command chooses.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use outlast_mesh::NodeId;
use outlast_mesh::trust::State;
use serde_json::{Map, Value, json};

use super::testimony::{Ident, Kills, Telling};
use super::verdict::{Evidence, Outage, Place, Places, outages};
use super::words;
use crate::failure::Failure;
use crate::ledger::Events;
use crate::nodes;
use crate::text::visible;

/// Who everybody is, and the outages of all.
pub(crate) struct Told {
    names: BTreeMap<NodeId, String>,
    outages: Vec<Outage>,
}

impl Told {
    /// Folds everything that is held.
    pub(crate) fn of(events: &Events, state: &State) -> Self {
        let mut names = state.names();
        for (id, gone) in &state.gone {
            names.entry(*id).or_insert_with(|| gone.member.name.clone());
        }
        Self {
            names,
            outages: outages(&Telling::all(events), &places(state)),
        }
    }

    /// Those of the nodes that a glob means, or of the one that a name or the beginning of an id names.
    pub(crate) fn list(&self, node: &str) -> Result<Vec<Value>, Failure> {
        let meant = nodes::meant(&self.names, node)?;
        let theirs = self.outages.iter().filter(|one| meant.contains(&one.node));
        Ok(theirs.map(|one| self.shown(one)).collect())
    }

    /// Why each node that is silent is so, in a few words.
    pub(crate) fn why(&self) -> BTreeMap<NodeId, String> {
        let open = self.outages.iter().filter(|one| one.end_ms.is_none());
        let named = |id| visible(&self.name(id)).into_owned();
        open.map(|one| (one.node, words::why(one, &named)))
            .collect()
    }

    fn name(&self, id: NodeId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| id.short())
    }

    fn shown(&self, outage: &Outage) -> Value {
        let named = |id| visible(&self.name(id)).into_owned();
        json!({
            "node": self.name(outage.node),
            "node_id": outage.node.to_string(),
            "start_ms": outage.start_ms,
            "start_uncertain_ms": outage.uncertain_ms,
            "end_ms": outage.end_ms,
            "verdict": outage.verdict.as_str(),
            "provisional": outage.provisional,
            "evidence": self.evidence(&outage.evidence),
            "words": words::sentence(outage, &named),
        })
    }

    /// What is known; what isn't is left out.
    fn evidence(&self, evidence: &Evidence) -> Value {
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                shown.insert(name.to_owned(), value);
            }
        };
        let pair = |pair: Option<(Ident, Ident)>| {
            pair.map(|(before, after)| json!([HEXLOWER.encode(&before), HEXLOWER.encode(&after)]))
        };
        put("boot_ids", json!(pair(evidence.boots)));
        put("run_ids", json!(pair(evidence.runs)));
        put("versions", json!(evidence.versions));
        put("last_record_ms", json!(evidence.record_ms));
        put("booted_ms", json!(evidence.booted_ms));
        put("goodbye_ms", json!(evidence.goodbye_ms));
        put("failure", json!(evidence.failure));
        if let Some((before, after)) = evidence.kills {
            let both = |of: fn(Kills) -> Option<u64>| json!([of(before), of(after)]);
            put(
                "oom_kills",
                json!({ "own": both(|one| one.own), "machine": both(|one| one.machine) }),
            );
        }
        if let Some(power) = evidence.power {
            put("mains", json!(power.mains));
            put("mains_off_ms", json!(power.mains_off_ms));
            put("battery_percent", json!(power.battery));
        }
        let lost_by = evidence.lost_by.iter().map(|seen| {
            json!({
                "node": self.name(seen.by),
                "last_heard_ms": seen.last_heard_ms,
                "again_ms": seen.again_ms,
            })
        });
        put("lost_by", lost_by.collect());
        put("sees", json!(evidence.sees));
        if let Some(alone) = &evidence.alone {
            let sees: Vec<String> = alone.sees.iter().map(|id| self.name(*id)).collect();
            put(
                "alone",
                json!({ "sees": sees, "count": alone.count, "of": alone.of }),
            );
        }
        if let Some((for_ms, machine)) = evidence.stood {
            put("stood_ms", json!(for_ms));
            put("whole_machine", json!(machine));
        }
        put("stepped_ms", json!(evidence.stepped_ms));
        put("clock_ahead_ms", json!(evidence.clock_ahead_ms));
        if let Some((site, members)) = &evidence.site {
            let members: Vec<String> = members.iter().map(|id| self.name(*id)).collect();
            put("site", json!(site));
            put("site_members", json!(members));
        }
        if evidence.left_mesh {
            put("left_mesh", json!(true));
        }
        Value::Object(shown)
    }
}

/// Where everybody stands or stood.
fn places(state: &State) -> Places {
    let site = |id: &NodeId| state.settings.site(id).map(str::to_owned);
    let gone = state.gone.iter().map(|(id, gone)| {
        let place = Place {
            site: site(id),
            gone_ms: i64::try_from(gone.at_ms).ok(),
        };
        (*id, place)
    });
    let members = state.members.keys().map(|id| {
        let place = Place {
            site: site(id),
            gone_ms: None,
        };
        (*id, place)
    });
    gone.chain(members).collect()
}
