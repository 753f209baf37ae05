//! Processes added up by name, and which names lead.
//!
//! A pure core: `begin`, one `add` a process, `end`. Processor time and bytes of a name are sums of what its processes did
//! between two looks, so they only grow, though processes end. Bounds: `MAX_PROCESSES` are remembered from one look to the
//! next, `MAX_SERIES` names have series.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::super::steady::Steady;

/// The most processes one look goes through.
pub(super) const MAX_PROCESSES: usize = 32_768;

/// The most names that have series in one run.
const MAX_SERIES: usize = 48;

/// How many lead in each of processor, memory and I/O.
const LEADERS: usize = 5;

/// What a look changes of a name's weight: one part in so many. Who leads for a moment leads nothing.
const WEIGHT: f64 = 4.0;

/// One process of a look.
#[derive(Debug, Clone)]
pub(super) struct One {
    pub(super) pid: u32,
    pub(super) started: u64,
    pub(super) cpu_ticks: u64,
    pub(super) resident_bytes: u64,
    pub(super) io: Option<[u64; 2]>,
}

/// All processes of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) count: u64,
    pub(super) cpu_ticks: u64,
    pub(super) resident_bytes: u64,
    /// Bytes read and written. `None` where the kernel tells of none of them.
    pub(super) io: Option<[u64; 2]>,
}

/// Processor time and bytes that something has used so far.
type Used = (u64, Option<[u64; 2]>);

#[derive(Debug)]
pub(super) struct Groups {
    /// What each process had used at the look before, by number and beginning.
    before: BTreeMap<(u32, u64), Used>,
    now: BTreeMap<(u32, u64), Used>,
    /// Names of this look; `cpu_ticks` and `io` are what was used since the look before.
    found: BTreeMap<String, Group>,
    /// Smoothed use of processor, memory and disk.
    weights: BTreeMap<String, [f64; 3]>,
    /// Sums of the names that have series.
    sums: BTreeMap<String, Used>,
    steady: Steady,
    is_first: bool,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self {
            before: BTreeMap::new(),
            now: BTreeMap::new(),
            found: BTreeMap::new(),
            weights: BTreeMap::new(),
            sums: BTreeMap::new(),
            steady: Steady::new(MAX_SERIES),
            is_first: true,
        }
    }

    pub(super) fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
        self.found.clear();
    }

    /// Adds a process; says what it used of the processor since the look before.
    pub(super) fn add(&mut self, comm: &str, one: &One) -> Option<u64> {
        let key = (one.pid, one.started);
        let before = self.before.get(&key).copied();
        self.now.insert(key, (one.cpu_ticks, one.io));
        // Of one that began since, all it did was done since; at the first look nobody knows when.
        let since = match before {
            Some((cpu, _)) => one.cpu_ticks.saturating_sub(cpu),
            None if self.is_first => 0,
            None => one.cpu_ticks,
        };
        let io = one.io.map(|[read, written]| match before {
            Some((_, Some(before))) => [
                read.saturating_sub(before[0]),
                written.saturating_sub(before[1]),
            ],
            Some((_, None)) => [0, 0],
            None if self.is_first => [0, 0],
            None => [read, written],
        });
        if !self.found.contains_key(comm) {
            self.found.insert(comm.to_owned(), Group::default());
        }
        let group = self.found.get_mut(comm)?;
        group.count += 1;
        group.cpu_ticks = group.cpu_ticks.saturating_add(since);
        group.resident_bytes = group.resident_bytes.saturating_add(one.resident_bytes);
        group.io = sum(group.io, io);
        before.map(|_| since)
    }

    /// Ends a look: every name that has series and runs.
    pub(super) fn end(&mut self, now: Instant) -> Vec<(String, Group)> {
        self.is_first = false;
        self.weigh();
        let leaders = self.leaders();
        self.steady.look(leaders.iter().map(String::as_str), now);
        let mut shown = Vec::new();
        for (comm, group) in &self.found {
            if !self.steady.has(comm) {
                continue;
            }
            if !self.sums.contains_key(comm) {
                self.sums.insert(comm.clone(), (0, None));
            }
            let Some((cpu, io)) = self.sums.get_mut(comm) else {
                continue;
            };
            *cpu = cpu.saturating_add(group.cpu_ticks);
            *io = sum(*io, group.io);
            let group = Group {
                cpu_ticks: *cpu,
                // What was told before isn't told where nobody tells of it in this look.
                io: group.io.and(*io),
                ..group.clone()
            };
            shown.push((comm.clone(), group));
        }
        shown
    }

    fn weigh(&mut self) {
        self.weights.retain(|comm, _| self.found.contains_key(comm));
        for (comm, group) in &self.found {
            let [read, written] = group.io.unwrap_or_default();
            let used = [
                group.cpu_ticks as f64,
                group.resident_bytes as f64,
                read.saturating_add(written) as f64,
            ];
            match self.weights.get_mut(comm) {
                Some(weights) => {
                    for (weight, used) in weights.iter_mut().zip(used) {
                        *weight += (used - *weight) / WEIGHT;
                    }
                }
                None => {
                    self.weights
                        .insert(comm.clone(), used.map(|used| used / WEIGHT));
                }
            }
        }
    }

    /// The names that lead, each once: by turns the first of each kind, then the second.
    fn leaders(&self) -> Vec<String> {
        let mut by_kind: Vec<Vec<(&String, f64)>> = Vec::new();
        for kind in 0..3 {
            let weights = self.weights.iter();
            let mut ranked: Vec<_> = weights.map(|(comm, all)| (comm, all[kind])).collect();
            ranked.retain(|(_, weight)| *weight > 0.0);
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
            ranked.truncate(LEADERS);
            by_kind.push(ranked);
        }
        let (mut leaders, mut known) = (Vec::new(), BTreeSet::new());
        for place in 0..LEADERS {
            for (comm, _) in by_kind.iter().filter_map(|ranked| ranked.get(place)) {
                if known.insert(*comm) {
                    leaders.push((*comm).clone());
                }
            }
        }
        leaders
    }
}

fn sum(a: Option<[u64; 2]>, b: Option<[u64; 2]>) -> Option<[u64; 2]> {
    match (a, b) {
        (Some(a), Some(b)) => Some([a[0].saturating_add(b[0]), a[1].saturating_add(b[1])]),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_adds_up_its_processes_and_never_goes_back() {
        let mut bench = Bench::new();
        bench.look(&[("web", 1, 1_000, 5), ("web", 2, 500, 6), ("idle", 3, 0, 1)]);
        let found = bench.look(&[("web", 1, 1_010, 5), ("web", 2, 507, 6), ("idle", 3, 0, 1)]);
        assert_eq!(found["web"], group(2, 17, 11));
        // The second ended, and one began that used 30 at once.
        let found = bench.look(&[("web", 1, 1_010, 5), ("web", 9, 30, 2)]);
        assert_eq!(found["web"], group(2, 47, 7));
        assert!(!found.contains_key("idle"), "what doesn't run is absent");
        let found = bench.look(&[("web", 9, 31, 2)]);
        assert_eq!(found["web"], group(1, 48, 2));
    }

    #[test]
    fn a_number_that_is_given_again_is_another_process() {
        let mut groups = Groups::new();
        let mut add = |started, cpu_ticks| {
            groups.begin();
            let used = groups.add("a", &one(7, started, cpu_ticks, 1));
            groups.end(Instant::now());
            used
        };
        assert_eq!(add(100, 50), None);
        assert_eq!(add(100, 60), Some(10));
        assert_eq!(add(200, 3), None);
        assert_eq!(add(200, 4), Some(1));
    }

    #[test]
    fn the_leaders_of_each_kind_have_series_and_the_others_none() {
        let mut bench = Bench::new();
        let names: Vec<String> = (0..40).map(|at| format!("n{at:02}")).collect();
        let all: Vec<_> = names
            .iter()
            .zip(0_u64..)
            .map(|(name, at)| (name.as_str(), at as u32, at, 1_000 - at))
            .collect();
        let found = bench.look(&all);
        let shown: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(
            shown,
            ["n00", "n01", "n02", "n03", "n04"],
            "by memory; nothing was used yet"
        );
    }

    #[test]
    fn bytes_are_absent_where_nobody_tells_of_them() {
        let mut groups = Groups::new();
        let mut look = |io| {
            groups.begin();
            groups.add(
                "a",
                &One {
                    io,
                    ..one(1, 1, 1, 1)
                },
            );
            groups.end(Instant::now())[0].1.io
        };
        assert_eq!(look(None), None);
        assert_eq!(look(Some([100, 200])), Some([0, 0]));
        assert_eq!(look(Some([110, 250])), Some([10, 50]));
        assert_eq!(look(None), None);
        assert_eq!(look(Some([300, 300])), Some([10, 50]));
    }

    proptest! {
        /// Against a plain model: what a name has used is what all its processes ever used since the first look.
        #[test]
        fn sums_agree_with_a_model(
            looks in prop::collection::vec(prop::collection::btree_map(0_u32..6, 0_u64..50, 0..6), 1..12),
        ) {
            let mut groups = Groups::new();
            let mut spent: BTreeMap<u32, u64> = BTreeMap::new();
            let (mut before, mut wanted) = (BTreeMap::new(), 0);
            let start = Instant::now();
            for (at, look) in looks.iter().enumerate() {
                groups.begin();
                // One that holds the series from the first look on.
                groups.add("a", &one(99, 0, 0, 1));
                let mut present = BTreeMap::new();
                for (pid, more) in look {
                    let total = spent.entry(*pid).or_default();
                    *total += more;
                    present.insert(*pid, *total);
                    groups.add("a", &one(*pid, 0, *total, 0));
                    if at > 0 {
                        wanted += *total - before.get(pid).copied().unwrap_or(0);
                    }
                }
                before = present;
                let found = groups.end(start + Duration::from_secs(at as u64));
                prop_assert_eq!(found[0].1.cpu_ticks, wanted);
            }
        }
    }

    struct Bench(Groups);

    impl Bench {
        fn new() -> Self {
            Self(Groups::new())
        }

        /// Name, number, ticks, bytes.
        fn look(&mut self, processes: &[(&str, u32, u64, u64)]) -> BTreeMap<String, Group> {
            self.0.begin();
            for (comm, pid, cpu, bytes) in processes {
                self.0.add(comm, &one(*pid, 1, *cpu, *bytes));
            }
            self.0.end(Instant::now()).into_iter().collect()
        }
    }

    fn one(pid: u32, started: u64, cpu_ticks: u64, resident_bytes: u64) -> One {
        One {
            pid,
            started,
            cpu_ticks,
            resident_bytes,
            io: None,
        }
    }

    fn group(count: u64, cpu_ticks: u64, resident_bytes: u64) -> Group {
        Group {
            count,
            cpu_ticks,
            resident_bytes,
            io: None,
        }
    }
}
