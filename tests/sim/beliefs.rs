//! Nobody who lives and is within reach is believed down for longer than it takes to meet again.
//!
//! In: whom a machine believes to be down (`lives`). Truth: the world's own processes and walls. What counts is the time
//! he was believed down since both ran, no wall stood between them and loss was mild; a copy of either makes it uncertain who is meant.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Moment;
use crate::world::World;

/// A redial at its slowest (66 s), once in vain, and what was said of him in the meantime refuted.
const WRONGLY_DOWN: Duration = Duration::from_secs(150);

impl World {
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
        let home = self.homes[who as usize];
        let both = [self.runs_since(m)?, self.runs_since(home)?];
        let open = self.network.open_since(home, m)?;
        let harsh = self.watch.harsh;
        let mild = (harsh != Moment::NEVER).then_some(harsh)?;
        both.into_iter().chain([open, mild]).max()
    }

    /// Since when a machine's process runs, and no other has its keys.
    fn runs_since(&self, m: u32) -> Option<Moment> {
        let machine = &self.machines[m as usize];
        if machine.up.is_none() || machine.frozen {
            return None;
        }
        let since = machine.beliefs.as_ref()?.since.max(machine.thawed);
        let mut copies = self
            .machines
            .iter()
            .enumerate()
            .filter(|(other, copy)| copy.who == machine.who && *other != m as usize);
        copies.try_fold(since, |since, (_, copy)| {
            copy.gone
                .then(|| since.max(copy.off_since.unwrap_or_default()))
        })
    }
}
