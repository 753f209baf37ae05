//! Carries one question to a peer and its answers to the store.
//!
//! One task a request; the replica bounds how many. Pieces go to the store one at a time, so a
//! request holds at most one in memory. Every piece must be of the log that was asked about;
//! a piece that isn't, or that was not asked for, ends the request and names the peer; one that the
//! store finds forged marks its rows. A request brings at most as many pieces as it asked for rows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use outlast_mesh::{Mesh, NodeId};
use outlast_store::{
    Head, IntervalSet, LogId, MAX_SCHEMA_BYTES, MAX_SERIES, Origin, SchemaDelta, SchemaHash, Seal,
    Seq, SignedRow, Store,
};
use quinn::RecvStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::keep::{Job, Piece, Repair};
use super::offence::Offence;
use super::stream::{TooLong, read_frame};
use super::wire::{Answer, HeldAnswer, MAX_ANSWER, MAX_HELD, Question};
use super::{Shared, node_of};
use crate::replica::{Ask, Request};

/// How long one frame may take; the replica gives up on a request earlier, by its progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the deltas in one schema answer: the largest schema there may be, grown by one series at a time.
const MAX_DELTA_BYTES: usize = MAX_SCHEMA_BYTES + MAX_SERIES * DELTA_HEAD;
/// What a delta has beside its series: marks, its parent, a count.
const DELTA_HEAD: usize = 40;

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
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) progress: mpsc::Sender<Progress>,
}

impl Fetcher {
    /// Runs one request to its end and says how it went.
    pub(super) async fn run(self, request: Request) {
        let (id, peer) = (request.id, node_of(request.peer));
        let end = match self.ask(request).await {
            Ok(()) => Progress::Done(id),
            Err(error) => {
                self.broke_off(peer, &error);
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
        let mut left = most_answers(&request.ask);
        loop {
            let answer = next(&mut answers, limit).await?;
            if !matches!(answer, Answer::End) {
                left = left.checked_sub(1).ok_or(Lie(Offence::Unasked))?;
            }
            match (answer, &request.ask) {
                (Answer::End, _) => return Ok(()),
                (Answer::Row(bytes), Ask::Rows { log, rows }) => {
                    self.row(peer, *log, rows, &bytes).await?
                }
                (Answer::Block(bytes), Ask::Rows { log, rows }) => {
                    self.block(peer, *log, rows, bytes).await?
                }
                (Answer::Held(held), Ask::Held { origins }) if origins.contains(&held.origin) => {
                    self.progress
                        .send(Progress::Held(request.id, peer, held))
                        .await?;
                }
                (Answer::Seal(bytes), Ask::Seals { windows }) => {
                    let seal = Seal::decode(&bytes).map_err(|_bytes| Lie(Offence::Unreadable))?;
                    if !windows.iter().any(|(log, _)| *log == seal.log) {
                        bail!(Lie(Offence::Unasked));
                    }
                    self.jobs.send(Job::Seal(seal, peer)).await?;
                }
                _ => bail!(Lie(Offence::Unasked)),
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

    async fn row(
        &self,
        peer: NodeId,
        log: LogId,
        asked: &IntervalSet,
        bytes: &Bytes,
    ) -> anyhow::Result<()> {
        let row = SignedRow::decode(bytes).map_err(|_bytes| Lie(Offence::Unreadable))?;
        if row.row.log != log || !asked.contains(row.row.seq) {
            bail!(Lie(Offence::Unasked));
        }
        self.store(peer, Piece::Row(Box::new(row))).await
    }

    /// A block is whole, also where only some of its rows were asked for.
    async fn block(
        &self,
        peer: NodeId,
        log: LogId,
        asked: &IntervalSet,
        bytes: Bytes,
    ) -> anyhow::Result<()> {
        let head = Head::peek(&bytes).map_err(|_bytes| Lie(Offence::Unreadable))?;
        let rows: IntervalSet = [head.first..=head.last()].into_iter().collect();
        if head.log != log || asked.intersect(&rows).is_empty() {
            bail!(Lie(Offence::Unasked));
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
            let job = Job::Repair(piece.clone(), peer, reply);
            self.jobs.send(job).await?;
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

    fn broke_off(&self, peer: NodeId, error: &anyhow::Error) {
        tracing::debug!(error = format!("{error:#}"), "a request broke off");
        if let Some(Lie(what)) = error.downcast_ref() {
            self.shared.blame(peer, *what);
        } else if error.is::<TooLong>() {
            self.shared.blame(peer, Offence::Unreadable);
        }
    }

    /// Fetches a schema for rows that wait for it, and says whether it is there.
    pub(super) async fn schema_for_parked(self, peer: NodeId, origin: Origin, hash: SchemaHash) {
        let fetched = self.schema(peer, origin, hash).await;
        if let Err(error) = &fetched {
            self.broke_off(peer, error);
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
        let (mut deltas, mut size) = (Vec::new(), 0);
        loop {
            match next(&mut answers, MAX_DELTA_BYTES).await? {
                Answer::End => break,
                Answer::Schema(bytes) if deltas.len() < MAX_SERIES => {
                    size += bytes.len();
                    if size > MAX_DELTA_BYTES {
                        bail!(Lie(Offence::Schemas));
                    }
                    let delta =
                        SchemaDelta::decode(&bytes).map_err(|_bytes| Lie(Offence::Schemas))?;
                    deltas.push(delta);
                }
                _ => bail!(Lie(Offence::Unasked)),
            }
        }
        if deltas.is_empty() {
            bail!("it does not have the schema");
        }
        if !is_chain(&deltas, hash) {
            bail!(Lie(Offence::Unasked));
        }
        let (reply, defined) = oneshot::channel();
        self.jobs.send(Job::Define(origin, deltas, reply)).await?;
        if !defined.await? || self.store.schema(&hash).is_none() {
            bail!("the schema that came is not the one asked for");
        }
        Ok(())
    }
}

/// What a peer did that no honest one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.as_str())]
struct Lie(Offence);

/// Pieces that answer a question at most. Blocks of an origin that sealed twice may overlap.
fn most_answers(ask: &Ask) -> u64 {
    match ask {
        Ask::Rows { rows, .. } => 2 * rows.len() + 8,
        Ask::Held { origins } => origins.len() as u64,
        Ask::Seals { windows } => windows.len() as u64,
    }
}

/// Whether these lead to the schema that was asked for, each the parent of the next: nothing else
/// may count against the limits of its origin. Nothing at all leads nowhere.
fn is_chain(deltas: &[SchemaDelta], hash: SchemaHash) -> bool {
    let hashes: Vec<_> = deltas.iter().map(SchemaDelta::hash).collect();
    let parents = deltas.iter().skip(1).map(|delta| delta.parent);
    hashes.last() == Some(&hash) && hashes.iter().zip(parents).all(|(h, p)| p == Some(*h))
}

async fn next(answers: &mut RecvStream, limit: usize) -> anyhow::Result<Answer> {
    let inside = timeout(PATIENCE, read_frame(answers, limit)).await??;
    Ok(Answer::decode(&inside).ok_or(Lie(Offence::Unreadable))?)
}

#[cfg(test)]
mod tests {
    use outlast_store::{Epoch, Kind, Schema, Series, StoreId};

    use super::*;

    fn delta(parent: Option<SchemaHash>, name: &str) -> SchemaDelta {
        let series = Series::new(name, [], "", Kind::Gauge, 0).unwrap();
        SchemaDelta {
            parent,
            appended: vec![series],
        }
    }

    #[test]
    fn only_the_chain_of_the_schema_that_was_asked_for_is_taken() {
        let first = delta(None, "a");
        let second = delta(Some(first.hash()), "b");
        let other = delta(None, "c");
        let wanted = second.hash();

        assert!(is_chain(&[first.clone(), second.clone()], wanted));
        assert!(
            is_chain(std::slice::from_ref(&second), wanted),
            "the first is known"
        );
        assert!(!is_chain(&[], wanted));
        assert!(!is_chain(&[second.clone(), first.clone()], wanted));
        assert!(!is_chain(&[other, first.clone(), second], wanted));
        assert!(!is_chain(&[first], wanted));
    }

    #[test]
    fn the_longest_chain_an_origin_may_make_fits_into_an_answer() {
        let first = delta(None, "a");
        let series_bytes = Schema::extend(None, &first).unwrap().size_bytes();
        let next = delta(Some(first.hash()), "a");
        let head = next.encode().len() - series_bytes;
        assert!(MAX_SCHEMA_BYTES + MAX_SERIES * head <= MAX_DELTA_BYTES);
    }

    #[test]
    fn an_answer_has_an_end_by_what_was_asked() {
        let log = LogId {
            origin: Origin([1; 32]),
            store: StoreId(1),
            epoch: Epoch {
                counter: 1,
                nonce: 1,
            },
        };
        let rows = [1..=60].into_iter().collect();
        assert_eq!(most_answers(&Ask::Rows { log, rows }), 128);
        let windows = vec![(log, 1), (log, 61)];
        assert_eq!(most_answers(&Ask::Seals { windows }), 2);
    }
}
