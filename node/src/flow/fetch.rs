//! Carries one question to a peer and its answers to the store.
//!
//! One task a request; the replica bounds how many. Pieces go to the store one at a time, so a
//! request holds at most one in memory. Every piece must be of the log that was asked about;
//! a piece that isn't, or that the store finds forged, ends the request and marks its rows.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use outlast_mesh::{Mesh, NodeId};
use outlast_store::{Head, LogId, Origin, SchemaDelta, SchemaHash, Seal, Seq, SignedRow, Store};
use quinn::RecvStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::keep::{Job, Piece, Repair};
use super::node_of;
use super::serve::source;
use super::stream::read_frame;
use super::wire::{Answer, HeldAnswer, MAX_ANSWER, MAX_HELD, Question};
use crate::replica::{Ask, Request};

/// How long one frame may take; the replica gives up on a request earlier, by its progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// Deltas in one schema answer: 512 KiB of schema at its smallest deltas.
const MAX_DELTAS: usize = 4_096;

/// What the flow's task hears of a request.
#[derive(Debug)]
pub(super) enum Progress {
    /// Something came.
    Moved(u64),
    /// A full answer about an origin.
    Held(u64, NodeId, HeldAnswer),
    /// Rows the peer claimed to have and the store wouldn't take.
    Bad(NodeId, LogId, Seq, Seq),
    /// Everything came.
    Done(u64),
    /// It broke off.
    Failed(u64),
    /// A schema for parked rows was defined, or not.
    Schema(SchemaHash, bool),
}

/// Asks peers; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    pub(super) mesh: Mesh,
    pub(super) store: Store,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) progress: mpsc::Sender<Progress>,
}

impl Fetcher {
    /// Runs one request to its end and says how it went.
    pub(super) async fn run(self, request: Request) {
        let id = request.id;
        let end = match self.ask(request).await {
            Ok(()) => Progress::Done(id),
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "a request broke off");
                Progress::Failed(id)
            }
        };
        let _ = self.progress.send(end).await;
    }

    async fn ask(&self, request: Request) -> anyhow::Result<()> {
        let peer = node_of(request.peer);
        let question = match &request.ask {
            Ask::Rows { log, rows } => Question::Rows(*log, rows.clone()),
            Ask::Held { origins } => Question::Held(origins.clone()),
            Ask::Seals { windows } => Question::Seals(windows.clone()),
        };
        let limit = if matches!(request.ask, Ask::Held { .. }) {
            MAX_HELD
        } else {
            MAX_ANSWER
        };
        let mut answers = self.open(peer, &question).await?;
        loop {
            let answer = next(&mut answers, limit).await?;
            match (answer, &request.ask) {
                (Answer::End, _) => return Ok(()),
                (Answer::Row(bytes), Ask::Rows { log, .. }) => self.row(peer, *log, &bytes).await?,
                (Answer::Block(bytes), Ask::Rows { log, .. }) => {
                    self.block(peer, *log, bytes).await?
                }
                (Answer::Held(held), Ask::Held { .. }) => {
                    self.progress
                        .send(Progress::Held(request.id, peer, held))
                        .await?;
                }
                (Answer::Seal(bytes), Ask::Seals { .. }) => {
                    let seal = Seal::decode(&bytes).context("read a seal")?;
                    self.jobs.send(Job::Seal(seal)).await?;
                }
                _ => bail!("an answer to another question"),
            }
            self.progress.send(Progress::Moved(request.id)).await?;
        }
    }

    async fn open(&self, peer: NodeId, question: &Question) -> anyhow::Result<RecvStream> {
        let (mut send, recv) = timeout(PATIENCE, self.mesh.open_stream(peer))
            .await?
            .context("open a stream")?;
        send.write_all(&question.encode()).await.context("ask")?;
        send.finish().context("end the question")?;
        Ok(recv)
    }

    async fn row(&self, peer: NodeId, log: LogId, bytes: &Bytes) -> anyhow::Result<()> {
        let row = SignedRow::decode(bytes).context("read a row")?;
        if row.row.log != log {
            bail!("a row of another log");
        }
        self.store(peer, Piece::Row(Box::new(row), source(peer, &log)))
            .await
    }

    async fn block(&self, peer: NodeId, log: LogId, bytes: Bytes) -> anyhow::Result<()> {
        let head = Head::peek(&bytes).context("read a block's head")?;
        if head.log != log {
            bail!("a block of another log");
        }
        self.store(peer, Piece::Block(bytes, head)).await
    }

    /// Stores a piece; a schema that is missing is fetched from the same peer first. A block may
    /// have rows of several schemas.
    async fn store(&self, peer: NodeId, piece: Piece) -> anyhow::Result<()> {
        let (log, first, last) = piece.span();
        let mut fetched: Vec<SchemaHash> = Vec::new();
        loop {
            let (reply, outcome) = oneshot::channel();
            self.jobs.send(Job::Repair(piece.clone(), reply)).await?;
            match outcome.await? {
                Repair::Stored => return Ok(()),
                Repair::NotNow => bail!("the store takes nothing at the moment"),
                Repair::Unknown(hash) if fetched.len() < 60 && !fetched.contains(&hash) => {
                    self.schema(peer, log.origin, hash).await?;
                    fetched.push(hash);
                }
                Repair::Unknown(_) | Repair::Bad => {
                    self.progress
                        .send(Progress::Bad(peer, log, first, last))
                        .await?;
                    return Ok(());
                }
            }
        }
    }

    /// Fetches a schema for rows that wait for it, and says whether it is there.
    pub(super) async fn schema_for_parked(self, peer: NodeId, origin: Origin, hash: SchemaHash) {
        let fetched = self.schema(peer, origin, hash).await;
        if let Err(error) = &fetched {
            tracing::debug!(error = format!("{error:#}"), "a schema didn't come");
        }
        let _ = self
            .progress
            .send(Progress::Schema(hash, fetched.is_ok()))
            .await;
    }

    async fn schema(&self, peer: NodeId, origin: Origin, hash: SchemaHash) -> anyhow::Result<()> {
        let known = self
            .store
            .latest(&origin)
            .map(|row| row.row.schema)
            .into_iter()
            .collect();
        let mut answers = self.open(peer, &Question::Schema(hash, known)).await?;
        let mut deltas = Vec::new();
        loop {
            match next(&mut answers, MAX_ANSWER).await? {
                Answer::End => break,
                Answer::Schema(bytes) if deltas.len() < MAX_DELTAS => {
                    deltas.push(SchemaDelta::decode(&bytes).context("read a schema delta")?);
                }
                _ => bail!("an answer to another question"),
            }
        }
        let (reply, defined) = oneshot::channel();
        self.jobs.send(Job::Define(origin, deltas, reply)).await?;
        if !defined.await? || self.store.schema(&hash).is_none() {
            bail!("the schema that came is not the one asked for");
        }
        Ok(())
    }
}

async fn next(answers: &mut RecvStream, limit: usize) -> anyhow::Result<Answer> {
    let inside = timeout(PATIENCE, read_frame(answers, limit)).await??;
    Answer::decode(&inside).context("read an answer")
}
