//! The twin of streams: reliable, in order, at bulk priority, broken when the session below them ends.
//!
//! A piece waits while a wall stands, and comes when it falls. A core reads and writes at its own pace, as over quinn.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use outlast::flow::core::StreamId;
use outlast_mesh::NodeId;

use crate::case::Flaw;
use crate::time::Moment;
use crate::world::{Event, World};

/// A piece that couldn't be delivered for so long is given up with its stream, as an idle connection would be.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream between two machines. End 0 opened it.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    machine: u32,
    life: u32,
    stream: Option<StreamId>,
    come: VecDeque<Bytes>,
    ended: bool,
    reading: bool,
    /// When the last piece sent to this end arrives: none overtakes another.
    last: Moment,
}

/// Something on its way through a pipe.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) pipe: u64,
    pub(crate) to: usize,
    pub(crate) what: Passing,
    pub(crate) sent: Moment,
}

#[derive(Debug, Clone)]
pub(crate) enum Passing {
    Bytes(Bytes),
    End,
    Reset,
}

impl World {
    pub(crate) fn open_pipe(&mut self, m: u32, stream: StreamId, peer: NodeId, question: Bytes) {
        let peer = self.numbers.get(&peer).copied();
        let machine = &self.machines[m as usize];
        let session = peer
            .and_then(|peer| machine.sessions.up.get(&peer))
            .copied();
        let Some(session) = session.filter(|_| self.case.flaw != Some(Flaw::NoStreams)) else {
            self.machines[m as usize].streams.remove(&stream);
            return self.tell_broken(m, stream);
        };
        let end = |machine, life, stream| End {
            machine,
            life,
            stream,
            come: VecDeque::new(),
            ended: false,
            reading: false,
            last: Moment::default(),
        };
        let pipe = Pipe {
            ends: [
                end(m, machine.life, Some(stream)),
                end(session.remote, session.remote_life, None),
            ],
        };
        self.last_pipe += 1;
        let id = self.last_pipe;
        self.pipes.insert(id, pipe);
        self.machines[m as usize].streams.insert(stream, (id, 0));
        self.pass(id, 1, Passing::Bytes(question));
        self.pass(id, 1, Passing::End);
    }

    pub(crate) fn write_pipe(&mut self, m: u32, stream: StreamId, bytes: Bytes) {
        match self.machines[m as usize].streams.get(&stream).copied() {
            Some((id, end)) => {
                let left = self.pass(id, 1 - end, Passing::Bytes(bytes));
                let life = self.machines[m as usize].life;
                self.enter(left, m, Event::Written { stream, life });
            }
            None => self.tell_broken(m, stream),
        }
    }

    pub(crate) fn finish_pipe(&mut self, m: u32, stream: StreamId) {
        if let Some((id, end)) = self.machines[m as usize].streams.remove(&stream) {
            self.pass(id, 1 - end, Passing::End);
        }
    }

    pub(crate) fn close_pipe(&mut self, m: u32, stream: StreamId) {
        if let Some((id, end)) = self.machines[m as usize].streams.remove(&stream) {
            self.pass(id, 1 - end, Passing::Reset);
        }
    }

    /// Sends something through; says when the line has taken it.
    fn pass(&mut self, id: u64, to: usize, what: Passing) -> Moment {
        let now = self.now;
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return now;
        };
        let (from, at) = (pipe.ends[1 - to].machine, pipe.ends[to].machine);
        let size = if let Passing::Bytes(bytes) = &what {
            bytes.len() as u64
        } else {
            4
        };
        let arrives = self
            .network
            .piece(now, from, at, size)
            .max(pipe.ends[to].last);
        pipe.ends[to].last = arrives;
        let piece = Piece {
            pipe: id,
            to,
            what,
            sent: now,
        };
        self.enter(arrives, at, Event::Piece(Box::new(piece)));
        self.network.bulk_free(from).max(now)
    }

    pub(crate) fn handle_piece(&mut self, m: u32, piece: Piece) {
        let now = self.now;
        let Some(pipe) = self.pipes.get(&piece.pipe) else {
            return;
        };
        let (from, to) = (&pipe.ends[1 - piece.to], &pipe.ends[piece.to]);
        let machine = &self.machines[m as usize];
        if machine.up.is_none() || machine.life != to.life {
            self.pipes.remove(&piece.pipe);
            return;
        }
        if !self.network.is_open(now, from.machine, m) {
            if now.since(piece.sent) < PATIENCE {
                let at = self.network.resent(now);
                self.enter(at, m, Event::Piece(Box::new(piece)));
            } else {
                self.break_pipe(piece.pipe);
            }
            return;
        }
        let (from, stream) = (from.machine, to.stream);
        let stream = match stream {
            Some(stream) => stream,
            None => match self.accept(m, from, piece.pipe) {
                Some(stream) => stream,
                None => return,
            },
        };
        // Its core may have dropped it meanwhile.
        if self.machines[m as usize].streams.get(&stream) != Some(&(piece.pipe, piece.to)) {
            self.pipes.remove(&piece.pipe);
            return;
        }
        let Some(pipe) = self.pipes.get_mut(&piece.pipe) else {
            return;
        };
        let end = &mut pipe.ends[piece.to];
        match piece.what {
            Passing::Bytes(bytes) => end.come.push_back(bytes),
            Passing::End => end.ended = true,
            Passing::Reset => {
                self.machines[m as usize].streams.remove(&stream);
                self.pipes.remove(&piece.pipe);
                return self.tell_broken(m, stream);
            }
        }
        let (is_whole, is_read) = (end.ended, end.reading);
        if is_whole {
            self.acknowledge(m, piece.pipe, 1 - piece.to);
        }
        if is_read {
            self.read_pipe(m, stream);
        }
    }

    /// The end that wrote hears that everything has arrived, unless a wall stands in its way.
    fn acknowledge(&mut self, m: u32, id: u64, side: usize) {
        let Some(writer) = self.pipes.get(&id).map(|pipe| &pipe.ends[side]) else {
            return;
        };
        let (to, life) = (writer.machine, writer.life);
        let Some(stream) = writer.stream else { return };
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

    fn accept(&mut self, m: u32, from: u32, id: u64) -> Option<StreamId> {
        let instant = self.instant(self.now);
        let peer = self.machines[from as usize].who;
        let machine = &mut self.machines[m as usize];
        let known = machine
            .sessions
            .up
            .get(&peer)
            .is_some_and(|session| session.remote == from);
        let up = machine.up.as_mut().filter(|_| known)?;
        let stream = up.core.handle_stream(self.ids[peer as usize], instant);
        let Some(stream) = stream else {
            self.pass(id, 0, Passing::Reset);
            self.drain(m);
            return None;
        };
        machine.streams.insert(stream, (id, 1));
        if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.ends[1].stream = Some(stream);
        }
        self.drain(m);
        Some(stream)
    }

    /// The core wants the next bytes of a stream, now or when they come.
    pub(crate) fn read_pipe(&mut self, m: u32, stream: StreamId) {
        let instant = self.instant(self.now);
        let Some((id, side)) = self.machines[m as usize].streams.get(&stream).copied() else {
            return;
        };
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return self.tell_broken(m, stream);
        };
        let end = &mut pipe.ends[side];
        let bytes = end.come.pop_front();
        end.reading = bytes.is_none() && !end.ended;
        if end.reading {
            return;
        }
        match (bytes, &mut self.machines[m as usize].up) {
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
            .filter(|(_, (id, end))| {
                self.pipes
                    .get(id)
                    .is_none_or(|pipe| pipe.ends[1 - end].machine == remote)
            })
            .map(|(stream, _)| *stream)
            .collect();
        for stream in broken {
            self.machines[m as usize].streams.remove(&stream);
            self.tell_broken(m, stream);
        }
    }

    fn break_pipe(&mut self, id: u64) {
        let Some(pipe) = self.pipes.remove(&id) else {
            return;
        };
        for end in pipe.ends {
            if let Some(stream) = end.stream
                && self.machines[end.machine as usize].life == end.life
                && self.machines[end.machine as usize]
                    .streams
                    .remove(&stream)
                    .is_some()
            {
                self.tell_broken(end.machine, stream);
            }
        }
    }
}
