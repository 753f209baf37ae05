//! The history of a node whose rows aren't kept here, from whoever keeps them.
//!
//! Holders are asked in rendezvous order, who answered the last question first, one at a time; the next one as well when the first byte of an answer takes longer
//! than `HEDGE`, or an answer stands still. The first whole answer counts. What it doesn't cover is asked of others, of one
//! that doesn't answer that within `GAP` no more.
//! A holder that is slow, lies about what it was asked, or ends early costs its own answer only; who sends what was not
//! asked for is named. Points are the holder's word: none of them is signed.
//! Bounds: `MOST_QUESTIONS` questions a query, `MOST_BYTES` an answer, `MOST_GAPS` gaps at `MOST_OTHERS` others each,
//! `MOST_ASKING` queries at a time, the rest wait.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use outlast_mesh::NodeId;
use outlast_store::{Pattern, Query, SeriesPoints};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::core::{Frames, Offence};
use super::points::{Covered, MOST_POINT_BYTES, Page, PointsAsked, Union};
use super::wire::{Answer, MAX_ANSWER, Question};
use super::{Flow, origin_of};

/// How long the first byte of an answer may take before another holder is asked too.
const HEDGE: Duration = Duration::from_millis(150);
/// How long an answer that has begun may stand still before another holder is asked too.
const STALLED: Duration = Duration::from_secs(3);
/// And before it is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what one holder lacks is waited for of another: mostly nobody has it, as of the time before a node joined.
const GAP: Duration = Duration::from_secs(5);
/// Questions for one query: ten days of raw samples.
const MOST_QUESTIONS: usize = 256;
/// Bytes of one answer.
const MOST_BYTES: usize = MOST_POINT_BYTES + 64 * 1024;
const MOST_GAPS: usize = 4;
const MOST_OTHERS: usize = 2;
/// Queries of this node at a time.
pub(super) const MOST_ASKING: usize = 4;

/// Where the rows of a node are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Whether they are kept here.
    pub kept: bool,
    /// Who else is to have them, as far as they can be asked: who is connected first, of those the node itself.
    pub holders: Vec<NodeId>,
}

/// What somebody looking asks of the flow's task.
#[derive(Debug)]
pub(super) enum Look {
    /// Live rows of a node.
    At(NodeId),
    /// Where its rows are.
    Find(NodeId, oneshot::Sender<Whereabouts>),
    /// Whose rows are kept here.
    Kept(oneshot::Sender<BTreeSet<NodeId>>),
}

/// An answer put together.
#[derive(Debug)]
pub struct Told {
    /// As the store's own query gives them.
    pub series: Vec<SeriesPoints>,
    /// Whose word it is.
    pub holders: Vec<NodeId>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody who may hold it is there, or all of them failed.
    #[error("none of the {asked} members that may hold this node's history answered")]
    Nobody {
        /// How many were asked.
        asked: usize,
    },
    /// The range has too many steps.
    #[error(
        "this node's history is not kept here, and of others at most {limit} h of raw samples are asked for: name a shorter range or a coarser step"
    )]
    TooLong {
        /// Hours.
        limit: usize,
    },
    /// The pattern can't be read.
    #[error("{0}")]
    Pattern(String),
}

/// The whole answer of one holder to one question.
#[derive(Debug)]
struct Heard {
    from: NodeId,
    pages: Vec<Page>,
    covered: Covered,
}

impl Flow {
    /// Where the rows of a node are, by what this node knows of the members.
    pub async fn whereabouts(&self, node: NodeId) -> Whereabouts {
        let (reply, found) = oneshot::channel();
        // A flow that is ending finds nobody.
        let _ = self.looks.send(Look::Find(node, reply)).await;
        found.await.unwrap_or(Whereabouts {
            kept: true,
            holders: Vec::new(),
        })
    }

    /// The members whose rows are kept here.
    pub async fn kept(&self) -> BTreeSet<NodeId> {
        let (reply, kept) = oneshot::channel();
        // A flow that is ending keeps nobody's.
        let _ = self.looks.send(Look::Kept(reply)).await;
        kept.await.unwrap_or_default()
    }

    /// History of one node from `holders`, with `local` what this node has of it.
    pub async fn ask_holders(
        &self,
        node: NodeId,
        holders: &[NodeId],
        query: &Query,
        local: Vec<SeriesPoints>,
    ) -> Result<Told, AskError> {
        let origin = origin_of(node);
        let pattern = Pattern::parse(&query.series);
        let pattern = pattern.map_err(|error| AskError::Pattern(error.to_string()))?;
        let pattern = Arc::new(pattern);
        let questions = PointsAsked::count(query);
        if questions > MOST_QUESTIONS as u64 {
            return Err(AskError::TooLong {
                limit: MOST_QUESTIONS,
            });
        }
        let _turn = self.asking.acquire().await;
        let mut union = Union::default();
        local
            .into_iter()
            .for_each(|series| union.add_series(series));
        let ask = |holder, asked: PointsAsked, came: mpsc::Sender<()>| {
            let (flow, pattern) = (self.clone(), Arc::clone(&pattern));
            async move { flow.ask(holder, &asked, &pattern, &came).await }
        };
        let questions = PointsAsked::cut(origin, query);
        let told = gather(holders, questions, &mut union, ask).await;
        if told.is_empty() && union.is_empty() {
            let asked = holders.len();
            return Err(AskError::Nobody { asked });
        }
        Ok(Told {
            series: union.into_series(origin, query.from_ms..=query.to_ms),
            holders: told,
        })
    }

    async fn ask(
        &self,
        holder: NodeId,
        asked: &PointsAsked,
        pattern: &Pattern,
        came: &mpsc::Sender<()>,
    ) -> anyhow::Result<Heard> {
        let opening = timeout(PATIENCE, self.mesh.open_stream(holder)).await?;
        let (mut send, mut recv) = opening?;
        let question = Question::Points(asked.clone()).encode();
        send.write_all(&question).await?;
        send.finish()?;
        let (mut frames, mut size) = (Frames::default(), 0);
        let (mut pages, mut covered) = (Vec::new(), None);
        loop {
            let chunk = timeout(PATIENCE, recv.read_chunk(64 * 1024, true)).await??;
            let chunk = chunk.context("the answer broke off")?;
            size += chunk.bytes.len();
            ensure!(
                size <= MOST_BYTES,
                "the answer is longer than {MOST_BYTES} bytes"
            );
            // Whoever waits sees that something comes; that it came twice is no news.
            let _ = came.try_send(());
            frames.push(&chunk.bytes);
            while let Some(inside) = self.next(holder, &mut frames)? {
                match inside {
                    Answer::End => {
                        let covered = covered.context("the holder has no whole answer")?;
                        return Ok(Heard {
                            from: holder,
                            pages,
                            covered,
                        });
                    }
                    Answer::Covered(all) if all.is_modest() => covered = Some(all),
                    Answer::Points(bytes) => match Page::decode(&bytes) {
                        Some(page) if page.answers(asked, pattern) => pages.push(page),
                        _ => return Err(self.lied(holder, Offence::Unasked)),
                    },
                    _ => return Err(self.lied(holder, Offence::Unasked)),
                }
            }
        }
    }

    fn next(&self, holder: NodeId, frames: &mut Frames) -> anyhow::Result<Option<Answer>> {
        let inside = match frames.next(MAX_ANSWER) {
            Ok(Some(inside)) => inside,
            Ok(None) => return Ok(None),
            Err(_too_long) => return Err(self.lied(holder, Offence::Unreadable)),
        };
        match Answer::decode(&inside) {
            Some(answer) => Ok(Some(answer)),
            None => Err(self.lied(holder, Offence::Unreadable)),
        }
    }

    fn lied(&self, holder: NodeId, what: Offence) -> anyhow::Error {
        self.shared.refuse(what.as_str());
        self.shared.blame(holder, what);
        anyhow::anyhow!("{}", what.as_str())
    }
}

/// The answers to all questions, put together; says who gave them.
async fn gather<Ask, Answering>(
    holders: &[NodeId],
    questions: Vec<PointsAsked>,
    union: &mut Union,
    ask: Ask,
) -> Vec<NodeId>
where
    Ask: Fn(NodeId, PointsAsked, mpsc::Sender<()>) -> Answering,
    Answering: Future<Output = anyhow::Result<Heard>> + Send + 'static,
{
    let mut told = Vec::new();
    let mut holders = holders.to_vec();
    let mut silent = BTreeSet::new();
    for asked in questions {
        let Some(heard) = race(&holders, &asked, &ask).await else {
            continue;
        };
        let first = heard.from;
        let gaps = heard.covered.gaps(&asked);
        take(union, &mut told, heard);
        holders.sort_by_key(|holder| *holder != first);
        let others = holders[1..].iter().take(MOST_OTHERS);
        for holder in others {
            for gap in gaps.iter().take(MOST_GAPS) {
                if silent.contains(holder) {
                    break;
                }
                match timeout(GAP, race(&[*holder], gap, &ask)).await {
                    Ok(Some(heard)) if heard.pages.is_empty() => {}
                    Ok(Some(heard)) => take(union, &mut told, heard),
                    Ok(None) | Err(_) => {
                        silent.insert(*holder);
                    }
                }
            }
        }
    }
    told
}

/// The first whole answer; `None` if all failed.
async fn race<Ask, Answering>(holders: &[NodeId], asked: &PointsAsked, ask: &Ask) -> Option<Heard>
where
    Ask: Fn(NodeId, PointsAsked, mpsc::Sender<()>) -> Answering,
    Answering: Future<Output = anyhow::Result<Heard>> + Send + 'static,
{
    let mut runs = JoinSet::new();
    let (came_in, mut came) = mpsc::channel(16);
    let mut next = holders.iter();
    let mut hedge = Instant::now();
    loop {
        if runs.is_empty() && next.len() == 0 {
            return None;
        }
        tokio::select! {
            // What is there counts before what is late.
            biased;
            Some(ended) = runs.join_next() => match ended {
                Ok(Ok(heard)) => return Some(heard),
                Ok(Err(error)) => {
                    tracing::debug!(error = format!("{error:#}"), "a holder did not answer");
                    hedge = Instant::now();
                }
                Err(_) => hedge = Instant::now(),
            },
            Some(()) = came.recv() => hedge = Instant::now() + STALLED,
            () = sleep_until(hedge), if next.len() > 0 => {
                if let Some(holder) = next.next() {
                    runs.spawn(ask(*holder, asked.clone(), came_in.clone()));
                }
                hedge = Instant::now() + HEDGE;
            }
        }
    }
}

fn take(union: &mut Union, told: &mut Vec<NodeId>, heard: Heard) {
    heard.pages.iter().for_each(|page| union.add_page(page));
    union.add_tiers(&heard.covered);
    if !told.contains(&heard.from) {
        told.push(heard.from);
    }
}

/// Permits for `MOST_ASKING` queries.
pub(super) fn asking() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_ASKING))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use outlast_store::{Origin, Step};

    use super::*;

    const BAD: NodeId = NodeId([1; 32]);
    const GOOD: NodeId = NodeId([2; 32]);

    /// Whom a query of three questions asked, in order, where `BAD` comes first and `GOOD` lacks the first ten minutes of each.
    async fn asked_where(bad_fails: bool) -> Vec<NodeId> {
        let query = Query {
            origins: None,
            series: "ticks_total".to_owned(),
            from_ms: 0,
            to_ms: 8 * 3_600_000,
            step: Step::Raw,
            now_ms: None,
        };
        let mut questions = PointsAsked::cut(Origin([3; 32]), &query);
        questions.truncate(3);
        let calls = Mutex::new(Vec::new());
        let ask = |holder, asked: PointsAsked, _came| {
            calls.lock().unwrap().push(holder);
            async move {
                if holder == BAD && bad_fails {
                    anyhow::bail!("it lied");
                }
                if holder == BAD {
                    pending::<()>().await;
                }
                let covered = Covered {
                    runs: vec![(asked.from_ms + 600_000, asked.to_ms)],
                    tiers: Vec::new(),
                };
                Ok(Heard {
                    from: holder,
                    pages: Vec::new(),
                    covered,
                })
            }
        };
        assert_eq!(questions.len(), 3);
        let told = gather(&[BAD, GOOD], questions, &mut Union::default(), ask).await;
        assert_eq!(told, [GOOD]);
        calls.into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_silent_holder_is_waited_for_once_a_query_and_one_that_fails_no_more() {
        let whom = [BAD, GOOD, BAD, GOOD, GOOD];
        assert_eq!(asked_where(false).await, whom);
        assert_eq!(asked_where(true).await, whom);
    }
}
