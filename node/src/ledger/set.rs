//! The events that are held: a set that is the same on every node that has heard the same.
//!
//! In: events whose signatures are good. Out: what became of each, all of them in order, and prints of stretches by which
//! two sets are compared.
//! Of each author the newest are kept, `MOST_EVENTS` and a share of `MOST_BYTES` at most; what goes goes from its oldest
//! end. Of two contents at one place the lower hash stays. So sets that exchange what they hold come to hold the same, in
//! whatever order it came: of two that differ the newest difference is one that both keep.
//! Absent: signatures, who may speak (`ledger`), how sets are compared (`sync`).

use std::collections::BTreeMap;
use std::sync::Arc;

use outlast_mesh::NodeId;

use super::MOST_EVENTS;
use super::event::{Event, Place};
use super::handle::Events;
use super::span::Span;

/// What the events of one author may take.
const MOST_OF_ONE: usize = 128 * 1024;
/// What all may take: with more than 256 authors each has less, and never below `LEAST_OF_ONE`.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Four events of the longest body, or some twenty usual ones.
const LEAST_OF_ONE: usize = 4 * 1024;

/// What stands for a stretch of events.
pub(super) type Print = [u8; 16];

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    New,
    Known,
    /// Older than what is kept of its author.
    Old,
    /// Its author signed another content at this place, and this one is the lower: it stands there from here on.
    Replaced,
    /// The same, and the other one stays.
    Refused,
}

#[derive(Debug)]
pub(super) struct Set {
    events: Arc<Events>,
    authors: BTreeMap<NodeId, Author>,
    bytes: usize,
    share: usize,
    root: Option<Print>,
}

#[derive(Debug, Default)]
struct Author {
    hashes: BTreeMap<u64, Print>,
    bytes: usize,
    /// Of all its events; made when it is asked for.
    print: Option<Print>,
}

impl Default for Set {
    fn default() -> Self {
        Self {
            events: Arc::default(),
            authors: BTreeMap::new(),
            bytes: 0,
            share: MOST_OF_ONE,
            root: None,
        }
    }
}

impl Set {
    /// There are so many who may be authors: each has its share.
    pub(super) fn handle_authors(&mut self, authors: usize) {
        let share = (MOST_BYTES / authors.max(1)).clamp(LEAST_OF_ONE, MOST_OF_ONE);
        if share < self.share {
            let all: Vec<_> = self.authors.keys().copied().collect();
            self.share = share;
            all.into_iter().for_each(|author| self.trim(author));
        }
        self.share = share;
    }

    pub(super) fn put(&mut self, event: Event) -> Put {
        let place = event.place();
        let hash = short(&event.hash());
        let author = self.authors.entry(place.0).or_default();
        let replaced = match author.hashes.get(&place.1) {
            Some(held) if *held == hash => return Put::Known,
            Some(held) if *held < hash => return Put::Refused,
            Some(_) => true,
            None => false,
        };
        let len = event.encoded_len();
        author.hashes.insert(place.1, hash);
        (author.bytes, author.print) = (author.bytes + len, None);
        self.bytes += len;
        self.root = None;
        let before = Arc::make_mut(&mut self.events).insert(place, event);
        if let Some(before) = before {
            author.bytes -= before.encoded_len();
            self.bytes -= before.encoded_len();
        }
        self.trim(place.0);
        match (self.events.contains_key(&place), replaced) {
            (false, _) => Put::Old,
            (true, true) => Put::Replaced,
            (true, false) => Put::New,
        }
    }

    /// Whether an event of so many bytes that isn't held would be kept.
    pub(super) fn has_room(&self, place: &Place, len: usize) -> bool {
        let Some(author) = self.authors.get(&place.0) else {
            return true;
        };
        let full = author.hashes.len() >= MOST_EVENTS || author.bytes + len > self.share;
        let oldest = author.hashes.keys().next();
        !full || oldest.is_none_or(|oldest| *oldest < place.1)
    }

    pub(super) fn get(&self, place: &Place) -> Option<&Event> {
        self.events.get(place)
    }

    /// The beginning of what is held at a place.
    pub(super) fn hash_at(&self, place: &Place) -> Option<[u8; 8]> {
        let hash = self.authors.get(&place.0)?.hashes.get(&place.1)?;
        hash.first_chunk().copied()
    }

    pub(super) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub(super) fn authors(&self) -> usize {
        self.authors.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last number an author has used, as far as is known here; 0 for none.
    pub(super) fn newest(&self, author: &NodeId) -> u64 {
        let author = self.authors.get(author);
        let last = author.and_then(|author| author.hashes.last_key_value());
        last.map_or(0, |(seq, _)| *seq)
    }

    /// Everything in a stretch as one number: equal stretches have equal prints.
    pub(super) fn print(&mut self, span: &Span) -> Print {
        let all = *span == Span::ALL;
        if let Some(root) = self.root.filter(|_| all) {
            return root;
        }
        let mut hasher = blake3::Hasher::new();
        for (id, author) in self.authors.range_mut(span.authors()) {
            let seqs = span.seqs_of(id);
            let (first, last) = (
                author.hashes.keys().next(),
                author.hashes.keys().next_back(),
            );
            let whole = [first, last]
                .iter()
                .flatten()
                .all(|seq| seqs.contains(*seq));
            let print = match author.print.filter(|_| whole) {
                Some(print) => print,
                None => {
                    let held = || author.hashes.range(seqs.clone());
                    if held().next().is_none() {
                        continue;
                    }
                    let print = print_of(held());
                    author.print = whole.then_some(print).or(author.print);
                    print
                }
            };
            hasher.update(&id.0);
            hasher.update(&print);
        }
        let print = short(hasher.finalize().as_bytes());
        if all {
            self.root = Some(print);
        }
        print
    }

    /// How many events there are in a stretch.
    pub(super) fn count(&self, span: &Span) -> usize {
        let authors = self.authors.range(span.authors());
        let count = |(id, author): (&NodeId, &Author)| author.count(span, id);
        authors.map(count).sum()
    }

    /// The places in a stretch with the beginnings of what they hold, from its first.
    pub(super) fn held(&self, span: &Span) -> impl Iterator<Item = (Place, [u8; 8])> {
        let span = *span;
        let authors = self.authors.range(span.authors());
        authors.flat_map(move |(id, author)| {
            let held = author.hashes.range(span.seqs_of(id));
            let begins = |hash: &Print| *hash.first_chunk().expect("a print is longer");
            held.map(move |(seq, hash)| ((*id, *seq), begins(hash)))
        })
    }

    /// Cuts a stretch into at most so many of about equal numbers of events.
    pub(super) fn split(&self, span: &Span, parts: usize) -> Vec<Span> {
        let count = self.count(span);
        let size = count.div_ceil(parts).max(1);
        let mut from = span.from;
        let mut spans = Vec::with_capacity(parts);
        for nth in (size..count).step_by(size) {
            let Some(to) = self.nth(span, nth) else {
                break;
            };
            spans.push(Span { from, to: Some(to) });
            from = to;
        }
        spans.push(Span { from, to: span.to });
        spans
    }

    fn nth(&self, span: &Span, nth: usize) -> Option<Place> {
        let mut left = nth;
        for (id, author) in self.authors.range(span.authors()) {
            let count = author.count(span, id);
            if left < count {
                let mut seqs = author.hashes.range(span.seqs_of(id));
                return seqs.nth(left).map(|(seq, _)| (*id, *seq));
            }
            left -= count;
        }
        None
    }

    fn trim(&mut self, id: NodeId) {
        let Some(author) = self.authors.get_mut(&id) else {
            return;
        };
        while author.hashes.len() > MOST_EVENTS || author.bytes > self.share {
            let Some((seq, _)) = author.hashes.pop_first() else {
                return;
            };
            if let Some(gone) = Arc::make_mut(&mut self.events).remove(&(id, seq)) {
                author.bytes -= gone.encoded_len();
                self.bytes -= gone.encoded_len();
            }
            (author.print, self.root) = (None, None);
        }
    }
}

impl Author {
    fn count(&self, span: &Span, id: &NodeId) -> usize {
        match span.holds_all_of(id) {
            true => self.hashes.len(),
            false => self.hashes.range(span.seqs_of(id)).count(),
        }
    }
}

fn print_of<'a>(held: impl Iterator<Item = (&'a u64, &'a Print)>) -> Print {
    let mut hasher = blake3::Hasher::new();
    for (seq, hash) in held {
        hasher.update(&seq.to_le_bytes());
        hasher.update(hash);
    }
    short(hasher.finalize().as_bytes())
}

fn short(hash: &[u8; 32]) -> Print {
    *hash.first_chunk().expect("a hash is longer")
}
