//! One case: a seed, a size, a story, and for the tests of the checks themselves a flaw put in on purpose.
//!
//! Read from and written to one line, so that it can be kept: `heavy seed=7 nodes=20 minutes=30`.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use crate::fault::Story;
use crate::time::Moment;

/// What kind of story a case has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything goes wrong.
    Heavy,
    /// A network as networks are.
    Ordinary,
    /// One cut in the middle, and it heals.
    Heal,
    /// Nothing goes wrong.
    Calm,
    /// Wide rows in few bytes, on a disk that others fill, over a narrow line, and everything goes wrong.
    Cramped,
    /// Three sites, some machines metered, some often off, and everything goes wrong.
    Sites,
}

/// A fault of the world itself that a check must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A disk says it has synced and hasn't.
    LyingDisk,
    /// Each start draws the same random numbers.
    SameDice,
    /// No stream is ever opened: nothing is repaired.
    NoStreams,
    /// What is signed isn't what was taken.
    Alters,
    /// A step of the clock begins a new epoch.
    EpochPerStep,
    /// The store has eight times the bytes it was promised.
    Gluttony,
    /// Live rows wait behind seconds of what streams brought to the line.
    BulkFirst,
    /// Nobody signs, and nobody looks.
    LaxKeys,
    /// A new disk has no room at all.
    MeanDisk,
    /// What a copy took and nobody else has isn't held to be lost.
    Unmourned,
    /// What a frozen process will find in its socket has no bound.
    Hoards,
    /// Who is called silent doesn't say that it lives.
    Slander,
    /// Each machine says something to every member each second.
    Chatty,
    /// Each second a machine sends a little more than the second before.
    EverMore,
    /// What a store gives back has a hole.
    Sieve,
    /// Nobody remembers why what went from a store did.
    Forgets,
    /// A machine accuses another of nothing it did.
    Grudge,
    /// Everybody asks a little over streams, whatever it has.
    Nags,
    /// Nobody is ever taken to be down.
    Deathless,
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) nodes: u32,
    pub(crate) minutes: u32,
    pub(crate) story: Story,
    pub(crate) flaw: Option<Flaw>,
    /// Whether faults and accusations are told while they happen.
    pub(crate) told_aloud: bool,
    /// Whether it is over a minute after every keeper has everything.
    pub(crate) ends_when_equal: bool,
    /// Whether the whole log of events is kept, besides its hash.
    pub(crate) logged: bool,
    /// Threads that help to run it, beside its own and whoever has nothing else to do.
    pub(crate) hands: u32,
    /// When its run is given up, however far it has come.
    pub(crate) until: Option<Instant>,
}

impl Case {
    pub(crate) fn new(kind: Kind, seed: u64, nodes: u32, minutes: u32) -> Self {
        let story = match kind {
            Kind::Heavy | Kind::Sites => Story::heavy(seed, nodes, minutes),
            Kind::Cramped => Story::cramped(seed, nodes, minutes),
            Kind::Ordinary => Story::ordinary(seed, nodes, minutes),
            Kind::Heal => Story::heal(nodes, 300, 120),
            Kind::Calm => Story::default(),
        };
        Self {
            kind,
            seed,
            nodes,
            minutes,
            story,
            flaw: None,
            told_aloud: false,
            ends_when_equal: false,
            logged: false,
            hands: 0,
            until: None,
        }
    }

    pub(crate) fn flawed(mut self, flaw: Flaw) -> Self {
        self.flaw = Some(flaw);
        self
    }

    pub(crate) fn told(mut self, story: Story) -> Self {
        self.story = story;
        self
    }

    /// The bound each store is given.
    pub(crate) fn limit_bytes(&self) -> u64 {
        match self.kind {
            Kind::Cramped if self.flaw == Some(Flaw::Gluttony) => 64 << 20,
            Kind::Cramped => 8 << 20,
            _ => 64 << 20,
        }
    }

    /// The bound each store must keep, to within one generation.
    pub(crate) fn promised_bytes(&self) -> u64 {
        match self.kind {
            Kind::Cramped => 8 << 20,
            _ => 64 << 20,
        }
    }

    /// What a disk takes: more than its store may use.
    pub(crate) fn disk_bytes(&self) -> u64 {
        1 << 30
    }

    /// Bytes a second of each machine's line, outward: 10 Mbit/s, or less than a tenth of it.
    pub(crate) fn line(&self) -> u64 {
        if self.kind == Kind::Cramped {
            100_000
        } else {
            1_250_000
        }
    }

    /// Series beside the three that every machine has.
    pub(crate) fn more_series(&self) -> u32 {
        if self.kind == Kind::Cramped { 400 } else { 0 }
    }

    /// When nothing goes wrong any more.
    pub(crate) fn quiet_from(&self) -> Moment {
        self.story.end()
    }
}

impl Kind {
    const ALL: [(&'static str, Self); 6] = [
        ("heavy", Self::Heavy),
        ("ordinary", Self::Ordinary),
        ("heal", Self::Heal),
        ("calm", Self::Calm),
        ("cramped", Self::Cramped),
        ("sites", Self::Sites),
    ];

    pub(crate) fn word(self) -> &'static str {
        let known = Self::ALL.into_iter().find(|(_, kind)| *kind == self);
        known.map_or("", |(word, _)| word)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(known, _)| *known == word);
        known
            .map(|(_, kind)| kind)
            .ok_or_else(|| format!("no kind of story: {word}"))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, seed) = (self.kind.word(), self.seed);
        write!(
            f,
            "{kind} seed={seed} nodes={} minutes={}",
            self.nodes, self.minutes
        )
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default().parse()?;
        let mut number = |name: &str| {
            let word = words
                .next()
                .and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
            word.and_then(|word| word.parse::<u64>().ok())
                .ok_or_else(|| format!("no {name} in: {line}"))
        };
        let (seed, nodes, minutes) = (number("seed")?, number("nodes")?, number("minutes")?);
        Ok(Self::new(kind, seed, nodes as u32, minutes as u32))
    }
}
