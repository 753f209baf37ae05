//! What is known of one peer: whether it is there, what it holds, what was compared.
//!
//! Bounds: `digest::MAX_LOGS` logs with `MAX_CLAIMED` ranges, `MAX_OF_ORIGIN` of them of one origin, so that nobody's
//! holes push out what is known of others; `MAX_REFUSED` refused runs. What is over them isn't remembered, so it isn't
//! asked for there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Instant;

use outlast_store::{IntervalSet, LogId, Origin, Seq};

use super::claims::Claims;
use super::digest::{self, Coverage, Entry};
use super::{DIGEST_EVERY, SETTLE};

/// How many of the newest rows of a digest may still be on their way.
const FRESH_ROWS: u32 = 3;
/// The longest gap between two live rows that is asked for without a digest: an hour.
const MAX_GAP: u32 = 3_600;
/// Between two full answers about one origin.
const HELD_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
/// Ranges one peer may claim in all its logs: 512 KiB.
const MAX_CLAIMED: usize = 65_536;
/// And in the logs of one origin.
const MAX_OF_ORIGIN: usize = MAX_CLAIMED / 16;
/// Of an origin with no more ranges than this everything is remembered, whatever is known of others.
const FEW_OF_ORIGIN: usize = 64;
/// Answers in a row that held nothing of what was claimed, before the claims count as a lie: what
/// retention took between claim and question, or a damaged disk, makes a few.
const MAX_HOLLOW: u32 = 4;
/// How long a digest goes on telling of an origin because the peer did.
const MENTIONED_FOR: std::time::Duration = std::time::Duration::from_secs(60);
/// Origins remembered that way; beyond them the peer isn't told back.
const MAX_MENTIONED: usize = 64;
/// What it said of an origin it has is asked again after so long, where it wouldn't say of itself that it lost it.
const TOLD_FOR: std::time::Duration = std::time::Duration::from_secs(3_600);
/// Answers in a row that contradict the digests around them, before that counts as a lie.
const MAX_CONTRADICTED: u32 = 2;
/// Ranges of a full answer that is compared with digests: half of what fits one.
const MOST_COMPARED: usize = 12_000;
/// Refused runs remembered; over it the peer isn't asked until it reconnects.
const MAX_REFUSED: usize = 1_024;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connected: Option<Instant>,
    pub(super) digest_due: Instant,
    pub(super) digest_sent: Option<Instant>,
    pub(super) logs: Claims,
    pub(super) settle: BTreeMap<LogId, Instant>,
    pub(super) refused: BTreeMap<LogId, IntervalSet>,
    pub(super) refused_runs: usize,
    /// Origins to ask about in full, and the hashes when that was last decided.
    pub(super) differing: BTreeSet<Origin>,
    /// The log it writes to, as its last digest named it.
    pub(super) running: Option<LogId>,
    pub(super) compared: BTreeMap<Origin, Compared>,
    /// When it last said all it has of an origin, of those whose rows are held here and not kept.
    pub(super) told: BTreeMap<Origin, Instant>,
    /// Origins its digests told of, and when.
    mentioned: BTreeMap<Origin, Instant>,
    hollow: u32,
    contradicted: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    pub(super) at: Instant,
    pub(super) mine: [u8; 16],
    pub(super) theirs: [u8; 16],
    /// The log its digest left out of `theirs`.
    pub(super) open: Option<LogId>,
    /// The hash of its full answer since, less that log.
    pub(super) answered: Option<[u8; 16]>,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            connected: None,
            digest_due: now,
            digest_sent: None,
            logs: Claims::default(),
            settle: BTreeMap::new(),
            refused: BTreeMap::new(),
            refused_runs: 0,
            differing: BTreeSet::new(),
            running: None,
            compared: BTreeMap::new(),
            told: BTreeMap::new(),
            mentioned: BTreeMap::new(),
            hollow: 0,
            contradicted: 0,
        }
    }

    /// It gave nothing of what it claims to have, or some; says whether that makes it a liar.
    pub(super) fn gave(&mut self, something: bool) -> bool {
        self.hollow = if something { 0 } else { self.hollow + 1 };
        self.is_hollow()
    }

    /// Whether its claims lately were all empty.
    pub(super) fn is_hollow(&self) -> bool {
        self.hollow > MAX_HOLLOW
    }

    /// What this peer can be asked for: held, settled, and not refused before.
    pub(super) fn offers(&self, log: &LogId, now: Instant) -> IntervalSet {
        let Some(coverage) = self.logs.get(log) else {
            return IntervalSet::default();
        };
        let mut held = coverage.held.clone();
        if let Some(refused) = self.refused.get(log) {
            held = held.subtract(refused);
        }
        if self.settle.get(log).is_some_and(|&until| now < until)
            && let Some(top) = held.last()
        {
            held.remove(top.saturating_sub(FRESH_ROWS - 1)..=top);
        }
        held
    }

    /// Its digest told of this origin.
    pub(super) fn mention(&mut self, origin: Origin, now: Instant) {
        self.mentioned
            .retain(|_, at| now.saturating_duration_since(*at) < MENTIONED_FOR);
        if self.mentioned.len() < MAX_MENTIONED {
            self.mentioned.insert(origin, now);
        }
    }

    /// The origins its digests told of lately.
    pub(super) fn mentioned(&self, now: Instant) -> impl Iterator<Item = Origin> + '_ {
        let lately = move |at: &Instant| now.saturating_duration_since(*at) < MENTIONED_FOR;
        self.mentioned
            .iter()
            .filter(move |(_, at)| lately(at))
            .map(|(origin, _)| *origin)
    }

    /// Lets go what it said too long ago to go by.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.told
            .retain(|_, at| now.saturating_duration_since(*at) < TOLD_FOR);
    }

    /// Whether it has, or had and let go, all of these.
    pub(super) fn covers(&self, log: &LogId, rows: &IntervalSet) -> bool {
        rows.subtract(&self.covered(log)).is_empty()
    }

    /// What it has, or had and let go, of a log.
    pub(super) fn covered(&self, log: &LogId) -> IntervalSet {
        let coverage = self.logs.get(log);
        coverage.map_or_else(IntervalSet::default, |coverage| {
            coverage.held.union(&coverage.gone)
        })
    }

    /// A digest that shows a restart is answered at once, one that differs before its turn:
    /// the other side may not know yet that it lacks something.
    pub(super) fn answer_soon(&mut self, restarted: bool, differs: bool, now: Instant) {
        let paused = self
            .digest_sent
            .is_none_or(|sent| now.duration_since(sent) >= DIGEST_EVERY / 2);
        if restarted || (differs && paused) {
            self.digest_due = self.digest_due.min(now);
        }
    }

    pub(super) fn should_ask(&self, entry: &Entry, mine: [u8; 16], now: Instant) -> bool {
        self.compared.get(&entry.origin).is_none_or(|last| {
            let unchanged = last.mine == mine && last.theirs == entry.closed;
            let pause = if unchanged {
                DIGEST_EVERY * 6
            } else {
                HELD_EVERY
            };
            now.duration_since(last.at) >= pause
        })
    }

    /// Equal hashes: the peer covers what we cover of these logs.
    pub(super) fn agree(&mut self, covered: BTreeMap<LogId, IntervalSet>) {
        for (log, set) in covered {
            let room = self.room_for(&log);
            self.logs.change(log, |known| {
                let gone = set.subtract(&known.held);
                if known.held.ranges().len() + gone.ranges().len() <= room {
                    known.gone = gone;
                }
            });
        }
    }

    /// A full answer about an origin came: what its digest should have been.
    pub(super) fn answered(&mut self, origin: &Origin, logs: &BTreeMap<LogId, Coverage>) {
        let Some(compared) = self.compared.get_mut(origin) else {
            return;
        };
        // An answer near its limit leaves out the oldest logs.
        if logs
            .values()
            .map(|coverage| 4 + coverage.ranges())
            .sum::<usize>()
            > MOST_COMPARED
        {
            return;
        }
        let closed = logs.iter().filter(|(log, _)| Some(**log) != compared.open);
        let covered = closed.map(|(log, coverage)| (*log, coverage.held.union(&coverage.gone)));
        compared.answered = Some(digest::hash(&covered.collect()));
    }

    /// Whether a digest says what one said before a full answer, and that answer something else: sets only grow, so in
    /// between they were the same. Each answer counts once; a damaged disk, whose sets shrink and grow again, makes few.
    pub(super) fn contradicts(&mut self, entry: &Entry) -> bool {
        let open = entry.open_log();
        let Some(compared) = self.compared.get_mut(&entry.origin) else {
            return false;
        };
        let same = (compared.theirs, compared.open) == (entry.closed, open);
        let Some(answered) = compared.answered.take_if(|_| same) else {
            return false;
        };
        let differs = answered != entry.closed;
        self.contradicted = if differs { self.contradicted + 1 } else { 0 };
        self.contradicted > MAX_CONTRADICTED
    }

    /// Takes the peer's own word for a log, whose newest rows may still be on their way here. False
    /// when it claims too much.
    pub(super) fn learn(&mut self, log: LogId, coverage: Coverage, now: Instant) -> bool {
        let before = self.logs.get(&log).map_or(0, Coverage::ranges);
        let claimed = self.logs.ranges() - before + coverage.ranges();
        let of_origin = MAX_OF_ORIGIN - self.room_for(&log) + coverage.ranges();
        if of_origin > MAX_OF_ORIGIN || (claimed > MAX_CLAIMED && of_origin > FEW_OF_ORIGIN) {
            return false;
        }
        let learned = self.logs.change(log, |known| *known = coverage);
        if learned {
            self.settle.insert(log, now + SETTLE);
        }
        learned
    }

    /// Forgets what was known of the logs of `origin`, and when they settle: a peer can name ever new ones.
    pub(super) fn forget(&mut self, origin: &Origin) {
        self.logs.forget(origin);
        self.settle.retain(|log, _| log.origin != *origin);
    }

    pub(super) fn has(&mut self, log: LogId, first: Seq, last: Seq) {
        self.insert(log, first..=last);
    }

    /// Remembers a run, unless it would open a range beyond what is remembered of one origin.
    fn insert(&mut self, log: LogId, rows: RangeInclusive<Seq>) {
        let held = self.logs.get(&log).map(|known| &known.held);
        let (before, after) = (rows.start().saturating_sub(1), rows.end().saturating_add(1));
        let touches = held.is_some_and(|held| {
            [before, *rows.start(), *rows.end(), after]
                .into_iter()
                .any(|seq| held.contains(seq))
        });
        if !touches && self.room_for(&log) <= held.map_or(0, |held| held.ranges().len()) {
            return;
        }
        self.logs.change(log, |known| known.held.insert(rows));
    }

    /// How many ranges `log` may have beside those of the other logs of its origin.
    fn room_for(&self, log: &LogId) -> usize {
        let own = self.logs.get(log).map_or(0, Coverage::ranges);
        MAX_OF_ORIGIN.saturating_sub(self.logs.ranges_of(&log.origin) - own)
    }

    /// A live row of its own: it has what it took since the row before. Says whether there is a gap.
    pub(super) fn sent_live(&mut self, log: LogId, seq: Seq, now: Instant) -> bool {
        let known = self.logs.get(&log);
        let before = known.and_then(|known| known.held.last()).unwrap_or(seq);
        let gap = seq > before.saturating_add(1) && seq - before <= MAX_GAP;
        self.insert(log, if gap { before + 1 } else { seq }..=seq);
        if gap {
            self.settle.insert(log, now + SETTLE);
        }
        gap
    }

    pub(super) fn refuse(&mut self, log: LogId, first: Seq, last: Seq) {
        if self.refused_runs > MAX_REFUSED {
            return;
        }
        let runs = self.refused.entry(log).or_default();
        let before = runs.ranges().len();
        runs.insert(first..=last);
        self.refused_runs = self.refused_runs + runs.ranges().len() - before;
    }

    /// Whether nothing is known of it: it never told of rows, and was never caught at anything.
    pub(super) fn is_nobody(&self) -> bool {
        self.logs.is_empty()
            && self.compared.is_empty()
            && self.mentioned.is_empty()
            && self.refused_runs == 0
            && self.hollow + self.contradicted == 0
    }

    /// Whether it can be asked at all.
    pub(super) fn is_of_use(&self) -> bool {
        self.connected.is_some() && self.refused_runs <= MAX_REFUSED
    }
}
