//! The node's end of the control socket.
//!
//! There are two doors. The state directory's is 0600: the node's own user and root come in, others are turned
//! away. A service's, in `/run/outlast`, is 0660: whoever is in the group comes in too, and may only read.
//! In: connections. Out: each request handed to the daemon, each answer written back.
//! Invariant: what a peer may is decided by the uid that the kernel names, never by what the peer says; at most
//! `MOST_CONNECTIONS` a door are served at once, the next one waits; of readers `MOST_READERS`, the next is told so.
//! Absent: what is answered; the daemon says that.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::client::Reachable;
use super::{Answer, Lines, Request};
use crate::daemon::Daemon;
use crate::failure::Failure;

/// Commands and open `tail`s at once; there are no more terminals than this on one machine.
const MOST_CONNECTIONS: usize = 64;

/// Readers at once: the owner always finds a place beside them.
const MOST_READERS: usize = 32;

/// How long one write may stand still before its reader is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A socket that commands connect to.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    /// Whether users that are neither root nor the node's own may read.
    for_readers: bool,
}

/// What a peer may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    Everything,
    Reading,
}

impl Door {
    /// Opens the door of this state directory, whose lock the caller holds.
    pub(crate) fn own(state: &Path) -> Result<Self> {
        // The directory is 0700, so nobody gets in between making the socket and its mode.
        Ok(Self {
            listener: bind(state, 0o600)?,
            for_readers: false,
        })
    }

    /// Opens the door of a service, in the directory that the service manager made for it.
    pub(crate) fn of_service(runtime_directory: &Path) -> Result<Self> {
        Ok(Self {
            listener: bind(runtime_directory, 0o660)?,
            for_readers: true,
        })
    }

    /// What the process at the other end may ask. `None` = nothing.
    fn rights_of(&self, socket: &UnixStream) -> Option<Rights> {
        let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
        if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
            Some(Rights::Everything)
        } else {
            // The socket's mode let it in: it is in the group.
            self.for_readers.then_some(Rights::Reading)
        }
    }
}

fn bind(dir: &Path, mode: u32) -> Result<UnixListener> {
    let shown = dir.join(super::SOCKET);
    let context = || format!("open the control socket {}", shown.display());
    let at = Reachable::in_dir(dir).with_context(context)?;
    // Whoever left it is gone: the lock is ours.
    match std::fs::remove_file(&at.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    let listener = UnixListener::bind(&at.path).with_context(context)?;
    std::fs::set_permissions(&at.path, Permissions::from_mode(mode)).with_context(context)?;
    Ok(listener)
}

/// Answers until told to stop.
pub(crate) async fn serve(door: Door, daemon: Arc<Daemon>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let readers = Arc::new(Semaphore::new(MOST_READERS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            // Out of descriptors, most likely; they come back when somebody leaves.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(rights) = door.rights_of(&socket) else {
            tracing::warn!("a process of another user was turned away from the control socket");
            continue;
        };
        let reader = (rights == Rights::Reading).then(|| Arc::clone(&readers).try_acquire_owned());
        if let Some(Err(_)) = reader {
            turn_away(socket);
            continue;
        }
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (daemon, stop) = (Arc::clone(&daemon), stop.clone());
        tokio::spawn(async move {
            let _places = (place, reader);
            tokio::select! {
                () = stop.cancelled() => {}
                () = converse(socket, rights, daemon) => {}
            }
        });
    }
}

/// Says that there is no place, without waiting for whether it is heard.
fn turn_away(socket: UnixStream) {
    let answer = Answer::from(Failure::new(format!(
        "{MOST_READERS} commands of other users are connected already: end a `tail`, or use sudo"
    )));
    let _ = socket.try_write(answer.to_line().as_bytes());
}

async fn converse(socket: UnixStream, rights: Rights, daemon: Arc<Daemon>) {
    let (reader, writer) = socket.into_split();
    let mut questions = Questions {
        reader,
        lines: Lines::default(),
    };
    let mut answers = Answers { writer };
    loop {
        let line = match questions.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(failure) => {
                let _ = answers.write(&Answer::from(failure)).await;
                return;
            }
        };
        let answered = match serde_json::from_str::<Request>(&line) {
            Ok(request) if rights == Rights::Reading && !request.only_reads() => Err(Failure::new(
                "only root may change this node, your group may read it: run the same with sudo",
            )),
            Ok(request) => daemon.answer(request, &mut answers).await,
            Err(error) => Err(Failure::usage(format!(
                "this node doesn't understand the request: {error}"
            ))),
        };
        let last = answered.map_or_else(Answer::from, Answer::Ok);
        if answers.write(&last).await.is_err() {
            return;
        }
    }
}

/// Requests as they come in.
struct Questions {
    reader: OwnedReadHalf,
    lines: Lines,
}

impl Questions {
    async fn next_line(&mut self) -> Result<Option<String>, Failure> {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            if let Some(line) = self
                .lines
                .next_line()
                .map_err(|e| Failure::usage(e.to_string()))?
            {
                return Ok(Some(line));
            }
            match self.reader.read(&mut chunk).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(count) => self.lines.push(&chunk[..count]),
            }
        }
    }
}

/// Answers as they go out.
pub(crate) struct Answers {
    writer: OwnedWriteHalf,
}

impl Answers {
    /// Sends one part of an answer; fails when the asker is gone.
    pub(crate) async fn part(&mut self, value: Value) -> Result<(), Failure> {
        self.write(&Answer::Part(value)).await
    }

    async fn write(&mut self, answer: &Answer) -> Result<(), Failure> {
        let line = answer.to_line();
        match tokio::time::timeout(PATIENCE, self.writer.write_all(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::reader_gone()),
        }
    }
}
