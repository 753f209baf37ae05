//! Records this machine's own samples at 1 Hz: `record SECONDS FILE`.

use std::path::Path;
use std::time::{Duration, Instant};

use outlast::collect::{Collector, TunnelStats};
use outlast_tests::recording::{self, Tick};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, seconds, file] = &arguments[..] else {
        eprintln!("usage: record SECONDS FILE");
        std::process::exit(2);
    };
    let seconds: u32 = seconds.parse().expect("a whole number of seconds");
    let mut collector = Collector::new(Path::new("/"));
    let began = Instant::now();
    let mut ticks = Vec::new();
    for second in 0..seconds {
        std::thread::sleep((began + Duration::from_secs(second.into())) - Instant::now());
        let tick = collector.tick(&TunnelStats::default());
        ticks.push(Tick {
            boot_ms: began.elapsed().as_millis() as u64,
            appended: tick.appended,
            values: tick.values,
        });
    }
    recording::save(Path::new(file), &ticks).expect("write the recording");
}
