//! The frames of a member: greetings, signs of life, and what the application says.
//!
//! Each kind has its budget (`quota`); what is over it is refused, counted and named. Absent: the
//! statements, which have a file of their own.

use bytes::Bytes;

use super::members::about_version;
use super::{Node, NodeEvent};
use crate::id::NodeId;
use crate::path::way::Way;
use crate::reckoning::Offence;
use crate::time::Now;
use crate::wire::frame::{Frame, Unreadable};
use crate::wire::message::{self, Hello, Ping, Pong, Wish, kind};
use crate::wire::{self, FIRST_APPLICATION_KIND, WIRE_OLDEST, WIRE_VERSION, frame, word};

impl Node {
    pub(crate) fn frames(&mut self, id: NodeId, from: Way, payload: &[u8], now: Now) {
        for frame in frame::frames(payload) {
            // Behind a goodbye nothing counts until there is a new session.
            if self
                .peers
                .get(&id)
                .is_none_or(|peer| peer.liveness.has_left())
            {
                return self.drop_one("after a goodbye");
            }
            match frame {
                Ok(frame) => self.frame(id, from, frame, now),
                Err(Unreadable::Version) => self.drop_one("frame version unknown"),
                Err(Unreadable::Cut) => {
                    self.drop_one("frame cut");
                    self.blame(id, Offence::Malformed, now);
                }
            }
        }
    }

    fn frame(&mut self, id: NodeId, from: Way, frame: Frame<'_>, now: Now) {
        let Frame { kind, body } = frame;
        let has_own_budget = matches!(
            kind,
            FIRST_APPLICATION_KIND..|kind::STATEMENTS| kind::SUMMARY | kind::WANT | kind::WORDS
        );
        if !has_own_budget && !self.grants(id, |quota| quota.talk.take(1.0, now.mono)) {
            self.drop_one("talks too much");
            return self.blame(id, Offence::Greetings, now);
        }
        let read = match kind {
            FIRST_APPLICATION_KIND.. => {
                self.application(id, kind, body, now);
                Some(())
            }
            kind::HELLO => message::decode_with_trust(body)
                .map(|(hello, trust)| self.hello(id, hello, trust, now)),
            kind::PING => message::decode(body).map(|ping| self.ping(id, from, ping, now)),
            kind::PONG => message::decode(body).map(|pong| self.pong(id, pong, now)),
            kind::SUMMARY => {
                message::decode_with_trust(body).map(|summary| self.summary(id, summary, true, now))
            }
            kind::WANT => message::decode_with_trust(body)
                .map(|summary| self.summary(id, summary, false, now)),
            kind::STATEMENTS => {
                self.statements_from(id, message::unpack(body), now);
                Some(())
            }
            kind::GOODBYE => {
                self.goodbye(id, now);
                Some(())
            }
            kind::PROBE => self.probe(id, body, now),
            kind::PROBED => self.probed(id, body),
            kind::UNRELAYED => self.unrelayed(id, body, now),
            kind::WISH => Wish::decode(body).map(|(wish, parts)| self.wish(id, wish, parts, now)),
            kind::COPIED => message::decode(body).map(|copied| self.told_of_copy(id, copied, now)),
            kind::WORDS => word::decode(body).map(|words| self.words(id, words, now)),
            _ => {
                self.drop_one("frame kind unknown");
                Some(())
            }
        };
        if read.is_none() {
            self.drop_one("frame malformed");
            self.blame(id, Offence::Malformed, now);
        }
    }

    fn application(&mut self, from: NodeId, kind: u8, body: &[u8], now: Now) {
        if !self.peers.get(&from).is_some_and(|peer| peer.connected) {
            self.stir_from_rest(from, now);
            return self.drop_one("before the greeting");
        }
        if !self.grants(from, |quota| quota.messages.take(1.0, now.mono)) {
            self.drop_one("messages too many");
            return self.blame(from, Offence::Messages, now);
        }
        self.emit(NodeEvent::Message {
            from,
            kind,
            body: Bytes::copy_from_slice(body),
        });
    }

    fn hello(&mut self, id: NodeId, hello: Hello, trust: Option<[u8; 32]>, now: Now) {
        let Some(version) = self.common_version(id, &hello, now) else {
            return self.drop_one("wire version");
        };
        let ours = self.roots();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(restarted) = peer.greeting.take_run(hello.run, now.mono) else {
            self.drop_one("restarts too often");
            return self.blame(id, Offence::Restarts, now);
        };
        self.watch_for_copies(id, hello.run, now);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let first = !peer.is_met() || restarted;
        let lost = restarted && peer.connected;
        if first && !peer.quota.connects.take(1.0, now.mono) {
            // Its earlier life is over all the same, or its next greeting would pass for that
            // one's.
            if lost {
                peer.disconnect();
                self.emit(NodeEvent::Disconnected(id));
            }
            self.drop_one("connects too often");
            return self.blame(id, Offence::Restarts, now);
        }
        peer.greeting.version = Some(version);
        peer.greeting.heard = true;
        peer.greeting.answered = hello.heard;
        let answer = !hello.heard || !peer.greeting.told;
        if first {
            peer.connected = false;
            peer.comparing = Some(now.mono);
            peer.bond.begin_session();
            peer.liveness.measure_anew();
        }
        self.settled |= peer.sync.learn(hello.root, trust, &ours);
        if answer {
            self.greet(id, now);
        }
        if lost {
            self.emit(NodeEvent::Disconnected(id));
        }
        self.connect_if_agreed(id, now);
        self.summarise_if_due(id, now);
    }

    /// Greets a peer in its session.
    pub(super) fn greet(&mut self, to: NodeId, now: Now) {
        let root = self.root;
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        peer.greeting.told = peer.greeting.heard;
        peer.sync.greeted(now.mono);
        let hello = Hello {
            wire_min: WIRE_OLDEST,
            wire_max: WIRE_VERSION,
            run: self.run,
            root,
            heard: peer.greeting.heard,
        };
        let body = message::encode_with_trust(&hello, &self.trust);
        self.say(to, kind::HELLO, &body, now);
    }

    /// The version to speak with who greets so. `None`, and a notice, where none is read by both, or
    /// where the greeting offers less than what the peer has signed: somebody would like it to speak
    /// an older version than it can.
    fn common_version(&mut self, id: NodeId, hello: &Hello, now: Now) -> Option<u8> {
        let (lowest, highest) = (hello.wire_min, hello.wire_max);
        let about = about_version(id);
        let Some(version) = wire::common((WIRE_OLDEST, WIRE_VERSION), (lowest, highest)) else {
            self.notice(
                about,
                format!(
                    "{} speaks wire versions {lowest} to {highest}, this node {WIRE_OLDEST} to {WIRE_VERSION}: upgrade the older one",
                    id.short()
                ),
            );
            return None;
        };
        let member = self.state.members.get(&id);
        let signed = member.and_then(|member| member.info.as_ref());
        let signed = signed.map_or(0, |info| info.wire_max);
        if highest < signed {
            self.notice(
                about,
                format!(
                    "{} offers wire version {highest} and has signed that it speaks {signed}: refused",
                    id.short()
                ),
            );
            self.blame(id, Offence::Downgrade, now);
            return None;
        }
        self.notices.remove(&about);
        Some(version)
    }

    fn ping(&mut self, id: NodeId, from: Way, ping: Ping, now: Now) {
        let pong = Pong {
            number: ping.number,
            received_us: now.wall_us,
            sent_us: now.wall_us,
            observed: from.observed(),
        };
        self.say(id, kind::PONG, &message::encode(&pong), now);
        self.tell_rest(id, now);
    }

    fn pong(&mut self, id: NodeId, pong: Pong, now: Now) {
        let peer = self.peers.get_mut(&id);
        if peer.is_some_and(|peer| peer.liveness.answered(&pong, now)) {
            self.nat.note(id, pong.observed, now.mono);
            self.seen_from_outside(id, pong.observed, now);
        }
        self.answered_ping(id, pong.number, now);
    }

    fn goodbye(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        tracing::info!(peer = %id.short(), "said goodbye");
        peer.liveness.left();
        let lost = peer.connected;
        peer.disconnect();
        self.drop_session(id);
        self.lose_relay(id, now);
        if lost {
            self.emit(NodeEvent::Disconnected(id));
        }
    }
}
