//! What ledgers say to each other: small messages of kind 71, one datagram each.
//!
//! `u8 1`, then the word in postcard. Two that differ find what: prints of stretches, of those that differ the prints of
//! their parts, at last the places themselves; then events are asked for and told.
//! Bound: `MAX_MESSAGE`, which every sender keeps by what it puts in.

use bytes::Bytes;
use outlast_mesh::{MAX_MESSAGE, NodeId};
use serde::{Deserialize, Serialize};

use super::event::{Event, Place};
use super::set::Print;
use super::span::Span;

const VERSION: u8 = 1;
/// Parts of one stretch that are compared at once: 16 of at most 58 bytes, and the beginning.
pub(super) const PARTS: usize = 16;
/// Places of a stretch that are told one by one: 16 of at most 51 bytes, and the stretch.
pub(super) const LISTED: usize = 16;
/// Bytes of places in one offer or request: each begins at most one author of 34 bytes and ends with one of 18.
const PLACES_BYTES: usize = 980;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// Of everything the sender holds.
    Root(Print),
    /// Of consecutive stretches, the first from `from` on, each up to the place beside it.
    Prints {
        from: Place,
        parts: Vec<(Option<Place>, Print)>,
    },
    /// Everything the sender holds in a stretch.
    Holds(Span, Vec<Held>),
    /// Some of what the sender holds and the receiver seems not to.
    Offers(Vec<Held>),
    /// Events that are asked for.
    Wants(Vec<Wanted>),
    /// Events, encoded.
    Tells(Vec<Told>),
    /// A node that starts asks for its own newest event: it is told, or offered nothing.
    AsksLast,
}

/// Places of one author, and the beginnings of the hashes of what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) author: NodeId,
    pub(super) seqs: Vec<(u64, [u8; 8])>,
}

/// Places of one author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) author: NodeId,
    pub(super) seqs: Vec<u64>,
}

/// The bytes of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told(Vec<u8>);

impl Word {
    pub(super) fn encode(&self) -> Bytes {
        let bytes = vec![VERSION];
        let bytes = postcard::to_extend(self, bytes).expect("plain data always serialises");
        Bytes::from(bytes)
    }

    /// The inverse of `encode`. Bytes left over make it unreadable.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, body) = bytes.split_first()?;
        let (word, rest) = postcard::take_from_bytes(body).ok()?;
        (version == VERSION && rest.is_empty()).then_some(word)
    }

    /// Events, as many as fit into each message.
    pub(super) fn tells<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Self> {
        let mut words: Vec<Vec<Told>> = Vec::new();
        let mut size = MAX_MESSAGE;
        for event in events {
            let told = Told(event.encode().to_vec());
            size += told.0.len() + 2;
            if size > MAX_MESSAGE {
                words.push(Vec::new());
                // Version, the word's number and how many there are.
                size = 3 + told.0.len() + 2;
            }
            if let Some(open) = words.last_mut() {
                open.push(told);
            }
        }
        words.into_iter().map(Self::Tells).collect()
    }
}

impl Told {
    /// The event; `None`: no encoder writes this.
    pub(super) fn event(&self) -> Option<Event> {
        Event::decode(&self.0)
    }

    #[cfg(test)]
    pub(super) fn of(bytes: &'static [u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Gathers places by author, the first as many as fit one message.
pub(super) fn held(places: impl Iterator<Item = (Place, [u8; 8])>) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    let mut size = 0;
    for ((author, seq), hash) in places {
        let begins = all.last().is_none_or(|last| last.author != author);
        size += 18 + if begins { 34 } else { 0 };
        if size > PLACES_BYTES {
            break;
        }
        if begins {
            let seqs = Vec::new();
            all.push(Held { author, seqs });
        }
        if let Some(last) = all.last_mut() {
            last.seqs.push((seq, hash));
        }
    }
    all
}

/// The same of places alone.
pub(super) fn wanted(places: impl Iterator<Item = Place>) -> Vec<Wanted> {
    let with_hashes = places.map(|place| (place, [0; 8]));
    let plain = |held: Held| Wanted {
        author: held.author,
        seqs: held.seqs.into_iter().map(|(seq, _)| seq).collect(),
    };
    held(with_hashes).into_iter().map(plain).collect()
}
