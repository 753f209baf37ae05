//! Samples taken against samples held: the demo's last line.
//!
//! In: what each sampler took of its log, what each store holds of it up to the same row. Out: three figures.
//! Invariant: the digests of the rows are compared too; as many samples of other content are not the same.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::nodes::{Nodes, Taken};
use crate::control::Request;
use crate::failure::Failure;
use crate::text;

/// What was compared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Count {
    taken: u64,
    /// What the node holds that holds least.
    held: u64,
    /// Samples that some node lacks.
    missing: u64,
    /// Logs of which two nodes hold different content.
    differing: u64,
}

/// What one node holds of one log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Held {
    samples: u64,
    digest: String,
}

impl Count {
    /// Asks every node what it holds of every log up to the last row taken.
    pub(super) fn of(taken: &BTreeMap<String, Taken>, nodes: &Nodes) -> Result<Self, Failure> {
        let cuts: BTreeMap<String, u32> = taken
            .iter()
            .map(|(log, count)| (log.clone(), u32::try_from(count.rows).unwrap_or(u32::MAX)))
            .collect();
        let mut stores = Vec::new();
        for node in nodes.iter() {
            let answer: Value = node.call(&Request::Tally { cuts: cuts.clone() })?;
            let held: BTreeMap<String, Held> = serde_json::from_value(answer).map_err(|error| {
                Failure::new(format!(
                    "node {} did not say what it holds: {error}",
                    node.name
                ))
            })?;
            stores.push(held);
        }
        let samples = taken
            .iter()
            .map(|(log, count)| (log.clone(), count.samples))
            .collect();
        Ok(Self::compare(&samples, &stores))
    }

    fn compare(taken: &BTreeMap<String, u64>, stores: &[BTreeMap<String, Held>]) -> Self {
        let held_of = |store: &BTreeMap<String, Held>, log: &String| {
            store.get(log).map_or(0, |held| held.samples)
        };
        let held_by = |store| taken.keys().map(|log| held_of(store, log)).sum::<u64>();
        let missing = |(log, count): (&String, &u64)| {
            stores
                .iter()
                .map(|store| count.saturating_sub(held_of(store, log)))
                .max()
                .unwrap_or(0)
        };
        let differs = |log: &&String| {
            let mut digests = stores
                .iter()
                .map(|store| store.get(*log).map(|held| &held.digest));
            let first = digests.next();
            digests.any(|digest| Some(digest) != first)
        };
        Self {
            taken: taken.values().sum(),
            held: stores.iter().map(held_by).min().unwrap_or(0),
            missing: taken.iter().map(missing).sum(),
            differing: taken.keys().filter(differs).count() as u64,
        }
    }

    /// Whether every node holds everything, and the same.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0 && self.differing == 0 && self.held == self.taken
    }

    /// The line by which the demo ends.
    pub(super) fn line(&self) -> String {
        format!(
            "{} samples taken, {} held on every node, {} missing",
            text::count(self.taken),
            text::count(self.held),
            text::count(self.missing)
        )
    }

    /// Success only if nothing is missing and nothing differs.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.is_complete() {
            return Ok(());
        }
        let reason = if self.missing > 0 {
            format!(
                "{} samples are missing on at least one node",
                text::count(self.missing)
            )
        } else {
            format!(
                "{} logs are not the same on every node",
                self.differing.max(1)
            )
        };
        Err(Failure::new(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(logs: &[(&str, u64, &str)]) -> BTreeMap<String, Held> {
        logs.iter()
            .map(|(log, samples, digest)| {
                (
                    (*log).to_owned(),
                    Held {
                        samples: *samples,
                        digest: (*digest).to_owned(),
                    },
                )
            })
            .collect()
    }

    #[test]
    fn equal_stores_that_hold_all_that_was_taken_miss_nothing() {
        let taken = BTreeMap::from([("x".to_owned(), 1_000), ("y".to_owned(), 234)]);
        let full = store(&[("x", 1_000, "1"), ("y", 234, "2")]);
        let count = Count::compare(&taken, &[full.clone(), full]);
        assert_eq!(
            count.line(),
            "1,234 samples taken, 1,234 held on every node, 0 missing"
        );
        assert_eq!(count.verdict(), Ok(()));
    }

    #[test]
    fn what_one_node_lacks_is_missing() {
        let taken = BTreeMap::from([("x".to_owned(), 1_000), ("y".to_owned(), 234)]);
        let full = store(&[("x", 1_000, "1"), ("y", 234, "2")]);
        let short = store(&[("x", 990, "3")]);
        let count = Count::compare(&taken, &[full, short]);
        assert_eq!(
            count.line(),
            "1,234 samples taken, 990 held on every node, 244 missing"
        );
        let failure = count.verdict().unwrap_err();
        assert_eq!(
            failure.message,
            "244 samples are missing on at least one node"
        );
    }

    #[test]
    fn as_many_samples_of_other_content_are_not_the_same() {
        let taken = BTreeMap::from([("x".to_owned(), 10)]);
        let count = Count::compare(
            &taken,
            &[store(&[("x", 10, "1")]), store(&[("x", 10, "2")])],
        );
        assert!(!count.is_complete());
        assert_eq!(
            count.verdict().unwrap_err().message,
            "1 logs are not the same on every node"
        );
    }
}
