//! The shortest story that still breaks the same invariant.
//!
//! Faults are left out by halves, then quarters, then one by one; then machines, then minutes. Each try is a whole run, so
//! there is a bound on the time all of them take together.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::check::{Broken, CONVERGED_WITHIN};
use crate::fault::{Fault, Story};
use crate::run::run;

/// A shorter case that breaks the same, found within `patience`, and how it breaks.
pub(crate) fn shrink(case: &Case, broken: &Broken, patience: Duration) -> (Case, Broken) {
    let mut found = Shrinking {
        case: case.clone(),
        broken: broken.clone(),
        until: Instant::now() + patience,
    };
    // What begins after it broke had no part in it.
    let early = |fault: &&Fault| fault.at <= broken.at;
    let early = case.story.0.iter().filter(early).cloned().collect();
    found.offer(fitted(case.clone().told(Story(early))));
    found.leave_out_faults();
    found.leave_out_machines();
    found.leave_out_faults();
    (found.case, found.broken)
}

struct Shrinking {
    case: Case,
    broken: Broken,
    until: Instant,
}

impl Shrinking {
    /// Takes a case over if it breaks the same.
    fn offer(&mut self, case: Case) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        match run(&case) {
            Err(broken) if broken.what == self.broken.what => {
                self.case = case;
                self.broken = broken;
                true
            }
            _ => false,
        }
    }

    fn leave_out_faults(&mut self) {
        let mut size = self.case.story.0.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.case.story.0.len() {
                let mut faults = self.case.story.0.clone();
                faults.drain(at..(at + size).min(faults.len()));
                if !self.offer(fitted(self.case.clone().told(Story(faults)))) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn leave_out_machines(&mut self) {
        let mut step = self.case.nodes / 2;
        while step > 0 {
            let nodes = self.case.nodes.saturating_sub(step).max(2);
            let mut case = self.case.clone();
            case.nodes = nodes;
            case.story.0.retain_mut(|fault| {
                let within = fault.what.within(nodes);
                within.map(|what| fault.what = what).is_some()
            });
            if nodes == self.case.nodes || !self.offer(fitted(case)) {
                step /= 2;
            }
        }
    }
}

/// No longer than it takes until everything should be well.
fn fitted(mut case: Case) -> Case {
    let needed = case.quiet_from() + CONVERGED_WITHIN + Duration::from_secs(90);
    case.minutes = case.minutes.min(needed.0.div_ceil(60_000_000) as u32);
    case
}
