//! CPU and resident memory of a node at 1 Hz with two peers and no open page, and of
//! `prometheus-node-exporter` scraped once a second, both over the same 60 s.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outlast_tests::World;

use crate::OUTLAST;

/// How long both are watched.
const WATCHED: Duration = Duration::from_secs(60);

/// How long everything runs first, so that start-up isn't counted.
const SETTLING: Duration = Duration::from_secs(20);

/// Clock ticks a second in /proc/PID/stat: 100 on every Linux architecture we build for.
const TICKS: f64 = 100.0;

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
            (after.cpu_ticks - before.cpu_ticks) / TICKS / seconds * 100.0,
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

/// What a process has used since its start.
struct Usage {
    cpu_ticks: f64,
    resident_bytes: f64,
    wakeups: f64,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let stat = read(&format!("/proc/{pid}/stat"));
        // The name may hold spaces; fields are counted after its closing bracket.
        let fields: Vec<_> = stat[stat.rfind(')').expect("a name") + 2..]
            .split(' ')
            .collect();
        let number = |index: usize| fields[index].parse::<f64>().expect("a number");
        let resident_pages = number(21);
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
        let wakeups = tasks
            .flatten()
            .map(|task| voluntary_switches(&task.path()))
            .sum();
        Self {
            cpu_ticks: number(11) + number(12),
            resident_bytes: resident_pages * rustix::param::page_size() as f64,
            wakeups,
        }
    }
}

fn voluntary_switches(task: &std::path::Path) -> f64 {
    let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or_default()
}

/// node_exporter with its default collectors, and a thread that scrapes it each second.
struct Exporter {
    process: Child,
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
            process,
            address,
            ended,
        }
    }

    fn pid(&self) -> u32 {
        self.process.id()
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
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn scrape(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}
