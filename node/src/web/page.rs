//! `GET /live`: the connection of one open page.
//!
//! Answers requests and passes on what `overview` makes. Nothing is queued for a slow page: `nodes`,
//! TICK and LIVE each have one slot that holds the newest, and a page that doesn't take a message within
//! `SEND_WITHIN` is let go.
//! Bounds: `MAX_MESSAGE` bytes a message (a longer one ends the connection), `MAX_JOBS` requests at a
//! time (an error message each), `MAX_COMPLAINTS` messages that can't be read (then the connection ends).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use super::answer::{self, text};
use super::api::{ClientMessage, Hello, MeshName, ServerMessage};
use super::catalog::describe;
use super::history::Range;
use super::live::{Live, Place};
use super::roster::Board;
use super::watched::Watched;
use super::{Shared, assets, now_ms};
use crate::flow::Arrival;

const PROTOCOL: &str = "outlast.v1";

/// The longest message of a page. The longest that makes sense has 64 series numbers.
const MAX_MESSAGE: usize = 16 * 1024;

/// The most requests of one page that are being answered.
const MAX_JOBS: usize = 16;

/// How many messages that can't be read end a connection.
const MAX_COMPLAINTS: u32 = 16;

/// The longest overview.
const MAX_WINDOW_MS: u64 = 3_600_000;

const PING_EVERY: Duration = Duration::from_secs(15);
const SILENT_AFTER: Duration = Duration::from_secs(35);

/// How long a page may take to accept one message.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Opens the connection of a page that has a session.
pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    socket: WebSocketUpgrade,
) -> Response {
    if !shared.admits(&headers) {
        return assets::log_in_first();
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
        let live = place.live();
        let (mut board, mut tick) = (live.board(), live.tick());
        tick.mark_unchanged();
        // Empty until the overview has begun to follow.
        if board.borrow().json.is_empty() {
            board.mark_unchanged();
        } else {
            board.mark_changed();
        }
        let feed = live.flow().feed();
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
        let stop = self.live().stop().clone();
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
        let snapshot = live.flow().mesh().snapshot();
        let hello = ServerMessage::Hello(Hello {
            version: live.version().to_owned(),
            me: snapshot.me.to_string(),
            mesh: MeshName {
                id: snapshot.mesh.to_string(),
                name: snapshot.mesh_name.clone(),
            },
            columns: answer::described(),
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
                if self.jobs.len() >= MAX_JOBS {
                    let message = format!("{MAX_JOBS} requests are being answered already");
                    let answer = ServerMessage::Error { request, message };
                    return self.send(text(&answer)).await;
                }
                if let Ok(id) = self.live().node(node) {
                    self.live().flow().look_at(id);
                }
                let live = Arc::clone(self.place.live());
                self.jobs.spawn(answer::series(live, request, node));
                Ok(())
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
                    self.follow();
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
                self.follow();
                Ok(())
            }
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
        let live = self.place.live();
        let (id, series) = live.find(node, numbers)?;
        let infos = numbers
            .iter()
            .zip(&series)
            .map(|(index, series)| describe(*index, series))
            .collect();
        let wanted = answer::Wanted {
            request,
            node,
            id,
            series,
            infos,
            range,
        };
        self.jobs.spawn(answer::history(Arc::clone(live), wanted));
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
        let live = Arc::clone(self.place.live());
        self.jobs.spawn(answer::overview(live, nodes, window_ms));
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

    /// Watches from here on: rows that came before aren't live any more.
    fn follow(&mut self) {
        self.feed = self.feed.resubscribe();
        let live = Arc::clone(self.place.live());
        if let Some(watched) = &mut self.watched {
            live.flow().look_at(watched.node());
            watched.begin(&live);
        }
    }

    async fn handle_arrival(
        &mut self,
        arrival: Result<Arc<Arrival>, RecvError>,
    ) -> Result<(), End> {
        let mut newest = None;
        let mut next = arrival.map_err(|error| error == RecvError::Closed);
        let live = Arc::clone(self.place.live());
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
        // A look ends by itself after two of these.
        if let Some(watched) = self.watched.as_ref().filter(|_| !self.paused) {
            self.live().flow().look_at(watched.node());
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
        self.place.live()
    }
}
