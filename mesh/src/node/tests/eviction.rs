//! Members that go: evicted, retired or by themselves, with everybody within reach or apart.

use super::*;
use crate::snapshot::GoneSnapshot;
use crate::trust::{self, Manner, Revocation, Target};

#[test]
fn an_evicted_member_reads_who_and_why_and_every_tunnel_to_it_ends() {
    let mut world = World::new(3);
    world.run(2_000);
    let evictee = world.nodes[2].me();

    evict(&mut world, 0, 2, "stolen");
    world.run(500);

    for at in [0, 1] {
        assert!(!world.nodes[at].peers.contains_key(&evictee));
        let gone = gone(&world, at, 2).unwrap();
        assert_eq!(
            (gone.state, gone.name.as_str(), gone.reason.as_str()),
            (PeerState::Evicted, "n2", "stolen")
        );
        let everybody = world.nodes[at].snapshot(world.now).everybody();
        let kept = everybody.iter().find(|member| member.id == evictee);
        assert_eq!(
            (everybody.len(), kept.unwrap().state),
            (3, PeerState::Evicted)
        );
        assert_eq!(
            world.events(at, |event| *event == NodeEvent::Removed(evictee)),
            1
        );
        let sizes = world.nodes[at].table.sizes();
        assert_eq!(sizes[..3], [1, 1, 1], "one index, key and address are left");
    }
    let told = world.nodes[2].snapshot(world.now).evicted.unwrap();
    assert!(
        told.starts_with("evicted by ") && told.ends_with(": stolen"),
        "{told}"
    );
    assert_eq!(world.nodes[2].connected().count(), 0);
    assert_eq!(world.disconnected(2), 2);
    assert!(world.say(2, 0, b"still here").is_err());
    // It says nothing any more, whatever happens around it.
    let before = datagrams_of(&world, 2);
    world.nodes[2].handle_stir(world.now);
    world.run(120_000);
    assert_eq!(datagrams_of(&world, 2), before);
    world.restart_with_what_it_holds(2);
    world.run(60_000);
    assert_eq!(datagrams_of(&world, 2), before);
    assert!(world.nodes[2].snapshot(world.now).evicted.is_some());
}

#[test]
fn an_eviction_arrives_at_first_contact_before_a_byte_of_telemetry() {
    let mut world = World::new(3);
    world.run(2_000);
    // Nodes 1 and 2 are apart from node 0, which evicts node 2.
    world.island = BTreeSet::from([1, 2]);
    world.run(15_000);
    evict(&mut world, 0, 2, "");
    world.run(5_000);
    world.say(2, 1, b"among ourselves").unwrap();
    world.run(10);
    assert_eq!(world.heard(1), 1, "who has not heard of it goes on");
    world.seen.clear();

    world.island.clear();
    for _ in 0..100 {
        for (from, to) in [(0, 1), (1, 0), (2, 1), (2, 0)] {
            drop(world.say(from, to, b"telemetry"));
        }
        world.run(50);
    }

    let evictee = world.nodes[2].me();
    let founder = world.nodes[0].me();
    let seen = &world.seen[&1];
    let met = seen
        .iter()
        .position(|event| *event == NodeEvent::Connected(founder));
    let removed = seen
        .iter()
        .position(|event| *event == NodeEvent::Removed(evictee));
    assert!(removed.unwrap() < met.unwrap(), "{seen:?}");
    let of_evictee = |at: usize| {
        world.events(
            at,
            |event| matches!(event, NodeEvent::Message { from, .. } if *from == evictee),
        )
    };
    assert_eq!(of_evictee(0), 0);
    let after = seen[removed.unwrap()..].iter();
    let from_it =
        |event: &&NodeEvent| matches!(event, NodeEvent::Message { from, .. } if *from == evictee);
    assert_eq!(after.filter(from_it).count(), 0);
    assert!(
        world.nodes[2].evicted().is_some(),
        "it was told in its session"
    );
    assert!(world.events(1, |event| matches!(event, NodeEvent::Message { .. })) > 50);
}

#[test]
fn an_evicted_member_that_was_away_is_told_when_it_knocks_and_learns_nothing_else() {
    let mut world = World::new(3);
    world.run(2_000);
    world.island = BTreeSet::from([2]);
    world.run(15_000);
    evict(&mut world, 0, 2, "lost on a train");
    let moved = Endpoint {
        kind: EndpointKind::Advertised,
        addr: address(70),
    };
    world.nodes[1].handle_endpoints(vec![moved], world.now);
    let known = world.nodes[2].statements().state().invites.len();
    for _ in 0..60 {
        let invite = an_invite(&world);
        world.nodes[0].handle_publish(invite, world.now).unwrap();
    }
    world.run(30_000);
    assert!(world.nodes[2].evicted().is_none());
    world.seen.clear();

    world.island.clear();
    for _ in 0..200 {
        for to in [0, 1] {
            let (id, now) = (world.nodes[to].me(), world.now);
            world.nodes[2].say(id, 64, b"smuggled", now);
        }
        world.run(50);
    }

    let told = world.nodes[2].evicted().unwrap();
    assert!(told.ends_with("lost on a train"), "{told}");
    assert_eq!((world.heard(0), world.heard(1)), (0, 0));
    assert_eq!(world.nodes[2].connected().count(), 0);
    let (other, state) = (world.nodes[1].me(), world.nodes[2].statements().state());
    assert_eq!(state.invites.len(), known, "nor whom they invite since");
    let info = state.members[&other].info.clone().unwrap();
    assert!(
        info.endpoints
            .iter()
            .all(|endpoint| endpoint.addr != address(70)),
        "where others are is no concern of it"
    );
    world.run(40_000);
    assert_eq!(world.nodes[0].desk.len() + world.nodes[1].desk.len(), 0);
}

#[test]
fn a_former_member_that_asks_without_end_takes_a_small_part_of_the_way_out() {
    let mut world = World::new(3);
    for _ in 0..80 {
        let invite = an_invite(&world);
        world.nodes[0].handle_publish(invite, world.now).unwrap();
    }
    world.run(2_000);
    world.island = BTreeSet::from([2]);
    world.run(15_000);
    evict(&mut world, 0, 2, "");
    world.run(1_000);
    world.island.clear();
    // It looks at nothing it is told, and asks for everything.
    let all = message::Summary {
        root: [9; 32],
        range: Some(([0; 32], [0xff; 32])),
        heads: Vec::new(),
    };
    let before = world.nodes[0].counters.tx_bytes;
    for _ in 0..400 {
        for peer in world.nodes[2].peers.values_mut() {
            peer.quota.statements = Allowance::new(0.0, 0.0);
        }
        for _ in 0..20 {
            let (id, now) = (world.nodes[0].me(), world.now);
            world.nodes[2].say(id, kind::SUMMARY, &message::encode(&all), now);
        }
        world.say(0, 1, b"what members are owed").unwrap();
        world.run(50);
    }

    assert!(world.nodes[2].evicted().is_none(), "it does not listen");
    let refused = world.dropped(0, "of a former member");
    assert!(refused > 100, "{refused}");
    assert_eq!(world.dropped(0, "outgoing queue full"), 0);
    let bytes = world.nodes[0].counters.tx_bytes - before;
    assert!(bytes > 100_000, "{bytes}: nothing was asked");
    assert!(bytes < 64_000 + 20 * 16_000 + 400_000, "{bytes} in 20 s");
}

#[test]
fn an_eviction_is_written_before_anybody_is_told_that_it_is_held() {
    let mut world = World::new(2);
    world.run(1_000);
    let (now, held) = (world.now, world.nodes[0].statements());
    let key = AdminKey::from_seed(&[98; 32]).public();
    let grant = trust::issue_grant(&admin(), held, key, None, "second", now.wall_ms()).unwrap();
    world.nodes[0].handle_publish(grant, now).unwrap();
    world.run(500);
    let target = Target::Admin(key);
    let revoke = revocation_at(&world, 0, &admin(), target, None, "");
    let mut body = Vec::new();
    revoke.encode(&mut body);
    let from = world.nodes[0].me();
    while world.nodes[1].poll_transmit(now).is_some() {}

    world.nodes[1].statements_from(from, message::unpack(&body), now);
    world.nodes[1].conclude(now);

    assert!(world.nodes[1].owes_write());
    assert_eq!(world.nodes[1].poll_transmit(now), None);
    assert_eq!(world.nodes[1].poll_journal().len(), 1);
    assert!(world.nodes[1].poll_transmit(now).is_some(), "the digest");
}

#[test]
fn a_member_that_leaves_is_heard_and_falls_silent() {
    let mut world = World::new(3);
    world.run(2_000);
    let (key, now) = (world.keys[2].0.clone(), world.now);
    let held = world.nodes[2].statements();
    let leave = trust::issue_leave(&key, held, "sold", now.wall_ms()).unwrap();

    world.nodes[2].handle_publish(leave, now).unwrap();
    world.run(100);

    let peers = world.nodes[2].snapshot(world.now).peers;
    assert!(
        peers.iter().any(|peer| peer.agrees),
        "it sees that it was heard"
    );
    assert_eq!(gone(&world, 1, 2).unwrap().state, PeerState::Left);
    world.run(3_000);
    let before = datagrams_of(&world, 2);
    world.run(60_000);
    assert_eq!(datagrams_of(&world, 2), before);
}

#[test]
fn a_node_that_is_evicted_on_itself_stays_until_somebody_knows() {
    let mut world = World::new(3);
    world.run(2_000);
    let evictee = world.nodes[2].me();
    world.cut = true;
    evict(&mut world, 2, 2, "sold");
    world.run(300);
    world.cut = false;
    assert!(gone(&world, 0, 2).is_none(), "the first word of it is lost");

    world.run(2_000);

    assert!((0..2).all(|at| gone(&world, at, 2).is_some()));
    assert!((0..2).all(|at| !world.nodes[at].peers.contains_key(&evictee)));
    let before = datagrams_of(&world, 2);
    world.run(30_000);
    assert_eq!(datagrams_of(&world, 2), before);
}

#[test]
fn what_an_evicted_member_reported_is_published_no_more() {
    let mut world = World::new(3);
    world.run(2_000);
    let (liar, now) = (world.nodes[2].me(), world.now);
    let victim: SocketAddr = "203.0.113.9:9".parse().unwrap();
    world.nodes[0].seen_from_outside(liar, victim, now);
    world.run(500);
    let published = |world: &World| {
        let state = world.nodes[1].statements().state();
        let info = state.members[&world.nodes[0].me()].info.clone().unwrap();
        info.endpoints.iter().any(|one| one.addr == victim)
    };
    assert!(published(&world));

    evict(&mut world, 0, 2, "it lied");
    world.run(1_000);

    assert!(!published(&world));
}

#[test]
fn a_false_eviction_is_taken_back_and_the_node_returns_by_itself() {
    let mut world = World::new(3);
    world.run(2_000);
    let thief = AdminKey::from_seed(&[98; 32]);
    let (now, held) = (world.now, world.nodes[0].statements());
    let grant = trust::issue_grant(
        &admin(),
        held,
        thief.public(),
        None,
        "second",
        now.wall_ms(),
    )
    .unwrap();
    world.nodes[0].handle_publish(grant, now).unwrap();
    world.run(500);
    let revoke = revocation(&world, &thief, Target::Node(world.nodes[2].me()), None, "");
    world.nodes[0].handle_publish(revoke, world.now).unwrap();
    world.run(30_000);
    assert!(world.nodes[2].evicted().is_some());

    let nothing = Some(trust::Cut::NOTHING);
    let back = revocation(&world, &admin(), Target::Admin(thief.public()), nothing, "");
    world.nodes[0].handle_publish(back, world.now).unwrap();
    world.run(5_000);

    assert!(world.nodes[2].evicted().is_none());
    for (from, to) in [(0, 2), (2, 0), (1, 2), (2, 1)] {
        assert_eq!(world.say(from, to, b"again"), Ok(()), "{from} to {to}");
    }
}

#[test]
fn two_sides_that_evict_and_admit_apart_agree_after_healing() {
    let mut world = World::new(4);
    world.run(2_000);
    let second = AdminKey::from_seed(&[98; 32]);
    let (now, held) = (world.now, world.nodes[0].statements());
    let grant = trust::issue_grant(
        &admin(),
        held,
        second.public(),
        None,
        "second",
        now.wall_ms(),
    )
    .unwrap();
    world.nodes[0].handle_publish(grant, now).unwrap();
    world.run(1_000);
    world.island = BTreeSet::from([2, 3]);
    world.run(15_000);

    // Here node 3 is evicted and one comes in; over there node 1 is, and another comes in.
    evict(&mut world, 0, 3, "by the one side");
    let revoke = revocation_at(
        &world,
        2,
        &second,
        Target::Node(world.nodes[1].me()),
        None,
        "",
    );
    world.nodes[2].handle_publish(revoke, world.now).unwrap();
    let here = admit(&mut world, 0, 71, "here");
    let there = admit(&mut world, 2, 72, "there");
    world.run(5_000);
    assert!(world.nodes[1].evicted().is_none() && world.nodes[3].evicted().is_none());

    world.island.clear();
    world.run(15_000);

    assert!(world.nodes[1].evicted().is_some() && world.nodes[3].evicted().is_some());
    let states = [0, 2].map(|at| world.nodes[at].statements().state());
    assert_eq!(states[0], states[1]);
    let members: BTreeSet<_> = states[0].members.keys().copied().collect();
    let expected = [world.nodes[0].me(), world.nodes[2].me(), here, there];
    assert_eq!(members, BTreeSet::from(expected));
    assert_eq!(world.say(0, 2, b"together"), Ok(()));
    assert_eq!(world.say(2, 0, b"together"), Ok(()));
}

#[test]
fn a_token_used_twice_apart_admits_one_and_both_sides_name_the_other() {
    let mut world = World::new(4);
    world.run(2_000);
    let terms = trust::InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: 1,
        needs_approval: false,
    };
    let (now, held) = (world.now, world.nodes[0].statements());
    let (seed, invite) = trust::issue_invite(&admin(), held, terms, now.wall_ms()).unwrap();
    world.nodes[0].handle_publish(invite.clone(), now).unwrap();
    world.run(1_000);
    world.island = BTreeSet::from([2, 3]);
    world.run(15_000);
    let first = admit_by(&mut world, 0, 71, "first", &seed, &invite);
    world.run(1_000);
    let second = admit_by(&mut world, 2, 72, "second", &seed, &invite);
    world.run(1_000);

    world.island.clear();
    world.run(15_000);

    for node in &world.nodes {
        let state = node.statements().state();
        assert!(state.members.contains_key(&first) && !state.members.contains_key(&second));
        let [conflict] = &state.conflicts[..] else {
            panic!("{:?}", state.conflicts);
        };
        assert_eq!(
            (conflict.refused, &conflict.admitted),
            (second, &vec![first])
        );
        assert!(!node.peers.contains_key(&second));
    }
}

impl World {
    /// The node stops without a word and starts with all it had written.
    fn restart_with_what_it_holds(&mut self, at: usize) {
        let held = self.nodes[at].statements().clone();
        let first = std::mem::replace(&mut self.first, held);
        self.restart(at);
        self.first = first;
    }
}

fn evict(world: &mut World, at: usize, whom: usize, reason: &str) {
    let target = Target::Node(world.nodes[whom].me());
    let revoke = revocation_at(world, at, &admin(), target, None, reason);
    let now = world.now;
    world.nodes[at].handle_publish(revoke, now).unwrap();
}

fn revocation(
    world: &World,
    by: &AdminKey,
    target: Target,
    cut: Option<trust::Cut>,
    reason: &str,
) -> Statement {
    revocation_at(world, 0, by, target, cut, reason)
}

fn revocation_at(
    world: &World,
    at: usize,
    by: &AdminKey,
    target: Target,
    cut: Option<trust::Cut>,
    reason: &str,
) -> Statement {
    let revocation = Revocation {
        target,
        manner: Manner::Evicted,
        cut,
        reason,
    };
    let held = world.nodes[at].statements();
    trust::issue_revoke(by, held, &revocation, world.now.wall_ms()).unwrap()
}

fn an_invite(world: &World) -> Statement {
    let terms = trust::InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: 1,
        needs_approval: false,
    };
    let held = world.nodes[0].statements();
    let issued = trust::issue_invite(&admin(), held, terms, world.now.wall_ms());
    issued.unwrap().1
}

fn gone(world: &World, at: usize, whom: usize) -> Option<GoneSnapshot> {
    let whom = world.nodes[whom].me();
    let snapshot = world.nodes[at].snapshot(world.now);
    snapshot.gone.into_iter().find(|gone| gone.id == whom)
}

fn datagrams_of(world: &World, at: usize) -> usize {
    world.sent.iter().filter(|(_, from, _)| *from == at).count()
}

/// Node `at` vouches for another by the token of the tests.
fn admit(world: &mut World, at: usize, number: u8, name: &str) -> NodeId {
    let is_invite = |statement: &&Statement| statement.kind == trust::kind::INVITE;
    let invite = world.first.iter().find(is_invite).unwrap().clone();
    let seed = world.invite.clone();
    admit_by(world, at, number, name, &seed, &invite)
}

fn admit_by(
    world: &mut World,
    at: usize,
    number: u8,
    name: &str,
    seed: &trust::InviteSeed,
    invite: &Statement,
) -> NodeId {
    let sponsor = trust::Bootstrap {
        node: world.nodes[at].me(),
        tunnel: world.keys[at].1.public(),
        addrs: vec![address(at)],
    };
    let (now, node) = (world.now, NodeKey::from_seed(&[number; 32]));
    let held = world.nodes[at].statements();
    let token = trust::Token::new(seed.clone(), invite.clone(), held, vec![sponsor]).unwrap();
    let join = trust::author_join(&node, &token, name).unwrap();
    let witness = trust::witness(&world.keys[at].0, held, &join, now.wall_ms()).unwrap();
    let vouched = vec![join, witness.unwrap()];
    world.nodes[at].take_statements(vouched, now).1.unwrap();
    node.id()
}
