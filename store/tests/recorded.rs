//! What real numbers cost: blocks and delta rows of two minutes of a real machine, held to a number of bytes.
//!
//! `fixtures/proc.tsv.zst` is a zstd frame over text: a line of series names, then one line a second with the boot time in
//! milliseconds and the integers of `/proc/stat`, `/proc/meminfo`, `/proc/diskstats` and `/proc/net/dev` (a two-core
//! virtual machine busy compiling; 156 series of which 67 change; loop and ifb devices left out). To record another:
//! `cargo test -p outlast-store --test recorded -- --ignored record`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use outlast_store::{
    Block, Clock, ClockSource, Draft, Epoch, LogId, Origin, Row, SchemaHash, StoreId,
};
use std::fs;
use std::time::Duration;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/proc.tsv.zst");
/// In the fixture: 120 rows.
const SAMPLES: u64 = 18_720;
/// What its two blocks may take, heads, signatures and checksums included: 0.36 B/sample.
const BLOCK_BYTES: u64 = 6_750;
/// What a row against a key row of the same ten seconds may take on average, signature included.
const DELTA_BYTES: usize = 172;
/// What a whole row may take on average, signature included.
const WHOLE_BYTES: usize = 495;

#[test]
fn a_block_of_a_recorded_minute_stays_small() {
    let rows = recorded();
    let (mut bytes, mut samples) = (0, 0);
    for minute in rows.chunks_exact(60) {
        let block = Draft::build(minute).unwrap().seal(&|_| [0xa5; 64]);
        let encoded = block.encode();
        assert_eq!(Block::read(&encoded).unwrap().rows(), minute);
        samples += block.samples();
        // A real signature doesn't compress, and isn't compressed here either.
        bytes += encoded.len() as u64;
    }
    assert_eq!(samples, SAMPLES);
    assert!(bytes <= BLOCK_BYTES, "{bytes} bytes for {samples} samples");
}

#[test]
fn delta_rows_of_a_recorded_minute_stay_small() {
    let rows = recorded();
    let (mut deltas, mut whole, mut count) = (0, 0, 0);
    for ten in rows.chunks_exact(10) {
        for row in &ten[1..] {
            let signed = row.clone().sign(&|_| [0xa5; 64]);
            deltas += signed.delta(&ten[0]).len();
            whole += signed.encode().len();
            count += 1;
        }
    }
    let (delta, whole) = (deltas / count, whole / count);
    assert!(delta <= DELTA_BYTES, "{delta} bytes");
    assert!(whole <= WHOLE_BYTES, "{whole} bytes");
}

#[test]
#[ignore = "reads this machine for two minutes and rewrites the fixture"]
fn record() {
    let mut text = String::new();
    for second in 0..121 {
        let (names, values): (Vec<_>, Vec<_>) = read_proc().into_iter().unzip();
        if second == 0 {
            text += &format!("boot_ms\t{}\n", names.join("\t"));
        }
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let boot_ms = uptime.split('.').next().unwrap().to_owned() + "000";
        text += &format!("{boot_ms}\t{}\n", values.join("\t"));
        std::thread::sleep(Duration::from_millis(998));
    }
    fs::write(FIXTURE, zstd::bulk::compress(text.as_bytes(), 19).unwrap()).unwrap();
}

/// The fixture as 120 rows, values in the units of `/proc`.
fn recorded() -> Vec<Row> {
    let text = zstd::bulk::decompress(&fs::read(FIXTURE).unwrap(), 1 << 20).unwrap();
    let text = String::from_utf8(text).unwrap();
    let rows = (1..).zip(text.lines().skip(1)).map(|(seq, line)| {
        let mut numbers = line
            .split('\t')
            .map(|number| number.parse::<i64>().unwrap());
        Row {
            log: LogId {
                origin: Origin([1; 32]),
                store: StoreId(2),
                epoch: Epoch {
                    counter: 3,
                    nonce: 4,
                },
            },
            seq,
            schema: SchemaHash([5; 32]),
            boot_ms: numbers.next().unwrap() as u64,
            clock: Clock {
                offset_ms: 1_700_000_000_000,
                uncertainty_ms: 1,
                source: ClockSource::Ntp,
            },
            values: numbers.map(Some).collect(),
        }
    });
    rows.take(120).collect()
}

fn read_proc() -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut add = |name: String, value: &str| out.push((name, value.to_owned()));
    for line in fs::read_to_string("/proc/stat").unwrap().lines() {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap();
        let most = if key == "intr" { 1 } else { 11 };
        for (i, value) in words.take(most).enumerate() {
            if key != "cpu" && key != "btime" {
                add(format!("stat.{key}.{i}"), value);
            }
        }
    }
    for line in fs::read_to_string("/proc/meminfo").unwrap().lines() {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap().trim_end_matches(':');
        add(format!("meminfo.{key}"), words.next().unwrap());
    }
    for (file, key_at, skip) in [("diskstats", 2, 0), ("net/dev", 0, 2)] {
        for line in fs::read_to_string(format!("/proc/{file}"))
            .unwrap()
            .lines()
            .skip(skip)
        {
            let mut words = line.split_whitespace().skip(key_at);
            let key = words.next().unwrap().trim_end_matches(':');
            for (i, value) in words.enumerate() {
                if !key.starts_with("loop") && !key.starts_with("ifb") {
                    add(format!("{file}.{key}.{i}"), value);
                }
            }
        }
    }
    out
}
