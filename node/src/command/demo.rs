//! `demo`: a mesh of real nodes on this machine, a real cut, and a count of what was lost: nothing.
//!
//! In: how many nodes, for how long. Out: the page's address at once, the story line by line, and as the last line
//! the count of samples taken, held and missing, made from what the samplers took and the stores hold.
//! Invariant: whatever way this ends, no process and no directory is left.
//! Absent: anything pretended; each node is this program, run as anybody would run it.

mod count;
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::count::Count;
use self::nodes::Nodes;
use crate::cli::DemoArgs;
use crate::control::Request;
use crate::failure::Failure;
use crate::interrupt;
use crate::text::{self, Printer};

/// How long the nodes are watched together, and how long the last of them is cut off, when there is time.
const TOGETHER: Duration = Duration::from_secs(10);
const CUT: Duration = Duration::from_secs(20);

/// How long starting, and running the backlog down, may take before the demo has failed.
const STARTING: Duration = Duration::from_secs(30);
const HEALING: Duration = Duration::from_secs(60);

/// What healing may take though `--for` is over: a short demo ends late rather than in a false alarm.
const HEALING_LEAST: Duration = Duration::from_secs(15);

/// What is kept back of `--for`, to count and to leave.
const RESERVE: Duration = Duration::from_secs(4);

/// How often the nodes are asked how it goes.
const EVERY: Duration = Duration::from_millis(250);

pub(super) fn run(arguments: &DemoArgs, out: &mut Printer) -> Result<(), Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    interrupt::on_signal(move || flag.store(true, Ordering::SeqCst));
    let nodes = Nodes::start(arguments.nodes)?;
    let mut story = Story {
        nodes,
        out,
        began: Instant::now(),
        length: arguments.length,
        interrupted,
    };
    match story.tell() {
        Ok(()) => story.end(),
        Err(Stop::Interrupted) => {
            story.say("stopped before the story was told; nothing is left behind")
        }
        Err(Stop::Failed(failure)) => {
            story.settle()?;
            Err(failure)
        }
    }
}

/// Why the story goes no further.
enum Stop {
    Interrupted,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

struct Story<'a> {
    nodes: Nodes,
    out: &'a mut Printer,
    began: Instant,
    length: Option<Duration>,
    interrupted: Arc<AtomicBool>,
}

impl Story<'_> {
    fn tell(&mut self) -> Result<(), Stop> {
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        self.say(&format!(
            "nodes {}: this machine's real stats, real WireGuard, on loopback",
            names.join(", ")
        ))?;
        self.nodes
            .wait_for_sockets(|| self.interrupted.load(Ordering::SeqCst))?;
        self.nodes.found()?;
        let link = self.nodes.first().link()?;
        self.say(&format!("page: {link}"))?;
        self.say(&format!(
            "      (works once; for another: outlast dashboard --state-dir {})",
            self.nodes.first().state.path().display()
        ))?;
        self.nodes.join_others()?;
        self.wait("the mesh to come up", STARTING, |story| story.mesh_is_up())?;
        self.say(&format!(
            "mesh up: every node sees every other, {:.1} s after the start",
            self.began.elapsed().as_secs_f64()
        ))?;
        self.pause(self.share(TOGETHER, 6), |story, left| {
            let taken = text::count(story.taken()?);
            Ok(format!(
                "sampling together: {left} s to go, {taken} samples taken"
            ))
        })?;
        self.cut_and_heal()?;
        let count = self.count()?;
        self.say(&count.line())?;
        Ok(count.verdict()?)
    }

    fn cut_and_heal(&mut self) -> Result<(), Stop> {
        let last = self.nodes.last().name.clone();
        self.nodes.last().call(&Request::Isolate { on: true })?;
        self.say(&format!(
            "{last} is cut off: every datagram at its socket is dropped, it goes on sampling"
        ))?;
        let (cut, before) = (self.share(CUT, 3), self.taken_by_last()?);
        let since = |story: &Self| -> Result<u64, Failure> {
            Ok(story.taken_by_last()?.saturating_sub(before))
        };
        self.pause(cut, |story, left| {
            let own = text::count(since(story)?);
            Ok(format!(
                "{last} cut off: {left} s to go, {own} samples that only it has"
            ))
        })?;
        let own = since(self)?;
        self.nodes.last().call(&Request::Isolate { on: false })?;
        self.say(&format!(
            "{last} is joined again after {} s, with {} samples that nobody else has",
            cut.as_secs(),
            text::count(own)
        ))?;
        let healing = Instant::now();
        let limit = self.deadline().map_or(HEALING, |end| {
            let left = end.saturating_duration_since(Instant::now());
            left.clamp(HEALING_LEAST, HEALING)
        });
        self.wait("the backlog to run to zero", limit, |story| {
            Ok(story.mesh_is_up()? && story.backlog()? == 0)
        })?;
        self.say(&format!(
            "backlog zero {:.1} s later",
            healing.elapsed().as_secs_f64()
        ))?;
        Ok(())
    }

    /// Stays up as long as was asked, or until Ctrl-C, then counts once more.
    fn end(&mut self) -> Result<(), Failure> {
        if self.length.is_none() {
            self.say("the nodes stay up until Ctrl-C")?;
        }
        while !self.interrupted.load(Ordering::SeqCst) {
            if self.deadline().is_some_and(|end| Instant::now() >= end) {
                break;
            }
            self.nodes.check()?;
            let taken = self.taken()?;
            self.show(&format!("{} samples taken", text::count(taken)))?;
            std::thread::sleep(EVERY);
        }
        // A second Ctrl-C must not wait for the count.
        self.interrupted.store(false, Ordering::SeqCst);
        let count = match self.count() {
            Ok(count) => count,
            Err(Stop::Failed(failure)) => return Err(failure),
            Err(Stop::Interrupted) => return self.settle(),
        };
        self.settle()?;
        self.nodes.stop();
        self.say(&count.line())?;
        count.verdict()
    }

    /// Counts until nothing is missing or there is no more reason to wait.
    fn count(&mut self) -> Result<Count, Stop> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let taken = self.nodes.taken()?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let count = Count::of(&taken, &self.nodes)?;
            if count.is_complete() || Instant::now() >= give_up {
                return Ok(count);
            }
            self.breathe()?;
        }
    }

    fn mesh_is_up(&self) -> Result<bool, Failure> {
        let others = self.nodes.iter().count() - 1;
        for node in self.nodes.iter() {
            let status = node.call(&Request::Status)?;
            let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
            if peers.iter().filter(|peer| peer["state"] == "alive").count() != others {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Samples taken so far, by the samplers' own count.
    fn taken(&self) -> Result<u64, Failure> {
        let taken = self.nodes.taken()?;
        Ok(taken.values().map(|log| log.samples).sum())
    }

    fn taken_by_last(&self) -> Result<u64, Failure> {
        number(&self.nodes.last().call(&Request::Taken)?, "samples")
    }

    /// Samples still to be handed over: for each node those it lacks, by whoever knows of most.
    fn backlog(&self) -> Result<u64, Failure> {
        let mut lacks: BTreeMap<String, u64> = BTreeMap::new();
        for node in self.nodes.iter() {
            let status = node.call(&Request::Status)?;
            for peer in status["peers"].as_array().into_iter().flatten() {
                let samples = peer["backlog_samples"].as_u64().unwrap_or(0);
                let name = peer["name"].as_str().unwrap_or_default().to_owned();
                let most = lacks.entry(name).or_default();
                *most = samples.max(*most);
            }
        }
        Ok(lacks.values().sum())
    }

    /// A part of the story's time: as long as is good to watch, or its share of `--for`.
    fn share(&self, usual: Duration, parts: u32) -> Duration {
        self.length
            .map_or(usual, |length| usual.min(length / parts))
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.began + self.length?.saturating_sub(RESERVE))
    }

    fn pause(
        &mut self,
        length: Duration,
        line: impl Fn(&Self, u64) -> Result<String, Failure>,
    ) -> Result<(), Stop> {
        let until = Instant::now() + length;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now()).as_secs() + 1;
            let line = line(self, left)?;
            self.show(&line)?;
            self.breathe()?;
        }
        Ok(())
    }

    fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        ready: impl Fn(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Stop> {
        let until = Instant::now() + limit;
        while !ready(self)? {
            if Instant::now() >= until {
                let failure = format!("waited {} s for {what}, in vain", limit.as_secs());
                return Err(Stop::Failed(Failure::new(failure)));
            }
            let backlog = self.backlog()?;
            self.show(&format!(
                "waiting for {what}: {} samples to hand over",
                text::count(backlog)
            ))?;
            self.breathe()?;
        }
        Ok(())
    }

    fn breathe(&mut self) -> Result<(), Stop> {
        if self.interrupted.load(Ordering::SeqCst) {
            return Err(Stop::Interrupted);
        }
        self.nodes.check()?;
        std::thread::sleep(EVERY);
        Ok(())
    }

    /// A line of the story.
    fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.settle()?;
        self.out.line(line)?;
        self.out.flush()
    }

    /// What is going on right now, overwritten by what comes next; only on a terminal.
    fn show(&mut self, line: &str) -> Result<(), Failure> {
        if !self.out.is_terminal() {
            return Ok(());
        }
        self.out.raw(&format!("\r\u{1b}[2K{line}"))?;
        self.out.flush()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.show("")
    }
}

/// A figure in an answer that must be there.
fn number(answer: &Value, name: &str) -> Result<u64, Failure> {
    answer[name]
        .as_u64()
        .ok_or_else(|| Failure::new(format!("a node did not say its {name}")))
}
