//! Members of one mesh in one process, on loopback, that join over the wire and then say nothing:
//! what `rest` watches from outside. Says "connected" once everybody has met everybody, or in a
//! large mesh as many as it keeps a session with.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outlast_mesh::trust::{
    Bootstrap, InviteTerms, Statement, Statements, Token, found, issue_invite,
};
use outlast_mesh::{
    AdminKey, Event, Identity, Journal, Mesh, MeshConfig, NodeKey, TunnelKey, spread,
};
use tokio::sync::mpsc::Receiver;

/// Runs `count` members until the process is killed.
pub(crate) fn run(count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(meet(count));
}

async fn meet(count: usize) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let identity = new_identity();
    let (statements, token) = founding(&identity, count);
    let bootstrap = |port| Bootstrap {
        node: identity.node.id(),
        tunnel: identity.tunnel.public(),
        addrs: vec![SocketAddr::from(([127, 0, 0, 1], port))],
    };
    let founder = Identity {
        node: identity.node.clone(),
        tunnel: identity.tunnel.clone(),
        previous: Vec::new(),
    };
    let mut running = vec![start(&dir.path().join("0"), founder, statements).await];
    let token = token(vec![bootstrap(running[0].0.snapshot().udp_port)]);
    for number in 1..count {
        let identity = new_identity();
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let joined = outlast_mesh::join(
            listen,
            &token,
            &identity,
            &format!("n{number}"),
            &mut |_waits| {},
        )
        .await;
        let dir = dir.path().join(number.to_string());
        running.push(start(&dir, identity, joined.expect("admitted")).await);
    }
    for (_, events) in &mut running {
        let mut connected = 0;
        while connected < enough(count) {
            match events.recv().await.expect("the mesh runs") {
                Event::Connected(_) => connected += 1,
                Event::Disconnected(_) => connected -= 1,
                _ => {}
            }
        }
    }
    println!("connected");
    let drain = running.into_iter().map(|(mesh, mut events)| {
        tokio::spawn(async move {
            while events.recv().await.is_some() {}
            drop(mesh);
        })
    });
    for task in drain.collect::<Vec<_>>() {
        drop(task.await);
    }
}

/// Sessions everybody has once it is at rest, at least.
fn enough(count: usize) -> usize {
    if count > spread::FULL {
        spread::view::SIZE
    } else {
        count - 1
    }
}

fn new_identity() -> Identity {
    Identity {
        node: NodeKey::generate(),
        tunnel: TunnelKey::generate(),
        previous: Vec::new(),
    }
}

/// A mesh of one with a token for all the others.
fn founding(
    founder: &Identity,
    count: usize,
) -> (Vec<Statement>, impl Fn(Vec<Bootstrap>) -> Token) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let now_ms = u64::try_from(since.as_millis()).expect("before the year 584556019");
    let admin = AdminKey::generate();
    let (mesh, genesis) = found(&admin, founder.node.id(), "n0", "bench", None, now_ms);
    let mut statements = Statements::new(mesh);
    statements.insert(genesis).expect("a true genesis");
    let terms = InviteTerms {
        name: None,
        lasts: Duration::from_secs(3_600),
        uses: u16::try_from(count).expect("a small mesh"),
        needs_approval: false,
    };
    let (seed, invite) = issue_invite(&admin, &statements, terms, now_ms).expect("an invite");
    statements.insert(invite.clone()).expect("a true invite");
    let all = statements.iter().cloned().collect();
    let token = move |bootstraps| {
        Token::new(seed.clone(), invite.clone(), &statements, bootstraps).expect("a token")
    };
    (all, token)
}

async fn start(
    dir: &Path,
    identity: Identity,
    statements: Vec<Statement>,
) -> (Mesh, Receiver<Event>) {
    std::fs::create_dir(dir).expect("a directory for the mesh");
    let (mut journal, _none) = Journal::open(&dir.join("statements.log")).expect("a journal");
    journal.append(&statements).expect("room for the journal");
    let genesis = statements.iter().find(|statement| statement.kind == 1);
    let genesis = genesis.expect("every mesh has a genesis");
    let mesh = outlast_mesh::MeshId(genesis.id(&outlast_mesh::MeshId([0; 32])).0);
    let mut held = Statements::new(mesh);
    for statement in statements {
        held.insert(statement).expect("verified already");
    }
    let config = MeshConfig {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        advertise: Vec::new(),
        calls: false,
        state_dir: dir.to_owned(),
        version: "bench".into(),
    };
    Mesh::start(config, identity, journal, held)
        .await
        .expect("the mesh starts")
}
