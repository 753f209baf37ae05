//! A node's control socket, spoken to directly: what starts a process for each question is too
//! slow to time anything by.
//!
//! `Control::ask` puts one question, `Rows` follows the live rows of one origin as they are stored.
//! Invariant: a socket of a process that is gone, or not there yet, is tried again until it answers.
//! Absent: commands that change something; tests type those as people do.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::Node;

/// How long a node may take to open its socket.
const OPENING: Duration = Duration::from_secs(30);

/// One connection to a running node.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// Connects as soon as the node listens.
    pub fn of(node: &Node) -> Self {
        let path = node.state.join("control.sock");
        let deadline = Instant::now() + OPENING;
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    return Self {
                        stream: BufReader::new(stream),
                    };
                }
                Err(error) if Instant::now() > deadline => panic!("{}: {error}", path.display()),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Puts a question that has one answer; waits while the node starts.
    ///
    /// # Panics
    /// When the node refuses, or is gone.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.write(request);
        let mut answer = self.line().expect("the node answers");
        assert!(answer.get("ok").is_some(), "{request}: {answer}");
        answer["ok"].take()
    }

    /// `status --json`.
    pub fn status(&mut self) -> Value {
        self.ask(&json!({ "verb": "status" }))
    }

    fn write(&mut self, request: &Value) {
        let line = format!("{request}\n");
        let written = self.stream.get_mut().write_all(line.as_bytes());
        written.expect("the node listens");
    }

    /// `None` when the node has closed.
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("the node answers in JSON")),
        }
    }
}

/// A row as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// When it was taken, by its origin.
    pub at_ms: i64,
    /// When it was stored, by the node asked.
    pub arrived_ms: i64,
    /// Its number in its run.
    pub seq: u64,
}

impl Arrived {
    /// How long it was on its way.
    pub fn delay_ms(&self) -> i64 {
        self.arrived_ms - self.at_ms
    }
}

/// Live rows of one origin from now on, until dropped.
#[derive(Debug)]
pub struct Rows {
    arrived: Receiver<Arrived>,
    stream: UnixStream,
}

impl Rows {
    /// Follows the rows of `origin` at `node`.
    pub fn of(node: &Node, origin: &str) -> Self {
        let mut control = Control::of(node);
        control.write(&json!({ "verb": "tail", "node": origin, "series": "node_load1" }));
        let stream = control.stream.get_ref().try_clone();
        let (sender, arrived) = channel();
        std::thread::spawn(move || {
            while let Some(line) = control.line() {
                let row = &line["part"];
                let stamp = |key: &str| row[key].as_i64();
                // Signs of life between rows have no stamps.
                let (Some(at_ms), Some(arrived_ms)) = (stamp("at_ms"), stamp("arrived_ms")) else {
                    continue;
                };
                let seq = row["seq"].as_u64().unwrap_or_default();
                let row = Arrived {
                    at_ms,
                    arrived_ms,
                    seq,
                };
                if sender.send(row).is_err() {
                    return;
                }
            }
        });
        Self {
            arrived,
            stream: stream.expect("a descriptor is free"),
        }
    }

    /// The first row to come for which `wanted` holds. `None` when it didn't within the time.
    pub fn first(&self, within: Duration, wanted: impl Fn(&Arrived) -> bool) -> Option<Arrived> {
        let deadline = Instant::now() + within;
        loop {
            match self
                .arrived
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(row) if wanted(&row) => return Some(row),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Everything that has come and wasn't looked at.
    pub fn so_far(&self) -> Vec<Arrived> {
        self.arrived.try_iter().collect()
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // The reader ends with the connection; one already closed is fine.
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}
