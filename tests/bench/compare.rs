//! The same samples in Prometheus and in VictoriaMetrics, as Debian ships them, counted as `disk` counts ours.
//!
//! Both get the series' names and labels, the rows' times in ms and the values as decimals, without labels of a scrape.
//! Prometheus writes blocks of two hours with `promtool`: no log of what is not in a block yet, nothing of the head. VictoriaMetrics
//! is a process that imports, and then is told to merge all it has; what it takes is looked at once that stands still.
//! Absent: what they write meanwhile, memory, and questions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use outlast_store::Series;
use outlast_tests::recording::Tick;
use outlast_tests::{Killed, wait_for};
use serde_json::Value;

use crate::disk::{self, PLAYED_AT_MS};

/// The time a Prometheus block covers unless it is merged, in ms.
const BLOCK_MS: i64 = 2 * 3_600 * 1_000;

/// Rows sent to VictoriaMetrics at once.
const AT_ONCE: usize = 60;

/// Without a change for so long, what lies on the disk is final.
const STILL: Duration = Duration::from_secs(5);

/// How long it may take to get there.
const PATIENCE: Duration = Duration::from_secs(180);

/// Keeps so many rows, which have so many samples, in both.
pub(crate) fn measure(ticks: &[Tick], rows: usize, samples: usize) {
    let text = Text::of(ticks);
    type Other = fn(&Text<'_>, usize, &Path) -> (u64, Parts);
    let others: [(&str, Other); 2] = [
        ("Prometheus, blocks alone", prometheus),
        ("VictoriaMetrics, merged", victoria_metrics),
    ];
    for (name, keep) in others {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let (kept, parts) = keep(&text, rows, dir.path());
        assert_eq!(kept, samples as u64, "samples in {name}");
        let bytes: u64 = parts.values().sum();
        println!(
            "{:.3} B/sample in {name}: {bytes} B",
            bytes as f64 / samples as f64
        );
        for (name, bytes) in parts {
            println!("  {bytes:>9} B  {name}");
        }
    }
}

/// Bytes by what they are for.
type Parts = BTreeMap<String, u64>;

/// Rows as lines of text.
struct Text<'a> {
    ticks: &'a [Tick],
    /// What a line of each series begins with, and how its integers are scaled.
    series: Vec<(String, i8)>,
}

impl<'a> Text<'a> {
    fn of(ticks: &'a [Tick]) -> Self {
        let series = ticks.iter().flat_map(|tick| &tick.appended);
        let series = series.map(|series| (head(series), series.exponent));
        Self {
            ticks,
            series: series.collect(),
        }
    }

    /// When a row was taken, as `disk` plays it.
    fn wall_ms(&self, number: usize) -> i64 {
        let tick = &self.ticks[number % self.ticks.len()];
        PLAYED_AT_MS + i64::try_from(disk::boot_ms(number, tick)).expect("a time")
    }

    /// Rows as lines, with times in s as OpenMetrics has them or in ms as Prometheus' older format does.
    fn lines(&self, numbers: Range<usize>, in_seconds: bool) -> String {
        let mut out = String::new();
        for number in numbers {
            let ms = self.wall_ms(number);
            let stamp = if in_seconds {
                format!("{}.{:03}", ms / 1_000, ms % 1_000)
            } else {
                ms.to_string()
            };
            let values = &self.ticks[number % self.ticks.len()].values;
            for ((head, exponent), value) in self.series.iter().zip(values) {
                if let Some(value) = value {
                    out.push_str(head);
                    put_decimal(&mut out, *value, *exponent);
                    writeln!(out, " {stamp}").expect("memory");
                }
            }
        }
        out
    }
}

/// `name{key="value"} `, escaped.
fn head(series: &Series) -> String {
    let labels = series.labels.iter().map(|(key, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{key}=\"{}\"", value.replace('\n', "\\n"))
    });
    let labels = labels.collect::<Vec<_>>().join(",");
    format!("{}{{{labels}}} ", series.name)
}

/// An integer times a power of ten, written without rounding.
fn put_decimal(out: &mut String, integer: i64, exponent: i8) {
    let places = usize::from(exponent.unsigned_abs());
    if exponent >= 0 {
        let zeros = if integer == 0 { 0 } else { places };
        write!(out, "{integer}{}", "0".repeat(zeros)).expect("memory");
        return;
    }
    let digits = format!("{:0width$}", integer.unsigned_abs(), width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    let sign = if integer < 0 { "-" } else { "" };
    write!(out, "{sign}{whole}.{part}").expect("memory");
}

/// Writes blocks to `dir/data`; how many samples they say they have, and what all blocks' files of a name take.
fn prometheus(text: &Text<'_>, rows: usize, dir: &Path) -> (u64, Parts) {
    let (data, file) = (dir.join("data"), dir.join("samples"));
    let mut first = 0;
    while first < rows {
        let block = text.wall_ms(first) / BLOCK_MS;
        let after = (first..rows).find(|number| text.wall_ms(*number) / BLOCK_MS > block);
        let after = after.unwrap_or(rows);
        let lines = text.lines(first..after, true) + "# EOF\n";
        std::fs::write(&file, lines).expect("write samples");
        let status = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
            .args([&file, &data])
            .stdout(Stdio::null())
            .status()
            .expect("run promtool; `make bench` installs it");
        assert!(status.success(), "promtool: {status}");
        first = after;
    }
    let (mut samples, mut parts) = (0, Parts::new());
    for block in std::fs::read_dir(&data).expect("blocks").flatten() {
        let meta = std::fs::read(block.path().join("meta.json")).expect("what a block is");
        let meta: Value = serde_json::from_slice(&meta).expect("JSON");
        samples += meta["stats"]["numSamples"].as_u64().expect("a count");
        for (name, bytes) in disk::on_disk(&block.path()) {
            *parts.entry(name).or_default() += bytes;
        }
    }
    (samples, parts)
}

/// Imports and merges into `dir/data`; how many samples the process says it has, and what its folders take.
fn victoria_metrics(text: &Text<'_>, rows: usize, dir: &Path) -> (u64, Parts) {
    let data = dir.join("data");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let process = Command::new("victoria-metrics")
        .arg(format!("-httpListenAddr={address}"))
        .arg(format!("-storageDataPath={}", data.display()))
        .arg("-retentionPeriod=100y")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start victoria-metrics; `make bench` installs it");
    let _process = Killed(process);
    wait_for("VictoriaMetrics listens", PATIENCE, || {
        http(&address, "GET /health", "").map_err(|error| error.to_string())
    });
    for first in (0..rows).step_by(AT_ONCE) {
        let lines = text.lines(first..rows.min(first + AT_ONCE), false);
        http(&address, "POST /api/v1/import/prometheus", &lines).expect("imported");
    }
    for order in ["GET /internal/force_flush", "GET /internal/force_merge"] {
        http(&address, order, "").expect("obeyed");
        settle(&data);
    }
    let metrics = http(&address, "GET /metrics", "").expect("metrics");
    let counts = metrics.lines().filter_map(|line| {
        let rows = line.strip_prefix("vm_rows{type=\"storage/")?;
        rows.rsplit(' ').next()?.parse::<u64>().ok()
    });
    (counts.sum(), disk::on_disk(&data).into_iter().collect())
}

/// Waits until a directory no longer changes in size.
fn settle(data: &Path) {
    let (mut last, mut since) = (0, Instant::now());
    wait_for("VictoriaMetrics merges", PATIENCE, || {
        let bytes: u64 = disk::on_disk(data).iter().map(|(_, bytes)| bytes).sum();
        if bytes != last {
            (last, since) = (bytes, Instant::now());
        }
        if since.elapsed() >= STILL {
            Ok(())
        } else {
            Err(format!("{bytes} B"))
        }
    });
}

/// Sends a request and reads the whole answer.
fn http(address: &str, order: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{order} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') {
        Ok(answer)
    } else {
        Err(std::io::Error::other(answer))
    }
}
