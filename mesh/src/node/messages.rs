//! The frames of a member: greetings, signs of life, statements, and what the application says.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{MOST_OUTGOING, Node, NodeEvent};
use crate::id::NodeId;
use crate::spread::sync;
use crate::time::Now;
use crate::trust::{Refusal, Statement};
use crate::wire::frame::{Frame, Unreadable};
use crate::wire::message::{self, Hello, Ping, Pong, Summary, kind};
use crate::wire::{FIRST_APPLICATION_KIND, WIRE_OLDEST, WIRE_VERSION, frame};

impl Node {
    pub(super) fn frames(&mut self, id: NodeId, from: SocketAddr, payload: &[u8], now: Now) {
        for frame in frame::frames(payload) {
            match frame {
                Ok(frame) => self.frame(id, from, frame, now),
                Err(Unreadable::Version) => self.drop_one("frame version unknown"),
                Err(Unreadable::Cut) => self.drop_one("frame cut"),
            }
        }
    }

    fn frame(&mut self, id: NodeId, from: SocketAddr, frame: Frame<'_>, now: Now) {
        let Frame { kind, body } = frame;
        let read = match kind {
            FIRST_APPLICATION_KIND.. => {
                self.application(id, kind, body);
                Some(())
            }
            kind::HELLO => message::decode(body).map(|hello| self.hello(id, hello, now)),
            kind::PING => message::decode(body).map(|ping| self.ping(id, from, ping, now)),
            kind::PONG => message::decode(body).map(|pong| self.pong(id, pong, now)),
            kind::SUMMARY => {
                message::decode(body).map(|summary| self.summary(id, &summary, true, now))
            }
            kind::WANT => {
                message::decode(body).map(|summary| self.summary(id, &summary, false, now))
            }
            kind::STATEMENTS => {
                self.statements_from(id, message::unpack(body), now);
                Some(())
            }
            kind::GOODBYE => {
                self.goodbye(id);
                Some(())
            }
            _ => {
                self.drop_one("frame kind unknown");
                Some(())
            }
        };
        if read.is_none() {
            self.drop_one("frame malformed");
        }
    }

    fn application(&mut self, from: NodeId, kind: u8, body: &[u8]) {
        if !self.peers.get(&from).is_some_and(|peer| peer.connected) {
            return self.drop_one("before the greeting");
        }
        self.emit(NodeEvent::Message {
            from,
            kind,
            body: Bytes::copy_from_slice(body),
        });
    }

    fn hello(&mut self, id: NodeId, hello: Hello, now: Now) {
        if hello.wire_min > WIRE_VERSION || hello.wire_max < WIRE_OLDEST {
            self.notice(
                format!("version {id}"),
                format!(
                    "{} speaks wire versions {} to {}, this node {WIRE_OLDEST} to {WIRE_VERSION}: upgrade the older one",
                    id.short(), hello.wire_min, hello.wire_max
                ),
            );
            return self.drop_one("wire version");
        }
        let root = self.statements.root();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(restarted) = peer.greeting.take_run(hello.run, now.mono) else {
            return self.drop_one("restarts too often");
        };
        let lost = restarted && peer.connected;
        peer.greeting.heard = true;
        peer.greeting.answered = hello.heard;
        let answer = !hello.heard || !peer.greeting.told;
        let first = !peer.connected || restarted;
        peer.connected = true;
        self.settled |= peer.sync.learn(hello.root, root);
        if answer {
            self.greet(id, now);
        }
        if lost {
            self.emit(NodeEvent::Disconnected(id));
        }
        if first {
            tracing::info!(peer = %id.short(), "connected");
            self.emit(NodeEvent::Connected(id));
        }
        self.summarise_if_due(id, now);
    }

    fn ping(&mut self, id: NodeId, from: SocketAddr, ping: Ping, now: Now) {
        let pong = Pong {
            number: ping.number,
            received_us: now.wall_us,
            sent_us: now.wall_us,
            observed: from,
        };
        self.say(id, kind::PONG, &message::encode(&pong), now);
    }

    fn pong(&mut self, id: NodeId, pong: Pong, now: Now) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.liveness.answered(&pong, now);
        }
        self.answered_ping(id, pong.number, now);
        self.seen_from_outside(id, pong.observed, now);
    }

    /// The other side says what it holds, and as an offer wants to know what we have more. Answers
    /// are bounded, and leave half of the way out to what others wait for; whoever misses one asks
    /// again.
    fn summary(&mut self, id: NodeId, theirs: &Summary, offer: bool, now: Now) {
        let root = self.statements.root();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.sync.learn(theirs.root, root) {
            self.settled = true;
            return;
        }
        if theirs.range.is_none() {
            return self.summarise_if_due(id, now);
        }
        if !peer.sync.take_answer(now.mono) {
            return self.drop_one("asked too often");
        }
        if self.outgoing.len() >= MOST_OUTGOING / 2 {
            return self.drop_one("statements put off");
        }
        for body in message::pack(&sync::missing(&self.statements, theirs)) {
            self.say(id, kind::STATEMENTS, &body, now);
        }
        if offer && let Some(want) = sync::want(&self.statements, theirs) {
            self.say(id, kind::WANT, &message::encode(&want), now);
        }
    }

    /// Sends what we hold, in ranges, if the sets are known to differ and it wasn't just sent.
    pub(super) fn summarise_if_due(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if !peer.sync.take_summary_due(now.mono) {
            return;
        }
        for summary in peer.sync.summary(&self.statements) {
            self.say(id, kind::SUMMARY, &message::encode(&summary), now);
        }
    }

    fn statements_from(&mut self, id: NodeId, statements: Vec<Statement>, now: Now) {
        let (grew, refused) = self.take_statements(statements, Some(id), now);
        if let Err(refusal) = refused {
            tracing::debug!(peer = %id.short(), %refusal, "statement refused");
            self.drop_one("statement refused");
        }
        let root = self.statements.root();
        if let Some(peer) = self.peers.get_mut(&id)
            && grew
        {
            peer.sync.grew(root);
        }
    }

    /// Takes statements in, stores what is new and passes it on to every connected peer but the
    /// one it came from; says whether anything was new. One refused statement costs that one; the
    /// last refusal is returned.
    pub(super) fn take_statements(
        &mut self,
        statements: Vec<Statement>,
        from: Option<NodeId>,
        now: Now,
    ) -> (bool, Result<(), Refusal>) {
        let mut new = Vec::new();
        let mut refused = Ok(());
        for statement in statements {
            match self.statements.insert(statement.clone()) {
                Ok(true) => new.push(statement),
                Ok(false) => {}
                Err(refusal) => refused = Err(refusal),
            }
        }
        let grew = !new.is_empty();
        if grew {
            let others: Vec<NodeId> = self.connected().filter(|id| Some(*id) != from).collect();
            for body in message::pack(&new) {
                for id in &others {
                    self.say(*id, kind::STATEMENTS, &body, now);
                }
            }
            self.journal.append(&mut new);
            self.owes_write |= from.is_none();
            self.meet_members(now);
        }
        (grew, refused)
    }

    fn goodbye(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        tracing::info!(peer = %id.short(), "said goodbye");
        peer.liveness.left();
        let lost = peer.connected;
        peer.disconnect();
        self.drop_session(id);
        if lost {
            self.emit(NodeEvent::Disconnected(id));
        }
    }
}
