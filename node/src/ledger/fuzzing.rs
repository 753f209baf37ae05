//! What a fuzzer may throw at a ledger: messages of peers, events, and the file.
//!
//! Absent from releases.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use outlast_mesh::{MAX_MESSAGE, MeshId, NodeId};

use super::event::{Draft, Event, MAX_EVENT};
use super::span::Span;
use super::word::{Held, Wanted, Word, held};
use super::{Authors, Keys, Ledger, file, kind};

const ME: NodeId = NodeId([1; 32]);
const PEER: NodeId = NodeId([2; 32]);

/// An event, and a file of them.
pub(crate) fn event(bytes: &[u8]) -> bool {
    let (found, end) = file::recover(bytes);
    assert!(end <= bytes.len());
    let again = file::records(found.iter());
    assert_eq!(file::recover(&again), (found.clone(), again.len()));
    let one = Event::decode(bytes);
    if let Some(event) = &one {
        assert_eq!(event.encode(), bytes, "one form only");
        assert!(bytes.len() <= MAX_EVENT);
    }
    one.is_some() || !found.is_empty()
}

/// A message, and what a ledger with a few events makes of it.
pub(crate) fn word(bytes: &[u8]) -> bool {
    let Some(word) = Word::decode(bytes) else {
        return false;
    };
    let again = word.encode();
    assert!(again.len() <= bytes.len(), "a shorter form exists");
    assert_eq!(Word::decode(&again), Some(word));
    let now = Instant::now();
    let mut ledger = Ledger::new(ME, keys(), 0, now).with_earlier(events(), 0);
    let ever = Arc::new(BTreeSet::from([ME, PEER]));
    ledger.handle_members(Authors { ever, there: 2 }, now);
    ledger.handle_connected(PEER, now);
    while ledger.poll_transmit().is_some() {}
    let before = ledger.stats().events;
    ledger.handle_message(PEER, bytes, now);
    let mut sent = 0;
    while let Some((to, message)) = ledger.poll_transmit() {
        assert!(
            to == PEER && message.len() <= MAX_MESSAGE,
            "{} bytes",
            message.len()
        );
        sent += 1;
    }
    assert!(sent <= 64, "{sent} answers to one message");
    assert!(ledger.stats().events <= before + 16);
    let events = ledger.events().values();
    assert!(
        events
            .into_iter()
            .all(|event| [ME, PEER].contains(&event.author))
    );
    true
}

/// One of each, with fixed values.
#[cfg(test)]
pub(crate) fn ledger_seeds(target: &str) -> Vec<Vec<u8>> {
    let events = events();
    if target == "event" {
        let one = events[3].encode().to_vec();
        return vec![one, file::records(events.iter())];
    }
    let span = Span {
        from: (ME, 3),
        to: Some((PEER, 1 << 40)),
    };
    let places = || events.iter().map(|event| (event.place(), [5; 8]));
    let wants = vec![Wanted {
        author: ME,
        seqs: vec![1, 2, 1 << 33],
    }];
    let words = [
        Word::Root([7; 16]),
        Word::Prints {
            from: Span::ALL.from,
            parts: vec![(Some((ME, 3)), [1; 16]), (None, [2; 16])],
        },
        Word::Holds(span, held(places())),
        Word::Offers(vec![Held {
            author: PEER,
            seqs: vec![(9, [8; 8])],
        }]),
        Word::Wants(wants),
        Word::tells(events[..2].iter()).remove(0),
        Word::AsksLast,
    ];
    words.iter().map(|word| word.encode().to_vec()).collect()
}

/// Ten events of each of two.
fn events() -> Vec<Event> {
    let event = |number: u64| {
        let draft = Draft {
            kind: if number.is_multiple_of(2) {
                kind::LIFE
            } else {
                200
            },
            body: Bytes::from(vec![number as u8; 40 * number as usize]),
            wall_ms: 1_800_000_000_000 + number as i64,
            synced: number.is_multiple_of(3),
        };
        let author = if number < 10 { ME } else { PEER };
        draft.sign(&MeshId([0; 32]), (author, number % 10 + 1), sign)
    };
    (0..20).map(event).collect()
}

fn sign(message: &[u8]) -> [u8; 64] {
    let hash = *blake3::hash(message).as_bytes();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&hash);
    signature
}

fn keys() -> Keys {
    Keys {
        mesh: MeshId([0; 32]),
        sign: Some(Box::new(sign)),
        verify: |_, message, signature| sign(message) == *signature,
    }
}
