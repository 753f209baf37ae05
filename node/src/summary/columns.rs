//! What the overview shows of a node: eight numbers out of a few dozen series.
//!
//! A `Plan` says which series of a schema are wanted and what is made of them. Its inputs are
//! values at one moment, counters already as rates; so the live row and the stored past go through
//! the same arithmetic. Not-a-number in, not-a-number out where nothing else is known.

use outlast_store::{Kind, LogId, Row, Schema, Series};

/// The overview's columns, in the order of every frame, and their units.
pub(crate) const COLUMNS: [(&str, &str); 8] = [
    ("cpu_busy", "ratio"),
    ("memory_used", "ratio"),
    ("network_receive", "bytes/s"),
    ("network_transmit", "bytes/s"),
    ("disk_read", "bytes/s"),
    ("disk_write", "bytes/s"),
    ("load1", ""),
    ("filesystem_used", "ratio"),
];

/// Two rows further apart than this many steps have a hole between them.
pub(crate) const MAX_STEPS: f64 = 1.5;

/// Milliseconds between rows.
const STEP_MS: f64 = 1_000.0;

/// Which inputs make which column. All positions count in `inputs`.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Numbers of the wanted series in the schema, and whether each is a counter.
    inputs: Vec<(usize, Kind)>,
    cores: Vec<Core>,
    memory: Memory,
    receive: Vec<usize>,
    transmit: Vec<usize>,
    read: Vec<usize>,
    write: Vec<usize>,
    load: Option<usize>,
    filesystems: Vec<[usize; 3]>,
}

#[derive(Debug, Default)]
struct Core {
    idle: Option<usize>,
    iowait: Option<usize>,
    all: Vec<usize>,
}

#[derive(Debug, Default)]
struct Memory {
    total: Option<usize>,
    available: Option<usize>,
    /// Free, buffers and cache: what kernels before 3.14 have in place of available memory.
    loose: Vec<usize>,
}

/// The wanted values of one row as they stand in it.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) log: LogId,
    pub(crate) boot_ms: u64,
    pub(crate) values: Vec<f64>,
}

impl Plan {
    pub(crate) fn new(schema: &[Series]) -> Self {
        let mut plan = Self::default();
        plan.plan_cores(schema);
        plan.plan_memory(schema);
        let physical = schema.iter().filter_map(device).any(is_physical);
        let interface = |name: &str| is_physical(name) || (!physical && name != "lo");
        plan.receive = plan.wanted(schema, "node_network_receive_bytes_total", interface);
        plan.transmit = plan.wanted(schema, "node_network_transmit_bytes_total", interface);
        plan.read = plan.wanted(schema, "node_disk_read_bytes_total", is_whole);
        plan.write = plan.wanted(schema, "node_disk_written_bytes_total", is_whole);
        plan.load = plan.input(schema, |series| series.name == "node_load1");
        plan.plan_filesystems(schema);
        plan
    }

    /// Numbers of the wanted series in the schema, in the order of the values.
    pub(crate) fn inputs(&self) -> impl ExactSizeIterator<Item = usize> {
        self.inputs.iter().map(|(number, _)| *number)
    }

    /// The wanted values of a row of the planned schema.
    pub(crate) fn sample(&self, schema: &Schema, row: &Row) -> Sample {
        let value = |at: usize| {
            let integer = row.values.get(at).copied().flatten();
            integer.map_or(f64::NAN, |integer| schema.series[at].value(integer))
        };
        Sample {
            log: row.log,
            boot_ms: row.boot_ms,
            values: self.inputs().map(value).collect(),
        }
    }

    /// The columns out of values at one moment, in the order of the inputs.
    pub(crate) fn columns(&self, values: &[f64]) -> [f64; COLUMNS.len()] {
        [
            self.cpu_busy(values),
            self.memory_used(values),
            sum(values, &self.receive),
            sum(values, &self.transmit),
            sum(values, &self.read),
            sum(values, &self.write),
            at(values, self.load),
            self.filesystem_used(values),
        ]
    }

    /// The columns of a row, given the row before it.
    pub(crate) fn columns_after(
        &self,
        before: Option<&Sample>,
        now: &Sample,
    ) -> [f64; COLUMNS.len()] {
        let mut values = now.values.clone();
        for (at, (_, kind)) in self.inputs.iter().enumerate() {
            if *kind == Kind::Counter {
                values[at] = before.map_or(f64::NAN, |before| rate(before, now, at));
            }
        }
        self.columns(&values)
    }

    fn plan_cores(&mut self, schema: &[Series]) {
        let times = |series: &&Series| series.name == "node_cpu_seconds_total";
        let mut names: Vec<&str> = schema
            .iter()
            .filter(times)
            .filter_map(|series| series.label("cpu"))
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let mut core = Core::default();
            for (number, series) in schema.iter().enumerate() {
                if !times(&series) || series.label("cpu") != Some(name) {
                    continue;
                }
                let input = self.add(number, series.kind);
                core.all.push(input);
                match series.label("mode") {
                    Some("idle") => core.idle = Some(input),
                    Some("iowait") => core.iowait = Some(input),
                    _ => {}
                }
            }
            self.cores.push(core);
        }
    }

    fn plan_memory(&mut self, schema: &[Series]) {
        let mut find = |name: &str| {
            let name = format!("node_memory_{name}_bytes");
            self.input(schema, |series| series.name == name)
        };
        let (total, available) = (find("MemTotal"), find("MemAvailable"));
        let loose = ["MemFree", "Buffers", "Cached"]
            .into_iter()
            .filter_map(find)
            .collect();
        self.memory = Memory {
            total,
            available,
            loose,
        };
    }

    fn plan_filesystems(&mut self, schema: &[Series]) {
        for series in schema
            .iter()
            .filter(|series| series.name == "node_filesystem_size_bytes")
        {
            let mut find = |name: &str| {
                self.input(schema, |other| {
                    other.name == name && other.labels == series.labels
                })
            };
            let found = [
                find("node_filesystem_size_bytes"),
                find("node_filesystem_free_bytes"),
                find("node_filesystem_avail_bytes"),
            ];
            if let [Some(size), Some(free), Some(available)] = found {
                self.filesystems.push([size, free, available]);
            }
        }
    }

    fn wanted(
        &mut self,
        schema: &[Series],
        name: &str,
        wants: impl Fn(&str) -> bool,
    ) -> Vec<usize> {
        let mut found = Vec::new();
        for (number, series) in schema.iter().enumerate() {
            if series.name == name && series.label("device").is_some_and(&wants) {
                found.push(self.add(number, series.kind));
            }
        }
        found
    }

    fn input(&mut self, schema: &[Series], is: impl Fn(&Series) -> bool) -> Option<usize> {
        let number = schema.iter().position(is)?;
        Some(self.add(number, schema[number].kind))
    }

    fn add(&mut self, number: usize, kind: Kind) -> usize {
        self.inputs.push((number, kind));
        self.inputs.len() - 1
    }

    fn cpu_busy(&self, values: &[f64]) -> f64 {
        let (mut idle, mut all) = (0.0, 0.0);
        for core in self
            .cores
            .iter()
            .filter(|core| !at(values, core.idle).is_nan())
        {
            // The kernel lets iowait go back now and then; that one value is left out.
            idle += at(values, core.idle) + known(at(values, core.iowait));
            all += core
                .all
                .iter()
                .map(|input| known(values[*input]))
                .sum::<f64>();
        }
        if all > 0.0 {
            (1.0 - idle / all).clamp(0.0, 1.0)
        } else {
            f64::NAN
        }
    }

    fn memory_used(&self, values: &[f64]) -> f64 {
        let (total, available) = (
            at(values, self.memory.total),
            at(values, self.memory.available),
        );
        let available = if available.is_nan() {
            sum(values, &self.memory.loose)
        } else {
            available
        };
        if total > 0.0 {
            1.0 - available / total
        } else {
            f64::NAN
        }
    }

    /// Of the fullest; as `df` counts, what only root may use is neither free nor used.
    fn filesystem_used(&self, values: &[f64]) -> f64 {
        let used = self.filesystems.iter().map(|inputs| {
            let [size, free, available] = inputs.map(|input| values[input]);
            let used = size - free;
            if used + available > 0.0 {
                used / (used + available)
            } else {
                f64::NAN
            }
        });
        used.fold(f64::NAN, f64::max)
    }
}

/// What a counter gained per second between two rows. Not-a-number where rows are missing between
/// them, where it was reset, or where they belong to different runs.
pub(crate) fn rate(before: &Sample, now: &Sample, input: usize) -> f64 {
    let elapsed_ms = now.boot_ms as f64 - before.boot_ms as f64;
    let gained = now.values[input] - before.values[input];
    let consecutive =
        before.log == now.log && elapsed_ms > 0.0 && elapsed_ms <= STEP_MS * MAX_STEPS;
    if consecutive && gained >= 0.0 {
        gained * 1_000.0 / elapsed_ms
    } else {
        f64::NAN
    }
}

fn at(values: &[f64], input: Option<usize>) -> f64 {
    input.map_or(f64::NAN, |input| values[input])
}

fn known(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

/// The sum of what is known; not-a-number where nothing is.
fn sum(values: &[f64], inputs: &[usize]) -> f64 {
    let known = inputs
        .iter()
        .map(|input| values[*input])
        .filter(|value| !value.is_nan());
    known.fold(
        f64::NAN,
        |sum, value| if sum.is_nan() { value } else { sum + value },
    )
}

fn device(series: &Series) -> Option<&str> {
    let network = series.name == "node_network_receive_bytes_total";
    series.label("device").filter(|_| network)
}

/// Whether an interface is likely one with a plug or an antenna. What goes through bridges,
/// bonds, tunnels and VLANs goes through one of those as well, and would be counted twice.
fn is_physical(interface: &str) -> bool {
    let virtual_kinds = [
        "lo", "br", "bond", "cni", "docker", "dummy", "flannel", "ifb", "kube", "tap", "team",
        "tun", "vir", "vnet", "wg",
    ];
    !virtual_kinds.iter().any(|kind| interface.starts_with(kind)) && !interface.contains('.')
}

/// Whether a disk isn't made of others.
fn is_whole(disk: &str) -> bool {
    !["dm-", "md", "drbd", "bcache"]
        .iter()
        .any(|kind| disk.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use outlast_store::{Epoch, Origin, StoreId};

    use super::*;

    #[test]
    fn consecutive_rows_give_all_columns() {
        let (plan, schema) = machine();
        let before = sample(&plan, &schema, 0, 1_000, &FIRST);
        let now = sample(&plan, &schema, 0, 2_000, &SECOND);
        let wanted = [0.25, 0.75, 1_000.0, 500.0, 4_096.0, 0.0, 0.5, 0.9];
        assert_eq!(plan.columns_after(Some(&before), &now), wanted);
    }

    #[test]
    fn a_first_row_has_no_rates() {
        let (plan, schema) = machine();
        let now = sample(&plan, &schema, 0, 2_000, &SECOND);
        let columns = plan.columns_after(None, &now);
        assert!(columns[0].is_nan() && columns[2..6].iter().all(|value| value.is_nan()));
        assert_eq!((columns[1], columns[6], columns[7]), (0.75, 0.5, 0.9));
    }

    #[test]
    fn a_hole_or_a_new_run_has_no_rates() {
        let (plan, schema) = machine();
        let now = sample(&plan, &schema, 0, 3_000, &SECOND);
        let far = sample(&plan, &schema, 0, 1_000, &FIRST);
        let late = sample(&plan, &schema, 0, 1_500, &FIRST);
        let other_run = sample(&plan, &schema, 1, 2_000, &FIRST);
        assert!(plan.columns_after(Some(&far), &now)[2].is_nan());
        assert!(plan.columns_after(Some(&other_run), &now)[2].is_nan());
        assert!(plan.columns_after(Some(&now), &now)[2].is_nan());
        assert_eq!(plan.columns_after(Some(&late), &now)[2], 1_000.0 / 1.5);
    }

    #[test]
    fn a_counter_that_was_reset_has_no_rate() {
        let (plan, schema) = machine();
        let before = sample(&plan, &schema, 0, 1_000, &SECOND);
        let now = sample(&plan, &schema, 0, 2_000, &FIRST);
        let columns = plan.columns_after(Some(&before), &now);
        assert!(columns[2].is_nan() && columns[0].is_nan());
        assert_eq!(columns[5], 0.0);
    }

    #[test]
    fn an_offline_core_and_a_lost_interface_leave_the_others() {
        let (plan, schema) = machine();
        let before = sample(&plan, &schema, 0, 1_000, &FIRST);
        let mut second = SECOND;
        for at in [4, 5, 6, 7] {
            second[at] = f64::NAN;
        }
        let now = sample(&plan, &schema, 0, 2_000, &second);
        let columns = plan.columns_after(Some(&before), &now);
        assert_eq!(columns[0], 0.5);
        assert_eq!(columns[2], 1_000.0);
    }

    #[test]
    fn an_old_kernel_without_available_memory_has_used_memory() {
        let (plan, schema) = machine();
        let mut second = SECOND;
        second[9] = f64::NAN;
        let now = sample(&plan, &schema, 0, 2_000, &second);
        assert_eq!(plan.columns_after(None, &now)[1], 0.9);
    }

    #[test]
    fn traffic_is_not_counted_twice() {
        for name in ["eth0", "enp3s0", "wlan0", "wwan0", "end0", "venet0"] {
            assert!(is_physical(name), "{name}");
        }
        for name in [
            "lo", "docker0", "br-1a2b", "eth0.100", "virbr0", "wg0", "tun0", "bond0", "ifb1",
        ] {
            assert!(!is_physical(name), "{name}");
        }
        assert!(is_whole("sda") && is_whole("mmcblk0") && !is_whole("dm-0") && !is_whole("md127"));
    }

    #[test]
    fn an_empty_schema_shows_nothing() {
        let plan = Plan::new(&[]);
        assert_eq!(plan.inputs().len(), 0);
        assert!(plan.columns(&[]).iter().all(|value| value.is_nan()));
    }

    // Core 0: half idle, half busy. Core 1: three quarters idle, one waiting.
    const FIRST: [f64; 21] = [
        10.0, 5.0, 1.0, 0.0, 20.0, 5.0, 1.0, 0.0, 1_000.0, 300.0, 50.0, 20.0, 30.0, 7.0, 5_000.0,
        9_000.0, 0.0, 70.0, 0.5, 100.0, 19.0,
    ];
    const SECOND: [f64; 21] = [
        10.5, 5.5, 1.0, 0.0, 20.75, 5.0, 1.25, 0.0, 1_000.0, 250.0, 50.0, 20.0, 30.0, 7.0, 6_000.0,
        9_500.0, 4_096.0, 70.0, 0.5, 100.0, 19.0,
    ];

    fn machine() -> (Plan, Vec<Series>) {
        let cpu = |cpu, mode| {
            series(
                "node_cpu_seconds_total",
                &[("cpu", cpu), ("mode", mode)],
                true,
            )
        };
        let memory = |name: &str| series(&format!("node_memory_{name}_bytes"), &[], false);
        let network = |name: &str, device| {
            series(
                &format!("node_network_{name}_bytes_total"),
                &[("device", device)],
                true,
            )
        };
        let disk = |name: &str| {
            series(
                &format!("node_disk_{name}_bytes_total"),
                &[("device", "sda")],
                true,
            )
        };
        let filesystem = |name: &str| {
            series(
                &format!("node_filesystem_{name}_bytes"),
                &[("mountpoint", "/")],
                false,
            )
        };
        let schema = vec![
            cpu("0", "idle"),
            cpu("0", "user"),
            cpu("0", "iowait"),
            cpu("0", "steal"),
            cpu("1", "idle"),
            cpu("1", "user"),
            cpu("1", "iowait"),
            cpu("1", "steal"),
            memory("MemTotal"),
            memory("MemAvailable"),
            memory("MemFree"),
            memory("Buffers"),
            memory("Cached"),
            network("receive", "lo"),
            network("receive", "eth0"),
            network("transmit", "eth0"),
            disk("read"),
            disk("written"),
            series("node_load1", &[], false),
            filesystem("size"),
            filesystem("free"),
            filesystem("avail"),
        ];
        (Plan::new(&schema), schema)
    }

    fn sample(
        plan: &Plan,
        schema: &[Series],
        run: u32,
        boot_ms: u64,
        values: &[f64; 21],
    ) -> Sample {
        // 10 of 100 bytes are free for root alone.
        let all: Vec<f64> = values.iter().copied().chain([9.0]).collect();
        assert_eq!(all.len(), schema.len());
        let epoch = Epoch {
            counter: run,
            nonce: 0,
        };
        let log = LogId {
            origin: Origin([1; 32]),
            store: StoreId(2),
            epoch,
        };
        Sample {
            log,
            boot_ms,
            values: plan.inputs().map(|number| all[number]).collect(),
        }
    }

    fn series(name: &str, labels: &[(&str, &str)], counter: bool) -> Series {
        let kind = if counter { Kind::Counter } else { Kind::Gauge };
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Series {
            name: name.into(),
            labels: labels.collect(),
            unit: String::new(),
            kind,
            exponent: 0,
        }
    }
}
