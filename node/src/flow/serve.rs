//! Answers to peers' questions, from the store, at the pace of their budget.
//!
//! One task a stream, at most `PER_PEER` at a time; more are reset, and whoever opened them named, as is who asks for
//! too much at once or never finishes asking. Rows go newest
//! window first and only when the peer's bucket lets them, at the lowest stream priority: live
//! datagrams never wait for them. What is answered is in memory one piece at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{
    Head, IntervalSet, LogId, MAX_SERIES, Origin, Parcel, SchemaHash, Seq, Store, window_of,
};
use quinn::{RecvStream, SendStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::offence::Offence;
use super::stream::{TooLong, read_frame};
use super::wire::{Answer, HeldAnswer, MAX_QUESTION, Question};
use crate::replica::budget::Bucket;

/// Streams of one peer served at a time.
pub(super) const PER_PEER: usize = 6;
/// How long a peer may take to say what it wants, and to take each piece.
const PATIENCE: Duration = Duration::from_secs(20);
/// Windows of rows, seals and origins in one question: several times what `replica` asks for.
const MAX_WINDOWS: usize = 16;
const MAX_SEALS: usize = 256;
const MAX_ORIGINS: usize = 16;
/// One export: a window of the largest rows fits.
const EXPORT_BYTES: usize = 2 * 1024 * 1024;
const PRIORITY: i32 = -10;

/// What the flow's task has to answer or be told while a stream is served.
#[derive(Debug)]
pub(super) enum Inquiry {
    /// The full sets of these origins.
    Held(Vec<Origin>, oneshot::Sender<Vec<HeldAnswer>>),
    /// The peer has these rows from us.
    Delivered(NodeId, LogId, Seq, Seq),
    /// A stream ended.
    Ended(NodeId),
}

/// Serves streams; clones share the buckets.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) store: Store,
    pub(super) shared: Arc<Shared>,
    pub(super) inquiries: mpsc::Sender<Inquiry>,
    pub(super) buckets: Arc<Mutex<BTreeMap<NodeId, Bucket>>>,
}

impl Server {
    /// Reads one question and answers it.
    pub(super) async fn serve(self, from: NodeId, mut send: SendStream, mut recv: RecvStream) {
        // The stream may be gone already; then the question isn't there either.
        let _ = send.set_priority(PRIORITY);
        let asked = timeout(PATIENCE, read_frame(&mut recv, MAX_QUESTION)).await;
        match asked.map(|inside| inside.map(|inside| Question::decode(&inside))) {
            Ok(Ok(Some(question))) if is_modest(&question) => {
                // A peer that went away, or is too slow, asks again.
                let _ = self.answer(from, question, &mut send).await;
            }
            Ok(Ok(Some(_))) => self.shared.blame(from, Offence::Greedy),
            Ok(Ok(None)) => self.shared.blame(from, Offence::Unreadable),
            Ok(Err(error)) if error.is::<TooLong>() => {
                self.shared.blame(from, Offence::Unreadable);
            }
            Ok(Err(_)) => self.shared.refuse("question: broke off"),
            Err(_) => self.shared.blame(from, Offence::Unfinished),
        }
        let _ = send.finish();
        let _ = self.inquiries.send(Inquiry::Ended(from)).await;
    }

    async fn answer(
        &self,
        from: NodeId,
        question: Question,
        send: &mut SendStream,
    ) -> anyhow::Result<()> {
        match question {
            Question::Held(origins) => self.held(from, origins, send).await?,
            Question::Rows(log, rows) => self.rows(from, log, &rows, send).await?,
            Question::Seals(windows) => self.seals(from, windows, send).await?,
            Question::Schema(hash, known) => self.schema(from, hash, known, send).await?,
        }
        self.write(from, send, &Answer::End).await
    }

    async fn held(
        &self,
        from: NodeId,
        origins: Vec<Origin>,
        send: &mut SendStream,
    ) -> anyhow::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.inquiries.send(Inquiry::Held(origins, reply)).await?;
        for held in answer.await? {
            self.write(from, send, &Answer::Held(held)).await?;
        }
        Ok(())
    }

    async fn rows(
        &self,
        from: NodeId,
        log: LogId,
        rows: &IntervalSet,
        send: &mut SendStream,
    ) -> anyhow::Result<()> {
        let mut sent = IntervalSet::new();
        for range in windows(rows) {
            let mut wanted: IntervalSet = [range].into_iter().collect();
            wanted = wanted.subtract(&sent);
            while let Some((first, last)) = next_range(&wanted) {
                let parcels = self.export(log, first..=last).await?;
                wanted.remove(first..=last);
                let mut reached = None;
                for parcel in parcels {
                    let (answer, from_seq, to_seq) = described(parcel)?;
                    self.write(from, send, &answer).await?;
                    sent.insert(from_seq..=to_seq);
                    reached = reached.max(Some(to_seq));
                    self.inquiries
                        .send(Inquiry::Delivered(from, log, from_seq, to_seq))
                        .await?;
                }
                // An export that stopped at its size goes on behind what it gave.
                if let Some(reached) = reached.filter(|reached| *reached < last) {
                    wanted.insert(reached + 1..=last);
                }
            }
        }
        Ok(())
    }

    async fn export(
        &self,
        log: LogId,
        range: std::ops::RangeInclusive<Seq>,
    ) -> anyhow::Result<Vec<Parcel>> {
        let store = self.store.clone();
        Ok(tokio::task::spawn_blocking(move || store.export(&log, range, EXPORT_BYTES)).await??)
    }

    async fn seals(
        &self,
        from: NodeId,
        windows: Vec<(LogId, Seq)>,
        send: &mut SendStream,
    ) -> anyhow::Result<()> {
        let store = self.store.clone();
        let find = move || {
            windows
                .iter()
                .filter_map(|(log, first)| store.seal_of(log, *first))
                .collect::<Vec<_>>()
        };
        for seal in tokio::task::spawn_blocking(find).await? {
            self.write(from, send, &Answer::Seal(seal.encode().into()))
                .await?;
        }
        Ok(())
    }

    async fn schema(
        &self,
        from: NodeId,
        hash: SchemaHash,
        known: Vec<SchemaHash>,
        send: &mut SendStream,
    ) -> anyhow::Result<()> {
        let mut deltas = Vec::new();
        let mut next = Some(hash);
        while let Some(hash) =
            next.filter(|hash| !known.contains(hash) && deltas.len() < MAX_SERIES)
        {
            let Some(delta) = self.store.schema_delta(&hash) else {
                break;
            };
            next = delta.parent;
            deltas.push(delta);
        }
        for delta in deltas.into_iter().rev() {
            self.write(from, send, &Answer::Schema(delta.encode().into()))
                .await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        from: NodeId,
        send: &mut SendStream,
        answer: &Answer,
    ) -> anyhow::Result<()> {
        let bytes = answer.encode();
        sleep(self.wait_for(from, bytes.len())).await;
        timeout(PATIENCE, send.write_all(&bytes)).await??;
        self.shared
            .stats(|stats| stats.served_bytes += bytes.len() as u64);
        Ok(())
    }

    fn wait_for(&self, peer: NodeId, bytes: usize) -> Duration {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().expect("no holder of this lock panics");
        buckets
            .entry(peer)
            .or_insert_with(|| Bucket::new(now))
            .take(bytes, now)
    }
}

/// Whether a question asks for no more than an honest peer does.
fn is_modest(question: &Question) -> bool {
    match question {
        Question::Held(origins) => origins.len() <= MAX_ORIGINS,
        Question::Rows(_, rows) => {
            let last = rows.last().unwrap_or(0);
            let first = rows.first().unwrap_or(0);
            ((last - first) / 60) as usize <= MAX_WINDOWS
        }
        Question::Seals(windows) => windows.len() <= MAX_SEALS,
        Question::Schema(_, known) => known.len() <= MAX_SEALS,
    }
}

/// Ranges cut at window borders, newest first.
fn windows(rows: &IntervalSet) -> Vec<std::ops::RangeInclusive<Seq>> {
    let mut cut = Vec::new();
    for range in rows.ranges() {
        let (mut first, last) = range.into_inner();
        while first <= last {
            let end = *window_of(first).end();
            cut.push(first..=last.min(end));
            let Some(next) = end.checked_add(1) else {
                break;
            };
            first = next;
        }
    }
    cut.reverse();
    cut
}

fn next_range(rows: &IntervalSet) -> Option<(Seq, Seq)> {
    rows.ranges()
        .next()
        .map(std::ops::RangeInclusive::into_inner)
}

fn described(parcel: Parcel) -> anyhow::Result<(Answer, Seq, Seq)> {
    Ok(match parcel {
        Parcel::Row(bytes) => {
            let seq = outlast_store::SignedRow::decode(&bytes)?.row.seq;
            (Answer::Row(Bytes::from(bytes)), seq, seq)
        }
        Parcel::Block(bytes) => {
            let head = Head::peek(&bytes)?;
            (Answer::Block(Bytes::from(bytes)), head.first, head.last())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_windows_and_go_newest_first() {
        let rows: IntervalSet = [5..=10, 50..=130].into_iter().collect();
        assert_eq!(windows(&rows), [121..=130, 61..=120, 50..=60, 5..=10]);
    }

    #[test]
    fn the_last_window_there_can_be_ends_the_cutting() {
        let rows: IntervalSet = [u32::MAX - 1..=u32::MAX].into_iter().collect();
        assert_eq!(windows(&rows), [u32::MAX - 1..=u32::MAX]);
    }

    #[test]
    fn a_question_for_everything_is_no_modest_one() {
        let log = LogId {
            origin: Origin([1; 32]),
            store: outlast_store::StoreId(1),
            epoch: outlast_store::Epoch {
                counter: 1,
                nonce: 1,
            },
        };
        let of = |ranges: Vec<std::ops::RangeInclusive<Seq>>| {
            is_modest(&Question::Rows(log, ranges.into_iter().collect()))
        };
        assert!(of(vec![1..=240]));
        assert!(!of(vec![0..=u32::MAX - 1]));
        assert!(!of(vec![1..=1, 50_000..=50_000]));
        assert!(!is_modest(&Question::Held(vec![Origin([1; 32]); 17])));
    }
}
