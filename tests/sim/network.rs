//! The ways between machines: how long a datagram takes, whether it arrives, and how often.
//!
//! Machines stand in four sites, each of which has a `Network` of its own: the same weather and walls, its own machines' lines. Each has one line, first come, first served; what would wait longer than
//! `LONGEST_QUEUE` on it is dropped. A stream takes what live datagrams leave over, as a congestion control would: its
//! standing queue adds at most `STANDING` to everybody's delay.
//! In: faults of the network. Absent: what the bytes mean, sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::time::Moment;

const LONGEST_QUEUE: Duration = Duration::from_millis(300);
const STANDING: Duration = Duration::from_millis(60);
/// What a flawed line holds of streams before a live datagram gets its turn.
const BLOATED: Duration = Duration::from_secs(3);
/// With more loss a sign of life and its repetitions may all be lost.
const HARSH_PERCENT: u32 = 10;
/// How often a stream tries again what was lost.
const RESEND: Duration = Duration::from_millis(500);
/// How many there are. Each way between two of them takes `BETWEEN_SITES` at least.
pub(crate) const SITES: u32 = 4;
pub(crate) const BETWEEN_SITES: Duration = Duration::from_millis(8);

/// What a datagram of ours has around it: IPv4 and UDP, WireGuard, IPv6 and UDP inside.
pub(crate) const ENVELOPE: u64 = 28 + 32 + 48;
/// A handshake of WireGuard, both ways, with IPv4 and UDP.
pub(crate) const HANDSHAKE: [u64; 2] = [28 + 148, 28 + 92];
/// What QUIC adds to each 1,200 bytes of a stream beside the envelope, its acknowledgements included.
const QUIC: u64 = 30 + 40;

/// The weather of the whole network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u32,
    pub(crate) slow: Duration,
    pub(crate) jumble: Duration,
    pub(crate) twice_percent: u32,
}

/// Every way between machines.
#[derive(Debug)]
pub(crate) struct Network {
    rng: ChaCha8Rng,
    pub(crate) weather: Weather,
    /// By the number of the fault: these machines hear no other, and are heard by none unless `one_way`.
    walls: Vec<Wall>,
    /// Walls that stood once, and when they fell.
    fallen: Vec<(Moment, Wall)>,
    lines: Vec<Line>,
    /// Bytes sent by all, by what they are.
    tally: Tally,
    /// When the weather was last anything but fair, as far as it is known.
    pub(crate) rough: Moment,
    /// Machines that don't know how rows are handed on, where sites are named: what passes by them comes late.
    pub(crate) outdated: u32,
    /// When the loss was last such that signs of life may fail to come.
    pub(crate) harsh: Moment,
    /// Bytes a second of each machine's line, outward.
    pub(crate) line: u64,
    /// Live datagrams wait behind a long queue of what streams brought: a flaw.
    pub(crate) bulk_first: bool,
}

#[derive(Debug)]
struct Wall {
    fault: usize,
    inside: BTreeSet<u32>,
    one_way: bool,
    /// Since when it comes and goes, and how fast.
    flaps: Option<(Moment, Duration)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Line {
    free: Moment,
    bulk_free: Moment,
}

/// Bytes by what they are.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

impl Network {
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            rng,
            weather: Weather::default(),
            walls: Vec::new(),
            fallen: Vec::new(),
            lines: Vec::new(),
            tally: Tally::new(),
            rough: Moment::default(),
            outdated: 0,
            harsh: Moment::default(),
            line: 1_250_000,
            bulk_first: false,
        }
    }

    pub(crate) fn add_machine(&mut self) {
        self.lines.push(Line::default());
    }

    pub(crate) fn wall(&mut self, fault: usize, inside: &[u32], one_way: bool) {
        self.walls.push(Wall {
            fault,
            inside: inside.iter().copied().collect(),
            one_way,
            flaps: None,
        });
    }

    /// A wall comes and goes from here on.
    pub(crate) fn flap(&mut self, fault: usize, now: Moment, every: Duration) {
        for wall in self.walls.iter_mut().filter(|wall| wall.fault == fault) {
            wall.flaps = Some((now, every));
        }
    }

    pub(crate) fn unwall(&mut self, now: Moment, fault: usize) {
        let fall = self.walls.extract_if(.., |wall| wall.fault == fault);
        self.fallen.extend(fall.map(|wall| (now, wall)));
    }

    /// Whether anything gets from one to the other.
    pub(crate) fn is_open(&self, now: Moment, from: u32, to: u32) -> bool {
        !self
            .walls
            .iter()
            .any(|wall| wall.stands(now) && wall.is_between(from, to))
    }

    /// Since when no wall stands between two machines, either way. `None`: one does, if only now and then.
    pub(crate) fn open_since(&self, a: u32, b: u32) -> Option<Moment> {
        let parts = |wall: &Wall| wall.is_between(a, b) || wall.is_between(b, a);
        if self.walls.iter().any(parts) {
            return None;
        }
        let fallen = self.fallen.iter().filter(|(_, wall)| parts(wall));
        Some(fallen.map(|(at, _)| *at).max().unwrap_or_default())
    }

    /// The weather has changed.
    pub(crate) fn look_at_the_weather(&mut self, now: Moment) {
        let fair = self.is_fair();
        note(&mut self.rough, now, !fair);
        let harsh = self.weather.loss_percent > HARSH_PERCENT;
        note(&mut self.harsh, now, harsh);
    }

    /// Whether nothing is lost, slow or jumbled, no wall stands, and everybody hands rows on.
    fn is_fair(&self) -> bool {
        let weather = &self.weather;
        let still = weather.loss_percent == 0 && weather.slow.is_zero() && weather.jumble.is_zero();
        still && self.walls.is_empty() && self.outdated == 0
    }

    /// When a small datagram of so many bytes arrives; twice where it comes twice.
    pub(crate) fn datagram(
        &mut self,
        now: Moment,
        from: u32,
        to: u32,
        bytes: u64,
        what: &'static str,
    ) -> [Option<Moment>; 2] {
        let Some(left) = self.leaves(now, from, bytes + ENVELOPE, what) else {
            return [None, None];
        };
        if !self.is_open(now, from, to) || self.strikes(self.weather.loss_percent) {
            return [None, None];
        }
        let first = Some(left + self.way(from, to) + self.jumbled());
        let second = self
            .strikes(self.weather.twice_percent)
            .then(|| left + self.way(from, to) + self.jumbled() + Duration::from_millis(1));
        [first, second]
    }

    /// When a piece of a stream is there, unless a wall stands in its way then.
    pub(crate) fn piece(&mut self, now: Moment, from: u32, to: u32, bytes: u64) -> Moment {
        let packets = bytes.div_ceil(1_200).max(1);
        let size = bytes + packets * (ENVELOPE + QUIC);
        self.count(size, "streams");
        let rate = self.line;
        let line = &mut self.lines[from as usize];
        let begin = now.max(line.bulk_free).max(line.free);
        line.bulk_free = begin + lasting(size, rate);
        let mut arrives = line.bulk_free + self.way(from, to);
        while self.strikes(self.weather.loss_percent) {
            arrives = arrives + 2 * self.way(from, to);
        }
        arrives
    }

    /// When the word that a stream has arrived is back, if a wall doesn't stand in its way.
    pub(crate) fn acknowledgement(&mut self, now: Moment, from: u32, to: u32) -> Option<Moment> {
        self.count(ENVELOPE + QUIC, "streams");
        self.is_open(now, from, to)
            .then(|| now + self.way(from, to) + self.standing(now, from))
    }

    /// When a machine's line has taken all pieces of streams.
    pub(crate) fn bulk_free(&self, machine: u32) -> Moment {
        self.lines[machine as usize].bulk_free
    }

    /// What streams brought to the line of a machine of another site.
    pub(crate) fn note_bulk(&mut self, machine: u32, free: Moment) {
        self.lines[machine as usize].bulk_free = free;
    }

    pub(crate) fn resent(&self, now: Moment) -> Moment {
        now + RESEND
    }

    /// Bytes that are counted and don't hold up the line: handshakes and signs of life.
    pub(crate) fn count(&mut self, bytes: u64, what: &'static str) {
        *self.tally.entry(what).or_default() += bytes;
    }

    /// There and back again at this moment.
    pub(crate) fn round_trip(&self, now: Moment, a: u32, b: u32) -> Duration {
        self.way(a, b) + self.way(b, a) + self.standing(now, a) + self.standing(now, b)
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether a sign of life from one reaches the other.
    pub(crate) fn is_heard(&mut self, now: Moment, from: u32, to: u32) -> bool {
        self.is_open(now, from, to) && !self.strikes(self.weather.loss_percent)
    }

    fn leaves(&mut self, now: Moment, from: u32, bytes: u64, what: &'static str) -> Option<Moment> {
        let standing = self.standing(now, from);
        let rate = self.line;
        let line = &mut self.lines[from as usize];
        let begin = now.max(line.free);
        if begin.since(now) > LONGEST_QUEUE && !self.bulk_first {
            return None;
        }
        let begin = if self.bulk_first && line.bulk_free > now {
            begin.max(line.bulk_free + BLOATED)
        } else {
            begin
        };
        line.free = begin + lasting(bytes, rate);
        let free = line.free;
        self.count(bytes, what);
        Some(free + standing)
    }

    /// What a stream's packets add to the delay of those that pass beside them.
    fn standing(&self, now: Moment, from: u32) -> Duration {
        self.lines[from as usize].bulk_free.since(now).min(STANDING)
    }

    pub(crate) fn way(&self, from: u32, to: u32) -> Duration {
        let (low, high) = (from.min(to), from.max(to));
        let spread =
            u64::from((low.wrapping_mul(0x9e37_79b9) ^ high.wrapping_mul(0x85eb_ca6b)) % 1_000);
        let micros = if low % SITES == high % SITES {
            200 + spread
        } else {
            BETWEEN_SITES.as_micros() as u64 + 40 * spread
        };
        Duration::from_micros(micros) + self.weather.slow
    }

    fn jumbled(&mut self) -> Duration {
        let most = self.weather.jumble.as_micros() as u64;
        if most == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(self.rng.random_range(0..most))
    }

    fn strikes(&mut self, percent: u32) -> bool {
        percent > 0 && self.rng.random_range(0..100) < percent
    }
}

impl Wall {
    fn is_between(&self, from: u32, to: u32) -> bool {
        let (a, b) = (self.inside.contains(&from), self.inside.contains(&to));
        if self.one_way { b && !a } else { a != b }
    }

    fn stands(&self, now: Moment) -> bool {
        self.flaps.is_none_or(|(since, every)| {
            (now.since(since).as_micros() / every.as_micros()).is_multiple_of(2)
        })
    }
}

/// Notes when something was last so.
fn note(last: &mut Moment, now: Moment, so: bool) {
    if so {
        *last = Moment::NEVER;
    } else if *last == Moment::NEVER {
        *last = now;
    }
}

fn lasting(bytes: u64, line: u64) -> Duration {
    Duration::from_micros(bytes * 1_000_000 / line)
}
