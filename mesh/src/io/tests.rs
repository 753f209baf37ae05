//! Real sockets on 127.0.0.1: found, join, connect, talk, cut, heal, leave.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::{Event, Mesh, now};
use crate::config::{Identity, MeshConfig};
use crate::error::{JoinError, PublishError, SendError, StartError};
use crate::id::NodeId;
use crate::snapshot::PeerState;
use crate::trust::{Bootstrap, InviteSeed, InviteTerms, Statement, Statements, Token};
use crate::trust::{author_join, found, issue_invite};
use crate::{AdminKey, Journal, NodeKey, TunnelKey};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_meet_talk_survive_a_cut_and_part() {
    let mut founder = Founder::new("stone");
    let (mut a, token) = founder.start(3).await;
    let mut b = joiner(&token, "river").await;
    let mut c = joiner(&token, "wind").await;
    for node in [&mut a, &mut b, &mut c] {
        node.until_connected(2).await;
    }

    let (ida, idb) = (a.mesh.me(), b.mesh.me());
    b.mesh
        .send(ida, 64, Bytes::from_static(b"a small one"))
        .unwrap();
    let said = a.next(|event| matches!(event, Event::Message { .. })).await;
    let Event::Message { from, kind, body } = said else {
        unreachable!()
    };
    assert_eq!((from, kind, &body[..]), (idb, 64, &b"a small one"[..]));
    assert_eq!(
        b.mesh.send(ida, 63, Bytes::new()),
        Err(SendError::ReservedKind(63))
    );
    echo_over_a_stream(&mut a, &c).await;

    b.mesh.isolate(true);
    let cut = Instant::now();
    a.next(|event| matches!(event, Event::Disconnected(id) if *id == idb))
        .await;
    assert!(
        cut.elapsed() < Duration::from_secs(14),
        "{:?}",
        cut.elapsed()
    );
    assert_eq!(a.state(idb), PeerState::Down);
    assert!(b.mesh.snapshot().isolated);
    assert!(matches!(
        a.mesh.send(idb, 64, Bytes::new()),
        Err(SendError::NotConnected(_))
    ));
    b.mesh.isolate(false);
    let healed = Instant::now();
    a.next(|event| matches!(event, Event::Connected(id) if *id == idb))
        .await;
    assert!(
        healed.elapsed() < Duration::from_secs(5),
        "{:?}",
        healed.elapsed()
    );

    c.mesh.clone().shutdown().await;
    let idc = c.mesh.me();
    a.next(|event| matches!(event, Event::Disconnected(id) if *id == idc))
        .await;
    assert_eq!(a.mesh.watch().borrow().peers.len(), 2);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(a.state(idc), PeerState::Left);
    let (roots_a, roots_b) = (
        a.mesh.statements().await.root(),
        b.mesh.statements().await.root(),
    );
    assert_eq!(roots_a, roots_b);
    a.mesh.shutdown().await;
    b.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_back_by_itself_and_its_journal_is_enough() {
    let mut founder = Founder::new("stone");
    let (mut a, token) = founder.start(1).await;
    let mut b = joiner(&token, "river").await;
    a.until_connected(1).await;
    b.until_connected(1).await;
    let idb = b.mesh.me();

    b.mesh.clone().shutdown().await;
    a.next(|event| matches!(event, Event::Disconnected(_)))
        .await;
    let mut b = b.again().await;

    b.until_connected(1).await;
    a.next(|event| matches!(event, Event::Connected(id) if *id == idb))
        .await;
    // What it says of itself follows its greeting.
    let third = timeout(PATIENCE, async {
        loop {
            let state = a.mesh.statements().await.state();
            let info = state.members[&idb].info.as_ref();
            if info.map(|info| info.incarnation) >= Some(3) {
                return info.map(|info| info.incarnation);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let incarnation = third.await.expect("join, first start, second start");
    assert_eq!(incarnation, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_ports_of_the_system_s_choice_find_each_other_after_all_were_down() {
    let mut founder = Founder::new("stone");
    let (mut a, token) = founder.start(1).await;
    let mut b = joiner(&token, "river").await;
    a.until_connected(1).await;
    b.until_connected(1).await;

    a.mesh.clone().shutdown().await;
    b.mesh.clone().shutdown().await;
    let mut a = a.again().await;
    let mut b = b.again().await;

    a.until_connected(1).await;
    b.until_connected(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_work_at_once_with_a_peer_that_restarted_without_a_word() {
    let mut founder = Founder::new("stone");
    let (mut a, token) = founder.start(1).await;
    let mut b = joiner(&token, "river").await;
    a.until_connected(1).await;
    b.until_connected(1).await;
    let idb = b.mesh.me();
    let (mut early, _there) = a.mesh.open_stream(idb).await.unwrap();
    early.write_all(b"x").await.unwrap();
    b.next(|event| matches!(event, Event::Stream { .. })).await;

    b.mesh.isolate(true);
    tokio::time::sleep(Duration::from_millis(200)).await;
    b.mesh.clone().shutdown().await;
    let mut b = b.again().await;
    a.next(|event| matches!(event, Event::Connected(id) if *id == idb))
        .await;
    b.until_connected(1).await;

    let (mut late, _there) = a.mesh.open_stream(idb).await.unwrap();
    late.write_all(b"x").await.unwrap();
    b.next(|event| matches!(event, Event::Stream { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_with_ipv4_alone_and_one_with_ipv6_alone_talk_and_stream_through_a_third() {
    let mut founder = Founder::new("stone");
    let (mut a, token) = founder.start(2).await;
    let both: SocketAddr = "[::]:0".parse().unwrap();
    let mut relay = joiner_on(loopback(), both, &token, "river").await;
    let sponsor = Bootstrap {
        addrs: vec![(Ipv6Addr::LOCALHOST, relay.mesh.snapshot().udp_port).into()],
        ..relay.bootstrap()
    };
    a.until_connected(1).await;
    relay.until_connected(1).await;
    let other: SocketAddr = "[::1]:0".parse().unwrap();
    let token = founder.token(vec![sponsor]);
    let mut b = joiner_on(other, other, &token, "wind").await;

    b.until_connected(2).await;
    a.until_connected(1).await;

    let snapshot = a.mesh.snapshot();
    let shown = snapshot.peers.iter().find(|peer| peer.id == b.mesh.me());
    let via = shown.map(|shown| (shown.path, shown.via));
    assert_eq!(via, Some((crate::Path::Relay, Some(relay.mesh.me()))));
    echo_over_a_stream(&mut a, &b).await;
    // Counters are shown once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let relayed = relay.mesh.snapshot().counters.relayed_bytes;
    assert!(
        relayed > 400_000,
        "{relayed} bytes of 400,000 and what comes around them"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_member_sponsors_when_the_founder_is_dead() {
    let mut founder = Founder::new("stone");
    let (mut a, token) = founder.start(2).await;
    let mut b = joiner(&token, "river").await;
    a.until_connected(1).await;
    b.until_connected(1).await;
    let token = founder.token(vec![a.bootstrap(), b.bootstrap()]);
    a.mesh.shutdown().await;

    let c = joiner(&token, "wind").await;

    let state = c.mesh.statements().await.state();
    assert_eq!(state.members[&c.mesh.me()].sponsor, Some(b.mesh.me()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_token_is_refused_in_words_and_two_at_once_both_come_in() {
    let mut founder = Founder::new("stone");
    let (a, token) = founder.start(2).await;
    let (first, second, third) = (identity(), identity(), identity());
    let any = Some(loopback());

    let (b, c) = tokio::join!(
        join(any, &token, &first, "river"),
        join(any, &token, &second, "wind")
    );
    b.unwrap();
    c.unwrap();
    let again = join(any, &token, &first, "river").await.unwrap();
    let late = join(any, &token, &third, "late").await;

    assert!(!again.is_empty());
    let Err(JoinError::Refused { reason, .. }) = late else {
        panic!("{late:?}");
    };
    assert!(reason.contains("used"), "{reason}");
    let members = a.mesh.statements().await.state().members.len();
    assert_eq!(members, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_refused_and_a_foreign_one_gets_silence() {
    let mut founder = Founder::new("stone");
    founder.invite(1, HOURS_AGO);
    let (a, token) = founder.start_invited().await;
    let expired = join(Some(loopback()), &token, &identity(), "late").await;
    let Err(JoinError::Refused { reason, .. }) = expired else {
        panic!("{expired:?}");
    };
    assert!(reason.contains("expired"), "{reason}");

    let mut other = Founder::new("other");
    other.invite(1, Duration::ZERO);
    let foreign = other.token(vec![a.bootstrap()]);
    let begun = Instant::now();
    let silence = join(Some(loopback()), &foreign, &identity(), "lost").await;
    let Err(JoinError::NoAnswer { tried, .. }) = silence else {
        panic!("{silence:?}");
    };
    assert_eq!(tried, a.bootstrap().addrs);
    assert!((19..23).contains(&begun.elapsed().as_secs()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_member_does_not_start() {
    let founder = Founder::new("stone");
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&dir.path().join("statements.log")).unwrap();

    let started = Mesh::start(config(dir.path()), identity(), journal, founder.statements).await;

    assert!(matches!(started, Err(StartError::NotAMember { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_let_in_by_nobody_whose_word_counts_starts_and_says_so() {
    let mut founder = Founder::new("stone");
    founder.invite(1, Duration::ZERO);
    let (dir, identity) = (tempfile::tempdir().unwrap(), identity());
    let (journal, _) = Journal::open(&dir.path().join("statements.log")).unwrap();
    let join = author_join(&identity.node, &founder.token(Vec::new()), "lost").unwrap();
    founder.statements.insert(join).unwrap();

    let started = Mesh::start(config(dir.path()), identity, journal, founder.statements).await;

    let (mesh, _events) = started.unwrap();
    let why = mesh.snapshot().evicted.clone();
    assert_eq!(why.as_deref(), Some("let in by nobody whose word counts"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_on_disk_and_reaches_every_peer() {
    let mut founder = Founder::new("stone");
    let (mut a, token) = founder.start(1).await;
    let mut b = joiner(&token, "river").await;
    a.until_connected(1).await;
    b.until_connected(1).await;
    founder.invite(1, Duration::ZERO);
    let (_seed, invite) = founder.issued.clone().unwrap();

    a.mesh.publish(invite.clone()).await.unwrap();

    let (_journal, written) = Journal::open(&a.dir.path().join("statements.log")).unwrap();
    assert!(written.contains(&invite));
    a.mesh.publish(invite.clone()).await.unwrap();
    let spread = timeout(PATIENCE, async {
        while !b.mesh.statements().await.iter().any(|held| *held == invite) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    spread.await.unwrap();
    let mut altered = invite;
    *altered.body.last_mut().unwrap() ^= 1;
    assert!(matches!(
        a.mesh.publish(altered).await,
        Err(PublishError::Refused(_))
    ));
}

/// An invite issued so long ago has expired, but is still explained.
const HOURS_AGO: Duration = Duration::from_secs(3 * 3_600);

const PATIENCE: Duration = Duration::from_secs(15);

/// Who founds a mesh and keeps its admin key.
struct Founder {
    admin: AdminKey,
    identity: Identity,
    statements: Statements,
    issued: Option<(InviteSeed, Statement)>,
}

/// A running node.
struct Running {
    mesh: Mesh,
    events: Receiver<Event>,
    dir: tempfile::TempDir,
    keys: ([u8; 32], TunnelKey),
}

impl Founder {
    fn new(name: &str) -> Self {
        let (admin, identity) = (AdminKey::generate(), identity());
        let (mesh, genesis) = found(
            &admin,
            identity.node.id(),
            name,
            "home",
            None,
            now().wall_ms() - 90_000_000,
        );
        let mut statements = Statements::new(mesh);
        statements.insert(genesis).unwrap();
        Self {
            admin,
            identity,
            statements,
            issued: None,
        }
    }

    fn invite(&mut self, uses: u16, ago: Duration) {
        let terms = InviteTerms {
            name: None,
            lasts: Duration::from_secs(3_600),
            uses,
            needs_approval: false,
        };
        let at = now().wall_ms() - ago.as_millis() as u64;
        let (seed, invite) = issue_invite(&self.admin, &self.statements, terms, at).unwrap();
        self.statements.insert(invite.clone()).unwrap();
        self.issued = Some((seed, invite));
    }

    fn token(&self, bootstraps: Vec<Bootstrap>) -> Token {
        let (seed, invite) = self.issued.clone().unwrap();
        Token::new(seed, invite, &self.statements, bootstraps).unwrap()
    }

    async fn start(&mut self, uses: u16) -> (Running, Token) {
        self.invite(uses, Duration::ZERO);
        self.start_invited().await
    }

    async fn start_invited(&self) -> (Running, Token) {
        let statements: Vec<_> = self.statements.iter().cloned().collect();
        let keys = (*self.identity.node.seed(), self.identity.tunnel.clone());
        let running = Running::start(tempfile::tempdir().unwrap(), keys, statements).await;
        let token = self.token(vec![running.bootstrap()]);
        (running, token)
    }
}

impl Running {
    async fn start(
        dir: tempfile::TempDir,
        keys: ([u8; 32], TunnelKey),
        fresh: Vec<Statement>,
    ) -> Self {
        Self::start_on(loopback(), dir, keys, fresh).await
    }

    async fn start_on(
        listen: SocketAddr,
        dir: tempfile::TempDir,
        keys: ([u8; 32], TunnelKey),
        fresh: Vec<Statement>,
    ) -> Self {
        let (mut journal, mut held) = Journal::open(&dir.path().join("statements.log")).unwrap();
        journal.append(&fresh).unwrap();
        held.extend(fresh);
        let genesis = held.iter().find(|statement| statement.kind == 1).unwrap();
        let mesh = crate::MeshId(genesis.id(&crate::MeshId([0; 32])).0);
        let mut statements = Statements::new(mesh);
        for statement in held {
            statements.insert(statement).unwrap();
        }
        let identity = Identity {
            node: NodeKey::from_seed(&keys.0),
            tunnel: keys.1.clone(),
            previous: Vec::new(),
        };
        let config = MeshConfig {
            listen: Some(listen),
            ..config(dir.path())
        };
        let (mesh, events) = Mesh::start(config, identity, journal, statements)
            .await
            .unwrap();
        Self {
            mesh,
            events,
            dir,
            keys,
        }
    }

    async fn again(self) -> Self {
        Self::start(self.dir, self.keys, Vec::new()).await
    }

    fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            node: self.mesh.me(),
            tunnel: self.keys.1.public(),
            addrs: vec![SocketAddr::from((
                [127, 0, 0, 1],
                self.mesh.snapshot().udp_port,
            ))],
        }
    }

    async fn next(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let found = timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("the mesh runs");
                if wanted(&event) {
                    return event;
                }
            }
        });
        match found.await {
            Ok(event) => event,
            Err(_elapsed) => panic!("not seen; {:#?}", self.mesh.snapshot()),
        }
    }

    async fn until_connected(&mut self, peers: usize) {
        for _ in 0..peers {
            self.next(|event| matches!(event, Event::Connected(_)))
                .await;
        }
    }

    fn state(&self, peer: NodeId) -> PeerState {
        let snapshot = self.mesh.snapshot();
        let peer = snapshot.peers.iter().find(|shown| shown.id == peer);
        peer.expect("a member").state
    }
}

async fn joiner(token: &Token, name: &str) -> Running {
    joiner_on(loopback(), loopback(), token, name).await
}

/// Joins from one address, and then listens at another.
async fn joiner_on(from: SocketAddr, listen: SocketAddr, token: &Token, name: &str) -> Running {
    let identity = identity();
    let statements = join(Some(from), token, &identity, name).await.unwrap();
    let keys = (*identity.node.seed(), identity.tunnel);
    Running::start_on(listen, tempfile::tempdir().unwrap(), keys, statements).await
}

async fn echo_over_a_stream(a: &mut Running, c: &Running) {
    let (mut send, mut recv) = timeout(PATIENCE, c.mesh.open_stream(a.mesh.me()))
        .await
        .unwrap()
        .unwrap();
    let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    send.write_all(b"x").await.unwrap();
    let opened = a.next(|event| matches!(event, Event::Stream { .. })).await;
    let Event::Stream {
        from,
        send: mut back,
        recv: mut there,
    } = opened
    else {
        unreachable!()
    };
    assert_eq!(from, c.mesh.me());
    let echo = tokio::spawn(async move {
        let bytes = there.read_to_end(1 << 20).await.unwrap();
        back.write_all(&bytes).await.unwrap();
        back.finish().unwrap();
        let _stopped = back.stopped().await;
    });
    send.write_all(&sent).await.unwrap();
    send.finish().unwrap();
    let received = timeout(PATIENCE, recv.read_to_end(1 << 20))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(received[1..], sent);
    echo.await.unwrap();
}

fn identity() -> Identity {
    Identity {
        node: NodeKey::generate(),
        tunnel: TunnelKey::generate(),
        previous: Vec::new(),
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn config(dir: &Path) -> MeshConfig {
    MeshConfig {
        listen: Some(loopback()),
        advertise: Vec::new(),
        calls: true,
        state_dir: dir.to_owned(),
        version: "0.1.0".into(),
    }
}

async fn join(
    listen: Option<SocketAddr>,
    token: &Token,
    identity: &Identity,
    name: &str,
) -> Result<Vec<Statement>, JoinError> {
    super::join(listen, token, identity, name, &mut |_waits| {}).await
}
