//! Every payload there and back, pinned bytes, and garbage.

use proptest::prelude::*;

use super::*;

const MESH: MeshId = MeshId([7; 32]);

fn note(info: &NodeInfo) -> Statement {
    info.sign(&NodeKey::from_seed(&[1; 32]), &MESH)
}

fn logged(kind: u8, seq: u32, payload: &impl Serialize) -> Statement {
    let header = LogHeader {
        seq,
        prev: [0; 32],
        hlc: 5,
    };
    Statement::sign(
        kind,
        &MESH,
        &NodeKey::from_seed(&[1; 32]),
        log_body(header, payload),
    )
}

prop_compose! {
    fn node_info()(
        incarnation: u32,
        seq: u32,
        tunnel: [u8; 32],
        previous: Option<[u8; 32]>,
        addrs in prop::collection::vec(any::<SocketAddr>(), 0..=MAX_ENDPOINTS),
        version in "[!-~]{0,64}",
        wire_max: u8,
        store_format: u32,
    ) -> NodeInfo {
        let endpoint = |mut addr: SocketAddr| {
            // Scope and flow label belong to one machine and are not carried.
            addr = SocketAddr::new(addr.ip(), addr.port());
            Endpoint { kind: EndpointKind::Observed, addr }
        };
        NodeInfo {
            incarnation,
            seq,
            tunnel: TunnelPublic(tunnel),
            tunnel_previous: previous.map(TunnelPublic),
            endpoints: addrs.into_iter().map(endpoint).collect(),
            version,
            wire_min: 1,
            wire_max,
            store_format,
        }
    }
}

proptest! {
    #[test]
    fn node_info_survives_its_encoding(info in node_info()) {
        let (incarnation, seq) = (info.incarnation, info.seq);
        let place = Place::Note { incarnation, seq };
        prop_assert!(note(&info).body.len() <= crate::trust::MAX_BODY);
        prop_assert_eq!(read(&note(&info)), Ok((place, Payload::NodeInfo(info))));
    }

    #[test]
    fn joins_survive_their_encoding(
        invite: [u8; 32],
        name in "[a-z0-9-]{1,63}",
        created_ms: u64,
        signature in prop::collection::vec(any::<u8>(), 64),
    ) {
        let invite_signature = signature.try_into().unwrap();
        let join = Join { invite: StatementId(invite), name, created_ms, invite_signature };
        let (_place, payload) = read(&logged(kind::JOIN, 0, &join)).unwrap();
        prop_assert_eq!(payload, Payload::Join(join));
    }

    #[test]
    fn invites_survive_their_encoding(
        keys: ([u8; 32], [u8; 32]),
        name in prop::option::of("[a-z0-9-]{1,63}"),
        times: (u64, u64),
        uses: u16,
        needs_approval: bool,
    ) {
        let invite = Invite {
            public: keys.0,
            tunnel: TunnelPublic(keys.1),
            name,
            not_before_ms: times.0,
            not_after_ms: times.1,
            uses,
            needs_approval,
        };
        let (_place, payload) = read(&logged(kind::INVITE, 1, &invite)).unwrap();
        prop_assert_eq!(payload, Payload::Invite(invite));
    }

    #[test]
    fn geneses_survive_their_encoding(
        version: u16,
        names in ("[a-z0-9-]{1,63}", "[a-z0-9-]{1,63}"),
        nonce: [u8; 16],
        recovery: Option<[u8; 32]>,
        founder: [u8; 32],
        created_ms: u64,
    ) {
        let genesis = Genesis {
            version,
            name: names.0,
            nonce,
            recovery,
            admin: NodeKey::from_seed(&[1; 32]).public(),
            founder: NodeId(founder),
            founder_name: names.1,
            created_ms,
        };
        let statement = logged(kind::GENESIS, 1, &genesis);
        let (_place, payload) = read(&statement).unwrap();
        prop_assert_eq!(payload, Payload::Genesis(genesis));
        let second = logged(kind::GENESIS, 2, &statement.body);
        prop_assert!(read(&second).is_err());
    }

    #[test]
    fn witnesses_survive_their_encoding(join: [u8; 32], seq in 1_u32.., hlc: u64) {
        let witness = Witness { join: StatementId(join) };
        let header = LogHeader { seq, prev: [u8::from(seq > 1); 32], hlc };
        let body = log_body(header, &witness);
        let statement = Statement::sign(kind::WITNESS, &MESH, &NodeKey::from_seed(&[1; 32]), body);
        prop_assert_eq!(read(&statement), Ok((Place::Log(header), Payload::Witness(witness))));
    }

    #[test]
    fn policies_and_replacements_survive_their_encoding(
        node: Option<[u8; 32]>,
        key in "[a-z-]{1,128}",
        value in prop::option::of("[ -~]{0,128}"),
        replaced: ([u8; 32], [u8; 32]),
    ) {
        let policy = Policy { node: node.map(NodeId), key, value };
        let (_place, payload) = read(&logged(kind::POLICY, 1, &policy)).unwrap();
        prop_assert_eq!(payload, Payload::Policy(policy));
        let replace = Replace { invite: StatementId(replaced.0), node: NodeId(replaced.1) };
        let (_place, payload) = read(&logged(kind::REPLACE, 1, &replace)).unwrap();
        prop_assert_eq!(payload, Payload::Replace(replace));
    }

    #[test]
    fn any_body_is_read_without_a_panic(
        kind: u8,
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let statement = Statement { kind, author: [0; 32], body, signature: [0; 64] };
        let _either = read(&statement);
    }
}

#[test]
fn unknown_kinds_have_a_place_though_no_meaning() {
    let rename = logged(kind::RENAME, 1, &"whatever");
    let header = LogHeader {
        seq: 1,
        prev: [0; 32],
        hlc: 5,
    };
    assert_eq!(read(&rename), Ok((Place::Log(header), Payload::Unknown)));
    // Versions that know these kinds and those that don't must agree on what is held.
    for kind in [kind::POLICY, kind::REPLACE] {
        let unreadable = logged(kind, 1, &"whatever");
        assert_eq!(
            read(&unreadable),
            Ok((Place::Log(header), Payload::Unknown))
        );
    }
    let odd = Policy {
        node: None,
        key: "Site".to_owned(),
        value: None,
    };
    assert_eq!(
        read(&logged(kind::POLICY, 1, &odd)),
        Ok((Place::Log(header), Payload::Unknown))
    );
    let critical = logged(CRITICAL + 3, 1, &"whatever");
    assert_eq!(read(&critical), Ok((Place::Log(header), Payload::Unknown)));
    let body = postcard::to_stdvec(&(3_u32, 4_u32, "whatever")).unwrap();
    let note = Statement {
        kind: 99,
        author: [0; 32],
        body,
        signature: [0; 64],
    };
    assert_eq!(
        read(&note),
        Ok((
            Place::Note {
                incarnation: 3,
                seq: 4
            },
            Payload::Unknown
        ))
    );
}

#[test]
fn a_payload_with_a_byte_too_many_is_refused() {
    let mut statement = logged(
        kind::WITNESS,
        1,
        &Witness {
            join: StatementId([3; 32]),
        },
    );
    statement.body.push(0);
    let refusal = Refusal::Malformed {
        kind: kind::WITNESS,
        why: "it goes on too long",
    };
    assert_eq!(read(&statement), Err(refusal));
}

#[test]
fn names_are_dns_labels_in_lower_case() {
    for good in ["a", "web-3", "0", &"x".repeat(63)] {
        assert!(is_name(good), "{good}");
    }
    for bad in ["", "Web", "a.b", "a b", "ä", "a\n", &"x".repeat(64)] {
        assert!(!is_name(bad), "{bad}");
    }
}
