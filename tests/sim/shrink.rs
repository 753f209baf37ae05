//! The shortest story that still breaks the same invariant.
//!
//! First only the last faults are told, as if the others had never been, as few as will do; then faults are left out by
//! halves, then quarters, then one by one; then machines; and the time before the first fault. Each try is a whole run, so there is
//! a bound on the time all of them take together: the last one is cut off by it.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::check::{Broken, CONVERGED_WITHIN};
use crate::fault::{Fault, Story};
use crate::run::run;
use crate::time::Moment;

/// When everybody has met.
const BEGIN: Moment = Moment::secs(30);

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
    found.tell_the_last();
    found.leave_out_faults();
    found.leave_out_machines();
    found.leave_out_faults();
    let sooner = sooner(&found.case.story.0);
    found.offer(fitted(found.case.clone().told(sooner)));
    found.case.until = None;
    (found.case, found.broken)
}

struct Shrinking {
    case: Case,
    broken: Broken,
    until: Instant,
}

impl Shrinking {
    /// Takes a case over if it breaks the same.
    fn offer(&mut self, mut case: Case) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        case.until = Some(self.until);
        match run(&case) {
            Err(broken) if broken.what == self.broken.what => {
                self.case = case;
                self.broken = broken;
                true
            }
            _ => false,
        }
    }

    /// As few of the last faults as will do, by doubling.
    fn tell_the_last(&mut self) {
        let all = self.case.story.0.clone();
        let mut count = 1;
        while count < all.len() {
            let last = sooner(&all[all.len() - count..]);
            if self.offer(fitted(self.case.clone().told(last))) {
                return;
            }
            count *= 2;
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

/// The same faults, the first of them soon after the start.
fn sooner(faults: &[Fault]) -> Story {
    let first = faults.iter().map(|fault| fault.at).min();
    let by = first.unwrap_or_default().since(BEGIN);
    let mut faults = faults.to_vec();
    for fault in &mut faults {
        fault.at = Moment(fault.at.0 - by.as_micros() as u64);
    }
    Story(faults)
}

/// No longer than it takes until everything should be well.
fn fitted(mut case: Case) -> Case {
    let needed = case.quiet_from() + CONVERGED_WITHIN + Duration::from_secs(90);
    case.minutes = case.minutes.min(needed.0.div_ceil(60_000_000) as u32);
    case
}
