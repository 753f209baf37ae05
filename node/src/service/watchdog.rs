//! Whether the loops of this node are really alive: the service manager is told so only then.
//!
//! In: how often each loop has gone round, at each ping that is due. Out: the first that stood still since the
//! last one.
//! Invariant: a loop that is seen for the first time counts as alive; one that ended and is gone is not missed.
//! Absent: the pings and their time (`herald.rs`); slowness, which is no reason to be restarted.

use std::collections::BTreeMap;

/// What each loop had counted when it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    seen: BTreeMap<&'static str, u64>,
}

impl Watchdog {
    /// Takes in the counts. `None` = everything moves.
    pub(crate) fn handle_beats(
        &mut self,
        beats: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Option<&'static str> {
        let mut stuck = None;
        for (part, count) in beats {
            if self.seen.insert(part, count) == Some(count) {
                stuck = stuck.or(Some(part));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loop_that_stood_still_is_named() {
        let mut watchdog = Watchdog::default();
        let rounds = [
            (vec![], None),
            (vec![("mesh", 0)], None),
            (vec![("mesh", 1), ("sampler", 7)], None),
            (vec![("mesh", 2), ("sampler", 7)], Some("sampler")),
            (vec![("mesh", 2), ("sampler", 8)], Some("mesh")),
            (vec![("mesh", 3), ("sampler", 9)], None),
            (vec![("mesh", 3), ("sampler", 9)], Some("mesh")),
            (vec![("mesh", 4), ("sampler", 10)], None),
        ];
        for (number, (beats, expected)) in rounds.into_iter().enumerate() {
            assert_eq!(watchdog.handle_beats(beats), expected, "round {number}");
        }
    }
}
