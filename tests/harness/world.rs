//! Real nodes: each a process of the daemon under test with a state directory of its own.
//!
//! `World::add` makes a node, `Node::up` starts it, `run` gives it a command, `kill` takes its
//! power away, `stop` asks it to leave.
//! Invariant: one home directory a world, so the founder's admin key is found by every command,
//! as on the machine of one owner.
//! Absent: knowledge of what commands mean; tests say that.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::clock::{WrongClock, clear_after};
use crate::net::Net;
use crate::{ending, wait_for};

/// How long a command that has an end may take: `join` alone asks for a minute.
pub const COMMAND: Duration = Duration::from_mins(5);

/// How long a daemon may take to leave.
pub const LEAVING: Duration = Duration::from_mins(1);

/// Nodes under test, their files and their network.
#[derive(Debug)]
pub struct World {
    binary: PathBuf,
    dir: tempfile::TempDir,
    /// The network the nodes stand in; `None` puts them all on loopback.
    pub net: Option<Net>,
    nodes: Vec<Node>,
}

impl World {
    /// A world on loopback, running `binary`.
    pub fn on_loopback(binary: &str) -> Self {
        Self::new(binary, None)
    }

    /// A world whose nodes have a network namespace each; `None` without root.
    pub fn in_namespaces(binary: &str, tag: &str) -> Option<Self> {
        Net::new(tag).map(|net| Self::new(binary, Some(net)))
    }

    fn new(binary: &str, net: Option<Net>) -> Self {
        let dir = tempfile::tempdir().expect("make a directory for the world");
        Self {
            binary: PathBuf::from(binary),
            dir,
            net,
            nodes: Vec::new(),
        }
    }

    /// Adds a node that is not running yet, and returns its number.
    pub fn add(&mut self, name: &str) -> usize {
        let namespace = self.net.as_mut().map(|net| net.plug(name));
        self.nodes.push(Node {
            name: name.to_owned(),
            binary: self.binary.clone(),
            home: self.dir.path().to_owned(),
            state: self.dir.path().join(name),
            namespace,
            child: None,
            starts: 0,
            clock: None,
            boots: 0,
            group: None,
        });
        self.nodes.len() - 1
    }

    /// Founds a mesh on a new first node and joins the others to it, all running.
    pub fn found(&mut self, names: &[&str]) {
        for name in names {
            let number = self.add(name);
            self.node_mut(number).up();
        }
        let uses = (names.len() - 1).to_string();
        let token = self
            .node(0)
            .run(&["init", "--name", names[0], "--invite", &uses]);
        for (number, name) in names.iter().enumerate().skip(1) {
            self.node(number)
                .run_with_input(&["join", "--name", name], &token);
        }
    }

    /// The node of this number, in the order of `add`.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// The node of this number, to start or stop it.
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where the world keeps its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for node in &mut self.nodes {
            node.kill();
            if failed {
                eprintln!("--- log of {}\n{}", node.name, node.log_tail(60));
            }
        }
        // The namespaces go after the processes in them.
        self.net = None;
    }
}

/// One node: a state directory, and a process while it is up.
#[derive(Debug)]
pub struct Node {
    /// Its name in the mesh and its namespace.
    pub name: String,
    /// Its state directory.
    pub state: PathBuf,
    binary: PathBuf,
    home: PathBuf,
    namespace: Option<String>,
    child: Option<Child>,
    starts: usize,
    clock: Option<WrongClock>,
    boots: u32,
    group: Option<PathBuf>,
}

impl Node {
    /// Starts the daemon and returns once its control socket answers.
    pub fn up(&mut self) {
        self.up_with(&[]);
    }

    /// Starts the daemon with more flags.
    pub fn up_with(&mut self, flags: &[&str]) {
        self.start(flags);
        self.wait_up();
    }

    /// Waits until its control socket answers.
    pub fn wait_up(&self) {
        wait_for("the control socket", Duration::from_secs(20), || {
            self.try_run(&["status", "--json"], "").map(drop)
        });
    }

    /// Starts the daemon and doesn't wait for it.
    pub fn start(&mut self, flags: &[&str]) {
        assert!(self.child.is_none(), "{} is up already", self.name);
        self.starts += 1;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the node's log");
        let mut command = self.machine();
        self.fill(&mut command, &["up"]);
        if self.namespace.is_none() {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !flags.contains(&"--dashboard") {
            command.args(["--dashboard", "127.0.0.1:0"]);
        }
        command.args(flags);
        if let Some(clock) = &self.clock {
            clock.bend(&mut command);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().expect("start the daemon"));
    }

    /// Ends the process as a power cut would: no goodbye, no flush.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the daemon");
            child.wait().expect("reap the daemon");
            if self.clock.is_some() {
                clear_after(child.id());
            }
        }
    }

    /// Asks the process to leave and returns its exit code.
    ///
    /// # Panics
    /// When it is still there after [`LEAVING`].
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the node is up");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).expect("signal the daemon");
        ending::status(
            &mut child,
            &format!("{}, told to leave,", self.name),
            LEAVING,
        )
        .code()
    }

    /// Waits for a process that ends by itself and returns its exit code.
    ///
    /// # Panics
    /// When it is still there after [`LEAVING`].
    pub fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the node is up");
        ending::status(
            &mut child,
            &format!("{}, which was to end,", self.name),
            LEAVING,
        )
        .code()
    }

    /// Sets the daemon's wall clock wrong by so many seconds: at once, if it was started with a
    /// clock that can be set, otherwise from its next start.
    pub fn set_clock(&mut self, wrong_by: i64) {
        let file = self.home.join(format!("{}.clock", self.name));
        let clock = self.clock.get_or_insert_with(|| WrongClock::new(file));
        clock.set(wrong_by);
    }

    /// From its next start the daemon finds another boot id than before, as after a start of its machine.
    ///
    /// # Panics
    /// On loopback: only `ip netns exec` gives a process mounts of its own.
    pub fn boot_anew(&mut self) {
        assert!(self.namespace.is_some(), "a boot takes a namespace");
        self.boots += 1;
        let id = format!(
            "{:08x}-0000-4000-8000-{:012x}\n",
            self.boots,
            std::process::id()
        );
        std::fs::write(self.boot_path(), id).expect("write a boot id");
    }

    /// From its next start the daemon runs in this memory control group, of version 1.
    pub fn put_in(&mut self, group: &Path) {
        self.group = Some(group.to_owned());
    }

    /// Its network namespace; `None` on loopback.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The daemon's process id while it is up.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Runs a command on this node and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with_input(arguments, "")
    }

    /// The same, with text on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> String {
        self.try_run(arguments, input)
            .unwrap_or_else(|reason| panic!("{} {}: {reason}", self.name, arguments.join(" ")))
    }

    /// Runs a command; `Err` is its exit code and what it said.
    pub fn try_run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let output = self.output(arguments, input);
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("exit {:?}: {}", output.status.code(), said.trim()))
    }

    /// Runs a command and returns its exit status and both outputs.
    ///
    /// # Panics
    /// When it takes longer than [`COMMAND`]: a command that goes on for ever must not take the test with it.
    pub fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start a command");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A command that doesn't read its input closes it first; that is its right.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        ending::output(
            child,
            &format!("{} {}", self.name, arguments.join(" ")),
            COMMAND,
        )
    }

    /// Starts a command that goes on, such as `tail`, with its output piped.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a command")
    }

    /// The same with its standard error piped as well.
    pub fn spawn_with_stderr(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start a command")
    }

    /// Runs a command with `--json` and returns what it says.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let text = self.run(&all);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?} --json: {e}: {text}"))
    }

    /// The states of this node's peers by name.
    pub fn peer_states(&self) -> Vec<(String, String)> {
        let status = self.json(&["status"]);
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        peers
            .iter()
            .map(|peer| (text(&peer["name"]), text(&peer["state"])))
            .collect()
    }

    /// Waits until this node sees exactly these peers alive.
    pub fn wait_alive(&self, peers: &[&str], within: Duration) {
        let mut wanted: Vec<_> = peers.iter().map(|name| (*name).to_owned()).collect();
        wanted.sort();
        wait_for(&format!("{} seeing {wanted:?}", self.name), within, || {
            let states = self.peer_states();
            let mut alive: Vec<_> = states
                .iter()
                .filter(|(_, state)| state == "alive")
                .map(|(name, _)| name.clone())
                .collect();
            alive.sort();
            if alive == wanted {
                Ok(())
            } else {
                Err(format!("{states:?}"))
            }
        });
    }

    /// The last lines of the daemon's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.home.join(format!("{}.log", self.name))
    }

    fn boot_path(&self) -> PathBuf {
        self.home.join(format!("{}.boot_id", self.name))
    }

    /// What starts the daemon on its own machine: with the boot id and in the group it was given.
    fn machine(&self) -> Command {
        let Some(namespace) = self
            .namespace
            .as_ref()
            .filter(|_| self.boots > 0 || self.group.is_some())
        else {
            return self.program();
        };
        let mut command = Command::new("sh");
        // The group is joined where its files are; in the namespace, whose /sys is new, it is mounted again.
        let join = "[ -z \"$1\" ] || echo $$ > \"$1/cgroup.procs\"; shift; exec \"$@\"";
        let inside = "[ ! -e \"$1\" ] || mount --bind \"$1\" /proc/sys/kernel/random/boot_id; \
                      [ -z \"$2\" ] || { mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory \
                      && mount -t cgroup -o memory none /sys/fs/cgroup/memory; } || exit 97; \
                      shift 2; exec \"$@\"";
        let group = self.group.as_deref().unwrap_or_else(|| Path::new(""));
        command.args(["-c", join, "sh"]).arg(group);
        command.args(["ip", "netns", "exec", namespace, "sh", "-c", inside, "sh"]);
        command.arg(self.boot_path()).arg(group).arg(&self.binary);
        command
    }

    fn program(&self) -> Command {
        match &self.namespace {
            Some(namespace) => {
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", namespace]).arg(&self.binary);
                inside
            }
            None => Command::new(&self.binary),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program();
        self.fill(&mut command, arguments);
        command
    }

    fn fill(&self, command: &mut Command, arguments: &[&str]) {
        command
            .arg("--state-dir")
            .arg(&self.state)
            .args(arguments)
            .env("HOME", &self.home)
            .env("NO_COLOR", "1")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("OUTLAST_STATE_DIR");
    }
}
