//! The newest summary of each node, and the order in which they were learnt.
//!
//! A summary of a later tick takes the place of an earlier one. Of the same tick the older estimate of its moment stays:
//! time on the way is not in an age, so every estimate errs to the young side, and one summary that goes in circles never
//! gets younger. A tick that seems to go back counts only if it is clearly of a later moment: its node has started again.
//!
//! Ticks come one a second, so two summaries of a node that are as far apart in ticks as in time are of one beat. Where
//! members tell of two beats, somebody lies, and the one that is told oftener stays: each telling that bears out what is
//! held, or contradicts it, counts for or against it, and nobody's counts twice in a row.

use std::collections::VecDeque;
use std::time::Duration;

use outlast_mesh::NodeId;

use super::gauges::Gauges;
use super::message::Entry;
use super::roll::Roll;

/// After a node's own word no hearsay about it counts for so long: it is as new as can be.
const OWN_WORD_HOLDS_MS: i64 = 2_000;
/// By hearsay a node may seem to be so far off its beat, as times on the way differ. A lie by less silences the node for
/// those who hear of it through others, who hear what the liar says instead; further off it is outvoted.
const OFF_BEAT_MS: i64 = 3_000;
/// The beat follows a clock that runs fast or slow by so much a telling, and no liar much further.
const DRIFT_MS: i64 = 5;
/// What is held is borne out by at most so many, so that a beat nobody tells any more gives way within a few messages.
const MOST_VOICES: u8 = 8;
/// A later tick may seem so much older as its way was faster than that of the one before.
const SLACK_MS: i64 = 10_000;
/// A tick that went back is believed of a moment so much later, or this much when its node says so itself.
const RESTARTED_MS: i64 = 60_000;
const RESTARTED_ITSELF_MS: i64 = 2_000;

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How old it is, at least.
    pub age: Duration,
    /// What it measured then.
    pub gauges: Gauges,
    /// `message::SYNCED`.
    pub marks: u8,
    /// Who told it last; the node itself, or a member that passed it on.
    pub from: NodeId,
    /// Whether somebody told something else of the same moment.
    pub disputed: bool,
    pub(super) tick: u16,
}

#[cfg(test)]
impl Seen {
    /// Heard from the node itself.
    pub(crate) fn of(columns: [f64; super::gauges::GAUGES], age: Duration) -> Self {
        Self {
            age,
            gauges: Gauges::pack(&columns),
            marks: 0,
            from: NodeId([0; 32]),
            disputed: false,
            tick: 0,
        }
    }
}

/// What became of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    News,
    Known,
    Disputed,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// By place in the roll: each message has dozens looked up.
    held: Vec<Option<Held>>,
    /// Learnt last at the back; outdated ones are skipped, and dropped when they are the most.
    order: VecDeque<(usize, u64)>,
    learnt: u64,
}

/// One line of memory: dozens of them are looked up for each message, here and there, and finding them is what it costs.
/// Members go by their places.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Held {
    tick: u16,
    marks: u8,
    gauges: Gauges,
    /// When it was taken at the latest, by this node's own clock.
    at_ms: i64,
    from: u32,
    /// When the node itself last said anything.
    own_word_ms: Option<i64>,
    disputed: bool,
    /// When this tick was by the beat.
    due_ms: i64,
    /// How many more told of this beat than of another, and who told last.
    voices: u8,
    told_last: u32,
    learnt: u64,
}

const _: () = assert!(size_of::<Option<Held>>() == 64);

impl Table {
    /// There is another roll, of so many; `moved` says who stands where by it, of those that had a place. What was told
    /// by who has none any more is forgotten.
    pub(super) fn handle_roll(&mut self, len: usize, moved: impl Fn(usize) -> Option<usize>) {
        let before = std::mem::replace(&mut self.held, vec![None; len]);
        for (place, held) in before.into_iter().enumerate() {
            if let Some(place) = moved(place) {
                self.held[place] = held.and_then(|held| held.moved(&moved));
            }
        }
        self.order = std::mem::take(&mut self.order)
            .into_iter()
            .filter_map(|(place, learnt)| Some((moved(place)?, learnt)))
            .collect();
    }

    /// This node itself stands at `place`.
    pub(super) fn own(&mut self, place: usize, tick: u16, marks: u8, gauges: Gauges, at_ms: i64) {
        let held = Held {
            tick,
            marks,
            gauges,
            at_ms,
            from: place as u32,
            own_word_ms: None,
            disputed: false,
            due_ms: at_ms,
            voices: MOST_VOICES,
            told_last: place as u32,
            learnt: 0,
        };
        self.learn(place, held);
    }

    /// A summary of who stands at `place`, that the one at `from` told, at `now_ms`.
    pub(super) fn hear(
        &mut self,
        place: usize,
        from: usize,
        entry: &Entry,
        now_ms: i64,
    ) -> Verdict {
        let at_ms = now_ms.saturating_sub(i64::try_from(entry.age.as_millis()).unwrap_or(i64::MAX));
        let (itself, from) = (from == place, from as u32);
        let new = Held {
            tick: entry.tick,
            marks: entry.marks,
            gauges: entry.gauges,
            at_ms,
            from,
            own_word_ms: itself.then_some(now_ms),
            disputed: false,
            due_ms: at_ms,
            voices: if itself { MOST_VOICES } else { 1 },
            told_last: from,
            learnt: 0,
        };
        let Some(held) = &mut self.held[place] else {
            self.learn(place, new);
            return Verdict::News;
        };
        let spoke = |said| now_ms - said < OWN_WORD_HOLDS_MS;
        let hearsay_counts = !held.own_word_ms.is_some_and(spoke);
        if entry.tick == held.tick && (at_ms - held.at_ms).abs() < RESTARTED_MS {
            return held.hear_again(&new, itself || hearsay_counts);
        }
        if !(itself || hearsay_counts) {
            return Verdict::Known;
        }
        let own_word_ms = new.own_word_ms.or(held.own_word_ms);
        let new = Held { own_word_ms, ..new };
        let in_step = held.is_in_step(&new);
        if itself || in_step {
            if !itself {
                held.bear_out(from);
            }
            if !held.is_before(&new, itself) {
                return Verdict::Known;
            }
            let next = if itself { new } else { held.next(new) };
            self.learn(place, next);
            return Verdict::News;
        }
        if !held.gives_way(&new) {
            held.disputed = true;
            return Verdict::Disputed;
        }
        let disputed = from != held.from;
        self.learn(place, Held { disputed, ..new });
        Verdict::News
    }

    /// What is held of who stands at `place`; `roll` is the one of all places.
    pub(super) fn seen(&self, place: usize, roll: &Roll, now_ms: i64) -> Option<Seen> {
        let held = self.held[place].as_ref()?;
        Some(Seen {
            age: held.age(now_ms),
            gauges: held.gauges,
            marks: held.marks,
            from: roll.at(held.from as usize),
            disputed: held.disputed,
            tick: held.tick,
        })
    }

    /// Where all that is held stands, how old it is and where who told it does; what was learnt last first.
    pub(super) fn newest_learnt(
        &self,
        now_ms: i64,
    ) -> impl Iterator<Item = (usize, Duration, usize)> + '_ {
        self.order.iter().rev().filter_map(move |(place, learnt)| {
            let held = self.held[*place].as_ref()?;
            let newest = held.learnt == *learnt;
            newest.then(|| (*place, held.age(now_ms), held.from as usize))
        })
    }

    fn learn(&mut self, place: usize, mut held: Held) {
        self.learnt += 1;
        held.learnt = self.learnt;
        self.held[place] = Some(held);
        self.order.push_back((place, self.learnt));
        if self.order.len() > 2 * self.held.len() + 64 {
            let held = |place: usize| self.held[place].as_ref();
            self.order
                .retain(|(place, learnt)| held(*place).is_some_and(|held| held.learnt == *learnt));
        }
    }
}

impl Held {
    /// The same by another roll; `None` where who told it isn't in that.
    fn moved(mut self, to: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        let to = |place: u32| u32::try_from(to(place as usize)?).ok();
        self.from = to(self.from)?;
        self.told_last = to(self.told_last).unwrap_or(self.from);
        Some(self)
    }

    fn age(&self, now_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(now_ms - self.at_ms).unwrap_or(0))
    }

    /// The same tick told once more; if it doesn't count, it can still be found to be a lie.
    fn hear_again(&mut self, again: &Self, counts: bool) -> Verdict {
        let same = (self.gauges, self.marks) == (again.gauges, again.marks);
        if counts && self.is_in_step(again) {
            self.bear_out(again.from);
        }
        if counts {
            self.at_ms = self.at_ms.min(again.at_ms);
            self.disputed |= !same;
        }
        if again.own_word_ms.is_some() {
            // What the node itself says stands, whatever was heard before.
            (self.gauges, self.marks, self.from) = (again.gauges, again.marks, again.from);
            (self.own_word_ms, self.disputed) = (again.own_word_ms, false);
        }
        if same {
            Verdict::Known
        } else {
            Verdict::Disputed
        }
    }

    /// How much later than by the beat another tick was.
    fn off_beat_ms(&self, new: &Self) -> i64 {
        let later = new.at_ms.saturating_sub(self.due_ms);
        later.saturating_sub(1_000 * self.ahead(new))
    }

    fn is_in_step(&self, new: &Self) -> bool {
        self.off_beat_ms(new).saturating_abs() <= OFF_BEAT_MS
    }

    /// One in step, which goes on with the same beat.
    fn next(&self, new: Self) -> Self {
        let drift_ms = self.off_beat_ms(&new).clamp(-DRIFT_MS, DRIFT_MS);
        Self {
            due_ms: self.due_ms + 1_000 * self.ahead(&new) + drift_ms,
            voices: self.voices,
            told_last: self.told_last,
            ..new
        }
    }

    /// How many ticks later it is.
    fn ahead(&self, new: &Self) -> i64 {
        i64::from(new.tick.wrapping_sub(self.tick) as i16)
    }

    fn is_before(&self, new: &Self, itself: bool) -> bool {
        let later = new.at_ms.saturating_sub(self.at_ms);
        let onward = self.ahead(new) > 0 && later > -SLACK_MS;
        onward || (itself && later > RESTARTED_ITSELF_MS)
    }

    /// Somebody told the same.
    fn bear_out(&mut self, who: u32) {
        if self.told_last != who {
            self.told_last = who;
            self.voices = (self.voices + 1).min(MOST_VOICES);
        }
    }

    /// Somebody told of another beat: whether it takes the place of this one. Who told what is held may correct itself,
    /// a machine that slept goes on later than it would have, and one that started again counts from the beginning.
    fn gives_way(&mut self, new: &Self) -> bool {
        let later = new.at_ms.saturating_sub(self.at_ms);
        if later <= 0 {
            return false;
        }
        if later > RESTARTED_MS || new.from == self.from {
            return true;
        }
        if self.told_last != new.from {
            self.told_last = new.from;
            self.voices -= 1;
        }
        self.voices == 0
    }
}
