//! The dashboard: a page, a login, and one `WebSocket` for everything that moves.
//!
//! In: a flow to show and an address to listen on. Out: HTTP on that address, loopback unless the
//! owner says otherwise. Three paths and the page's files; nothing here changes or runs anything.
//! Every request passes `guard` (whose page is asking?) before a path is looked at, and all but the
//! login need a session (`auth`).

mod answer;
pub mod api;
mod assets;
mod auth;
mod catalog;
mod door;
mod elsewhere;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod history;
mod live;
mod overview;
mod page;
mod roster;
mod table;
mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::flow::Flow;
use auth::Sessions;
pub use auth::{Tickets, WebKey};
use door::Door;
use guard::Hosts;
use live::Live;

/// How long connections may take to end once the node stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the dashboard is given.
#[derive(Debug)]
pub struct WebContext {
    /// What it shows.
    pub flow: Flow,
    /// The login links it honours.
    pub tickets: Tickets,
    /// The key of its sessions.
    pub key: WebKey,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names, without port, under which browsers may ask for it, beside the address itself and
    /// `localhost`. Mostly empty.
    pub names: Vec<String>,
    /// The version of the program, for `hello`.
    pub version: String,
}

/// What every request can see.
#[derive(Debug)]
struct Shared {
    tickets: Tickets,
    sessions: Sessions,
    hosts: Hosts,
    live: Arc<Live>,
}

/// Opens the dashboard and serves it until `stop`. Returns the address it is found at.
pub async fn serve(
    context: WebContext,
    stop: CancellationToken,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let WebContext {
        flow,
        tickets,
        key,
        listen,
        names,
        version,
    } = context;
    let opened = TcpListener::bind(listen).await;
    let listener = opened.with_context(|| format!("open the dashboard on {listen}"))?;
    let address = listener
        .local_addr()
        .context("ask for the dashboard's address")?;
    let me = flow.mesh().me();
    let shared = Arc::new(Shared {
        tickets,
        sessions: Sessions::new(key, me),
        hosts: Hosts::new(address, &names),
        live: Live::start(flow, version, stop.clone()),
    });
    let task = tokio::spawn(run(Door::new(listener), router(shared), stop));
    Ok((address, task))
}

async fn run(door: Door, router: Router, stop: CancellationToken) {
    let serving = axum::serve(door, router);
    let serving = serving.with_graceful_shutdown(stop.clone().cancelled_owned());
    let farewell = async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            warn!(%error, "the dashboard ended");
        },
        () = farewell => debug!("some dashboards were cut off"),
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/login", get(login))
        .route("/live", get(page::upgrade))
        .fallback(assets::file)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            guard::check,
        ))
        .with_state(shared)
}

/// The page. Without a session: how to get one, and nothing about the mesh.
async fn index(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.admits(&headers) {
        return assets::locked("This is the dashboard of an Outlast node.");
    }
    assets::index(&headers)
}

/// Turns a ticket into a session. A used ticket in a browser that has a session leads to the page.
async fn login(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // Tickets are letters and digits, so there is nothing to unescape.
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let ticket = pairs
        .find_map(|pair| pair.strip_prefix("ticket="))
        .unwrap_or_default();
    let home = [(header::LOCATION, "/")];
    // A link previewer's HEAD must not use the ticket up.
    if method == Method::GET && shared.tickets.redeem(ticket) {
        let cookie = shared.sessions.set_cookie(now_s());
        let set = [(header::SET_COOKIE, cookie)];
        if comes_from_elsewhere(&headers) {
            return (set, assets::lead_home()).into_response();
        }
        return (StatusCode::SEE_OTHER, home, set).into_response();
    }
    if shared.admits(&headers) {
        return (StatusCode::SEE_OTHER, home).into_response();
    }
    assets::locked("This login link was used before, or is older than ten minutes.")
}

/// Whether another page led here: a mail, a chat, or the file `outlast dashboard` opens. A browser that follows
/// a redirect from there leaves the strict cookie out, and would show a locked page to who has just logged in.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site == "cross-site" || site == "same-site")
}

impl Shared {
    /// Whether a request comes from a browser that has logged in.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let mut cookies = headers.get_all(header::COOKIE).iter();
        let now_s = now_s();
        cookies.any(|cookie| {
            cookie
                .to_str()
                .is_ok_and(|text| self.sessions.admits(text, now_s))
        })
    }
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Wall time, milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
