//! Why a node was silent: each way to be so is done to real nodes, and every node's ledger tells it, that of the node itself too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use outlast_tests::{Killed, Node, World, now_ms, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world;

/// Lost after 13 s at the earliest, known to all a moment later; the machine may be busy.
const KNOWN: Duration = Duration::from_secs(60);

const ALL: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// Where `d` and `e` stand.
const SITE: &str = "attic";

#[test]
fn every_node_tells_why_each_other_was_silent() {
    let mut world = seven();
    stopped_crashed_and_a_site_cut_off(&mut world);
    power_lost_stood_still_and_one_link_cut(&mut world);
    a_site_without_power_and_a_shutdown_too_short_to_be_seen(&mut world);
    all_tell_the_same_with_the_same_evidence(&world);
    a_node_that_is_down_answers_from_its_directory(&mut world);
}

/// Seven nodes, `d` and `e` at one site, `g` with a clock that can be set; all have heard each other.
fn seven() -> World {
    let mut world = world("ou");
    for name in ALL {
        let number = world.add(name);
        if name == "g" {
            world.node_mut(number).set_clock(0);
        }
        world.node_mut(number).up();
    }
    let token = world.node(0).run(&["init", "--name", "a", "--invite", "6"]);
    for (number, name) in ALL.iter().enumerate().skip(1) {
        world
            .node(number)
            .run_with_input(&["join", "--name", name], &token);
    }
    for name in ["d", "e"] {
        let site = format!("site={SITE}");
        world.node(0).run(&["set", name, &site]);
    }
    wait_whole(&world);
    // The life record is written, and the watch over the peers has begun.
    std::thread::sleep(Duration::from_secs(6));
    world
}

fn stopped_crashed_and_a_site_cut_off(world: &mut World) {
    let from = now_ms();
    let net = world.net.as_ref().expect("in namespaces");
    net.part(&["d", "e"]);
    world.node_mut(1).kill();
    world.node_mut(2).stop();

    let near = [0, 5, 6];
    for at in near {
        let node = world.node(at);
        let stopped = told(node, from, "c", "agent-stopped", true);
        assert!(stopped["evidence"]["goodbye_ms"].is_i64(), "{stopped}");
        let silent = told(node, from, "b", "unknown", true);
        assert!(
            observers(&silent).is_subset(&names(&["a", "f", "g"])),
            "{silent}"
        );
        told(node, from, "d", "unknown", true);
        let why = why(node, "c");
        assert!(why.starts_with("agent stopped (said goodbye "), "{why}");
        assert!(self::why(node, "b").starts_with("unreachable, heard last "));
    }
    let net = world.net.as_ref().expect("in namespaces");
    net.rejoin(&["d", "e"]);
    world.node_mut(1).up();
    world.node_mut(2).up();

    wait_whole(world);
    for node in world.nodes() {
        let crashed = told(node, from, "b", "agent-crashed", false);
        let boots = &crashed["evidence"]["boot_ids"];
        assert_eq!(boots[0], boots[1], "{crashed}");
        assert_ne!(
            crashed["evidence"]["run_ids"][0],
            crashed["evidence"]["run_ids"][1]
        );
        assert!(
            observers(&crashed).is_subset(&names(&["a", "f", "g"])),
            "{crashed}"
        );
        assert_ended(&told(node, from, "c", "agent-stopped", false));
        for name in ["d", "e"] {
            let cut = told(node, from, name, "site-link", false);
            assert_eq!(cut["evidence"]["site"], SITE);
            assert!(observers(&cut).is_subset(&names(&["a", "f", "g"])), "{cut}");
            assert_eq!(cut["evidence"]["run_ids"][0], cut["evidence"]["run_ids"][1]);
            assert_ended(&cut);
        }
        assert_eq!(
            nodes_of(node, from),
            names(&["b", "c", "d", "e"]),
            "nobody else was out"
        );
    }
}

fn power_lost_stood_still_and_one_link_cut(world: &mut World) {
    let from = now_ms();
    world.node_mut(1).kill();
    let stopped = pid(world.node(2));
    kill_process(stopped, Signal::STOP).expect("stop the daemon");
    let net = world.net.as_ref().expect("in namespaces");
    net.sever("f");
    world.node_mut(6).set_clock(7_200);
    for at in [0, 3, 4] {
        for name in ["b", "c", "f"] {
            told(world.node(at), from, name, "unknown", true);
        }
    }
    kill_process(stopped, Signal::CONT).expect("let the daemon go on");
    world.net.as_ref().expect("in namespaces").mend("f");
    world.node_mut(1).boot_anew();
    world.node_mut(1).up();

    wait_whole(world);
    for node in world.nodes() {
        let power = told(node, from, "b", "power-loss", false);
        let boots = &power["evidence"]["boot_ids"];
        assert_ne!(boots[0], boots[1], "{power}");
        assert!(power["evidence"]["booted_ms"].is_i64(), "{power}");
        let stood = told(node, from, "c", "suspend", false);
        assert_eq!(stood["evidence"]["whole_machine"], false, "{stood}");
        let cut = told(node, from, "f", "partition", false);
        assert!(
            observers(&cut).is_subset(&names(&["a", "d", "e", "g"])),
            "{cut}"
        );
        assert_eq!(cut["evidence"]["alone"]["count"], 1, "{cut}");
        let step = told(node, from, "g", "clock-step", false);
        let by = step["evidence"]["stepped_ms"].as_i64().expect("a number");
        assert!((7_190_000..7_210_000).contains(&by), "{step}");
        assert_eq!(
            nodes_of(node, from),
            names(&["b", "c", "f", "g"]),
            "nobody else was out"
        );
    }
}

fn a_site_without_power_and_a_shutdown_too_short_to_be_seen(world: &mut World) {
    let from = now_ms();
    let group = Group::new();
    for number in [3, 4] {
        world.node_mut(number).kill();
        world.node_mut(number).boot_anew();
    }
    world.node_mut(1).stop();
    world.node_mut(1).boot_anew();
    world.node_mut(5).stop();
    if let Some(group) = &group {
        world.node_mut(5).put_in(&group.0);
    }
    for number in [3, 4, 1, 5] {
        world.node_mut(number).up();
    }
    wait_whole(world);
    for node in world.nodes() {
        for name in ["d", "e"] {
            let dark = told(node, from, name, "site-power", false);
            assert_eq!(dark["evidence"]["site"], SITE);
        }
        let down = told(node, from, "b", "shutdown", false);
        assert!(down["evidence"]["goodbye_ms"].is_i64(), "{down}");
        told(node, from, "f", "agent-stopped", false);
    }
    let Some(group) = group else {
        eprintln!(
            "no memory control group of version 1: nothing is killed for want of memory here"
        );
        return;
    };
    let from = now_ms();
    // Its last record holds the count from before.
    std::thread::sleep(Duration::from_secs(6));
    group.run_out(world.node_mut(5));
    world.node_mut(5).up();
    wait_whole(world);
    for node in world.nodes() {
        let killed = told(node, from, "f", "agent-crashed", false);
        let own = &killed["evidence"]["oom_kills"]["own"];
        assert!(own[1].as_u64() > own[0].as_u64(), "{killed}");
    }
    // The group goes once nobody is in it.
    world.node_mut(5).stop();
}

fn all_tell_the_same_with_the_same_evidence(world: &World) {
    let up = || world.nodes().iter().filter(|node| node.pid().is_some());
    let list = wait_for("the same list on every node", KNOWN, || {
        let lists: BTreeSet<String> = up()
            .map(|node| node.json(&["outages"]).to_string())
            .collect();
        match lists.len() {
            1 => Ok(lists.into_iter().next().unwrap_or_default()),
            _ => Err(lists.into_iter().collect::<Vec<_>>().join("\n")),
        }
    });
    let list: Vec<Value> = serde_json::from_str(&list).expect("a list");
    // Who was silent for long was missed by others, and that is on record wherever one looks.
    for (name, verdict) in [
        ("b", "agent-crashed"),
        ("d", "site-link"),
        ("e", "site-link"),
        ("b", "power-loss"),
        ("c", "suspend"),
        ("f", "partition"),
    ] {
        let found = list
            .iter()
            .find(|one| one["node"] == name && one["verdict"] == verdict);
        let found = found.unwrap_or_else(|| panic!("no {verdict} of {name}"));
        assert!(observers(found).len() >= 2, "{found}");
    }
}

fn a_node_that_is_down_answers_from_its_directory(world: &mut World) {
    let running = verdicts(world.node(1));
    world.node_mut(1).stop();
    let stored = verdicts(world.node(1));
    let kept = running.iter().all(|one| stored.contains(one));
    assert!(kept && !running.is_empty(), "{running:?} {stored:?}");
    let words = world.node(1).run(&["outages", "--node", "c"]);
    assert!(
        words.contains("c stood still (the agent, not the machine) at "),
        "{words}"
    );
}

fn wait_whole(world: &World) {
    for (at, name) in ALL.iter().enumerate() {
        let others: Vec<&str> = ALL.into_iter().filter(|other| other != name).collect();
        world.node(at).wait_alive(&others, KNOWN);
    }
}

/// Waits until a node tells this of another, and returns it.
fn told(node: &Node, from: i64, of: &str, verdict: &str, provisional: bool) -> Value {
    wait_for(
        &format!("{} telling {verdict} of {of}", node.name),
        KNOWN,
        || {
            let all = since(node, from);
            let found = all.iter().find(|one| {
                one["node"] == of && one["verdict"] == verdict && one["provisional"] == provisional
            });
            found.cloned().ok_or_else(|| format!("{all:#?}"))
        },
    )
}

/// What began after a moment; a record may be 10 s older than what ended the run.
fn since(node: &Node, from: i64) -> Vec<Value> {
    let all = node.json(&["outages"]);
    let all = all.as_array().cloned().unwrap_or_default();
    let is_later = |one: &Value| {
        one["start_ms"]
            .as_i64()
            .is_some_and(|at| at > from - 10_000)
    };
    all.into_iter().filter(is_later).collect()
}

fn nodes_of(node: &Node, from: i64) -> BTreeSet<String> {
    let all = since(node, from);
    all.iter()
        .map(|one| one["node"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn verdicts(node: &Node) -> Vec<String> {
    let all = node.json(&["outages"]);
    let all = all.as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|one| format!("{} {}", one["node"], one["verdict"]))
        .collect()
}

fn observers(outage: &Value) -> BTreeSet<String> {
    let by = outage["evidence"]["lost_by"].as_array();
    let by = by.into_iter().flatten();
    by.map(|one| one["node"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

fn assert_ended(outage: &Value) {
    let (start, end) = (outage["start_ms"].as_i64(), outage["end_ms"].as_i64());
    assert!(end > start, "{outage}");
}

fn why(node: &Node, peer: &str) -> String {
    let status = node.json(&["status"]);
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    let found = peers
        .iter()
        .find(|one| one["name"] == peer)
        .expect("a peer");
    found["why"].as_str().unwrap_or_default().to_owned()
}

fn pid(node: &Node) -> Pid {
    let pid = i32::try_from(node.pid().expect("up")).expect("a pid");
    Pid::from_raw(pid).expect("a pid")
}

/// A memory control group of version 1, gone when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where the machine has none.
    fn new() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup/memory");
        if !root.join("memory.limit_in_bytes").exists() {
            return None;
        }
        let group = root.join(format!("outlast-test-{}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        Some(Self(group))
    }

    /// Fills the node's group with a file in memory, which nobody can be ended for, until the kernel has ended the node: it is
    /// the largest process there.
    fn run_out(&self, node: &mut Node) {
        let file = |name: &str| self.0.join(name);
        let usage = std::fs::read_to_string(file("memory.usage_in_bytes"));
        let usage: u64 = usage.expect("a group").trim().parse().expect("a number");
        let limit = |bytes: &str| std::fs::write(file("memory.limit_in_bytes"), bytes);
        limit(&(usage + (8 << 20)).to_string()).expect("limit the group");
        let filled = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file in memory");
        let filling = Command::new("sh")
            .args([
                "-c",
                "echo $$ > \"$1/cgroup.procs\" && exec head -c 96M /dev/zero > \"$2\"",
                "sh",
            ])
            .args([&self.0, filled.path()])
            .spawn();
        let filling = Killed(filling.expect("start what fills the group"));
        assert_eq!(node.ended(), None, "killed by a signal");
        drop((filling, filled));
        limit("-1").expect("lift the limit");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever is still in it ends with the world, and the group stays empty.
        drop(std::fs::remove_dir(&self.0));
    }
}
