//! Three flows over three real meshes and stores, in one process, on 127.0.0.1.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use outlast_mesh::trust::{
    Endpoint, EndpointKind, InviteTerms, NodeInfo, Statement, Statements, Token, author_join,
    found, issue_invite, witness,
};
use outlast_mesh::{
    AdminKey, Identity, Journal, Mesh, MeshConfig, NodeKey, Snapshot, TunnelKey, verify,
};
use outlast_store::{
    Clock, ClockSource, IntervalSet, Keys, Kind, LogId, LogTally, Origin, SchemaDelta, Series,
    Store, StoreConfig,
};
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Flow, FlowConfig, LedgerConfig, origin_of};
use crate::collect::Tick;

mod events;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_gets_and_gives_everything_while_live_rows_keep_coming() {
    let nodes = start(3).await;
    until(Duration::from_secs(20), "first equal", || equal(&nodes)).await;
    let mut feed = nodes[1].flow.feed();
    let me = origin_of(nodes[0].mesh.me());
    let watching = tokio::spawn(async move {
        let mut at = Vec::new();
        while let Ok(arrival) = feed.recv().await {
            if arrival.live && arrival.row.row.log.origin == me {
                at.push((Instant::now(), arrival.row.row.seq));
            }
        }
        at
    });

    nodes[2].mesh.isolate(true);
    sleep(Duration::from_secs(5)).await;
    nodes[2].mesh.isolate(false);
    sleep(Duration::from_secs(1)).await;
    until(Duration::from_secs(25), "equal after the cut", || {
        equal(&nodes)
    })
    .await;

    let repaired: u64 = nodes
        .iter()
        .map(|node| node.flow.stats().repaired_rows)
        .sum();
    assert!(
        repaired >= 10,
        "the cut node missed two others, they missed it: {repaired} rows repaired"
    );
    for node in &nodes {
        let taken = node.flow.taken();
        let held = node
            .store
            .tally()
            .into_iter()
            .find(|tally| tally.log == taken.log)
            .unwrap();
        assert!(taken.rows - held.rows <= 1, "{taken:?} {held:?}");
        assert_eq!(held.samples, held.rows * 3);
    }
    stop(nodes).await;
    let arrivals = watching.await.unwrap();
    for pair in arrivals.windows(2) {
        let late = pair[1].0.duration_since(pair[0].0);
        assert!(
            late < Duration::from_millis(2_000),
            "{late:?} between {} and {}",
            pair[0].1,
            pair[1].1
        );
        assert_eq!(pair[1].1, pair[0].1 + 1, "live rows in order, each once");
    }
    assert!(arrivals.len() >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_node_that_left_reach_a_node_that_came_later() {
    let mut nodes = start(3).await;
    let late = nodes.pop().unwrap();
    late.mesh.isolate(true);
    until(Duration::from_secs(20), "two are equal", || equal(&nodes)).await;
    sleep(Duration::from_secs(4)).await;
    let first = nodes.remove(0);
    let origin = origin_of(first.mesh.me());
    stop(vec![first]).await;
    late.mesh.isolate(false);
    nodes.push(late);
    let rows = |node: &Node| -> BTreeMap<_, _> { node.store.held_of(&origin) };
    until(
        Duration::from_secs(40),
        "the dead node's rows are everywhere",
        || !rows(&nodes[0]).is_empty() && rows(&nodes[0]) == rows(&nodes[1]),
    )
    .await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_run_goes_over_as_blocks_and_comes_back_to_its_wiped_origin() {
    let world = World::new(2);
    let first = world.start(0, 150).await;
    let second = world.start(1, 0).await;
    let earlier = |node: &Node| -> Option<(LogId, IntervalSet)> {
        let mut logs = node.store.held_of(&origin(0)).into_iter();
        logs.find(|(_, rows)| rows.len() >= 150)
    };
    until(
        Duration::from_secs(20),
        "the earlier run is at the other node",
        || earlier(&second).is_some(),
    )
    .await;
    let (log, rows) = earlier(&second).unwrap();
    assert_eq!(rows, [1..=150].into_iter().collect());
    until(
        Duration::from_secs(20),
        "its short last window is sealed there",
        || {
            second
                .store
                .seal_of(&log, 121)
                .is_some_and(|seal| seal.count == 30)
        },
    )
    .await;

    stop(vec![first]).await;
    let wiped = world.start(0, 0).await;
    until(
        Duration::from_secs(20),
        "the wiped node has its own rows back",
        || earlier(&wiped) == earlier(&second),
    )
    .await;
    until(
        Duration::from_secs(20),
        "and both hold the same of everything",
        || {
            let tallies = [&wiped, &second].map(|node| sorted(node.store.tally()));
            tallies[0].len() == 4 && tallies[0] == tallies[1]
        },
    )
    .await;
    stop(vec![wiped, second]).await;
}

struct Node {
    mesh: Mesh,
    store: Store,
    flow: Flow,
    stop: CancellationToken,
    dir: TempDir,
}

/// A mesh in which everybody knows everybody, and where its nodes listen.
struct World {
    addresses: Vec<SocketAddr>,
    statements: Vec<Statement>,
}

impl World {
    fn new(count: usize) -> Self {
        let sockets: Vec<_> = (0..count)
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let addresses: Vec<_> = sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap())
            .collect();
        let identities: Vec<_> = (0..count).map(identity).collect();
        let statements = mesh_of(&identities, &addresses);
        Self {
            addresses,
            statements,
        }
    }

    /// Starts a node on an empty disk, or on one that holds an earlier run of so many rows.
    async fn start(&self, index: usize, rows_before: u32) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(&dir.path().join("statements.log")).unwrap();
        journal.append(&self.statements).unwrap();
        if rows_before > 0 {
            earlier_run(open(index, dir.path()), origin(index), rows_before);
        }
        let store = open(index, dir.path());
        let config = MeshConfig {
            listen: Some(self.addresses[index]),
            advertise: Vec::new(),
            calls: false,
            state_dir: dir.path().to_owned(),
            version: "0.1.0".to_owned(),
        };
        let statements = gather(&self.statements);
        let ledger = LedgerConfig {
            path: dir.path().join("ledger"),
            key: key(index),
            mesh: statements.mesh(),
        };
        let (mesh, events) = Mesh::start(config, identity(index), journal, statements)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let flow = Flow::start_with(
            FlowConfig {
                ledger: Some(ledger),
                ..FlowConfig::default()
            },
            store.clone(),
            mesh.clone(),
            events,
            readings(),
            stop.clone(),
        )
        .unwrap();
        Node {
            mesh,
            store,
            flow,
            stop,
            dir,
        }
    }
}

async fn start(count: usize) -> Vec<Node> {
    let world = World::new(count);
    let mut nodes = Vec::new();
    for index in 0..count {
        nodes.push(world.start(index, 0).await);
    }
    nodes
}

fn key(index: usize) -> NodeKey {
    NodeKey::from_seed(&[index as u8 + 1; 32])
}

fn origin(index: usize) -> Origin {
    origin_of(key(index).id())
}

fn identity(index: usize) -> Identity {
    Identity {
        node: key(index),
        tunnel: TunnelKey::from_bytes(&[index as u8 + 101; 32]),
        previous: Vec::new(),
    }
}

fn open(index: usize, dir: &Path) -> Store {
    let key = key(index);
    let keys = Keys {
        origin: origin_of(key.id()),
        sign: Box::new(move |message| key.sign(message)),
        verify: Box::new(|origin, message, signature| verify(&origin.0, message, signature)),
    };
    let config = StoreConfig {
        dir: dir.join("store"),
        limit_bytes: 64 << 20,
        sync_every: Duration::from_secs(1),
        check: None,
    };
    Store::open(config, keys).unwrap()
}

fn earlier_run(store: Store, origin: Origin, rows: u32) {
    store.begin_epoch().unwrap();
    let appended = vec![Series::new("earlier_total", [], "", Kind::Counter, 0).unwrap()];
    let schema = store
        .define(
            origin,
            SchemaDelta {
                parent: None,
                appended,
            },
        )
        .unwrap();
    let clock = Clock {
        offset_ms: 1_767_300_000_000,
        uncertainty_ms: 50,
        source: ClockSource::Ntp,
    };
    for seq in 1..=rows {
        store
            .append_own(
                u64::from(seq) * 1_000,
                clock,
                schema,
                vec![Some(i64::from(seq) * 7)],
            )
            .unwrap();
    }
    store.close().unwrap();
}

/// Three series, one of them seen only from the third tick on, absent before.
fn readings() -> impl FnMut(&Snapshot) -> Tick + Send {
    let mut count = 0;
    move |_| {
        count += 1;
        let series = |name: &str| Series::new(name, [], "", Kind::Counter, 0).unwrap();
        let appended = match count {
            1 => vec![
                series("ticks_total"),
                series("squares_total"),
                series("constant_total"),
            ],
            3 => vec![series("late_total")],
            _ => Vec::new(),
        };
        let mut values = vec![Some(count), Some(count * count), Some(7)];
        if count >= 3 {
            values.push(None);
        }
        // A value that is absent stays absent: three samples a row.
        Tick { appended, values }
    }
}

fn mesh_of(identities: &[Identity], addresses: &[SocketAddr]) -> Vec<Statement> {
    let now = now_ms();
    let admin = AdminKey::generate();
    let founder = &identities[0].node;
    let (mesh, genesis) = found(&admin, founder.id(), "n0", "test", None, now);
    let mut statements = Statements::new(mesh);
    let mut all = vec![genesis];
    statements.insert(all[0].clone()).unwrap();
    let terms = InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: 8,
        needs_approval: false,
    };
    let (seed, invite) = issue_invite(&admin, &statements, terms, now).unwrap();
    statements.insert(invite.clone()).unwrap();
    let token = Token::new(seed, invite.clone(), &statements, Vec::new()).unwrap();
    all.push(invite);
    for (index, identity) in identities.iter().enumerate().skip(1) {
        let join = author_join(&identity.node, &token, &format!("n{index}")).unwrap();
        let witnessed = witness(founder, &statements, &join, now).unwrap().unwrap();
        for statement in [join, witnessed] {
            statements.insert(statement.clone()).unwrap();
            all.push(statement);
        }
    }
    for (identity, address) in identities.iter().zip(addresses) {
        all.push(info(identity, *address).sign(&identity.node, &mesh));
    }
    all
}

fn info(identity: &Identity, addr: SocketAddr) -> NodeInfo {
    NodeInfo {
        incarnation: 1,
        seq: 1,
        tunnel: identity.tunnel.public(),
        tunnel_previous: None,
        endpoints: vec![Endpoint {
            kind: EndpointKind::Local,
            addr,
        }],
        version: "0.1.0".to_owned(),
        wire_min: 1,
        wire_max: 1,
        store_format: 1,
    }
}

fn gather(all: &[Statement]) -> Statements {
    let mesh = outlast_mesh::MeshId(all[0].id(&outlast_mesh::MeshId([0; 32])).0);
    let mut statements = Statements::new(mesh);
    for statement in all {
        statements.insert(statement.clone()).unwrap();
    }
    statements
}

/// Whether all hold the same rows: every log, row by row.
fn equal(nodes: &[Node]) -> bool {
    let tally = |node: &Node| sorted(node.store.tally());
    let first = tally(&nodes[0]);
    first.len() == nodes.len() && nodes[1..].iter().all(|node| tally(node) == first)
}

fn sorted(mut tally: Vec<LogTally>) -> Vec<LogTally> {
    tally.sort_by_key(|tally| tally.log);
    tally
}

async fn until(limit: Duration, what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "not after {limit:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.stop.cancel();
        node.flow.ended().await;
        node.mesh.shutdown().await;
        tokio::task::spawn_blocking(move || node.store.close().unwrap())
            .await
            .unwrap();
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_millis() as u64
}
