//! The twin of streams: reliable, in order, at bulk priority, broken when the session below them ends.
//!
//! Each end belongs to its machine; what passes between them is a `Piece`, numbered, so that one that waited for a wall to
//! fall is not overtaken. A core reads and writes at its own pace, as over quinn.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use outlast::flow::core::StreamId;
use outlast_mesh::NodeId;

use crate::case::Flaw;
use crate::site::{Event, Site};
use crate::time::Moment;

/// A piece that couldn't be delivered for so long is given up with its stream, as an idle connection would be.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pipe: the machine that opened it, and how many it had opened by then.
pub(crate) type PipeId = (u32, u32);

/// A machine and which of its lives.
type Somebody = (u32, u32);

/// One end of a pipe, as its machine knows it.
#[derive(Debug)]
pub(crate) struct End {
    pipe: PipeId,
    /// Who has the other end.
    other: Somebody,
    come: VecDeque<Bytes>,
    ended: bool,
    reading: bool,
    /// Pieces that came before those sent before them.
    early: BTreeMap<u32, Piece>,
    /// Pieces sent, and those that came.
    sent: u32,
    received: u32,
    /// When the last piece sent arrives: none overtakes another.
    last: Moment,
}

/// Something on its way through a pipe.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pipe: PipeId,
    from: Somebody,
    /// What the pipe is to the core that sent this.
    stream: StreamId,
    to: Somebody,
    number: u32,
    pub(crate) what: Passing,
    sent: Moment,
}

#[derive(Debug, Clone)]
pub(crate) enum Passing {
    /// The whole question.
    Question(Bytes),
    Bytes(Bytes),
    End,
    Reset,
    /// The other end has given up: that needs nobody's word, and no wall keeps it.
    Lost,
}

impl Piece {
    /// What it is in the log of events.
    pub(crate) fn logged(&self) -> (u64, &[u8]) {
        let pipe = u64::from(self.pipe.0) << 32 | u64::from(self.pipe.1);
        match &self.what {
            Passing::Question(bytes) | Passing::Bytes(bytes) => (pipe, bytes),
            Passing::End | Passing::Reset | Passing::Lost => (pipe, &[]),
        }
    }
}

impl End {
    fn new(pipe: PipeId, other: Somebody) -> Self {
        Self {
            pipe,
            other,
            come: VecDeque::new(),
            ended: false,
            reading: false,
            early: BTreeMap::new(),
            sent: 0,
            received: 0,
            last: Moment::default(),
        }
    }
}

impl Site {
    pub(crate) fn open_pipe(&mut self, m: u32, stream: StreamId, peer: NodeId, question: Bytes) {
        let peer = self.register.numbers.get(&peer).copied();
        let machine = &mut self.machines[m as usize];
        let session = peer
            .and_then(|peer| machine.sessions.up.get(&peer))
            .copied();
        let Some(session) = session.filter(|_| self.case.flaw != Some(Flaw::NoStreams)) else {
            return self.tell_broken(m, stream);
        };
        machine.opened += 1;
        let pipe = (m, machine.opened);
        let mut end = End::new(pipe, (session.remote, session.remote_life));
        self.pass(m, stream, &mut end, Passing::Question(question));
        let machine = &mut self.machines[m as usize];
        machine.streams.insert(stream, end);
        machine.pipes.insert(pipe, stream);
    }

    pub(crate) fn write_pipe(&mut self, m: u32, stream: StreamId, bytes: Bytes) {
        match self.machines[m as usize].streams.remove(&stream) {
            Some(mut end) => {
                let left = self.pass(m, stream, &mut end, Passing::Bytes(bytes));
                let machine = &mut self.machines[m as usize];
                machine.streams.insert(stream, end);
                let life = machine.life;
                self.enter(left, m, Event::Written { stream, life });
            }
            None => self.tell_broken(m, stream),
        }
    }

    pub(crate) fn finish_pipe(&mut self, m: u32, stream: StreamId) {
        if let Some(mut end) = self.forget_end(m, stream) {
            self.pass(m, stream, &mut end, Passing::End);
        }
    }

    pub(crate) fn close_pipe(&mut self, m: u32, stream: StreamId) {
        if let Some(mut end) = self.forget_end(m, stream) {
            self.pass(m, stream, &mut end, Passing::Reset);
        }
    }

    fn forget_end(&mut self, m: u32, stream: StreamId) -> Option<End> {
        let machine = &mut self.machines[m as usize];
        let end = machine.streams.remove(&stream)?;
        machine.pipes.remove(&end.pipe);
        Some(end)
    }

    /// Sends something through; says when the line has taken it.
    fn pass(&mut self, m: u32, stream: StreamId, end: &mut End, what: Passing) -> Moment {
        let now = self.now;
        let size = match &what {
            Passing::Question(bytes) => bytes.len() as u64 + 4,
            Passing::Bytes(bytes) => bytes.len() as u64,
            Passing::End | Passing::Reset | Passing::Lost => 4,
        };
        let to = end.other;
        let arrives = self.network.piece(now, m, to.0, size).max(end.last);
        self.busy_lines.push(m);
        end.last = arrives;
        let piece = Piece {
            pipe: end.pipe,
            from: (m, self.machines[m as usize].life),
            stream,
            to,
            number: end.sent,
            what,
            sent: now,
        };
        end.sent += 1;
        self.enter(arrives, to.0, Event::Piece(Box::new(piece)));
        self.network.bulk_free(m).max(now)
    }

    pub(crate) fn handle_piece(&mut self, m: u32, piece: Piece) {
        let now = self.now;
        let machine = &self.machines[m as usize];
        if machine.up.is_none() || machine.life != piece.to.1 {
            return;
        }
        let given_up = matches!(piece.what, Passing::Lost);
        if !given_up && !self.network.is_open(now, piece.from.0, m) {
            return self.hold_up(m, piece);
        }
        let known = machine.pipes.get(&piece.pipe).copied();
        let stream = match (known, &piece.what) {
            (Some(stream), _) => stream,
            (None, Passing::Question(_)) => match self.accept(m, &piece) {
                Some(stream) => stream,
                None => return,
            },
            // Its core has dropped it meanwhile.
            (None, _) => return,
        };
        if given_up {
            self.forget_end(m, stream);
            return self.tell_broken(m, stream);
        }
        let Some(end) = self.machines[m as usize].streams.get_mut(&stream) else {
            return;
        };
        end.early.insert(piece.number, piece);
        self.take_in(m, stream);
    }

    /// Takes in what has come in order.
    fn take_in(&mut self, m: u32, stream: StreamId) {
        let (mut is_whole, mut writer) = (false, None);
        let Some(end) = self.machines[m as usize].streams.get_mut(&stream) else {
            return;
        };
        while let Some(piece) = end.early.remove(&end.received) {
            end.received += 1;
            writer = Some((piece.from, piece.stream));
            match piece.what {
                Passing::Question(bytes) => {
                    end.come.push_back(bytes);
                    end.ended = true;
                }
                Passing::Bytes(bytes) => end.come.push_back(bytes),
                Passing::End => end.ended = true,
                Passing::Reset | Passing::Lost => {
                    self.forget_end(m, stream);
                    return self.tell_broken(m, stream);
                }
            }
            is_whole = end.ended;
        }
        let is_read = end.reading;
        if let Some((to, stream)) = writer.filter(|_| is_whole) {
            self.acknowledge(m, to, stream);
        }
        if is_read {
            self.read_pipe(m, stream);
        }
    }

    /// A wall stands in the way: it comes again later, until its stream is given up.
    fn hold_up(&mut self, m: u32, piece: Piece) {
        let now = self.now;
        if now.since(piece.sent) < PATIENCE {
            let at = self.network.resent(now);
            return self.enter(at, m, Event::Piece(Box::new(piece)));
        }
        let life = self.machines[m as usize].life;
        let lost = Piece {
            from: (m, life),
            to: piece.from,
            what: Passing::Lost,
            sent: now,
            ..piece
        };
        let at = now + self.network.way(m, lost.to.0);
        let (pipe, to) = (lost.pipe, lost.to.0);
        self.enter(at, to, Event::Piece(Box::new(lost)));
        if let Some(stream) = self.machines[m as usize].pipes.get(&pipe).copied() {
            self.forget_end(m, stream);
            self.tell_broken(m, stream);
        }
    }

    /// The end that wrote hears that everything has arrived, unless a wall stands in its way.
    fn acknowledge(&mut self, m: u32, (to, life): Somebody, stream: StreamId) {
        if let Some(at) = self.network.acknowledgement(self.now, m, to) {
            self.enter(at, to, Event::Delivered { stream, life });
        }
    }

    pub(crate) fn handle_delivered(&mut self, m: u32, stream: StreamId, life: u32) {
        let instant = self.instant(self.now);
        let machine = &mut self.machines[m as usize];
        if machine.life == life
            && let Some(up) = &mut machine.up
        {
            up.core.handle_delivered(stream, instant);
            self.drain(m);
        }
    }

    fn accept(&mut self, m: u32, piece: &Piece) -> Option<StreamId> {
        let instant = self.instant(self.now);
        let from = piece.from.0;
        let peer = self.register.whose[from as usize];
        let machine = &mut self.machines[m as usize];
        let known = machine
            .sessions
            .up
            .get(&peer)
            .is_some_and(|session| session.remote == from);
        let up = machine.up.as_mut().filter(|_| known)?;
        let stream = up
            .core
            .handle_stream(self.register.ids[peer as usize], instant);
        let mut end = End::new(piece.pipe, piece.from);
        let Some(stream) = stream else {
            self.pass(m, 0, &mut end, Passing::Reset);
            self.drain(m);
            return None;
        };
        machine.streams.insert(stream, end);
        machine.pipes.insert(piece.pipe, stream);
        self.drain(m);
        Some(stream)
    }

    /// The core wants the next bytes of a stream, now or when they come.
    pub(crate) fn read_pipe(&mut self, m: u32, stream: StreamId) {
        let instant = self.instant(self.now);
        let machine = &mut self.machines[m as usize];
        let Some(end) = machine.streams.get_mut(&stream) else {
            return;
        };
        let bytes = end.come.pop_front();
        end.reading = bytes.is_none() && !end.ended;
        if end.reading {
            return;
        }
        match (bytes, &mut machine.up) {
            (Some(bytes), Some(up)) => up.core.handle_read(stream, &bytes, instant),
            _ => return self.tell_broken(m, stream),
        }
        self.drain(m);
    }

    pub(crate) fn handle_written(&mut self, m: u32, stream: StreamId, life: u32) {
        let instant = self.instant(self.now);
        let machine = &mut self.machines[m as usize];
        if machine.life == life
            && machine.streams.contains_key(&stream)
            && let Some(up) = &mut machine.up
        {
            up.core.handle_written(stream, instant);
            self.drain(m);
        }
    }

    pub(crate) fn tell_broken(&mut self, m: u32, stream: StreamId) {
        let instant = self.instant(self.now);
        if let Some(up) = &mut self.machines[m as usize].up {
            up.core.handle_broken(stream, instant);
        }
        self.drain(m);
    }

    /// Every stream between two machines is broken at this side; the other finds out by itself.
    pub(crate) fn break_pipes(&mut self, m: u32, remote: u32) {
        let streams = self.machines[m as usize].streams.iter();
        let broken: Vec<StreamId> = streams
            .filter(|(_, end)| end.other.0 == remote)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in broken {
            self.forget_end(m, stream);
            self.tell_broken(m, stream);
        }
    }
}
