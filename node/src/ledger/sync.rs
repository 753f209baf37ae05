//! How two sets find what they lack of each other.
//!
//! Each `TELL_EVERY` one of a pair tells the print of everything it holds. Where that differs the other answers with prints
//! of `PARTS` parts, and so on to and fro, until a stretch holds so little that its places are told; then each asks for
//! what it lacks. Nobody remembers anything of it: a message that is lost costs until the next telling.
//! Bounds: answers cost the peer's budget (`peer`); `MOST_ASKED_OF_ONE` events are asked of one peer at a time and
//! `MOST_ASKED` of all, each of one peer only. What is over that comes a second later, as long as something new comes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_mesh::NodeId;
use rand::Rng as _;

use super::event::Place;
use super::peer::TELL_EVERY;
use super::set::Print;
use super::span::Span;
use super::word::{Held, LISTED, PARTS, Wanted, Word, held, wanted};
use super::{Ledger, Offence};

/// An event without a body.
const LEAST_EVENT: usize = 108;
const MOST_ASKED_OF_ONE: usize = 64;
const MOST_ASKED: usize = 512;
/// How long an event may be on its way before another peer is asked for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

impl Ledger {
    pub(super) fn handle_word(&mut self, from: NodeId, word: Word, now: Instant) {
        match word {
            Word::Root(theirs) => {
                self.put_off(from, now);
                if self.set.print(&Span::ALL) != theirs && self.may_compare(from, now) {
                    self.compare(from, Span::ALL, now);
                }
            }
            Word::Prints { from: first, parts } => self.handle_prints(from, first, &parts, now),
            Word::Holds(span, _) if !span.is_sane() => self.blame(from, Offence::Unreadable),
            Word::Holds(span, theirs) => {
                if self.may_compare(from, now) {
                    self.balance(from, span, &theirs, now);
                }
            }
            Word::Offers(theirs) if theirs.is_empty() => self.answered(now),
            Word::Offers(theirs) => self.want(from, places(&theirs), now),
            Word::Wants(wants) => self.give(from, &wants, now),
            Word::Tells(events) => {
                for told in events {
                    let Some(event) = told.event() else {
                        return self.blame(from, Offence::Unreadable);
                    };
                    let own = event.author == self.me;
                    self.take(from, event, now);
                    if own {
                        self.answered(now);
                    }
                }
            }
            Word::AsksLast => self.tell_last(from, now),
        }
    }

    /// A peer has said what it knows of this node's own events, which counts as far as they are signed: numbers go on
    /// above what is held by then.
    fn answered(&mut self, now: Instant) {
        if !self.numbers.is_decided() {
            self.decide(now);
        }
    }

    fn tell_last(&mut self, to: NodeId, now: Instant) {
        let last = self.set.get(&(to, self.set.newest(&to)));
        let tells = Word::tells(last.into_iter()).pop();
        let word = tells.unwrap_or_else(|| Word::Offers(Vec::new()));
        self.answer(to, &word, now);
    }

    fn may_compare(&mut self, with: NodeId, now: Instant) -> bool {
        let peer = self.peers.get_mut(&with);
        peer.is_some_and(|peer| peer.may_compare(now))
    }

    fn handle_prints(
        &mut self,
        from: NodeId,
        first: Place,
        parts: &[(Option<Place>, Print)],
        now: Instant,
    ) {
        let begins = std::iter::once(Some(first)).chain(parts.iter().map(|(to, _)| *to));
        let mut spans = Vec::with_capacity(PARTS);
        for (begins, (to, theirs)) in begins.zip(parts) {
            // Behind a stretch that goes to the end there is none: all are apart, and looked through once.
            let span = begins.map(|from| Span { from, to: *to });
            match span.filter(|span| span.is_sane() && spans.len() < PARTS) {
                Some(span) => spans.push((span, theirs)),
                None => return self.blame(from, Offence::Unreadable),
            }
        }
        if !self.may_compare(from, now) {
            return;
        }
        for (span, theirs) in spans {
            if self.set.print(&span) != *theirs {
                self.compare(from, span, now);
            }
        }
    }

    /// Tells whoever is due what is held here.
    pub(super) fn tell_roots(&mut self, now: Instant) {
        if self.due > now {
            return;
        }
        let due = self.peers.iter().filter(|(_, peer)| peer.connected);
        let due = due
            .filter(|(_, peer)| peer.tell_at <= now)
            .map(|(id, _)| *id);
        let due: Vec<_> = due.collect();
        let root = Word::Root(self.set.print(&Span::ALL));
        for peer in due {
            self.put_off(peer, now);
            self.send(peer, &root);
        }
        let next = self.peers.values().filter(|peer| peer.connected);
        let next = next.map(|peer| peer.tell_at).min();
        self.due = next.unwrap_or(now + TELL_EVERY);
    }

    /// The pair has spoken: neither needs to for a while.
    pub(super) fn put_off(&mut self, peer: NodeId, now: Instant) {
        let jitter = self.rng.random_range(0.9..1.1);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.tell_at = now + TELL_EVERY.mul_f64(jitter);
        }
    }

    /// The peer is told what is held here by then at the latest.
    pub(super) fn tell_by(&mut self, peer: NodeId, at: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.tell_at = peer.tell_at.min(at);
            self.due = self.due.min(at);
        }
    }

    /// Goes on where a stretch differs.
    fn compare(&mut self, with: NodeId, span: Span, now: Instant) {
        let word = if self.set.count(&span) <= LISTED {
            Word::Holds(span, held(self.set.held(&span)))
        } else {
            let parts = self.set.split(&span, PARTS).into_iter();
            let parts = parts.map(|part| (part.to, self.set.print(&part)));
            Word::Prints {
                from: span.from,
                parts: parts.collect(),
            }
        };
        self.answer(with, &word, now);
    }

    /// The peer holds this in a stretch and nothing else: what it lacks is offered, what is lacking here asked for.
    fn balance(&mut self, with: NodeId, span: Span, theirs: &[Held], now: Instant) {
        let theirs: BTreeMap<_, _> = places(theirs).collect();
        let lacks =
            |(place, hash): &(Place, [u8; 8])| theirs.get(place).is_none_or(|theirs| hash < theirs);
        let offers = held(self.set.held(&span).filter(lacks));
        if !offers.is_empty() {
            self.answer(with, &Word::Offers(offers), now);
        }
        let inside = theirs.into_iter().filter(|(place, _)| span.contains(place));
        self.want(with, inside, now);
    }

    /// Asks for what isn't held and would be kept.
    fn want(&mut self, of: NodeId, theirs: impl Iterator<Item = (Place, [u8; 8])>, now: Instant) {
        let asked_of = self.asked.values().filter(|(whom, _)| *whom == of).count();
        let left = MOST_ASKED_OF_ONE.saturating_sub(asked_of);
        let left = left.min(MOST_ASKED.saturating_sub(self.asked.len()));
        let mut places = Vec::new();
        for (place, hash) in theirs {
            if places.len() >= left {
                break;
            }
            if self.lacks(&place, hash, now) {
                places.push(place);
            }
        }
        let wants = wanted(places.into_iter());
        if wants.is_empty() {
            return;
        }
        let until = now + ANSWER_WITHIN;
        let all = wants.iter().flat_map(places_of);
        let all: Vec<_> = all.collect();
        if self.answer(of, &Word::Wants(wants), now) {
            self.asked
                .extend(all.into_iter().map(|place| (place, (of, until))));
        }
    }

    fn lacks(&mut self, place: &Place, hash: [u8; 8], now: Instant) -> bool {
        let author = place.0;
        self.set.hash_at(place).is_none_or(|held| hash < held)
            && !self.asked.contains_key(place)
            && self.set.has_room(place, LEAST_EVENT)
            && self.authors.ever.contains(&author)
            && (author == self.me || self.foreign.has(author, now))
    }

    fn give(&mut self, to: NodeId, wants: &[Wanted], now: Instant) {
        let places = wants.iter().flat_map(places_of).take(MOST_ASKED_OF_ONE);
        let events = places.filter_map(|place| self.set.get(&place));
        for word in Word::tells(events) {
            if !self.answer(to, &word, now) {
                return;
            }
        }
    }
}

fn places(held: &[Held]) -> impl Iterator<Item = (Place, [u8; 8])> {
    let of_one = |held: &'_ Held| {
        let author = held.author;
        let seqs = held.seqs.clone().into_iter();
        seqs.map(move |(seq, hash)| ((author, seq), hash))
    };
    held.iter().flat_map(of_one)
}

fn places_of(wanted: &Wanted) -> impl Iterator<Item = Place> {
    wanted.seqs.iter().map(|seq| (wanted.author, *seq))
}
