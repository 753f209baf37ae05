//! A mesh larger than one in which everybody has a session with everybody: real daemons, each in a namespace of its own,
//! joined by one token.
//!
//! How long until every node sees all others alive; what a node then sends and takes a second, with Ethernet headers,
//! and uses; whether any node calls one down that lives, looked at every two seconds; how soon all know of one that was
//! killed; whether its last rows are answered by a keeper to one that keeps none of them; how old what is told of everybody
//! is. All on one machine: where the processors are the limit, times are longer than between machines; and one kernel has
//! the neighbours of all, for which its table is made larger meanwhile.

use std::time::{Duration, Instant};

use outlast_tests::{Control, Node, Traffic, Usage, World, now_ms};
use serde_json::Value;

use crate::OUTLAST;
use crate::figures::{Figures, heads};

const NODES: usize = 72;
/// How long nothing happens.
const CALM: Duration = Duration::from_secs(300);
/// How often everybody is asked what it sees.
const LOOK: Duration = Duration::from_secs(2);
/// How long a step may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn measure() {
    let _larger = Neighbours::enlarge();
    let Some(mut world) = World::in_namespaces(OUTLAST, "wd") else {
        println!("\nwide: not measured, namespaces take root");
        return;
    };
    let names: Vec<String> = (1..=NODES).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let began = Instant::now();
    world.found(&names);
    let joined_s = began.elapsed().as_secs_f64();
    let met = until("everybody sees everybody", || {
        let alive = world.nodes().iter().map(|node| count(node, "alive"));
        alive.sum::<usize>() == NODES * (NODES - 1)
    });
    println!(
        "{}",
        heads(&format!("a mesh of {NODES} daemons on one machine"))
    );
    println!(
        "{:54} {joined_s:>14.1}",
        "started and joined one after the other, s"
    );
    println!(
        "{:54} {met:>14.1}",
        "until everybody sees everybody, s after that"
    );
    rest(&world);
    killed(&mut world);
}

/// The bounds of the kernel's neighbour tables, which all namespaces share, as they were: each node has two entries for each
/// other, and beyond the usual 1,024 their packets are dropped.
struct Neighbours(Vec<(String, String)>);

impl Neighbours {
    fn enlarge() -> Self {
        let bounds = ["ipv4", "ipv6"].into_iter().flat_map(|family| {
            [3, 2, 1].map(|bound| format!("/proc/sys/net/{family}/neigh/default/gc_thresh{bound}"))
        });
        let before = bounds.filter_map(|path| {
            let before = std::fs::read_to_string(&path).ok()?;
            std::fs::write(&path, (4 * NODES * NODES).to_string()).ok()?;
            Some((path, before))
        });
        Self(before.collect())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for (path, before) in self.0.iter().rev() {
            // What can't be written back is only wider than it was.
            let _ = std::fs::write(path, before.trim());
        }
    }
}

/// Nothing happens for a while.
fn rest(world: &World) {
    let pids = || world.nodes().iter().filter_map(Node::pid);
    let read = || pids().map(|pid| (Traffic::of(pid), Usage::of(pid)));
    let (began, before) = (Instant::now(), read().collect::<Vec<_>>());
    let (mut down, mut suspect, mut looks) = (0, 0, 0);
    while began.elapsed() < CALM {
        for node in world.nodes() {
            down += count(node, "down");
            suspect += count(node, "suspect");
            looks += 1;
        }
        std::thread::sleep(LOOK);
    }
    let after: Vec<_> = read().collect();
    let seconds = began.elapsed().as_secs_f64();
    let rates = |what: fn(&(Traffic, Usage)) -> f64| {
        let both = before.iter().zip(&after);
        Figures::of(both.map(|(before, after)| (what(after) - what(before)) / seconds))
    };
    let bytes = rates(|(traffic, _)| traffic.bytes);
    let packets = rates(|(traffic, _)| traffic.packets);
    let cpu = rates(|(_, usage)| usage.cpu_s * 100.0);
    let memory = Figures::of(after.iter().map(|(_, usage)| usage.resident_bytes / 1e6));
    println!("{:54} {bytes}", "bytes a second at a node, in and out");
    println!("{:54} {packets:.1}", "packets a second");
    println!("{:54} {cpu:.1}", "% of a core");
    println!("{:54} {memory:.0}", "MB resident");
    println!(
        "{:54} {down:>14} of {looks} looks",
        format!("live ones called down in {seconds:.0} s")
    );
    println!("{:54} {suspect:>14}", "and suspect");
    let ages = world.nodes().iter().flat_map(ages);
    println!(
        "{:54} {}",
        "age of what is told of others, ms",
        Figures::of(ages)
    );
}

/// One is killed: when all know, and who answers for it.
fn killed(world: &mut World) {
    let last = NODES - 1;
    let name = world.node(last).name.clone();
    let from_ms = now_ms() - 10_000;
    world.node_mut(last).kill();
    let began = Instant::now();
    let mut known = vec![None; last];
    while known.iter().any(Option::is_none) && began.elapsed() < PATIENCE {
        for (number, known) in known.iter_mut().enumerate() {
            if known.is_none() && state(world.node(number), &name).as_deref() == Some("down") {
                *known = Some(began.elapsed().as_secs_f64());
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let seconds = Figures::of(known.into_iter().flatten());
    println!(
        "{:54} {seconds:.1}",
        "one is killed: down at all the others after, s"
    );

    let away = world.nodes()[..last].iter().find(|node| {
        let told = told(node, &name);
        told.is_some_and(|told| told["kept"] == false)
    });
    let Some(away) = away else {
        println!("{:54} {:>14}", "nobody is without its rows", "-");
        return;
    };
    let from = from_ms.to_string();
    let series = ["--series", "node_load1", "--from", &from];
    let asked = [&["query", "--node", &name][..], &series[..]].concat();
    let mut found = Value::Null;
    let seconds = until("its history through a keeper", || {
        found = away.json(&asked);
        let points = found["series"][0]["points"].as_array();
        points.is_some_and(|points| points.iter().any(|point| !point[1].is_null()))
    });
    let holders = &found["series"][0]["holders"];
    println!(
        "{:54} {seconds:>14.1}",
        "its last rows at one that keeps none of them, s"
    );
    println!("{:54} {holders}", "answered by");
}

/// Seconds until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) -> f64 {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    began.elapsed().as_secs_f64()
}

fn peers(node: &Node) -> Vec<Value> {
    let status = Control::of(node).status();
    status["peers"].as_array().cloned().unwrap_or_default()
}

fn count(node: &Node, state: &str) -> usize {
    let peers = peers(node);
    peers.iter().filter(|peer| peer["state"] == state).count()
}

fn state(node: &Node, of: &str) -> Option<String> {
    let peers = peers(node);
    let peer = peers.iter().find(|peer| peer["name"] == of)?;
    peer["state"].as_str().map(str::to_owned)
}

fn told(node: &Node, of: &str) -> Option<Value> {
    let status = Control::of(node).status();
    let told = status["summaries"].as_array()?;
    told.iter().find(|told| told["node"] == of).cloned()
}

fn ages(node: &Node) -> Vec<f64> {
    let status = Control::of(node).status();
    let told = status["summaries"].as_array().cloned().unwrap_or_default();
    told.iter()
        .filter_map(|told| told["age_ms"].as_f64())
        .collect()
}
