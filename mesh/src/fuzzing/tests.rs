//! The kept inputs, and what today's encoders write, run through every target.

use super::*;
use crate::spread::lives::{self, Say};
use crate::trust::{AuthorHead, Statement};
use crate::tunnel::session::Session;

const MESH: &str = "mesh";

#[test]
fn kept_inputs_are_survived() {
    kept::replay(MESH, TARGETS);
}

#[test]
fn what_encoders_write_is_taken() {
    kept::sow(MESH, TARGETS, seeds);
}

#[test]
fn released_encodings_are_written_as_ever() {
    let family = Family::new();
    let pin = |name: &str, bytes: &[u8]| pinned::pinned(MESH, name, bytes);
    for (kind, body) in bodies(&family) {
        let names = [
            "",
            "hello",
            "ping",
            "pong",
            "summary",
            "statements",
            "want",
            "join",
            "admitted",
            "refused",
            "goodbye",
            "probe",
            "probed",
            "wish",
            "words",
            "waiting",
            "unrelayed",
            "copied",
        ];
        let name = names.get(usize::from(kind)).unwrap_or(&"application");
        pin(&format!("frame-{name}"), &payload_of(&[(kind, body)]));
    }
    pin("statement-genesis", &encoded(&family.genesis));
    pin("statement-invite", &encoded(&family.invite));
    pin("statement-join", &encoded(&family.join));
    pin("statement-witness", &encoded(&family.witness));
    let [policy, replace] = crate::trust::policy::settled(&family);
    pin("statement-policy", &encoded(&policy));
    pin("statement-replace", &encoded(&replace));
    pin("statement-node-info", &encoded(&family.infos[0]));
    for (name, statement) in family.standing() {
        pin(&format!("statement-{name}"), &encoded(&statement));
    }
    let held = family.statements();
    pin("mesh-id", &family.mesh.0);
    pin("root", &held.root());
    pin("heads", &message::encode(&held.summary()));
    pin("token", family.token.encode().as_bytes());
    pin("journal", &journal::records(family.all().iter()));
    let dated = family
        .all()
        .into_iter()
        .zip([None, Some(family::START)].into_iter().cycle());
    let dated: Vec<_> = dated.collect();
    let dated = journal::dated_records(dated.iter().map(|(one, at_ms)| (one, *at_ms)));
    pin("journal-dated", &dated);
    let ends =
        [1, 2].map(|number| crate::id::overlay_address(&family.mesh, &family::node(number).id()));
    pin(
        "inner-packet",
        &packet::build(ends[0], ends[1], 5_182, b"payload"),
    );
    let datagram = a_datagram();
    let relayed = relay::Relayed {
        other: ends[1],
        datagram: &datagram,
    };
    pin(
        "relayed-packet",
        &relay::build(ends[0], ends[1], 5_185, relayed),
    );
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let family = Family::new();
    match target {
        "datagram" => {
            let secret = family::tunnel(2).secret();
            let mut session = Session::new(&secret, family::tunnel(1).public(), 7);
            let initiation = session.initiate().expect("it has a key");
            vec![behind_length(&initiation)]
        }
        "packet" => {
            let ends = [1, 2]
                .map(|number| crate::id::overlay_address(&family.mesh, &family::node(number).id()));
            [&b""[..], b"payload"]
                .map(|payload| packet::build(ends[0], ends[1], 5_182, payload))
                .into()
        }
        "frames" => vec![payload_of(&bodies(&family))],
        "messages" => bodies(&family)
            .into_iter()
            .filter(|(kind, _)| *kind < 64 && *kind != kind::GOODBYE)
            .map(|(kind, body)| [&[kind][..], &body].concat())
            .collect(),
        "relayed" => relayed_seeds(&family),
        "member" => member_seeds(&family),
        "statement" => said(&family).iter().map(encoded).collect(),
        "payload" => said(&family)
            .iter()
            .filter(|statement| statement.kind != 1 || statement.author == family::admin().public())
            .map(|statement| [&[statement.kind][..], &statement.body].concat())
            .collect(),
        "fold" => folded(),
        "token" => {
            let text = family.token.encode();
            let letters = &text.as_bytes()["ol1".len()..];
            let bytes = crate::id::base32()
                .decode(letters)
                .expect("its own letters");
            vec![
                [&[0][..], text.as_bytes()].concat(),
                [&[1][..], &bytes[2..bytes.len() - 8]].concat(),
            ]
        }
        "journal" => {
            let whole = journal::records(family.all().iter());
            let mut hurt = whole.clone();
            hurt[300] ^= 4;
            hurt.truncate(whole.len() - 3);
            let times = family.all().into_iter().zip(family::START..);
            let times: Vec<_> = times.collect();
            let dated = times.iter().map(|(one, at_ms)| (one, Some(*at_ms)));
            vec![whole, hurt, journal::dated_records(dated)]
        }
        "endpoints" => {
            let known: Vec<(crate::NodeId, SocketAddr)> = vec![
                (family::node(2).id(), stranger()),
                (family::node(3).id(), ([0, 0, 0, 0, 0, 0, 0, 1], 9).into()),
            ];
            vec![postcard::to_stdvec(&known).unwrap()]
        }
        "tunnel-key" => vec![format!("{}\n", *family::tunnel(1).to_base64()).into_bytes()],
        other => panic!("no seeds for {other}"),
    }
}

/// The shortest datagram of a tunnel.
fn a_datagram() -> Vec<u8> {
    [&[4, 0, 0, 0][..], &[0xee; 28]].concat()
}

/// A greeting that agrees, and everything else behind it.
fn member_seeds(family: &Family) -> Vec<Vec<u8>> {
    let bodies = bodies(family);
    let trust = family.statements().trust_root();
    let agreeing = [&bodies[0].1[..], &trust].concat();
    let hello = (kind::HELLO, agreeing);
    let greeted = behind_length(&payload_of(std::slice::from_ref(&hello)));
    let all = std::iter::once(&hello)
        .chain(&bodies)
        .map(|one| behind_length(&payload_of(std::slice::from_ref(one))));
    vec![greeted, all.flatten().collect()]
}

/// One of what comes on each port.
fn relayed_seeds(family: &Family) -> Vec<Vec<u8>> {
    let other = crate::id::overlay_address(&family.mesh, &family::node(1).id());
    let secret = family::tunnel(2).secret();
    let mut session = Session::new(&secret, family::tunnel(1).public(), 7);
    let initiation = session.initiate().expect("it has a key");
    let payload = |datagram: &[u8]| [&other.octets()[..], datagram].concat();
    let ping = (kind::PING, message::encode(&Ping { number: 9 }));
    vec![
        [&[0][..], &payload(&a_datagram())].concat(),
        [&[1][..], &payload(&initiation)].concat(),
        [&[2][..], &payload_of(&[ping])].concat(),
    ]
}

/// Statements of every kind.
fn said(family: &Family) -> Vec<Statement> {
    let standing = family.standing().into_iter();
    let standing = standing.map(|(_name, statement)| statement);
    family.all().into_iter().chain(standing).collect()
}

/// Arbitrary statements: joins and their Witnesses; what an admin takes back, and what another one made by it says.
fn folded() -> Vec<Vec<u8>> {
    vec![
        b"\x03\x02\x00\x01\x20\x03\x01\x00\x02\x06\x21\x00".to_vec(),
        b"\x00\x01\x03\x01\x05\x07\x00\x04\x03\x01\x05\x07\x02\x00\x01\x02\x09\x00".to_vec(),
        b"\x00\x08\x03\x01\x05\x0b\x04\x0a\x11\x03\x06\x02\x00\x0a\x04\x06\x07\x49\x02\x0c\x11\x03\x08\x01".to_vec(),
        b"\x00\x01\x03\x01\x05\x21\x02\x02\x00\x06\x05\x21\x01\x00\x11\x07\x06\x00\x00\x09\x04\x07\x08\x00".to_vec(),
    ]
}

/// A body of every kind the mesh says, and one of the application's.
fn bodies(family: &Family) -> Vec<(u8, Vec<u8>)> {
    let root = family.statements().root();
    let hello = Hello {
        wire_min: 1,
        wire_max: 1,
        run: 0x0102_0304_0506_0708,
        root: [3; 32],
        heard: true,
    };
    let pong = Pong {
        number: 9,
        received_us: 1_800_000_000_000_000,
        sent_us: -1,
        observed: stranger(),
    };
    let summary = Summary {
        root: [3; 32],
        range: Some(([0; 32], [255; 32])),
        heads: vec![AuthorHead::none(family::node(2).public())],
    };
    let wish = Wish {
        want: true,
        doubts: 0x0102_0304_0506_0708,
    };
    let life = lives::life_of_start(1);
    let about = family::node(3).id();
    let silent = word::sign(&family::node(2), &family.mesh, about, life, Say::Silent);
    vec![
        (kind::HELLO, message::encode(&hello)),
        (kind::PING, message::encode(&Ping { number: 9 })),
        (kind::PONG, message::encode(&pong)),
        (kind::SUMMARY, message::encode(&summary)),
        (kind::WANT, message::encode(&summary)),
        (kind::STATEMENTS, message::pack(&family.infos).concat()),
        (
            kind::JOIN,
            [encoded(&family.join), encoded(&family.infos[1])].concat(),
        ),
        (kind::ADMITTED, message::encode(&Admitted { root })),
        (kind::REFUSED, message::sentence("the token expired")),
        (64, b"opaque".to_vec()),
        (kind::WISH, message::encode(&wish)),
        (kind::WORDS, word::encode(&silent)),
        (kind::GOODBYE, Vec::new()),
        (kind::UNRELAYED, vec![0xfd; 16]),
        (kind::WAITING, message::sentence("river waits for an admin")),
        (
            kind::COPIED,
            message::encode(&Copied {
                elsewhere: Some(stranger()),
            }),
        ),
    ]
}

fn payload_of(bodies: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (kind, body) in bodies {
        frame::push(&mut payload, *kind, body);
    }
    payload
}

fn behind_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn encoded(statement: &Statement) -> Vec<u8> {
    let mut bytes = Vec::new();
    statement.encode(&mut bytes);
    bytes
}
