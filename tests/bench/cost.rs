//! CPU and resident memory of a node at 1 Hz with two peers and no open page, and of
//! `prometheus-node-exporter` scraped once a second, both over the same 60 s.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outlast_tests::{Killed, Usage, World};

use crate::OUTLAST;

/// How long both are watched.
const WATCHED: Duration = Duration::from_secs(60);

/// How long everything runs first, so that start-up isn't counted.
const SETTLING: Duration = Duration::from_secs(20);

pub(crate) fn measure() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b", "c"]);
    world
        .node(0)
        .wait_alive(&["b", "c"], Duration::from_secs(20));
    let exporter = Exporter::start();
    std::thread::sleep(SETTLING);

    let node = world.node(0).pid().expect("the node is up");
    let before = [Usage::of(node), Usage::of(exporter.pid())];
    let began = Instant::now();
    std::thread::sleep(WATCHED);
    let seconds = began.elapsed().as_secs_f64();
    let after = [Usage::of(node), Usage::of(exporter.pid())];

    println!("\ncost over {seconds:.0} s at 1 Hz     cpu % of a core   resident MiB   wake-ups/s");
    let names = ["outlast, two peers, no page", "node_exporter, scraped"];
    for (name, (before, after)) in names.iter().zip(before.iter().zip(&after)) {
        println!(
            "{name:30} {:16.2} {:14.1} {:12.1}",
            (after.cpu_s - before.cpu_s) / seconds * 100.0,
            after.resident_bytes / 1_048_576.0,
            (after.wakeups - before.wakeups) / seconds,
        );
    }
    let series = world.node(0).json(&["status"])["store"]["series"].clone();
    println!(
        "series held: {series}; samples a scrape of node_exporter: {}",
        exporter.samples()
    );
}

/// node_exporter with its default collectors, and a thread that scrapes it each second.
struct Exporter {
    process: Killed,
    address: String,
    ended: Arc<AtomicBool>,
}

impl Exporter {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let process = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start prometheus-node-exporter; `make bench` installs it");
        let ended = Arc::new(AtomicBool::new(false));
        let (scraped, stop) = (address.clone(), Arc::clone(&ended));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                drop(scrape(&scraped));
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Self {
            process: Killed(process),
            address,
            ended,
        }
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn samples(&self) -> usize {
        let text = scrape(&self.address).expect("node_exporter answers");
        text.lines()
            .filter(|line| line.starts_with("node_"))
            .count()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn scrape(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
