//! A real node with a member that is down, asked over real connections as a browser would.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use outlast_mesh::trust::{InviteTerms, Statements, Token};
use outlast_mesh::{
    AdminKey, Identity, Journal, Mesh, MeshConfig, NodeKey, TunnelKey, trust, verify,
};
use outlast_store::{
    Clock, ClockSource, Epoch, Keys, Kind, LogId, Origin, Row, SchemaDelta, Series, Store,
    StoreConfig, StoreId,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;
use crate::collect::Collector;
use crate::flow::FlowConfig;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_anything_without_a_session() {
    let node = Node::start().await;
    let plain = node.get("/", &[]).await;
    assert_eq!(plain.status, 401);
    assert!(plain.body.contains("outlast dashboard"));
    assert!(!plain.body.contains("attic"));
    assert_eq!(
        plain.header("content-security-policy").split(';').next(),
        Some("default-src 'self'")
    );
    assert_eq!(plain.header("x-content-type-options"), "nosniff");
    assert_eq!(node.get("/icon.svg", &[]).await.status, 401);
    assert_eq!(node.get("/login", &[]).await.status, 401);
    assert_eq!(node.get("/login?ticket=guess", &[]).await.status, 401);
    assert_eq!(
        node.get("/", &[("Cookie", "outlast_x=1.2")]).await.status,
        401
    );
    assert_eq!(node.connect(&[]).await.unwrap_err(), 401);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_hosts_and_pages_are_refused_before_anything_else() {
    let node = Node::start().await;
    let cookie = node.log_in().await;
    let session = ("Cookie", cookie.as_str());
    let rebound = node.ask("GET", "/", "evil.example", &[session]).await;
    assert_eq!(rebound.status, 403);
    let ticket = node.tickets.issue();
    let login = format!("/login?ticket={ticket}");
    assert_eq!(
        node.ask("GET", &login, "evil.example", &[]).await.status,
        403
    );
    assert_eq!(
        node.get(&login, &[("Origin", "http://evil.example")])
            .await
            .status,
        403
    );
    // Neither refusal has used the ticket up.
    assert_eq!(node.get(&login, &[]).await.status, 303);
    assert_eq!(
        node.ask("POST", "/", &node.host(), &[session]).await.status,
        405
    );
    assert_eq!(
        node.connect(&[session, ("Origin", "http://evil.example")])
            .await
            .unwrap_err(),
        403
    );
    assert_eq!(
        node.connect(&[session, ("Origin", "null")])
            .await
            .unwrap_err(),
        403
    );
    assert_eq!(node.connect_bare(&[session]).await.unwrap_err(), 403);
    assert!(node.connect(&[session]).await.is_ok());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_link_works_once_and_its_session_stays() {
    let node = Node::start().await;
    let login = format!("/login?ticket={}", node.tickets.issue());
    assert_eq!(
        node.ask("HEAD", &login, &node.host(), &[]).await.status,
        401
    );
    let first = node.get(&login, &[]).await;
    assert_eq!((first.status, first.header("location")), (303, "/"));
    let cookie = first.header("set-cookie").to_owned();
    assert!(
        cookie.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let session = cookie.split(';').next().unwrap();
    assert_eq!(node.get(&login, &[]).await.status, 401);
    assert_eq!(node.get(&login, &[("Cookie", session)]).await.status, 303);
    assert_eq!(
        node.get("/nothing", &[("Cookie", session)]).await.status,
        404
    );
    assert_ne!(node.get("/", &[("Cookie", session)]).await.status, 401);
    let tampered = session.replace('.', "0.");
    assert_eq!(node.get("/", &[("Cookie", &tampered)]).await.status, 401);
    node.stop().await;
}

#[tokio::test]
async fn a_login_from_another_page_is_led_on_by_a_page_of_ours() {
    let node = Node::start().await;
    for site in ["cross-site", "same-site"] {
        let login = format!("/login?ticket={}", node.tickets.issue());
        let answer = node.get(&login, &[("Sec-Fetch-Site", site)]).await;
        // A redirect would still be the other page's request, without the strict cookie.
        assert_eq!(answer.status, 200);
        assert!(answer.header("set-cookie").contains("SameSite=Strict"));
        assert!(
            answer.body.contains("content=\"0;url=/\""),
            "{}",
            answer.body
        );
    }
    let login = format!("/login?ticket={}", node.tickets.issue());
    let answer = node.get(&login, &[("Sec-Fetch-Site", "none")]).await;
    assert_eq!(answer.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_told_who_there_is_and_how_they_are() {
    let node = Node::start().await;
    let mut page = node.open().await;
    let hello = page.text("hello").await;
    assert_eq!(hello["mesh"]["name"], "house");
    assert_eq!(hello["columns"][0]["name"], "cpu_busy");
    page.say(json!({"type": "overview", "window_ms": 300_000}))
        .await;
    let nodes = page.text("nodes").await;
    let names: Vec<_> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["name"])
        .collect();
    assert_eq!(names.len(), 2);
    let attic = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["name"] == "attic")
        .unwrap();
    assert_ne!(attic["state"], "alive");
    assert_eq!(
        (&attic["last_ms"], &attic["oldest_ms"]),
        (&json!(node.attic_ms + 119_000), &json!(node.attic_ms))
    );
    let me = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["name"] == "cellar")
        .unwrap();
    assert_eq!((&me["state"], &me["id"]), (&json!("self"), &hello["me"]));
    for _ in 0..2 {
        let columns = page.frame(2).await;
        assert_eq!(columns.header["series"].as_array().unwrap().len(), 8);
        assert_eq!(columns.header["node"], columns.request);
    }
    let index = me["index"].as_u64().unwrap();
    let load = loop {
        let tick = page.frame(1).await;
        let load = tick.node(index).filter(|values| !values[0].is_nan());
        if let Some(values) = load {
            break values;
        }
    };
    assert!((0.0..=1.0).contains(&load[0]) && (0.0..=1.0).contains(&load[1]) && load[6] >= 0.0);
    node.stop().await;
    assert_eq!(page.text("bye").await["reason"], "this node is stopping");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_has_its_history_with_the_gap_in_it() {
    let node = Node::start().await;
    let mut page = node.open().await;
    let attic = page.index_of("attic").await;
    page.say(json!({"type": "series", "request": 5, "node": attic}))
        .await;
    let series = page.text("series").await;
    assert_eq!(series["request"], 5);
    let wanted = [
        json!({"index": 0, "name": "node_load1", "labels": {}, "unit": "", "kind": "gauge"}),
        json!({"index": 1, "name": "node_forks_total", "labels": {"a": "b"}, "unit": "/s", "kind": "counter"}),
    ];
    assert_eq!(series["series"], json!(wanted));
    let (from_ms, to_ms) = (node.attic_ms, node.attic_ms + 119_000);
    page.say(
        json!({"type": "history", "request": 6, "node": attic, "series": [1, 0],
        "from_ms": from_ms, "to_ms": to_ms, "max_points": 1_000}),
    )
    .await;
    let past = page.frame(2).await;
    assert_eq!((past.request, &past.header["step_ms"]), (6, &json!(1_000)));
    // 100 rows, 20 missing after the 60th, one row of nothing in the hole.
    let times = &past.values[..101];
    assert_eq!(past.header["n"], 101);
    assert_eq!(
        (times[0], times[59], times[61]),
        (
            from_ms as f64,
            (from_ms + 59_000) as f64,
            (from_ms + 80_000) as f64
        )
    );
    let (forks, load) = (&past.values[101..202], &past.values[202..]);
    assert!(forks[0].is_nan() && forks[60].is_nan() && forks[61].is_nan());
    assert_eq!((forks[1], forks[59], forks[62]), (3.0, 3.0, 3.0));
    assert_eq!((load[0], load[59], load[100]), (0.0, 0.59, 1.19));
    assert!(load[60].is_nan() && !load[61].is_nan());
    page.say(
        json!({"type": "history", "request": 7, "node": attic, "series": [0],
        "from_ms": from_ms, "to_ms": to_ms, "max_points": 12}),
    )
    .await;
    let thin = page.frame(2).await;
    assert_eq!(thin.header["step_ms"], 10_000);
    assert!(
        (10..=14).contains(&thin.header["n"].as_u64().unwrap()),
        "{}",
        thin.header
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_node_sends_a_row_a_second() {
    let node = Node::start().await;
    let mut page = node.open().await;
    let me = page.index_of("cellar").await;
    page.say(json!({"type": "series", "request": 1, "node": me}))
        .await;
    let series = page.text("series").await;
    let index = |name: &str| {
        let all = series["series"].as_array().unwrap();
        all.iter().find(|series| series["name"] == name).unwrap()["index"].clone()
    };
    let wanted = [index("node_load1"), index("node_context_switches_total")];
    page.say(json!({"type": "watch", "request": 9, "node": me, "series": wanted}))
        .await;
    let (first, second) = (page.frame(3).await, page.frame(3).await);
    assert_eq!((first.request, second.request), (9, 9));
    assert!((500.0..1_500.0).contains(&(second.values[0] - first.values[0])));
    // The first row has rates too: a chart would show their absence as a gap.
    for row in [&first, &second] {
        assert!(
            row.values[1] >= 0.0 && row.values[2] > 0.0,
            "{:?}",
            row.values
        );
    }
    page.say(json!({"type": "pause"})).await;
    page.say(json!({"type": "resume"})).await;
    page.frame(3).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_met_are_answered_and_garbage_ends_the_connection() {
    let node = Node::start().await;
    let mut page = node.open().await;
    let attic = page.index_of("attic").await;
    let many: Vec<u32> = (0..65).collect();
    for (request, message) in [
        (1, json!({"type": "series", "request": 1, "node": 60_000})),
        (
            2,
            json!({"type": "watch", "request": 2, "node": attic, "series": [0, 99]}),
        ),
        (
            3,
            json!({"type": "history", "request": 3, "node": attic, "series": many, "from_ms": 0, "to_ms": 1, "max_points": 1}),
        ),
    ] {
        page.say(message).await;
        assert_eq!(page.text("error").await["request"], request);
    }
    // A range that ends before it begins, and one as long as time.
    for (from_ms, to_ms) in [(9, 1), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
        page.say(
            json!({"type": "history", "request": 4, "node": attic, "series": [0],
            "from_ms": from_ms, "to_ms": to_ms, "max_points": u32::MAX}),
        )
        .await;
        assert_eq!(page.answer().await, 4);
    }
    for text in ["", "{", "[]", "null", "{\"type\":\"overview\"}", "\u{0}"] {
        page.send(Message::text(text)).await;
        assert_eq!(page.text("error").await["request"], 0);
    }
    for _ in 0..9 {
        page.send(Message::binary(vec![0xff; 9])).await;
    }
    page.send(Message::text("{")).await;
    assert_eq!(
        page.text("bye").await["reason"],
        "too many messages that can't be read"
    );
    let mut other = node.open().await;
    other.send(Message::text("x".repeat(20_000))).await;
    other.until_closed().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_pages_may_be_open() {
    let node = Node::start().await;
    let cookie = node.log_in().await;
    let session = ("Cookie", cookie.as_str());
    let mut pages = Vec::new();
    for _ in 0..32 {
        pages.push(node.connect(&[session]).await.unwrap());
    }
    assert_eq!(node.connect(&[session]).await.unwrap_err(), 503);
    pages.pop().unwrap().close(None).await.unwrap();
    let freed = Instant::now();
    while node.connect(&[session]).await.is_err() {
        assert!(
            freed.elapsed() < Duration::from_secs(5),
            "a closed page kept its place"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.stop().await;
}

/// A node called `cellar`, in a mesh with `attic`, which has never been heard but whose two minutes
/// of rows are held, twenty seconds of them missing.
struct Node {
    address: SocketAddr,
    tickets: Tickets,
    attic_ms: i64,
    mesh: Mesh,
    task: JoinHandle<()>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (cellar, attic) = (NodeKey::generate(), NodeKey::generate());
        let statements = two_members(&cellar, &attic);
        let store = open_store(dir.path(), cellar.clone());
        let attic_ms = now_ms() - 600_000;
        hold_rows(&store, &attic, attic_ms);
        let (journal, _) = Journal::open(&dir.path().join("statements.log")).unwrap();
        let identity = Identity {
            node: cellar,
            tunnel: TunnelKey::generate(),
            previous: Vec::new(),
        };
        let config = MeshConfig {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            advertise: vec![],
            calls: false,
            state_dir: dir.path().to_owned(),
            version: "test".into(),
        };
        let (mesh, events) = Mesh::start(config, identity, journal, statements)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let collector = Collector::new(Path::new("/"));
        let flow = Flow::start(
            FlowConfig::default(),
            store,
            mesh.clone(),
            events,
            collector,
            stop.clone(),
        )
        .unwrap();
        // The first row makes the node's own series known.
        let mut feed = flow.feed();
        feed.recv().await.unwrap();
        let tickets = Tickets::new();
        let context = WebContext {
            flow,
            tickets: tickets.clone(),
            key: WebKey::generate(),
            listen: "127.0.0.1:0".parse().unwrap(),
            names: vec![],
            version: "test".into(),
        };
        let (address, task) = serve(context, stop.clone()).await.unwrap();
        Self {
            address,
            tickets,
            attic_ms,
            mesh,
            task,
            stop,
            _dir: dir,
        }
    }

    /// Does not wait for the end of pages that are open.
    async fn stop(&self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), async {
            while !self.task.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        ended.await.expect("the dashboard ends within its farewell");
        self.mesh.clone().shutdown().await;
    }

    fn host(&self) -> String {
        self.address.to_string()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, &self.host(), headers).await
    }

    async fn ask(&self, method: &str, path: &str, host: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        Answer::read(&text)
    }

    async fn log_in(&self) -> String {
        let login = format!("/login?ticket={}", self.tickets.issue());
        let answer = self.get(&login, &[]).await;
        answer
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    }

    async fn open(&self) -> Page {
        let cookie = self.log_in().await;
        Page {
            socket: self.connect(&[("Cookie", &cookie)]).await.unwrap(),
        }
    }

    /// With the right `Origin` unless the headers have another; `Err` is the status.
    async fn connect(&self, headers: &[(&str, &str)]) -> Result<WebSocketStream<TcpStream>, u16> {
        let origin = format!("http://{}", self.address);
        let mut all = vec![("Origin", origin.as_str())];
        if headers.iter().any(|(name, _)| *name == "Origin") {
            all.clear();
        }
        all.extend_from_slice(headers);
        self.connect_bare(&all).await
    }

    async fn connect_bare(
        &self,
        headers: &[(&str, &str)],
    ) -> Result<WebSocketStream<TcpStream>, u16> {
        let mut request = format!("ws://{}/live", self.address)
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", "outlast.v1".parse().unwrap());
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn header(&self, wanted: &str) -> &str {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map_or("", |(_, value)| value)
    }
}

struct Page {
    socket: WebSocketStream<TcpStream>,
}

/// A binary frame, taken apart.
struct Frame {
    request: u32,
    header: Value,
    values: Vec<f64>,
    bytes: Vec<u8>,
}

impl Page {
    async fn say(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    async fn next(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await;
        next.expect("a message within 10 s").and_then(Result::ok)
    }

    /// The next message of this type; others are passed over.
    async fn text(&mut self, wanted: &str) -> Value {
        loop {
            if let Message::Text(text) = self.next().await.expect(wanted) {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == wanted {
                    return message;
                }
            }
        }
    }

    /// The next frame of this kind; others are passed over.
    async fn frame(&mut self, wanted: u8) -> Frame {
        loop {
            if let Message::Binary(bytes) = self.next().await.expect("a frame")
                && bytes[0] == wanted
            {
                return Frame::read(bytes.to_vec());
            }
        }
    }

    /// The request that the next error or COLUMNS frame answers.
    async fn answer(&mut self) -> u64 {
        loop {
            match self.next().await.expect("an answer") {
                Message::Binary(bytes) if bytes[0] == 2 => {
                    return u64::from(Frame::read(bytes.to_vec()).request);
                }
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] == "error" {
                        return message["request"].as_u64().unwrap();
                    }
                }
                _ => {}
            }
        }
    }

    async fn index_of(&mut self, name: &str) -> u64 {
        let nodes = self.text("nodes").await;
        let all = nodes["nodes"].as_array().unwrap();
        all.iter().find(|node| node["name"] == name).unwrap()["index"]
            .as_u64()
            .unwrap()
    }

    async fn until_closed(&mut self) {
        while let Some(message) = self.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    }
}

impl Frame {
    fn read(bytes: Vec<u8>) -> Self {
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (header, from) = if bytes[0] == 2 {
            let end = 16 + number(8) as usize;
            (serde_json::from_slice(&bytes[16..end]).unwrap(), end)
        } else {
            (Value::Null, 8)
        };
        assert_eq!(bytes.len() % 8, 0);
        let values = bytes[from..]
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes));
        Self {
            request: number(4),
            header,
            values: values.collect(),
            bytes,
        }
    }

    /// The columns of one node in a TICK.
    fn node(&self, index: u64) -> Option<Vec<f64>> {
        let nodes = self.bytes[16..].as_chunks::<40>().0.iter();
        let mut nodes =
            nodes.filter(|node| u64::from(u16::from_le_bytes([node[0], node[1]])) == index);
        let values = nodes.next()?[8..].as_chunks::<4>().0.iter();
        Some(
            values
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
                .collect(),
        )
    }
}

fn two_members(cellar: &NodeKey, attic: &NodeKey) -> Statements {
    let admin = AdminKey::generate();
    let now = u64::try_from(now_ms()).unwrap();
    let (mesh, genesis) = trust::found(&admin, cellar.id(), "cellar", "house", None, now);
    let mut statements = Statements::new(mesh);
    statements.insert(genesis).unwrap();
    let terms = InviteTerms {
        name: None,
        lasts: Duration::from_hours(1),
        uses: 1,
        needs_approval: false,
    };
    let (seed, invite) = trust::issue_invite(&admin, &statements, terms, now).unwrap();
    statements.insert(invite.clone()).unwrap();
    let token = Token::new(seed, invite, &statements, vec![]).unwrap();
    let join = trust::author_join(attic, &token, "attic").unwrap();
    let witness = trust::witness(cellar, &statements, &join, now)
        .unwrap()
        .unwrap();
    statements.insert(join).unwrap();
    statements.insert(witness).unwrap();
    statements
}

fn open_store(dir: &Path, key: NodeKey) -> Store {
    let config = StoreConfig {
        dir: dir.join("store"),
        limit_bytes: 256 << 20,
        sync_every: Duration::from_secs(1),
        check: None,
    };
    let keys = Keys {
        origin: Origin(key.public()),
        sign: Box::new(move |message| key.sign(message)),
        verify: Box::new(|origin, message, signature| verify(&origin.0, message, signature)),
    };
    Store::open(config, keys).unwrap()
}

/// Two minutes of rows, every second, but for those from 60 s to 80 s.
fn hold_rows(store: &Store, attic: &NodeKey, from_ms: i64) {
    let origin = Origin(attic.public());
    let appended = vec![
        Series {
            name: "node_load1".into(),
            labels: vec![],
            unit: String::new(),
            kind: Kind::Gauge,
            exponent: -2,
        },
        Series {
            name: "node_forks_total".into(),
            labels: vec![("a".into(), "b".into())],
            unit: String::new(),
            kind: Kind::Counter,
            exponent: 0,
        },
    ];
    let schema = store
        .define(
            origin,
            SchemaDelta {
                parent: None,
                appended,
            },
        )
        .unwrap();
    let log = LogId {
        origin,
        store: StoreId(7),
        epoch: Epoch {
            counter: 1,
            nonce: 7,
        },
    };
    for second in (0..120_i64).filter(|second| !(60..80).contains(second)) {
        let boot_ms = 1_000_000 + second.unsigned_abs() * 1_000;
        let offset_ms = from_ms + second * 1_000 - i64::try_from(boot_ms).unwrap();
        let row = Row {
            log,
            seq: u32::try_from(second).unwrap() + 1,
            schema,
            boot_ms,
            clock: Clock {
                offset_ms,
                uncertainty_ms: 5,
                source: ClockSource::Ntp,
            },
            values: vec![Some(second), Some(1_000 + 3 * second)],
        };
        let row = row.sign(&|message| attic.sign(message));
        store.append(row).unwrap();
    }
}
