//! The demo's nodes: processes of this program, and the one private directory they live in.
//!
//! Invariant: each lives only while its standard input is held open here, so none outlives this process; each
//! removes its own directory, the last one the directory around.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use data_encoding::HEXLOWER;
use outlast_mesh::trust::InviteTerms;
use serde_json::Value;

use super::super::dashboard;
use super::super::sign::Owner;
use super::super::{init, invite};
use super::number;
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::state::StateDir;

/// How long a node may take to open its socket, on a slow machine under load.
const OPENING: Duration = Duration::from_secs(20);

/// How long leaving may take before a node is killed; it takes five seconds at most by itself.
const LEAVING: Duration = Duration::from_secs(7);

/// One node of the demo.
pub(super) struct DemoNode {
    pub(super) name: String,
    pub(super) state: StateDir,
    home: PathBuf,
    child: Child,
}

/// What a sampler has taken of its log.
pub(super) struct Taken {
    pub(super) rows: u64,
    pub(super) samples: u64,
}

/// All of them.
pub(super) struct Nodes {
    dir: PathBuf,
    nodes: Vec<DemoNode>,
}

impl Nodes {
    /// Starts the processes; each then waits for its mesh.
    pub(super) fn start(count: u8) -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).context("name a directory")?;
        let name = format!("outlast-demo-{}", HEXLOWER.encode(&random));
        let dir = std::env::temp_dir().join(name);
        private_dir(&dir)?;
        let mut all = Self {
            dir,
            nodes: Vec::new(),
        };
        for letter in (b'a'..).take(usize::from(count)) {
            let node = DemoNode::start(&all.dir, char::from(letter).to_string())?;
            all.nodes.push(node);
        }
        Ok(all)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DemoNode> {
        self.nodes.iter()
    }

    pub(super) fn first(&self) -> &DemoNode {
        self.nodes.first().expect("a demo has two nodes at least")
    }

    pub(super) fn last(&self) -> &DemoNode {
        self.nodes.last().expect("a demo has two nodes at least")
    }

    /// Waits until every node can be talked to.
    pub(super) fn wait_for_sockets(
        &mut self,
        interrupted: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + OPENING;
        loop {
            self.check()?;
            let mut open = 0;
            for node in &self.nodes {
                open += usize::from(Client::connect(node.state.path())?.is_some());
            }
            if open == self.nodes.len() || interrupted() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let all = self.nodes.len();
                return Err(Failure::new(format!(
                    "{open} of {all} nodes opened their control socket within {} s",
                    OPENING.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Founds the mesh on the first node.
    pub(super) fn found(&self) -> Result<(), Failure> {
        let first = self.first();
        let mut client = first.client()?;
        init::found_through(&mut client, &first.home, &first.name, "demo").map(drop)
    }

    /// Lets the others join by one token.
    pub(super) fn join_others(&self) -> Result<(), Failure> {
        let first = self.first();
        let others = self.nodes.len() - 1;
        let terms = InviteTerms {
            name: None,
            lasts: Duration::from_secs(600),
            uses: u16::try_from(others).expect("a demo has 16 nodes at most"),
            needs_approval: false,
        };
        let owner = Owner::at(first.home.clone(), None);
        let invited = invite::through_node(&mut first.client()?, &owner, terms.into())?;
        for node in &self.nodes[1..] {
            node.call(&Request::Join {
                token: invited.text(),
                name: node.name.clone(),
            })
            .map_err(|failure| Failure::new(format!("{} could not join: {failure}", node.name)))?;
        }
        Ok(())
    }

    /// What each sampler has taken, by log.
    pub(super) fn taken(&self) -> Result<BTreeMap<String, Taken>, Failure> {
        let mut taken = BTreeMap::new();
        for node in &self.nodes {
            let answer = node.call(&Request::Taken)?;
            let log = answer["log"].as_str().unwrap_or_default().to_owned();
            let count = Taken {
                rows: number(&answer, "rows")?,
                samples: number(&answer, "samples")?,
            };
            taken.insert(log, count);
        }
        Ok(taken)
    }

    /// Fails when a node has ended by itself, with its last words.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            if let Ok(Some(status)) = node.child.try_wait() {
                let log = std::fs::read_to_string(node.log()).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing").trim();
                return Err(Failure::new(format!(
                    "node {} ended by itself ({status}): {}",
                    node.name,
                    crate::text::visible(last)
                )));
            }
        }
        Ok(())
    }

    /// Lets every node say goodbye, and removes what they leave.
    pub(super) fn stop(&mut self) {
        for node in &mut self.nodes {
            drop(node.child.stdin.take());
        }
        let deadline = Instant::now() + LEAVING;
        for node in &mut self.nodes {
            while matches!(node.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            // Of no effect on a process that has ended.
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl DemoNode {
    fn start(around: &Path, name: String) -> Result<Self, Failure> {
        let dir = around.join(&name);
        private_dir(&dir)?;
        let (state, home, config) = (
            dir.join("state"),
            dir.join("home"),
            dir.join("outlast.toml"),
        );
        private_dir(&home)?;
        // An empty file of its own keeps the machine's out.
        std::fs::write(&config, "").context("write the demo's configuration")?;
        let log = File::create(dir.join("log")).context("open the demo's log")?;
        let program = std::env::current_exe().context("find this program")?;
        let child = Command::new(program)
            .arg("up")
            .arg("--state-dir")
            .arg(&state)
            .arg("--config")
            .arg(&config)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--dashboard",
                "127.0.0.1:0",
                "--color",
                "never",
            ])
            .arg("--ephemeral")
            .arg(&dir)
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", &home)
            .env("XDG_STATE_HOME", &home)
            .env_remove("OUTLAST_STATE_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for us; the nodes leave when we have counted.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start node {name}"))?;
        Ok(Self {
            name,
            state: StateDir::at(state),
            home,
            child,
        })
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::require(self.state.path())
    }

    /// Asks this node something.
    pub(super) fn call(&self, request: &Request) -> Result<Value, Failure> {
        self.client()?.call(request)
    }

    /// A login link to this node's page.
    pub(super) fn link(&self) -> Result<String, Failure> {
        dashboard::link(&mut self.client()?)
    }

    fn log(&self) -> PathBuf {
        self.state.path().with_file_name("log")
    }
}

fn private_dir(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the directory {}", path.display()))?;
    Ok(())
}
