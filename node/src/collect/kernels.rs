//! The collector over the files of several kernels, and over files that no kernel writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use outlast_store::{SchemaDelta, Series};
use proptest::prelude::*;

use super::{Collector, Tick, TunnelStats, filesystem};

/// A tree below `fixtures`, series with their values (`None`: known and not measured), series that must not be there,
/// and the mount points that count.
struct Machine {
    tree: &'static str,
    values: &'static [(&'static str, Option<f64>)],
    absent: &'static [&'static str],
    mounts: &'static [&'static str],
}

const MACHINES: [Machine; 5] = [
    Machine {
        tree: "linux-3.10-server",
        values: &[
            (r#"node_cpu_seconds_total{cpu="1",mode="user"}"#, Some(4.5)),
            (
                r#"node_cpu_seconds_total{cpu="0",mode="softirq"}"#,
                Some(0.03),
            ),
            ("node_intr_total", Some(123_456.0)),
            ("node_procs_blocked", Some(2.0)),
            ("node_memory_MemTotal_bytes", Some(16_268_500.0 * 1_024.0)),
            ("node_memory_MemAvailable_bytes", None),
            ("node_memory_AnonHugePages_bytes", Some(2_048.0 * 1_024.0)),
            ("node_vmstat_pgmajfault", Some(70.0)),
            ("node_vmstat_oom_kill", None),
            (
                r#"node_disk_written_bytes_total{device="sdb"}"#,
                Some(160_008.0 * 512.0),
            ),
            (r#"node_disk_io_now{device="sdb"}"#, Some(1.0)),
            (
                r#"node_disk_read_bytes_total{device="md0"}"#,
                Some(24_000.0 * 512.0),
            ),
            (
                r#"node_disk_io_time_weighted_seconds_total{device="dm-0"}"#,
                Some(1.55),
            ),
            (r#"node_disk_discards_completed_total{device="sda"}"#, None),
            (r#"node_disk_flush_requests_total{device="sda"}"#, None),
            (
                r#"node_network_receive_bytes_total{device="bond0"}"#,
                Some(5_000.0),
            ),
            // Beyond what a sample can hold: absent, not wrapped.
            (r#"node_network_receive_bytes_total{device="em1"}"#, None),
            (
                r#"node_network_transmit_errs_total{device="em1"}"#,
                Some(4.0),
            ),
            (
                r#"node_network_speed_bytes{device="bond0"}"#,
                Some(250_000_000.0),
            ),
            (r#"node_network_up{device="lo"}"#, Some(0.0)),
            (
                r#"container_memory_usage_bytes{container="0123456789ab",runtime="docker"}"#,
                Some(9_000_000.0),
            ),
            (r#"node_md_disks{device="md1",state="failed"}"#, Some(1.0)),
            ("node_netstat_Tcp_OutRsts", Some(30.0)),
            ("node_netstat_Udp_RcvbufErrors", Some(35.0)),
            ("node_netstat_TcpExt_ListenDrops", Some(7.0)),
            ("node_netstat_TcpExt_TCPReqQFullDrop", Some(10.0)),
            ("node_netstat_TcpExt_TCPSynRetrans", None),
            ("node_netstat_IpExt_OutOctets", Some(16.0)),
            ("node_softnet_processed_total", Some(30.0)),
            ("node_softnet_dropped_total", Some(1.0)),
            ("node_sockstat_TCP_tw", Some(33.0)),
            ("node_sockstat_TCP6_inuse", None),
            ("node_netstat_Udp6_InDatagrams", None),
            ("node_nf_conntrack_entries", Some(1_500.0)),
            ("node_nf_conntrack_entries_limit", Some(65_536.0)),
            ("node_nf_conntrack_stat_drop", Some(18.0)),
            ("node_nf_conntrack_stat_search_restart", Some(24.0)),
            ("node_pressure_cpu_waiting_seconds_total", None),
            ("node_load1", Some(12.05)),
            ("node_processes_threads", Some(1_234.0)),
            ("outlast_uptime_seconds", Some(8_640_000.12)),
            ("node_boot_time_seconds", Some(1_400_000_000.0)),
        ],
        absent: &["sda1", "sr0"],
        mounts: &["/", "/boot", "/srv/my data"],
    },
    Machine {
        tree: "linux-4.19-board",
        values: &[
            (r#"node_cpu_seconds_total{cpu="3",mode="idle"}"#, Some(30.0)),
            (
                r#"node_cpu_seconds_total{cpu="0",mode="softirq"}"#,
                Some(0.12),
            ),
            ("node_memory_MemAvailable_bytes", Some(650_000.0 * 1_024.0)),
            ("node_memory_SwapTotal_bytes", Some(509_044.0 * 1_024.0)),
            ("node_memory_Unevictable_bytes", None),
            ("node_vmstat_oom_kill", Some(1.0)),
            (
                r#"node_disk_read_bytes_total{device="mmcblk0"}"#,
                Some(400_000.0 * 512.0),
            ),
            (
                r#"node_disk_discards_completed_total{device="mmcblk0"}"#,
                Some(0.0),
            ),
            (r#"node_disk_flush_requests_total{device="mmcblk0"}"#, None),
            (
                r#"node_network_receive_bytes_total{device="wlan0"}"#,
                Some(4_294_967_300.0),
            ),
            (
                r#"node_network_receive_drop_total{device="wlan0"}"#,
                Some(17.0),
            ),
            (r#"node_network_up{device="eth0"}"#, Some(0.0)),
            (r#"node_network_carrier{device="eth0"}"#, None),
            (r#"node_processes_state{state="S"}"#, Some(2.0)),
            (r#"node_processes_state{state="Z"}"#, Some(1.0)),
            (r#"outlast_process_count{comm="my (odd) app"}"#, Some(1.0)),
            (r#"outlast_process_read_bytes_total{comm="init"}"#, None),
            ("node_processes_max_processes", Some(32_768.0)),
            ("node_load15", Some(0.05)),
            ("node_boot_time_seconds", Some(1_262_304_007.0)),
        ],
        absent: &["cpu=\"2\"", "mmcblk0p1", "mmcblk0boot0", "zram0"],
        mounts: &["/", "/boot"],
    },
    Machine {
        tree: "linux-5.10-pi",
        values: &[
            ("node_memory_SwapTotal_bytes", Some(0.0)),
            ("node_memory_Active_bytes", None),
            ("node_memory_SUnreclaim_bytes", Some(30_000.0 * 1_024.0)),
            ("node_vmstat_oom_kill", Some(0.0)),
            (
                r#"node_disk_discarded_bytes_total{device="mmcblk0"}"#,
                Some(4_096.0 * 512.0),
            ),
            (
                r#"node_disk_flush_requests_total{device="mmcblk0"}"#,
                Some(17.0),
            ),
            (
                r#"node_disk_flush_requests_time_seconds_total{device="mmcblk0"}"#,
                Some(0.1),
            ),
            (r#"node_network_up{device="eth0"}"#, Some(0.0)),
            (r#"node_network_carrier{device="eth0"}"#, Some(0.0)),
            (r#"node_network_speed_bytes{device="eth0"}"#, None),
            ("node_pressure_cpu_waiting_seconds_total", Some(1.000_001)),
            (
                "node_pressure_memory_waiting_seconds_total",
                Some(2.000_002),
            ),
            ("node_pressure_io_stalled_seconds_total", Some(3.000_003)),
            ("node_pressure_irq_stalled_seconds_total", None),
            ("outlast_uptime_seconds", Some(4.07)),
            ("node_boot_time_seconds", Some(8.0)),
        ],
        absent: &["mmcblk0p1", "conntrack"],
        mounts: &["/"],
    },
    Machine {
        tree: "linux-6.1-container",
        values: &[
            (r#"node_cpu_seconds_total{cpu="7",mode="user"}"#, Some(0.01)),
            (
                r#"node_cpu_seconds_total{cpu="7",mode="steal"}"#,
                Some(0.08),
            ),
            (
                r#"node_cpu_guest_seconds_total{cpu="7",mode="nice"}"#,
                Some(0.1),
            ),
            ("node_memory_MemFree_bytes", Some(1_000_000.0 * 1_024.0)),
            ("node_memory_Slab_bytes", None),
            ("node_vmstat_pgpgin", None),
            ("process_resident_memory_bytes", None),
            (
                r#"node_network_receive_bytes_total{device="eth0"}"#,
                Some(9_000.0),
            ),
            (
                r#"node_network_speed_bytes{device="eth0"}"#,
                Some(1_250_000_000.0),
            ),
            ("node_procs_running", Some(4.0)),
            ("node_load5", Some(1.0)),
        ],
        absent: &["node_disk", "cpu=\"0\""],
        mounts: &["/", "/etc/hosts"],
    },
    Machine {
        tree: "linux-6.12-laptop",
        values: &[
            (
                r#"node_cpu_seconds_total{cpu="16",mode="iowait"}"#,
                Some(1.5),
            ),
            (
                r#"node_cpu_guest_seconds_total{cpu="16",mode="user"}"#,
                Some(7.5),
            ),
            // The one is more than a sample holds, the other more than 64 bits.
            ("node_intr_total", None),
            ("node_context_switches_total", None),
            ("node_forks_total", Some(99_999.0)),
            ("node_memory_Mlocked_bytes", Some(65_536.0)),
            ("node_memory_AnonHugePages_bytes", Some(1_073_741_824.0)),
            ("node_vmstat_pgfault", Some(9_999_999_999.0)),
            (
                r#"node_disk_written_bytes_total{device="nvme0n1"}"#,
                Some(49_152_000_000.0),
            ),
            (r#"node_disk_io_now{device="nvme0n1"}"#, Some(3.0)),
            (
                r#"node_disk_flush_requests_total{device="nvme0n1"}"#,
                Some(60_000.0),
            ),
            (
                r#"node_disk_reads_completed_total{device="nvme1n1"}"#,
                Some(0.0),
            ),
            (
                r#"node_disk_reads_completed_total{device="dm-0"}"#,
                Some(900_000.0),
            ),
            (
                r#"node_network_transmit_bytes_total{device="wlp0s20f3"}"#,
                Some(12_345_678_901.0),
            ),
            (r#"node_network_speed_bytes{device="wlp0s20f3"}"#, None),
            (
                r#"node_network_speed_bytes{device="tun-é"}"#,
                Some(1_250_000.0),
            ),
            (
                r#"container_cpu_usage_seconds_total{container="0123456789ab",runtime="podman"}"#,
                Some(1.5),
            ),
            (
                r#"node_hwmon_temp_celsius{chip="coretemp",sensor="temp1"}"#,
                Some(61.0),
            ),
            (r#"node_power_supply_online{power_supply="AC"}"#, Some(0.0)),
            (
                r#"node_zfs_zpool_state{state="degraded",zpool="tank"}"#,
                Some(1.0),
            ),
            ("node_netstat_Ip6_InOctets", Some(7_000.0)),
            ("node_netstat_Udp6_RcvbufErrors", Some(5.0)),
            ("node_netstat_Udp6_NoPorts", None),
            ("node_sockstat_UDP6_inuse", Some(4.0)),
            ("node_pressure_cpu_waiting_seconds_total", Some(5.0)),
            ("node_pressure_irq_stalled_seconds_total", Some(7.0)),
            ("node_load1", Some(100.99)),
            ("node_processes_threads", Some(2_500.0)),
            ("outlast_uptime_seconds", Some(1_234_567.89)),
        ],
        absent: &["nvme0n1p1", "loop0", "veth", "cpu=\"1\""],
        mounts: &["/", "/boot/efi", "/tank"],
    },
];

const FILES: [&str; 18] = [
    "proc/stat",
    "proc/meminfo",
    "proc/vmstat",
    "proc/diskstats",
    "proc/net/dev",
    "proc/mounts",
    "proc/loadavg",
    "proc/uptime",
    "proc/self/statm",
    "proc/net/snmp",
    "proc/net/netstat",
    "proc/net/snmp6",
    "proc/net/sockstat",
    "proc/net/softnet_stat",
    "proc/net/stat/nf_conntrack",
    "proc/sys/net/netfilter/nf_conntrack_count",
    "proc/pressure/cpu",
    "proc/pressure/irq",
];

#[test]
fn each_kernel_gives_just_what_it_says() {
    for machine in MACHINES {
        let root = tree(machine.tree);
        let seen = values(&Collector::new(&root).settle());
        for (series, value) in machine.values {
            let found = seen.get(*series).copied().flatten();
            assert_eq!(found, *value, "{series} of {}", machine.tree);
        }
        for name in machine.absent {
            let there: Vec<_> = seen
                .iter()
                .filter(|(series, _)| series.contains(name))
                .collect();
            assert!(there.is_empty(), "{there:?} of {}", machine.tree);
        }
        let mounts = fs::read(root.join("proc/mounts")).unwrap();
        let mounts = filesystem::parse(&mounts);
        let mounts: Vec<_> = mounts
            .iter()
            .map(|mount| mount.mountpoint.as_str())
            .collect();
        assert_eq!(mounts, machine.mounts, "{}", machine.tree);
    }
}

#[test]
fn every_prefix_of_a_file_is_taken_and_what_is_cut_off_is_absent() {
    for machine in MACHINES {
        let root = copy(machine.tree);
        let mut collector = Collector::new(root.path());
        let whole = values(&collector.settle());
        for file in FILES {
            let path = root.path().join(file);
            let Ok(text) = fs::read(&path) else { continue };
            for tenth in 0..10 {
                fs::write(&path, &text[..text.len() * tenth / 10]).unwrap();
                let tick = collector.tick(&TunnelStats::default());
                assert!(tick.values.len() >= whole.len(), "a number was given twice");
            }
            fs::write(&path, &text).unwrap();
        }
        let mut fresh = Collector::new(root.path());
        assert_eq!(settle(&values(&fresh.settle())), settle(&whole));
    }
}

#[test]
fn a_counter_that_goes_back_is_told_as_it_is() {
    let root = copy("linux-5.10-pi");
    let mut collector = Collector::new(root.path());
    let first = collector.tick(&TunnelStats::default());
    let at = first
        .appended
        .iter()
        .position(|series| {
            series.to_string() == r#"node_network_receive_bytes_total{device="eth0"}"#
        })
        .expect("it has an interface");
    let dev = root.path().join("proc/net/dev");
    let text = fs::read_to_string(&dev).unwrap();

    fs::write(&dev, text.replace("1000 10", "7 1")).unwrap();

    let second = collector.tick(&TunnelStats::default());
    assert_eq!(
        (first.values[at], second.values[at]),
        (Some(1_000), Some(7))
    );
    fs::write(&dev, text.replace("1000 10", "-7 1")).unwrap();
    assert_eq!(
        collector.tick(&TunnelStats::default()).values[at],
        None,
        "never below zero"
    );
    fs::remove_file(&dev).unwrap();
    fs::create_dir(&dev).unwrap();
    let mut other = Collector::new(root.path());
    let tick = other.tick(&TunnelStats::default());
    assert!(
        tick.appended
            .iter()
            .all(|series| !series.name.starts_with("node_network"))
    );
}

#[test]
fn a_file_without_end_is_absent_and_costs_four_megabytes_at_most() {
    let root = copy("linux-5.10-pi");
    let line = b"  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n";
    let long = line.repeat((10 << 20) / line.len());
    for file in FILES {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &long).unwrap();
    }
    let tick = Collector::new(root.path()).tick(&TunnelStats::default());
    let names: Vec<_> = present(&tick).map(|series| series.name.clone()).collect();
    for source in [
        "node_network",
        "node_disk",
        "node_memory",
        "node_cpu_seconds",
        "node_load",
        "node_vmstat",
        "node_netstat",
        "node_softnet",
    ] {
        assert!(
            !names.iter().any(|name| name.starts_with(source)),
            "{source}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_in_any_file_cost_that_file_at_most(
        file in 0..FILES.len(),
        garbage in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            prop::collection::vec(prop::sample::select(&b"cpu0123456789: \n\tsdaeth()-kB\xff\\"[..]), 0..4_000),
        ],
        at in any::<prop::sample::Index>(),
    ) {
        let root = copy("linux-6.12-laptop");
        let path = root.path().join(FILES[file]);
        let Ok(text) = fs::read(&path) else {
            return Ok(());
        };
        let at = at.index(text.len());
        fs::write(&path, [&text[..at], &garbage, &text[at..]].concat()).unwrap();
        let mut collector = Collector::new(root.path());
        let first = collector.tick(&TunnelStats::default());
        fs::write(&path, &garbage).unwrap();
        let second = collector.tick(&TunnelStats::default());
        prop_assert_eq!(second.values.len(), first.values.len() + second.appended.len());
        let delta = SchemaDelta { parent: None, appended: first.appended };
        prop_assert_eq!(delta.check(), Ok(()));
    }
}

/// Series by their text, with what this tick measured.
fn values(tick: &Tick) -> BTreeMap<String, Option<f64>> {
    let series = tick.appended.iter().zip(&tick.values);
    series
        .map(|(series, value)| {
            (
                series.to_string(),
                value.map(|integer| series.value(integer)),
            )
        })
        .collect()
}

/// What doesn't change between two ticks: not what this process says of itself.
fn settle(values: &BTreeMap<String, Option<f64>>) -> BTreeMap<&String, &Option<f64>> {
    let own = |series: &str| {
        ["process_", "outlast_collect", "outlast_source"]
            .iter()
            .any(|own| series.starts_with(own))
    };
    values
        .iter()
        .filter(|(series, _)| !own(series) && !series.starts_with("node_filesystem"))
        .collect()
}

fn present(tick: &Tick) -> impl Iterator<Item = &Series> {
    let series = tick.appended.iter().zip(&tick.values);
    series
        .filter(|(_, value)| value.is_some())
        .map(|(series, _)| series)
}

fn tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// A tree that a test may write in.
fn copy(name: &str) -> tempfile::TempDir {
    fn all(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                all(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    all(&tree(name), dir.path());
    dir
}
