//! Answers to peers' questions, from the store, at the pace of their budget.
//!
//! At most `PER_PEER` streams of one peer at a time and `MOST_SERVED` in all; more are refused, and whoever opened them
//! named, as is who asks for too much at once or never finishes asking. Rows go newest window first and only when the
//! peer's bucket lets them, `CHUNK` by `CHUNK`, so that whoever waits sees something come even at the slowest rate. What is
//! answered is in memory one export at a time.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{Head, IntervalSet, LogId, Parcel, Seq, SignedRow, window_of};

use super::frames::Frames;
use super::{Core, Effect, Offence, StreamId};
use crate::flow::keep::Job;
use crate::flow::origin_of;
use crate::flow::wire::{Answer, HeldAnswer, MAX_QUESTION, Question};
use crate::replica::budget::Bucket;

/// Streams of one peer served at a time.
const PER_PEER: usize = 6;
/// Streams served at a time, all peers together.
pub(super) const MOST_SERVED: usize = 48;
/// How long a peer may take to say what it wants, and to take each chunk.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes written at a time: two seconds of the slowest rate.
const CHUNK: usize = 16 * 1024;
/// Windows of rows, seals and origins in one question: several times what `replica` asks for.
const MAX_WINDOWS: usize = 16;
const MAX_SEALS: usize = 256;
const MAX_ORIGINS: usize = 16;
/// Answers of points at a time, all peers together, and to one: each reads the store at length and is whole in memory.
const MOST_TOLD: usize = 6;
const TOLD_TO_ONE: usize = 2;
/// How long a peer may take for the whole of one: who asks waits no longer, and the place is another's.
const TELLING: Duration = Duration::from_secs(60);

/// A stream that is served.
#[derive(Debug)]
pub(super) struct Serving {
    from: NodeId,
    question: Frames,
    phase: Phase,
    /// Frames to be written, and which rows each carries.
    out: VecDeque<(Bytes, Option<Carried>)>,
    /// Bytes that are paid for, and when they may be written.
    paid: Option<(Bytes, Instant)>,
    /// Bytes that are being written.
    writing: Option<(usize, Instant)>,
    /// When the first were, and how many were in all; `None` once any had to wait for the peer's bucket.
    unpaced: Option<(Instant, usize)>,
    /// Until when it may take its answer, where it asked for points.
    telling: Option<Instant>,
    /// When the peer must have asked, or taken what is being written.
    deadline: Option<Instant>,
}

type Carried = (LogId, Seq, Seq);

#[derive(Debug)]
enum Phase {
    Asking,
    /// Rows that were asked for and not looked for yet, in the order of the answer; and which were sent.
    Rows {
        log: LogId,
        wanted: VecDeque<RangeInclusive<Seq>>,
        sent: IntervalSet,
    },
    /// The same while the store looks.
    Looking {
        log: LogId,
        looked: RangeInclusive<Seq>,
        wanted: VecDeque<RangeInclusive<Seq>>,
        sent: IntervalSet,
    },
    /// The store looks for the whole answer.
    Finding,
    /// Everything that will be answered is in `out`.
    Last,
}

impl Core {
    pub(super) fn next_stream(&mut self) -> StreamId {
        self.last_stream += 1;
        self.last_stream
    }

    /// A peer opened a stream. `None`: it is refused, and must be reset.
    pub fn handle_stream(&mut self, from: NodeId, now: Instant) -> Option<StreamId> {
        let theirs = self.served.values().filter(|serving| serving.from == from);
        let crowded = theirs.count() >= PER_PEER;
        let Some(peer) = self.peers.get_mut(&from) else {
            // Connections outlast a greeting: it asked before it went, or asks before it has greeted us again.
            self.refuse("question: from a peer that is not there");
            return None;
        };
        if !peer.budget.question(crowded, now) {
            self.blame(from, Offence::Questions);
            return None;
        }
        if crowded || self.served.len() >= MOST_SERVED {
            self.refuse("question: too many at a time");
            return None;
        }
        let stream = self.next_stream();
        self.effects.push_back(Effect::Read(stream));
        let serving = Serving {
            from,
            question: Frames::default(),
            phase: Phase::Asking,
            out: VecDeque::new(),
            paid: None,
            writing: None,
            unpaced: Some((now, 0)),
            telling: None,
            deadline: Some(now + PATIENCE),
        };
        self.served.insert(stream, serving);
        self.reckon_due(now);
        Some(stream)
    }

    /// Bytes of a stream, of either side.
    pub fn handle_read(&mut self, stream: StreamId, bytes: &[u8], now: Instant) {
        if self.served.contains_key(&stream) {
            self.handle_asked(stream, bytes, now);
        } else {
            self.handle_answer(stream, bytes, now);
        }
        self.settle(now);
    }

    /// All of the last `Write` is written.
    pub fn handle_written(&mut self, stream: StreamId, now: Instant) {
        if let Some(serving) = self.served.get_mut(&stream)
            && let Some((bytes, began)) = serving.writing.take()
        {
            serving.deadline = None;
            if let Some(bucket) = self.buckets.get_mut(&serving.from) {
                bucket.handle_written(bytes, now.saturating_duration_since(began), now);
            }
            self.stats.served_bytes += bytes as u64;
            self.serve(stream, now);
        }
        self.reckon_due(now);
    }

    /// A stream ended, broke or could not be opened.
    pub fn handle_broken(&mut self, stream: StreamId, now: Instant) {
        match self.served.remove(&stream) {
            Some(Serving {
                phase: Phase::Asking,
                ..
            }) => self.refuse("question: broke off"),
            // A peer that went away asks again.
            Some(_) => {}
            None => self.handle_answer_broken(stream, now),
        }
        self.settle(now);
    }

    /// Whoever has gone takes its places with it.
    pub(super) fn stop_serving(&mut self, peer: NodeId) {
        let theirs = self
            .served
            .iter()
            .filter(|(_, serving)| serving.from == peer);
        let theirs: Vec<_> = theirs.map(|(stream, _)| *stream).collect();
        for stream in theirs {
            self.served.remove(&stream);
            self.effects.push_back(Effect::Close(stream));
        }
    }

    fn handle_asked(&mut self, stream: StreamId, bytes: &[u8], now: Instant) {
        let Some(serving) = self.served.get_mut(&stream) else {
            return;
        };
        if !matches!(serving.phase, Phase::Asking) {
            return;
        }
        serving.question.push(bytes);
        let inside = match serving.question.next(MAX_QUESTION) {
            Ok(Some(inside)) => inside,
            Ok(None) => return self.effects.push_back(Effect::Read(stream)),
            Err(_too_long) => return self.turn_away(stream, Offence::Unreadable),
        };
        serving.deadline = None;
        match Question::decode(&inside) {
            Some(question) if is_modest(&question) => self.look(stream, question, now),
            Some(_) => self.turn_away(stream, Offence::Greedy),
            None => self.turn_away(stream, Offence::Unreadable),
        }
    }

    fn turn_away(&mut self, stream: StreamId, what: Offence) {
        if let Some(serving) = self.served.remove(&stream) {
            self.effects.push_back(Effect::Finish(stream));
            self.blame(serving.from, what);
        }
    }

    fn look(&mut self, stream: StreamId, question: Question, now: Instant) {
        let Some(serving) = self.served.get_mut(&stream) else {
            return;
        };
        serving.phase = Phase::Finding;
        match question {
            Question::Held(origins) => {
                let answers = origins.into_iter();
                let answers = answers.map(|origin| {
                    Answer::Held(HeldAnswer::new(origin, self.replica.held(&origin))).encode()
                });
                serving.answer(answers.collect());
            }
            Question::Rows(log, rows) => {
                serving.phase = Phase::Rows {
                    log,
                    wanted: windows(&rows).into(),
                    sent: IntervalSet::new(),
                };
            }
            Question::Points(asked) => {
                serving.telling = Some(now + TELLING);
                let from = serving.from;
                let told = self
                    .served
                    .values()
                    .filter(|served| served.telling.is_some());
                let (mut all, mut to_one) = (0, 0);
                for served in told {
                    all += 1;
                    to_one += usize::from(served.from == from);
                }
                if all > MOST_TOLD || to_one > TOLD_TO_ONE {
                    self.served.remove(&stream);
                    self.effects.push_back(Effect::Finish(stream));
                    return self.refuse("question: too many at a time");
                }
                self.store(Job::Points { stream, asked });
            }
            Question::Seals(windows) => {
                let from = serving.from;
                let peer = self.peers.get_mut(&from);
                if peer.is_some_and(|peer| !peer.budget.seals_asked(windows.len(), now)) {
                    return self.turn_away(stream, Offence::Questions);
                }
                self.store(Job::Seals { stream, windows });
            }
            Question::Schema(hash, known) => {
                self.store(Job::Schema {
                    stream,
                    hash,
                    known,
                });
            }
        }
        self.serve(stream, now);
    }

    /// The whole answer, as frames.
    pub(super) fn handle_found(&mut self, stream: StreamId, answers: Vec<Bytes>, now: Instant) {
        if let Some(serving) = self.served.get_mut(&stream) {
            serving.answer(answers);
            self.serve(stream, now);
        }
    }

    /// What the store holds of a range; `None`: it can't say, and the answer ends there.
    pub(super) fn handle_exported(
        &mut self,
        stream: StreamId,
        parcels: Option<Vec<Parcel>>,
        now: Instant,
    ) {
        let Some(serving) = self.served.get_mut(&stream) else {
            return;
        };
        if parcels.is_some_and(|parcels| serving.take(parcels).is_some()) {
            self.serve(stream, now);
        } else {
            self.served.remove(&stream);
            self.effects.push_back(Effect::Finish(stream));
        }
    }

    /// Goes on with a stream as far as its peer's bucket and the store let it.
    fn serve(&mut self, stream: StreamId, now: Instant) {
        let Some(serving) = self.served.get_mut(&stream) else {
            return;
        };
        while serving.writing.is_none() {
            if let Some((bytes, at)) = &serving.paid {
                if *at > now {
                    return;
                }
                let bytes = bytes.clone();
                serving.paid = None;
                serving.writing = Some((bytes.len(), now));
                serving.deadline = Some(now + PATIENCE);
                self.effects.push_back(Effect::Write { stream, bytes });
                return;
            }
            if let Some((frame, carried)) = serving.out.front_mut() {
                if frame.is_empty() {
                    if let Some((log, first, last)) = *carried {
                        let peer = origin_of(serving.from);
                        self.replica.handle_peer_has(peer, log, first, last);
                    }
                    serving.out.pop_front();
                    continue;
                }
                let bytes = frame.split_to(frame.len().min(CHUNK));
                let bucket = self.buckets.entry(serving.from);
                let bucket = bucket.or_insert_with(|| Bucket::new(self.pace, now));
                let wait = bucket.take(bytes.len(), now);
                serving.note_pace(bytes.len(), wait, now);
                serving.paid = Some((bytes, now + wait));
                continue;
            }
            match serving.look_on() {
                Some((log, rows)) => {
                    self.store(Job::Export { stream, log, rows });
                    return;
                }
                None if matches!(serving.phase, Phase::Last) => {
                    let (to, unpaced) = (serving.from, serving.unpaced);
                    self.served.remove(&stream);
                    if let Some((began, bytes)) = unpaced {
                        self.await_delivery(stream, to, bytes, began);
                    }
                    return self.effects.push_back(Effect::Finish(stream));
                }
                None if matches!(serving.phase, Phase::Rows { .. }) => {
                    serving.answer(Vec::new());
                }
                None => return,
            }
        }
    }

    /// Goes on with whoever's time has come, and gives up those who took too long.
    pub(super) fn serve_on(&mut self, now: Instant) {
        let streams: Vec<_> = self.served.keys().copied().collect();
        for stream in streams {
            let late = |serving: &Serving| serving.due().is_some_and(|at| at <= now);
            if !self.served.get(&stream).is_some_and(late) {
                self.serve(stream, now);
                continue;
            }
            let Some(serving) = self.served.remove(&stream) else {
                continue;
            };
            self.effects.push_back(Effect::Close(stream));
            if matches!(serving.phase, Phase::Asking) {
                self.blame(serving.from, Offence::Unfinished);
            }
        }
    }

    pub(super) fn serve_due(&self) -> Option<(Instant, &'static str)> {
        let served = self.served.values();
        let due = served.flat_map(|serving| {
            let paid = serving.paid.as_ref().map(|(_, at)| (*at, "answer"));
            paid.into_iter()
                .chain(serving.due().map(|at| (at, "served")))
        });
        due.min()
    }
}

impl Serving {
    /// When it is given up unless it goes on.
    fn due(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.telling).min()
    }

    fn note_pace(&mut self, bytes: usize, wait: Duration, now: Instant) {
        self.unpaced = match self.unpaced {
            Some(_) if !wait.is_zero() => None,
            Some((_, 0)) => Some((now, bytes)),
            Some((began, sent)) => Some((began, sent + bytes)),
            None => None,
        };
    }

    /// These frames, and nothing after them.
    fn answer(&mut self, answers: Vec<Bytes>) {
        let frames = answers.into_iter().chain([Answer::End.encode()]);
        self.out.extend(frames.map(|frame| (frame, None)));
        self.phase = Phase::Last;
    }

    /// The next range for the store to look at.
    fn look_on(&mut self) -> Option<(LogId, RangeInclusive<Seq>)> {
        let Phase::Rows { log, wanted, sent } = &mut self.phase else {
            return None;
        };
        let looked = loop {
            let range = wanted.pop_front()?;
            let left: IntervalSet = [range].into_iter().collect();
            let left = left.subtract(sent);
            let mut left = left.ranges();
            let Some(first) = left.next() else {
                continue;
            };
            let after: Vec<_> = left.collect();
            for range in after.into_iter().rev() {
                wanted.push_front(range);
            }
            break first;
        };
        let log = *log;
        self.phase = Phase::Looking {
            log,
            looked: looked.clone(),
            wanted: std::mem::take(wanted),
            sent: std::mem::take(sent),
        };
        Some((log, looked))
    }

    /// What the store found; `None`: it is damaged, and the answer ends there.
    fn take(&mut self, parcels: Vec<Parcel>) -> Option<()> {
        let Phase::Looking {
            log,
            looked,
            wanted,
            sent,
        } = &mut self.phase
        else {
            return None;
        };
        let log = *log;
        let mut reached = None;
        for parcel in parcels {
            let (answer, first, last) = described(parcel)?;
            sent.insert(first..=last);
            reached = reached.max(Some(last));
            self.out
                .push_back((answer.encode(), Some((log, first, last))));
        }
        // An export that stopped at its size goes on behind what it gave.
        let last = *looked.end();
        if let Some(reached) = reached.filter(|reached| *reached < last) {
            wanted.push_front(reached + 1..=last);
        }
        self.phase = Phase::Rows {
            log,
            wanted: std::mem::take(wanted),
            sent: std::mem::take(sent),
        };
        Some(())
    }
}

/// Whether a question asks for no more than an honest peer does.
fn is_modest(question: &Question) -> bool {
    match question {
        Question::Held(origins) => origins.len() <= MAX_ORIGINS,
        Question::Rows(_, rows) => {
            let last = rows.last().unwrap_or(0);
            let first = rows.first().unwrap_or(0);
            ((last - first) / 60) as usize <= MAX_WINDOWS
        }
        Question::Seals(windows) => windows.len() <= MAX_SEALS,
        Question::Schema(_, known) => known.len() <= MAX_SEALS,
        Question::Points(asked) => asked.query().is_some(),
    }
}

/// Ranges cut at window borders, newest first.
fn windows(rows: &IntervalSet) -> Vec<RangeInclusive<Seq>> {
    let mut cut = Vec::new();
    for range in rows.ranges() {
        let (mut first, last) = range.into_inner();
        while first <= last {
            let end = *window_of(first).end();
            cut.push(first..=last.min(end));
            let Some(next) = end.checked_add(1) else {
                break;
            };
            first = next;
        }
    }
    cut.reverse();
    cut
}

fn described(parcel: Parcel) -> Option<(Answer, Seq, Seq)> {
    Some(match parcel {
        Parcel::Row(bytes) => {
            let seq = SignedRow::decode(&bytes).ok()?.row.seq;
            (Answer::Row(Bytes::from(bytes)), seq, seq)
        }
        Parcel::Block(bytes) => {
            let head = Head::peek(&bytes).ok()?;
            (Answer::Block(Bytes::from(bytes)), head.first, head.last())
        }
    })
}

#[cfg(test)]
mod tests {
    use outlast_store::Origin;

    use super::*;

    #[test]
    fn ranges_are_cut_at_windows_and_go_newest_first() {
        let rows: IntervalSet = [5..=10, 50..=130].into_iter().collect();
        assert_eq!(windows(&rows), [121..=130, 61..=120, 50..=60, 5..=10]);
    }

    #[test]
    fn the_last_window_there_can_be_ends_the_cutting() {
        let rows: IntervalSet = [u32::MAX - 1..=u32::MAX].into_iter().collect();
        assert_eq!(windows(&rows), [u32::MAX - 1..=u32::MAX]);
    }

    #[test]
    fn a_question_for_everything_is_no_modest_one() {
        let log = LogId {
            origin: Origin([1; 32]),
            store: outlast_store::StoreId(1),
            epoch: outlast_store::Epoch {
                counter: 1,
                nonce: 1,
            },
        };
        let of = |ranges: Vec<RangeInclusive<Seq>>| {
            is_modest(&Question::Rows(log, ranges.into_iter().collect()))
        };
        assert!(of(vec![1..=240]));
        assert!(!of(vec![0..=u32::MAX - 1]));
        assert!(!of(vec![1..=1, 50_000..=50_000]));
        assert!(!is_modest(&Question::Held(vec![Origin([1; 32]); 17])));
    }
}
