//! Questions of ours on streams, and their answers on the way to the store.
//!
//! One stream a question; the replica bounds how many. Pieces go to the store one at a time, so a request holds at most one
//! in memory beside what was read with it. Every piece must be of the log that was asked about; a piece that isn't, or
//! that was not asked for, ends the request and names the peer; one that the store finds forged marks its rows, and one
//! that can't be read costs itself. A request brings at most twice as many pieces as it asked for rows, `MAX_BYTES` in
//! all. A schema that a piece lacks is asked for on a stream of its own (`schemas`).
//! Every byte that comes is progress, so that one large frame at the slowest rate is waited for.

mod expected;
mod schemas;

use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{SchemaHash, Seal};

use super::frames::Frames;
use super::{Core, Effect, Offence, StreamId};
use crate::flow::keep::{Job, Piece, Repair};
use crate::flow::wire::{Answer, MAX_ANSWER, MAX_HELD, Question};
use crate::flow::{node_of, origin_of};
use crate::replica::{Ask, Request};
use expected::{block, most_answers, row};
use schemas::{MAX_DELTA_BYTES, Wanted};

/// How long a schema, or an answer that the replica doesn't count, may bring no byte.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one answer: the four windows a request is about, as the largest blocks there may be, and each once more.
const MAX_BYTES: usize = 8 * MAX_ANSWER;
/// Numbers of requests that the replica doesn't know of begin here; it counts its own from one.
const BESIDE: u64 = 1 << 63;
/// Schemas fetched for one piece: a block has at most so many rows.
const MOST_SCHEMAS: usize = 60;

/// A question on its way.
#[derive(Debug)]
pub(super) struct Asking {
    peer: NodeId,
    frames: Frames,
    what: What,
}

impl Asking {
    /// Whom it goes to.
    pub(super) fn peer(&self) -> NodeId {
        self.peer
    }
}

#[derive(Debug)]
enum What {
    Request(Box<Requested>),
    Schema(Box<Wanted>),
}

/// A request of the replica.
#[derive(Debug)]
struct Requested {
    request: Request,
    /// Pieces that may still come, and bytes of them.
    left: u64,
    left_bytes: usize,
    /// The piece the store has in hand, or that waits for a schema.
    piece: Option<Piece>,
    fetched: Vec<SchemaHash>,
    /// When it is given up, where the replica doesn't know of it.
    until: Option<Instant>,
}

/// How an answer goes on after a frame.
enum Step {
    Next,
    /// For the store, or for a schema.
    Wait,
    Done,
    Broken(Option<Offence>),
}

impl Core {
    /// Asks for something the replica doesn't count as missing; given up after `PATIENCE` without an end.
    pub(super) fn ask_beside(&mut self, peer: NodeId, ask: Ask, now: Instant) {
        let id = BESIDE + self.next_stream();
        let peer = origin_of(peer);
        self.ask(Request { id, peer, ask });
        let asked = self
            .requests
            .get(&id)
            .and_then(|stream| self.asks.get_mut(stream));
        if let Some(What::Request(requested)) = asked.map(|asking| &mut asking.what) {
            requested.until = Some(now + PATIENCE);
        }
    }

    pub(super) fn ask(&mut self, request: Request) {
        let peer = node_of(request.peer);
        let question = match &request.ask {
            Ask::Rows { log, rows } => Question::Rows(*log, rows.clone()),
            Ask::Held { origins } => Question::Held(origins.clone()),
            Ask::Seals { windows } => Question::Seals(windows.clone()),
        };
        let (id, left) = (request.id, most_answers(&request.ask));
        let requested = Requested {
            request,
            left,
            left_bytes: MAX_BYTES,
            piece: None,
            fetched: Vec::new(),
            until: None,
        };
        let stream = self.open(peer, &question, What::Request(Box::new(requested)));
        self.requests.insert(id, stream);
    }

    fn open(&mut self, peer: NodeId, question: &Question, what: What) -> StreamId {
        let stream = self.next_stream();
        self.effects.push_back(Effect::Open {
            stream,
            peer,
            question: question.encode(),
        });
        self.effects.push_back(Effect::Read(stream));
        let frames = Frames::default();
        self.asks.insert(stream, Asking { peer, frames, what });
        stream
    }

    /// Bytes of an answer.
    pub(super) fn handle_answer(&mut self, stream: StreamId, bytes: &[u8], now: Instant) {
        let Some(mut asking) = self.asks.remove(&stream) else {
            return;
        };
        asking.frames.push(bytes);
        let mut endless = false;
        let moved = match &mut asking.what {
            What::Request(requested) => {
                endless = bytes.len() > requested.left_bytes;
                requested.left_bytes = requested.left_bytes.saturating_sub(bytes.len());
                Some(requested.request.id)
            }
            What::Schema(wanted) => {
                wanted.silent = now + PATIENCE;
                wanted.piece_of.and_then(|piece| self.request_of(piece))
            }
        };
        if let Some(id) = moved {
            self.replica.handle_progress(id, now);
        }
        if endless {
            return self.broke_off(stream, asking, Some(Offence::Endless), now);
        }
        self.go_on(stream, asking, now);
    }

    fn request_of(&self, stream: StreamId) -> Option<u64> {
        match &self.asks.get(&stream)?.what {
            What::Request(requested) => Some(requested.request.id),
            What::Schema(_) => None,
        }
    }

    /// Takes the frames that are there, until something must be waited for.
    fn go_on(&mut self, stream: StreamId, mut asking: Asking, now: Instant) {
        loop {
            let step = match asking.frames.next(asking.limit()) {
                _ if asking.waits() => Step::Wait,
                Ok(None) => {
                    self.effects.push_back(Effect::Read(stream));
                    Step::Wait
                }
                Ok(Some(inside)) => self.take(stream, &mut asking, &inside, now),
                Err(_too_long) => Step::Broken(Some(Offence::Unreadable)),
            };
            match step {
                Step::Next => {}
                Step::Wait => {
                    self.asks.insert(stream, asking);
                    return;
                }
                Step::Done => return self.done(stream, asking, now),
                Step::Broken(lie) => return self.broke_off(stream, asking, lie, now),
            }
        }
    }

    fn take(
        &mut self,
        stream: StreamId,
        asking: &mut Asking,
        inside: &Bytes,
        now: Instant,
    ) -> Step {
        let Some(answer) = Answer::decode(inside) else {
            return Step::Broken(Some(Offence::Unreadable));
        };
        match &mut asking.what {
            What::Request(requested) => {
                self.take_requested(stream, asking.peer, requested, answer, now)
            }
            What::Schema(wanted) => self.take_schema(stream, wanted, answer),
        }
    }

    fn take_requested(
        &mut self,
        stream: StreamId,
        peer: NodeId,
        requested: &mut Requested,
        answer: Answer,
        now: Instant,
    ) -> Step {
        if matches!(answer, Answer::End) {
            return Step::Done;
        }
        let Some(left) = requested.left.checked_sub(1) else {
            return Step::Broken(Some(Offence::Endless));
        };
        requested.left = left;
        let piece = match (answer, &requested.request.ask) {
            (Answer::Row(bytes), Ask::Rows { log, rows }) => row(*log, rows, &bytes),
            (Answer::Block(bytes), Ask::Rows { log, rows }) => block(*log, rows, bytes),
            (Answer::Held(held), Ask::Held { origins }) if origins.contains(&held.origin) => {
                let (id, origin) = (requested.request.id, held.origin);
                self.replica
                    .handle_held(id, origin_of(peer), origin, held.logs(), now);
                return Step::Next;
            }
            (Answer::Seal(bytes), Ask::Seals { windows }) => {
                let Ok(seal) = Seal::decode(&bytes) else {
                    self.blame(peer, Offence::Unreadable);
                    return Step::Next;
                };
                if !windows.iter().any(|(log, _)| *log == seal.log) {
                    return Step::Broken(Some(Offence::Unasked));
                }
                self.store_seal(seal, peer);
                return Step::Next;
            }
            _ => Err(Offence::Unasked),
        };
        match piece {
            Ok(piece) => {
                requested.piece = Some(piece.clone());
                self.store(Job::Repair {
                    ask: stream,
                    piece,
                    from: peer,
                });
                Step::Wait
            }
            // One bad record costs that record: what follows may be good.
            Err(Offence::Unreadable) => {
                self.blame(peer, Offence::Unreadable);
                Step::Next
            }
            Err(lie) => Step::Broken(Some(lie)),
        }
    }

    /// The store's word on a piece that was asked for.
    pub(super) fn handle_repaired(
        &mut self,
        stream: StreamId,
        piece: &Piece,
        outcome: Repair,
        now: Instant,
    ) {
        let (log, first, last) = piece.span();
        if let Repair::New | Repair::Known = outcome {
            // Also when the request was given up meanwhile: the rows are here.
            self.count_repaired(&outcome, first, last);
            self.handle_stored(log, first, last);
        }
        let Some(mut asking) = self.asks.remove(&stream) else {
            return;
        };
        let What::Request(requested) = &mut asking.what else {
            return;
        };
        match outcome {
            Repair::Unknown { hash, known } if requested.may_fetch(hash) => {
                requested.fetched.push(hash);
                let peer = asking.peer;
                self.asks.insert(stream, asking);
                return self.fetch_schema(peer, log.origin, hash, known, Some(stream), now);
            }
            Repair::NotNow => return self.broke_off(stream, asking, None, now),
            Repair::Unknown { .. } | Repair::Bad => {
                self.replica
                    .handle_refused(Some(origin_of(asking.peer)), log, first, last);
            }
            Repair::New | Repair::Known => {}
        }
        requested.piece = None;
        self.replica.handle_progress(requested.request.id, now);
        self.go_on(stream, asking, now);
    }

    fn count_repaired(&mut self, outcome: &Repair, first: u32, last: u32) {
        if matches!(outcome, Repair::New) {
            self.stats.repaired_rows += u64::from(last - first) + 1;
        } else {
            self.stats.duplicates += 1;
        }
    }

    fn done(&mut self, stream: StreamId, asking: Asking, now: Instant) {
        self.effects.push_back(Effect::Close(stream));
        if let What::Request(requested) = asking.what {
            let id = requested.request.id;
            self.requests.remove(&id);
            self.replica.handle_done(id, now);
        }
    }

    fn broke_off(&mut self, stream: StreamId, asking: Asking, lie: Option<Offence>, now: Instant) {
        self.effects.push_back(Effect::Close(stream));
        if let Some(lie) = lie {
            self.blame(asking.peer, lie);
        }
        match asking.what {
            What::Request(requested) => {
                let id = requested.request.id;
                self.requests.remove(&id);
                self.stop_fetching_for(stream);
                self.replica.handle_failed(id, now);
            }
            What::Schema(wanted) => self.end_schema(&wanted, false, now),
        }
    }

    /// A stream of ours ended, broke, or was never opened.
    pub(super) fn handle_answer_broken(&mut self, stream: StreamId, now: Instant) {
        let complete = |asking: &Asking| matches!(&asking.what, What::Schema(w) if w.complete);
        if self.asks.get(&stream).is_none_or(complete) {
            return;
        }
        if let Some(asking) = self.asks.remove(&stream) {
            self.broke_off(stream, asking, None, now);
        }
    }

    /// A request that the replica has given up.
    pub(super) fn cancel(&mut self, id: u64) {
        if let Some(stream) = self.requests.remove(&id) {
            self.asks.remove(&stream);
            self.effects.push_back(Effect::Close(stream));
            self.stop_fetching_for(stream);
        }
    }

    /// Gives up schemas that are silent or take too long.
    pub(super) fn expire_asks(&mut self, now: Instant) {
        let late = self.asks.iter();
        let late = late.filter(|(_, asking)| asking.deadline().is_some_and(|at| at <= now));
        let late: Vec<_> = late.map(|(stream, _)| *stream).collect();
        for stream in late {
            self.handle_answer_broken(stream, now);
        }
    }

    pub(super) fn ask_due(&self) -> Option<(Instant, &'static str)> {
        let deadlines = self.asks.values().filter_map(Asking::deadline);
        deadlines.min().map(|at| (at, "schema"))
    }
}

impl Asking {
    /// The longest frame that may come.
    fn limit(&self) -> usize {
        match &self.what {
            What::Schema(_) => MAX_DELTA_BYTES,
            What::Request(requested) => match requested.request.ask {
                Ask::Held { .. } => MAX_HELD,
                Ask::Rows { .. } | Ask::Seals { .. } => MAX_ANSWER,
            },
        }
    }

    /// Whether the store or a schema must come first.
    fn waits(&self) -> bool {
        match &self.what {
            What::Request(requested) => requested.piece.is_some(),
            What::Schema(wanted) => wanted.complete,
        }
    }

    /// `None`: the replica knows, or the store has it in hand.
    fn deadline(&self) -> Option<Instant> {
        match &self.what {
            What::Schema(wanted) if !wanted.complete => Some(wanted.silent.min(wanted.until)),
            What::Schema(_) => None,
            What::Request(requested) => requested.until,
        }
    }
}

impl Requested {
    fn may_fetch(&self, hash: SchemaHash) -> bool {
        self.fetched.len() < MOST_SCHEMAS && !self.fetched.contains(&hash)
    }
}
