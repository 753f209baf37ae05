//! What is said of time: which now to trust, and whose clock was set when.
//!
//! In: the last tick's word on this machine's clock, the rows that are held. Out: a now, values for `status`, sentences.
//! The changes are read from the rows, which carry their clocks: every keeper of a node's rows finds the same ones, and they
//! last as long as the rows. At most `MOST_SHOWN` are shown, the newest.
//! Absent: deciding what a row is stamped with (`clock`).

use outlast_mesh::NodeId;
use outlast_store::{ClockChange, ClockSource};
use serde_json::{Value, json};

use super::clock::Belief;
use super::{Flow, origin_of};
use crate::text::{self, visible};
use crate::when::trusted_now_ms;

/// Changes in one answer.
const MOST_SHOWN: usize = 64;
/// How long a step is a sentence in the status; after that it stands in the list alone.
const SAID_FOR_MS: i64 = 3_600_000;
/// Sentences about steps at a time.
const MOST_SAID: usize = 4;

impl Flow {
    /// The time to hold rows against, milliseconds since the Unix epoch: this machine's, or that of most clocks of the mesh
    /// where they are further apart than any network explains.
    #[must_use]
    pub fn trusted_now_ms(&self) -> i64 {
        trusted_now_ms()
    }

    /// Whose clock was set when, of these nodes, oldest first. Reads the disk where a clock was set.
    #[must_use]
    pub fn clock_changes(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<ClockChange> {
        let changes = nodes.flat_map(|node| self.store.clock_changes(&origin_of(node)));
        let mut changes: Vec<_> = changes.collect();
        changes.sort_unstable_by_key(|change| (change.at_ms(), change.log, change.seq));
        changes.split_off(changes.len().saturating_sub(MOST_SHOWN))
    }

    /// This machine's clock as `status` shows it.
    #[must_use]
    pub fn clock_state(&self) -> Value {
        let Some(trust) = self.shared.trust() else {
            return Value::Null;
        };
        let uncertainty = trust.clock.uncertainty_ms;
        json!({
            "source": source(trust.clock.source),
            "vouched": trust.belief == Belief::Vouched,
            "uncertainty_ms": (uncertainty != u32::MAX).then_some(uncertainty),
            "believed_peers": trust.believed_peers,
            "mesh_ahead_ms": trust.ahead_ms,
            "trusted_now_ms": self.trusted_now_ms(),
        })
    }
}

/// One change as `status` shows it.
pub(crate) fn shown(change: &ClockChange, name: &str) -> Value {
    json!({
        "node": name,
        "at_ms": change.at_ms(),
        "moved_ms": change.moved_ms(),
        "kind": if change.was_synced { "step" } else { "fix" },
        "source": source(change.clock.source),
        "log": change.log.to_string(),
        "seq": change.seq,
    })
}

/// What a person should read of the latest steps; `named` gives the name of each one's node. That a clock got its time
/// asks nothing of anybody, and stands in the list alone.
pub(crate) fn sentences(
    changes: &[ClockChange],
    now_ms: i64,
    named: impl Fn(&ClockChange) -> String,
) -> Vec<String> {
    let steps = changes.iter().rev().filter(|change| change.was_synced);
    let recent = steps.filter(|change| {
        // By the clock before or after: one of them is near the truth.
        let after = change.at_ms();
        let before = after.saturating_sub(change.moved_ms());
        [before, after]
            .iter()
            .any(|at| now_ms.abs_diff(*at) <= SAID_FOR_MS.unsigned_abs())
    });
    recent
        .take(MOST_SAID)
        .map(|change| sentence(change, &named(change)))
        .collect()
}

fn sentence(change: &ClockChange, name: &str) -> String {
    let by = text::duration(change.moved_ms().unsigned_abs());
    let way = if change.moved_ms() < 0 {
        "back"
    } else {
        "ahead"
    };
    let at = text::moment(change.at_ms());
    let name = visible(name);
    format!("the clock of {name} was set {way} by {by}; by its new time that was at {at}")
}

fn source(source: ClockSource) -> &'static str {
    match source {
        ClockSource::Unsynced => "unsynced",
        ClockSource::Ntp => "ntp",
        ClockSource::Peers => "peers",
    }
}

#[cfg(test)]
mod tests {
    use outlast_store::{Clock, Epoch, LogId, Origin, StoreId};

    use super::*;

    #[test]
    fn a_step_is_said_for_an_hour_by_either_clock_and_a_fix_is_only_listed() {
        let day = 86_400_000;
        let change = |moved_ms, was_synced| ClockChange {
            log: LogId {
                origin: Origin([1; 32]),
                store: StoreId(1),
                epoch: Epoch {
                    counter: 1,
                    nonce: 1,
                },
            },
            seq: 5,
            boot_ms: 5_000,
            clock: Clock {
                offset_ms: 1_767_300_000_000 + moved_ms,
                uncertainty_ms: 50,
                source: ClockSource::Ntp,
            },
            before_ms: 1_767_300_000_000,
            was_synced,
        };
        let said = |change, now_ms| sentences(&[change], now_ms, |_| "attic".to_owned());
        let (before, after) = (1_767_300_005_000, 1_767_300_005_000 + 30 * day);

        assert_eq!(
            said(change(30 * day, true), before + 60_000),
            [
                "the clock of attic was set ahead by 30 d; by its new time that was at 2026-01-31T20:40:05.000Z"
            ]
        );
        assert_eq!(said(change(30 * day, true), after + 60_000).len(), 1);
        assert_eq!(
            said(change(30 * day, true), before + 2 * SAID_FOR_MS),
            [""; 0]
        );
        assert_eq!(said(change(-30 * day, false), before), [""; 0]);
    }
}
