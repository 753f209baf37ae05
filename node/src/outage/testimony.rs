//! What nodes say about lives and silences: the bodies of the ledger's events of kinds LIFE, SIGHT, POWER and CLOCK.
//!
//! In and out: postcard, at most the ledger's `MAX_BODY` bytes. A body never changes once released: a further thing to say is a further
//! variant at the end, which an older release doesn't read and ignores.
//! Absent: who said it and when; the event around it tells (`Telling`).

use outlast_mesh::NodeId;
use serde::{Deserialize, Serialize};

use crate::ledger::{Event, Events, MAX_BODY, kind};

/// The longest version kept, in bytes.
const VERSION: usize = 32;

/// The longest reason kept, in bytes.
const REASON: usize = 96;

/// No time is further from 1970, whatever somebody says, milliseconds: sums of a few such times fit.
pub(crate) const FAR_MS: i64 = 1 << 52;

/// Members named in one word of a node that is cut off.
pub(crate) const NAMED: usize = 16;

/// A boot or a run: random, 128 bits. All zero: not known.
pub(crate) type Ident = [u8; 16];

/// One event of the ledger, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Telling {
    /// Who signed it.
    pub(crate) author: NodeId,
    /// Its place among the author's events.
    pub(crate) seq: u64,
    /// The author's wall clock, milliseconds.
    pub(crate) at_ms: i64,
    /// Whether the author's clock was to be believed.
    pub(crate) certain: bool,
    /// `None`: of a kind that says nothing of outages. It still shows that nothing is missing between its neighbours.
    pub(crate) word: Option<Word>,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// Of the author's own life.
    Life(Life),
    /// Of others, as the author sees them.
    Sight(Sight),
    /// Of the current it runs on.
    Power(Power),
    /// Of its clock.
    Clock(Stepped),
}

/// LIFE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    /// A run begins.
    Began(Box<Began>),
    /// A run ends as it should.
    Ends {
        /// Which.
        run: Ident,
        /// Why.
        reason: Reason,
    },
    /// The node stood still: the machine slept, or the process was stopped or got no turn.
    Slept {
        /// In which run.
        run: Ident,
        /// The last moment before, by the author's clock, milliseconds.
        from_ms: i64,
        /// For how long.
        for_ms: u64,
        /// Whether the whole machine slept.
        machine: bool,
    },
}

/// How a run began, and what the one before left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Began {
    /// This run.
    pub(crate) run: Ident,
    /// The boot it belongs to.
    pub(crate) boot: Ident,
    /// The release that runs.
    pub(crate) version: String,
    /// Since the machine's boot, milliseconds.
    pub(crate) boot_ms: u64,
    /// Kills for want of memory so far.
    pub(crate) kills: Kills,
    /// The last record of the run before. `None`: the first run, or nothing could be read.
    pub(crate) before: Option<Last>,
}

/// The last record of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    /// That run.
    pub(crate) run: Ident,
    /// Its boot.
    pub(crate) boot: Ident,
    /// Its release.
    pub(crate) version: String,
    /// Where it was in its life.
    pub(crate) state: State,
    /// The wall clock at the record, milliseconds.
    pub(crate) wall_ms: i64,
    /// Since the boot, sleep included, milliseconds.
    pub(crate) boot_ms: u64,
    /// Since the boot, sleep left out, milliseconds.
    pub(crate) mono_ms: u64,
    /// What it ran on.
    pub(crate) power: Power,
    /// Kills for want of memory by then.
    pub(crate) kills: Kills,
    /// How often it told that it had stood still.
    pub(crate) stood: u32,
}

/// Where a run is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// It runs.
    Running,
    /// It was told to end and is about it.
    Exiting(Reason),
    /// It ended.
    Exited(Reason),
}

/// Why a run ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// It was told to, by a signal or a command.
    Told,
    /// It leaves the mesh for good.
    Departs,
    /// It can't go on, and this is why.
    Failed(String),
}

/// How often the kernel has ended a process for want of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kills {
    /// In this process's control group. `None`: it isn't counted there.
    pub(crate) own: Option<u64>,
    /// On the whole machine.
    pub(crate) machine: Option<u64>,
}

/// What a machine runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Power {
    /// Whether mains are there. `None`: the machine can't tell.
    pub(crate) mains: Option<bool>,
    /// What is left in the battery or UPS, percent.
    pub(crate) battery: Option<u8>,
    /// When mains were seen to fail, while they are away; the author's wall clock, milliseconds.
    pub(crate) mains_off_ms: Option<i64>,
}

/// SIGHT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sight {
    /// A member is not heard any more.
    Lost(Lost),
    /// It is heard again.
    Found {
        /// Who.
        node: NodeId,
        /// In which run the author says so.
        run: Ident,
    },
    /// The author hears fewer than half of those it heard.
    Alone {
        /// In which run it says so.
        run: Ident,
        /// Since when, by its clock, milliseconds.
        since_ms: i64,
        /// Whom it still hears, at most `NAMED` of them.
        sees: Vec<NodeId>,
        /// How many it still hears, itself counted.
        count: u16,
        /// Of how many.
        of: u16,
    },
    /// It hears most of them again.
    Together {
        /// In which run it says so.
        run: Ident,
    },
}

/// A member that is not heard any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// Who.
    pub(crate) node: NodeId,
    /// In which run the author says so.
    pub(crate) by_run: Ident,
    /// When it was heard last, by the author's clock, milliseconds.
    pub(crate) last_heard_ms: i64,
    /// How many members the author hears, itself counted.
    pub(crate) sees: u16,
    /// Whether it had said goodbye.
    pub(crate) goodbye: bool,
    /// Its last run that the author knows of.
    pub(crate) run: Option<Ident>,
    /// Its clock less the author's, as last measured, milliseconds.
    pub(crate) ahead_ms: Option<i64>,
}

/// CLOCK: the wall clock was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stepped {
    /// In which run.
    pub(crate) run: Ident,
    /// By how much, milliseconds; negative: back.
    pub(crate) by_ms: i64,
}

impl Telling {
    /// From an event of the ledger.
    pub(crate) fn of(event: &Event) -> Self {
        Self {
            author: event.author,
            seq: event.seq,
            at_ms: within(event.wall_ms),
            certain: event.is_synced(),
            word: Word::read(event.kind, &event.body),
        }
    }

    /// Everything that is held.
    pub(crate) fn all(events: &Events) -> Vec<Self> {
        events.values().map(Self::of).collect()
    }
}

impl Word {
    /// From an event's kind and body. `None`: of another kind, or not to be read.
    pub(crate) fn read(kind: u8, body: &[u8]) -> Option<Self> {
        fn whole<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Option<T> {
            let (value, rest) = postcard::take_from_bytes(body).ok()?;
            rest.is_empty().then_some(value)
        }
        if body.len() > MAX_BODY {
            return None;
        }
        let mut word = match kind {
            kind::LIFE => Self::Life(whole(body)?),
            kind::SIGHT => Self::Sight(whole(body)?),
            kind::POWER => Self::Power(whole(body)?),
            kind::CLOCK => Self::Clock(whole(body)?),
            _ => return None,
        };
        word.keep_within();
        Some(word)
    }

    /// Cuts what somebody says of times to what can be reckoned with.
    fn keep_within(&mut self) {
        let power = |power: &mut Power| power.mains_off_ms = power.mains_off_ms.map(within);
        match self {
            Self::Life(Life::Began(began)) => {
                began.boot_ms = began.boot_ms.min(FAR_MS.unsigned_abs());
                if let Some(last) = &mut began.before {
                    last.wall_ms = within(last.wall_ms);
                    power(&mut last.power);
                }
            }
            Self::Life(Life::Slept {
                from_ms, for_ms, ..
            }) => {
                *from_ms = within(*from_ms);
                *for_ms = (*for_ms).min(FAR_MS.unsigned_abs());
            }
            Self::Sight(Sight::Lost(lost)) => {
                lost.last_heard_ms = within(lost.last_heard_ms);
                lost.ahead_ms = lost.ahead_ms.map(within);
            }
            Self::Sight(Sight::Alone { since_ms, .. }) => *since_ms = within(*since_ms),
            Self::Power(told) => power(told),
            Self::Clock(stepped) => stepped.by_ms = within(stepped.by_ms),
            Self::Life(Life::Ends { .. })
            | Self::Sight(Sight::Found { .. } | Sight::Together { .. }) => {}
        }
    }

    /// The kind and body of an event that says it.
    pub(crate) fn written(&self) -> (u8, Vec<u8>) {
        let (kind, body) = match self {
            Self::Life(life) => (kind::LIFE, postcard::to_stdvec(life)),
            Self::Sight(sight) => (kind::SIGHT, postcard::to_stdvec(sight)),
            Self::Power(power) => (kind::POWER, postcard::to_stdvec(power)),
            Self::Clock(stepped) => (kind::CLOCK, postcard::to_stdvec(stepped)),
        };
        (
            kind,
            body.expect("plain data of bounded size can be written"),
        )
    }

    /// The run the author said it in, where it tells.
    pub(crate) fn run(&self) -> Option<Ident> {
        match self {
            Self::Life(Life::Began(began)) => Some(began.run),
            Self::Life(Life::Ends { run, .. } | Life::Slept { run, .. })
            | Self::Sight(
                Sight::Found { run, .. } | Sight::Alone { run, .. } | Sight::Together { run },
            ) => Some(*run),
            Self::Sight(Sight::Lost(lost)) => Some(lost.by_run),
            Self::Clock(stepped) => Some(stepped.run),
            Self::Power(_) => None,
        }
    }
}

impl Reason {
    /// That it can't go on, cut to what is kept.
    pub(crate) fn failed(why: &str) -> Self {
        Self::Failed(cut(why, REASON))
    }
}

/// A version, cut to what is kept.
pub(crate) fn version(of: &str) -> String {
    cut(of, VERSION)
}

fn within(at_ms: i64) -> i64 {
    at_ms.clamp(-FAR_MS, FAR_MS)
}

fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_each_fits_an_event_and_is_read_as_it_was_written() {
        let most = Ident::from([0xff; 16]);
        let reason = Reason::failed(&"ä".repeat(200));
        let (kills, power) = (
            Kills {
                own: Some(u64::MAX),
                machine: Some(u64::MAX),
            },
            Power {
                mains: Some(false),
                battery: Some(100),
                mains_off_ms: Some(-FAR_MS),
            },
        );
        let last = Last {
            run: most,
            boot: most,
            version: version(&"v".repeat(99)),
            state: State::Exiting(reason.clone()),
            wall_ms: -FAR_MS,
            boot_ms: FAR_MS.unsigned_abs(),
            mono_ms: u64::MAX,
            power,
            kills,
            stood: u32::MAX,
        };
        let words = [
            Word::Life(Life::Began(Box::new(Began {
                run: most,
                boot: most,
                version: version(&"v".repeat(99)),
                boot_ms: FAR_MS.unsigned_abs(),
                kills,
                before: Some(last),
            }))),
            Word::Life(Life::Ends { run: most, reason }),
            Word::Sight(Sight::Alone {
                run: most,
                since_ms: -FAR_MS,
                sees: vec![NodeId([0xff; 32]); NAMED],
                count: u16::MAX,
                of: u16::MAX,
            }),
            Word::Power(power),
            Word::Clock(Stepped {
                run: most,
                by_ms: -FAR_MS,
            }),
        ];
        for word in words {
            let (kind, mut body) = word.written();
            assert!(body.len() <= MAX_BODY, "{} bytes: {word:?}", body.len());
            assert_eq!(Word::read(kind, &body), Some(word));
            body.push(0);
            assert_eq!(Word::read(kind, &body), None, "something follows");
        }
    }

    #[test]
    fn a_kind_of_something_else_says_nothing_here() {
        assert_eq!(Word::read(kind::ALARM, &[0]), None);
        assert_eq!(Word::read(kind::SIGHT, &[9]), None, "a later variant");
    }
}
