//! What goes wrong, when, and for how long: a story that can be printed, edited and read back.
//!
//! `Story::heavy` draws one from a seed. One fault a line: `63.2s +20.0s cut 3,4,5`.
//! Absent: doing it (`world`).

use std::fmt;
use std::str::FromStr;

use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::time::Moment;

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Moment,
    pub(crate) lasts: Moment,
    pub(crate) what: What,
}

/// What goes wrong. Machines are named by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// So many percent of all datagrams are lost.
    Loss(u32),
    /// Every way takes so many milliseconds longer.
    Slow(u32),
    /// Datagrams take up to so many milliseconds longer, each another time, so that they overtake each other.
    Jumble(u32),
    /// So many percent of all datagrams come twice.
    Twice(u32),
    /// These machines and the others don't hear each other.
    Cut(Vec<u32>),
    /// These machines are heard and hear nobody but themselves.
    Deaf(Vec<u32>),
    /// Cut and joined again each three seconds.
    Flap(Vec<u32>),
    /// The process is killed.
    Crash(u32),
    /// The power goes.
    Power(u32),
    /// The power of several goes at once.
    SitePower(Vec<u32>),
    /// The disk takes nothing more.
    Full(u32),
    /// Others fill the disk: so many percent of it stay free.
    Fill(u32, u32),
    /// The disk doesn't answer.
    Stall(u32),
    /// So many bits of what lies on the disk flip while the node is off.
    Rot(u32, u32),
    /// The wall clock jumps by so many seconds, and back at the end.
    Clock(u32, i64),
    /// The process stands still and goes on as if nothing had been.
    Freeze(u32),
    /// So many machines join at once.
    Join(u32),
    /// A copy of the machine, keys and disk, runs beside it.
    Clone(u32),
    /// The disk is replaced by an empty one; the keys stay.
    Wipe(u32),
    /// The disk comes back as it was when the fault began.
    Yesterday(u32),
    /// The node runs a release that knows none of the newer messages, and then one that sends some nobody knows.
    Skew(u32),
}

/// Every fault of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Story(pub(crate) Vec<Fault>);

impl Story {
    /// One fault each 20 s or so, of every kind, from the first minute until two thirds of the run are over.
    pub(crate) fn heavy(seed: u64, nodes: u32, minutes: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xfa17);
        let end = u64::from(minutes) * 60_000 * 2 / 3;
        let mut faults = Vec::new();
        let mut at = 30_000 + rng.random_range(0..30_000);
        while at < end {
            let lasts = rng.random_range(1_000..90_000).min(end - at);
            faults.push(Fault {
                at: Moment::ms(at),
                lasts: Moment::ms(lasts),
                what: What::draw(&mut rng, nodes),
            });
            at += rng.random_range(2_000..40_000);
        }
        Self(faults)
    }

    /// The same, and others fill the disks: below the floor for copies, and below that for own rows.
    pub(crate) fn cramped(seed: u64, nodes: u32, minutes: u32) -> Self {
        let mut story = Self::heavy(seed, nodes, minutes);
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0f11);
        let end = u64::from(minutes) * 60_000 * 2 / 3;
        for percent in [8, 6, 3] {
            let at = rng.random_range(0..end * 3 / 4);
            story.0.push(Fault {
                at: Moment::ms(at),
                lasts: Moment::ms(rng.random_range(30_000..900_000).min(end - at)),
                what: What::Fill(rng.random_range(0..nodes), percent),
            });
        }
        story.0.sort_by_key(|fault| fault.at);
        story
    }

    /// Half of all machines cut from the other half for so many seconds, after so many calm ones; nothing else.
    pub(crate) fn heal(nodes: u32, calm_secs: u64, cut_secs: u64) -> Self {
        Self(vec![Fault {
            at: Moment::secs(calm_secs),
            lasts: Moment::secs(cut_secs),
            what: What::Cut((0..nodes / 2).collect()),
        }])
    }

    /// The weather of an ordinary network, a long cut, some machines that go and come.
    pub(crate) fn ordinary(seed: u64, nodes: u32, minutes: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0dd);
        let end = u64::from(minutes) * 60_000 * 3 / 4;
        let mut faults = vec![
            Fault {
                at: Moment::secs(20),
                lasts: Moment::ms(end),
                what: What::Loss(1),
            },
            Fault {
                at: Moment::ms(end / 4),
                lasts: Moment::ms(end / 8),
                what: What::Cut((0..nodes / 4).collect()),
            },
        ];
        let mut at = 60_000;
        while at < end {
            let machine = rng.random_range(0..nodes);
            let what = match rng.random_range(0..4) {
                0 => What::Crash(machine),
                1 => What::Power(machine),
                2 => What::Freeze(machine),
                _ => What::Cut(vec![machine]),
            };
            faults.push(Fault {
                at: Moment::ms(at),
                lasts: Moment::ms(rng.random_range(3_000..120_000)),
                what,
            });
            at += rng.random_range(1_000..20_000);
        }
        faults.sort_by_key(|fault| fault.at);
        Self(faults)
    }

    /// When the last fault is over.
    pub(crate) fn end(&self) -> Moment {
        let ends = self
            .0
            .iter()
            .map(|fault| Moment(fault.at.0 + fault.lasts.0));
        ends.max().unwrap_or_default()
    }
}

impl What {
    fn draw(rng: &mut ChaCha8Rng, nodes: u32) -> Self {
        let one = rng.random_range(0..nodes);
        let some = || {
            let most = (nodes as usize / 2).max(1);
            let mut rng = rng.clone();
            let count = rng.random_range(1..=most);
            let mut some = (0..nodes).choose_multiple(&mut rng, count);
            some.sort_unstable();
            some
        };
        let group = some();
        match rng.random_range(0..32) {
            0 => Self::Loss(rng.random_range(1..30)),
            1 => Self::Slow(rng.random_range(50..800)),
            2 => Self::Jumble(rng.random_range(20..400)),
            3 => Self::Twice(rng.random_range(1..40)),
            4..=6 => Self::Cut(group),
            7 | 8 => Self::Deaf(group),
            9 => Self::Flap(group),
            10..=12 => Self::Crash(one),
            13..=15 => Self::Power(one),
            16 | 17 => Self::SitePower(group),
            18 => Self::Full(one),
            19 => Self::Stall(one),
            20 | 21 => Self::Rot(one, rng.random_range(1..6)),
            22 => Self::Clock(
                one,
                if rng.random() {
                    30 * 86_400
                } else {
                    -30 * 86_400
                },
            ),
            23 => Self::Clock(one, rng.random_range(-600..600)),
            24 | 25 => Self::Freeze(one),
            26 => Self::Join(rng.random_range(1..4)),
            27 => Self::Clone(one),
            28 | 29 => Self::Wipe(one),
            30 => Self::Yesterday(one),
            _ => Self::Skew(one),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

impl FromStr for Story {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim);
        let told = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        told.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = |moment: Moment| moment.as_ms() as f64 / 1_000.0;
        write!(
            f,
            "{:.3}s +{:.3}s {}",
            secs(self.at),
            secs(self.lasts),
            self.what
        )
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unreadable = || format!("not a fault: {line}");
        let mut words = line.split_whitespace();
        let mut moment = |sign: &str| {
            let word = words.next()?.strip_prefix(sign)?.strip_suffix('s')?;
            let secs: f64 = word.parse().ok()?;
            Some(Moment::ms((secs * 1_000.0).round() as u64))
        };
        let at = moment("").ok_or_else(unreadable)?;
        let lasts = moment("+").ok_or_else(unreadable)?;
        let rest: Vec<&str> = words.collect();
        let what = What::read(&rest).ok_or_else(unreadable)?;
        Ok(Self { at, lasts, what })
    }
}

impl What {
    fn read(words: &[&str]) -> Option<Self> {
        let number = |at: usize| words.get(at)?.parse::<u32>().ok();
        let group = || {
            let numbers = words.get(1)?.split(',').map(str::parse::<u32>);
            numbers.collect::<Result<Vec<_>, _>>().ok()
        };
        Some(match *words.first()? {
            "loss" => Self::Loss(number(1)?),
            "slow" => Self::Slow(number(1)?),
            "jumble" => Self::Jumble(number(1)?),
            "twice" => Self::Twice(number(1)?),
            "cut" => Self::Cut(group()?),
            "deaf" => Self::Deaf(group()?),
            "flap" => Self::Flap(group()?),
            "crash" => Self::Crash(number(1)?),
            "power" => Self::Power(number(1)?),
            "site-power" => Self::SitePower(group()?),
            "full" => Self::Full(number(1)?),
            "fill" => Self::Fill(number(1)?, number(2)?),
            "stall" => Self::Stall(number(1)?),
            "rot" => Self::Rot(number(1)?, number(2)?),
            "clock" => Self::Clock(number(1)?, words.get(2)?.parse().ok()?),
            "freeze" => Self::Freeze(number(1)?),
            "join" => Self::Join(number(1)?),
            "clone" => Self::Clone(number(1)?),
            "wipe" => Self::Wipe(number(1)?),
            "yesterday" => Self::Yesterday(number(1)?),
            "skew" => Self::Skew(number(1)?),
            _ => return None,
        })
    }

    /// Whether a machine's disk may refuse what an honest one takes.
    pub(crate) fn hurts_disk_of(&self, m: u32) -> bool {
        matches!(self, Self::Full(one) | Self::Stall(one) if *one == m)
    }

    /// The same for a world of so many machines. `None`: it names none of them.
    pub(crate) fn within(&self, nodes: u32) -> Option<Self> {
        let some = |group: &[u32]| {
            let group: Vec<u32> = group.iter().copied().filter(|m| *m < nodes).collect();
            (!group.is_empty()).then_some(group)
        };
        Some(match self {
            Self::Cut(group) => Self::Cut(some(group)?),
            Self::Deaf(group) => Self::Deaf(some(group)?),
            Self::Flap(group) => Self::Flap(some(group)?),
            Self::SitePower(group) => Self::SitePower(some(group)?),
            other if other.machines().iter().all(|m| *m < nodes) => other.clone(),
            _ => return None,
        })
    }

    /// The machines the fault names.
    pub(crate) fn machines(&self) -> Vec<u32> {
        match self {
            Self::Loss(_) | Self::Slow(_) | Self::Jumble(_) | Self::Twice(_) | Self::Join(_) => {
                Vec::new()
            }
            Self::Cut(group) | Self::Deaf(group) | Self::Flap(group) | Self::SitePower(group) => {
                group.clone()
            }
            Self::Crash(one)
            | Self::Power(one)
            | Self::Full(one)
            | Self::Fill(one, _)
            | Self::Stall(one)
            | Self::Rot(one, _)
            | Self::Clock(one, _)
            | Self::Freeze(one)
            | Self::Clone(one)
            | Self::Wipe(one)
            | Self::Yesterday(one)
            | Self::Skew(one) => vec![*one],
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |group: &[u32]| {
            let numbers: Vec<String> = group.iter().map(u32::to_string).collect();
            numbers.join(",")
        };
        match self {
            Self::Loss(percent) => write!(f, "loss {percent}"),
            Self::Slow(ms) => write!(f, "slow {ms}"),
            Self::Jumble(ms) => write!(f, "jumble {ms}"),
            Self::Twice(percent) => write!(f, "twice {percent}"),
            Self::Cut(some) => write!(f, "cut {}", group(some)),
            Self::Deaf(some) => write!(f, "deaf {}", group(some)),
            Self::Flap(some) => write!(f, "flap {}", group(some)),
            Self::Crash(one) => write!(f, "crash {one}"),
            Self::Power(one) => write!(f, "power {one}"),
            Self::SitePower(some) => write!(f, "site-power {}", group(some)),
            Self::Full(one) => write!(f, "full {one}"),
            Self::Fill(one, percent) => write!(f, "fill {one} {percent}"),
            Self::Stall(one) => write!(f, "stall {one}"),
            Self::Rot(one, bits) => write!(f, "rot {one} {bits}"),
            Self::Clock(one, secs) => write!(f, "clock {one} {secs}"),
            Self::Freeze(one) => write!(f, "freeze {one}"),
            Self::Join(count) => write!(f, "join {count}"),
            Self::Clone(one) => write!(f, "clone {one}"),
            Self::Wipe(one) => write!(f, "wipe {one}"),
            Self::Yesterday(one) => write!(f, "yesterday {one}"),
            Self::Skew(one) => write!(f, "skew {one}"),
        }
    }
}
