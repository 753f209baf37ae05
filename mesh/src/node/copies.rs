//! One node that runs twice: a state directory was copied, such as the card of yesterday in a
//! second machine.
//!
//! Each start has a number of its own, which its greeting names; a start that greets again after
//! another one did is no restart. Whoever sees that says so in a notice and tells it to the one
//! that greets, so that each of the two hears of the other. It is harmless to everybody else: the
//! two take turns at their peers, as often as `quota` lets somebody connect.
//! Bounds: `MOST_RUNS` earlier starts remembered of a peer; notices stay for `SHOWN` after the last time.
//! Absent: two statements at one place of a log, which `trust` freezes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Node;
use crate::id::NodeId;
use crate::reckoning::Offence;
use crate::time::Now;
use crate::wire::message::{self, Copied, kind};

const MOST_RUNS: usize = 4;
const SHOWN: Duration = Duration::from_secs(600);

/// The starts of a peer.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Earlier ones and where they were, the latest last.
    earlier: VecDeque<(u64, Option<SocketAddr>)>,
    present: Option<(u64, Option<SocketAddr>)>,
    /// Where an earlier one was that greeted again after another, and when that was last noticed.
    twice: Option<(Option<SocketAddr>, Instant)>,
}

impl Runs {
    /// Takes the start a greeting names, and where it came from. Where the one before is, if this
    /// one was here before that.
    fn greets(
        &mut self,
        run: u64,
        at: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Option<SocketAddr>> {
        match &mut self.present {
            Some((present, place)) if *present == run => {
                *place = at.or(*place);
                return None;
            }
            present => {
                let before = present.replace((run, at));
                self.earlier.extend(before);
            }
        }
        let returns = self.earlier.iter().any(|(earlier, _)| *earlier == run);
        self.earlier.retain(|(earlier, _)| *earlier != run);
        while self.earlier.len() > MOST_RUNS {
            self.earlier.pop_front();
        }
        let other = self.earlier.back().and_then(|(_, place)| *place);
        returns.then(|| {
            self.twice = Some((other, now));
            other
        })
    }
}

impl Node {
    /// A peer greets: looks whether it is in two places.
    pub(super) fn watch_for_copies(&mut self, id: NodeId, run: u64, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let at = peer.route.address();
        let Some(other) = peer.runs.greets(run, at, now.mono) else {
            return;
        };
        tracing::warn!(peer = %id.short(), here = ?at, there = ?other, "runs in two places");
        self.blame(id, Offence::TwoPlaces, now);
        let body = message::encode(&Copied { elsewhere: other });
        self.say(id, kind::COPIED, &body, now);
    }

    /// A peer says that this node runs elsewhere too.
    pub(super) fn told_of_copy(&mut self, by: NodeId, copied: Copied, now: Now) {
        self.copied = Some((by, copied.elsewhere, now.mono));
    }

    /// Which members run in two places, this one first.
    pub(super) fn copy_notices(&self, now: Now) -> Vec<String> {
        let recent = |at: Instant| now.mono < at + SHOWN;
        let own = self.copied.filter(|(.., at)| recent(*at));
        let own = own.map(|(by, elsewhere, _)| {
            format!(
                "this node runs in two places, here and {}, says {}: its state directory was \
                 copied; stop one of the two and give it a directory and a token of its own",
                place(elsewhere),
                self.name_of(by)
            )
        });
        let others = self.peers.values().filter_map(|peer| {
            let (elsewhere, _) = peer.runs.twice.filter(|(_, at)| recent(*at))?;
            let name = self.name_of(peer.id);
            let here = peer.runs.present.and_then(|(_, at)| at);
            Some(format!(
                "{name} runs in two places, {} and {}: its state directory was copied; stop one of \
                 the two, or `outlast evict {name}` if neither is known to you",
                place(here),
                place(elsewhere)
            ))
        });
        own.into_iter().chain(others).collect()
    }
}

fn place(at: Option<SocketAddr>) -> String {
    at.map_or_else(|| "somewhere".to_owned(), |at| format!("at {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_comes_back_after_another_is_noticed_and_restarts_are_not() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let now = Instant::now();
        let at = |port| Some(SocketAddr::from(([192, 0, 2, 1], port)));
        let mut runs = Runs::default();
        for run in 0..10 {
            assert_eq!(runs.greets(run, at(1), now), None, "a restart");
            assert_eq!(runs.greets(run, at(1), now), None, "a new session");
        }
        assert_eq!(runs.earlier.len(), MOST_RUNS);

        assert_eq!(runs.greets(77, at(2), now), None);
        assert_eq!(runs.greets(9, at(1), now), Some(at(2)));
        assert_eq!(runs.greets(77, at(3), now), Some(at(1)));
        assert_eq!(runs.greets(78, None, now), None);
    }
}
