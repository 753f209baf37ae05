//! Other releases: frames, greetings and statements that this one doesn't know. Node 1 is the other one.

use super::*;
use crate::reckoning::Offence;
use crate::trust::{self, CRITICAL, JoinRefusal, LogHeader, NodeInfo, kind as statement_kind};
use crate::wire::message::{Hello, Ping};

const OTHER: usize = 1;

#[test]
fn a_frame_of_an_unknown_kind_or_version_costs_only_itself() {
    let mut world = World::new(2);
    world.run(1_000);
    let ours = WIRE_VERSION;
    let strange = [(ours, 0), (ours, 40), (ours, 63), (ours + 1, 64)];
    let mut payload = Vec::new();
    for (number, (version, kind)) in strange.into_iter().enumerate() {
        let number = number as u8;
        frame::push(&mut payload, 64, &[number]);
        frame::push_as(version, &mut payload, kind, b"a word of the future");
    }
    frame::push(&mut payload, 65, b"last");
    let before = world.seen[&0].len();

    tell(&mut world, &payload);

    let told: Vec<_> = world.seen[&0][before..]
        .iter()
        .filter_map(|event| match event {
            NodeEvent::Message { kind, body, .. } => Some((*kind, body.to_vec())),
            _ => None,
        })
        .collect();
    let numbered = (0..4).map(|number| (64, vec![number]));
    assert_eq!(
        told,
        numbered.chain([(65, b"last".to_vec())]).collect::<Vec<_>>()
    );
    assert_eq!(world.dropped(0, "frame kind unknown"), 3);
    assert_eq!(world.dropped(0, "frame version unknown"), 1);
    assert_eq!(
        world.blamed(0, OTHER, Offence::Malformed),
        0,
        "it is only newer"
    );
}

#[test]
fn a_greeting_is_answered_where_the_versions_meet() {
    for (range, agreed) in [
        ((1, 1), Some(1)),
        ((1, 2), Some(1)),
        ((0, 200), Some(1)),
        ((2, 3), None),
        ((0, 0), None),
        ((3, 1), None),
    ] {
        let mut world = World::new(2);

        greet(&mut world, range);

        assert_eq!(
            world.peer(0, OTHER).connected,
            agreed.is_some(),
            "{range:?}"
        );
        assert_eq!(world.peer(0, OTHER).greeting.version, agreed, "{range:?}");
        assert_eq!(
            world.dropped(0, "wire version"),
            u64::from(agreed.is_none())
        );
        let told = notices(&world)
            .iter()
            .any(|notice| notice.contains("upgrade the older one"));
        assert_eq!(told, agreed.is_none(), "{range:?}");
        if agreed.is_none() {
            greet(&mut world, (1, 1));
            assert!(world.peer(0, OTHER).connected, "once it is upgraded");
            assert_eq!(notices(&world), [""; 0]);
        }
    }
}

#[test]
fn a_greeting_below_what_its_sender_signed_is_refused_until_it_signs_less() {
    let mut world = World::new(2);
    let now = world.now;
    let newer = signed(&world, 7, 2);
    world.nodes[0].take_statements(vec![newer], now).1.unwrap();

    greet(&mut world, (1, 1));

    assert!(!world.peer(0, OTHER).connected);
    assert_eq!(world.blamed(0, OTHER, Offence::Downgrade), 1);
    let told = notices(&world);
    assert!(
        told[0].contains("offers wire version 1 and has signed that it speaks 2"),
        "{told:?}"
    );
    greet(&mut world, (1, 2));
    assert!(world.peer(0, OTHER).connected, "as it signed");
    // Its owner went back to the older release, which says so itself.
    let mut world = World::new(2);
    for (incarnation, wire_max) in [(7, 2), (8, 1)] {
        let info = signed(&world, incarnation, wire_max);
        world.nodes[0].take_statements(vec![info], now).1.unwrap();
    }
    greet(&mut world, (1, 1));
    assert!(world.peer(0, OTHER).connected);
}

#[test]
fn a_critical_statement_of_an_admin_stops_admission_and_nothing_else() {
    let mut world = World::new(2);
    world.run(1_000);
    assert_eq!(vouch(&world), Ok(()));
    let critical = logged(&world, CRITICAL + 3);

    world.nodes[0].handle_publish(critical, world.now).unwrap();
    world.run(1_000);

    for at in 0..2 {
        let told = world.nodes[at].snapshot(world.now).notices;
        assert!(
            told.iter()
                .any(|notice| notice.contains("upgrade this node")),
            "{told:?}"
        );
    }
    assert_eq!(vouch(&world), Err(JoinRefusal::Upgrade));
    let before = world.seen[&1].len();
    let to = world.nodes[1].me();
    world.nodes[0]
        .handle_message(to, 64, b"a row", world.now)
        .unwrap();
    world.deliver();
    let heard = |event: &NodeEvent| matches!(event, NodeEvent::Message { kind: 64, .. });
    assert_eq!(
        world.seen[&1][before..]
            .iter()
            .filter(|event| heard(event))
            .count(),
        1
    );
    world.restart(0);
    world.run(2_000);
    assert_eq!(world.state(0, OTHER), PeerState::Alive);
}

#[test]
fn a_critical_statement_of_a_stranger_or_a_mere_member_stops_nobody() {
    let mut world = World::new(2);
    world.run(1_000);
    let mesh = world.first.mesh();
    let member = world.keys[OTHER].0.clone();
    for author in [NodeKey::from_seed(&[77; 32]), member] {
        let critical = in_log(CRITICAL + 3, 1, [0; 32], &mesh, &author);
        world.nodes[0].handle_publish(critical, world.now).unwrap();
    }
    world.run(1_000);

    assert_eq!(vouch(&world), Ok(()));
    assert_eq!(notices(&world), [""; 0]);
}

#[test]
fn a_statement_of_an_unknown_kind_is_kept_passed_on_and_ignored() {
    let mut world = World::new(2);
    world.run(1_000);
    let (state, root) = (
        world.nodes[0].state.clone(),
        world.nodes[1].statements.root(),
    );
    let unknown = [logged(&world, 12), note(&world, 40)];

    for statement in &unknown {
        world.nodes[0]
            .handle_publish(statement.clone(), world.now)
            .unwrap();
    }
    world.run(1_000);

    assert_ne!(world.nodes[1].statements.root(), root);
    for at in 0..2 {
        let held: Vec<_> = world.nodes[at].statements.iter().collect();
        assert!(
            unknown.iter().all(|statement| held.contains(&statement)),
            "node {at}"
        );
        assert_eq!(world.nodes[at].state.members, state.members);
    }
    assert_eq!(notices(&world), [""; 0]);
    assert_eq!(vouch(&world), Ok(()));
}

/// The other node says this to node 0, in its tunnel.
fn tell(world: &mut World, payload: &[u8]) {
    let (from, now) = (world.nodes[OTHER].address(), world.now);
    let (to, address) = (world.nodes[0].me(), world.nodes[0].address());
    let packet = packet::build(from, address, MESSAGE_PORT, payload);
    world.nodes[OTHER].seal_and_send(to, packet, now);
    world.deliver();
}

/// Node 0 hears this greeting of the other node, in the oldest version that one speaks.
fn greet(world: &mut World, (wire_min, wire_max): (u8, u8)) {
    let hello = Hello {
        wire_min,
        wire_max,
        run: 5,
        root: [0; 32],
        heard: false,
    };
    let mut payload = Vec::new();
    let body = message::encode_with_trust(&hello, &world.nodes[0].trust);
    frame::push_as(wire_min, &mut payload, kind::HELLO, &body);
    frame::push(
        &mut payload,
        kind::PING,
        &message::encode(&Ping { number: 1 }),
    );
    let (from, now) = (world.nodes[OTHER].me(), world.now);
    world.nodes[0].frames(from, Way::Direct(address(OTHER)), &payload, now);
}

fn notices(world: &World) -> Vec<String> {
    world.nodes[0].snapshot(world.now).notices
}

/// What the other node signs of itself.
fn signed(world: &World, incarnation: u32, wire_max: u8) -> Statement {
    let (node, tunnel) = &world.keys[OTHER];
    let info = NodeInfo {
        incarnation,
        seq: 1,
        tunnel: tunnel.public(),
        tunnel_previous: None,
        endpoints: Vec::new(),
        version: "9".into(),
        wire_min: 1,
        wire_max,
        store_format: 1,
    };
    info.sign(node, &world.first.mesh())
}

/// The admin's next statement, of a kind nobody knows.
fn logged(world: &World, kind: u8) -> Statement {
    let held = world.nodes[0].statements();
    let (seq, prev) = held.head(&admin().public());
    in_log(kind, seq, prev, &held.mesh(), &admin())
}

fn in_log(
    kind: u8,
    seq: u32,
    prev: [u8; 32],
    mesh: &MeshId,
    author: &impl crate::tunnel::keys::Author,
) -> Statement {
    let header = LogHeader {
        seq,
        prev,
        hlc: u64::from(seq) << 16,
    };
    let body = message::encode(&(header, "a rule of the future"));
    Statement::sign(kind, mesh, author, body)
}

/// A statement of the other node that replaces the one before of its kind.
fn note(world: &World, kind: u8) -> Statement {
    let body = message::encode(&(1_u32, 1_u32, "news of the future"));
    Statement::sign(kind, &world.first.mesh(), &world.keys[OTHER].0, body)
}

/// Whether node 0 would vouch for a new node.
fn vouch(world: &World) -> Result<(), JoinRefusal> {
    let held = world.nodes[0].statements();
    let invite = held.iter().find(|one| one.kind == statement_kind::INVITE);
    let sponsor = trust::Bootstrap {
        node: world.nodes[0].me(),
        tunnel: world.keys[0].1.public(),
        addrs: vec![address(0)],
    };
    let invite = invite.expect("there is one").clone();
    let token = trust::Token::new(world.invite.clone(), invite, held, vec![sponsor]).unwrap();
    let join = trust::author_join(&NodeKey::from_seed(&[50; 32]), &token, "n50")?;
    trust::witness(&world.keys[0].0, held, &join, world.now.wall_ms()).map(drop)
}
