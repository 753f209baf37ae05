//! What must be true, looked at while the world runs and once at its end.
//!
//! Each second: queues within their bounds, disks within their bytes; once nothing goes wrong any more, whether every
//! keeper has what was taken before. At each start: what was acknowledged is there. At the end: everything taken is
//! somewhere or excused, every block verifies, every row is what was taken.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use outlast_mesh::NodeId;
use outlast_store::{Block, IntervalSet, LogId, Origin, Parcel, Reason, Seq, SignedRow};

use outlast::flow::core::{MOST_JOBS, Offence};

use crate::case::{Flaw, Kind};
use crate::fault::{Fault, What};
use crate::machine::{Up, signature};
use crate::network::Tally;
use crate::site::{Event, Logged, Site, UNREAD, site_of};
use crate::time::Moment;
use crate::world::World;

/// After the last fault every keeper has everything within this: a redial at its slowest, a rest at its longest, and what
/// there is to carry.
pub(crate) const CONVERGED_WITHIN: Duration = Duration::from_secs(240);
/// Live rows (`World::note_delay` says which are): 99 of 100 are there within this, also while a backlog runs at either
/// side.
const LIVE_P99: Duration = Duration::from_secs(2);
/// A bound holds to within one generation, an eighth of it; the smallest is 1 MiB.
const LEAST_GENERATION: u64 = 1 << 20;
/// What is written between two looks of the store at its bytes.
const BETWEEN: u64 = 1 << 20;
/// How long after its disk is well again a machine may say that it isn't.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Whether everything taken is somewhere is looked at so often.
const UNION_SECS: u64 = 30;
/// Rows of the last moments may still be under way at the end.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// Everybody's rows are read back at the end up to so many machines; beyond, those of each tenth.
const ALL_READ: u32 = 64;

/// A broken invariant.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) what: &'static str,
    pub(crate) at: Moment,
    pub(crate) detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.what, self.at, self.detail)
    }
}

/// Delays of live rows, by millisecond up to ten seconds.
#[derive(Debug, Clone)]
struct Delays {
    by_ms: Vec<u32>,
    count: u64,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            by_ms: vec![0; 10_001],
            count: 0,
        }
    }
}

impl Delays {
    fn add(&mut self, delay: Duration) {
        let ms = (delay.as_millis() as usize).min(self.by_ms.len() - 1);
        self.by_ms[ms] += 1;
        self.count += 1;
    }

    fn add_all(&mut self, other: &Self) {
        let both = self.by_ms.iter_mut().zip(&other.by_ms);
        both.for_each(|(count, more)| *count += more);
        self.count += other.count;
    }

    fn percentile(&self, percent: u64) -> Duration {
        let wanted = self.count * percent / 100;
        let mut seen = 0;
        let at = self.by_ms.iter().position(|count| {
            seen += u64::from(*count);
            seen > wanted
        });
        Duration::from_millis(at.unwrap_or(0) as u64)
    }
}

/// What is noted while the world runs.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    live: Delays,
    busy: Delays,
    pub(crate) starts_refused: u64,
    pub(crate) refused_own: u64,
    pub(crate) blames: BTreeMap<Offence, u64>,
    /// All bytes on all lines by what they are, each second.
    pub(crate) bytes: Vec<Tally>,
    /// Somebody within reach was believed down for so long at most.
    pub(crate) wrongly_down: Duration,
    most_disk: u64,
    most_queued: BTreeMap<&'static str, usize>,
    pub(crate) converged: Option<Moment>,
    ran: u64,
}

impl Watch {
    /// With what was noted elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.live.add_all(&other.live);
        self.busy.add_all(&other.busy);
        self.refused_own += other.refused_own;
        for (offence, times) in other.blames {
            *self.blames.entry(offence).or_default() += times;
        }
        self.wrongly_down = self.wrongly_down.max(other.wrongly_down);
    }

    pub(crate) fn came_live(&mut self, delay: Duration, busy: bool) {
        self.live.add(delay);
        if busy {
            self.busy.add(delay);
        }
    }
}

/// What a run that broke nothing came to.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) machines: usize,
    pub(crate) rows: u64,
    pub(crate) excused: u64,
    pub(crate) events: u64,
    pub(crate) hash: u64,
    /// The events themselves, where they were asked for.
    pub(crate) log: Vec<Logged>,
    /// Bytes a second a node sends, before anything goes wrong and after the first two minutes.
    pub(crate) calm_bytes: Option<f64>,
    pub(crate) bytes: f64,
    /// What the calm bytes are, a second and node.
    pub(crate) calm_kinds: BTreeMap<&'static str, f64>,
    /// After the last fault, until every keeper had everything.
    pub(crate) converged: Option<Duration>,
    pub(crate) live_p50: Duration,
    pub(crate) live_p99: Duration,
    pub(crate) busy_p99: Option<Duration>,
    pub(crate) most_disk: u64,
    pub(crate) blames: BTreeMap<Offence, u64>,
    pub(crate) starts_refused: u64,
    pub(crate) wrongly_down: Duration,
    pub(crate) most_queued: BTreeMap<&'static str, usize>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |span: Duration| span.as_millis();
        write!(
            f,
            "{} machines, {} rows taken, {} lost where nobody else had them; {:.0} B/s a node",
            self.machines, self.rows, self.excused, self.bytes
        )?;
        if let Some(calm) = self.calm_bytes {
            write!(f, " ({calm:.0} while nothing went wrong")?;
            for (what, bytes) in &self.calm_kinds {
                write!(f, ", {what} {bytes:.0}")?;
            }
            write!(f, ")")?;
        }
        write!(
            f,
            "; live p50 {} ms, p99 {} ms",
            ms(self.live_p50),
            ms(self.live_p99)
        )?;
        if let Some(busy) = self.busy_p99 {
            write!(f, ", p99 {} ms beside a backlog", ms(busy))?;
        }
        if let Some(converged) = self.converged {
            write!(
                f,
                "; equal {:.0} s after the last fault",
                converged.as_secs_f64()
            )?;
        }
        if self.starts_refused > 0 {
            write!(f, "; {} starts put off by a disk", self.starts_refused)?;
        }
        write!(f, "; at most {} kB on a disk", self.most_disk >> 10)?;
        let wrongly = self.wrongly_down.as_secs();
        write!(f, "; believed down within reach for at most {wrongly} s")?;
        for (name, len) in self.most_queued.iter().filter(|(_, len)| **len > 0) {
            write!(f, "; {len} {name}")?;
        }
        write!(f, "; {} events, {:016x}", self.events, self.hash)
    }
}

impl World {
    pub(crate) fn look(&mut self) {
        let now = self.now;
        self.watch.bytes.push(self.tally());
        let up = self.machines().filter(|(_, machine)| machine.up.is_some());
        self.watch.ran += up.count() as u64;
        self.look_at_bounds();
        self.look_at_the_dead();
        if self.case.flaw == Some(Flaw::Grudge) && self.count() > 2 {
            let culprit = self.register.ids[1];
            self.sites[site_of(2)].blamed(2, culprit, Offence::Hollow);
        }
        let small = self.count() <= ALL_READ;
        if small && (now.0 / 1_000_000).is_multiple_of(UNION_SECS) {
            self.look_at_the_union(now);
        }
        let quiet = self.case.quiet_from();
        if now >= quiet && self.watch.converged.is_none() && (now.0 / 1_000_000).is_multiple_of(2) {
            self.look_whether_equal(quiet);
        }
    }

    fn look_at_bounds(&mut self) {
        let promised = self.case.promised_bytes();
        let promised = promised + (promised / 8).max(LEAST_GENERATION) + BETWEEN;
        let second = self.now.0 / 1_000_000;
        let every = if self.count() > ALL_READ { 30 } else { 1 };
        for m in 0..self.count() {
            if !(second + u64::from(m)).is_multiple_of(every) {
                continue;
            }
            let machine = &mut self.sites[site_of(m)].machines[m as usize];
            machine.note_durable();
            let used = machine.disk.used_bytes();
            self.watch.most_disk = self.watch.most_disk.max(used);
            let Some(up) = &machine.up else { continue };
            let socket = machine
                .unread
                .iter()
                .filter(|event| matches!(event, Event::Small(_) | Event::Greeting(_)));
            let around = [
                ("datagrams in a socket", socket.count(), UNREAD),
                (
                    "jobs before the store",
                    machine.waiting.len(),
                    3 * MOST_JOBS,
                ),
            ];
            let queues = up.core.queues().into_iter().chain(around);
            let queues: Vec<_> = queues.collect();
            if used > promised {
                self.breaks(
                    "disks keep within their bytes",
                    format!("machine {m}: {used} of {promised} bytes"),
                );
            }
            for (name, len, bound) in queues {
                let most = self.watch.most_queued.entry(name).or_default();
                *most = len.max(*most);
                if len > bound {
                    self.breaks(
                        "every queue is bounded",
                        format!("machine {m}: {len} {name}, at most {bound}"),
                    );
                }
            }
        }
    }

    fn look_whether_equal(&mut self, quiet: Moment) {
        let open = self.outstanding(quiet);
        match open {
            None => self.watch.converged = Some(self.now),
            Some(what) if self.now.since(quiet) > CONVERGED_WITHIN => {
                self.look_at_the_union(quiet);
                self.breaks("keepers hold the same", what);
            }
            Some(_) => {}
        }
    }

    /// A keeper that lacks rows taken before a moment. `None`: there is none.
    fn outstanding(&self, moment: Moment) -> Option<String> {
        for who in 0..self.register.identities() {
            let origin = Origin(self.register.ids[who as usize].0);
            let owed = self.truth.before(&origin, moment);
            for (m, machine) in self.machines() {
                let Some(up) = machine
                    .up
                    .as_ref()
                    .filter(|up| up.core.keeps(&self.register.ids[who as usize]))
                else {
                    if machine.up.is_none() && !machine.gone && machine.who == who {
                        return Some(format!("machine {m} is down"));
                    }
                    continue;
                };
                let held = up.store.held_of(&origin);
                let lacks = owed.iter().filter_map(|(log, rows)| {
                    let lacks = held
                        .get(log)
                        .map_or_else(|| rows.clone(), |held| rows.subtract(held));
                    (!lacks.is_empty()).then_some((log, lacks))
                });
                for (log, lacks) in lacks {
                    let lacks = self.subtract_gone(up, log, lacks);
                    if !lacks.is_empty() {
                        let (count, first) = (lacks.len(), lacks.first().unwrap_or(0));
                        let there = self.who_holds(log, first);
                        let keep = self.who_keeps(who);
                        return Some(format!(
                            "machine {m} lacks {count} rows of {log} (machine {who}), from {first} on; {there:?} hold it, {keep:?} are to"
                        ));
                    }
                }
            }
        }
        None
    }

    /// Without what went from here, and what went wherever it was: that it is excused or gone the union says.
    fn subtract_gone(&self, up: &Up, log: &LogId, lacks: IntervalSet) -> IntervalSet {
        let gone = up.store.gone().remove(log).unwrap_or_default();
        let lacks = lacks.subtract(&gone);
        if lacks.is_empty() {
            return lacks;
        }
        let ups = self
            .machines()
            .filter_map(|(_, machine)| machine.up.as_ref());
        let there = ups.fold(IntervalSet::new(), |all, up| {
            let held = up.store.held_of(&log.origin).remove(log);
            held.map_or_else(|| all.clone(), |held| all.union(&held))
        });
        lacks.intersect(&there)
    }

    fn who_holds(&self, log: &LogId, seq: Seq) -> Vec<u32> {
        let ups = self.machines();
        let ups = ups.filter_map(|(m, machine)| Some((m, machine.up.as_ref()?)));
        let holds = ups.filter(|(_, up)| up.store.holds(log, seq..=seq));
        holds.map(|(m, _)| m).collect()
    }

    fn who_keeps(&self, who: u32) -> Vec<u32> {
        let ups = self.machines();
        let ups = ups.filter_map(|(m, machine)| Some((m, machine.up.as_ref()?)));
        let keep = ups.filter(|(_, up)| up.core.keeps(&self.register.ids[who as usize]));
        keep.map(|(m, _)| m).collect()
    }

    /// What a machine that starts no longer has: what it had acknowledged must be there.
    pub(crate) fn look_what_was_lost(&mut self, m: u32) {
        let machine = &mut self.sites[site_of(m)].machines[m as usize];
        let Some(up) = &machine.up else { return };
        let (held, gone) = (up.store.held(), up.store.gone());
        let covered = |log: &LogId| {
            let held = held.get(log).cloned().unwrap_or_default();
            held.union(&gone.get(log).cloned().unwrap_or_default())
        };
        let durable = std::mem::take(&mut machine.durable);
        let before = std::mem::take(&mut machine.before);
        if !std::mem::take(&mut machine.excused) {
            for (log, seq) in &durable {
                let acknowledged: IntervalSet = [1..=*seq].into_iter().collect();
                let lost = acknowledged
                    .intersect(&before.get(log).cloned().unwrap_or_default())
                    .subtract(&covered(log));
                if !lost.is_empty() {
                    let detail =
                        format!("machine {m} lost {} rows of {log} up to {seq}", lost.len());
                    return self.breaks("nothing acknowledged durable is missing", detail);
                }
            }
            machine.durable = durable;
        }
        let lost: Vec<_> = before
            .into_iter()
            .map(|(log, rows)| (log, rows.subtract(&covered(&log))))
            .filter(|(_, rows)| !rows.is_empty())
            .collect();
        for (log, rows) in lost {
            self.excuse_unless_held(&log, rows);
        }
    }

    /// Rows that a machine lost: nobody owes those that nobody else has at this moment.
    pub(crate) fn excuse_unless_held(&mut self, log: &LogId, mut rows: IntervalSet) {
        for (_, machine) in self.machines().filter(|(_, machine)| !machine.gone) {
            let held = match &machine.up {
                Some(up) => up.store.held_of(&log.origin).remove(log),
                None => machine.before.get(log).cloned(),
            };
            rows = rows.subtract(&held.unwrap_or_default());
        }
        self.truth.excuse(log, &rows);
    }

    pub(crate) fn look_at_the_end(&mut self) {
        self.look();
        if self.broken.is_some() {
            return;
        }
        if self.now.since(self.case.quiet_from()) > CONVERGED_WITHIN {
            let moment = Moment(self.now.0 - UNDER_WAY.as_micros() as u64);
            if let Some(what) = self.outstanding(moment) {
                return self.breaks("keepers hold the same", format!("at the end, {what}"));
            }
            self.look_at_the_union(moment);
        }
        for site in 0..self.sites.len() {
            let watch = std::mem::take(&mut self.sites[site].watch);
            self.watch.add(watch);
        }
        self.read_everything_back();
        self.look_at_what_went();
        self.look_at_blames();
        self.look_at_traffic();
        if self.broken.is_some() {
            return;
        }
        let late = [
            ("", &self.watch.live),
            (" beside a backlog", &self.watch.busy),
        ];
        let late = late.map(|(name, delays)| (name, delays.percentile(99), delays.count));
        for (name, p99, count) in late {
            if count >= 100 && p99 > LIVE_P99 {
                let detail = format!("p99 {} ms{name}", p99.as_millis());
                return self.breaks("live rows are there within two seconds", detail);
            }
        }
    }

    /// Each row taken before a moment and not lost with the only disk that had it is on a disk, or went from one.
    fn look_at_the_union(&mut self, moment: Moment) {
        let mut there: BTreeMap<LogId, IntervalSet> = BTreeMap::new();
        for (_, machine) in self.machines().filter(|(_, machine)| !machine.gone) {
            let (held, gone) = match &machine.up {
                Some(up) => (up.store.held(), up.store.gone()),
                None => (machine.before.clone(), machine.went.clone()),
            };
            for (log, rows) in held.into_iter().chain(gone) {
                let all = there.entry(log).or_default();
                *all = all.union(&rows);
            }
        }
        for who in 0..self.register.identities() {
            for (log, owed) in self
                .truth
                .before(&Origin(self.register.ids[who as usize].0), moment)
            {
                let lost = owed.subtract(&there.remove(&log).unwrap_or_default());
                if !lost.is_empty() {
                    let detail = format!(
                        "{} rows of {log} (machine {who}) are nowhere, from {:?} on",
                        lost.len(),
                        lost.first()
                    );
                    return self.breaks("everything taken is somewhere", detail);
                }
            }
        }
    }

    /// Every block verifies, and every row is what its origin took.
    fn read_everything_back(&mut self) {
        let every = if self.count() > ALL_READ { 10 } else { 1 };
        let holes = usize::from(self.case.flaw == Some(Flaw::Sieve));
        let mut wrong = None;
        for (m, machine) in self.machines().step_by(every) {
            let Some(up) = &machine.up else { continue };
            for (log, held) in up.store.held() {
                for range in held.ranges() {
                    let parcels = up.store.export(&log, range.clone(), usize::MAX);
                    let parcels = parcels.unwrap_or_default();
                    let bad = parcels.iter().find_map(|parcel| self.is_wrong(parcel));
                    let given = parcels.iter().skip(holes).filter_map(span);
                    let given: IntervalSet = given.collect();
                    let range: IntervalSet = [range].into_iter().collect();
                    let kept = range.subtract(&given);
                    if !kept.is_empty() {
                        let (count, first) = (kept.len(), kept.first().unwrap_or(0));
                        let what = format!(
                            "machine {m} holds {count} rows of {log} it can't give, from {first} on"
                        );
                        wrong = Some(("what is held can be read", what));
                    }
                    if let Some((invariant, what)) = bad {
                        wrong = Some((invariant, format!("machine {m}: {what} of {log}")));
                    }
                }
            }
        }
        if let Some((what, detail)) = wrong {
            self.breaks(what, detail);
        }
    }

    /// What went is counted under its reason, and only where there was one.
    fn look_at_what_went(&mut self) {
        let cramped = self.case.kind == Kind::Cramped;
        let mut wrong = None;
        for (m, machine) in self.machines() {
            let Some(up) = &machine.up else { continue };
            let gone: u64 = up.store.gone().values().map(IntervalSet::len).sum();
            if gone == 0 {
                continue;
            }
            let mut why = up.store.stats().gone_rows;
            if self.case.flaw == Some(Flaw::Forgets) {
                why.clear();
            }
            let told: u64 = why.values().sum();
            let budget = why.get(&Reason::Budget).copied().unwrap_or(0);
            if told < gone || (budget > 0 && !cramped) {
                wrong = Some(format!("machine {m}: {gone} rows went, told of: {why:?}"));
            }
        }
        if let Some(detail) = wrong {
            self.breaks("what went says why", detail);
        }
    }

    /// In a world without liars nobody is accused, but of what a copy of itself or a later release does.
    fn look_at_blames(&mut self) {
        let story = self.case.story.0.iter();
        let odd = story.map(|fault| &fault.what);
        let odd = odd.filter(|what| matches!(what, What::Clone(_) | What::Skew(_)));
        if odd.count() == 0 && !self.watch.blames.is_empty() {
            let detail = format!("{:?}", self.watch.blames);
            self.breaks("nobody is accused who does no wrong", detail);
        }
    }

    fn is_wrong(&self, parcel: &Parcel) -> Option<(&'static str, &'static str)> {
        let verify = |origin: &Origin, message: &[u8], signed: &[u8; 64]| {
            signature(origin, message) == *signed
        };
        let rows = match parcel {
            Parcel::Row(bytes) => match SignedRow::decode(bytes) {
                Ok(row) if row.verify(&verify).is_ok() => vec![row.row],
                _ => return Some(("every stored block verifies", "a row")),
            },
            Parcel::Block(bytes) => match Block::decode(bytes, &verify) {
                Ok(block) => block.rows(),
                Err(_) => return Some(("every stored block verifies", "a block")),
            },
        };
        let told = rows.iter().all(|row| self.truth.is_true(row) == Some(true));
        (!told).then_some(("one content per identity", "a row nobody took so"))
    }

    pub(crate) fn figures_of(&self, hash: u64, events: u64) -> Figures {
        let watch = &self.watch;
        let quiet = self.case.quiet_from();
        let begins = self
            .case
            .story
            .0
            .iter()
            .map(|fault| fault.at)
            .min()
            .unwrap_or(self.now);
        let (from, to) = (120, (begins.0 / 1_000_000) as usize);
        let is_calm = to > from + 30 && watch.bytes.len() >= to;
        let calm_kinds = is_calm.then(|| {
            let (before, after) = (&watch.bytes[from - 1], &watch.bytes[to - 1]);
            let rate = |(what, bytes): (&&'static str, &u64)| {
                let bytes = bytes - before.get(what).copied().unwrap_or(0);
                let each = bytes as f64 / (to - from) as f64 / f64::from(self.case.nodes);
                (*what, each)
            };
            after.iter().map(rate).collect::<BTreeMap<_, _>>()
        });
        let calm = calm_kinds.as_ref().map(|kinds| kinds.values().sum());
        let calm_kinds = calm_kinds.unwrap_or_default();
        Figures {
            machines: self.count() as usize,
            rows: self.truth.rows(),
            excused: self.truth.excused(),
            events,
            hash,
            log: Vec::new(),
            calm_bytes: calm,
            calm_kinds,
            bytes: self.tally().values().sum::<u64>() as f64 / watch.ran.max(1) as f64,
            converged: watch.converged.map(|at| at.since(quiet)),
            live_p50: watch.live.percentile(50),
            live_p99: watch.live.percentile(99),
            busy_p99: (watch.busy.count >= 100).then(|| watch.busy.percentile(99)),
            most_disk: watch.most_disk,
            blames: watch.blames.clone(),
            starts_refused: watch.starts_refused,
            wrongly_down: watch.wrongly_down,
            most_queued: watch.most_queued.clone(),
        }
    }
}

impl Site {
    /// A member is accused. Nobody lies in this world but who is ahead of his time.
    pub(crate) fn blamed(&mut self, m: u32, culprit: NodeId, offence: Offence) {
        *self.watch.blames.entry(offence).or_default() += 1;
        let culprit = self
            .register
            .numbers
            .get(&culprit)
            .copied()
            .unwrap_or(u32::MAX);
        self.tell(&format!("machine {m} accuses {culprit}: {offence:?}"));
    }

    /// Whether a machine's disk refuses, or did a moment ago, what an honest one takes.
    pub(crate) fn disk_is_troubled(&self, m: u32) -> bool {
        let faults = self.case.story.0.iter();
        let lasts = |fault: &&Fault| {
            let end = Moment(fault.at.0 + fault.lasts.0) + AFTERMATH;
            fault.at <= self.now && self.now <= end
        };
        faults
            .filter(lasts)
            .any(|fault| fault.what.hurts_disk_of(m))
    }

    /// A line of the story as it is told, where somebody listens.
    pub(crate) fn tell(&self, what: &str) {
        if self.case.told_aloud {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{:>9}  {what}", self.now.to_string());
        }
    }
}

/// The rows a parcel carries.
fn span(parcel: &Parcel) -> Option<RangeInclusive<Seq>> {
    match parcel {
        Parcel::Row(bytes) => SignedRow::decode(bytes)
            .ok()
            .map(|row| row.row.seq..=row.row.seq),
        Parcel::Block(bytes) => Block::read(bytes).ok().and_then(|block| {
            let rows = block.rows();
            Some(rows.first()?.seq..=rows.last()?.seq)
        }),
    }
}
