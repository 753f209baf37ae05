//! The whole collector over recorded files, and what it costs over the real ones.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use outlast_store::{Schema, SchemaDelta};

use super::*;

/// The sources that read a file which every machine has.
const FILES: [&str; 6] = ["cpu", "load", "memory", "network", "uptime", "own"];

#[test]
fn the_series_of_a_recorded_machine_make_a_schema() {
    let (series, tick) = settled(&fixture());
    let delta = SchemaDelta {
        parent: None,
        appended: series.clone(),
    };
    let schema = Schema::extend(None, &delta).unwrap();
    assert_eq!(schema.series.len(), tick.values.len());
    assert!(series.len() > 100, "{}", series.len());
}

#[test]
fn values_stand_at_the_numbers_of_their_series() {
    let (series, tick) = settled(&fixture());
    let value = |wanted: &str| {
        let at = series
            .iter()
            .position(|series| series.to_string() == wanted);
        let at = at.unwrap_or_else(|| panic!("no series {wanted}"));
        tick.values[at].map(|integer| series[at].value(integer))
    };
    let near = |wanted: &str, number: f64| assert_eq!(value(wanted), Some(number), "{wanted}");
    near(r#"node_cpu_seconds_total{cpu="1",mode="idle"}"#, 800.08);
    near("node_load1", 0.39);
    near("node_procs_running", 2.0);
    near("node_memory_MemTotal_bytes", 24_684_092.0 * 1024.0);
    near(
        r#"node_disk_written_bytes_total{device="vda"}"#,
        22_609_680.0 * 512.0,
    );
    near(r#"node_disk_io_time_seconds_total{device="vda"}"#, 13.856);
    near(
        r#"node_network_receive_bytes_total{device="eth0"}"#,
        450_135_494.0,
    );
    near(r#"node_network_up{device="eth0"}"#, 1.0);
    near("node_boot_time_seconds", 1_795_407_280.0);
    near("outlast_uptime_seconds", 1304.71);
    near("outlast_series_refused", 0.0);
    assert_eq!(value(r#"node_network_speed_bytes{device="eth0"}"#), None);
}

#[test]
fn a_source_that_fails_is_absent_and_never_zero() {
    let root = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(root.path());
    let tick = collector.settle();
    let present = tick
        .appended
        .iter()
        .zip(&tick.values)
        .filter(|(_, value)| value.is_some());
    let names: BTreeSet<_> = present.map(|(series, _)| series.name.as_str()).collect();
    let wanted = [
        "node_os_info",
        "node_uname_info",
        "outlast_collect_duration_seconds",
        "outlast_collect_overruns_total",
        "outlast_series_refused",
        "outlast_source_duration_seconds",
        "outlast_source_ok",
        "process_cpu_seconds_total",
    ];
    assert_eq!(names, wanted.into());
    let sources = collector.sources().list();
    let failed: Vec<_> = sources
        .iter()
        .filter(|source| source.error.is_some())
        .map(|source| source.name)
        .collect();
    assert_eq!(failed, FILES);
}

#[test]
fn on_a_recorded_machine_no_source_fails() {
    let mut collector = Collector::new(&fixture());
    collector.settle();
    for source in collector.sources().list() {
        assert_eq!(source.error, None, "{}", source.name);
    }
}

#[test]
fn an_interface_that_vanishes_and_returns_keeps_its_number() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/net")).unwrap();
    let dev = root.path().join("proc/net/dev");
    let mut collector = Collector::new(root.path());
    let mut received = |text: &str| {
        std::fs::write(&dev, text).unwrap();
        let tick = collector.tick(&TunnelStats::default());
        let new = tick.appended.iter();
        let new = new.filter(|series| series.name.starts_with("node_network"));
        (new.count(), tick.values)
    };
    let (first, values) = received("eth0: 7\n");
    let at = values.iter().position(|value| *value == Some(7)).unwrap();
    assert_eq!(first, 11);
    let (second, values) = received("\n");
    assert_eq!((second, values[at]), (0, None));
    let (third, values) = received("eth1: 9\neth0: 8\n");
    assert_eq!((third, values[at]), (11, Some(8)));
}

#[test]
#[ignore = "measures: run with --release --nocapture"]
fn what_a_thousand_ticks_cost() {
    let mut collector = Collector::new(Path::new("/"));
    let stats = TunnelStats::default();
    let series = collector.tick(&stats).values.len();
    let start = spent();
    for _ in 0..1_000 {
        std::hint::black_box(collector.tick(&stats));
    }
    let hot = spent() - start;
    // With a second between them the caches are cold, as they are in life.
    let start = spent();
    for _ in 0..30 {
        std::thread::sleep(Duration::from_secs(1));
        std::hint::black_box(collector.tick(&stats));
    }
    let percent = (spent() - start).as_secs_f64() / 30.0 * 100.0;
    println!("{series} series, 1,000 ticks: {hot:?}; at 1 Hz {percent:.3} % of a core");
    assert!(percent < 0.2);
}

fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Ticks until what is measured aside is there too.
fn settled(root: &Path) -> (Vec<Series>, Tick) {
    let tick = Collector::new(root).settle();
    (tick.appended.clone(), tick)
}

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/here")
}
