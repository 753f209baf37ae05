//! A member that lies, for tests: it joins a real mesh by a real token and does what it is told.
//!
//! In: a directory, a name, and on standard input a token, then one lie a line. Out: `joined`, then
//! `told` after each lie. `lies` says what each one is, `wire` writes what an honest node would read.
//! It shares no code with the node it lies to but the crates below it: the wire is written a second
//! time, so that a change of it is noticed here. Absent: judging; the test looks at the honest nodes.

#![expect(clippy::print_stdout, reason = "the test reads what it says")]

mod lies;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outlast_mesh::trust::{Statements, Token};
use outlast_mesh::{Event, Identity, Journal, Mesh, MeshConfig, NodeKey, TunnelKey, join};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use tokio::sync::mpsc;

use lies::Liar;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a directory");
    let name = arguments.next().expect("a name");
    let mut lines = BufReader::new(stdin()).lines();
    let token = lines.next_line().await.expect("read a token");
    let token = Token::parse(token.expect("a token").trim()).expect("a good token");
    let (node, tunnel) = (NodeKey::generate(), TunnelKey::generate());
    let identity = || Identity {
        node: node.clone(),
        tunnel: tunnel.clone(),
        previous: Vec::new(),
    };
    let (mesh, events) = admitted(Path::new(&dir), &name, &token, identity).await;
    let liar = Arc::new(Liar::new(mesh, identity(), token.mesh()));
    tokio::spawn(answer(Arc::clone(&liar), events));
    while liar.targets().len() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("joined");
    while let Some(lie) = lines.next_line().await.expect("read a lie") {
        liar.tell(lie.trim()).await;
        println!("told {lie}");
    }
}

async fn admitted(
    dir: &Path,
    name: &str,
    token: &Token,
    identity: impl Fn() -> Identity,
) -> (Mesh, mpsc::Receiver<Event>) {
    let listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let all = join(listen, token, &identity(), name, &mut |_waits| {})
        .await
        .expect("be admitted");
    std::fs::create_dir_all(dir).expect("make a directory");
    let (mut journal, _) = Journal::open(&dir.join("statements.log")).expect("open a journal");
    journal.append(&all).expect("keep what was heard");
    let mut statements = Statements::new(token.mesh());
    for statement in all {
        statements.insert(statement).expect("a good statement");
    }
    let config = MeshConfig {
        listen,
        advertise: Vec::new(),
        calls: false,
        state_dir: dir.to_owned(),
        version: "0.1.0".to_owned(),
    };
    Mesh::start(config, identity(), journal, statements)
        .await
        .expect("start the mesh")
}

/// Whoever asks is answered as the last lie wants it.
async fn answer(liar: Arc<Liar>, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        if let Event::Stream {
            mut send, mut recv, ..
        } = event
        {
            let liar = Arc::clone(&liar);
            tokio::spawn(async move {
                let asked = recv.read_to_end(64 * 1_024).await.unwrap_or_default();
                for frame in liar.answers(&asked) {
                    if send.write_all(&frame).await.is_err() {
                        return;
                    }
                }
                let _closed = send.finish();
                // The other side may stop reading before the end.
                let _stopped = send.stopped().await;
            });
        }
    }
}
