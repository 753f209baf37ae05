//! Who did what it must not, how often, and when last.
//!
//! In: a culprit, an offence out of a closed list, the time. Out: the table, by culprit. The culprit
//! is whoever is at fault: the peer that brought a forgery, the author of what it signed itself.
//! Bound: `MOST` pairs of culprit and offence; one more pushes out the one that rested longest, which
//! is then only counted in `forgotten`. Only members can be culprits and offences are few, so a liar
//! fills a few lines of its own and never another's.
//! Absent: what is an offence, and who refuses.

use std::collections::BTreeMap;

use crate::id::NodeId;

/// Pairs of culprit and offence kept.
const MOST: usize = 512;

/// The table; `What` is a closed list of offences.
#[derive(Debug, Clone)]
pub struct Reckoning<What> {
    tallies: BTreeMap<(NodeId, What), Tally>,
    forgotten: u64,
}

/// How often, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Times.
    pub count: u64,
    /// Wall time of the last, milliseconds since the Unix epoch.
    pub last_ms: u64,
}

/// One line of the table as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose fault it is.
    pub peer: NodeId,
    /// What was refused, in the plural: "altered rows".
    pub what: &'static str,
    /// Times since the start.
    pub count: u64,
    /// Wall time of the last, milliseconds since the Unix epoch.
    pub last_ms: u64,
}

impl<What> Default for Reckoning<What> {
    fn default() -> Self {
        Self {
            tallies: BTreeMap::new(),
            forgotten: 0,
        }
    }
}

impl<What: Copy + Ord> Reckoning<What> {
    /// Notes one offence.
    pub fn note(&mut self, culprit: NodeId, what: What, at_ms: u64) {
        if self.tallies.len() >= MOST && !self.tallies.contains_key(&(culprit, what)) {
            self.forget_one();
        }
        let tally = self.tallies.entry((culprit, what)).or_insert(Tally {
            count: 0,
            last_ms: at_ms,
        });
        tally.count += 1;
        tally.last_ms = tally.last_ms.max(at_ms);
    }

    /// Every pair, by culprit.
    pub fn tallies(&self) -> impl Iterator<Item = (NodeId, What, Tally)> {
        self.tallies
            .iter()
            .map(|((culprit, what), tally)| (*culprit, *what, *tally))
    }

    /// The table as it is shown, each offence in the words of `name`.
    pub fn shown(&self, name: impl Fn(What) -> &'static str) -> Vec<Refused> {
        let line = |(peer, what, tally): (_, _, Tally)| Refused {
            peer,
            what: name(what),
            count: tally.count,
            last_ms: tally.last_ms,
        };
        self.tallies().map(line).collect()
    }

    /// Offences that were noted and are in no pair any more.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn forget_one(&mut self) {
        let rested = |(pair, tally): (&(NodeId, What), &Tally)| (tally.last_ms, *pair);
        if let Some((_, pair)) = self.tallies.iter().map(rested).min()
            && let Some(tally) = self.tallies.remove(&pair)
        {
            self.forgotten += tally.count;
        }
    }
}

/// What the mesh itself refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Offence {
    /// A statement without its author's signature, of another mesh, or that nobody could mean.
    ForgedStatement,
    /// More statements than one peer may bring.
    StatementFlood,
    /// An author's log is full.
    StatementQuota,
    /// An author replaces what it says of itself more often than anything can change.
    Restless,
    /// More questions about statements than are answered.
    Questions,
    /// More messages than live rows need.
    Messages,
    /// More packets of streams than any repair sends.
    StreamPackets,
    /// More greetings, pings and goodbyes than a life takes.
    Greetings,
    /// Restarts and reconnections without end.
    Restarts,
    /// It runs in two places with the same keys.
    TwoPlaces,
    /// An inner packet that claims another sender.
    Spoofed,
    /// Bytes that are no frame, or a frame whose body isn't what its kind says.
    Malformed,
    /// More stream connections than are kept.
    Connections,
    /// A greeting that offers less than what the peer has signed it speaks.
    Downgrade,
    /// It publishes a tunnel key that another member holds the secret of.
    ForeignKey,
    /// More words about others' lives than anything that happens to them asks for.
    Words,
    /// A word about another's life that nobody has signed.
    ForgedWord,
}

impl Offence {
    /// What stands in `status`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ForgedStatement => "forged statements",
            Self::StatementFlood => "statements too many at a time",
            Self::StatementQuota => "statements beyond its quota",
            Self::Restless => "statements about itself too often",
            Self::Questions => "questions about statements too often",
            Self::Messages => "messages too many at a time",
            Self::StreamPackets => "stream packets too many at a time",
            Self::Greetings => "greetings and pings too often",
            Self::Restarts => "restarts too often",
            Self::TwoPlaces => "greetings from a second place",
            Self::Spoofed => "packets in another's name",
            Self::Malformed => "malformed packets",
            Self::Connections => "stream connections too many",
            Self::Downgrade => "greetings in a lower version than it signed",
            Self::ForeignKey => "tunnel keys of others",
            Self::Words => "words about others too many",
            Self::ForgedWord => "forged words about others",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(number: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    #[test]
    fn offences_are_counted_by_culprit_and_kind() {
        let mut reckoning = Reckoning::default();
        for at_ms in [5, 9, 7] {
            reckoning.note(who(1), Offence::Messages, at_ms);
        }
        reckoning.note(who(2), Offence::Spoofed, 3);

        let shown = reckoning.shown(Offence::as_str);

        let line = |peer, what, count, last_ms| Refused {
            peer,
            what,
            count,
            last_ms,
        };
        assert_eq!(
            shown,
            [
                line(who(1), "messages too many at a time", 3, 9),
                line(who(2), "packets in another's name", 1, 3)
            ]
        );
    }

    #[test]
    fn at_the_bound_the_one_that_rested_longest_goes_and_stays_counted() {
        let mut reckoning = Reckoning::default();
        for number in 0..600 {
            reckoning.note(who(number), Offence::Messages, u64::from(number) + 100);
            reckoning.note(who(0), Offence::Messages, u64::from(number) + 100);
        }

        assert_eq!(reckoning.tallies().count(), MOST);
        assert_eq!(reckoning.forgotten(), 600 - MOST as u64);
        let of_first = reckoning.tallies().next().unwrap();
        assert_eq!((of_first.0, of_first.2.count), (who(0), 601));
    }
}
