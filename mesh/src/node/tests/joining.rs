//! Joining a running mesh: approvals, and sponsors whose places somebody wants for itself.

use super::*;
use crate::admission::joiner::Joiner;
use crate::error::JoinError;
use crate::trust::{self, InviteSeed, Token};

#[test]
fn who_needs_an_approval_waits_and_comes_in_once_an_admin_approves() {
    let mut world = World::new(2);
    world.run(1_000);
    let token = a_token(&mut world, true);
    let mut knocker = Knocker::new(&world, &token, 71, "river", 40);

    knocker.run(&mut world, 30_000);

    assert!(
        knocker.outcome.is_none(),
        "waiting takes as long as it takes"
    );
    assert!(knocker.told.len() > 4, "it asks again every few seconds");
    let sentence = &knocker.told[0];
    assert!(
        sentence.contains("waits for an admin: `outlast approve "),
        "{sentence}"
    );
    assert!(world.nodes[0].desk.len() <= 1, "it lets go of its place");
    for node in &world.nodes {
        let state = node.statements().state();
        assert!(state.pending.contains_key(&knocker.me));
        assert!(!state.members.contains_key(&knocker.me));
    }
    let log = world.nodes[0].statements().head(&world.nodes[0].me().0).0;

    let held = world.nodes[1].statements();
    let approve = trust::issue_approve(&admin(), held, knocker.me, world.now.wall_ms()).unwrap();
    world.nodes[1].handle_publish(approve, world.now).unwrap();
    knocker.run(&mut world, 6_000);

    let statements = knocker.outcome.unwrap().unwrap();
    assert!(
        statements
            .iter()
            .any(|one| one.kind == trust::kind::APPROVE)
    );
    let state = world.nodes[0].statements().state();
    assert_eq!(state.members[&knocker.me].name, "river");
    let after = world.nodes[0].statements().head(&world.nodes[0].me().0).0;
    assert_eq!(after, log, "it is vouched for once, however often it asks");
}

#[test]
fn one_token_in_wrong_hands_keeps_nobody_out_who_has_another() {
    let mut world = World::new(2);
    world.run(1_000);
    let stolen = a_token(&mut world, false);
    let honest = a_token(&mut world, false);
    let mut flood = Flood::new(&world, &stolen, |number| [10, 9, number as u8, 1]);
    flood.run(&mut world, 200);
    assert_eq!(
        world.nodes[0].desk.len(),
        crate::admission::desk::MOST_GUESTS
    );

    let mut knocker = Knocker::new(&world, &honest, 71, "river", 40);
    let took = knocker.run_beside(&mut world, &mut flood, 10_000);

    assert!(knocker.outcome.unwrap().is_ok());
    assert!(took <= 2_000, "{took} ms");
    assert!(world.nodes[0].desk.len() <= crate::admission::desk::MOST_GUESTS);
}

#[test]
fn one_network_with_a_token_keeps_nobody_out_who_has_the_same() {
    let mut world = World::new(2);
    world.run(1_000);
    let token = a_token_for(&mut world, false, 20);
    let mut flood = Flood::new(&world, &token, |_number| [10, 9, 9, 9]);
    flood.run(&mut world, 200);
    assert_eq!(
        world.nodes[0].desk.len(),
        crate::admission::desk::MOST_GUESTS
    );

    let mut knocker = Knocker::new(&world, &token, 71, "river", 40);
    let took = knocker.run_beside(&mut world, &mut flood, 10_000);

    assert!(knocker.outcome.unwrap().is_ok());
    assert!(took <= 2_000, "{took} ms");
}

#[test]
fn a_sponsor_that_falls_silent_after_admitting_is_asked_again() {
    let mut world = World::new(2);
    world.run(1_000);
    let token = a_token(&mut world, false);
    let mut knocker = Knocker::new(&world, &token, 71, "river", 40);
    // Its place goes to somebody else in the middle of the exchange.
    for _ in 0..400 {
        knocker.run(&mut world, 1);
        if world.nodes[0].desk.len() > 0 && knocker.heard > 1 {
            break;
        }
    }
    for number in 0..10 {
        world.nodes[0].dismiss(number);
    }
    assert!(knocker.outcome.is_none());

    knocker.run(&mut world, 15_000);

    assert!(knocker.outcome.unwrap().is_ok());
}

#[test]
fn a_token_from_before_the_sponsor_s_key_was_replaced_still_opens() {
    let mut world = World::new(2);
    world.run(1_000);
    let token = a_token(&mut world, false);
    world.nodes[0]
        .handle_rotate(TunnelKey::generate(), world.now)
        .unwrap();
    world.run(1_000);
    let mut knocker = Knocker::new(&world, &token, 71, "river", 40);

    knocker.run(&mut world, 3_000);

    assert!(knocker.outcome.unwrap().is_ok());
}

#[test]
fn a_member_that_claims_an_invite_s_key_keeps_nobody_from_joining() {
    for claims_first in [true, false] {
        for replaced in [true, false] {
            let mut world = World::new(3);
            world.run(1_000);
            // Its own node would say otherwise.
            world.nodes[2].handle_isolate(true);
            let terms = trust::InviteTerms {
                name: None,
                lasts: Duration::from_secs(3_600),
                uses: 1,
                needs_approval: false,
            };
            let (now, held) = (world.now, world.nodes[0].statements());
            let issued = trust::issue_invite(&admin(), held, terms, now.wall_ms());
            let (seed, invite) = issued.unwrap();
            let claim = claim(&world, seed.tunnel().public(), replaced);
            let said = match claims_first {
                true => [claim, invite.clone()],
                false => [invite.clone(), claim],
            };
            for statement in said {
                world.nodes[0].handle_publish(statement, world.now).unwrap();
                world.run(500);
            }
            let sponsor = trust::Bootstrap {
                node: world.nodes[0].me(),
                tunnel: world.keys[0].1.public(),
                addrs: vec![address(0)],
            };
            let held = world.nodes[0].statements();
            let token = Token::new(seed, invite, held, vec![sponsor]).unwrap();
            let mut knocker = Knocker::new(&world, &token, 71, "river", 40);

            knocker.run(&mut world, 3_000);

            assert!(
                knocker.outcome.is_some_and(|outcome| outcome.is_ok()),
                "{claims_first} {replaced}"
            );
        }
    }
}

/// Node 2, which is far away, says that an invite's key is its own.
fn claim(world: &World, key: crate::TunnelPublic, replaced: bool) -> Statement {
    let own = world.keys[2].1.public();
    let info = trust::NodeInfo {
        incarnation: 1_000,
        seq: 1,
        tunnel: if replaced { own } else { key },
        tunnel_previous: replaced.then_some(key),
        endpoints: Vec::new(),
        version: "lie".into(),
        wire_min: 1,
        wire_max: 1,
        store_format: 1,
    };
    info.sign(&world.keys[2].0, &world.first.mesh())
}

/// Somebody who joins by node 0.
struct Knocker {
    joiner: Joiner,
    me: NodeId,
    from: SocketAddr,
    /// What it was told to wait for.
    told: Vec<String>,
    heard: usize,
    outcome: Option<Result<Vec<Statement>, JoinError>>,
}

impl Knocker {
    fn new(world: &World, token: &Token, number: u8, name: &str, at: usize) -> Self {
        let node = NodeKey::from_seed(&[number; 32]);
        let me = node.id();
        let identity = Identity {
            node,
            tunnel: TunnelKey::generate(),
            previous: Vec::new(),
        };
        let joiner = Joiner::new(token, &identity, name, [number; 32], world.now).unwrap();
        Self {
            joiner,
            me,
            from: address(at),
            told: Vec::new(),
            heard: 0,
            outcome: None,
        }
    }

    fn run(&mut self, world: &mut World, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.step(world);
            world.run(ms.min(10));
            self.listen(world);
        }
    }

    /// Joins while a flood goes on; the milliseconds until it was in.
    fn run_beside(&mut self, world: &mut World, flood: &mut Flood, most: u64) -> u64 {
        for ms in (0..most).step_by(10) {
            self.step(world);
            flood.step(world);
            world.run(10);
            self.listen(world);
            flood.listen(world);
            if self.outcome.is_some() {
                return ms;
            }
        }
        most
    }

    fn step(&mut self, world: &mut World) {
        if self.outcome.is_some() {
            return;
        }
        self.joiner.handle_timeout(world.now);
        while let Some(transmit) = self.joiner.poll_transmit() {
            if transmit.to == address(0) {
                world.give(0, self.from, &transmit.bytes);
            }
        }
        self.told.extend(self.joiner.poll_wait());
        self.outcome = self.joiner.poll_outcome();
    }

    fn listen(&mut self, world: &mut World) {
        let (mine, rest): (Vec<_>, Vec<_>) = world
            .strayed
            .drain(..)
            .partition(|transmit| transmit.to == self.from);
        world.strayed = rest;
        for transmit in mine {
            self.heard += 1;
            self.joiner
                .handle_datagram(address(0), &transmit.bytes, world.now);
        }
    }
}

/// Somebody who opens joining tunnels with one token as fast as it can, proves each and stays.
struct Flood {
    secret: StaticSecret,
    door: crate::TunnelPublic,
    host: fn(u32) -> [u8; 4],
    open: BTreeMap<SocketAddr, Session>,
    number: u32,
}

impl Flood {
    fn new(world: &World, token: &Token, host: fn(u32) -> [u8; 4]) -> Self {
        Self {
            secret: token.tunnel().secret(),
            door: world.keys[0].1.public(),
            host,
            open: BTreeMap::new(),
            number: 0,
        }
    }

    fn run(&mut self, world: &mut World, steps: u32) {
        for _ in 0..steps {
            self.step(world);
            world.run(10);
            self.listen(world);
        }
    }

    fn step(&mut self, world: &mut World) {
        self.number += 1;
        let port = 2_000 + (self.number % 60_000) as u16;
        let from = SocketAddr::from(((self.host)(self.number % 250), port));
        let mut session = Session::new(&self.secret, self.door, self.number);
        world.give(0, from, &session.initiate().unwrap());
        self.open.insert(from, session);
    }

    fn listen(&mut self, world: &mut World) {
        let strayed = std::mem::take(&mut world.strayed);
        for transmit in strayed {
            match self.open.get_mut(&transmit.to) {
                Some(session) => {
                    let opened = session.open(address(0).ip(), &transmit.bytes);
                    if let Opened::Established(proof) = opened {
                        world.give(0, transmit.to, &proof);
                    }
                }
                None => world.strayed.push(transmit),
            }
        }
    }
}

fn a_token(world: &mut World, needs_approval: bool) -> Token {
    a_token_for(world, needs_approval, 1)
}

/// A token for so many nodes, which every member knows.
fn a_token_for(world: &mut World, needs_approval: bool, uses: u16) -> Token {
    let terms = trust::InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses,
        needs_approval,
    };
    let (now, held) = (world.now, world.nodes[0].statements());
    let issued: (InviteSeed, Statement) =
        trust::issue_invite(&admin(), held, terms, now.wall_ms()).unwrap();
    let (seed, invite) = issued;
    world.nodes[0].handle_publish(invite.clone(), now).unwrap();
    world.run(500);
    let sponsor = trust::Bootstrap {
        node: world.nodes[0].me(),
        tunnel: world.keys[0].1.public(),
        addrs: vec![address(0)],
    };
    let held = world.nodes[0].statements();
    Token::new(seed, invite, held, vec![sponsor]).unwrap()
}
