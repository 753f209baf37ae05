//! The node's end of the control socket.
//!
//! In: connections of this node's owner. Out: each request handed to the daemon, each answer written back.
//! Invariant: 0600, and a peer of another uid is turned away, root excepted; at most `MOST_CONNECTIONS`
//! are served at once, the next one waits.
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

/// How long one write may stand still before its reader is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Binds the socket of this state directory, whose lock the caller holds.
pub(crate) fn bind(state: &Path) -> Result<UnixListener> {
    let shown = state.join(super::SOCKET);
    let context = || format!("open the control socket {}", shown.display());
    let at = Reachable::in_dir(state).with_context(context)?;
    // Whoever left it is gone: the lock is ours.
    match std::fs::remove_file(&at.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    // The directory is 0700, so nobody gets in between the two calls.
    let listener = UnixListener::bind(&at.path).with_context(context)?;
    std::fs::set_permissions(&at.path, Permissions::from_mode(0o600)).with_context(context)?;
    Ok(listener)
}

/// Answers until told to stop.
pub(crate) async fn serve(listener: UnixListener, daemon: Arc<Daemon>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            // Out of descriptors, most likely; they come back when somebody leaves.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !is_owner(&socket) {
            tracing::warn!("a process of another user was turned away from the control socket");
            continue;
        }
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (daemon, stop) = (Arc::clone(&daemon), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = converse(socket, daemon) => {}
            }
        });
    }
}

fn is_owner(socket: &UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(socket) else {
        return false;
    };
    peer.uid.is_root() || peer.uid == rustix::process::geteuid()
}

async fn converse(socket: UnixStream, daemon: Arc<Daemon>) {
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
