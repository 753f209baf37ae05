//! `outlast demo`: the story told to its end, and nothing left behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outlast_tests::wait_for;
use rustix::process::{Pid, Signal, kill_process};

use crate::OUTLAST;

#[test]
fn the_demo_cuts_a_node_off_heals_it_and_counts_nothing_missing() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let output = Command::new(OUTLAST)
        .args(["demo", "--for", "60s"])
        .env("TMPDIR", scratch.path())
        .output()
        .expect("run the demo");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(
        said.contains("http://127.0.0.1:"),
        "no address of the page in: {said}"
    );
    let last = said.lines().last().expect("a last line");
    let numbers: Vec<u64> = last
        .split(|c: char| !c.is_ascii_digit() && c != ',')
        .filter_map(|word| word.replace(',', "").parse().ok())
        .collect();
    let [taken, held, missing] = numbers[..] else {
        panic!("three counts in: {last}")
    };
    assert!(taken > 3 * 20 * 50, "only {taken} samples taken");
    assert_eq!((held, missing), (taken, 0), "{last}");
    assert!(
        last.contains("samples taken") && last.contains("held on every node"),
        "{last}"
    );
    assert_eq!(leftovers(scratch.path()), Vec::<String>::new());
}

#[test]
fn a_short_demo_of_two_nodes_tells_the_whole_story_too() {
    let output = Command::new(OUTLAST)
        .args(["demo", "--nodes", "2", "--for", "8s"])
        .output()
        .expect("run the demo");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    for part in ["b is cut off", "b is joined again", "backlog zero"] {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
    assert!(said.trim_end().ends_with(", 0 missing"), "{said}");
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (mut demo, nodes) = started(scratch.path());
    kill_process(Pid::from_child(&demo), Signal::INT).expect("send Ctrl-C");
    demo.wait().expect("reap the demo");
    wait_ended(&nodes);
    assert_eq!(leftovers(scratch.path()), Vec::<String>::new());
}

#[test]
fn a_demo_that_is_killed_takes_its_nodes_with_it() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (mut demo, nodes) = started(scratch.path());
    demo.kill().expect("kill the demo");
    demo.wait().expect("reap the demo");
    wait_ended(&nodes);
}

/// A demo without an end, and the processes of its three nodes.
fn started(scratch: &Path) -> (Child, Vec<u32>) {
    let demo = Command::new(OUTLAST)
        .arg("demo")
        .env("TMPDIR", scratch)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the demo");
    let nodes = wait_for("three nodes", Duration::from_secs(30), || {
        let nodes = processes_below(demo.id());
        if nodes.len() >= 3 {
            Ok(nodes)
        } else {
            Err(format!("children: {nodes:?}"))
        }
    });
    (demo, nodes)
}

fn wait_ended(nodes: &[u32]) {
    wait_for("the nodes ending", Duration::from_secs(10), || {
        let left: Vec<_> = nodes.iter().filter(|pid| runs_outlast(**pid)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("still running: {left:?}"))
        }
    });
}

/// Processes whose parent is `parent`.
fn processes_below(parent: u32) -> Vec<u32> {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let listed = std::fs::read_to_string(children).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn runs_outlast(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains("outlast") && !stat.contains(") Z ")
}

fn leftovers(scratch: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(scratch).expect("the scratch directory is there");
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
