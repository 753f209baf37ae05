//! What a node sends stays bounded: at any size of the mesh, in time, and once everybody has everything.
//!
//! Looked at in calm stretches of a run: before the first fault, and long after the last.

use crate::case::{Case, Flaw, Kind};
use crate::run::{run, say};
use crate::site::Site;
use crate::world::World;

/// The first seconds are meetings, not a mesh at rest.
const SETTLED_SECS: usize = 180;
/// A shorter stretch says little.
const LEAST_SECS: usize = 100;
/// What a node sends a second in a calm mesh of any size, with rows of three series.
const MOST: f64 = 7_000.0;
/// The second half of a calm stretch against the first.
const MORE_IN_TIME: f64 = 1.15;
/// A mesh of four times as many against a smaller one, both above those where everybody knows everybody.
const MORE_BY_SIZE: f64 = 1.15;
/// What a node sends over streams once everybody has everything that is to be had.
const ASKING: f64 = 300.0;
/// So long after the last fault that is looked at, and over so long.
const AFTER_SECS: usize = 600;
const ASKING_SECS: usize = 300;
/// A datagram of a few words, on the line.
const WORD_BYTES: u64 = 208;

impl Site {
    /// The flaws of this check.
    pub(crate) fn talk_too_much(&mut self, m: u32) {
        let seconds = self.now.0 / 1_000_000;
        let members = self.machines[m as usize].roster.len() as u64;
        let (bytes, what) = match self.case.flaw {
            Some(Flaw::Chatty) => (members * WORD_BYTES, "others"),
            Some(Flaw::EverMore) => (seconds * 10, "others"),
            Some(Flaw::Nags) => (2 * ASKING as u64, "streams"),
            _ => return,
        };
        self.network.count(bytes, what);
    }
}

impl World {
    pub(crate) fn look_at_traffic(&mut self) {
        let faults = self.case.story.0.iter();
        let end = self.watch.bytes.len();
        let first = faults.map(|fault| (fault.at.0 / 1_000_000) as usize).min();
        let to = first.map_or(end, |first| first.min(end)).saturating_sub(1);
        if to >= SETTLED_SECS + LEAST_SECS && self.case.kind != Kind::Cramped {
            let middle = usize::midpoint(SETTLED_SECS, to);
            let [early, late] = [self.sent(SETTLED_SECS, middle), self.sent(middle, to)];
            if early.max(late) > MOST || late > early * MORE_IN_TIME {
                let detail = format!("{early:.0} B/s a node, then {late:.0}");
                return self.breaks("what a node sends stays flat", detail);
            }
        }
        let quiet = (self.case.quiet_from().0 / 1_000_000) as usize;
        if end > quiet + AFTER_SECS + ASKING_SECS {
            let asked = self.sent_over_streams(end - ASKING_SECS - 1, end - 1);
            if asked > ASKING {
                let detail =
                    format!("{asked:.0} B/s a node over streams, long after the last fault");
                self.breaks("nobody asks for ever", detail);
            }
        }
    }

    /// Bytes a second and node between two seconds of the run.
    fn sent(&self, from: usize, to: usize) -> f64 {
        let all = |at: usize| self.watch.bytes[at].values().sum::<u64>();
        self.rate(all(to) - all(from), to - from)
    }

    fn sent_over_streams(&self, from: usize, to: usize) -> f64 {
        let streams = |at: usize| self.watch.bytes[at].get("streams").copied().unwrap_or(0);
        self.rate(streams(to) - streams(from), to - from)
    }

    fn rate(&self, bytes: u64, seconds: usize) -> f64 {
        let up = self.machines().filter(|(_, machine)| machine.up.is_some());
        bytes as f64 / seconds as f64 / up.count().max(1) as f64
    }
}

/// Whether a node of a mesh four times as large sends no more.
pub(crate) fn is_flat() -> bool {
    let calm = |nodes| {
        let case = Case::new(Kind::Calm, 1, nodes, 7);
        run(&case).map(|figures| figures.calm_bytes.unwrap_or(figures.bytes))
    };
    match [70, 280].map(calm) {
        [Ok(few), Ok(many)] => {
            say(format!("flat  {few:.0} B/s a node of 70, {many:.0} of 280"));
            many < few * MORE_BY_SIZE
        }
        other => {
            say(format!("BROKE while it was calm: {other:?}"));
            false
        }
    }
}
