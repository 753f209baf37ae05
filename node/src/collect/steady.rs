//! Which of many names that come and go get series of their own.
//!
//! Programs, containers and listening sockets appear by the hundred and are gone a second later; each new series is a
//! change of the schema, of which peers take 64 an hour. So a name gets series once it was seen in `LOOKS` looks on end (the
//! first look of a run counts as enough), in batches at most every `EVERY`, up to a limit; then it keeps them for the run.
//! At the limit new names have none, and are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Looks on end in which a name must be seen.
const LOOKS: u32 = 3;

/// Between two batches: six changes an hour for each source that has names.
const EVERY: Duration = Duration::from_mins(10);

/// Who has series, and who is on the way to.
#[derive(Debug)]
pub(super) struct Steady {
    limit: usize,
    known: BTreeSet<String>,
    seen: BTreeMap<String, u32>,
    last: Option<Instant>,
}

impl Steady {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            known: BTreeSet::new(),
            seen: BTreeMap::new(),
            last: None,
        }
    }

    /// Takes in one look: the names that deserve series at this moment, the most deserving first.
    pub(super) fn look<'a>(&mut self, names: impl Iterator<Item = &'a str>, now: Instant) {
        let first = self.last.is_none();
        let mut before = std::mem::take(&mut self.seen);
        let mut ready = Vec::new();
        // No more than could ever be let in are followed.
        for name in names.take(self.limit) {
            if self.known.contains(name) || self.seen.contains_key(name) {
                continue;
            }
            let looks = before.remove(name).unwrap_or(0).saturating_add(1);
            self.seen.insert(name.to_owned(), looks);
            if first || looks >= LOOKS {
                ready.push(name);
            }
        }
        let due = self.last.is_none_or(|last| now >= last + EVERY);
        if !due || ready.is_empty() {
            return;
        }
        for name in ready {
            if self.known.len() < self.limit {
                self.seen.remove(name);
                self.known.insert(name.to_owned());
                self.last = Some(now);
            }
        }
    }

    /// Whether a name has series.
    pub(super) fn has(&self, name: &str) -> bool {
        self.known.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_there_at_the_start_is_let_in_and_later_ones_when_they_stay() {
        let start = Instant::now();
        let mut steady = Steady::new(10);
        steady.look(["a", "b"].into_iter(), start);
        assert!(steady.has("a") && steady.has("b"));
        let later = start + EVERY;
        for look in 0..3 {
            assert!(!steady.has("c"), "after {look} looks");
            steady.look(["c", "a"].into_iter(), later + Duration::from_secs(look));
        }
        assert!(steady.has("c"));
    }

    #[test]
    fn a_name_that_was_away_begins_anew() {
        let start = Instant::now();
        let mut steady = Steady::new(10);
        steady.look(["a"].into_iter(), start);
        for names in [&["b"][..], &["b"], &[], &["b"], &["b"]] {
            steady.look(names.iter().copied(), start + EVERY);
            assert!(!steady.has("b"));
        }
        steady.look(["b"].into_iter(), start + EVERY);
        assert!(steady.has("b"));
    }

    #[test]
    fn names_that_keep_coming_change_little_and_never_exceed_the_limit() {
        let start = Instant::now();
        let mut steady = Steady::new(64);
        let (mut changes, mut before) = (0, 0);
        for look in 0..3_600 {
            let names: Vec<String> = (0..3).map(|at| format!("n{}", look / 4 * 3 + at)).collect();
            let now = start + Duration::from_secs(look);
            steady.look(names.iter().map(String::as_str), now);
            changes += usize::from(steady.known.len() > before);
            before = steady.known.len();
        }
        assert!((5..=7).contains(&changes), "{changes} changes in an hour");
        for name in 0..1_000 {
            let name = name.to_string();
            let now = start + Duration::from_secs(3_600) + EVERY * 2;
            steady.look([name.as_str(); 1].into_iter(), now);
        }
        assert!(steady.known.len() <= 64 && steady.seen.len() <= 64);
    }
}
