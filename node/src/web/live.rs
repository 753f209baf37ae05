//! `GET /live`: one `WebSocket` for each open page, and what all of them share.
//!
//! A page's task answers requests and passes on what `overview` makes. Nothing is queued for a slow
//! page: `nodes`, TICK and LIVE each have one slot that holds the newest, and an answer is computed only
//! when one of `MAX_JOBS` is free.
//! Bounds: `MAX_PAGES` pages (one more is told to come back), `MAX_MESSAGE` bytes a message (a longer one
//! ends the connection), `MAX_SERIES` series a request and `MAX_JOBS` requests at a time (an error
//! message each), `MAX_COMPLAINTS` messages that can't be read (then the connection ends).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{Schema, SchemaHash, Series};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::api::{ClientMessage, ColumnsHeader, Hello, MeshName, ServerMessage};
use super::catalog::{Catalog, describe};
use super::history::{self, Past, Range};
use super::roster::{Board, Held, Roster};
use super::watched::Watched;
use super::{Shared, api, frame, gauge, now_ms, overview};
use crate::flow::{Arrival, Flow, origin_of};

const PROTOCOL: &str = "outlast.v1";

/// The most pages at a time.
const MAX_PAGES: usize = 32;

/// The longest message of a page. The longest that makes sense has 64 series numbers.
const MAX_MESSAGE: usize = 16 * 1024;

/// The most series in one request.
const MAX_SERIES: usize = 64;

/// The most requests of one page that are being answered.
const MAX_JOBS: usize = 16;

/// How many messages that can't be read end a connection.
const MAX_COMPLAINTS: u32 = 16;

/// How many answers are computed at a time for all pages together: the machine has other work.
const MAX_QUERIES: usize = 2;

/// The longest overview, and how many values each of its columns has.
const MAX_WINDOW_MS: u64 = 3_600_000;
const OVERVIEW_POINTS: u32 = 600;

const PING_EVERY: Duration = Duration::from_secs(15);
const SILENT_AFTER: Duration = Duration::from_secs(35);

/// How long a page may take to accept one message.
const SEND_WITHIN: Duration = Duration::from_secs(10);

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

    /// The schema of a node's newest row.
    fn newest_schema(&self, node: NodeId) -> Option<Arc<Schema>> {
        let row = self.flow.store().latest(&origin_of(node))?;
        self.meet(node, &row.row.schema)
    }

    fn find(&self, node: u16, series: &[u32]) -> Result<(NodeId, Vec<Arc<Series>>), String> {
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

    fn node(&self, node: u16) -> Result<NodeId, String> {
        lock(&self.roster)
            .node(node)
            .ok_or_else(|| format!("no node has the number {node}"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the connection of a page that has a session.
pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    socket: WebSocketUpgrade,
) -> Response {
    if !shared.admits(&headers) {
        return (
            StatusCode::UNAUTHORIZED,
            "log in first: outlast dashboard\n",
        )
            .into_response();
    }
    let socket = socket
        .protocols([PROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE);
    if socket.selected_protocol().is_none() {
        return (StatusCode::BAD_REQUEST, "this speaks outlast.v1\n").into_response();
    }
    let Some(place) = Place::take(&shared.live) else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "as many pages as can be are open\n",
        )
            .into_response();
    };
    socket.on_upgrade(move |socket| Page::new(place, socket).run())
}

/// One of `MAX_PAGES`, given back when dropped.
#[derive(Debug)]
struct Place(Arc<Live>);

impl Place {
    fn take(live: &Arc<Live>) -> Option<Self> {
        let fits = |open: usize| (open < MAX_PAGES).then_some(open + 1);
        live.places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        live.pages.send_modify(|pages| *pages += 1);
        Some(Self(Arc::clone(live)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.pages.send_modify(|pages| *pages -= 1);
        self.0.places.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One open page.
struct Page {
    place: Place,
    socket: WebSocket,
    board: watch::Receiver<Arc<Board>>,
    tick: watch::Receiver<Bytes>,
    feed: broadcast::Receiver<Arc<Arrival>>,
    paused: bool,
    /// How far back the overview reaches; `None` while it isn't shown.
    window_ms: Option<u64>,
    /// The repairs after which each node's past was drawn last.
    drawn: BTreeMap<u16, u32>,
    /// Whether the page knows the nodes that frames speak of.
    described: bool,
    watched: Option<Watched>,
    jobs: JoinSet<Vec<Message>>,
    heard: Instant,
    complaints: u32,
}

/// Why a connection ends.
enum End {
    /// The page has gone; there is nobody to tell.
    Gone,
    /// With a last word.
    Bye(&'static str),
}

impl Page {
    fn new(place: Place, socket: WebSocket) -> Self {
        let live = &place.0;
        let (mut board, mut tick) = (live.board.subscribe(), live.tick.subscribe());
        tick.mark_unchanged();
        // Empty until the overview has begun to follow.
        if board.borrow().json.is_empty() {
            board.mark_unchanged();
        } else {
            board.mark_changed();
        }
        let feed = live.flow.feed();
        Self {
            place,
            socket,
            board,
            tick,
            feed,
            paused: false,
            window_ms: None,
            drawn: BTreeMap::new(),
            described: false,
            watched: None,
            jobs: JoinSet::new(),
            heard: Instant::now(),
            complaints: 0,
        }
    }

    async fn run(mut self) {
        let end = match self.greet().await {
            Ok(()) => self.talk().await,
            Err(end) => end,
        };
        if let End::Bye(reason) = end {
            let bye = text(&ServerMessage::Bye {
                reason: reason.into(),
            });
            if self.send(bye).await.is_ok() {
                // The page may be gone already; then there is nothing to close.
                let _ = self.send(Message::Close(None)).await;
            }
            debug!(reason, "a dashboard was closed");
        }
    }

    async fn talk(&mut self) -> End {
        let stop = self.live().stop.clone();
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                () = stop.cancelled() => Err(End::Bye("this node is stopping")),
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.handle(message).await,
                    Some(Err(_)) | None => Err(End::Gone),
                },
                Ok(()) = self.board.changed(), if !self.paused => self.send_board().await,
                Ok(()) = self.tick.changed(), if !self.paused && self.window_ms.is_some() => {
                    let frame = self.tick.borrow_and_update().clone();
                    self.send(Message::Binary(frame)).await
                }
                arrival = self.feed.recv(), if !self.paused && self.watched.is_some() => {
                    self.handle_arrival(arrival).await
                }
                Some(answer) = self.jobs.join_next() => self.send_all(answer.unwrap_or_default()).await,
                _ = ping.tick() => self.ping().await,
            };
            if let Err(end) = told {
                return end;
            }
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        let live = self.live();
        let snapshot = live.flow.mesh().snapshot();
        let hello = ServerMessage::Hello(Hello {
            version: live.version.clone(),
            me: snapshot.me.to_string(),
            mesh: MeshName {
                id: snapshot.mesh.to_string(),
                name: snapshot.mesh_name.clone(),
            },
            columns: gauge::described(),
            now_ms: now_ms(),
        });
        self.send(text(&hello)).await
    }

    async fn handle(&mut self, message: Message) -> Result<(), End> {
        self.heard = Instant::now();
        let message = match message {
            Message::Text(message) => message,
            Message::Binary(_) => return self.complain("messages are text").await,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(End::Gone),
        };
        match serde_json::from_str(&message) {
            Ok(message) => self.obey(message).await,
            Err(_) => self.complain("this message can't be read").await,
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Overview { window_ms } => {
                self.window_ms = Some(window_ms.min(MAX_WINDOW_MS));
                self.drawn.clear();
                self.draw_overview();
                Ok(())
            }
            ClientMessage::Series { request, node } => {
                let answer = self.series(request, node);
                self.send(text(&answer)).await
            }
            ClientMessage::History {
                request,
                node,
                series,
                from_ms,
                to_ms,
                max_points,
            } => {
                let range = Range::new(from_ms, to_ms, max_points);
                match self.begin_history(request, node, &series, range) {
                    Ok(()) => Ok(()),
                    Err(message) => {
                        self.send(text(&ServerMessage::Error { request, message }))
                            .await
                    }
                }
            }
            ClientMessage::Watch {
                request,
                node,
                series,
            } => match self.live().find(node, &series) {
                Ok((id, series)) => {
                    self.watched = Some(Watched::new(request, id, series));
                    // Rows that came before aren't live any more.
                    self.feed = self.feed.resubscribe();
                    Ok(())
                }
                Err(message) => {
                    self.send(text(&ServerMessage::Error { request, message }))
                        .await
                }
            },
            ClientMessage::Unwatch => {
                self.watched = None;
                Ok(())
            }
            ClientMessage::Pause => {
                self.paused = true;
                Ok(())
            }
            ClientMessage::Resume => {
                self.paused = false;
                self.feed = self.feed.resubscribe();
                Ok(())
            }
        }
    }

    fn series(&self, request: u32, node: u16) -> ServerMessage {
        let live = self.live();
        match live.node(node) {
            Ok(id) => {
                live.newest_schema(id);
                ServerMessage::Series {
                    request,
                    node,
                    series: lock(&live.catalog).list(id),
                }
            }
            Err(message) => ServerMessage::Error { request, message },
        }
    }

    fn begin_history(
        &mut self,
        request: u32,
        node: u16,
        numbers: &[u32],
        range: Range,
    ) -> Result<(), String> {
        if self.jobs.len() >= MAX_JOBS {
            return Err(format!("{MAX_JOBS} requests are being answered already"));
        }
        let (id, series) = self.live().find(node, numbers)?;
        let infos = numbers
            .iter()
            .zip(&series)
            .map(|(index, series)| describe(*index, series))
            .collect();
        let live = Arc::clone(&self.place.0);
        self.jobs.spawn(async move {
            let store = live.flow.store().clone();
            let query = move || history::of_series(&store, id, &series, range);
            let message = match live.compute(query).await {
                Ok(past) => columns(request, node, range, infos, &past),
                Err(message) => text(&ServerMessage::Error { request, message }),
            };
            vec![message]
        });
        Ok(())
    }

    /// Begins to compute the overview's past of the nodes for which it was not drawn since their
    /// last repair. When all jobs are taken, the next `nodes` message is the next occasion.
    fn draw_overview(&mut self) {
        let ready = self.described && self.jobs.len() < MAX_JOBS;
        let Some(window_ms) = self.window_ms.filter(|_| ready) else {
            return;
        };
        let repairs = self.board.borrow().repairs.clone();
        let undrawn = |(node, repairs): (&u16, &u32)| {
            (self.drawn.get(node) != Some(repairs)).then_some(*node)
        };
        let nodes: Vec<u16> = repairs.iter().filter_map(undrawn).collect();
        self.drawn = repairs;
        if nodes.is_empty() {
            return;
        }
        let live = Arc::clone(&self.place.0);
        self.jobs.spawn(async move {
            let to_ms = now_ms();
            let from_ms = to_ms.saturating_sub_unsigned(window_ms);
            let range = Range::new(from_ms, to_ms, OVERVIEW_POINTS);
            let mut messages = Vec::with_capacity(nodes.len());
            for node in nodes {
                let Ok(id) = live.node(node) else { continue };
                let past = match live.newest_schema(id) {
                    Some(schema) => {
                        let store = live.flow.store().clone();
                        let query = move || history::of_overview(&store, id, &schema.series, range);
                        live.compute(query).await.unwrap_or_default()
                    }
                    None => Past::default(),
                };
                messages.push(columns(
                    u32::from(node),
                    node,
                    range,
                    overview_series(),
                    &past,
                ));
            }
            messages
        });
    }

    async fn send_board(&mut self) -> Result<(), End> {
        let board = Arc::clone(&*self.board.borrow_and_update());
        if board.json.is_empty() {
            return Ok(());
        }
        self.send(Message::Text(Utf8Bytes::from(&*board.json)))
            .await?;
        self.described = true;
        self.draw_overview();
        Ok(())
    }

    async fn handle_arrival(
        &mut self,
        arrival: Result<Arc<Arrival>, RecvError>,
    ) -> Result<(), End> {
        let mut newest = None;
        let mut next = arrival.map_err(|error| error == RecvError::Closed);
        let live = Arc::clone(&self.place.0);
        let Some(watched) = &mut self.watched else {
            return Ok(());
        };
        // Every row counts for the rates, but only the newest is sent: a page that was slow gets one.
        loop {
            match next {
                Ok(arrival) => newest = watched.take(&live, &arrival).or(newest),
                // Rows were skipped; the next rate will say so.
                Err(false) => {}
                Err(true) => return Err(End::Bye("this node is stopping")),
            }
            next = match self.feed.try_recv() {
                Ok(arrival) => Ok(arrival),
                Err(TryRecvError::Lagged(_)) => Err(false),
                Err(TryRecvError::Closed) => Err(true),
                Err(TryRecvError::Empty) => break,
            };
        }
        match newest {
            Some(frame) => self.send(Message::Binary(frame)).await,
            None => Ok(()),
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() >= SILENT_AFTER {
            return Err(End::Gone);
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn complain(&mut self, why: &str) -> Result<(), End> {
        self.complaints += 1;
        if self.complaints >= MAX_COMPLAINTS {
            return Err(End::Bye("too many messages that can't be read"));
        }
        self.send(text(&ServerMessage::Error {
            request: 0,
            message: why.into(),
        }))
        .await
    }

    async fn send_all(&mut self, messages: Vec<Message>) -> Result<(), End> {
        for message in messages {
            self.send(message).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let sent = tokio::time::timeout(SEND_WITHIN, self.socket.send(message)).await;
        // Too slow and gone are the same to a page that can come back.
        if matches!(sent, Ok(Ok(()))) {
            Ok(())
        } else {
            Err(End::Gone)
        }
    }

    fn live(&self) -> &Live {
        &self.place.0
    }
}

impl Live {
    /// Runs a query on a thread for blocking work, when one of `MAX_QUERIES` is free.
    async fn compute<E: std::fmt::Display + Send + 'static>(
        &self,
        query: impl FnOnce() -> Result<Past, E> + Send + 'static,
    ) -> Result<Past, String> {
        let _turn = self
            .queries
            .acquire()
            .await
            .map_err(|closed| closed.to_string())?;
        match tokio::task::spawn_blocking(query).await {
            Ok(past) => past.map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn columns(
    request: u32,
    node: u16,
    range: Range,
    series: Vec<api::SeriesInfo>,
    past: &Past,
) -> Message {
    let header = ColumnsHeader {
        node,
        from_ms: range.from_ms,
        to_ms: range.to_ms,
        step_ms: past.step_ms,
        n: past.table.times.len() as u32,
        series,
    };
    Message::Binary(frame::columns(request, &header, &past.table))
}

fn overview_series() -> Vec<api::SeriesInfo> {
    let column = |(index, (name, unit)): (u32, (&str, &str))| api::SeriesInfo {
        index,
        name: name.into(),
        labels: BTreeMap::new(),
        unit: unit.into(),
        kind: api::SeriesKind::Gauge,
    };
    (0..).zip(gauge::COLUMNS).map(column).collect()
}

fn text(message: &ServerMessage) -> Message {
    let json = serde_json::to_string(message).expect("a message has only string keys");
    Message::Text(json.into())
}
