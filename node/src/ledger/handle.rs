//! The ledger as the rest of the node sees it: something to write into, and everything that is known.
//!
//! `channel` makes both ends: the handle for whoever publishes and reads, the desk for the task that owns the ledger.
//! Bound: `DRAFTS` wait for the task; one more is refused to whoever publishes.
//! Absent: numbers, signatures and quotas; the ledger itself gives and keeps those.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::event::{Draft, Event, MAX_BODY, Place};

/// Events that may wait to be numbered: more than a node's burst.
const DRAFTS: usize = 128;

/// Every event that is held, by author and then in the author's own order.
pub type Events = BTreeMap<Place, Event>;

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It is too long.
    #[error("event of {len} bytes exceeds the limit of {MAX_BODY} bytes")]
    TooLong {
        /// How long its body is.
        len: usize,
    },
    /// Too many wait.
    #[error("{DRAFTS} events wait to be written already")]
    Full,
    /// This node has published more than its quota: it is counted, and told in one event later.
    #[error("held back: over the quota of events an hour, counted and told later")]
    HeldBack,
    /// It was taken, and what became of it is not known.
    #[error("the event was not told within {0:?}")]
    Patience(Duration),
    /// The node stops.
    #[error("the ledger is closed")]
    Closed,
}

/// Writes into the ledger and reads all of it; clones share it.
#[derive(Debug, Clone)]
pub struct LedgerHandle {
    drafts: mpsc::Sender<Submitted>,
    events: watch::Receiver<Arc<Events>>,
}

/// An event to be, and who waits for it.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) draft: Draft,
    /// Told once it is durable and on its way to the peers.
    pub(crate) done: Option<oneshot::Sender<Result<Place, PublishError>>>,
}

/// The other end of handles.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) drafts: mpsc::Receiver<Submitted>,
    pub(crate) events: watch::Sender<Arc<Events>>,
}

/// Both ends.
pub(crate) fn channel() -> (LedgerHandle, Desk) {
    let (drafts_in, drafts) = mpsc::channel(DRAFTS);
    let (events, events_out) = watch::channel(Arc::default());
    let handle = LedgerHandle {
        drafts: drafts_in,
        events: events_out,
    };
    (handle, Desk { drafts, events })
}

impl LedgerHandle {
    /// Publishes an event of this node, which happened at `wall_ms`. It is signed, written to disk and told to everybody;
    /// over the quota it is counted instead, and how many is told later.
    pub fn publish(&self, draft: Draft) -> Result<(), PublishError> {
        self.submit(draft, None)
    }

    /// As `publish`, and waits until the event is on disk and on its way to the peers: for a node that is about to end.
    pub async fn publish_and_wait(
        &self,
        draft: Draft,
        patience: Duration,
    ) -> Result<Place, PublishError> {
        let (done, told) = oneshot::channel();
        self.submit(draft, Some(done))?;
        match tokio::time::timeout(patience, told).await {
            Ok(answer) => answer.unwrap_or(Err(PublishError::Closed)),
            Err(_elapsed) => Err(PublishError::Patience(patience)),
        }
    }

    /// Every event held at this moment, at most a second old.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Events> {
        Arc::clone(&self.events.borrow())
    }

    /// Follows the events: a new set when something came, once a second at most.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Events>> {
        self.events.clone()
    }

    fn submit(
        &self,
        draft: Draft,
        done: Option<oneshot::Sender<Result<Place, PublishError>>>,
    ) -> Result<(), PublishError> {
        let len = draft.body.len();
        if len > MAX_BODY {
            return Err(PublishError::TooLong { len });
        }
        let submitted = self.drafts.try_send(Submitted { draft, done });
        submitted.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PublishError::Full,
            mpsc::error::TrySendError::Closed(_) => PublishError::Closed,
        })
    }
}

impl Draft {
    /// An event of this moment, by this machine's clock.
    #[must_use]
    pub fn at(kind: u8, body: impl Into<Bytes>, wall_ms: i64, synced: bool) -> Self {
        Self {
            kind,
            body: body.into(),
            wall_ms,
            synced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::kind::LIFE;

    fn draft(len: usize) -> Draft {
        Draft::at(LIFE, vec![0; len], 1, false)
    }

    #[test]
    fn what_is_too_long_or_too_many_is_refused_to_whoever_publishes() {
        let (handle, mut desk) = channel();
        let long = handle.publish(draft(MAX_BODY + 1));
        assert_eq!(long, Err(PublishError::TooLong { len: MAX_BODY + 1 }));
        for _ in 0..DRAFTS {
            assert_eq!(handle.publish(draft(MAX_BODY)), Ok(()));
        }
        assert_eq!(handle.publish(draft(1)), Err(PublishError::Full));
        assert!(desk.drafts.try_recv().is_ok());
        assert_eq!(handle.publish(draft(1)), Ok(()));
        drop(desk);
        assert_eq!(handle.publish(draft(1)), Err(PublishError::Closed));
    }
}
