//! Nobody who lives and is within reach is believed down for longer than it takes to meet again, and who is dead is
//! believed down soon.
//!
//! In: whom a machine believes to be down (`lives`). Truth: the world's own processes and walls. What counts is the time
//! he was believed down since both ran, no wall stood between them and loss was mild; of the dead, the time since, while
//! no wall stands and nothing is lost. A copy of either makes it uncertain who is meant.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::site::Site;
use crate::time::Moment;
use crate::world::World;

/// A redial at its slowest (66 s), once in vain, and what was said of him in the meantime refuted.
const WRONGLY_DOWN: Duration = Duration::from_secs(150);
/// Several times what the largest mesh needs, and a machine that has just started hears of the dead within half a minute.
const UNNOTICED: Duration = Duration::from_secs(60);
/// Whether the dead are noticed is looked at so often.
const DEAD_SECS: u64 = 5;

impl Site {
    pub(crate) fn look_at_beliefs(&mut self, m: u32, down: &BTreeSet<u32>) {
        let now = self.now;
        let mut believed = std::mem::take(&mut self.machines[m as usize].down_since);
        believed.retain(|who, _| down.contains(who));
        for who in down {
            let since = *believed.entry(*who).or_insert(now);
            let Some(reached) = self.within_reach_since(m, *who) else {
                continue;
            };
            let wrongly = now.since(since.max(reached));
            self.watch.wrongly_down = self.watch.wrongly_down.max(wrongly);
            if wrongly > WRONGLY_DOWN {
                let secs = wrongly.as_secs();
                let detail = format!("machine {m} believes {who} to be, wrongly for {secs} s");
                self.breaks("who lives isn't believed down", detail);
            }
        }
        self.machines[m as usize].down_since = believed;
    }

    /// `None`: one of them is not there, or not to be reached from the other.
    fn within_reach_since(&self, m: u32, who: u32) -> Option<Moment> {
        let home = self.register.homes[who as usize];
        let both = [self.runs_since(m)?, self.runs_since(home)?];
        let open = self.network.open_since(home, m)?;
        let harsh = self.network.harsh;
        let mild = (harsh != Moment::NEVER).then_some(harsh)?;
        both.into_iter().chain([open, mild]).max()
    }

    /// Since when a machine's process runs, and no other has its keys.
    fn runs_since(&self, m: u32) -> Option<Moment> {
        let since = self.board[m as usize].since?;
        self.register.doubles(m).try_fold(since, |since, copy| {
            let copy = &self.board[copy as usize];
            copy.gone
                .then(|| since.max(copy.off_since.unwrap_or_default()))
        })
    }
}

impl World {
    /// Whether each machine that runs has noticed who doesn't.
    pub(crate) fn look_at_the_dead(&mut self) {
        let (now, fair) = (self.now, self.network().rough);
        // What waits in a line without bound comes from the dead as well.
        let bloated = self.network().bulk_first;
        let due = (now.0 / 1_000_000).is_multiple_of(DEAD_SECS);
        if fair == Moment::NEVER || bloated || !due {
            return;
        }
        let identities = 0..self.register.identities();
        let dead = identities.filter_map(|who| Some((who, self.dead_since(who)?)));
        let dead: Vec<_> = dead
            .filter(|(_, since)| now.since((*since).max(fair)) > UNNOTICED)
            .collect();
        if dead.is_empty() {
            return;
        }
        for m in 0..self.count() {
            let Some(runs) = self.sites[0].runs_since(m) else {
                continue;
            };
            if now.since(runs) <= UNNOTICED {
                continue;
            }
            let machine = self.machine(m);
            let mut missed = dead.iter().filter(|(who, _)| {
                machine.roster.contains(who) && !machine.absent.contains(who) && *who != machine.who
            });
            if let Some((who, since)) = missed.next() {
                let detail = format!("machine {m} believes {who} to live, dead since {since}");
                return self.breaks("who is dead is believed down", detail);
            }
        }
    }

    /// Since when nobody with its keys runs.
    fn dead_since(&self, who: u32) -> Option<Moment> {
        let home = self.register.homes[who as usize];
        let off = |m: u32| {
            let machine = self.machine(m);
            machine.off_since.filter(|_| machine.up.is_none())
        };
        let mut doubles = self.register.doubles(home);
        doubles.try_fold(off(home)?, |since, m| Some(since.max(off(m)?)))
    }
}
