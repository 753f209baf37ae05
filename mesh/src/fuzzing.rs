//! What a fuzzer may throw at this crate: one function a parser of foreign bytes.
//!
//! Each says whether the bytes were taken, and asserts what must hold of whatever was. In tests every target runs over
//! the inputs kept in `tests/fuzz/corpus/mesh`. Absent from releases.

use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::config::Identity;
use crate::io::{endpoints, journal};
use crate::node::{Node, NodeConfig, NodeEvent};
use crate::path::way::Way;
use crate::time::Now;
use crate::trust::Statements;
use crate::trust::family::{self, Family};
use crate::trust::fuzzing::{fold, payload, statement, token};
use crate::tunnel::keys::{TunnelKey, TunnelPublic};
use crate::wire::message::{self, Admitted, Copied, Hello, Ping, Pong, Summary, Wish, kind};
use crate::wire::{MAX_MESSAGE, MAX_PAYLOAD, RELAY_PORT, frame, packet, relay, word};

/// A name, and what runs over the bytes: true if they were taken.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every parser of this crate that reads what others wrote.
pub const TARGETS: &[Target] = &[
    ("datagram", datagram),
    ("packet", inner_packet),
    ("frames", frames),
    ("messages", messages),
    ("relayed", relayed),
    ("member", member),
    ("statement", statement),
    ("payload", payload),
    ("fold", fold),
    ("token", token),
    ("journal", journal_file),
    ("endpoints", endpoints_file),
    ("tunnel-key", tunnel_key),
];

/// Datagrams from strangers, each behind its length (two bytes, big-endian). They are never answered with more bytes
/// than they had, and move nothing.
fn datagram(bytes: &[u8]) -> bool {
    let (mut node, now) = (a_node(), Now::real());
    while node.poll_transmit(now).is_some() {}
    let mut answered = false;
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (datagram, after) = after.split_at(len);
        node.handle_datagram(stranger(), datagram, now);
        while let Some(reply) = node.poll_transmit(now) {
            assert!(reply.bytes.len() <= datagram.len(), "more out than in");
            assert_eq!(reply.to, stranger());
            answered = true;
        }
        rest = after;
    }
    assert_eq!(node.connected().count(), 0);
    assert_eq!(heard(&mut node), 0, "nothing in here was sealed");
    answered
}

/// What a tunnel carries.
fn inner_packet(bytes: &[u8]) -> bool {
    let Some(read) = packet::parse(bytes) else {
        return false;
    };
    assert!(read.payload.len() + packet::HEADERS <= bytes.len());
    if read.source_port == read.destination_port {
        let (from, to) = (read.source, read.destination);
        let again = packet::build(from, to, read.source_port, read.payload);
        assert_eq!(packet::parse(&again), Some(read));
        assert_eq!(again.len() % 16, 0);
    }
    true
}

/// A payload of frames: what is read is written again to bytes that read the same.
fn frames(bytes: &[u8]) -> bool {
    let read: Vec<_> = frame::frames(bytes).collect();
    assert!(read.len() <= bytes.len());
    let whole: Vec<_> = read.iter().flatten().collect();
    let bodies: usize = whole.iter().map(|frame| frame.body.len()).sum();
    assert!(bodies + whole.len() * frame::HEADER <= bytes.len());
    let mut again = Vec::new();
    if bytes.len() <= MAX_PAYLOAD {
        for frame in &whole {
            assert!(frame::push(&mut again, frame.kind, frame.body));
        }
        let second: Vec<_> = frame::frames(&again).flatten().collect();
        assert!(whole.into_iter().eq(&second));
    }
    !read.is_empty() && read.iter().all(Result::is_ok)
}

/// The body of a message of the mesh itself, behind its kind.
fn messages(bytes: &[u8]) -> bool {
    fn same<T>(body: &[u8]) -> bool
    where
        T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
    {
        let Some(read) = message::decode::<T>(body) else {
            return false;
        };
        let again = message::encode(&read);
        assert!(again.len() <= body.len().max(MAX_MESSAGE));
        assert_eq!(message::decode::<T>(&again), Some(read));
        true
    }
    fn same_with_trust<T>(body: &[u8]) -> bool
    where
        T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
    {
        if let Some((read, Some(trust))) = message::decode_with_trust::<T>(body) {
            let again = message::encode_with_trust(&read, &trust);
            assert_eq!(
                message::decode_with_trust::<T>(&again),
                Some((read, Some(trust)))
            );
        }
        same::<T>(body)
    }
    let Some((&kind, body)) = bytes.split_first() else {
        return false;
    };
    match kind {
        kind::HELLO => same_with_trust::<Hello>(body),
        kind::PING => same::<Ping>(body),
        kind::PONG => same::<Pong>(body),
        kind::SUMMARY | kind::WANT => same_with_trust::<Summary>(body),
        kind::ADMITTED => same::<Admitted>(body),
        kind::COPIED => same::<Copied>(body),
        kind::WISH => {
            if let Some((wish, parts)) = Wish::decode(body) {
                let again = wish.encode(parts);
                assert_eq!(Wish::decode(&again), Some((wish, parts)));
            }
            same::<Wish>(body)
        }
        kind::WORDS => {
            let read = word::decode(body).unwrap_or_default();
            let again: Vec<u8> = read.iter().flat_map(word::encode).collect();
            assert!(read.is_empty() || again == body);
            !read.is_empty()
        }
        kind::STATEMENTS | kind::JOIN => {
            let read = message::unpack(body);
            let again: Vec<_> = message::pack(&read)
                .iter()
                .flat_map(|body| message::unpack(body))
                .collect();
            assert_eq!(again, read);
            !read.is_empty()
        }
        kind::UNRELAYED => body.len() >= 16,
        kind::REFUSED | kind::WAITING => {
            let read = message::read_sentence(body);
            assert!(read.len() <= 3 * body.len());
            true
        }
        _ => false,
    }
}

/// What a member brings on the ports of relaying and of trying ways, behind a byte that says on which: it never
/// leaves longer than it came, nobody is connected by it, and nothing of it reaches the application.
fn relayed(bytes: &[u8]) -> bool {
    let Some((&which, payload)) = bytes.split_first() else {
        return false;
    };
    let (mut node, now, peer) = (a_node(), Now::real(), family::node(2).id());
    while node.poll_transmit(now).is_some() {}
    let way = Way::Direct(stranger());
    match which % 3 {
        0 => node.hand_on(peer, way, payload, now),
        1 => node.handed_on(peer, way, payload, now),
        _ => node.ask_or_answer(peer, way, payload, now),
    }
    while let Some(reply) = node.poll_transmit(now) {
        assert!(reply.bytes.len() <= payload.len(), "more out than in");
    }
    assert_eq!(node.connected().count(), 0);
    assert_eq!(heard(&mut node), 0);
    if which % 3 == 2 {
        return frame::frames(payload)
            .next()
            .is_some_and(|frame| frame.is_ok());
    }
    let Some(read) = relay::parse(payload) else {
        return false;
    };
    let packet = relay::build(read.other, read.other, RELAY_PORT, read);
    let again = packet::parse(&packet).expect("what was built can be read");
    assert_eq!(again.payload, payload);
    true
}

/// Payloads from a member in its own tunnel, each behind its length (two bytes, big-endian). Whatever it says, the node
/// stays a member, keeps its bounds, and speaks to members only, in a small mesh as in a large one.
fn member(bytes: &[u8]) -> bool {
    let mut large = a_node();
    large.handle_full(0);
    let in_large = member_of(large, bytes);
    member_of(a_node(), bytes) | in_large
}

fn member_of(mut node: Node, bytes: &[u8]) -> bool {
    let now = Now::real();
    let peer = family::node(2).id();
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (payload, after) = after.split_at(len);
        node.frames(peer, Way::Direct(stranger()), payload, now);
        rest = after;
    }
    let said = node.poll_journal();
    while node.poll_transmit(now).is_some() {}
    assert!(said.len() <= bytes.len() + 1);
    let me = family::node(1).id();
    assert!(node.statements().state().members.contains_key(&me));
    let connected = node.connected().count();
    assert!(connected <= 1);
    let messages = heard(&mut node);
    assert!(messages == 0 || connected == 1 || bytes.len() > frame::HEADER);
    connected == 1 || messages > 0
}

/// `statements.log` after a crash, or from anywhere.
fn journal_file(bytes: &[u8]) -> bool {
    let (kept, end) = journal::recover(bytes);
    assert!(end <= bytes.len());
    let again = journal::dated_records(kept.iter().map(|(statement, at_ms)| (statement, *at_ms)));
    assert_eq!(journal::recover(&again), (kept.clone(), again.len()));
    let plain = journal::records(kept.iter().map(|(statement, _at_ms)| statement));
    let torn = journal::recover(&plain[..plain.len().saturating_sub(1)]).0;
    assert_eq!(torn.len(), kept.len().saturating_sub(1));
    !kept.is_empty()
}

/// The file of remembered endpoints; its checksum is set right first.
fn endpoints_file(bytes: &[u8]) -> bool {
    let file = [&crc32c::crc32c(bytes).to_le_bytes()[..], bytes].concat();
    let Some(read) = endpoints::parse(&file) else {
        return false;
    };
    assert!(read.len() <= bytes.len() / 32);
    true
}

/// Keys as `wg` writes them.
fn tunnel_key(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(public) = TunnelPublic::from_base64(&text) {
        assert_eq!(
            TunnelPublic::from_base64(&public.to_string()).ok(),
            Some(public)
        );
    }
    let Ok(key) = TunnelKey::from_base64(&text) else {
        return false;
    };
    let again = TunnelKey::from_base64(&key.to_base64()).map(|again| again.public());
    assert_eq!(again.ok(), Some(key.public()));
    true
}

/// Node 1 of the family, which knows node 2 and has not heard it.
fn a_node() -> Node {
    static HELD: OnceLock<Statements> = OnceLock::new();
    let held = HELD.get_or_init(|| Family::new().statements());
    let config = NodeConfig {
        identity: Identity {
            node: family::node(1),
            tunnel: family::tunnel(1),
            previous: Vec::new(),
        },
        statements: held.clone(),
        endpoints: Vec::new(),
        udp_port: 51_800,
        version: "0.1.0".into(),
        calls: false,
        remembered: Vec::new(),
        seed: [1; 32],
    };
    let mut node = Node::new(config, Now::real());
    // What it says at its start is on disk.
    node.poll_journal();
    node
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 77], 4_242))
}

/// How many messages and stream packets came out.
fn heard(node: &mut Node) -> usize {
    std::iter::from_fn(|| node.poll_event())
        .filter(|event| {
            matches!(
                event,
                NodeEvent::Message { .. } | NodeEvent::StreamPacket { .. }
            )
        })
        .count()
}

#[cfg(test)]
#[path = "../../tests/fuzz/kept.rs"]
mod kept;

#[cfg(test)]
#[path = "../../tests/released/pinned.rs"]
mod pinned;

#[cfg(test)]
mod tests;
