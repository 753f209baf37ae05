//! QUIC streams to peers: one cached connection each, either side may have opened it.
//!
//! `open` hands out a stream, connecting first where needed; streams the peers open become
//! events. Two connections opened at the same moment both work; the later one is used for new
//! streams and the other runs out after its idle time. Of `MOST_CONNECTIONS` with one peer one more
//! closes the oldest, and is counted. Absent: how datagrams get there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Event;
use super::quic::Streams;
use crate::error::StreamError;
use crate::id::NodeId;

/// How long a connection may take: a peer that is connected answers within a few round trips.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Connections with one peer at a time: one of each side, and as many that are running out.
const MOST_CONNECTIONS: usize = 4;

/// Peers with too many connections that are remembered until they are named.
const MOST_EXCESS: usize = 256;

/// The connections.
#[derive(Clone)]
pub(crate) struct Connections {
    streams: Streams,
    /// Those of each peer, the latest last.
    cached: Arc<Mutex<BTreeMap<NodeId, Vec<Connection>>>>,
    excess: Arc<Mutex<Vec<NodeId>>>,
    connecting: Arc<Mutex<BTreeMap<NodeId, Arc<tokio::sync::Mutex<()>>>>>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
}

impl Connections {
    /// Begins to accept connections; streams the peers open go to `events` until `stop`.
    pub(crate) fn start(
        streams: Streams,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Self {
        let connections = Self {
            streams,
            cached: Arc::default(),
            excess: Arc::default(),
            connecting: Arc::default(),
            events,
            stop,
        };
        tokio::spawn(connections.clone().accept());
        connections
    }

    /// Opens a stream to a peer.
    pub(crate) async fn open(&self, to: NodeId) -> Result<(SendStream, RecvStream), StreamError> {
        let failed = |reason: String| StreamError::Failed { node: to, reason };
        if let Some(connection) = self.cached(to)
            && let Ok(stream) = connection.open_bi().await
        {
            return Ok(stream);
        }
        let connection = self.connect(to).await?;
        let stream = connection.open_bi().await;
        stream.map_err(|error| failed(error.to_string()))
    }

    /// Closes the connection to somebody who is gone.
    pub(crate) fn close(&self, peer: NodeId) {
        let connections = self.lock().remove(&peer);
        for connection in connections.into_iter().flatten() {
            connection.close(0_u32.into(), b"disconnected");
        }
        lock(&self.connecting).remove(&peer);
    }

    /// Closes everything.
    pub(crate) fn close_all(&self) {
        self.streams.close();
        self.lock().clear();
    }

    /// Who opened more connections than are kept since this was asked last, once for each.
    pub(crate) fn take_excess(&self) -> Vec<NodeId> {
        std::mem::take(&mut lock(&self.excess))
    }

    /// Connects, one attempt at a time for each peer.
    async fn connect(&self, to: NodeId) -> Result<Connection, StreamError> {
        let failed = |reason: String| StreamError::Failed { node: to, reason };
        let turn = Arc::clone(lock(&self.connecting).entry(to).or_default());
        let _turn = turn.lock().await;
        if let Some(connection) = self.cached(to) {
            return Ok(connection);
        }
        let connection = tokio::time::timeout(CONNECT_LIMIT, self.streams.connect(to))
            .await
            .map_err(|_elapsed| failed(format!("no answer within {} s", CONNECT_LIMIT.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        self.keep(to, connection.clone());
        Ok(connection)
    }

    async fn accept(self) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = self.streams.accept() => accepted,
            };
            let Some((peer, connection)) = accepted else {
                return;
            };
            self.keep(peer, connection);
        }
    }

    /// Caches a connection and passes on the streams its other side opens.
    fn keep(&self, peer: NodeId, connection: Connection) {
        self.remember(peer, connection.clone());
        let (events, stop) = (self.events.clone(), self.stop.clone());
        tokio::spawn(async move {
            loop {
                let opened = tokio::select! {
                    () = stop.cancelled() => return,
                    opened = connection.accept_bi() => opened,
                };
                let Ok((send, recv)) = opened else {
                    return;
                };
                let event = Event::Stream {
                    from: peer,
                    send,
                    recv,
                };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
    }

    fn remember(&self, peer: NodeId, connection: Connection) {
        let mut cached = self.lock();
        let open = cached.entry(peer).or_default();
        open.retain(|connection| connection.close_reason().is_none());
        open.push(connection);
        if open.len() > MOST_CONNECTIONS {
            open.remove(0).close(0_u32.into(), b"too many");
            let mut excess = lock(&self.excess);
            if excess.len() < MOST_EXCESS {
                excess.push(peer);
            }
        }
    }

    fn cached(&self, peer: NodeId) -> Option<Connection> {
        let connection = self.lock().get(&peer)?.last().cloned()?;
        connection.close_reason().is_none().then_some(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Vec<Connection>>> {
        lock(&self.cached)
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
