//! Former members: how they learn that they are none any more, and what this node does when it is
//! one itself.
//!
//! Who goes is told in its live session, which ends with that. One that was out of reach knocks
//! with its old key later; it finds a place at the desk where it hears the admins' statements that
//! prove it, up to the last revocation or grant among them, and nothing else. Bounds: those of the
//! desk, `ANSWERS` for all of them together, half of the way out, and `MOST_KEYS` of former
//! members' keys known, the latest to go first.
//! A node that learns it of itself falls silent: it dials nobody and lets no application speak. The
//! same if it is no member for another reason, such as a token that had admitted another. It
//! still answers members that dial it and takes and gives statements then: one of them may bring
//! what takes the eviction back, or hear of it here first.
//! Absent: who is gone and why, which `trust` says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{MOST_OUTGOING, Node, NodeEvent};
use crate::allowance::Allowance;
use crate::id::NodeId;
use crate::snapshot::{GoneSnapshot, PeerState};
use crate::spread::sync;
use crate::time::Now;
use crate::trust::{Gone, LogHeader, Manner, State, Statement, kind as statement_kind};
use crate::tunnel::keys::TunnelPublic;
use crate::wire::frame::Frame;
use crate::wire::message::{self, Hello, Summary, kind};
use crate::wire::{WIRE_OLDEST, WIRE_VERSION};

/// Keys of former members that are answered.
const MOST_KEYS: usize = 1_024;

/// Bytes said to former members, a second and at once: an admin's log is short, and members come first.
const ANSWERS: (f64, f64) = (16_000.0, 64_000.0);

/// What a question of theirs costs, whatever the answer: it is looked for among all statements.
const QUESTION: f64 = 500.0;

/// How long a node goes on that knows of its own end from itself, because it leaves or its owner
/// evicts it there: the word may be lost on its way.
const FAREWELL: Duration = Duration::from_secs(2);

impl Node {
    /// Why this node is no member any more, in a sentence.
    pub(crate) fn evicted(&self) -> Option<String> {
        self.state.why_out(&self.me)
    }

    /// Whether it dials nobody and no application speaks.
    pub(super) fn is_silent(&self, now: Now) -> bool {
        self.silent_from.is_some_and(|from| now.mono >= from)
    }

    /// Draws the consequence of being gone, or of being back.
    pub(super) fn face_own_state(&mut self, now: Now) {
        match (self.evicted(), self.silent_from) {
            (Some(why), None) => {
                tracing::warn!(why, "this node is no member any more");
                let ours = self.roots();
                let mut others = self.peers.values();
                let known = others.any(|peer| peer.is_met() && peer.sync.agrees(&ours));
                let told = known || self.met().next().is_none();
                let farewell = if told { Duration::ZERO } else { FAREWELL };
                self.silent_from = Some(now.mono + farewell);
                self.flush_payloads(now);
                self.fall_silent_if_due(now);
            }
            (None, Some(_)) => {
                tracing::warn!("this node is a member again");
                self.silent_from = None;
                self.hushed = false;
                self.redial_everyone(now);
            }
            _ => {}
        }
    }

    /// Ends every session, once, when it is time to.
    pub(super) fn fall_silent_if_due(&mut self, now: Now) {
        if self.hushed || !self.is_silent(now) {
            return;
        }
        self.hushed = true;
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in peers {
            self.drop_session(id);
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            let lost = peer.connected;
            peer.disconnect();
            if lost {
                self.emit(NodeEvent::Disconnected(id));
            }
        }
    }

    /// Keeps the keys by which former members are known when they knock.
    pub(super) fn know_departed(&mut self) {
        let mut gone: Vec<&Gone> = self.state.gone.values().collect();
        gone.sort_by_key(|gone| (std::cmp::Reverse(gone.at_ms), gone.member.id));
        let keys = gone.into_iter().flat_map(|gone| {
            let info = gone.member.info.as_ref();
            let keys = info.map(|info| [Some(info.tunnel), info.tunnel_previous]);
            let keys = keys.into_iter().flatten().flatten();
            let keys = keys.filter(|key| !self.is_of_invite(*key));
            keys.map(|key| (key, gone.member.id))
        });
        self.departed = keys.take(MOST_KEYS).collect();
    }

    /// The former member with this key.
    pub(super) fn departed_by(&self, key: TunnelPublic) -> Option<NodeId> {
        self.departed.get(&key).copied()
    }

    /// One frame of a former member: it is greeted, and its questions are answered by what proves
    /// that it is gone.
    pub(super) fn departed_says(&mut self, number: u64, id: NodeId, frame: Frame<'_>, now: Now) {
        match frame.kind {
            kind::HELLO => {
                let hello = Hello {
                    wire_min: WIRE_OLDEST,
                    wire_max: WIRE_VERSION,
                    run: self.run,
                    root: self.root,
                    heard: true,
                };
                let body = message::encode_with_trust(&hello, &self.trust);
                self.answer(number, vec![(kind::HELLO, body)]);
            }
            kind::SUMMARY | kind::WANT => match message::decode(frame.body) {
                Some(summary) => self.prove_departure(number, id, &summary, now),
                None => self.drop_one("frame malformed"),
            },
            kind::GOODBYE => self.dismiss(number),
            _ => self.drop_one("of a former member"),
        }
    }

    fn prove_departure(&mut self, number: u64, id: NodeId, theirs: &Summary, now: Now) {
        let has_way = self.outgoing.len() < MOST_OUTGOING / 2;
        if !has_way || !self.proofs.take(QUESTION, now.mono) {
            return self.drop_one("of a former member");
        }
        let until = self.proof_until(id);
        let proves = |statement: &Statement| {
            let until = until.get(&statement.author);
            until.is_some_and(|until| seq_of(statement).is_some_and(|seq| seq <= *until))
        };
        let proof = sync::missing_of(&self.statements, theirs, proves);
        for body in message::pack(&proof) {
            if !self.proofs.take(body.len() as f64, now.mono) {
                return self.drop_one("of a former member");
            }
            self.answer(number, vec![(kind::STATEMENTS, body)]);
        }
    }

    /// How far the logs go that prove that a member is gone: to the last thing in each that takes
    /// something back or makes an admin. What was said after is no concern of who is gone.
    fn proof_until(&self, id: NodeId) -> BTreeMap<[u8; 32], u32> {
        let accusers = accusers(&self.state, id);
        let decides = |statement: &&Statement| {
            use statement_kind::{ADMIN_GRANT, GENESIS, REVOKE};
            let of_admin = matches!(statement.kind, ADMIN_GRANT | GENESIS | REVOKE);
            accusers.contains(&statement.author) && (of_admin || statement.author == id.0)
        };
        let mut until = BTreeMap::new();
        for statement in self.statements.iter().filter(decides) {
            if let Some(seq) = seq_of(statement) {
                let last = until.entry(statement.author).or_insert(seq);
                *last = seq.max(*last);
            }
        }
        until
    }

    /// Where a guest and we stand in the joining tunnel: its address, then ours.
    pub(super) fn ends_of_departed(&self, id: NodeId) -> (std::net::Ipv6Addr, std::net::Ipv6Addr) {
        (crate::id::overlay_address(&self.mesh, &id), self.address)
    }

    /// Everybody who was a member.
    pub(super) fn gone_snapshots(&self) -> Vec<GoneSnapshot> {
        self.state.gone.values().map(shown).collect()
    }
}

fn shown(gone: &Gone) -> GoneSnapshot {
    GoneSnapshot {
        id: gone.member.id,
        name: gone.member.name.clone(),
        address: gone.member.address,
        state: match gone.manner {
            Manner::Evicted => PeerState::Evicted,
            Manner::Retired => PeerState::Retired,
            Manner::Left => PeerState::Left,
        },
        joined_ms: i64::try_from(gone.member.joined_ms).unwrap_or(i64::MAX),
        at_ms: i64::try_from(gone.at_ms).unwrap_or(i64::MAX),
        by: gone.by_label.clone(),
        reason: gone.reason.clone(),
    }
}

/// Whose logs prove that a member is gone: the admin's who said so, those of the admins it has its
/// right from, and the member's own.
fn accusers(state: &State, id: NodeId) -> BTreeSet<[u8; 32]> {
    let mut accusers = BTreeSet::from([id.0]);
    accusers.extend(state.genesis.as_ref().map(|genesis| genesis.admin));
    let mut next = state.gone.get(&id).and_then(|gone| gone.by);
    while let Some(admin) = next.filter(|admin| accusers.insert(*admin)) {
        next = state.admins.get(&admin).and_then(|admin| admin.granted_by);
    }
    accusers
}

/// A statement's place in its author's log. `None`: it has none.
fn seq_of(statement: &Statement) -> Option<u32> {
    let is_logged = statement.kind < statement_kind::NODE_INFO;
    let header = postcard::take_from_bytes::<LogHeader>(&statement.body).ok();
    header
        .filter(|_| is_logged)
        .map(|(header, _rest)| header.seq)
}

/// What may be said to former members.
pub(super) fn proofs() -> Allowance {
    Allowance::new(ANSWERS.0, ANSWERS.1)
}

/// Former members' keys.
pub(super) type Departed = BTreeMap<TunnelPublic, NodeId>;
