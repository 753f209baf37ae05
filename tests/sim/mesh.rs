//! The twin of the mesh above the tunnel: who has a session with whom, and small messages.
//!
//! A session begins with a greeting there and back, as the handshake and the first exchange of statements do, and ends at
//! one side when that side has heard nothing for 10 s. Up to `EVERYBODY` members everybody has one with everybody; above,
//! with whom `lives` says.
//! Signs of life aren't events: each second each machine asks the network whether one would have come through. They are
//! counted as bytes all the same.
//! Absent: keys, addresses, relays: mesh's own tests try those over the real tunnel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outlast_mesh::spread::FULL;
use rand::Rng as _;

use crate::lives::LAST_OF_MESH;
use crate::machine::Roster;
use crate::network::HANDSHAKE;
use crate::site::{Event, Site};
use crate::time::Moment;

/// Up to so many members everybody has a session with everybody.
pub(crate) const EVERYBODY: usize = FULL;
/// A peer that wasn't heard for so long is disconnected.
const SILENCE: Duration = Duration::from_secs(10);
/// After so long without anything else a sign of life is asked for.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// So long something may come by a session that was let go at this end.
const UNDER_WAY: Duration = Duration::from_secs(1);
const REKEY_SECS: u64 = 120;
/// A question for a sign of life and its answer, as they go over the line.
const SIGN: u64 = 108 + 32;
const FIRST_REDIAL: Duration = Duration::from_millis(500);
const LONGEST_REDIAL: Duration = Duration::from_secs(60);
/// Messages that wait for a session that is just beginning.
const WAITING: usize = 32;
/// How long a session is tried, and kept, for a message.
const KEPT_FOR_USE: Duration = Duration::from_secs(15);
/// Above this kind the first release knows no message.
pub(crate) const NEWEST_OLD_KIND: u8 = 67;

/// One machine's sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) up: BTreeMap<u32, Session>,
    dials: BTreeMap<u32, Dial>,
    /// Whom the core named last.
    pub(crate) named: BTreeSet<u32>,
    /// With whom a session is kept.
    pub(crate) wanted: BTreeSet<u32>,
    waiting: BTreeMap<u32, Waiting>,
    /// With whom a session was let go just now.
    let_go: BTreeMap<u32, Moment>,
}

/// Messages for a session that is just beginning.
#[derive(Debug)]
struct Waiting {
    since: Moment,
    messages: Vec<(u8, Bytes)>,
}

impl Sessions {
    /// A session is kept no longer: what its other end sent before it knows is no greeting.
    pub(crate) fn let_go(&mut self, now: Moment, peer: u32) {
        self.up.remove(&peer);
        self.let_go.retain(|_, at| now.since(*at) < UNDER_WAY);
        self.let_go.insert(peer, now);
    }

    /// Those somebody has something to say to: so long a session with them is tried.
    pub(crate) fn waited_for(&mut self, now: Moment) -> Vec<u32> {
        self.waiting
            .retain(|_, waiting| now.since(waiting.since) < KEPT_FOR_USE);
        self.waiting.keys().copied().collect()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) remote: u32,
    pub(crate) remote_life: u32,
    pub(crate) heard: Moment,
    pub(crate) since: Moment,
    /// The last real message, not a mere sign of life.
    spoke: Moment,
}

#[derive(Debug, Clone, Copy)]
struct Dial {
    at: Moment,
    pause: Duration,
    remote: u32,
}

/// A greeting, there or back.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    pub(crate) from: u32,
    pub(crate) from_life: u32,
    pub(crate) roster: Roster,
    pub(crate) answer: bool,
}

/// A small message under way.
#[derive(Debug, Clone)]
pub(crate) struct Small {
    pub(crate) from: u32,
    pub(crate) from_life: u32,
    pub(crate) to_life: u32,
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

impl Site {
    /// What the mesh does each second.
    pub(crate) fn mesh_second(&mut self, m: u32) {
        self.listen(m);
        self.look_whom_to_know(m);
        self.dial(m);
    }

    fn listen(&mut self, m: u32) {
        let now = self.now;
        let (who, life) = (
            self.machines[m as usize].who,
            self.machines[m as usize].life,
        );
        let mut sessions = std::mem::take(&mut self.machines[m as usize].sessions.up);
        let mut lost = Vec::new();
        for (peer, session) in &mut sessions {
            let remote = &self.board[session.remote as usize];
            let there = remote.runs && remote.life == session.remote_life;
            let knows = there
                && remote
                    .sessions
                    .get(&who)
                    .is_some_and(|back| back.remote == m && back.remote_life == life);
            if knows && self.network.is_heard(now, session.remote, m) {
                if now.since(session.spoke) > ASK_AFTER {
                    self.network.count(2 * SIGN, "signs of life");
                    session.spoke = now;
                }
                session.heard = session.heard.max(now);
            }
            let age = now.since(session.since).as_secs();
            if age > 0 && age.is_multiple_of(REKEY_SECS) && m < session.remote {
                let both = HANDSHAKE[0] + HANDSHAKE[1];
                self.network.count(both, "handshakes");
            }
            if now.since(session.heard) > SILENCE {
                lost.push((*peer, session.remote));
            }
        }
        self.machines[m as usize].sessions.up = sessions;
        for (peer, remote) in lost {
            self.disconnect(m, peer, remote);
        }
    }

    fn disconnect(&mut self, m: u32, peer: u32, remote: u32) {
        let jitter = Duration::from_millis(self.rng.random_range(0..500));
        let at = self.now + jitter;
        let machine = &mut self.machines[m as usize];
        machine.sessions.up.remove(&peer);
        machine.sessions.dials.insert(
            peer,
            Dial {
                at,
                pause: FIRST_REDIAL,
                remote,
            },
        );
        self.notice(m);
        let instant = self.instant(self.now);
        if let Some(up) = &mut self.machines[m as usize].up {
            up.core
                .handle_disconnected(self.register.ids[peer as usize], instant);
        }
        self.drain(m);
        self.break_pipes(m, remote);
    }

    /// Up to so many members everybody knows everybody; above, `lives` says whom to know.
    fn look_whom_to_know(&mut self, m: u32) {
        let machine = &mut self.machines[m as usize];
        let who = machine.who;
        let sessions = &mut machine.sessions;
        if machine.roster.len() > EVERYBODY {
            self.look_around(m);
        } else if sessions.wanted.len() + 1 != machine.roster.len() {
            let others = machine.roster.iter().filter(|peer| **peer != who);
            sessions.wanted = others.copied().collect();
            self.notice(m);
        }
    }

    fn dial(&mut self, m: u32) {
        let (now, homes) = (self.now, &self.register.homes);
        let sessions = &mut self.machines[m as usize].sessions;
        let mut due = Vec::new();
        let missing = sessions
            .wanted
            .iter()
            .filter(|peer| !sessions.up.contains_key(peer));
        for peer in missing {
            let dial = sessions.dials.entry(*peer).or_insert(Dial {
                at: now,
                pause: FIRST_REDIAL,
                remote: homes[*peer as usize],
            });
            if dial.at <= now {
                due.push((*peer, dial.remote));
            }
        }
        for (peer, remote) in due {
            self.greet(m, remote, false);
            let jitter = self.rng.random_range(0.9..1.1);
            if let Some(dial) = self.machines[m as usize].sessions.dials.get_mut(&peer) {
                dial.at = now + dial.pause.mul_f64(jitter);
                dial.pause = (dial.pause * 2).min(LONGEST_REDIAL);
                // The next try goes to where the keys first were: a copy may be gone.
                dial.remote = self.register.homes[peer as usize];
            }
        }
    }

    fn greet(&mut self, m: u32, to: u32, answer: bool) {
        let machine = &self.machines[m as usize];
        let greeting = Greeting {
            from: m,
            from_life: machine.life,
            roster: Arc::clone(&machine.roster),
            answer,
        };
        let handshake = HANDSHAKE[usize::from(answer)];
        self.network.count(handshake, "handshakes");
        let arrivals = self.network.datagram(self.now, m, to, 64, "greetings");
        for at in arrivals.into_iter().flatten() {
            self.enter(at, to, Event::Greeting(Box::new(greeting.clone())));
        }
    }

    /// A greeting arrives: a session begins, and both know the same members from here on.
    pub(crate) fn handle_greeting(&mut self, m: u32, greeting: &Greeting) {
        let from = &self.board[greeting.from as usize];
        let peer = self.register.whose[greeting.from as usize];
        let current = from.life == greeting.from_life && from.up;
        let machine = &self.machines[m as usize];
        let known = machine.roster.contains(&peer) || greeting.roster.contains(&machine.who);
        if machine.up.is_none() || !known || !current || peer == machine.who {
            return;
        }
        self.learn(m, &greeting.roster);
        let session = Session {
            remote: greeting.from,
            remote_life: greeting.from_life,
            heard: self.now,
            since: self.now,
            spoke: self.now,
        };
        let machine = &mut self.machines[m as usize];
        machine.sessions.dials.remove(&peer);
        let same =
            |old: &Session| (old.remote, old.remote_life) == (session.remote, session.remote_life);
        match machine.sessions.up.get_mut(&peer) {
            Some(old) if same(old) => old.heard = session.heard,
            old => {
                let replaced = old.map(|old| old.remote);
                machine.sessions.up.insert(peer, session);
                self.notice(m);
                if let Some(remote) = replaced {
                    self.break_pipes(m, remote);
                }
                self.connected(m, peer);
                self.tell_what_is_said(m, peer, greeting.from_life);
            }
        }
        if !greeting.answer {
            self.greet(m, greeting.from, true);
        }
    }

    fn connected(&mut self, m: u32, peer: u32) {
        let instant = self.instant(self.now);
        let machine = &mut self.machines[m as usize];
        let waiting = machine.sessions.waiting.remove(&peer);
        if let Some(up) = &mut machine.up {
            up.core
                .handle_connected(self.register.ids[peer as usize], instant);
        }
        for (kind, body) in waiting.into_iter().flat_map(|waiting| waiting.messages) {
            self.send(m, peer, kind, body);
        }
        self.drain(m);
    }

    /// Takes over the members another knows, and tells everybody at hand what is new.
    pub(crate) fn learn(&mut self, m: u32, roster: &Roster) {
        let machine = &mut self.machines[m as usize];
        if Arc::ptr_eq(&machine.roster, roster) || roster.is_subset(&machine.roster) {
            return;
        }
        machine.roster = if machine.roster.is_subset(roster) {
            Arc::clone(roster)
        } else {
            Arc::new(machine.roster.union(roster).copied().collect())
        };
        machine.sessions.wanted.clear();
        self.notice(m);
        self.tell_members(m);
        let remotes: Vec<u32> = self.machines[m as usize]
            .sessions
            .up
            .values()
            .map(|session| session.remote)
            .collect();
        for remote in remotes {
            self.greet(m, remote, true);
        }
    }

    /// A small message goes out at once or is lost.
    pub(crate) fn send(&mut self, m: u32, peer: u32, kind: u8, body: Bytes) {
        let now = self.now;
        let machine = &mut self.machines[m as usize];
        let Some(session) = machine.sessions.up.get(&peer).copied() else {
            if machine.roster.len() > EVERYBODY && machine.roster.contains(&peer) {
                let waiting = machine.sessions.waiting.entry(peer);
                let waiting = waiting.or_insert_with(|| Waiting {
                    since: now,
                    messages: Vec::new(),
                });
                if waiting.messages.len() < WAITING {
                    waiting.messages.push((kind, body));
                }
                if machine.sessions.wanted.insert(peer) {
                    self.notice(m);
                }
            }
            return;
        };
        if machine.old && kind > NEWEST_OLD_KIND {
            return;
        }
        let bytes = body.len() as u64 + 4;
        let small = Small {
            from: m,
            from_life: machine.life,
            to_life: session.remote_life,
            kind,
            body,
        };
        let arrivals = self.network.datagram(
            self.now,
            m,
            session.remote,
            bytes.next_multiple_of(16),
            named(kind),
        );
        for at in arrivals.into_iter().flatten() {
            self.enter(at, session.remote, Event::Small(Box::new(small.clone())));
        }
    }

    pub(crate) fn handle_small(&mut self, m: u32, small: &Small) {
        let (now, instant) = (self.now, self.instant(self.now));
        let peer = self.register.whose[small.from as usize];
        let machine = &mut self.machines[m as usize];
        let old = machine.old && small.kind > NEWEST_OLD_KIND;
        if machine.up.is_none() || old {
            return;
        }
        let session = machine.sessions.up.get_mut(&peer);
        let session = session.filter(|session| {
            (session.remote, session.remote_life) == (small.from, small.from_life)
        });
        let Some(session) = session.filter(|_| machine.life == small.to_life) else {
            // Nobody we know by that session: begin one, from our side.
            if now.since(self.machines[m as usize].powered) > Duration::from_secs(1) {
                self.greet_back(m, small.from);
            }
            return;
        };
        session.heard = now;
        session.spoke = now;
        if small.kind <= LAST_OF_MESH {
            return self.handle_of_mesh(m, peer, small.kind, &small.body);
        }
        if let Some(up) = &mut machine.up {
            up.core.handle_message(
                self.register.ids[peer as usize],
                small.kind,
                &small.body,
                instant,
            );
        }
        self.drain(m);
    }

    /// Once in five seconds to whoever speaks to us without a session.
    fn greet_back(&mut self, m: u32, to: u32) {
        let (now, peer) = (self.now, self.register.whose[to as usize]);
        let sessions = &mut self.machines[m as usize].sessions;
        if sessions
            .let_go
            .get(&peer)
            .is_some_and(|at| now.since(*at) < UNDER_WAY)
        {
            return;
        }
        let dials = &mut sessions.dials;
        let dial = dials.entry(peer).or_insert(Dial {
            at: now,
            pause: FIRST_REDIAL,
            remote: to,
        });
        if dial.at <= now {
            dial.at = now + Duration::from_secs(5);
            self.greet(m, to, false);
        }
    }
}

fn named(kind: u8) -> &'static str {
    match kind {
        64 | 70 => "rows",
        65 => "seals",
        66 => "digests",
        67 => "key rows asked for",
        68 => "summaries",
        69 => "subscriptions",
        71 => "ledger",
        40 => "words",
        41 => "wishes",
        _ => "others",
    }
}
