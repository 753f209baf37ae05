//! The lies, each by its name.
//!
//! Each goes to every other member. What a lie promises (a row, a schema) is kept in `held`, from
//! where `answers` gives it to whoever asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use outlast_mesh::trust::{Endpoint, EndpointKind, LogHeader, NodeInfo, Statement};
use outlast_mesh::{Identity, Mesh, MeshId, NodeId, NodeKey, PeerState, TunnelKey};
use outlast_store::{
    Clock, ClockSource, Draft, Epoch, IntervalSet, Kind, LogId, Origin, Row, SchemaDelta,
    SchemaHash, Seal, Seq, Series, SignedRow, StoreId,
};

use crate::wire::{self, Answer, Question};

/// Messages of a flood sent at once, and the pause after them: the liar's own queues are bounded too.
const AT_ONCE: u32 = 32;
const PACE: Duration = Duration::from_millis(5);

/// The liar.
pub(crate) struct Liar {
    mesh: Mesh,
    key: NodeKey,
    tunnel: TunnelKey,
    id: MeshId,
    held: Mutex<Held>,
}

/// What it says when asked.
#[derive(Default)]
struct Held {
    schemas: BTreeMap<SchemaHash, Vec<SchemaDelta>>,
    rows: Given,
}

/// What comes when rows are asked for.
#[derive(Default, Clone, Copy)]
enum Given {
    #[default]
    Nothing,
    /// The rows that were asked for, with a signature that is none.
    Forged,
    /// A row of another place.
    Others,
    /// A good one, again and again.
    Endless,
}

impl Liar {
    pub(crate) fn new(mesh: Mesh, identity: Identity, id: MeshId) -> Self {
        Self {
            mesh,
            key: identity.node,
            tunnel: identity.tunnel,
            id,
            held: Mutex::default(),
        }
    }

    /// The other members that can be lied to.
    pub(crate) fn targets(&self) -> Vec<NodeId> {
        let snapshot = self.mesh.snapshot();
        let peers = snapshot.peers.iter();
        let alive = peers.filter(|peer| peer.state == PeerState::Alive);
        alive.map(|peer| peer.id).collect()
    }

    pub(crate) async fn tell(&self, lie: &str) {
        match lie {
            "forged" => self.claim_rows(Given::Forged, 41).await,
            "unasked" => self.claim_rows(Given::Others, 42).await,
            "endless" => self.endless().await,
            "contradicts" => self.contradicts().await,
            "hollow" => self.hollow().await,
            "gone" => self.gone(),
            "seal" => self.seal_of_another(),
            "twice" => self.two_contents().await,
            "future" => self.impossible_time().await,
            "ahead" => self.far_ahead().await,
            "live" => self.many_rows().await,
            "altered" => self.altered().await,
            "huge" => self.huge_schema().await,
            "schemas" => self.many_schemas().await,
            "letters" => self.steering_letters().await,
            "garbage" => self.garbage(),
            "digests" => {
                self.flood(wire::DIGEST, 400, |n| self.harmless_digest(n))
                    .await
            }
            "keys" => {
                self.flood(wire::KEY_ROW, 100, |n| wire::key_row(self.log(1), n))
                    .await
            }
            "messages" => {
                self.flood(99, 6_000, |_| Bytes::from_static(b"nothing"))
                    .await
            }
            "restless" => self.restless().await,
            "critical" => self.critical_statement().await,
            "greedy" => self.greedy().await,
            "questions" => self.many_questions().await,
            "slow" => self.never_finish().await,
            other => panic!("no such lie: {other}"),
        }
    }

    /// The frames that answer a question.
    pub(crate) fn answers(&self, asked: &[u8]) -> Vec<Vec<u8>> {
        let held = self.held();
        let answers = match Question::read(asked) {
            Some(Question::Rows(log, rows)) => match held.rows {
                Given::Nothing => Vec::new(),
                Given::Forged => self.forgeries(log, &rows),
                Given::Others => {
                    let mut row = self.row(log, 1, small_schema().hash());
                    row.row.log.epoch.nonce += 1;
                    vec![Answer::Row(row.encode())]
                }
                Given::Endless => {
                    let first = rows.first().unwrap_or(1);
                    let row = self.row(log, first, small_schema().hash()).encode();
                    (0..3 * rows.len() + 100)
                        .map(|_| Answer::Row(row.clone()))
                        .collect()
                }
            },
            Some(Question::Held(origins)) if origins.contains(&self.origin()) => {
                vec![Answer::Gone(self.log(44), set(1, 3))]
            }
            Some(Question::Schema(hash, _)) => {
                let chain = held.schemas.get(&hash).into_iter().flatten();
                chain.map(|delta| Answer::Schema(delta.encode())).collect()
            }
            _ => Vec::new(),
        };
        let end = [Answer::End];
        answers.iter().chain(&end).map(Answer::frame).collect()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn origin(&self) -> Origin {
        Origin(self.mesh.me().0)
    }

    /// A log of its own for each lie, so that none is explained by another.
    fn log(&self, nonce: u64) -> LogId {
        log_of(self.origin(), nonce)
    }

    fn row(&self, log: LogId, seq: Seq, schema: SchemaHash) -> SignedRow {
        let row = Row {
            log,
            seq,
            schema,
            boot_ms: u64::from(seq) * 1_000,
            clock: Clock {
                offset_ms: 1_800_000_000_000,
                uncertainty_ms: 5,
                source: ClockSource::Ntp,
            },
            values: vec![Some(i64::from(seq))],
        };
        self.sign(row)
    }

    fn sign(&self, row: Row) -> SignedRow {
        row.sign(&|message| self.key.sign(message))
    }

    fn forgeries(&self, log: LogId, rows: &IntervalSet) -> Vec<Answer> {
        let schema = small_schema().hash();
        let seqs = rows.ranges().flatten().take(20);
        let rows: Vec<Row> = seqs.map(|seq| self.row(log, seq, schema).row).collect();
        let block = Draft::build(&rows).map(|draft| draft.seal(&|message| self.key.sign(message)));
        let rows = rows
            .into_iter()
            .map(|row| Answer::Row(self.sign(row).encode()));
        rows.chain(block.map(|block| Answer::Block(block.encode())))
            .collect()
    }

    fn send(&self, kind: u8, body: Bytes) {
        for target in self.targets() {
            let _full = self.mesh.send(target, kind, body.clone());
        }
    }

    async fn flood(&self, kind: u8, count: u32, body: impl Fn(u32) -> Bytes) {
        for number in 1..=count {
            self.send(kind, body(number));
            if number % AT_ONCE == 0 {
                tokio::time::sleep(PACE).await;
            }
        }
    }

    async fn live(&self, row: &SignedRow) {
        for part in wire::parts(row) {
            self.send(wire::ROW, part);
        }
        tokio::time::sleep(PACE).await;
    }

    /// Each member is told of rows of another that nobody ever took.
    async fn claim_rows(&self, given: Given, nonce: u64) {
        self.held().rows = given;
        self.promise(vec![small_schema()]);
        let targets = self.targets();
        // Again and again: after the lie about digests a node hears none of them for a moment.
        for _ in 0..4 {
            for target in &targets {
                let victim = targets.iter().find(|other| *other != target);
                let log = log_of(Origin(victim.expect("another member").0), nonce);
                let claim = wire::digest(log, set(1, 60), IntervalSet::new());
                let _full = self.mesh.send(*target, wire::DIGEST, claim);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// One row comes for ever where sixty were promised.
    async fn endless(&self) {
        self.held().rows = Given::Endless;
        self.promise(vec![small_schema()]);
        let claim = wire::digest(self.log(43), set(1, 60), IntervalSet::new());
        self.send(wire::DIGEST, claim);
        // Whom the lies before it angered asks seconds later than others.
        tokio::time::sleep(Duration::from_secs(12)).await;
        self.held().rows = Given::Nothing;
    }

    /// Its full answers are never what its digests say before and after them.
    async fn contradicts(&self) {
        for round in 1..=5 {
            for _ in 0..2 {
                self.send(wire::DIGEST, wire::hash_of_all(self.origin(), [round; 16]));
                // A node asks for the whole again after 5 s.
                tokio::time::sleep(Duration::from_millis(2_700)).await;
            }
        }
    }

    async fn hollow(&self) {
        self.held().rows = Given::Nothing;
        for again in 0..30 {
            for target in self.targets() {
                let log = log_of(Origin(target.0), 50 + again);
                let claim = wire::digest(log, set(1, u32::MAX), IntervalSet::new());
                let _full = self.mesh.send(target, wire::DIGEST, claim);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Everything everybody took is said to be gone.
    fn gone(&self) {
        for target in self.targets() {
            for other in self.targets() {
                let claim = wire::digest(
                    log_of(Origin(other.0), 60),
                    IntervalSet::new(),
                    set(1, 9_999),
                );
                let _full = self.mesh.send(target, wire::DIGEST, claim);
            }
        }
    }

    fn seal_of_another(&self) {
        let targets = self.targets();
        for target in &targets {
            let victim = targets.iter().find(|other| *other != target);
            let mut seal = Seal {
                log: log_of(Origin(victim.expect("another member").0), 1),
                first: 1,
                count: 60,
                content: [3; 32],
                signature: [0; 64],
            };
            seal.signature = self.key.sign(&seal.message());
            let _full = self
                .mesh
                .send(*target, wire::SEAL, Bytes::from(seal.encode()));
        }
    }

    async fn two_contents(&self) {
        self.promise(vec![small_schema()]);
        let first = self.row(self.log(2), 1, small_schema().hash());
        self.live(&first).await;
        // Its schema is fetched first.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut second = first.row;
        // Another part of a row in several parts would be told apart by its row.
        second.seq = 2;
        self.live(&self.sign(second.clone())).await;
        for _ in 0..40 {
            // Parts remember 32 rows: fillers push the first out.
            second.seq += 1;
            self.live(&self.sign(second.clone())).await;
        }
        second.seq = 1;
        second.values = vec![Some(777)];
        self.live(&self.sign(second)).await;
    }

    async fn impossible_time(&self) {
        let mut row = self.row(self.log(3), 1, small_schema().hash()).row;
        row.boot_ms = u64::MAX;
        row.clock.offset_ms = i64::MIN;
        self.live(&self.sign(row)).await;
    }

    /// It may plant what it likes in its own log.
    async fn far_ahead(&self) {
        for seq in [u32::MAX, u32::MAX - 1, 1] {
            let mut row = self.row(self.log(4), seq, small_schema().hash()).row;
            row.values = vec![Some(i64::MIN)];
            self.live(&self.sign(row)).await;
        }
    }

    async fn many_rows(&self) {
        for seq in 1..=300 {
            let row = self.row(self.log(5), seq, small_schema().hash());
            self.live(&row).await;
        }
    }

    /// Through its own tunnel, and not what it signed: whoever kept it would hand it on as the origin's.
    async fn altered(&self) {
        let mut row = self.row(self.log(9), 1, small_schema().hash());
        row.row.boot_ms += 1;
        self.live(&row).await;
    }

    /// 5,001 series in two deltas.
    async fn huge_schema(&self) {
        let first = schema_of(None, 0..2_500, "");
        let second = schema_of(Some(first.hash()), 2_500..5_001, "");
        let hash = second.hash();
        self.promise(vec![first, second]);
        self.live(&self.row(self.log(6), 1, hash)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    async fn many_schemas(&self) {
        for number in 0..80 {
            let schema = schema_of(None, number..number + 1, "many");
            let hash = schema.hash();
            self.promise(vec![schema]);
            self.live(&self.row(self.log(7), number as Seq + 1, hash))
                .await;
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
    }

    /// A label that would clear a terminal and turn what follows around.
    async fn steering_letters(&self) {
        let schema = schema_of(None, 0..1, "\u{1b}[2J\u{1b}[31m\u{202e}<script>");
        let hash = schema.hash();
        self.promise(vec![schema]);
        let mut row = self.row(self.log(8), 1, hash).row;
        let now = outlast_tests::now_ms();
        row.clock.offset_ms = now - 1_000;
        self.live(&self.sign(row)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    fn garbage(&self) {
        for kind in [wire::ROW, wire::SEAL, wire::DIGEST, wire::KEY_ROW] {
            self.send(kind, Bytes::from_static(&[1, 0xff, 0xff, 9]));
        }
    }

    fn harmless_digest(&self, number: u32) -> Bytes {
        wire::digest(self.log(9), set(number, number), IntervalSet::new())
    }

    /// What it says of itself changes all the time, and points at somebody else.
    async fn restless(&self) {
        for seq in 1..=60 {
            let victims = (0..16).map(|at| Endpoint {
                kind: EndpointKind::Advertised,
                addr: format!("203.0.113.{at}:9").parse().expect("an address"),
            });
            let info = NodeInfo {
                // Its own node corrects what it hears of itself; this stays ahead of it.
                incarnation: 1_000 * seq,
                seq,
                tunnel: self.tunnel.public(),
                tunnel_previous: None,
                endpoints: victims.collect(),
                version: "lie".to_owned(),
                wire_min: 1,
                wire_max: 1,
                store_format: 1,
            };
            let _refused = self.mesh.publish(info.sign(&self.key, &self.id)).await;
        }
    }

    /// Of a kind that makes an admin's word say "upgrade me".
    async fn critical_statement(&self) {
        let header = LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc: 1,
        };
        let body = postcard::to_stdvec(&(header, "stop admitting")).expect("plain data");
        let mut statement = Statement {
            kind: 200,
            author: self.key.public(),
            body,
            signature: [0; 64],
        };
        let signed = [
            &b"outlast/1\0"[..],
            &[statement.kind],
            &self.id.0,
            &statement.author,
            &(statement.body.len() as u16).to_be_bytes(),
            &statement.body,
        ]
        .concat();
        statement.signature = self.key.sign(&signed);
        self.mesh
            .publish(statement)
            .await
            .expect("a statement like any other");
    }

    async fn greedy(&self) {
        for target in self.targets() {
            let everything = Question::Rows(log_of(Origin(target.0), 1), set(1, u32::MAX));
            ask(self.mesh.clone(), target, everything.frame()).await;
            // A frame that claims four gigabytes.
            ask(
                self.mesh.clone(),
                target,
                vec![0xff, 0xff, 0xff, 0xff, 1, 0],
            )
            .await;
        }
    }

    /// A thousand, as many at a time as streams can be had.
    async fn many_questions(&self) {
        let mut asks = tokio::task::JoinSet::new();
        for target in self.targets() {
            for _ in 0..1_000 {
                let question = Question::Held(vec![Origin(target.0)]).frame();
                asks.spawn(ask(self.mesh.clone(), target, question));
            }
        }
        asks.join_all().await;
    }

    /// Streams on which a question begins and never ends, while the other lies are told.
    async fn never_finish(&self) {
        for target in self.targets() {
            if let Ok((mut send, recv)) = self.mesh.open_stream(target).await {
                let _reset = send.write_all(&[9, 0]).await;
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(600)).await;
                    drop((send, recv));
                });
            }
        }
    }

    fn promise(&self, chain: Vec<SchemaDelta>) {
        if let Some(last) = chain.last() {
            let hash = last.hash();
            self.held().schemas.insert(hash, chain);
        }
    }
}

/// Asks on a stream of its own and reads what comes.
async fn ask(mesh: Mesh, target: NodeId, frame: Vec<u8>) {
    if let Ok((mut send, mut recv)) = mesh.open_stream(target).await {
        let _reset = send.write_all(&frame).await;
        let _closed = send.finish();
        let _refused = recv.read_to_end(1 << 20).await;
    }
}

fn log_of(origin: Origin, nonce: u64) -> LogId {
    LogId {
        origin,
        store: StoreId(7),
        epoch: Epoch {
            counter: 4_000_000_000,
            nonce,
        },
    }
}

fn set(first: Seq, last: Seq) -> IntervalSet {
    [first..=last].into_iter().collect()
}

fn small_schema() -> SchemaDelta {
    schema_of(None, 0..1, "small")
}

fn schema_of(
    parent: Option<SchemaHash>,
    numbers: std::ops::Range<usize>,
    text: &str,
) -> SchemaDelta {
    let series = |number: usize| {
        let labels = [
            ("number".to_owned(), number.to_string()),
            ("text".to_owned(), text.to_owned()),
        ];
        Series::new("liar_value", labels, "", Kind::Gauge, 0).expect("a possible series")
    };
    SchemaDelta {
        parent,
        appended: numbers.map(series).collect(),
    }
}
