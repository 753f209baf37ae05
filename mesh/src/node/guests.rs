//! The node as a sponsor: what it says in the joining tunnel, and to whom it opens one.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Node;
use crate::admission::desk::Errand;
use crate::admission::{JOINER, SPONSOR};
use crate::id::NodeId;
use crate::spread::sync;
use crate::time::Now;
use crate::trust::{self, Statement, kind as statement_kind};
use crate::tunnel::keys::TunnelPublic;
use crate::tunnel::session::{Opened, Session};
use crate::tunnel::table::Owner;
use crate::wire::message::{self, Admitted, Summary, kind};
use crate::wire::{MAX_PAYLOAD, MESSAGE_PORT, frame, packet};

/// How long after an invite closed its holders are still told why.
const TELL_WHY: Duration = Duration::from_secs(24 * 3_600);

/// How long after its start a node with peers waits to hear its own log from one of them before
/// it signs the first statement: its disk may be older than what they know.
const LISTEN_FIRST: Duration = Duration::from_secs(4);

impl Node {
    pub(super) fn guest_initiation(
        &mut self,
        from: SocketAddr,
        key: TunnelPublic,
        datagram: &[u8],
        now: Now,
    ) {
        let Some(errand) = self.errand_of(key, now) else {
            return self.drop_one("unknown key");
        };
        if self.desk.has_answered(datagram) {
            return self.drop_one("guest repeats itself");
        }
        if let Some(number) = self.desk.find(key, from) {
            return self.open_guest(number, from, datagram, now);
        }
        let number = self.desk.number();
        let index = self.table.allocate(Owner::Guest(number), &mut self.random);
        // The key alone is no secret: who doesn't hold its other half takes nobody's place. A token
        // may name the tunnel key we had before.
        let opened = self.secrets().into_iter().find_map(|secret| {
            let mut session = Session::new(&secret, key, index);
            match session.open(from.ip(), datagram) {
                Opened::Answer(answer) => Some((session, answer)),
                _ => None,
            }
        });
        let Some((session, answer)) = opened else {
            self.table.free(index);
            return self.drop_one("not authentic");
        };
        let Some(gone) = self.desk.make_room(key, from, errand, now.mono) else {
            self.table.free(index);
            return self.drop_one("joining tunnels full");
        };
        if let Some(gone) = gone {
            self.table.free(gone.session.index());
        }
        self.desk.seat(number, key, from, errand, session, now.mono);
        self.desk.note_answered(datagram);
        self.reply(from, datagram, answer);
    }

    /// What somebody with this key is here for, who is no member. `None`: it is a stranger.
    fn errand_of(&self, key: TunnelPublic, now: Now) -> Option<Errand> {
        if now.wall_us < 0 || self.silent_from.is_some() {
            return None;
        }
        match self.knows_invite(key, now) {
            true => Some(Errand::Join),
            false => self.departed_by(key).map(Errand::Departed),
        }
    }

    /// Whether this is the key of any invite: no member's, whatever one publishes.
    pub(super) fn is_of_invite(&self, key: TunnelPublic) -> bool {
        let mut invites = self.state.invites.values();
        invites.any(|invite| invite.invite.tunnel == key)
    }

    /// Whether this is the key of an invite that is open or closed less than a day ago.
    fn knows_invite(&self, key: TunnelPublic, now: Now) -> bool {
        let told_until = |closed: u64| closed.saturating_add(TELL_WHY.as_millis() as u64);
        self.state.invites.values().any(|invite| {
            invite.invite.tunnel == key
                && (invite.is_open(now.wall_ms()) || now.wall_ms() < told_until(invite.closes_ms()))
        })
    }

    pub(super) fn open_guest(&mut self, number: u64, from: SocketAddr, datagram: &[u8], now: Now) {
        let Some(guest) = self.desk.guest(number) else {
            return;
        };
        // Its keys took the answer that was sent to its source, so data confirms that one alone.
        if from != guest.source {
            return self.drop_one("guest from elsewhere");
        }
        match guest.session.open(from.ip(), datagram) {
            Opened::Answer(answer) => {
                self.desk.note_answered(datagram);
                self.reply(from, datagram, answer);
            }
            Opened::Keepalive { .. } => guest.proved(),
            Opened::Inner { packet, .. } => {
                guest.proved();
                self.guest_packet(number, &packet, now);
            }
            _ => self.drop_one("not authentic"),
        }
    }

    fn guest_packet(&mut self, number: u64, bytes: &[u8], now: Now) {
        let Some(packet) = packet::parse(bytes) else {
            return self.drop_one("inner packet malformed");
        };
        let Some(errand) = self.desk.guest(number).map(|guest| guest.errand) else {
            return;
        };
        let (theirs, ours) = self.ends(errand);
        let ends = (packet.source, packet.destination, packet.destination_port);
        if ends != (theirs, ours, MESSAGE_PORT) {
            return self.drop_one("inner source spoofed");
        }
        for frame in frame::frames(packet.payload) {
            let Ok(frame) = frame else {
                self.drop_one("frame of a guest unreadable");
                continue;
            };
            let Some(guest) = self.desk.guest(number) else {
                return;
            };
            if !guest.spend() {
                return self.drop_one("guest said too much");
            }
            let admitted = guest.admitted;
            if let Errand::Departed(id) = errand {
                self.departed_says(number, id, frame, now);
                continue;
            }
            match frame.kind {
                kind::JOIN => self.join(number, message::unpack(frame.body), now),
                kind::SUMMARY if admitted => match message::decode(frame.body) {
                    Some(summary) => self.guest_summary(number, &summary),
                    None => self.drop_one("frame malformed"),
                },
                kind::GOODBYE => self.dismiss(number),
                _ => self.drop_one("frame kind unknown"),
            }
        }
    }

    /// Verifies a Join and vouches for it. The answer leaves after the Witness is durable.
    fn join(&mut self, number: u64, statements: Vec<Statement>, now: Now) {
        let [join, info] = statements.as_slice() else {
            return self.drop_one("frame malformed");
        };
        let kinds = (join.kind, info.kind) == (statement_kind::JOIN, statement_kind::NODE_INFO);
        if !kinds || join.author != info.author {
            return self.drop_one("frame malformed");
        }
        if !self.may_sign(now) {
            return self.drop_one("join before the own log was heard");
        }
        let witness = trust::witness(&self.identity.node, &self.statements, join, now.wall_ms());
        let node = NodeId(join.author);
        let vouched = match witness {
            Ok(None) if self.state.pending.contains_key(&node) => {
                return self.ask_to_wait(number, node);
            }
            Ok(None) => vec![info.clone()],
            Ok(Some(witness)) => vec![join.clone(), witness, info.clone()],
            Err(refusal) => return self.refuse(number, &refusal.to_string()),
        };
        let (_new, taken) = self.take_statements(vouched, now);
        if let Err(refusal) = taken {
            return self.refuse(number, &refusal.to_string());
        }
        if self.state.pending.contains_key(&node) {
            return self.ask_to_wait(number, node);
        }
        if !self.state.members.contains_key(&node) {
            return self.refuse(number, "the token was used elsewhere at the same moment");
        }
        if let Some(guest) = self.desk.guest(number) {
            guest.admitted = true;
        }
        let root = self.root;
        self.answer(
            number,
            vec![(kind::ADMITTED, message::encode(&Admitted { root }))],
        );
    }

    fn refuse(&mut self, number: u64, reason: &str) {
        tracing::info!(reason, "join refused");
        self.answer_finally(number, kind::REFUSED, reason);
    }

    /// An admin has to approve first; the joiner lets go of its place and asks again.
    fn ask_to_wait(&mut self, number: u64, node: NodeId) {
        let name = self.state.pending.get(&node).map(|pending| &pending.name);
        let name = name.map_or("", String::as_str);
        let sentence = format!(
            "{name} waits for an admin: `outlast approve {}`",
            node.short()
        );
        self.answer_finally(number, kind::WAITING, &sentence);
    }

    /// Says the last thing this guest hears: it makes room for others first.
    fn answer_finally(&mut self, number: u64, kind: u8, sentence: &str) {
        self.answer(number, vec![(kind, message::sentence(sentence))]);
        if let Some(guest) = self.desk.guest(number) {
            guest.answered = true;
        }
    }

    /// A guest's address in its tunnel, and ours.
    fn ends(&self, errand: Errand) -> (Ipv6Addr, Ipv6Addr) {
        match errand {
            Errand::Join => (JOINER, SPONSOR),
            Errand::Departed(id) => self.ends_of_departed(id),
        }
    }

    /// Whether a first statement may be signed: some peer agreed on what we hold, or none answers.
    fn may_sign(&self, now: Now) -> bool {
        self.settled || now.mono >= self.started + LISTEN_FIRST
    }

    fn guest_summary(&mut self, number: u64, theirs: &Summary) {
        let missing = sync::missing(&self.statements, theirs);
        let mut answers: Vec<(u8, Vec<u8>)> = message::pack(&missing)
            .into_iter()
            .map(|body| (kind::STATEMENTS, body))
            .collect();
        let root = sync::root_only(self.root);
        answers.push((kind::SUMMARY, message::encode(&root)));
        self.answer(number, answers);
    }

    pub(super) fn answer(&mut self, number: u64, frames: Vec<(u8, Vec<u8>)>) {
        let mut payloads = vec![Vec::with_capacity(MAX_PAYLOAD)];
        for (kind, body) in frames {
            let last = payloads.last_mut().expect("begins with one");
            if !frame::push(last, kind, &body) {
                let mut next = Vec::with_capacity(MAX_PAYLOAD);
                frame::push(&mut next, kind, &body);
                payloads.push(next);
            }
        }
        for payload in payloads {
            let Some(guest) = self.desk.guest(number) else {
                return;
            };
            let (to, errand) = (guest.source, guest.errand);
            let (theirs, ours) = self.ends(errand);
            let packet = packet::build(ours, theirs, MESSAGE_PORT, &payload);
            let Some(guest) = self.desk.guest(number) else {
                return;
            };
            if let Some(bytes) = guest.session.seal(&packet) {
                self.transmit(to, bytes);
            }
        }
    }

    pub(super) fn dismiss(&mut self, number: u64) {
        if let Some(guest) = self.desk.dismiss(number) {
            self.table.free(guest.session.index());
        }
    }

    /// Sends away the guests whose time is over.
    pub(super) fn expire_guests(&mut self, now: Now) {
        for number in self.desk.overdue(now.mono) {
            self.dismiss(number);
        }
    }
}
