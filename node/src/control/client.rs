//! A command's end of the control socket.
//!
//! In: requests. Out: their answers, or the `Failure` to end with.
//! Invariant: a broken socket is an error of ours, never taken for a reader of our output that went away.
//! Absent: starting a node that doesn't run; commands do without or say how to start it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Answer, Lines, Request, SOCKET};
use crate::failure::{Failure, NOT_RUNNING};
use crate::service::{self, account};
use crate::state::no_directory;

/// A connection to the running node.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UnixStream,
    lines: Lines,
}

impl Client {
    /// Connects to the node of this state directory. `None` = nobody listens there.
    pub(crate) fn connect(state: &Path) -> Result<Option<Self>, Failure> {
        let socket = Reachable::in_dir(state).and_then(|at| UnixStream::connect(&at.path));
        match socket {
            Ok(socket) => Ok(Some(Self {
                socket,
                lines: Lines::default(),
            })),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                Err(Failure::new(no_directory(state)))
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(not_for_you(state)),
            Err(error) => Err(Failure::new(format!(
                "connect to {}: {error}",
                state.join(SOCKET).display()
            ))),
        }
    }

    /// Connects, or says how to start the node.
    pub(crate) fn require(state: &Path) -> Result<Self, Failure> {
        Self::connect(state)?.ok_or_else(|| Failure::not_running(state))
    }

    /// Asks and waits for the answer; parts are dropped.
    pub(crate) fn call(&mut self, request: &Request) -> Result<Value, Failure> {
        self.stream(request, |_| Ok(()))
    }

    /// Asks, gives each part to `each` as it arrives, and returns the last word.
    pub(crate) fn stream(
        &mut self,
        request: &Request,
        mut each: impl FnMut(Value) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        let mut line = serde_json::to_string(request).expect("a request is plain data");
        line.push('\n');
        self.socket
            .write_all(line.as_bytes())
            .map_err(|error| lost(&error))?;
        loop {
            match self.answer()? {
                Answer::Part(part) => each(part)?,
                Answer::Ok(value) => return Ok(value),
                Answer::Error(message, exit) => return Err(Failure { exit, message }),
            }
        }
    }

    fn answer(&mut self) -> Result<Answer, Failure> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(line) = self
                .lines
                .next_line()
                .map_err(|e| Failure::new(e.to_string()))?
            {
                return Answer::from_line(&line).map_err(|why| {
                    Failure::new(format!("the node's answer makes no sense: {why}"))
                });
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => {
                    return Err(Failure {
                        exit: NOT_RUNNING,
                        message: "the node ended before it had answered; its log says why, `outlast up` starts it again".to_owned(),
                    });
                }
                Ok(count) => self.lines.push(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }
}

fn not_for_you(dir: &Path) -> Failure {
    if dir == Path::new(service::RUN_DIR) {
        return Failure::new(format!(
            "only root and group {group} may ask the node of this machine: use sudo, or add yourself to group {group}: \
             sudo usermod -aG {group} {name}, then log in again; a node of your own goes with --state-dir",
            group = service::ACCOUNT,
            name = account::my_name(),
        ));
    }
    Failure::new(format!(
        "connect to {}: permission denied; run this as the user who runs the node, or as root with sudo",
        dir.join(SOCKET).display()
    ))
}

fn lost(error: &std::io::Error) -> Failure {
    Failure::new(format!("lost the connection to the node: {error}"))
}

/// A way to the socket that fits the 107 bytes the kernel takes for its path.
///
/// A longer path goes through the open directory: `/proc/self/fd/N/control.sock`.
#[derive(Debug)]
pub(super) struct Reachable {
    /// What to bind or connect to, while this value lives.
    pub(super) path: PathBuf,
    _dir: Option<File>,
}

impl Reachable {
    pub(super) fn in_dir(dir: &Path) -> std::io::Result<Self> {
        const LONGEST_SOCKET_PATH: usize = 107;
        let path = dir.join(SOCKET);
        if path.as_os_str().len() <= LONGEST_SOCKET_PATH {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()));
        Ok(Self {
            path,
            _dir: Some(dir),
        })
    }
}
