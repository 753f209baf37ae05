//! Anti-entropy of statements: who lacks what.
//!
//! A set is described by one root, and in detail by the heads of its authors, cut into ranges
//! that each stand alone, so that a lost datagram costs one range until the next comparison.
//! In: the set, what the other side said. Out: frame bodies. Bounds: `RANGES_AT_ONCE` ranges and
//! `STATEMENTS_AT_ONCE` statements go out for one question; the asker asks again at once while
//! something new arrives. Absent: when to ask, how many questions are answered (`quota`), and the
//! set itself.

use std::time::{Duration, Instant};

use crate::trust::{AuthorHead, Statement, Statements};
use crate::wire::message::{HEADS_PER_SUMMARY, Summary};

/// Ranges sent at once; a bigger set goes on where it stopped.
pub(crate) const RANGES_AT_ONCE: usize = 32;

/// Statements sent for one range: about 50 kB.
const STATEMENTS_AT_ONCE: usize = 48;

/// Roots are compared this often with each connected peer.
pub(crate) const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// A root the peer did not agree with is told again after this time: what was pushed may have been
/// lost, or the way may just be open again, and who is a member cannot wait.
const TELL_AGAIN: Duration = Duration::from_millis(500);

/// So often. By then whoever does not hear us is no longer connected, and who hears us and differs
/// all the same is of another release.
const MOST_TELLINGS: u32 = 60;

/// Where only what nodes say of themselves differs, so often, each time after twice as long.
const MOST_NOTES_TELLINGS: u32 = 4;

/// The shortest pause between two full summaries to one peer.
const SUMMARY_PAUSE: Duration = Duration::from_millis(200);

/// How long a difference may last that comes from statements under way.
const UNDER_WAY: Duration = Duration::from_millis(300);

const FIRST: [u8; 32] = [0; 32];
const LAST: [u8; 32] = [0xff; 32];

/// What a holder of statements says of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roots {
    /// Digest of every statement that counts.
    pub(crate) all: [u8; 32],
    /// Digest of those among them that decide who is a member.
    pub(crate) trust: [u8; 32],
}

/// How far the comparison with one peer has come.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    their_root: Option<[u8; 32]>,
    /// `None` too of an older node, which doesn't tell it.
    their_trust: Option<[u8; 32]>,
    compared: Option<Instant>,
    /// How often our root was told since it changed.
    told: u32,
    summary_after: Option<Instant>,
    wanted: bool,
    next_range: usize,
}

impl Sync {
    /// The peer said which set it holds; true if it is ours. Otherwise a summary becomes due.
    pub(crate) fn learn(
        &mut self,
        theirs: [u8; 32],
        trust: Option<[u8; 32]>,
        ours: &Roots,
    ) -> bool {
        self.their_root = Some(theirs);
        self.their_trust = trust;
        self.wanted = theirs != ours.all;
        !self.wanted
    }

    /// Leaves what differs some time to be pushed before it is asked for.
    pub(crate) fn wait_for_push(&mut self, now: Instant) {
        if self.wanted && self.summary_after.is_none_or(|after| after <= now) {
            self.summary_after = Some(now + UNDER_WAY);
        }
    }

    /// Whether both sides were last known to hold the same statements about who is a member.
    pub(crate) fn agrees(&self, ours: &Roots) -> bool {
        self.their_trust == Some(ours.trust) || self.their_root == Some(ours.all)
    }

    /// Something new came from the peer: if the sets still differ, ask on.
    pub(crate) fn grew(&mut self, ours: [u8; 32]) {
        self.wanted = self.their_root != Some(ours);
    }

    /// Our set has changed, and the peer is told: it is told again soon if it doesn't agree.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.compared = Some(now);
        self.told = 1;
    }

    /// Whether a full summary should go out at this moment; counts it as sent.
    pub(crate) fn take_summary_due(&mut self, now: Instant) -> bool {
        if !self.wanted || self.summary_after.is_some_and(|after| now < after) {
            return false;
        }
        self.wanted = false;
        self.summary_after = Some(now + SUMMARY_PAUSE);
        self.compared = Some(now);
        true
    }

    /// Whether the root should be told again; counts it as told.
    pub(crate) fn take_compare_due(&mut self, ours: &Roots, now: Instant) -> bool {
        let pause = match self.agrees(ours) {
            false if self.told < MOST_TELLINGS => TELL_AGAIN,
            true if self.their_root != Some(ours.all) && self.told < MOST_NOTES_TELLINGS => {
                TELL_AGAIN * (1 << (self.told + 1))
            }
            _ => COMPARE_EVERY,
        };
        if self.compared.is_some_and(|compared| now < compared + pause) {
            return false;
        }
        self.compared = Some(now);
        self.told = self.told.saturating_add(1);
        true
    }

    /// The root was told in a greeting.
    pub(crate) fn greeted(&mut self, now: Instant) {
        self.compared = Some(now);
    }

    /// The full summary, or its next part where the set is large.
    pub(crate) fn summary(&mut self, statements: &Statements) -> Vec<Summary> {
        let mut ranges = ranges(statements.root(), &statements.summary());
        if ranges.len() <= RANGES_AT_ONCE {
            return ranges;
        }
        let from = self.next_range % ranges.len();
        ranges.rotate_left(from);
        ranges.truncate(RANGES_AT_ONCE);
        self.next_range = from + RANGES_AT_ONCE;
        ranges
    }
}

/// The root alone.
pub(crate) fn root_only(root: [u8; 32]) -> Summary {
    Summary {
        root,
        range: None,
        heads: Vec::new(),
    }
}

/// Cuts heads, ordered by author, into ranges that together cover every author there may be.
fn ranges(root: [u8; 32], heads: &[AuthorHead]) -> Vec<Summary> {
    let chunks: Vec<&[AuthorHead]> = match heads {
        [] => vec![&[]],
        heads => heads.chunks(HEADS_PER_SUMMARY).collect(),
    };
    let starts: Vec<[u8; 32]> = chunks
        .iter()
        .enumerate()
        .map(|(at, chunk)| if at == 0 { FIRST } else { chunk[0].author })
        .collect();
    let ends = starts
        .iter()
        .skip(1)
        .map(|next| before(*next))
        .chain([LAST]);
    chunks
        .iter()
        .zip(&starts)
        .zip(ends)
        .map(|((chunk, first), last)| Summary {
            root,
            range: Some((*first, last)),
            heads: chunk.to_vec(),
        })
        .collect()
}

/// The author just before this one.
fn before(author: [u8; 32]) -> [u8; 32] {
    let mut earlier = author;
    for byte in earlier.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    earlier
}

/// What the sender of `theirs` lacks of what is held here, within its range. A sponsor's statements
/// come before those of the members it admitted: what cannot count yet leaves the sender's heads as
/// they are, and the same first statements would go out for ever.
pub(crate) fn missing(statements: &Statements, theirs: &Summary) -> Vec<Statement> {
    missing_of(statements, theirs, |_all| true)
}

/// The same of those statements that are `wanted`.
pub(crate) fn missing_of(
    statements: &Statements,
    theirs: &Summary,
    wanted: impl Fn(&Statement) -> bool,
) -> Vec<Statement> {
    let Some((first, last)) = theirs.range else {
        return Vec::new();
    };
    let mut missing = Vec::new();
    for ours in statements.heads_by_admission(first, last) {
        let head = theirs
            .heads
            .iter()
            .find(|head| head.author == ours.author)
            .copied()
            .unwrap_or_else(|| AuthorHead::none(ours.author));
        if head != ours {
            missing.extend(statements.beyond(&head).into_iter().filter(&wanted));
        }
        if missing.len() >= STATEMENTS_AT_ONCE {
            missing.truncate(STATEMENTS_AT_ONCE);
            break;
        }
    }
    missing
}

/// What to ask the sender of `theirs` for: our heads in its range, if any of its differ.
pub(crate) fn want(statements: &Statements, theirs: &Summary) -> Option<Summary> {
    let (first, last) = theirs.range?;
    let ours: Vec<AuthorHead> = statements
        .summary()
        .into_iter()
        .filter(|head| (first..=last).contains(&head.author))
        .collect();
    let differs = theirs.heads.iter().any(|head| !ours.contains(head));
    let heads = ours
        .into_iter()
        .filter(|head| theirs.heads.iter().any(|their| their.author == head.author))
        .collect();
    differs.then_some(Summary {
        root: statements.root(),
        range: theirs.range,
        heads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u8) -> AuthorHead {
        AuthorHead {
            author: [number; 32],
            seq: 1,
            log: [number; 16],
            notes: [number; 8],
        }
    }

    #[test]
    fn the_ranges_cover_every_author_once() {
        for count in [0, 1, 14, 15, 16, 40, 200] {
            let heads: Vec<_> = (1..=count).map(head).collect();
            let ranges = ranges([9; 32], &heads);
            let bounds: Vec<_> = ranges.iter().filter_map(|summary| summary.range).collect();

            assert_eq!(bounds.first().map(|(first, _)| *first), Some(FIRST));
            assert_eq!(bounds.last().map(|(_, last)| *last), Some(LAST));
            assert!(bounds.windows(2).all(|pair| before(pair[1].0) == pair[0].1));
            let listed: Vec<_> = ranges
                .iter()
                .flat_map(|summary| summary.heads.clone())
                .collect();
            assert_eq!(listed, heads);
        }
    }

    #[test]
    fn a_summary_goes_out_when_roots_differ_and_not_too_often() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let mut sync = Sync::default();
        let ours = Roots {
            all: [1; 32],
            trust: [7; 32],
        };
        assert!(sync.take_compare_due(&ours, start));
        assert!(sync.learn([1; 32], None, &ours));
        assert!(!sync.take_summary_due(start));

        assert!(!sync.learn([2; 32], None, &ours));

        assert!(sync.take_summary_due(start));
        sync.grew([1; 32]);
        assert!(!sync.take_summary_due(start + SUMMARY_PAUSE / 2));
        assert!(sync.take_summary_due(start + SUMMARY_PAUSE));
        sync.grew([2; 32]);
        assert!(!sync.take_summary_due(start + SUMMARY_PAUSE * 5));
    }

    #[test]
    fn a_root_nobody_agreed_with_is_told_again_soon_and_some_day_as_rarely_as_others() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let ours = Roots {
            all: [1; 32],
            trust: [7; 32],
        };
        let mut sync = Sync::default();
        sync.learn([2; 32], Some([8; 32]), &ours);
        sync.changed(start);
        let told = |sync: &mut Sync| -> Vec<u64> {
            let due = |at: &u64| sync.take_compare_due(&ours, start + Duration::from_secs(*at));
            (0..100).filter(due).collect()
        };
        let soon: Vec<u64> = (1..=59).collect();
        assert_eq!(told(&mut sync), [&soon[..], &[89]].concat());

        // Notes may differ: what membership rests on is the same.
        sync.learn([2; 32], Some([7; 32]), &ours);
        sync.changed(start);
        assert!(sync.agrees(&ours));
        assert_eq!(told(&mut sync), [2, 6, 14, 44, 74]);

        sync.learn([1; 32], Some([7; 32]), &ours);
        sync.changed(start);
        assert_eq!(told(&mut sync), [30, 60, 90]);
    }
}
