//! What all open pages share: numbers of nodes and series, the frames that are made once for all,
//! and places for so many pages.
//!
//! Bounds: `MAX_PAGES` pages (one more is told to come back), `MAX_SERIES` series a request,
//! `MAX_QUERIES` answers computed at a time (the others wait their turn).
//! Absent: the connection of one page (`page`), and who makes the frames (`overview`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{Schema, SchemaHash, Series, SignedRow};
use tokio::sync::{Semaphore, watch};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::catalog::Catalog;
use super::roster::{Board, Held, Roster};
use super::{api, overview};
use crate::flow::{Flow, origin_of};

/// The most pages at a time.
const MAX_PAGES: usize = 32;

/// The most series in one request.
const MAX_SERIES: usize = 64;

/// How many answers are computed at a time for all pages together: the machine has other work.
const MAX_QUERIES: usize = 2;

/// What all pages share.
#[derive(Debug)]
pub(super) struct Live {
    flow: Flow,
    version: String,
    roster: Mutex<Roster>,
    catalog: Mutex<Catalog>,
    pages: watch::Sender<usize>,
    places: AtomicUsize,
    board: watch::Sender<Arc<Board>>,
    tick: watch::Sender<Bytes>,
    queries: Semaphore,
    stop: CancellationToken,
}

impl Live {
    /// Begins to follow the flow as soon as a page is open.
    pub(super) fn start(flow: Flow, version: String, stop: CancellationToken) -> Arc<Self> {
        let live = Arc::new(Self {
            flow,
            version,
            roster: Mutex::default(),
            catalog: Mutex::default(),
            pages: watch::Sender::new(0),
            places: AtomicUsize::new(0),
            board: watch::Sender::default(),
            tick: watch::Sender::default(),
            queries: Semaphore::new(MAX_QUERIES),
            stop,
        });
        tokio::spawn(overview::follow(Arc::clone(&live)));
        live
    }

    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// How many pages are open.
    pub(super) fn pages(&self) -> watch::Receiver<usize> {
        self.pages.subscribe()
    }

    /// Every node as pages know it.
    pub(super) fn list(&self, held: impl Fn(NodeId) -> Held) -> Vec<api::Node> {
        let snapshot = self.flow.mesh().snapshot();
        lock(&self.roster).list(&snapshot, &self.flow.backlog(), held)
    }

    pub(super) fn number(&self, node: NodeId) -> Option<u16> {
        lock(&self.roster).number(node)
    }

    pub(super) fn series_count(&self, node: NodeId) -> u32 {
        lock(&self.catalog).count(node)
    }

    /// All series of a node as pages know them.
    pub(super) fn series(&self, node: NodeId) -> Vec<api::SeriesInfo> {
        self.newest_schema(node);
        lock(&self.catalog).list(node)
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The newest list of nodes; empty until the overview follows them.
    pub(super) fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.board.subscribe()
    }

    /// The newest TICK frame.
    pub(super) fn tick(&self) -> watch::Receiver<Bytes> {
        self.tick.subscribe()
    }

    pub(super) fn show_tick(&self, frame: Bytes) {
        self.tick.send_replace(frame);
    }

    pub(super) fn show_board(&self, board: Board) {
        self.board.send_replace(Arc::new(board));
    }

    /// A schema of a node, its series numbered for pages. `None` where the store lacks it still.
    pub(super) fn meet(&self, node: NodeId, hash: &SchemaHash) -> Option<Arc<Schema>> {
        let schema = self.flow.store().schema(hash)?;
        let mut catalog = lock(&self.catalog);
        if !catalog.knows(node, hash) {
            catalog.meet(node, &schema);
        }
        Some(schema)
    }

    /// Numbers series of a node whose schema isn't here.
    pub(super) fn learn(&self, node: NodeId, series: impl Iterator<Item = Series>) {
        lock(&self.catalog).learn(node, series);
    }

    /// The newest row held of a node. The first time that may unpack what the disk holds, or wait for a disk that hangs:
    /// meanwhile this thread is not one of those that carry the mesh.
    pub(super) fn newest(&self, node: NodeId) -> Option<Arc<SignedRow>> {
        block_in_place(|| self.flow.store().latest(&origin_of(node)))
    }

    /// The schema of a node's newest row.
    pub(super) fn newest_schema(&self, node: NodeId) -> Option<Arc<Schema>> {
        let row = self.newest(node)?;
        self.meet(node, &row.row.schema)
    }

    /// A node and some of its series, by the numbers pages have for them; `Err` is for the page.
    pub(super) fn find(
        &self,
        node: u16,
        series: &[u32],
    ) -> Result<(NodeId, Vec<Arc<Series>>), String> {
        if series.len() > MAX_SERIES {
            return Err(format!(
                "{} series are more than {MAX_SERIES}",
                series.len()
            ));
        }
        let id = self.node(node)?;
        // A page may ask before anything else has looked at the node.
        self.newest_schema(id);
        let found = lock(&self.catalog).find(id, series);
        found
            .map(|series| (id, series))
            .ok_or_else(|| format!("node {node} has no such series"))
    }

    /// Runs a query on a thread for blocking work, when one of `MAX_QUERIES` is free.
    pub(super) async fn compute<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
        &self,
        query: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, String> {
        let _turn = self
            .queries
            .acquire()
            .await
            .map_err(|closed| closed.to_string())?;
        match tokio::task::spawn_blocking(query).await {
            Ok(found) => found.map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The node behind a number.
    pub(super) fn node(&self, node: u16) -> Result<NodeId, String> {
        lock(&self.roster)
            .node(node)
            .ok_or_else(|| format!("no node has the number {node}"))
    }
}

/// One of `MAX_PAGES`, given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Live>);

impl Place {
    pub(super) fn take(live: &Arc<Live>) -> Option<Self> {
        let fits = |open: usize| (open < MAX_PAGES).then_some(open + 1);
        live.places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        live.pages.send_modify(|pages| *pages += 1);
        Some(Self(Arc::clone(live)))
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.pages.send_modify(|pages| *pages -= 1);
        self.0.places.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
